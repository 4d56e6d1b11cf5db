"""Whether Transformers' class has a place for each weight of a checkpoint, without its memory.

The class is built on torch's meta device, where a tensor has a shape and no numbers. That
happens in a process of its own, which may crash, hang or print what it likes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.checkpoint.findings import CheckpointIssue
from harness.model.hub import first_line, quiet_transformers
from harness.model.model import Model
from harness.process.child import Child
from harness.process.python import module_command, with_this_harness

#: Seconds for imports and the load, which takes some of them.
LIMIT_S = 180.0
_MARK = "harness-skeleton:"
_SHOWN = 4
_NEEDED = ("torch", "transformers", "accelerate")
#: No network, and no plugin that takes hold of a card.
_ALONE = {"HF_HUB_OFFLINE": "1", "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}


@dataclass(frozen=True)
class SkeletonLoad:
    """What a load on the meta device found.

    Attributes:
        findings: missing, mismatched and unexpected keys.
        checked: the class and release that were asked, in words; None where there was no load.
        why_not: why there was none, in words.
    """

    findings: tuple[CheckpointIssue, ...] = ()
    checked: str | None = None
    why_not: str = ""


def load_skeleton(model: Model, *, quantized: bool, limit_s: float = LIMIT_S) -> SkeletonLoad:
    """Ask Transformers, in a child process, which keys its class lacks or leaves out.

    Code of the checkpoint is not run, and nothing is raised: where there is no load, the
    result says why.

    Args:
        quantized: the weights are packed, which a class unpacks with code of other packages.
        limit_s: seconds until the child is ended.
    """
    gone = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if gone:
        return _none(f"{gone[0]} is not installed")
    if quantized:
        return _none("its weights are packed")
    command = module_command(sys.executable, "harness.devices.hf.skeleton", model.path)
    env = with_this_harness({**os.environ, **_ALONE})
    try:
        with Child(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            said, _ = child.process.communicate(timeout=limit_s)
            status = child.process.returncode
    except subprocess.TimeoutExpired:
        return _none(f"it did not end in {limit_s:.0f} s")
    except OSError as error:
        return _none(str(error))
    lines = said.decode("utf-8", "replace").splitlines()
    told = next((line for line in reversed(lines) if line.startswith(_MARK)), None)
    if told is None:
        return _none(f"its process ended with status {status}")
    return _found(json.loads(told.removeprefix(_MARK)))


def _none(why: str) -> SkeletonLoad:
    return SkeletonLoad(why_not=f"a load by Transformers ({why})")


def _found(told: dict[str, Any]) -> SkeletonLoad:
    if "error" in told:
        return _none(str(told["error"]))
    name = f"Transformers {told['release']}'s {told['class']}"
    mend = "make config.json describe these weights, or fetch the whole checkpoint again"
    kinds = (
        ("error", "missing_keys", "{} no weight for {}", mend),
        ("error", "mismatched_keys", "{} another shape for {}", mend),
        (
            "warning",
            "unexpected_keys",
            "{} no place for {}",
            "a device refuses them, unless --engine-arg unused=PREFIX says that they are spare",
        ),
    )
    findings = tuple(
        CheckpointIssue(
            "error" if severity == "error" else "warning",
            f"{what.format(f'{name} finds', _count(keys))}: {_names(keys)}",
            remedy,
        )
        for severity, kind, what, remedy in kinds
        if (keys := told[kind])
    )
    return SkeletonLoad(findings, f"every key against {name}")


def _count(keys: Sequence[str]) -> str:
    return "1 key" if len(keys) == 1 else f"{len(keys)} keys"


def _names(keys: Iterable[str]) -> str:
    listed = list(keys)
    more = len(listed) - _SHOWN
    return ", ".join(listed[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _load(path: str) -> dict[str, Any]:
    """In the child: the load, and its account as plain JSON."""
    import transformers

    with quiet_transformers():
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            path,
            device_map="meta",
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            weights_only=True,
            local_files_only=True,
        )
    # A mismatch is a name and its two shapes, or in Transformers 4 the name alone.
    mismatched = [
        entry if isinstance(entry, str) else f"{entry[0]} ({_shapes(*entry[1:])})"
        for entry in info["mismatched_keys"]
    ]
    return {
        "release": str(transformers.__version__),
        "class": type(model).__name__,
        "missing_keys": sorted(info["missing_keys"]),
        "unexpected_keys": sorted(info["unexpected_keys"]),
        "mismatched_keys": sorted(mismatched),
    }


def _shapes(stored: Any, wanted: Any) -> str:
    return f"{list(stored)} stored, {list(wanted)} in the class"


def main() -> None:
    """The child's program: one line of JSON behind a mark."""
    try:
        told = _load(sys.argv[1])
    except Exception as error:  # Transformers and the class may raise anything
        told = {"error": first_line(error)}
    sys.stdout.write(f"\n{_MARK}{json.dumps(told)}\n")


if __name__ == "__main__":
    main()

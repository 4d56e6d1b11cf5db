"""The options of ``pytest``: their table, and their values in a run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from harness.alignment.allow import Allow
from harness.devices.kinds import KINDS, devices_help, names
from harness.devices.spec import DeviceSpec, parse_engine_args
from harness.model.packaged import packaged_help
from harness.report.outputs import Outputs
from harness.session.options import REPORTS, RunOptions
from harness.suite.shard import parse_shard

_PLUGIN = "harness.plugin"
_GROUP = "harness: hold a device against a baseline"
_FLAG: Mapping[str, Any] = {"action": "store_true"}
_MANY: Mapping[str, Any] = {"action": "append", "default": []}

#: Name, settings of argparse and help, in the order of ``pytest --help``.
OPTIONS: tuple[tuple[str, Mapping[str, Any], str], ...] = (
    ("--device", {}, f"run the checks on this device. {devices_help()}"),
    (
        # Before it knows the options of a conftest, pytest takes `--model /outside`
        # apart and looks for the project at /outside.
        "--model",
        {"default": "smollm2"},
        f"{packaged_help()}, a directory, or a Hub name; paths outside the "
        "project need the = sign, here and below",
    ),
    ("--suite", {"default": "mixed"}, "a name in prompts/, or a YAML file (default: mixed)"),
    ("--dtype", {}, "bfloat16, float16 or float32 (default: the checkpoint's)"),
    (
        "--max-new-tokens",
        {"type": int, "metavar": "N"},
        "tokens to generate for each prompt (default: the suite's own number)",
    ),
    (
        "--shard",
        {"metavar": "K/N"},
        "only the K-th of N parts of the suite; `harness merge` joins their recordings, and the "
        "verdict is of the whole",
    ),
    (
        "--batch-size",
        {"type": int, "default": 1, "metavar": "N"},
        "requests at a time (vLLM devices)",
    ),
    ("--engine-arg", {**_MANY, "metavar": "K=V"}, "an option of the device"),
    (
        "--detail",
        {"metavar": "small|normal|large"},
        "how much recordings keep of each row (default: as the baseline; normal where it is made)",
    ),
    (
        "--server-url",
        {"metavar": "URL"},
        "URL of a running server, for --device=server; without it a server is started",
    ),
    (
        "--baseline-dir",
        {"default": "baselines"},
        "folder of all baselines, or one baseline itself, as for a quantized checkpoint "
        "with --allow-weights",
    ),
    (
        "--context",
        {"metavar": "RECORDING"},
        "judge this recording: build the baseline around its tokens on --device, by forced-prefill",
    ),
    ("--allow-weights", _FLAG, "allow checkpoints to differ (quantization)"),
    ("--allow-dtype", _FLAG, "allow declared dtypes to differ"),
    (
        "--report",
        {**_MANY, "metavar": "FILE"},
        "also write the report to this file: .html, .md or .json",
    ),
    (
        "--report-dir",
        {"default": str(REPORTS), "metavar": "FOLDER"},
        f"folder of recordings and reports (default: {REPORTS})",
    ),
    ("--lang", {"metavar": "en|zh"}, "language of the reports (default: the locale's)"),
    (
        "--matrix",
        _FLAG,
        "also run once for each of these changes: repeat, batch, graph, prefix cache, chunks",
    ),
    (
        "--canary",
        _FLAG,
        "also run a model made by hand whose every bit is known, and name what is wrong with it",
    ),
    ("--magnify", _FLAG, "also judge in float16 and float32; only warns"),
    (
        "--diagnose",
        {"action": "store_const", "const": True},
        "also name the change of the model that explains an error; takes minutes on the CPU; by "
        "default only where the verdict is bad and the reference model is at hand",
    ),
    (
        "--no-diagnose",
        {"action": "store_const", "const": False, "dest": "diagnose"},
        "never do so",
    ),
    ("--update-baselines", _FLAG, "replace the baseline (reference device)"),
    (
        "--require-baseline",
        {"action": "store_const", "const": True},
        "a missing baseline is an error and is not made; the default where CI is set",
    ),
    (
        "--no-require-baseline",
        {"action": "store_const", "const": False, "dest": "require_baseline"},
        "make a missing baseline there too",
    ),
    ("--trust-remote-code", _FLAG, "run code that the checkpoint brings"),
    (
        "--no-doctor",
        _FLAG,
        "do not examine the host first, whose errors end a run on "
        f"{names(kind for kind in KINDS if kind.examined)}",
    ),
)


def add_options(parser: pytest.Parser) -> None:
    """Add every option, in a group of their own.

    Raises:
        UsageError: of pytest, if another plugin has one of them.
    """
    group = parser.getgroup("harness", _GROUP)
    for name, settings, text in OPTIONS:
        try:
            group.addoption(name, help=text, **settings)
        except ValueError as error:
            raise pytest.UsageError(
                f"harness: another plugin already owns {name}{_owner(parser, name)}; "
                "disable it here with -p no:NAME"
            ) from error


def run_options(config: pytest.Config) -> RunOptions:
    """The option values of this run of pytest.

    Raises:
        UsageError: if the device does not support an option.
    """
    get = config.getoption
    spec = DeviceSpec(
        get("device"),
        get("model"),
        get("dtype"),
        get("batch_size"),
        parse_engine_args(get("engine_arg")),
        get("server_url"),
        get("trust_remote_code"),
    )
    return RunOptions(
        spec,
        suite=get("suite"),
        max_new_tokens=get("max_new_tokens"),
        baseline_dir=Path(get("baseline_dir")),
        context=None if get("context") is None else Path(get("context")),
        allow=Allow(get("allow_weights"), get("allow_dtype")),
        outputs=Outputs(reports=tuple(map(Path, get("report"))), lang=get("lang")),
        update_baselines=get("update_baselines"),
        matrix=get("matrix"),
        canary=get("canary"),
        magnify=get("magnify"),
        diagnose=get("diagnose"),
        no_doctor=get("no_doctor"),
        report_dir=Path(get("report_dir")),
        shard=None if get("shard") is None else parse_shard(get("shard")),
        require_baseline=get("require_baseline"),
        detail=get("detail"),
    )


def started(config: pytest.Config) -> tuple[str, ...]:
    """The words that started pytest: as a module or as a command, and with this plugin."""
    as_module = Path(sys.argv[0]).name == "__main__.py"
    words = [Path(sys.executable).name, "-m", "pytest"] if as_module else ["pytest"]
    given = list(map(str, config.invocation_params.args))
    if f"-p{_PLUGIN}" in given or ("-p", _PLUGIN) in pairwise(given):
        words += ["-p", _PLUGIN]
    return tuple(words)


def _owner(parser: pytest.Parser, name: str) -> str:
    for group in getattr(parser, "_groups", []):
        for option in group.options:
            if name in option.names():
                return f" (its group: {group.name})"
    return ""

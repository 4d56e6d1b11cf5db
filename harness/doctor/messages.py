"""Messages of engines and drivers, and the finding that each stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from harness.doctor.finding import SEVERITIES, Finding
from harness.doctor.remedies import finding

_NOT_FOUND = r"\.so\S*: cannot open shared object file"
_CANN_LIBRARIES = (
    "hccl|hccl_fwk|ascendcl|acl_op_compiler|acl_tdt_channel|ge_runner|ge_compiler|graph|opapi|"
    "nnopbase|runtime|msprofiler|platform|register|tiling_api|error_manager|profapi"
)
#: c10::, at:: and torch::, as the compiler writes them.
_OF_TORCH = r"_ZNK?(?:3c10|2at|5torch)"

#: Pattern and code; a line may hold several. Real wordings, from the issues
#: that ``remedies`` names.
MESSAGES: tuple[tuple[str, str], ...] = (
    (r"set ASCEND_RT_VISIBLE_DEVICES:\S* ?error", "visible-devices"),
    (r"(?:error code is|ret(?:code)?|result)\W{0,3}(?:107001|207004)\b", "visible-devices"),
    (r"Can't get ascend_hal device count", "device-permission"),
    (r"dcmi mod\w+ initiali\w+ failed.*ret is -80(?:05|20)", "device-permission"),
    (rf"libascend_hal{_NOT_FOUND}", "driver-libraries"),
    (rf"lib(?:{_CANN_LIBRARIES}){_NOT_FOUND}", "cann-environment"),
    (rf"lib(?:atb|asdops|mki){_NOT_FOUND}", "nnal"),
    (
        rf"(?:torch_npu|op_plugin|[Aa]scend|libatb|libhccl)\S*: undefined symbol: (?!{_OF_TORCH})"
        r"|undefined symbol: \S*(?:3atb|Msprof|aclnn|aclrt|aclop|Hccl)",
        "versions-cann",
    ),
    (rf"vllm/_\w*C\S*: undefined symbol|undefined symbol: {_OF_TORCH}", "versions-torch"),
    (r"torch[-_]npu \S+ requires torch==\S+ but you have torch \S+", "versions-torch"),
    (r"cannot import name '\w+' from 'vllm(?:_ascend)?\.", "versions-vllm"),
    (r"No module named 'vllm\.(?!_)", "versions-vllm"),
    (r"module 'vllm\.\S+' has no attribute", "versions-vllm"),
    (r"cannot import name '\w+' from 'vllm' \(unknown location\)", "vllm-hidden"),
    (r"cannot import name '\w+' from 'triton\.", "triton-clash"),
    (r"No module named 'triton\.backends\.ascend|0 active drivers \(\[\]\)", "triton-clash"),
    (r"InvalidVersion\b.*Invalid version: ", "vllm-version"),
    (r"\bEI0006\b", "hccl-timeout"),
    (r"\bEJ0003\b|\bEI0019\b", "hccl-port"),
    (r"[Ff]ree memory on device.*less than desired GPU memory utilization", "device-memory"),
    (r"NPU out of memory", "device-memory"),
    (r"Permission denied: '[^']*kernel_meta", "kernel-meta"),
    (r"does not match the installed version's device type", "wheel-kind"),
    (r"operator torchvision::nms does not exist", "torchvision"),
    (r"ASCEND_LAUNCH_BLOCKING\b.*[Gg]raph", "launch-blocking"),
    (r"Failed to load the backend extension: torch_npu", "backend-extension"),
    (r"owner does not match the current owner", "owner-mismatch"),
    (r"Permission mismatch: The owner of ", "owner-mismatch"),
    (r"Failed to import from vllm\._C with ModuleNotFoundError", "vllm-c-missing"),
)
_COMPILED = tuple((re.compile(pattern), code) for pattern, code in MESSAGES)
_VERSION = re.compile(r"Invalid version: '?(\d+\.\d+\.\d+)?")
_FREE = re.compile(r"\(([\d.]+)\s*/\s*([\d.]+) GiB\)")
#: Of a line in a log, so much is read: patterns take longer than a line is long.
_READ = 8000
_LONGEST = 200

#: Found beside one of these, the finding is only what follows from it.
_FOLLOWS: dict[str, frozenset[str]] = {
    "backend-extension": frozenset(
        ("driver-libraries", "cann-environment", "nnal", "versions-cann", "versions-torch")
    ),
}


def explain(text: str) -> tuple[Finding, ...]:
    """The findings that the messages in a log stand for, errors first.

    Each code once, with its first line and how often it came.
    """
    lines: dict[str, list[str]] = {}
    for line in text.splitlines():
        for code in codes_of(line):
            lines.setdefault(code, []).append(line.strip())
    found = [
        finding(code, _seen(same), **_values(code, same[0]))
        for code, same in lines.items()
        if not _FOLLOWS.get(code, frozenset()) & set(lines)
    ]
    return by_severity(found)


def codes_of(line: str) -> tuple[str, ...]:
    """The codes that a line of text stands for, each once."""
    start = line[:_READ]
    return tuple(dict.fromkeys(code for pattern, code in _COMPILED if pattern.search(start)))


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, else in the order in which they were found."""
    return tuple(sorted(findings, key=lambda f: SEVERITIES.index(f.severity)))


def shortened(line: str) -> str:
    """A line that fits on a screen, cut at its end."""
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def _seen(lines: Sequence[str]) -> str:
    more = f" ({len(lines)} times)" if len(lines) > 1 else ""
    return f"{shortened(lines[0])}{more}"


def _values(code: str, line: str) -> dict[str, str]:
    """What the message itself tells for the remedy."""
    if code == "vllm-version":
        found = _VERSION.search(line)
        return {"share": (found and found.group(1)) or "X.Y.Z # of vLLM-Ascend"}
    if code == "device-memory":
        memory = _FREE.search(line)
        if memory is not None and float(memory.group(2)) > 0:
            return {"share": share_text(float(memory.group(1)) / float(memory.group(2)))}
    if code == "triton-clash":
        return {"align": ""}
    return {}


def share_text(free: float) -> str:
    """The utilization to ask for where ``free`` of the memory is free: 0.02 less."""
    return f"{max(0.05, int((free - 0.02) * 20) / 20):.2f}"

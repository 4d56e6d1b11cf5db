"""Messages of engines and drivers, and the finding that each stands for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from harness.doctor.finding import SEVERITIES, Finding
from harness.doctor.numbers import real, whole
from harness.doctor.remedies import finding

_NOT_FOUND = r"\.so\S*: cannot open shared object file"
_CANN_LIBRARIES = (
    "hccl|hccl_fwk|ascendcl|acl_op_compiler|acl_tdt_channel|ge_runner|ge_compiler|graph|opapi|"
    "nnopbase|runtime|msprofiler|platform|register|tiling_api|error_manager|profapi"
)
#: c10::, at:: and torch::, as the compiler writes them.
_OF_TORCH = r"_ZNK?(?:3c10|2at|5torch)"
#: How an engine says that two settings do not go together.
_REFUSED = (
    r"(?:incompatible|not compatible|not support(?:ed)?\b|conflicts?\b|cannot|can't|must not)"
)

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
    (
        r"[Ff]ree memory on device.*less than desired (?:[GN]PU )?memory utilization",
        "device-memory",
    ),
    (r"\b(?:NPU|CUDA|HIP|XPU) out of memory", "device-memory"),
    (r"No available memory for the cache blocks", "cache-memory"),
    (r"Cannot auto-fit max_model_len: not enough", "cache-memory"),
    (r"KV cache is needed, which is larger than the available KV cache memory", "cache-length"),
    (r"is larger than the maximum number of tokens that can be stored in KV cache", "cache-length"),
    (r"Permission denied: '[^']*kernel_meta", "kernel-meta"),
    (r"does not match the installed version's device type", "wheel-kind"),
    (r"lib(?:tcmalloc|iomp)\w* is not found in LD_PRELOAD", "preload"),
    (r"operator torchvision::nms does not exist", "torchvision"),
    (rf"[Gg]raph\b.{{0,200}}{_REFUSED}.{{0,200}}\bASCEND_LAUNCH_BLOCKING\b", "launch-blocking"),
    (rf"\bASCEND_LAUNCH_BLOCKING\b.{{0,200}}{_REFUSED}.{{0,200}}[Gg]raph", "launch-blocking"),
    (
        r"world_size \(\d+\) (?:must be|is) less than.{0,40} "
        r"(?:visible|available|local) (?:devices|[GN]PUs?|gpu count)",
        "devices-too-few",
    ),
    (
        r"(?:[Tt]ensor parallel|[Ww]orld) size \(\d+\) (?:cannot be|is) larger than the number of "
        r"(?:visible|available) (?:devices|[GN]PUs)",
        "devices-too-few",
    ),
    (r"CUDA error: invalid device ordinal", "devices-too-few"),
    (
        r"heads \(?\d+\)? must be divisible by (?:the )?tensor[ -]parallel[ -]size",
        "parallel-heads",
    ),
    (r"AssertionError: \d+ is not divisible by \d+", "parallel-heads"),
    (r"[Ff]ailed to register custom ops", "custom-ops"),
    (
        r"(?i:ModelSlim quantization config not found)|no available ascend quantizer"
        r"|Cannot find the config file for (?:ascend|modelslim)"
        r"|No such file or directory: \S*quant_model_description",
        "quantization-description",
    ),
    (r"logits processors are not supported (?:when|with) speculative decoding", "speculative"),
    (
        r"Device string must not be empty|Failed to infer device type"
        r"|running on UnspecifiedPlatform",
        "no-platform",
    ),
    (r"not implemented for DT_(?:BF16|BFLOAT16|FLOAT16|FLOAT|DOUBLE)\b", "dtype-unsupported"),
    (r"[Bb]float16 is only supported on \w+ with compute capability", "dtype-unsupported"),
    (r"soc_?ver\w+ \S+ of bin package does not match", "cann-kernels"),
    (r"\bE30006\b|Failed to verify the OPP\b", "cann-opp"),
    (r"(?:error code is|ret(?:code)?|result)\W{0,3}500001\b", "cann-compiler"),
    (r"\bEJ0001\b|Failed to initialize the HCCP process", "hccp-held"),
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
_ESTIMATE = re.compile(r"maximum model len(?:gth)? is (\d+)|stored in KV cache \((\d+)\)")
_HEADS = re.compile(r"heads \(?(\d+)\)?.*?size \(?(\d+)|: (\d+) is not divisible by (\d+)")
_VISIBLE = re.compile(r"(?:devices|[GN]PUs|count) \((\d+)\)")
_SOC = re.compile(r"device soc_?ver\w+ Ascend(\w+)")
_SUPPORTED = re.compile(r"dtype support list \[([^\]]*)\]")

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
    if code == "preload":
        return {"share": "/PATH/libtcmalloc_minimal.so.4:/PATH/libiomp5.so"}
    if code == "device-memory":
        device = {"device": "vllm-gpu"} if "CUDA" in line or "HIP" in line else {}
        memory = _FREE.search(line)
        free, total = (None, None) if memory is None else map(real, memory.groups())
        if free is not None and total:
            device["share"] = share_text(min(free / total, 1.0))
        return device
    if code == "triton-clash":
        return {"align": ""}
    return _NUMBERS[code](line) if code in _NUMBERS else {}


def _length(line: str) -> dict[str, str]:
    found = _ESTIMATE.search(line)
    return {"length": found.group(1) or found.group(2)} if found else {}


def _parallel(line: str) -> dict[str, str]:
    """The largest size up to the one asked for that divides the heads."""
    found = _HEADS.search(line)
    if found is None:
        return {}
    heads, asked = (whole(n) or 0 for n in found.groups() if n is not None)
    if not asked:
        return {}
    fit = max(n for n in range(1, min(asked, heads, 1024) + 1) if heads % n == 0) if heads else 1
    return {"size": str(fit)}


def _visible(line: str) -> dict[str, str]:
    found = _VISIBLE.search(line)
    return {"size": found.group(1)} if found and whole(found.group(1)) else {}


def _chip(line: str) -> dict[str, str]:
    """``310p`` of Ascend310P3, ``910b`` of Ascend910B4: as CANN names its packages."""
    found = _SOC.search(line)
    name = re.match(r"\d+(?:[A-Za-z]|_93)?", found.group(1)) if found else None
    return {"chip": name.group().replace("910_93", "a3").lower()} if name else {}


def _narrow(line: str) -> dict[str, str]:
    """float16, unless the operator has none."""
    found = _SUPPORTED.search(line)
    lacks = "for DT_FLOAT16" in line
    has = found is None or "DT_FLOAT16" in found.group(1)
    return {"dtype": "float16" if has and not lacks else "float32"}


#: What a message tells for its remedy, by code.
_NUMBERS: dict[str, Callable[[str], dict[str, str]]] = {
    "cache-length": _length,
    "parallel-heads": _parallel,
    "devices-too-few": _visible,
    "cann-kernels": _chip,
    "dtype-unsupported": _narrow,
}


def share_text(free: float) -> str:
    """The utilization to ask for where ``free`` of the memory is free: 0.02 less."""
    return f"{max(0.05, int((free - 0.02) * 20) / 20):.2f}"

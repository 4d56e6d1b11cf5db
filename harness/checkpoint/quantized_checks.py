"""Whether a quantized checkpoint is whole: each weight with its scales, each key described."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.checkpoint.findings import CheckpointIssue
from harness.checkpoint.headers import Stored
from harness.checkpoint.quantized import Scheme, bits_of, is_opaque, is_repacked, linears

_SHOWN = 3
_AGAIN = "download the checkpoint again, or quantize it again"
_FLOATS = frozenset({"F16", "BF16", "F32", "F64"})

Own = Mapping[str, Stored]
#: What msModelSlim writes beside a weight, by the type that its description names.
_SLIM = {
    "W8A8": (
        "weight_scale",
        "weight_offset",
        "input_scale",
        "input_offset",
        "deq_scale",
        "quant_bias",
    ),
    "W8A8_DYNAMIC": ("weight_scale", "weight_offset"),
    "W8A8_MIX": ("weight_scale", "weight_offset"),
    "W4A8_DYNAMIC": ("weight_scale", "weight_offset"),
    "W8A16": ("weight_scale", "weight_offset"),
    "W4A16": ("weight_scale", "weight_offset"),
    "W4A4_DYNAMIC": ("weight_scale", "weight_offset"),
    "W8A8_MXFP8": ("weight_scale",),
}


def check_quantized(scheme: Scheme, stored: Sequence[Stored]) -> Iterator[CheckpointIssue]:
    """Name the scheme, and tell what it lacks."""
    yield CheckpointIssue(
        "note",
        f"the weights are quantized: {scheme.shown}; an engine must know this scheme",
        about="quantized",
    )
    if not scheme.declared:
        yield CheckpointIssue(
            "error",
            f"the weights are quantized ({scheme.method}), and neither config.json nor a file "
            "beside it says so: engines take them for plain weights, or refuse them",
            "take config.json, or the file that describes the quantization, from the release",
            "quantized",
        )
    problems = list(_problems(scheme, stored))
    for problem in problems[:_SHOWN]:
        yield CheckpointIssue("error", problem, _AGAIN, "quantized")
    if problems[_SHOWN:]:
        what = f"{len(problems) - _SHOWN} more parts of the quantization are missing or misshapen"
        yield CheckpointIssue("error", what, _AGAIN, "quantized")
    if _is_plain(stored) and scheme.declared:
        yield CheckpointIssue(
            "warning",
            f"{scheme.source} says {scheme.method}, and every weight is a float: nothing is "
            "quantized yet, or the weights are another checkpoint's",
        )


def is_checked(scheme: Scheme) -> bool:
    """Whether the parts that this scheme needs are known here."""
    return scheme.method in _CHECKS and not is_opaque(scheme)


def _is_plain(stored: Sequence[Stored]) -> bool:
    return all(t.dtype in _FLOATS for t in stored)


def _problems(scheme: Scheme, stored: Sequence[Stored]) -> Iterator[str]:
    if scheme.method == "msModelSlim":
        yield from _described(scheme, stored)
    check = _CHECKS.get(scheme.method)
    if check is not None and not is_opaque(scheme):
        for base, own in linears(stored):
            yield from check(base, own, scheme)


def _lacking(base: str, own: Own, names: Sequence[str], beside: str) -> Iterator[str]:
    for name in names:
        if name not in own:
            yield f"{base}.{name} is missing, {base}.{beside} is there"


def _gptq(base: str, own: Own, scheme: Scheme) -> Iterator[str]:
    if str(scheme.settings.get("checkpoint_format")).startswith("marlin"):
        return  # packed for one kernel, under other names
    if "qweight" not in own:
        parts = [part for part in ("qzeros", "scales", "g_idx") if part in own]
        if parts and "weight" not in own:
            yield f"{base}.qweight is missing, {base}.{parts[0]} is there"
        return
    ordered = scheme.settings.get("desc_act") is True and scheme.method == "gptq"
    needed = ("qzeros", "scales", *(("g_idx",) if ordered else ()))
    yield from _lacking(base, own, needed, "qweight")
    bits, weight = bits_of(scheme), own["qweight"].shape
    if bits is None or len(weight) != 2 or is_repacked(scheme):
        return
    awq = scheme.method == "awq"
    if bits == 3:  # 32 of them in three numbers
        return
    pack = 32 // bits
    inputs, outputs = (weight[0], weight[1] * pack) if awq else (weight[0] * pack, weight[1])
    size = scheme.settings.get("group_size", scheme.settings.get("q_group_size", 128))
    size = size if type(size) is int and size > 0 else inputs
    groups = math.ceil(inputs / size) if inputs else 0
    wanted = {"scales": (groups, outputs), "qzeros": (groups, outputs // pack), "g_idx": (inputs,)}
    yield from _misshapen(base, own, wanted)


def _misshapen(base: str, own: Own, wanted: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    for name, shape in wanted.items():
        if name in own and own[name].shape != shape:
            yield (
                f"{base}.{name} is {list(own[name].shape)}, the packed weight and the settings "
                f"ask for {list(shape)}"
            )


def _fp8(base: str, own: Own, scheme: Scheme) -> Iterator[str]:
    weight = own.get("weight")
    if weight is None or not weight.dtype.startswith("F8"):
        return
    block = scheme.settings.get("weight_block_size")
    if isinstance(block, list) and len(block) == 2 and all(type(b) is int and b > 0 for b in block):
        yield from _lacking(base, own, ("weight_scale_inv",), "weight")
        if len(weight.shape) == 2:
            blocks = tuple(math.ceil(n / b) for n, b in zip(weight.shape, block, strict=True))
            yield from _misshapen(base, own, {"weight_scale_inv": blocks})
    elif not {"weight_scale", "weight_scale_inv", "scale", "scales"} & own.keys():
        yield f"{base}.weight_scale is missing, {base}.weight is {weight.dtype}"
    inputs = {"input_scale", "activation_scale", "activation_scale_inv"}
    if scheme.settings.get("activation_scheme") == "static" and not inputs & own.keys():
        yield f"{base}.input_scale is missing, activation_scheme is static"


def _compressed(base: str, own: Own, scheme: Scheme) -> Iterator[str]:
    arguments = _arguments(scheme)
    packed, weight = own.get("weight_packed"), own.get("weight")
    if packed is None and (weight is None or weight.dtype in _FLOATS):
        parts = [part for part in ("weight_scale", "weight_shape") if part in own]
        if parts and weight is None:
            yield f"{base}.weight_packed is missing, {base}.{parts[0]} is there"
        return
    beside = "weight" if packed is None else "weight_packed"
    yield from _lacking(base, own, ("weight_scale",), beside)
    fours = packed is not None and packed.dtype == "U8"
    if fours:
        yield from _lacking(base, own, ("weight_global_scale",) if _nv(scheme) else (), beside)
    elif packed is not None:
        yield from _lacking(base, own, ("weight_shape",), beside)
    if arguments.get("symmetric") is False:
        yield from _lacking(base, own, ("weight_zero_point",), beside)
    if packed is not None and not fours and arguments.get("actorder") == "group":
        yield from _lacking(base, own, ("weight_g_idx",), beside)
    rows, scale = own[beside].shape[:1], own.get("weight_scale")
    if scale is None or not rows or math.prod(scale.shape) == 1:
        return  # one scale for the whole tensor
    if not _may_be_blocked(scheme) and scale.shape[:1] != rows:
        yield f"{base}.weight_scale is {list(scale.shape)}, {base}.{beside} has {rows[0]} rows"


def _nv(scheme: Scheme) -> bool:
    return "nvfp4" in str(scheme.settings.get("format")) or "nvfp4" in str(
        scheme.settings.get("config_groups")
    )


def _may_be_blocked(scheme: Scheme) -> bool:
    """Whether some linears have a scale for each block, not for each row."""
    return any(arguments.get("strategy") == "block" for arguments in _each_group(scheme))


def _each_group(scheme: Scheme) -> list[Mapping[str, Any]]:
    groups = scheme.settings.get("config_groups")
    return [
        group["weights"]
        for group in (groups.values() if isinstance(groups, Mapping) else ())
        if isinstance(group, Mapping) and isinstance(group.get("weights"), Mapping)
    ]


def _arguments(scheme: Scheme) -> Mapping[str, Any]:
    """What config_groups says of weights; nothing where groups differ."""
    found = _each_group(scheme)
    return found[0] if found and all(f == found[0] for f in found) else {}


def _bitsandbytes(base: str, own: Own, scheme: Scheme) -> Iterator[str]:
    weight = own.get("weight")
    if weight is None:
        return
    if weight.dtype == "U8":
        yield from _lacking(base, own, ("absmax", "quant_map"), "weight")
        if not any(name.startswith("quant_state.") for name in own):
            yield f"{base}.weight.quant_state is missing, {base}.weight is packed"
        if scheme.settings.get("bnb_4bit_use_double_quant") is True:
            yield from _lacking(base, own, ("nested_absmax", "nested_quant_map"), "weight")
    elif weight.dtype == "I8":
        yield from _lacking(base, own, ("SCB",), "weight")


def _mxfp4(base: str, own: Own, _scheme: Scheme) -> Iterator[str]:
    for name in own:
        if name.endswith("_blocks") and name.replace("_blocks", "_scales") not in own:
            yield f"{base}.{name.replace('_blocks', '_scales')} is missing, {base}.{name} is there"
        if name.endswith("_scales") and name.replace("_scales", "_blocks") not in own:
            yield f"{base}.{name.replace('_scales', '_blocks')} is missing, {base}.{name} is there"


def _slim(base: str, own: Own, scheme: Scheme) -> Iterator[str]:
    kind = scheme.settings.get(f"{base}.weight")
    weight = own.get("weight")
    if weight is None:
        return
    if isinstance(kind, str) and kind in _SLIM:
        yield from _lacking(base, own, _SLIM[kind], "weight")
        if weight.dtype in _FLOATS:
            yield f"{base}.weight is {weight.dtype}, {scheme.source} says {kind}"
        scale = own.get("weight_scale")
        narrow = kind.startswith("W8A8") and kind != "W8A8_MXFP8"
        if narrow and scale is not None and scale.shape[:1] != weight.shape[:1]:
            yield (
                f"{base}.weight_scale is {list(scale.shape)}, {base}.weight has "
                f"{weight.shape[0] if weight.shape else 0} rows"
            )
    elif kind == "FLOAT" and weight.dtype not in _FLOATS:
        yield f"{base}.weight is {weight.dtype}, {scheme.source} says FLOAT"
    elif kind is None and not scheme.settings and weight.dtype == "I8":
        yield from _lacking(base, own, ("weight_scale",), "weight")


def _described(scheme: Scheme, stored: Sequence[Stored]) -> Iterator[str]:
    """Keys without an entry of the description, and entries without a key."""
    if not scheme.settings:
        yield (
            f"quant_model_description.json is missing: vLLM-Ascend reads from it how each weight "
            f"of {scheme.source} is quantized"
        )
        return
    names = {t.name for t in stored}
    entries = {k for k, v in scheme.settings.items() if isinstance(v, str) and "." in k}
    for name in sorted(n for n in names - entries if n.endswith(".weight")):
        yield f"{name} has no entry in {scheme.source}"
    # A tied head has an entry in some releases; whether it may be missing is told elsewhere.
    gone = {e for e in entries - names if _is_key(e) and e != "lm_head.weight"}
    for name in sorted(gone):
        yield f"{name} is missing, {scheme.source} names it"


def _is_key(entry: str) -> bool:
    """Whether an entry is a tensor's: others describe caches, versions and the like."""
    return entry.rpartition(".")[2] in {
        *("weight", "bias", "weight_scale", "weight_offset", "input_scale", "input_offset"),
        *("deq_scale", "quant_bias", "weight_scale_second", "weight_offset_second", "scale_bias"),
    }


_CHECKS: dict[str, Callable[[str, Own, Scheme], Iterator[str]]] = {
    "gptq": _gptq,
    "awq": _gptq,
    "fp8": _fp8,
    "compressed-tensors": _compressed,
    "bitsandbytes": _bitsandbytes,
    "mxfp4": _mxfp4,
    "msModelSlim": _slim,
}

"""Is a checkpoint quantized, and by what? Its keys, with the packed weights as plain ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.checkpoint.headers import Stored
from harness.errors import ModelError
from harness.model.model import Model, read_json

#: Files beside the weights that say how they are quantized, with what wrote each.
_FILES = {
    "hf_quant_config.json": "modelopt",
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
}
#: What stands beside a quantized weight. Suffixes of the linear's own key.
COMPANIONS = frozenset(
    {
        *("qweight", "qzeros", "scales", "g_idx", "qweight_scale", "perm", "workspace"),
        *("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx"),
        *("weight_scale_inv", "weight_scale_2", "weight_global_scale", "input_global_scale"),
        *("input_scale", "input_zero_point", "output_scale", "activation_scale", "k_scale"),
        *("v_scale", "q_scale", "weight_offset", "input_offset", "deq_scale", "quant_bias"),
        *("weight_scale_second", "weight_offset_second", "scale_bias", "SCB", "weight_format"),
        *("kv_cache_scale", "kv_cache_offset", "input_bias", "left_trans", "right_trans"),
        *("clip_ratio", "weight_scale_bias", "scale", "offset", "weight_bias", "scale_packed"),
        *("meta", "B", "s", "input_amax", "weight_amax", "weight_clip_max", "reduce_sum"),
        *("activation_scale_inv", "index", "info"),
    }
)
_NF4 = re.compile(
    r"(.*)\.weight\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..+)"
)
_BEHIND = re.compile(
    r"(.+?)_(?:weight_|input_)?(?:scale|scale_inv|scale_2|global_scale|zero_point)"
)
_PACKED = frozenset({"qweight", "weight_packed"})
_FLOATS = frozenset({"F16", "BF16", "F32", "F64"})
_NAMES = r"proj|linear|fc\d?|dense|wqkv|w[123o]|query_key_value"
_LINEAR = re.compile(rf".*({_NAMES}|experts.*)\.weight")
#: What a method of unknown layout keeps of a linear: anything under its key.
_ANY_PART = re.compile(rf"(.*(?:{_NAMES}|lm_head|\.gate))\.(?!bias$).+")
#: Methods whose layout of a weight is known here.
_LAID_OUT = frozenset(
    {"gptq", "awq", "fp8", "fbgemm_fp8", "compressed-tensors", "bitsandbytes", "mxfp4"}
    | {"msModelSlim"}
)


@dataclass(frozen=True)
class Scheme:
    """How the weights are quantized.

    Attributes:
        method: as ``gptq``; of what the file or config.json calls it.
        source: the file that says so, or "the tensors".
        settings: what that file says.
        declared: whether an engine can see it.
    """

    method: str
    source: str
    settings: Mapping[str, Any]
    declared: bool = True

    @property
    def shown(self) -> str:
        """In words, for a message."""
        details = []
        for key in ("bits", "w_bit", "group_size", "weight_block_size", "format", "quant_algo"):
            value = self.settings.get(key)
            if isinstance(value, int | str | list) and not isinstance(value, bool):
                details.append(f"{key} {value}")
        kind = self.settings.get("model_quant_type")
        if isinstance(kind, str):
            details.append(kind)
        more = f" ({', '.join(details)})" if details else ""
        return f"{self.method}{more}, as {self.source} says"


def scheme_of(model: Model, config: Mapping[str, Any], stored: Sequence[Stored]) -> Scheme | None:
    """How the weights are quantized; None where they are not.

    Raises:
        ModelError: if a file that describes it cannot be read.
    """
    for key in ("quantization_config", "compression_config"):
        content = config.get(key)
        method = content.get("quant_method") if isinstance(content, Mapping) else None
        if isinstance(content, Mapping) and isinstance(method, str):
            return Scheme(method, f"{key} of config.json", content)
    folder = Path(model.path)
    described = sorted(p.name for p in folder.glob("quant_model_description*.json"))
    if described:
        return Scheme("msModelSlim", described[0], read_json(model, described[0]) or {})
    weights = sorted(p.name for p in folder.glob("quant_model_weight*"))
    if weights:
        return Scheme("msModelSlim", weights[0], {})
    for file, method in _FILES.items():
        content = read_json(model, file)
        if content is not None:
            inner = content.get("quantization")
            return Scheme(method, file, inner if isinstance(inner, Mapping) else content)
    guessed = _by_tensors(stored)
    return None if guessed is None else Scheme(guessed, "the tensors' names", {}, declared=False)


def _by_tensors(stored: Sequence[Stored]) -> str | None:
    """What wrote tensors that no file describes; None where all may be floats of a plain model."""
    ends = {t.name.rpartition(".")[2] for t in stored if t.dtype not in _FLOATS}
    names = {t.name.rpartition(".")[2] for t in stored}
    kinds = {t.dtype for t in stored if _LINEAR.fullmatch(t.name)} - _FLOATS
    signs = {
        "bitsandbytes": "SCB" in names or any(_NF4.fullmatch(t.name) for t in stored),
        "gptq": "qweight" in ends and "g_idx" in names,
        "awq": "qweight" in ends,
        "compressed-tensors": "weight_packed" in ends,
        "msModelSlim": "deq_scale" in names or {"weight_offset", "weight_scale"} <= names,
        "mxfp4": any(t.name.endswith("_blocks") and t.dtype == "U8" for t in stored),
        "fp8": any(kind.startswith("F8") for kind in kinds),
        f"weights of {min(kinds, default='')}": bool(kinds & {"I8", "U8", "I32", "F4"}),
    }
    return next((method for method, seen in signs.items() if seen), None)


def logical_shapes(
    stored: Sequence[Stored], scheme: Scheme | None
) -> dict[str, tuple[int, ...] | None]:
    """The shapes that the model computes with, by plain keys, without what quantizes them."""
    if scheme is None:
        return {t.name: t.shape for t in stored}
    by_name = {t.name: t for t in stored}
    if is_opaque(scheme):
        return _opaque_shapes(by_name)
    found: dict[str, tuple[int, ...] | None] = {}
    for tensor in stored:
        base, _, end = tensor.name.rpartition(".")
        if _NF4.fullmatch(tensor.name) or _scales_a_tensor(tensor.name, by_name):
            continue
        if end in _PACKED:
            found[f"{base}.weight"] = _unpacked(tensor, scheme)
        elif end == "weight" and tensor.dtype not in _FLOATS:
            found[tensor.name] = _stored_whole(tensor, by_name)
        elif end not in COMPANIONS or _is_part_of_model(base, end, by_name):
            found[tensor.name] = tensor.shape
    return found


def is_opaque(scheme: Scheme) -> bool:
    """Whether the scheme keeps a weight in a layout, or under names, that are not known here."""
    sparse = scheme.settings.get("sparsity_config")
    packed = isinstance(sparse, Mapping) and sparse.get("format") not in (None, "dense")
    marlin = str(scheme.settings.get("format")).startswith("marlin")
    return scheme.method not in _LAID_OUT or packed or marlin


def _opaque_shapes(by_name: Mapping[str, Stored]) -> dict[str, tuple[int, ...] | None]:
    """What is beside a linear, or in place of its weight, stands for a weight of any shape."""
    found: dict[str, tuple[int, ...] | None] = {}
    for tensor in by_name.values():
        base, _, end = tensor.name.rpartition(".")
        whole = tensor.dtype in _FLOATS or tensor.dtype.startswith("F8_")
        if end == "weight":
            found.setdefault(tensor.name, tensor.shape if whole else None)
        elif match := _ANY_PART.fullmatch(tensor.name):
            found.setdefault(f"{match[1]}.weight", None)
        elif end in _PACKED:
            found[f"{base}.weight"] = None
        elif _scales_a_tensor(tensor.name, by_name):
            continue
        elif end not in COMPANIONS or _is_part_of_model(base, end, by_name):
            found[tensor.name] = tensor.shape
    return found


def _scales_a_tensor(name: str, by_name: Mapping[str, Stored]) -> bool:
    """Whether a key is that of another tensor with a scale's name behind it, as of experts that
    stand in one tensor."""
    match = _BEHIND.fullmatch(name)
    return match is not None and match[1] in by_name


def _is_part_of_model(base: str, end: str, by_name: Mapping[str, Stored]) -> bool:
    """Whether a name like ``scale`` stands alone, so that it is a parameter of the model."""
    whole = (f"{base}.weight", f"{base}.qweight", f"{base}.weight_packed")
    return end in ("scale", "offset", "meta", "B", "s", "perm") and not any(
        name in by_name for name in whole
    )


def _unpacked(tensor: Stored, scheme: Scheme) -> tuple[int, ...] | None:
    bits = bits_of(scheme)
    if len(tensor.shape) != 2 or tensor.dtype not in ("I32", "U32") or bits is None:
        return None
    if is_repacked(scheme):
        return None
    rows, columns = tensor.shape
    if tensor.name.endswith("weight_packed"):
        return (rows, columns * 32 // bits)
    if scheme.method == "awq":
        return (columns * 32 // bits, rows)
    return (columns, rows * 32 // bits)


def is_repacked(scheme: Scheme) -> bool:
    """Whether the packed weights have another layout than the usual one of their method."""
    layout = scheme.settings.get("checkpoint_format")
    if scheme.method == "awq":  # elsewhere this is the version of a program
        layout = layout or scheme.settings.get("version")
    usual = layout is None or str(layout).lower() in ("gptq", "gptq_v2", "gemm")
    return not usual or bool(scheme.settings.get("dynamic"))


def bits_of(scheme: Scheme) -> int | None:
    """The bits of a packed weight; None where groups of linears may differ, or none is said."""
    for key in ("bits", "w_bit"):
        value = scheme.settings.get(key)
        if type(value) is int and value in (2, 3, 4, 8):
            return value
    groups = scheme.settings.get("config_groups")
    found = set()
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        found.add(weights.get("num_bits") if isinstance(weights, Mapping) else None)
    only = found.pop() if len(found) == 1 else None
    return only if type(only) is int and only in (2, 3, 4, 8) else None


def _stored_whole(tensor: Stored, by_name: Mapping[str, Stored]) -> tuple[int, ...] | None:
    """The shape of a weight of one number a byte; None where a byte may hold two."""
    packed = tensor.dtype in ("U8", "F4", "F4_E2M1", "I32")
    base = tensor.name.removesuffix("weight")
    second = f"{base}weight_scale_second" in by_name or f"{base}scale_bias" in by_name
    return None if packed or second or len(tensor.shape) != 2 else tensor.shape


def linears(stored: Sequence[Stored]) -> Iterator[tuple[str, dict[str, Stored]]]:
    """Each key before the last dot, with the tensors under it by what follows the dot."""
    found: dict[str, dict[str, Stored]] = {}
    for tensor in stored:
        match = _NF4.fullmatch(tensor.name)
        base, end = match.groups() if match else tensor.name.rpartition(".")[::2]
        found.setdefault(base, {})[end] = tensor
    yield from found.items()


def refuse_quantized(scheme: Scheme | None, folder: str) -> None:
    """Refuse weights that are quantized, where latents of floats are asked for.

    Raises:
        ModelError: naming the scheme.
    """
    if scheme is not None:
        raise ModelError(
            f"{folder}: the weights are quantized: {scheme.shown}; fusing takes the latent floats "
            "of a ternary training, so give it the unquantized checkpoint"
        )

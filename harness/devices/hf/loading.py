"""Whether Transformers put every weight of a checkpoint into the model.

``from_pretrained`` fills what a checkpoint lacks with random numbers, leaves out what
the model has no place for, and only logs it. Such a model is another one than the
checkpoint's, and each load of it is another one again. What is checked here is
Transformers' own account, ``output_loading_info``, and never its log.

A surplus tensor is refused like a missing one: a norm, a bias, a scale or a layer that
the class does not know is a part of the computation that is left out. What the class
itself names as of no use to it (``_keys_to_ignore_on_load_unexpected``: MTP layers, old
buffers) does not reach the account. The user may name more, see ``unused``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.checkpoint.headers import Stored, read_headers
from harness.errors import UnloadedWeights
from harness.model.model import Model, read_json

#: How many names a message shows.
_SHOWN = 3
_FLOATS = frozenset({"F16", "BF16", "F32", "F64", "BOOL"})
_MEND = (
    "make config.json describe these weights (`harness checkpoint inspect` shows where they "
    "differ), or fetch the whole checkpoint again"
)


def unused_prefixes(text: str | None) -> tuple[str, ...]:
    """``unused`` of ``--engine-arg``: names, or beginnings of names, of tensors that the
    model is meant to do without."""
    return tuple(part for part in (text or "").split(",") if part)


def check_loaded(
    model: Any, source: Model, info: Mapping[str, Any], unused: Sequence[str] = ()
) -> str | None:
    """Check that the model is the checkpoint's.

    Args:
        info: what ``from_pretrained`` says with ``output_loading_info``.
        unused: beginnings of the names of tensors that may be left out.

    Returns:
        A warning that names the tensors left out on the user's word, or None.

    Raises:
        UnloadedWeights: if a weight is missing, has another shape, or was left out, or
            if integers stand where the model computes with floats.
    """
    stored = read_headers(Path(source.path), linked=True)
    missing = {*info["missing_keys"], *_excused(model, stored)}
    _refuse(source, "missing in the checkpoint, so random here", missing)
    shapes = {tensor.name: tensor.shape for tensor in stored}
    wrong = [_mismatch(entry, model, shapes) for entry in info["mismatched_keys"]]
    _refuse(source, "of another shape than the model's", wrong)
    surplus = sorted(info["unexpected_keys"])
    left_out = [name for name in surplus if name.startswith(tuple(unused))]
    _refuse(
        source,
        "without a place in the model",
        set(surplus) - set(left_out),
        f"{_MEND}; if the model is meant to do without them, --engine-arg unused=PREFIX names them",
    )
    if getattr(model, "hf_quantizer", None) is None:
        _refuse_integers(source, _integers(model, stored))
    if not left_out:
        return None
    return f"{_count(left_out)} of the checkpoint left out as asked (unused): {_names(left_out)}"


def refuse_adapter(source: Model) -> None:
    """Refuse an adapter beside whole weights.

    Transformers applies it where PEFT is installed and not elsewhere, vLLM never does.

    Raises:
        UnloadedWeights: if there is one.
    """
    if Path(source.path, "adapter_config.json").is_file():
        raise UnloadedWeights(
            source.name,
            "adapter_config.json lies beside the weights, and engines differ in whether they apply "
            "it; merge the adapter into the weights, or move its files away",
        )


def explain_failure(source: Model) -> None:
    """Name the weights that a load failed on, where Transformers only logs their names.

    Transformers 5 stacks the experts of a layer and fails where some lack a matrix that
    the others have; 4 fails at integers where it computes with floats.

    Raises:
        UnloadedWeights: if the weights show such a cause.
    """
    families: dict[str, dict[str, set[str]]] = {}
    stored = read_headers(Path(source.path), linked=True)
    for tensor in stored:
        numbered = re.fullmatch(r"(.*\.\d+\..*\.)(\d+)\.(\D+)", tensor.name)
        if numbered is not None:
            family, number, part = numbered.groups()
            families.setdefault(family, {}).setdefault(part, set()).add(number)
    gone = [
        f"{family}{number}.{part}"
        for family, parts in families.items()
        for part, numbers in parts.items()
        for number in set().union(*parts.values()) - numbers
    ]
    _refuse(source, "missing in the checkpoint, while its siblings are there", gone)
    if not _known_scheme(source):
        kept = [t for t in stored if t.dtype not in _FLOATS and t.name.endswith("weight")]
        _refuse_integers(source, [f"{t.name} ({t.dtype})" for t in kept])


def _known_scheme(source: Model) -> bool:
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    scheme = (read_json(source, "config.json") or {}).get("quantization_config")
    return isinstance(scheme, dict) and (
        scheme.get("quant_method") in AUTO_QUANTIZATION_CONFIG_MAPPING
    )


def _refuse_integers(source: Model, names: Iterable[str]) -> None:
    _refuse(
        source,
        "quantized, and no scheme that this Transformers knows is in config.json",
        names,
        "add the quantization_config that belongs to them, or take the unquantized checkpoint",
    )


def _refuse(source: Model, what: str, names: Iterable[str], mend: str = _MEND) -> None:
    listed = sorted(names)
    if listed:
        raise UnloadedWeights(
            source.name,
            f"{_count(listed)} {'is' if len(listed) == 1 else 'are'} {what}: "
            f"{_names(listed)}; {mend}",
        )


def _count(names: Sequence[str]) -> str:
    return "1 weight" if len(names) == 1 else f"{len(names)} weights"


def _names(names: Sequence[str]) -> str:
    """The first few; of many layers' sake each kind of name comes before a second layer's."""
    kinds: dict[str, str] = {}
    for name in names:
        kinds.setdefault(re.sub(r"\.\d+\.", ".*.", name), name)
    first = [*kinds.values(), *(name for name in names if name not in kinds.values())][:_SHOWN]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")


def _mismatch(entry: Any, model: Any, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """``name (stored shape, the model's)``; Transformers 4 says the name alone."""
    name, stored, wanted = (entry, shapes.get(entry), None) if isinstance(entry, str) else entry
    if wanted is None:
        wanted = next((p.shape for key, p in model.named_parameters() if key == name), None)
    if stored is None or wanted is None:
        return str(name)
    return f"{name} ({tuple(stored)} stored, {tuple(wanted)} in the model)"


def _excused(model: Any, stored: Sequence[Stored]) -> list[str]:
    """Missing parameters that the class does not complain of.

    A buffer of the kind is computed; a parameter is random.
    """
    patterns = getattr(model, "_keys_to_ignore_on_load_missing", None) or ()
    if not patterns:
        return []
    there = {tensor.name for tensor in stored}
    tied = getattr(model, "all_tied_weights_keys", None) or model._tied_weights_keys or ()
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    return [
        name
        for name, _ in model.named_parameters()
        if any(re.search(pattern, name) for pattern in patterns)
        and not any(name.endswith(key) for key in tied)
        and not {name, name.removeprefix(prefix), prefix + name} & there
    ]


def _integers(model: Any, stored: Sequence[Stored]) -> list[str]:
    """Tensors of integers or 8-bit floats that do not become integers of the model.

    Left out are those that the class itself ignores, as masks of old checkpoints.
    """
    own = dict(model.named_buffers())
    own |= dict(model.named_parameters())
    patterns = list(getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ())
    ignored = re.compile("|".join([*patterns, r"rotary_emb\.inv_freq", r"(^|\.)position_ids$"]))
    found = []
    for tensor in stored:
        place = own.get(tensor.name)
        whole = place is not None and not place.is_floating_point()
        if tensor.dtype not in _FLOATS and not whole and not ignored.search(tensor.name):
            found.append(f"{tensor.name} ({tensor.dtype})")
    return found

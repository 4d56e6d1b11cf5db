"""Everything that fusing decides before it writes a byte."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.checkpoint.families import LLAMA, family_of
from harness.checkpoint.family import Family, classes_of, language_fields
from harness.checkpoint.findings import Inspection
from harness.checkpoint.fix import plan_changes
from harness.checkpoint.headers import Stored, check_inside, read_headers
from harness.checkpoint.inspect import inspect
from harness.checkpoint.multipliers import active_multipliers
from harness.checkpoint.names import plain_names
from harness.checkpoint.quantized import refuse_quantized, scheme_of
from harness.checkpoint.shards import Shard, plan_shards
from harness.checkpoint.ternary import NUMPY, group_of, is_quantized_name
from harness.checkpoint.verify import sample_groups
from harness.errors import HarnessError, ModelError
from harness.model.model import Model, read_json

#: What belongs to a tokenizer, or to generating.
_COPIED = re.compile(
    r"tokenizer(_config)?\.json|tokenizer\.model|special_tokens_map\.json|added_tokens\.json|"
    r"vocab\.(json|txt)|merges\.txt|chat_template\.(jinja|json)|generation_config\.json|"
    r"(LICENSE|NOTICE)(\.\w+)?"
)
#: Keys of a training config that a plain Llama has no use for.
_TRAINING = re.compile(r"auto_map|.*quant.*|.*qat.*|.*ternary.*|group_size|w_bits?|a_bits?", re.I)


@dataclass(frozen=True)
class Item:
    """A tensor of the output: its plain key, its dtype, and where it comes from."""

    name: str
    dtype: str
    source: Stored
    quantized: bool


@dataclass(frozen=True)
class FusePlan:
    """What fusing will do.

    Attributes:
        items: the tensors, in the order of the input.
        config: the content of the new config.json.
        copies: files that are copied as they are.
        dropped: keys of the quantizer's parameters, which are left out.
        removed: keys of config.json that are left out or corrected.
    """

    source: Path
    output: Path
    group_size: int
    items: tuple[Item, ...]
    shards: list[Shard]
    config: dict[str, Any]
    copies: tuple[str, ...]
    dropped: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def input_bytes(self) -> int:
        return sum(item.source.nbytes for item in self.items)


def plan_fuse(
    model: Model, output: Path, group_size: int, *, head_dim: int | None = None
) -> FusePlan:
    """Check everything that can be checked before writing.

    Raises:
        UsageError: for a group size that does not divide a row.
        ModelError: if the weights are not the latents of a plain Llama.
        HarnessError: if the disk has no room.
    """
    folder = Path(model.path)
    stored = read_headers(folder)
    refuse_quantized(scheme_of(model, read_json(model, "config.json") or {}, stored), model.path)
    names = plain_names(t.name for t in stored)
    items = tuple(
        _item(t, names[t.name])
        for t in stored
        if t.name in names and not names[t.name].endswith("rotary_emb.inv_freq")
    )
    quantized = [item for item in items if item.quantized]
    if not quantized:
        raise ModelError(f"{folder}: no linear of a Llama's layers, so there is nothing to fuse")
    for item in quantized:
        group_of(item.source.shape[1], group_size)
    config, removed = _config(model, head_dim)
    for item in quantized:
        _check_latent(item.source)
    shards = plan_shards((i.name, i.dtype, i.source.shape) for i in items)
    _check_room(output, sum(shard.size for shard in shards))
    return FusePlan(
        source=folder,
        output=output,
        group_size=group_size,
        items=items,
        shards=shards,
        config=config,
        copies=_copies(folder),
        dropped=tuple(t.name for t in stored if t.name not in names),
        removed=removed,
    )


def _item(tensor: Stored, name: str) -> Item:
    quantized = is_quantized_name(name)
    matrix = len(tensor.shape) == 2 and tensor.elements > 0
    if quantized and (tensor.dtype not in NUMPY or not matrix):
        raise ModelError(
            f"{tensor.path}: tensor {tensor.name!r} is {tensor.dtype} {list(tensor.shape)}, "
            "no matrix of floats that could be fused"
        )
    return Item(name, "BF16" if tensor.dtype in NUMPY else tensor.dtype, tensor, quantized)


def _check_latent(tensor: Stored) -> None:
    groups = sample_groups(tensor)
    if groups:
        raise ModelError(
            f"{tensor.path}: tensor {tensor.name!r} is fused already (group size {groups[0]}), "
            "and fusing again would shrink every scale; use the checkpoint as it is"
        )


def _config(model: Model, head_dim: int | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The config of the inference form, and the keys that were removed or corrected."""
    before = read_json(model, "config.json") or {}
    family = _family(model, before)
    found = inspect(model, head_dim=head_dim)
    changes = plan_changes(found)
    _check_multipliers(model, before, family, found)
    plain = LLAMA if family.as_llama else family
    gone = family.multipliers - plain.multipliers
    config = {k: v for k, v in before.items() if not _TRAINING.fullmatch(k) and k not in gone}
    if plain is LLAMA:  # neutral ones of any family
        neutral = ("scale_emb", "dim_model_base", "scale_depth")
        config = {k: v for k, v in config.items() if k not in neutral}
    config |= {change.name: change.new for change in changes}
    classes = [name for name in classes_of(before) if name in plain.classes]
    kind = before.get("model_type")
    config["architectures"] = classes[:1] or [plain.classes[0]]
    config["model_type"] = kind if kind in plain.types else plain.types[0]
    config["dtype" if "dtype" in config else "torch_dtype"] = "bfloat16"
    return config, tuple(k for k, v in before.items() if k not in config or config[k] != v)


def _family(model: Model, config: Mapping[str, Any]) -> Family:
    """The family of a training form, which its inference form keeps."""
    fields = language_fields(config)
    family, _ = family_of(fields)
    kind = config.get("model_type")
    if fields.within:
        raise ModelError(
            f"{model.path}: the language model of {kind!r} is a part of a multimodal checkpoint; "
            "fuse takes one of a language model alone"
        )
    if family is None:
        raise ModelError(
            f"{model.path}: model_type {kind!r} is not among the families that are known, so the "
            "numbers that its fused form needs are not either; write model_type and architectures "
            "of the family that it computes"
        )
    if not family.fused:
        raise ModelError(
            f"{model.path}: the ternary quantizer is not defined for {family.name}: it knows "
            "q, k, v and o_proj, gate, up and down_proj, each as a matrix of its own"
        )
    return family


def _check_multipliers(
    model: Model, config: Mapping[str, Any], family: Family, found: Inspection
) -> None:
    sizes = {f.name: f.weights for f in found.fields}
    hidden, layers = sizes.get("hidden_size") or 0, sizes.get("num_hidden_layers") or 0
    active = active_multipliers(config, hidden, layers, sizes.get("head_dim"))
    kept = frozenset() if family.as_llama else family.multipliers
    ignored = {key: value for key, value in active.items() if key not in kept}
    if ignored:
        raise ModelError(
            f"{model.path}: config.json has muP factors or other multipliers that a "
            f"{LLAMA.name if family.as_llama else family.name} ignores "
            f"({', '.join(f'{k} {v}' for k, v in ignored.items())}); fold them in first"
        )


def _copies(folder: Path) -> tuple[str, ...]:
    found = [p for p in sorted(folder.iterdir()) if _COPIED.fullmatch(p.name) and p.is_file()]
    for path in found:
        check_inside(folder, path)
    return tuple(path.name for path in found)


def _check_room(output: Path, needed: int) -> None:
    place = output.absolute()
    while not place.exists():
        place = place.parent
    free = _free(place)
    if free is not None and free < needed:
        raise HarnessError(
            f"{output}: needs {needed / 2**30:.1f} GiB, its disk has {free / 2**30:.1f}; make room"
        )


def _free(place: Path) -> int | None:
    try:
        status = os.statvfs(place)
    except (OSError, AttributeError):
        return None
    return status.f_bavail * status.f_frsize

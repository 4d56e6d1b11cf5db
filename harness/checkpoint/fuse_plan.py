"""Everything that fusing decides before it writes a byte."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.checkpoint.fix import plan_changes
from harness.checkpoint.headers import Stored, check_inside, read_headers
from harness.checkpoint.inspect import active_mup, inspect
from harness.checkpoint.llama import derive
from harness.checkpoint.names import plain_names
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
_MUP = ("scale_emb", "dim_model_base", "scale_depth")


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
    config, removed = _config(model, items, head_dim)
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


def _config(
    model: Model, items: tuple[Item, ...], head_dim: int | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The config of the inference form, and the keys that were removed or corrected."""
    found = inspect(model, head_dim=head_dim)
    changes = plan_changes(found)
    before = read_json(model, "config.json") or {}
    facts = derive([replace(i.source, name=i.name) for i in items])
    active = active_mup(before, facts)
    if active:
        raise ModelError(
            f"{model.path}: config.json has muP factors that a Llama ignores "
            f"({', '.join(f'{k} {v}' for k, v in active.items())}); fold them in first"
        )
    config = {k: v for k, v in before.items() if not _TRAINING.fullmatch(k) and k not in _MUP}
    config |= {change.name: change.new for change in changes}
    config |= {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    config["dtype" if "dtype" in config else "torch_dtype"] = "bfloat16"
    return config, tuple(k for k, v in before.items() if k not in config or config[k] != v)


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

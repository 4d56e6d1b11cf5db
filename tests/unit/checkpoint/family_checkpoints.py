"""Small checkpoints of every family in the table, made from its row."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from checkpoints import Weights, checkpoint

from harness.checkpoint.class_defaults import DEFAULTS
from harness.checkpoint.family import Family, Group
from harness.checkpoint.layout import parse

LAYERS = 2
#: Fields of config.json; each family's are those that its row names.
VALUES = {
    **{"hidden_size": 64, "intermediate_size": 96, "vocab_size": 50, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "head_dim": 16, "q_lora_rank": 20, "kv_lora_rank": 18},
    **{"qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 10, "state_size": 8},
    **{"moe_intermediate_size": 24, "num_experts": 4, "num_local_experts": 4, "conv_kernel": 4},
    **{"n_routed_experts": 4, "moe_num_experts": 4, "n_shared_experts": 2},
    **{"moe_num_shared_experts": 2, "shared_expert_intermediate_size": 40},
}
_FREE = {"half": 8, "rank": 3, "shared": 40, "moe": 24, "?": 1, "*": 2}


def config_of(family: Family, *, flags: bool = False) -> dict[str, Any]:
    """A config.json whose dimensions are those of :func:`weights_of`."""
    kind = family.types[0]
    names = {n for formula in family.sizes.values() for n in re.findall(r"[a-z]\w+", formula)}
    switches = {g.when for g in family.groups() if g.when not in ("", "?")}
    return {
        "architectures": [family.classes[0]],
        "model_type": kind,
        **{name: VALUES[name] for name in sorted(names)},
        "num_hidden_layers": LAYERS,
        **{name: flags or name == "use_qk_norm" for name in sorted(switches)},
        **({family.leading_dense: 1} if family.leading_dense else {}),
        "tie_word_embeddings": bool(DEFAULTS.get(kind, {}).get("tie_word_embeddings")),
        "max_position_embeddings": 128,
        "torch_dtype": "bfloat16",
        "eos_token_id": 2,
    }


def weights_of(family: Family, config: dict[str, Any], root: str = "model.") -> Weights:
    """Ones of every shape that the row asks for; the first layer is dense where it may be."""
    sizes = {letter: _evaluate(formula) for letter, formula in family.sizes.items()}
    sizes = {**_FREE, **sizes}
    made: Weights = {root + family.embedding: _ones("vocab,hidden", sizes)}
    for number in range(LAYERS):
        for group in _groups(family, number):
            if group.when == "?" or (group.when and not config.get(group.when)):
                continue
            for name, dims in group.tensors.items():
                for expert in range(sizes.get("experts", 1)) if "experts.*" in name else [0]:
                    key = name.replace("experts.*", f"experts.{expert}")
                    made[f"{root}{family.stack}.{number}.{key}"] = _ones(dims, sizes)
    if family.norm:
        made[root + family.norm] = _ones("hidden", sizes)
    if not config["tie_word_embeddings"]:
        outer = root.removesuffix("model.")
        made[outer + family.head] = _ones("vocab,hidden", sizes)
    return made


def made(folder: Path, family: Family, **changes: Any) -> Path:
    """A checkpoint of the family, with some fields of config.json changed."""
    config = config_of(family)
    return checkpoint(folder, weights_of(family, config), {**config, **changes})


def _groups(family: Family, number: int) -> list[Group]:
    found: list[Group] = []
    for part in family.layer:
        if isinstance(part, Group):
            found.append(part)
        else:
            found += part.options[min(number, 1)]
    return found


def _evaluate(formula: str) -> int:
    product = 1
    for factor in formula.split("*"):
        product *= sum(VALUES[name] for name in factor.strip("()").split("+"))
    return product


def _ones(dims: str, sizes: dict[str, int]) -> Any:
    shape = []
    for text in dims.split(","):
        terms, constant = parse(text)
        shape.append(constant + sum(times * sizes[letter] for letter, times in terms.items()))
    return np.full(shape, 0x3F80, np.uint16)

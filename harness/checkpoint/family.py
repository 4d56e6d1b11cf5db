"""A family of architectures as data: the tensors of a layer, and what config.json says of them.

A dimension is written in letters, as ``q`` for the rows of all query heads; sums and
multiples are allowed, as ``q+2*k``, and ``*`` is any size. What a letter is in terms of
config.json stands in ``sizes``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Where wrappers of several models keep the fields of their language model.
_NESTED = ("text_config", "llm_config", "language_config", "thinker_config")


@dataclass(frozen=True)
class Group:
    """Tensors of a layer that come together.

    Attributes:
        tensors: dimensions by name; ``experts.*.`` stands for each expert.
        when: empty where every layer has them, ``?`` where it may have them, else the
            field of config.json that says whether it has.
    """

    tensors: Mapping[str, str]
    when: str = ""


@dataclass(frozen=True)
class OneOf:
    """A layer has the tensors of one of these options.

    Attributes:
        dense_first: whether the first option has no experts, and layers in front may have it.
    """

    options: tuple[tuple[Group, ...], ...]
    dense_first: bool = False


@dataclass(frozen=True)
class Family:
    """What is known of a family.

    Attributes:
        name: as it is called in a message.
        types: values of ``model_type``.
        classes: values of ``architectures``; the first is the one that is written.
        layer: the tensors of a layer.
        sizes: a letter in terms of fields of config.json: one field, or a product whose
            factors may be sums in brackets.
        stack: the name before the number of a layer.
        embedding, norm, head: keys outside of the layers; the head's stands before the
            prefix of the others. An empty norm: there is not any.
        outside: further tensors beside the layers.
        multipliers: fields that scale numbers and that its classes obey.
        leading_dense: the field that says how many layers in front have no experts.
        fused: whether the quantizer of ternary training is defined for its layers.
        as_llama: whether it is a Llama where its multipliers are neutral.
        norm_is_one_plus: whether norms multiply by one plus the weight.
        holds: values that fields must have, where they are there, for a layer to be as the row
            says; with another the class builds other tensors, which are not known here.
    """

    name: str
    types: tuple[str, ...]
    classes: tuple[str, ...]
    layer: tuple[Group | OneOf, ...]
    sizes: Mapping[str, str]
    stack: str = "layers"
    embedding: str = "embed_tokens.weight"
    norm: str = "norm.weight"
    head: str = "lm_head.weight"
    outside: Mapping[str, str] = field(default_factory=dict)
    multipliers: frozenset[str] = frozenset()
    leading_dense: str = ""
    fused: bool = False
    as_llama: bool = False
    norm_is_one_plus: bool = False
    holds: Mapping[str, Any] = field(default_factory=dict)

    def groups(self) -> Iterator[Group]:
        """Every group, those of options too."""
        for part in self.layer:
            if isinstance(part, Group):
                yield part
            else:
                for option in part.options:
                    yield from option

    def dimensions(self) -> dict[str, str]:
        """The dimensions of every tensor that a layer may have."""
        return {name: dims for group in self.groups() for name, dims in group.tensors.items()}

    def builds(self, values: Mapping[str, Any]) -> bool:
        """Whether these fields of config.json ask for the tensors of the row."""
        told = {key: values[key] for key in self.holds if values.get(key) is not None}
        return all(value == self.holds[key] for key, value in told.items())

    @property
    def by_heads(self) -> bool:
        """Whether the rows of queries and keys are products with ``head_dim``."""
        return "head_dim" in self.sizes.get("q", "") and "head_dim" in self.sizes.get("k", "")


@dataclass(frozen=True)
class Fields:
    """The fields of the language model, and where they stand.

    Attributes:
        values: of the language model; what only the outer object says is among them.
        outer: the whole config.json.
        within: the key of the nested object, or "".
    """

    values: Mapping[str, Any]
    outer: Mapping[str, Any]
    within: str = ""

    @property
    def tied(self) -> list[bool]:
        """What is said of ``tie_word_embeddings``, at both places of a wrapper."""
        places = [self.outer, self.nested] if self.within else [self.outer]
        stated = [place.get("tie_word_embeddings") for place in places]
        return [bool(value) for value in stated if value is not None]

    @property
    def nested(self) -> Mapping[str, Any]:
        inner = self.outer
        for key in self.within.split("."):
            inner = inner[key] if key else inner
        return inner


def language_fields(config: Mapping[str, Any]) -> Fields:
    """The fields of the language model, which a multimodal wrapper nests."""
    for key in _NESTED:
        inner = config.get(key)
        if not isinstance(inner, Mapping):
            continue
        within = key
        deeper = inner.get("text_config")
        if isinstance(deeper, Mapping):
            inner, within = deeper, f"{key}.text_config"
        outside = {k: v for k, v in config.items() if not isinstance(v, Mapping)}
        # What the outer object says of itself is not said of the inner one.
        for own in ("model_type", "architectures"):
            outside.pop(own, None)
        quantized = config.get("quantization_config")
        more = {"quantization_config": quantized} if quantized is not None else {}
        return Fields({**outside, **more, **inner}, config, within)
    return Fields(config, config)


def classes_of(config: Mapping[str, Any]) -> list[str]:
    """The names under ``architectures``."""
    named = config.get("architectures")
    return [n for n in named if isinstance(n, str)] if isinstance(named, list) else []

"""The families that are known, a row each. Sources: the ``configuration_*.py`` and
``modeling_*.py`` of Transformers 4.57 and 5, and vLLM's ``model_executor/models``.

A test makes a tiny checkpoint of each with Transformers itself and holds it to its row.
"""

from __future__ import annotations

from harness.checkpoint.families_dense import DENSE
from harness.checkpoint.families_other import LATENTS, MAMBA, MIXTURES
from harness.checkpoint.family import Family, Fields, classes_of

FAMILIES = (*DENSE, *MIXTURES, *LATENTS, MAMBA)
LLAMA = FAMILIES[0]

_BY_TYPE = {kind: family for family in FAMILIES for kind in family.types}
_BY_CLASS = {name: family for family in FAMILIES for name in family.classes}
#: The language model of a wrapper whose nested object does not name its type.
_INSIDE = {"llava": "llama", "llava_next": "llama", "gemma3": "gemma3_text", "mistral3": "mistral"}


def family_of(fields: Fields) -> tuple[Family | None, Family | None]:
    """The family by ``model_type``, which Transformers goes by, else by ``architectures``;
    and the family by ``architectures``, which vLLM goes by. None where no row is theirs."""
    values = fields.values
    outer = fields.outer.get("model_type")
    kind = values.get("model_type") or (_INSIDE.get(str(outer)) if fields.within else None)
    named = [_BY_CLASS[name] for name in classes_of(values) if name in _BY_CLASS]
    by_class = named[0] if named else None
    family = (_BY_TYPE.get(kind) if isinstance(kind, str) else None) or by_class
    return family if family is not None and family.builds(values) else None, by_class

"""What every JSON file's model has in common: nothing extra, nothing converted, no NaN."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


class StrictModel(BaseModel):
    """Frozen and strict; fields have the names of the file or their own."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,  # rows of a recording
        populate_by_name=True,
    )


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


#: For fields that are a list in JSON and a tuple here.
FROM_LIST = BeforeValidator(_as_tuple)

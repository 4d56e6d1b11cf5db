"""What every JSON file's model has in common: nothing extra, nothing converted, no NaN."""

from __future__ import annotations

from collections.abc import KeysView
from pathlib import Path
from typing import Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from harness.errors import FormatError


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


class KeyedModel(StrictModel):
    """A strict model that also reads by key, as the JSON object that it is in a file.

    Code of this project reads attributes, which the type checker knows.
    """

    def keys(self) -> KeysView[str]:
        """The names that the file has."""
        return self.model_dump(mode="json").keys()

    def __getitem__(self, name: str) -> Any:
        return self.model_dump(mode="json")[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The value of that name, or ``default`` where the file has none."""
        return self.model_dump(mode="json").get(name, default)


class SparseModel(KeyedModel):
    """A strict model whose unknown fields, those that are None, are left out of the file."""

    @model_serializer(mode="wrap")
    def _without_the_unknown(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = write(self)
        return {name: value for name, value in content.items() if value is not None}


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


#: For fields that are a list in JSON and a tuple here.
FROM_LIST = BeforeValidator(_as_tuple)

_M = TypeVar("_M", bound=BaseModel)


def validated(model: type[_M], document: Any, path: Path, within: str = "") -> _M:
    """A document, or the part of one that ``within`` names, as a model; the first misfit as a
    FormatError naming the field."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        field = (within + "".join(parts)).lstrip(".")
        raise FormatError(str(path), field or None, first["msg"].lower()) from error

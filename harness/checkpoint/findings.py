"""What an inspection says: fields held side by side, and findings beyond them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["equal", "wrong", "missing", "unknown"]
Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Field:
    """One field of config.json beside what the weights say.

    Attributes:
        config: what the file states; None where it is silent.
        weights: what the tensors ask for; None where they cannot tell.
        status: ``unknown`` where weights cannot tell.
        note: why, or what would be consistent.
    """

    name: str
    config: Any
    weights: Any
    status: Status
    note: str = ""

    @property
    def bad(self) -> bool:
        return self.status in ("wrong", "missing")


@dataclass(frozen=True)
class CheckpointIssue:
    """Something beyond a single field: what was seen, why it matters, how to mend it.

    Attributes:
        about: with ``shapes`` or ``heads`` no config can be derived, with ``quantized`` no
            weight can be read as it is.
    """

    severity: Severity
    what: str
    remedy: str = ""
    about: Literal["shapes", "heads", "quantized", ""] = ""


@dataclass(frozen=True)
class Inspection:
    """Everything that ``harness checkpoint inspect`` found.

    Attributes:
        folder: the checkpoint.
        family: the ``model_type`` of the language model, or what else config.json names.
        tensors, parameters, bytes: of the weights, without containers.
        kv_bytes_per_token: of a KV cache in the type that the model computes in; None where
            the family is not known, or has none.
        dtypes: bytes of weights by storage dtype.
        fields: config.json beside the weights.
        findings: what else is wrong, doubtful or good to know.
        copied_from: the known model whose config.json this is, where it is another's.
        same_shapes_as: the known model that has these shapes.
        known_as: the family whose row was held against the tensors; None on the generic path.
        quantization: how the weights are quantized; None where they are not.
        checked: what was held against what.
        not_checked: what was not.
        within: the key of config.json that holds the language model's fields, or "".
    """

    folder: str
    family: str
    tensors: int
    parameters: int
    bytes: int
    kv_bytes_per_token: int | None
    dtypes: dict[str, int]
    fields: tuple[Field, ...]
    findings: tuple[CheckpointIssue, ...]
    copied_from: str | None
    same_shapes_as: str | None
    known_as: str | None = None
    quantization: str | None = None
    checked: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()
    within: str = ""

    @property
    def wrong(self) -> tuple[Field, ...]:
        """Fields that contradict the weights, or are not there."""
        return tuple(f for f in self.fields if f.bad)

    @property
    def ok(self) -> bool:
        return not self.wrong and all(f.severity != "error" for f in self.findings)

    def as_json(self) -> dict[str, Any]:
        """The content as plain JSON values."""
        return {"schema": "harness.inspection/1", "ok": self.ok, **asdict(self)}

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
        about: with ``shapes`` or ``heads`` no config can be derived.
    """

    severity: Severity
    what: str
    remedy: str = ""
    about: Literal["shapes", "heads", ""] = ""


@dataclass(frozen=True)
class Inspection:
    """Everything that ``harness checkpoint inspect`` found.

    Attributes:
        folder: the checkpoint.
        family: ``llama``, or what else it may be.
        tensors, parameters, bytes: of the weights, without containers.
        kv_bytes_per_token: of a KV cache in the weights' dtype; None outside the family.
        dtypes: bytes of weights by storage dtype.
        fields: config.json beside the weights.
        findings: what else is wrong, doubtful or good to know.
        copied_from: the known model whose config.json this is, where it is another's.
        same_shapes_as: the known model that has these shapes.
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

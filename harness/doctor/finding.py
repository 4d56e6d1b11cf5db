"""What the doctor finds, and the whole of a diagnosis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

SCHEMA = "harness.doctor/1"

#: ``error``: the device will not run, or not as what it is called. ``warning``:
#: it runs, and something about it deserves to be known. ``harmless``: a message
#: that looks bad and means nothing.
Severity = Literal["error", "warning", "harmless"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "harmless")


@dataclass(frozen=True)
class Finding:
    """One thing that stands out on a host.

    Attributes:
        code: a stable name, as ``visible-devices``.
        seen: what was seen, on this host.
        why: why it matters.
        remedy: the exact command that mends it; for ``harmless``, nothing to do.
        sources: where others met it, as ``vllm-ascend #9490``.
    """

    code: str
    severity: Severity
    seen: str
    why: str
    remedy: str
    sources: tuple[str, ...] = ()

    #: For the alignment, which reads findings back from JSON; pydantic may be absent.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"strict": False, "extra": "forbid"}


@dataclass(frozen=True)
class Diagnosis:
    """Everything that an examination of a host gave.

    Attributes:
        device: the device that was asked about; None for the host in general.
        facts: by section and name, as text; no path of a home, no host name.
        findings: errors first.
    """

    device: str | None
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that keep the device from running."""
        return tuple(f for f in self.findings if f.severity == "error")

    @property
    def status(self) -> int:
        """What the command ends with: 1 with an error, else 0."""
        return 1 if self.errors else 0

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "schema": SCHEMA,
            "device": self.device,
            "ready": not self.errors,
            "findings": [asdict(f) for f in self.findings],
            "facts": {section: dict(rows) for section, rows in self.facts.items()},
        }

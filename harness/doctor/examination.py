"""What the probes share: the host, the device asked about, and what is known so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.doctor.finding import Finding
from harness.doctor.host import Host
from harness.doctor.needs import NEEDS, Needs
from harness.doctor.npu_smi import Chip
from harness.doctor.remedies import finding


@dataclass
class Examination:
    """One examination of a host, in the making.

    Attributes:
        device: what was asked about; None to examine the host alone.
        limit_s: how long a child process may take, in seconds.
        chips: of npu-smi; nodes: names of /dev/davinciN; pci: Ascend devices
            on the PCI bus.
        versions: of installed distributions, by import name.
        inventory: what else the child process said of the installed packages.
        cann: its version, where it is known.
    """

    host: Host
    device: str | None
    limit_s: float
    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    chips: tuple[Chip, ...] = ()
    nodes: tuple[str, ...] = ()
    pci: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    inventory: dict[str, Any] = field(default_factory=dict)
    cann: str | None = None
    driver: str | None = None

    def fact(self, section: str, name: str, value: object) -> None:
        """Keep a fact for the report; None is left out."""
        if value is not None:
            self.facts.setdefault(section, {})[name] = str(value)

    def find(self, code: str, seen: str, **values: str) -> None:
        """Add a finding; of each code only the first is kept."""
        if not self.has(code):
            self.findings.append(finding(code, seen, **values))

    def add(self, found: Finding) -> None:
        """Add a finding made elsewhere; of each code only the first is kept."""
        if not self.has(found.code):
            self.findings.append(found)

    def has(self, *codes: str) -> bool:
        """Whether one of these was found."""
        return any(f.code in codes for f in self.findings)

    @property
    def needs(self) -> Needs:
        """What the device needs; without a device, what the host seems made for."""
        if self.device is not None:
            return NEEDS[self.device]
        if self.has_card or {"torch_npu", "vllm_ascend"} & set(self.versions):
            return Needs("npu")
        return Needs("cpu") if "torch" in self.versions else Needs()

    @property
    def has_card(self) -> bool:
        """Whether anything shows an Ascend card."""
        return bool(self.chips or self.nodes or self.pci)

    @property
    def for_npu(self) -> bool:
        """Whether the Ascend side matters."""
        return self.needs.backend == "npu"

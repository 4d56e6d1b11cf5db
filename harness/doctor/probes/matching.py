"""Do the versions belong together?"""

from __future__ import annotations

from harness.doctor.examination import Examination
from harness.doctor.versions import (
    Release,
    before,
    fits,
    is_development,
    release_of,
    stacks_with,
    table_of,
)

_TRANSFORMERS = "4.56"


def examine(exam: Examination) -> None:
    """Against the table, and against each other."""
    transformers = exam.versions.get("transformers")
    wanted = "transformers" in exam.needs.packages
    if wanted and transformers and before(transformers, _TRANSFORMERS):
        exam.find("versions-transformers", f"transformers {transformers}")
    if not exam.for_npu:
        _pinned_torch(exam)
        return
    _torch(exam)
    _vllm(exam)
    ascend = exam.versions.get("vllm_ascend")
    known = None if ascend is None else table_of(ascend)
    if known is not None:
        _release(exam, known)
    elif ascend is not None:
        exam.fact("software", "combination", f"vLLM-Ascend {ascend} is not in the table")
    else:
        _without_vllm(exam)


def _pinned_torch(exam: Examination) -> None:
    """vLLM's wheels are compiled against the torch that they ask for."""
    pin, torch = exam.inventory.get("torch_pin"), exam.versions.get("torch")
    if exam.needs.platform is None or pin is None or torch is None:
        return
    if torch.partition("+")[0] != pin.partition("+")[0]:
        exam.find(
            "versions-torch",
            f"torch {torch} is installed, vLLM {exam.versions['vllm']} is built for {pin}",
            align=f"pip install torch=={pin}",
        )


def _torch(exam: Examination) -> None:
    torch, npu = exam.versions.get("torch"), exam.versions.get("torch_npu")
    if torch and npu and release_of(torch) != release_of(npu):
        exam.find(
            "versions-torch",
            f"torch {torch} with torch_npu {npu}",
            align=f"pip install --no-deps torch=={release_of(npu)} # and vLLM always --no-deps",
        )


def _vllm(exam: Examination) -> None:
    vllm, ascend = exam.versions.get("vllm"), exam.versions.get("vllm_ascend")
    if vllm is None or ascend is None:
        return
    said = exam.host.variable("VLLM_VERSION")
    if is_development(vllm) and not said:
        return  # reported as vllm-version: its number says nothing
    if release_of(said or vllm) != release_of(ascend):
        shown = f"VLLM_VERSION={said}" if said else f"vllm {vllm}"
        exam.find(
            "versions-vllm",
            f"{shown} with vllm-ascend {ascend}",
            align=f"pip install --no-deps vllm=={release_of(ascend)}",
        )


def _release(exam: Examination, known: Release) -> None:
    name = f"vLLM-Ascend {exam.versions['vllm_ascend']}"
    if known.python is not None:
        low, high = known.python
        here = exam.host.python_version
        if before(here, low) or not before(here, high):
            exam.find(
                "versions-python",
                f"Python {here}; {name} wants {low} up to, but not, {high}",
                align=f"python{low} -m venv .venv # and install into it",
            )
    torch, npu = exam.versions.get("torch"), exam.versions.get("torch_npu")
    torches = sorted({stack.torch for stack in known.stacks})
    if torch and release_of(torch) not in torches:
        exam.find(
            "versions-torch",
            f"torch {torch}; {name} wants {' or '.join(torches)}",
            align=f"pip install --no-deps torch=={torches[0]} # and torch_npu of the same",
        )
    elif npu:
        _cann(exam, known, name, npu)


def _cann(exam: Examination, known: Release, name: str, npu: str) -> None:
    stacks = [s for s in known.stacks if fits(s, npu)]
    wanted = " or ".join(
        f"CANN {s.cann} with torch_npu {'/'.join(s.torch_npu)}" for s in known.stacks
    )
    if exam.cann is None:
        return  # reported as cann-environment
    if not any(s.cann == exam.cann for s in stacks):
        here = next((s for s in known.stacks if s.cann == exam.cann), None)
        align = (
            f"pip install --no-deps torch_npu=={here.torch_npu[-1].rstrip('*')}"
            if here is not None
            else f"install CANN {(stacks or known.stacks)[0].cann} and NNAL of the same version, "
            "then source its set_env.sh"
        )
        exam.find(
            "versions-cann",
            f"CANN {exam.cann} with torch_npu {npu}; {name} wants {wanted}",
            align=align,
        )
        return
    triton = exam.versions.get("triton_ascend")
    right = next((s.triton_ascend for s in stacks if s.cann == exam.cann), None)
    if triton and right and release_of(triton) != right:
        exam.find(
            "versions-triton",
            f"triton-ascend {triton}; with CANN {exam.cann} belongs {right}",
            align=f"pip install --no-deps triton-ascend=={right}",
        )


def _without_vllm(exam: Examination) -> None:
    npu = exam.versions.get("torch_npu")
    stacks = stacks_with(npu) if npu else ()
    if exam.cann and stacks and exam.cann not in {s.cann for s in stacks}:
        cann = " or ".join(dict.fromkeys(s.cann for s in stacks))
        exam.find(
            "versions-cann",
            f"CANN {exam.cann} with torch_npu {npu}, which goes with CANN {cann}",
            align=f"install CANN {stacks[0].cann}, then source its set_env.sh",
        )

"""Versions that belong together on an Ascend host, as data, and reading versions."""

from __future__ import annotations

import re
from dataclasses import dataclass

_RELEASE = re.compile(r"^(\d+)\.(\d+)\.(\d+)")
_RELEASED = re.compile(r"^\d+\.\d+\.\d+(?:\.?rc\d+|\.post\d+)?(?:\+.*)?$")


@dataclass(frozen=True)
class Stack:
    """One combination that was released together.

    ``torch_npu`` holds versions as they are, or with a star for any suffix.
    """

    cann: str
    torch: str
    torch_npu: tuple[str, ...]
    triton_ascend: str | None = None


@dataclass(frozen=True)
class Release:
    """Versions of vLLM-Ascend, the Python that they have wheels for (from, up
    to but without), and the combinations that they run on. vLLM is of the same X.Y.Z.
    """

    versions: tuple[str, ...]
    stacks: tuple[Stack, ...]
    python: tuple[str, str] | None = None


#: From the installation pages of vLLM-Ascend's releases.
RELEASES: tuple[Release, ...] = (
    Release(
        ("0.13.0",),
        (Stack("8.5.0", "2.8.0", ("2.8.0", "2.8.0.post2")),),
        ("3.10", "3.12"),
    ),
    Release(
        ("0.18.0",),
        (
            Stack("8.5.1", "2.9.0", ("2.9.0", "2.9.0.post1"), "3.2.0"),
            Stack("9.0.0", "2.9.0", ("2.9.0.post2",), "3.2.1"),
        ),
        ("3.10", "3.12"),
    ),
    Release(
        ("0.20.2", "0.21.0", "0.22.0", "0.22.1"),
        (Stack("9.0.0", "2.10.0", ("2.10.0*",)),),
    ),
    Release(
        ("0.23.0",),
        (Stack("9.1.0", "2.10.0", ("2.10.0.post4",), "3.2.2"),),
    ),
)


def release_of(version: str | None) -> str | None:
    """``2.9.0`` of ``2.9.0.post1+cpu``; None for what has no X.Y.Z."""
    found = _RELEASE.match(version or "")
    return None if found is None else ".".join(found.groups())


def is_development(version: str) -> bool:
    """Whether a version is a build between releases, as ``0.1.dev1+gabc``."""
    return not _RELEASED.match(version)


def before(version: str, other: str) -> bool:
    """Whether ``version`` is earlier, by its numbers: 3.9 is before 3.10."""
    return numbers(version) < numbers(other)


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found.group().split("."))) if found else ()


def table_of(vllm_ascend: str) -> Release | None:
    """What is known of a version of vLLM-Ascend; None for nothing."""
    name = release_of(vllm_ascend)
    return next((r for r in RELEASES if name in r.versions), None)


def fits(stack: Stack, torch_npu: str) -> bool:
    """Whether a version of torch_npu belongs to a combination."""
    public = torch_npu.partition("+")[0]
    return any(
        public.startswith(v[:-1]) if v.endswith("*") else public == v for v in stack.torch_npu
    )


def stacks_with(torch_npu: str) -> tuple[Stack, ...]:
    """Every known combination with this version of torch_npu."""
    return tuple(s for r in RELEASES for s in r.stacks if fits(s, torch_npu))


def pins(missing: tuple[str, ...], vllm_ascend: str | None, cann: str | None) -> str:
    """``pip`` requirements of what is missing on an Ascend host.

    Of the release that is installed, else of the one that the first port used,
    and of the combination that goes with the host's CANN, where one does.
    """
    first_port = next(r for r in RELEASES if "0.18.0" in r.versions)
    release = table_of(vllm_ascend or "") or first_port
    stack = next((s for s in release.stacks if s.cann == cann), release.stacks[0])
    name = release_of(vllm_ascend) or release.versions[0]
    exact = {
        "torch": stack.torch,
        "torch_npu": stack.torch_npu[-1].rstrip("*"),
        "vllm": name,
        "vllm_ascend": name,
    }
    return " ".join(m.replace("_", "-") + (f"=={exact[m]}" if m in exact else "") for m in missing)

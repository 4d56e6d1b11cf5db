"""The devices of this version: one entry each, with the properties of that kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from harness.errors import UsageError

Family = Literal["transformers", "vllm", "server", "fake"]


@dataclass(frozen=True)
class DeviceKind:
    """What a device can do, known before its model or engine is loaded.

    Attributes:
        name: as in ``--device``.
        family: which engine it runs, and so who makes it.
        backend: what torch computes on; None where the harness loads no torch.
        reference: whether it makes a missing baseline by itself.
        examined: whether the doctor examines its host in full before a run. Such
            an engine takes minutes to start, and fails with messages that name no
            cause. Elsewhere the doctor starts no process: the device itself
            reports what is missing.
        engine_args: the keys of ``--engine-arg``; None where the engine decides.
    """

    name: str
    family: Family
    backend: Literal["cpu", "cuda", "npu"] | None = None
    reference: bool = False
    examined: bool = False
    engine_args: tuple[str, ...] | None = None

    @property
    def batching(self) -> bool:
        """Whether it can run several requests at a time."""
        return self.family == "vllm"

    @property
    def needs_model(self) -> bool:
        """Whether it runs a checkpoint; the fakes have none."""
        return self.family != "fake"

    @property
    def whole_rows(self) -> bool:
        """Whether it gives every logit of a row; a server gives its largest only."""
        return self.family != "server"

    @property
    def remote(self) -> bool:
        """Whether it is reached at a URL, so that its engine may belong to somebody else."""
        return self.family == "server"

    @property
    def one_pass(self) -> bool:
        """Whether it computes all rows of given tokens in one pass; other
        engines make a request of each token."""
        return self.family == "transformers"

    @property
    def traceable(self) -> bool:
        """Whether the modules of its model can be looked into."""
        return self.family in ("transformers", "vllm")

    def check_batch_size(self, batch_size: int, option: str = "--batch-size") -> None:
        """Check that it can run this many requests at a time.

        Args:
            option: the option to name in the message.

        Raises:
            UsageError: if it cannot.
        """
        if batch_size < 1:
            raise UsageError(f"{option} must be at least 1, not {batch_size}")
        if batch_size > 1 and not self.batching:
            able = names(kind for kind in KINDS if kind.batching)
            raise UsageError(
                f"{self.name} runs one request at a time; {option} {batch_size} is for {able}"
            )

    def check_engine_args(self, args: Mapping[str, str]) -> None:
        """Check that it knows these options.

        Raises:
            UsageError: naming an unknown option and the known ones.
        """
        unknown = sorted(set(args) - set(self.engine_args or args))
        if unknown:
            known = ", ".join(self.engine_args or ())
            raise UsageError(f"{self.name} has no --engine-arg {unknown[0]}; it knows {known}")


_HF_ARGS = ("attention", "matmul", "qat_group_size", "threads", "unused", "weights")
_FAKE_ARGS = ("seed", "fault", "delay")

#: In the order of help texts. The fakes have no model: they are for tests.
KINDS = (
    DeviceKind("hf-cpu", "transformers", "cpu", reference=True, engine_args=_HF_ARGS),
    DeviceKind("hf-gpu", "transformers", "cuda", engine_args=_HF_ARGS),
    DeviceKind("hf-npu", "transformers", "npu", examined=True, engine_args=_HF_ARGS),
    DeviceKind("npu", "vllm", "npu", examined=True),
    DeviceKind("vllm-cpu", "vllm", "cpu"),
    DeviceKind("vllm-gpu", "vllm", "cuda"),
    DeviceKind("server", "server"),
    DeviceKind("fake", "fake", engine_args=_FAKE_ARGS),
    DeviceKind("fake-reference", "fake", reference=True, engine_args=_FAKE_ARGS),
)
_BY_NAME = {kind.name: kind for kind in KINDS}
#: What each family is called in a help text.
_TITLES: Mapping[Family, str] = {"transformers": "Transformers", "vllm": "vLLM"}


def kind_of(name: str) -> DeviceKind:
    """The entry of a device.

    Raises:
        UsageError: for an unknown device, naming the known ones.
    """
    if name not in _BY_NAME:
        raise UsageError(f"unknown device {name!r}; this version has {names(KINDS)}")
    return _BY_NAME[name]


def names(kinds: Iterable[DeviceKind]) -> str:
    """The names of some devices, for a message."""
    return ", ".join(kind.name for kind in kinds)


def backends_of(family: Family) -> dict[str, str]:
    """The devices of a family, each with what torch computes on there."""
    return {k.name: k.backend for k in KINDS if k.family == family and k.backend is not None}


def backend_of(name: str) -> str | None:
    """The torch backend of a device that a recording names; None if it is unknown."""
    return _BY_NAME[name].backend if name in _BY_NAME else None


def reference_for(kind: DeviceKind) -> str:
    """The device that makes the baseline for one of this kind: a fake's is a fake."""
    return next(k.name for k in KINDS if k.reference and k.needs_model == kind.needs_model)


#: The device that makes the baselines of models.
REFERENCE_DEVICE = next(kind.name for kind in KINDS if kind.reference and kind.needs_model)


def devices_help() -> str:
    """Every family with its devices, for the help text of ``--device``."""
    engines = [
        f"{title}: {names(k for k in KINDS if k.family == family)}"
        for family, title in _TITLES.items()
    ]
    return ". ".join([*engines, "server: OpenAI-compatible", "fake: no model"]) + "."

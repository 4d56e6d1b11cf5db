"""From a specification to a device that is ready to open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.devices.base import Device
from harness.devices.kinds import Family
from harness.devices.ranks import Ranks
from harness.devices.spec import DeviceSpec
from harness.errors import UsageError
from harness.model.subject import Subject, max_positions, subject_of, unknown_subject
from harness.process.progress import Progress, Silent

if TYPE_CHECKING:
    from harness.model.model import Model

    _Maker = Callable[[Model, str | None], Device]

#: Text of the trial request to a server: many continuations fit, so sampling shows.
_TRIAL = "Once upon a time there was a small town by the sea. One day"


@dataclass(frozen=True)
class Target:
    """A device with the model that it will run.

    ``slug`` names the model's folder under ``baselines/``; ``dtype`` is the
    one that the device will compute in.
    """

    device: Device
    subject: Subject
    slug: str
    dtype: str


def open_target(
    spec: DeviceSpec, *, subject: Subject | None = None, progress: Progress | None = None
) -> Target:
    """Find the model, fingerprint it, and make the device (not yet opened).

    Args:
        subject: the same model's, where it was fingerprinted before.

    Raises:
        UsageError: for an option that the device does not know.
        ModelError, MissingDependency: if the model cannot be loaded or converted.
    """
    return _MAKERS[spec.kind.family](spec, subject, progress or Silent())


def _fake_target(spec: DeviceSpec, subject: Subject | None, progress: Progress) -> Target:
    from harness.devices.fake import FakeDevice, fake_subject

    del progress  # a fake has no model
    fake = FakeDevice.from_args(spec.device, spec.dtype or "bfloat16", spec.engine_args)
    return Target(fake, subject or fake_subject(), "fake", fake.dtype)


def _hf_target(spec: DeviceSpec, subject: Subject | None, progress: Progress) -> Target:
    from harness.devices.hf.device import HfDevice
    from harness.devices.hf.load import Taken, is_streamed
    from harness.devices.hf.loading import unused_prefixes
    from harness.devices.hf.qat import parse_group_size

    spec.kind.check_engine_args(spec.engine_args)
    rest = dict(spec.engine_args)
    threads = rest.pop("threads", None)
    if threads is not None and not threads.isdecimal():
        raise UsageError(f"--engine-arg threads={threads} is not a number")
    count = None if threads is None else int(threads)
    taken = Taken(
        qat_group_size=parse_group_size(rest.pop("qat_group_size", None)),
        unused=unused_prefixes(rest.pop("unused", None)),
        streamed=is_streamed(rest.pop("weights", None)),
    )
    return _local_target(
        spec,
        lambda model, dtype: HfDevice(
            spec.device,
            model,
            dtype=dtype,
            threads=count,
            taken=taken,
            **rest,
        ),
        subject,
        progress,
    )


def _vllm_target(spec: DeviceSpec, subject: Subject | None, progress: Progress) -> Target:
    from harness.devices.vllm.device import VllmDevice
    from harness.devices.vllm.refused import check_ranks

    check_ranks(spec.device, Ranks.of(spec.engine_args))  # before a model is looked for
    if "batch_size" in spec.engine_args:
        raise UsageError(f"{spec.device}: give --batch-size instead of --engine-arg batch_size")
    return _local_target(
        spec,
        lambda model, dtype: VllmDevice(
            spec.device,
            model,
            dtype=dtype,
            batch_size=spec.batch_size,
            engine_args=spec.engine_args,
            progress=progress,
        ),
        subject,
        progress,
    )


def _local_target(
    spec: DeviceSpec, make: _Maker, subject: Subject | None, progress: Progress
) -> Target:
    """A device that loads the checkpoint itself."""
    from harness.model.dtype import checkpoint_dtype
    from harness.model.find import find_model

    trust = spec.trust_remote_code
    model = find_model(spec.model, trust_remote_code=trust, progress=progress.note)
    device = make(model, spec.dtype)
    subject = subject or subject_of(model, progress.note)
    return Target(device, subject, model.slug, spec.dtype or checkpoint_dtype(model))


def _server_target(spec: DeviceSpec, subject: Subject | None, progress: Progress) -> Target:
    """A server of our own runs the checkpoint; the model of a running one is unknown."""
    from harness.devices.server.device import ServerDevice
    from harness.devices.server.options import server_options
    from harness.model.dtype import check_dtype, checkpoint_dtype
    from harness.model.find import find_model

    own = spec.server_url is None
    server_options(spec.engine_args, own_server=own)  # before a model is looked for
    check_dtype(spec.dtype)
    trust = spec.trust_remote_code
    model = find_model(spec.model, trust_remote_code=trust, progress=progress.note, weights=own)
    if subject is None:
        subject = subject_of(model, progress.note) if own else unknown_subject(model)
    computed = spec.dtype or checkpoint_dtype(model)
    device = ServerDevice(
        model,
        dtype=computed,
        trial=subject.tokenizer.encode(_TRIAL),
        vocab_size=subject.facts.vocab_size,
        max_positions=max_positions(model),
        url=spec.server_url,
        engine_args=spec.engine_args,
        progress=progress,
    )
    return Target(device, subject, model.slug, computed)


_MAKERS: Mapping[Family, Callable[[DeviceSpec, Subject | None, Progress], Target]] = {
    "transformers": _hf_target,
    "vllm": _vllm_target,
    "server": _server_target,
    "fake": _fake_target,
}

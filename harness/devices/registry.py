"""From the name of a device to one that is ready to open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.devices.base import Device
from harness.errors import UsageError
from harness.model.subject import Subject, max_positions, subject_of, unknown_subject
from harness.process.progress import Progress, Silent

if TYPE_CHECKING:
    from harness.model.model import Model

    _Maker = Callable[[Model, str | None], Device]

#: Devices of this version. The fakes have no model: they are for tests.
DEVICES = (
    *("hf-cpu", "hf-gpu", "hf-npu"),
    *("npu", "vllm-cpu", "vllm-gpu"),
    "server",
    *("fake", "fake-reference"),
)
#: Those that make a missing baseline by themselves.
REFERENCE_DEVICES = ("hf-cpu", "fake-reference")

_HF_ARGS = ("attention", "matmul", "qat_group_size", "threads")
_VLLM = ("npu", "vllm-cpu", "vllm-gpu")
#: Text to try a server with: much may follow it, so that sampling shows.
_TRIAL = "Once upon a time there was a small town by the sea. One day"
#: Devices that can run several requests at a time.
BATCHING = _VLLM


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


def is_fake(name: str) -> bool:
    """Whether a device is a stand-in without a model."""
    return name in ("fake", "fake-reference")


def open_target(
    name: str,
    model: str,
    *,
    dtype: str | None = None,
    batch_size: int = 1,
    engine_args: Mapping[str, str] | None = None,
    trust_remote_code: bool = False,
    server_url: str | None = None,
    subject: Subject | None = None,
    progress: Progress | None = None,
) -> Target:
    """Find the model, fingerprint it, and make the device (not yet opened).

    Args:
        name: one of DEVICES.
        dtype: to compute in; None takes the checkpoint's.
        batch_size: how many requests run at a time.
        engine_args: the device's own options, as text.
        server_url: of a running server, for the device ``server``; without it
            one is started.
        subject: the same model's, where it was fingerprinted before.

    Raises:
        UsageError: for an unknown device or option.
        ModelError, MissingDependency: if the model cannot be had.
    """
    check_batch_size(name, batch_size)
    engine_args = engine_args or {}
    progress = progress or Silent()
    if server_url is not None and name != "server":
        raise UsageError(f"--server-url goes with --device server, not with {name}")
    if is_fake(name):
        from harness.devices.fake import FakeDevice, fake_subject

        fake = FakeDevice.from_args(name, dtype or "bfloat16", engine_args)
        return Target(fake, subject or fake_subject(), "fake", fake.dtype)
    if name not in DEVICES:
        raise UsageError(f"no device {name!r} in this version; there are {', '.join(DEVICES)}")
    from harness.model.dtype import checkpoint_dtype
    from harness.model.find import find_model

    if name == "server":
        return _server_target(
            model, dtype, engine_args, trust_remote_code, server_url, subject, progress
        )
    if name in _VLLM:
        make = _vllm_maker(name, batch_size, engine_args)
    else:
        make = _hf_maker(name, engine_args)
    found = find_model(model, trust_remote_code=trust_remote_code, progress=progress.note)
    device = make(found, dtype)
    subject = subject or subject_of(found, progress.note)
    return Target(device, subject, found.slug, dtype or checkpoint_dtype(found))


def check_batch_size(name: str, batch_size: int, option: str = "--batch-size") -> None:
    """See that a device can run so many requests at a time.

    Args:
        option: what asks for it, for the message.

    Raises:
        UsageError: if it cannot.
    """
    if batch_size < 1:
        raise UsageError(f"{option} must be at least 1, not {batch_size}")
    if batch_size > 1 and name not in BATCHING:
        raise UsageError(
            f"{name} runs one request at a time; {option} {batch_size} is for {', '.join(BATCHING)}"
        )


def parse_engine_args(pairs: list[str]) -> dict[str, str]:
    """``["K=V", …]`` as a mapping.

    Raises:
        UsageError: for a pair without ``=``, or a key given twice.
    """
    result: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--engine-arg {pair!r} is not of the form K=V")
        if key in result:
            raise UsageError(f"--engine-arg {key} is given twice")
        result[key] = value
    return result


def _hf_maker(name: str, args: Mapping[str, str]) -> _Maker:
    from harness.devices.hf.device import HfDevice
    from harness.devices.hf.qat import parse_group_size

    unknown = sorted(set(args) - set(_HF_ARGS))
    if unknown:
        raise UsageError(f"{name} has no --engine-arg {unknown[0]}; it knows {', '.join(_HF_ARGS)}")
    threads = args.get("threads")
    if threads is not None and not threads.isdecimal():
        raise UsageError(f"--engine-arg threads={threads} is not a number")
    count = None if threads is None else int(threads)
    group = parse_group_size(args.get("qat_group_size"))
    rest = {k: v for k, v in args.items() if k not in ("threads", "qat_group_size")}
    return lambda model, dtype: HfDevice(
        name, model, dtype=dtype, threads=count, qat_group_size=group, **rest
    )


def _vllm_maker(name: str, batch_size: int, args: Mapping[str, str]) -> _Maker:
    from harness.devices.vllm.device import VllmDevice

    if "batch_size" in args:
        raise UsageError(f"{name}: give --batch-size instead of --engine-arg batch_size")
    return lambda model, dtype: VllmDevice(
        name, model, dtype=dtype, batch_size=batch_size, engine_args=args
    )


def _server_target(
    name: str,
    dtype: str | None,
    args: Mapping[str, str],
    trust_remote_code: bool,
    url: str | None,
    subject: Subject | None,
    progress: Progress,
) -> Target:
    """A server of our own runs the checkpoint; what a running one runs is unknown."""
    from harness.devices.server.device import ServerDevice
    from harness.devices.server.http import base_url
    from harness.devices.server.options import server_options
    from harness.model.dtype import check_dtype, checkpoint_dtype
    from harness.model.find import find_model

    server_options(args, own_server=url is None)  # before a model is looked for
    url = None if url is None else base_url(url)
    check_dtype(dtype)
    model = find_model(
        name, trust_remote_code=trust_remote_code, progress=progress.note, weights=url is None
    )
    if subject is None:
        subject = subject_of(model, progress.note) if url is None else unknown_subject(model)
    computed = dtype or checkpoint_dtype(model)
    device = ServerDevice(
        model,
        dtype=computed,
        trial=subject.tokenizer.encode(_TRIAL),
        vocab_size=subject.facts.vocab_size,
        max_positions=max_positions(model),
        url=url,
        engine_args=args,
        progress=progress,
    )
    return Target(device, subject, model.slug, computed)

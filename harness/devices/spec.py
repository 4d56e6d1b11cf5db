"""Which device, with which model and which settings, as one value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from harness.devices.kinds import DeviceKind, kind_of
from harness.devices.secrets import refuse_secrets
from harness.errors import UsageError
from harness.statistics.detail import DETAILS
from harness.statistics.rows import NORMAL, Detail

#: Engine arguments that say what the model is.
_OF_THE_MODEL = frozenset({"unused"})


@dataclass(frozen=True)
class DeviceSpec:
    """A device as the user specified it, from the options of any command.

    Attributes:
        device: a name in ``harness.devices.kinds``.
        model: ``smollm2``, ``gemma3-270m``, a directory, or a Hub name.
        dtype: to compute in; None takes the checkpoint's.
        batch_size: how many requests run at a time.
        engine_args: the device's own options, as text; ``open_target`` checks them.
        server_url: of a running server, for a remote device; without it one is started.
        trust_remote_code: whether code that the checkpoint brings may run.

    Raises:
        UsageError: for an unknown device, or a setting that it does not support.
    """

    device: str
    model: str = "smollm2"
    dtype: str | None = None
    batch_size: int = 1
    engine_args: Mapping[str, str] = field(default_factory=dict, hash=False)
    server_url: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        self.kind.check_batch_size(self.batch_size)
        refuse_secrets(self.engine_args)
        if self.server_url is not None:
            if not self.kind.remote:
                raise UsageError(f"--server-url goes with --device=server, not with {self.device}")
            from harness.devices.server.http import base_url

            base_url(self.server_url)

    @property
    def kind(self) -> DeviceKind:
        """What kind of device it is."""
        return kind_of(self.device)

    def plain(self, device: str | None = None) -> DeviceSpec:
        """The same model and dtype on a device with default settings, this one or another.

        An argument that says what the model is, and not how it is run, stays.
        """
        chosen = kind_of(device or self.device)
        known = _OF_THE_MODEL & set(chosen.engine_args or ())
        return DeviceSpec(
            chosen.name,
            self.model,
            self.dtype,
            engine_args={k: v for k, v in self.engine_args.items() if k in known},
            trust_remote_code=self.trust_remote_code,
        )

    def options(self) -> list[str]:
        """As options of the command ``harness``."""
        return [part for pair in self._pairs() for part in pair if part is not None]

    def pytest_options(self) -> list[str]:
        """As options of ``pytest``, which needs the = sign for paths outside the project."""
        return [name if value is None else f"{name}={value}" for name, value in self._pairs()]

    def _pairs(self) -> Iterable[tuple[str, str | None]]:
        """Every option that is not its default, with its value; a flag has none."""
        yield "--device", self.device
        yield "--model", self.model
        if self.dtype is not None:
            yield "--dtype", self.dtype
        if self.server_url is not None:
            yield "--server-url", self.server_url
        if self.batch_size > 1:
            yield "--batch-size", str(self.batch_size)
        for key, value in self.engine_args.items():
            yield "--engine-arg", f"{key}={value}"
        if self.trust_remote_code:
            yield "--trust-remote-code", None


def parse_detail(name: str, kind: DeviceKind | None) -> Detail:
    """``--detail`` as what is kept of a row.

    Args:
        kind: of the device; None for one of the user's own.

    Raises:
        UsageError: for a name that is not one of ``DETAILS``, or of a device without whole rows.
    """
    if name not in DETAILS:
        raise UsageError(f"--detail {name!r} is not one of {', '.join(DETAILS)}")
    if DETAILS[name] != NORMAL and kind is not None and not kind.whole_rows:
        raise UsageError(
            f"--detail {name}: {kind.name} gives its largest log-probabilities only, and keeps "
            "them all; leave --detail out (--engine-arg logprobs=N says how many it gives)"
        )
    return DETAILS[name]


def parse_engine_args(pairs: Iterable[str]) -> dict[str, str]:
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

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from harness.alignment.allow import Allow
from harness.devices.spec import DeviceSpec
from harness.process.progress import Silent
from harness.report.outputs import Outputs
from harness.session.options import RunOptions
from harness.session.session import Session

_PARTS: tuple[type[Any], ...] = (DeviceSpec, Allow, Outputs, RunOptions)


@pytest.fixture
def options() -> Callable[..., RunOptions]:
    """Options of a run on the fake device; each field goes to the value it belongs to."""

    def made(**changes: Any) -> RunOptions:
        given = {"device": "fake", "model": "fake", "suite": "s.yaml", **changes}
        spec, allow, outputs, rest = (
            {f.name: given[_key(part, f.name)] for f in fields(part) if _key(part, f.name) in given}
            for part in _PARTS
        )
        return RunOptions(
            DeviceSpec(**spec), allow=Allow(**allow), outputs=Outputs(**outputs), **rest
        )

    return made


def _key(part: type[Any], field: str) -> str:
    return f"allow_{field}" if part is Allow else field


@pytest.fixture
def session(project_folder: Path, options: Callable[..., RunOptions]) -> Callable[..., Session]:
    """A session in the folder of the small suite."""
    return lambda **changes: Session(options(**changes), Silent())

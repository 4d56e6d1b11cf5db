"""The canary on the device of a run, before anything of the model is judged."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from harness.canary.plan import plan
from harness.canary.result import Canary
from harness.canary.run import run_canary
from harness.canary.sizes import Sizes
from harness.devices.spec import DeviceSpec
from harness.errors import UsageError
from harness.process.progress import Progress


def check_canary(spec: DeviceSpec) -> None:
    """See that a device can run a canary.

    Raises:
        UsageError: if it runs no checkpoint, or one of its own that cannot be changed.
    """
    if not spec.kind.needs_model:
        raise UsageError(f"--canary needs a device that runs a checkpoint, not {spec.device}")
    if spec.server_url is not None:
        raise UsageError(
            "--canary starts a server of its own; for a running one, serve the folder of "
            "`harness canary --make-only --out FOLDER` and run `harness canary --server-url`"
        )


def canary_of(spec: DeviceSpec, progress: Progress) -> Canary:
    """Run the canary with the device's own settings; errors of ``run_canary``."""
    with tempfile.TemporaryDirectory(prefix="harness-canary-") as folder:
        own = dataclasses.replace(spec, model=str(Path(folder) / "canary"))
        return run_canary(plan(Sizes(), own), progress)

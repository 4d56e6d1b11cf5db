"""The canary on the device of a run: before anything of the model is judged, and as a cell of
the matrix."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from harness.alignment.outcomes import Status
from harness.alignment.result import MatrixCell
from harness.canary.plan import plan
from harness.canary.result import Canary
from harness.canary.run import run_canary
from harness.canary.sizes import QUICK, Sizes
from harness.devices.spec import DeviceSpec
from harness.errors import HarnessError, UsageError
from harness.messages.message import Message, message
from harness.process.progress import Progress

#: The cell's name among the others of the matrix.
CELL = "canary"
#: Engine arguments that belong to the model of the run, and fit no other.
_OF_THE_MODEL = {
    "max_model_len", "quantization", "load_format", "hf_overrides", "hf_config_path",
    "revision", "rope_scaling", "rope_theta", "tokenizer_mode", "config_format",
    "qat_group_size", "unused", "weights", "served_model", "served_model_name", "model_impl",
    "reasoning_parser", "chat_template",
}  # fmt: skip


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


def canary_of(spec: DeviceSpec, progress: Progress, sizes: Sizes | None = None) -> Canary:
    """Run the canary with the device's own settings; errors of ``run_canary``."""
    args = {k: v for k, v in spec.engine_args.items() if k not in _OF_THE_MODEL}
    with tempfile.TemporaryDirectory(prefix="harness-canary-") as folder:
        path = str(Path(folder) / "canary")
        own = dataclasses.replace(spec, model=path, engine_args=args, trust_remote_code=False)
        return run_canary(plan(sizes or Sizes(), own), progress)


def canary_cell(spec: DeviceSpec, dtype: str, progress: Progress) -> MatrixCell:
    """A small canary as a cell of the matrix: PASS if every bit is right, FAIL with the cause,
    INCONCLUSIVE where the device does not run it, NOT_RUN where it cannot.

    Args:
        dtype: that the candidate computed in.
    """
    if not spec.kind.needs_model:
        return _cell("NOT_RUN", _not_run(message("canary.cell.no_checkpoint", device=spec.device)))
    if spec.server_url is not None:
        return _cell("NOT_RUN", _not_run(message("matrix.not_started_here", device=spec.device)))
    try:
        made = canary_of(dataclasses.replace(spec, dtype=dtype), progress, QUICK)
    except HarnessError as error:
        return _cell("INCONCLUSIVE", _not_run(str(error)))
    return cell_of(made)


def cell_of(made: Canary) -> MatrixCell:
    """The cell that says what came of a canary."""
    rows, right = sum(s.rows for s in made.stages), sum(s.exact for s in made.stages)
    if not rows:  # a server shows tokens only
        rows, right = sum(s.tokens for s in made.stages), sum(s.right for s in made.stages)
    if made.outcome == "EXACT":
        return _cell("PASS", message("canary.cell.right"), rows, right)
    causes = tuple(f.message for f in made.findings if f.message is not None)
    return _cell("FAIL", message("canary.cell.wrong", causes=causes), rows, right)


def _not_run(why: Message | str) -> Message:
    return message("matrix.not_run", reason=why)


def _cell(status: Status, outcome: Message, rows: int = 0, right: int = 0) -> MatrixCell:
    return MatrixCell(
        name=CELL,
        change="a model whose every bit is known",
        status=status,
        rows=rows,
        rows_equal=right,
        shift=None,
        verdict=None,
        error_ratio=None,
        message=outcome,
    )

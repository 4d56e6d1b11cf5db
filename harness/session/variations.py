"""The runs that look closer than the verdict: the matrix and the magnifier.

Both open the device again with something changed. What they find stands beside
the verdict in the alignment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.alignment.result import Alignment
from harness.baseline.baseline import Baseline
from harness.devices.registry import Target
from harness.devices.spec import DeviceSpec
from harness.process.progress import Progress
from harness.recording.format import Recording
from harness.session.magnifier import MagnifierPlan, added, run_magnifier
from harness.session.matrix import MatrixPlan, run_matrix
from harness.suite.suite import Suite


@dataclass(frozen=True)
class Closer:
    """What is asked for, and how to open the device again."""

    matrix: bool
    magnify: bool
    spec: DeviceSpec
    suite: Suite
    suite_source: str
    open_target: Callable[[DeviceSpec], Target]
    recordings: Path
    stem: str
    allow_weights: bool
    allow_dtype: bool

    def look(
        self, found: Alignment, candidate: Recording, baseline: Baseline, progress: Progress
    ) -> Alignment:
        """The alignment with what was asked for, if the two are comparable."""
        if not found.comparability.comparable:
            return found
        if self.matrix:
            cells = run_matrix(self._matrix(candidate, baseline), found, progress)
            found = found.model_copy(update={"matrix": cells})
        if self.magnify:
            closer = run_magnifier(self._magnifier(candidate, baseline), progress)
            found = added(found, closer)
        return found

    def _matrix(self, candidate: Recording, baseline: Baseline) -> MatrixPlan:
        return MatrixPlan(
            candidate=candidate,
            baseline=baseline,
            suite=self.suite,
            spec=self.spec,
            open_target=self.open_target,
            allow_weights=self.allow_weights,
            allow_dtype=self.allow_dtype,
        )

    def _magnifier(self, candidate: Recording, baseline: Baseline) -> MagnifierPlan:
        return MagnifierPlan(
            spec=self.spec,
            suite=self.suite,
            suite_source=self.suite_source,
            baseline=baseline,
            candidate=candidate,
            open_target=self.open_target,
            recordings=self.recordings,
            stem=self.stem,
            allow_weights=self.allow_weights,
        )

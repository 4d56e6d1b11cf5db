"""What a run will be able to see, told before it: no model is read, no device opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.alignment.power import power_before
from harness.alignment.scope import alike_warning, scope_of
from harness.baseline.folder import baseline_folder, find_baselines, is_baseline, load_baseline
from harness.errors import HarnessError
from harness.messages.render import render
from harness.model.find import local_model
from harness.report.views.scope import scope_lines
from harness.session.run import Run


def scope_before(run: Run) -> Iterator[str]:
    """Lines about the baseline that this run would be held against."""
    folder = _baseline(run)
    if folder is None:
        yield f"no baseline of {run.describe()} yet, so what a run can see is not known"
        return
    try:
        baseline = load_baseline(folder)
    except HarnessError as error:
        yield str(error)
        return
    scope = scope_of(None, baseline)
    yield f"what a run against {folder.as_posix()} can see:"
    yield from (f"  {line}" for line in scope_lines(scope, power_before(baseline)))
    warning = alike_warning(scope)
    if warning is not None:
        yield f"  warning: {render(warning, 'en')}"
    if baseline.reference.suite.digest != run.suite.digest:
        yield f"  warning: the suite {run.suite.name} has changed since, or has another length"


def _baseline(run: Run) -> Path | None:
    """The folder of this run's baseline; without --dtype the first of its model and suite."""
    root, spec = run.options.baseline_dir, run.options.spec
    if is_baseline(root):
        return root
    slug = local_model(spec.model).slug if spec.kind.needs_model else "fake"
    if spec.dtype is not None:
        folder = baseline_folder(root, slug, run.suite.name, spec.dtype)
        return folder if is_baseline(folder) else None
    place = root / slug / run.suite.name
    return next((folder for folder in find_baselines(root) if folder.parent == place), None)

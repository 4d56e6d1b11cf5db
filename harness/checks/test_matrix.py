"""One test per cell of the matrix (``--matrix``)."""

from __future__ import annotations

import warnings

import pytest

from harness.alignment.result import Alignment


def test_matrix(matrix_cell: str, alignment: Alignment) -> None:
    """Bit-exact, or judged by itself and aligned; a repeat that differs warns. A variation that
    this device has and that could not be run fails."""
    cell = next((c for c in alignment.matrix if c.name == matrix_cell), None)
    if cell is None:
        pytest.skip("the candidate was not judged, so nothing was varied")
    if cell.status == "NOT_RUN":
        pytest.skip(cell.sentence)
    if cell.status in ("FAIL", "INCONCLUSIVE"):  # asked for, and nothing was shown
        pytest.fail(f"{cell.change}: {cell.sentence}", pytrace=False)
    if cell.status == "WARN":
        warnings.warn(f"{cell.change}: {cell.sentence}", stacklevel=1)

"""Sums of a gradient that are made block by block, against those of the whole matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from needed import needed

from harness.devices.causes import ROUNDINGS
from harness.devices.hf import reductions
from harness.devices.hf.reductions import DifferencesAnew, KeptDifferences, Reducer
from harness.devices.hf.rounding import rounded

pytestmark = pytest.mark.engine
needed("torch")


@pytest.mark.parametrize("in_cache", [1, 1000, 1 << 20])
@pytest.mark.parametrize("kept", [True, False])
def test_sums_are_those_of_the_whole_matrix(
    monkeypatch: pytest.MonkeyPatch, in_cache: int, kept: bool
) -> None:
    import torch

    monkeypatch.setattr(reductions, "_IN_CACHE", in_cache)
    torch.manual_seed(3)
    reducer = Reducer(torch, len(ROUNDINGS))
    for shape in ((37, 96), (5, 320), (64, 32)):
        weight, gradient = torch.randn(shape), torch.randn(shape)
        made: Any = KeptDifferences.of(torch, weight, ROUNDINGS)
        found = reducer.sums(
            weight, gradient, made if kept else DifferencesAnew(torch, weight, ROUNDINGS)
        )
        product = (weight * gradient).double()
        np.testing.assert_allclose(found.rows, product.sum(1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.columns, product.sum(0), rtol=1e-4, atol=1e-5)
        for kind, value in zip(ROUNDINGS, found.roundings.tolist(), strict=True):
            difference = rounded(torch, weight, kind) - weight
            expected = float((difference.double() * gradient).sum())
            # A byte for each: a part in 254 of the largest difference of a row.
            coarse = float(difference.abs().max()) / 254.0 * float(gradient.norm())
            assert value == pytest.approx(expected, rel=1e-4, abs=3.0 * coarse if kept else 1e-4)


def test_a_known_answer() -> None:
    """The gradient of one weight alone: what rounding adds to that weight."""
    import torch

    weight = torch.tensor([[1.0, 0.3], [-2.0, 0.5]])
    gradient = torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    found = Reducer(torch, 1).sums(weight, gradient, DifferencesAnew(torch, weight, ["int8"]))
    np.testing.assert_allclose(found.rows, [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(found.columns, [0.0, 0.6], rtol=1e-6)
    assert float(found.roundings[0]) == pytest.approx(2.0 * (38 / 127 - 0.3), abs=1e-6)

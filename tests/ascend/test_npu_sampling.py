"""Top-k, top-p and the split vocabulary of the emulated NPU against loops over tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from npu_cases import array, on_npu

pytestmark = [pytest.mark.ascend, pytest.mark.filterwarnings("ignore")]


def kept(logits: Any, p: float | None, k: int | None) -> set[int]:
    """The tokens that stay, from the most probable on."""
    order = np.argsort(-logits)[: k or len(logits)]
    if p is None:
        return set(order.tolist())
    weights = np.exp(logits[order] - logits[order].max())
    before = np.cumsum(weights / weights.sum()) - weights / weights.sum()
    return set(order[before < p].tolist())


@pytest.mark.parametrize("operator", ["npu_top_k_top_p", "npu_apply_top_k_top_p"])
@pytest.mark.parametrize("with_k", [True, False])
@pytest.mark.parametrize("with_p", [True, False])
def test_top_k_and_top_p(npu: Any, operator: str, with_k: bool, with_p: bool) -> None:
    import torch

    logits = torch.from_numpy(np.random.default_rng(3).standard_normal((4, 50)) * 2).float()
    p = torch.tensor([0.5, 0.9, 1e-6, 1.0]) if with_p else None
    k = torch.tensor([50, 7, 3, 1], dtype=torch.int32) if with_k else None
    owner = npu if operator == "npu_top_k_top_p" else torch.ops._C_ascend
    given = [None if t is None else t.to("npu") for t in (p, k)]
    made = array(getattr(owner, operator)(*on_npu(logits), *given))
    for i in range(4):
        limits = None if p is None else float(p[i]), None if k is None else int(k[i])
        stay = kept(array(logits)[i], *limits)
        finite = np.flatnonzero(np.isfinite(made[i]))
        assert set(finite.tolist()) == stay
        np.testing.assert_array_equal(made[i][finite], array(logits)[i][finite])


def test_ids_become_rows_of_the_workers_part(npu: Any) -> None:
    import torch

    # Rows: ids 10 to 19, two of padding, then the added ids 100 to 104.
    ids = torch.tensor([9, 10, 19, 20, 99, 100, 104, 105], dtype=torch.int32)
    rows, others = torch.ops._C_ascend.get_masked_input_and_mask(ids.to("npu"), 10, 20, 2, 100, 105)
    assert rows.tolist() == [0, 0, 9, 0, 0, 12, 16, 0]
    assert others.tolist() == [True, False, False, True, True, False, False, True]

"""A missing operator is one error, which names it."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.ascend, pytest.mark.filterwarnings("ignore")]
SAYS = "is not emulated (tests/ascend/README.md says what is)"


def test_of_torch_npu(npu: Any) -> None:
    for name in ("npu_moe_gating_top_k", "_npu_paged_attention_splitfuse", "empty_with_format"):
        with pytest.raises(AttributeError) as caught:
            getattr(npu, name)
        assert str(caught.value) == f"torch_npu.{name} {SAYS}"
        assert not hasattr(npu, name)


def test_of_nnal(npu: Any) -> None:
    with pytest.raises(AttributeError) as caught:
        npu.atb.npu_ring_mla  # noqa: B018 - reading it is the test
    assert str(caught.value) == f"torch_npu.atb.npu_ring_mla {SAYS}"


def test_of_torchs_namespaces_with_the_schema_where_the_wheel_holds_it(npu: Any) -> None:
    import torch

    with pytest.raises(AttributeError) as caught:
        torch.ops.npu.npu_mrope  # noqa: B018 - reading it is the test
    assert str(caught.value) == f"torch.ops.npu.npu_mrope {SAYS}"
    with pytest.raises(AttributeError) as caught:
        torch.ops._C_ascend.swap_blocks  # noqa: B018 - reading it is the test
    told = "; its schema: swap_blocks(Tensor! x, Tensor! y, Tensor z) -> ()"
    assert str(caught.value) == f"torch.ops._C_ascend.swap_blocks {SAYS}{told}"
    assert not hasattr(torch.ops._C_ascend, "swap_blocks")


def test_what_is_no_operator_is_told_as_python_tells_it(npu: Any) -> None:
    import torch

    with pytest.raises(AttributeError, match="module 'torch_npu' has no attribute 'nothing'"):
        npu.nothing  # noqa: B018 - reading it is the test
    assert getattr(torch.ops.npu, "__wrapped__", None) is None


def test_operators_that_are_there_are_found_under_both_names(npu: Any) -> None:
    import torch

    assert npu.npu_swiglu is torch.ops.npu.npu_swiglu
    assert npu._npu_rotary_embedding is torch.ops.atb._npu_rotary_embedding
    assert hasattr(torch.ops._C_ascend, "moe_gating_top_k")


def test_without_its_library_vllm_ascend_finds_no_operator(python: Any) -> None:
    code = """
try:
    import vllm_ascend.vllm_ascend_C
except ImportError as error:
    print("ImportError")
import torch
print(hasattr(torch.ops._C_ascend, "npu_add_rms_norm_bias"))
"""
    done = python(code, NPU_EMU_CUSTOM_OPS="0")
    assert done.stdout.split() == ["ImportError", "False"], done.stderr

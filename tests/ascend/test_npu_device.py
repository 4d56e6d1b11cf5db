"""The emulated device: tensors, memory, graphs, workers, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npu_cases import array, numbers, on_npu

pytestmark = [pytest.mark.ascend, pytest.mark.filterwarnings("ignore")]


def test_torchs_own_operators_run_on_the_cpus_kernels(npu: Any) -> None:
    import torch

    a, b = numbers(8, 16), numbers(16, 4, seed=1)
    x, w = on_npu(a, b)
    before = npu.calls().get("aten::mm.out", 0)
    assert torch.equal((x @ w).cpu(), a @ b)
    assert npu.calls()["aten::mm.out"] == before + 1
    assert (x.view(4, 32)[1:, ::2].t().device, x.is_contiguous()) == (x.device, True)


def test_a_view_shares_memory_with_its_base(npu: Any) -> None:
    import torch

    base = torch.zeros(4, 4, device="npu")
    base.t()[1].add_(3)
    assert base[:, 1].tolist() == [3] * 4
    assert base.sum().item() == 12


def test_tensors_of_two_devices_are_refused_but_for_indices(npu: Any) -> None:
    import torch

    x, ids = torch.ones(3, device="npu"), torch.tensor([0, 2])
    both = "Expected all tensors to be on the same device, but found at least two devices, npu:0"
    with pytest.raises(RuntimeError, match=f"{both} and cpu!"):
        x + torch.ones(3)  # PyTorch's own check
    with pytest.raises(RuntimeError, match=rf"{both} and cpu! \(aten::index_select\)"):
        x.index_select(0, ids)  # the device's
    assert (x + torch.tensor(1.0)).tolist() == [2] * 3  # a number of no dimension, as on a card
    assert x[ids].shape == (2,)


def test_what_lies_beyond_the_memory_is_refused_in_torch_npus_words(npu: Any) -> None:
    import torch

    torch.npu.empty_cache()
    free, capacity = torch.npu.mem_get_info()
    held = torch.npu.memory_allocated()
    with pytest.raises(torch.OutOfMemoryError, match=r"NPU out of memory\. Tried") as e:
        torch.empty(capacity + 1, dtype=torch.int8, device="npu")
    assert f"{capacity >> 20}.00 MiB total capacity" in str(e.value)
    assert torch.npu.memory_allocated() == held
    assert 0 < free <= capacity


def test_memory_is_counted_and_kept_until_the_cache_is_emptied(npu: Any) -> None:
    import torch

    torch.npu.empty_cache()
    torch.npu.reset_peak_memory_stats()
    before = torch.npu.memory_allocated()
    x = torch.empty(1 << 20, dtype=torch.int8, device="npu")
    view = x[10:]
    assert 0 <= torch.npu.memory_allocated() - before - (1 << 20) < 4096
    del x
    assert torch.npu.memory_allocated() > before  # the view holds it
    del view
    assert torch.npu.memory_allocated() == before
    assert torch.npu.max_memory_allocated() - before >= 1 << 20
    assert torch.npu.memory_reserved() - before >= 1 << 20
    torch.npu.empty_cache()
    assert torch.npu.memory_reserved() == before


def test_variables_make_another_host(python: Any) -> None:
    code = """
import torch
x = torch.empty(1000, device="npu")
print(torch.npu.device_count(), torch.npu.mem_get_info()[1] >> 20, torch.npu.get_device_name())
print(bool(x.isnan().all()), torch.version.cann)
try:
    torch.npu.set_device(2)
except RuntimeError as error:
    print("107001" in str(error))
"""
    done = python(
        code, NPU_EMU_DEVICES="4", ASCEND_RT_VISIBLE_DEVICES="0,3", NPU_EMU_MEMORY="64",
        NPU_EMU_SOC="250", NPU_EMU_POISON="1", NPU_EMU_CANN="9.9",
    )  # fmt: skip
    assert done.stdout.split() == ["2", "64", "Ascend910_9391", "True", "9.9", "True"], done.stderr


@pytest.mark.parametrize(
    ("asked", "seen"), [(None, 4), ("0", 1), ("1,3", 2), ("0,7", 1), ("3,1", 0), ("x", 0), ("7", 0)]
)
def test_visible_devices_are_counted_as_the_runtime_counts(
    npu: Any, asked: str | None, seen: int
) -> None:
    from torch_npu._settings import visible

    assert visible(asked, 4) == seen


def test_a_variable_that_is_no_number_is_named(python: Any) -> None:
    done = python("import torch", NPU_EMU_MEMORY="4G")
    assert "NPU_EMU_MEMORY=4G: a whole number is wanted, 4096 for example" in done.stderr


def test_a_graph_replays_what_ran_into_the_same_memory(npu: Any) -> None:
    import torch

    x, weight = torch.ones(4, device="npu"), torch.full((4,), 2.0, device="npu")
    graph = torch.npu.NPUGraph()
    ran = []
    with torch.npu.graph(graph):
        assert torch.npu.is_current_stream_capturing()
        y = x * weight
        ran.append("python")
        weight.add_(1)
        z = y.view(2, 2).t().contiguous()
    assert not torch.npu.is_current_stream_capturing()
    x.fill_(5)
    graph.replay()
    assert (y.tolist(), weight.tolist()) == ([15] * 4, [4] * 4)
    assert z.tolist() == [[15, 15], [15, 15]]
    assert ran == ["python"]


def test_a_graph_of_an_operator_that_changes_its_input(npu: Any) -> None:
    import torch

    cache = torch.zeros(2, 4, 1, 8, dtype=torch.bfloat16, device="npu")
    other = torch.zeros_like(cache)
    key, slots = numbers(1, 1, 8).to("npu"), torch.tensor([1], dtype=torch.int32).to("npu")
    graph = torch.npu.NPUGraph()
    with torch.npu.graph(graph):
        npu._npu_reshape_and_cache(key, key, cache, other, slots)
    slots.fill_(6)
    graph.replay()
    written = np.flatnonzero(array(cache).reshape(8, 8).any(-1))
    assert written.tolist() == [1, 6]


def test_a_task_group_takes_new_arguments(npu: Any) -> None:
    import torch

    x, weight = numbers(2, 8).to("npu"), torch.ones(8, dtype=torch.bfloat16, device="npu")
    graph = torch.npu.NPUGraph()
    with torch.npu.graph(graph):
        torch.npu.graph_task_group_begin(None)
        y, _ = npu.npu_rms_norm(x, weight, 1e-6)
        handle = torch.npu.graph_task_group_end(None)
    first = y.clone()
    torch.npu.graph_task_update_begin(None, handle)
    npu.npu_rms_norm(x, weight * 2, 1e-6)
    torch.npu.graph_task_update_end(None)
    graph.replay()
    assert torch.equal(y.cpu(), (first * 2).cpu())


WORKER = """
import sys, torch, torch.distributed as dist
rank, file = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("hccl", init_method="file://" + file, rank=rank, world_size=2)
x = torch.full((3,), rank + 1.0, device="npu")
dist.all_reduce(x)
parts = [torch.empty(1, device="npu") for _ in range(2)]
dist.all_gather(parts, torch.tensor([rank * 7.0], device="npu"))
print(x.tolist(), [p.item() for p in parts], x.device, dist.get_backend())
"""


def test_two_workers_add_and_gather_over_hccl(python: Any, tmp_path: Path) -> None:
    pair = f"""
import subprocess, sys
code = {WORKER!r}
run = [subprocess.Popen([sys.executable, "-c", code, str(r), {str(tmp_path / "meet")!r}],
                        stdout=subprocess.PIPE, text=True) for r in range(2)]
print(*[p.communicate()[0] for p in run], sep="\\n")
"""
    done = python(pair)
    lines = [line for line in done.stdout.splitlines() if line.startswith("[3.0")]
    assert lines == ["[3.0, 3.0, 3.0] [0.0, 7.0] npu:0 hccl"] * 2, done.stderr


def test_a_kernel_that_vllm_launches_without_triton(npu: Any) -> None:
    import torch
    from torch_npu.triton import KERNELS

    [(_, _, kernel)] = [each for each in KERNELS if each[1] == "_compute_slot_mapping_kernel"]
    table = torch.tensor([[4, 2], [9, 0]], dtype=torch.int32, device="npu")
    starts = torch.tensor([0, 3, 4], dtype=torch.int32, device="npu")
    positions = torch.tensor([14, 15, 16, 1], device="npu")
    slots = torch.zeros(6, dtype=torch.int64, device="npu")
    kernel[(3,)](
        4, 6, starts, positions, table, 2, 16, slots, TOTAL_CP_WORLD_SIZE=1, PAD_ID=-1, BLOCK=8
    )
    assert slots.tolist() == [4 * 16 + 14, 4 * 16 + 15, 2 * 16, 9 * 16 + 1, -1, -1]


def test_this_python_is_that_of_the_environment(npu: Any) -> None:
    import torch

    assert npu.__version__ == torch.__version__.partition("+")[0]
    assert Path(npu.__file__).name == "__init__.py"
    assert sys.modules["torch_npu"] is npu

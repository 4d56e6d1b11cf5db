from __future__ import annotations

import pytest

from harness.devices.ranks import Ranks, core_variables
from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec
from harness.devices.vllm.ray import _variables as ray_variables
from harness.devices.vllm.ray import check_places
from harness.devices.vllm.refused import check_ranks
from harness.errors import UsageError


@pytest.mark.parametrize(
    ("asked", "workers", "several"),
    [
        ({}, 1, False),
        ({"tensor_parallel_size": "3"}, 3, True),
        ({"tensor_parallel_size": " 2 ", "pipeline_parallel_size": "2"}, 4, True),
        ({"prefill_context_parallel_size": "2"}, 2, True),
        ({"data_parallel_size": "2"}, 1, True),
        ({"tensor_parallel_size": "two"}, 1, False),
        ({"tensor_parallel_size": "0"}, 1, False),
        ({"enable_expert_parallel": "true"}, 1, False),
    ],
)
def test_ranks_are_read_from_the_users_arguments(
    asked: dict[str, str], workers: int, several: bool
) -> None:
    ranks = Ranks.of(asked)
    assert (ranks.workers, ranks.several) == (workers, several)


@pytest.mark.parametrize(
    ("asked", "setting", "remedy"),
    [
        ({"data_parallel_size": "2"}, "data_parallel_size=2", "--shard 1/2"),
        ({"data_parallel_size": "8"}, "data_parallel_size=8", "--device server"),
        ({"nnodes": "2"}, "nnodes=2", "distributed_executor_backend=ray"),
        (
            {"distributed_executor_backend": "external_launcher"},
            "distributed_executor_backend=external_launcher",
            "use mp or ray",
        ),
        (
            {"distributed_executor_backend": "UNI", "tensor_parallel_size": "2"},
            "distributed_executor_backend=uni",
            "use mp or ray",
        ),
        (
            {"enable_expert_parallel": " True", "tensor_parallel_size": "2"},
            "enable_expert_parallel=true",
            "leave it off",
        ),
        (
            {"enable_expert_parallel": "1", "prefill_context_parallel_size": "3"},
            "enable_expert_parallel=true",
            "leave it off",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_a_model_is_looked_for(
    asked: dict[str, str], setting: str, remedy: str
) -> None:
    spec = DeviceSpec("vllm-cpu", model="/there/is/no/model", engine_args=asked)
    with pytest.raises(
        UsageError, match=f"^vllm-cpu: --engine-arg {setting} does not work"
    ) as told:
        open_target(spec)
    assert remedy in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("npu", {"enable_expert_parallel": "true", "tensor_parallel_size": "2"}),
        ("vllm-gpu", {"enable_expert_parallel": "true", "tensor_parallel_size": "2"}),
        ("vllm-cpu", {"enable_expert_parallel": "true", "pipeline_parallel_size": "2"}),
        ("vllm-cpu", {"enable_expert_parallel": "true"}),
        ("vllm-cpu", {"enable_expert_parallel": "false", "tensor_parallel_size": "2"}),
    ],
)
def test_whole_experts_are_taken_where_they_work(name: str, asked: dict[str, str]) -> None:
    check_ranks(name, Ranks.of(asked))


@pytest.mark.parametrize("executor", ["mp", "ray", "none", "None"])
def test_other_executors_are_taken(executor: str) -> None:
    check_ranks(
        "npu",
        Ranks.of({"distributed_executor_backend": executor, "tensor_parallel_size": "2"}),
    )


@pytest.mark.parametrize("listed", [None, "0", "0-1"])
def test_cores_are_set_for_several_ranks_of_the_cpu_engine_alone(listed: str | None) -> None:
    """Also where cores are listed for one rank, as by a CI that pins its jobs."""
    variable = "VLLM_CPU_OMP_THREADS_BIND"
    mine = {} if listed is None else {variable: listed}
    two = Ranks(pipeline=2)
    assert core_variables(two, mine)[variable].count("|") == 1
    if listed == "0":
        assert core_variables(two, mine)[variable] == "0|0"
    assert core_variables(Ranks(), mine) == {}
    assert core_variables(Ranks(pipeline=2, executor="ray"), mine) == {}
    assert core_variables(two, {variable: "0|0"}) == {}
    assert core_variables(two, {variable: "nobind"}) == {}


@pytest.mark.parametrize("resources", [{}, {"CPU": 64.0}, {"GPU": 1.0}])
def test_a_ray_cluster_without_places_is_refused_before_vllm_waits(
    resources: dict[str, float],
) -> None:
    with pytest.raises(UsageError, match=r"for 2 ranks; start its nodes with ray start --num-gpus"):
        check_places("vllm-cpu", Ranks(tensor=2), resources)
    check_places("vllm-cpu", Ranks(tensor=2), {"GPU": 2.0})


def test_workers_of_ray_know_the_harness_folder_and_how_many_they_are() -> None:
    told = ray_variables(Ranks(tensor=1000), {"HARNESS_ROWS": "/rows", "HOME": "/me"})
    assert told == {"HARNESS_ROWS": "/rows", "HARNESS_RANKS": "1000"}
    assert ray_variables(Ranks(), {"OMP_NUM_THREADS": "7"})["OMP_NUM_THREADS"] == "7"

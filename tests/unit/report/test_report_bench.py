"""The report of a bench: the parts of a cold start, and memory, as the devices write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from factories import facts

from harness.bench.figures import quantile
from harness.bench.result import Accuracy, Bench, Cell, CellTimes, RepeatTimes, RequestTimes
from harness.devices.facts import EngineFacts, LoadFigures
from harness.report.bench import render_bench
from harness.report.views.bench import Row, bench_view, cold_parts, histogram

#: What vLLM's CPU engine told of a load with compilation, on two cores.
COMPILED = LoadFigures(
    load_s=84.0,
    weights_s=0.5,
    compile_s=70.0,
    warmup_s=2.0,
    init_engine_s=73.0,
    weights_bytes=269_030_016.0,
    peak_rss_bytes=2.0**31,
    kv_cache_tokens=46_592.0,
    kv_cache_bytes=2.0**30,
)
EAGER = LoadFigures(load_s=4.0, weights_s=0.5, init_engine_s=1.25)


def bench(load: LoadFigures, *, eager: bool | None = None, first: float | None = 0.25) -> Bench:
    request = RequestTimes(ttft_ns=10**8, itl_ns=(10**7,), e2e_ns=11 * 10**7)
    cell = Cell(prompt_tokens=8, output_tokens=2, batch_size=1)
    repeat = RepeatTimes(wall_ns=12 * 10**7, requests=(request,), tokens="x")
    return Bench(
        created="2025-01-02T03:04:05+00:00",
        complete=True,
        device="vllm-cpu",
        dtype="bfloat16",
        machine="m",
        model=facts(),
        engine=EngineFacts(device="cpu", enforce_eager=eager).with_facts({"seed": 3}),
        environment={},
        load=load,
        first_request_s=first,
        cells=(CellTimes(cell=cell, repeats=(repeat,)),),
        accuracy=Accuracy(verdict=None, sentence="not judged"),
    )


def shown(rows: Sequence[Row]) -> dict[str, str]:
    return {row.head: row.cells[0] for row in rows}


def test_every_part_of_a_compiled_load_is_a_row() -> None:
    assert shown(bench_view(bench(COMPILED, eager=False)).load) == {
        "load, whole": "84 s",
        "weights": "500 ms",
        "compilation": "70 s",
        "warm-up": "2 s",
        "profiling and KV cache": "1 s",
        "the rest of the load": "10.5 s",
        "first request": "250 ms",
    }


def test_the_parts_add_up_to_the_whole() -> None:
    for load in (COMPILED, EAGER, LoadFigures(load_s=2.0)):
        parts = cold_parts(bench(load, first=None))
        assert sum(value for _, value in parts) == pytest.approx(load.load_s)


def test_what_is_not_compiled_is_said_to_be_not_compiled() -> None:
    rows = shown(bench_view(bench(EAGER, eager=True)).load)
    heads = ["load, whole", "weights", "compilation", "warm-up", "profiling and KV cache"]
    assert list(rows)[:5] == heads
    assert rows["compilation"] == "not compiled (enforce_eager)"
    assert rows["warm-up"] == "not timed by the engine"
    assert rows["profiling and KV cache"] == "1.25 s"


def test_a_compilation_without_a_time_is_not_said_to_be_none() -> None:
    rows = shown(bench_view(bench(EAGER, eager=False)).load)
    assert rows["compilation"] == "not timed by the engine"


def test_a_device_that_compiles_nothing_has_its_load_once() -> None:
    view = bench_view(bench(LoadFigures(load_s=2.0)))
    assert shown(view.load) == {"load, whole": "2 s", "first request": "250 ms"}


def test_a_server_of_somebody_else_has_no_load() -> None:
    view = bench_view(bench(LoadFigures()))
    assert shown(view.load) == {"load, whole": "—", "first request": "250 ms"}
    assert cold_parts(view.source) == [("first request", 0.25)]


def test_memory_is_what_the_device_wrote() -> None:
    assert shown(bench_view(bench(COMPILED)).memory) == {
        "weights": "256.6 MiB",
        "peak of the host process": "2 GiB",
        "peak of the accelerator": "—",
        "KV cache": "1 GiB",
        "KV cache, tokens": "46,592",
    }


@pytest.mark.parametrize("suffix", ["html", "md"])
def test_the_parts_of_a_cold_start_stand_in_the_report(tmp_path: Path, suffix: str) -> None:
    made = tmp_path / f"b.{suffix}"
    render_bench([bench(COMPILED, eager=False)], made)
    text = made.read_text("utf-8")
    for word in ("weights", "compilation", "warm-up", "70 s", "500 ms"):
        assert word in text
    render_bench([bench(EAGER, eager=True)], made)
    assert "not compiled (enforce_eager)" in made.read_text("utf-8")


def test_every_fact_of_the_engine_is_shown(tmp_path: Path) -> None:
    render_bench([bench(COMPILED, eager=False)], tmp_path / "b.html")
    text = (tmp_path / "b.html").read_text("utf-8")
    for name in ("enforce_eager", "seed"):
        assert f'<th scope="row"><bdi class="t">{name}</bdi></th>' in text


def test_the_histogram_ends_at_the_99th_percentile() -> None:
    values = [float(i) for i in range(1, 1001)]
    assert quantile(values, 0.99) == 991.0
    assert "1041 s" in histogram(values) or "1,041 s" in histogram(values)

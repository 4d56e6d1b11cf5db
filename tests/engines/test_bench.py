"""`harness bench` on real engines: whole reports, and what an ended one leaves."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from broken_checkpoint import break_checkpoint, two_layers
from needed import needed

from harness.bench.limits import measure_limits
from harness.bench.result import Bench, load_bench
from harness.model.facts import ModelFacts
from harness.model.model import Model
from harness.report.text import seconds

needed("torch")
pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.usefixtures("embedded_model")]

NEEDED = {"hf-cpu": "transformers", "vllm-cpu": "vllm"}
TOKENS = 4


def bench(device: str, out: Path, *options: str) -> Sequence[str]:
    return (
        *(sys.executable, "-m", "harness", "bench", "--device", device, "--no-judge"),
        *("--output-tokens", str(TOKENS), "--out", str(out), *options),
    )


@pytest.fixture(params=list(NEEDED))
def device(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if importlib.util.find_spec(NEEDED[name]) is None:
        pytest.skip(f"{NEEDED[name]} is not installed")
    return name


def test_a_whole_report(device: str, tmp_path: Path) -> None:
    sizes = (1, 2) if device == "vllm-cpu" else (1,)
    grid = ("--prompt-lengths", "8,16", "--batch-sizes", ",".join(map(str, sizes)))
    out, page = tmp_path / "b.json", tmp_path / "b.html"
    subprocess.run([*bench(device, out, *grid, "--repeats", "2"), "--report", page], check=True)
    made = load_bench(out)
    assert made.complete
    assert made.limits is not None
    assert {(c.cell.prompt_tokens, c.cell.batch_size) for c in made.cells} == {
        (length, size) for length in (8, 16) for size in sizes
    }
    _is_whole(made)
    text = page.read_text("utf-8")
    assert "of the memory limit" in text
    # vLLM's device runs eager by default, and says that nothing was compiled.
    assert ("not compiled (enforce_eager)" in text) is (device == "vllm-cpu")
    assert made.load.weights_bytes == 2 * 134_515_008


@pytest.mark.nightly
def test_the_parts_of_a_compiled_cold_start_are_told(tmp_path: Path, embedded_model: Model) -> None:
    """What the engine really says of itself fills the record, and the record the report."""
    pytest.importorskip("vllm", reason="vllm is not installed", exc_type=ImportError)
    model = tmp_path / "model"
    break_checkpoint(Path(embedded_model.path), model, two_layers)  # each layer is compiled alike
    out, page = tmp_path / "b.json", tmp_path / "b.md"
    cell = ("--prompt-lengths", "8", "--batch-sizes", "1", "--repeats", "1", "--no-limits")
    compiled = ("--engine-arg", "enforce_eager=false", "--model", str(model), "--report", str(page))
    subprocess.run(bench("vllm-cpu", out, *cell, *compiled), check=True)
    made = load_bench(out)
    load = made.load
    assert made.engine.enforce_eager is False
    assert load.load_s
    assert load.weights_s
    assert load.init_engine_s
    assert load.compile_s
    assert load.warmup_s
    # The engine rounds to hundredths of a second.
    assert load.compile_s + load.warmup_s < load.init_engine_s + 0.05
    assert load.weights_s + load.init_engine_s < load.load_s
    rows = shown(page.read_text("utf-8"))
    assert rows["weights"] == seconds(load.weights_s)
    assert rows["compilation"] == seconds(load.compile_s)
    assert rows["warm-up"] == seconds(load.warmup_s)
    assert rows["load, whole"] == seconds(load.load_s)


def shown(text: str) -> dict[str, str]:
    """Rows of the table of cold start and memory; the first of a name, which is a time."""
    table = text.partition("| cold start and memory | |")[2].partition("\n\n")[0]
    rows: dict[str, str] = {}
    for line in table.splitlines()[2:]:
        name, value = (part.strip(" `") for part in line.strip("|").split("|"))
        rows.setdefault(name, value)
    return rows


def _is_whole(made: Bench) -> None:
    for cell in made.cells:
        assert cell.problem is None
        assert len(cell.repeats) == 2
        assert cell.peak_host_bytes
        # The same work each time: the same tokens, and the same exact counts.
        assert len({repeat.tokens for repeat in cell.repeats}) == 1
        assert cell.repeats[0].counters == cell.repeats[1].counters
        for repeat in cell.repeats:
            assert repeat.counters["output_tokens"] == TOKENS * cell.cell.batch_size
            assert len(repeat.requests) == cell.cell.batch_size
            for request in repeat.requests:
                assert len(request.itl_ns) == TOKENS - 1
                assert request.ttft_ns > 0
                assert request.e2e_ns <= repeat.wall_ns


def test_killed_in_the_middle_it_keeps_its_repeats_and_goes_on(device: str, tmp_path: Path) -> None:
    out = tmp_path / "b.json"
    options = ("--prompt-lengths", "8", "--batch-sizes", "1", "--repeats", "40", "--no-limits")
    command = bench(device, out, *options)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as running:
        while running.poll() is None and not (out.exists() and _repeats(out)):
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
    assert running.returncode == -signal.SIGKILL
    left = load_bench(out)
    assert not left.complete
    kept = left.cells[0].repeats
    assert 1 <= len(kept) < 40
    ended = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
    assert "going on with what an interrupted bench measured" in ended.stderr
    made = load_bench(out)
    assert made.complete
    assert len(made.cells[0].repeats) == 40
    assert made.cells[0].repeats[: len(kept)] == kept


def _repeats(out: Path) -> int:
    return sum(len(cell.repeats) for cell in load_bench(out).cells)


def test_the_matrix_rate_is_one_that_a_model_reaches() -> None:
    """A plain product takes another path than a projection on some CPUs, ten times slower."""
    import torch

    x = torch.ones((1024, 1024), dtype=torch.bfloat16)
    fastest = min(_seconds(x) for _ in range(5))
    config = {"num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 64}
    facts = ModelFacts.model_construct(
        config=config, parameters=1000, weight_bytes=2000, vocab_size=100
    )
    limits = measure_limits(facts, "bfloat16", "cpu", None)
    assert limits is not None
    assert limits.matmul_flop_s > 0.25 * 2 * 1024**3 / fastest


def _seconds(x: Any) -> float:
    import torch

    started = time.perf_counter()
    torch.nn.functional.linear(x, x)
    return time.perf_counter() - started

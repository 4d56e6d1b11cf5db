"""The zoo's scripts, each in part: a real line of results, and the making of one checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import zoo_table
from zoo_kinds import KINDS, SIZES
from zoo_run import PROMPTS, Ran, Worker, finished, suite_text

from harness.suite.read import load_suite

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "zoo.jsonl"
PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"


def test_the_page_is_what_the_results_say() -> None:
    page = PAGE.read_text("utf-8")
    assert zoo_table.page(page, RESULTS.read_text("utf-8")) == page


def test_every_row_is_whole_and_what_is_broken_is_told() -> None:
    _, rows = zoo_table.rows_of(RESULTS.read_text("utf-8"))
    lines = list(zoo_table.table(rows))
    assert len(lines) == len(rows) + 2
    assert len({line.count("|") for line in lines}) == 1
    assert not {row["kind"] for row in rows} - set(KINDS)
    for row in rows:
        assert row["contradicted"]["status"] == 1, row["kind"]
        assert row["inspect"]["status"] == 0, row["kind"]
        if "verdict" in row.get("broken", {}):
            assert row["broken"]["status"] == 1, row["kind"]


def test_a_model_that_failed_is_a_row_too() -> None:
    bare = {"kind": "x", "made": {"status": 1, "said": "no | such class"}}
    [*_, line] = zoo_table.table([bare])
    assert line == "| `x` | not made: no / such class |  |  |  |  |  |"


def test_the_suite_is_one_that_the_harness_reads(tmp_path: Path) -> None:
    (tmp_path / "zoo.yaml").write_text(suite_text())
    suite = load_suite(tmp_path / "zoo.yaml")
    assert len(suite.prompts) == PROMPTS
    ids = [i for prompt in suite.prompts for i in prompt.token_ids or ()]
    assert 3 <= min(ids) <= max(ids) < SIZES["vocab_size"]


def test_finished_lines_are_not_made_again(tmp_path: Path) -> None:
    out = tmp_path / "zoo.jsonl"
    assert finished(out) == {}
    out.write_text(json.dumps({"vllm": "0"}) + "\n" + json.dumps({"kind": "llama"}) + "\n")
    assert list(finished(out)) == ["llama"]


@pytest.mark.process
def test_a_process_that_ends_is_begun_again(tmp_path: Path) -> None:
    import sys

    worker = Worker(sys.executable)
    first = worker.run(tmp_path, "no-such-command")
    assert (first.status, "no-such-command" in first.said) == (2, True)
    assert worker._process is not None
    worker._process.kill()
    worker._process.wait()
    again = worker.run(tmp_path, "baseline", "list", "--baseline-dir", str(tmp_path))
    assert isinstance(again, Ran)
    assert again.status == 0
    worker.close()


@pytest.mark.engine
def test_a_checkpoint_and_its_broken_copies(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from safetensors.torch import load_file
    from zoo_make import make_all

    name = make_all("mixtral", tmp_path)
    good, broken = (load_file(tmp_path / n / "model.safetensors") for n in ("good", "broken"))
    assert good.keys() == broken.keys()
    changed = [key for key in good if not good[key].equal(broken[key])]
    assert changed == [name]
    layers = [
        json.loads((tmp_path / n / "config.json").read_text())["num_hidden_layers"]
        for n in ("good", "contradicted")
    ]
    assert layers == [2, 3]

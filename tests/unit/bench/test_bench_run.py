"""A bench by the fake device: kept as it goes, accuracy first, compared in turn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.bench.against import Configuration, Paired, parse_against, run_against
from harness.bench.measure import Text, is_stable, measure_cell, requests_of
from harness.bench.result import Cell, load_bench
from harness.devices.fake import FakeDevice
from harness.devices.spec import DeviceSpec
from harness.errors import UsageError
from harness.process.progress import Silent

Command = Callable[..., Any]
SMALL = ("--prompt-lengths", "4,8", "--output-tokens", "4", "--no-limits")
BENCH = ("bench", "--device", "fake", "--suite", "s.yaml", *SMALL, "--out", "b.json")
CELL = Cell(prompt_tokens=6, output_tokens=5, batch_size=3)
TEXT = Text(tuple(range(100, 400)))


def test_requests_have_the_cells_lengths_and_share_no_prefix() -> None:
    requests = requests_of(CELL, TEXT)
    assert [len(r.prompt_token_ids) for r in requests] == [6, 6, 6]
    assert len({r.prompt_token_ids[0] for r in requests}) == 3
    assert {r.max_new_tokens for r in requests} == {5}
    assert {r.keep for r in requests} == {"nothing"}
    assert requests == requests_of(CELL, TEXT)


def test_repeats_hold_every_gap_of_every_request() -> None:
    device = FakeDevice(delay=0.002)
    device.open()
    seen: list[int] = []
    found = measure_cell(device, CELL, TEXT, 2, on_repeat=lambda t: seen.append(len(t.repeats)))
    assert seen == [1, 2]
    for repeat in found.repeats:
        assert [len(r.itl_ns) for r in repeat.requests] == [4, 4, 4]
        assert repeat.counters == {"output_tokens": 15}
        assert repeat.wall_ns >= sum(r.e2e_ns for r in repeat.requests)
        assert all(gap >= 2_000_000 for r in repeat.requests for gap in r.itl_ns)
    assert len({r.tokens for r in found.repeats}) == 1


@pytest.mark.parametrize(
    ("walls", "stable"),
    [([], False), ([100, 100], False), ([900, 100, 103, 105], True), ([100, 100, 106], False)],
)
def test_warm_means_that_three_runs_agree(walls: list[int], stable: bool) -> None:
    assert is_stable(walls) is stable


def test_a_bench_carries_the_verdict_of_its_tokens(command: Command, project_folder: Path) -> None:
    ended = command(*BENCH, "--report", "b.html", "--report", "b.md", "--engine-arg", "seed=7")
    assert ended.status in (0, 3), ended.err  # four prompts may be too few to decide
    made = load_bench("b.json")
    assert made.complete
    assert made.accuracy.verdict in ("EQUIVALENT", "TOKEN_EXACT", "INCONCLUSIVE")
    assert [c.cell.prompt_tokens for c in made.cells] == [4, 8]
    assert {len(c.repeats) for c in made.cells} == {5}
    page = Path("b.html").read_text("utf-8")
    assert f"tokens: {made.accuracy.verdict}" in page
    assert "request handed over to its first token" in page
    assert ('class="crossed"' in page) is not made.aligned


def test_stored_benches_make_a_trend(command: Command, project_folder: Path) -> None:
    few = [*BENCH[:-1], "x.json", "--no-judge", "--repeats", "1"]
    assert command(*few).status == 0
    for name in ("t.html", "t.md"):
        assert command("report", "x.json", "x.json", "--out", name).status == 0
    assert "this machine" in Path("t.html").read_text("utf-8")


def test_figures_of_wrong_tokens_are_crossed_out(command: Command, project_folder: Path) -> None:
    ended = command(*BENCH, "--engine-arg", "fault=scale", "--report", "b.html", "--report", "b.md")
    assert ended.status in (1, 3)
    assert "tokens were not shown to be right" in ended.out.replace("whose tokens", "tokens")
    assert 'class="crossed"' in Path("b.html").read_text("utf-8")
    assert "~~" in Path("b.md").read_text("utf-8")


@pytest.mark.process
def test_a_killed_bench_keeps_its_repeats_and_goes_on(
    command: Command, project_folder: Path
) -> None:
    arguments = [*BENCH, "--no-judge", "--engine-arg", "delay=0.02", "--repeats", "6"]
    with subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments], stdout=subprocess.DEVNULL
    ) as child:
        end = time.monotonic() + 60
        while not Path("b.json").exists() or not load_bench("b.json").cells:
            assert child.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
    kept = load_bench("b.json")
    assert not kept.complete
    ended = command(*arguments)
    assert ended.status == 0
    assert "going on with what an interrupted bench measured" in ended.err
    made = load_bench("b.json")
    assert made.complete
    assert made.cells[0].repeats[: len(kept.cells[0].repeats)] == kept.cells[0].repeats


def test_a_cell_that_does_not_fit_is_left_out_and_none_at_all_is_refused(
    command: Command, project_folder: Path
) -> None:
    some = ("bench", "--device", "fake", "--suite", "s.yaml", "--no-judge", "--no-limits")
    ended = command(*some, "--prompt-lengths", "4,5000", "--output-tokens", "2", "--repeats", "1")
    assert ended.status == 0
    assert "longer than the 4096 positions of the model" in ended.err
    ended = command(*some, "--prompt-lengths", "5000")
    assert ended.status == 2
    assert "no cell of the grid fits" in ended.error


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--prompt-lengths", "4,x"), "--prompt-lengths '4,x': give whole numbers"),
        (("--prompt-lengths", "0"), "give whole numbers from 1 to 16777215"),
        (("--prompt-lengths", "4,,8"), "--prompt-lengths '4,,8': give whole numbers"),
        (("--prompt-lengths", "9" * 5000), "give whole numbers from 1 to 16777215"),
        (("--prompt-lengths", "16777216"), "give whole numbers from 1 to 16777215"),
        (("--batch-sizes", "1,2"), "fake runs one request at a time; --batch-sizes 2 is for"),
        (("--batch-sizes", "1048576"), "give whole numbers from 1 to 1048575"),
        (("--prompt-lengths", "16777215", "--output-tokens", "16777215"), "no cell of the grid"),
        (("--budget", "nan"), "--budget nan: give a number of seconds above 0"),
        (("--budget", "-1"), "--budget -1: give a number of seconds above 0"),
        (("--out", "."), ".: cannot be written (Is a directory)"),
        (("--out", "/proc/x.json"), "/proc/x.json: cannot be written ("),
        (("--out", "s.yaml"), "--out s.yaml: is not a bench and would be overwritten"),
        (("--against", "--python /nonexist"), "--python /nonexist: cannot be run (No such file"),
        (("--against", "--python /"), "--python /: cannot be run (Permission denied)"),
        (("--report", "b.pdf"), "b.pdf: a bench report is .html or .md"),
        (("--against", "--speed 3"), "--against '--speed 3': "),
        (("--against", "--dtype"), "--against '--dtype': "),
        (("--against", "--dtype 'x"), "No closing quotation"),
    ],
)
def test_wrong_usage_is_one_line(
    command: Command, project_folder: Path, arguments: tuple[str, ...], problem: str
) -> None:
    ended = command("bench", "--device", "fake", "--suite", "s.yaml", *arguments)
    assert ended.status == 2
    assert problem in ended.error
    assert not Path("reports").exists()


def test_more_tokens_than_a_bench_can_name_are_wrong_usage(command: Command) -> None:
    ended = command("bench", "--device", "fake", "--output-tokens", "16777216")
    assert ended.status == 2
    assert "--output-tokens" in ended.err


def test_a_bench_replaces_benches_only(command: Command, project_folder: Path) -> None:
    quick = ("--no-judge", "--repeats", "1", "--prompt-lengths", "4")
    Path("b.json").touch()  # an empty file is nothing to lose
    assert command(*BENCH, *quick).status == 0
    assert command(*BENCH, *quick).status == 0
    reference = "baselines/fake/s/bfloat16/reference.json"
    before = Path(reference).read_bytes()
    ended = command(*BENCH, *quick, "--out", reference)
    assert ended.error == (
        f"--out {reference}: is not a bench and would be overwritten; name another file"
    )
    assert Path(reference).read_bytes() == before
    assert command(*BENCH, *quick, "--report", "b.md", "--report", "b.md").status == 2


def test_without_a_baseline_the_status_says_that_nothing_was_judged(
    command: Command, project_folder: Path
) -> None:
    quick = (*BENCH, "--repeats", "1", "--baseline-dir", "none")
    ended = command(*quick)
    assert ended.status == 3
    assert load_bench("b.json").complete
    assert command(*quick, "--no-judge").status == 0


def test_against_names_what_differs() -> None:
    base = Configuration(DeviceSpec("vllm-cpu", "m", "bfloat16", engine_args={"a": "1"}))
    assert parse_against("--dtype float32", base) == Configuration(
        DeviceSpec("vllm-cpu", "m", "float32", engine_args={"a": "1"})
    )
    other = parse_against("--device=hf-cpu --engine-arg threads=2 --python /p/bin/python", base)
    assert (other.spec.device, other.spec.engine_args, other.python) == (
        "hf-cpu", {"threads": "2"}, "/p/bin/python",
    )  # fmt: skip
    assert parse_against("--device hf-cpu", base).spec.engine_args == {}
    with pytest.raises(UsageError):
        parse_against("positional", base)


@pytest.mark.process
def test_a_comparison_is_told_written_and_rendered_again(
    command: Command, project_folder: Path
) -> None:
    few = ("--prompt-lengths", "4", "--output-tokens", "4", "--budget", "0.01", "--no-judge")
    ended = command(
        *("bench", "--device", "fake", "--suite", "s.yaml", *few, "--out", "b.json"),
        *("--against", "--engine-arg seed=2", "--report", "b.html"),
    )
    assert ended.status in (0, 1, 3), ended.err
    assert "blocks of pairs: 2 of 32 in " in ended.err
    assert ended.out.endswith("written: b.json\nwritten: b.html\n")
    assert command("report", "b.json", "--out", "again.html").status == 0
    assert Path("again.html").read_bytes() == Path("b.html").read_bytes()
    twice = command("report", "b.json", "b.json", "--out", "r.html")
    assert "a report can hold one harness.bench-comparison/1, not 2" in twice.error


def _paired(first: Configuration, second: Configuration, folder: Path) -> Any:
    cell = Cell(prompt_tokens=4, output_tokens=6, batch_size=1)
    suite = str(folder / "s.yaml")
    return run_against(first, second, Paired((cell,), suite, judge=False, budget_s=60), Silent())


@pytest.mark.process
def test_a_slower_configuration_is_found_and_every_block_kept(project_folder: Path) -> None:
    slow = DeviceSpec("fake", engine_args={"delay": "0.02"})
    found = _paired(
        Configuration(slow),
        Configuration(slow, slowdown=0.3),
        project_folder,
    )
    assert found.outcome == "REGRESSED"
    cell = found.cells[0]
    assert len(cell.blocks_ns) >= 8
    assert {len(block) for block in cell.blocks_ns} == {4}
    assert 1.1 < cell.low < cell.ratio < cell.high
    back = json.loads(found.model_dump_json(by_alias=True))
    assert back["schema"] == "harness.bench-comparison/1"


@pytest.mark.process
def test_a_side_that_does_not_start_is_named(project_folder: Path) -> None:
    from harness.errors import DeviceError

    with pytest.raises(DeviceError, match=r"--device fake .*no --engine-arg colour"):
        _paired(
            Configuration(DeviceSpec("fake")),
            Configuration(DeviceSpec("fake", engine_args={"colour": "red"})),
            project_folder,
        )


def test_more_work_is_a_regression_whatever_the_clock_says(
    command: Command, project_folder: Path
) -> None:
    from harness.bench.against import _differing
    from harness.bench.result import RepeatTimes, RequestTimes

    one = RequestTimes(ttft_ns=1, itl_ns=(), e2e_ns=1)
    pair = [
        RepeatTimes(wall_ns=1, requests=(one,), tokens="", counters={"steps": n}) for n in (5, 6)
    ]
    assert _differing([(pair[0], pair[1])]) == {"steps": (5, 6)}

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
SUITE = ("--suite", "s.yaml")
BASELINE = "baselines/fake/s/bfloat16"
COMMANDS = {
    "record",
    "canary",
    "compare",
    "merge",
    "verify",
    "report",
    "serve",
    "locate",
    "baseline make",
    "baseline list",
    "baseline diff",
    "baseline prune",
    "baseline show",
    "checkpoint inspect",
    "checkpoint fix-config",
    "checkpoint verify-ternary",
    "checkpoint fuse",
    "doctor",
    "bench",
    "diagnose",
    "bench-load",
}


def _record(command: Command, out: str, *arguments: str) -> None:
    ended = command("record", "--device", "fake", *SUITE, "--out", out, *arguments)
    assert ended.status == 0, ended.err


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_of_every_command_has_an_example(command: Command, name: str) -> None:
    ended = command(*name.split(), "--help")
    assert ended.status == 0
    assert f"Example:  harness {name} " in f"{ended.out} ".replace("\n", " ")


def test_the_commands_are_these(command: Command) -> None:
    def listed(text: str) -> set[str]:
        _, _, block = text.partition("Commands:\n")
        return set(re.findall(r"^  ([a-z-]+)", block.partition("\n\n")[0], re.MULTILINE))

    groups = listed(command("--help").out)
    nested = {"baseline", "checkpoint"}
    inner = {f"{g} {name}" for g in nested for name in listed(command(g, "--help").out)}
    assert (groups - nested) | inner == COMMANDS


def test_the_help_tells_the_exit_statuses_and_debug(command: Command) -> None:
    text = " ".join(command("--help").out.split())
    assert "0 aligned; 1 not aligned; 2 wrong usage or unreadable input; 3 no judgement" in text
    assert "--debug" in text


def test_two_recordings_of_one_device_are_bit_exact(command: Command) -> None:
    _record(command, "a.json")
    _record(command, "b.json")
    ended = command("compare", "a.json", "b.json")
    assert ended.status == 0
    assert ended.out.startswith("BIT_EXACT: ")


def test_an_arm_of_the_baseline_is_no_candidate(command: Command, project_folder: Path) -> None:
    for arm in ("reference", "control-seed-1"):
        own = f"{BASELINE}/{arm}.json"
        (project_folder / "npu.json").write_bytes((project_folder / own).read_bytes())
        for candidate in (own, "npu.json"):
            ended = command("compare", candidate, BASELINE)
            assert ended.status == 2
            assert f"{candidate}: it is the baseline's own arm {arm} " in ended.error


def test_another_dtype_is_not_comparable_unless_allowed(command: Command) -> None:
    _record(command, "a.json")
    _record(command, "b.json", "--dtype", "float32")
    refused = command("compare", "a.json", "b.json")
    assert refused.status == 3
    assert refused.out.startswith("NOT_COMPARABLE: ")
    assert "  dtype: bfloat16 against float32" in refused.out
    allowed = command("compare", "a.json", "b.json", "--allow-dtype")
    assert allowed.status == 3
    assert allowed.out.startswith("INCONCLUSIVE: ")


def test_compare_writes_a_table_and_refuses_another_suffix_before_the_work(
    command: Command,
) -> None:
    _record(command, "a.json")
    _record(command, "b.json")
    ended = command("compare", "a.json", "b.json", "--table", "t.csv")
    assert ended.out.endswith("written: t.csv\n")
    assert Path("t.csv").read_text().startswith("device,prompt,position,class,")
    refused = command("compare", "missing.json", "missing.json", "--table", "t.xlsx")
    assert refused.status == 2
    assert refused.err.splitlines() == ["harness: error: t.xlsx: a table must be .csv or .parquet"]


@pytest.mark.parametrize(
    ("arguments", "verdict", "status"),
    [
        ((), "BIT_EXACT", 0),
        (("seed=4",), "EQUIVALENT", 0),
        (("fault=scale",), "DIVERGENT", 1),
        (("fault=nan",), "DIVERGENT", 1),
    ],
)
def test_the_status_says_whether_a_device_is_aligned(
    command: Command, arguments: tuple[str, ...], verdict: str, status: int
) -> None:
    pairs = [part for argument in arguments for part in ("--engine-arg", argument)]
    _record(command, "c.json", "--context", BASELINE, *pairs)
    ended = command("compare", "c.json", BASELINE)
    assert ended.out.startswith(f"{verdict}: ")
    assert ended.status == status


@pytest.mark.parametrize(
    ("noise", "arguments", "verdict"),
    [
        (0.1, (), "DRIFT"),
        (0.4, ("--engine-arg", "fault=unsteady", "--repeats", "4"), "NON_DETERMINISTIC"),
    ],
)
def test_noisier_devices_are_not_aligned(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    noise: float,
    arguments: tuple[str, ...],
    verdict: str,
) -> None:
    monkeypatch.setattr("harness.devices.fake._NOISE", noise)
    _record(command, "c.json", "--context", BASELINE, *arguments)
    ended = command("compare", "c.json", BASELINE)
    assert ended.out.startswith(f"{verdict}: ")
    assert ended.status == 1


def test_equal_tokens_of_another_engine_are_token_exact(
    command: Command, project_folder: Path
) -> None:
    file = project_folder / "s.yaml"
    # In place of the one prompt on which the fakes' noise decides a token.
    file.write_text(file.read_text("utf-8").replace("Hello there", "Red"), "utf-8")
    assert command("baseline", "make", "--device", "fake", *SUITE).status == 0
    _record(command, "c.json", "--context", BASELINE, "--engine-arg", "seed=4")
    ended = command("compare", "c.json", BASELINE)
    assert ended.out.startswith("TOKEN_EXACT: ")
    assert ended.status == 0


def test_positions_that_were_not_judged_give_no_judgement(command: Command) -> None:
    _record(command, "c.json", "--engine-arg", "seed=4")
    ended = command("compare", "c.json", BASELINE)
    assert ended.status == 3
    assert ended.out.startswith("INCONCLUSIVE: ")
    assert "19 of 24 positions of the baseline were judged" in ended.out


def test_an_edited_token_id_is_refused_by_file_and_field(
    command: Command, project_folder: Path
) -> None:
    _record(command, "a.json")
    file = project_folder / "a.json"
    text = file.read_text("utf-8")
    edited = re.sub(r'"free":.*?"token_ids": \[(\d+)', _plus_one, text, count=1, flags=re.DOTALL)
    assert edited != text
    file.write_text(edited, "utf-8")
    ended = command("compare", "a.json", BASELINE)
    assert ended.status == 2
    assert ended.error.startswith("a.json: prompts[0].free.token_ids: ")
    assert ended.err.count("\n") == 1


def _plus_one(found: re.Match[str]) -> str:
    whole, number = found[0], found[1]
    return whole[: -len(number)] + str(int(number) + 1)


@pytest.mark.process
def test_debug_shows_the_traceback(project_folder: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "harness", "compare", "no.json", "no.json", "--debug"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode != 0
    assert "Traceback (most recent call last)" in ended.stderr
    assert "FormatError" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("compare", "no.json", BASELINE), "no.json: cannot be read (No such file"),
        (("compare", ".", BASELINE), ".: cannot be read (Is a directory)"),
        (("compare", "s.yaml", BASELINE), "s.yaml:1: is not JSON"),
        (("compare", f"{BASELINE}/reference.json", "reports"), "reports"),
        (("compare", f"{BASELINE}/reference.json", "."), "no baseline here"),
        (("record", "--device", "tpu", "--out", "x.json"), "unknown device 'tpu'"),
        (("record", "--device", "fake", "--suite", "no", "--out", "x.json"), "no such suite"),
        (("record", "--device", "fake", *SUITE, "--out", "."), "--out . is a folder"),
        (("record", "--device", "fake", *SUITE, "--out", "s.yaml/x.json"), "cannot be written"),
        (
            ("record", "--device", "fake", *SUITE, "--out", "x.json", "--dtype", "int4"),
            "no dtype 'int4'",
        ),
        (
            ("record", "--device", "fake", *SUITE, "--out", "x", "--replay", "forced-decode"),
            "give --context",
        ),
        (
            ("record", "--device", "fake", *SUITE, "--out", "x", "--engine-arg", "seed"),
            "is not of the form K=V",
        ),
        (("report", "no.json", "--out", "r.html"), "no.json: cannot be read"),
        (
            ("report", f"{BASELINE}/oracle.json", f"{BASELINE}/reference.json", "--out", "r.html"),
            "schema",
        ),
    ],
)
def test_a_mistake_is_one_line_and_status_two(
    command: Command, arguments: tuple[str, ...], told: str
) -> None:
    ended = command(*arguments)
    assert ended.status == 2
    assert told in ended.error


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("compare", "a.json"),
        ("record", "--device", "fake", "--out", "x", "--max-new-tokens", "0"),
        ("record", "--device", "fake", "--out", "x", "--replay", "backwards"),
        ("report", "a.json", "--out", "r.html", "--lang", "tlh"),
    ],
)
def test_a_wrong_command_line_is_status_two(command: Command, arguments: tuple[str, ...]) -> None:
    ended = command(*arguments)
    assert ended.status == 2
    assert "Traceback" not in ended.err


def test_a_place_that_takes_no_file_is_status_two_and_leaves_nothing(
    command: Command, project_folder: Path
) -> None:
    before = sorted(project_folder.rglob("*"))
    reference = f"{BASELINE}/reference.json"
    ended = command("compare", reference, BASELINE, "--json", "s.yaml/a.json")
    assert ended.status == 2
    assert "s.yaml/a.json: cannot be written" in ended.error
    assert sorted(project_folder.rglob("*")) == before


def test_compare_writes_json_and_reports(command: Command, project_folder: Path) -> None:
    _record(command, "npu.json")
    ended = command(
        *("compare", "npu.json", BASELINE, "--json", "a.json", "--report", "r.html"),
        *("--report", "r.md"),
    )
    assert ended.status == 0
    assert "written: a.json\nwritten: r.html\nwritten: r.md\n" in ended.out
    found = json.loads((project_folder / "a.json").read_text("utf-8"))
    assert {
        *("verdict", "error_ratio", "gates", "positions", "prompts", "comparability"),
        *("candidate", "baseline", "performance"),
    } <= found.keys()
    assert found["error_ratio"].keys() == {"value", "low", "high"}
    assert {"name", "status", "value", "threshold"} <= found["gates"][0].keys()
    assert {
        *("id", "verdict", "tokens_compared", "first_divergence"),
        *("class", "margin", "shift", "tolerance"),
    } <= found["prompts"][0].keys()
    assert found["reproduce"] == [f"harness compare npu.json {BASELINE}"]


def test_the_command_that_repeats_a_comparison_can_be_pasted(
    command: Command, project_folder: Path
) -> None:
    _record(command, "a b.json")
    command("compare", "a b.json", BASELINE, "--json", "a.json")
    found = json.loads((project_folder / "a.json").read_text("utf-8"))
    assert found["reproduce"] == [f"harness compare 'a b.json' {BASELINE}"]


def test_report_renders_one_alignment_as_compare_did(
    command: Command, project_folder: Path
) -> None:
    _record(command, "npu.json")
    command("compare", "npu.json", BASELINE, "--json", "a.json", "--report", "r.html")
    assert command("report", "a.json", "--out", "again.html").status == 0
    assert (project_folder / "again.html").read_bytes() == (project_folder / "r.html").read_bytes()


def test_report_sets_several_alignments_side_by_side(
    command: Command, project_folder: Path
) -> None:
    for seed in ("4", "5"):
        out = f"c{seed}.json"
        _record(command, out, "--context", BASELINE, "--engine-arg", f"seed={seed}")
        assert command("compare", out, BASELINE, "--json", f"a{seed}.json").status in (0, 3)
    for out in ("r.html", "r.md"):
        assert command("report", "a4.json", "a5.json", "--out", out).status == 0
        text = (project_folder / out).read_text("utf-8")
        assert "c4.json" in text
        assert "c5.json" in text
    assert (
        "one .json holds one alignment"
        in command("report", "a4.json", "a5.json", "--out", "r.json").error
    )


def test_a_report_of_another_suffix_is_refused(command: Command) -> None:
    _record(command, "npu.json")
    command("compare", "npu.json", BASELINE, "--json", "a.json")
    ended = command("report", "a.json", "--out", "r.pdf")
    assert ended.status == 2
    assert ".html, .md or .json" in ended.error


def test_full_logits_stand_beside_the_recording(command: Command, project_folder: Path) -> None:
    pytest.importorskip("safetensors", reason="the base install has no safetensors")
    _record(command, "a.json", "--logits", "full")
    assert len(list(project_folder.glob("a*.safetensors"))) == 1


def test_an_interrupt_is_status_130_and_says_what_is_kept(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.devices.fake.FakeDevice._row", interrupt)
    ended = command("record", "--device", "fake", *SUITE, "--out", "a.json")
    assert ended.status == 130
    assert "harness: interrupted; repeat the command to continue" in ended.err
    assert "Traceback" not in ended.err


def test_a_batch_size_reaches_the_device(command: Command) -> None:
    ended = command("record", "--device", "fake", "--batch-size", 2, *SUITE, "--out", "a.json")
    assert ended.status == 2
    assert "fake runs one request at a time; --batch-size 2 is for npu" in ended.error

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness import Suite, compare, load_recording, record
from harness.baseline.folder import load_baseline
from harness.errors import HarnessError, UsageError
from harness.suite.read import load_suite

BASELINE = Path("baselines/fake/s/bfloat16")


def test_the_public_names_are_these() -> None:
    assert harness.__all__ == ["Suite", "compare", "load_recording", "record"]
    assert all(callable(getattr(harness, name)) for name in harness.__all__)
    assert Suite is type(load_suite("port"))
    with pytest.raises(AttributeError, match="no attribute 'recrod'"):
        _ = harness.recrod


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); import harness; "
        "print(sorted({m.partition('.')[0] for m in set(sys.modules) - before} - {'harness'} "
        "- set(sys.stdlib_module_names)))"
    )
    root = Path(harness.__file__).parents[1]
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[]\n"


def test_a_recording_is_returned_and_written(project_folder: Path) -> None:
    made = record("fake", "fake", "s.yaml", out="a.json", max_new_tokens=3)
    assert made.positions == 12
    again = load_recording("a.json")
    assert again.suite == made.suite
    assert [p.run.token_ids for p in again.prompts] == [p.run.token_ids for p in made.prompts]


def test_a_loaded_suite_and_engine_args_are_taken(project_folder: Path) -> None:
    made = record("fake", "fake", load_suite("s.yaml"), dtype="float16", engine_args={"seed": "9"})
    assert (made.dtype, made.engine.facts["seed"]) == ("float16", 9)


def test_a_context_is_forced(project_folder: Path) -> None:
    reference = load_baseline(BASELINE).reference
    made = record("fake", "fake", "s.yaml", replay="forced-decode", context=reference)
    assert [p.free for p in made.prompts] == [None] * 4
    for mine, theirs in zip(made.prompts, reference.prompts, strict=True):
        # The fake reference is the same engine, so its bits come again.
        assert mine.run.rows.digest.tobytes() == theirs.run.rows.digest.tobytes()


def test_files_and_loaded_arms_compare_alike(project_folder: Path) -> None:
    made = record("fake", "fake", "s.yaml", out="npu.json")
    by_file = compare("npu.json", str(BASELINE))
    loaded = compare(made, load_baseline(BASELINE))
    assert by_file.verdict == loaded.verdict == "BIT_EXACT"
    assert by_file.candidate.file == "npu.json"
    assert loaded.candidate.file == ""
    assert compare(made, BASELINE / "reference.json").verdict == "BIT_EXACT"
    itself = compare(made, "npu.json")
    assert itself.verdict == "BIT_EXACT"
    assert "says nothing of a device" in itself.remarks[0].sentence


def test_a_mistake_is_an_error_of_the_harness(project_folder: Path) -> None:
    with pytest.raises(HarnessError, match="give --context"):
        record("fake", "fake", "s.yaml", replay="forced-prefill")
    with pytest.raises(HarnessError, match="nowhere"):
        compare("nowhere.json", BASELINE)


def test_a_batch_size_reaches_the_device() -> None:
    with pytest.raises(UsageError, match="fake runs one request at a time; --batch-size 2"):
        record("fake", "fake", "port", batch_size=2)


def test_a_device_of_ones_own_is_recorded(project_folder: Path) -> None:
    from harness.recording.recorder import Options
    from harness.testing import FakeDevice, fake_subject

    by_name = record("fake", "fake", "s.yaml")
    for made in (
        record(FakeDevice(), fake_subject(), "s.yaml"),
        record(FakeDevice(), fake_subject(), load_suite("s.yaml"), Options(repeats=1)),
    ):
        assert [p.run.token_ids for p in made.prompts] == [p.run.token_ids for p in by_name.prompts]
    with pytest.raises(UsageError, match="goes with its subject"):
        record(FakeDevice(), "fake", "s.yaml")
    with pytest.raises(UsageError, match="goes with its subject"):
        record("fake", fake_subject(), "s.yaml")
    with pytest.raises(UsageError, match="when it is made"):
        record(FakeDevice(), fake_subject(), "s.yaml", dtype="float16")
    with pytest.raises(UsageError, match="one or the other"):
        record("fake", "fake", "s.yaml", Options(), replay="forced-decode")

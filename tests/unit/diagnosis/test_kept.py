"""The arms' scores, kept for the next candidate."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from linear_oracle import LinearOracle, directions, errors

from harness.devices.causes import Cause
from harness.diagnosis.kept import kept_file, load
from harness.diagnosis.run import diagnose
from harness.process.progress import Progress

BASE = Cause("rope_base")
CAUSES = [
    BASE,
    *(Cause("mlp", f"model.layers.{i}.mlp") for i in range(6)),
    *(Cause("row", "model.layers.3.mlp.gate_proj", i) for i in range(9)),
]
PROMPTS = 12


@pytest.fixture
def along() -> dict[Cause, np.ndarray]:
    return directions(np.random.default_rng(1), CAUSES, PROMPTS)


def quiet() -> Progress:
    return Progress(io.StringIO())


def test_the_next_candidate_gets_the_same_and_asks_for_less(
    tmp_path: Path, along: dict[Cause, np.ndarray]
) -> None:
    given = errors(np.random.default_rng(2), PROMPTS, {CAUSES[3]: 0.4}, along)
    file = kept_file(tmp_path, given, "weights")
    first, second, without = (LinearOracle(along, (BASE,)) for _ in range(3))
    made = diagnose(given, first, quiet(), file)
    assert file.is_file()
    assert diagnose(given, second, quiet(), file) == made
    assert diagnose(given, without, quiet()) == made
    assert second.passes < first.passes
    assert second.vectors < first.vectors / 2


def test_another_candidate_of_the_same_arms_finds_them(
    tmp_path: Path, along: dict[Cause, np.ndarray]
) -> None:
    given = errors(np.random.default_rng(2), PROMPTS, {CAUSES[3]: 0.4}, along)
    other = replace(
        given, prompts=tuple(replace(p, candidate=2.0 * p.candidate) for p in given.prompts)
    )
    file = kept_file(tmp_path, given, "weights")
    assert kept_file(tmp_path, other, "weights") == file
    assert kept_file(tmp_path, given, "other weights") != file
    arms = replace(given, prompts=tuple(replace(p, arms=2.0 * p.arms) for p in given.prompts))
    assert kept_file(tmp_path, arms, "weights") != file
    diagnose(given, LinearOracle(along, (BASE,)), quiet(), file)
    kept = diagnose(other, LinearOracle(along, (BASE,)), quiet(), file)
    assert kept == diagnose(other, LinearOracle(along, (BASE,)), quiet())


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "gone"])
def test_a_damaged_file_is_made_again(
    tmp_path: Path, along: dict[Cause, np.ndarray], damage: str
) -> None:
    given = errors(np.random.default_rng(2), PROMPTS, {CAUSES[3]: 0.4}, along)
    file = kept_file(tmp_path, given, "weights")
    made = diagnose(given, LinearOracle(along, (BASE,)), quiet(), file)
    whole = file.read_bytes()
    file.write_bytes({"cut": whole[: len(whole) // 2], "text": b"hello"}.get(damage, b""))
    if damage == "gone":
        file.unlink()
    assert load(file, given) is None
    assert diagnose(given, LinearOracle(along, (BASE,)), quiet(), file) == made
    assert load(file, given) is not None


def test_scores_of_other_causes_are_made_again(
    tmp_path: Path, along: dict[Cause, np.ndarray]
) -> None:
    """As after an update that knows more causes."""
    given = errors(np.random.default_rng(2), PROMPTS, {CAUSES[3]: 0.4}, along)
    file = kept_file(tmp_path, given, "weights")
    fewer = {cause: d for cause, d in along.items() if cause != CAUSES[5]}
    diagnose(given, LinearOracle(fewer, (BASE,)), quiet(), file)
    said = io.StringIO()
    found = diagnose(given, LinearOracle(along, (BASE,)), Progress(said), file)
    assert "it is made again" in said.getvalue()
    assert found == diagnose(given, LinearOracle(along, (BASE,)), quiet())


def test_a_cache_that_cannot_be_written_is_a_note(
    tmp_path: Path, along: dict[Cause, np.ndarray]
) -> None:
    given = errors(np.random.default_rng(2), PROMPTS, {}, along)
    (tmp_path / "diagnosis").write_text("a file in the way", "utf-8")
    said = io.StringIO()
    file = kept_file(tmp_path, given, "weights")
    diagnose(given, LinearOracle(along, (BASE,)), Progress(said), file)
    assert "the arms' scores are not kept" in said.getvalue()

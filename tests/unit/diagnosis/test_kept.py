"""The arms' scores, kept for the next candidate."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories import facts
from linear_oracle import LinearOracle, directions, errors

from harness.devices.causes import Cause
from harness.diagnosis import kept
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
MODEL = facts(weights="ab" * 32)


@pytest.fixture
def along() -> dict[Cause, np.ndarray]:
    return directions(np.random.default_rng(1), CAUSES, PROMPTS)


def quiet() -> Progress:
    return Progress(io.StringIO())


def test_the_next_candidate_gets_the_same_and_asks_for_less(
    tmp_path: Path, along: dict[Cause, np.ndarray]
) -> None:
    given = errors(np.random.default_rng(2), PROMPTS, {CAUSES[3]: 0.4}, along)
    file = kept_file(tmp_path, given, MODEL)
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
    file = kept_file(tmp_path, given, MODEL)
    assert kept_file(tmp_path, other, MODEL) == file
    others = [
        MODEL.model_copy(update={"weights": "cd" * 32}),
        MODEL.model_copy(update={"config": {**(MODEL.config or {}), "rope": {"rope_theta": 1.0}}}),
        MODEL.model_copy(update={"config_defaults": {"attention_bias": True}}),
    ]
    assert len({kept_file(tmp_path, given, each) for each in (MODEL, *others)}) == 4
    named = MODEL.model_copy(update={"name": "./another/folder"})
    assert kept_file(tmp_path, given, named) == file
    ids = {p.token_ids: np.arange(12, dtype=np.int32)[:, None] for p in given.prompts}
    moved = {read: each + 1 for read, each in ids.items()}
    listed = [replace(given, chosen=chosen) for chosen in (ids, moved)]
    assert len({kept_file(tmp_path, each, MODEL) for each in (given, *listed)}) == 3
    arms = replace(given, prompts=tuple(replace(p, arms=2.0 * p.arms) for p in given.prompts))
    assert kept_file(tmp_path, arms, MODEL) != file
    diagnose(given, LinearOracle(along, (BASE,)), quiet(), file)
    found = diagnose(other, LinearOracle(along, (BASE,)), quiet(), file)
    assert found == diagnose(other, LinearOracle(along, (BASE,)), quiet())


def test_what_other_code_made_is_made_again(
    tmp_path: Path, along: dict[Cause, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = errors(np.random.default_rng(2), PROMPTS, {CAUSES[3]: 0.4}, along)
    file = kept_file(tmp_path, given, MODEL)
    diagnose(given, LinearOracle(along, (BASE,)), quiet(), file)
    assert load(file, given) is not None
    monkeypatch.setattr(kept, "made_with", lambda: "another version")
    assert load(file, given) is None
    diagnose(given, LinearOracle(along, (BASE,)), quiet(), file)
    assert load(file, given) is not None
    assert [each.name for each in file.parent.iterdir()] == [file.name]  # in its place


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "gone"])
def test_a_damaged_file_is_made_again(
    tmp_path: Path, along: dict[Cause, np.ndarray], damage: str
) -> None:
    given = errors(np.random.default_rng(2), PROMPTS, {CAUSES[3]: 0.4}, along)
    file = kept_file(tmp_path, given, MODEL)
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
    file = kept_file(tmp_path, given, MODEL)
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
    file = kept_file(tmp_path, given, MODEL)
    diagnose(given, LinearOracle(along, (BASE,)), Progress(said), file)
    assert "the arms' scores are not kept" in said.getvalue()

"""The arms' scores in a baseline's folder: small, checked, and as good as the arms."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import facts
from linear_oracle import LinearOracle, directions, errors

from harness.baseline.arm_files import is_own
from harness.baseline.folder import load_baseline
from harness.devices.causes import Cause
from harness.diagnosis import stored
from harness.diagnosis.errors import Errors
from harness.diagnosis.kept import Kept, kept_file, save
from harness.diagnosis.run import arms_of, diagnose
from harness.process.progress import Progress

BASE = Cause("rope_base")
CAUSES = [
    BASE,
    *(Cause("mlp", f"model.layers.{i}.mlp") for i in range(5)),
    *(Cause("row", "model.layers.3.mlp.gate_proj", i) for i in range(40)),
]
PROMPTS = 8
DIGEST = "ab" * 16
Entries = dict[str, bytes]


@pytest.fixture(scope="module")
def along() -> dict[Cause, np.ndarray]:
    return directions(np.random.default_rng(1), CAUSES, PROMPTS)


@pytest.fixture(scope="module")
def given(along: dict[Cause, np.ndarray]) -> Errors:
    return errors(np.random.default_rng(2), PROMPTS, {CAUSES[3]: 0.5}, along)


@pytest.fixture(scope="module")
def arms(given: Errors, along: dict[Cause, np.ndarray]) -> Kept:
    oracle = LinearOracle(along, (BASE,))
    made = arms_of(given, oracle, quiet())
    assert oracle.vectors == 3 * PROMPTS  # the mean of the arms, and two differences
    assert not made.scores.candidate.any()
    return made


@pytest.fixture
def file(tmp_path: Path, arms: Kept) -> Path:
    stored.write(tmp_path / stored.NAME, arms, DIGEST)
    return tmp_path / stored.NAME


def quiet() -> Progress:
    return Progress(io.StringIO())


def test_a_candidate_costs_one_pass_and_is_told_the_same(
    file: Path, given: Errors, along: dict[Cause, np.ndarray]
) -> None:
    found = stored.read(file, given, DIGEST)
    assert isinstance(found, Kept)
    without, oracle = LinearOracle(along, (BASE,)), LinearOracle(along, (BASE,))
    wanted, made = diagnose(given, without, quiet()), diagnose(given, oracle, quiet(), None, found)
    assert without.vectors - oracle.vectors == 3 * PROMPTS
    assert [e.message for e in made.explanations] == [e.message for e in wanted.explanations]
    assert made.explanations[0].kind == "mlp"
    for mine, theirs in zip(made.families, wanted.families, strict=True):
        assert mine.t == pytest.approx(theirs.t, abs=0.02)
        assert (mine.hypotheses, mine.limit) == (theirs.hypotheses, theirs.limit)


def test_every_t_of_a_part_stays_within_two_hundredths(
    file: Path, given: Errors, along: dict[Cause, np.ndarray], arms: Kept
) -> None:
    found = stored.read(file, given, DIGEST)
    assert isinstance(found, Kept)
    for mine, theirs in zip(found.scores.parts, arms.scores.parts, strict=True):
        top = np.abs(theirs.rounding).max(axis=0)
        assert np.all(np.abs(mine.rounding - theirs.rounding) <= 0.51 * top / 127)
        assert mine.null.variance == pytest.approx(theirs.null.variance, rel=1e-6)
    assert found.settings.keys() == arms.settings.keys()


def test_it_takes_a_third_of_the_room_or_less(tmp_path: Path) -> None:
    """As a model has it, nearly all of it is parts."""
    many = [BASE, *(Cause("row", "model.layers.3.mlp.gate_proj", i) for i in range(400))]
    prompts = 36
    along = directions(np.random.default_rng(1), many, prompts)
    given = errors(np.random.default_rng(2), prompts)
    made = arms_of(given, LinearOracle(along), quiet())
    file = kept_file(tmp_path, given, facts())
    save(file, made)
    stored.write(tmp_path / stored.NAME, made, DIGEST)
    rows = 8 * 64 * given.rows  # the cache has the oracle's rows as well
    assert (tmp_path / stored.NAME).stat().st_size < (file.stat().st_size - rows) / 3


def test_the_file_is_the_harnesses_own_and_a_users_archive_is_not(
    file: Path, tmp_path: Path
) -> None:
    assert is_own(file)
    other = tmp_path / "other" / stored.NAME
    other.parent.mkdir()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("notes", "a user's own")
    assert not is_own(other)
    other.write_bytes(b"")
    assert not is_own(other)
    other.unlink()
    other.symlink_to(file)
    assert not is_own(other)


def test_the_same_scores_make_the_same_file(file: Path, tmp_path: Path, arms: Kept) -> None:
    stored.write(tmp_path / "again.zip", arms, DIGEST)
    assert (tmp_path / "again.zip").read_bytes() == file.read_bytes()


def test_other_arms_and_other_prompts_find_nothing(
    file: Path, given: Errors, along: dict[Cause, np.ndarray]
) -> None:
    assert stored.read(file, given, "cd" * 16) == (
        "it is of other arms, other weights or other rows"
    )
    assert stored.read(file, given.of_prompts(range(PROMPTS - 1)), DIGEST) == "it is damaged"
    assert stored.read(file.with_name("absent"), given, DIGEST) == "it is damaged"


def changed(file: Path, change: Callable[[Entries], None]) -> None:
    """The archive again, with other entries."""
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def about(**changes: Any) -> Callable[[Entries], None]:
    def change(entries: Entries) -> None:
        entries["about"] = json.dumps({**json.loads(entries["about"]), **changes}).encode()

    return change


def entry(name: str, data: bytes | None) -> Callable[[Entries], None]:
    def change(entries: Entries) -> None:
        if data is None:
            del entries[name]
        else:
            entries[name] = data + entries[name][len(data) :]

    return change


NAN = np.array([np.nan], "<f4").tobytes()
HOSTILE: dict[str, Callable[[Entries], None]] = {
    "no about": entry("about", None),
    "no codes": entry("codes", None),
    "a pickle": lambda entries: entries.update(about=pickle.dumps({"schema": stored.SCHEMA})),
    "deep json": lambda entries: entries.update(about=b"[" * 100_000),
    "a list": lambda entries: entries.update(about=b"[]"),
    "NaN": entry("scales", NAN),
    "NaN in a score": entry("rounding", np.array([np.nan], "<f8").tobytes()),
    "a variance below 0": entry("variance", np.array([-1.0], "<f4").tobytes()),
    "fewer arms": about(arms=3),
    "no contrasts": about(contrasts=0),
    "more parts than there are": about(parts=[["row", "x", 1 << 40]]),
    "fewer than none": about(parts=[["row", "x", -40], ["row", "y", 80]]),
    "half a part": about(parts=[["row", "x", 0.5]]),
    "text for a count": about(parts=[["row", "x", "40"]]),
    "no causes": about(causes=[]),
    "causes of another form": about(causes=[["mlp"]]),
    "a setting too many": about(settings=[["rope_base", "", -1, -1]] * 2),
    "weights without end": about(weights=1 << 400),
    "another schema": about(schema="harness.diagnosis-arms/2"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_nothing_in_it_is_believed(
    file: Path, given: Errors, what: str, recwarn: pytest.WarningsRecorder
) -> None:
    changed(file, HOSTILE[what])
    found = stored.read(file, given, DIGEST)
    assert found == ("it has another form" if what == "another schema" else "it is damaged")
    assert not recwarn.list


@pytest.mark.parametrize("damage", [b"", b"hello", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_no_archive_is_damaged(file: Path, given: Errors, damage: bytes) -> None:
    file.write_bytes(damage)
    assert stored.read(file, given, DIGEST) == "it is damaged"


def test_every_flipped_byte_is_damage_or_changes_nothing(
    file: Path, given: Errors, along: dict[Cause, np.ndarray]
) -> None:
    whole = file.read_bytes()
    for place in range(0, len(whole), 97):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        found = stored.read(file, given, DIGEST)
        assert isinstance(found, (str, Kept))


def test_more_than_the_limits_is_refused(
    file: Path, given: Errors, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(stored, "MOST_UNPACKED", 1000)
        assert "unpacks to more" in str(stored.read(file, given, DIGEST))
    monkeypatch.setattr(stored, "MOST_BYTES", 1000)
    assert "is larger" in str(stored.read(file, given, DIGEST))


@pytest.mark.parametrize(
    "lacks", [CAUSES[4], CAUSES[-1], BASE], ids=["a cause", "a part", "a setting"]
)
def test_scores_of_other_causes_are_made_again(
    file: Path, given: Errors, along: dict[Cause, np.ndarray], lacks: Cause
) -> None:
    """As after an update that knows more."""
    fewer = {cause: d for cause, d in along.items() if cause != lacks}
    settings = (BASE,) if lacks != BASE else ()
    stored.write(file, arms_of(given, LinearOracle(fewer, settings), quiet()), DIGEST)
    found, said = stored.read(file, given, DIGEST), io.StringIO()
    assert isinstance(found, Kept)
    made = diagnose(given, LinearOracle(along, (BASE,)), Progress(said), None, found)
    assert "it is made again" in said.getvalue()
    assert made == diagnose(given, LinearOracle(along, (BASE,)), quiet())


def test_a_baseline_is_read_as_without_it(made_project: Path, tmp_path: Path, file: Path) -> None:
    folder = tmp_path / "bfloat16"
    shutil.copytree(made_project / "baselines/fake/s/bfloat16", folder)
    before = load_baseline(folder)
    shutil.copy(file, folder / stored.NAME)
    after = load_baseline(folder)
    assert [name for name, _ in after.arms()] == [name for name, _ in before.arms()]

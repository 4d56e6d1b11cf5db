"""A diagnosis that was killed goes on where it was, with equal results."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from factories import facts
from linear_oracle import Found, LinearOracle, directions, errors

from harness.alignment.diagnosis import Diagnosis
from harness.devices.base import Request
from harness.devices.causes import Cause
from harness.devices.fake import FakeDevice
from harness.devices.oracle import Question
from harness.diagnosis import remembered
from harness.diagnosis.command import _asked, _Chosen
from harness.diagnosis.errors import Errors
from harness.diagnosis.kept import kept_file
from harness.diagnosis.made_with import made_with
from harness.diagnosis.remembered import Remembered, remembered_in
from harness.diagnosis.run import diagnose
from harness.errors import HarnessError, UsageError
from harness.files.locks import locked_folder
from harness.process.progress import Progress

BASE = Cause("rope_base")
CAUSES = [
    BASE,
    *(Cause("mlp", f"model.layers.{i}.mlp") for i in range(4)),
    *(Cause("row", "model.layers.3.mlp.gate_proj", i) for i in range(3)),
    *(Cause("weight", "model.layers.3.mlp.gate_proj", 1, i) for i in range(5)),
]
PROMPTS = 8
#: Passes of a whole diagnosis: forwards with gradients, the base, the causes, what is left.
CUTS = (1, 5, PROMPTS, PROMPTS + 1, 2 * PROMPTS + 3, 5 * PROMPTS - 2)


class Stopped(Exception):
    pass


def stop() -> None:
    raise Stopped


@dataclass
class Counted(LinearOracle):
    """Ends in its n-th answer that is computed."""

    after: int = -1
    end: Callable[[], None] = stop
    asked: int = 0

    def sketches(self, ids: Sequence[int], rows: int) -> Any:
        if self.asked == self.after:
            self.end()
        self.asked += 1
        return super().sketches(ids, rows)

    def gradients(self, ids: Sequence[int], vectors: Sequence[Any]) -> tuple[Any, list[Found]]:
        assert not self.sizes
        return super().gradients(ids, vectors)


def world() -> tuple[dict[Cause, np.ndarray], Errors]:
    along = directions(np.random.default_rng(1), CAUSES, PROMPTS)
    return along, errors(np.random.default_rng(2), PROMPTS, {CAUSES[3]: 0.6}, along)


def diagnosed(folder: Path, oracle: Counted, said: io.StringIO | None = None) -> Diagnosis:
    _, given = world()
    progress = Progress(said or io.StringIO())
    going = remembered_in(folder, given, {"weights": "ab"})
    asked = Remembered(oracle, going, progress)
    found = diagnose(given, asked, progress, kept_file(folder, given, facts()))
    asked.forget()
    return found


def test_it_goes_on_after_the_answers_that_it_has(tmp_path: Path) -> None:
    along, given = world()
    whole = Counted(along, (BASE,))
    named = diagnosed(tmp_path / "whole", whole)
    assert named.explanations
    unbroken = named.model_dump_json()
    assert whole.asked > max(CUTS)
    assert unbroken == diagnose(given, LinearOracle(along, (BASE,)), Progress(io.StringIO())
                                ).model_dump_json()  # fmt: skip
    for cut in CUTS:
        folder, said = tmp_path / str(cut), io.StringIO()
        with pytest.raises(Stopped):
            diagnosed(folder, Counted(along, (BASE,), after=cut))
        second = Counted(along, (BASE,))
        assert diagnosed(folder, second, said).model_dump_json() == unbroken
        assert second.asked == whole.asked - cut
        assert "going on with an interrupted diagnosis" in said.getvalue()


def test_it_may_be_stopped_again_and_again(tmp_path: Path) -> None:
    along, _ = world()
    stops = 0
    while True:
        try:
            found = diagnosed(tmp_path, Counted(along, (BASE,), after=7))
            break
        except Stopped:
            stops += 1
    assert stops == 5
    assert found == diagnosed(tmp_path / "unbroken", Counted(along, (BASE,)))


def test_nothing_is_left_of_one_that_came_to_its_end(tmp_path: Path) -> None:
    along, _ = world()
    diagnosed(tmp_path, Counted(along, (BASE,)))
    assert [file.suffix for file in (tmp_path / "diagnosis").iterdir()] == [".npz"]


def test_the_folder_is_of_these_errors_this_model_and_this_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, given = world()
    own = remembered_in(tmp_path, given, {"weights": "ab"})
    assert own == remembered_in(tmp_path, given, {"weights": "ab"})
    first, *others = given.prompts
    changed = [
        replace(first, candidate=2.0 * first.candidate),
        replace(first, arms=2.0 * first.arms),
        replace(first, truth=first.truth + 1.0),
        replace(first, token_ids=(0, 2)),
    ]
    folders = {
        remembered_in(tmp_path, replace(given, prompts=(c, *others)), {"weights": "ab"})
        for c in changed
    }
    folders |= {remembered_in(tmp_path, given, {"weights": "cd"}), own}
    assert len(made_with()) == 64
    monkeypatch.setattr(remembered, "made_with", lambda: "another version")
    folders.add(remembered_in(tmp_path, given, {"weights": "ab"}))
    assert len(folders) == len(changed) + 3


@pytest.mark.parametrize("damage", [b"", b"hello", b"PK\x03\x04", None])
def test_a_damaged_answer_is_computed_again(tmp_path: Path, damage: bytes | None) -> None:
    along, given = world()
    with pytest.raises(Stopped):
        diagnosed(tmp_path, Counted(along, (BASE,), after=PROMPTS + 4))
    for file in remembered_in(tmp_path, given, {"weights": "ab"}).glob("*.npz"):
        file.write_bytes(file.read_bytes()[:-40] if damage is None else damage)
    found = diagnosed(tmp_path, Counted(along, (BASE,)))
    assert found == diagnosed(tmp_path / "unbroken", Counted(along, (BASE,)))


def test_no_more_is_kept_than_there_is_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    along, given = world()
    most = 20_000
    monkeypatch.setattr(remembered, "MOST_BYTES", most)
    with pytest.raises(Stopped):
        diagnosed(tmp_path, Counted(along, (BASE,), after=2 * PROMPTS))
    kept = list(remembered_in(tmp_path, given, {"weights": "ab"}).glob("*.npz"))
    assert kept
    assert sum(file.stat().st_size for file in kept) <= most
    found = diagnosed(tmp_path, Counted(along, (BASE,)))
    assert found == diagnosed(tmp_path / "unbroken", Counted(along, (BASE,)))


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    along, _ = world()
    (tmp_path / "diagnosis").write_text("a file in the way", "utf-8")
    said = io.StringIO()
    diagnosed(tmp_path, Counted(along, (BASE,)), said)
    assert said.getvalue().count("an interrupted diagnosis will not go on") == 1


def test_what_nobody_went_on_with_is_forgotten(tmp_path: Path) -> None:
    along, given = world()
    old, new = tmp_path / "diagnosis/old.going", tmp_path / "diagnosis/new.going"
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    Remembered(LinearOracle(along), remembered_in(tmp_path, given, {}), Progress(io.StringIO()))
    assert not old.exists()
    assert new.exists()


def test_a_change_is_made_only_for_what_has_to_be_computed(tmp_path: Path) -> None:
    along, _ = world()
    first, second = Counted(along), Counted(along)
    asked = [Remembered(o, tmp_path / "x.going", Progress(io.StringIO())) for o in (first, second)]
    rows = []
    for oracle, own in zip(asked, (first, second), strict=True):
        with oracle.changed(CAUSES[2], 0.5):
            rows.append(oracle.sketches((3, 1), 12))
            assert bool(own.sizes) == (own is first)
        assert not own.sizes
    assert np.array_equal(*rows)
    assert np.array_equal(rows[0], 0.5 * along[CAUSES[2]][3])
    assert not np.array_equal(asked[1].sketches((3, 1), 12), rows[0])


def test_single_weights_are_kept_vector_by_vector(tmp_path: Path) -> None:
    along, given = world()
    vectors = [given.prompts[3].candidate, given.prompts[3].rounding]
    row = Cause("row", "model.layers.3.mlp.gate_proj", 1)

    class Once(LinearOracle):
        def entries(self, part: Cause, ids: Sequence[int], vectors: Sequence[Any]) -> Any:
            assert len(vectors) == 1  # the other one is known, or not asked for yet
            return super().entries(part, ids, vectors)

    progress = Progress(io.StringIO())
    Remembered(Once(along), tmp_path / "x.going", progress).entries(row, (3, 1), vectors[:1])
    found = Remembered(Once(along), tmp_path / "x.going", progress).entries(row, (3, 1), vectors)
    assert np.array_equal(found, LinearOracle(along).entries(row, (3, 1), vectors))
    assert found.shape == (2, 5)


@pytest.mark.process
def test_a_killed_process_is_gone_on_with(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        # Where pytest finds this file and what it imports.
        f"sys.path[:] = {sys.path!r}\n"
        "from pathlib import Path\n"
        "from test_remembered import BASE, Counted, diagnosed, kill, world\n"
        f"diagnosed(Path({str(tmp_path)!r}), Counted(world()[0], (BASE,), after=11, end=kill))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    along, _ = world()
    second, unbroken = Counted(along, (BASE,)), Counted(along, (BASE,))
    found = diagnosed(tmp_path, second)
    assert found.model_dump_json() == diagnosed(tmp_path / "2", unbroken).model_dump_json()
    assert second.asked == unbroken.asked - 11


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_only_what_is_not_kept_is_announced(tmp_path: Path) -> None:
    along, given = world()
    inner = LinearOracle(along)
    oracle = Remembered(inner, tmp_path / "x.going", Progress(io.StringIO()))
    prompt = given.prompts[2]
    vectors = (prompt.candidate, prompt.rounding)
    oracle.gradients(prompt.token_ids, vectors[:1])
    oracle.sketches((3, 1), 12)
    questions = [
        Question("gradients", prompt.token_ids, 12, vectors),
        Question("gradients", prompt.token_ids, 12, vectors[:1]),
        Question("sketches", (3, 1), 12),
        Question("sketches", (4, 1), 12),
    ]
    with oracle.changed(CAUSES[2], 0.5):
        oracle.together(questions[2:])
        assert inner.sizes == {CAUSES[2]: 0.5}
    oracle.together(questions)
    oracle.together(questions[1:3])
    (first, second), (third, fourth) = inner.announced
    assert [q.ids for q in (first, second)] == [(3, 1), (4, 1)]
    assert third.ids == prompt.token_ids
    assert [v is vectors[1] for v in third.vectors] == [True]
    assert fourth is questions[3]


@pytest.mark.parametrize("size", [0.02, 3.0])
def test_all_that_is_asked_was_announced(tmp_path: Path, size: float) -> None:
    """Else an oracle on disk would read all weights for one prompt."""
    random = np.random.default_rng(4)
    layers = tuple(Cause("layer_skipped", f"model.layers.{i}") for i in range(4))
    exchanges = (Cause("gate_up_exchanged"), Cause("norms_exchanged"))
    along = directions(random, [*CAUSES, *layers, *exchanges], PROMPTS)
    given = errors(random, PROMPTS, {BASE: size, CAUSES[9]: 2.0 * size}, along)

    class Announced(LinearOracle):
        met = 0

        def expect(self, kind: str, ids: Sequence[int], vectors: Sequence[Any] = ()) -> None:
            known = [q for q in self.announced[-1] if q.kind == kind and q.ids == tuple(ids)]
            assert any(
                len(q.vectors) == len(vectors) and all(map(np.array_equal, q.vectors, vectors))
                for q in known
            ), kind
            self.met += 1

        def sketches(self, ids: Sequence[int], rows: int) -> Any:
            if not self.within:
                self.expect("sketches", ids)
            return super().sketches(ids, rows)

        within = False

        def gradients(self, ids: Sequence[int], vectors: Sequence[Any]) -> Any:
            self.expect("gradients", ids, vectors)
            self.within = True  # the rows come with them
            found = super().gradients(ids, vectors)
            self.within = False
            return found

        def entries(self, part: Cause, ids: Sequence[int], vectors: Sequence[Any]) -> Any:
            self.expect("entries", ids, vectors)
            return super().entries(part, ids, vectors)

        def layer_changes(self, ids: Sequence[int], vectors: Sequence[Any]) -> Any:
            self.expect("layer_changes", ids, vectors)
            return super().layer_changes(ids, vectors)

    inner = Announced(along, (BASE,), exchanges=exchanges, layers=layers)
    oracle = Remembered(inner, tmp_path / "x.going", Progress(io.StringIO()))
    diagnose(given, oracle, Progress(io.StringIO()))
    kinds = {q.kind for questions in inner.announced for q in questions}
    assert kinds >= {"gradients", "sketches"}
    assert ("layer_changes" in kinds) == (size > 1.0)
    assert inner.met >= 2 * PROMPTS


def test_one_process_at_a_time_streams_a_diagnosis(tmp_path: Path) -> None:
    class Layered(FakeDevice):
        place: Path | None = None

        def steps(self, request: Request) -> int:
            return 1 + request.max_new_tokens

        def resume_in(self, folder: Path, job: str) -> None:
            self.place = folder / job

    device = Layered()
    target: Any = SimpleNamespace(device=device)
    chosen = _Chosen(target, tmp_path / "diagnosis/x.going", streams=True)
    chosen.going.mkdir(parents=True)
    with (
        locked_folder(chosen.going),
        pytest.raises(HarnessError, match="another harness is writing there"),
        _asked(chosen, Progress(io.StringIO())),
    ):
        pass
    assert device.place is None
    with (
        pytest.raises(UsageError, match="gradients are taken on hf-cpu"),
        _asked(chosen, Progress(io.StringIO())),
    ):
        pass
    assert device.place == chosen.going / "layers" / "x"
    (tmp_path / "file").write_text("in the way", "utf-8")
    with (
        pytest.raises(HarnessError, match=r"cannot be made .*; make room there"),
        _asked(_Chosen(target, tmp_path / "file/x.going", streams=True), Progress(io.StringIO())),
    ):
        pass

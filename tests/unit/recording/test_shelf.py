"""Rows that stand on the disk are the rows that were read."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import again, arms, bfloat16, nearly, told

from harness.alignment import kept_positions
from harness.alignment.align import compare
from harness.alignment.result import alignment_bytes, load_alignment, save_alignment
from harness.baseline.baseline import Baseline
from harness.baseline.fetched import FetchedArmRows
from harness.baseline.floor import noise_floor
from harness.errors import HarnessError
from harness.files import store
from harness.recording.format import Recording, load_recording, save_recording
from harness.recording.shelf import Shelf
from harness.statistics.lazy_rows import LazyRows, join
from harness.statistics.rows import RowStatistics, concatenate, row_statistics

NAMES = [field.name for field in fields(RowStatistics)]
ROWS = row_statistics(bfloat16(np.random.default_rng(3).standard_normal((9, 100))))


def equal(one: RowStatistics, other: RowStatistics) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in NAMES]
    return len(one) == len(other) and all(
        a is b is None or (a.dtype == b.dtype and a.shape == b.shape and (a == b).all())
        for a, b in pairs
    )


@pytest.mark.parametrize("rows", [ROWS, told(bfloat16(np.eye(5, 40)))], ids=["whole", "told"])
def test_every_column_is_what_it_was(rows: RowStatistics) -> None:
    shelf = Shelf(0)
    kept = [shelf.rows(part) for part in (rows, rows[2:4], rows[:1])]
    for lazy, part in zip(kept, (rows, rows[2:4], rows[:1]), strict=True):
        assert isinstance(lazy, LazyRows)
        assert equal(lazy, part)
        assert (lazy.whole, lazy.masks_told) == (part.whole, part.masks_told)


@pytest.mark.parametrize(
    "index", [slice(0), slice(3), slice(2, 7), slice(None, None, 2), slice(99)]
)
def test_a_part_of_them_is_that_part(index: slice) -> None:
    lazy = Shelf(0).rows(ROWS)
    assert equal(lazy[index], ROWS[index])
    assert equal(lazy[index][1:], ROWS[index][1:])
    mask = np.arange(9) % 3 == 0
    assert equal(lazy[mask], ROWS[mask])


def test_parts_are_joined() -> None:
    lazy = Shelf(0).rows(ROWS)
    for parts in ([lazy[:2], ROWS[4:]], [ROWS[:1], lazy], [ROWS, ROWS[:3]], [lazy]):
        assert equal(join(parts), concatenate(list(parts)))


def test_only_what_does_not_fit_memory_goes_to_the_disk() -> None:
    size = sum(getattr(ROWS, name).nbytes for name in NAMES)
    shelf = Shelf(2 * size)
    assert [isinstance(shelf.rows(ROWS), LazyRows) for _ in range(4)] == [False, False, True, True]
    assert not isinstance(Shelf(0).rows(ROWS[:0]), LazyRows)
    assert not hasattr(shelf.rows(ROWS), "columns")


def test_equal_texts_and_numbers_are_held_once_and_keep_their_bits() -> None:
    shelf = Shelf()
    one, other = (1, 2, 3), tuple(int(c) for c in "123")
    assert shelf.once(one) is shelf.once(other)
    numbers = shelf.numbers((0.25, None, -0.0, 0.0, float("2.5e-1")))
    assert json.dumps(numbers) == "[0.25, null, -0.0, 0.0, 0.25]"
    assert numbers[0] is numbers[4]


def test_a_disk_that_is_full_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.tempfile, "TemporaryFile", full)
    with pytest.raises(
        HarnessError, match=r"No space left on device\); make room, or name another"
    ):
        Shelf(0).rows(ROWS)


def read(recording: Recording, folder: Path, shelf: Shelf) -> Recording:
    save_recording(recording, folder / "r.json")
    return load_recording(folder / "r.json", shelf)


def test_a_judgement_from_the_disk_is_the_judgement_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = arms(prompts=8, positions=6)
    for candidate in (again(nearly(baseline.reference, 0.05)), nearly(baseline.reference, 0.9)):
        found = []
        for most, kept in ((1 << 30, 1 << 30), (0, 0), (20_000, 10)):
            monkeypatch.setattr(kept_positions, "IN_MEMORY", kept)
            shelf = Shelf(most)
            controls = {name: read(c, tmp_path, shelf) for name, c in baseline.controls.items()}
            assert baseline.oracle is not None
            beside = Baseline(
                read(baseline.reference, tmp_path, shelf),
                read(baseline.oracle, tmp_path, shelf),
                controls,
            )
            floor = noise_floor(beside)
            assert floor is not None
            lazy = [isinstance(p.arms, FetchedArmRows) for p in floor.prompts.values()]
            assert all(lazy) if not most else any(lazy) == (most < 1 << 30)
            alignment = compare(read(candidate, tmp_path, shelf), beside)
            alignment = alignment.model_copy(update={"created": "T"})
            found.append(alignment_bytes(alignment))
            save_alignment(alignment, tmp_path / "a.json.gz")
            assert alignment_bytes(load_alignment(tmp_path / "a.json.gz")) == found[-1]
        assert found[0] == found[1] == found[2]


def test_a_copy_with_other_prompts_finds_those(tmp_path: Path) -> None:
    whole = arms(prompts=3).reference
    first = whole.prompts[0]
    assert whole.prompt(first.id) is first
    copy = whole.model_copy(update={"prompts": whole.prompts[1:]})
    assert copy.prompt(first.id) is None
    assert copy.prompt(whole.prompts[2].id) is whole.prompts[2]

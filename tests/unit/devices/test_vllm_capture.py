from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.devices.vllm.capture import Captured, Order, RowCapture, collect
from harness.errors import DeviceError

WIDTH = 8
PADDED = 11


@dataclass
class Params:
    """What is read of vLLM's SamplingParams."""

    extra_args: dict[str, Any] | None


@dataclass
class Update:
    """vLLM's BatchUpdate."""

    removed: list[int] = field(default_factory=list)
    added: list[tuple[int, Params, list[int], list[int]]] = field(default_factory=list)
    moved: list[tuple[int, int, str]] = field(default_factory=list)


class Engine:
    """Steps a RowCapture as vLLM would: row of request r at token t is 100 r + t + id/16."""

    def __init__(self, folder: Path, **options: Any) -> None:
        ticks = count(1.0)
        self.capture = RowCapture(clock=lambda: next(ticks), **options)
        self.folder = folder
        self.outputs: dict[int, list[int]] = {}
        self.orders: dict[int, Order] = {}

    def request(self, number: int, **order: Any) -> tuple[Params, list[int], list[int]]:
        """A new request, or one that comes back after it was preempted."""
        file = str(self.folder / str(number))
        self.orders.setdefault(number, Order(file, WIDTH, **order))
        output = self.outputs.setdefault(number, [])
        return Params(self.orders[number].extra_args()), [1, 2], output

    def row(self, number: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        t = len(self.outputs[number])
        return np.arange(PADDED, dtype=np.float32) / 16 + 100 * number + t

    def step(self, batch: list[int], update: Update | None = None, *, partial: int = -1) -> None:
        """One step of the requests in their places; ``partial`` gets no token from it."""
        self.capture.update(update)
        logits = self.capture.capture(np.stack([self.row(number) for number in batch]))
        for place, number in enumerate(batch):
            if number != partial:
                self.outputs[number].append(int(np.argmax(logits[place])))

    def captured(self, number: int) -> Captured:
        return collect(self.orders[number], len(self.outputs[number]))

    def check(self, number: int, tokens: int) -> None:
        """Every row of a request is its own, in order."""
        rows = self.captured(number).rows
        assert rows is not None
        expected = np.arange(WIDTH) / 16 + 100 * number + np.arange(tokens)[:, None]
        assert np.array_equal(rows, expected.astype(np.float32))


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path)


def test_an_order_survives_the_way_to_another_process() -> None:
    for order in (Order("a", 5), Order("b", 6, False, (3, 4))):
        assert Order.found_in(json.loads(json.dumps(order.extra_args()))) == order
    assert Order.found_in(None) is None
    assert Order.found_in({"other": 1}) is None


def test_rows_go_to_their_request_when_others_leave_and_move(engine: Engine) -> None:
    engine.step([1, 2, 3], Update(added=[(i, *engine.request(i + 1)) for i in range(3)]))
    engine.step([1, 2, 3])
    # 1 ends, 3 takes its place.
    engine.step([3, 2], Update(removed=[0], moved=[(2, 0, "UNIDIRECTIONAL")]))
    engine.step([2, 3], Update(moved=[(0, 1, "SWAP")]))
    engine.step([2, 3, 4], Update(added=[(2, *engine.request(4))]))
    # 2 ends, and 5 comes into its place without a word of removal.
    engine.step([5, 3, 4], Update(added=[(0, *engine.request(5))]))
    engine.step([4, 3], Update(removed=[0], moved=[(2, 0, "UNIDIRECTIONAL")]))
    for number, tokens in {1: 2, 2: 5, 3: 7, 4: 3, 5: 1}.items():
        engine.check(number, tokens)


def test_a_move_onto_a_request_that_ended_replaces_it(engine: Engine) -> None:
    engine.step([1, 2], Update(added=[(0, *engine.request(1)), (1, *engine.request(2))]))
    engine.step([2], Update(moved=[(1, 0, "UNIDIRECTIONAL")]))
    engine.check(1, 1)
    engine.check(2, 2)


def test_a_swap_with_a_stranger_keeps_both_places(engine: Engine) -> None:
    stranger = Params(None), [1], engine.outputs.setdefault(9, [])
    engine.step([9, 1], Update(added=[(0, *stranger), (1, *engine.request(1))]))
    engine.step([1, 9], Update(moved=[(0, 1, "SWAP")]))
    engine.step([9, 1], Update(moved=[(0, 1, "SWAP")]))
    engine.check(1, 3)
    assert [file.name for file in engine.folder.iterdir()] == []  # collected; none of 9's


def test_a_preempted_request_goes_on_where_it_was(engine: Engine) -> None:
    engine.step([1, 2], Update(added=[(0, *engine.request(1)), (1, *engine.request(2))]))
    engine.step([2], Update(removed=[0], moved=[(1, 0, "UNIDIRECTIONAL")]))
    engine.step([2, 1], Update(added=[(1, *engine.request(1))]))
    engine.check(1, 2)
    engine.check(2, 3)


def test_the_last_row_of_a_token_counts(engine: Engine) -> None:
    """A long prompt comes in pieces, and each gives a row that nothing is chosen from."""
    update = Update(added=[(0, *engine.request(1))])
    engine.capture.update(update)
    engine.capture.capture(np.full((1, PADDED), 7, np.float32))
    engine.step([1])
    engine.step([1])
    engine.check(1, 2)


def test_forced_tokens_are_chosen_and_the_rows_stay_raw(engine: Engine) -> None:
    forced = (4, 0, 7)
    free = (1, *engine.request(2))
    engine.step([1, 2], Update(added=[(0, *engine.request(1, forced=forced)), free]))
    engine.step([1, 2])
    engine.step([2, 1], Update(moved=[(0, 1, "SWAP")]))
    assert engine.outputs == {1: [4, 0, 7], 2: [PADDED - 1] * 3}
    engine.check(1, 3)
    engine.check(2, 3)


def test_without_rows_the_clock_alone_is_kept(engine: Engine) -> None:
    engine.step([1], Update(added=[(0, *engine.request(1, rows=False))]))
    engine.step([1])
    captured = engine.captured(1)
    assert (captured.stamps, captured.rows) == ((1.0, 2.0), None)


def test_a_rank_that_does_not_write_forces_all_the_same(tmp_path: Path) -> None:
    engine = Engine(tmp_path, writes=False)
    engine.step([1], Update(added=[(0, *engine.request(1, forced=(5,)))]))
    assert engine.outputs[1] == [5]
    assert list(tmp_path.iterdir()) == []


def test_minus_infinity_and_nan_come_through(engine: Engine) -> None:
    engine.capture.update(Update(added=[(0, *engine.request(1))]))
    row = np.array([[np.nan, -np.inf, np.inf, *range(PADDED - 3)]], np.float32)
    engine.capture.capture(row.copy())
    engine.outputs[1].append(0)
    rows = engine.captured(1).rows
    assert rows is not None
    assert np.array_equal(rows, row[:, :WIDTH], equal_nan=True)


def test_a_worker_that_wrote_nothing_is_told(engine: Engine) -> None:
    engine.request(1)
    engine.outputs[1].append(0)
    with pytest.raises(DeviceError, match="left no rows"):
        engine.captured(1)


def test_a_missing_row_is_told(engine: Engine) -> None:
    engine.step([1], Update(added=[(0, *engine.request(1))]))
    engine.outputs[1].append(0)
    with pytest.raises(DeviceError, match="no row for token 1 of 2"):
        engine.captured(1)


@pytest.mark.engine
def test_rows_of_a_torch_tensor_are_the_same(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed", exc_type=ImportError)
    engine = Engine(tmp_path)
    engine.capture.update(Update(added=[(0, *engine.request(1, forced=(3,)))]))
    logits = torch.from_numpy(engine.row(1)[None])
    assert int(engine.capture.capture(logits)[0].argmax()) == 3
    engine.outputs[1].append(3)
    engine.check(1, 1)


def test_a_row_narrower_than_the_vocabulary_is_refused(engine: Engine) -> None:
    engine.capture.update(Update(added=[(0, *engine.request(1))]))
    with pytest.raises(ValueError, match="a row of 3 logits, not 8"):
        engine.capture.capture(np.zeros((1, 3), np.float32))

"""Raw rows out of vLLM's worker: the places of requests in a batch, and the files of their rows.

The worker may be this process or another, so a row leaves it through a file: one
for each request, in a private folder that the request itself names. A row is
written before its token is sampled, so every token that the engine has answered has
its row in the file. Nothing here imports vLLM or torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.errors import DeviceError

#: The key in ``SamplingParams.extra_args`` under which an order travels.
ORDER_KEY = "harness"


@dataclass(frozen=True)
class Order:
    """The worker's instructions for one request.

    Attributes:
        file: where its rows go.
        width: how many logits of a row are kept; engines pad the vocabulary.
        rows: whether rows are kept; if not, only the clock is.
        forced: the tokens that are taken instead of the arg-max, or None.
        routed: how many layers' routes are kept beside each row.
    """

    file: str
    width: int
    rows: bool = True
    forced: tuple[int, ...] | None = None
    routed: int = 0

    def extra_args(self) -> dict[str, Any]:
        """Plain values, which survive the way to another process."""
        forced = None if self.forced is None else list(self.forced)
        order = {"file": self.file, "width": self.width, "rows": self.rows, "forced": forced}
        return {ORDER_KEY: {**order, "routed": self.routed}}

    @classmethod
    def found_in(cls, extra_args: Mapping[str, Any] | None) -> Order | None:
        """The order that a request carries; None for a request of another client."""
        order = (extra_args or {}).get(ORDER_KEY)
        if order is None:
            return None
        forced = None if order["forced"] is None else tuple(order["forced"])
        return cls(order["file"], order["width"], order["rows"], forced, order["routed"])

    @property
    def prompt_file(self) -> str:
        """Where the routes of the prompt's tokens go."""
        return f"{self.file}.prompt"

    @property
    def record(self) -> np.dtype[np.void]:
        """One entry of the file: which token, its clock reading in seconds, its row, and its
        routes, if any are ``told``."""
        row = [("row", "<f4", (self.width,))] if self.rows else []
        routes = [("told", "?"), ("routes", "<u2", (self.routed,))] if self.routed else []
        return np.dtype([("t", "<i8"), ("stamp", "<f8"), *row, *routes])


class BatchUpdate(Protocol):
    """vLLM's news of its batch: to be read as removed, then added, then moved."""

    removed: Sequence[int]
    added: Sequence[tuple[int, Any, Any, Sequence[int]]]
    moved: Sequence[tuple[int, int, Any]]


class RowCapture:
    """The requests of a running batch, by their place in it.

    Args:
        writes: False in all workers but one, where several share a model: each
            sees every row, and each must force the same token.
        clock: seconds, monotonic and shared by all processes of the host.
        routes: the routes of the tokens of the step, uint16 (tokens, layers), or None.
    """

    def __init__(
        self,
        *,
        writes: bool = True,
        clock: Callable[[], float] = time.monotonic,
        routes: Callable[[], NDArray[np.uint16] | None] = lambda: None,
    ) -> None:
        self._writes = writes
        self._clock = clock
        self._routes = routes
        self._seats: dict[int, _Seat] = {}

    def update(self, batch: BatchUpdate | None) -> None:
        """Follow the changes of the batch; None means no change."""
        if batch is None:
            return
        for index in batch.removed:
            self._seats.pop(index, None)
        for index, params, _, output in batch.added:
            self._seats.pop(index, None)  # the earlier request in this place was replaced
            order = Order.found_in(params.extra_args)
            if order is not None:
                self._seats[index] = _Seat(order, output)
        for start, end, direction in batch.moved:
            moving, other = self._seats.pop(start, None), self._seats.pop(end, None)
            if moving is not None:
                self._seats[end] = moving
            if other is not None and getattr(direction, "name", direction) == "SWAP":
                self._seats[start] = other

    def capture(self, logits: Any) -> Any:
        """Keep the rows and force the tokens of a step.

        Args:
            logits: float32, shape (requests, vocabulary), a torch tensor or an
                array. It is changed where a token is forced.
        """
        if self._writes and self._seats:
            self._write(logits)
        for index, seat in self._seats.items():
            forced = seat.order.forced
            if forced is not None and len(seat.output) < len(forced):
                logits[index] = -np.inf
                logits[index, forced[len(seat.output)]] = 0.0
        return logits

    def _write(self, logits: Any) -> None:
        keeping = [index for index, seat in self._seats.items() if seat.order.rows]
        rows = dict(zip(keeping, _on_host(logits[keeping]), strict=True)) if keeping else {}
        if not keeping:
            _on_host(logits[:1, :1])  # an accelerator is waited for, so that the clock is true
        stamp = self._clock()
        # Of several requests it is not known whose token was the last.
        routes = self._routes() if len(self._seats) == len(logits) == 1 else None
        for index, seat in self._seats.items():
            seat.write(stamp, rows.get(index), routes)


@dataclass(frozen=True)
class _Seat:
    """One request of a batch. ``output`` is the engine's own growing list."""

    order: Order
    output: Sequence[int]

    def write(
        self, stamp: float, row: NDArray[np.float32] | None, routes: NDArray[np.uint16] | None
    ) -> None:
        record = np.zeros(1, self.order.record)
        record["t"], record["stamp"] = len(self.output), stamp
        if row is not None:
            if len(row) < self.order.width:
                raise ValueError(f"a row of {len(row)} logits, not {self.order.width}")
            record["row"] = row[: self.order.width]
        if routes is not None and routes.shape[1] == self.order.routed:
            record["told"], record["routes"] = True, routes[-1]
            if not len(self.output):  # of a long prompt each piece comes here
                with open(self.order.prompt_file, "ab") as file:
                    file.write(routes.tobytes())
        # vLLM does not tell a processor that the last request ended, so no file stays open.
        with open(self.order.file, "ab") as file:
            file.write(record.tobytes())


@dataclass(frozen=True, eq=False)
class Captured:
    """The results of a request: for each token its clock reading and its row.

    ``rows`` is float32, shape (tokens, width), or None where none were kept; ``routes``
    uint16, shape (tokens, layers), or None where they are not known of every token;
    ``before`` the same of the prompt's tokens before the last that the engine computed.
    """

    stamps: tuple[float, ...]
    rows: NDArray[np.float32] | None
    routes: NDArray[np.uint16] | None = None
    before: NDArray[np.uint16] | None = None


def collect(order: Order, tokens: int) -> Captured:
    """Read the file of a finished request, and remove it.

    Raises:
        DeviceError: if the worker has not written every token.
    """
    path = Path(order.file)
    try:
        records = np.fromfile(path, order.record)
        path.unlink()
    except FileNotFoundError as error:
        raise DeviceError(
            f"the engine's worker left no rows in {path.parent}: it does not see this host's "
            "files, or did not load the harness; run the worker on this host"
        ) from error
    # The last entry of a token counts: pieces of a long prompt, and a request
    # that was preempted, write the same token again.
    last = {int(t): i for i, t in enumerate(records["t"])}
    missing = [t for t in range(tokens) if t not in last]
    if missing:
        raise DeviceError(f"the engine's worker wrote no row for token {missing[0]} of {tokens}")
    chosen = records[[last[t] for t in range(tokens)]]
    stamps = tuple(float(stamp) for stamp in chosen["stamp"])
    told = bool(order.routed) and bool(chosen["told"].all())
    before = _before(order) if told else None
    Path(order.prompt_file).unlink(missing_ok=True)
    return Captured(
        stamps,
        np.ascontiguousarray(chosen["row"]) if order.rows else None,
        np.ascontiguousarray(chosen["routes"]) if told else None,
        before,
    )


def _before(order: Order) -> NDArray[np.uint16]:
    """The routes of the prompt's tokens but the last that the engine computed."""
    routes = np.fromfile(order.prompt_file, "<u2").reshape(-1, order.routed)
    return np.asarray(routes[:-1])


def _on_host(rows: Any) -> NDArray[np.float32]:
    """Logits as an array of this host, float32 as they are."""
    if isinstance(rows, np.ndarray):
        return rows.astype(np.float32, copy=False)
    array: NDArray[np.float32] = rows.float().cpu().numpy()
    return array

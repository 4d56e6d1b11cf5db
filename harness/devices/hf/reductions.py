"""What a diagnosis keeps of a matrix' gradient: sums by row, by column and by rounding.

The gradient of a large matrix does not fit a core's cache, so all sums are made of a block of
rows before the next is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from harness.devices.causes import Rounding
from harness.devices.hf.rounding import rounded

#: Weights that are looked at together: what is made of them stays in a core's cache.
_IN_CACHE = 1 << 17


class Differences(Protocol):
    """What each of K roundings adds to a matrix of R rows: numbers, and what they are
    multiplied by, float32 (K, R)."""

    @property
    def scales(self) -> Any: ...

    def fill(self, block: slice, out: Any) -> None:
        """Put the numbers of some rows into ``out``, float32 (K, rows, columns)."""


@dataclass(frozen=True, eq=False)
class KeptDifferences:
    """Differences that are kept in a byte each.

    Attributes:
        codes: int8 (K, R, columns).
        scales: float32 (K, R), what a code of 1 stands for.
    """

    codes: Any
    scales: Any

    def fill(self, block: slice, out: Any) -> None:
        out.copy_(self.codes[:, block])

    @staticmethod
    def of(torch: Any, weight: Any, kinds: Sequence[Rounding]) -> KeptDifferences:
        """Those of a float32 matrix (R, columns)."""
        codes = torch.empty((len(kinds), *weight.shape), dtype=torch.int8)
        scales = torch.empty(len(kinds), len(weight))
        for index, kind in enumerate(kinds):
            difference = rounded(torch, weight, kind) - weight
            scale = difference.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127.0
            codes[index] = (difference / scale).round()
            scales[index] = scale[:, 0]
        return KeptDifferences(codes, scales)


class DifferencesAnew:
    """Differences of a float32 matrix that are made at each use."""

    def __init__(self, torch: Any, weight: Any, kinds: Sequence[Rounding]) -> None:
        self._torch, self._weight, self._kinds = torch, weight, kinds
        self._largest = weight.abs().amax()
        self.scales = torch.ones(len(kinds), len(weight))

    def fill(self, block: slice, out: Any) -> None:
        weight = self._weight[block]
        for index, kind in enumerate(self._kinds):
            out[index] = rounded(self._torch, weight, kind, self._largest) - weight


@dataclass(frozen=True, eq=False)
class Sums:
    """The product of a matrix with its gradient, in parts.

    Attributes:
        rows: float32 (R,).
        columns: float32 (columns,).
        roundings: float64 (K,), of the gradient with what each rounding adds.
    """

    rows: Any
    columns: Any
    roundings: Any


class Reducer:
    """Makes sums, in memory that it keeps: to get new memory takes longer than the products."""

    def __init__(self, torch: Any, kinds: int) -> None:
        self._torch = torch
        self._products = torch.empty(0)
        self._widened = torch.empty(0)
        self._kinds = kinds

    def sums(self, weight: Any, gradient: Any, differences: Differences) -> Sums:
        """The sums of one float32 matrix (R, columns) and its gradient."""
        torch, (count, width) = self._torch, weight.shape
        rows, columns = torch.empty(count), torch.zeros(width)
        by_rounding = torch.empty(self._kinds, count)
        step = min(max(1, _IN_CACHE // width), count)
        for first in range(0, count, step):
            block = slice(first, min(first + step, count))
            products, widened = self._room(block.stop - first, width)
            torch.mul(weight[block], gradient[block], out=products)
            rows[block] = products.sum(1)
            columns += products.sum(0)
            # Widened first: products of two types are slow.
            differences.fill(block, widened)
            by_rounding[:, block] = widened.mul_(gradient[block]).sum(-1)
        return Sums(rows, columns, (by_rounding * differences.scales).double().sum(1))

    def _room(self, rows: int, width: int) -> tuple[Any, Any]:
        """For products, and for those of each rounding."""
        size = rows * width
        if self._products.numel() < size:
            self._products = self._torch.empty(size)
            self._widened = self._torch.empty(self._kinds * size)
        products = self._products[:size].view(rows, width)
        return products, self._widened[: self._kinds * size].view(self._kinds, rows, width)

"""Which earlier tokens attention reads: its masks, changed for as long as a context is entered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.devices.causes import DISTANCES, Cause

_SLIDING, _FULL = "sliding_attention", "full_attention"
#: Weights of pairs ask for a matrix of all pairs in each layer, so longer prompts have none.
PAIRED = 512
#: A kernel's window is one off, or a page of its cache.
_SLIPS = (1, 16)
#: Windows that are tried where the error is gross.
_WINDOWS = tuple(1 << power for power in range(3, 18))


@dataclass(frozen=True, eq=False)
class Group:
    """The layers that attend alike.

    Attributes:
        place: the kind of layer; empty where the model has one kind.
        window: how many tokens each reads, itself among them; None for all.
    """

    place: str
    window: int | None
    modules: tuple[Any, ...]


def groups_of(model: Any) -> tuple[Group, ...]:
    """The layers by how they attend; none where that is neither causal nor a window."""
    config = model.config.get_text_config()
    modules = [
        (name, module)
        for name, module in model.named_modules()
        if name.endswith(".self_attn") and hasattr(module, "layer_idx")
    ]
    window = getattr(config, "sliding_window", None)
    if getattr(config, "use_sliding_window", True) is False:
        window = None
    only = _SLIDING if window else _FULL
    kinds = getattr(config, "layer_types", None) or [only] * config.num_hidden_layers
    if len(modules) != len(kinds) or getattr(config, "use_bidirectional_attention", False):
        return ()
    several = len(set(kinds)) > 1
    return tuple(
        Group(
            kind if several else "",
            int(window) if kind == _SLIDING and window else None,
            tuple(m for _, m in modules if kinds[m.layer_idx] == kind),
        )
        for kind in (_SLIDING, _FULL)
        if kind in kinds
    )


def windows_of(groups: Sequence[Group]) -> tuple[Cause, ...]:
    """Of windows: none at all, or one a little too long or too short."""
    found = []
    for group in groups:
        if group.window is not None:
            found.append(Cause("window_missing", group.place))
            near = (group.window + sign * slip for slip in _SLIPS for sign in (-1, 1))
            found += [Cause("window", group.place, length) for length in near if length > 0]
    return tuple(found)


def other_windows_of(groups: Sequence[Group]) -> tuple[Cause, ...]:
    """Windows of another length, and where there is none."""
    near = {cause.index for cause in windows_of(groups)}
    theirs = {group.window for group in groups if group.window is not None}
    lengths = sorted(({*_WINDOWS} | theirs) - near)
    return tuple(
        Cause("window", group.place, length)
        for group in groups
        for length in lengths
        if length != group.window
    )


def window_now(groups: Sequence[Group], cause: Cause) -> float | None:
    """The window of a group; None where it reads all."""
    for group in groups:
        if group.place == cause.place and group.window is not None:
            return float(group.window)
    return None


@contextmanager
def other_window(torch: Any, groups: Sequence[Group], cause: Cause) -> Iterator[None]:
    """A group with a window of ``cause.index`` tokens, or with none."""
    length = cause.index if cause.kind == "window" else None

    def change(mask: Any, apart: Any) -> Any:
        read = apart >= 0 if length is None else (apart >= 0) & (apart < length)
        return torch.zeros_like(mask).masked_fill(~read, torch.finfo(mask.dtype).min)

    with _changed_masks(torch, _placed(groups, cause.place), change):
        yield


@contextmanager
def weighed_distance(
    torch: Any, groups: Sequence[Group], cause: Cause, size: float
) -> Iterator[None]:
    """Tokens at distances of one bucket with more or less weight, before weights add up to 1."""
    factor = torch.log(torch.tensor(max(1.0 + size, 1e-30)))

    def change(mask: Any, apart: Any) -> Any:
        return mask + factor * (_buckets(torch, apart) == cause.index)

    with _changed_masks(torch, _placed(groups, cause.place), change):
        yield


class Distances:
    """The weights of distances as parameters, for a pass that is traced back."""

    def __init__(self, torch: Any, groups: Sequence[Group]) -> None:
        self._torch, self._groups = torch, groups
        self._weights = [torch.zeros(len(DISTANCES), requires_grad=True) for _ in groups]

    @contextmanager
    def traced(self, tokens: int) -> Iterator[None]:
        """Passes over so many tokens tell how rows move with each distance."""
        if tokens > PAIRED:
            yield
            return
        hooks = []
        for group, weights in zip(self._groups, self._weights, strict=True):

            def change(mask: Any, apart: Any, weights: Any = weights) -> Any:
                return mask + weights[_buckets(self._torch, apart)]

            hooks.append((group, change))
        with _each_masks(self._torch, hooks):
            yield

    def forget(self) -> None:
        """Before a pass backwards."""
        for weights in self._weights:
            weights.grad = None

    def found(self) -> Iterator[tuple[Cause, float]]:
        """What a pass backwards told, bucket by bucket."""
        for group, weights in zip(self._groups, self._weights, strict=True):
            for index in range(len(DISTANCES)):
                value = 0.0 if weights.grad is None else float(weights.grad[index])
                yield Cause("distance", group.place, index), value


@contextmanager
def exact_attention(tokens: int) -> Iterator[None]:
    """Of prompts whose pairs are weighed, the same kernel with a mask and without one: of
    SDPA's, only the plain one tells how its result moves with the mask."""
    if tokens > PAIRED:
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        yield


def _placed(groups: Sequence[Group], place: str) -> list[Group]:
    return [group for group in groups if group.place == place]


def _buckets(torch: Any, apart: Any) -> Any:
    return torch.bucketize(apart.clamp(min=0), torch.tensor(DISTANCES), right=True) - 1


@contextmanager
def _changed_masks(
    torch: Any, groups: Sequence[Group], change: Callable[[Any, Any], Any]
) -> Iterator[None]:
    with _each_masks(torch, [(group, change) for group in groups]):
        yield


@contextmanager
def _each_masks(
    torch: Any, hooks: Sequence[tuple[Group, Callable[[Any, Any], Any]]]
) -> Iterator[None]:
    """Attention with another mask: what ``change`` makes of it, and of how far apart query and
    key are, (tokens, tokens)."""
    handles = []
    for group, change in hooks:

        def enters(
            _: Any, given: Any, named: dict[str, Any], change: Callable[[Any, Any], Any] = change
        ) -> Any:
            hidden = named["hidden_states"] if "hidden_states" in named else given[0]
            at = torch.arange(hidden.shape[1])
            apart = at[:, None] - at[None]
            mask = _added(torch, named.get("attention_mask"), apart, hidden.dtype)
            return given, {**named, "attention_mask": change(mask, apart)}

        handles += [m.register_forward_pre_hook(enters, with_kwargs=True) for m in group.modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _added(torch: Any, mask: Any, apart: Any, dtype: Any) -> Any:
    """A mask as what is added to the scores. Transformers gives none where a plain causal one
    does, and one of truth values or of numbers elsewhere."""
    read = apart[None, None] >= 0 if mask is None else mask
    if read.dtype != torch.bool:
        return read
    return torch.zeros(read.shape, dtype=dtype).masked_fill(~read, torch.finfo(dtype).min)

"""Mistakes of porting that change everything: each done to the whole model, or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.devices.causes import Cause

_GATE, _UP = "gate_proj", "up_proj"
_FIRST_NORM, _SECOND_NORM = "input_layernorm", "post_attention_layernorm"
_QUERY, _KEY, _VALUE, _OUT = "q_proj", "k_proj", "v_proj", "o_proj"
#: Projections of queries and keys, and norms of them.
_ROTATED = (_QUERY, _KEY, "q_norm", "k_norm")


def exchanges_of(parameters: Mapping[str, Any], heads: tuple[int, int]) -> tuple[Cause, ...]:
    """The exchanges that a model of these weights allows.

    Args:
        heads: of queries, and of keys and values.
    """
    endings = {".".join(name.split(".")[-2:]) for name in parameters}
    queries, values = heads
    found = [Cause("bos_added"), Cause("bos_missing")]
    if {f"{_GATE}.weight", f"{_UP}.weight"} <= endings:
        found.append(Cause("gate_up_exchanged"))
    if {f"{_FIRST_NORM}.weight", f"{_SECOND_NORM}.weight"} <= endings:
        found.append(Cause("norms_exchanged"))
    if {f"{n}.weight" for n in (_QUERY, _KEY, _VALUE, _OUT)} <= endings:
        found.append(Cause("rope_interleaved"))
        if values > 1:
            found.append(Cause("kv_heads_reversed"))
        if 1 < values < queries:
            found.append(Cause("heads_tiled"))
    if f"{_QUERY}.bias" in endings:
        found.append(Cause("bias_missing"))
    return tuple(found)


def exchanged(
    torch: Any, parameters: Mapping[str, Any], heads: tuple[int, int, int], kind: str
) -> Iterator[tuple[Any, Any]]:
    """Each weight that an exchange changes, and what it becomes.

    Args:
        heads: of queries, of keys and values, and their width.
    """
    for name, parameter in parameters.items():
        place, _, what = name.rpartition(".")
        within, _, module = place.rpartition(".")
        weight = parameter.detach()
        other = _PAIRS.get(kind, {}).get(module)
        if other is not None:
            partner = parameters[f"{within}.{other}.{what}"].detach()
            if partner.shape == weight.shape:
                yield weight, partner.clone()
        elif kind == "bias_missing" and what == "bias" and module in (_QUERY, _KEY, _VALUE):
            yield weight, torch.zeros_like(weight)
        elif kind in _ORDERS:
            order = _ORDERS[kind](torch, module, heads)
            axis = _axis(module)  # what comes out of attention has a bias without heads
            if order is not None and axis < weight.dim() and weight.shape[axis] == len(order):
                yield weight, weight.index_select(axis, order)


#: Modules that stand in each other's place.
_PAIRS = {
    "gate_up_exchanged": {_GATE: _UP, _UP: _GATE},
    "norms_exchanged": {_FIRST_NORM: _SECOND_NORM, _SECOND_NORM: _FIRST_NORM},
}


def _axis(module: str) -> int:
    """Along which axis of a weight its heads stand; a bias and a norm have one."""
    return 1 if module == _OUT else 0


def _interleaved(torch: Any, module: str, heads: tuple[int, int, int]) -> Any:
    """Pairs of neighbours are rotated where halves should be, or the other way round."""
    if module not in _ROTATED:
        return None
    queries, values, width = heads
    count = {_QUERY: queries, _KEY: values}.get(module, 1)
    one = torch.cat([torch.arange(0, width, 2), torch.arange(1, width, 2)])
    return torch.cat([one + head * width for head in range(count)])


def _reversed(torch: Any, module: str, heads: tuple[int, int, int]) -> Any:
    """Heads of keys and values in the opposite order."""
    if module not in (_KEY, _VALUE):
        return None
    _, values, width = heads
    return torch.arange(values * width).reshape(values, width).flip(0).reshape(-1)


def _tiled(torch: Any, module: str, heads: tuple[int, int, int]) -> Any:
    """Query head h reads KV head h modulo their number, where it should read h over the
    size of a group."""
    if module not in (_QUERY, _OUT):
        return None
    queries, values, width = heads
    group = queries // values
    # The slot of a head decides which KV head it reads.
    order = torch.empty(queries, dtype=torch.long)
    for head in range(queries):
        order[(head % values) * group + head // values] = head
    return (order[:, None] * width + torch.arange(width)[None]).reshape(-1)


_ORDERS = {
    "rope_interleaved": _interleaved,
    "kv_heads_reversed": _reversed,
    "heads_tiled": _tiled,
}

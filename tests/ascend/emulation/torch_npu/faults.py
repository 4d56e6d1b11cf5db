"""Faults on purpose: ``NPU_EMU_FAULT=NAME`` makes one kind of operator wrong.

The formulas in ``operators/`` know nothing of this. A fault changes what an operator is
given, or what it has computed, on the way in or out (``torch_npu._define`` calls
``spoiled``). So a run of an engine under a fault differs from a right one by that alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

#: The arguments of one call, by the names of the operator's schema.
Arguments = dict[str, Any]

VARIABLE = "NPU_EMU_FAULT"
NORMS = frozenset(
    {
        "npu_rms_norm",
        "npu_add_rms_norm",
        "npu_add_rms_norm_bias",
        "npu_add_rms_norm_quant",
        "npu_add_rms_norm_dynamic_quant",
        "npu_gemma_rms_norm",
    }
)
ATTENTION = frozenset({"npu_fused_infer_attention_score", "_npu_paged_attention"})


@dataclass(frozen=True)
class Fault:
    """One way to be wrong.

    Attributes:
        says: what is wrong, for the README and for errors.
        operators: the operators that it changes, by their names without overload.
        before: changes a call's arguments in place.
        after: changes the tensors of a call's result in place; it is given the arguments,
            among which those that the operator writes to, and what the operator returned.
    """

    says: str
    operators: frozenset[str]
    before: Callable[[Arguments], None] | None = None
    after: Callable[[Arguments, Any], None] | None = None


def _interleave(given: Arguments) -> None:
    if "is_neox_style" in given:
        given["is_neox_style"] = False
    elif given["rotary_mode"] == "half":
        given["rotary_mode"] = "interleave"
        # The angles were laid out for halves: each is wanted twice in a row.
        for name in ("r1", "r2"):
            first, _ = given[name].chunk(2, -1)
            given[name] = first.repeat_interleave(2, -1)


def _enlarge_epsilon(given: Arguments) -> None:
    given["epsilon"] *= 100


def _square_weight(given: Arguments) -> None:
    gamma = given["gamma"].float()
    is_gemma = "x" in given  # its weight is stored less one
    squared = (1 + gamma).square() - 1 if is_gemma else gamma.square()
    given["gamma"] = squared.to(given["gamma"].dtype)


def _shift_slots(given: Arguments) -> None:
    slots, cache = given["slot_indices"], given["key_cache"]
    count = cache.shape[0] * cache.shape[1]
    given["slot_indices"] = torch.where(slots >= 0, (slots + 1) % count, slots)


def _exchange_halves(given: Arguments) -> None:
    if "weight_scale" in given:  # a product comes first: its columns are the halves
        exchanged, dim = ("weight", "weight_scale"), -1
    else:
        exchanged, dim = ("input",), given["dim"]
    for name in exchanged:
        gate, up = given[name].chunk(2, dim)
        given[name] = torch.cat((up, gate), dim)


def _enlarge_scale(given: Arguments) -> None:
    given["scale" if "scale" in given else "scale_value"] *= 1.1


def _exchange_heads(given: Arguments, result: Any) -> None:
    made = result[0] if result is not None else given["out"]
    out = made[0] if isinstance(made, list) else made
    heads, width = given["num_heads"], out.shape[-1]
    if heads < 2:
        raise ValueError(f"{VARIABLE}=head_exchanged: the model has one query head")
    size = width // heads if given.get("input_layout") == "BSH" or out.dim() == 2 else width
    by_head = out.view(-1, heads, size)
    by_head[:, [0, 1]] = by_head[:, [1, 0]]


FAULTS = {
    "rope_interleaved": Fault(
        "RoPE turns neighbours in place of halves",
        frozenset({"_npu_rotary_embedding", "npu_rotary_mul"}),
        before=_interleave,
    ),
    "norm_epsilon": Fault("the norm's epsilon is 100 times too large", NORMS, _enlarge_epsilon),
    "norm_weight": Fault("the norm is multiplied by its weight twice", NORMS, _square_weight),
    "kv_slot": Fault(
        "keys and values are written one slot too far",
        frozenset({"_npu_reshape_and_cache"}),
        before=_shift_slots,
    ),
    "head_exchanged": Fault(
        "the first two query heads of attention's output are exchanged",
        ATTENTION,
        after=_exchange_heads,
    ),
    "attention_scale": Fault("attention's scale is 10 % too large", ATTENTION, _enlarge_scale),
    "swiglu_exchanged": Fault(
        "SwiGLU takes gate for up and up for gate",
        frozenset({"npu_swiglu", "npu_grouped_matmul_swiglu_quant"}),
        before=_exchange_halves,
    ),
}


def chosen() -> Fault | None:
    """The fault that ``NPU_EMU_FAULT`` names; ValueError where the table lacks it."""
    name = os.environ.get(VARIABLE)
    if not name:
        return None
    if name not in FAULTS:
        raise ValueError(f"{VARIABLE}={name}: the faults are {', '.join(sorted(FAULTS))}")
    return FAULTS[name]


def spoils(operator: str) -> Fault | None:
    """The chosen fault if it changes this operator."""
    fault = chosen()
    return fault if fault and operator in fault.operators else None


def spoiled(fault: Fault, body: Callable[..., Any], given: Arguments) -> Any:
    """What ``body`` computes under a fault; ``given`` holds every argument of the schema."""
    if fault.before:
        fault.before(given)
    result = body(**given)
    if fault.after:
        fault.after(given, result)
    return result


chosen()  # a wrong name ends the process now, not at the first operator

"""Matrix products of a prefill on a CPU: widened to float32, a block at a time.

Without a bfloat16 GEMM, torch multiplies bfloat16 matrices at about 20
GFLOP/s where float32 reaches 150: a prefill in the model's dtype takes six
times as long as one in float32. Widening the operands to float32, multiplying
and rounding the sum once to bfloat16 is what a bfloat16 GEMM does as well
(exact products, float32 accumulation, one rounding).

The weights are widened in blocks that fit the cache and are dropped at once,
which costs less than reading float32 copies from memory would. Blocks help a
float32 model too: over a vocabulary of 49,152 they take 55 ms, the whole
product 93 ms, since its result does not fit the cache either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

Matmul = Literal["auto", "native", "widened", "split-2", "split-3"]
#: In how many parts a linear layer is computed.
SPLIT: dict[str, int] = {"split-2": 2, "split-3": 3}

#: Weights in a block: 4 MiB in float32.
_BLOCK = 1 << 20

#: Torch's probes for a GEMM of a half-precision dtype on this CPU.
_PROBES = {
    "bfloat16": "_is_mkldnn_bf16_supported",
    "float16": "_is_mkldnn_fp16_supported",
}


def has_half_gemm(torch: Any, dtype: str) -> bool:
    """Whether this CPU multiplies matrices of a half-precision dtype at full speed.

    False for float32. A torch that cannot tell counts as yes, so that nothing
    is replaced there.
    """
    probe = _PROBES.get(dtype)
    if probe is None:
        return False
    try:
        return bool(getattr(torch.ops.mkldnn, probe)())
    except (AttributeError, RuntimeError):
        return True


@contextmanager
def widened_linears(torch: Any, model: Any) -> Iterator[None]:
    """Compute every ``nn.Linear`` of the model in float32 and round once.

    Attention, norms and everything else stay as they are, and so does the
    model once the context is left.
    """
    with _replaced(torch, model, lambda module: _widened_forward(torch, module)):
        yield


@contextmanager
def split_linears(torch: Any, model: Any, parts: int) -> Iterator[None]:
    """Compute every ``nn.Linear`` but the last one in parts of its inputs, round each
    part to the dtype and add them, as tensor parallelism does with row-parallel layers.

    A correct path of its own on every processor and in every architecture with linear
    layers. The logits' own layer is split by none: tensor parallelism splits its outputs.
    """
    head = model.get_output_embeddings()
    with _replaced(torch, model, lambda m: None if m is head else _split_forward(torch, m, parts)):
        yield


@contextmanager
def _replaced(
    torch: Any, model: Any, forward_of: Callable[[Any], Callable[[Any], Any] | None]
) -> Iterator[None]:
    """Every ``nn.Linear`` with another forward, None for its own."""
    # Subclasses are quantized or adapted layers with a product of their own; a
    # parametrized linear (see ``qat``) only computes its weight anew.
    kind = torch.nn.utils.parametrize.type_before_parametrizations
    modules = [module for module in model.modules() if kind(module) is torch.nn.Linear]
    before = [module.__dict__.get("forward") for module in modules]
    try:
        for module in modules:
            forward = forward_of(module)
            if forward is not None:
                module.forward = forward
        yield
    finally:
        for module, own in zip(modules, before, strict=True):
            if own is None:
                module.__dict__.pop("forward", None)
            else:
                module.forward = own


def _split_forward(torch: Any, module: Any, parts: int) -> Callable[[Any], Any]:
    product = torch.nn.functional.linear

    def forward(x: Any) -> Any:
        weights = module.weight.tensor_split(parts, dim=-1)
        first, *others = zip(x.tensor_split(parts, dim=-1), weights, strict=True)
        total = product(*first, module.bias)
        for given, weight in others:
            total = total + product(given, weight)
        return total

    return forward


def _widened_forward(torch: Any, module: Any) -> Callable[[Any], Any]:
    product = torch.nn.functional.linear
    outputs, inputs = module.weight.shape
    step = max(1, _BLOCK // inputs)

    def forward(x: Any) -> Any:
        wide = x.float()
        if outputs <= step:
            bias = None if module.bias is None else module.bias.float()
            return product(wide, module.weight.float(), bias).to(x.dtype)
        result = torch.empty((*x.shape[:-1], outputs), dtype=x.dtype, device=x.device)
        for i in range(0, outputs, step):
            block = slice(i, i + step)
            bias = None if module.bias is None else module.bias[block].float()
            result[..., block] = product(wide, module.weight[block].float(), bias)
        return result

    return forward

"""The training form of a ternary model: the quantizer in every linear's forward pass.

Latent weights stay in the model; each quantized linear sees them through the
quantizer (``harness.checkpoint.ternary`` has its definition, here it is in
torch). So the harness itself can compare a training checkpoint with the checkpoint that
was fused from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.checkpoint.headers import read_headers
from harness.checkpoint.names import plain_name
from harness.checkpoint.ternary import EPSILON, group_of, is_quantized_name
from harness.errors import DeviceError, UsageError
from harness.model.model import Model

_STORED = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def quantized(torch: Any, weight: Any, group_size: int) -> Any:
    """The formula of ``harness.checkpoint.ternary`` in torch.

    Args:
        weight: latents, shape (rows, columns), any float dtype.

    Returns:
        The same shape and dtype; values as bfloat16 stores them, since that
        is what a fused checkpoint holds.
    """
    group = group_of(weight.shape[-1], group_size)
    groups = weight.detach().float().reshape(-1, group)
    terms, count = groups.abs().double(), group
    while count % 2 == 0:
        terms, count = terms[:, 0::2] + terms[:, 1::2], count // 2
    total = terms[:, 0].clone()
    for column in range(1, count):
        total += terms[:, column]
    scale = (total / group).float().clamp(min=float(EPSILON))[:, None]
    result = torch.clamp(torch.round(groups / scale), -1, 1) * scale
    return result.reshape(weight.shape).to(torch.bfloat16).to(weight.dtype)


def install_quantizer(torch: Any, model: Any, source: Model, group_size: int, dtype: str) -> int:
    """Put the quantizer in front of every linear of the layers; returns how many.

    Raises:
        UsageError: if the group size does not divide a row, or the dtype would
            round the latents before they are quantized.
        DeviceError: if the model has no such linears.
    """
    _check_dtype(source, dtype)

    class Quantizer(torch.nn.Module):  # type: ignore[misc]
        """The latents do not change while a model is run, so each is quantized once."""

        def __init__(self) -> None:
            super().__init__()
            self.result: Any = None

        def forward(self, latents: Any) -> Any:
            if self.result is None or self.result.device != latents.device:
                self.result = quantized(torch, latents, group_size)
            return self.result

    names = [n.removesuffix(".weight") for n, _ in model.named_parameters() if is_quantized_name(n)]
    if not names:
        raise DeviceError(f"{source.name!r} has no linears of a Llama's layers to quantize")
    with torch.no_grad():
        for name in names:
            module = model.get_submodule(name)
            torch.nn.utils.parametrize.register_parametrization(module, "weight", Quantizer())
    return len(names)


def parse_group_size(text: str | None) -> int | None:
    """``qat_group_size`` of ``--engine-arg``, or None.

    Raises:
        UsageError: unless it is a whole number that group_of takes.
    """
    if text is None:
        return None
    try:
        size = int(text)
    except ValueError:
        raise UsageError(f"--engine-arg qat_group_size={text} is not a number") from None
    if size != -1 and size < 1:
        raise UsageError(f"qat_group_size {size} must be positive, or -1 for a whole row")
    return size


def _check_dtype(source: Model, dtype: str) -> None:
    """Classes are computed from the latents as they are stored."""
    for tensor in read_headers(Path(source.path), linked=True):
        if not is_quantized_name(plain_name(tensor.name) or ""):
            continue
        stored = _STORED.get(tensor.dtype)
        if dtype not in (stored, "float32"):
            raise UsageError(
                f"the latents are {tensor.dtype}, {dtype} would round them before they are "
                "quantized; give --dtype float32 to both sides"
            )

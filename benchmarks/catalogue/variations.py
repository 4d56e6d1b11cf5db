"""Correct variations: other kernel paths through the same model.

Each is what some correct engine does: it changes bits and must not be called
wrong. Like the faults, those that act on a loaded model are Injections.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.catalogue.faults import Injection, hooked, layers


def attention(name: str) -> Injection:
    """Another attention implementation of Transformers."""

    @contextmanager
    def inject(_: Any, model: Any) -> Iterator[None]:
        before = model.config._attn_implementation
        model.set_attn_implementation(name)
        try:
            yield
        finally:
            model.set_attn_implementation(before)

    return inject


def math_attention() -> Injection:
    """torch's own attention, written out in single products."""

    @contextmanager
    def inject(torch: Any, _: Any) -> Iterator[None]:
        kernels = torch.nn.attention
        with kernels.sdpa_kernel([kernels.SDPBackend.MATH]):
            yield

    return inject


def row_parallel(ways: int) -> Injection:
    """``o_proj`` and ``down_proj`` split along their inputs, each part rounded
    to the model's dtype and summed there, as tensor parallelism does."""

    @contextmanager
    def inject(torch: Any, model: Any) -> Iterator[None]:
        def hook(module: Any, given: Any, output: Any) -> Any:
            parts = given[0].tensor_split(ways, dim=-1)
            weights = module.weight.tensor_split(ways, dim=-1)
            total = None
            for x, weight in zip(parts, weights, strict=True):
                part = torch.nn.functional.linear(x.float(), weight.float()).to(output.dtype)
                total = part if total is None else total + part
            return total

        modules = [
            m for layer in layers(model) for m in (layer.self_attn.o_proj, layer.mlp.down_proj)
        ]
        with hooked(module.register_forward_hook(hook) for module in modules):
            yield

    return inject


def wide_residual() -> Injection:
    """The sum of a layer's two branches kept in float32 until it leaves the
    layer, as engines with fused residual norms do."""

    @contextmanager
    def inject(_: Any, model: Any) -> Iterator[None]:
        def forward(layer: Any) -> Any:
            def run(hidden_states: Any, **options: Any) -> Any:
                wide = hidden_states.float()
                attended, _ = layer.self_attn(
                    hidden_states=layer.input_layernorm(hidden_states), **options
                )
                # Gemma's layers have a norm at both ends of each branch.
                both = hasattr(layer, "pre_feedforward_layernorm")
                after = layer.post_attention_layernorm
                wide = wide + (after(attended) if both else attended).float()
                before = layer.pre_feedforward_layernorm if both else after
                added = layer.mlp(before(wide.to(hidden_states.dtype)))
                added = layer.post_feedforward_layernorm(added) if both else added
                return (wide + added.float()).to(hidden_states.dtype)

            return run

        try:
            for layer in layers(model):
                layer.forward = forward(layer)
            yield
        finally:
            for layer in layers(model):
                layer.__dict__.pop("forward", None)

    return inject

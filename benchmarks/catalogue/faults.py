"""Faults, put where they would occur: weights, config or the forward pass.

Each function gives an Injection: called with torch and a loaded Llama-like
model of Transformers, it is a context manager that breaks the model and mends
it again, bit for bit.

    with rope_base(0.1)(torch, model):
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

#: ``injection(torch, model)`` breaks the model until the context is left.
Injection = Callable[[Any, Any], AbstractContextManager[None]]

Change = Callable[[Any, Any], None]


def layers(model: Any) -> Any:
    """The decoder layers."""
    return model.model.layers


def projections(model: Any, where: Iterable[int] | None = None) -> list[Any]:
    """Weights of all projections of the chosen layers; not of embedding and head."""
    chosen = range(len(layers(model))) if where is None else where
    return [
        weight
        for index in chosen
        for name, weight in layers(model)[index].named_parameters()
        if name.endswith("_proj.weight")
    ]


@contextmanager
def changed_weights(torch: Any, weights: Sequence[Any]) -> Iterator[None]:
    """Whatever is done to ``weights`` inside is undone at the end."""
    kept = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        try:
            yield
        finally:
            for weight, before in zip(weights, kept, strict=True):
                weight.copy_(before)


@contextmanager
def changed_attributes(objects: Iterable[Any], name: str, change: Callable[[Any], Any]) -> Any:
    """An attribute of several modules, changed and put back."""
    before = [(item, getattr(item, name)) for item in objects]
    try:
        for item, value in before:
            setattr(item, name, change(value))
        yield
    finally:
        for item, value in before:
            setattr(item, name, value)


@contextmanager
def changed_rotary(model: Any, name: str, change: Callable[[Any], Any]) -> Iterator[None]:
    """An attribute of the rotary embedding, for every kind of layer that has its own."""
    rotary = model.model.rotary_emb
    kinds = getattr(rotary, "layer_types", None)
    names = [name] if kinds is None else [f"{kind}_{name}" for kind in kinds]
    with ExitStack() as stack:
        for each in names:
            stack.enter_context(changed_attributes([rotary], each, change))
        yield


@contextmanager
def untied(torch: Any, model: Any) -> Iterator[Any]:
    """The head with a weight of its own; the embedding keeps the old one."""
    before = model.lm_head.weight
    model.lm_head.weight = torch.nn.Parameter(before.detach().clone(), requires_grad=False)
    try:
        with torch.no_grad():
            yield model.lm_head.weight
    finally:
        model.lm_head.weight = before


@contextmanager
def hooked(handles: Iterable[Any]) -> Iterator[None]:
    """Forward hooks that are removed at the end."""
    made = list(handles)
    try:
        yield
    finally:
        for handle in made:
            handle.remove()


def _weights(choose: Callable[[Any], list[Any]], change: Change) -> Injection:
    """``change(torch, weight)`` in place, for each chosen weight."""

    @contextmanager
    def inject(torch: Any, model: Any) -> Iterator[None]:
        chosen = choose(model)
        with changed_weights(torch, chosen):
            for weight in chosen:
                change(torch, weight)
            yield

    return inject


# --- weights -----------------------------------------------------------------


def head_zeroed(layer: int, head: int, fraction: float = 1.0) -> Injection:
    """One attention head whose output loses ``fraction`` of itself."""

    def choose(model: Any) -> list[Any]:
        attention = layers(model)[layer].self_attn
        width = attention.head_dim
        return [attention.o_proj.weight[:, head * width : (head + 1) * width]]

    return _weights(choose, lambda _, weight: weight.mul_(1.0 - fraction))


def mlp_scaled(layer: int, factor: float) -> Injection:
    """What the MLP of a layer adds, times ``factor``."""
    return _weights(
        lambda model: [layers(model)[layer].mlp.down_proj.weight],
        lambda _, weight: weight.mul_(factor),
    )


def heads_swapped(pairs: Sequence[tuple[int, int, int]]) -> Injection:
    """(layer, head, head): the outputs of two heads exchanged."""

    @contextmanager
    def inject(torch: Any, model: Any) -> Iterator[None]:
        attentions = {index: layers(model)[index].self_attn for index, _, _ in pairs}
        with changed_weights(torch, [a.o_proj.weight for a in attentions.values()]):
            for index, one, other in pairs:
                width = attentions[index].head_dim
                weight = attentions[index].o_proj.weight
                a, b = (slice(h * width, (h + 1) * width) for h in (one, other))
                kept = weight[:, a].clone()
                weight[:, a] = weight[:, b]
                weight[:, b] = kept
            yield

    return inject


def kv_heads_swapped(where: Iterable[int] | None = None) -> Injection:
    """The first two KV heads in the wrong order, in the chosen layers or all."""

    @contextmanager
    def inject(torch: Any, model: Any) -> Iterator[None]:
        chosen = range(len(layers(model))) if where is None else where
        attentions = [layers(model)[index].self_attn for index in chosen]
        weights = [p.weight for a in attentions for p in (a.k_proj, a.v_proj)]
        with changed_weights(torch, weights):
            width = attentions[0].head_dim
            for weight in weights:
                pair = weight[: 2 * width]
                pair.copy_(pair.view(2, width, -1).flip(0).reshape(2 * width, -1).clone())
            yield

    return inject


def rounded_weights(kind: str, where: Iterable[int] | None = None) -> Injection:
    """Projections rounded to ``int8``, ``fp8`` (e4m3) or ``int4``, one scale
    per output row, in the chosen layers or all."""

    def change(torch: Any, weight: Any) -> None:
        wide = weight.float()
        weight.copy_(rounded(torch, wide, kind, wide.abs().amax(dim=1, keepdim=True)))

    return _weights(lambda model: projections(model, where), change)


def rounded(torch: Any, values: Any, kind: str, largest: Any) -> Any:
    """float32 ``values`` rounded to a narrow format that spans ``largest``."""
    steps = {"int8": 127.0, "int4": 7.0, "fp8": 448.0}[kind]
    scale = largest.clamp(min=1e-12) / steps
    scaled = values / scale
    if kind == "fp8":
        return scaled.to(torch.float8_e4m3fn).float() * scale
    return scaled.round() * scale


def one_weight(value: float, layer: int = 10, row: int = 100, column: int = 100) -> Injection:
    """One entry of a ``gate_proj`` overwritten."""
    return _weights(
        lambda model: [layers(model)[layer].mlp.gate_proj.weight[row : row + 1]],
        lambda _, weight: weight[0, column].fill_(value),
    )


def last_norm(factor: float) -> Injection:
    """The final norm's weight, all of it, times ``factor``."""

    @contextmanager
    def inject(torch: Any, model: Any) -> Iterator[None]:
        norm = model.model.norm
        # Gemma's norms hold the weight less one.
        less = 1.0 if type(norm).__name__.startswith("Gemma") else 0.0
        with changed_weights(torch, [norm.weight]):
            norm.weight.copy_((norm.weight.float() + less) * factor - less)
            yield

    return inject


def lm_head_row(token: int, factor: float) -> Injection:
    """One output row of an untied ``lm_head``, times ``factor``."""

    @contextmanager
    def inject(torch: Any, model: Any) -> Iterator[None]:
        with untied(torch, model) as weight:
            weight[token].mul_(factor)
            yield

    return inject


def wrong_tied_head(distance: float) -> Injection:
    """A head that is not the one it should be: off by normal noise of
    ``distance`` times its own size, as where an engine ties the embedding to a
    head that was trained apart from it."""

    @contextmanager
    def inject(torch: Any, model: Any) -> Iterator[None]:
        with untied(torch, model) as weight:
            generator = torch.Generator().manual_seed(1)
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(noise * (distance * weight.float().std()))
            yield

    return inject


# --- config ------------------------------------------------------------------


def rope_base(factor: float) -> Injection:
    """The base of the rotary embedding, times ``factor``."""

    @contextmanager
    def inject(torch: Any, model: Any) -> Iterator[None]:
        def change(frequencies: Any) -> Any:
            count = frequencies.numel()
            return frequencies * factor ** (-torch.arange(count, dtype=torch.float32) / count)

        with changed_rotary(model, "inv_freq", change):
            yield

    return inject


def longrope(stretch: float = 1.0, scaling: float = 1.0) -> Injection:
    """LongRoPE's factors where there should be none: frequencies divided by
    factors that rise from 1 to ``stretch``, and cos and sin times ``scaling``
    (1.1547 is what Transformers makes of ``factor`` 32)."""

    @contextmanager
    def inject(torch: Any, model: Any) -> Iterator[None]:
        with (
            changed_rotary(
                model, "inv_freq", lambda f: f / torch.linspace(1.0, stretch, f.numel())
            ),
            changed_rotary(model, "attention_scaling", lambda s: s * scaling),
        ):
            yield

    return inject


def norm_epsilon(epsilon: float) -> Injection:
    """Another epsilon in every norm."""

    @contextmanager
    def inject(_: Any, model: Any) -> Iterator[None]:
        norms = [m for m in model.modules() if type(m).__name__.endswith("RMSNorm")]
        name = "variance_epsilon" if hasattr(norms[0], "variance_epsilon") else "eps"
        with changed_attributes(norms, name, lambda _: epsilon):
            yield

    return inject


def softmax_scale(factor: float, where: Sequence[int] | None = None) -> Injection:
    """The scale of attention scores, times ``factor``."""

    @contextmanager
    def inject(_: Any, model: Any) -> Iterator[None]:
        chosen = range(len(layers(model))) if where is None else where
        attentions = [layers(model)[index].self_attn for index in chosen]
        with changed_attributes(attentions, "scaling", lambda s: s * factor):
            yield

    return inject


# --- forward pass ------------------------------------------------------------


def layer_skipped(layer: int, fraction: float = 1.0) -> Injection:
    """A decoder layer that adds only ``1 - fraction`` of what it should."""

    @contextmanager
    def inject(_: Any, model: Any) -> Iterator[None]:
        def hook(_: Any, given: Any, output: Any) -> Any:
            entered = given[0]
            left = output[0] if isinstance(output, tuple) else output
            mixed = entered if fraction == 1.0 else entered + (1.0 - fraction) * (left - entered)
            return (mixed, *output[1:]) if isinstance(output, tuple) else mixed

        with hooked([layers(model)[layer].register_forward_hook(hook)]):
            yield

    return inject


def stale_block(start: int, size: int = 16, where: Sequence[int] | None = None) -> Injection:
    """The KV block that begins at position ``start`` holds the previous one's
    content, as where a block table points to the wrong slot. Positions before
    ``start`` stay bit-equal."""

    @contextmanager
    def inject(_: Any, model: Any) -> Iterator[None]:
        def hook(_: Any, __: Any, output: Any) -> Any:
            length = min(start + size, output.shape[1]) - start
            if length <= 0:
                return output
            output = output.clone()
            output[:, start : start + length] = output[:, start - size : start - size + length]
            return output

        chosen = range(len(layers(model))) if where is None else where
        attentions = [layers(model)[index].self_attn for index in chosen]
        with hooked(
            p.register_forward_hook(hook) for a in attentions for p in (a.k_proj, a.v_proj)
        ):
            yield

    return inject


def one_token(size: float, position: int) -> Injection:
    """The last hidden state of the token at ``position`` of prompt and output,
    off by normal noise of ``size`` times its own size."""

    @contextmanager
    def inject(torch: Any, model: Any) -> Iterator[None]:
        def hook(_: Any, __: Any, output: Any) -> Any:
            if output.shape[1] <= position:
                return output
            output = output.clone()
            state = output[:, position].float()
            generator = torch.Generator().manual_seed(1)
            noise = torch.randn(state.shape[-1:], generator=generator)
            moved = state + size * noise * state.std(dim=-1, keepdim=True)
            output[:, position] = moved.to(output.dtype)
            return output

        with hooked([model.model.norm.register_forward_hook(hook)]):
            yield

    return inject

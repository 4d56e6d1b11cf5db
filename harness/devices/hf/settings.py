"""Settings of a Transformers model, changed for as long as a context is entered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from harness.devices.causes import Cause
from harness.devices.hf.attending import groups_of, other_window, window_now, windows_of
from harness.devices.hf.caps import cap_now, caps_of, changed_cap

_KEY_AND_VALUE = ("k_proj", "v_proj")


def settings_of(model: Any) -> tuple[Cause, ...]:
    """The settings that this model has."""
    found = []
    rotaries = list(_rotaries(model))
    for _, name in rotaries:
        place = name if len(rotaries) > 1 else ""
        found += [Cause("rope_base", place), Cause("rope_scale", place)]
    if list(_norms(model)):
        found.append(Cause("norm_epsilon"))
    if any(name.endswith(_KEY_AND_VALUE) for name, _ in model.named_modules()):
        found += [Cause("kv_int8"), Cause("kv_fp8")]
    return (*found, *caps_of(model), *windows_of(groups_of(model)))


def changed_setting(
    torch: Any, model: Any, cause: Cause, size: float
) -> AbstractContextManager[None] | None:
    """A context in which a setting is changed by ``size``; None for another kind of cause."""
    kind = cause.kind
    if kind in ("rope_base", "rope_scale"):
        return _changed_rotary(model, cause.place, _other_angles(torch, kind, size))
    if kind == "norm_epsilon":
        return _changed_epsilon(model, size)
    if kind in ("kv_int8", "kv_fp8"):
        return _rounded_cache(torch, model, kind.removeprefix("kv_"), size)
    if "_cap" in kind:
        return changed_cap(model, cause, size)
    return other_window(torch, groups_of(model), cause) if kind.startswith("window") else None


def _other_angles(torch: Any, kind: str, size: float) -> Callable[[Any], Any]:
    """What becomes of RoPE's frequencies with another base, or positions on another scale."""
    if kind == "rope_scale":
        return lambda f: f * (1.0 + size)
    return lambda f: f * torch.exp(-size * torch.arange(f.numel(), device=f.device) / f.numel())


def setting_now(model: Any, cause: Cause) -> float | None:
    """The value of a base, an epsilon, a cap or a window; None where it has no single one."""
    if "_cap" in cause.kind:
        return cap_now(model, cause)
    if cause.kind.startswith("window"):
        return window_now(groups_of(model), cause)
    if cause.kind == "norm_epsilon":
        values = {float(getattr(norm, name)) for norm, name in _norms(model)}
        return values.pop() if len(values) == 1 else None
    if cause.kind == "rope_base":
        for rotary, name in _rotaries(model):
            if cause.place in ("", name):
                frequencies = getattr(rotary, name)
                # Of plain RoPE the second frequency is the base to the minus 1/n.
                first, second = float(frequencies[0]), float(frequencies[1])
                if first == 1.0 and second > 0.0:
                    return float(second ** -len(frequencies))
    return None


def _rotaries(model: Any) -> Iterator[tuple[Any, str]]:
    """Each rotary embedding with the name of its frequencies; of a kind of layer each."""
    for module in model.modules():
        if "rotary" in type(module).__name__.lower():
            for name, _ in module.named_buffers(recurse=False):
                if name.endswith("inv_freq") and "original" not in name:
                    yield module, name


def _norms(model: Any) -> Iterator[tuple[Any, str]]:
    """Each norm with the name of its epsilon."""
    for module in model.modules():
        if "norm" in type(module).__name__.lower():
            for name in ("variance_epsilon", "eps"):
                if isinstance(getattr(module, name, None), float):
                    yield module, name
                    break


@contextmanager
def _changed_rotary(model: Any, place: str, change: Callable[[Any], Any]) -> Iterator[None]:
    chosen = [(m, name) for m, name in _rotaries(model) if place in ("", name)]
    before = [(module, name, getattr(module, name)) for module, name in chosen]
    try:
        for module, name, frequencies in before:
            setattr(module, name, change(frequencies))
        yield
    finally:
        for module, name, frequencies in before:
            setattr(module, name, frequencies)


@contextmanager
def _changed_epsilon(model: Any, size: float) -> Iterator[None]:
    before = [(module, name, getattr(module, name)) for module, name in _norms(model)]
    try:
        for module, name, value in before:
            setattr(module, name, value * (1.0 + size))
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


@contextmanager
def _rounded_cache(torch: Any, model: Any, kind: str, size: float) -> Iterator[None]:
    """Keys, before they are rotated, and values as a narrow cache would keep them: int8 with
    a scale for each token and head, fp8 (e4m3) with none."""
    heads = getattr(model.config.get_text_config(), "num_key_value_heads", 1) or 1

    def hook(_: Any, __: Any, output: Any) -> Any:
        each = output.reshape(*output.shape[:-1], heads, -1)
        if kind == "fp8":
            narrow = each.to(torch.float8_e4m3fn).to(output.dtype)
        else:
            scale = each.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127.0
            narrow = (each / scale).round() * scale
        return output + size * (narrow.reshape(output.shape) - output)

    handles = [
        module.register_forward_hook(hook)
        for name, module in model.named_modules()
        if name.endswith(_KEY_AND_VALUE)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

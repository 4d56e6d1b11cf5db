"""Keys of training checkpoints in the plain form that inference loads."""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.errors import ModelError

#: What wrappers of data parallelism and compilation put in front.
_PREFIX = re.compile(r"^(?:module\.|_orig_mod\.|_fsdp_wrapped_module\.)+")
_LINEAR = r"(?P<linear>.*\.(?:[qkvo]|gate|up|down)_proj)\."
#: A linear inside a quantizing wrapper, and a weight under a parametrization.
_WRAPPED = re.compile(
    _LINEAR + r"(?:(?:linear|inner|base_layer|orig(?:inal)?(?:_module)?|wrapped|module)\.)"
    r"(?P<kind>weight|bias)$"
)
_PARAMETRIZED = re.compile(_LINEAR + r"parametrizations\.(?P<kind>weight|bias)\.original$")
_FLAT = re.compile(_LINEAR + r"(?P<kind>weight|bias)_orig$")
#: Parameters of the quantizer. BitCPM's scale is computed from the weights, never learned.
_QUANTIZER = re.compile(
    _LINEAR + r"(?:.*quant.*|.*observer.*|.*\bscales?|.*zero_points?|.*\balpha|.*step_size)$"
)


def plain_name(name: str) -> str | None:
    """The key that a plain Llama has for it; None for a parameter of the quantizer."""
    name = _PREFIX.sub("", name)
    for form in (_WRAPPED, _PARAMETRIZED, _FLAT):
        if match := form.fullmatch(name):
            return f"{match['linear']}.{match['kind']}"
    return None if _QUANTIZER.fullmatch(name) else name


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Plain key by stored key, without the quantizer's parameters.

    Raises:
        ModelError: if two keys become the same.
    """
    found: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in names:
        plain = plain_name(name)
        if plain is None:
            continue
        if plain in taken:
            raise ModelError(
                f"the tensors {taken[plain]!r} and {name!r} are both {plain!r}; remove one"
            )
        taken[plain] = name
        found[name] = plain
    return found

"""Whether vLLM filled every parameter from the checkpoint.

vLLM checks the names that its models say they loaded, and passes in silence where a
linear layer or an embedding was not loaded at all (every module whose weights are
processed afterwards is exempt), where only a part of a fused one was (``q_proj`` of
``qkv_proj``, an expert of a stack), and where the model is quantized. Here memory that
nobody wrote shows itself: while the model is made, torch fills new memory with NaN,
its own setting for finding such reads, and what holds NaN after the loading was not
loaded.

Not told: packed integers, which have no NaN; parameters that a model sets to a default
of its own; quantized models, whose methods make parameters that no checkpoint has; a
surplus tensor that a model's own code skips, as a bias; and a back end on which torch
does not fill memory.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any

import torch

#: How many names the message shows.
_SHOWN = 3


class NotFilled(ValueError):
    """Parameters that the checkpoint did not fill."""


def watch_loading() -> None:
    """Make vLLM's loaders in this process check themselves; may be called twice.

    A vLLM without these classes is left as it is.
    """
    with suppress(ImportError, AttributeError):
        base = importlib.import_module("vllm.model_executor.model_loader.base_loader")
        usual = importlib.import_module("vllm.model_executor.model_loader.default_loader")
        _wrap(base.BaseModelLoader, "load_model", _filling)
        _wrap(usual.DefaultModelLoader, "load_weights", _checking)


def _wrap(owner: Any, name: str, wrapper: Callable[[Any], Any]) -> None:
    method = getattr(owner, name)
    if not hasattr(method, "harness"):
        wrapped: Any = wraps(method)(wrapper(method))
        wrapped.harness = True
        setattr(owner, name, wrapped)


def _filling(load_model: Any) -> Any:
    def load(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _nan_in_new_memory():
            return load_model(self, *args, **kwargs)

    return load


def _checking(load_weights: Any) -> Any:
    def load(self: Any, model: Any, model_config: Any) -> Any:
        was_filling = torch.are_deterministic_algorithms_enabled()
        _stop_filling()
        own = model.load_weights

        def load_all(weights: Any) -> Any:
            found = own(weights)
            if was_filling and getattr(model_config, "quantization", None) is None:
                check_filled(model)
            return found

        # On the instance, for this call alone: vLLM's own check comes after it.
        model.load_weights = load_all
        try:
            return load_weights(self, model, model_config)
        finally:
            del model.load_weights

    return load


def check_filled(model: Any) -> None:
    """Check that no parameter holds NaN.

    Raises:
        NotFilled: naming the first ones, and how many there are.
    """
    left = sorted(
        name
        for name, parameter in model.named_parameters()
        if parameter.is_floating_point() and _has_nan(parameter.data)
    )
    if not left:
        return
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    many = "1 parameter was" if len(left) == 1 else f"{len(left)} parameters were"
    raise NotFilled(
        f"{many} not filled from the checkpoint, wholly or in part (or NaN is stored there): "
        f"{', '.join(left[:_SHOWN])}{more}; make config.json describe these weights, or fetch the "
        "whole checkpoint again"
    )


def _has_nan(values: Any) -> bool:
    try:
        return bool(torch.isnan(values).any())
    except (RuntimeError, NotImplementedError):  # not for every 8-bit float
        return False


@contextmanager
def _nan_in_new_memory() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with warnings.catch_warnings():
        # Nothing is asked to be deterministic: the memory alone matters.
        warnings.filterwarnings("ignore", message=".*deterministic.*")
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warn_only)


def _stop_filling() -> None:
    torch.use_deterministic_algorithms(False)

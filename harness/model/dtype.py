"""The dtypes that a model computes in."""

from __future__ import annotations

from harness.errors import UsageError
from harness.model.model import Model, read_json

#: Dtypes that a device can be asked to compute in.
DTYPES = ("bfloat16", "float16", "float32")


def check_dtype(dtype: str | None) -> None:
    """See that a dtype, where one is asked for, is one that devices compute in.

    Raises:
        UsageError: if it is not.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")


def checkpoint_dtype(model: Model) -> str:
    """The dtype that a checkpoint declares, ``bfloat16`` where it declares none."""
    config = read_json(model, "config.json") or {}
    nested = config.get("text_config")
    for source in (config, nested if isinstance(nested, dict) else {}):
        declared = source.get("dtype") or source.get("torch_dtype")
        if declared in DTYPES:
            return str(declared)
    return "bfloat16"

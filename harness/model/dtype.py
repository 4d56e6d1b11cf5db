"""The dtypes that a model computes in."""

from __future__ import annotations

from harness.model.model import Model, read_json

#: Dtypes that a Transformers device computes in.
DTYPES = ("bfloat16", "float16", "float32")


def checkpoint_dtype(model: Model) -> str:
    """The dtype that a checkpoint declares, ``bfloat16`` where it declares none."""
    config = read_json(model, "config.json") or {}
    nested = config.get("text_config")
    for source in (config, nested if isinstance(nested, dict) else {}):
        declared = source.get("dtype") or source.get("torch_dtype")
        if declared in DTYPES:
            return str(declared)
    return "bfloat16"

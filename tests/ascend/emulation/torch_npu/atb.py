"""``torch_npu.atb``: NNAL's operators under names without an underscore. None is emulated."""

from typing import NoReturn

from torch_npu._missing import missing_operator


def __getattr__(name: str) -> NoReturn:
    if name.startswith("npu_"):
        raise missing_operator(__name__, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

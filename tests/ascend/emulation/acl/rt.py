"""CANN's runtime; sleep mode alone calls it."""

from typing import NoReturn


def memcpy(*_: object) -> NoReturn:
    """Refused."""
    from torch_npu._missing import not_emulated

    raise not_emulated("acl.rt.memcpy (sleep mode)")

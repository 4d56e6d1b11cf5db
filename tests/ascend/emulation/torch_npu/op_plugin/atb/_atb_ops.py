"""NNAL's operators are registered with the others (``torch_npu.operators``)."""


def _register_atb_extensions() -> None:
    """Nothing is left to register."""

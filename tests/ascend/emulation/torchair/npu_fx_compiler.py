"""Names that vLLM-Ascend patches."""

from typing import Any


class _NpuGraphConverter:
    pass


def _unpack_meta_list(arguments: Any) -> Any:
    return arguments

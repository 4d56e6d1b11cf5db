"""Names that vLLM-Ascend patches."""


class ValuePack:
    """A name that is imported."""


def _is_symlist(_: object) -> bool:
    return False

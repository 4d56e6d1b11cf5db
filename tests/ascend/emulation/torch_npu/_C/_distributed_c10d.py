"""``ProcessGroupHCCL``: its options alone; groups are gloo's (``torch_npu.distributed``)."""


class ProcessGroupHCCL:
    """Holds the options."""

    class Options:
        """HCCL's, which nobody reads."""

        def __init__(self) -> None:
            self.hccl_config: dict[str, object] = {}


class ParallelStore:
    """A name that is imported."""

"""Files of a worker on another host, brought to this one.

A worker writes rows and traces into the folder that the harness made. On another host, where
Ray may put it, that is another folder of the same name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.devices.vllm.spool import leave_host


def bring(llm: Any, file: Path) -> None:
    """Have the file here, if a worker has it; does nothing where it is here already.

    Args:
        llm: vLLM's engine, whose workers are asked one after another.
    """
    if file.exists():
        return
    for found in llm.collective_rpc("harness_file", args=(str(file),)):
        if found is not None:
            file.write_bytes(found)
            return


class FileKeeper:
    """Methods for ``collective_rpc``."""

    def harness_leave(self) -> None:
        """Remove the folder of this worker on another host."""
        leave_host()

    def harness_file(self, file: str) -> bytes | None:
        """The bytes of a file of this worker, which is then removed; None if it has none."""
        path = Path(file)
        try:
            content = path.read_bytes()
            path.unlink()
        except FileNotFoundError:
            return None
        return content

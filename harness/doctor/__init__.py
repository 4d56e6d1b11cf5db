"""Is this host ready for a device? Probes, findings and the commands that mend them.

    python3 -m harness.doctor --device npu

Standard library only, and nothing of the harness outside this package: it runs
from a bare checkout, with a broken torch, under any Python from 3.10 on. What
may crash or hang, such as an import of torch, happens in a child process.
"""

from __future__ import annotations

import sys

# A host's own python3 may be older; what follows would end there in a traceback.
if sys.version_info < (3, 10):  # noqa: UP036
    sys.stderr.write("harness: error: the doctor needs Python 3.10 or later: python3.11 -m ...\n")
    sys.exit(2)

from harness.doctor.diagnose import diagnose
from harness.doctor.finding import Diagnosis, Finding
from harness.doctor.host import Host
from harness.doctor.messages import explain

__all__ = ["Diagnosis", "Finding", "Host", "diagnose", "explain"]

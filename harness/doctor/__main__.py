"""``python3 -m harness.doctor``: works where nothing is installed."""

from __future__ import annotations

import sys

from harness.doctor.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

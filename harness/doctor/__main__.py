"""``python3 -m harness.doctor``: works where nothing is installed."""

from __future__ import annotations

import sys


def _ended() -> int:
    """Run the command; its exit status, or that of the signal that interrupted it."""
    from harness.process import signals

    signals.install()
    from harness.doctor.command import main

    try:
        with signals.working():
            status = main(sys.argv[1:])
    except KeyboardInterrupt:
        status = signals.exit_status()
    if signals.received() is None:
        return status
    sys.stderr.write("harness: interrupted\n")
    signals.told()
    return signals.exit_status()


if __name__ == "__main__":
    sys.exit(_ended())

"""The one command: record what is missing, judge it, write the table."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.catalogue.entries import correct_variations, faults
from benchmarks.catalogue.heads import chosen_heads
from benchmarks.catalogue.run import BASELINE, ROOT, make_all
from harness.baselines import load_baseline


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.catalogue", description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "catalogue")
    parser.add_argument("--only", help="entries whose key holds this text")
    parser.add_argument("--seconds", type=float, help="begin no new recording after so long")
    parser.add_argument("--no-judging", action="store_true", help="only make recordings")
    options = parser.parse_args()
    baseline = load_baseline(BASELINE)
    entries = [*correct_variations(), *faults(baseline, chosen_heads())]
    chosen = [e for e in entries if options.only is None or options.only in e.key]
    make_all(chosen, baseline, options.work, options.seconds)


if __name__ == "__main__":
    main()

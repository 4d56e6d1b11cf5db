"""Coverage-guided fuzzing of each reader of files and answers that somebody else wrote.

    python tests/fuzz/fuzz.py READER SECONDS CORPUS     # one of READERS; needs atheris
    nox -s fuzz -- SECONDS                              # all, one after the other

A reader may read an input or refuse it in one line. Any other exception is a fault, and so is
an input that takes longer than its size explains. Faults are told and counted, and their inputs
are kept in CORPUS/faults; the next run begins with the corpus of the last.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import atheris

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "tests" / "unit"
sys.path[:0] = [str(ROOT), str(UNIT), str(UNIT / "diagnosis"), str(UNIT / "checkpoint")]
os.environ |= {"HF_HUB_OFFLINE": "1", "HARNESS_STEP_LIMIT": "2"}
with atheris.instrument_imports(include=["harness", "yaml", "jinja2"]):
    import readers

#: CPU seconds of an input of any size, and of each byte of a larger one.
SECONDS, SECONDS_A_BYTE = 3.0, 50e-6
#: Bytes of memory above what the process has at the beginning.
MEMORY_MB = 3000
#: What stands in for a value somewhere in a JSON document.
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**70, -(2**63), 10**400, 1e308, -0.0, 5e-324),
    *("", "x", "../../x", "/etc/passwd", "\x00", "\ud800", "\u202e", "NaN", "1e999", "9" * 5000),
    *("f4z eJwDAAAAAAE=", "u1 ", "i4 AAAA", "b2z !!!", "{{ x }}", [], {}, [[]], [{}], {"": None}),
]


def mutated(document: Any, draw: random.Random) -> Any:
    """A JSON document with one value replaced, removed or doubled."""
    places: list[tuple[Any, Any]] = []
    waiting = [document] if isinstance(document, dict | list) else []
    while waiting:
        value = waiting.pop()
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in list(items):
            places.append((value, key))
            if isinstance(inner, dict | list):
                waiting.append(inner)
    if not places:
        return draw.choice(VALUES)
    container, key = draw.choice(places)
    other, other_key = draw.choice(places)
    change = draw.randrange(5)
    if change == 0:
        container[key] = draw.choice(VALUES)
    elif change == 1:
        del container[key]
    elif change == 2:
        container[key] = json.loads(json.dumps(other[other_key]))
    elif change == 3 and isinstance(container, list):
        container.insert(draw.randrange(len(container) + 1), draw.choice(VALUES))
    elif isinstance(container[key], int | float) and not isinstance(container[key], bool):
        container[key] = draw.choice([container[key] + 1, -container[key], container[key] * 1e6])
    else:
        container[key] = [container[key]] * draw.choice([2, 50])
    return document


def mutate(data: bytes, most: int, seed: int) -> bytes:
    """Another input: by its structure where it is JSON, by its bytes elsewhere."""
    draw = random.Random(seed)
    if draw.random() < 0.7:
        with suppress(ValueError, RecursionError, OverflowError, TypeError):
            changed = json.dumps(mutated(json.loads(data), draw)).encode()
            if len(changed) <= most:
                return changed
    return bytes(atheris.Mutate(data, most))


@dataclass
class Watch:
    """Counts inputs and faults of one reader."""

    name: str
    reader: readers.Reader
    place: Path
    corpus: Path
    inputs: int = 0
    slowest: float = 0.0

    def __post_init__(self) -> None:
        self.faults: Counter[str] = Counter()

    def __call__(self, data: bytes) -> None:
        self.inputs += 1
        begun = time.process_time()
        try:
            self.reader.read(bytes(data), self.place)
        except self.reader.refusals:
            pass
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            frame = [f for f in frames if "harness/" in f.filename][-1:] or frames[-1:]
            where = f"{Path(frame[0].filename).name}:{frame[0].lineno}"
            self.keep(f"{type(error).__name__} at {where}: {str(error)[:100]!r}", data)
        took = time.process_time() - begun
        self.slowest = max(self.slowest, took)
        if took > SECONDS + SECONDS_A_BYTE * len(data):
            self.keep(f"slow: {took:.0f} s for {len(data)} bytes", data)

    def keep(self, fault: str, data: bytes) -> None:
        key = fault.partition(": ")[0]
        self.faults[key] += 1
        if self.faults[key] == 1:
            folder = self.corpus / "faults"
            folder.mkdir(exist_ok=True)
            (folder / f"{self.name}-{len(self.faults)}").write_bytes(data)
            print(f"fault: {self.name}: {fault}", flush=True)

    def told(self) -> str:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        return (
            f"{self.name}: {self.inputs} inputs, {len(self.faults)} faults "
            f"({sum(self.faults.values())} inputs), slowest {self.slowest:.2f} s, {peak} MB"
        )


def main() -> None:
    name, seconds, corpus = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).resolve() / sys.argv[1]
    reader = readers.READERS[name]
    inputs = corpus / "inputs"
    inputs.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(reader.seeds()):
        (inputs / f"seed-{number}").write_bytes(seed)
    place = Path(tempfile.mkdtemp(prefix="fuzz-"))
    watch = Watch(name, reader, place, corpus)
    end = time.monotonic() + seconds

    def one(data: bytes) -> None:
        watch(data)
        if time.monotonic() > end:
            print(watch.told(), flush=True)
            os._exit(0)

    soft = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + (MEMORY_MB << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, soft))
    options = [f"-max_total_time={seconds + 60}", "-timeout=120", "-rss_limit_mb=8000"]
    options += ["-max_len=200000", "-handle_int=0", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(inputs)], one, custom_mutator=mutate)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the watchdog's, within a reader
    atheris.Fuzz()


if __name__ == "__main__":
    main()

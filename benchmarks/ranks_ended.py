"""What is left of a run over several ranks that is interrupted, or loses one of them?

    python benchmarks/ranks_ended.py --out benchmarks/results/ranks_ended.jsonl [NAME...]

Each case is `harness record --device vllm-cpu` of the embedded model over two ranks, in the
interpreter that runs this. While it loads or generates, the command or its whole process group
gets SIGINT, or one rank SIGKILL. A line of JSON for each says the exit status, the seconds from
the signal to the end, what the command said, which of its processes are left 5 seconds later, and
which files. The cases with `ray` need Ray in that interpreter. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
EXECUTORS: Mapping[str, Mapping[str, str]] = {
    "mp": {"pipeline_parallel_size": "2"},
    "ray": {"pipeline_parallel_size": "2", "distributed_executor_backend": "ray"},
}
WHAT = ("kill", "int", "int-group")
WHEN = ("load", "generate")
CASES = [f"{how}-{what}-{when}" for how in EXECUTORS for what in WHAT for when in WHEN]
LEFT_S, LIMIT_S = 5.0, 300.0
_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Let processes whose parents have ended be children of this one, as Ray's are."""
    if ctypes.CDLL(None).prctl(_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise SystemExit("this needs Linux")


def started(command: int) -> list[psutil.Process]:
    """All processes of a case that run, without the command's own."""
    found = psutil.Process().children(recursive=True)
    alive = [p for p in found if p.pid != command and memory_of(p)]
    return sorted(alive, key=memory_of, reverse=True)


def memory_of(process: psutil.Process) -> int:
    """Bytes that are resident; 0 of a process that has ended."""
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def reached(when: str, folder: Path, command: int) -> bool:
    if when == "generate":
        return any(folder.glob("harness-rows-*/[0-9]*"))
    # Half of what a rank has in the end: it has imported vLLM.
    return sum(memory_of(each) > 5e8 for each in started(command)) == 2


def strike(what: str, command: int) -> None:
    if what == "kill":
        started(command)[0].kill()
    elif what == "int":
        os.kill(command, signal.SIGINT)
    else:
        os.killpg(command, signal.SIGINT)


def run(name: str) -> dict[str, Any]:
    """Run a case; its line."""
    how, _, rest = name.partition("-")
    what, _, when = rest.rpartition("-")
    arguments = EXECUTORS[how]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        command = [sys.executable, "-m", "harness", "record", "--device", "vllm-cpu", "--suite"]
        command += ["port", "--out", str(folder / "out.json"), "--dtype", "bfloat16"]
        command += [f"--engine-arg={key}={value}" for key, value in arguments.items()]
        with open(folder / "said", "wb") as said:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | {"TMPDIR": text},
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            begun = time.monotonic()
            while process.poll() is None and not reached(when, folder, process.pid):
                time.sleep(0.1)
            struck = time.monotonic()
            if process.poll() is None:
                strike(what, process.pid)
            line: dict[str, Any] = {"case": name, "struck_s": round(struck - begun, 1)}
            try:
                line["status"] = process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                line["status"] = "hung"
            line["seconds"] = round(time.monotonic() - struck, 1)
        time.sleep(LEFT_S)
        left = started(process.pid)
        line["processes_left"] = [each.name() for each in left]
        for each in left:
            each.kill()
        spoken = (folder / "said").read_text("utf-8", "replace").splitlines()
        line["said"] = [text[:300] for text in spoken if text.strip()][-6:]
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        # Ray keeps its logs.
        line["files_left"] = sorted(f for f in files - {"said"} if not f.startswith("ray/"))
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    adopt()
    for name in options.cases or CASES:
        line = json.dumps(run(name))
        print(line, flush=True)
        with options.out.open("a", encoding="utf-8") as out:
            out.write(line + "\n")


if __name__ == "__main__":
    main()

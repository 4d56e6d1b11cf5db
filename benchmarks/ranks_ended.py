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
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
#: Marks every process of a case: those that Ray starts have other parents.
MARK = "HARNESS_RANKS_ENDED"
EXECUTORS: Mapping[str, Mapping[str, str]] = {
    "mp": {"pipeline_parallel_size": "2"},
    "ray": {"pipeline_parallel_size": "2", "distributed_executor_backend": "ray"},
}
WHAT = ("kill", "int", "int-group")
WHEN = ("load", "generate")
CASES = [f"{how}-{what}-{when}" for how in EXECUTORS for what in WHAT for when in WHEN]
LEFT_S, LIMIT_S = 5.0, 300.0


def marked(mark: str) -> Iterator[tuple[int, str]]:
    """Process ids and command lines of the processes with a mark."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                yield int(folder.name), line[:80]
        except OSError:
            continue


def memory_of(process: int) -> int:
    """Pages that are resident; 0 of a process that has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text("ascii").split()[1])
    except OSError:
        return 0


def ranks_of(mark: str, command: int) -> list[int]:
    """The two largest processes beside the command itself."""
    others = [process for process, _ in marked(mark) if process != command]
    return sorted(others, key=memory_of, reverse=True)[:2]


def reached(when: str, folder: Path, mark: str, command: int) -> bool:
    if when == "generate":
        return any(folder.glob("harness-rows-*/[0-9]*"))
    # Half of what a rank has in the end: it has imported vLLM.
    return sum(memory_of(rank) * 4096 > 5e8 for rank in ranks_of(mark, command)) == 2


def strike(what: str, mark: str, command: int) -> None:
    if what == "kill":
        os.kill(ranks_of(mark, command)[0], signal.SIGKILL)
    elif what == "int":
        os.kill(command, signal.SIGINT)
    else:
        os.killpg(command, signal.SIGINT)


def run(name: str) -> dict[str, Any]:
    """Run a case; its line."""
    how, _, rest = name.partition("-")
    what, _, when = rest.rpartition("-")
    mark, arguments = uuid.uuid4().hex, EXECUTORS[how]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        command = [sys.executable, "-m", "harness", "record", "--device", "vllm-cpu", "--suite"]
        command += ["port", "--out", str(folder / "out.json"), "--dtype", "bfloat16"]
        command += [f"--engine-arg={key}={value}" for key, value in arguments.items()]
        with open(folder / "said", "wb") as said:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | {MARK: mark, "TMPDIR": text},
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            started = time.monotonic()
            while process.poll() is None and not reached(when, folder, mark, process.pid):
                if time.monotonic() - started > LIMIT_S:
                    break
                time.sleep(0.1)
            struck = time.monotonic()
            if process.poll() is None:
                strike(what, mark, process.pid)
            line: dict[str, Any] = {"case": name, "struck_s": round(struck - started, 1)}
            try:
                line["status"] = process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                line["status"] = "hung"
            line["seconds"] = round(time.monotonic() - struck, 1)
        time.sleep(LEFT_S)
        line["processes_left"] = [command for _, command in marked(mark)]
        for left, _ in marked(mark):
            os.kill(left, signal.SIGKILL)
        spoken = (folder / "said").read_text("utf-8", "replace").splitlines()
        line["said"] = [each for each in spoken if each.strip()][-6:]
        files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        line["files_left"] = sorted({str(path) for path in files} - {"said"})
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for name in options.cases or CASES:
        line = json.dumps(run(name))
        print(line, flush=True)
        with options.out.open("a", encoding="utf-8") as out:
            out.write(line + "\n")


if __name__ == "__main__":
    main()

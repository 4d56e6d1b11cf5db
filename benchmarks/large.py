"""How long `harness compare` takes for a large recording, and how much memory it needs.

    python benchmarks/large.py [4096 40960 1000000] [--keep FOLDER] [--report] [--gzip] [--diagnose]

The rows are real: the committed baseline of the embedded model, repeated under new prompt ids,
texts and token ids until there are so many positions. Its control ``control-eager`` is the
candidate. What is measured is one process that reads five recordings and judges.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[1] / "baselines" / "smollm2" / "mixed" / "bfloat16"
CANDIDATE = "control-eager"
ARMS = ("reference", "oracle", "control-isa", "control-prefill")


def repeated(prompts: list[dict[str, Any]], positions: int) -> Iterator[dict[str, Any]]:
    """Prompts until there are so many rows, each copy with an id, text and tokens of its own."""
    left, copy = positions, 0
    while left > 0:
        for prompt in prompts:
            if left <= 0:
                return
            rows = (prompt.get("free") or prompt["forced"])["rows"]["count"]
            left -= rows
            words = " ".join(f"{word}{copy}" for word in prompt["text"].split())
            ids = [(token + 7 * copy) % 49_152 for token in prompt["prompt_token_ids"]]
            yield {
                **prompt,
                "id": f"{prompt['id']}-{copy}",
                "text": words,
                "prompt_token_ids": ids,
            }
        copy += 1


def make(folder: Path, positions: int, suffix: str = ".json") -> None:
    """Write ``candidate.json`` and the folder ``baseline``."""
    from harness.files import jsonfile

    for name in (CANDIDATE, *ARMS):
        document = jsonfile.parse(SOURCE / f"{name}.json")
        document = {k: v for k, v in document.items() if k not in ("checksums", "checksum")}
        document["prompts"] = repeated(document["prompts"], positions)
        place = folder / "baseline" / f"{name}{suffix}"
        if name == CANDIDATE:
            document["device"] = "repeated"
            place = folder / f"candidate{suffix}"
        jsonfile.write(place, document)


def measure(command: list[str], log: Path) -> dict[str, float]:
    """Seconds of the clock and of the CPU, MiB at most, and the exit status of one process."""
    with log.open("w") as out:
        start = time.monotonic()
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(child.pid, 0)
        took = time.monotonic() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    return {
        "seconds": round(took, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "mib": round(used.ru_maxrss / 2**10),
        "status": child.returncode,
    }


def made(folder: Path, positions: int, suffix: str) -> None:
    """The recordings, made in another process, whose memory is not measured."""
    code = (
        f"import large, pathlib; large.make(pathlib.Path({str(folder)!r}), {positions}, {suffix!r})"
    )
    here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": here})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("positions", type=int, nargs="*", default=[4_096, 40_960])
    parser.add_argument("--keep", type=Path, help="keep the recordings in this folder")
    parser.add_argument("--report", action="store_true", help="write the JSON and the page too")
    parser.add_argument("--gzip", action="store_true", help="of compressed recordings")
    parser.add_argument("--diagnose", action="store_true", help="look for a cause too")
    options = parser.parse_args()
    suffix = ".json.gz" if options.gzip else ".json"
    with tempfile.TemporaryDirectory() as temporary:
        for positions in options.positions:
            folder = (options.keep or Path(temporary)) / f"{positions}{suffix}"
            candidate, baseline = folder / f"candidate{suffix}", folder / "baseline"
            if not candidate.exists():
                made(folder, positions, suffix)
            what = "diagnose" if options.diagnose else "compare"
            command = [sys.executable, "-m", "harness", what, str(candidate), str(baseline)]
            if options.report:
                command += ["--json", str(folder / "a.json"), "--report", str(folder / "a.html")]
            found = measure(command, folder / "log.txt")
            asked = {"positions": positions, "files": suffix, "report": options.report}
            asked |= {"diagnose": True} if options.diagnose else {}
            size = {"candidate_bytes": candidate.stat().st_size}
            said = (folder / "log.txt").read_text().partition(":")[0]
            print(json.dumps({**asked, **found, **size, "said": said[:100]}), flush=True)


if __name__ == "__main__":
    main()

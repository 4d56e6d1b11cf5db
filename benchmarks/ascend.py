"""What a porting engineer does, on vLLM-Ascend over the emulated NPU: verdict and seconds of each.

    python3 tests/ascend/install.py FOLDER
    FOLDER/run python -m benchmarks.ascend            # all, about 40 minutes on two cores
    FOLDER/run python -m benchmarks.ascend port tp    # those whose name begins so

Each line of benchmarks/results/ascend.jsonl is one of ``CASES``: its command, its status, and
what it said.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "ascend.jsonl"
PORT = Path("baselines/smollm2/port/bfloat16")
SAID = re.compile(
    r"^(?:[A-Z_]+: .*|The error begins .*|No module's .*|=.* (?:passed|failed)\b.*"
    r"|harness: error.*)$"
)


@dataclass(frozen=True)
class Case:
    """One command, or a recording and its comparison.

    Attributes:
        command: as a user types it; ``{work}`` is a folder of this run, ``{tiny}`` the
            folder of a random Llama whose heads divide by 2.
        baseline: what the recording ``{work}/out.json`` is compared with afterwards.
        variables: of the emulation.
    """

    name: str
    command: str
    baseline: str | None = None
    options: str = ""
    variables: dict[str, str] = field(default_factory=dict)


def recorded(name: str, options: str = "", suite: Path = PORT, **variables: str) -> Case:
    """A recording on npu, compared with the committed baseline."""
    command = (
        f"harness record --device npu --suite {suite.parent.name} --context {suite} "
        f"--out {{work}}/out.json {options}"
    )
    allowed = "--allow-dtype" if "float16" in options else ""
    return Case(name, command, str(suite), allowed, variables)


ROOM = {"NPU_EMU_MEMORY": "8192"}
TENTH = "--engine-arg=gpu_memory_utilization=0.1"
TINY = "--model {tiny}/model --suite port --max-new-tokens 32"
TINY_BASE = "{tiny}/baselines/model/port/bfloat16"
FAULTS = (
    *("rope_interleaved", "norm_epsilon", "kv_slot", "head_exchanged", "swiglu_exchanged"),
    *("attention_scale", "norm_weight"),
)


def _suites() -> list[Case]:
    graph = "--engine-arg enforce_eager=false"
    full = """'--engine-arg=compilation_config={{"cudagraph_mode":"FULL_DECODE_ONLY"}}'"""
    return [
        Case("port", "pytest --device=npu --suite=port -p no:cacheprovider"),
        Case("mixed, batch 8", "pytest --device=npu --batch-size=8 -p no:cacheprovider"),
        recorded("batch 4", "--batch-size 4"),
        recorded("batch 8", "--batch-size 8"),
        recorded("piecewise graphs", graph),
        recorded("full graphs for decoding", f"{graph} {full}"),
        recorded("prefix caching", "--engine-arg enable_prefix_caching=true"),
        recorded(
            "chunked prefill",
            "--engine-arg enable_chunked_prefill=true --engine-arg max_num_batched_tokens=64",
        ),
        recorded("asynchronous scheduling", "--engine-arg async_scheduling=true"),
        recorded("float16", "--dtype float16"),
        recorded("forced replay", "--replay forced-decode"),
    ]


def _commands() -> list[Case]:
    return [
        Case("smoke", "pytest --device=npu -m smoke -p no:cacheprovider"),
        Case(
            "matrix",
            f"pytest --device=npu --suite=port --matrix {TENTH} --no-doctor -p no:cacheprovider",
            variables=ROOM,
        ),
        Case(
            "magnifier",
            f"pytest --device=npu --suite=port --magnify {TENTH} --no-doctor -p no:cacheprovider",
            variables=ROOM,
        ),
        Case("locate", "harness locate --device npu --suite port --max-new-tokens 16"),
        Case(
            "bench",
            "harness bench --device npu --suite port --prompt-lengths 32 --batch-sizes 1,4 "
            "--output-tokens 8 --repeats 2 --no-limits --out {work}/bench.json",
        ),
        Case(
            "gate of bench",
            "harness bench --device npu --suite port --prompt-lengths 32 --batch-sizes 1 "
            "--output-tokens 8 --repeats 2 --no-limits --no-judge --out {work}/bench.json "
            "--against '--engine-arg enforce_eager=false'",
        ),
        Case(
            "server",
            "harness record --device server --suite port --max-new-tokens 16 "
            "--engine-arg timeout=1800 --out {work}/out.json",
        ),
        Case(
            "tensor parallel 2",
            f"harness record --device npu {TINY} --context {TINY_BASE} --out {{work}}/out.json "
            "--engine-arg tensor_parallel_size=2",
            TINY_BASE,
            variables={"NPU_EMU_DEVICES": "2", "NPU_EMU_MEMORY": "1500"},
        ),
        Case(
            "hf-npu",
            f"harness record --device hf-npu --suite port --context {PORT} --out {{work}}/out.json",
            str(PORT),
        ),
        Case(
            "out of memory",
            "harness record --device npu --suite port --out {work}/out.json",
            variables={"NPU_EMU_MEMORY": "250"},
        ),
        Case(
            "speculative decoding",
            "harness record --device npu --suite port --out {work}/out.json "
            """'--engine-arg=speculative_config={{"method":"ngram","num_speculative_tokens":2}}'""",
        ),
    ]


def _faults() -> list[Case]:
    found = []
    for fault in FAULTS:
        broken = {"NPU_EMU_FAULT": fault}
        found.append(recorded(f"fault {fault}", **broken))
        where = "harness locate --device npu --suite port --max-new-tokens 8"
        found.append(Case(f"fault {fault}, locate", where, variables=broken))
    return found


CASES = (*_suites(), *_commands(), *_faults())


def said_by(text: str) -> list[str]:
    """The lines that a reader looks for, the last three."""
    return [line[:300] for line in text.splitlines() if SAID.match(line)][-3:]


def run(command: str, variables: dict[str, str]) -> tuple[int, str]:
    """Status and text of a command."""
    done = subprocess.run(
        shlex.split(command), cwd=ROOT, env={**os.environ, **variables}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def make_tiny(folder: Path) -> None:
    """The random Llama and its baseline."""
    for command in (
        f"python tests/ascend/tiny_models.py llama {folder}/model",
        f"harness baseline make --device hf-cpu --model {folder}/model --suite port "
        f"--max-new-tokens 32 --baseline-dir {folder}/baselines",
    ):
        status, text = run(command, {})
        assert status == 0, text[-1000:]


def main() -> None:
    chosen = [c for c in CASES if not sys.argv[1:] or c.name.startswith(tuple(sys.argv[1:]))]
    with tempfile.TemporaryDirectory() as name:
        tiny = Path(name) / "tiny"
        if any("{tiny}" in case.command for case in chosen):
            make_tiny(tiny)
        for number, case in enumerate(chosen):
            work = Path(name) / str(number)
            work.mkdir()
            places = {"work": work, "tiny": tiny}
            started = time.monotonic()
            status, text = run(case.command.format(**places), case.variables)
            if case.baseline is not None and status == 0:
                held = f"harness compare {{work}}/out.json {case.baseline} {case.options}"
                status, text = run(held.format(**places), {})
            line = {
                "case": case.name,
                "command": case.command,
                "variables": case.variables,
                "vllm_ascend": version("vllm_ascend"),
                "seconds": round(time.monotonic() - started),
                "status": status,
                "said": said_by(text) or [text.replace(name, "").strip()[-300:]],
            }
            print(json.dumps(line), flush=True)
            with RESULTS.open("a", encoding="utf-8") as results:
                results.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()

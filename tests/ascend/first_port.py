"""The first port, end to end: what a porting engineer types, on the emulated NPU.

    FOLDER/run python tests/ascend/first_port.py            # BitCPM4-CANN-1B's exact shape
    FOLDER/run python tests/ascend/first_port.py --small    # a model of 88 million parameters

It makes random weights as training leaves them, fuses them, makes a baseline, and runs the
suite `port`. Then it runs the weights that nobody fused, which must be told. Each command is
printed with what it says, its seconds and the memory of its largest process; the end is a
table. The status is 1 if a command did not end as it should.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What vLLM-Ascend's own documents set for equal bits from run to run.
DETERMINISM = {
    "HCCL_DETERMINISTIC": "true",
    "LCCL_DETERMINISTIC": "1",
    "ATB_MATMUL_SHUFFLE_K_ENABLE": "0",
    "ATB_LLM_LCOC_ENABLE": "0",
    "CLOSE_MATMUL_K_SHIFT": "1",
}
#: The engine tries its longest batch at its start, which takes a CPU minutes.
LENGTH = "--engine-arg=max_model_len=1024"
#: A longer output is printed by its first and last lines.
MOST_LINES, ENDS = 70, 6


@dataclass(frozen=True)
class Step:
    """A command as a user types it, and how it must end.

    Attributes:
        told: what must stand in its output, as a regular expression; the table shows it.
        status: that it must end with.
    """

    title: str
    command: str
    told: str
    status: int = 0


@dataclass(frozen=True)
class Done:
    """How a step ended; ``largest_gib`` is the most memory of one of its processes."""

    title: str
    seconds: float
    largest_gib: float
    status: int
    told: str
    well: bool


ALIGNED = r"(BIT_EXACT|TOKEN_EXACT|EQUIVALENT): .*"
FILES = (
    Step(
        "random weights",
        "python benchmarks/make_bitcpm.py {work}/QAT --tokenizer smollm2{shape}",
        r"model\S*\.safetensors",
    ),
    Step("look at the files", "harness checkpoint inspect {work}/QAT", "nothing is wrong"),
    Step(
        "which form?",
        "harness checkpoint verify-ternary {work}/QAT",
        r"(\d+) of \1 linears: latent",
        status=1,
    ),
    Step(
        "fuse",
        "harness checkpoint fuse --input_dir {work}/QAT --output_dir {work}/{fused} "
        "--group-size 64",
        r"\d+ linears fused, groups of 64",
    ),
    Step(
        "which form now?",
        "harness checkpoint verify-ternary {work}/{fused}",
        r"(\d+) of \1 linears: fused, group size 64",
    ),
)
BASELINE = Step(
    "the baseline",
    "harness baseline make --device hf-cpu --model {work}/{fused} --suite port "
    "--max-new-tokens {tokens} --baseline-dir {work}/baselines",
    r"\d+ positions; reference, oracle, .*control.*",
)
DOCTOR = Step("the host", "harness doctor --device npu --limit-s 300", r"npu: ready.*")
PORT = (
    Step(
        "the port",
        "pytest --device=npu --model={work}/{fused} --suite=port --max-new-tokens={tokens} "
        "--baseline-dir={work}/baselines --report={work}/npu.html --no-doctor {length}",
        ALIGNED,
    ),
    Step(
        "a reviewer judges again",
        "harness compare reports/{fused}-port-bfloat16-npu.json {baseline} "
        "--report {work}/again.html --json {work}/again.alignment.json",
        ALIGNED,
    ),
)
MISTAKE = (
    Step(
        "not fused, by mistake",
        "harness record --device npu --model {work}/QAT --suite port "
        "--max-new-tokens {tokens} --context {baseline} --out {work}/latents.json {length}",
        r"latents\.json.*",
    ),
    Step(
        "… told by the weights",
        "harness compare {work}/latents.json {baseline}",
        r"NOT_COMPARABLE: .*model\.weights.*",
        status=3,
    ),
    Step(
        "… and by what they compute",
        "harness compare {work}/latents.json {baseline} --allow-weights "
        "--report {work}/latents.html --json {work}/latents.alignment.json",
        r"DIVERGENT: .*",
        status=1,
    ),
)


def steps(work: str, *, small: bool, tokens: int, doctor: bool) -> list[Step]:
    """The commands, with the folder for all files as it is typed."""
    # The name of what pytest leaves in reports/ as well.
    fused = "FUSED-small" if small else "FUSED"
    names = {
        "work": work,
        "fused": fused,
        "baseline": f"{work}/baselines/{fused}/port/bfloat16",
        "shape": " --small" * small,
        "tokens": tokens,
        "length": LENGTH,
    }
    chosen = (*FILES, BASELINE, *[DOCTOR] * doctor, *PORT, *MISTAKE)
    return [replace(step, command=step.command.format(**names)) for step in chosen]


def run(step: Step, log: Path) -> tuple[Done, str]:
    """Run a step; how it ended, and what it printed. Its errors go to ``log``.err."""
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as out, log.with_suffix(".err").open("w") as err:
        process = subprocess.Popen(shlex.split(step.command), cwd=ROOT, stdout=out, stderr=err)
        _, ended, used = os.wait4(process.pid, 0)
    # Popen would wait for it a second time.
    process.returncode = os.waitstatus_to_exitcode(ended)
    text = log.read_text("utf-8", errors="replace")
    told = re.search(step.told, text)
    well = process.returncode == step.status and told is not None
    said = told[0] if told else (text.strip().splitlines() or ["nothing"])[-1]
    seconds = round(time.monotonic() - started, 1)
    largest = round(used.ru_maxrss / 2**20, 2)
    return Done(step.title, seconds, largest, process.returncode, said, well), text


def shortened(text: str) -> str:
    """An output of many lines by its first and last ones, without this machine's folders."""
    text = text.replace(f"{ROOT}/", "").replace(str(ROOT), ".")
    for folder in (sys.prefix, sys.base_prefix):
        text = text.replace(folder, "…")
    lines = [line.rstrip() for line in text.strip("\n").splitlines()]
    if len(lines) > MOST_LINES:
        left_out = f"… {len(lines) - 2 * ENDS} lines …"
        lines = [*lines[:ENDS], left_out, *lines[-ENDS:]]
    return "\n".join(lines)


def table(ended: list[Done]) -> str:
    """The steps, one a line."""
    rows = [f"{'step':<28} {'s':>7} {'GiB':>6} {'status':>6}  what it said"]
    for done in ended:
        figures = f"{done.seconds:>7.1f} {done.largest_gib:>6.2f} {done.status:>6}"
        said = done.told if len(done.told) <= 100 else f"{done.told[:99]}…"
        rows.append(f"{done.title:<28} {figures}  {'' if done.well else 'WRONG: '}{said}")
    total = sum(done.seconds for done in ended)
    return "\n".join([*rows, f"{'all':<28} {total:>7.1f}"])


def run_all(chosen: list[Step], logs: Path, start: int) -> list[Done]:
    """Run the steps from number ``start`` (from 1) until one ends otherwise than it should.

    How the earlier ones ended is read from what another run left in ``logs``.
    """
    ended = []
    for number, step in enumerate(chosen, 1):
        log = logs / f"{number:02}.out"
        kept = log.with_suffix(".json")
        if number < start:
            ended.append(Done(**json.loads(kept.read_text("utf-8"))))
            continue
        print(f"\n$ {step.command}", flush=True)
        done, text = run(step, log)
        kept.write_text(json.dumps(asdict(done)), "utf-8")
        figures = f"status {done.status}, {done.seconds} s, {done.largest_gib} GiB"
        print(f"{shortened(text)}\n[{figures}]", flush=True)
        ended.append(done)
        if not done.well:
            wanted = f"status {step.status} and “{step.told}”"
            print(f"WRONG: wanted {wanted}; see {log.with_suffix('.err')}", flush=True)
            break
    return ended


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a model of 88 million parameters")
    parser.add_argument("--work", type=Path, default=Path("build/first-port"), help="a folder")
    parser.add_argument("--max-new-tokens", type=int, default=16)
    parser.add_argument("--start", type=int, default=1, help="go on at this step in --work")
    chosen = parser.parse_args()
    os.environ.update(DETERMINISM)
    # What the weights leave becomes KV cache, and is written to: no more than needed.
    os.environ.setdefault("NPU_EMU_MEMORY", "1024" if chosen.small else "5120")
    shown = {**DETERMINISM, "NPU_EMU_MEMORY": os.environ["NPU_EMU_MEMORY"]}
    print("export", *(f"{name}={value}" for name, value in shown.items()))
    logs = ROOT / chosen.work / "steps"
    logs.mkdir(parents=True, exist_ok=True)
    doctor = Path("/dev/davinci0").exists()  # `run` shows it where it may
    commands = steps(
        str(chosen.work), small=chosen.small, tokens=chosen.max_new_tokens, doctor=doctor
    )
    ended = run_all(commands, logs, chosen.start)
    print(f"\n{table(ended)}")
    return 0 if len(ended) == len(commands) and all(done.well for done in ended) else 1


if __name__ == "__main__":
    sys.exit(main())

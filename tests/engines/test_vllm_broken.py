"""Checkpoints broken on purpose, on vLLM, against the shipped baseline of the good one."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from broken_checkpoint import Fault, Weights, break_checkpoint, change_rope_base

from harness.model.model import Model

pytestmark = [pytest.mark.engine, pytest.mark.slow]
if importlib.util.find_spec("vllm") is None:
    pytest.skip("vllm is not installed", allow_module_level=True)

ROOT = Path(__file__).parents[2]
BASELINE = ROOT / "baselines/smollm2/mixed/bfloat16"


def rope_base_too_low(config: dict[str, Any], _: Weights) -> None:
    change_rope_base(config, 0.1)


def one_head_zeroed(_: dict[str, Any], weights: Weights) -> None:
    """One of 9 heads in one of 30 layers adds nothing any more."""
    weights["model.layers.15.self_attn.o_proj.weight"][:, 4 * 64 : 5 * 64] = 0


def weights_rounded_to_fp8(_: dict[str, Any], weights: Weights) -> None:
    import torch

    for name, weight in weights.items():
        if name.endswith("_proj.weight"):
            scale = weight.abs().amax(dim=1, keepdim=True).float() / 448.0
            weight.copy_((weight.float() / scale).to(torch.float8_e4m3fn).float() * scale)


def nothing(_: dict[str, Any], __: Weights) -> None:
    pass


def harness(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("fault", "verdicts"),
    [
        # Without it the others could not tell; CI sees it in docs/howto/vllm-cpu.md.
        pytest.param(nothing, {"EQUIVALENT", "TOKEN_EXACT"}, marks=pytest.mark.nightly),
        (one_head_zeroed, {"DRIFT", "DIVERGENT"}),
        pytest.param(rope_base_too_low, {"DRIFT", "DIVERGENT"}, marks=pytest.mark.nightly),
        pytest.param(weights_rounded_to_fp8, {"DRIFT", "DIVERGENT"}, marks=pytest.mark.nightly),
    ],
)
def test_a_broken_checkpoint_does_not_pass(
    embedded_model: Model,
    tmp_path: Path,
    fault: Fault,
    verdicts: set[str],
) -> None:
    break_checkpoint(Path(embedded_model.path), tmp_path / "model", fault)
    recorded = harness(
        *("record", "--device", "vllm-cpu", "--model", "model", "--suite", "mixed"),
        # A free run would diverge everywhere and be replayed: twice the time, the same rows.
        *("--replay", "forced-decode", "--context", str(BASELINE)),
        *("--batch-size", "8", "--out", "a.json"),
        folder=tmp_path,
    )
    assert recorded.returncode == 0, recorded.stderr
    judged = harness(
        "compare", "a.json", str(BASELINE), "--allow-weights", "--json", "c.json", folder=tmp_path
    )
    found = json.loads((tmp_path / "c.json").read_text("utf-8"))
    assert found["verdict"] in verdicts, judged.stdout
    assert judged.returncode == (0 if fault is nothing else 1)
    assert found["positions"] == sum(p["tokens_compared"] for p in found["prompts"]) > 1000

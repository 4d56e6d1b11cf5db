"""Faults below bfloat16's rounding, told where there is less of it, on a real model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from broken_checkpoint import Fault, Weights, break_checkpoint, change_rope_base
from needed import needed

from harness.alignment.allow import Allow
from harness.alignment.result import Magnifier
from harness.baseline.baseline import Baseline
from harness.baseline.make import Plan, make_baseline
from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec
from harness.model.model import Model
from harness.process.progress import Silent
from harness.recording.context import Context
from harness.recording.recorder import Options, record
from harness.session.magnifier import magnified
from harness.suite.read import load_suite
from harness.suite.suite import Suite

needed("torch", "transformers", "safetensors")
pytestmark = [pytest.mark.engine, pytest.mark.slow]

PROMPTS = (
    "The capital of France is",
    "def fibonacci(n):",
    "1, 2, 3, 4,",
    "北京是",
    "Dear Sir,",
    "{",
)


def rope_base_10_percent_off(config: dict[str, Any], _: Weights) -> None:
    change_rope_base(config, 0.9)


def one_weight_corrupted(_: dict[str, Any], weights: Weights) -> None:
    weights["model.layers.10.mlp.gate_proj.weight"][100, 100] = 3.0


@pytest.fixture(scope="module")
def suite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suite") / "s.yaml"
    prompts = "".join(f"  - {{id: p{i}, text: {json.dumps(p)}}}\n" for i, p in enumerate(PROMPTS))
    path.write_text(
        "generation: {max_new_tokens: 16, ignore_eos: true}\nprompts:\n" + prompts, "utf-8"
    )
    return path


@pytest.fixture(scope="module")
def suite(suite_file: Path) -> Suite:
    return load_suite(str(suite_file))


@pytest.fixture(scope="module")
def baseline(suite: Suite, suite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Baseline:
    root = tmp_path_factory.mktemp("baselines")
    plan = Plan(DeviceSpec("hf-cpu", dtype="float32"), suite, root, suite_source=str(suite_file))
    return make_baseline(plan, Silent())


def closer(model: str, suite: Suite, baseline: Baseline, **args: str) -> Magnifier:
    spec = DeviceSpec("hf-cpu", model, "float32", engine_args=args)
    target = open_target(spec, progress=Silent())
    options = Options("forced-decode", Context.of(baseline.reference))
    made = record(target.device, target.subject, suite, options, progress=Silent())
    return magnified(made, baseline, allow=Allow(weights=True))


@pytest.mark.parametrize("fault", [rope_base_10_percent_off, one_weight_corrupted])
def test_float32_tells_what_bfloat16_hides(
    fault: Fault,
    embedded_model: Model,
    suite: Suite,
    baseline: Baseline,
    tmp_path: Path,
) -> None:
    break_checkpoint(Path(embedded_model.path), tmp_path / "model", fault)
    found = closer(str(tmp_path / "model"), suite, baseline)
    assert found.status == "WARN"
    assert found.error_ratio is not None
    assert found.error_ratio.low is not None
    assert found.error_ratio.low > 100


def test_another_correct_attention_passes(suite: Suite, baseline: Baseline) -> None:
    found = closer("smollm2", suite, baseline, attention="eager")
    assert found.status == "PASS"
    assert found.error_ratio is not None
    assert found.error_ratio.high is not None
    assert found.limit is not None
    assert found.error_ratio.high < found.limit

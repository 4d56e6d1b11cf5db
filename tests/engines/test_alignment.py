"""The judgement on a real model: what the README and the documents claim."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from needed import needed

from harness.alignment.align import compare
from harness.alignment.allow import Allow
from harness.alignment.outcomes import ALIGNED
from harness.alignment.result import Alignment, load_alignment
from harness.baseline.baseline import Baseline
from harness.baseline.folder import load_baseline
from harness.baseline.make import LOWER_ISA
from harness.devices.base import Request
from harness.devices.hf.device import HfDevice
from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec
from harness.model.model import Model
from harness.recording.context import Context
from harness.recording.format import Recording, load_recording
from harness.recording.recorder import Options, record
from harness.statistics.rows import squared_norm
from harness.suite.read import load_suite

pytestmark = pytest.mark.engine

needed("torch", "transformers")

BASELINES = Path(__file__).parents[2] / "baselines" / "smollm2"


def shipped(suite: str) -> Baseline:
    return load_baseline(BASELINES / suite / "bfloat16")


def harness(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, embedded_model: Model) -> Path:
    """A recording of ``port`` with eight tokens a prompt, by the command."""
    out = tmp_path_factory.mktemp("short") / "a.json"
    done = harness(*SHORT, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


SHORT = ("record", "--device", "hf-cpu", "--suite", "port", "--max-new-tokens", "8")


def test_two_runs_are_bit_exact(short: Path, tmp_path: Path) -> None:
    again = tmp_path / "b.json"
    assert harness(*SHORT, "--out", again).returncode == 0
    done = harness("compare", short, again)
    assert (done.returncode, done.stdout.split(":")[0]) == (0, "BIT_EXACT")


def test_another_dtype_is_not_comparable_unless_allowed(short: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.json"
    assert harness(*SHORT, "--dtype", "float32", "--out", other).returncode == 0
    refused = harness("compare", short, other)
    assert refused.returncode == 3
    assert "NOT_COMPARABLE" in refused.stdout
    assert "dtype: bfloat16 against float32" in refused.stdout
    allowed = harness("compare", short, other, "--allow-dtype")
    assert (allowed.returncode, allowed.stdout.split(":")[0]) == (3, "INCONCLUSIVE")


def test_an_edited_token_is_refused_by_file_and_field(short: Path, tmp_path: Path) -> None:
    document = json.loads(short.read_text(encoding="utf-8"))
    document["prompts"][1]["free"]["token_ids"][3] += 1
    edited = tmp_path / "edited.json"
    edited.write_text(json.dumps(document), encoding="utf-8")
    done = harness("compare", edited, short)
    assert done.returncode == 2
    assert f"{edited}: prompts[1].free.token_ids: content does not match" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_forced_decode_of_its_own_tokens_reproduces_every_digest(
    short: Path, tmp_path: Path
) -> None:
    out = tmp_path / "forced.json"
    done = harness(*SHORT, "--replay", "forced-decode", "--context", short, "--out", out)
    assert done.returncode == 0, done.stderr
    free, forced = load_recording(short), load_recording(out)
    for mine, theirs in zip(free.prompts, forced.prompts, strict=True):
        assert mine.free is not None
        assert theirs.forced is not None
        assert np.array_equal(mine.free.rows.digest, theirs.forced.rows.digest)


def test_bare_token_ids_are_verified(short: Path, tmp_path: Path) -> None:
    plain = [
        {"prompt_token_ids": list(p.prompt_token_ids), "token_ids": list(p.run.token_ids)}
        for p in load_recording(short).prompts
    ]
    agreed, wrong = tmp_path / "agreed.json", tmp_path / "wrong.json"
    agreed.write_text(json.dumps(plain), encoding="utf-8")
    plain[0]["token_ids"][5] = 7
    wrong.write_text(json.dumps(plain), encoding="utf-8")
    assert harness("verify", agreed).returncode == 3
    done = harness("verify", wrong)
    assert (done.returncode, done.stdout.split(":")[0]) == (1, "DIVERGENT")


@pytest.mark.parametrize("suite", ["port", "mixed"])
def test_the_shipped_controls_differ_and_are_equivalent(suite: str) -> None:
    """Each control, held against the baseline of the others as if it were a candidate."""
    baseline = shipped(suite)
    assert len(baseline.controls) >= 2
    for name, control in baseline.controls.items():
        others = {other: arm for other, arm in baseline.controls.items() if other != name}
        alignment = compare(control, replace(baseline, controls=others))
        assert alignment.verdict == "EQUIVALENT", alignment.sentence


@pytest.mark.slow
def test_a_lower_instruction_set_holds_against_the_baseline(
    tmp_path: Path, embedded_model: Model
) -> None:
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    lower = LOWER_ISA.get(capability)
    if lower is None:
        pytest.skip(f"no lower instruction set is known below {capability}")
    folder = BASELINES / "port" / "bfloat16"
    out, aligned = tmp_path / "lower.json", tmp_path / "alignment.json"
    run = ("record", "--device", "hf-cpu", "--suite", "port", "--context", folder, "--out", out)
    done = harness(*run, **lower)
    assert done.returncode == 0, done.stderr
    done = harness("compare", out, folder, "--json", aligned)
    assert done.returncode == 0, done.stdout
    alignment = load_alignment(aligned)
    assert alignment.verdict in ALIGNED
    # Whether any bit differs is the CPU's affair; that it ran is told by torch itself.
    assert load_recording(out).engine.instruction_set != capability


def forced_prefill(model: str, engine_args: dict[str, str], context: Recording) -> Recording:
    target = open_target(DeviceSpec("hf-cpu", model, engine_args=engine_args))
    options = Options(replay="forced-prefill", context=Context.of(context))
    return record(target.device, target.subject, load_suite("mixed"), options)


@pytest.mark.slow
def test_a_zeroed_attention_head_is_found_where_few_tokens_tell(
    tmp_path: Path, embedded_model: Model
) -> None:
    baseline = shipped("mixed")
    broken = tmp_path / "broken"
    zero_one_head(Path(embedded_model.path), broken)
    candidate = forced_prefill(str(broken), {}, baseline.reference)
    alignment = compare(candidate, baseline, allow=Allow(weights=True))
    assert alignment.verdict in ("DRIFT", "DIVERGENT"), alignment.sentence
    assert gate(alignment, "error_ratio") == "FAIL"


def gate(alignment: Alignment, name: str) -> str:
    return next(g.status for g in alignment.gates if g.name == name)


def zero_one_head(model: Path, broken: Path, layer: int = 15, head: int = 4) -> None:
    """A copy of a checkpoint whose o_proj reads nothing from one head."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, broken)
    weights = load_file(str(broken / "model.safetensors"))
    name = f"model.layers.{layer}.self_attn.o_proj.weight"
    weights[name] = weights[name].clone()
    weights[name][:, head * 64 : (head + 1) * 64] = 0
    save_file(weights, str(broken / "model.safetensors"), metadata={"format": "pt"})


@pytest.mark.slow
@pytest.mark.nightly
def test_the_sketch_tells_the_full_error_ratio_within_two_percent(embedded_model: Model) -> None:
    """Every row of ``mixed``: sketches against the whole vocabulary."""
    reference = shipped("mixed").reference
    totals = {
        name: np.zeros(2)
        for name in ("candidate", "reference")  # full, sketch
    }
    arms = {
        "candidate": HfDevice("hf-cpu", embedded_model, attention="eager"),
        "reference": HfDevice("hf-cpu", embedded_model),
        "oracle": HfDevice("hf-cpu", embedded_model, dtype="float32"),
    }
    try:
        for device in arms.values():
            device.open()
        for prompt in reference.prompts:
            request = Request(
                prompt.id, prompt.prompt_token_ids, "forced-prefill", 64,
                forced_token_ids=prompt.run.token_ids, keep="full",
            )  # fmt: skip
            done = {name: next(iter(device.generate([request]))) for name, device in arms.items()}
            truth = done["oracle"]
            assert truth.logits is not None
            assert truth.rows is not None
            for name, total in totals.items():
                logits, rows = done[name].logits, done[name].rows
                assert logits is not None
                assert rows is not None
                error = logits.astype(np.float64) - truth.logits
                error -= error.mean(axis=1, keepdims=True)
                total[0] += np.sum(error * error)
                total[1] += np.sum(squared_norm(rows.sketch - truth.rows.sketch))
    finally:
        for device in arms.values():
            device.close()
    full, sketch = np.sqrt(totals["candidate"] / totals["reference"])
    print(f"error ratio: {full:.4f} full, {sketch:.4f} sketched")  # noqa: T201 - for pytest -rP
    assert sketch == pytest.approx(full, rel=0.02)

"""`harness diagnose` on a real model: two layers of the embedded one, whole and with a fault."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from broken_checkpoint import Weights, break_checkpoint, two_layers
from needed import needed

from benchmarks.diagnosis_served import as_served
from harness.alignment.diagnosis import Diagnosis
from harness.baseline.folder import load_baseline
from harness.devices.spec import DeviceSpec
from harness.diagnosis.command import diagnosis_of
from harness.errors import UsageError
from harness.model.model import Model
from harness.process.progress import Progress, Silent
from harness.recording.format import load_recording, save_recording

pytestmark = [pytest.mark.engine, pytest.mark.slow]

needed("torch", "transformers")

WORDS = [
    "river",
    "stone",
    "winter",
    "engine",
    "copper",
    "garden",
    "signal",
    "planet",
    "market",
    "bridge",
    "candle",
    "forest",
    "letter",
    "mirror",
    "ocean",
    "pepper",
    "rocket",
    "silver",
    "temple",
    "violin",
]
SUITE = "generation: {max_new_tokens: 6, ignore_eos: true}\nprompts:\n" + "".join(
    f"  - {{id: p{i}, text: 'The {word} by the old {WORDS[-i - 1]} was'}}\n"
    for i, word in enumerate(WORDS)
)


def nothing(_: dict[str, Any], __: Weights) -> None:
    pass


def larger_mlp(_: dict[str, Any], weights: Weights) -> None:
    weights["model.layers.1.mlp.down_proj.weight"].mul_(1.1)


def another_base(config: dict[str, Any], _: Weights) -> None:
    config["rope_theta"] = 20_000.0
    config.get("rope_parameters", {})["rope_theta"] = 20_000.0


def harness(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(embedded_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, its baseline, and recordings of it and of one with a larger MLP."""
    made = tmp_path_factory.mktemp("diagnose")
    (made / "s.yaml").write_text(SUITE, "utf-8")
    break_checkpoint(Path(embedded_model.path), made / "good", two_layers)
    break_checkpoint(made / "good", made / "wrong", larger_mlp)
    break_checkpoint(made / "good", made / "base", another_base)
    common = ("--device", "hf-cpu", "--suite", "s.yaml")
    done = harness("baseline", "make", *common, "--model", "./good", folder=made)
    assert done.returncode == 0, done.stderr
    for name, attention in (("good", "eager"), ("wrong", "sdpa")):
        done = harness(
            *("record", *common, "--model", f"./{name}", "--engine-arg", f"attention={attention}"),
            *("--engine-arg", "matmul=split-2", "--replay", "forced-prefill"),
            *("--context", "baselines/good/s/bfloat16", "--out", f"{name}.json"),
            folder=made,
        )
        assert done.returncode == 0, done.stderr
    return made


def test_the_cause_is_named_with_its_size(folder: Path) -> None:
    done = harness(
        *("diagnose", "wrong.json", "baselines/good/s/bfloat16", "--model", "./good"),
        *("--allow-weights", "--json", "wrong.alignment.json", "--report", "wrong.html"),
        folder=folder,
    )
    assert done.returncode == 1, done.stderr
    found = json.loads((folder / "wrong.alignment.json").read_text("utf-8"))
    best = found["diagnosis"]["explanations"][0]
    alike = [other["sentence"] for other in best["alike"]]
    assert "what the MLP of layer 1 adds" in (best["sentence"] + " ".join(alike))
    assert 1.05 < best["size"]["value"] < 1.15
    assert "Explained by" in done.stdout
    assert "Explained by" in (folder / "wrong.html").read_text("utf-8")
    gate = next(g for g in found["gates"] if g["name"] == "systematic")
    assert gate["status"] == "FAIL"


@pytest.mark.nightly
def test_the_arms_scores_beside_the_baseline_are_used(folder: Path) -> None:
    done = harness(
        *("baseline", "make", "--device", "hf-cpu", "--suite", "s.yaml", "--model", "./good"),
        *("--baseline-dir", "stored", "--diagnose"),
        folder=folder,
    )
    assert done.returncode == 0, done.stderr
    assert "MB, for `harness diagnose`" in done.stdout
    done = harness(
        *("diagnose", "wrong.json", "stored/good/s/bfloat16", "--model", "./good"),
        *("--allow-weights", "--json", "stored.alignment.json"),
        folder=folder,
    )
    assert done.returncode == 1, done.stderr
    assert "the arms' scores are those of stored/good/s/bfloat16/diagnosis.zip" in done.stderr
    best = json.loads((folder / "stored.alignment.json").read_text("utf-8"))["diagnosis"]
    assert 1.05 < best["explanations"][0]["size"]["value"] < 1.15


@pytest.mark.nightly
def test_the_cause_is_named_from_what_a_server_lists(folder: Path) -> None:
    """The recordings as a server would have told them: 20 log-probabilities of each position."""
    for name, status in (("wrong", 1), ("good", 0)):
        save_recording(as_served(load_recording(folder / f"{name}.json")), folder / "served.json")
        done = harness(
            *("diagnose", "served.json", "baselines/good/s/bfloat16", "--model", "./good"),
            *("--allow-weights", "--json", "served.alignment.json", "--report", "served.md"),
            folder=folder,
        )
        assert done.returncode == status, done.stderr
        found = json.loads((folder / "served.alignment.json").read_text("utf-8"))["diagnosis"]
        assert (found["source"], found["listed"]) == ("log_probabilities", 20)
        assert 2.0 <= found["looked_at"] < 20.0
        said = "as far as the 20 largest log-probabilities of each position tell"
        assert said in found["sentence"]
        assert said in done.stdout
        assert said in (folder / "served.md").read_text("utf-8")
        if name == "wrong":
            best = found["explanations"][0]
            alike = [other["sentence"] for other in best["alike"]]
            assert "what the MLP of layer 1 adds" in (best["sentence"] + " ".join(alike))
            assert 1.05 < best["size"]["value"] < 1.15
        else:
            assert found["finding"] == "NOTHING"


def test_a_correct_path_has_no_cause(folder: Path) -> None:
    found = in_process(folder, "good", "good")
    assert found.finding == "NOTHING"
    assert found.explanations == ()


@pytest.mark.nightly
def test_weights_on_disk_give_the_same_diagnosis(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    weights: Any
    for weights in ("memory", "stream"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / weights))
        said = io.StringIO()
        found.append(in_process(folder, "wrong", "good", weights, Progress(said)))
        assert ("prompts in layers" in said.getvalue()) == (weights == "stream")
        assert not list((tmp_path / weights).rglob("*.going"))
    memory, disk = found
    assert disk.finding == memory.finding == "SYSTEMATIC"
    for one, other in zip(disk.families, memory.families, strict=True):
        assert (one.name, one.hypotheses, one.limit) == (other.name, other.hypotheses, other.limit)
        assert one.t == pytest.approx(other.t, rel=1e-3)
    for mine, theirs in zip(disk.explanations, memory.explanations, strict=True):
        assert (mine.kind, mine.place, mine.index) == (theirs.kind, theirs.place, theirs.index)
        assert mine.t == pytest.approx(theirs.t, rel=1e-3)
        assert mine.share == pytest.approx(theirs.share, rel=1e-3)


@pytest.mark.parametrize(("model", "other"), [("wrong", "other weights"), ("base", "config.rope")])
def test_another_model_than_the_baselines_is_refused(folder: Path, model: str, other: str) -> None:
    """Of the same weights too: another config computes something else with them."""
    with pytest.raises(UsageError, match=f"is not the baseline's.*{other}"):
        in_process(folder, "good", model)


@pytest.mark.parametrize("asked", ["", "--no-diagnose"])
def test_pytest_names_the_cause_of_a_bad_verdict_by_itself(folder: Path, asked: str) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "harness.plugin", "--device=hf-cpu"]
    command += ["--model=./good", "--suite=s.yaml", "--context=wrong.json", "--allow-weights"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *asked.split()],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert ("Explained by" in done.stdout) == (not asked)
    assert ("looking for the change" in done.stderr) == (not asked)


def in_process(
    folder: Path,
    name: str,
    model: str,
    weights: Any = "auto",
    progress: Progress | None = None,
) -> Diagnosis:
    return diagnosis_of(
        load_recording(folder / f"{name}.json"),
        load_baseline(folder / "baselines/good/s/bfloat16"),
        DeviceSpec("hf-cpu", str(folder / model), "float32"),
        progress or Silent(),
        weights,
    )

"""What a porting engineer does on an Ascend host, on the emulated one.

Each test starts an engine in a process of its own, as a user does.
"""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from npu_commands import Run, run, well

from harness.recording.format import load_recording

TOKENS = "8"
pytestmark = [pytest.mark.ascend, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def tiny(npu: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama and its baseline."""
    from tiny_models import make_tiny

    folder = tmp_path_factory.mktemp("tiny")
    make_tiny("llama", folder / "model")
    well(
        run(
            "harness", "baseline", "make", "--device", "hf-cpu", "--model", folder / "model",
            "--suite", "port", "--max-new-tokens", TOKENS, "--baseline-dir", folder / "baselines",
        )
    )  # fmt: skip
    return folder


def record(tiny: Path, out: str, *options: object, **variables: str) -> Run:
    return run(
        "harness", "record", "--device", "npu", "--model", tiny / "model", "--suite", "port",
        "--max-new-tokens", TOKENS, "--context", baseline(tiny), "--out", tiny / out,
        *options, **variables,
    )  # fmt: skip


@pytest.fixture(scope="module")
def eager(tiny: Path) -> Path:
    """What the default settings give."""
    well(record(tiny, "eager.json"))
    return tiny / "eager.json"


def baseline(tiny: Path) -> Path:
    return tiny / "baselines" / "model" / "port" / "bfloat16"


def compared(tiny: Path, out: str) -> dict[str, Any]:
    """The alignment with the baseline."""
    run("harness", "compare", tiny / out, baseline(tiny), "--json", tiny / f"{out}.alignment")
    found: dict[str, Any] = json.loads((tiny / f"{out}.alignment").read_text("utf-8"))
    return found


def test_the_suite_of_the_port_is_equivalent_on_the_embedded_model(
    npu: Any, tmp_path: Path
) -> None:
    done = well(
        run(
            "pytest", "--device=npu", "--suite=port", "-p", "no:cacheprovider",
            f"--report={tmp_path / 'port.html'}", "--no-doctor",
        )
    )  # fmt: skip
    assert "EQUIVALENT" in done.stdout
    assert "EQUIVALENT" in (tmp_path / "port.html").read_text("utf-8")


def test_graphs_are_told_and_are_judged_as_eager_execution_is(tiny: Path, eager: Path) -> None:
    well(record(tiny, "graph.json", "--engine-arg", "enforce_eager=false"))
    plain, graph = load_recording(eager), load_recording(tiny / "graph.json")
    # What each release of vLLM takes where nobody chooses a mode.
    newer = metadata.version("vllm_ascend") >= "0.23"
    mode = "full_and_piecewise" if newer else "piecewise"
    assert (plain.engine.facts["graph_mode"], graph.engine.facts["graph_mode"]) == ("none", mode)
    assert plain.engine.facts["graphs_captured"] == 0
    assert int(str(graph.engine.facts["graphs_captured"])) > 0
    for told in (plain, graph):
        assert told.engine.attention == "AscendAttentionBackend"
        assert told.environment["accelerator"] == "Ascend910B3"
        assert told.environment["vllm_ascend_built_for"] == "A2"
        assert {"cann", "torch_npu", "vllm_ascend"} <= told.environment.keys()
        assert told.load.peak_device_bytes is not None
        assert told.load.weights_bytes is not None
        assert told.load.peak_device_bytes > told.load.weights_bytes
    assert compared(tiny, "eager.json")["verdict"] == "EQUIVALENT"
    assert compared(tiny, "graph.json")["verdict"] == "EQUIVALENT"


TWICE = """
import os
from harness.devices.base import Request
from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec

def run(dtype, **arguments):
    device = open_target(DeviceSpec("npu", {model!r}, dtype, engine_args=arguments)).device
    opened = device.open()
    path = os.environ["ASCEND_CUSTOM_OPP_PATH"]
    [done] = device.generate([Request("a", (1, 4, 5, 6), "free", 4)])
    device.close()
    assert os.environ["ASCEND_CUSTOM_OPP_PATH"] == path
    return opened.declared_dtype, done.token_ids

first = run("bfloat16")
other = run("float16", max_model_len="512")
import torch
print(first[0], other[0], torch.npu.memory_allocated(), len(first[1]), len(other[1]))
"""


def test_a_process_opens_engines_of_several_settings_one_after_another(tiny: Path) -> None:
    """In a script without a guard around its main part."""
    script = tiny / "twice.py"
    script.write_text(TWICE.format(model=str(tiny / "model")))
    done = well(run(sys.executable, script))
    assert done.stdout.splitlines()[-1] == "bfloat16 float16 0 4 4"


@pytest.mark.nightly
def test_workers_that_share_a_model_are_told_together(tiny: Path, eager: Path) -> None:
    two = ("--engine-arg", "tensor_parallel_size=2")
    well(record(tiny, "two.json", *two, NPU_EMU_DEVICES="2", NPU_EMU_MEMORY="1500"))
    one, both = load_recording(eager), load_recording(tiny / "two.json")
    assert one.load.weights_bytes is not None
    assert both.load.weights_bytes == pytest.approx(one.load.weights_bytes, rel=0.05)
    assert both.load.init_engine_s is not None
    assert compared(tiny, "two.json")["verdict"] == "EQUIVALENT"


def test_an_engine_that_reads_another_rope_base_is_refused(tiny: Path) -> None:
    """As Transformers 5 writes a config, and 4.57 reads it."""
    import transformers

    if int(transformers.__version__.partition(".")[0]) >= 5:
        pytest.skip("this Transformers reads what its own release writes")
    config = tiny / "model" / "config.json"
    kept = config.read_text("utf-8")
    content = json.loads(kept)
    content["rope_parameters"] = {"rope_theta": 100000.0, "rope_type": "default"}
    del content["rope_theta"]
    config.write_text(json.dumps(content))
    try:
        done = record(tiny, "rope.json")
    finally:
        config.write_text(kept)
    assert done.returncode == 2
    assert "says rope_theta 100,000, but Transformers 4." in done.stderr


@pytest.mark.parametrize(
    ("fault", "module"),
    [
        ("rope_interleaved", "layers.0.self_attn"),
        pytest.param("swiglu_exchanged", "layers.0.mlp", marks=pytest.mark.slow),
    ],
)
def test_an_operator_that_is_wrong_fails_and_is_located(
    tiny: Path, fault: str, module: str
) -> None:
    well(record(tiny, f"{fault}.json", NPU_EMU_FAULT=fault))
    assert compared(tiny, f"{fault}.json")["verdict"] == "DIVERGENT"
    done = run(
        "harness", "locate", "--device", "npu", "--model", tiny / "model", "--suite", "port",
        "--max-new-tokens", "8", NPU_EMU_FAULT=fault,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"The error begins in model.{module}" in done.stdout

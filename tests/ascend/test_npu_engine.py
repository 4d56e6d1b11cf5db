"""The real engine over the emulated NPU, held against Transformers on the CPU.

Each test starts an engine in a process of its own, as a user does: about a minute.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from npu_commands import run, well

pytestmark = [pytest.mark.ascend, pytest.mark.filterwarnings("ignore")]
#: Few prompts and tokens: a row is enough to see a wrong operator, and this is no verdict.
SUITE = Path(__file__).with_name("short.yaml")


def recorded(folder: Path, device: str, out: str, *options: object, **variables: str) -> Path:
    path = folder / out
    well(
        run(
            "harness", "record", "--device", device, "--suite", SUITE, "--logits", "full",
            "--out", path, *options, **variables,
        )
    )  # fmt: skip
    return path


def rows(recording: Path) -> dict[str, Any]:
    """The logits of each prompt, (positions, vocabulary), in float64."""
    from safetensors.numpy import load_file

    [file] = recording.parent.glob(f"{recording.stem}*.safetensors")
    # A name is PROMPT/REPLAY; each of these recordings holds one replay.
    return {name.partition("/")[0]: rows.astype(float) for name, rows in load_file(file).items()}


def error(of: Path, against: Path, first: int | None = None) -> float:
    """The error of all, or the first, rows of each prompt as a part of the reference's spread.

    1 is as good as nothing.
    """
    mine, theirs = ({k: v[:first] for k, v in rows(path).items()} for path in (of, against))
    assert set(mine) == set(theirs)
    parts = [(mine[name] - mine[name].mean(-1, keepdims=True), theirs[name]) for name in theirs]
    wrong = sum(((a - (b - b.mean(-1, keepdims=True))) ** 2).sum() for a, b in parts)
    return float(wrong / sum(((b - b.mean(-1, keepdims=True)) ** 2).sum() for _, b in parts))


@pytest.fixture(
    scope="module",
    params=[pytest.param("llama", marks=pytest.mark.slow), "qwen3_moe"],
)
def pair(npu: Any, request: pytest.FixtureRequest, tmp_path_factory: Any) -> tuple[Path, Path]:
    """A tiny model, and what Transformers computes on the CPU in float32 for it."""
    from tiny_models import make_tiny

    folder = tmp_path_factory.mktemp(request.param)
    make_tiny(request.param, folder / "model")
    oracle = recorded(
        folder, "hf-cpu", "oracle.json", "--model", folder / "model", "--dtype", "float32"
    )
    return folder, oracle


def on_npu(pair: tuple[Path, Path], out: str, *options: object, **variables: str) -> float:
    """The error of the engine, along the oracle's tokens."""
    folder, oracle = pair
    made = recorded(
        folder, "npu", out, "--model", folder / "model", "--context", oracle,
        "--replay", "forced-decode", *options, **variables,
    )  # fmt: skip
    assert json.loads(made.read_text("utf-8"))
    return error(made, oracle)


def test_the_engine_computes_what_transformers_computes(pair: tuple[Path, Path]) -> None:
    assert on_npu(pair, "right.json") < 0.01


@pytest.mark.nightly
def test_the_same_comparison_sees_a_fault(pair: tuple[Path, Path]) -> None:
    wrong = on_npu(pair, "wrong.json", NPU_EMU_FAULT="head_exchanged")
    assert wrong > 10 * on_npu(pair, "right again.json")


@pytest.mark.parametrize(
    ("name", "scheme", "most"),
    [
        ("llama", "W8A8_DYNAMIC", 0.02),
        # One scale for all activations is coarse.
        pytest.param("llama", "W8A8", 0.1, marks=pytest.mark.slow),
        pytest.param("qwen3_moe", "W8A8_DYNAMIC", 0.02, marks=pytest.mark.slow),
    ],
)
def test_a_modelslim_checkpoint_is_near_the_model_that_it_was_made_of(
    npu: Any, tmp_path: Path, name: str, scheme: str, most: float
) -> None:
    from tiny_models import make_tiny, quantize

    model = tmp_path / "model"
    make_tiny(name, model)
    oracle = recorded(tmp_path, "hf-cpu", "oracle.json", "--model", model, "--dtype", "float32")
    quantize(model, scheme)
    asked = "--engine-arg", "quantization=ascend"
    made = recorded(tmp_path, "npu", "made.json", "--model", model, *asked)
    # Their tokens may part; the first rows follow the prompts alone.
    assert 0 < error(made, oracle, first=1) < most

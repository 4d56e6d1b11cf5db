"""A parameter that vLLM did not fill from the checkpoint is refused, and a whole one is not."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from broken_checkpoint import Weights, break_checkpoint

from harness.model.model import Model

pytestmark = [pytest.mark.engine, pytest.mark.slow]
if importlib.util.find_spec("vllm") is None:
    pytest.skip("vllm is not installed", allow_module_level=True)


def recorded(model: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", "record", "--device", "vllm-cpu"]
    command += ["--model", str(model), "--suite", "port", "--max-new-tokens", "1"]
    return subprocess.run(
        [*command, "--out", str(out)], cwd=out.parent, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        ("no such name", None),  # else the test could not tell
        (r"layers.7.self_attn.k_proj", "layers.7.self_attn.qkv_proj.weight"),
        (r"layers.7.mlp.down_proj", "layers.7.mlp.down_proj.weight"),
        (r"layers.7.input_layernorm", "layers.7.input_layernorm.weight"),
    ],
)
def test_what_vllm_did_not_fill_is_refused_by_name(
    embedded_model: Model, tmp_path: Path, gone: str, named: str | None
) -> None:
    def without(_: dict[str, Any], weights: Weights) -> None:
        for name in [n for n in weights if re.search(gone, n)]:
            del weights[name]

    break_checkpoint(Path(embedded_model.path), tmp_path / "m", without)
    done = recorded(tmp_path / "m", tmp_path / "r.json")
    assert done.returncode == (0 if named is None else 2), done.stderr
    if named is not None:
        assert named in done.stderr.splitlines()[-1]

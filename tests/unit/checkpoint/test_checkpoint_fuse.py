from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import (
    CONFIG,
    Weights,
    checkpoint,
    folder_that_takes_no_file,
    latents,
    sharded,
    write_bin,
    write_config,
    write_safetensors,
)

from harness.checkpoint.blocks import blocks
from harness.checkpoint.fuse import fuse
from harness.checkpoint.fuse_plan import plan_fuse
from harness.checkpoint.headers import read_headers
from harness.checkpoint.shards import index_of, plan_shards
from harness.checkpoint.ternary import is_quantized_name, quantize, to_bfloat16, widen
from harness.cli.main import main
from harness.errors import HarnessError, ModelError, UsageError
from harness.model.model import Model

ROOT = Path(__file__).parents[3]


def fused(source: Path, output: Path, group: int = 32) -> dict[str, np.ndarray]:
    fuse(plan_fuse(Model("m", str(source)), output, group))
    return {t.name: np.concatenate(list(blocks(t))) for t in read_headers(output)}


def expected(weights: Weights, group: int = 32) -> Weights:
    return {
        name: quantize(bits, "BF16", group) if is_quantized_name(name) else bits
        for name, bits in weights.items()
    }


def assert_same(found: dict[str, np.ndarray], wanted: Weights) -> None:
    assert found.keys() == wanted.keys()
    for name, bits in wanted.items():
        assert found[name].tobytes() == bits.tobytes(), name


def refused(source: Path, output: Path, group: int = 32) -> str:
    before = sorted(output.parent.rglob("*"))
    with pytest.raises(HarnessError) as error:
        fused(source, output, group)
    assert sorted(output.parent.rglob("*")) == before
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("group", [-1, 32, 16])
@pytest.mark.parametrize("kind", ["one", "shards", "pickle"])
def test_linears_are_quantized_and_the_rest_is_copied(
    tmp_path: Path, kind: str, group: int
) -> None:
    source = tmp_path / "in"
    if kind == "one":
        checkpoint(source)
    elif kind == "shards":
        sharded(source)
    else:
        source.mkdir()
        write_bin(source / "pytorch_model.bin", latents())
        write_config(source)
    assert_same(fused(source, tmp_path / "out", group), expected(latents(), group))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_float32_latents_are_fused_from_what_they_are(tmp_path: Path) -> None:
    weights = latents(dtype="F32")
    found = fused(checkpoint(tmp_path / "in", weights), tmp_path / "out")
    for name, values in weights.items():
        bits = quantize(values, "F32", 32) if is_quantized_name(name) else to_bfloat16(values)
        assert (found[name].reshape(bits.shape) == bits).all(), name


def test_wrapped_keys_become_plain_and_quantizer_parameters_are_left_out(tmp_path: Path) -> None:
    weights: Weights = {}
    for name, bits in latents().items():
        plain = name.replace("q_proj.weight", "q_proj.linear.weight")
        plain = plain.replace("up_proj.weight", "up_proj.parametrizations.weight.original")
        weights[f"module.{plain}"] = bits
    weights["module.model.layers.0.self_attn.q_proj.weight_quantizer.scale"] = to_bfloat16(
        np.ones(64, np.float32)
    )
    plan = plan_fuse(Model("m", str(checkpoint(tmp_path / "in", weights))), tmp_path / "out", 32)
    assert plan.dropped == ("module.model.layers.0.self_attn.q_proj.weight_quantizer.scale",)
    assert_same(fused(tmp_path / "in", tmp_path / "out"), expected(latents()))


def test_two_keys_for_one_weight_are_refused(tmp_path: Path) -> None:
    weights = latents()
    name = "model.layers.0.self_attn.q_proj."
    weights[name + "linear.weight"] = weights[name + "weight"]
    assert "are both" in refused(checkpoint(tmp_path / "in", weights), tmp_path / "out")


def test_the_config_is_cleaned_and_corrected(tmp_path: Path) -> None:
    training = {
        **CONFIG,
        "architectures": ["MiniCPMForCausalLM"],
        "model_type": "minicpm",
        "auto_map": {"AutoModelForCausalLM": "modeling.M"},
        "qat_group_size": 32,
        "quantization_config": {"bits": 2},
        "scale_emb": 1,
        "hidden_size": 128,
        "torch_dtype": "float32",
    }
    fused(checkpoint(tmp_path / "in", config=training), tmp_path / "out")
    made = json.loads((tmp_path / "out" / "config.json").read_text())
    assert made == CONFIG


def test_mup_factors_are_refused(tmp_path: Path) -> None:
    config = {**CONFIG, "architectures": ["MiniCPMForCausalLM"], "model_type": "m", "scale_emb": 12}
    said = refused(checkpoint(tmp_path / "in", config=config), tmp_path / "out")
    assert "scale_emb 12" in said


def test_tokenizer_template_and_generation_config_are_copied_and_no_code(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "in")
    wanted = ("chat_template.jinja", "generation_config.json", "tokenizer.model", "LICENSE")
    for name in (*wanted, "modeling.py", "README.md", "optimizer.pt"):
        (source / name).write_text(name if name != "generation_config.json" else "{}")
    fused(source, tmp_path / "out")
    made = {p.name for p in (tmp_path / "out").iterdir()}
    assert made == {*wanted, "tokenizer.json", "config.json", "model.safetensors"}


@pytest.mark.parametrize("times", [1, 2])
def test_fused_weights_are_refused(tmp_path: Path, times: int) -> None:
    weights = latents()
    for _ in range(times):
        weights = expected(weights)
    said = refused(checkpoint(tmp_path / "in", weights), tmp_path / "out", 16)
    assert "is fused already (group size 32)" in said


def test_a_group_size_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    said = refused(checkpoint(tmp_path / "in"), tmp_path / "out", 48)
    assert "48 does not divide rows of 64" in said


def test_a_weight_that_is_not_finite_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    weights = latents()
    weights["model.layers.1.mlp.up_proj.weight"][90, 3] = 0x7F80
    said = refused(checkpoint(tmp_path / "in", weights), tmp_path / "out")
    assert "'model.layers.1.mlp.up_proj.weight': a weight is infinite" in said


@pytest.mark.parametrize("kind", ["file", "folder", "itself", "link"])
def test_an_output_that_holds_something_is_refused(tmp_path: Path, kind: str) -> None:
    source = checkpoint(tmp_path / "in")
    output = source if kind == "itself" else tmp_path / "out"
    if kind == "file":
        output.write_text("mine")
    elif kind == "folder":
        output.mkdir()
        (output / "notes").write_text("mine")
    elif kind == "link":
        output.symlink_to(tmp_path / "nowhere")
    assert "is not empty" in refused(source, output)


def test_an_empty_output_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert_same(fused(checkpoint(tmp_path / "in"), tmp_path / "out"), expected(latents()))


def test_a_tokenizer_that_is_a_link_out_of_the_folder_is_not_copied(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "in")
    (tmp_path / "secret").write_text("secret")
    (source / "vocab.txt").symlink_to(tmp_path / "secret")
    assert "is a link out of its folder" in refused(source, tmp_path / "out")


def test_a_disk_without_room_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = checkpoint(tmp_path / "in")
    full = os.statvfs_result((4096, 4096, 100, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _place: full)
    assert "make room" in refused(source, tmp_path / "out")


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that takes no file, for a user who is not root."""
    with folder_that_takes_no_file() as (folder, close):
        checkpoint(folder / "in")
        close()
        yield folder


def test_a_read_only_folder_is_one_line(read_only: Path) -> None:
    assert "cannot be written" in refused(read_only / "in", read_only / "out")


def big(folder: Path) -> Path:
    """A checkpoint whose fusing takes a moment."""
    weights = latents()
    random = np.random.default_rng(0)
    for name in list(weights):
        if name.endswith(("gate_proj.weight", "up_proj.weight")):
            weights[name] = to_bfloat16(random.standard_normal((60_000, 64)).astype(np.float32))
        elif name.endswith("down_proj.weight"):
            weights[name] = to_bfloat16(random.standard_normal((64, 60_000)).astype(np.float32))
    return checkpoint(folder, weights, {**CONFIG, "intermediate_size": 60_000})


@pytest.mark.process
def test_a_killed_run_leaves_nothing_that_looks_finished_and_the_next_one_tidies(
    tmp_path: Path,
) -> None:
    source, output = big(tmp_path / "in"), tmp_path / "out"
    options = ["--input_dir", str(source), "--output_dir", str(output), "--group-size", "32"]
    command = [sys.executable, "-m", "harness", "checkpoint", "fuse", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not (parts := list(tmp_path.glob(".out.part-*/model.safetensors"))):
        assert child.poll() is None
        assert time.monotonic() < deadline
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not output.exists()
    part = parts[0].parent
    assert not (part / "config.json").exists()  # so nothing loads it
    assert main_status("checkpoint", "fuse", *options) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]


def main_status(*arguments: str) -> Any:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


def test_both_spellings_of_the_options_work(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "in")
    for number, (a, b, g) in enumerate(
        (
            ("--input_dir", "--output_dir", "--group_size"),
            ("--input-dir", "--output-dir", "--group-size"),
        )
    ):
        out = str(tmp_path / f"out{number}")
        assert main_status("checkpoint", "fuse", a, str(source), b, out, g, "16") == 0
        assert main_status("checkpoint", "verify-ternary", out) == 0
    assert main_status("checkpoint", "verify-ternary", str(source)) == 1


def test_the_state_is_printed_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main_status("checkpoint", "verify-ternary", "--json", str(checkpoint(tmp_path)))
    content = json.loads(capsys.readouterr().out)
    assert content["schema"] == "harness.ternary/1"
    assert {t["state"] for t in content["tensors"]} == {"latent"}


def test_shards_are_filled_up_to_the_limit_and_named_as_transformers_names_them() -> None:
    tensors = [
        ("a", "BF16", (10,)),
        ("b", "BF16", (10,)),
        ("c", "F32", (100,)),
        ("d", "BF16", (1,)),
    ]
    shards = plan_shards(tensors, limit=40)
    assert [list(s.offsets) for s in shards] == [["a", "b"], ["c"], ["d"]]
    assert shards[0].file == "model-00001-of-00003.safetensors"
    index = index_of(shards)
    assert index is not None
    assert index["metadata"] == {"total_size": 442}
    assert index_of(plan_shards(tensors)) is None


def test_many_shards_hold_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "harness.checkpoint.fuse_plan.plan_shards", lambda t: plan_shards(t, 20_000)
    )
    found = fused(checkpoint(tmp_path / "in"), tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 3
    assert_same(found, expected(latents()))


def test_nothing_to_fuse_is_refused(tmp_path: Path) -> None:
    weights = {"transformer.wte.weight": latents()["lm_head.weight"]}
    assert "nothing to fuse" in refused(checkpoint(tmp_path / "in", weights), tmp_path / "out")


def test_widening_undoes_narrowing() -> None:
    bits = np.arange(0, 0x7F80, dtype=np.uint16)
    assert (to_bfloat16(widen(bits, "BF16")) == bits).all()


def test_usage_errors_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        plan_fuse(Model("m", str(checkpoint(tmp_path / "in"))), tmp_path / "out", -3)
    write_safetensors(tmp_path / "in" / "model.safetensors", {"x": latents()["lm_head.weight"]})
    with pytest.raises(ModelError):
        plan_fuse(Model("m", str(tmp_path / "in")), tmp_path / "out", -1)

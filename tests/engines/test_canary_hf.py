"""The canary in Transformers: exact, and faults that are put into its modules are named."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine

SIZES = {
    "context": 256, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 32, "hidden": 128,
    "vocab_size": 128, "intermediate": 32,
}  # fmt: skip


def run(folder: Path, dtype: str = "float32", spoil=None, sizes=SIZES, **engine_args: str):
    from harness.canary.checkpoint import save
    from harness.canary.plan import CanaryPlan
    from harness.canary.run import on_device
    from harness.canary.sizes import Sizes
    from harness.devices.registry import open_target
    from harness.devices.spec import DeviceSpec
    from harness.process.progress import Silent

    sizes = Sizes(**sizes)
    save(sizes, folder)
    plan = CanaryPlan(sizes, DeviceSpec("hf-cpu", str(folder), dtype, engine_args=engine_args))
    device = open_target(plan.spec, progress=Silent()).device
    opened = device.open()
    try:
        if spoil is not None:
            spoil(device._model)
        return on_device(plan, device, opened, Silent(), time.monotonic())
    finally:
        device.close()


@pytest.mark.parametrize(
    ("dtype", "attention"), [("float32", "eager"), ("bfloat16", "sdpa"), ("float16", "sdpa")]
)
def test_every_bit_is_right(dtype: str, attention: str, tmp_path: Path) -> None:
    outcome = run(tmp_path, dtype, attention=attention)
    assert outcome.outcome == "EXACT", outcome.findings
    assert {s.name for s in outcome.stages} == {"prefill", "decode", "long"}


def base(model) -> None:
    import torch

    size = SIZES["head_dim"]
    rotary = model.model.rotary_emb
    rotary.inv_freq = 1.0 / 30_000.0 ** (torch.arange(0, size, 2).float() / size)


def kv_heads(model) -> None:
    weight = model.model.layers[1].self_attn.v_proj.weight.data
    size = SIZES["head_dim"]
    weight[: 2 * size] = weight[: 2 * size].roll(size, 0)


def gate_up(model) -> None:
    mlp = model.model.layers[0].mlp
    mlp.gate_proj, mlp.up_proj = mlp.up_proj, mlp.gate_proj


@pytest.mark.parametrize(
    ("spoil", "causes"),
    [(base, {"rope_base", "rope_far"}), (kv_heads, {"kv_exchanged"}), (gate_up, {"gate_up"})],
)
def test_a_fault_is_named(spoil, causes: set[str], tmp_path: Path) -> None:
    outcome = run(tmp_path, spoil=spoil)
    assert [f.cause in causes for f in outcome.findings] == [True], outcome.findings


@pytest.mark.parametrize(
    "family", [{"family": "mixtral", "experts": 4}, {"family": "deepseek_v2", "kv_heads": 1}]
)
def test_families_with_parts_of_their_own_are_exact(family: dict, tmp_path: Path) -> None:
    outcome = run(tmp_path, "bfloat16", sizes=SIZES | family)
    assert outcome.outcome == "EXACT", outcome.findings


LONGROPE = SIZES | {"context": 384, "original_context": 192, "head_dim": 64}


def short_table(model) -> None:
    """The long table is never taken."""
    rotary = model.model.rotary_emb
    rotary.config.rope_parameters["original_max_position_embeddings"] = 10_000


def test_both_tables_of_longrope_are_exact(tmp_path: Path) -> None:
    outcome = run(tmp_path, "bfloat16", sizes=LONGROPE)
    assert outcome.outcome == "EXACT", outcome.findings
    assert {s.table for s in outcome.stages} == {"short", "long"}


def test_the_wrong_table_of_longrope_is_named(tmp_path: Path) -> None:
    outcome = run(tmp_path, spoil=short_table, sizes=LONGROPE)
    assert [f.cause for f in outcome.findings] == ["rope_table"], outcome.findings


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_the_tokenizer_makes_one_token_of_a_character(family: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from harness.canary.checkpoint import character, save
    from harness.canary.sizes import Sizes

    save(Sizes(**SIZES, family=family), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    text = "".join(map(character, range(128)))
    assert tokenizer(text)["input_ids"] == list(range(128))
    assert tokenizer.decode(list(range(128))) == text
    assert json.loads((tmp_path / "config.json").read_text())["vocab_size"] == 128

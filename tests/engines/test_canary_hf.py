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


GEMMA = SIZES | {"hidden": 256, "intermediate": 64}
WINDOW = {"sliding_window": 24}


@pytest.mark.parametrize(
    ("family", "dtype"), [("gemma", "float32"), ("gemma2", "bfloat16"), ("gemma3", "float32")]
)
def test_gemma_is_exact(family: str, dtype: str, tmp_path: Path) -> None:
    sizes = GEMMA | {"family": family} | (WINDOW if family != "gemma" else {})
    outcome = run(tmp_path, dtype, sizes=sizes)
    assert outcome.outcome == "EXACT", outcome.findings


def unscaled_embedding(model) -> None:
    model.model.embed_tokens.embed_scale.fill_(1.0)


def no_cap(model) -> None:
    model.config.final_logit_softcapping = None


def no_norm_after(model) -> None:
    import torch

    model.model.layers[1].post_feedforward_layernorm = torch.nn.Identity()


@pytest.mark.parametrize(
    ("family", "spoil", "cause"),
    [
        ("gemma", unscaled_embedding, "embedding_scale"),
        ("gemma2", no_cap, "cap_missing"),
        ("gemma3", no_norm_after, "norm_after"),
    ],
)
def test_a_fault_of_gemma_is_named(family: str, spoil, cause: str, tmp_path: Path) -> None:
    outcome = run(tmp_path, spoil=spoil, sizes=GEMMA | {"family": family})
    assert [f.cause for f in outcome.findings] == [cause], outcome.findings


LLAMA3 = SIZES | {"context": 512, "head_dim": 64, "rope_scaling": "llama3"}


@pytest.mark.parametrize("kind", ["llama3", "yarn"])
def test_scaled_frequencies_are_exact(kind: str, tmp_path: Path) -> None:
    outcome = run(tmp_path, "bfloat16", sizes=LLAMA3 | {"rope_scaling": kind})
    assert outcome.outcome == "EXACT", outcome.findings


def frequencies(model, **entries: object) -> None:
    """Frequencies as Transformers computes them from other entries."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = model.config
    config.rope_parameters = {**config.rope_parameters, **entries}
    made, _ = ROPE_INIT_FUNCTIONS[config.rope_parameters["rope_type"]](config, "cpu")
    model.model.rotary_emb.inv_freq = made


def not_scaled(model) -> None:
    import torch

    size = LLAMA3["head_dim"]
    model.model.rotary_emb.inv_freq = 1.0 / 10_000.0 ** (torch.arange(0, size, 2).float() / size)


def other_original(model) -> None:
    frequencies(model, original_max_position_embeddings=512)


def other_factor(model) -> None:
    frequencies(model, factor=32.0)


def scaled_though_it_is_not(model) -> None:
    frequencies(
        model, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=64,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "sizes", "cause"),
    [
        (not_scaled, LLAMA3, "rope_not_scaled"),
        (other_original, LLAMA3, "rope_scaled_other"),
        (other_factor, LLAMA3, "rope_scaled_other"),
        (scaled_though_it_is_not, SIZES, "rope_scaled"),
    ],
)
def test_a_wrong_scaling_is_named(spoil, sizes: dict, cause: str, tmp_path: Path) -> None:
    outcome = run(tmp_path, spoil=spoil, sizes=sizes)
    assert [f.cause for f in outcome.findings] == [cause], outcome.findings


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

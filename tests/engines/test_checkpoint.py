"""The checkpoint tools against torch, Transformers and vLLM themselves."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from needed import needed

from harness.checkpoint.blocks import blocks
from harness.checkpoint.fuse import fuse
from harness.checkpoint.fuse_plan import plan_fuse
from harness.checkpoint.headers import read_headers
from harness.checkpoint.inspect import inspect
from harness.checkpoint.ternary import is_quantized_name, quantize, to_bfloat16
from harness.cli.main import main
from harness.model.model import Model

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from checkpoints import CONFIG, VOCABULARY, checkpoint, write_config

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import make_bitcpm

pytestmark = pytest.mark.engine
needed("torch")

SUITE = """\
generation:
  max_new_tokens: 6
  ignore_eos: true
prompts:
  - {id: alpha, text: Hello there}
  - {id: beta, text: The capital of France is}
"""


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("group", [-1, 288, 64, 32, 9, 1])
@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_the_quantizer_in_torch_and_in_numpy_agree_bit_for_bit(group: int, dtype: str) -> None:
    import torch

    from harness.devices.hf.qat import quantized

    values = (np.random.default_rng(7).standard_normal((400, 576)) * 0.02).astype(np.float32)
    values[:3] = 0
    data = to_bfloat16(values) if dtype == "BF16" else values
    latent = torch.from_numpy(data.view(np.int16) if dtype == "BF16" else data)
    latent = latent.view(torch.bfloat16) if dtype == "BF16" else latent
    found = quantized(torch, latent, group)
    assert found.dtype == latent.dtype
    bits = found.to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    assert bits.tobytes() == quantize(data, dtype, group).tobytes()


def test_what_torch_saves_is_read_as_torch_reads_it(tmp_path: Path) -> None:
    import torch

    linear = torch.nn.Linear(7, 5).to(torch.bfloat16)
    state = linear.state_dict()  # an OrderedDict with _metadata
    shared = torch.randn(6, 4)
    state |= {
        "parameter": torch.nn.Parameter(shared),
        "tied": shared,
        "part": shared[2:4],
        "scalar": torch.tensor(3, dtype=torch.int64),
        "half": torch.randn(3, 1, 2).half(),
    }
    torch.save(state, tmp_path / "pytorch_model.bin")
    found = {t.name: t for t in read_headers(tmp_path)}
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        stored = found[name]
        assert stored.shape == tuple(tensor.shape)
        with open(stored.path, "rb") as stream:
            stream.seek(stored.offset)
            data = stream.read(stored.nbytes)
        assert data == tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("legacy", [True, False])
def test_a_malicious_torch_file_is_refused_and_not_executed(tmp_path: Path, legacy: bool) -> None:
    import torch

    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(tmp_path / "trap"), "w"))

    path = tmp_path / "pytorch_model.bin"
    torch.save({"w": Harmful()}, path, _use_new_zipfile_serialization=not legacy)
    write_config(tmp_path)
    assert run("checkpoint", "inspect", tmp_path) == 2
    assert not (tmp_path / "trap").exists()


@pytest.fixture(scope="module")
def fused_64(embedded_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model's weights, taken as latents and fused."""
    output = tmp_path_factory.mktemp("fused") / "out"
    fuse(plan_fuse(embedded_model, output, 64))
    return output


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_training_form_and_fused_form_are_bit_exact(
    tmp_path: Path, embedded_model: Model, fused_64: Path, dtype: str
) -> None:
    (tmp_path / "s.yaml").write_text(SUITE)
    common = ("--device", "hf-cpu", "--suite", tmp_path / "s.yaml", "--dtype", dtype)
    training, inference = tmp_path / "training.json", tmp_path / "inference.json"
    latents = ("record", *common, "--model", embedded_model.path)
    assert run(*latents, "--qat-group-size", 64, "--out", training) == 0
    assert run("record", *common, "--model", fused_64, "--out", inference) == 0
    content = json.loads(training.read_text())
    assert content["engine"]["qat_group_size"] == 64
    result = tmp_path / "a.json"
    assert run("compare", training, inference, "--allow-weights", "--json", result) == 0
    assert json.loads(result.read_text())["verdict"] == "BIT_EXACT"
    # Without the flag they are other weights, seen through a quantizer.
    assert run("compare", training, inference, "--json", result) == 3
    different = json.loads(result.read_text())["comparability"]["differences"]
    assert {d["field"] for d in different} == {"model.weights", "model.quantizer"}
    # The latents as plain weights are another model.
    assert run(*latents, "--out", tmp_path / "plain.json") == 0
    run("compare", tmp_path / "plain.json", inference, "--allow-weights", "--json", result)
    assert json.loads(result.read_text())["verdict"] != "BIT_EXACT"


def test_one_pass_over_the_training_form_is_bit_exact_too(
    tmp_path: Path, embedded_model: Model, fused_64: Path
) -> None:
    (tmp_path / "s.yaml").write_text(SUITE)
    first = tmp_path / "first.json"
    common = ("record", "--device", "hf-cpu", "--suite", tmp_path / "s.yaml")
    assert run(*common, "--model", fused_64, "--out", first) == 0
    forced = (*common, "--replay", "forced-prefill", "--context", first)
    one, other, result = (tmp_path / f"{n}.json" for n in ("one", "other", "result"))
    latents = ("--model", embedded_model.path, "--qat-group-size", 64)
    assert run(*forced, *latents, "--out", one) == 0
    assert run(*forced, "--model", fused_64, "--out", other) == 0
    assert run("compare", one, other, "--allow-weights", "--json", result) == 0
    assert json.loads(result.read_text())["verdict"] == "BIT_EXACT"


def test_quantizing_once_is_quantizing_in_every_forward_pass(tmp_path: Path) -> None:
    import torch

    from harness.devices.hf.load import Taken, load_model
    from harness.devices.hf.qat import quantized

    folder = checkpoint(tmp_path)
    options = {"name": "hf-cpu", "backend": "cpu", "dtype": "bfloat16", "attention": "eager"}
    model = Model("m", str(folder))
    once = load_model(torch, model, **options, taken=Taken(qat_group_size=16)).model
    each = load_model(torch, model, **options).model
    for name, module in each.named_modules():
        if is_quantized_name(f"{name}.weight"):
            module.forward = lambda x, module=module: torch.nn.functional.linear(
                x, quantized(torch, module.weight, 16)
            )
    ids = torch.arange(VOCABULARY)[None, :20]
    with torch.inference_mode():
        for _ in range(2):
            assert torch.equal(once(ids).logits, each(ids).logits)


def test_a_group_size_or_dtype_that_does_not_fit_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from harness.devices.hf.load import Taken, load_model
    from harness.errors import UsageError

    model = Model("m", str(checkpoint(tmp_path)))
    options = {"name": "hf-cpu", "backend": "cpu", "attention": "eager"}
    with pytest.raises(UsageError, match="7 does not divide rows of"):
        load_model(torch, model, **options, dtype="bfloat16", taken=Taken(qat_group_size=7))
    with pytest.raises(UsageError, match="would round them"):
        load_model(torch, model, **options, dtype="float16", taken=Taken(qat_group_size=16))


def test_transformers_loads_a_mended_checkpoint_without_a_word_about_shapes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    transformers = pytest.importorskip("transformers")
    wrong = {**CONFIG, "hidden_size": 128, "num_attention_heads": 8, "intermediate_size": 97}
    folder = checkpoint(tmp_path, config={**wrong, "num_hidden_layers": 3})
    assert run("checkpoint", "fix-config", folder) == 0
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        _, info = transformers.AutoModelForCausalLM.from_pretrained(
            folder, output_loading_info=True, dtype=torch.bfloat16
        )
    finally:
        logger.removeHandler(caplog.handler)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.fixture
def longrope(tmp_path: Path) -> dict[str, Any]:
    """The config of BitCPM4-CANN-1B."""
    return make_bitcpm.config()


def tables_of_transformers(config: dict[str, Any], dtype: Any) -> tuple[Any, Any]:
    import torch
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    rotary = LlamaRotaryEmbedding(LlamaConfig(**config))
    positions = torch.arange(8192)[None]
    cos, sin = rotary(torch.zeros(1, dtype=dtype), positions)
    return cos[0, :, :64], sin[0, :, :64]


def tables_of_vllm(folder: Path, dtype: Any) -> tuple[Any, Any]:
    from vllm.config import ModelConfig, VllmConfig, set_current_vllm_config
    from vllm.model_executor.layers.rotary_embedding import get_rope

    facts = ModelConfig(
        model=str(folder), skip_tokenizer_init=True, dtype="bfloat16", max_model_len=8192
    )
    with set_current_vllm_config(VllmConfig(model_config=facts)):
        config = facts.hf_config
        rope = get_rope(
            config.head_dim, config.max_position_embeddings, True, config.rope_parameters, dtype
        )
    assert not rope.use_long_rope
    cos, sin = rope.long_short_cos_sin_cache[:8192].chunk(2, dim=-1)
    return cos, sin


@pytest.mark.filterwarnings("ignore")  # those of vLLM's imports are vLLM's
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_cos_and_sin_of_transformers_and_vllm_agree_and_factor_32_breaks_them(
    tmp_path: Path, longrope: dict[str, Any], dtype: str
) -> None:
    import torch

    pytest.importorskip("vllm")
    kind = getattr(torch, dtype)
    (tmp_path / "config.json").write_text(json.dumps(longrope))
    for mine, theirs in zip(
        tables_of_transformers(longrope, kind), tables_of_vllm(tmp_path, kind), strict=True
    ):
        assert mine.dtype == theirs.dtype == kind
        assert torch.equal(mine, theirs)
    longrope["rope_scaling"]["factor"] = 32.0
    (tmp_path / "config.json").write_text(json.dumps(longrope))
    mine, theirs = tables_of_transformers(longrope, kind)[0], tables_of_vllm(tmp_path, kind)[0]
    assert float(mine[0, 0]) == pytest.approx(1.1547, rel=2e-3)
    assert float(theirs[0, 0]) == 1.0


def test_factor_32_is_flagged(tmp_path: Path, longrope: dict[str, Any]) -> None:
    longrope["rope_scaling"]["factor"] = 32.0
    rope = {key: longrope[key] for key in ("rope_scaling", "max_position_embeddings")}
    folder = checkpoint(tmp_path, config={**CONFIG, **rope})
    found = inspect(Model("m", str(folder)))
    assert not found.ok
    assert any("a silent difference" in f.what for f in found.findings)


def test_fused_weights_of_the_embedded_model_are_what_torch_says(
    embedded_model: Model, fused_64: Path
) -> None:
    import torch

    from harness.devices.hf.qat import quantized

    latents = {t.name: t for t in read_headers(Path(embedded_model.path))}
    checked = 0
    for made in read_headers(fused_64):
        data = np.concatenate(list(blocks(latents[made.name])))
        bits = torch.from_numpy(data.view(np.int16)).view(torch.bfloat16)
        wanted = quantized(torch, bits, 64) if is_quantized_name(made.name) else bits
        stored = b"".join(block.tobytes() for block in blocks(made))
        assert stored == wanted.view(torch.int16).numpy().tobytes()
        checked += is_quantized_name(made.name)
    assert checked == 210

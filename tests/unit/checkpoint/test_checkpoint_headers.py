"""Headers from strangers: every damage is one line, and nothing of a pickle is executed."""

from __future__ import annotations

import io
import json
import os
import pickletools
import re
import resource
import struct
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from checkpoints import (
    checkpoint,
    harmful_pickle,
    latents,
    shapes,
    sharded,
    torch_pickle,
    write_bin,
    write_config,
    write_safetensors,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.checkpoint.blocks import blocks, nonfinite, read_rows, same_bytes
from harness.checkpoint.headers import read_headers
from harness.errors import ModelError


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    write_bin(tmp_path / "pytorch_model.bin", latents())
    write_config(tmp_path)
    return tmp_path


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as error:
        read_headers(folder)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_all_containers_give_the_same_tensors_and_bytes(tmp_path: Path, pickled: Path) -> None:
    one, two = checkpoint(tmp_path / "one"), sharded(tmp_path / "two")
    table = latents()
    for folder in (one, two, pickled):
        found = read_headers(folder)
        assert {t.name: t.shape for t in found} == shapes()
        assert {t.dtype for t in found} == {"BF16"}
        for tensor in found:
            data = np.concatenate(list(blocks(tensor)))
            assert data.tobytes() == table[tensor.name].tobytes()


def test_rows_are_read_from_their_place(pickled: Path) -> None:
    tensor = next(t for t in read_headers(pickled) if t.name.endswith("down_proj.weight"))
    assert (read_rows(tensor, 3, 7) == latents()[tensor.name][3:7]).all()


def test_equal_and_nonfinite_tensors_are_told(tmp_path: Path) -> None:
    first = latents()["lm_head.weight"]
    other = first.copy()
    other[3, 4], other[7, 0] = 0x7F80, 0x7FC1
    write_safetensors(tmp_path / "model.safetensors", {"a": first, "b": first, "c": other})
    a, b, c = read_headers(tmp_path)
    assert same_bytes(a, b)
    assert not same_bytes(a, c)
    assert [nonfinite(t) for t in (a, c)] == [0, 2]


@pytest.mark.parametrize("kept", [0, 5, 100, 2000, -1])
def test_a_truncated_safetensors_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = checkpoint(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert "model.safetensors" in refused(tmp_path)


def test_a_header_of_two_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with open(path, "wb") as stream:
        stream.write(struct.pack("<Q", 2 << 30))
        stream.truncate(3 << 30)  # a hole, it takes no disk
    assert "2147483648 bytes" in refused(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "c")
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors" in refused(folder)


def test_an_index_that_names_a_tensor_twice_is_refused(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "c")
    index = folder / "model.safetensors.index.json"
    text = index.read_text()
    again = '"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors", '
    index.write_text(text.replace('"weight_map": {', again))
    assert "'model.norm.weight' appears twice" in refused(folder)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "c")
    write_safetensors(folder / "model-00001-of-00002.safetensors", latents())
    assert "is in model-00001-of-00002.safetensors too" in refused(folder)


def test_a_tensor_that_no_file_holds_is_named(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "c")
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["ghost"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(content))
    assert "'ghost'" in refused(folder)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "a\\b.safetensors", 5])
def test_an_index_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: object) -> None:
    folder = sharded(tmp_path / "c")
    content = {"weight_map": {"model.norm.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    assert str(name).replace("\\", "\\\\") in refused(folder) or "index of weights" in refused(
        folder
    )


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, file: str) -> None:
    outside = checkpoint(tmp_path / "outside")
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / file).symlink_to(outside / "model.safetensors")
    assert "is a link out of its folder" in refused(folder)


def test_the_hub_caches_own_links_are_followed(tmp_path: Path) -> None:
    repository = tmp_path / "models--a--b"
    snapshot, blobs = repository / "snapshots" / "abc", repository / "blobs"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    write_safetensors(blobs / "0123", latents())
    (snapshot / "model.safetensors").symlink_to(os.path.join("..", "..", "blobs", "0123"))
    assert len(read_headers(snapshot)) == len(shapes())


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    assert "no weights" in refused(tmp_path)


def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    write_bin(tmp_path / "pytorch_model.bin", latents(), harmful_pickle(trap))
    assert "nothing of it was executed" in refused(tmp_path)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.", "os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02tR.", "damaged"),
        (b"\x80\x02]q\x00.", "not a table of tensors"),
        (b"\x80\x02}.", "not a table of named tensors"),
        (b"\x80\x02r\xff\xff\xff\x7f.", "damaged"),
        (b"\x80\x02" + b"(" * 100_000 + b".", "damaged"),
        (b"\x80\x02}X\x01\x00\x00\x00a}K\x01K\x02ssX\x01\x00\x00\x00a}s.", "not a table|twice"),
        (b"\x80\x02(i__main__\nx\n.", "INST"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02)\x81.", "NEWOBJ"),
        (b"\x80\x02\xff.", "0xff"),
        (b"\x80\x02ctorch\nSize\n}K\x01K\x01sb.", "not a table"),
        (b"\x80\x02K\x01)R.", "calls something"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "damaged"),
        (b"\x80\x02(X\x01\x00\x00\x00aK\x01K\x01K\x01K\x01tQ.", "storage of numbers"),
        (b"not a pickle", "damaged|instruction"),
        (b"", "damaged"),
    ],
)
def test_odd_pickles_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    write_bin(tmp_path / "pytorch_model.bin", latents(), content)
    with pytest.raises(ModelError, match=said):
        read_headers(tmp_path)


_MANY_ONES = b"K\x01" * 100_000
_SIZE = b"ctorch\nSize\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"})" + b"\x85" * 2_000_000 + b"K\x01s", "key that is not a name"),
        (b"})" + b"q\x00h\x00\x86" * 40 + b"K\x01s", "key that is not a name"),
        (b"}r\xff\xff\xff\x7f", "not a table of named tensors"),
        (b"]q\x00(" + _MANY_ONES + b"e" + _SIZE + b"q\x01" + b"h\x01h\x00\x85R" * 9_000, "shape"),
        (b"(" + _MANY_ONES + b"tq\x00" + _SIZE + b"q\x01" + b"h\x01h\x00R" * 9_000, "arguments"),
    ],
    ids=["a nested key", "a key of 2^40 parts", "a huge memo", "copied lists", "copied arguments"],
)
def test_a_short_pickle_costs_no_more_than_its_length(
    tmp_path: Path, content: bytes, said: str
) -> None:
    """The unpickler in C dies of the first, and takes hours or gigabytes for the others."""
    write_bin(tmp_path / "pytorch_model.bin", latents(), b"\x80\x02" + content + b".")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    assert re.search(said, refused(tmp_path))
    assert time.process_time() - start < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10


def test_a_compressed_pickle_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", b"\x80\x02" + b"]" * 10_000_000 + b".")
    assert "its pickle is compressed" in refused(tmp_path)


@pytest.mark.parametrize("dimensions", [65, 100_000])
def test_a_shape_of_many_dimensions_is_refused(tmp_path: Path, dimensions: int) -> None:
    good = torch_pickle(OrderedDict(w=np.zeros((2, 2), np.uint16)))
    shape = b"(" + 2 * (b"J" + struct.pack("<i", 2)) + b"t"
    assert shape in good
    long = b"(" + b"K\x01" * dimensions + b"t"
    write_bin(tmp_path / "pytorch_model.bin", {}, good.replace(shape, long, 1))
    assert "shape that is not" in refused(tmp_path)


def test_a_state_dict_inside_another_table_is_named(tmp_path: Path) -> None:
    inner = torch_pickle(latents())[2:-1]
    content = b"\x80\x02}X\x05\x00\x00\x00model" + inner + b"s."
    write_bin(tmp_path / "pytorch_model.bin", latents(), content)
    assert "'model'" in refused(tmp_path)


@pytest.mark.parametrize("kept", [0, 10, 5000, -30])
def test_a_truncated_torch_file_is_refused(pickled: Path, kept: int) -> None:
    path = pickled / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:kept])
    assert "pytorch_model.bin" in refused(pickled)


def test_a_storage_that_is_too_short_is_refused(tmp_path: Path) -> None:
    weights = latents()
    content = torch_pickle(weights)
    weights["lm_head.weight"] = weights["lm_head.weight"][:-1]
    write_bin(tmp_path / "pytorch_model.bin", weights, content)
    assert "'lm_head.weight' is longer than its storage" in refused(tmp_path)


def test_a_transposed_tensor_is_refused(tmp_path: Path) -> None:
    weights = latents()
    weights["lm_head.weight"] = weights["lm_head.weight"].T
    write_bin(tmp_path / "pytorch_model.bin", weights)
    assert "view out of order" in refused(tmp_path)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_damage_of_a_pickle_gives_anything_but_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(torch_pickle(OrderedDict(list(latents().items())[:2])))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("damaged")
    write_bin(folder / "pytorch_model.bin", latents(), bytes(content))
    said = ""
    try:
        read_headers(folder)
    except ModelError as error:  # any other error fails the test
        said = str(error)
    assert "\n" not in said


def test_the_pickle_of_these_tests_is_one() -> None:
    pickletools.dis(torch_pickle(latents()), out=io.StringIO())

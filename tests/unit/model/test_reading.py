from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import DeviceError
from harness.model.model import Model
from harness.model.reading import check_reading


def engine_reads(**fields: Any) -> SimpleNamespace:
    return SimpleNamespace(to_dict=lambda: {"model_type": "llama", **fields})


@pytest.fixture
def checkpoint(tmp_path: Path) -> Model:
    """As Transformers 5 writes it."""
    content = {
        "model_type": "llama",
        "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"},
    }
    (tmp_path / "config.json").write_text(json.dumps(content))
    return Model("five", str(tmp_path))


def release(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(__version__=version))


def test_an_engine_that_reads_another_rope_base_is_refused(
    checkpoint: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(monkeypatch, "4.57.6")
    # vLLM puts what Transformers 4 reads into the field of Transformers 5.
    read = engine_reads(rope_theta=10000.0, rope_parameters={"rope_theta": 10000.0})
    with pytest.raises(DeviceError) as refused:
        check_reading("npu", checkpoint, read)
    said = str(refused.value)
    assert "says rope_theta 100,000, but Transformers 4.57.6 here reads 10,000;" in said


@pytest.mark.parametrize(("version", "refused"), [("4.57.6", True), ("5.19.0", False)])
def test_a_base_that_is_kept_and_not_looked_at_is_not_read(
    checkpoint: Model, monkeypatch: pytest.MonkeyPatch, version: str, refused: bool
) -> None:
    """Transformers 4 keeps the field of 5 as it is, and computes with its own."""
    release(monkeypatch, version)
    both = engine_reads(rope_theta=10000.0, rope_parameters={"rope_theta": 100000.0})
    if not refused:
        check_reading("hf-cpu", checkpoint, both)
        return
    with pytest.raises(DeviceError, match=r"reads 10,000;"):
        check_reading("hf-cpu", checkpoint, both)


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_theta": 100000.0, "rope_scaling": None},
        {"rope_parameters": {"rope_theta": 100000, "rope_type": "default"}},
        {"rope_theta": 100000.0, "rope_parameters": {"rope_theta": 100000.0}},
    ],
)
def test_another_spelling_of_the_same_base_is_taken(
    checkpoint: Model, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    release(monkeypatch, "5.19.0")
    check_reading("npu", checkpoint, engine_reads(**fields))


def test_two_kinds_of_layers_are_compared_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(monkeypatch, "5.19.0")
    two = {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    (tmp_path / "config.json").write_text(json.dumps({"rope_parameters": two}))
    model = Model("two", str(tmp_path))
    check_reading("npu", model, engine_reads(rope_parameters=two))
    swapped = {**two, "sliding_attention": {"rope_theta": 1e6}}
    with pytest.raises(DeviceError, match=r"says rope_theta 10,000, .* reads 1,000,000;"):
        check_reading("npu", model, engine_reads(rope_parameters=swapped))

"""Names inside a file never become places, and its size is known before it is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from factories import later

from harness.devices.facts import EngineFacts
from harness.errors import FormatError
from harness.files import jsonfile
from harness.recording.format import PromptRecord, load_recording, save_recording

Command = Callable[..., Any]
HOSTILE = [
    "../../escaped",
    "/tmp/escaped",
    "a/../../b",
    "C:\\escaped",
    "<img src=x>",
    "a\x00b",
    "\n",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_and_ids_in_a_file_are_no_paths(
    command: Command, project_folder: Path, name: str
) -> None:
    command("record", "--device", "fake", "--suite", "s.yaml", "--out", "a.json")
    made = load_recording("a.json")
    prompts = tuple(
        p.model_copy(update={"id": f"{name}{i}", "text": name}) for i, p in enumerate(made.prompts)
    )
    hostile = made.model_copy(
        update={
            "device": name,
            "prompts": prompts,
            "model": made.model.model_copy(update={"name": name}),
            "suite": made.suite.model_copy(update={"name": name}),
            "engine": EngineFacts().with_facts({name: name}),
            "pieces": dict.fromkeys(made.pieces, name),
        }
    )
    inner = project_folder / "inner"
    inner.mkdir()
    save_recording(hostile, inner / "h.json")
    again = hostile.model_copy(update={"prompts": tuple(map(_later, prompts))})
    save_recording(again, inner / "again.json")
    before = {p for p in project_folder.parent.rglob("*") if inner not in p.parents}
    ended = command(
        *("compare", inner / "h.json", inner / "again.json", "--json", inner / "x.json"),
        *("--report", inner / "x.html", "--report", inner / "x.md", "--table", inner / "x.csv"),
    )
    assert ended.status == 0, ended.err
    command("compare", inner / "h.json", "baselines/fake/s/bfloat16")
    command("verify", inner / "h.json", "--device", "fake", "--model", "fake")
    after = {p for p in project_folder.parent.rglob("*") if inner not in p.parents}
    assert after == before
    assert sorted(p.name for p in inner.iterdir()) == [
        "again.json",
        "h.json",
        "x.csv",
        "x.html",
        "x.json",
        "x.md",
    ]


@pytest.mark.slow
def test_fifty_megabytes_for_one_value_are_refused(command: Command, project_folder: Path) -> None:
    command("record", "--device", "fake", "--suite", "s.yaml", "--out", "a.json")
    document = jsonfile.read(Path("a.json"), load_recording("a.json").schema_)
    document["prompts"][0]["free"]["rows"]["mean"] = "f8 " + "A" * 50_000_000
    jsonfile.write(Path("big.json"), document)
    with pytest.raises(FormatError, match="mean holds 4687500 values, 6 expected"):
        load_recording("big.json")


def test_a_deep_number_of_keys_is_refused_by_name(command: Command, project_folder: Path) -> None:
    command("record", "--device", "fake", "--suite", "s.yaml", "--out", "a.json")
    text = Path("a.json").read_text("utf-8")
    extra = ",".join(f'"k{i}": {i}' for i in range(200_000))
    Path("keys.json").write_text(text.replace('"device"', f'{extra}, "device"', 1), "utf-8")
    ended = command("compare", "keys.json", "keys.json")
    assert ended.status == 2
    assert "keys.json: " in ended.error
    assert len(ended.error) < 300
    assert json.loads(text)["device"] == "fake"


def _later(prompt: PromptRecord) -> PromptRecord:
    """As a second run leaves it: the same tokens, another time."""
    assert prompt.free is not None
    return prompt.model_copy(update={"free": later(prompt.free)})

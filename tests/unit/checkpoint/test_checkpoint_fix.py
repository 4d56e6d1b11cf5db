from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoints import CONFIG, checkpoint, folder_that_takes_no_file, latents
from hypothesis import given
from hypothesis import strategies as st

from harness.checkpoint.fix import Change, changed, fix_config, plan_changes
from harness.checkpoint.inspect import inspect
from harness.cli.main import main
from harness.errors import HarnessError, ModelError
from harness.model.model import Model

WRONG = {**CONFIG, "hidden_size": 128, "num_hidden_layers": 9, "intermediate_size": 7}
#: Spelled as no library would write it.
ODD = """{"x":  [1,
 2], "hidden_size" : 128,
      "rms_norm_eps": 1.0E-5,   "é": "\\u00e9 \\" }",
      "nested": {"hidden_size": 1}
}"""


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["checkpoint", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def changes_of(folder: Path) -> list[Change]:
    return plan_changes(inspect(Model("m", str(folder))))


def test_only_the_wrong_fields_change_and_a_backup_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkpoint(tmp_path / "c", config=WRONG)
    before = (folder / "config.json").read_text()
    assert run("inspect", "--no-load", str(folder)) == 1
    assert run("fix-config", str(folder)) == 0
    said = capsys.readouterr().out
    assert "hidden_size: 128 -> 64" in said
    assert "num_hidden_layers: 9 -> 2" in said
    assert json.loads((folder / "config.json").read_text()) == CONFIG
    assert list(json.loads((folder / "config.json").read_text())) == list(WRONG)
    assert (folder / "config.json.bak").read_text() == before
    assert run("inspect", "--no-load", str(folder)) == 0


def test_every_other_character_stays() -> None:
    after = changed(ODD, [Change("hidden_size", 128, 64)])
    assert after == ODD.replace('"hidden_size" : 128', '"hidden_size" : 64')


def test_a_missing_field_is_added_beside_its_neighbours() -> None:
    after = changed(ODD, [Change("head_dim", None, 16)])
    assert after == ODD.replace(": 128,", ': 128, "head_dim": 16,', 1)
    assert changed("{}", [Change("a", None, 1)]) == '{"a": 1}'
    lines = '{\n  "b": 1,\n  "num_attention_heads": 4,\n  "z": 2\n}\n'
    expected = '{\n  "b": 1,\n  "num_attention_heads": 4,\n  "head_dim": 16,\n  "z": 2\n}\n'
    assert changed(lines, [Change("head_dim", None, 16)]) == expected


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES), st.text(), VALUES, st.sampled_from([None, 1, "\t"]))
def test_any_object_keeps_its_other_members(
    content: dict[str, Any], key: str, value: Any, indent: Any
) -> None:
    after = changed(json.dumps(content, indent=indent), [Change(key, None, value)])
    assert json.loads(after) == {**content, key: value}
    others = [k for k in json.loads(after) if k != key]
    assert others == [k for k in content if k != key]


def test_a_key_that_appears_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="appears twice"):
        changed('{"a": 1, "a": 2}', [Change("a", 1, 3)])


def test_nothing_is_written_when_nothing_is_wrong(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    assert run("fix-config", str(folder)) == 0
    assert not list(folder.glob("config.json.*"))


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, config=WRONG)
    assert run("fix-config", str(folder), "--dry-run") == 0
    assert json.loads((folder / "config.json").read_text()) == WRONG
    assert not list(folder.glob("config.json.*"))


def test_heads_that_the_weights_do_not_determine_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {k: v for k, v in CONFIG.items() if k != "head_dim"} | {"num_attention_heads": 8}
    folder = checkpoint(tmp_path, config=config)
    assert run("fix-config", str(folder)) == 2
    assert "the weights do not determine the heads" in capsys.readouterr().err
    assert json.loads((folder / "config.json").read_text()) == config
    assert run("fix-config", str(folder), "--head-dim", "16") == 0
    assert run("inspect", "--no-load", str(folder)) == 0


def test_weights_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    weights = latents()
    del weights["model.layers.0.mlp.up_proj.weight"]
    with pytest.raises(ModelError, match="contradict themselves"):
        changes_of(checkpoint(tmp_path, weights, WRONG))


def test_an_earlier_backup_is_kept(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, config=WRONG)
    (folder / "config.json.bak").write_text("mine")
    backup = fix_config(folder, changes_of(folder))
    assert (folder / "config.json.bak").read_text() == "mine"
    assert backup.name == "config.json.bak.1"


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A checkpoint in a folder that takes no file, for a user who is not root."""
    with folder_that_takes_no_file() as (folder, close):
        checkpoint(folder, config=WRONG)
        close()
        yield folder


def test_a_read_only_folder_is_one_line_and_stays_as_it_was(read_only: Path) -> None:
    before = sorted(read_only.iterdir())
    with pytest.raises(HarnessError, match="cannot be written") as error:
        fix_config(read_only, changes_of(read_only))
    assert "\n" not in str(error.value)
    assert sorted(read_only.iterdir()) == before
    assert json.loads((read_only / "config.json").read_text()) == WRONG

"""The outcome: its JSON, its lines, its page, and the command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_canary_faults import SMALL, named
from typer.testing import CliRunner

import harness
from harness.canary.checkpoint import save
from harness.canary.like import sizes_like
from harness.canary.result import Canary, load_canary, save_canary
from harness.cli.main import app
from harness.errors import HarnessError, UsageError
from harness.messages.tables import MESSAGES
from harness.report.canary import canary_lines, to_html, write_canary
from harness.session.canary import cell_of


@pytest.fixture(scope="module")
def wrong(tmp_path_factory) -> Canary:
    folder = tmp_path_factory.mktemp("canary")
    save(SMALL, folder)
    return named(folder, "kv_exchanged")[0]


def test_an_outcome_is_read_back_as_it_was_written(wrong: Canary, tmp_path: Path) -> None:
    save_canary(wrong, tmp_path / "a.json")
    assert load_canary(tmp_path / "a.json") == wrong


@pytest.mark.parametrize(("language", "word"), [("en", "KV heads 0 and 1"), ("zh", "KV 头 0 与 1")])
def test_lines_and_page_name_the_cause_in_both_languages(
    wrong: Canary, language: str, word: str, tmp_path: Path
) -> None:
    lines = list(canary_lines(wrong, language))
    assert lines[0].startswith("WRONG: ")
    assert word in lines[1]
    page = to_html(wrong, language)
    assert word in page
    assert 'class="wrong"' in page
    assert 'class="right"' in page
    write_canary(wrong, tmp_path / "a.html", language)
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == page


def test_as_a_cell_of_the_matrix_it_fails_with_the_cause(wrong: Canary) -> None:
    cell = cell_of(wrong)
    assert (cell.name, cell.status) == ("canary", "FAIL")
    assert cell.rows_equal < cell.rows
    assert "KV heads 0 and 1" in cell.sentence
    right = cell_of(wrong.model_copy(update={"outcome": "EXACT", "findings": ()}))
    assert right.status == "PASS"


def test_both_tables_have_the_same_causes_in_the_same_order() -> None:
    names = [[k for k in MESSAGES[lang] if k.startswith("canary.")] for lang in ("en", "zh")]
    assert names[0] == names[1]


def test_every_cause_with_a_text_is_named_somewhere() -> None:
    root = Path(harness.__file__).parent
    page = [root / "report" / "canary.py", root / "report" / "templates" / "canary.html.j2"]
    files = [*(root / "canary").glob("*.py"), *page]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files).replace("'", '"')
    built = ("rope_", "head_", "kv_", "stage.", "line.", "probe.", "cell.", "table.", "expert")
    built += ("exact_rows", "longest", "right_tokens", "seconds", "requests_head")
    for key in MESSAGES["en"]:
        name = key.removeprefix("canary.")
        if name != key and not name.startswith(built):
            assert f'"{name}"' in text or f'"{key}"' in text, key


def test_the_command_makes_a_checkpoint_that_can_be_served(tmp_path: Path) -> None:
    out = tmp_path / "made"
    result = CliRunner().invoke(app, ["canary", "--make-only", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert json.loads((out / "config.json").read_text())["num_hidden_layers"] == 4


def test_making_needs_neither_torch_nor_transformers(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from harness.canary.checkpoint import save; from harness.canary.sizes import Sizes\n"
        f"save(Sizes(), Path({str(tmp_path / 'made')!r}))\n"
        "assert not {'torch', 'transformers', 'safetensors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "options",
    [
        ["--make-only"],
        ["--heads", "3", "--kv-heads", "2"],
        ["--device", "nowhere"],
        ["--report", "a.txt"],
        ["--context", "7"],
        ["--like", "no/such/folder/here"],
    ],
)
def test_wrong_usage_is_refused_before_the_work(options: list[str]) -> None:
    result = CliRunner().invoke(app, ["canary", *options])
    assert isinstance(result.exception, HarnessError)
    assert result.exception.exit_status == 2


def config(folder: Path, **fields: object) -> str:
    content = {
        "model_type": "llama", "num_attention_heads": 16, "num_key_value_heads": 8,
        "hidden_size": 2048, "num_hidden_layers": 28, "vocab_size": 73448,
        "intermediate_size": 6144, "rope_theta": 1e6, "max_position_embeddings": 32768,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(content | fields))
    return str(folder)


def test_a_canary_takes_the_shape_of_a_model(tmp_path: Path) -> None:
    sizes = sizes_like(config(tmp_path), {"context": 4096})
    assert (sizes.heads, sizes.kv_heads, sizes.head_dim, sizes.hidden) == (16, 8, 128, 2048)
    assert (sizes.vocab_size, sizes.layers, sizes.context) == (73448, 4, 4096)
    assert sizes.rope_theta == 1e6


def test_a_config_that_says_too_little_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="num_attention_heads"):
        sizes_like(config(tmp_path, num_attention_heads=None), {})

"""The pages: every command is marked, every link leads somewhere, every option exists."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from urllib.parse import unquote

import pytest
from doc_options import spans, unknown
from doc_pages import ROOT, Block, anchors, blocks, commands, pages, without_fences

from harness.suite.read import load_suite
from harness.suite.suite import Generation, Prompt

PAGES = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in pages()]
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def _blocks(path: Path) -> list[Block]:
    return list(blocks(path.read_text("utf-8"), str(path.relative_to(ROOT))))


@pytest.mark.parametrize("path", PAGES)
def test_every_block_of_commands_says_whether_a_test_runs_it(path: Path) -> None:
    assert [f"{b.page}:{b.line}" for b in _blocks(path) if b.marker is None] == []


@pytest.mark.parametrize("path", PAGES)
def test_commands_of_the_documents_stand_in_fences(path: Path) -> None:
    if path.name == "README.md" and path.parent == ROOT:
        pytest.skip("the README's blocks may be indented")
    assert [f"{b.page}:{b.line}" for b in _blocks(path) if not b.fenced] == []


@pytest.mark.parametrize("path", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    wrong = []
    for link in _LINK.findall(without_fences(path.read_text("utf-8"))):
        name, _, anchor = unquote(link).partition("#")
        target = (path.parent / name).resolve() if name else path
        if re.match(r"[a-z]+:", link):
            continue
        headings = target.suffix == ".md" and anchor
        inside = target.exists() and ROOT in [target, *target.parents]
        if not inside or (headings and anchor not in anchors(target.read_text("utf-8"))):
            wrong.append(link)
    assert wrong == []


@pytest.mark.parametrize("path", PAGES)
def test_no_command_or_option_is_named_that_does_not_exist(path: Path) -> None:
    wrong = []
    for block in _blocks(path):
        if block.language == "sh":
            wrong += [
                f"{block.page}:{c.line}: {p}" for c in commands(block) for p in unknown(c.text)
            ]
    for span in spans(without_fences(path.read_text("utf-8"))):
        wrong += [f"`{span}`: {problem}" for problem in unknown(span)]
    assert wrong == []


#: A path of a file of this checkout, as pages and docstrings write it.
_FILE = re.compile(
    r"(?<![\w./-])((?:harness|tests|benchmarks|docs|\.ci)/[\w./-]+\.(?:py|md|json|ya?ml|txt|html))\b"
)
#: A module or a name in one: `harness.alignment.judge`.
_MODULE = re.compile(r"(?<![\w.-])(harness(?:\.[a-z_]+)+)(?![\w.(-])")


def _sources() -> list[Path]:
    folders = ("harness", "tests", "benchmarks")
    return [path for name in folders for path in sorted((ROOT / name).rglob("*.py"))]


def test_every_file_that_a_page_or_a_source_names_exists() -> None:
    wrong = []
    for path in (*pages(), *_sources()):
        if path != Path(__file__):
            named = _FILE.findall(path.read_text("utf-8"))
            wrong += [f"{path}: {name}" for name in named if not (ROOT / name).exists()]
    assert wrong == []


def test_every_module_that_a_page_names_exists() -> None:
    wrong, found = [], 0
    for path in pages():
        for name in _MODULE.findall(path.read_text("utf-8")):
            if name.split(".")[1] not in _ROOMS:
                continue
            found += 1
            if not _is_there(name):
                wrong.append(f"{path}: {name}")
    assert wrong == []
    assert found > 3


#: What stands in harness/: other names after `harness.` are properties of a JUnit file.
_ROOMS = {path.stem for path in (ROOT / "harness").iterdir()}


def _is_there(dotted: str) -> bool:
    """Whether the path leads to a module, or to one and a name in it."""
    whole, parent = (ROOT.joinpath(*parts) for parts in (dotted.split("."), dotted.split(".")[:-1]))
    if whole.is_dir() or whole.with_suffix(".py").exists():
        return True
    file = parent.with_suffix(".py") if not parent.is_dir() else parent / "__init__.py"
    name = dotted.rpartition(".")[2]
    return file.exists() and re.search(rf"\b{name}\b", file.read_text("utf-8")) is not None


@pytest.mark.parametrize("name", ["README.md", "docs/ascend.md", "docs/porting.md"])
def test_a_translation_has_the_commands_of_its_page_in_their_order(name: str) -> None:
    translation = ROOT / "docs" / "zh" / Path(name).name
    assert _bare(translation) == _bare(ROOT / name)


def _bare(path: Path) -> list[list[str]]:
    """The lines of a page's blocks without their comments."""
    return [
        [re.sub(r"\s+#\s.*", "", line) for line in block.text.splitlines()]
        for block in _blocks(path)
    ]


def test_the_example_of_a_suite_loads_and_shows_every_key(tmp_path: Path) -> None:
    section = (ROOT / "docs" / "formats.md").read_text("utf-8").partition("## Suite")[2]
    section = section.partition("\n## ")[0]
    example = section.partition("```yaml\n")[2].partition("```")[0]
    path = tmp_path / "example.yaml"
    path.write_text(example, "utf-8")
    suite = load_suite(path)
    assert suite.generation.ignore_eos
    given = {f.name for p in suite.prompts for f in fields(p) if getattr(p, f.name) is not None}
    assert given == {f.name for f in fields(Prompt)}
    keys = {f"generation.{f.name}" for f in fields(Generation)} | {"prompts[].repeat", "matrix"}
    keys |= set(suite.chat.content())
    keys |= {f"prompts[].{name}" for name in given - {"line"}}
    assert keys == set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))


def test_the_architecture_names_every_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = set(re.findall(r"^\|[^|]*\| ((?:`[^`]+`(?:, )?)+) \|", page, re.MULTILINE))
    rooms = {word for cell in named for word in re.findall(r"`([^`]+)`", cell)}
    inside = [path for path in (ROOT / "harness").iterdir() if not path.name.startswith("__p")]
    there = {f"{p.name}/" if p.is_dir() else p.name for p in inside if p.suffix in ("", ".py")}
    assert there - {"__init__.py"} == rooms


def test_there_are_pages_and_commands_that_a_test_runs() -> None:
    found = [block for path in pages() for block in _blocks(path)]
    for name in ("docs/usage.md", "docs/tutorial.md", "docs/howto/hf-cpu.md"):
        assert [b for b in found if b.page == name and b.marker == "run"], name
    assert [b for b in found if b.marker == "run: vllm"]


PAGE = """\
Text, then `harness compare a b --jason x`.

<!-- run -->
```sh
export A=1
cat <<'END'
two # status 7
lines
END
harness record --device hf-cpu \\
    --out a.json   # status 1
```

    pytest --device=hf-cpu

```text
harness nonsense
```

<!-- not run: needs a card -->

    python -c 'print(1)'
"""


def test_blocks_are_found_with_their_markers_and_lines() -> None:
    found = list(blocks(PAGE, "p.md"))
    assert [(b.line, b.marker, b.fenced) for b in found] == [
        (5, "run", True),
        (14, None, False),
        (22, "not run: needs a card", False),
    ]
    assert [(c.line, c.status) for c in commands(found[0])] == [(5, 0), (6, 0), (10, 1)]


def test_a_status_within_a_here_document_promises_nothing() -> None:
    text = next(iter(blocks(PAGE))).text
    assert "status 7" in text
    assert 7 not in {c.status for c in commands(next(iter(blocks(PAGE))))}


def test_other_markers_are_none() -> None:
    for marker in ("<!-- run: gpu -->", "<!-- not run: -->", "<!-- runs -->"):
        assert next(iter(blocks(f"{marker}\n```sh\npytest\n```\n"))).marker is None


def test_headings_are_spelled_as_links_spell_them() -> None:
    text = "# A b\n## `c` & D-e!\n## A b\n```sh\n# no heading\n```\n## 中文 标题\n"
    assert anchors(text) == {"a-b", "c--d-e", "a-b-1", "中文-标题"}


@pytest.mark.parametrize(
    ("command", "problems"),
    [
        ("harness compare a.json b --json c", []),
        ("harness compare a.json b --jason c", ["harness compare has no option --jason"]),
        ("A=1 pytest --device=hf-cpu -q && pytest --devise=x", ["pytest has no option --devise"]),
        ("harness baseline make --suite port | cat --any", []),
        ("harness compare 'a --word' b --report='x y'", []),
        ("harness baseline mend", ["no command 'harness baseline mend'"]),
        ("harness dream", ["no command 'harness dream'"]),
        ("harness COMMAND --help", []),
        ("python3 -m harness.doctor --decive npu", ["harness doctor has no option --decive"]),
        ("pytest -rs -k 'not x' --junit-xml=j.xml # --none", []),
    ],
)
def test_unknown_commands_and_options_are_found(command: str, problems: list[str]) -> None:
    assert unknown(command) == problems

"""The table of embedded models, and what happens before Transformers unpacks one."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.errors import MissingDependency, ModelError
from harness.model import embedded, settled
from harness.model.find import find_model
from harness.model.model import Model
from harness.model.packaged import PACKAGED, PackagedModel

GEMMA = PACKAGED["gemma3-270m"]
PARTS = (b"GGUF", b"-one", b"-two", b"-three")
Installed = Callable[..., PackagedModel]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Packages with small parts, and the model that they make."""

    def install(parts: tuple[bytes, ...] = PARTS, lacking: str = "") -> PackagedModel:
        for (package, file), content in zip(GEMMA.parts, parts, strict=False):
            path = tmp_path / "site" / package / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

        def find(name: str) -> ModuleSpec | None:
            init = tmp_path / "site" / name / "__init__.py"
            if name == lacking or not init.parent.is_dir():
                return None
            return ModuleSpec(name, None, origin=str(init))

        monkeypatch.setattr(importlib.util, "find_spec", find)
        return replace(GEMMA, gguf_sha256=hashlib.sha256(b"".join(PARTS)).hexdigest())

    return install


def test_every_model_has_a_name_and_a_folder_of_its_own() -> None:
    assert list(PACKAGED) == ["smollm2", "gemma3-270m"]
    assert len({model.folder for model in PACKAGED.values()}) == len(PACKAGED)
    for name, model in PACKAGED.items():
        assert name == model.name == Model(name, "/cache/x").slug
        assert len(model.weights_sha256) == 64
        # What is joined is checked by its own sum.
        assert (model.gguf_sha256 is None) == (len(model.parts) == 1)


def test_parts_are_found_in_their_order(installed: Installed) -> None:
    model = installed()
    assert [path.read_bytes() for path in model.files()] == list(PARTS)


@pytest.mark.parametrize("part", [package for package, _ in GEMMA.parts])
def test_a_missing_part_is_one_line_with_the_command(installed: Installed, part: str) -> None:
    model = installed(lacking=part)
    with pytest.raises(MissingDependency) as caught:
        model.files()
    assert str(caught.value) == (
        f"the embedded model gemma3-270m needs the package {part.replace('_', '-')}, which is not "
        "usable here: pip install 'accelerator-parity-harness[demo-gemma]'"
    )


def test_a_package_without_its_file_is_named_with_it(installed: Installed) -> None:
    model = installed()
    model.files()[2].unlink()
    with pytest.raises(MissingDependency, match=r"part3 with its file gemma.*\.part02"):
        model.files()


def test_the_parts_joined_lie_in_the_work_folder_and_only_for_the_time(
    installed: Installed, tmp_path: Path
) -> None:
    model = installed()
    with embedded._joined(model, model.files(), tmp_path) as whole:
        assert whole.is_relative_to(tmp_path)
        assert whole.read_bytes() == b"".join(PARTS)
    assert not whole.parent.exists()


@pytest.mark.parametrize(
    "parts",
    [
        (PARTS[0], PARTS[2], PARTS[1], PARTS[3]),
        (b"", *PARTS[1:]),
        (*PARTS[:3], PARTS[3] + b"\0"),
    ],
    ids=["swapped", "emptied", "longer"],
)
def test_parts_that_make_another_file_are_refused_and_nothing_is_left(
    installed: Installed, tmp_path: Path, parts: tuple[bytes, ...]
) -> None:
    model = installed(parts)
    work = tmp_path / "work"
    work.mkdir()
    with (
        pytest.raises(ModelError, match=r"its 4 parts joined .* install them again"),
        embedded._joined(model, model.files(), work),
    ):
        pytest.fail("a damaged file was handed over")
    assert list(work.iterdir()) == []


def test_one_part_is_not_copied(tmp_path: Path) -> None:
    single = tmp_path / "model.gguf"
    with embedded._joined(PACKAGED["smollm2"], [single], tmp_path / "work") as whole:
        assert whole == single
    assert not (tmp_path / "work").exists()


def test_the_conversion_names_the_licence_and_gives_only_the_pinned_weights(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(_model: object, gguf: Path, work: Path, _say: object) -> None:
        (work / "model.safetensors").write_bytes(gguf.read_bytes())
        (work / "tokenizer_config.json").write_text("{}")
        (work / "config.json").write_text('{"rope_parameters": {"rope_theta": 100000.0}}')
        (work / "tokenizer.json").write_text(json.dumps(TOKENIZER))

    monkeypatch.setattr(embedded, "_save", save)
    monkeypatch.setattr(embedded, "quiet_transformers", embedded._no_bars_off_a_terminal)
    model = installed()
    said: list[str] = []
    with pytest.raises(ModelError, match="gave weights with sha256"):
        embedded._convert_into(tmp_path / "cache" / "x", model, model.files(), said.append)
    assert "gemma3-270m (Gemma Terms of Use, " in said[0]
    assert list((tmp_path / "cache").iterdir()) == []

    right = replace(model, weights_sha256=hashlib.sha256(b"".join(PARTS)).hexdigest())
    embedded._convert_into(tmp_path / "cache" / "x", right, right.files(), said.append)
    folder = tmp_path / "cache" / "x"
    assert embedded.is_finished(folder, right.weights_sha256)
    assert not embedded.is_finished(folder, model.weights_sha256)
    assert "Gemma Terms of Use" in json.loads((folder / embedded.MARKER).read_text())["terms"]
    assert json.loads((folder / "config.json").read_text())["rope_theta"] == 100_000
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json",
        "conversion.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


TOKENIZER = {
    "added_tokens": [{"id": 0, "content": "<pad>"}, {"id": 2, "content": "<bos>"}],
    "post_processor": None,
    "model": {"type": "BPE", "vocab": {"ab": 4}},
}


def test_the_first_token_is_put_first_once(tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text(json.dumps(TOKENIZER))
    settled.begin_with(tokenizer, "<bos>")
    made = json.loads(tokenizer.read_text("utf-8"))
    first, text = made["post_processor"]["single"]
    assert first["SpecialToken"]["id"] == "<bos>"
    assert text["Sequence"]["id"] == "A"
    assert made["post_processor"]["special_tokens"]["<bos>"]["ids"] == [2]
    assert made["model"] == TOKENIZER["model"]


@pytest.mark.parametrize(
    ("version", "refused"), [("4.57.6", True), ("5.0.0.dev0", False), ("5.19.0", False)]
)
def test_an_older_transformers_that_makes_another_tokenizer_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: str, refused: bool
) -> None:
    module = SimpleNamespace(__version__=version)
    monkeypatch.setattr(embedded, "require", lambda *_: module)
    embedded._require_transformers(PACKAGED["smollm2"])
    if not refused:
        embedded._require_transformers(GEMMA)
        return
    with pytest.raises(MissingDependency, match=r"Transformers 5 or newer.*4\.57\.6 makes another"):
        embedded._require_transformers(GEMMA)


def test_a_name_that_is_no_model_names_the_embedded_ones() -> None:
    with pytest.raises(ModelError, match="or smollm2 or gemma3-270m"):
        find_model("no such model")

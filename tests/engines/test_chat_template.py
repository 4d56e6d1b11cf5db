"""A chat template is a program of the checkpoint: it ends, in bounded time and memory."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pytest
from needed import needed

from harness.errors import HarnessError
from harness.model.model import Model
from harness.model.tokenizer import Tokenizer, open_tokenizer
from harness.suite.chat import ChatTemplate

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


#: Templates whose text is another one on another day, each in a way of its own.
DATED = {
    "at once": "Today: {{ strftime_now('%d %b %Y') }} {{ messages[0].content }}",
    "a default": "{% if not date_string is defined %}{% set date_string = strftime_now('%Y-%m-%d') "
    "%}{% endif %}Today: {{ date_string }}",
    "a filter": "{{ date_string | default(strftime_now('%B')) }}",
    "a macro": "{% macro day() %}{{ strftime_now('%A') }}{% endmacro %}{{ day() }}",
    "another name": "{% set clock = strftime_now %}{% set ns = namespace(now=clock) %}"
    "{{ ns.now('%j') }}",
    "a branch": "{% if strftime_now('%H') | int < 12 %}morning{% else %}evening{% endif %}",
    "a month": "{% if strftime_now('%m') == '07' %}summer{% endif %} hi",
    "a refusal": "{% if strftime_now('%Y') | int < 2005 %}{{ raise_exception('too old') }}"
    "{% endif %}hi",
}
#: Templates whose text is the same on every day, however much they speak of it.
UNDATED = {
    "no clock": "{{ messages[0].content }}",
    "a fixed date": "{% if not date_string is defined %}{% set date_string = '26 Jul 2024' %}"
    "{% endif %}Today: {{ date_string }}",
    "a comment": "{# strftime_now('%d') #}{{ messages[0].content }}",
    "a text": "{{ 'call strftime_now to know' }}",
    "an unused name": "{% set today = strftime_now('%d') %}{{ messages[0].content }}",
    "a test": "{% if strftime_now is defined %}hi{% endif %}",
    "a system turn": "{% if messages[0].role == 'system' %}{{ strftime_now('%d') }}{% endif %}hi",
    "unknown names": "{{ today }}{{ date }}{{ messages[0].content }}",
}


@pytest.mark.parametrize("way", DATED)
def test_a_template_that_reads_the_date_is_told_and_can_be_fixed(folder: Path, way: str) -> None:
    tokenizer = with_template(folder, DATED[way])
    assert tokenizer.unsteady(HI) == "date"
    texts = []
    for date in (datetime(2024, 7, 26, 13), datetime(2025, 12, 1, 3)):
        fixed = ChatTemplate(date=date)
        assert tokenizer.unsteady(HI, fixed) is None
        texts.append(tokenizer._written(HI, fixed))
    assert texts[0] != texts[1] or way == "a refusal"


@pytest.mark.parametrize("way", UNDATED)
def test_a_template_that_does_not_is_not_warned_of(folder: Path, way: str) -> None:
    assert with_template(folder, UNDATED[way]).unsteady(HI) is None


def test_a_date_given_as_a_value_is_steady(folder: Path) -> None:
    for way in ("a default", "a filter"):
        tokenizer = with_template(folder, DATED[way])
        given = ChatTemplate({"date_string": "26 Jul 2024"})
        assert tokenizer.unsteady(HI, given) is None
        assert "26 Jul 2024" in tokenizer._written(HI, given)[0]


def test_values_reach_the_template(folder: Path) -> None:
    tokenizer = with_template(folder, "{{ 'hi' if enable_thinking else 'no' }}")
    given = [ChatTemplate({"enable_thinking": value}) for value in (True, False)]
    assert [tokenizer.encode_chat(HI, chat) for chat in given] == [(1,), (0,)]


def test_a_template_that_draws_at_random_is_told(folder: Path) -> None:
    tokenizer = with_template(folder, "{{ range(99999) | random }}")
    assert tokenizer.unsteady(HI) == "chance"
    assert tokenizer.unsteady(HI, ChatTemplate(date=datetime(2024, 7, 26))) == "chance"


def test_a_name_that_nobody_gave_is_told_with_its_remedy(folder: Path) -> None:
    with pytest.raises(HarnessError, match=r"now.*chat_template_kwargs"):
        with_template(folder, "{{ now() }}").encode_chat(HI)

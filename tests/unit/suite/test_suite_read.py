"""Suites: reading, finding, digests and encoding; test_strict_yaml.py has the wrong files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from harness.devices.fake import FakeTokenizer
from harness.errors import ModelError, SuiteError, UsageError
from harness.suite.chat import PLAIN, ChatTemplate, Unsteady
from harness.suite.encode import encode_suite, fitting
from harness.suite.read import load_suite, suite_names
from harness.suite.suite import Generation, Message, Prompt, Suite

HEAD = "generation:\n  max_new_tokens: 8\nprompts:\n"  # prompts begin in line 4

Write = Callable[..., Path]


class CharacterTokenizer:
    """One token per character, after a BOS token of id 1."""

    vocab_size = 0x110000
    template: str | None = "<role>content"

    def encode(self, text: str) -> tuple[int, ...]:
        return (1, *map(ord, text))

    def encode_chat(
        self, messages: Sequence[Mapping[str, str]], chat: ChatTemplate = PLAIN
    ) -> tuple[int, ...]:
        turns = "".join(f"<{m['role']}>{m['content']}" for m in messages)
        return self.encode(turns + "<assistant>")

    def unsteady(
        self, messages: Sequence[Mapping[str, str]], chat: ChatTemplate = PLAIN
    ) -> Unsteady | None:
        return None

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids)).lstrip("\x01")


class NoTemplate(CharacterTokenizer):
    template = None

    def encode_chat(
        self, messages: Sequence[Mapping[str, str]], chat: ChatTemplate = PLAIN
    ) -> tuple[int, ...]:
        raise ModelError("the model has no chat template")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: str | bytes, name: str = "some.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def digest(write: Write, prompts: str, head: str = HEAD) -> str:
    return load_suite(write(head + prompts)).digest


def test_every_form_of_prompt_is_read_with_its_line(write: Write) -> None:
    suite = load_suite(
        write(
            "# a comment\n"
            "generation: {max_new_tokens: 8, ignore_eos: true}\n"
            "prompts:\n"
            "  - id: plain\n"
            "    text: 什么\n"
            "  - {id: long, text: ab, repeat: 3, tokens: 4}\n"
            "\n"
            "  - id: chat\n"
            "    messages:\n"
            "      - {role: system, content: be brief}\n"
            "      - {role: user, content: hi}\n"
            "  - id: ids\n"
            "    token_ids: [0, 7]\n"
        )
    )
    assert suite.name == "some"
    assert suite.generation == Generation(max_new_tokens=8, ignore_eos=True)
    assert suite.prompts == (
        Prompt("plain", 4, text="什么"),
        Prompt("long", 6, text="ababab", tokens=4),
        Prompt("chat", 8, messages=(Message("system", "be brief"), Message("user", "hi"))),
        Prompt("ids", 12, token_ids=(0, 7)),
    )


def test_eos_is_heeded_unless_the_suite_says_otherwise(write: Write) -> None:
    assert not load_suite(write(HEAD + "- {id: a, text: b}\n")).generation.ignore_eos


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (r'"\ud800"', "\ud800"),
        (r'"\0\a"', "\0\a"),
        ('"\\U0001F469\\u200D\\U0001F467"', "\U0001f469\u200d\U0001f467"),
        ("\u202eabc", "\u202eabc"),
        ('" \\t"', " \t"),
        ("'007'", "007"),
        ("|\n    a\r\n    b\n", "a\nb\n"),
    ],
)
def test_text_is_kept_to_the_character(write: Write, written: str, text: str) -> None:
    assert load_suite(write(f"{HEAD}- id: a\n  text: {written}\n")).prompts[0].text == text


def test_a_byte_order_mark_is_no_part_of_the_suite(write: Write) -> None:
    assert load_suite(write(b"\xef\xbb\xbf" + (HEAD + "- {id: a, text: b}\n").encode())).prompts


# --- finding


def test_the_shipped_suites_are_found_by_name() -> None:
    assert {"port", "mixed", "long"} <= set(suite_names())


def test_a_name_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_suite("port").name == "port"


def test_the_working_directory_comes_first(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write("").parent
    (folder / "prompts").mkdir()
    (folder / "prompts" / "port.yaml").write_text(HEAD + "- {id: mine, text: b}\n")
    monkeypatch.chdir(folder)
    suite = load_suite("port")
    assert suite.path == Path("prompts/port.yaml")
    assert suite.prompts[0].id == "mine"


def test_a_path_below_the_working_directory_is_shown_relative(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(HEAD + "- {id: a, text: b}\n")
    monkeypatch.chdir(path.parent)
    assert load_suite(path).path == Path("some.yaml")


@pytest.mark.parametrize("name", ["mixd", "mixd.yaml", "no/mixd.yaml", Path("mixd")])
def test_a_missing_suite_names_those_that_exist(name: str | Path) -> None:
    with pytest.raises(SuiteError, match=r"did you mean mixed\?.* long, .*mixed, .*port"):
        load_suite(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a\0b", "a" * 5000, "/"])
def test_a_strange_name_is_a_missing_suite(name: str) -> None:
    with pytest.raises(SuiteError, match="no such suite"):
        load_suite(name)


@pytest.mark.parametrize("name", ["..yaml", "a b.yaml", "-x.yaml"])
def test_a_file_name_that_makes_no_folder_name_is_refused(write: Write, name: str) -> None:
    with pytest.raises(SuiteError, match="the name of a suite's file must be"):
        load_suite(write(HEAD + "- {id: a, text: b}\n", name))


# --- digests


def test_formatting_comments_and_order_of_keys_leave_the_digest(write: Write) -> None:
    flow = digest(write, "- {id: a, text: 'b c'}\n- {id: d, token_ids: [1, 2]}\n")
    block = load_suite(
        write(
            "# other words\n"
            "prompts:\n"
            "- text: >-\n    b\n    c\n"
            "  id: a\n"
            "- token_ids:\n  - 1\n  - +2\n"
            '  id: "d"\n'
            "generation:\n  ignore_eos: FALSE\n  max_new_tokens: 8\n",
            "elsewhere.yaml",
        )
    )
    assert block.digest == flow
    assert len(flow) == 64


def test_a_repeated_text_is_the_same_content_as_the_long_text(write: Write) -> None:
    assert digest(write, "- {id: a, text: b, repeat: 3}\n") == digest(
        write, "- {id: a, text: bbb}\n"
    )


@pytest.mark.parametrize(
    "other",
    [
        "- {id: c, text: d}\n- {id: a, text: b}\n",
        "- {id: a, text: b}\n",
        "- {id: a2, text: b}\n- {id: c, text: d}\n",
        "- {id: a, text: B}\n- {id: c, text: d}\n",
        "- {id: a, text: b, tokens: 1}\n- {id: c, text: d}\n",
        "- {id: a, text: b}\n- {id: c, messages: [{role: user, content: d}]}\n",
        "- {id: a, text: b}\n- {id: c, token_ids: [1]}\n",
    ],
)
def test_another_content_has_another_digest(write: Write, other: str) -> None:
    assert digest(write, other) != digest(write, "- {id: a, text: b}\n- {id: c, text: d}\n")


@pytest.mark.parametrize(
    "generation", ["max_new_tokens: 9", "{max_new_tokens: 8, ignore_eos: true}"]
)
def test_other_settings_have_another_digest(write: Write, generation: str) -> None:
    head = f"generation:\n  {generation}\nprompts:\n"
    prompts = "- {id: a, text: b}\n"
    assert digest(write, prompts, head) != digest(write, prompts)


def test_two_surrogates_are_not_the_character_that_they_encode(write: Write) -> None:
    pair = digest(write, '- {id: a, text: "\\ud83d\\ude00"}\n')
    assert pair != digest(write, '- {id: a, text: "\\U0001f600"}\n')


def test_another_length_makes_another_suite(write: Write) -> None:
    suite = load_suite(write(HEAD + "- {id: a, text: b}\n"))
    longer = suite.with_max_new_tokens(9)
    assert longer.generation == Generation(9, ignore_eos=False)
    assert longer.prompts == suite.prompts
    assert longer.digest == digest(
        write, "- {id: a, text: b}\n", HEAD.replace("max_new_tokens: 8", "max_new_tokens: 9")
    )
    with pytest.raises(UsageError, match="at least 1"):
        suite.with_max_new_tokens(0)


# --- encoding


@pytest.fixture
def load(write: Write) -> Callable[[str], Suite]:
    return lambda prompts: load_suite(write(HEAD + prompts))


Load = Callable[[str], Suite]


def test_each_form_of_prompt_is_encoded_and_readable(load: Load) -> None:
    suite = load(
        "- {id: plain, text: hi}\n"
        "- {id: cut, text: ab, repeat: 9, tokens: 4}\n"
        "- id: chat\n"
        "  messages: [{role: user, content: a}, {role: assistant, content: b}]\n"
        "- {id: ids, token_ids: [72, 73]}\n"
    )
    plain, cut, chat, ids = encode_suite(suite, CharacterTokenizer(), 100)
    assert (plain.id, plain.text, plain.token_ids) == ("plain", "hi", (1, 104, 105))
    assert (cut.text, cut.token_ids) == ("aba", (1, 97, 98, 97))
    assert chat.text == "user: a\nassistant: b"
    assert chat.token_ids == (1, *map(ord, "<user>a<assistant>b<assistant>"))
    assert (ids.text, ids.token_ids) == ("HI", (72, 73))


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        ("{id: b, text: abcdefgh}", "9 tokens and 8 new ones are more than the 16 positions"),
        ("{id: b, text: abc, tokens: 5}", "only 4 tokens for tokens: 5"),
        ('{id: b, text: "a\\ud800"}', r"character 1 is the surrogate '\ud800'"),
        ("{id: b, messages: [{role: user, content: abc}]}", "more than the 16 positions"),
    ],
)
def test_a_prompt_that_the_model_cannot_be_given_is_named(
    load: Load, prompt: str, problem: str
) -> None:
    suite = load(f"- {{id: a, text: b}}\n- {prompt}\n")
    with pytest.raises(SuiteError) as caught:
        encode_suite(suite, CharacterTokenizer(), max_positions=16)
    assert str(caught.value).startswith(f"{suite.path}:5: prompt b: ")
    assert problem in caught.value.problem


def test_a_prompt_may_fill_the_last_position(load: Load) -> None:
    suite = load("- {id: a, text: abcdefg}\n")
    assert len(encode_suite(suite, CharacterTokenizer(), 16)[0].token_ids) == 8
    with pytest.raises(SuiteError, match="8 tokens and 9 new ones"):
        encode_suite(suite, CharacterTokenizer(), 16, max_new_tokens=9)
    with pytest.raises(UsageError, match="at least 1"):
        encode_suite(suite, CharacterTokenizer(), 16, max_new_tokens=0)


@pytest.mark.parametrize("content", ["token_ids: [99, 100]", "text: d"])
def test_a_token_id_past_the_vocabulary_is_named(load: Load, content: str) -> None:
    tokenizer = CharacterTokenizer()
    tokenizer.vocab_size = 100
    with pytest.raises(SuiteError, match=r":4: prompt a: token id 100 is outside .* of 100"):
        encode_suite(load(f"- {{id: a, {content}}}\n"), tokenizer, 100)


def test_a_prompt_without_a_token_is_named(load: Load) -> None:
    class Deaf(CharacterTokenizer):
        def encode(self, text: str) -> tuple[int, ...]:
            return ()

    with pytest.raises(SuiteError, match=":4: prompt a: encodes to no token"):
        encode_suite(load("- {id: a, text: b}\n"), Deaf(), 100)


def test_a_missing_chat_template_names_the_prompt(load: Load) -> None:
    suite = load("- {id: a, messages: [{role: user, content: b}]}\n")
    with pytest.raises(ModelError, match=r"no chat template .*some.yaml:4, prompt a"):
        encode_suite(suite, NoTemplate(), 100)


MANY = (
    "- {id: a, text: b}\n"
    "- {id: chat, messages: [{role: user, content: b}]}\n"
    "- {id: c, text: d}\n"
    "- {id: talk, messages: [{role: user, content: e}]}\n"
)


def test_chats_are_left_out_for_a_model_without_a_template_and_that_is_said(load: Load) -> None:
    suite, said = load(MANY), list[str]()
    fitted = fitting(suite, NoTemplate(), "base", said.append)
    assert [p.id for p in fitted.prompts] == ["a", "c"]
    assert fitted.left_out == ("chat", "talk")
    assert said == [
        "suite some: 2 of 4 prompts are left out, because the model base has no chat template: "
        "chat, talk"
    ]
    assert [p.id for p in encode_suite(fitted, NoTemplate(), 100)] == ["a", "c"]
    # Nothing is left to say of what fits already.
    assert fitting(fitted, NoTemplate(), "base", said.append) is fitted
    assert len(said) == 1


def test_the_digest_is_that_of_a_file_without_the_chats(load: Load) -> None:
    fitted = fitting(load(MANY), NoTemplate(), "base", lambda _line: None)
    assert fitted.digest == load("- {id: a, text: b}\n- {id: c, text: d}\n").digest
    assert fitted.digest != load(MANY).digest
    longer = fitted.with_max_new_tokens(9)
    assert longer.left_out == fitted.left_out
    assert longer.digest == load(MANY).with_max_new_tokens(9).without(("talk", "chat")).digest


def test_with_a_template_or_without_chats_a_suite_stays_itself(load: Load) -> None:
    def note(line: str) -> None:
        pytest.fail(line)

    suite, plain = load(MANY), load("- {id: a, text: b}\n")
    assert fitting(suite, CharacterTokenizer(), "chatty", note) is suite
    assert fitting(plain, NoTemplate(), "base", note) is plain


def test_a_suite_of_chats_alone_is_refused_not_emptied(load: Load) -> None:
    suite = load("- {id: a, messages: [{role: user, content: b}]}\n")
    assert fitting(suite, NoTemplate(), "base", lambda _line: None) is suite


# --- the shipped suites


def test_port_holds_the_prompts_of_the_first_port() -> None:
    suite = load_suite("port")
    assert [prompt.text for prompt in suite.prompts] == [
        "Hello, how are you?",
        "Explain the concept of ternary quantization in one sentence.",
        "什么是三元量化？",
        "The capital of France is",
    ]
    assert suite.generation == Generation(128, ignore_eos=False)


def test_mixed_holds_every_kind_of_prompt() -> None:
    suite = load_suite("mixed")
    assert suite.generation == Generation(64, ignore_eos=True)
    assert len(suite.prompts) >= 32
    assert sum(prompt.messages is not None for prompt in suite.prompts) >= 5
    given_ids = [i for prompt in suite.prompts for i in prompt.token_ids or ()]
    assert given_ids
    assert max(given_ids) < 40_000
    assert any("</script>" in (prompt.text or "") for prompt in suite.prompts)
    assert any(not prompt.text.strip() for prompt in suite.prompts if prompt.text)


def test_long_lies_on_both_sides_of_block_boundaries() -> None:
    suite = load_suite("long")
    assert suite.generation == Generation(32, ignore_eos=True)
    lengths = {prompt.tokens or 0 for prompt in suite.prompts}
    assert all(500 <= length <= 4000 for length in lengths)
    for block in (16, 128, 512):
        assert {1, block - 1} <= {length % block for length in lengths}


@pytest.mark.parametrize("name", ["port", "mixed", "long"])
def test_a_shipped_suite_can_be_given_to_a_model(name: str) -> None:
    suite = load_suite(name)
    encoded = encode_suite(suite, CharacterTokenizer(), max_positions=40_000)
    for prompt, tokens in zip(suite.prompts, encoded, strict=True):
        assert len(tokens.token_ids) == (prompt.tokens or len(tokens.token_ids))


def test_prompts_of_equal_tokens_are_refused_by_both_names(write: Write) -> None:
    suite = load_suite(
        write(HEAD + "- {id: a, text: b}\n- {id: c, text: d}\n- {id: e, token_ids: [1, 98]}\n")
    )
    with pytest.raises(SuiteError) as caught:
        encode_suite(suite, CharacterTokenizer(), 100)
    assert str(caught.value).endswith(
        "some.yaml:6: prompt e: has the token ids of prompt a, which counts one prompt twice; "
        "change or remove one"
    )


@pytest.mark.parametrize("name", suite_names())
def test_no_shipped_suite_counts_a_prompt_twice(name: str) -> None:
    suite = load_suite(name)
    encoded = encode_suite(suite, FakeTokenizer(), 1 << 20)
    assert len({prompt.token_ids for prompt in encoded}) == len(suite.prompts)

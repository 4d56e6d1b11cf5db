"""Suite files that are wrong: each problem is one line that names file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import SuiteError
from harness.suite.read import load_suite

HEAD = "generation:\n  max_new_tokens: 8\nprompts:\n"  # prompts begin in line 4


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "some.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


PROBLEMS = {
    "empty file": ("", 1, "empty"),
    "comments only": ("# nothing\n", 1, "empty"),
    "a list for a suite": ("- a\n", 1, "a suite is a list"),
    "no generation": ("prompts:\n- {id: a, text: b}\n", 1, "lacks generation"),
    "no prompts": ("generation: {max_new_tokens: 1}\n", 1, "lacks prompts"),
    "null prompts": (HEAD, 3, "prompts is empty"),
    "empty prompts": ("generation: {max_new_tokens: 1}\nprompts: []\n", 2, "prompts is empty"),
    "unknown key of the suite": (HEAD + "- {id: a, text: b}\nprompt: 1\n", 5, "mean prompts?"),
    "repeated key of the suite": (HEAD + "- {id: a, text: b}\nprompts: 1\n", 5, "twice"),
    "unknown generation key": (
        "generation:\n  max_new_tokens: 1\n  max_tokens: 2\nprompts: [{id: a, text: b}]\n",
        3,
        "mean max_new_tokens?",
    ),
    "no new tokens": ("generation:\n  max_new_tokens: 0\nprompts: []\n", 2, "at least 1"),
    "bool new tokens": ("generation:\n  max_new_tokens: true\nprompts: []\n", 2, "true or false"),
    "float new tokens": ("generation:\n  max_new_tokens: 1.5\nprompts: []\n", 2, "is a float"),
    "octal new tokens": ("generation:\n  max_new_tokens: 0x10\nprompts: []\n", 2, "decimal"),
    "huge new tokens": (
        f"generation:\n  max_new_tokens: {'9' * 5000}\nprompts: []\n",
        2,
        "at most 9",
    ),
    "many zeros": (f"generation:\n  max_new_tokens: {'0' * 5000}\nprompts: []\n", 2, "at least 1"),
    "hugely negative": (
        f"generation:\n  max_new_tokens: -{'9' * 20}\nprompts: []\n",
        2,
        "at least 1",
    ),
    "forced int": ("generation:\n  max_new_tokens: !!int abc\nprompts: []\n", 2, "'abc'"),
    "yes for true": (
        "generation:\n  max_new_tokens: 1\n  ignore_eos: yes\nprompts: []\n",
        3,
        "write true or false",
    ),
    "text for true": (
        "generation:\n  max_new_tokens: 1\n  ignore_eos: 'true'\nprompts: []\n",
        3,
        "must be true or false",
    ),
    "prompt no mapping": (HEAD + "- hello\n", 4, "a prompt is a string"),
    "no id": (HEAD + "- text: b\n", 4, "lacks id"),
    "number for an id": (HEAD + "- text: b\n  id: 7\n", 5, "put it in quotes"),
    "parent folder for an id": (HEAD + "- text: b\n  id: ../../x\n", 5, "the id '../../x' must"),
    "dots for an id": (HEAD + "- {text: b, id: ..}\n", 4, "the id '..' must"),
    "line break in an id": (HEAD + '- {text: b, id: "a\\n"}\n', 4, "must be 1 to 64"),
    "long id": (HEAD + f"- text: b\n  id: {'a' * 65}\n", 5, "must be 1 to 64"),
    "foreign digits in an id": (HEAD + "- {text: b, id: a٣}\n", 4, "must be 1 to 64"),
    "repeated id": (
        HEAD + "- {id: a, text: b}\n- {id: c, text: b}\n- {id: a, text: d}\n",
        6,
        "prompt in line 4",
    ),
    "repeated key": (HEAD + "- id: a\n  text: b\n  text: c\n", 6, "key text twice"),
    "unknown key": (HEAD + "- id: a\n  txt: b\n", 5, "mean text?"),
    "unknown key like none": (HEAD + "- id: a\n  zzz: b\n", 5, "its keys are id, text"),
    "merge key": (HEAD + "- id: a\n  <<: {text: b}\n", 5, "no key '<<'"),
    "list for a key": (HEAD + "- id: a\n  ? [b]\n  : c\n", 5, "no key"),
    "no content": (HEAD + "- {id: x, text: b}\n- id: a\n", 5, "no content"),
    "two contents": (HEAD + "- id: a\n  text: b\n  token_ids: [1]\n", 4, "text and token_ids"),
    "null text": (HEAD + "- id: a\n  text:\n", 5, "text is empty"),
    "empty text": (HEAD + "- id: a\n  text: ''\n", 5, "text is empty"),
    "truth for a text": (HEAD + "- id: a\n  text: yes\n", 5, "put it in quotes"),
    "date for a text": (HEAD + "- id: a\n  text: 2024-01-01\n", 5, "is a date"),
    "list for a text": (HEAD + "- id: a\n  text: [b]\n", 5, "text is a list"),
    "object for a text": (HEAD + "- id: a\n  text: !!python/name:os.system\n", 5, "of the type"),
    "set for a prompt": (HEAD + "- !!set {id, text}\n", 4, "of the type"),
    "no repetition": (HEAD + "- id: a\n  text: b\n  repeat: 0\n", 6, "at least 1"),
    "endless repetition": (HEAD + "- id: a\n  text: b\n  repeat: 999999999\n", 6, "lower it"),
    "no tokens": (HEAD + "- id: a\n  text: b\n  tokens: 0\n", 6, "at least 1"),
    "repeated ids": (HEAD + "- id: a\n  repeat: 2\n  token_ids: [1]\n", 5, "with text only"),
    "cut chat": (
        HEAD + "- id: a\n  messages: [{role: user, content: b}]\n  tokens: 2\n",
        6,
        "with text only",
    ),
    "no token ids": (HEAD + "- id: a\n  token_ids: []\n", 5, "token_ids is empty"),
    "null token ids": (HEAD + "- id: a\n  token_ids:\n", 5, "must be a list"),
    "one token id, no list": (HEAD + "- id: a\n  token_ids: 5\n", 5, "must be a list"),
    "negative token id": (HEAD + "- id: a\n  token_ids:\n  - 1\n  - -1\n", 7, "at least 0"),
    "bool token id": (HEAD + "- id: a\n  token_ids:\n  - 1\n  - true\n", 7, "an integer"),
    "base-60 token id": (HEAD + "- id: a\n  token_ids: [1:30]\n", 5, "decimal"),
    "no messages": (HEAD + "- id: a\n  messages: []\n", 5, "messages is empty"),
    "text for messages": (HEAD + "- id: a\n  messages: hi\n", 5, "must be a list"),
    "message no mapping": (HEAD + "- id: a\n  messages:\n  - hi\n", 6, "a message is a string"),
    "bad role": (
        HEAD + "- id: a\n  messages:\n  - content: b\n    role: bot\n",
        7,
        "role 'bot' is not one of system, user, assistant",
    ),
    "no role": (HEAD + "- id: a\n  messages:\n  - content: b\n", 6, "lacks role"),
    "empty message": (HEAD + "- id: a\n  messages:\n  - {role: user, content: ''}\n", 6, "empty"),
    "anchor": (HEAD + "- id: a\n  text: &x b\n", 5, "anchors"),
    "alias": (HEAD + "- id: a\n  text: *x\n", 5, "aliases"),
    "deep nesting": (HEAD + "- id: a\n  text: " + "[" * 5000, 5, "nested"),
    "second document": (HEAD + "- {id: a, text: b}\n---\na\n", 5, "document"),
    "unclosed brace": (HEAD + "- {id: a\n- b\n\n", 7, "while parsing a flow mapping in line 4"),
    "tab for indentation": (HEAD + "- id: a\n\ttext: b\n", 5, "YAML"),
    "unknown escape": (HEAD + '- id: a\n  text: "\\q"\n', 5, "escape"),
    "character past Unicode": (HEAD + '- id: a\n  text: "\\U00110000"\n', 5, "YAML"),
    "number too large for C": (HEAD + '- id: a\n  text: "\\UFFFFFFFF"\n', 5, "YAML"),
    "raw control character": (HEAD + "- id: a\n  text: b\x07\n", 5, "U+0007"),
    "not UTF-8": (HEAD.encode() + b"- id: a\n  text: \xff\n", 5, "byte 0xff is not UTF-8"),
    "UTF-16": (HEAD.encode("utf-16"), 1, "UTF-8"),
    "carriage returns": (HEAD.replace("\n", "\r\n") + "- id: a\r\n  txt: b\r\n", 5, "text?"),
    "line separators in a string": (HEAD + "- {id: a, text: '\u2028\u2028\x85'}\n- x\n", 5, "str"),
}


@pytest.mark.parametrize(("content", "line", "says"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_a_problem_is_named_with_file_and_line(
    tmp_path: Path, content: str | bytes, line: int, says: str
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: ")
    assert says in message
    assert "\n" not in message
    assert len(caught.value.problem) < 250


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150
)
@given(data=st.binary(max_size=200), start=st.sampled_from(["", HEAD, HEAD + "- id: a\n  text: "]))
def test_any_bytes_load_or_are_refused_in_one_line(tmp_path: Path, data: bytes, start: str) -> None:
    check_total(write(tmp_path, start.encode() + data))


#: Pieces that steer PyYAML into its corners more often than random bytes do.
PIECES = st.sampled_from(
    [
        *"\n -:,?!&*|>'\"%@`#{}[]\t\\=~<.é1",
        *("\n  ", "- ", ": ", "id", "text", "token_ids", "\n---\n", "\n...\n", "!!", "!<"),
        *("%YAML 1.", "%TAG ! ", "\\x", "\\U", "%ff", "|2-", "\u2028"),
    ]
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300
)
@given(pieces=st.lists(PIECES, max_size=30), start=st.sampled_from(["", HEAD, HEAD + "- id: a\n"]))
def test_any_yaml_loads_or_is_refused_in_one_line(
    tmp_path: Path, pieces: list[str], start: str
) -> None:
    check_total(write(tmp_path, start + "".join(pieces)))


def check_total(path: Path) -> None:
    try:
        suite = load_suite(path)
    except SuiteError as error:
        message = str(error)
    else:
        message = f"{len(suite.prompts)} prompts"
    assert len(message.splitlines()) == 1
    assert message != "0 prompts"

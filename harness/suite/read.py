"""Suites: the YAML files of ``prompts/``, and what a model's tokenizer makes of them.

A suite holds generation settings and prompts, each with an id and one of
``text``, ``messages`` or ``token_ids``. Beside them ``matrix: true`` asks for
the runs of ``pytest --matrix``; ``date`` and ``chat_template_kwargs`` are for the
chat template::

    generation:
      max_new_tokens: 64
      ignore_eos: true
    prompts:
      - id: capital
        text: The capital of France is
      - id: long-english
        text: "A sentence that is said again. "
        repeat: 100     # the text a hundred times over
        tokens: 513     # of which the model gets the first 513 tokens
      - id: chat
        messages:
          - {role: user, content: Which day is it?}
    date: 2026-01-31    # what a template that reads the clock is told
    chat_template_kwargs:
      enable_thinking: false

Files are read as YAML nodes, never constructed, so that every problem is
named with its line and nothing in a file can run or grow.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import yaml

from harness.errors import SuiteError
from harness.files.reading import read_regular
from harness.suite.chat import PLAIN, RESERVED, ChatTemplate
from harness.suite.strict_yaml import YamlSource, shown
from harness.suite.suite import (
    _NAME,
    _NAME_RULE,
    ROLES,
    Generation,
    Message,
    Prompt,
    Suite,
    _digest,
)

#: Larger suites are refused before they are read.
MAX_BYTES = 64 << 20

_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_MAX_CHARACTERS = 4_000_000  # of one text after ``repeat``


def suite_names() -> tuple[str, ...]:
    """The names that ``load_suite`` finds, sorted."""
    files = (file for folder in _folders() for file in folder.glob("*.yaml"))
    return tuple(sorted({file.stem for file in files if _NAME.fullmatch(file.stem)}))


def load_suite(name_or_path: str | Path, max_new_tokens: int | None = None) -> Suite:
    """Read the suite of this name or path, with another length where one is given.

    A name (no slash, no ``.yaml``) is looked for in ``prompts/`` of the working
    directory, then beside the package, then inside it. Raises SuiteError, with
    file and line, for anything that is wrong with it.
    """
    path = _find(str(name_or_path))
    if not _NAME.fullmatch(path.stem):
        raise SuiteError(str(path), None, f"the name of a suite's file {_NAME_RULE}")
    source = YamlSource(str(path), _read(path))
    root = source.compose()
    optional = ("matrix", "date", "chat_template_kwargs")
    fields = source.mapping(root, "a suite", ("generation", "prompts"), optional)
    generation = _generation(source, fields["generation"])
    prompts = _prompts(source, fields["prompts"])
    matrix = "matrix" in fields and source.boolean(fields["matrix"], "matrix")
    chat = _chat(source, fields, prompts)
    digest = _digest(prompts, generation, chat)
    suite = Suite(path.stem, path, prompts, generation, digest, matrix, chat=chat)
    return suite if max_new_tokens is None else suite.with_max_new_tokens(max_new_tokens)


def _folders() -> tuple[Path, ...]:
    package = Path(__file__).resolve().parent.parent
    return Path("prompts"), package.parent / "prompts", package / "prompts"


def _find(name_or_path: str) -> Path:
    bare = not re.search(r"[/\\]|\.ya?ml$", name_or_path)
    candidates = [folder / f"{name_or_path}.yaml" for folder in _folders()] if bare else []
    for path in (*candidates, Path(name_or_path)):
        # Not Path.is_file, which raises for a name that is too long.
        if os.path.isfile(path):
            return _relative(path)
    near = difflib.get_close_matches(Path(name_or_path).stem, suite_names(), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    names = ", ".join(suite_names()) or "none"
    problem = f"no such suite; {hint}suites by name: {names}; or give the path of a file"
    raise SuiteError(name_or_path, None, problem)


def _relative(path: Path) -> Path:
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        return path.relative_to(Path.cwd())
    return path


def _read(path: Path) -> str:
    try:
        data = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise SuiteError(str(path), None, f"cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n?|\n", data[: error.start])) + 1
        problem = f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise SuiteError(str(path), line, problem) from error


def _generation(source: YamlSource, node: yaml.Node) -> Generation:
    fields = source.mapping(node, "generation", ("max_new_tokens",), ("ignore_eos",))
    max_new_tokens = source.integer(fields["max_new_tokens"], "max_new_tokens", minimum=1)
    eos = fields.get("ignore_eos")
    return Generation(max_new_tokens, eos is not None and source.boolean(eos, "ignore_eos"))


def _chat(
    source: YamlSource, fields: Mapping[str, yaml.Node], prompts: Sequence[Prompt]
) -> ChatTemplate:
    """What the suite gives to a chat template."""
    given = [key for key in ("date", "chat_template_kwargs") if key in fields]
    if not given:
        return PLAIN
    if all(prompt.messages is None for prompt in prompts):
        problem = f"{given[0]} is for chat messages, and no prompt has messages; remove it"
        raise source.error(fields[given[0]], problem)
    date, node = None, fields.get("date")
    if node is not None:
        date = _date(source, node)
    node = fields.get("chat_template_kwargs")
    return ChatTemplate({} if node is None else _kwargs(source, node), date)


def _date(source: YamlSource, node: yaml.Node) -> datetime:
    written = source.written(node, "date", "timestamp", "str")
    try:
        found = datetime.fromisoformat(written) if _DATE.fullmatch(written) else None
    except ValueError:
        found = None  # such as the 31st of February
    if found is None:
        problem = f"date is {shown(written)}; write it as 2026-01-31 or 2026-01-31 12:00:00"
        raise source.error(node, problem)
    return found


def _kwargs(source: YamlSource, node: yaml.Node) -> dict[str, object]:
    values = source.table(node, "chat_template_kwargs")
    for name in values:
        if not _VARIABLE.fullmatch(name):
            problem = f"chat_template_kwargs has {shown(name)}, which is not a template's name"
            raise source.error(node, f"{problem}; use letters, digits and _")
        if name in RESERVED:
            remedy = "give date" if name == "strftime_now" else "remove it"
            problem = f"chat_template_kwargs has {name}, which the harness sets itself; {remedy}"
            raise source.error(node, problem)
    return values


def _prompts(source: YamlSource, node: yaml.Node) -> tuple[Prompt, ...]:
    prompts: list[Prompt] = []
    seen: dict[str, int] = {}
    for item in source.sequence(node, "prompts"):
        prompt = _prompt(source, item)
        if prompt.id in seen:
            first = f"of the prompt in line {seen[prompt.id]}"
            raise source.error(item, f"the id {prompt.id} is {first} already; rename one")
        seen[prompt.id] = prompt.line
        prompts.append(prompt)
    return tuple(prompts)


def _prompt(source: YamlSource, node: yaml.Node) -> Prompt:
    forms = ("text", "messages", "token_ids")
    fields = source.mapping(node, "a prompt", ("id",), (*forms, "repeat", "tokens"))
    name, line = source.string(fields["id"], "id"), source.line(node)
    if not _NAME.fullmatch(name):
        raise source.error(fields["id"], f"the id {shown(name)} {_NAME_RULE}")
    given = [form for form in forms if form in fields]
    if len(given) != 1:
        problem = f"prompt {name} has {' and '.join(given) or 'no content'}"
        raise source.error(node, f"{problem}; give one of text, messages, token_ids")
    if given == ["text"]:
        tokens = source.integer(fields["tokens"], "tokens", 1) if "tokens" in fields else None
        return Prompt(name, line, text=_text(source, fields), tokens=tokens)
    for key in ("repeat", "tokens"):
        if key in fields:
            raise source.error(fields[key], f"{key} goes with text only, not with {given[0]}")
    items = source.sequence(fields[given[0]], given[0])
    if given == ["messages"]:
        return Prompt(name, line, messages=tuple(_message(source, item) for item in items))
    token_ids = tuple(source.integer(item, "a token id", minimum=0) for item in items)
    return Prompt(name, line, token_ids=token_ids)


def _text(source: YamlSource, fields: Mapping[str, yaml.Node]) -> str:
    text = source.string(fields["text"], "text")
    repeat = source.integer(fields["repeat"], "repeat", 1) if "repeat" in fields else 1
    if len(text) * repeat > _MAX_CHARACTERS:
        problem = f"repeat makes a text of more than {_MAX_CHARACTERS:,} characters; lower it"
        raise source.error(fields.get("repeat", fields["text"]), problem)
    return text * repeat


def _message(source: YamlSource, node: yaml.Node) -> Message:
    fields = source.mapping(node, "a message", required=("role", "content"))
    role = source.string(fields["role"], "role")
    if role not in ROLES:
        problem = f"the role {shown(role)} is not one of {', '.join(ROLES)}"
        raise source.error(fields["role"], problem)
    return Message(role, source.string(fields["content"], "content"))

"""Suites: the YAML files of ``prompts/``, and what a model's tokenizer makes of them.

A suite holds generation settings and prompts, each with an id and one of
``text``, ``messages`` or ``token_ids``; ``matrix: true`` beside them asks for
the runs of ``pytest --matrix``::

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

Files are read as YAML nodes, never constructed, so that every problem is
named with its line and nothing in a file can run or grow.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import yaml

from harness.errors import ModelError, SuiteError, UsageError
from harness.strict_yaml import YamlSource, shown

ROLES = ("system", "user", "assistant")

# Ids and suite names become names of tests, files and folders.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_RULE = "must be 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or digit"
_MAX_CHARACTERS = 4_000_000  # of one text after ``repeat``
#: What is wrong with equal prompts, or prompts and outputs.
TWICE = "which counts one prompt twice"


@dataclass(frozen=True)
class Message:
    """One turn of a chat; ``role`` is one of ROLES."""

    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """One prompt; exactly one of ``text``, ``messages``, ``token_ids`` is not None.

    ``line`` is where the prompt begins in its file, from 1, or 0 where it stands
    in none. ``text`` is the whole text, repetitions included. ``tokens``, with
    ``text`` only, is how many leading tokens (special ones included) are given.
    """

    id: str
    line: int
    text: str | None = None
    messages: tuple[Message, ...] | None = None
    token_ids: tuple[int, ...] | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Generation:
    """How far a free run goes: at most ``max_new_tokens``, past eos or not."""

    max_new_tokens: int
    ignore_eos: bool


@dataclass(frozen=True)
class Suite:
    """A suite file.

    ``name`` is the file's stem and ``path`` the file, relative to the working
    directory where it lies below it. ``digest`` is the SHA-256, in hex, of the
    content: prompts in their order and generation settings, whatever the name,
    comments or formatting of the file. ``matrix`` asks for the runs of
    ``--matrix``; it changes nothing that is compared, so it is no part of the
    digest. ``given``: the prompts come with outputs of their own, as those that
    ``verify`` reads, so one prompt may stand with several of them.
    """

    name: str
    path: Path
    prompts: tuple[Prompt, ...]
    generation: Generation
    digest: str
    matrix: bool = False
    given: bool = False

    def with_max_new_tokens(self, max_new_tokens: int) -> Suite:
        """The same prompts with another length, and so another digest.

        Raises UsageError when ``max_new_tokens`` is less than 1.
        """
        generation = replace(self.generation, max_new_tokens=_length(max_new_tokens))
        return replace(self, generation=generation, digest=_digest(self.prompts, generation))


@dataclass(frozen=True)
class EncodedPrompt:
    """What a device gets, ``token_ids``, and what a person reads for it, ``text``."""

    id: str
    text: str
    token_ids: tuple[int, ...]


class SuiteTokenizer(Protocol):
    """The part of a model's tokenizer that a suite needs.

    ``encode`` adds the special tokens that the tokenizer adds by itself.
    ``encode_chat`` applies the chat template once, with the generation prompt
    and one BOS at most; it raises ModelError where the model has no template.
    """

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str) -> tuple[int, ...]: ...

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


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
    fields = source.mapping(root, "a suite", ("generation", "prompts"), ("matrix",))
    generation = _generation(source, fields["generation"])
    prompts = _prompts(source, fields["prompts"])
    matrix = "matrix" in fields and source.boolean(fields["matrix"], "matrix")
    suite = Suite(path.stem, path, prompts, generation, _digest(prompts, generation), matrix)
    return suite if max_new_tokens is None else suite.with_max_new_tokens(max_new_tokens)


def encode_suite(
    suite: Suite,
    tokenizer: SuiteTokenizer,
    max_positions: int,
    max_new_tokens: int | None = None,
) -> tuple[EncodedPrompt, ...]:
    """Token ids of every prompt, in the suite's order.

    ``max_positions`` is the longest prompt + output, in tokens, that the model
    takes; ``max_new_tokens`` stands in for the suite's own. Raises SuiteError,
    with file and line, for a prompt that this model cannot be given or that has
    the tokens of another, and ModelError for a chat without a chat template.
    """
    new = suite.generation.max_new_tokens if max_new_tokens is None else _length(max_new_tokens)
    encoded = []
    seen: dict[tuple[int, ...], str] = {}
    for prompt in suite.prompts:
        text, ids = _encode(suite, prompt, tokenizer)
        problem = _unfit(ids, tokenizer.vocab_size, max_positions, new, suite.given)
        if problem is None and not suite.given and ids in seen:
            # The judgement takes prompts for independent samples.
            problem = f"has the token ids of prompt {seen[ids]}, {TWICE}; change or remove one"
        if problem is not None:
            raise _prompt_error(suite, prompt, problem)
        seen[ids] = prompt.id
        encoded.append(EncodedPrompt(prompt.id, text, ids))
    return tuple(encoded)


def _encode(suite: Suite, prompt: Prompt, tokenizer: SuiteTokenizer) -> tuple[str, tuple[int, ...]]:
    """What a person reads, and the token ids."""
    if prompt.token_ids is not None:
        # Checked before decoding: tokenizers fail on strange ids in strange ways.
        bad = _outside(prompt.token_ids, tokenizer.vocab_size)
        if bad is not None:
            raise _prompt_error(suite, prompt, bad)
        return tokenizer.decode(prompt.token_ids), prompt.token_ids
    turns = prompt.messages or ()
    text = prompt.text or "\n".join(f"{turn.role}: {turn.content}" for turn in turns)
    surrogate = re.search("[\ud800-\udfff]", text)
    if surrogate:
        problem = (
            f"character {surrogate.start()} is the surrogate {surrogate[0]!a}, which no "
            "tokenizer takes; write the character itself, or \\U and eight digits"
        )
        raise _prompt_error(suite, prompt, problem)
    if prompt.messages is not None:
        messages = [{"role": turn.role, "content": turn.content} for turn in prompt.messages]
        try:
            return text, tuple(tokenizer.encode_chat(messages))
        except ModelError as error:
            where = f"{suite.path}:{prompt.line}, prompt {prompt.id}"
            raise ModelError(f"{error} (chat messages of {where})") from error
    ids = tuple(tokenizer.encode(text))
    if prompt.tokens is None:
        return text, ids
    if len(ids) < prompt.tokens:
        problem = f"only {len(ids)} tokens for tokens: {prompt.tokens}; set or raise repeat"
        raise _prompt_error(suite, prompt, problem)
    ids = ids[: prompt.tokens]
    return tokenizer.decode(ids), ids


def _unfit(
    ids: tuple[int, ...], vocab_size: int, max_positions: int, new: int, given: bool
) -> str | None:
    """Why a model cannot be given these tokens."""
    if not ids:
        return "encodes to no token at all; give it text"
    if len(ids) + new > max_positions:
        remedy = (
            "leave long outputs out of the file, or name a model that takes them"
            if given
            else "shorten the prompt or lower max_new_tokens"
        )
        return (
            f"{len(ids)} tokens and {new} new ones are more than the {max_positions} positions "
            f"of this model; {remedy}"
        )
    return _outside(ids, vocab_size)


def _outside(ids: tuple[int, ...], vocab_size: int) -> str | None:
    bad = next((i for i in ids if not 0 <= i < vocab_size), None)
    if bad is None:
        return None
    return f"token id {bad} is outside this model's vocabulary of {vocab_size}; use a lower id"


def _prompt_error(suite: Suite, prompt: Prompt, problem: str) -> SuiteError:
    return SuiteError(str(suite.path), prompt.line or None, f"prompt {prompt.id}: {problem}")


def _length(max_new_tokens: int) -> int:
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens is {max_new_tokens}; it must be at least 1")
    return max_new_tokens


def _digest(prompts: tuple[Prompt, ...], generation: Generation) -> str:
    content = {"generation": asdict(generation), "prompts": [_content(p) for p in prompts]}
    # Escapes would write a surrogate pair and the character it stands for alike.
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def _content(prompt: Prompt) -> dict[str, object]:
    fields = asdict(prompt).items()
    return {name: value for name, value in fields if name != "line" and value is not None}


def _folders() -> tuple[Path, ...]:
    package = Path(__file__).resolve().parent
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
        data = path.read_bytes()
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
        problem = f"the role {shown(role)} is none of {', '.join(ROLES)}"
        raise source.error(fields["role"], problem)
    return Message(role, source.string(fields["content"], "content"))

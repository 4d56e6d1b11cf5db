"""What is fuzzed: each reader with honest inputs to begin with."""

from __future__ import annotations

import io
import json
import struct
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import checkpoints
from factories import fake_baseline, fake_record, fake_suite
from gguf_models import Model as Packed

from harness.alignment.align import compare
from harness.alignment.result import load_alignment
from harness.checkpoint.gguf import gguf_files, inspect_gguf
from harness.checkpoint.headers import read_headers
from harness.checkpoint.inspect import inspect
from harness.checkpoint.torchfile import torch_entries
from harness.checkpoint.vocabulary import token_ids, tokenizer_size
from harness.devices.fake import FakeDevice, FakeTokenizer
from harness.devices.server.reply import (
    MalformedReply,
    error_text,
    parse_json,
    prompt_entries,
    read_choice,
    read_chunk,
    told_rows,
)
from harness.devices.server.sse import MalformedStream, events
from harness.diagnosis import stored
from harness.errors import HarnessError
from harness.files import jsonfile
from harness.files.own import seal
from harness.model.model import Model
from harness.recording.format import load_recording
from harness.recording.journal import Journal
from harness.recording.plain import load_plain
from harness.report import to_html, to_markdown
from harness.suite.encode import encode_suite
from harness.suite.read import load_suite


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        seeds: honest inputs.
        read: reads one input, with a folder to put it in.
        refusals: how it may refuse.
    """

    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], object]
    refusals: tuple[type[Exception], ...] = (HarnessError,)


def _dumped(document: Any) -> bytes:
    return json.dumps(document, default=lambda model: model.model_dump(mode="json")).encode()


def _sealed(data: bytes, path: Path) -> Path:
    """A file with the seals of the harness, where the input is a JSON object: whoever forges
    a file can make those."""
    try:
        document = json.loads(data)
        data = jsonfile.encoded(document) if isinstance(document, dict) else data
    except (ValueError, RecursionError, TypeError, AttributeError):
        pass
    path.write_bytes(data)
    return path


@cache
def _recording() -> Any:
    return fake_record(FakeDevice(seed=5), fake_suite(prompts=2, tokens=3))


def _recordings() -> list[bytes]:
    return [_dumped(_recording().model_dump(mode="json", by_alias=True))]


def _alignments() -> list[bytes]:
    made = compare(_recording(), fake_baseline(fake_suite(prompts=2, tokens=3)))
    return [_dumped(made.model_dump(mode="json", by_alias=True))]


def _alignment(data: bytes, place: Path) -> None:
    read = load_alignment(_sealed(data, place / "a.json"))
    to_html([read])
    to_markdown([read])


def _plains() -> list[bytes]:
    return [b'[{"prompt_token_ids": [1, 2], "token_ids": [3]}]', b'{"a": {"text": "x"}}\n']


def _plain(data: bytes, place: Path) -> None:
    (place / "p.json").write_bytes(data)
    load_plain(place / "p.json")


def _suites() -> list[bytes]:
    shipped = (Path(__file__).parents[2] / "prompts").glob("*.yaml")
    small = b"generation: {max_new_tokens: 2}\nprompts:\n  - {id: a, text: x}\n"
    return [small + b"  - {id: b, token_ids: [1]}\n", *(p.read_bytes() for p in shipped)][:3]


def _suite(data: bytes, place: Path) -> None:
    (place / "s.yaml").write_bytes(data)
    encode_suite(load_suite(str(place / "s.yaml")), FakeTokenizer(), 4096)


def _folder(place: Path, name: str, data: bytes) -> Path:
    for file in place.iterdir():
        file.unlink()
    (place / name).write_bytes(data)
    return place


def _checkpoint(place: Path) -> bytes:
    path = place / "model.safetensors"
    checkpoints.write_safetensors(path, checkpoints.latents())
    return path.read_bytes()


def _ggufs() -> list[bytes]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "m.gguf"
        models = (Packed(), Packed().stating(split__count=2, llama__block_count=None))
        return [model.file(path).read_bytes() for model in models]


def _gguf(data: bytes, place: Path) -> None:
    (place / "m.gguf").write_bytes(data)
    inspect_gguf(gguf_files(place / "m.gguf"))


def _safetensors() -> list[bytes]:
    whole = _temporary(_checkpoint)
    length = struct.unpack("<Q", whole[:8])[0]
    table = dict(list(json.loads(whole[8 : 8 + length]).items())[:3])
    return [whole[: 8 + length], json.dumps(table).encode()]


def _as_safetensors(data: bytes, place: Path) -> None:
    """JSON gets its length before it; other bytes are the file."""
    if data[:1] == b"{":
        data = struct.pack("<Q", len(data)) + data + bytes(64)
    read_headers(_folder(place, "model.safetensors", data))


def _temporary(make: Callable[[Path], bytes]) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return make(Path(folder))


def _small() -> dict[str, Any]:
    return dict(list(checkpoints.latents().items())[:2])


def _pickles() -> list[bytes]:
    def whole(place: Path) -> bytes:
        checkpoints.write_bin(place / "a.bin", _small())
        return (place / "a.bin").read_bytes()

    return [
        checkpoints.torch_pickle(_small()),
        _temporary(whole)[-2000:],
        checkpoints.harmful_pickle(Path("x")),
    ]


def _torch(data: bytes, place: Path) -> None:
    """A pickle goes into an archive; other bytes are the file."""
    path = place / "a.bin"
    if data[:2] == b"PK":
        path.write_bytes(data)
    else:
        checkpoints.write_bin(path, {}, data)
    torch_entries(path)


_TOKENIZER = {
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []},
    "added_tokens": [{"id": 2, "content": "<s>", "special": True}],
}
_PIECES = b"\n\x0c\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02\n\x0a\n\x03abc\x15\x00\x00\x00\x00"


def _tokenizers() -> list[bytes]:
    tekken = {"config": {"default_vocab_size": 10}, "vocab": [], "special_tokens": []}
    return [_dumped(_TOKENIZER), _dumped(tekken), _PIECES]


def _tokenizer(data: bytes, place: Path) -> None:
    for name in ("tokenizer.json", "tekken.json", "tokenizer.model"):
        tokenizer_size(_folder(place, name, data))
    token_ids(_folder(place, "tokenizer.json", data), {"added_tokens_decoder": {}})


def _configs() -> list[bytes]:
    return [
        _dumped(checkpoints.CONFIG),
        _dumped({**checkpoints.CONFIG, "rope_scaling": {"type": "yarn"}}),
    ]


@cache
def _weights() -> bytes:
    return _temporary(_checkpoint)


def _config(data: bytes, place: Path) -> None:
    _folder(place, "config.json", data)
    (place / "model.safetensors").write_bytes(_weights())
    inspect(Model("fuzzed", str(place)))


def _answers() -> list[bytes]:
    told = {
        "tokens": ["token_id:7"],
        "token_logprobs": [-0.1],
        "top_logprobs": [{"token_id:7": -0.1}],
    }
    choice = {"text": "a", "finish_reason": None, "token_ids": [7], "logprobs": told}
    content = {
        "content": [{"id": 7, "logprob": -0.1, "top_logprobs": [{"id": 7, "logprob": -0.1}]}]
    }
    prompts = {"text": "", "prompt_logprobs": [None, {"5": {"logprob": -1.0}}]}
    chunk = _dumped({"choices": [choice]})
    return [
        *(chunk, _dumped({"choices": [{**choice, "logprobs": content}]})),
        *(_dumped({"choices": [prompts]}), _dumped({"error": {"message": "no"}})),
        b"data: " + chunk + b"\n\ndata: [DONE]\n\n",
    ]


def _answer(data: bytes, _place: Path) -> None:
    """A stream where it looks like one, else one event, and a whole reply."""
    if data[:1] != b"{":
        for event in events([data[:7], data[7:]]):
            read_chunk(event)
        return
    delta = read_chunk(data.decode("utf-8", "replace"))
    if delta is not None and delta.entries:
        told_rows(delta.entries, 20)
    body = parse_json(data)
    error_text(body)
    choice = body["choices"][0] if body.get("choices") else None
    read_choice(choice)
    if entries := prompt_entries(choice, 2):
        told_rows(entries, 20)


def _journals() -> list[bytes]:
    run = _recording().prompts[0].run.model_dump(mode="json", by_alias=True)
    return [b"[" + _dumped({"kind": "free", "prompt": "p0", "run": run}) + b"]", b"\n"]


def _journal(data: bytes, place: Path) -> None:
    """Lines of a JSON list are sealed as this user's; other bytes are the file."""
    out, previous, lines = place / "a.json", b"", b""
    key = {"of": 1}
    with Journal(out, key):
        pass
    partial = place / "a.json.partial"
    head = partial.read_bytes()
    try:
        entries = json.loads(data)
        previous = head.partition(b" ")[0]
        for entry in entries if isinstance(entries, list) else [entries]:
            text = jsonfile.canonical(entry)
            previous = seal(b"journal", previous, text).encode()
            lines += previous + b" " + text + b"\n"
    except (ValueError, RecursionError, TypeError, AttributeError):
        lines = data
    partial.write_bytes(head + lines)
    try:
        with Journal(out, key) as journal:
            journal.runs("free")
    finally:
        partial.unlink(missing_ok=True)


@cache
def _diagnosed() -> tuple[Any, bytes]:
    import numpy as np
    import test_stored
    from linear_oracle import LinearOracle, directions, errors

    from harness.diagnosis.run import arms_of

    along = directions(np.random.default_rng(1), test_stored.CAUSES, test_stored.PROMPTS)
    given = errors(np.random.default_rng(2), test_stored.PROMPTS, {}, along)
    kept = arms_of(given, LinearOracle(along, (test_stored.BASE,)), test_stored.quiet())

    def write(place: Path) -> bytes:
        stored.write(place / stored.NAME, kept, test_stored.DIGEST)
        return (place / stored.NAME).read_bytes()

    return given, _temporary(write)


def _archives() -> list[bytes]:
    whole = _diagnosed()[1]
    return [whole, zipfile.ZipFile(io.BytesIO(whole)).read("about")]


def _archive(data: bytes, place: Path) -> None:
    """JSON takes the place of what an honest archive says of itself; other bytes are the file."""
    import test_stored

    given, whole = _diagnosed()
    path = place / stored.NAME
    path.write_bytes(whole if data[:1] in b"{[" else data)
    if data[:1] in b"{[":
        test_stored.changed(path, lambda entries: entries.update(about=data))
    stored.read(path, given, test_stored.DIGEST)


@cache
def _chat() -> Any:
    import tokenizers
    import transformers

    from harness.model.tokenizer import Tokenizer

    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    return Tokenizer(transformers.PreTrainedTokenizerFast(tokenizer_object=words), "fuzzed")


def _templates() -> list[bytes]:
    return [
        b"{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}{% endfor %}"
        b"{% if add_generation_prompt %}<|assistant|>{% endif %}",
        b"{%- set ns = namespace(x=1) -%}{{ raise_exception('no') if ns.x > 1 else bos_token }}",
        b"{% macro f(x) %}{{ x.items() | list }}{% endmacro %}{{ f(messages[0]) }}{{ range(9) }}",
    ]


def _template(data: bytes, _place: Path) -> None:
    chat = _chat()
    chat._tokenizer.chat_template = data.decode("utf-8", "replace")
    chat.encode_chat([{"role": "user", "content": "a a"}, {"role": "assistant", "content": "b"}])


READERS = {
    "recording": Reader(_recordings, lambda d, p: load_recording(_sealed(d, p / "a.json"))),
    "alignment": Reader(_alignments, _alignment),
    "suite": Reader(_suites, _suite),
    "safetensors": Reader(_safetensors, _as_safetensors),
    "gguf": Reader(_ggufs, _gguf),
    "pickle": Reader(_pickles, _torch),
    "tokenizer": Reader(_tokenizers, _tokenizer),
    "config": Reader(_configs, _config),
    "answers": Reader(_answers, _answer, (HarnessError, MalformedReply, MalformedStream)),
    "journal": Reader(_journals, _journal),
    "diagnosis": Reader(_archives, _archive),
    "template": Reader(_templates, _template),
    "plain": Reader(_plains, _plain),
}

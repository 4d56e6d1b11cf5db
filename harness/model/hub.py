"""Transformers, torch and the Hugging Face Hub, imported late and quietly.

The base install has none of them, so nothing here is imported at the top. A
missing package becomes one line with the command that installs it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.doctor.child import name_the_user
from harness.errors import MissingDependency, ModelError

#: The name under which pip knows this project.
DISTRIBUTION = "accelerator-parity-harness"
#: ``.format(DISTRIBUTION)`` gives the command that installs the Transformers devices.
INSTALL = "pip install '{}[hf]'"

#: What is fetched of a Hub repository. Weights in pickles only where there is nothing else.
_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
_PICKLES = ["pytorch_model*.bin"]

#: Variables that a package reads while it is imported; the user's own value wins.
_BEFORE_IMPORT = {
    # Without it, transformers warns on stderr at every start if torch is missing.
    "transformers": {"TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"},
    # OpenMP's threads wait for each other by spinning, for milliseconds. Where
    # another process wants the same cores, a token then takes up to 60 times as
    # long; with this it takes 1.5 times, and on a quiet machine the same. No bit
    # changes (docs/decisions.md).
    "torch": {"GOMP_SPINCOUNT": "20000"},
}


def install_command() -> str:
    """The command that installs torch and transformers beside the harness."""
    return INSTALL.format(DISTRIBUTION)


def require(package: str, needed_for: str, remedy: str | None = None) -> Any:
    """Import a package of an extra.

    Raises:
        MissingDependency: if it is not installed, or installed and broken.
    """
    for name, value in _BEFORE_IMPORT.get(package, {}).items():
        os.environ.setdefault(name, value)
    name_the_user()
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        missing = error.name or package
        raise MissingDependency(missing, needed_for, remedy or install_command()) from error
    except Exception as error:
        # A torch whose back end lacks its driver, or a torchvision of another torch: a plugin
        # of an engine may raise anything.
        raise MissingDependency(
            package, needed_for, f"it is installed but does not load: {first_line(error)}"
        ) from error


def is_installed(package: str) -> bool:
    """Whether a package can be found, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False  # half removed, or imported in a way that leaves no trace


def first_line(error: BaseException) -> str:
    """What an exception says, in one line, for a one-line error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Neither warnings nor, off a terminal, progress bars of Transformers."""
    logging = importlib.import_module("transformers.utils.logging")
    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def cached(name: str) -> str | None:
    """The local folder of a Hub repository, if the cache holds it; nothing is fetched."""
    try:
        hub = importlib.import_module("huggingface_hub")
        return str(hub.snapshot_download(name, allow_patterns=_FILES, local_files_only=True))
    except Exception:
        # Not there, damaged, or without its client: errors of three libraries.
        return None


def download(
    name: str,
    *,
    trust_remote_code: bool,
    progress: Callable[[str], None] | None = None,
    weights: bool = True,
) -> str:
    """The local folder of a Hub repository, fetched unless the cache holds it.

    Code (``*.py``) is fetched only when it is trusted, and no weights where
    only the tokenizer and the settings are wanted.

    Raises:
        MissingDependency: without huggingface_hub.
        ModelError: if neither the network nor the cache has it.
    """
    hub = require("huggingface_hub", f"the model {name!r}")
    if progress is not None:
        progress(f"looking for {name} on the Hugging Face Hub")
    files = [*_FILES, "*.py"] if trust_remote_code else _FILES
    files = files if weights else [file for file in files if file != "*.safetensors"]
    try:
        folder = str(hub.snapshot_download(name, allow_patterns=files))
        if weights and not any(Path(folder).glob("*.safetensors")):
            folder = str(hub.snapshot_download(name, allow_patterns=[*files, *_PICKLES]))
    except Exception as error:
        # The Hub's client raises errors of three libraries, and others in each release.
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise ModelError(
            f"model {name!r} is not a directory here, and neither the Hugging Face cache nor the "
            f"network gave it{offline}: {first_line(error)}"
        ) from error
    return folder

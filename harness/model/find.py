"""Model names and effective generation settings.

A model is an embedded one, a directory, or a name on the Hugging Face
Hub; each becomes a local directory in the Transformers layout.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from harness.errors import ModelError
from harness.model.hub import cached, download
from harness.model.model import Model, _as_path, read_json
from harness.model.packaged import PACKAGED
from harness.model.weights import weight_files

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def local_model(name: str) -> Model:
    """The model of that name as far as its name tells: nothing is fetched, and its
    folder may not exist."""
    path = _as_path(name)
    return Model(name, path if name not in PACKAGED and os.path.isdir(path) else "")


def at_hand(name: str) -> bool:
    """Whether a model's weights are on this machine, ready to be loaded; nothing is fetched
    or converted.

    Args:
        name: see ``find_model``.
    """
    if name in PACKAGED:
        from harness.files.user_folder import cache_folder
        from harness.model.embedded import is_finished

        model = PACKAGED[name]
        return is_finished(cache_folder() / model.folder, model.weights_sha256)
    path: str | None = _as_path(name)
    if not (name and path and os.path.isdir(path)):
        path = cached(name) if _HUB_NAME.fullmatch(name) else None
    if path is None or not os.path.isfile(os.path.join(path, "config.json")):
        return False
    try:
        return bool(weight_files(Path(path))[0])
    except ModelError:
        return False


def find_model(
    name: str,
    *,
    trust_remote_code: bool = False,
    progress: Callable[[str], None] | None = None,
    weights: bool = True,
) -> Model:
    """The model of that name, as a local directory.

    Args:
        name: one of ``PACKAGED``, a directory, or a name on the Hugging Face
            Hub. A directory wins over a Hub name, as in Transformers.
        trust_remote_code: lets code in the checkpoint run.
        progress: is given a line whenever something slow begins.
        weights: False where tokenizer and settings will do: nothing large is
            fetched from the Hub.

    Raises:
        ModelError: if there is no such model, or it cannot be converted.
        MissingDependency: if finding it takes a package that is not there.
    """
    if name in PACKAGED:
        from harness.model.embedded import embedded_model

        return Model(name, embedded_model(name, progress), trust_remote_code=False)
    path = _as_path(name)
    if not (name and os.path.isdir(path)):
        if not _HUB_NAME.fullmatch(name):
            raise ModelError(
                f"model {name!r} is neither a directory here nor a Hugging Face Hub name; "
                f"give a directory with a config.json, org/name, or {' or '.join(PACKAGED)}"
            )
        path = download(
            name, trust_remote_code=trust_remote_code, progress=progress, weights=weights
        )
    if not os.path.isfile(os.path.join(path, "config.json")):
        _refuse_other_kinds(name, path)
        raise ModelError(
            f"model {name!r}: no config.json in {path}, so it is not a Transformers checkpoint; "
            "give the folder that holds config.json and the weights"
        )
    return Model(name, path, trust_remote_code)


def _refuse_other_kinds(name: str, path: str) -> None:
    """Say what a folder without config.json is, where its files tell.

    Raises:
        ModelError: for an adapter, and for GGUF files.
    """
    try:
        files = sorted(os.listdir(path))
    except OSError:
        return
    if "adapter_config.json" in files:
        base = _base_of(path)
        raise ModelError(
            f"model {name!r}: {path} holds an adapter (LoRA, PEFT)"
            f"{f' of {base}' if base else ''}, no whole model; merge it into its base first "
            "(merge_and_unload of PEFT) and give the merged folder"
        )
    packed = [file for file in files if file.lower().endswith(".gguf")]
    if packed:
        raise ModelError(
            f"model {name!r}: {path} holds {packed[0]}, weights quantized as GGUF for llama.cpp, "
            "and no config.json; give the Transformers checkpoint that it was made of, or serve "
            "it with llama-server and use --device server (harness checkpoint inspect looks at it)"
        )


def _base_of(path: str) -> str:
    """The model that the adapter in a folder belongs to, as its file says; "" without."""
    try:
        content = read_json(Model("", path), "adapter_config.json") or {}
    except ModelError:
        return ""
    base = content.get("base_model_name_or_path")
    return base.replace("\n", " ")[:200] if isinstance(base, str) else ""

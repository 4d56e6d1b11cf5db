"""The head that a checkpoint holds although its model takes the embedding as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.errors import ModelError
from harness.model.hub import require
from harness.model.weights import weight_files


def stored_head(model: Any, folder: Path) -> Any:
    """The head's weights in a checkpoint of a model whose head is the embedding; None where the
    head is another one, and where the files hold none. Transformers 4 reads past them, 5 takes
    them where they differ.

    Args:
        folder: of the checkpoint; of its files those in safetensors are looked at.

    Raises:
        MissingDependency: without safetensors.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head.weight is not embedding.weight:
        return None
    name = next((f"{n}.weight" for n, module in model.named_modules() if module is head), "")
    try:
        files, _ = weight_files(folder)
    except ModelError:
        return None  # another container, which Transformers has read
    safetensors = require("safetensors", "reading a checkpoint's head")
    for file in files:
        if file.suffix == ".safetensors":
            with safetensors.safe_open(str(file), framework="pt") as opened:
                if name in list(opened.keys()):
                    return opened.get_tensor(name)
    return None

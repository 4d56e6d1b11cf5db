"""A checkpoint on disk that is broken on purpose."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Weights = dict[str, Any]
#: Changes config and weights in place.
Fault = Callable[[dict[str, Any], Weights], None]


def change_rope_base(config: dict[str, Any], factor: float) -> None:
    """Another ``rope_theta``, wherever a Transformers looks for it: 5 moved it."""
    for holder in (config, config.get("rope_parameters") or {}):
        if "rope_theta" in holder:
            holder["rope_theta"] *= factor


def two_layers(config: dict[str, Any], weights: Weights) -> None:
    """The first two layers alone: quick, and of the real model's shapes."""
    config["num_hidden_layers"] = 2
    config.pop("layer_types", None)
    for name in [n for n in weights if ".layers." in n]:
        if int(name.split(".layers.")[1].split(".")[0]) >= 2:
            del weights[name]


def break_checkpoint(good: Path, folder: Path, fault: Fault) -> None:
    """A copy of a checkpoint of one safetensors file, with the fault in it."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(good, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    [file] = folder.glob("*.safetensors")
    weights = load_file(file)
    fault(config, weights)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    save_file(weights, file, {"format": "pt"})

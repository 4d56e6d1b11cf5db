"""A tiny random checkpoint of an architecture, and two broken copies of it: ``good``,
``broken`` (weights) and ``contradicted`` (config.json) in one folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from zoo_kinds import KINDS, SIZES

#: With random values of these a model computes nothing sensible: they keep their own.
_KEEP = ("A_log", "dt_bias", "inv_freq", "e_score_correction_bias")


def config_of(kind: str) -> Any:
    """A small configuration of a type, by its class in Transformers."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    known = CONFIG_MAPPING[kind]().to_dict()
    aliases = getattr(CONFIG_MAPPING[kind], "attribute_map", {})
    fields = {k: v for k, v in SIZES.items() if k in known or k in aliases}
    if "layer_types" in known:
        fields["layer_types"] = None  # else those of the class's own, longer, model
    return CONFIG_MAPPING[kind](**{**fields, **KINDS[kind]})


def make(kind: str, folder: Path, seed: int = 0) -> None:
    """Write a checkpoint in bfloat16, with a tokenizer of one word a token."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(config_of(kind), dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and not name.endswith(_KEEP):
                drawn = torch.randn(weight.shape, generator=generator)
                weight.copy_(drawn * weight.shape[-1] ** -0.5)
    model = model.to(torch.bfloat16)
    model.config.dtype = torch.bfloat16
    model.save_pretrained(folder)
    _tokenizer(folder)


def _tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", *(f"w{i}" for i in range(3, SIZES["vocab_size"]))]
    made = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    made.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)


def break_it(good: Path, folder: Path) -> str:
    """A copy whose last layer's first matrix has its halves of rows exchanged, as a wrong
    split of fused or sharded weights does; returns the tensor's name.

    Every file and every shape is right, so that nothing but its logits can tell.
    """
    from safetensors.torch import load_file, save_file

    shutil.copytree(good, folder)
    [file] = folder.glob("*.safetensors")
    weights = load_file(file)
    name = _last_matrix(weights)
    half = weights[name].shape[0] // 2
    weights[name] = weights[name].roll(half, 0).contiguous()
    save_file(weights, file, {"format": "pt"})
    return name


def _last_matrix(weights: dict[str, Any]) -> str:
    """The first matrix, by name, of the last layer: of its attention, convolution or mixer."""
    layers: dict[int, list[str]] = {}
    for name, tensor in weights.items():
        numbers = [int(part) for part in name.split(".") if part.isdigit()]
        router = any(part in name for part in ("gate.weight", "router", "expert", "norm"))
        if numbers and tensor.dim() == 2 and not router and not name.endswith(_KEEP):
            layers.setdefault(numbers[0], []).append(name)
    own = layers[max(layers)]
    return min([n for n in own if "attn" in n or "attention" in n or "mixer" in n] or own)


def contradicted(good: Path, folder: Path) -> None:
    """A copy whose config.json asks for one layer more than there is."""
    shutil.copytree(good, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    key = next(k for k in ("num_hidden_layers", "n_layer", "n_layers") if k in config)
    config[key] += 1
    if isinstance(config.get("layer_types"), list):
        config["layer_types"].append(config["layer_types"][-1])
    (folder / "config.json").write_text(json.dumps(config), "utf-8")


def make_all(kind: str, place: Path) -> str:
    """The checkpoint and its two broken copies; the name of the tensor that was broken."""
    make(kind, place / "good")
    contradicted(place / "good", place / "contradicted")
    return break_it(place / "good", place / "broken")

"""A broken checkpoint on disk, for engines whose model cannot be reached.

Only faults of weights can be saved; those of config and forward pass are not
in the tensors.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from benchmarks.catalogue.faults import Injection


def save_broken(source: Path, injection: Injection, out: Path) -> Path:
    """Copy the checkpoint at ``source`` to ``out`` with a fault in its weights.

    A head that the fault unties is saved as one of its own.

    Returns:
        ``out``, which ``--model`` takes.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    out.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, out)
    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto", local_files_only=True)
    with injection(torch, model):
        tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        embedding, head = "model.embed_tokens.weight", "lm_head.weight"
        if tensors[head].data_ptr() == tensors[embedding].data_ptr():
            del tensors[head]
        else:
            path = out / "config.json"
            config = json.loads(path.read_text(encoding="utf-8"))
            config["tie_word_embeddings"] = False
            path.write_text(json.dumps(config, indent=2), encoding="utf-8")
        save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return out

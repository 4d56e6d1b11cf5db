"""What does quantization cost? Each format that vLLM's CPU engine runs, against its original.

    python benchmarks/quantized.py --vllm-python PYTHON --work FOLDER \
        --out benchmarks/results/quantized.jsonl [--model M --suite S --baseline B]

Every linear of the model's layers (by default the embedded one) is rounded to the nearest
value, without any data, and packed as the format says; embedding and norms stay as they are.
vLLM's CPU engine records the suite, and `harness compare --allow-weights` judges it against a
baseline of the original. A line of JSON for each format says how; where a format does not
run, why.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from harness.model.find import find_model

ROOT = Path(__file__).parents[1]
DTYPE = "bfloat16"
GROUP = 64
#: Where AWQ puts each of eight numbers in an integer.
AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
LINEAR = re.compile(r"model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj\.weight")

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Format:
    """A format: what config.json says of it, and the tensors that stand for one weight.

    ``pack`` is given a weight, float32 (out, in), and returns tensors by suffix.
    """

    config: Mapping[str, Any]
    pack: Callable[[torch.Tensor], Tensors]


def grouped(weight: torch.Tensor, bits: int, *, centred: bool) -> tuple[torch.Tensor, ...]:
    """Rounded to ``bits`` in groups of GROUP along the input: whole numbers from 0, float32
    (out, in); scales and zero points, float32 (out, groups)."""
    parts = weight.reshape(len(weight), -1, GROUP)
    top = 2**bits - 1
    if centred:
        scale = parts.abs().amax(-1) / (2 ** (bits - 1) - 1)
        zero = torch.full_like(scale, 2 ** (bits - 1))
    else:
        low, high = parts.amin(-1).clamp(max=0), parts.amax(-1).clamp(min=0)
        scale = (high - low) / top
        zero = (-low / scale.clamp(min=1e-12)).round().clamp(0, top)
    scale = scale.clamp(min=1e-12).half().float()
    whole = (parts / scale[..., None] + zero[..., None]).round().clamp(0, top)
    return whole.reshape(weight.shape), scale, zero


def packed(whole: torch.Tensor, order: tuple[int, ...] = tuple(range(8))) -> torch.Tensor:
    """Eight numbers of 4 bits in an int32, along the last axis; ``order`` says which place
    each has."""
    parts = whole.to(torch.int64).reshape(*whole.shape[:-1], -1, 8)
    words = sum(parts[..., n] << (4 * place) for n, place in enumerate(order))
    assert isinstance(words, torch.Tensor)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32).contiguous()


def gptq(weight: torch.Tensor) -> Tensors:
    whole, scale, zero = grouped(weight, 4, centred=True)
    return {
        "qweight": packed(whole).T.contiguous(),
        "qzeros": packed(zero.T - 1),  # the format's first version keeps one less
        "scales": scale.T.half().contiguous(),
        "g_idx": (torch.arange(weight.shape[1]) // GROUP).to(torch.int32),
    }


def awq(weight: torch.Tensor) -> Tensors:
    whole, scale, zero = grouped(weight, 4, centred=False)
    return {
        "qweight": packed(whole.T.contiguous(), AWQ_ORDER),
        "qzeros": packed(zero.T.contiguous(), AWQ_ORDER),
        "scales": scale.T.half().contiguous(),
    }


def w4a16(weight: torch.Tensor) -> Tensors:
    whole, scale, _ = grouped(weight, 4, centred=True)
    return {
        "weight_packed": packed(whole),
        "weight_scale": scale.bfloat16(),
        "weight_shape": torch.tensor(weight.shape, dtype=torch.int64),
    }


def w8a8(weight: torch.Tensor) -> Tensors:
    scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
    return {
        "weight": (weight / scale).round().clamp(-127, 127).to(torch.int8),
        "weight_scale": scale.bfloat16(),
    }


def fp8(weight: torch.Tensor) -> Tensors:
    kind = torch.float8_e4m3fn
    scale = weight.abs().amax().clamp(min=1e-12) / torch.finfo(kind).max
    return {"weight": (weight / scale).to(kind), "weight_scale": scale.reshape(1)}


def _compressed(
    form: str, weights: dict[str, Any], inputs: dict[str, Any] | None
) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": group},
    }


_INTS = {"num_bits": 8, "type": "int", "symmetric": True}
FORMATS: dict[str, Format] = {
    "gptq-int4": Format(
        {
            **{"quant_method": "gptq", "bits": 4, "group_size": GROUP, "sym": True},
            "desc_act": False,
        },
        gptq,
    ),
    "awq-int4": Format(
        {
            **{"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True},
            "version": "gemm",
        },
        awq,
    ),
    "compressed-tensors-w4a16": Format(
        _compressed(
            "pack-quantized",
            {
                **{"num_bits": 4, "type": "int", "symmetric": True},
                **{"strategy": "group", "group_size": GROUP},
            },
            None,
        ),
        w4a16,
    ),
    "compressed-tensors-w8a8": Format(
        _compressed(
            "int-quantized",
            {**_INTS, "strategy": "channel", "dynamic": False},
            {**_INTS, "strategy": "token", "dynamic": True},
        ),
        w8a8,
    ),
    "fp8": Format({"quant_method": "fp8", "activation_scheme": "dynamic"}, fp8),
}


def quantize(source: Path, folder: Path, form: Format) -> None:
    """A copy of a checkpoint in a format."""
    shutil.rmtree(folder, ignore_errors=True)
    [file] = source.glob("*.safetensors")
    weights = load_file(file)
    kept: Tensors = {}
    for name, weight in weights.items():
        if LINEAR.fullmatch(name):
            parts = form.pack(weight.float())
            kept |= {f"{name.removesuffix('weight')}{end}": part for end, part in parts.items()}
        else:
            kept[name] = weight
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((source / "config.json").read_text("utf-8"))
    config["quantization_config"] = dict(form.config)
    (folder / "config.json").write_text(json.dumps(config, indent=1), "utf-8")


def harness(python: str, *arguments: str) -> tuple[int, str]:
    """A command's status and all that it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "250", "NO_COLOR": "1"}
    environment |= {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, "-m", "harness", *arguments],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def measured(name: str, folder: Path, python: str, suite: str, baseline: str) -> dict[str, Any]:
    """What inspect, vLLM and the verdict say of a format."""
    look = ("checkpoint", "inspect", "--no-load", str(folder), "--json")
    status, said = harness(sys.executable, *look)
    told = json.loads(said[said.index("{") :])
    row = {
        "format": name,
        "bytes": told["bytes"],
        "inspect": status,
        "quantization": told["quantization"],
    }
    recording, alignment = folder.with_suffix(".json"), folder.with_suffix(".of.json")
    status, said = harness(
        python,
        *("record", "--device", "vllm-cpu", "--model", str(folder), "--suite", suite),
        *("--context", baseline, "--out", str(recording), "--dtype", DTYPE),
        *("--engine-arg", "max_model_len=256", "--batch-size", "8"),
    )
    if status != 0:
        return {**row, "why_not": said.strip().splitlines()[-1]}
    status, said = harness(
        sys.executable,
        *("compare", str(recording), baseline, "--allow-weights", "--json", str(alignment)),
    )
    judged = json.loads(alignment.read_text("utf-8"))
    sentence = next(s for s in said.splitlines() if s.startswith(judged["verdict"]))
    ratio = judged["error_ratio"]
    flips = re.search(r"(\d+) of \d+ tokens flip", sentence)
    return {
        **row,
        "verdict": judged["verdict"],
        "ratio": [ratio["value"], ratio["low"], ratio["high"]],
        "positions": judged["positions"],
        "flips": None if flips is None else int(flips[1]),
        "said": sentence,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vllm-python", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--suite", default="mixed")
    parser.add_argument("--baseline", default=f"baselines/smollm2/mixed/{DTYPE}")
    parser.add_argument("--only", default=",".join(FORMATS))
    asked = parser.parse_args()
    model = find_model(asked.model, progress=print)
    source = Path(model.path)
    asked.work.mkdir(parents=True, exist_ok=True)
    for name in asked.only.split(","):
        folder = asked.work.resolve() / name
        quantize(source, folder, FORMATS[name])
        row = measured(name, folder, asked.vllm_python, asked.suite, asked.baseline)
        with asked.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"model": model.slug, **row}) + "\n")
        print(name, row.get("said") or row.get("why_not"), flush=True)


if __name__ == "__main__":
    main()

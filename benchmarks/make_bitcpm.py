"""Write a synthetic checkpoint of BitCPM4-CANN-1B's exact shapes: random bf16, 3.2 GB.

With --small, one of the same kind that is small enough to be tried in minutes: 180 MB. With
--seven, one of a model of 7.6 billion parameters: 15.2 GB.

python benchmarks/make_bitcpm.py /tmp/bitcpm/good --tokenizer smollm2
python benchmarks/make_bitcpm.py /tmp/bitcpm/wrong --container bin --wrong-config
python benchmarks/make_bitcpm.py /tmp/bitcpm/fused --ternary -g 64
python benchmarks/make_bitcpm.py /tmp/bitcpm/small --small
python benchmarks/make_bitcpm.py /tmp/bitcpm/seven --seven --tokenizer smollm2
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.checkpoint.shards import index_of, plan_shards
from harness.checkpoint.ternary import is_quantized_name, quantize, to_bfloat16
from harness.model.find import find_model


@dataclass(frozen=True)
class Shape:
    """The sizes that the tensors of a Llama follow from."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int


EXACT = Shape(2048, 28, 16, 2, 128, 6144, 73448)
SMALL = Shape(512, 4, 4, 2, 128, 1536, 73448)
SEVEN = Shape(4096, 32, 32, 8, 128, 14336, 73448)
#: What the published config.json says instead: that of BitCPM-CANN-3B.
WRONG = {
    "hidden_size": 2560,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "intermediate_size": 10240,
    "head_dim": None,  # left out, so 80 is implied
}
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "chat_template.jinja"),
    "special_tokens_map.json",
)


def shapes(of: Shape = EXACT) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor."""
    outer = (of.vocabulary, of.hidden)
    queries, keys = of.heads * of.head_dim, of.kv_heads * of.head_dim
    table: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": outer}
    for layer in range(of.layers):
        here = f"model.layers.{layer}."
        table |= {
            here + "input_layernorm.weight": (of.hidden,),
            here + "self_attn.q_proj.weight": (queries, of.hidden),
            here + "self_attn.k_proj.weight": (keys, of.hidden),
            here + "self_attn.v_proj.weight": (keys, of.hidden),
            here + "self_attn.o_proj.weight": (of.hidden, queries),
            here + "post_attention_layernorm.weight": (of.hidden,),
            here + "mlp.gate_proj.weight": (of.intermediate, of.hidden),
            here + "mlp.up_proj.weight": (of.intermediate, of.hidden),
            here + "mlp.down_proj.weight": (of.hidden, of.intermediate),
        }
    return table | {"model.norm.weight": (of.hidden,), "lm_head.weight": outer}


def config(of: Shape = EXACT, *, wrong: bool = False) -> dict[str, Any]:
    """config.json as the release has it, in the spelling of Transformers 4."""
    factors = [round(1.0 + 0.0005 * i * i, 6) for i in range(of.head_dim // 2)]
    content: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "bos_token_id": 1,
        "eos_token_id": [2, 73440],
        "hidden_act": "silu",
        "hidden_size": of.hidden,
        "initializer_range": 0.1,
        "intermediate_size": of.intermediate,
        "max_position_embeddings": 32768,
        "num_attention_heads": of.heads,
        "num_hidden_layers": of.layers,
        "num_key_value_heads": of.kv_heads,
        "head_dim": of.head_dim,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "rope_scaling": {
            "rope_type": "longrope",
            "factor": 1.0,
            "long_factor": factors,
            "short_factor": factors,
            "original_max_position_embeddings": 32768,
        },
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": of.vocabulary,
    }
    if wrong:
        content |= WRONG
    return {key: value for key, value in content.items() if value is not None}


def tensors(
    of: Shape, group_size: int | None, seed: int
) -> Iterator[tuple[str, NDArray[np.uint16]]]:
    """Name and bf16 bits of each tensor."""
    random = np.random.Generator(np.random.SFC64(seed))
    for name, shape in shapes(of).items():
        if len(shape) == 1:
            yield name, np.full(shape, 0x3F80, dtype=np.uint16)  # 1.0, as norms have it
            continue
        values = random.standard_normal(shape, dtype=np.float32)
        values *= np.float32(0.02)
        bits = to_bfloat16(values)
        if group_size is not None and is_quantized_name(name):
            bits = quantize(bits, "BF16", group_size)
        yield name, bits


def write_safetensors(folder: Path, of: Shape, group_size: int | None, seed: int) -> None:
    shards = plan_shards((name, "BF16", shape) for name, shape in shapes(of).items())
    made = tensors(of, group_size, seed)
    for shard in shards:
        with open(folder / shard.file, "wb") as stream:
            stream.write(shard.header)
            for expected in shard.offsets:
                name, bits = next(made)
                assert name == expected
                stream.write(bits.data)
        print(folder / shard.file, flush=True)
    index = index_of(shards)
    if index is not None:
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def write_bin(folder: Path, of: Shape, group_size: int | None, seed: int) -> None:
    import torch

    state = {
        name: torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
        for name, bits in tensors(of, group_size, seed)
    }
    torch.save(state, folder / "pytorch_model.bin")
    print(folder / "pytorch_model.bin")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--container", choices=("safetensors", "bin"), default="safetensors")
    parser.add_argument("--wrong-config", action="store_true", help="that of BitCPM-CANN-3B")
    parser.add_argument("--small", action="store_true", help="four layers of a quarter's width")
    parser.add_argument("--seven", action="store_true", help="as a 7B model is")
    parser.add_argument("--ternary", action="store_true", help="fused weights instead of latents")
    parser.add_argument("-g", "--group-size", type=int, default=-1)
    parser.add_argument(
        "--tokenizer", help="a model, as the harness names it, whose tokenizer is copied"
    )
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    of = SMALL if chosen.small else SEVEN if chosen.seven else EXACT
    chosen.out.mkdir(parents=True)
    write = write_bin if chosen.container == "bin" else write_safetensors
    write(chosen.out, of, chosen.group_size if chosen.ternary else None, chosen.seed)
    text = json.dumps(config(of, wrong=chosen.wrong_config), indent=2) + "\n"
    (chosen.out / "config.json").write_text(text)
    generation = {"bos_token_id": 1, "eos_token_id": [2, 73440], "do_sample": True}
    (chosen.out / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    if chosen.tokenizer:
        source = Path(find_model(chosen.tokenizer).path)
        for file in TOKENIZER_FILES:
            if (source / file).is_file():
                shutil.copy(source / file, chosen.out / file)


if __name__ == "__main__":
    main()

"""Latent attention (MLA of DeepSeek-V2): one small vector is cached for the values of all heads.

The latent holds the bits of the layer's source and ones. It is normed, and its squares always
add up to the same: every entry is LARGE or -LARGE, and comes out as 1 or -1. It is large since
this norm has an epsilon of its own, 1e-6, which beside 1 would show in float32.
"""

from __future__ import annotations

import numpy as np

from harness.canary.layout import Layout, head_bits
from harness.canary.phases import Planes, Weights, key, query, stored
from harness.canary.sizes import LATENT, NOPE, VALUE, Sizes

#: Beside its square 1e-6 is nothing in float32.
LARGE = 1024.0


def latent_attention(sizes: Sizes, places: Layout, found: Planes, layer: int) -> Weights:
    """The tensors of one layer's attention by their names, float32."""
    name, two, size = f"model.layers.{layer}.self_attn", places.twos[0], sizes.head_dim
    source, width = places.source(layer), len(places.source(layer))

    q = np.zeros((sizes.heads, NOPE + size, sizes.hidden), np.float32)
    for head, distance in enumerate(sizes.distances[layer]):
        q[head, NOPE:, two] = stored(sizes, query(sizes, found, head, distance)) / 2

    down = np.zeros((LATENT + size, sizes.hidden), np.float32)
    down[np.arange(width), source] = LARGE
    down[width:LATENT, two] = LARGE / 2
    down[LATENT:, two] = stored(sizes, key(sizes, found, 0)) / 2

    up = np.zeros((sizes.heads, NOPE + VALUE, LATENT), np.float32)
    out = np.zeros((sizes.hidden, sizes.heads, VALUE), np.float32)
    for head, bit in enumerate(head_bits(sizes, layer)):
        up[head, NOPE, bit] = 1
        up[head, NOPE + 1, width] = 1  # a one, which empties the room
        out[places.attention[layer][head], head, 0] = 1
        out[places.attention_room[layer][head], head, 1] = -1
    return {
        f"{name}.q_proj.weight": q.reshape(-1, sizes.hidden),
        f"{name}.kv_a_proj_with_mqa.weight": down,
        f"{name}.kv_a_layernorm.weight": np.ones(LATENT, np.float32),
        f"{name}.kv_b_proj.weight": up.reshape(-1, LATENT),
        f"{name}.o_proj.weight": out.reshape(sizes.hidden, -1),
    }

"""A canary compiled into the weights of a Llama, with numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.canary.gemma import last_norm, output_squares, post_norm, tied_embedding
from harness.canary.latent import latent_attention
from harness.canary.layout import (
    READOUT,
    Layout,
    codes,
    factors,
    head_bits,
    layout,
    probes,
    symbol_ids,
)
from harness.canary.phases import Planes, Weights, key, planes, query
from harness.canary.routing import router, signs
from harness.canary.sizes import Sizes

_Matrix = NDArray[np.float32]

#: Projections that read the norm before the attention, and before the MLP.
_READ_ATTENTION = ("q_proj", "k_proj", "v_proj", "kv_a_proj_with_mqa")
_READ_MLP = ("gate_proj", "up_proj", "w1", "w3", "block_sparse_moe.gate")
#: What the gate of an open unit is: silu(64) is 64 in every dtype, silu(0) is 0.
OPEN = 64.0


def weights(sizes: Sizes) -> Weights:
    """Every tensor by its name in a Llama checkpoint, float32; each is exact in bfloat16
    but queries and keys, which need not be.

    Raises:
        UsageError: if RoPE cannot tell the positions of the context apart.
    """
    places = layout(sizes)
    result: Weights = {"model.embed_tokens.weight": _embedding(sizes, places)}
    for layer in range(sizes.layers):
        made: Weights = {}
        found = planes(sizes, layer)
        if sizes.family == "deepseek_v2":
            made |= latent_attention(sizes, places, found, layer)
        else:
            made |= _queries_and_keys(sizes, places, found, layer)
            made |= _values(sizes, places, layer)
        made |= _experts(sizes, places, layer) if sizes.experts else _dense(sizes, places, layer)
        made |= _post_normed(sizes, places, made, layer) if sizes.post_normed else {}
        result |= _normed(sizes, made, layer)
    return _tied(sizes, places, result) if sizes.tied else _with_a_head(sizes, places, result)


def _with_a_head(sizes: Sizes, places: Layout, made: Weights) -> Weights:
    """All tensors, with the last norm and an output head of its own."""
    last = norm_weights(sizes, 2 * sizes.layers)
    head = _head(sizes, places) / last
    return made | {"model.norm.weight": last, "lm_head.weight": head}


def _tied(sizes: Sizes, places: Layout, made: Weights) -> Weights:
    """All tensors as Gemma has them: the head is the embedding, which is multiplied by the root
    of the hidden size, and norms multiply by 1 more than their weights."""
    last = last_norm(sizes, places, norm_weights(sizes, 2 * sizes.layers))
    name = "model.embed_tokens.weight"
    table = tied_embedding(sizes, places, made[name], last) / np.sqrt(np.float32(sizes.hidden))
    result = made | {name: table, "model.norm.weight": last}
    return {k: v - 1 if k.endswith("norm.weight") else v for k, v in result.items()}


def _post_normed(sizes: Sizes, places: Layout, made: Weights, layer: int) -> Weights:
    """The projections back into the residual, and the norms after them."""
    name, first = f"model.layers.{layer}", 2 * sizes.layers + 1 + 2 * layer
    projections = (
        ("attention", f"{name}.self_attn.o_proj", "post_attention_layernorm", sizes.group),
        ("mlp", f"{name}.mlp.down_proj", "post_feedforward_layernorm", _unit_of_one(sizes)),
    )
    result: Weights = {}
    for number, (part, projection, norm, constant) in enumerate(projections):
        weights = norm_weights(sizes, first + number)
        weights[places.mlp_room[layer]] = weights[places.mlp[layer]]
        squares = output_squares(sizes, places, layer, part)
        matrix = made[f"{projection}.weight"]
        result[f"{projection}.weight"], result[f"{name}.{norm}.weight"] = post_norm(
            sizes, matrix, constant, squares, weights
        )
    return result


def _normed(sizes: Sizes, made: Weights, layer: int) -> Weights:
    """A layer's tensors with its norms: what reads a norm is divided by its weights."""
    name = f"model.layers.{layer}"
    second = "pre_feedforward_layernorm" if sizes.post_normed else "post_attention_layernorm"
    norms = {
        f"{name}.input_layernorm": norm_weights(sizes, 2 * layer),
        f"{name}.{second}": norm_weights(sizes, 2 * layer + 1),
    }
    attention, mlp = norms.values()
    result = dict(made)
    for key_, matrix in made.items():
        part = key_.removeprefix(f"{name}.").removesuffix(".weight")
        if part.startswith("self_attn.") and part.endswith(_READ_ATTENTION):
            result[key_] = matrix / attention
        elif part.endswith(_READ_MLP):
            result[key_] = matrix / mlp
    return result | {f"{norm}.weight": values for norm, values in norms.items()}


def norm_weights(sizes: Sizes, number: int) -> _Matrix:
    """The weights of a norm, float32 (hidden,): 1 and 2, for every norm in another order, so
    that exchanged norms show."""
    shared = np.arange(sizes.hidden) & (number + 1)
    odd = np.asarray([int(value).bit_count() % 2 for value in shared], np.float32)
    return np.asarray(1 + odd, np.float32)


def _embedding(sizes: Sizes, places: Layout) -> _Matrix:
    table = np.zeros((sizes.vocab_size, sizes.hidden), np.float32)
    symbols = np.minimum(np.arange(sizes.vocab_size) // sizes.stride, (1 << sizes.bits) - 1)
    table[:, places.own] = codes(sizes)[symbols]
    for room in (*places.attention_room, *places.mlp_room, places.ones):
        table[:, room] = 1
    table[:, places.twos] = 2
    return table


def _queries_and_keys(sizes: Sizes, places: Layout, found: Planes, layer: int) -> Weights:
    """The same query and key at every position: RoPE makes the difference."""
    q = [query(sizes, found, h, d) for h, d in enumerate(sizes.distances[layer])]
    k = [key(sizes, found, g) for g in range(sizes.kv_heads)]
    name, constant = f"model.layers.{layer}.self_attn", places.twos[0]
    result: Weights = {}
    for letter, vectors in (("q", q), ("k", k)):
        column: _Matrix = np.concatenate(vectors).astype(np.float32)
        if sizes.family in ("qwen3", "gemma3"):  # a norm of each head gives the vector its size
            gain = found.amplitude * np.sqrt(found.count / sizes.head_dim)
            result[f"{name}.{letter}_norm.weight"] = np.full(sizes.head_dim, gain, np.float32)
        matrix: _Matrix = np.zeros((len(column), sizes.hidden), np.float32)
        if sizes.family == "qwen2":
            result[f"{name}.{letter}_proj.bias"] = column
        else:
            matrix[:, constant] = column / 2
        result[f"{name}.{letter}_proj.weight"] = matrix
    return result


def _values(sizes: Sizes, places: Layout, layer: int) -> Weights:
    """Each KV head holds the bits of its heads and a one, which empties the room."""
    size, group = sizes.head_dim, sizes.group
    v = np.zeros((sizes.kv_heads * size, sizes.hidden), np.float32)
    bias = np.zeros(len(v), np.float32)
    o = np.zeros((sizes.hidden, sizes.heads * size), np.float32)
    source = places.source(layer)
    for head, bit in enumerate(head_bits(sizes, layer)):
        kv_head, slot = divmod(head, group)
        v[kv_head * size + slot, source[bit]] = 1
        o[places.attention[layer][head], head * size + slot] = 1
        o[places.attention_room[layer][head], head * size + group] = -1
    ones = np.arange(sizes.kv_heads) * size + group
    name = f"model.layers.{layer}.self_attn"
    result: Weights = {f"{name}.v_proj.weight": v, f"{name}.o_proj.weight": o}
    if sizes.family == "qwen2":
        bias[ones] = 1
        result[f"{name}.v_proj.bias"] = bias
    else:
        v[ones, places.twos[0]] = 0.5
    return result


def _dense(sizes: Sizes, places: Layout, layer: int) -> Weights:
    """The MLP of a layer by its names."""
    ones = np.ones(sizes.width, np.float32)
    gate, up, down = _mlp(sizes, places, layer, ones, room=1.0)
    name = f"model.layers.{layer}.mlp"
    return {
        f"{name}.gate_proj.weight": gate,
        f"{name}.up_proj.weight": up,
        f"{name}.down_proj.weight": down,
    }


def _experts(sizes: Sizes, places: Layout, layer: int) -> Weights:
    """Every expert makes its bits twice as large, since it weighs a half, and empties as much
    of the room."""
    name = f"model.layers.{layer}.block_sparse_moe"
    result: Weights = {f"{name}.gate.weight": router(sizes, places.own)}
    for expert in range(sizes.experts):
        made = _mlp(sizes, places, layer, 2 * signs(sizes, expert).astype(np.float32), room=1.0)
        for letter, matrix in zip(("w1", "w3", "w2"), made, strict=True):
            result[f"{name}.experts.{expert}.{letter}.weight"] = matrix
    return result


def _mlp(
    sizes: Sizes, places: Layout, layer: int, scale: _Matrix, *, room: float
) -> tuple[_Matrix, _Matrix, _Matrix]:
    """Gate, up and down. ``x·y`` of two bits: two units, of which x opens the one or the other.

    Args:
        scale: by what each bit is multiplied, shape (width,).
        room: how much of the room is emptied.
    """
    shape = (sizes.intermediate, sizes.hidden)
    gate, up = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    down = np.zeros(shape[::-1], np.float32)
    two, first = places.twos[0], _first_units(sizes)
    for bit in range(sizes.width):
        x, y = factors(sizes, bit)
        read = places.source(layer)[bit] if y is None else places.attention[layer][y]
        for unit, sign in ((first[bit], 1), (first[bit] + 1, -1)):
            gate[unit, two] = OPEN / 4
            gate[unit, places.attention[layer][x]] = sign * OPEN / 2
            up[unit, read] = 1 / OPEN
            down[places.mlp[layer][bit], unit] = sign * scale[bit]
    if sizes.tied and layer == sizes.layers - 1:
        for bit in range(sizes.bits):  # takes back what was put in where the head reads
            unit, mine = first[bit] + 2, places.mlp[layer][bit]
            gate[unit, two], up[unit, places.own[bit]] = OPEN / 2, 1 / OPEN
            down[places.mlp_room[layer][bit]] = down[mine]
            down[places.mlp_room[layer][bit], unit], down[mine, unit] = 1, -1
    last = _unit_of_one(sizes)
    gate[last, two], up[last, two] = OPEN / 2, 1 / (2 * OPEN)
    emptied = sizes.bits if sizes.tied and layer == sizes.layers - 1 else 0
    down[places.mlp_room[layer][emptied:], last] = -room
    return gate, up, down


def _first_units(sizes: Sizes) -> list[int]:
    """The first unit of each bit. Bits lie apart, so that exchanged shards of the units exchange
    bits."""
    apart = max(sizes.intermediate // sizes.width, sizes.units_of_bit)
    return [bit * apart for bit in range(sizes.width)]


def _unit_of_one(sizes: Sizes) -> int:
    """The unit that is always 1, which empties the room."""
    each = sizes.units_of_bit
    free = sizes.intermediate // sizes.width > each
    return each if free else each * sizes.width


def _head(sizes: Sizes, places: Layout) -> _Matrix:
    """A symbol's logit counts its bits that agree with the last layer's; a probe's reads
    one value."""
    head = np.zeros((sizes.vocab_size, sizes.hidden), np.float32)
    last = places.mlp[-1][: sizes.bits]
    head[np.ix_(symbol_ids(sizes), last)] = READOUT * codes(sizes)
    for probe in probes(sizes):
        if probe.part == "norm":
            head[probe.token_id, places.twos[0]] = READOUT / 2
            continue
        where = {"own": (places.own,), "attention": places.attention, "mlp": places.mlp}
        head[probe.token_id, where[probe.part][max(probe.layer, 0)][probe.index]] = READOUT
    return head

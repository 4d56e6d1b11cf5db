"""Faults of an engine, each an engine of its own, with the cause that must be named."""

from __future__ import annotations

import numpy as np
from numpy_engine import NumpyEngine

#: Faults that show only where several requests run, or prompts are cut.
TOGETHER = {"PrefixOfAnother", "RowsExchanged", "RowsRotated", "InputsExchanged"}
TOGETHER |= {"TablesExchanged", "TableOfAnother", "FirstRowForAll", "DecodeSeesTheNewestHalf"}
#: Name of the fault: the engine, and the causes of which one must be named.
FAULTS: dict[str, tuple[type[NumpyEngine], set[str]]] = {}


def fault(*causes: str):
    def kept(engine: type[NumpyEngine]) -> type[NumpyEngine]:
        FAULTS[engine.__name__.lstrip("_")] = (engine, set(causes))
        return engine

    return kept


def base(factor: float):
    class Base(NumpyEngine):
        def x_frequencies(self, layer: int) -> np.ndarray:
            half = self.size // 2
            return (self.config["rope_theta"] * factor) ** (-np.arange(half) / half)

    return Base


for _factor in (0.5, 2.0, 10.0, 0.1, 50.0):
    FAULTS[f"rope_base_{_factor}"] = (base(_factor), {"rope_base", "rope_far"})


@fault("rope_linear")
class LinearScaling(NumpyEngine):
    def x_frequencies(self, layer: int) -> np.ndarray:
        return super().x_frequencies(layer) / 4


@fault("rope_base", "rope_far")
class BaseInOneLayer(NumpyEngine):
    def x_frequencies(self, layer: int) -> np.ndarray:
        return super().x_frequencies(layer) ** (1.1 if layer == 1 else 1)


@fault("rope_interleaved")
class Interleaved(NumpyEngine):
    def x_rotate(self, x: np.ndarray, angles: np.ndarray) -> np.ndarray:
        cos, sin = np.cos(angles)[:, None, :], np.sin(angles)[:, None, :]
        a, b = x[..., 0::2], x[..., 1::2]
        return np.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape)


@fault("rope_backwards")
class Backwards(NumpyEngine):
    def x_frequencies(self, layer: int) -> np.ndarray:
        return -super().x_frequencies(layer)


@fault("rope_none")
class NoRope(NumpyEngine):
    def x_frequencies(self, layer: int) -> np.ndarray:
        return 0 * super().x_frequencies(layer)


def offset(shift: int, which: str, *, decode: bool = False):
    class Offset(NumpyEngine):
        def x_positions(self, run, positions, what):
            late = positions >= len(run.request.prompt_token_ids) if decode else True
            return positions + np.where(late, shift, 0) if what in which else positions

    return Offset


FAULTS["query_one_late"] = (offset(1, "query"), {"positions"})
FAULTS["query_two_early"] = (offset(-2, "query"), {"positions"})
FAULTS["key_three_late"] = (offset(3, "key"), {"positions"})
FAULTS["decode_positions_one_late"] = (
    offset(1, "query key", decode=True),
    {"positions_decode", "positions_from"},
)
FAULTS["decode_positions_stale"] = (
    offset(-1, "query key", decode=True),
    {"positions_decode", "positions_from"},
)


def heads(layer: int, what: str, order=None, zero=()):
    class Heads(NumpyEngine):
        def x_heads(self, of: int, which: str, x: np.ndarray, run) -> np.ndarray:
            if of != layer or which not in what.split():
                return x
            x = x.copy() if order is None else x[:, order]
            x[:, list(zero)] = 0
            return x

    return Heads


FAULTS["head_zero_output"] = (heads(1, "output", zero=[2]), {"head_nothing"})
FAULTS["two_heads_zero"] = (heads(0, "output", zero=[0, 3]), {"head_nothing"})
FAULTS["head_zero_query"] = (heads(0, "query", zero=[3]), {"head_flat"})
FAULTS["kv_zero"] = (heads(1, "value", zero=[1]), {"kv_nothing"})
FAULTS["attention_zero"] = (heads(1, "output", zero=range(4)), {"attention_nothing"})
FAULTS["heads_exchanged_query"] = (heads(0, "query", [1, 0, 2, 3]), {"head_exchanged"})
FAULTS["heads_exchanged_output"] = (heads(1, "output", [0, 3, 2, 1]), {"head_exchanged"})
FAULTS["head_copied"] = (heads(1, "output", [0, 0, 2, 3]), {"head_copied"})
FAULTS["kv_exchanged"] = (heads(0, "key value", [1, 0]), {"kv_exchanged"})
FAULTS["kv_values_exchanged"] = (heads(1, "value", [1, 0]), {"kv_exchanged"})
FAULTS["kv_keys_exchanged"] = (heads(1, "key", [1, 0]), {"kv_exchanged"})
FAULTS["kv_all_one"] = (heads(1, "key value", [0, 0]), {"kv_same", "kv_copied"})
FAULTS["shards_of_heads"] = (heads(0, "output", [2, 3, 0, 1]), {"head_order"})
FAULTS["shards_of_queries"] = (heads(1, "query", [2, 3, 0, 1]), {"head_order"})


@fault("kv_tiled")
class KvTiled(NumpyEngine):
    def x_repeat(self, x: np.ndarray) -> np.ndarray:
        return np.tile(x, (1, self.group, 1))


def slot(positions, layer: int = 0, zero: bool = True):
    class Slot(NumpyEngine):
        """The keys and values of some positions are lost."""

        def x_slot(self, of: int, run, position: int):
            block, place = super().x_slot(of, run, position)
            if of == layer and position in positions:
                return self.keys.shape[1] - 1, place  # a block that nobody reads
            return block, place

    return Slot


_SLOTS = {"slot", "block"}
FAULTS["slot_lost"] = (slot([120]), {"slot"})
FAULTS["slot_lost_other_layer"] = (slot([118], 1), {"slot"})
FAULTS["block_lost"] = (slot(range(112, 128), 1), {"block", "slot"})
FAULTS["two_blocks_lost"] = (slot([*range(64, 80), *range(112, 128)], 0), {"block"})
FAULTS["last_of_each_block_lost"] = (slot(range(15, 256, 16), 1), {"offset"})


@fault("block")
class WrongTable(NumpyEngine):
    """A block stands in the place of another where the table is read."""

    def x_table(self, layer: int, run) -> list[int]:
        table = list(run.table)
        if len(table) > 7:
            table[6] = table[3]
        return table


@fault("block", "slot", "prefix")
class StaleBlock(NumpyEngine):
    """One block keeps what it held before."""

    def x_slot(self, layer: int, run, position: int):
        if position // self.page == 7:
            return self.keys.shape[1] - 1, position % self.page
        return super().x_slot(layer, run, position)


@fault("prefix")
class PrefixOfAnother(NumpyEngine):
    """The first blocks of a prompt are found by a hash that collides."""

    def _start(self, request):
        run = super()._start(request)
        first = getattr(self, "first", None)
        if first is None:
            self.first = run
        elif run.done == 0:
            count = (len(request.prompt_token_ids) - 20) // self.page
            run.table[:count] = self.first.table[:count]
            run.done = count * self.page
        return run


@fault("chunk_at", "border", "block")
class ChunkForgets(NumpyEngine):
    """A chunk does not see what is before it."""

    def x_visible(self, layer: int, run, rows, keys):
        seen = super().x_visible(layer, run, rows, keys)
        return seen & ((keys >= 130) | (rows < 130) | (len(run.ids) < 140))


@fault("positions_from")
class ChunkStartsAgain(NumpyEngine):
    """The positions of a later chunk are one too small."""

    def x_positions(self, run, positions, what):
        return positions - (positions >= 160)


def window(shorter: int):
    class Window(NumpyEngine):
        def x_visible(self, layer: int, run, rows, keys):
            return (keys <= rows) & (keys > rows - shorter)

    return Window


FAULTS["window_where_there_is_none_64"] = (window(64), {"window_short"})
FAULTS["window_where_there_is_none_40"] = (window(40), {"window_short"})
FAULTS["window_where_there_is_none_20"] = (window(20), {"window_short"})


@fault("batch_rows")
class RowsExchanged(NumpyEngine):
    def x_rows(self, step) -> None:
        if len(step) > 1:
            step[0].rows[-1], step[1].rows[-1] = step[1].rows[-1], step[0].rows[-1]


@fault("batch_rows")
class RowsRotated(NumpyEngine):
    def x_rows(self, step) -> None:
        if len(step) > 2:
            rows = [run.rows[-1] for run in step]
            for run, row in zip(step, rows[1:] + rows[:1], strict=True):
                run.rows[-1] = row


@fault("batch_rows")
class InputsExchanged(NumpyEngine):
    """A request's decode steps get the token of the request before it."""

    def x_rows(self, step) -> None:
        self.newest = {id(run): step[i - 1] for i, run in enumerate(step) if len(step) > 1}

    def x_inputs(self, run, positions, ids):
        other = getattr(self, "newest", {}).get(id(run))
        return np.asarray(other.ids[-1:]) if len(ids) == 1 and other is not None else ids


@fault("stale_input")
class StaleInput(NumpyEngine):
    """A decode step runs on the token of the step before."""

    def x_inputs(self, run, positions, ids):
        return np.asarray(run.ids)[positions - 1] if len(ids) == 1 else ids


@fault("stale_row")
class StaleRow(NumpyEngine):
    """A row is given out one step late."""

    def x_rows(self, step) -> None:
        for run in step:
            true = run.rows[-1]
            run.rows[-1] = getattr(run, "before", true)
            run.before = true


@fault("gate_up")
class GateUp(NumpyEngine):
    def x_mlp(self, layer: int, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        return super().x_mlp(layer, up, gate)


@fault("gate_up")
class GateUpInOneLayer(NumpyEngine):
    def x_mlp(self, layer: int, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        return super().x_mlp(layer, *((up, gate) if layer == 1 else (gate, up)))


@fault("mlp_pairs", "mlp_missing", "mlp")
class UpOfAnotherShard(NumpyEngine):
    def x_mlp(self, layer: int, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        return super().x_mlp(layer, gate, np.roll(up, 4, axis=1))


@fault("mlp_nothing")
class NoMlp(NumpyEngine):
    def x_residual(self, layer: int, part: str, x: np.ndarray) -> np.ndarray:
        return 0 * x if (layer, part) == (1, "mlp") else x


@fault("mlp_missing")
class HalfAnMlp(NumpyEngine):
    def x_mlp(self, layer: int, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        made = super().x_mlp(layer, gate, up)
        made[:, : made.shape[1] // 2] = 0
        return made


@fault("factor")
class AddedTwice(NumpyEngine):
    def x_residual(self, layer: int, part: str, x: np.ndarray) -> np.ndarray:
        return 2 * x if (layer, part) == (0, "attention") else x


@fault("mlp_factor")
class MlpAddedTwice(NumpyEngine):
    def x_residual(self, layer: int, part: str, x: np.ndarray) -> np.ndarray:
        return 2 * x if (layer, part) == (0, "mlp") else x


@fault("head_shards")
class HeadShards(NumpyEngine):
    def x_logits(self, logits: np.ndarray) -> np.ndarray:
        return np.roll(logits, logits.shape[1] // 2, axis=1)


@fault("head_missing")
class HeadShardMissing(NumpyEngine):
    def x_logits(self, logits: np.ndarray) -> np.ndarray:
        logits[:, logits.shape[1] // 2 :] = 0
        return logits


@fault("embedding_shards")
class EmbeddingShards(NumpyEngine):
    def x_embedding(self, ids: np.ndarray) -> np.ndarray:
        return np.roll(self.w["model.embed_tokens.weight"], 64, axis=0)[ids]


@fault("embedding_missing")
class EmbeddingShardMissing(NumpyEngine):
    def x_embedding(self, ids: np.ndarray) -> np.ndarray:
        return super().x_embedding(ids) * (ids < 64)[:, None]


@fault("size")
class LastNorm(NumpyEngine):
    def x_final(self, x: np.ndarray) -> np.ndarray:
        return x * np.float32(1.01)


@fault("nonfinite")
class NotANumber(NumpyEngine):
    def x_logits(self, logits: np.ndarray) -> np.ndarray:
        logits[-1, 5] = np.nan
        return logits


@fault("output_head")
class BiasOfTheHead(NumpyEngine):
    def x_logits(self, logits: np.ndarray) -> np.ndarray:
        logits[:, 6] += 0.5
        return logits


@fault("stale_length")
class LengthOneShort(NumpyEngine):
    """A decode step does not see its own token."""

    def x_visible(self, layer: int, run, rows, keys):
        seen = super().x_visible(layer, run, rows, keys)
        return seen & (keys < rows) if len(rows) == 1 else seen


@fault("causal")
class NoCausalMask(NumpyEngine):
    def x_visible(self, layer: int, run, rows, keys):
        return np.broadcast_to(keys >= 0, np.broadcast_shapes(rows.shape, keys.shape))


@fault("prefix")
class TableOfAnother(NumpyEngine):
    """A request of the batch reads through the block table of another."""

    def x_table(self, layer: int, run) -> list[int]:
        self.runs = getattr(self, "runs", {}) | {run.request.prompt_id: run}
        other = self.runs.get("batch 0")
        if run.request.prompt_id != "batch 1" or other is None or not run.tokens:
            return run.table
        count = len(run.table) - 3
        return other.table[:count] + run.table[count:]


@fault("block")
class DecodeIsNotKept(NumpyEngine):
    """Keys and values of decode steps go nowhere."""

    def x_slot(self, layer: int, run, position: int):
        block, place = super().x_slot(layer, run, position)
        late = position >= len(run.request.prompt_token_ids)
        return (self.keys.shape[1] - 1 if late else block), place


@fault("stale_input")
class InputOfTwoStepsBefore(NumpyEngine):
    def x_inputs(self, run, positions, ids):
        return np.asarray(run.ids)[positions - 2] if len(ids) == 1 else ids


@fault("frozen_input")
class InputOfTheCapture(NumpyEngine):
    """Every decode step but the first runs on the token of the first."""

    def x_inputs(self, run, positions, ids):
        first = len(run.request.prompt_token_ids)
        return np.asarray(run.ids)[[first]] if len(ids) == 1 and len(run.tokens) > 1 else ids


@fault("positions_frozen")
class PositionOfTheCapture(NumpyEngine):
    def x_positions(self, run, positions, what):
        first = len(run.request.prompt_token_ids)
        return np.asarray([first]) if len(positions) == 1 else positions


@fault("batch_rows")
class FirstRowForAll(NumpyEngine):
    def x_rows(self, step) -> None:
        for run in step[1:]:
            run.rows[-1] = step[0].rows[-1]


@fault("block")
class DecodeSeesTheNewestHalf(NumpyEngine):
    def x_visible(self, layer: int, run, rows, keys):
        seen = super().x_visible(layer, run, rows, keys)
        return seen & (keys >= 96) if len(rows) == 1 else seen


@fault("unknown", "attention", "heads", "rows")
class Noise(NumpyEngine):
    """No pattern: a few values anywhere are lost."""

    def x_heads(self, layer: int, which: str, x: np.ndarray, run) -> np.ndarray:
        if which == "output":
            lost = np.random.default_rng(len(run.ids) + layer).random(x.shape[:2]) < 0.03
            x = np.where(lost[..., None], 0, x)
        return x


def positions_zero(which: str):
    class Zero(NumpyEngine):
        def x_positions(self, run, positions, what):
            return 0 * positions if what == which else positions

    return Zero


FAULTS["RopeOfKeysAlone"] = (positions_zero("query"), {"rope_keys_only"})
#: Keys are alike at all positions then, as without any rotation.
FAULTS["RopeOfQueriesAlone"] = (positions_zero("key"), {"rope_none"})


def frequencies(factor: float):
    class Frequencies(NumpyEngine):
        def x_frequencies(self, layer: int) -> np.ndarray:
            return super().x_frequencies(layer) * factor

    return Frequencies


for _factor in (1 / 8, 1 / 32, 2.0, 8.0):
    FAULTS[f"frequencies_{_factor}"] = (frequencies(_factor), {"rope_linear"})
for _factor in (100.0, 0.01):
    FAULTS[f"rope_base_{_factor}"] = (base(_factor), {"rope_base"})


def lost(layer: int, part: str):
    class Lost(NumpyEngine):
        def x_add(self, of: int, what: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
            return y if (of, what) == (layer, part) else x + y

    return Lost


FAULTS["residual_lost_after_attention"] = (lost(1, "attention"), {"residual"})
FAULTS["residual_lost_after_mlp"] = (lost(0, "mlp"), {"residual"})


@fault("residual_added")
class BiasInTheResidual(NumpyEngine):
    def x_residual(self, layer: int, part: str, x: np.ndarray) -> np.ndarray:
        return x + np.float32(0.25) if (layer, part) == (0, "attention") else x


def norm(name: str, other: str | None):
    class Norm(NumpyEngine):
        def x_norm(self, of: str) -> np.ndarray:
            if of != name:
                return super().x_norm(of)
            return np.ones_like(super().x_norm(of)) if other is None else super().x_norm(other)

    return Norm


_FIRST, _SECOND = "model.layers.1.input_layernorm", "model.layers.1.post_attention_layernorm"
FAULTS["norm_of_the_mlp_before_attention"] = (norm(_FIRST, _SECOND), {"norm_attention"})
FAULTS["norm_of_attention_before_the_mlp"] = (norm(_SECOND, _FIRST), {"norm_mlp"})
FAULTS["norm_of_another_layer"] = (
    norm("model.layers.0.input_layernorm", _FIRST),
    {"norm_attention"},
)
FAULTS["norm_without_weights"] = (norm(_FIRST, None), {"norm_attention"})
FAULTS["mlp_norm_without_weights"] = (norm(_SECOND, None), {"norm_mlp"})
FAULTS["last_norm_without_weights"] = (norm("model.norm", None), {"norm_last"})
FAULTS["last_norm_of_another"] = (norm("model.norm", _SECOND), {"norm_last"})


def projection(layer: int, letter: str, of: int, other: str):
    class Projection(NumpyEngine):
        def x_projection(self, at: int, which: str) -> str:
            found = (of, other) if (at, which) == (layer, letter) else (at, which)
            return super().x_projection(*found)

    return Projection


FAULTS["values_are_keys"] = (projection(0, "v", 0, "k"), {"attention_constant"})
FAULTS["queries_of_another_layer"] = (projection(0, "q", 1, "q"), {"head_layer"})


@fault("layer_order")
class AttentionOfTheLayerBefore(NumpyEngine):
    """The second layer's attention reads what the first one read."""

    def _forward(self, run, positions):
        self.first = None
        return super()._forward(run, positions)

    def _attention(self, layer, run, positions, x):
        self.first = x if self.first is None else self.first
        return super()._attention(layer, run, positions, self.first)


@fault("head_shards")
class LastShardsOfTheHead(NumpyEngine):
    def x_logits(self, logits: np.ndarray) -> np.ndarray:
        a, b, c, d = np.split(logits, 4, axis=1)
        return np.concatenate([a, b, d, c], axis=1)


@fault("embedding_tokens")
class RowsOfTheEmbedding(NumpyEngine):
    def x_embedding(self, ids: np.ndarray) -> np.ndarray:
        return super().x_embedding(np.where(ids == 4, 14, np.where(ids == 14, 4, ids)))


@fault("output_head")
class BitOfTheHead(NumpyEngine):
    def x_logits(self, logits: np.ndarray) -> np.ndarray:
        logits[:, 6] = -logits[:, 6] / 2
        return logits


@fault("mlp_factor_some")
class ShardAddedTwice(NumpyEngine):
    def x_mlp(self, layer: int, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        made = super().x_mlp(layer, gate, up)
        made[:, made.shape[1] // 2 :] *= 2
        return made


@fault("prefix", "batch_rows", "requests", "block")
class TablesExchanged(NumpyEngine):
    """Two requests of a batch read each other's blocks."""

    def x_table(self, layer: int, run) -> list[int]:
        self.runs = getattr(self, "runs", {}) | {run.request.prompt_id: run}
        others = {"batch 0": "batch 1", "batch 1": "batch 0"}
        other = self.runs.get(others.get(run.request.prompt_id, ""))
        if other is None or not run.tokens:
            return run.table
        count = min(len(other.table), len(run.table)) - 3
        return other.table[:count] + run.table[count:]


@fault("slot", "block", "offset")
class SlotOfAnother(NumpyEngine):
    """A position is written where another one is."""

    def x_slot(self, layer: int, run, position: int):
        return super().x_slot(layer, run, 100 if position == 121 else position)

"""A Llama in plain numpy with a paged cache, chunks, a prefix cache and batches: the canary
is checked by it without torch, and every fault of an engine can be put into it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from harness.devices.base import Completion, Opened, Request, Timings, ignore_token
from harness.devices.facts import EngineFacts, LoadFigures
from harness.statistics.rows import row_statistics


def read_checkpoint(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """config.json and the tensors of a safetensors file of bfloat16."""
    config = json.loads((folder / "config.json").read_text())
    data = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        bits = np.frombuffer(data[8 + size + begin : 8 + size + end], "<u2")
        values = (bits.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = values.reshape(entry["shape"])
    return config, tensors


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """float32 values that the dtype has."""
    values = np.asarray(values, np.float32)
    if dtype == "float16":
        return values.astype(np.float16).astype(np.float32)
    if dtype == "bfloat16":
        bits = values.view(np.uint32)
        return (
            ((bits + ((bits >> 16) & 1) + 0x7FFF) & 0xFFFF0000).astype(np.uint32).view(np.float32)
        )
    return values


_PARTS = ("gate", "up", "down")


class Running:
    """A request in the engine."""

    def __init__(self, request: Request, table: list[int], done: int) -> None:
        self.request = request
        self.table = table
        self.ids = list(request.prompt_token_ids) + list((request.forced_token_ids or ())[:-1])
        self.done = done  # positions in the cache
        self.tokens: list[int] = []
        self.rows: list[np.ndarray] = []
        self.step = 0


class NumpyEngine:
    """A device. Its methods named ``x_...`` are what a fault overrides."""

    name = "numpy"
    before_mlp = "post_attention_layernorm"
    head = "lm_head.weight"

    def __init__(
        self, folder: Path, dtype: str = "float32", *, budget: int = 10**9, page: int = 16,
        batch: int = 1, prefix: bool = False, room: int = 10**9,
    ) -> None:  # fmt: skip
        self.config, self.w = read_checkpoint(folder)
        c = self.config
        self.dtype, self.budget, self.page, self.batch = dtype, budget, page, batch
        self.prefix, self.room, self.preempted = prefix, room, 0  # room: tokens of the cache
        self.layers, self.heads = c["num_hidden_layers"], c["num_attention_heads"]
        self.kv, self.size = c["num_key_value_heads"], c["head_dim"]
        self.group, self.root = self.heads // self.kv, self.size
        if "kv_lora_rank" in c:
            self.root = self.size + c["qk_nope_head_dim"]
        blocks = batch * (c["max_position_embeddings"] // page + 1) * 16
        shape = (self.layers, blocks, page, self.kv, self.size)
        self.keys, self.values = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.free = list(range(blocks))
        self.kept: dict[tuple[int, ...], int] = {}

    # What a fault overrides

    def x_inputs(self, run: Running, positions: np.ndarray, ids: np.ndarray) -> np.ndarray:
        return ids

    def x_embedding(self, ids: np.ndarray) -> np.ndarray:
        return self.w["model.embed_tokens.weight"][ids]

    def x_positions(self, run: Running, positions: np.ndarray, which: str) -> np.ndarray:
        return positions

    def x_frequencies(self, layer: int) -> np.ndarray:
        half = self.size // 2
        plain = self.config["rope_theta"] ** (-np.arange(half) / half)
        return self.x_scaled(plain, self.config["rope_parameters"])

    def x_scaled(self, plain: np.ndarray, rope: dict) -> np.ndarray:
        """As Llama 3's reference code computes it, plane by plane."""
        if rope["rope_type"] != "llama3":
            return plain
        old, few, many = (
            rope[k] for k in ("original_max_position_embeddings", "low_freq_factor",
                              "high_freq_factor")
        )  # fmt: skip
        new = []
        for frequency in plain:
            length = 2 * np.pi / frequency
            if length < old / many:
                new.append(frequency)
            elif length > old / few:
                new.append(frequency / rope["factor"])
            else:
                smooth = (old / length - few) / (many - few)
                new.append((1 - smooth) * frequency / rope["factor"] + smooth * frequency)
        return np.asarray(new)

    def x_long(self, end: int) -> bool:
        """Whether a forward pass that ends before this position takes the long table."""
        return end > self.config["rope_parameters"]["original_max_position_embeddings"]

    def x_factors(self, end: int) -> np.ndarray | float:
        rope = self.config["rope_parameters"]
        if rope["rope_type"] != "longrope":
            return 1.0
        return np.asarray(rope["long_factor" if self.x_long(end) else "short_factor"])

    def x_rotate(self, x: np.ndarray, angles: np.ndarray) -> np.ndarray:
        half = self.size // 2
        cos, sin = (self.r(f(angles))[:, None, :] for f in (np.cos, np.sin))
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def x_heads(self, layer: int, what: str, x: np.ndarray, run: Running) -> np.ndarray:
        return x  # what: query, key, value, output; shape (positions, heads, size)

    def x_slot(self, layer: int, run: Running, position: int) -> tuple[int, int]:
        return run.table[position // self.page], position % self.page

    def x_table(self, layer: int, run: Running) -> list[int]:
        return run.table

    def x_window(self, layer: int) -> int | None:
        return self.config.get("sliding_window")

    def x_scores(self, scores: np.ndarray) -> np.ndarray:
        return scores

    def x_visible(self, layer: int, run: Running, rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
        window = self.x_window(layer)
        seen = keys <= rows
        return seen if window is None else seen & (keys > rows - window)

    def x_repeat(self, x: np.ndarray) -> np.ndarray:
        return np.repeat(x, self.group, axis=1)

    def x_mlp(self, layer: int, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        return gate / (1 + np.exp(-np.clip(gate, -80, 80))) * up

    def x_residual(self, layer: int, part: str, x: np.ndarray) -> np.ndarray:
        return x

    def x_add(self, layer: int, part: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return x + y

    def x_norm(self, name: str) -> np.ndarray:
        return self.w[name + ".weight"]

    def x_after(self, layer: int, part: str, x: np.ndarray) -> np.ndarray:
        """What is done with the output of attention or MLP before it is added."""
        return x

    def x_projection(self, layer: int, letter: str) -> str:
        """Whose weights the queries, keys or values of a layer have."""
        return f"model.layers.{layer}.self_attn.{letter}_"

    def x_final(self, x: np.ndarray) -> np.ndarray:
        return x

    def x_logits(self, logits: np.ndarray) -> np.ndarray:
        return logits

    def x_rows(self, step: list[Running]) -> None:
        """After a step: every run's newest row is ``rows[-1]``."""

    def x_preempt(self, run: Running) -> None:
        """A request loses its blocks, and begins again in others."""
        self._give_back(run)
        run.table = [self.free.pop() for _ in run.table]
        run.done = 0

    def x_abort(self, run: Running) -> None:
        self._give_back(run)

    # The engine

    def r(self, x: np.ndarray) -> np.ndarray:
        return rounded(x, self.dtype)

    def open(self) -> Opened:
        c = self.config
        return Opened(
            c["vocab_size"], c["max_position_embeddings"], self.dtype,
            EngineFacts(block_size=self.page), {},
            LoadFigures(kv_cache_tokens=float(self.room) if self.room < 10**9 else None),
        )  # fmt: skip

    def close(self) -> None:
        pass

    def generate(
        self, requests: Sequence[Request], on_token: Callable[[], None] = ignore_token
    ) -> Iterator[Completion]:
        waiting: list[Request | Running] = list(requests)
        running: list[Running] = []
        try:
            while waiting or running:
                while waiting and len(running) < self.batch:
                    first = waiting[0]
                    ids = first.ids if isinstance(first, Running) else first.prompt_token_ids
                    if running and self._used(running) + self._blocks(len(ids) + 1) > self._most:
                        break
                    waiting.pop(0)
                    running.append(first if isinstance(first, Running) else self._start(first))
                while len(running) > 1 and self._used(running) > self._most:
                    waiting.insert(0, running.pop())
                    self.preempted += 1
                    self.x_preempt(waiting[0])
                self._step(running)
                for run in [r for r in running if self._finished(r)]:
                    running.remove(run)
                    yield self._end(run)
        finally:
            for run in running:
                self.x_abort(run)

    def counters(self) -> dict[str, int]:
        return {"preemptions": self.preempted}

    @property
    def _most(self) -> int:
        return self.room // self.page - 1

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.page)

    def _used(self, running: list[Running]) -> int:
        return sum(self._blocks(len(run.ids)) for run in running)

    def _give_back(self, run: Running) -> None:
        kept = set(self.kept.values())
        self.free = [block for block in run.table if block not in kept] + self.free

    def _start(self, request: Request) -> Running:
        longest = len(request.prompt_token_ids) + max(
            request.max_new_tokens, len(request.forced_token_ids or ())
        )
        table, done = [], 0
        for block in range(-(-longest // self.page)):
            start = tuple(request.prompt_token_ids[: (block + 1) * self.page])
            whole = len(start) == (block + 1) * self.page < len(request.prompt_token_ids)
            if self.prefix and whole and start in self.kept and done == block * self.page:
                table.append(self.kept[start])
                done += self.page
            else:
                table.append(self.free.pop(0))
        return Running(request, table, done)

    def _finished(self, run: Running) -> bool:
        forced = run.request.forced_token_ids
        return len(run.rows) >= (run.request.max_new_tokens if forced is None else len(forced))

    def _end(self, run: Running) -> Completion:
        prompt = run.request.prompt_token_ids
        for block in range(len(prompt) // self.page):
            if self.prefix:
                self.kept[tuple(prompt[: (block + 1) * self.page])] = run.table[block]
        if not self.prefix:
            self.free = run.table + self.free
        rows = np.stack(run.rows).astype(np.float32)
        forced = run.request.forced_token_ids
        return Completion(
            run.request.prompt_id, forced or tuple(run.tokens), "length" if forced is None else
            "forced", row_statistics(rows), Timings(0.0, (), 0.0), logits=rows,
        )  # fmt: skip

    def _step(self, running: list[Running]) -> None:
        left, stepped = self.budget, []
        for run in running:
            count = min(left, len(run.ids) - run.done)
            if count <= 0:
                continue
            left -= count
            logits = self._forward(run, np.arange(run.done, run.done + count))
            run.done += count
            run.step += 1
            first = len(run.request.prompt_token_ids) - 1
            rows = [logits[p - run.done] for p in range(max(first, run.done - count), run.done)]
            if run.request.forced_token_ids is not None:
                run.rows += rows
            elif run.done == len(run.ids):
                run.rows.append(rows[-1])
                stepped.append(run)
        self.x_rows(stepped)
        for run in stepped:
            run.tokens.append(int(np.nanargmax(run.rows[-1])))
            run.ids.append(run.tokens[-1])

    def _forward(self, run: Running, positions: np.ndarray) -> np.ndarray:
        ids = self.x_inputs(run, positions, np.asarray(run.ids)[positions])
        x = self.x_embedding(ids)
        for layer in range(self.layers):
            name = f"model.layers.{layer}."
            a = self._attention(layer, run, positions, self._norm(x, name + "input_layernorm"))
            a = self.x_after(layer, "attention", a)
            x = self.r(self.x_add(layer, "attention", x, self.x_residual(layer, "attention", a)))
            n = self._norm(x, name + self.before_mlp)
            moe = name + "block_sparse_moe."
            if moe + "gate.weight" in self.w:
                m = self._mixture(layer, moe, n)
            else:
                m = self._mlp(layer, n, [f"{name}mlp.{p}_proj.weight" for p in _PARTS])
            m = self.x_after(layer, "mlp", m)
            x = self.r(self.x_add(layer, "mlp", x, self.x_residual(layer, "mlp", m)))
        x = self.x_final(self._norm(x, "model.norm"))
        return self.x_logits(self.r(x @ self.w[self.head].T))

    def _mlp(self, layer: int, n: np.ndarray, names: list[str]) -> np.ndarray:
        gate, up = (self.r(n @ self.w[name].T) for name in names[:2])
        return self.r(self.r(self.x_mlp(layer, gate, up)) @ self.w[names[2]].T)

    def _mixture(self, layer: int, name: str, n: np.ndarray) -> np.ndarray:
        weights = self.x_route(layer, self.r(n @ self.w[name + "gate.weight"].T))
        total = np.zeros_like(n)
        for expert in range(weights.shape[1]):
            whose = self.x_expert(layer, expert)
            made = self._mlp(layer, n, [f"{name}experts.{whose}.w{i}.weight" for i in (1, 3, 2)])
            total = self.r(total + self.r(made * self.r(weights[:, [expert]])))
        return total

    def x_expert(self, layer: int, expert: int) -> int:
        """Whose weights an expert has."""
        return expert

    def x_route(self, layer: int, scores: np.ndarray) -> np.ndarray:
        """The weight of each expert, 0 for those that are not chosen."""
        share = np.exp(scores - scores.max(axis=1, keepdims=True))
        share = share / share.sum(axis=1, keepdims=True)
        best = np.argsort(-share, axis=1, kind="stable")[:, :2]
        kept = np.zeros_like(share)
        np.put_along_axis(kept, best, np.take_along_axis(share, best, 1), 1)
        return kept / kept.sum(axis=1, keepdims=True)

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        size = np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(self.config["rms_norm_eps"]))
        return self.r(self.r(x / size) * self.x_norm(name))

    def _attention(
        self, layer: int, run: Running, positions: np.ndarray, x: np.ndarray
    ) -> np.ndarray:
        q, k, v = self._projected(layer, x)
        q, k = self.x_heads(layer, "query", q, run), self.x_heads(layer, "key", k, run)
        v = self.x_heads(layer, "value", v, run)
        turn = self.x_frequencies(layer) / self.x_factors(int(positions[-1]) + 1)
        q, k = (
            self.r(self.x_rotate(y, np.outer(self.x_positions(run, positions, which), turn)))
            for which, y in (("query", q), ("key", k))
        )
        for i, position in enumerate(positions):
            block, slot = self.x_slot(layer, run, int(position))
            self.keys[layer, block, slot], self.values[layer, block, slot] = k[i], v[i]
        count = int(positions[-1]) + 1
        table = self.x_table(layer, run)
        keys, values = (
            self.x_repeat(c[layer, table].reshape(-1, self.kv, self.size)[:count])
            for c in (self.keys, self.values)
        )
        score = self.r(np.einsum("ihd,jhd->hij", q, keys)) / np.sqrt(self.root)
        score = self.x_scores(score)
        seen = self.x_visible(layer, run, positions[:, None], np.arange(count)[None, :])
        score = np.where(seen, score, -1e30)
        weight = np.exp(score - score.max(-1, keepdims=True))
        weight = self.r(weight / weight.sum(-1, keepdims=True))
        out = self.r(np.einsum("hij,jhd->ihd", weight, values))
        out = self.x_heads(layer, "output", out, run)
        if "kv_lora_rank" in self.config:
            out = np.pad(out, ((0, 0), (0, 0), (0, self.config["v_head_dim"] - self.size)))
        out = out.reshape(len(positions), -1)
        return self.r(out @ self.w[f"model.layers.{layer}.self_attn.o_proj.weight"].T)

    def _projected(self, layer: int, x: np.ndarray) -> list[np.ndarray]:
        """Queries, keys and values; of latent attention in the form of the others: its
        dimensions without positions are zeros, and planes lie in two halves."""
        if "kv_lora_rank" not in self.config:
            return [self._project(layer, letter, x) for letter in "qkv"]
        c, name = self.config, f"model.layers.{layer}.self_attn."
        rank, nope = c["kv_lora_rank"], c["qk_nope_head_dim"]
        q = self.r(x @ self.w[name + "q_proj.weight"].T).reshape(len(x), self.heads, -1)
        both = self.r(x @ self.w[name + "kv_a_proj_with_mqa.weight"].T)
        size = np.sqrt((both[:, :rank] ** 2).mean(-1, keepdims=True) + np.float32(1e-6))
        latent = self.r(self.r(both[:, :rank] / size) * self.w[name + "kv_a_layernorm.weight"])
        kv = self.r(latent @ self.w[name + "kv_b_proj.weight"].T).reshape(len(x), self.heads, -1)
        assert not kv[..., :nope].any()
        assert not q[..., :nope].any()
        k = np.repeat(both[:, None, rank:], self.heads, axis=1)
        v = np.zeros((len(x), self.heads, self.size), np.float32)
        v[..., :2] = kv[..., nope : nope + 2]
        halves = [np.concatenate([y[..., 0::2], y[..., 1::2]], -1) for y in (q[..., nope:], k)]
        return [*halves, v]

    def _project(self, layer: int, letter: str, x: np.ndarray) -> np.ndarray:
        name = self.x_projection(layer, letter)
        y = x @ self.w[name + "proj.weight"].T
        y = self.r(y + self.w.get(name + "proj.bias", np.float32(0))).reshape(len(x), -1, self.size)
        if name + "norm.weight" in self.w:
            size = np.sqrt((y * y).mean(-1, keepdims=True) + 1e-8)
            y = self.r(y / size * self.x_norm(name + "norm"))
        return y

"""Families with parts of their own: experts and latent attention; their faults are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy_engine import NumpyEngine
from test_canary_faults import ALONE, run

from harness.canary.checkpoint import save
from harness.canary.routing import all_signs, chosen, sign_of_bits, unnormalized
from harness.canary.sizes import Sizes
from harness.errors import UsageError

EXPERTS = Sizes(
    context=256, layers=2, heads=8, kv_heads=2, head_dim=32, hidden=128, vocab_size=512,
    family="mixtral",
)  # fmt: skip
LATENT = Sizes(
    context=256, layers=2, heads=4, kv_heads=1, head_dim=32, hidden=128, vocab_size=128,
    family="deepseek_v2",
)  # fmt: skip


@pytest.fixture(scope="module")
def experts(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("experts")
    save(EXPERTS, path)
    return path


@pytest.fixture(scope="module")
def latent(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("latent")
    save(LATENT, path)
    return path


def works(*order: int, layer: int = 1) -> type[NumpyEngine]:
    class Works(NumpyEngine):
        def x_expert(self, of: int, expert: int) -> int:
            return order[expert] if of == layer else expert

    return Works


class Zero(NumpyEngine):
    """Some experts give nothing."""

    zero = (5,)

    def x_route(self, layer: int, scores: np.ndarray) -> np.ndarray:
        weights = super().x_route(layer, scores)
        weights[:, list(self.zero)] = 0
        return weights


class HalfOfThem(Zero):
    zero = (4, 5, 6, 7)


class Unnormalized(NumpyEngine):
    def x_route(self, layer: int, scores: np.ndarray) -> np.ndarray:
        share = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        return share * (super().x_route(layer, scores) > 0)


class OneOfThem(NumpyEngine):
    """The first expert of a token alone."""

    def x_route(self, layer: int, scores: np.ndarray) -> np.ndarray:
        return np.eye(scores.shape[1], dtype=np.float32)[scores.argmax(axis=1)]


class QuarterOfThem(Zero):
    zero = (2, 3)


class RouterOfAnother(NumpyEngine):
    """The router's scores come in another order."""

    def x_route(self, layer: int, scores: np.ndarray) -> np.ndarray:
        return super().x_route(layer, np.roll(scores, 4, axis=1))


class GateUp(NumpyEngine):
    def x_mlp(self, layer: int, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        return super().x_mlp(layer, up, gate)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        (works(1, 0, 2, 3, 4, 5, 6, 7), "experts_exchanged"),
        (works(4, 1, 2, 3, 0, 5, 6, 7), "experts_exchanged"),
        (works(0, 1, 2, 3, 4, 5, 7, 6, layer=0), "experts_exchanged"),
        (works(0, 1, 1, 3, 4, 5, 6, 7), "expert_copied"),
        (works(0, 1, 2, 3, 4, 5, 6, 0), "expert_copied"),
        (works(4, 5, 6, 7, 0, 1, 2, 3), "experts_order"),
        (works(1, 2, 3, 4, 5, 6, 7, 0), "experts_order"),
        (RouterOfAnother, "experts_order"),
        (Zero, "expert_nothing"),
        (HalfOfThem, "experts_missing"),
        (QuarterOfThem, "experts_missing"),
        (Unnormalized, "experts_unnormalized"),
        (OneOfThem, "experts_one"),
        (GateUp, "gate_up"),
    ],
)
def test_a_fault_of_experts_is_named(kind: type[NumpyEngine], cause: str, experts: Path) -> None:
    (finding,) = run(kind(experts), EXPERTS, ALONE).findings
    assert finding.cause == cause, finding.sentence


@pytest.mark.parametrize("count", [4, 8, 16])
def test_two_experts_are_chosen_and_every_one_of_them_shows(count: int) -> None:
    sizes = Sizes(heads=16, kv_heads=4, hidden=512, layers=2, experts=count, family="mixtral")
    own = np.where(np.arange(256)[:, None] >> np.arange(8) & 1, 1, -1).astype(np.int8)
    taken = chosen(sizes, own)
    assert sorted(np.unique(taken).tolist()) == list(range(count))
    assert (taken[:, 0] < count // 2).all()
    assert (taken[:, 1] >= count // 2).all()
    assert (np.abs(sign_of_bits(sizes, own)) == 1).all()
    assert len({row.tobytes() for row in all_signs(sizes)}) == count
    assert 0 < unnormalized(sizes) < 0.95


class Halves(NumpyEngine):
    """Latent attention whose RoPE pairs the two halves of a head."""

    def x_rotate(self, x: np.ndarray, angles: np.ndarray) -> np.ndarray:
        kept = np.stack(np.split(x, 2, axis=-1), axis=-1).reshape(x.shape)
        return super().x_rotate(kept, angles)


class LatentOfAnotherBase(NumpyEngine):
    def x_frequencies(self, layer: int) -> np.ndarray:
        return super().x_frequencies(layer) ** 1.1


@pytest.mark.parametrize(
    ("kind", "causes"),
    [
        (Halves, {"rope_halves"}),
        (LatentOfAnotherBase, {"rope_base", "rope_far"}),
        (GateUp, {"gate_up"}),
    ],
)
def test_a_fault_of_latent_attention_is_named(
    kind: type[NumpyEngine], causes: set[str], latent: Path
) -> None:
    (finding,) = run(kind(latent), LATENT, ALONE).findings
    assert finding.cause in causes, finding.sentence


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"family": "mixtral", "experts": 6}, "experts"),
        ({"family": "mixtral", "experts": 16}, "experts"),
        ({"experts": 8}, "mixtral"),
        ({"family": "deepseek_v2"}, "kv-heads"),
    ],
)
def test_families_with_sizes_that_do_not_fit_are_refused(given: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Sizes(**given)

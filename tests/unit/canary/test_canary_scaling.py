"""Frequencies scaled as Llama 3's and YaRN's: exact, and a scaling that is missing or another
is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy_engine import NumpyEngine
from test_canary_faults import ALL, ALONE, SMALL, run

from harness.canary.checkpoint import save
from harness.canary.phases import nominal_frequencies, plain_frequencies
from harness.canary.scaling import Scaling, scaled
from harness.canary.sizes import Sizes
from harness.errors import UsageError

SCALED = Sizes(
    context=512, layers=2, heads=4, kv_heads=2, head_dim=64, hidden=128, vocab_size=128,
    rope_scaling="llama3",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("canary")
    save(SCALED, path)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("plain")
    save(SMALL, path)
    return path


@pytest.mark.parametrize(("dtype", "able"), [("float32", ALONE), ("bfloat16", ALL)])
def test_right_frequencies_are_exact(dtype: str, able, folder: Path) -> None:
    engine = NumpyEngine(folder, dtype, budget=300, batch=3, prefix=True)
    outcome = run(engine, SCALED, able)
    assert outcome.outcome == "EXACT", outcome.findings


def reads(**entries: float) -> type[NumpyEngine]:
    """Entries of config.json that are misread: multiplied."""

    class Reads(NumpyEngine):
        def x_scaled(self, plain: np.ndarray, rope: dict) -> np.ndarray:
            wrong = {k: rope[k] * by for k, by in entries.items()}
            return super().x_scaled(plain, rope | wrong)

    return Reads


class NotScaled(NumpyEngine):
    def x_scaled(self, plain: np.ndarray, rope: dict) -> np.ndarray:
        return plain


class AllScaled(NumpyEngine):
    """As linear scaling."""

    def x_scaled(self, plain: np.ndarray, rope: dict) -> np.ndarray:
        return plain / rope["factor"]


class NoWayBetween(NumpyEngine):
    def x_scaled(self, plain: np.ndarray, rope: dict) -> np.ndarray:
        turns = rope["original_max_position_embeddings"] * plain / (2 * np.pi)
        return np.where(turns < rope["high_freq_factor"], plain / rope["factor"], plain)


class AsYarn(NumpyEngine):
    def x_scaled(self, plain: np.ndarray, rope: dict) -> np.ndarray:
        original = rope["original_max_position_embeddings"]
        return scaled(plain, 10_000, Scaling("yarn", rope["factor"], original, 1, 4))


MISREAD = [
    (NotScaled, "rope_not_scaled"),
    (AllScaled, "rope_linear"),
    (reads(factor=4), "rope_scaled_other"),
    (reads(original_max_position_embeddings=8), "rope_scaled_other"),
]
SIBLINGS = [
    (reads(factor=0.5), "rope_scaled_other"),
    (reads(factor=0.25), "rope_scaled_other"),
    (reads(original_max_position_embeddings=0.25), "rope_scaled_other"),
    (reads(original_max_position_embeddings=2), "rope_scaled_other"),
    (NoWayBetween, "rope_scaled_other"),
    (AsYarn, "rope_scaled_other"),
]


@pytest.mark.parametrize(("kind", "cause"), MISREAD)
def test_a_scaling_that_is_missing_or_misread_is_named(
    kind: type[NumpyEngine], cause: str, folder: Path
) -> None:
    (finding,) = run(kind(folder), SCALED, ALONE).findings
    assert finding.cause == cause, finding.sentence


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "cause"), SIBLINGS)
def test_siblings_of_a_misread_scaling_are_named(
    kind: type[NumpyEngine], cause: str, folder: Path
) -> None:
    (finding,) = run(kind(folder), SCALED, ALONE).findings
    assert finding.cause == cause, finding.sentence


def applied(factor: float, original: int) -> type[NumpyEngine]:
    """A scaling that the model does not have."""

    class Applied(NumpyEngine):
        def x_scaled(self, plain: np.ndarray, rope: dict) -> np.ndarray:
            return scaled(plain, 10_000, Scaling("llama3", factor, original, 1, 4))

    return Applied


@pytest.mark.parametrize("original", [64, 128])
def test_a_scaling_that_the_model_does_not_have_is_named(original: int, plain: Path) -> None:
    (finding,) = run(applied(8, original)(plain), SMALL, ALONE).findings
    assert finding.cause == "rope_scaled", finding.sentence


def test_frequencies_are_those_of_the_reference_code(folder: Path) -> None:
    engine = NumpyEngine(folder)
    assert np.allclose(engine.x_frequencies(0), nominal_frequencies(SCALED, 0), rtol=1e-12)
    plain = plain_frequencies(SCALED, 0)
    shares = nominal_frequencies(SCALED, 0) / plain
    assert shares[0] == 1
    assert shares[-1] == pytest.approx(1 / 8)
    assert ((shares > 1 / 8) & (shares < 1)).any()


@pytest.mark.parametrize(
    "given",
    [
        {"rope_scaling": "linear"},
        {"rope_scaling": "llama3", "family": "gemma3"},
        {"rope_scaling": "yarn", "original_context": 512},
        {"rope_scaling": "yarn", "family": "deepseek_v2", "kv_heads": 1},
    ],
)
def test_scalings_that_do_not_fit_are_refused(given: dict) -> None:
    with pytest.raises(UsageError, match="rope_scaling"):
        Sizes(**given)

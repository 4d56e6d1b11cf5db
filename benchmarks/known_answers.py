"""How often do the gates err on arms whose noise is known?

Draws reference, oracle, controls and candidate with prescribed noise, hands
the evidence to the gates, and prints how often intervals hold the true figure
and how often a correct candidate fails. ``tests/unit/alignment/test_known_answers.py``
holds the same simulation to its promises.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.alignment.evidence import Evidence, no_masks, summed
from harness.alignment.judge import judge
from harness.alignment.outcomes import Verdict, exit_status
from harness.baseline.controls import RatioLimit
from harness.baseline.floor import LARGE, flip_probability
from harness.baseline.scales import ArmRows
from harness.statistics.rows import SKETCH_WIDTH

Floats = NDArray[np.float64]
#: Dimensions of an error that are drawn; the rest of its sketch is 0.
DRAWN = 16
#: Norm of an oracle row over that of the error, as of the embedded model in bfloat16.
ROW_TO_ERROR = 50.0


@dataclass(frozen=True)
class World:
    """Arms with known noise.

    Attributes:
        prompts, positions: size of the suite; the first position is prefill.
        spread: standard deviation of the logarithm of a prompt's noise scale.
        tail: degrees of freedom of the noise, multivariate t at each
            position, own to each arm; None for normal noise.
        shared_tail: the same for a factor that all arms share at a position:
            hard positions, as real arms have them.
        scale: the candidate's noise over the reference's.
        slope: by how much the candidate's logits are scaled.
        bias: a constant error of the candidate, over the rms of the noise.
        controls: how many.
    """

    prompts: int = 32
    positions: int = 16
    spread: float = 0.5
    tail: float | None = None
    shared_tail: float | None = None
    scale: float = 1.0
    slope: float = 0.0
    bias: float = 0.0
    controls: int = 2


def draw(world: World, random: np.random.Generator) -> Evidence:
    """Evidence of one candidate against one baseline, both drawn."""
    p, n, arms = world.prompts, world.positions, world.controls + 2
    noise, gaps = _noise(world, random, arms)
    noise[-1] *= world.scale
    truth = random.standard_normal((p, n, DRAWN)) * ROW_TO_ERROR
    noise[-1, ..., :DRAWN] += world.slope * truth
    noise[-1, ..., 0] += world.bias * np.sqrt(DRAWN)
    padded = np.zeros((arms, p, n, SKETCH_WIDTH))
    padded[..., :DRAWN] = noise[..., :DRAWN]
    wide = np.zeros((p, n, SKETCH_WIDTH))
    wide[..., :DRAWN] = truth
    index = np.arange(n)
    parts = [summed(padded[:, k], wide[k], index == 0, index < n / 2) for k in range(p)]
    scatter = np.mean(noise[:-1, ..., :DRAWN] ** 2, axis=-1)
    margins, shifts = _margins(scatter, noise[..., DRAWN:], gaps)
    none = np.zeros(p, np.int64)
    return Evidence(
        ids=tuple(f"p{i}" for i in range(p)),
        controls=world.controls,
        limit=RatioLimit(),
        positions=np.full(p, n),
        expected=np.full(p, n),
        left_out=np.zeros(p, np.int64),
        top_error=np.sum(noise[-1, ..., DRAWN:] ** 2, axis=(1, 2)),
        top_reference=np.sum(noise[0, ..., DRAWN:] ** 2, axis=(1, 2)),
        **no_masks(p),
        nonfinite=none,
        reference_nonfinite=none,
        unjudged_nonfinite=none,
        first_nonfinite=none - 1,
        chosen=none + n,
        unchosen=none,
        first_unchosen=none - 1,
        bit_equal=np.zeros(p, np.bool_),
        whole=np.ones(p, np.bool_),
        ended=np.zeros(p, np.bool_),
        standing=tuple(part.pop("standing") for part in parts),
        at=(index,) * p,
        bounded=tuple(part.pop("bounded") for part in parts),
        arms=tuple(ArmRows(padded[:-1, k], index, shifts[:, k]) for k in range(p)),
        **{name: np.array([part[name] for part in parts]) for name in parts[0]},
        **margins,
    )


def _noise(world: World, random: np.random.Generator, arms: int) -> tuple[Floats, Floats]:
    """Errors (arms, p, n, DRAWN + 2), the last two those of the best two
    tokens, and the true gap between these (p, n)."""
    shape = (arms, world.prompts, world.positions)
    size = np.exp(random.normal(0.0, world.spread, (world.prompts, 1)))
    if world.tail is not None:
        size = size * np.sqrt(world.tail / random.chisquare(world.tail, shape))
    if world.shared_tail is not None:
        size = size * np.sqrt(world.shared_tail / random.chisquare(world.shared_tail, shape[1:]))
    errors = random.standard_normal((*shape, DRAWN + 2)) * np.broadcast_to(size, shape)[..., None]
    return errors, random.exponential(30.0, shape[1:])


def _margins(known: Floats, pair: Floats, gaps: Floats) -> tuple[dict[str, Any], Floats]:
    """What shifts and flips do, from the errors of the best two tokens; and the
    controls' relative shifts, (controls, p, n).

    Args:
        known: (A, p, n), mean squared error of the arms, the reference first. The
            candidate's own error is no part of the floor.
        pair: (A + 1, p, n, 2); gaps: (p, n).
    """
    margins = gaps + pair[..., 0] - pair[..., 1]
    sign = np.where(margins[0] < 0.0, -1.0, 1.0)
    margin, shifts = np.abs(margins[0]), sign * (margins[1:] - margins[0])
    flips = shifts < -margin
    total = known.sum(axis=0)
    left_out = np.stack([(total - own) / (len(known) - 1) for own in known[1:]])
    noise = np.sqrt(total / len(known))
    control = np.abs(shifts[:-1]) / np.sqrt(left_out)
    mine = np.abs(shifts[-1]) / noise
    scale = float(np.sqrt(np.mean(control**2)))
    predicted = [
        flip_probability(margin.ravel(), (f * scale * noise).ravel()).reshape(margin.shape)
        for f in RatioLimit().inflations
    ]
    found = {
        "large": np.stack([(mine > LARGE * f).sum(axis=1) for f in RatioLimit().inflations], axis=1)
        * 1.0,
        "control_large": (control > LARGE).mean(axis=0).sum(axis=1),
        "flips": flips[-1].sum(axis=1) * 1.0,
        "control_flips": flips[:-1].mean(axis=0).sum(axis=1),
        "predicted": np.stack([q.sum(axis=1) for q in predicted], axis=1),
        "same_tokens": ~flips[-1].any(axis=1),
        "push": tuple(mine),
        "flipped": tuple(flips[-1]),
    }
    return found, control


@dataclass(frozen=True)
class Rates:
    """Shares over the runs: of verdicts and of ``gate:status``, and of
    intervals that hold the true figure."""

    verdicts: dict[Verdict, float]
    statuses: dict[str, float]
    coverage: dict[str, float]

    @property
    def failing(self) -> float:
        """Share of runs whose verdict is one of failure."""
        return sum(share for verdict, share in self.verdicts.items() if exit_status(verdict) == 1)


def simulate(world: World, runs: int, seed: int = 0) -> Rates:
    """Judge candidates of one world."""
    random = np.random.default_rng(seed)
    plain = not world.slope and not world.bias
    true = {name: world.scale for name in ("error_ratio", "top_k_error_ratio") if plain}
    true["slope"] = world.slope
    verdicts: Counter[Verdict] = Counter()
    statuses: Counter[str] = Counter()
    covered: Counter[str] = Counter()
    for evidence in _draws(world, runs, random):
        found = judge(evidence)
        verdicts[found.verdict] += 1
        for gate in found.gates:
            statuses[f"{gate.name}:{gate.status}"] += 1
            truth = true.get(gate.name)
            if truth is not None and gate.low is not None and gate.high is not None:
                covered[gate.name] += gate.low <= truth <= gate.high
    return Rates(
        {k: v / runs for k, v in verdicts.items()},
        {k: v / runs for k, v in statuses.items()},
        {k: v / runs for k, v in covered.items()},
    )


def _draws(world: World, runs: int, random: np.random.Generator) -> Iterator[Evidence]:
    return (draw(world, random) for _ in range(runs))


#: Noise by name: normal, with positions that are hard for all arms, and with
#: outliers of each arm's own, the hardest.
NOISE: dict[str, dict[str, Any]] = {
    "normal": {},
    "hard positions, t 4": {"shared_tail": 4.0},
    "own outliers, t 8": {"tail": 8.0},
    "own outliers, t 5": {"tail": 5.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    runs = parser.parse_args().runs
    columns = ("error_ratio", "top_k_error_ratio", "slope")
    print("| noise | prompts | " + " | ".join(f"{c} covered" for c in columns), end="")
    print(" | failing | inconclusive | warned |")
    print("|---|---|---|---|---|---|---|---|")
    for name, noise in NOISE.items():
        for prompts in (4, 8, 16, 32, 64):
            found = simulate(World(prompts=prompts, **noise), runs)
            warned = sum(v for k, v in found.statuses.items() if k.endswith(":WARN"))
            figures = [found.coverage.get(column, 0.0) for column in columns]
            figures += [found.failing, found.verdicts.get("INCONCLUSIVE", 0.0), warned]
            cells = " | ".join(f"{100 * figure:.1f} %" for figure in figures)
            print(f"| {name} | {prompts} | {cells} |", flush=True)


if __name__ == "__main__":
    main()

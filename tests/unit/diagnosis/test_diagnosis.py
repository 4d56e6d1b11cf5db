"""Diagnoses on a linear model, where the score test's distribution is known."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from linear_oracle import LinearOracle, directions, errors

from harness.alignment.diagnosis import Diagnosis
from harness.devices.causes import Cause
from harness.diagnosis.errors import Errors
from harness.diagnosis.run import diagnose
from harness.process.progress import Progress
from harness.statistics.score import metric_of

PROMPTS = 24
BASE = Cause("rope_base")
LAYERS = [Cause("mlp", f"model.layers.{i}.mlp") for i in range(20)]
ROWS = [Cause("row", "model.layers.3.mlp.gate_proj", i) for i in range(50)]
WEIGHTS = [Cause("weight", "model.layers.3.mlp.gate_proj", 7, i) for i in range(10)]
CAUSES = [BASE, *LAYERS, *ROWS, *WEIGHTS]


def world(seed: int, effects: dict[Cause, float]) -> tuple[Diagnosis, LinearOracle]:
    random = np.random.default_rng(seed)
    along = directions(random, CAUSES, PROMPTS)
    along[ROWS[7]] = sum((along[weight] for weight in WEIGHTS), np.zeros(()))
    oracle = LinearOracle(along, settings=(BASE,))
    return diagnose(errors(random, PROMPTS, effects, along), oracle, quiet()), oracle


def quiet() -> Progress:
    return Progress(io.StringIO())


def named(found: Diagnosis) -> list[Cause]:
    return [Cause(x.kind, x.place, x.index, x.column) for x in found.explanations]


def test_rounding_alone_is_explained_by_nothing() -> None:
    told = 0
    for seed in range(20):
        found, oracle = world(seed, {})
        told += found.finding != "NOTHING"
        assert oracle.sizes == {}
    # One in a thousand, of the causes and of the parts each.
    assert told == 0
    assert found.sentence.startswith("The error has no part that rounding does not have")
    assert found.explanations == ()
    assert (found.prompts, found.rows) == (24, 288)
    assert [family.hypotheses for family in found.families] == [1, 20, 50, 10]


@pytest.mark.parametrize("cause", [BASE, LAYERS[7], ROWS[13], WEIGHTS[6]], ids=str)
def test_the_true_cause_is_named_with_its_size(cause: Cause) -> None:
    inside = 0
    for seed in range(6):
        found, _ = world(seed, {cause: 0.3})
        assert found.finding == "SYSTEMATIC"
        assert named(found) == [cause]
        (best,) = found.explanations
        assert best.size.low is not None
        assert best.size.high is not None
        true = {BASE: 10_000.0 * np.exp(0.3), WEIGHTS[6]: 0.3}.get(cause, 1.3)
        inside += best.size.low <= true <= best.size.high
        assert best.alike == ()
        assert 0.5 < best.share <= 1.0
        assert found.left is None or found.left < 1.0
    assert inside >= 5


def test_a_base_is_told_in_its_own_unit() -> None:
    found, _ = world(3, {BASE: -0.2})
    assert found.sentence.startswith("Explained by the RoPE base: the error is what 8")
    assert "in place of 10,000 would give" in found.sentence


def test_a_mistake_that_changes_everything_is_named() -> None:
    """It has no gradient: a pass on a few prompts shows that it explains the error."""
    random = np.random.default_rng(21)
    mistakes = (Cause("gate_up_exchanged"), Cause("rope_interleaved"))
    along = {c: 2.0 * d for c, d in directions(random, [*CAUSES, *mistakes], PROMPTS).items()}
    oracle = LinearOracle(along, (BASE,), exchanges=mistakes)
    found = diagnose(errors(random, PROMPTS, {mistakes[1]: 1.0}, along), oracle, quiet())
    assert named(found) == [mistakes[1]]
    assert "neighbours in place of halves" in found.sentence
    assert found.explanations[0].size.value == pytest.approx(1.0, abs=0.1)


def test_of_changes_of_layers_the_likeliest_are_tried_and_all_of_them_counted() -> None:
    random = np.random.default_rng(22)
    layers = tuple(
        Cause(kind, f"model.layers.{i}") for kind in ("layer_skipped", "layer_doubled")
        for i in range(20)
    )  # fmt: skip
    along = {c: 2.0 * d for c, d in directions(random, [*CAUSES, *layers], PROMPTS).items()}
    mistakes = (Cause("gate_up_exchanged"), Cause("window", "", 8), Cause("window", "", 64))
    along |= directions(random, mistakes, PROMPTS)
    oracle = LinearOracle(along, (BASE,), exchanges=mistakes, layers=layers)
    given = errors(random, PROMPTS, {layers[7]: 1.0}, along)
    long = tuple(replace(p, token_ids=(*p.token_ids, *range(9))) for p in given.prompts)
    found = diagnose(replace(given, prompts=long), oracle, quiet())
    assert named(found) == [layers[7]]
    assert "layer 7 skipped" in found.sentence
    # The base, two exchanges and forty changes of layers: no prompt exceeds 64 tokens.
    assert found.families[0].hypotheses == 1 + 2 + 40
    few = LinearOracle(along, (BASE,), exchanges=mistakes, layers=layers)
    assert diagnose(errors(random, PROMPTS, {}, along), few, quiet()).families[0].hypotheses == 1


def test_two_causes_are_named_one_after_the_other() -> None:
    found, _ = world(5, {BASE: 0.4, LAYERS[2]: 0.25})
    assert named(found) == [BASE, LAYERS[2]]
    assert found.explanations[0].share > found.explanations[1].share


def test_two_causes_that_hide_in_rounding_are_both_named() -> None:
    """The candidate's error is no larger than the arms': what one explains is more than all
    that is seen beyond rounding, and yet the other is there."""
    random = np.random.default_rng(31)
    along = directions(random, CAUSES, 40)
    given = errors(random, 40, {BASE: 0.08, LAYERS[2]: 0.08}, along)
    quieter = tuple(replace(p, arms=1.05 * p.arms) for p in given.prompts)
    hidden = Errors(quieter, metric_of([p.arms for p in quieter]))
    assert hidden.excess() < 0.05 * hidden.arms()
    found = diagnose(hidden, LinearOracle(along, (BASE,)), quiet())
    assert set(named(found)) == {BASE, LAYERS[2]}
    assert found.left is not None
    assert found.left < 1.0


def test_causes_that_are_one_direction_are_named_together() -> None:
    random = np.random.default_rng(9)
    along = directions(random, CAUSES, PROMPTS)
    along[LAYERS[4]] = along[LAYERS[3]] + 0.02 * along[LAYERS[4]]
    found = diagnose(
        errors(random, PROMPTS, {LAYERS[3]: 0.3}, along), LinearOracle(along, (BASE,)), quiet()
    )
    (best,) = found.explanations
    first = best.sentence.removeprefix("Explained by ").partition(":")[0]
    both = {first, *(other.sentence for other in best.alike)}
    assert both == {"what the MLP of layer 3 adds", "what the MLP of layer 4 adds"}


def test_what_all_arms_share_is_no_cause() -> None:
    """The arms' own systematic rounding, which a candidate of theirs has too."""
    for common in (0.0, 1.0, 3.0):
        random = np.random.default_rng(11)
        along = directions(random, CAUSES, PROMPTS)
        given = errors(random, PROMPTS, common=common)
        assert diagnose(given, LinearOracle(along, (BASE,)), quiet()).finding == "NOTHING"


def test_an_effect_within_the_margin_is_slight() -> None:
    random = np.random.default_rng(12)
    along = {cause: 30.0 * d for cause, d in directions(random, CAUSES, 60).items()}
    along = {
        c: np.ones_like(d) * np.sin(np.arange(64)) if c == BASE else d for c, d in along.items()
    }
    given = errors(random, 60, {BASE: 0.05}, along)
    found = diagnose(given, LinearOracle(along, (BASE,)), quiet())
    assert found.finding in ("SLIGHT", "SYSTEMATIC")
    assert (found.finding == "SLIGHT") == (found.effect <= found.margin)


@pytest.mark.parametrize("cause", [BASE, LAYERS[7], ROWS[13]], ids=str)
@pytest.mark.parametrize("times", [1.0, -2.0])
def test_what_pulls_a_few_prompts_and_not_the_others_is_not_told(
    cause: Cause, times: float
) -> None:
    """Rounding that is large in some prompts: its t is beyond chance, its size may be 0."""
    random = np.random.default_rng(14)
    along = directions(random, CAUSES, PROMPTS)
    few = {cause: along[cause] * np.isin(np.arange(PROMPTS), (1, 6, 11, 16))[:, None, None]}
    found = diagnose(
        errors(random, PROMPTS, {cause: times}, few), LinearOracle(along, (BASE,)), quiet()
    )
    assert found.finding == "NOTHING"
    assert found.explanations == ()
    # It is at its limit and not beyond, where the gate says that there is nothing.
    assert found.first.t == pytest.approx(found.first.limit)
    assert found.left == pytest.approx(1.0)


def test_what_only_some_prompts_can_show_is_told_by_these() -> None:
    """A token id that eight prompts have: the others say nothing of its size."""
    random = np.random.default_rng(15)
    along = directions(random, CAUSES, PROMPTS)
    there = np.isin(np.arange(PROMPTS), (0, 1, 5, 6, 11, 15, 16, 20))
    along[ROWS[13]] = along[ROWS[13]] * there[:, None, None]
    given = errors(random, PROMPTS, {ROWS[13]: 0.8}, along)
    assert named(diagnose(given, LinearOracle(along, (BASE,)), quiet())) == [ROWS[13]]


def test_a_gross_error_is_told_though_prompts_differ() -> None:
    random = np.random.default_rng(16)
    along = directions(random, CAUSES, PROMPTS)
    sizes = np.where(np.arange(PROMPTS) % 4 == 1, 9.0, 0.0)
    uneven = {LAYERS[7]: along[LAYERS[7]] * sizes[:, None, None]}
    given = errors(random, PROMPTS, {LAYERS[7]: 1.0}, uneven)
    assert named(diagnose(given, LinearOracle(along, (BASE,)), quiet()))[0] == LAYERS[7]


def test_the_depth_shows_where_the_cause_is() -> None:
    found, _ = world(7, {LAYERS[7]: 0.3})
    assert max(found.layers, key=lambda each: each.t).layer == 7
    assert [each.layer for each in found.layers] == list(range(20))


@pytest.mark.parametrize("cause", [LAYERS[3], ROWS[13]], ids=str)
def test_what_a_finer_candidate_lacks_is_no_cause(cause: Cause) -> None:
    """The arms' rounding has a direction; a candidate of a higher precision has not."""
    random = np.random.default_rng(13)
    along = directions(random, CAUSES, PROMPTS)
    given = errors(random, PROMPTS)
    made = tuple(
        replace(p, arms=p.arms + 0.5 * along[cause][i], candidate=0.05 * p.candidate)
        for i, p in enumerate(given.prompts)
    )
    finer = Errors(made, metric_of([p.arms for p in made]))
    assert finer.shares[0] < 0.2
    assert diagnose(finer, LinearOracle(along, (BASE,)), quiet()).finding == "NOTHING"


def test_a_query_head_has_what_its_kv_head_has() -> None:
    """Four heads, of which two read the same values."""
    causes = [
        *(Cause("head", "model.layers.1.self_attn", i) for i in range(4)),
        *(Cause("value_head", "model.layers.1.self_attn", i) for i in range(2)),
        *(Cause("mlp", f"model.layers.{i}.mlp") for i in range(3)),
    ]
    along = directions(np.random.default_rng(1), causes, PROMPTS)
    wrong = Cause("value_head", "model.layers.1.self_attn", 1)
    given = errors(np.random.default_rng(2), PROMPTS, {wrong: 0.5}, along)
    found = diagnose(given, LinearOracle(along), quiet())
    first, middle, last = found.layers
    assert first.heads == last.heads == ()
    assert len(middle.heads) == 4
    assert middle.heads[2] == middle.heads[3] == middle.t
    assert max(middle.heads[:2]) < middle.t

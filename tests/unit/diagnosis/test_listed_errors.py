"""Diagnoses from what a server lists, on a linear model and on recordings."""

from __future__ import annotations

import io

import numpy as np
import pytest
from factories import fake_baseline, fake_record, fake_suite
from listed_world import served, world

from harness.alignment.diagnosis import Diagnosis
from harness.devices.causes import Cause
from harness.devices.fake import FakeDevice
from harness.diagnosis.errors import Errors
from harness.diagnosis.explain import measured_alone
from harness.diagnosis.listed import errors_seen, listed_errors
from harness.diagnosis.run import diagnose
from harness.diagnosis.scores import scores_of
from harness.errors import UsageError
from harness.process.progress import Progress
from harness.recording.context import Context
from harness.recording.format import Recording
from harness.recording.recorder import Options
from harness.statistics.rows import NO_TOKEN

BASE = Cause("rope_base")
LAYERS = [Cause("mlp", f"model.layers.{i}.mlp") for i in range(12)]
SUITE = fake_suite(prompts=6, tokens=8)
BASELINE = fake_baseline(SUITE)
CANDIDATE = fake_record(FakeDevice(seed=3), SUITE, Options(context=Context.of(BASELINE.reference)))


def cut(recording: Recording, listed: int = 20) -> Recording:
    """What a server would have told."""

    def rows(run: object) -> object:
        return None if run is None else run.model_copy(update={"rows": served(run.rows, listed)})

    prompts = tuple(
        p.model_copy(update={"free": rows(p.free), "forced": rows(p.forced)})
        for p in recording.prompts
    )
    return recording.model_copy(update={"prompts": prompts})


def told(seed: int, effects: dict[Cause, float], **options: object) -> Diagnosis:
    errors, oracle = world(seed, [BASE, *LAYERS], effects, settings=(BASE,), **options)
    return diagnose(errors, oracle, Progress(io.StringIO()))


# --- known answers


def test_the_scores_of_rounding_alone_have_the_distribution_that_theory_says() -> None:
    """Normal, of the variance that the arms show: 8 worlds of 80 hypotheses."""
    found = []
    for seed in range(8):
        errors, oracle = world(seed, [Cause("linear", str(i)) for i in range(80)], {})
        scores = scores_of(errors, oracle)
        found.append(scores.candidate.sum(axis=0) / np.sqrt(scores.null.of_candidate(1.0)))
    each = np.concatenate(found)
    # Student's t of 24 degrees of freedom; the 640 values are nearly independent.
    assert float(np.mean(each)) == pytest.approx(0.0, abs=0.16)
    assert float(np.std(each)) == pytest.approx(np.sqrt(24 / 22), rel=0.1)
    assert float(np.mean(np.abs(each) > 2.064)) == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize("options", [{}, {"coarse": 2.0}, {"digits": 1}, {"listed": 8}], ids=str)
def test_rounding_alone_is_explained_by_nothing(options: dict[str, object]) -> None:
    """Also of a candidate that rounds twice as coarsely, of printed digits as coarse as the
    rounding, and of a short list."""
    for seed in range(3):
        found = told(seed, {}, **options)
        assert found.finding == "NOTHING", (seed, found.sentence)
    listed = options.get("listed", 20)
    assert f"the {listed} largest log-probabilities of each position tell" in found.sentence
    assert "less than whole rows" in found.sentence


@pytest.mark.parametrize("cause", [BASE, LAYERS[7]], ids=str)
@pytest.mark.parametrize("options", [{"digits": 2}, {"listed": 12}], ids=str)
def test_the_true_cause_is_named(cause: Cause, options: dict[str, object]) -> None:
    for seed in range(2):
        found = told(seed, {cause: 0.03}, **options)
        assert found.finding == "SYSTEMATIC"
        (best,) = found.explanations
        assert Cause(best.kind, best.place) == cause
        true = 10_000.0 * np.exp(0.03) if cause == BASE else 1.03
        assert best.size.value == pytest.approx(true, rel=0.01)
        assert "log-probabilities of each position tell (less than whole rows)" in best.sentence


def test_intervals_of_sizes_cover_what_they_say() -> None:
    inside, worlds = 0, 10
    for seed in range(worlds):
        errors, oracle = world(100 + seed, [BASE], {BASE: 0.03}, settings=(BASE,), listed=12)
        base = [oracle.sketches(p.token_ids, len(p)) for p in errors.prompts]
        found = measured_alone(errors, oracle, base, BASE)
        assert found is not None
        inside += found.size.low <= 0.03 <= found.size.high
    assert inside >= 8


def test_the_result_names_what_it_was_computed_from() -> None:
    found = told(1, {BASE: 0.03})
    assert (found.source, found.listed) == ("log_probabilities", 20)
    assert found.looked_at is not None
    assert 15.0 < found.looked_at < 20.0
    again = Diagnosis.model_validate(found.model_dump(mode="json"))
    assert again == found
    before = found.model_dump(mode="json")
    for name in ("source", "listed", "looked_at"):
        del before[name]
    assert Diagnosis.model_validate(before).source == "sketches"


def test_a_shorter_list_tells_less() -> None:
    t = [told(3, {BASE: 0.02}, listed=listed).families[0].t for listed in (20, 10, 6)]
    assert t[0] > t[1] > t[2]


# --- recordings


def test_a_whole_recording_is_seen_in_sketches_and_a_cut_one_at_its_ids() -> None:
    whole, listed = errors_seen(CANDIDATE, BASELINE), errors_seen(cut(CANDIDATE), BASELINE)
    assert (whole.chosen, whole.listed, whole.looked_at) == (None, 0, None)
    assert whole.prompts[0].candidate.shape == (8, 64)
    assert listed.listed == 20
    assert listed.prompts[0].candidate.shape == (8, 20)
    assert [p.id for p in listed.prompts] == [p.id for p in whole.prompts]
    assert [p.token_ids for p in listed.prompts] == [p.token_ids for p in whole.prompts]


def test_errors_are_differences_of_log_probabilities_of_the_same_ids() -> None:
    found = listed_errors(cut(CANDIDATE), BASELINE)
    prompt, oracle = found.prompts[0], BASELINE.oracle
    assert oracle is not None
    mine = CANDIDATE.prompt(prompt.id).on(BASELINE.reference.prompt(prompt.id).run.token_ids).rows
    truth = oracle.prompt(prompt.id).run.rows
    ids = found.chosen[prompt.token_ids]
    for row in range(8):
        some = [int(i) for i in ids[row] if i != NO_TOKEN]
        assert some == truth.top_ids[row][: len(some)].tolist()
        if not set(some) <= set(mine.top_ids[row].tolist()):
            continue
        both = []
        for rows in (mine, truth):
            place = {
                int(i): float(z)
                for i, z in zip(rows.top_ids[row], rows.top_logits[row], strict=True)
            }
            both.append(np.array([place[i] for i in some]))
        error = both[0] - both[1]
        expected = error - error.mean() if some else error
        assert prompt.candidate[row, : len(some)] == pytest.approx(expected, abs=1e-4)
        assert not prompt.candidate[row, len(some) :].any()


def test_an_arm_as_a_server_has_the_error_of_an_arm() -> None:
    name = next(iter(BASELINE.controls))
    found = listed_errors(cut(BASELINE.controls[name]), BASELINE)
    for prompt in found.prompts:
        assert any(np.allclose(prompt.candidate, arm, atol=1e-4) for arm in prompt.arms)
    assert found.excess() < 0.5 * found.arms()


def test_some_prompts_keep_their_ids_and_metric() -> None:
    found = listed_errors(cut(CANDIDATE), BASELINE)
    some: Errors = found.of_prompts([0, 2])
    assert some.chosen is found.chosen
    assert some.listed == 20
    assert np.array_equal(some.metric.weights[1], found.metric.weights[2])


def test_a_short_list_looks_at_fewer_ids() -> None:
    counts = [listed_errors(cut(CANDIDATE, k), BASELINE).looked_at for k in (20, 10, 5)]
    assert None not in counts
    assert counts[0] > counts[1] > counts[2]


def test_too_short_a_list_is_one_line() -> None:
    with pytest.raises(UsageError, match="2 log-probabilities of each position are too few"):
        listed_errors(cut(CANDIDATE, 2), BASELINE)


def test_texts_alone_are_one_line() -> None:
    def rows(run: object) -> object:
        empty = {"token_ids": (), "margins": (), "rows": served(run.rows)[:0], "text_only": True}
        return run.model_copy(update=empty)

    prompts = tuple(
        p.model_copy(update={"free": rows(p.run), "forced": None}) for p in CANDIDATE.prompts
    )
    texts = CANDIDATE.model_copy(update={"prompts": prompts})
    with pytest.raises(UsageError, match="of 4 prompts, and 0 have them"):
        errors_seen(texts, BASELINE)

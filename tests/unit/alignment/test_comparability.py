"""What must be equal is held side by side, and each difference is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from factories import RNG, again, facts, forced_recording, free_recording, prompt, recording, run

from harness.alignment.align import compare
from harness.alignment.allow import Allow
from harness.alignment.comparability import checkpoint_differences, comparability
from harness.devices.facts import EngineFacts
from harness.errors import EmptyComparison
from harness.model.settings import GenerationSettings
from harness.recording.format import Recording, SuiteFacts

LOGITS = {name: RNG(i).standard_normal((3, 64)).astype(np.float32) for i, name in enumerate("ab")}
REFERENCE = free_recording(LOGITS)


def settings(**changes: Any) -> GenerationSettings:
    return GenerationSettings.model_validate({**REFERENCE.settings.model_dump(), **changes})


def quantized(group_size: int) -> EngineFacts:
    return REFERENCE.engine.model_copy(update={"qat_group_size": group_size})


ROPE = {"theta": 1.0}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"suite": SuiteFacts(name="s", digest="0" * 64)}, "suite.digest"),
    ({"dtype": "float32"}, "dtype"),
    ({"model": facts(weights="0" * 64)}, "model.weights"),
    ({"model": facts(tokenizer="0" * 64)}, "model.tokenizer"),
    ({"model": facts(template="0" * 64)}, "model.template"),
    ({"model": facts(template=None)}, "model.template"),
    ({"model": facts(vocab_size=65)}, "model.vocab_size"),
    ({"model": facts(config={"hidden_size": 9, "rope": ROPE})}, "model.config.hidden_size"),
    ({"model": facts(config={"hidden_size": 8, "rope": {"theta": 2.0}})}, "model.config.rope"),
    ({"model": facts(config={"hidden_size": 8})}, "model.config.rope"),
    ({"engine": quantized(-1)}, "model.quantizer"),
    ({"settings": settings(max_new_tokens=5)}, "settings.max_new_tokens"),
    ({"settings": settings(ignore_eos=False)}, "settings.ignore_eos"),
    ({"settings": settings(eos_token_ids=[0, 1])}, "settings.eos_token_ids"),
    ({"settings": settings(sampling="top_p")}, "settings.sampling"),
    ({"settings": settings(repetition_penalty=1.1)}, "settings.repetition_penalty"),
    ({"settings": settings(no_repeat_ngram_size=3)}, "settings.no_repeat_ngram_size"),
    ({"settings": settings(suppress_tokens=[5])}, "settings.suppress_tokens"),
    ({"settings": settings(min_new_tokens=1)}, "settings.min_new_tokens"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "field"), REFUSED)
def test_each_field_that_decides_what_was_computed_refuses(
    change: dict[str, Any], field: str
) -> None:
    candidate = free_recording(LOGITS, **change)
    for mine, theirs in ((candidate, REFERENCE), (REFERENCE, candidate)):
        found = comparability(mine, theirs)
        assert not found.comparable
        assert [d.field for d in found.differences] == [field]
        assert found.differences[0].candidate != found.differences[0].baseline


@pytest.mark.parametrize(("change", "field"), REFUSED)
def test_a_refusal_is_a_verdict_that_names_the_field(change: dict[str, Any], field: str) -> None:
    alignment = compare(free_recording(LOGITS, **change), REFERENCE)
    assert alignment.verdict == "NOT_COMPARABLE"
    assert field in alignment.sentence
    assert alignment.positions == 0
    assert not alignment.gates


def with_prompt(**changes: Any) -> Recording:
    first, second = REFERENCE.prompts
    return recording([first.model_copy(update=changes), second])


def test_other_prompt_token_ids_refuse() -> None:
    found = comparability(with_prompt(prompt_token_ids=(1, 3)), REFERENCE)
    assert [d.field for d in found.differences] == ["prompts[a].prompt_token_ids"]
    assert found.differences[0].candidate == "[1, 3]"


def test_other_context_tokens_refuse() -> None:
    forced = run(LOGITS["a"], [9, 9, 9], "forced-decode")
    found = comparability(with_prompt(forced=forced), REFERENCE)
    assert [d.field for d in found.differences] == ["prompts[a].context_token_ids"]


def test_a_prompt_that_the_baseline_lacks_refuses() -> None:
    candidate = recording([*REFERENCE.prompts, prompt("c", run(LOGITS["a"]))])
    found = comparability(candidate, REFERENCE)
    assert [(d.field, d.baseline) for d in found.differences] == [("prompts[c]", "absent")]


def test_a_prompt_that_the_candidate_lacks_is_a_matter_of_coverage() -> None:
    assert comparability(recording(REFERENCE.prompts[:1]), REFERENCE).comparable


def test_several_differences_are_all_named() -> None:
    candidate = free_recording(LOGITS, dtype="float16", model=facts(weights="0" * 64))
    found = comparability(candidate, REFERENCE)
    assert {d.field for d in found.differences} == {"dtype", "model.weights"}


def test_environment_engine_and_clock_never_refuse() -> None:
    candidate = free_recording(
        LOGITS,
        device="npu",
        environment={"cpu": "other"},
        engine={"attention": "eager"},
        created="2030-01-01T00:00:00+00:00",
        load={},
        overridden={},
        pieces={},
        model=facts(name="other", parameters=None, weight_bytes=None),
        suite=SuiteFacts(name="renamed", digest="12" * 32),
    )
    found = comparability(candidate, REFERENCE)
    assert found.comparable
    assert not found.unknown


def test_allow_dtype_waives_the_dtype_and_shows_it() -> None:
    candidate = free_recording(LOGITS, dtype="float16")
    found = comparability(candidate, REFERENCE, allow=Allow(dtype=True))
    assert found.comparable
    assert [d.field for d in found.allowed] == ["dtype"]
    assert not comparability(candidate, REFERENCE, allow=Allow(weights=True)).comparable
    warnings = compare(again(candidate), REFERENCE, allow=Allow(dtype=True)).warnings
    assert "dtype differs and was allowed: float16 against bfloat16." in warnings


def test_allow_weights_waives_weights_and_config_and_nothing_else() -> None:
    model = facts(weights="0" * 64, config={"quantization": "w8a8"})
    candidate = free_recording(LOGITS, model=model)
    found = comparability(candidate, REFERENCE, allow=Allow(weights=True))
    assert found.comparable
    assert {d.field for d in found.allowed} == {
        "model.weights",
        "model.config.hidden_size",
        "model.config.rope",
        "model.config.quantization",
    }
    assert not comparability(candidate, REFERENCE, allow=Allow(dtype=True)).comparable
    other = free_recording(LOGITS, model=facts(tokenizer="0" * 64))
    assert not comparability(other, REFERENCE, allow=Allow(weights=True)).comparable


def test_what_a_server_cannot_tell_is_unknown_and_refuses_nothing() -> None:
    model = facts(weights=None, tokenizer=None, template=None, config=None)
    for mine, theirs in (
        (free_recording(LOGITS, model=model), REFERENCE),
        (REFERENCE, free_recording(LOGITS, model=model)),
    ):
        found = comparability(mine, theirs)
        assert found.comparable
        assert set(found.unknown) == {"model.weights", "model.tokenizer", "model.config"}


def test_what_neither_can_tell_is_unknown() -> None:
    model = facts(weights=None)
    found = comparability(free_recording(LOGITS, model=model), free_recording(LOGITS, model=model))
    assert found.comparable
    assert found.unknown == ("model.weights",)


def test_long_values_are_cut() -> None:
    candidate = free_recording(LOGITS, settings=settings(eos_token_ids=list(range(1000))))
    (difference,) = comparability(candidate, REFERENCE).differences
    assert len(difference.candidate) == 60


def test_an_empty_comparison_is_an_error_and_never_a_pass() -> None:
    nothing = np.zeros((0, 64), np.float32)
    empty = free_recording({"a": nothing, "b": nothing}, settings=REFERENCE.settings)
    for mine, theirs in ((empty, REFERENCE), (REFERENCE, empty), (empty, empty)):
        with pytest.raises(EmptyComparison, match="share no position") as caught:
            compare(mine, theirs)
        assert caught.value.exit_status == 3


def test_a_forced_baseline_is_compared_by_its_tokens() -> None:
    forced = forced_recording(LOGITS, REFERENCE)
    assert comparability(REFERENCE, forced).comparable
    assert comparability(forced, REFERENCE).comparable


def test_a_training_form_is_comparable_with_its_fused_form_when_weights_may_differ() -> None:
    training = free_recording(
        LOGITS,
        engine=quantized(64),
        model=facts(weights="0" * 64),
    )
    found = comparability(training, REFERENCE, allow=Allow(weights=True))
    assert found.comparable
    assert {d.field: d.candidate for d in found.allowed}["model.quantizer"] == "group size 64"


def test_a_checkpoint_is_another_one_by_its_weights_or_its_config() -> None:
    own, rope = facts(), {"hidden_size": 8, "rope": {"theta": 2.0}}
    same = facts(name="elsewhere", tokenizer="0" * 64, template=None)
    assert checkpoint_differences(own, same) == ()
    assert checkpoint_differences(own, facts(weights="0" * 64)) == ("weights",)
    assert checkpoint_differences(own, facts(config=rope)) == ("config.rope",)
    both = facts(weights="0" * 64, config=rope)
    assert checkpoint_differences(both, own) == ("weights", "config.rope")
    unknown = facts(weights=None, config=None)
    assert checkpoint_differences(own, unknown) == checkpoint_differences(unknown, own) == ()

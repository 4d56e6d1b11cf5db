"""Shards joined are the recording of one run; anything else is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from factories import fake_record, fake_suite

from harness.devices.fake import FakeDevice
from harness.errors import UsageError
from harness.model.settings import GenerationSettings
from harness.recording.context import Context
from harness.recording.format import Recording, Repeat
from harness.recording.merge import merge
from harness.recording.recorder import Options
from harness.suite.shard import Shard

SUITE = fake_suite(prompts=7, tokens=5)


def shard(number: int, of: int, device: FakeDevice | None = None, **options: Any) -> Recording:
    chosen = Shard(number, of).prompts(SUITE)
    made = Options(prompt_ids=chosen, repeats=3, shard=True, **options)
    return fake_record(device or FakeDevice(), SUITE, made)


def shards(of: int, **options: Any) -> dict[str, Recording]:
    return {f"{k}.json": shard(k, of, **options) for k in range(1, of + 1)}


def without_clock(made: Recording) -> dict[str, Any]:
    document = made.model_dump(mode="json", exclude={"created", "load"})
    for prompt in document["prompts"]:
        for run in filter(None, (prompt["free"], prompt["forced"])):
            del run["timings"]
    return document


@pytest.mark.parametrize("of", [2, 3, 7])
@pytest.mark.parametrize("backwards", [False, True])
def test_they_are_what_one_run_would_have_made(of: int, backwards: bool) -> None:
    whole = fake_record(FakeDevice(), SUITE, Options(repeats=3))
    parts = shards(of)
    if backwards:
        parts = dict(reversed(parts.items()))
    made = merge(parts, SUITE)
    assert without_clock(made) == without_clock(whole)
    assert [r.prompt_id for r in made.repeats] == [r.prompt_id for r in whole.repeats]
    assert made.created == min(part.created for part in parts.values())
    assert made.load.load_s == max(part.load.load_s or 0 for part in parts.values())


def test_replays_of_what_diverged_are_kept() -> None:
    context = Context.of(fake_record(FakeDevice(), SUITE))
    device = FakeDevice(seed=9, fault="scale")
    whole = fake_record(device, SUITE, Options(context=context, repeats=3))
    assert any(prompt.forced for prompt in whole.prompts)
    parts = {
        str(k): shard(k, 2, FakeDevice(seed=9, fault="scale"), context=context) for k in (1, 2)
    }
    assert without_clock(merge(parts, SUITE)) == without_clock(whole)


def changed(**update: Any) -> Callable[[Recording], Recording]:
    return lambda made: made.model_copy(update=update)


def with_model(made: Recording) -> Recording:
    return made.model_copy(update={"model": made.model.model_copy(update={"weights": "1" * 64})})


def with_suite(made: Recording) -> Recording:
    return made.model_copy(update={"suite": made.suite.model_copy(update={"digest": "0" * 64})})


def with_settings(made: Recording) -> Recording:
    given = made.settings.model_dump()
    return made.model_copy(
        update={"settings": GenerationSettings(**{**given, "min_new_tokens": 2})}
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (changed(device="npu"), "device is npu, and fake in 1.json"),
        (changed(dtype="float16"), "dtype is float16, and bfloat16 in 1.json"),
        (with_model, "model.weights is 111"),
        (with_suite, "suite.digest is 000"),
        (with_settings, "settings.min_new_tokens is 2, and 0"),
        (changed(overridden={"temperature": 0.7}), "overridden.temperature is 0.7, and None"),
        (changed(environment={"numpy": "1.2"}), "environment.numpy is 1.2, and "),
    ],
)
def test_a_part_of_another_run_is_refused(
    change: Callable[[Recording], Recording], told: str
) -> None:
    parts = shards(3)
    parts["2.json"] = change(parts["2.json"])
    with pytest.raises(UsageError, match="only shards of one run can be merged") as refused:
        merge(parts, SUITE)
    assert str(refused.value).startswith(f"2.json: {told}")


def test_another_engine_is_refused() -> None:
    parts = shards(2)
    engine = parts["2.json"].engine.model_copy(update={"threads": 3})
    parts["2.json"] = parts["2.json"].model_copy(update={"engine": engine})
    with pytest.raises(UsageError, match=r"2.json: engine.threads is 3, and None in 1.json"):
        merge(parts, SUITE)


def test_a_prompt_in_two_of_them_is_refused() -> None:
    parts = {**shards(2), "again.json": shard(1, 3)}
    with pytest.raises(UsageError, match=r"again.json: prompt .* is in [12].json too"):
        merge(parts, SUITE)


def test_a_part_that_is_missing_is_named() -> None:
    parts = shards(3)
    del parts["2.json"]
    with pytest.raises(UsageError, match=r"2 of 7 prompts of suite .* name the missing shards"):
        merge(parts, SUITE)


def test_one_alone_is_refused() -> None:
    with pytest.raises(UsageError, match=r"1.json: there is nothing to merge it with"):
        merge({"1.json": shard(1, 2)}, SUITE)


def test_a_suite_that_has_changed_since_is_refused() -> None:
    with pytest.raises(UsageError, match="it is of another suite than "):
        merge(shards(2), SUITE.with_max_new_tokens(9))


def test_chats_that_another_day_would_change_are_told_of_the_whole() -> None:
    parts = shards(2)
    for name, ids in (("1.json", {"p0": "date"}), ("2.json", {"p1": "date", "p3": "chance"})):
        facts = parts[name].suite.model_copy(update={"unsteady": ids})
        parts[name] = parts[name].model_copy(update={"suite": facts})
    assert merge(parts, SUITE).suite.unsteady == {"p0": "date", "p1": "date", "p3": "chance"}
    assert merge(shards(2), SUITE).suite.unsteady is None


def test_a_prompt_that_the_suite_does_not_have_is_refused() -> None:
    parts = shards(2)
    strange = parts["2.json"].prompts[0].model_copy(update={"id": "elsewhere"})
    prompts = (strange, *parts["2.json"].prompts[1:])
    parts["2.json"] = parts["2.json"].model_copy(update={"prompts": prompts})
    with pytest.raises(UsageError, match="elsewhere: recorded, and not in suite"):
        merge(parts, SUITE)


def test_evidence_of_an_unsteady_device_is_kept() -> None:
    parts = shards(2)
    repeat = Repeat(
        prompt_id=parts["2.json"].prompts[-1].id,
        rows_compared=1,
        rows_equal=0,
        differences=({"position": 0, "shift": 0.5},),
    )
    parts["2.json"] = parts["2.json"].model_copy(update={"repeats": (repeat,)})
    assert repeat in merge(parts, SUITE).repeats

from __future__ import annotations

import pytest
from factories import fake_baseline, fake_record, fake_suite

from harness.alignment.align import compare
from harness.devices.facts import EngineFacts, EnvironmentValue
from harness.devices.fake import FakeDevice, fake_subject
from harness.devices.registry import Target
from harness.devices.spec import DeviceSpec
from harness.errors import DeviceError
from harness.messages.message import message
from harness.messages.render import render
from harness.messages.tables import LANGUAGES
from harness.process.progress import Silent
from harness.recording.context import Context
from harness.recording.format import Recording
from harness.recording.recorder import Options
from harness.session.canary import canary_cell
from harness.session.matrix import (
    CELLS,
    MatrixPlan,
    Variation,
    Warmed,
    judged_cell,
    longest_prompts,
    only,
    repeat_cell,
    run_matrix,
    variations,
)

SUITE = fake_suite(prompts=6, tokens=8)
BASELINE = fake_baseline(SUITE)
CONTEXT = Options(context=Context.of(BASELINE.reference), repeats=6)
CANDIDATE = fake_record(FakeDevice(seed=3), SUITE, CONTEXT)
CHANGED = Variation("batch", "batch 1 against 8", 8)


def plan(device: FakeDevice | None = None) -> MatrixPlan:
    def opened(spec: DeviceSpec) -> Target:
        if device is None or spec.batch_size > 100:
            raise DeviceError("it does not start")
        return Target(device, fake_subject(), "fake", "bfloat16")

    return MatrixPlan(CANDIDATE, BASELINE, SUITE, DeviceSpec("fake"), opened)


def varied(**options: object) -> Recording:
    return fake_record(FakeDevice(**options), SUITE, CONTEXT)  # type: ignore[arg-type]


def on_vllm(prompt_tokens: int = 40, **engine: EnvironmentValue) -> Recording:
    """The candidate as a vLLM device would describe its engine."""
    facts: dict[str, EnvironmentValue] = {
        "batch_size": 1,
        "enforce_eager": True,
        "prefix_caching": False,
        "block_size": 16,
    }
    long = tuple(
        p.model_copy(update={"prompt_token_ids": tuple(range(prompt_tokens))})
        for p in CANDIDATE.prompts
    )
    changes = {
        "device": "vllm-cpu",
        "engine": EngineFacts.model_validate(facts | engine),
        "prompts": long,
    }
    return CANDIDATE.model_copy(update=changes)


def test_the_same_bits_pass() -> None:
    cell = judged_cell(CHANGED, varied(seed=3), plan())
    assert (cell.status, cell.rows, cell.rows_equal) == ("PASS", 48, 48)
    assert cell.verdict is None


def test_other_bits_that_hold_by_themselves_pass_and_say_how_far_they_are() -> None:
    cell = judged_cell(CHANGED, varied(seed=4), plan())
    assert cell.rows_equal == 0
    assert cell.shift is not None
    assert 0 < cell.shift < 1
    assert cell.verdict in ("EQUIVALENT", "TOKEN_EXACT", "INCONCLUSIVE")
    assert cell.status == ("WARN" if cell.verdict == "INCONCLUSIVE" else "PASS")
    assert "48 of 48 rows" in cell.sentence


def test_a_variation_that_breaks_the_model_fails() -> None:
    cell = judged_cell(CHANGED, varied(seed=4, fault="scale"), plan())
    assert cell.status == "FAIL"
    assert cell.verdict in ("DRIFT", "DIVERGENT")
    assert cell.error_ratio is not None
    assert cell.error_ratio.value is not None
    assert cell.error_ratio.value > 2


def test_the_repeat_is_the_determinism_gate() -> None:
    steady = repeat_cell(CANDIDATE, compare(CANDIDATE, BASELINE))
    assert (steady.status, steady.rows, steady.rows_equal) == ("PASS", 48, 48)
    unsteady = varied(seed=3, fault="unsteady")
    cell = repeat_cell(unsteady, compare(unsteady, BASELINE))
    assert cell.status in ("WARN", "FAIL")
    assert cell.rows_equal < cell.rows
    assert cell.shift is not None


def test_every_cell_is_there_and_says_why_it_did_not_run() -> None:
    cells = run_matrix(plan(), compare(CANDIDATE, BASELINE), Silent())
    assert tuple(c.name for c in cells) == CELLS
    assert [c.status for c in cells] == ["PASS"] + ["NOT_RUN"] * 5
    assert "runs one request at a time" in cells[1].sentence
    assert "no graphs" in cells[2].sentence


def test_an_engine_that_does_not_start_with_the_change_shows_nothing() -> None:
    candidate = on_vllm(batch_size=1)
    opened = plan().open_target
    plan_ = MatrixPlan(
        candidate, BASELINE, SUITE, DeviceSpec("vllm-cpu"), opened,
        canary=lambda spec, dtype, progress: canary_cell(DeviceSpec("fake"), dtype, progress),
    )  # fmt: skip
    cells = run_matrix(plan_, compare(CANDIDATE, BASELINE), Silent())
    assert {c.sentence for c in cells[1:-1]} == {"Not run: it does not start."}
    assert {c.status for c in cells[1:-1]} == {"INCONCLUSIVE"}
    assert cells[-1].sentence == "Not run: fake runs no checkpoint."


def test_what_is_changed_is_the_opposite_of_what_was_in_force() -> None:
    found = {v.name: v for v in variations(on_vllm(), longest_prompts(CANDIDATE))}
    assert found["batch"].batch_size == 8
    assert found["graph"].engine_args == {"enforce_eager": "false"}
    assert found["prefix_cache"].engine_args == {"enable_prefix_caching": "true"}
    assert found["prefix_cache"].warm
    assert found["chunked_prefill"].engine_args["max_num_batched_tokens"] == "16"
    assert all(v.why_not is None for v in found.values())
    other = on_vllm(batch_size=32, enforce_eager=False, prefix_caching=True)
    found = {v.name: v for v in variations(other, longest_prompts(CANDIDATE))}
    assert found["batch"].batch_size == 1
    assert found["graph"].engine_args == {"enforce_eager": "true"}
    assert found["graph"].batch_size == 32
    assert found["prefix_cache"].engine_args == {"enable_prefix_caching": "false"}
    assert not found["prefix_cache"].warm
    # An engine takes no fewer tokens in a step than requests.
    assert found["chunked_prefill"].engine_args["max_num_batched_tokens"] == "32"


@pytest.mark.parametrize(("tokens", "names"), [(10, 2), (16, 2), (17, 0)])
def test_prompts_that_are_too_short_for_a_cache_or_a_piece_say_so(tokens: int, names: int) -> None:
    found = list(variations(on_vllm(tokens), longest_prompts(CANDIDATE)))
    assert sum(v.why_not is not None for v in found) == names


@pytest.mark.parametrize(
    ("tokens", "engine", "block"),
    [
        (100, {"block_size": 128}, 128),
        (128, {"block_size": 128}, 128),
        (100, {"block_size": 16}, 128),  # in force without a cache, which the cell turns on
        (100, {"block_size": 16, "chunked_prefill": False}, 128),
        (100, {}, 128),
        (200, {"block_size": 256, "chunked_prefill": True}, 256),
        (200, {"block_size": 256, "prefix_caching": True}, 256),
        (129, {"block_size": 16}, None),
        (200, {"block_size": 256}, None),
        (200, {"block_size": 128, "chunked_prefill": True}, None),
    ],
)
def test_on_ascend_a_longer_prompt_helps_and_no_block_size(
    tokens: int, engine: dict[str, EnvironmentValue], block: int | None
) -> None:
    made = on_vllm(tokens, **engine).model_copy(update={"device": "npu"})
    found = {v.name: v for v in variations(made, longest_prompts(CANDIDATE))}
    why = found["prefix_cache"].why_not
    if block is None:
        assert why is None
        return
    assert why is not None
    assert why == message("matrix.short_for_ascend", block=block)
    for language in LANGUAGES:
        said = render(why, language)
        assert f"{block}" in said
        assert "block_size" not in said


@pytest.mark.parametrize("device", ["vllm-cpu", "vllm-gpu"])
def test_elsewhere_a_smaller_block_helps(device: str) -> None:
    made = on_vllm(10).model_copy(update={"device": device})
    found = {v.name: v for v in variations(made, longest_prompts(CANDIDATE))}
    assert found["prefix_cache"].why_not == message("matrix.short_for_a_block", block=16)


def test_a_warmed_device_has_run_everything_once() -> None:
    device = FakeDevice(seed=3, fault="unsteady")
    warmed = fake_record(Warmed(device), SUITE, Options())  # type: ignore[arg-type]
    cold = fake_record(FakeDevice(seed=3, fault="unsteady"), SUITE, Options())
    assert [p.run.replay for p in warmed.prompts] == ["free"] * 6
    # The unsteady fake counts its runs: the warmed one is six further.
    assert device._runs == 12
    first, other = warmed.prompts[0].run.rows, cold.prompts[0].run.rows
    assert first.digest.tobytes() != other.digest.tobytes()


def test_the_longest_prompts_are_run() -> None:
    suite = fake_suite(prompts=20)
    prompts = fake_record(FakeDevice(), suite).prompts
    longer = tuple(
        p.model_copy(update={"prompt_token_ids": tuple(range(1, 3 + i))})
        for i, p in enumerate(prompts)
    )
    recording = CANDIDATE.model_copy(update={"prompts": longer})
    assert longest_prompts(recording) == tuple(f"p{i}" for i in range(19, 3, -1))


def test_a_part_of_a_baseline_misses_no_other_prompt() -> None:
    part = only(BASELINE, ["p1", "p3"])
    assert [[p.id for p in arm.prompts] for _, arm in part.arms()] == [["p1", "p3"]] * 4
    mine = fake_record(
        FakeDevice(seed=3),
        SUITE,
        Options(context=CONTEXT.context, prompt_ids=frozenset(("p1", "p3"))),
    )
    gates = {g.name: g.status for g in compare(mine, part).gates}
    assert gates["coverage"] == "PASS"

"""Traces with noise and faults put in by hand; real ones are in tests/engines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from factories import diagnosed
from numpy.typing import NDArray

from harness.devices.trace import (
    EMBEDDING,
    HEAD,
    IN_LAYER,
    NORM,
    Trace,
    digest_of,
    head_statistics,
    layer_place,
    order_of,
    sketch_rows,
)
from harness.errors import EmptyComparison, UsageError
from harness.locate.judge import (
    PEAK_PROMPTS,
    block_of,
    curve_of,
    first_beyond,
    layer_rows,
    places,
    shows_at,
)
from harness.locate.result import HandOver, LocatedPrompt, Location, Side, load_location
from harness.locate.result import save_location as save
from harness.report.location_text import diagnosis_lines, location_lines

LAYERS, WIDTH, VOCABULARY, POSITIONS = 3, 96, 256, 40
PLACES = [EMBEDDING, *(layer_place(n, w) for n in range(LAYERS) for w in IN_LAYER), NORM]
NOISE = 0.01

Block = NDArray[np.float64]
Fault = Callable[[str, Block], Block]


def blocks(prompt: int) -> dict[str, Block]:
    """What every module really gives."""
    random = np.random.default_rng(prompt)
    found = {p: random.standard_normal((POSITIONS, WIDTH)) for p in PLACES}
    found[PLACES[5]][0] *= 1e4  # a position with huge activations, as Llamas have
    return found | {HEAD: 3 * random.standard_normal((POSITIONS, VOCABULARY))}


def trace(prompt: int, seed: int, noise: float = NOISE, fault: Fault | None = None) -> Trace:
    random = np.random.default_rng([prompt, seed])
    made = {}
    for place, truth in blocks(prompt).items():
        size = noise if place != EMBEDDING else 0.0
        block = truth * (1 + size * random.standard_normal(truth.shape))
        made[place] = (block if fault is None else fault(place, block)).astype(np.float32)
    head = made.pop(HEAD)
    return Trace(
        f"p{prompt}",
        tuple(range(POSITIONS)),
        {p: sketch_rows(b) for p, b in made.items()},
        {p: digest_of(b) for p, b in made.items()},
        head_statistics(head),
    )


def arm(seed: int, noise: float = NOISE, fault: Fault | None = None, n: int = 8) -> list[Trace]:
    return [trace(i, seed, noise, fault) for i in range(n)]


REFERENCE, ORACLE, CONTROL = arm(1), arm(0, 0.0), arm(2)


def from_place(start: str, change: Callable[[Block], Block]) -> Fault:
    """A fault at one place that travels on to all that follow."""

    def fault(place: str, block: Block) -> Block:
        return change(block) if order_of(place) >= order_of(start) else block

    return fault


def noisier(factor: float) -> Callable[[Block], Block]:
    random = np.random.default_rng(5)
    return lambda b: b * (1 + factor * NOISE * random.standard_normal(b.shape))


def located(fault: Fault | None, seed: int = 3, n: int = 8) -> str | None:
    found = places(arm(seed, fault=fault, n=n), REFERENCE[:n], ORACLE[:n], {}, "bfloat16")
    first = first_beyond(found)
    return None if first is None else first.name


@pytest.mark.parametrize("seed", range(3, 13))
def test_another_correct_engine_has_no_fault(seed: int) -> None:
    assert located(None, seed) is None


@pytest.mark.parametrize("place", [PLACES[0], PLACES[4], PLACES[13], PLACES[18], NORM, HEAD])
def test_the_first_of_all_the_places_that_a_fault_reaches_is_named(place: str) -> None:
    assert located(from_place(place, noisier(3.0))) == place


def test_an_output_that_is_scaled_by_a_hundredth_is_found() -> None:
    """Its error is hardly larger than the noise."""
    fault = from_place(NORM, lambda b: 1.01 * b)
    found = places(arm(3, fault=fault), REFERENCE, ORACLE, {}, "bfloat16")
    norm = next(p for p in found if p.name == NORM)
    assert norm.ratio.value is not None
    assert norm.ratio.value < 1.5
    assert norm.slope.value == pytest.approx(0.01, abs=0.002)
    assert first_beyond(found) == norm


@pytest.mark.parametrize(("noise", "named"), [(0.5, None), (1.0, NORM)])
def test_a_scaling_within_a_smaller_error_than_the_references_is_no_fault(
    noise: float, named: str | None
) -> None:
    """An engine that sums in float32 and rounds once may give half the error, 0.5 % too
    little; with the reference's error the same scaling is told."""
    fault = from_place(NORM, lambda b: 0.995 * b)
    candidate = arm(3, noise * NOISE, fault)
    found = places(candidate, REFERENCE, ORACLE, {}, "bfloat16")
    norm = next(p for p in found if p.name == NORM)
    assert norm.slope.high is not None
    assert norm.slope.high < -norm.slope_limit
    first = first_beyond(found)
    assert (first and first.name) == named


def test_a_coordinate_that_is_wrong_in_a_smaller_error_is_still_found() -> None:
    def one(block: Block) -> Block:
        changed = block.copy()
        changed[:, 7] += 0.05
        return changed

    place = PLACES[7]
    found = places(arm(3, 0.3 * NOISE, from_place(place, one)), REFERENCE, ORACLE, {}, "bfloat16")
    first = first_beyond(found)
    assert first is not None
    assert first.name == place
    assert first.ratio.high is not None
    assert first.ratio.high < 1.0


def test_damage_to_one_coordinate_is_found_where_the_whole_hides_it() -> None:
    def one(block: Block) -> Block:
        changed = block.copy()
        changed[:, 7] += 0.08
        return changed

    place = PLACES[7]
    fault = from_place(place, one)
    found = places(arm(3, fault=fault), REFERENCE, ORACLE, {}, "bfloat16")
    first = first_beyond(found)
    assert first is not None
    assert first.name == place
    assert first.ratio.value is not None
    assert first.ratio.value < 1.5
    assert first.peak is not None
    assert first.peak > first.peak_limit


def test_one_row_of_the_head_is_found_among_the_likeliest_tokens() -> None:
    def one_row(place: str, block: Block) -> Block:
        if place != HEAD:
            return block
        changed = block.copy()
        changed[:, 11] = np.where(changed[:, 11] > 0, 1.05 * changed[:, 11], changed[:, 11])
        return changed

    found = places(arm(3, fault=one_row), REFERENCE, ORACLE, {}, "bfloat16")
    first = first_beyond(found)
    assert first is not None
    assert first.name == HEAD


def test_bits_that_equal_the_references_are_said_to() -> None:
    found = places(REFERENCE, REFERENCE, ORACLE, {}, "bfloat16")
    assert {p.status for p in found} == {"EQUAL"}
    ratios = [p.ratio.value for p in found if p.name != EMBEDDING]
    assert ratios == pytest.approx([1.0] * len(ratios), abs=1e-3)


def test_a_place_without_an_error_of_the_reference_is_judged_by_one_rounding() -> None:
    """An embedding is exact in the reference: any change of it is a fault."""

    def shifted(place: str, block: Block) -> Block:
        return block * 1.02 if place == EMBEDDING else block

    assert located(shifted) == EMBEDDING


def test_nan_where_the_reference_is_finite_is_found_first() -> None:
    def nan(place: str, block: Block) -> Block:
        return np.where(np.arange(POSITIONS)[:, None] == 3, np.nan, block)

    found = places(
        arm(3, fault=lambda p, b: nan(p, b) if order_of(p) >= order_of(PLACES[9]) else b),
        REFERENCE,
        ORACLE,
        {},
        "bfloat16",
    )
    first = first_beyond(found)
    assert first is not None
    assert (first.name, first.status) == (PLACES[9], "NONFINITE")
    assert first.ratio.value is not None  # of the other positions


def test_where_the_reference_itself_is_not_finite_nothing_is_judged() -> None:
    def nan(place: str, block: Block) -> Block:
        return np.full_like(block, np.nan) if place == NORM else block

    broken = arm(1, fault=nan)
    found = places(arm(3, fault=nan), broken, ORACLE, {}, "float16")
    assert next(p for p in found if p.name == NORM).status == "UNJUDGED"
    assert first_beyond(found) is None


def test_a_control_widens_the_limit() -> None:
    wide = arm(2, fault=from_place(PLACES[4], noisier(3.0)))
    candidate = arm(3, fault=from_place(PLACES[4], noisier(3.0)))
    assert first_beyond(places(candidate, REFERENCE, ORACLE, {}, "bfloat16")) is not None
    with_control = places(candidate, REFERENCE, ORACLE, {"control": wide}, "bfloat16")
    assert first_beyond(with_control) is None
    assert next(p for p in with_control if p.name == PLACES[4]).limit > 3


def test_one_prompt_is_judged_by_its_ratio_alone() -> None:
    assert PEAK_PROMPTS > 1
    assert located(None, n=1) is None
    assert located(from_place(PLACES[13], noisier(3.0)), n=1) == PLACES[13]


def test_float32_is_refused() -> None:
    with pytest.raises(UsageError, match="float32"):
        places(REFERENCE, REFERENCE, ORACLE, {}, "float32")


def test_traces_of_other_tokens_are_no_comparison() -> None:
    with pytest.raises(EmptyComparison):
        places(REFERENCE[:4], REFERENCE, ORACLE, {}, "bfloat16")
    with pytest.raises(EmptyComparison):
        places([], [], [], {}, "bfloat16")


def test_parts_belong_to_their_block() -> None:
    assert block_of("model.layers.10.self_attn.heads") == "model.layers.10.self_attn"
    assert block_of("model.layers.10.mlp") == "model.layers.10.mlp"
    assert block_of("model.layers.1.input_layernorm") == "model.layers.1.input_layernorm"
    assert block_of(NORM) == NORM


def test_an_error_that_begins_late_shows_where_it_begins() -> None:
    def late(block: Block) -> Block:
        changed = block.copy()
        changed[25:] *= 1.2
        return changed

    candidate = arm(3, fault=from_place(PLACES[13], late))
    _, position = shows_at(PLACES[13], candidate, REFERENCE, ORACLE)
    assert position == 25


def location(fault: Fault | None) -> Location:
    found = places(arm(3, fault=fault), REFERENCE, ORACLE, {"control": CONTROL}, "bfloat16")
    first = first_beyond(found)
    side = Side(device="d", model="m", dtype="bfloat16", engine={}, environment={})
    over = HandOver(
        module="x",
        prompt_id="p0",
        position=3,
        step=0,
        token_ids=[1, 2, 3, 4],
        msprobe={"step": [0]},
    )
    return Location(
        created="2025-01-02T03:04:05+00:00",
        module=None if first is None else block_of(first.name),
        place=None if first is None else first.name,
        sentence="s",
        places=tuple(found),
        hand_over=None if first is None else over,
        candidate=side,
        reference=side,
        controls=["control"],
        prompts=(LocatedPrompt(id="p0", prompt_tokens=2, positions=4),),
    )


def test_a_location_survives_its_file(tmp_path: Path) -> None:
    made = location(from_place(PLACES[13], noisier(3.0)))
    save(made, tmp_path / "l.json")
    assert load_location(tmp_path / "l.json") == made


def test_the_curve_has_a_row_for_every_layer_and_marks_the_place() -> None:
    made = location(from_place(PLACES[13], noisier(6.0)))
    lines = list(location_lines(made))
    rows = {line.split()[0]: line for line in lines if line.startswith(("model", "lm_head"))}
    assert list(rows) == [name for name, _ in layer_rows(made.places)]
    assert [name for name, line in rows.items() if "<- here" in line] == ["model.layers.1"]
    assert rows["model.layers.1"].count("#") > rows["model.layers.0"].count("#")
    assert "!" in rows["model.layers.2"]
    assert "!" not in rows["model.layers.0"]
    assert any("prompt p0, position 3" in line for line in lines)


def test_an_alignment_takes_blocks_and_layers_with_what_is_noise_there() -> None:
    found = location(from_place(PLACES[13], noisier(6.0)))
    curve = curve_of(found)
    names = [point.module for point in curve.curve]
    assert names == sorted(names, key=order_of)
    assert len(names) == 3 * LAYERS + 3
    assert not any(name.endswith(("heads", "layernorm", "qkv_proj")) for name in names)
    assert curve.module == found.module
    beyond = [p.module for p in curve.curve if (p.candidate or 0) > (p.noise or 0) > 0]
    assert beyond[0] == "model.layers.1.self_attn"


def test_the_curve_of_a_correct_engine_marks_nothing() -> None:
    text = "\n".join(location_lines(location(None)))
    assert "<- here" not in text
    assert "to go on" not in text


def quiet_first_layer(seed: int, factor: float) -> list[Trace]:
    """Arms whose first layer has little noise, ``factor`` times the reference's there."""

    def less(place: str, block: Block) -> Block:
        if not place.startswith("model.layers.0"):
            return block
        truth = CLEAN[block.shape][place]
        return truth + factor * 0.1 * (block - truth)

    return [trace_of(i, seed, less) for i in range(8)]


CLEAN: dict[object, dict[str, Block]] = {}


def trace_of(prompt: int, seed: int, fault: Fault) -> Trace:
    CLEAN.clear()
    CLEAN.update({b.shape: blocks(prompt) for b in blocks(prompt).values()})
    return trace(prompt, seed, fault=fault)


def test_what_is_little_beside_the_same_place_of_other_layers_is_noise() -> None:
    """An engine that rounds elsewhere in the first layer, where hardly any noise is yet."""
    reference, candidate = quiet_first_layer(1, 1.0), quiet_first_layer(3, 3.0)
    assert first_beyond(places(candidate, reference, ORACLE, {}, "bfloat16")) is None
    worse = quiet_first_layer(3, 20.0)
    first = first_beyond(places(worse, reference, ORACLE, {}, "bfloat16"))
    assert first is not None
    assert first.layer == 0


def test_what_the_diagnosis_of_the_alignment_said_is_printed_with_it() -> None:
    said = list(diagnosis_lines(diagnosed("SYSTEMATIC")))
    assert said[1].startswith("the diagnosis of this alignment: Explained by")
    assert said[2].startswith("  not to be told apart from ")
    assert len(said) == 3
    slight = list(diagnosis_lines(diagnosed("SLIGHT")))
    assert slight[2].startswith("  also: Explained by")
    assert "no part that rounding does not have" in list(diagnosis_lines(diagnosed("NOTHING")))[1]
    assert list(diagnosis_lines(None)) == []

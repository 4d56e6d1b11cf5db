"""LongRoPE: both tables are exact where they are right, and a wrong one is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from numpy_engine import NumpyEngine
from test_canary_faults import ALONE, run

from harness.canary.checkpoint import save
from harness.canary.layout import probes
from harness.canary.phases import factors, planes
from harness.canary.sizes import STRETCH, Sizes
from harness.canary.stages import Abilities, stages
from harness.errors import UsageError

SIZES = Sizes(
    context=512, layers=2, heads=4, kv_heads=2, head_dim=64, hidden=128, vocab_size=128,
    original_context=256,
)  # fmt: skip
BY_POSITION = dataclasses.replace(ALONE, by_position=True)
AT_LOAD = ALONE


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("canary")
    save(SIZES, path)
    return path


class AtLoad(NumpyEngine):
    """Takes the long table for all requests, as the longest may need it."""

    def x_long(self, end: int) -> bool:
        return True


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("kind", "able"), [(NumpyEngine, BY_POSITION), (AtLoad, AT_LOAD)])
def test_a_right_choice_of_the_table_is_exact(
    kind: type[NumpyEngine], able: Abilities, dtype: str, folder: Path
) -> None:
    outcome = run(kind(folder, dtype), SIZES, able)
    assert outcome.outcome == "EXACT", outcome.findings
    tables = {s.table for s in outcome.stages}
    assert tables == ({"short", "long"} if able.by_position else {"long"})


def test_a_short_engine_takes_the_short_table_for_all(folder: Path) -> None:
    class Short(NumpyEngine):
        def open(self):
            return dataclasses.replace(super().open(), max_positions=SIZES.original_context)

    outcome = run(Short(folder), SIZES, AT_LOAD)
    assert outcome.outcome == "EXACT", outcome.findings
    assert {s.table for s in outcome.stages} == {"short"}
    assert max(s.longest for s in outcome.stages) <= SIZES.original_context


class AlwaysShort(NumpyEngine):
    def x_long(self, end: int) -> bool:
        return False


class ChoosesTooEarly(NumpyEngine):
    def x_long(self, end: int) -> bool:
        return end > 128


class Unscaled(NumpyEngine):
    def x_factors(self, end: int) -> float:
        return 1.0


class Reversed(NumpyEngine):
    def x_factors(self, end: int) -> np.ndarray:
        return np.asarray(super().x_factors(end))[::-1]


@pytest.mark.parametrize(
    ("kind", "able", "cause", "word"),
    [
        (AtLoad, BY_POSITION, "rope_table", "those of the long table"),
        (AlwaysShort, BY_POSITION, "rope_table", "those of the short table"),
        (AlwaysShort, AT_LOAD, "rope_table", "those of the short table"),
        (ChoosesTooEarly, BY_POSITION, "rope_table", "those of the long table"),
        (Unscaled, BY_POSITION, "rope_unscaled", "without its factors"),
        (Unscaled, AT_LOAD, "rope_unscaled", "without its factors"),
    ],
)
def test_a_wrong_table_is_named(
    kind: type[NumpyEngine], able: Abilities, cause: str, word: str, folder: Path
) -> None:
    (finding,) = run(kind(folder), SIZES, able).findings
    assert finding.cause == cause, finding.sentence
    assert word in finding.sentence


def test_a_table_in_another_order_is_seen(folder: Path) -> None:
    assert run(Reversed(folder), SIZES, BY_POSITION).outcome == "WRONG"


def test_no_request_crosses_the_original_context_where_position_chooses() -> None:
    for stage in stages(SIZES, BY_POSITION):
        for request in stage.requests:
            first = len(request.prompt_token_ids)
            given = request.forced_token_ids
            last = first + (request.max_new_tokens if given is None else len(given))
            short = last <= SIZES.original_context
            assert short == (stage.sizes.table == "short")
            assert short or first > SIZES.original_context


def test_the_tables_differ_and_every_distance_is_a_whole_number_under_both() -> None:
    short, long = factors(SIZES, "short"), factors(SIZES, "long")
    assert np.array_equal(short * STRETCH, long)
    assert len(set(long.tolist())) > 1
    other = SIZES.of_the_other_table
    for under_short, under_long in zip(SIZES.reads, other.reads, strict=True):
        assert under_long == tuple(STRETCH * d for d in under_short)
    assert other.history + 32 <= SIZES.context
    assert [p.token_id for p in probes(SIZES)] == [p.token_id for p in probes(other)]
    assert planes(SIZES, 0).share >= 0.06


def test_config_says_the_tables_where_each_release_looks(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["original_max_position_embeddings"] == 256
    for table in (config["rope_scaling"], config["rope_parameters"]):
        assert len(table["long_factor"]) == len(table["short_factor"]) == SIZES.head_dim // 2
        assert table["rope_type"] == "longrope"


@pytest.mark.parametrize("given", [{"original_context": 400}, {"original_context": 8},
                                   {"family": "mistral", "sliding_window": 64}])  # fmt: skip
def test_an_original_context_that_does_not_fit_is_refused(given: dict) -> None:
    with pytest.raises(UsageError, match="original_context"):
        dataclasses.replace(SIZES, **given)

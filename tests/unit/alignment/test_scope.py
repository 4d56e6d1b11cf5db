"""What a judgement could have seen, counted by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from factories import fake_baseline, fake_record, fake_suite
from report_alignments import Page

from harness.alignment.align import compare
from harness.alignment.result import load_alignment
from harness.alignment.scope import alike_warning, scope_of, scope_rows
from harness.devices.fake import FakeDevice
from harness.recording.context import Context
from harness.recording.format import Recording
from harness.recording.recorder import Options
from harness.report import to_html, to_markdown
from harness.suite.suite import Prompt, Suite

Command = Callable[..., Any]
BASELINE = "baselines/fake/s/bfloat16"
SUITE = fake_suite(prompts=6, tokens=8)
ARMS = fake_baseline(SUITE)


def with_texts(recording: Recording, texts: list[str]) -> Recording:
    prompts = tuple(
        p.model_copy(update={"text": text})
        for p, text in zip(recording.prompts, texts, strict=True)
    )
    return recording.model_copy(update={"prompts": prompts})


def with_engine(recording: Recording, **facts: int) -> Recording:
    engine = recording.engine.model_copy(update=facts)
    return recording.model_copy(update={"engine": engine})


def test_the_figures_are_those_of_the_rows() -> None:
    found = scope_of(fake_record(FakeDevice(), SUITE), ARMS)
    # Prompts of 2 tokens, 8 outputs each: before the last are 2 + 7.
    assert (found.longest_context, found.prompts, found.positions) == (9, 6, 48)
    assert (found.prefill_rows, found.decode_rows) == (6, 42)
    fed = {t for p in ARMS.reference.prompts for t in (*p.prompt_token_ids, *p.run.token_ids[:-1])}
    assert found.ids_fed == len(fed)
    assert found.vocabulary == ARMS.reference.model.vocab_size
    assert found.chose == 6
    assert found.judged


def test_rows_beyond_a_block_are_counted_where_the_engine_tells_it() -> None:
    own = fake_record(FakeDevice(), SUITE)
    # Contexts of 2 to 9 tokens: four of each prompt are longer than 5.
    found = scope_of(with_engine(own, block_size=5, batch_size=4), ARMS)
    assert (found.block_size, found.rows_beyond_block, found.batch_size) == (5, 24, 4)
    plain = scope_of(own.model_copy(update={"engine": type(own.engine)()}), ARMS)
    assert (plain.block_size, plain.rows_beyond_block, plain.batch_size) == (None, None, None)
    said = dict(scope_rows(plain))
    assert said["scope.block"].key == said["scope.batch"].key == "scope.is.unknown"


def test_a_device_that_followed_given_tokens_chose_none() -> None:
    forced = Options("forced-prefill", Context.of(ARMS.reference))
    found = scope_of(fake_record(FakeDevice(), SUITE, forced), ARMS)
    assert (found.chose, found.prefill_rows, found.decode_rows) == (0, 48, 0)
    assert dict(scope_rows(found))["scope.choice"].key == "scope.is.choice.none"


def test_only_judged_positions_count() -> None:
    """Without a replay nothing is judged behind the first other token."""
    own = fake_record(FakeDevice(seed=9, fault="scale"), SUITE)
    judged = compare(own, ARMS)
    assert judged.scope is not None
    assert judged.scope.positions == judged.positions < 48


def test_before_a_run_the_baseline_tells_what_it_can() -> None:
    found = scope_of(None, ARMS)
    assert (found.positions, found.prefill_rows, found.decode_rows) == (48, 6, 42)
    assert found.chose is found.block_size is found.batch_size is None
    assert dict(scope_rows(found))["scope.choice"].key == "scope.is.later"


def test_prompts_of_few_templates_are_warned_of() -> None:
    texts = [f"The {kind} of {word} is what it is" for kind in ("capital", "river")
             for word in ("France", "Spain", "Peru")]  # fmt: skip
    own = with_texts(fake_record(FakeDevice(), SUITE), texts)
    arms = replace(ARMS, reference=with_texts(ARMS.reference, texts))
    found = scope_of(own, arms)
    assert found.distinct_prompts < 3
    assert {name for group in found.alike for name in group} == {p.id for p in own.prompts}
    said = compare(own, arms).warnings
    assert any("much alike" in warning for warning in said)
    # Five of six is not fewer by a lot.
    other = ["A", "bb cc dd ee ff", "gg hh ii jj kk", "ll mm nn oo pp", *texts[:2]]
    few = scope_of(with_texts(own, other), replace(ARMS, reference=with_texts(own, other)))
    assert few.distinct_prompts == 5
    assert alike_warning(few) is None


def test_token_ids_stand_in_for_a_text_that_is_not_there() -> None:
    prompts = tuple(
        Prompt(id=f"p{i}", line=i + 1, token_ids=(5, 6, 7, 8, 9, 10 + i)) for i in range(4)
    )
    suite = Suite("unit", Path("unit.yaml"), prompts, SUITE.generation, "35" * 32)
    own = with_texts(fake_record(FakeDevice(), suite), [""] * 4)
    assert scope_of(None, own).distinct_prompts == 1


def test_every_report_holds_the_table(tmp_path: Path) -> None:
    found = compare(fake_record(FakeDevice(), SUITE), ARMS)
    text = Page(to_html([found])).text
    for shown in (text, to_markdown([found])):
        assert "What this run could have seen" in shown
        assert "48: 6 by prefill, 42 by decode" in shown
    chinese = to_markdown([found], language="zh")
    assert "本次运行的可见范围" in chinese
    from harness.alignment.result import save_alignment

    save_alignment(found, tmp_path / "a.json")
    assert load_alignment(tmp_path / "a.json") == found


def test_an_alignment_without_a_scope_is_read_and_shown(tmp_path: Path) -> None:
    found = compare(fake_record(FakeDevice(), SUITE), ARMS).model_copy(
        update={"scope": None, "power": None}
    )
    assert "What this run could have seen" not in Page(to_html([found])).text
    del tmp_path


def test_a_baseline_shows_its_scope(command: Command) -> None:
    ended = command("baseline", "show", BASELINE)
    assert ended.status == 0
    assert re.search(r"prompts +4\n", ended.out)
    assert "24: 4 by prefill, 20 by decode" in ended.out
    assert "known once the device has run" in ended.out


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_folder_without_a_baseline_is_one_line(command: Command, folder: str) -> None:
    ended = command("baseline", "show", folder)
    assert ended.status == 2
    assert "no baseline here" in ended.error


def test_the_json_holds_it(command: Command) -> None:
    assert command("compare", f"{BASELINE}/control-seed-1.json", f"{BASELINE}/reference.json",
                   "--json", "o.json").status in (0, 3)  # fmt: skip
    scope = json.loads(Path("o.json").read_text("utf-8"))["scope"]
    assert scope["positions"] == 24
    assert scope["distinct_prompts"] <= scope["prompts"] == 4

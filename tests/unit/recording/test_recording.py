"""A recording comes back as it was, stays small, and refuses what it is not."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import (
    RNG,
    bfloat16,
    facts,
    free_recording,
    prompt,
    recording,
    run,
    text_run,
    told_run,
)

from harness.errors import ChecksumError, FormatError, HarnessError
from harness.files import jsonfile
from harness.files.packing import pack
from harness.recording.format import (
    SCHEMA,
    Difference,
    Recording,
    Repeat,
    Run,
    load_recording,
    margins_of,
    save_recording,
)
from harness.statistics.rows import RowStatistics, row_statistics

LOGITS = bfloat16(3 * RNG(1).standard_normal((4, 64)))
ROUGH = (3 * RNG(2).standard_normal((3, 64))).astype(np.float32)


def full() -> Recording:
    """Free and forced runs, repeats, odd text and a NaN row."""
    broken = LOGITS.copy()
    broken[2, 5:] = np.nan
    broken[3] = np.inf
    return recording(
        [
            prompt("a", run(LOGITS), run(ROUGH, [1, 2, 3], "forced-decode")),
            prompt("b", forced=run(broken, [1, 2, 3, 4], "forced-prefill")),
        ],
        repeats=(
            Repeat(
                prompt_id="a",
                rows_compared=4,
                rows_equal=3,
                differences=(Difference(position=1, shift=-0.125),),
            ),
        ),
        pieces={"1": "\ud800", "2": "\u2028\x1b[31m"},
        model=facts(weights=None, config=None),
    )


@pytest.mark.parametrize("equal", [0, 4])
def test_a_repeat_accounts_for_every_row(equal: int) -> None:
    with pytest.raises(ValueError, match="do not add up"):
        Repeat(
            prompt_id="a",
            rows_compared=4,
            rows_equal=equal,
            differences=(Difference(position=1, shift=0.5),),
        )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.json"
    save_recording(full(), path)
    return path


def same_rows(a: RowStatistics, b: RowStatistics) -> bool:
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(RowStatistics)]
    return all(
        (x is None and y is None)
        or (x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes())
        for x, y in pairs
    )


def runs_of(made: Recording) -> list[Run]:
    return [r for p in made.prompts for r in (p.free, p.forced) if r is not None]


def test_every_array_and_every_field_comes_back(file: Path) -> None:
    made, read = full(), load_recording(file)
    assert len(runs_of(read)) == 3
    for mine, theirs in zip(runs_of(made), runs_of(read), strict=True):
        assert same_rows(mine.rows, theirs.rows)
    assert read.model_dump() == made.model_dump()


def test_saving_what_was_read_gives_the_same_bytes(file: Path) -> None:
    before = file.read_bytes()
    save_recording(load_recording(file), file)
    assert file.read_bytes() == before


@pytest.mark.slow
def test_a_float32_recording_takes_at_most_640_bytes_per_position(tmp_path: Path) -> None:
    """32 prompts of 64 tokens at the vocabulary of BitCPM4, in the widest form:
    float32 logits, three-byte ids, gaps between tokens. As many pieces per
    position as SmolLM2 names on the suite ``port`` (1.34)."""
    random = RNG(3)
    frequent = random.integers(0, 73_448, 2700)
    prompts = []
    block = 2.5 * random.standard_normal((64, 73_448), dtype=np.float32)
    for i in range(32):
        logits = np.roll(block, 1000 * i, axis=1)
        for row in logits:
            top = random.choice(frequent, 20, replace=False)
            row[top] = 14 + 4 * random.standard_normal(20).astype(np.float32)
        made = run(logits)
        gaps = tuple(round(float(g), 6) for g in random.uniform(0.01, 0.2, 63))
        timings = made.timings.model_copy(update={"itl_s": gaps})
        made = made.model_copy(update={"timings": timings, "text": "word " * 64})
        ids = tuple(int(t) for t in random.integers(0, 73_448, 40))
        prompts.append(prompt(f"prompt-{i}", made, ids=ids))
    shown = {int(i) for p in prompts for i in p.run.rows.top_ids[:, :5].ravel()}
    made_recording = recording(
        prompts, model=facts(vocab_size=73_448), pieces={str(i): " word" for i in sorted(shown)}
    )
    path = tmp_path / "a.json"
    save_recording(made_recording, path)
    assert len(shown) / made_recording.positions > 1.2
    assert path.stat().st_size / made_recording.positions <= 640


def test_the_readable_parts_are_readable(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert (
        f'"token_ids": {json.dumps(list(full().prompts[0].run.token_ids))}'.replace(", ", ",")
        in text
    )
    assert '"attention": "sdpa"' in text
    assert max(map(len, text.splitlines())) < 5000


CHANGES: list[tuple[tuple[Any, ...], Any, str]] = [
    (("device",), 1, "device"),
    (("dtype",), None, "dtype"),
    (("created",), 2025, "created"),
    (("model", "parameters"), "10", "model.parameters"),
    (("model", "parameters"), 1.5, "model.parameters"),
    (("model", "vocab_size"), True, "model.vocab_size"),
    (("settings",), [], "settings"),
    (("settings",), {}, "settings.max_new_tokens"),
    (("settings", "max_new_tokens"), "4", "settings.max_new_tokens"),
    (("settings", "max_new_tokens"), True, "settings.max_new_tokens"),
    (("settings", "ignore_eos"), 1, "settings.ignore_eos"),
    (("settings", "eos_token_ids"), [True], "settings.eos_token_ids[0]"),
    (("settings", "temperature"), 0.7, "settings.temperature"),
    (("load", "load_weights_s"), 1.0, "load.load_weights_s"),
    (("load", "weights_s"), -1.0, "load.weights_s"),
    (("engine", "seed"), [1], "engine.seed"),
    (("load", "load_s"), "fast", "load.load_s"),
    (("engine", "threads"), [2], "engine.threads"),
    (("environment",), {"x": {}}, "environment.x"),
    (("prompts",), [], "prompts"),
    (("prompts",), {}, "prompts"),
    (("prompts", 0, "id"), 3, "prompts[0].id"),
    (("prompts", 1, "id"), "a", "duplicate prompt id a"),
    (("prompts", 0, "prompt_token_ids"), [1, "2"], "prompts[0].prompt_token_ids[1]"),
    (("prompts", 0, "prompt_token_ids"), [-1], "prompts[0].prompt_token_ids[0]"),
    (("prompts", 0, "prompt_token_ids"), [2**31], "prompts[0].prompt_token_ids[0]"),
    (("prompts", 0, "prompt_token_ids"), [10**30], "prompts[0].prompt_token_ids[0]"),
    (("prompts", 0, "free", "token_ids"), [True, 1, 2, 3], "prompts[0].free.token_ids[0]"),
    (("prompts", 0, "free", "token_ids"), [1, 2, 3], "differ in length"),
    (("prompts", 0, "free", "margins"), [0.1], "differ in length"),
    (("prompts", 0, "free", "margins"), ["0.1", 1, 1, 1], "prompts[0].free.margins[0]"),
    (("prompts", 0, "free", "replay"), "forced-decode", "free must hold a free run"),
    (("prompts", 0, "free", "replay"), "greedy", "prompts[0].free.replay"),
    (("prompts", 0, "forced", "replay"), "free", "forced must hold a forced run"),
    (("prompts", 0, "free", "stop"), "tired", "prompts[0].free.stop"),
    (("prompts", 0, "free", "timings", "ttft_s"), -1.0, "prompts[0].free.timings.ttft_s"),
    (("prompts", 0, "free", "rows"), None, "prompts[0].free.rows"),
    (("prompts", 0, "free", "rows", "count"), 3, "60 expected"),
    (("prompts", 0, "free", "rows", "count"), 4.0, "count must be a non-negative integer"),
    (("prompts", 0, "free", "rows", "count"), -1, "count must be a non-negative integer"),
    (("prompts", 0, "free", "rows", "count"), 10**18, "count must be a non-negative integer"),
    (("prompts", 0, "free", "rows", "mean"), [1.0], "mean must be a string"),
    (("prompts", 0, "free", "rows", "digest"), "u1 AAAA", "digest holds 3 values"),
    (("prompts", 0, "free", "rows", "sketch"), "f4 !", "sketch is not base64"),
    (("prompts", 0, "free", "rows", "more"), "f4 ", "must have exactly the fields"),
    (("prompts", 1, "forced"), None, "must have a free or a forced run"),
    (("repeats", 0, "rows_equal"), -1, "repeats[0].rows_equal"),
    (("repeats", 0, "differences", 0, "position"), -1, "repeats[0].differences[0].position"),
    (("pieces", "1"), 1, "pieces.1"),
    (("extra",), 1, "extra"),
    (("model", "extra"), 1, "model.extra"),
    (("prompts", 0, "free", "extra"), 1, "prompts[0].free.extra"),
]


@pytest.mark.parametrize(("place", "value", "problem"), CHANGES)
def test_a_sealed_file_of_other_content_is_refused_by_field(
    file: Path, place: tuple[Any, ...], value: Any, problem: str
) -> None:
    document = jsonfile.read(file, SCHEMA)
    inner: Any = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    jsonfile.write(file, document)
    with pytest.raises(FormatError) as caught:
        load_recording(file)
    message = str(caught.value)
    assert problem in message
    assert message.startswith(str(file))
    assert "\n" not in message


def test_settings_that_are_neutral_may_be_left_out(file: Path) -> None:
    document = jsonfile.read(file, SCHEMA)
    said = {"max_new_tokens": 4, "ignore_eos": True, "eos_token_ids": [0]}
    document["settings"] = said
    jsonfile.write(file, document)
    neutral = {"sampling": "greedy", "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
    rest = {"suppress_tokens": [], "min_new_tokens": 0}
    assert load_recording(file).settings.model_dump(mode="json") == {**said, **neutral, **rest}


def test_a_missing_field_is_named(file: Path) -> None:
    document = jsonfile.read(file, SCHEMA)
    del document["prompts"][0]["free"]["stop"]
    jsonfile.write(file, document)
    with pytest.raises(FormatError, match=r"prompts\[0\]\.free\.stop: field required"):
        load_recording(file)


def test_one_edited_token_is_named_by_file_and_field(file: Path) -> None:
    first = ",".join(map(str, full().prompts[0].run.token_ids))
    text = file.read_text(encoding="utf-8")
    other = first[:-1] + ("1" if first[-1] != "1" else "2")
    assert text.count(f"[{first}]") == 1
    file.write_text(text.replace(f"[{first}]", f"[{other}]"), encoding="utf-8")
    with pytest.raises(ChecksumError) as caught:
        load_recording(file)
    assert caught.value.field == "prompts[0].free.token_ids"
    assert str(file) in str(caught.value)


def test_no_flipped_bit_is_read_as_something_else(file: Path) -> None:
    data = file.read_bytes()
    content = load_recording(file).model_dump()
    random = RNG(5)
    harmless = 0
    for place, bit in zip(
        random.integers(0, len(data), 400), random.integers(0, 8, 400), strict=True
    ):
        damaged = bytearray(data)
        damaged[place] ^= 1 << bit
        file.write_bytes(damaged)
        try:
            assert load_recording(file).model_dump() == content
            harmless += 1  # white space, or the sums that name a field
        except FormatError:
            pass
    assert harmless < 100


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_cut_off_file_is_refused(file: Path, share: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(FormatError):
        load_recording(file)


def test_on_takes_the_forced_run_of_those_tokens_else_the_free_one() -> None:
    free, forced = run(LOGITS), run(ROUGH, [1, 2, 3], "forced-decode")
    both = prompt("a", free, forced)
    assert both.on([1, 2, 3]) is forced
    assert both.on((1, 2, 3)) is forced
    assert both.on([1, 2]) is free
    assert both.on(free.token_ids) is free
    assert prompt("a", forced=forced).on([9]) is forced
    assert both.run is free
    assert prompt("a", forced=forced).run is forced


def test_choices_are_own_tokens_in_a_free_run_and_arg_maxes_in_a_forced_one() -> None:
    best = tuple(int(i) for i in LOGITS.argmax(axis=1))
    assert run(LOGITS, [9, 9, 9, 9]).choices() == (9, 9, 9, 9)
    assert run(LOGITS, [9, 9, 9, 9], "forced-decode").choices() == best


def test_positions_count_free_and_forced_rows() -> None:
    assert full().positions == 4 + 3 + 4


def test_prompts_and_pieces_are_found_by_id() -> None:
    made = full()
    assert made.prompt("b") is made.prompts[1]
    assert made.prompt("c") is None
    assert made.piece(1) == "\ud800"
    assert made.piece(77) == "<77>"


def test_margins_are_rounded_and_absent_where_there_is_no_second() -> None:
    rows = np.zeros((3, 30), np.float32)
    rows[0, :2] = [2.0, 0.765432]
    rows[1, 1:] = np.nan
    rows[2] = np.nan
    assert margins_of(row_statistics(rows)) == (1.235, None, None)


def test_a_recording_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(full(), "device", "other")  # noqa: B010 - the type checker knows already


def test_a_folder_as_target_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="cannot be written"):
        save_recording(free_recording({"a": LOGITS}), tmp_path)


# --- what a server tells


def of_a_server() -> Recording:
    return recording(
        [
            prompt("told", told_run(LOGITS), told_run(ROUGH, [1, 2, 3], "forced-prefill")),
            prompt("text", text_run(" a \ud800 text")),
        ],
        device="server",
        model=facts(weights=None, config=None, tokenizer=None, template=None),
    )


def test_rows_without_digest_mean_and_sketch_come_back(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    save_recording(of_a_server(), file)
    read = load_recording(file)
    for mine, theirs in zip(runs_of(of_a_server()), runs_of(read), strict=True):
        assert same_rows(mine.rows, theirs.rows)
    assert [run.rows.whole for run in runs_of(read)] == [False, False, True]
    assert [run.text_only for run in runs_of(read)] == [False, False, True]
    assert (read.whole, read.text_only, read.positions) == (False, True, 7)
    assert read.prompts[1].run.text == " a \ud800 text"
    assert read.model_dump() == of_a_server().model_dump()


@pytest.mark.parametrize("names", [["digest"], ["mean", "sketch"], ["top_ids"]])
def test_columns_are_left_out_together_or_not_at_all(file: Path, names: list[str]) -> None:
    document = jsonfile.read(file, SCHEMA)
    for name in names:
        del document["prompts"][0]["free"]["rows"][name]
    jsonfile.write(file, document)
    with pytest.raises(FormatError, match=r"rows.*of a server all but mean, digest, sketch"):
        load_recording(file)


def test_a_text_has_no_rows_and_keeps_the_ids_that_were_told() -> None:
    with pytest.raises(ValueError, match="a text_only run must not have margins or rows"):
        Run(**{**dict(run(LOGITS)), "text_only": True})
    bare = {"text_only": True, "rows": run(LOGITS).rows[:0], "margins": ()}
    kept = Run(**{**dict(run(LOGITS)), **bare})
    assert kept.token_ids == run(LOGITS).token_ids
    again = Run.model_validate_json(kept.model_dump_json())
    assert again.model_dump(mode="json") == kept.model_dump(mode="json")
    with pytest.raises(ValueError, match="differ in length"):
        Run(**{**dict(run(LOGITS)), **bare, "text_only": False})


# --- files of the schema before


def of_schema(version: int, made: Recording, path: Path) -> Path:
    """As the versions before wrote it, which told no masks."""
    document = made.model_dump(mode="json", by_alias=True)
    for record in document["prompts"]:
        for replayed in (record["free"], record["forced"]):
            for name in ("masked", "mask"):
                (replayed or {"rows": {}})["rows"].pop(name, None)
    jsonfile.write(path, document | {"schema": f"harness.recording/{version}"})
    return path


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_a_schema_before_is_read_and_stays_what_it_is(
    tmp_path: Path, version: int
) -> None:
    file = of_schema(version, full(), tmp_path / "a.json")
    before, read = file.read_bytes(), load_recording(file)
    assert read.schema_ == f"harness.recording/{version}"
    assert read.whole
    assert not any(r.rows.masks_told for r in runs_of(read))
    assert not read.text_only
    save_recording(read, file)
    assert file.read_bytes() == before


def test_a_file_of_schema_1_holds_whole_rows_only(tmp_path: Path) -> None:
    file = of_schema(1, of_a_server(), tmp_path / "a.json")
    with pytest.raises(FormatError, match="1 can hold whole rows and tokens only"):
        load_recording(file)


def test_a_file_of_schema_2_may_be_of_a_server(tmp_path: Path) -> None:
    assert not load_recording(of_schema(2, of_a_server(), tmp_path / "a.json")).whole


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_a_schema_before_tells_no_masks(tmp_path: Path, version: int) -> None:
    file = tmp_path / "a.json"
    document = full().model_dump(mode="json", by_alias=True)
    jsonfile.write(file, document | {"schema": f"harness.recording/{version}"})
    with pytest.raises(FormatError, match=f"recording/{version} cannot hold masks"):
        load_recording(file)


# --- masks


def masked_run(count: int, every: int = 1) -> Run:
    """Rows of which some have ``count`` ids at -10,000, each at other ids."""
    logits = LOGITS.copy()
    for t in range(0, len(logits), every):
        logits[t, 30 + t : 30 + t + count] = -1e4
    return run(logits)


@pytest.mark.parametrize("count", [0, 1, 20])
@pytest.mark.parametrize("every", [1, 3])
def test_masks_come_back(tmp_path: Path, count: int, every: int) -> None:
    forced = masked_run(0).model_copy(update={"replay": "forced-decode"})
    made = recording([prompt("a", masked_run(count, every), forced)])
    save_recording(made, tmp_path / "a.json")
    read = load_recording(tmp_path / "a.json")
    for mine, theirs in zip(runs_of(made), runs_of(read), strict=True):
        assert same_rows(mine.rows, theirs.rows)
    found = read.prompts[0].free.rows
    assert found.masked.tolist() == [count if t % every == 0 else 0 for t in range(4)]
    columns = jsonfile.read(tmp_path / "a.json", SCHEMA)["prompts"][0]
    assert ("mask" in columns["free"]["rows"]) == (count > 0)
    assert "mask" not in columns["forced"]["rows"]


def test_where_no_id_is_masked_a_position_takes_less_than_a_byte_more() -> None:
    block = np.tile(LOGITS, (16, 1))
    written = run(block).model_dump(mode="json")["rows"]
    assert len(json.dumps({"masked": written["masked"]})) < len(block)


@pytest.mark.parametrize("change", ["no digest", "a digest of none", "no number"])
def test_masks_that_contradict_each_other_are_refused(tmp_path: Path, change: str) -> None:
    file = tmp_path / "a.json"
    save_recording(recording([prompt("a", masked_run(5, 3))]), file)
    document = jsonfile.read(file, SCHEMA)
    rows = document["prompts"][0]["free"]["rows"]
    if change == "no digest":
        del rows["mask"]
    elif change == "no number":
        del rows["masked"]
    else:
        rows["mask"] = pack(np.ones((4, 8), np.uint8))
    jsonfile.write(file, document)
    with pytest.raises(FormatError, match=r"rows.* (only where an id|must be zeros where)"):
        load_recording(file)


@pytest.mark.parametrize("schema", ["harness.recording/6", "harness.alignment/1", None])
def test_another_schema_is_refused(tmp_path: Path, schema: str | None) -> None:
    file = tmp_path / "a.json"
    document = full().model_dump(mode="json", by_alias=True)
    jsonfile.write(file, document | {"schema": schema})
    with pytest.raises(FormatError, match="this version reads harness"):
        load_recording(file)


COMMITTED = sorted((Path(__file__).parents[3] / "baselines").glob("*/*/*/*.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: f"{p.parts[-3]}-{p.stem}")
def test_the_committed_baselines_are_read(path: Path, tmp_path: Path) -> None:
    read = load_recording(path)
    assert read.whole
    save_recording(read, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()

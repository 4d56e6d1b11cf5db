"""Recordings in more and less detail than the normal one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import RNG, fake_record, fake_suite, prompt, recording, run, told_run, with_routes

from harness.devices.fake import FakeDevice, fake_subject
from harness.errors import FormatError, UsageError
from harness.files import jsonfile
from harness.files.packing import pack
from harness.process.progress import Progress
from harness.recording.format import (
    DETAILED_SCHEMA,
    ROUTED_SCHEMA,
    SCHEMA,
    Recording,
    load_recording,
    save_recording,
)
from harness.recording.merge import merge
from harness.recording.recorder import Options, record
from harness.recording.shelf import Shelf
from harness.statistics.detail import DETAILS, detail_of, reduced
from harness.statistics.rows import NORMAL, Detail, row_statistics
from harness.suite.shard import Shard

SUITE = fake_suite(prompts=4, tokens=5)
OTHERS = [DETAILS["small"], DETAILS["large"], Detail(5, 8), Detail(64, 128)]
Document = dict[str, Any]


def made_in(detail: Detail, **options: Any) -> Recording:
    return fake_record(FakeDevice(), SUITE, Options(detail=detail, **options))


def columns(document: Document) -> list[Document]:
    return [p["free"]["rows"] for p in document["prompts"]]


@pytest.mark.parametrize("detail", OTHERS, ids=str)
@pytest.mark.parametrize("in_memory", [1 << 30, 0])
def test_each_is_written_and_read_again(tmp_path: Path, detail: Detail, in_memory: int) -> None:
    made = made_in(detail)
    assert (made.detail, made.schema_) == (detail, DETAILED_SCHEMA)
    save_recording(made, tmp_path / "a.json")
    read = load_recording(tmp_path / "a.json", Shelf(in_memory))
    assert read.detail == detail
    assert read.model_dump() == made.model_dump()
    for rows in columns(jsonfile.read(tmp_path / "a.json", DETAILED_SCHEMA)):
        assert (rows["listed"], rows["buckets"]) == (detail.listed, detail.buckets)


def test_the_normal_one_is_written_as_before_there_were_others(tmp_path: Path) -> None:
    made = made_in(NORMAL)
    save_recording(made, tmp_path / "a.json")
    for rows in columns(jsonfile.read(tmp_path / "a.json", SCHEMA)):
        assert list(rows) == [
            *("count", "top_ids", "top_logits", "mean", "logsumexp", "nonfinite", "digest"),
            *("sketch", "masked"),
        ]


@pytest.mark.parametrize("detail", OTHERS, ids=str)
def test_nothing_else_of_a_row_depends_on_it(detail: Detail) -> None:
    for mine, theirs in zip(made_in(detail).runs, made_in(NORMAL).runs, strict=True):
        assert (mine.token_ids, mine.margins) == (theirs.token_ids, theirs.margins)
        for name in ("mean", "logsumexp", "nonfinite", "digest", "masked", "mask"):
            assert np.array_equal(getattr(mine.rows, name), getattr(theirs.rows, name)), name


def test_small_takes_less_and_large_more_room(tmp_path: Path) -> None:
    sizes = []
    for name, detail in DETAILS.items():
        save_recording(made_in(detail), tmp_path / f"{name}.json")
        rows = columns(jsonfile.read(tmp_path / f"{name}.json", SCHEMA, DETAILED_SCHEMA))
        sizes.append(len(json.dumps(rows)))
    assert sizes == sorted(sizes)
    assert sizes[0] < 0.6 * sizes[1]


def test_one_with_routes_is_of_the_same_version() -> None:
    routed = with_routes(made_in(NORMAL), {})
    assert routed.schema_ in (SCHEMA, ROUTED_SCHEMA)
    assert made_in(DETAILS["small"]).schema_ == DETAILED_SCHEMA


@pytest.mark.parametrize("schema", [SCHEMA, ROUTED_SCHEMA, "harness.recording/1"])
def test_an_older_version_cannot_hold_another_detail(tmp_path: Path, schema: str) -> None:
    document = made_in(DETAILS["small"]).model_dump(mode="json", by_alias=True)
    jsonfile.write(tmp_path / "a.json", document | {"schema": schema})
    with pytest.raises(FormatError, match=r"cannot hold (another detail|masks)"):
        load_recording(tmp_path / "a.json")


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "no power of two": ({"buckets": 24}, "power of two"),
    "none": ({"buckets": 0}, "power of two"),
    "negative": ({"buckets": -16}, "power of two"),
    "huge": ({"buckets": 1 << 40}, "power of two from 8 to 1024"),
    "a float": ({"buckets": 16.0}, "must be integers"),
    "a truth": ({"listed": True}, "must be integers"),
    "a text": ({"listed": "10"}, "must be integers"),
    "nothing": ({"listed": None}, "must be integers"),
    "too few listed": ({"listed": 1}, "listed must be 5 to 256"),
    "too many listed": ({"listed": 1 << 30}, "listed must be 5 to 256"),
    "another width than the sketch": ({"buckets": 32}, "values expected|values, 160 expected"),
    "another length than the lists": ({"listed": 11}, "values expected|values, 55 expected"),
    "the normal one, said": ({"listed": 20, "buckets": 64}, "not the normal"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_or_inconsistent_one_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    change, told = HOSTILE[name]
    document = made_in(DETAILS["small"]).model_dump(mode="json", by_alias=True)
    columns(document)[0].update(change)
    jsonfile.write(tmp_path / "a.json", document)
    with pytest.raises(FormatError, match=told) as error:
        load_recording(tmp_path / "a.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["listed", "buckets"])
def test_one_of_the_two_fields_alone_is_refused(tmp_path: Path, name: str) -> None:
    document = made_in(DETAILS["small"]).model_dump(mode="json", by_alias=True)
    del columns(document)[0][name]
    jsonfile.write(tmp_path / "a.json", document)
    with pytest.raises(FormatError, match="listed and buckets too"):
        load_recording(tmp_path / "a.json")


def test_a_server_s_rows_have_no_such_fields(tmp_path: Path) -> None:
    logits = RNG(1).standard_normal((3, 64)).astype(np.float32)
    document = recording([prompt("a", told_run(logits))]).model_dump(mode="json", by_alias=True)
    columns(document)[0].update(listed=10, buckets=16)
    jsonfile.write(tmp_path / "a.json", document | {"schema": DETAILED_SCHEMA})
    with pytest.raises(FormatError, match="must have exactly the fields"):
        load_recording(tmp_path / "a.json")
    assert recording([prompt("a", told_run(logits))]).detail is None


def test_few_bytes_cannot_claim_gigabytes(tmp_path: Path) -> None:
    document = made_in(DETAILS["large"]).model_dump(mode="json", by_alias=True)
    columns(document)[0]["count"] = 10_000_000
    jsonfile.write(tmp_path / "a.json", document)
    with pytest.raises(FormatError, match="differ in length"):
        load_recording(tmp_path / "a.json")


def test_rows_of_one_recording_have_one_detail() -> None:
    logits = RNG(2).standard_normal((3, 64)).astype(np.float32)
    normal = run(logits)
    small = normal.model_copy(update={"rows": row_statistics(logits, DETAILS["small"])})
    with pytest.raises(ValueError, match="must all have the same"):
        recording([prompt("a", normal), prompt("b", small)], schema=DETAILED_SCHEMA)


@pytest.mark.parametrize("other", [DETAILS["small"], DETAILS["large"]], ids=str)
def test_shards_of_another_detail_are_not_merged(other: Detail) -> None:
    parts = {
        f"{k}.json": made_in(detail, prompt_ids=Shard(k, 2).prompts(SUITE), shard=True)
        for k, detail in ((1, NORMAL), (2, other))
    }
    with pytest.raises(UsageError, match=r"2\.json: detail is (small|large), and normal in 1"):
        merge(parts, SUITE)


@pytest.mark.parametrize("detail", OTHERS, ids=str)
def test_shards_of_one_detail_are_merged(detail: Detail) -> None:
    parts = {
        f"{k}.json": made_in(detail, prompt_ids=Shard(k, 2).prompts(SUITE), shard=True)
        for k in (1, 2)
    }
    assert merge(parts, SUITE).detail == detail


class Stopped(FakeDevice):
    """A device that stops after some runs."""

    left = 2

    def generate(self, requests: Any, on_token: Any = lambda: None) -> Any:
        for done in super().generate(requests, on_token):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            yield done


@pytest.mark.parametrize(
    ("first", "second", "goes_on"),
    [("small", "small", True), ("small", "normal", False), ("normal", "large", False)],
)
def test_a_killed_run_is_gone_on_with_in_its_own_detail_only(
    tmp_path: Path, first: str, second: str, goes_on: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.json"
    with pytest.raises(KeyboardInterrupt):
        record(Stopped(), fake_subject(), SUITE, Options(detail=DETAILS[first]), out=out)
    options = Options(detail=DETAILS[second])
    made = record(FakeDevice(), fake_subject(), SUITE, options, out=out, progress=Progress())
    assert ("going on after 2 finished runs" in capsys.readouterr().err) == goes_on
    assert made.detail == DETAILS[second]


def test_a_finished_recording_of_another_detail_is_not_taken_again(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    record(FakeDevice(), fake_subject(), SUITE, Options(), out=out)
    for detail in (DETAILS["small"], NORMAL):
        options = Options(detail=detail)
        made = record(FakeDevice(), fake_subject(), SUITE, options, out=out, reuse=True)
        assert made.detail == detail


def test_a_detail_that_no_reader_takes_is_refused_before_anything_is_run() -> None:
    with pytest.raises(UsageError, match="buckets must be a power of two"):
        made_in(Detail(20, 48))


def test_small_rows_are_what_large_ones_are_reduced_to() -> None:
    large, small = made_in(DETAILS["large"]), made_in(DETAILS["small"])
    for mine, theirs in zip(small.runs, large.runs, strict=True):
        found = reduced(theirs.rows, DETAILS["small"])
        assert detail_of(found) == DETAILS["small"]
        assert found.sketch == pytest.approx(mine.rows.sketch, rel=1e-5, abs=1e-4)
        assert np.array_equal(found.top_ids, mine.rows.top_ids)
        assert pack(found.top_logits) == pack(mine.rows.top_logits)

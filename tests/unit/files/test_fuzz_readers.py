"""Every reader takes any bytes: it reads them, or refuses them in one line.

``FUZZ_SECONDS=600 pytest tests/unit/files/test_fuzz_readers.py`` fuzzes each reader
for that long with new examples; by default it is a short, repeatable run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from factories import fake_baseline, fake_record, fake_suite
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from harness.alignment.align import compare
from harness.alignment.result import load_alignment, save_alignment
from harness.alignment.verify import verify_file
from harness.devices.fake import FakeDevice, fake_subject
from harness.devices.spec import DeviceSpec
from harness.errors import HarnessError
from harness.files import jsonfile
from harness.process.progress import Silent
from harness.recording.format import load_recording, save_recording
from harness.recording.journal import Journal
from harness.report import to_html, to_markdown
from harness.suite.read import load_suite

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
#: What stands in for a value somewhere in a file.
HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1e308, -0.0, 5e-324, 2**31, 2**63, -1]),
    st.text(max_size=20),
    st.sampled_from(
        ["../../x", "/etc/passwd", "<script>alert(1)</script>", "\x00", "\ud800", "\u202e"]
    ),
    st.sampled_from(["f4z eJwDAAAAAAE=", "u1 ", "i4 AAAA", "f8 " + "A" * 4000, "b2z !!!"]),
    st.just([]),
    st.just({}),
    st.lists(st.integers(-5, 5), max_size=4),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)
CHANGES = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True), st.sampled_from(["replace", "remove", "copy"]), HOSTILE
    ),
    max_size=3,
)
CUTS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=4
)


@lru_cache(maxsize=1)
def _documents() -> dict[str, dict[str, Any]]:
    """A recording and an alignment, as JSON without their seals."""
    suite = fake_suite(prompts=2, tokens=3)
    recording = fake_record(FakeDevice(seed=5), suite)
    alignment = compare(recording, fake_baseline(suite))
    return {
        "recording": recording.model_dump(mode="json", by_alias=True),
        "alignment": alignment.model_dump(mode="json", by_alias=True),
    }


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document, depth first."""
    keys: Any = value.keys() if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        found.append((value, key))
        if isinstance(value[key], dict | list):
            _places(value[key], found)
    return found


def _changed(document: dict[str, Any], changes: list[tuple[float, str, Any]]) -> dict[str, Any]:
    document = json.loads(json.dumps(document))
    for where, how, value in changes:
        places = _places(document, [])
        if not places:
            break
        container, key = places[int(where * len(places))]
        if how == "replace":
            container[key] = value
        elif how == "remove":
            del container[key]
        else:
            other, name = places[int(where * 7919 % 1 * len(places))]
            container[key] = json.loads(json.dumps(other[name]))
    return document


def _cut(data: bytes, cuts: list[tuple[float, int, bytes]]) -> bytes:
    for where, length, new in cuts:
        at = int(where * len(data))
        data = data[:at] + new + data[at + length :]
    return data


def _fuzz(test: Callable[[], None]) -> None:
    """Once by default; with FUZZ_SECONDS again and again, with new seeds."""
    end, round_ = time.monotonic() + SECONDS, 0
    while True:
        round_ += 1
        seed(time.time_ns() if SECONDS else round_)(test)()
        if time.monotonic() >= end:
            return


_EXAMPLES = 400 if SECONDS else 60
_settings = settings(
    max_examples=_EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def _refused_or_read(work: Callable[[], object]) -> None:
    """A HarnessError of one line, or nothing: any other exception is a defect."""
    message = "none"
    try:
        work()
    except HarnessError as error:
        message = str(error)
    assert message
    assert "\n" not in message
    assert len(message) < 2000


def test_a_sealed_recording_of_any_content(tmp_path: Path) -> None:
    path = tmp_path / "r.json"

    @_settings
    @given(CHANGES)
    def changed(changes: list[tuple[float, str, Any]]) -> None:
        document = _changed(_documents()["recording"], changes)
        jsonfile.write(path, document)

        def work() -> None:
            recording = load_recording(path)
            save_recording(recording, tmp_path / "again.json")
            to_html([compare(recording, recording)])
            to_html([compare(recording, fake_baseline(fake_suite(prompts=2, tokens=3)))])

        _refused_or_read(work)

    _fuzz(changed)
    assert {p.name for p in tmp_path.iterdir()} <= {"r.json", "again.json"}


def test_a_sealed_alignment_of_any_content(tmp_path: Path) -> None:
    path = tmp_path / "a.json"

    @_settings
    @given(CHANGES)
    def changed(changes: list[tuple[float, str, Any]]) -> None:
        jsonfile.write(path, _changed(_documents()["alignment"], changes))

        def work() -> None:
            alignment = load_alignment(path)
            html = to_html([alignment])
            assert "<script>alert(1)" not in html
            to_markdown([alignment])
            alignment.to_frame()
            save_alignment(alignment, tmp_path / "again.json")

        _refused_or_read(work)

    _fuzz(changed)


def _numbers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the numbers of a document are."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if isinstance(inner, dict | list):
            yield from _numbers(inner, (*path, key))
        elif isinstance(inner, int | float) and not isinstance(inner, bool):
            yield (*path, key)


@pytest.mark.parametrize("value", [1.7e308, -1.7e308, 1e154])
def test_an_alignment_with_one_kind_of_number_at_the_edge_of_a_double(
    value: float, tmp_path: Path
) -> None:
    """A square, a sum or a difference of such numbers is infinite, and a picture has no place
    for that. All numbers of one kind at a time, as all margins."""
    path = tmp_path / "a.json"
    kinds: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for place in _numbers(_documents()["alignment"]):
        kinds.setdefault(tuple("" if isinstance(k, int) else k for k in place), []).append(place)
    assert len(kinds) > 50
    for places in kinds.values():
        document = json.loads(json.dumps(_documents()["alignment"]))
        for place in places:
            container = document
            for key in place[:-1]:
                container = container[key]
            container[place[-1]] = value
        jsonfile.write(path, document)
        _refused_or_read(lambda: to_html([load_alignment(path)]))


@pytest.mark.parametrize("name", ["recording", "alignment"])
def test_a_file_with_other_bytes(name: str, tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    jsonfile.write(path, _documents()[name])
    good = path.read_bytes()
    load = load_recording if name == "recording" else load_alignment

    @_settings
    @given(CUTS)
    def cut(cuts: list[tuple[float, int, bytes]]) -> None:
        path.write_bytes(_cut(good, cuts))
        _refused_or_read(lambda: load(path))

    _fuzz(cut)


def test_a_suite_with_other_bytes(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    good = (Path(__file__).parents[3] / "prompts" / "port.yaml").read_bytes()

    @_settings
    @given(CUTS)
    def cut(cuts: list[tuple[float, int, bytes]]) -> None:
        path.write_bytes(_cut(good, cuts))
        _refused_or_read(lambda: load_suite(path))

    _fuzz(cut)


def test_a_list_of_tokens_of_any_content(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    item = {"prompt_token_ids": [1, 2, 3], "token_ids": [4, 5]}

    @_settings
    @given(st.lists(CHANGES, max_size=2), CUTS | st.none())
    def changed(
        items: list[list[tuple[float, str, Any]]], cuts: list[tuple[float, int, bytes]] | None
    ) -> None:
        text = json.dumps([_changed(item, changes) for changes in items]).encode()
        path.write_bytes(text if cuts is None else _cut(text, cuts))
        _refused_or_read(
            lambda: verify_file(path, DeviceSpec("fake"), controls=False, progress=Silent())
        )

    _fuzz(changed)


def test_a_journal_with_other_bytes(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    partial = tmp_path / "r.json.partial"
    recording = fake_record(FakeDevice(), fake_suite(prompts=2, tokens=3))
    with Journal(out, {"k": 1}) as journal:
        for prompt in recording.prompts:
            journal.add("free", prompt.id, prompt.run)
    good = partial.read_bytes()

    @_settings
    @given(CUTS)
    def cut(cuts: list[tuple[float, int, bytes]]) -> None:
        partial.write_bytes(_cut(good, cuts))

        def work() -> None:
            with Journal(out, {"k": 1}) as journal:
                found = journal.runs("free")
            whole = {p.id: p.run.model_dump() for p in recording.prompts}
            assert all(run.model_dump() == whole[i] for i, run in found.items())

        _refused_or_read(work)

    _fuzz(cut)


def test_the_subject_of_the_fake_is_what_the_documents_hold() -> None:
    assert _documents()["recording"]["model"]["name"] == fake_subject().facts.name

"""One row per judged position, read back by pandas."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from factories import fake_baseline, fake_record, fake_suite

from harness.alignment.align import compare
from harness.alignment.frame import COLUMNS
from harness.alignment.result import Alignment
from harness.alignment.table import write_table
from harness.devices.fake import FakeDevice
from harness.errors import HarnessError, UsageError

HOSTILE = '=HYPERLINK("x")\n"a",b'


@pytest.fixture(scope="module")
def alignment() -> Alignment:
    suite = fake_suite(prompts=3, tokens=5)
    return compare(fake_record(FakeDevice(seed=5), suite), fake_baseline(suite))


def test_every_judged_position_is_one_row_in_the_suites_order(alignment: Alignment) -> None:
    frame = alignment.to_frame()
    assert len(frame) == alignment.positions > 0
    assert list(frame.columns) == [name for name, _, _ in COLUMNS]
    for prompt in alignment.prompts:
        part = frame[frame["prompt"] == prompt.id]
        assert part["position"].tolist() == list(range(prompt.tokens_compared))
        assert part["shift"].tolist() == prompt.positions.shift
        assert part["candidate_token"].tolist() == prompt.positions.candidate_token
    assert frame["flip"].sum() == (frame["reference_token"] != frame["candidate_token"]).sum()


def test_what_is_not_known_is_missing_and_keeps_the_dtype(alignment: Alignment) -> None:
    prompt = alignment.prompts[0]
    n = prompt.tokens_compared
    unknown = prompt.positions.model_copy(
        update={"tolerance": [None] * n, "error": [None] * n, "class_": [None] * n}
    )
    changed = alignment.model_copy(
        update={"prompts": (prompt.model_copy(update={"positions": unknown}),)}
    )
    frame = changed.to_frame()
    assert frame[["tolerance", "error", "class"]].isna().all().all()
    assert [str(dtype) for dtype in frame.dtypes] == [dtype for _, dtype, _ in COLUMNS]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_figures_come_back_exactly(alignment: Alignment, tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    path = tmp_path / f"table{suffix}"
    write_table(alignment, path)
    found = (
        pd.read_csv(path, float_precision="round_trip")
        if suffix == ".csv"
        else pd.read_parquet(path)
    )
    for name in ("margin", "shift", "tolerance", "error", "reference_error", "position"):
        assert found[name].tolist() == alignment.to_frame()[name].tolist(), name
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_model_output_is_no_formula_and_breaks_no_line(
    alignment: Alignment, tmp_path: Path
) -> None:
    token = str(alignment.prompts[0].positions.reference_token[0])
    hostile = alignment.model_copy(update={"pieces": {token: HOSTILE + "\ud800"}})
    write_table(hostile, tmp_path / "t.csv")
    found = pd.read_csv(tmp_path / "t.csv", keep_default_na=False)
    assert len(found) == alignment.positions
    assert found["reference_piece"][0] == "'" + HOSTILE + "\\ud800"


def test_another_suffix_is_refused_before_the_work(alignment: Alignment, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.csv or \.parquet"):
        write_table(alignment, tmp_path / "t.xlsx")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_one_line(alignment: Alignment, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HarnessError, match="cannot be written"):
        write_table(alignment, tmp_path / "file" / "t.csv")


def test_the_documentation_lists_every_column() -> None:
    text = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
    for name, dtype, meaning in COLUMNS:
        assert f"| `{name}` | {dtype} | {meaning} |" in text

"""What an oracle whose weights are on disk answers, against one that has them in memory."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from needed import needed
from test_streamed import tiny

from harness.devices.causes import PARTS, WHOLE, Cause
from harness.devices.hf.device import HfDevice
from harness.devices.hf.load import Taken
from harness.devices.hf.stages import Stages
from harness.devices.oracle import Question
from harness.diagnosis.directions import first_size
from harness.errors import DeviceError
from harness.process.progress import Progress, Silent, Step

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]
needed("torch", "transformers", "accelerate")

ROWS, WINDOW = 5, 4
WINDOWS = {
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False},
    "qwen2": {"tie_word_embeddings": True},
    "gemma3_text": {"tie_word_embeddings": True, "query_pre_attn_scalar": 16, **WINDOWS},
    "qwen3_moe": {},
    # Layers of another name, tables of positions, a norm before the first layer.
    "gpt2": {"bos_token_id": 1},
    "opt": {"word_embed_proj_dim": 64, "ffn_dim": 96},
    "bloom": {},
}


@pytest.fixture(params=list(KINDS))
def oracles(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    """The same random model, in memory and on disk."""
    model = tiny(request.param, tmp_path / "model", **KINDS[request.param])
    with ExitStack() as stack:
        found = []
        for taken in (Taken(), Taken(streamed=True)):
            device = HfDevice("hf-cpu", model, dtype="float32", taken=taken)
            device.open()
            stack.callback(device.close)
            if taken.streamed:
                device.resume_in(tmp_path / "kept", "job")
            found.append(device.sensitivity())
        yield found[0], found[1]


class Stopping(Progress):
    """Stops in the n-th step of what streams."""

    def __init__(self, after: int) -> None:
        super().__init__(io.StringIO())
        self._left = after

    @contextmanager
    def stage(self, what: str, total: int, *, in_bytes: bool = False) -> Iterator[Step]:
        del what, total, in_bytes

        def step(count: int = 1, /) -> None:
            self._left -= count
            if self._left <= 0:
                raise KeyboardInterrupt

        yield step


def ids_of(number: int) -> tuple[int, ...]:
    random = np.random.default_rng(number)
    return tuple(random.integers(1, 300, 9 + 3 * number).tolist())


def asked(kind: Any, part: Cause | None = None, vectors: int = 2) -> list[Question]:
    random = np.random.default_rng(3)
    return [
        Question(
            kind,
            ids_of(number),
            ROWS,
            tuple(random.normal(size=(vectors, ROWS, 64))) if kind != "sketches" else (),
            part,
        )
        for number in range(3)
    ]


def answers(oracle: Any, questions: list[Question]) -> list[Any]:
    oracle.together(questions)
    found = []
    for q in questions:
        if q.kind == "sketches":
            found.append(oracle.sketches(q.ids, q.rows))
        elif q.kind == "entries":
            found.append(oracle.entries(q.part, q.ids, q.vectors))
        else:
            found.append(getattr(oracle, q.kind)(q.ids, q.vectors))
    return found


def close(mine: Any, theirs: Any, what: object) -> None:
    assert mine.keys() == theirs.keys(), what
    usual = float(np.median([abs(v) for v in theirs.values()]))
    for cause, value in theirs.items():
        assert mine[cause] == pytest.approx(value, rel=1e-3, abs=1e-3 * usual), cause


def test_it_has_the_same_causes(oracles: tuple[Any, Any]) -> None:
    memory, disk = oracles
    assert disk.settings == memory.settings
    assert disk.exchanges == memory.exchanges
    assert disk.weights == memory.weights
    for cause in (*memory.settings, *memory.exchanges):
        assert disk.now(cause) == memory.now(cause)


def test_gradients_are_the_same(oracles: tuple[Any, Any]) -> None:
    memory, disk = oracles
    questions = asked("gradients")
    for ours, theirs in zip(*(answers(o, questions) for o in (disk, memory)), strict=True):
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6, atol=1e-6)
        for one, other in zip(ours[1], theirs[1], strict=True):
            close(one.whole, other.whole, "whole")
            assert one.parts.keys() == other.parts.keys()
            for key, values in other.parts.items():
                usual = float(np.abs(values).mean())
                np.testing.assert_allclose(one.parts[key], values, rtol=1e-3, atol=1e-3 * usual)
    # Asked alone, and after what was kept of it is gone.
    q = questions[1]
    _, alone = disk.gradients(q.ids, q.vectors)
    close(alone[0].whole, memory.gradients(q.ids, q.vectors)[1][0].whole, "alone")
    disk.forget()
    close(disk.gradients(q.ids, q.vectors)[1][0].whole, alone[0].whole, "again")


def test_prompts_that_are_the_same_have_the_same_answer(oracles: tuple[Any, Any]) -> None:
    memory, disk = oracles
    first, second, _ = asked("gradients")
    same = replace(first, vectors=tuple(v.copy() for v in first.vectors))
    found = answers(disk, [first, second, same])
    assert found[0][1][0].whole == found[2][1][0].whole
    expected = memory.gradients(first.ids, first.vectors)[1]
    for one, other in zip(found[2][1], expected, strict=True):
        close(one.whole, other.whole, "same")


def test_nothing_is_traced_back_through_a_change(oracles: tuple[Any, Any]) -> None:
    _, disk = oracles
    questions = asked("gradients")
    with (
        disk.changed(Cause("rope_base"), 0.1),
        pytest.raises(DeviceError, match="as they are, without a change"),
    ):
        disk.together(questions)


def test_every_change_moves_rows_alike(oracles: tuple[Any, Any]) -> None:
    memory, disk = oracles
    questions = asked("sketches")
    before = answers(memory, questions)
    for ours, theirs in zip(answers(disk, questions), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    gradients = asked("gradients", vectors=1)[0]
    _, [found] = memory.gradients(gradients.ids, gradients.vectors)
    causes = [*memory.settings, *memory.exchanges, *found.whole]
    causes += [Cause(kind, place, 3) for kind, place in found.parts if "layers.1" in place]
    causes += [Cause("embedding_row", "", ids_of(0)[2]), Cause("head_row", "", 7)]
    layers = memory._layers.names
    if layers:
        causes += [Cause(kind, layers[1]) for kind in ("layer_skipped", "layer_doubled")]
        causes += [Cause("layers_exchanged", layers[i], i + 1) for i in (0, 1)]
    causes.append(next(Cause("weight", p, 2, 3) for k, p in found.parts if k == "row"))
    changed = 0
    for cause in causes:
        size = 1.0 if cause.kind in (*WHOLE, *PARTS) else first_size(cause)
        moved = []
        for oracle in (disk, memory):
            with oracle.changed(cause, size):
                moved.append(answers(oracle, questions))
        for ours, theirs in zip(*moved, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6, err_msg=str(cause))
        changed += not np.array_equal(moved[0][0], before[0])
    assert changed > 0.8 * len(causes)
    for ours, theirs in zip(answers(disk, questions), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_single_weights_and_layers_tell_the_same(oracles: tuple[Any, Any]) -> None:
    memory, disk = oracles
    weights = [n for n, p in memory._parameters.items() if p.dim() == 2 and ".1." in n]
    tables = [n for n, p in memory._parameters.items() if p.dim() == 2 and ".1." not in n][:1]
    for name in (weights[0], *tables):
        place = name.removesuffix(".weight")
        for kind in ("row", "column"):
            questions = asked("entries", Cause(kind, place, 4))
            for ours, theirs in zip(*(answers(o, questions) for o in (disk, memory)), strict=True):
                usual = np.abs(theirs).mean()
                np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * usual)
    questions = asked("layer_changes")
    for ours, theirs in zip(*(answers(o, questions) for o in (disk, memory)), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            close(one, other, "layers")


@pytest.mark.parametrize("after", [4, 14])
def test_what_was_killed_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """On the way forwards (9 steps), and on the way back (12)."""
    model = tiny("llama", tmp_path / "model")
    entered: list[int] = []
    own = Stages.layer

    def counted(stages: Stages, number: int, **more: Any) -> Any:
        entered.append(number)
        return own(stages, number, **more)

    monkeypatch.setattr(Stages, "layer", counted)
    questions, found = asked("gradients"), []
    for folder, progress in (("whole", Silent()), ("cut", Stopping(after)), ("cut", Silent())):
        device = HfDevice("hf-cpu", model, dtype="float32", taken=Taken(streamed=True))
        device.open()
        device.resume_in(tmp_path / folder, "job")
        entered.clear()
        try:
            found.append(answers(device.sensitivity(progress=progress), questions))
        except KeyboardInterrupt:
            assert folder == "cut"
        finally:
            device.close()
    assert len(found) == 2
    assert entered == ([2, 2, 1, 0] if after == 4 else [1, 0])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        for mine, theirs in zip(one[1], other[1], strict=True):
            assert mine.whole == theirs.whole
            for key, values in theirs.parts.items():
                np.testing.assert_array_equal(mine.parts[key], values)


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "foreign"])
def test_what_was_kept_and_damaged_is_made_again(tmp_path: Path, damage: str) -> None:
    model = tiny("llama", tmp_path / "model")
    questions, found = asked("gradients"), []
    for folder, progress in (("whole", Silent()), ("cut", Stopping(19)), ("cut", Silent())):
        device = HfDevice("hf-cpu", model, dtype="float32", taken=Taken(streamed=True))
        device.open()
        device.resume_in(tmp_path / folder, "job")
        try:
            found.append(answers(device.sensitivity(progress=progress), questions))
        except KeyboardInterrupt:
            files = sorted((tmp_path / folder).glob("*.safetensors"))
            assert len(files) > 12
            for file in files[::2]:
                data = file.read_bytes()
                if damage == "gone":
                    file.unlink()
                elif damage == "foreign":
                    file.write_bytes(files[1].read_bytes())
                else:
                    file.write_bytes(data[:-7] if damage == "cut" else data[:-1] + b"?")
        finally:
            device.close()
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        for mine, theirs in zip(one[1], other[1], strict=True):
            assert mine.whole == theirs.whole


def test_a_disk_without_room_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = HfDevice("hf-cpu", tiny("llama", tmp_path / "model"), dtype="float32",
                      taken=Taken(streamed=True))  # fmt: skip
    device.open()
    device.resume_in(tmp_path / "kept", "job")
    oracle = device.sensitivity()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 5, 5))
    try:
        with pytest.raises(DeviceError, match=r"3 prompts take .* GB there.*--prompts"):
            oracle.together(asked("gradients"))
    finally:
        device.close()

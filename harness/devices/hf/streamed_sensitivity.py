"""A Transformers model that is traced back from its logits while its weights stay on disk.

All prompts go forwards through one layer after another, and what each layer is given is kept.
Then they go back: from what it was given a layer is run again, and traced back with its weights
in memory and no others. So each weight is read twice, however many prompts there are.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import astuple, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.devices.causes import Cause
from harness.devices.hf.kept_states import InFolder, InMemory, State, States
from harness.devices.hf.on_disk import OnDisk
from harness.devices.hf.seen import Seen
from harness.devices.hf.sensitivity import Sensitivity
from harness.devices.hf.stages import Changes, Given, Pass, Stages, hidden_name, left_by
from harness.devices.hf.taken import Taken, finished
from harness.devices.hf.weight_causes import held
from harness.devices.oracle import Answer, Question
from harness.errors import DeviceError
from harness.process.memory import available_bytes
from harness.process.progress import Progress, Silent, Step

#: What rounding does to a layer's weights is kept while the layer is looked at, where it takes no
#: more than this share of what is available.
_KEPT_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Streaming:
    """How a model is streamed.

    Attributes:
        stages: of the model, which is a skeleton.
        weights: its tensors.
        progress: where it tells how far it is.
        place: a folder and a job, where what was done outlives a kill; in memory without one.
    """

    stages: Stages
    weights: OnDisk
    progress: Progress
    place: tuple[Path, str] | None = None


class StreamedSensitivity(Sensitivity):
    """The oracle, seen from its logits, see ``Sensitivity``; ``together`` makes it quick."""

    def __init__(
        self,
        torch: Any,
        model: Any,
        vocab_size: int,
        streaming: Streaming,
        *,
        stored_head: Any = None,
        seen: Seen | None = None,
    ) -> None:
        self._stages, self._on_disk = streaming.stages, streaming.weights
        self._progress = streaming.progress
        super().__init__(
            torch, model, vocab_size, keep_rounded=False, stored_head=stored_head, seen=seen
        )
        self._last = self._stages.count - 1
        self._layer_of = {n: at for at in range(self._last) for n in self._stages.names_of(at)}
        self._small: dict[str, Any] = {}
        self._answers: list[tuple[Question, Any]] = []
        self._changes, self._is_changed = _Changes(self), False
        place = streaming.place
        self._folder = None if place is None else place[0]
        self._states: States = InMemory() if place is None else InFolder(*place)

    def forget(self) -> None:
        self._answers.clear()
        self._states.discard()

    # --- questions

    def sketches(self, ids: Sequence[int], rows: int) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self._answer(Question("sketches", tuple(ids), rows))
        return found

    def gradients(
        self, ids: Sequence[int], vectors: Sequence[NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], list[Answer]]:
        question = Question("gradients", tuple(ids), len(vectors[0]), tuple(vectors))
        found: tuple[NDArray[np.float64], list[Answer]] = self._answer(question)
        return found

    def entries(
        self, part: Cause, ids: Sequence[int], vectors: Sequence[NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        question = Question("entries", tuple(ids), len(vectors[0]), tuple(vectors), part)
        found: NDArray[np.float64] = self._answer(question)
        return found

    def layer_changes(
        self, ids: Sequence[int], vectors: Sequence[NDArray[np.float64]]
    ) -> list[dict[Cause, float]]:
        question = Question("layer_changes", tuple(ids), len(vectors[0]), tuple(vectors))
        found: list[dict[Cause, float]] = self._answer(question)
        return found

    def together(self, questions: Sequence[Question]) -> None:
        self._answers.clear()
        if not questions:
            return
        kind, last = questions[0].kind, self._last
        if self._is_changed and kind != "sketches":
            raise DeviceError("weights on disk are traced back as they are, without a change")
        back_to = self._at(questions[0].part) if kind == "entries" else 0
        # Two prompts that read the same and err the same are one question.
        unique = {_asked(question): question for question in questions}
        stages, answer = {
            "sketches": (last + 1, self._all_sketches),
            "gradients": (2 * last + 1, self._all_gradients),
            "entries": (2 * last + 1 - back_to, self._all_entries),
            "layer_changes": (6 * last + 1, self._all_layer_changes),
        }[kind]
        with self._stage_of_progress(kind, stages * len(unique)) as step:
            found = dict(zip(unique, answer(list(unique.values()), step), strict=True))
        self._answers = [(question, found[_asked(question)]) for question in questions]

    def _stage_of_progress(self, kind: str, steps: int) -> AbstractContextManager[Step]:
        """Who asks for sketches tells how far it is, change by change."""
        progress = Silent() if kind == "sketches" else self._progress
        return progress.stage("prompts in layers", steps)

    def _answer(self, question: Question) -> Any:
        for kept in self._answers:
            if kept[0].equals(question):
                self._answers.remove(kept)
                return kept[1]() if callable(kept[1]) else kept[1]
        self.together([question])
        found = self._answers.pop()[1]
        return found() if callable(found) else found

    # --- forwards

    def _all_sketches(self, questions: Sequence[Question], step: Step) -> list[Any]:
        passes = [Pass(str(i), partial(self._rows_of, q), {}) for i, q in enumerate(questions)]
        results = self._stages.run(
            passes, InMemory(), widened=False, on_pass=step, changes=self._changes
        )
        return [self._seen.of(q.ids, rows) for q, rows in zip(questions, results, strict=True)]

    def _rows_of(self, question: Question) -> Any:
        with self._torch.no_grad():
            return self._logits(self._embed(question.ids), question.rows)[1]

    def _forwards(self, questions: Sequence[Question], step: Step) -> None:
        """Keep what each layer is given, and the last one gives."""
        self._states.make()
        self._check_room(questions)
        for number in range(self._last):
            todo = [q for q in questions if not self._states.stage(_given(q, number + 1))]
            if todo:
                with self._stages.layer(number) as given, self._torch.no_grad():
                    for question in todo:
                        given.state = self._state(question, number)
                        left = left_by(partial(self._rows_of, question), number)
                        self._states.put(_given(question, number + 1), 1, left)
            step(len(questions))
        self._stages.give_back()

    def _check_room(self, questions: Sequence[Question]) -> None:
        """Say before hours of work that the disk has no room for what they keep.

        Raises:
            DeviceError: if it has none.
        """
        if self._folder is None:
            return
        config = self._model.config.get_text_config()
        missing = [q for q in questions if not self._states.stage(_given(q, self._last))]
        needs = 4 * config.hidden_size * self._last * sum(len(q.ids) for q in missing)
        parts = sum(sum(p.shape) for p in self._parameters.values() if p.dim() <= 2)
        told = 4 * (parts + 2 * self._vocab_size) * sum(len(q.vectors) for q in questions)
        free = shutil.disk_usage(self._folder).free
        if needs + told > free:
            raise DeviceError(
                f"{self._folder}: the layers of {len(questions)} prompts take "
                f"{(needs + told) / 1e9:.1f} GB there, and {free / 1e9:.1f} are free; make room, "
                "or look at fewer with --prompts"
            )

    def _state(self, question: Question, number: int) -> State:
        return self._states.get(_given(question, number)) if number else {}

    # --- backwards

    def _all_gradients(self, questions: Sequence[Question], step: Step) -> list[Any]:
        self._forwards(questions, step)
        done = [self._stages_back(question) for question in questions]
        for number in range(self._last, -1, -1):
            stage = self._last - number
            todo = [q for q, n in zip(questions, done, strict=True) if n <= stage]
            if todo:
                with self._stage(number) as given, self._looked_at(number):
                    for question in todo:
                        self._go_back(question, number, given)
            step(len(questions))
        self._stages.give_back()
        # Each is put together when it is asked for: all at once may not fit into memory.
        return [cache(partial(self._gathered, question)) for question in questions]

    def _stages_back(self, question: Question) -> int:
        """How many stages of the way back are kept, whole, and told of."""
        done = self._states.stage(_back(question))
        told = range(self._last, self._last - done, -1)
        return done if all(self._states.stage(_told(question, n)) for n in told) else 0

    def _go_back(self, question: Question, number: int, given: Given) -> None:
        """One question through one stage; what it told is kept."""
        pulls = self._first_pulls(question)
        if number < self._last:
            kept = self._states.get(_back(question))
            pulls = [kept[str(i)] for i in range(len(pulls))]
        told: State = {}

        def met(index: int, entered: Any) -> None:
            told.update(_packed(self._torch, self._taken, index))
            if entered is not None:
                told[f"entered.{index}"] = entered.clone()

        pulls, rows = self._through(question, number, given, pulls, met)
        if rows is not None:
            told["rows"] = self._torch.from_numpy(rows)
        self._states.put(_told(question, number), 1, told)
        new = {str(index): pull for index, pull in enumerate(pulls)}
        self._states.put(_back(question), self._last - number + 1, new)

    def _through(
        self,
        question: Question,
        number: int,
        given: Given,
        pulls: Sequence[Any],
        met: Callable[[int, Any], None] = lambda _, __: None,
    ) -> tuple[list[Any], NDArray[np.float64] | None]:
        """One stage, run again from what it was given and traced back for each of ``pulls``.

        Args:
            met: called after each, with its number and what the embedding's outputs have of it,
                or None; the rest is in ``_taken``.

        Returns:
            The pulls of the stage before, and in the last stage the rows as they are seen.
        """
        entered = self._embed(question.ids).detach().requires_grad_(True)
        state, rows, raw = dict(self._state(question, number)), None, None
        hidden = entered
        if number:
            name = hidden_name(state)
            state = {n: _leaf(tensor) for n, tensor in state.items()}
            hidden = state[name]
        given.state = state
        with self._distances.traced(entered.shape[1]):
            if number == self._last:
                raw, output = self._logits(entered, question.rows)
                raw.retain_grad()
                rows = self._seen.of(question.ids, output.detach())
            else:
                left = left_by(partial(self._logits, entered, question.rows), number)
                output = left[hidden_name(left)]
        before = []
        for index, pull in enumerate(pulls):
            entered.grad = hidden.grad = None
            if raw is not None:
                raw.grad = None
            self._distances.forget()
            self._taken = Taken()
            output.backward(pull, retain_graph=index + 1 < len(pulls))
            if raw is not None:
                self._taken.of_head(raw.detach()[0], raw.grad[0], self._vocab_size)
            self._taken.add_all(self._distances.found())
            met(index, entered.grad)
            if any(t.grad is not None for t in state.values() if t is not hidden):
                raise DeviceError(
                    "a layer of the model reads more of the one before than hidden states, so it "
                    "cannot be traced back from the disk; use --oracle memory"
                )
            before.append(hidden.grad)
        return before, rows

    def _first_pulls(self, question: Question) -> list[Any]:
        return [self._seen.pull(question.ids, v, self._vocab_size) for v in question.vectors]

    def _gathered(self, question: Question) -> tuple[NDArray[np.float64], list[Answer]]:
        """What all stages told of a question."""
        told = [self._states.get(_told(question, n)) for n in range(self._last, -1, -1)]
        given = self._embed(question.ids).detach()[0]
        found = []
        for index in range(len(question.vectors)):
            taken = Taken()
            for state in told:
                _unpack(state, index, taken)
            entered = [state[f"entered.{index}"] for state in told if f"entered.{index}" in state]
            taken.of_embedding(question.ids, given, sum(entered)[0], self._vocab_size)
            found.append(finished(taken))
        self._states.remove(_back(question))
        for number in range(self._last + 1):
            self._states.remove(_told(question, number))
        return told[0]["rows"].numpy(), found

    def _all_entries(self, questions: Sequence[Question], step: Step) -> list[Any]:
        part = questions[0].part
        assert part is not None
        self._forwards(questions, step)
        pulls = [self._first_pulls(q) for q in questions]
        found: list[dict[int, Any]] = [{} for _ in questions]
        name, back_to = f"{part.place}.weight", self._at(part)
        for number in range(self._last, back_to - 1, -1):
            with self._stage(number) as given:
                weight = self._model.get_parameter(name)
                # Outside of the layers it may have a part in each stage.
                weight.requires_grad_(self._layer_of.get(name, number) == number)
                for at, question in enumerate(questions):

                    def met(index: int, _: Any, weight: Any = weight, at: int = at) -> None:
                        if weight.grad is not None:
                            moved, weight.grad = weight.grad, None
                            own = moved[part.index] if part.kind == "row" else moved[:, part.index]
                            found[at][index] = found[at].get(index, 0.0) + own

                    pulls[at], _ = self._through(question, number, given, pulls[at], met)
                    step()
                weight.requires_grad_(False)
        vectors = range(len(questions[0].vectors))
        return [self._torch.stack([o[i] for i in vectors]).double().numpy() for o in found]

    def _all_layer_changes(self, questions: Sequence[Question], step: Step) -> list[Any]:
        if not self._layers.modules:
            return [[{} for _ in q.vectors] for q in questions]
        self._forwards(questions, step)
        pulls = [self._first_pulls(q) for q in questions]
        found: list[list[dict[Cause, float]]] = [[{} for _ in q.vectors] for q in questions]
        for number in range(self._last, -1, -1):
            for cause, outputs in self._changed_at(number, questions, step):
                for at, (question, output) in enumerate(zip(questions, outputs, strict=True)):
                    kept = self._state(question, number + 1)
                    moved = output - kept[hidden_name(kept)]
                    for scores, pull in zip(found[at], pulls[at], strict=True):
                        scores[cause] = float((pull * moved).double().sum())
            with self._stage(number) as given:
                for at, question in enumerate(questions):
                    pulls[at], _ = self._through(question, number, given, pulls[at])
                    step()
        return found

    def _changed_at(
        self, number: int, questions: Sequence[Question], step: Step
    ) -> Iterator[tuple[Cause, list[Any]]]:
        """What a layer gives each question when it is skipped or run twice, or exchanged with
        the one before it."""
        if number == self._last:
            return
        names, before = self._layers.names, number - 1
        for kind in ("layer_skipped", "layer_doubled"):
            cause = Cause(kind, names[number])
            # The change first: its hook must be called before the stage's own.
            with self._layers.changed(cause), self._stages.layer(number) as given:
                yield cause, self._given_by(number, given, questions, self._state, step)
        if before < 0 or not self._layers.alike:
            step(2 * len(questions))
            return
        with self._stages.layer(before, weights_of=number) as given:
            between = self._given_by(before, given, questions, self._state, step)

        def state_of(question: Question, number: int) -> State:
            state = dict(self._state(question, number))
            state[hidden_name(state)] = between[questions.index(question)]
            return state

        with self._stages.layer(number, weights_of=before) as given:
            outputs = self._given_by(number, given, questions, state_of, step)
        yield Cause("layers_exchanged", names[before], number), outputs

    def _given_by(
        self,
        number: int,
        given: Given,
        questions: Sequence[Question],
        state_of: Callable[[Question, int], State],
        step: Step,
    ) -> list[Any]:
        """The hidden states that a layer gives each question, from the states before it."""
        found = []
        for question in questions:
            given.state = state_of(question, number)
            left = left_by(partial(self._rows_of, question), number)
            found.append(left[hidden_name(left)])
            step()
        return found

    # --- stages

    def _stage(self, number: int) -> AbstractContextManager[Given]:
        """A stage of the way back."""
        last = number == self._last
        return self._stages.end() if last else self._stages.layer(number, after=-1)

    def _at(self, part: Cause | None) -> int:
        """The last stage on the way back that a weight has a part in."""
        return 0 if part is None else self._layer_of.get(f"{part.place}.weight", 0)

    def _of_stage(self, number: int) -> dict[str, Any]:
        """The weights of a stage that causes may change."""
        chosen = [n for n in self._parameters if self._layer_of.get(n, self._last) == number]
        return {name: self._model.get_parameter(name) for name in chosen}

    @contextmanager
    def _looked_at(self, number: int) -> Iterator[None]:
        """Gradients of a stage's weights are reduced as they arrive. Weights outside of the
        layers, which stay in memory, may have a part in each."""
        parameters = {**self._of_stage(self._last), **self._of_stage(number)}
        takes = len(self._roundings) * sum(p.numel() for p in parameters.values())
        available = available_bytes()
        if available is None or takes <= _KEPT_SHARE * available:
            self._kept = self._all_differences(parameters)
        try:
            with self._followed(parameters):
                yield
        finally:
            self._kept = {}

    # --- changes

    @contextmanager
    def changed(self, cause: Cause, size: float) -> Iterator[None]:
        self._answers.clear()
        self._is_changed = True
        try:
            with super().changed(cause, size):
                yield
        finally:
            self._answers.clear()
            self._is_changed = False

    def _changed_layers(self, cause: Cause) -> AbstractContextManager[None]:
        order = self._layers.order_of(cause)
        return self._layers.changed(cause) if order is None else self._changes.ordered(order)

    @contextmanager
    def _changed_weights(self, cause: Cause, size: float) -> Iterator[None]:
        with ExitStack() as stack:
            for weight, moved in self._causes.moved(self._of_stage(self._last), cause, size):
                stack.enter_context(held(weight, moved))
            stack.enter_context(self._changes.of_weights(cause, size))
            yield

    def place(self, number: int, cause: Cause, size: float) -> None:
        """Change a layer's weights, which are in memory."""
        with self._torch.no_grad():
            for weight, moved in self._causes.moved(self._of_stage(number), cause, size):
                weight.copy_(moved)

    def _weights_of_ends(self) -> tuple[Any, Any]:
        names = {module: name for name, module in self._model.named_modules()}
        ends = [f"{names[end]}.weight" for end in (self._embedding, self._head)]
        first = self._on_disk.first_names(ends)
        found = {n: self._on_disk.as_stored(n) for n in first if self._on_disk.plain(n)}
        embedding, head = (found.get(name) for name in first)
        return embedding, head

    def _norm(self, name: str) -> Any:
        if name not in self._small:
            self._small[name] = self._on_disk.whole(name)
        return self._small[name]


class _Changes(Changes):
    """What is changed of the layers' weights."""

    def __init__(self, oracle: StreamedSensitivity) -> None:
        self._oracle = oracle
        self._order: Sequence[int] | None = None
        self._change: tuple[Cause, float] | None = None

    def source(self, number: int) -> int:
        return number if self._order is None else self._order[number]

    def placed(self, number: int) -> None:
        if self._change is not None:
            self._oracle.place(number, *self._change)

    @contextmanager
    def ordered(self, order: Sequence[int]) -> Iterator[None]:
        self._order = order
        try:
            yield
        finally:
            self._order = None

    @contextmanager
    def of_weights(self, cause: Cause, size: float) -> Iterator[None]:
        self._change = (cause, size)
        try:
            yield
        finally:
            self._change = None


def _leaf(tensor: Any) -> Any:
    """A tensor that tells how an output moves with it, where it can."""
    return tensor.detach().requires_grad_(tensor.is_floating_point())


def _given(question: Question, number: int) -> str:
    """The key of what a layer is given."""
    return f"{_digest(question.ids)} {number}"


def _told(question: Question, number: int) -> str:
    """The key of what a stage told of a question's vectors."""
    return f"{_asked(question)} {number}"


def _back(question: Question) -> str:
    """The key of how far back a question has come."""
    return f"{_asked(question)} back"


def _asked(question: Question) -> str:
    vectors = (np.ascontiguousarray(v, np.float64).tobytes() for v in question.vectors)
    return _digest(question.ids, *vectors)


def _digest(ids: Sequence[int], *more: bytes) -> str:
    digest = hashlib.sha256(json.dumps(list(map(int, ids))).encode())
    for part in more:
        digest.update(part)
    return digest.hexdigest()


def _packed(torch: Any, taken: Taken, index: int) -> State:
    """What was taken of a vector, as tensors."""
    about = {
        "causes": [astuple(cause) for cause in taken.whole],
        "parts": [[*key, len(values)] for key, values in taken.parts.items()],
    }
    none = np.zeros(0, np.float32)
    return {
        f"about.{index}": torch.tensor(list(json.dumps(about).encode()), dtype=torch.uint8),
        f"whole.{index}": torch.tensor(list(taken.whole.values()), dtype=torch.float64),
        f"parts.{index}": torch.from_numpy(np.concatenate([none, *taken.parts.values()])),
    }


def _unpack(state: Mapping[str, Any], index: int, taken: Taken) -> None:
    """Add what a stage told of a vector."""
    about = json.loads(bytes(state[f"about.{index}"].numpy()))
    causes = (Cause(*row) for row in about["causes"])
    taken.add_all(zip(causes, state[f"whole.{index}"].tolist(), strict=True))
    values, begin = state[f"parts.{index}"].numpy(), 0
    for kind, place, count in about["parts"]:
        part, key = values[begin : begin + count], (kind, place)
        taken.parts[key] = taken.parts[key] + part if key in taken.parts else part
        begin += count

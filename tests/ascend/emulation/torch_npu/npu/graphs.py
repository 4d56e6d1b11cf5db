"""Graphs: what ran within ``graph`` is noted, and ``replay`` runs it into the same memory.

So a replay sees what has changed in its inputs' memory and nothing else, and whoever relies
on Python being run again (a hook, a print) is let down as on a card.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from torch_npu._missing import not_emulated


@dataclass
class Task:
    """One noted call; ``made`` are the places of the outputs whose memory the call made."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Any
    made: tuple[int, ...]


@dataclass
class TaskGroup:
    """Tasks whose arguments may be given anew: ``graph_task_group_begin`` to ``end``."""

    tasks: list[Task] = field(default_factory=list)


class NPUGraph:
    """What one capture noted."""

    def __init__(self) -> None:
        self._tasks: list[Task] = []

    def note(self, task: Task) -> None:
        """Keep a call for replays."""
        self._tasks.append(task)

    def capture_begin(self, pool: Any = None, capture_error_mode: str = "global") -> None:
        """Count as a capture that runs."""
        _state.capturing.append(self)

    def capture_end(self) -> None:
        """End it."""
        _state.capturing.remove(self)

    @torch.inference_mode()
    def replay(self) -> None:
        """Run the tasks once more; their outputs stay where they were."""
        for task in self._tasks:
            old, new = _tensors(task.outputs), _tensors(task.function(*task.args, **task.kwargs))
            for place in task.made:
                old[place].copy_(new[place])

    def reset(self) -> None:
        """Forget the tasks."""
        self._tasks.clear()

    def pool(self) -> tuple[int, int]:
        """The one handle of all pools."""
        return graph_pool_handle()

    def debug_dump(self, path: str) -> None:
        """Nothing."""


@dataclass
class _State:
    """What runs at the moment."""

    capturing: list[NPUGraph] = field(default_factory=list)
    group: TaskGroup | None = None
    updating: _Updating | None = None


_state = _State()


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _is_view(function: Any) -> bool:
    """Whether an operator only looks at its input's bytes.

    A view says so in its schema. Whatever else returns its input may have changed it, whether
    or not its schema admits that (vLLM-Ascend's rotary embedding does not).
    """
    # Operators of operators have no schema.
    returns = getattr(getattr(function, "_schema", None), "returns", ())
    return bool(returns) and all(r.alias_info and not r.alias_info.is_write for r in returns)


class _Noting(TorchDispatchMode):
    supports_higher_order_operators = True  # whose parts come one by one

    def __init__(self, graph: NPUGraph) -> None:
        super().__init__()
        self._graph = graph

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        outputs = func(*args, **kwargs)
        given, results = _tensors((args, kwargs)), _tensors(outputs)
        on_device = any(t.device.type == "npu" for t in (*given, *results))
        if on_device and not _is_view(func):
            known = {t.untyped_storage().data_ptr() for t in given}
            fresh = [t.untyped_storage().data_ptr() not in known for t in results]
            made = tuple(place for place, is_fresh in enumerate(fresh) if is_fresh)
            task = Task(func, args, kwargs, outputs, made)
            self._graph.note(task)
            if _state.group is not None:
                _state.group.tasks.append(task)
        return outputs


class graph:  # noqa: N801 - the card's name
    """Captures what runs within."""

    def __init__(self, npu_graph: NPUGraph, pool: Any = None, stream: Any = None, **_: Any) -> None:
        self._graph = npu_graph
        self._mode = _Noting(npu_graph)

    def __enter__(self) -> None:
        self._graph.capture_begin()
        self._mode.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._mode.__exit__(*error)
        self._graph.capture_end()


def is_current_stream_capturing() -> bool:
    """Whether a capture runs."""
    return bool(_state.capturing)


def graph_pool_handle() -> tuple[int, int]:
    """The one handle of all pools."""
    return (0, 1)


def graph_task_group_begin(stream: Any) -> None:
    """Begin a group of tasks within a capture."""
    _state.group = TaskGroup()


def graph_task_group_end(stream: Any) -> TaskGroup | None:
    """End the group; it is the handle for an update."""
    ended, _state.group = _state.group, None
    return ended


class _Updating(TorchDispatchMode):
    """Takes the calls between ``update_begin`` and ``end`` as new arguments of the tasks."""

    def __init__(self, group: TaskGroup) -> None:
        super().__init__()
        self._left = list(group.tasks)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._left and self._left[0].function is func:
            task = self._left.pop(0)
            task.args, task.kwargs = args, kwargs or {}
            return task.outputs
        return func(*args, **(kwargs or {}))


def graph_task_update_begin(stream: Any, handle: TaskGroup) -> None:
    """Begin to give a group's tasks new arguments."""
    _state.updating = _Updating(handle)
    _state.updating.__enter__()


def graph_task_update_end(stream: Any) -> None:
    """End it."""
    mode, _state.updating = _state.updating, None
    if mode is not None:
        mode.__exit__(None, None, None)


def make_graphed_callables(*_: Any, **__: Any) -> NoReturn:
    """Refused."""
    raise not_emulated("torch.npu.make_graphed_callables")

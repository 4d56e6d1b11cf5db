"""What is found of a checkpoint's tensors beside its family's row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.checkpoint.family import Family, Fields, classes_of
from harness.checkpoint.findings import CheckpointIssue
from harness.checkpoint.layout import Layout, by_first_part, shown_names
from harness.checkpoint.quantized import Scheme

_SHOWN = 3


def foreign(family: Family, layout: Layout, scheme: Scheme | None) -> Iterator[CheckpointIssue]:
    """Tensors of a layer that the family has no place for."""
    names = layout.foreign
    if scheme is not None:
        # Outlier suppression moves a part of a norm into a bias, which is described.
        described = scheme.settings
        names = tuple(n for n in names if not (n.endswith(".bias") and n in described))
    if names:
        yield CheckpointIssue(
            "error",
            f"{len(names)} tensors within the layers that {article(family.name)} has no place "
            f"for: {shown_names(names)}: engines leave them out, or refuse them",
            "make model_type and architectures those of these weights",
        )


def beside(family: Family, layout: Layout, fields: Fields) -> Iterator[CheckpointIssue]:
    """Tensors outside of the layers that the row does not name."""
    if not layout.beside:
        return
    parts = ", ".join(f"{name} ({count})" for name, count in by_first_part(layout.beside))
    if fields.within or any(key.endswith("_config") for key in fields.outer):
        yield CheckpointIssue("note", f"tensors beside the language model are not checked: {parts}")
    else:
        yield CheckpointIssue(
            "warning",
            f"{len(layout.beside)} tensors outside of the layers that {article(family.name)} "
            f"has no place for: {shown_names(layout.beside)}",
        )


def contradiction(
    family: Family | None, by_class: Family | None, fields: Fields
) -> Iterator[CheckpointIssue]:
    """That ``model_type`` and ``architectures`` are of two families."""
    if family is not None and by_class is not None and family is not by_class:
        kind = fields.values.get("model_type")
        yield CheckpointIssue(
            "warning",
            f"model_type {kind!r} is {article(family.name)}, architectures "
            f"{classes_of(fields.values)} is {article(by_class.name)}: Transformers goes by the "
            "former, vLLM by the latter",
            "take both from the release of these weights",
        )


def article(name: str) -> str:
    """A family's name in a sentence."""
    return f"an {name}" if name[0] in "EIO" else f"a {name}"


def _shape(problem: str) -> CheckpointIssue:
    return CheckpointIssue("error", problem, "download the checkpoint again", "shapes")


def misshapen(problems: Sequence[str]) -> Iterator[CheckpointIssue]:
    """What is missing from the layers, or has another shape than the others ask for."""
    yield from map(_shape, problems[:_SHOWN])
    if rest := len(problems[_SHOWN:]):
        yield _shape(f"{rest} more tensors are missing or misshapen")

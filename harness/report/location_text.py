"""A location in a terminal: the curve of the error over depth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from harness.alignment.diagnosis import Diagnosis
from harness.locate.result import FAILING, Location, Place

_WIDTH = 32
#: Ratios that the two ends of a bar stand for; it is logarithmic between them.
_LEFT, _RIGHT = 0.5, 32.0
_COLUMNS = ("self_attn", "mlp", "")


def location_lines(location: Location) -> Iterator[str]:
    """The sentence, the curve, and what to go on with."""
    from harness.locate.judge import layer_rows

    yield location.sentence
    for warning in location.warnings:
        yield f"  warning: {warning}"
    yield ""
    yield f"{'error, candidate over reference':<34}{'attention':>10}{'MLP':>8}{'output':>8}"
    for name, places in layer_rows(location.places):
        yield _row(name, places, location.place)
    if location.hand_over is not None:
        yield ""
        over = location.hand_over
        yield (
            f"to go on: module {over.module}, prompt {over.prompt_id}, position {over.position} "
            f"of {len(over.token_ids)} (decode step {over.step}); token ids and a configuration "
            "for msprobe are in the JSON (--json)"
        )


def diagnosis_lines(diagnosis: Diagnosis | None) -> Iterator[str]:
    """What the diagnosis of the same alignment said: it sees what hides in the noise of every
    module, and this the faults that it has no cause for."""
    if diagnosis is None:
        return
    yield ""
    yield f"the diagnosis of this alignment: {diagnosis.sentence}"
    for explanation in diagnosis.explanations:
        if explanation.sentence != diagnosis.sentence:
            yield f"  also: {explanation.sentence}"
        for other in explanation.alike:
            yield f"  not to be told apart from {other.sentence}"


def _row(name: str, places: Mapping[str, Place], found: str | None) -> str:
    cells = [_figure(places.get(column)) for column in _COLUMNS]
    worst = max(places.values(), key=lambda p: p.ratio.value or 0.0)
    here = any(p.name == found for p in places.values())
    mark = "  <- here" if here else ""
    line = f"{name:<34}{cells[0]:>10}{cells[1]:>8}{cells[2]:>8}  {_bar(worst)}{mark}"
    return line.rstrip()


def _figure(place: Place | None) -> str:
    if place is None:
        return ""
    if place.status == "EQUAL":
        return "="
    if place.status == "NONFINITE":
        return "NaN"
    value = place.ratio.value
    if value is None:
        return "—"
    return f"{value:.2f}{'!' if place.status in FAILING else ''}"


def _bar(place: Place) -> str:
    """Its length is the logarithm of the ratio; ``|`` is the limit."""
    cells = ["#"] * _cells(place.ratio.value or 0.0)
    cells += [" "] * (_WIDTH - len(cells))
    cells[min(_cells(place.limit), _WIDTH - 1)] = "|"
    return "".join(cells).rstrip()


def _cells(ratio: float) -> int:
    if ratio <= _LEFT:
        return 0
    share = math.log(ratio / _LEFT) / math.log(_RIGHT / _LEFT)
    return min(_WIDTH, round(_WIDTH * share))

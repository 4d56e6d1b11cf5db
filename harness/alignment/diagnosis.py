"""What a diagnosis says: which change of the oracle's computation explains the error."""

from __future__ import annotations

from typing import Annotated, Literal

from harness.files.strict_model import FROM_LIST, StrictModel
from harness.messages.message import Message
from harness.messages.statement import Remark, Statement
from harness.statistics.intervals import Interval

#: SYSTEMATIC: an effect that rounding does not have, beyond its margin. SLIGHT: it is there,
#: and within. NOTHING: none is seen.
Finding = Literal["SYSTEMATIC", "SLIGHT", "NOTHING"]

#: What is tested together: settings of the config; modules, heads and roundings of weights;
#: single rows, columns, channels and ids; single weights.
FamilyName = Literal["settings", "causes", "parts", "weights"]


#: What the errors were seen in: sketches of whole rows, or the log-probabilities of a row's
#: likeliest tokens, which is all that a server gives.
Source = Literal["sketches", "log_probabilities"]


class Explanation(Statement):
    """One cause, and how much of the error it explains.

    Attributes:
        kind, place, index, column: the cause, as ``harness.devices.causes.Cause``.
        t: its score over prompts, in deviations of what rounding does.
        size: in the unit of ``message``, with its 95 % interval.
        share: of the squared error beyond the arms' own, 0 to 1.
        alike: causes that explain as much and cannot be told apart from this one.
        message: the cause with its size.
    """

    kind: str
    place: str
    index: int
    column: int
    t: float
    size: Interval
    share: float
    alike: Annotated[tuple[Remark, ...], FROM_LIST] = ()
    sentence: str = ""
    message: Message | None = None


class Family(StrictModel):
    """What is tested together: how many hypotheses, their largest ``|t|``, and what that
    stays below by chance. No family exceeds its limit with 99.9 %."""

    name: FamilyName
    hypotheses: int
    t: float
    limit: float


class LayerScore(StrictModel):
    """The largest ``|t|`` of one layer's causes, and of each of its heads: of the head's
    output, its scores and the values that it reads. Alignments of before have no heads."""

    layer: int
    t: float
    heads: Annotated[tuple[float, ...], FROM_LIST] = ()


class Diagnosis(Statement):
    """Whether the error has a part that rounding does not have, and what explains it.

    Attributes:
        families: what was looked at. Of single weights, those of a row or column that
            stands out; their limit is that of all.
        effect: root of the best explanation's squared error over that of the arms.
        margin: the largest ``effect`` that is a warning only.
        explanations: the best first; each further one explains what the others leave.
        left: the largest ``|t|`` once all of them are taken out, over its family's limit;
            None where one cause explains nearly all, so that what it leaves says nothing.
        layers: for a chart over depth.
        source: what the errors were seen in.
        listed: of log-probabilities, how many a row lists at most; ``looked_at`` how many of
            them are far enough above the last, in the mean.
    """

    finding: Finding
    sentence: str = ""
    message: Message | None = None
    prompts: int
    rows: int
    families: Annotated[tuple[Family, ...], FROM_LIST]
    effect: float
    margin: float
    explanations: Annotated[tuple[Explanation, ...], FROM_LIST]
    left: float | None
    layers: Annotated[tuple[LayerScore, ...], FROM_LIST]
    source: Source = "sketches"
    listed: int | None = None
    looked_at: float | None = None

    @property
    def first(self) -> Family:
        """The family whose largest ``|t|`` is farthest beyond its limit, or nearest to it."""
        return max(self.families, key=lambda family: family.t / family.limit)

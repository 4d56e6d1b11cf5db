"""The gate of routes: whether a mixture's routers leave the oracle's choice as the arms' do."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.alignment.gates.counts import above, count_ratio
from harness.alignment.outcomes import Status
from harness.alignment.result import Gate
from harness.baseline.controls import RatioLimit
from harness.baseline.routing import Departure, RouteNoise
from harness.messages.message import Message, message
from harness.statistics.intervals import FAIL_CONFIDENCE, chance_of_more

#: Its name; a dense model does not have this gate.
ROUTES = "routes"


def routes_gate(own: Mapping[str, Departure | None], noise: RouteNoise, limit: RatioLimit) -> Gate:
    """FAIL where a router first left the oracle's choice at a margin that the arms' noise does
    not explain, or where more tokens have other experts than in the arms.

    A prompt's first departure alone is held against the margin: what follows it has other
    inputs.

    Args:
        own: the candidate's departures, by prompt id; None where it does not tell.
    """
    told = {i: d for i, d in own.items() if d is not None}
    if len(told) < len(own) or not told:
        return _gate("NOT_RUN", None, noise, message("gate.routes.missing"))
    departed = {i: d for i, d in told.items() if d.tokens}
    beyond = [i for i, d in departed.items() if not noise.explained(d)]
    margins = {i: d.margin for i, d in departed.items()}
    widest = max(margins, key=lambda i: margins[i], default="")
    value = margins.get(widest, 0.0) if noise.widest is not None else None
    if beyond:
        outcome = message(
            "gate.routes.margin",
            beyond=len(beyond),
            prompts=len(told),
            margin=margins[widest],
            prompt=widest,
            widest=noise.widest,
        )
        return _gate("FAIL", value, noise, outcome)
    if (said := _more(told, noise, limit)) is not None:
        return _gate("FAIL", value, noise, said)
    if not departed:
        return _gate("PASS", value, noise, message("gate.routes.same", prompts=len(told)))
    values = {"departed": len(departed), "prompts": len(told)}
    if value is None or noise.widest is None:
        return _gate("PASS", None, noise, message("gate.routes.untold", **values))
    outcome = message("gate.routes.pass", **values, margin=value, widest=noise.widest)
    return _gate("PASS", value, noise, outcome)


def _more(told: Mapping[str, Departure], noise: RouteNoise, limit: RatioLimit) -> Message | None:
    """What to say where the candidate departs more often than the arms would with the limit's
    noise: by prompts, which tells where departures are rare, or by tokens."""
    arms = [noise.arms[i] for i in told]
    departed = sum(d.tokens > 0 for d in told.values())
    theirs = sum(d.tokens > 0 for found in arms for d in found)
    number = sum(map(len, arms))
    each_prompt = limit.inflations[1] * len(told)
    surely = chance_of_more(departed, theirs, each_prompt / (each_prompt + number))
    seen = np.array([float(d.tokens) for d in told.values()])
    each = np.array([sum(d.tokens for d in found) / len(found) for found in arms])
    # One more than was seen: no departure seen does not mean that none can occur.
    allowed = limit.inflations[1] * (each + 1.0 / number)
    much = above(count_ratio(seen, allowed, theirs + 1.0), FAIL_CONFIDENCE)
    if not much and surely > 0.5 * (1.0 - FAIL_CONFIDENCE):
        return None
    return message("gate.routes.more", tokens=round(float(seen.sum())), arms=float(each.sum()))


def _gate(status: Status, value: float | None, noise: RouteNoise, outcome: Message) -> Gate:
    return Gate(name=ROUTES, status=status, value=value, limit=noise.widest, message=outcome)

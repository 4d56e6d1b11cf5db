"""The scores of a baseline's arms, kept in the cache: they do not depend on the candidate, so
the next one of the same baseline takes one pass backwards in place of four, and no settings."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.devices.causes import Cause
from harness.diagnosis.errors import Errors
from harness.diagnosis.made_with import made_with
from harness.diagnosis.parts import Parts
from harness.diagnosis.scores import Scores
from harness.files import atomic
from harness.model.facts import ModelFacts
from harness.statistics.score import Null

#: Of the file, and of what the scores are: another one is made anew.
FORM = 1
_SETTING = "setting"


@dataclass(frozen=True, eq=False)
class Kept:
    """What a diagnosis has of the arms.

    Attributes:
        scores: those of the candidate are not kept, and are 0.
        settings: the direction of each setting, per prompt float64 (n, 64).
    """

    scores: Scores
    settings: Mapping[Cause, Sequence[NDArray[np.float64]]]


def kept_file(folder: Path, errors: Errors, model: ModelFacts) -> Path:
    """Where the scores of these arms are kept.

    Args:
        folder: of the cache.
        model: its weights and its config count: equal weights with another RoPE base are
            another model.
    """
    about = [FORM, model.weights, model.config, model.config_defaults]
    return folder / "diagnosis" / f"{digest_of(errors, about, ('arms',))}.npz"


def digest_of(errors: Errors, about: object, arrays: Sequence[str]) -> str:
    """What answers are known by.

    Args:
        about: what else they depend on, as JSON.
        arrays: which of the errors they depend on, beside the tokens and the ids that are
            looked at.
    """
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for prompt in errors.prompts:
        digest.update(json.dumps([prompt.id, prompt.token_ids]).encode())
        if errors.chosen is not None:
            digest.update(np.ascontiguousarray(errors.chosen[prompt.token_ids]).tobytes())
        for name in arrays:
            digest.update(np.ascontiguousarray(getattr(prompt, name)).tobytes())
    return digest.hexdigest()[:32]


def save(file: Path, kept: Kept) -> None:
    """Write it whole or not at all.

    Raises:
        HarnessError: if it cannot be written.
    """
    scores = kept.scores
    arrays: dict[str, Any] = {
        "rounding": scores.rounding,
        "contrasts": scores.contrasts,
        "part_rounding": np.concatenate([part.rounding for part in scores.parts], axis=1),
        "part_variance": np.concatenate([part.null.variance for part in scores.parts]),
        "base": np.concatenate(scores.base),
        **{
            f"{_SETTING}{i}": np.concatenate(list(found))
            for i, found in enumerate(kept.settings.values())
        },
    }
    about = {
        "causes": [row_of(cause) for cause in scores.causes],
        "settings": [row_of(cause) for cause in kept.settings],
        "parts": [[part.kind, part.place, part.scores.shape[1]] for part in scores.parts],
        "arms": scores.arms,
        "weights": scores.weights,
        "made_with": made_with(),
    }
    data = io.BytesIO()
    np.savez(data, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
    atomic.write_bytes(file, data.getvalue())


def load(file: Path, errors: Errors) -> Kept | None:
    """What was kept of these arms; None where there is nothing, it is damaged, or other code
    made it."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as found:
            about = json.loads(bytes(found["about"]))
            return _read(about, found, errors) if about["made_with"] == made_with() else None
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile):
        return None


def _read(
    about: Mapping[str, Any],
    found: Mapping[str, NDArray[np.float64]],
    errors: Errors,
) -> Kept:
    prompts = len(errors)
    rounding, contrasts = found["rounding"], found["contrasts"]
    arms = int(about["arms"])
    causes = tuple(cause_of(row) for row in about["causes"])
    fits = rounding.shape == (prompts, len(causes)) and contrasts.shape[1] == len(causes)
    if not fits or len(contrasts) % prompts or not len(contrasts):
        raise ValueError("the scores are not of these causes")
    ends = np.cumsum([len(prompt) for prompt in errors.prompts])[:-1]
    parts, begin = [], 0
    table, variance = found["part_rounding"].astype(np.float32), found["part_variance"]
    for kind, place, count in about["parts"]:
        at = slice(begin, begin := begin + int(count))
        null = Null(variance[at], arms, len(contrasts))
        none = np.zeros((0, 0), np.float32)
        parts.append(Parts(str(kind), str(place), none, table[:, at], null))
    settings = {
        cause_of(row): np.split(found[f"{_SETTING}{i}"], ends)
        for i, row in enumerate(about["settings"])
    }
    scores = Scores(
        causes=causes,
        candidate=np.zeros_like(rounding),
        rounding=rounding,
        contrasts=contrasts,
        parts=tuple(parts),
        base=tuple(np.split(found["base"], ends)),
        arms=arms,
        shares=errors.shares,
        weights=int(about["weights"]),
    )
    return Kept(scores, settings)


def row_of(cause: Cause) -> list[Any]:
    """A cause as JSON."""
    return [cause.kind, cause.place, cause.index, cause.column]


def cause_of(row: Sequence[Any]) -> Cause:
    """The cause of a row of JSON."""
    kind, place, index, column = row
    return Cause(str(kind), str(place), int(index), int(column))

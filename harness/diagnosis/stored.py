"""The arms' scores beside their baseline: what a diagnosis has of them, in less room.

A ZIP archive of raw arrays, little-endian. Scores of single rows, columns and ids are most of
it, so they are rounded to a byte each with a scale for each part; t moves by less than 0.02.
The file belongs to the digest in it, of the model, the arms and their tokens; it may come from
anybody, so nothing in it is believed before it is checked.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.baseline.arm_files import SCORES
from harness.diagnosis.errors import Errors
from harness.diagnosis.kept import Kept, cause_of, row_of
from harness.diagnosis.parts import Parts
from harness.diagnosis.scores import Scores
from harness.files import atomic
from harness.statistics.score import Null

#: Its name in a baseline's folder.
NAME = SCORES
#: Of the file.
SCHEMA = "harness.diagnosis-arms/1"
#: No file is larger, and no more is made of one.
MOST_BYTES, MOST_UNPACKED = 1 << 30, 4 << 30
#: A code is a byte; the largest score of a part has this one.
_TOP = 127


def write(file: Path, kept: Kept, digest: str) -> None:
    """Write it whole or not at all.

    Args:
        digest: what the arms are known by; see ``kept_file``.

    Raises:
        HarnessError: if it cannot be written.
    """
    scores, parts = kept.scores, kept.scores.parts
    table = [part.rounding for part in parts]
    rounding = np.concatenate([np.zeros((scores.prompts, 0), np.float32), *table], axis=1)
    scales = np.abs(rounding).max(axis=0, initial=0.0) / _TOP
    codes = np.rint(rounding / np.where(scales > 0.0, scales, 1.0))
    variance = np.concatenate([np.zeros(0), *(part.null.variance for part in parts)])
    arrays: dict[str, NDArray[Any]] = {
        "rounding": scores.rounding.astype("<f8"),
        "contrasts": scores.contrasts.astype("<f8"),
        # Part by part: many ids are in few prompts, and zeros side by side take no room.
        "codes": np.ascontiguousarray(codes.T.astype("<i1")),
        "scales": scales.astype("<f4"),
        "variance": variance.astype("<f4"),
    }
    for index, found in enumerate(kept.settings.values()):
        arrays[f"setting{index}"] = np.concatenate(list(found)).astype("<f4")
    about = {
        "schema": SCHEMA,
        "of": digest,
        "causes": [row_of(cause) for cause in scores.causes],
        "settings": [row_of(cause) for cause in kept.settings],
        "parts": [[part.kind, part.place, part.rounding.shape[1]] for part in parts],
        "contrasts": len(scores.contrasts),
        "arms": scores.arms,
        "weights": scores.weights,
    }
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        # A date of its own would make another file of the same scores.
        archive.writestr(zipfile.ZipInfo("about"), json.dumps(about))
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(name)
            archive.writestr(entry, array.tobytes(), zipfile.ZIP_DEFLATED)
    atomic.write_bytes(file, data.getvalue())


def read(file: Path, errors: Errors, digest: str) -> Kept | str:
    """What was stored of these arms, or why it is of no use.

    Args:
        digest: what the arms are known by.
    """
    try:
        return _checked(file, errors, digest)
    except _NoUse as error:
        return str(error)
    except _DAMAGED:
        return "it is damaged"


class _NoUse(Exception):
    """A whole file that is of no use, with the reason."""


#: What damaged, encrypted, hostile or strangely packed archives raise.
_DAMAGED = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, IndexError, RecursionError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, MemoryError),
    *(OverflowError, AttributeError),
)


def _checked(file: Path, errors: Errors, digest: str) -> Kept:
    if file.stat().st_size > MOST_BYTES:
        raise _NoUse(f"it is larger than {MOST_BYTES >> 30} GiB")
    with zipfile.ZipFile(file) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MOST_UNPACKED:
            raise _NoUse(f"it unpacks to more than {MOST_UNPACKED >> 30} GiB")
        about = json.loads(archive.read("about"))
        if about["schema"] != SCHEMA:
            raise _NoUse("it has another form")
        if about["of"] != digest:
            raise _NoUse("it is of other arms, other weights or other rows")
        return _read(about, archive, errors)


def _read(about: Mapping[str, Any], archive: zipfile.ZipFile, errors: Errors) -> Kept:
    prompts, rows = len(errors), errors.rows
    causes = tuple(cause_of(row) for row in about["causes"])
    arms, each = len(errors.prompts[0].arms), len(errors.prompts[0].contrasts)
    if (about["arms"], about["contrasts"]) != (arms, each * prompts):
        raise ValueError("the scores are of other arms")
    places = [(str(kind), str(place), _count(count)) for kind, place, count in about["parts"]]
    total = sum(count for *_, count in places)
    codes = _array(archive, "codes", "<i1", (total, prompts))
    scales = _array(archive, "scales", "<f4", (total,))
    variance = _array(archive, "variance", "<f4", (total,)).astype(np.float64)
    if (variance < 0.0).any():
        raise ValueError("a variance below 0")
    table = np.ascontiguousarray((codes * scales[:, None]).T)
    parts, begin, none = [], 0, np.zeros((0, 0), np.float32)
    for kind, place, count in places:
        at = slice(begin, begin := begin + count)
        null = Null(variance[at], arms, each * prompts)
        parts.append(Parts(kind, place, none, table[:, at], null))
    ends = np.cumsum([len(prompt) for prompt in errors.prompts])[:-1]
    width = errors.prompts[0].candidate.shape[1]
    settings = {
        cause_of(row): np.split(
            _array(archive, f"setting{i}", "<f4", (rows, width)).astype(np.float64), ends
        )
        for i, row in enumerate(about["settings"])
    }
    scores = Scores(
        causes=causes,
        candidate=np.zeros((prompts, len(causes))),
        rounding=_array(archive, "rounding", "<f8", (prompts, len(causes))),
        contrasts=_array(archive, "contrasts", "<f8", (each * prompts, len(causes))),
        parts=tuple(parts),
        base=(),
        arms=arms,
        shares=errors.shares,
        weights=_count(about["weights"]),
    )
    return Kept(scores, settings)


def _array(archive: zipfile.ZipFile, name: str, dtype: str, shape: Sequence[int]) -> NDArray[Any]:
    """An array of finite numbers of just this shape."""
    wanted = math.prod(shape) * np.dtype(dtype).itemsize
    if archive.getinfo(name).file_size != wanted:
        raise ValueError(f"{name} has another length")
    found = np.frombuffer(archive.read(name), dtype).reshape(shape)
    if dtype != "<i1" and not np.isfinite(found).all():
        raise ValueError(f"{name} is not finite")
    return found.astype(found.dtype.newbyteorder("="))


def _count(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 48:
        raise ValueError("not a number of things")
    return value

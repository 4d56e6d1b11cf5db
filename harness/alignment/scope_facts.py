"""What one judgement could have seen, as figures."""

from __future__ import annotations

from typing import Annotated

from harness.files.strict_model import FROM_LIST, StrictModel
from harness.recording.format import Count


class Scope(StrictModel):
    """What one judgement could have seen; None is what nobody told.

    ``longest_context`` is the longest prompt and output, in tokens, before the
    last judged position. ``prompts`` were judged, and ``alike`` are groups of
    them that are much alike, by id; ``distinct_prompts`` counts groups, one
    prompt by itself included. ``positions`` are the judged ones, of which
    ``prefill_rows`` and ``decode_rows`` came by those paths.
    ``rows_beyond_block`` are positions with a context of more than
    ``block_size`` tokens. ``ids_fed`` counts different token ids of prompts
    and outputs that were fed, of ``vocabulary``. In ``chose`` prompts the
    device chose its own tokens. ``judged``: whether a device has run, or only
    its baseline is there.
    """

    judged: bool
    longest_context: Count
    prompts: Count
    distinct_prompts: Count
    alike: Annotated[tuple[Annotated[tuple[str, ...], FROM_LIST], ...], FROM_LIST] = ()
    positions: Count
    prefill_rows: Count
    decode_rows: Count
    block_size: Count | None
    rows_beyond_block: Count | None
    ids_fed: Count
    vocabulary: Count
    batch_size: Count | None
    chose: Count | None

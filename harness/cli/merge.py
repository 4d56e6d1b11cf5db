"""`harness merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.say import say
from harness.errors import UsageError
from harness.files.outputs import check_outputs


def merge(
    recordings: Annotated[list[Path], typer.Argument(help="Recordings of all shards of one run.")],
    out: Annotated[
        Path, typer.Option(help="Where to write the whole recording: .json or .json.gz.")
    ],
    suite: Annotated[
        str | None,
        typer.Option(
            help="Where the suite is, if it is in no folder prompts/: its order is the recording's."
        ),
    ] = None,
) -> None:
    """Join the recordings of shards into the one that a single run would have made.

    They must be of one device, model, suite, setting and environment, with each prompt once.
    Times stay those of the shards. A name that ends in .json.gz is written compressed.

    Example:  harness merge shard-*.json --out npu.json
    """
    from harness.recording.format import load_recording, new_shelf, save_recording
    from harness.recording.merge import merge as joined
    from harness.suite.read import load_suite

    check_outputs([out], recordings)
    if len(set(recordings)) < len(recordings):
        twice = next(path for path in recordings if recordings.count(path) > 1)
        raise UsageError(f"{twice}: named twice; name each shard once")
    shelf = new_shelf()
    parts = {path.as_posix(): load_recording(path, shelf) for path in recordings}
    first = next(iter(parts.values()))
    whole = load_suite(suite or first.suite.name)
    settings = first.settings
    made = joined(parts, whole.with_generation(settings.max_new_tokens, settings.ignore_eos))
    save_recording(made, out)
    say(f"{out}: {len(made.prompts)} prompts of {len(parts)} recordings")

"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.devices.kinds import devices_help
from harness.errors import UsageError
from harness.model.packaged import packaged_help

#: What names a model.
MODEL_HELP = f"{packaged_help()}, a directory, or a Hub name."

Device = Annotated[str, typer.Option(help=devices_help())]
ModelName = Annotated[str, typer.Option(help=MODEL_HELP)]
SuiteName = Annotated[str, typer.Option(help="A name in prompts/, or a YAML file.")]
Dtype = Annotated[
    str | None, typer.Option(help="bfloat16, float16 or float32; the checkpoint's by default.")
]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        min=1, help="Tokens to generate for each prompt; by default the suite's own number."
    ),
]
BatchSize = Annotated[
    int, typer.Option(min=1, metavar="N", help="How many requests run at a time (vLLM).")
]
EngineArgs = Annotated[
    list[str] | None,
    typer.Option(
        metavar="K=V",
        help="An option of the device, as attention=eager; with vLLM any engine "
        "argument. Repeatable.",
    ),
]
ServerUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="URL of a running server, for --device server; without it a server is started. "
        "Its key, if any, comes from HARNESS_API_KEY or OPENAI_API_KEY.",
    ),
]
DetailName = Annotated[
    str,
    typer.Option(
        "--detail",
        metavar="small|normal|large",
        help="How much is kept of each row: small takes less than half the room, and large is for "
        "a diagnosis.",
    ),
]
Trust = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that the checkpoint brings.")
]
OracleWeights = Annotated[
    str,
    typer.Option(
        metavar="auto|memory|stream",
        help="Where the float32 weights are. stream: on disk, and all prompts go through one layer "
        "after another, with the same bits. auto streams what does not fit into memory.",
    ),
]
AllowWeights = Annotated[
    bool, typer.Option("--allow-weights", help="Allow checkpoints to differ (quantization).")
]
AllowDtype = Annotated[bool, typer.Option("--allow-dtype", help="Allow declared dtypes to differ.")]
Table = Annotated[
    Path | None,
    typer.Option(help="Write one row per position: .csv, or .parquet with the extra parquet."),
]
Lang = Annotated[
    str | None,
    typer.Option(metavar="en|zh", help="Language of the reports; by default that of the locale."),
]
Repeats = Annotated[
    int, typer.Option(min=0, help="How many prompts to run twice, to check that bits repeat.")
]
ShardName = Annotated[
    str | None,
    typer.Option(metavar="K/N", help="Only the K-th of N parts; join them with harness merge."),
]
QatGroupSize = Annotated[
    int | None,
    typer.Option(
        "--qat-group-size",
        help="Run latent ternary weights through their quantizer: weights that share a scale, "
        "-1 for a whole row. Transformers devices only.",
    ),
]


def with_qat_group_size(pairs: list[str] | None, group_size: int | None) -> list[str]:
    """``--engine-arg`` pairs with ``--qat-group-size`` as one of them."""
    extra = [] if group_size is None else [f"qat_group_size={group_size}"]
    return [*(pairs or []), *extra]


def whole_numbers(option: str, text: str, most: int) -> tuple[int, ...]:
    """``1,8`` as numbers.

    Raises:
        UsageError: if a part is not a number from 1 to ``most``.
    """
    parts = [part.strip() for part in text.split(",")]
    # Digits are counted first: Python refuses to read thousands of them.
    good = all(p.isascii() and p.isdecimal() and len(p) <= len(str(most)) for p in parts)
    numbers = tuple(map(int, parts)) if good else ()
    if not numbers or not 1 <= min(numbers) <= max(numbers) <= most:
        raise UsageError(f"{option} {text!r}: give whole numbers from 1 to {most}, as 1,8")
    return numbers

"""Options that several commands share, each worded once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[
    str,
    typer.Option(
        help="Transformers: hf-cpu, hf-gpu, hf-npu. vLLM: npu, vllm-cpu, vllm-gpu. fake: no model."
    ),
]
ModelName = Annotated[str, typer.Option(help="smollm2 (embedded), a directory, or a Hub name.")]
SuiteName = Annotated[str, typer.Option(help="A name in prompts/, or a YAML file.")]
Dtype = Annotated[
    str | None, typer.Option(help="bfloat16, float16 or float32; the checkpoint's by default.")
]
MaxNewTokens = Annotated[int | None, typer.Option(min=1, help="Instead of the suite's own number.")]
EngineArgs = Annotated[
    list[str] | None,
    typer.Option(
        metavar="K=V",
        help="An option of the device, as attention=eager; with vLLM batch_size "
        "or any engine argument. Repeatable.",
    ),
]
Trust = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that the checkpoint brings.")
]
Table = Annotated[
    Path | None,
    typer.Option(help="Write one row per position: .csv, or .parquet with the extra parquet."),
]

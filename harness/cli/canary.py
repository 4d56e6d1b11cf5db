"""``harness canary``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from harness.cli.options import BatchSize, Device, Dtype, EngineArgs, Lang, ServerUrl
from harness.cli.outputs import tell_and_write
from harness.cli.say import say, say_json
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.canary.plan import CanaryPlan
    from harness.canary.sizes import Sizes

_Size = Annotated[int | None, typer.Option(min=1, max=1 << 24)]
_Out = Annotated[
    Path | None,
    typer.Option(help="Folder to keep the checkpoint in; a temporary one by default."),
]
_MakeOnly = Annotated[
    bool, typer.Option("--make-only", help="Write the checkpoint and end; needs --out.")
]
_Like = Annotated[
    str | None,
    typer.Option(help="Take the sizes of this model: smollm2, a directory, or a Hub name."),
]
_Context = Annotated[
    int | None, typer.Option(help="Positions, to 131072; half of them is how far heads look.")
]
_Base = Annotated[float | None, typer.Option(help="Base of RoPE.")]
_Page = Annotated[
    int | None, typer.Option(min=1, help="Tokens in a block of the engine's KV cache.")
]
_Window = Annotated[
    int | None,
    typer.Option(min=1, help="Positions that a token sees, with --family mistral, gemma2, gemma3."),
]
_Family = Annotated[
    str | None,
    typer.Option(
        help="llama, mistral, qwen2 (biases), qwen3 (q and k norms), mixtral (experts), "
        "deepseek_v2 (latent attention), gemma, gemma2 (soft-caps) or gemma3."
    ),
]
_Original = Annotated[
    int | None,
    typer.Option(min=1, help="With LongRoPE: positions up to which its short table is right."),
]
_Scaling = Annotated[
    str | None, typer.Option(help="How RoPE's frequencies are scaled: llama3 or yarn.")
]
_Soak = Annotated[
    float | None,
    typer.Option(
        min=0.01, max=1e6, metavar="MINUTES",
        help="Repeat the stages, with stress, for so long; says in which round a bit was wrong.",
    ),
]  # fmt: skip
_Json = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON, not as lines.")]
_Report = Annotated[
    list[Path] | None,
    typer.Option(help="Write the outcome: .html (a picture of all probes) or .json."),
]


def canary(
    device: Device = "hf-cpu",
    out: _Out = None,
    make_only: _MakeOnly = False,
    dtype: Dtype = None,
    batch_size: BatchSize = 1,
    engine_arg: EngineArgs = None,
    server_url: ServerUrl = None,
    like: _Like = None,
    context: _Context = None,
    vocab_size: _Size = None,
    layers: _Size = None,
    heads: _Size = None,
    kv_heads: _Size = None,
    head_dim: _Size = None,
    hidden: _Size = None,
    intermediate: _Size = None,
    rope_theta: _Base = None,
    page_size: _Page = None,
    sliding_window: _Window = None,
    original_context: _Original = None,
    rope_scaling: _Scaling = None,
    family: _Family = None,
    experts: _Size = None,
    soak: _Soak = None,
    json: _Json = False,
    report: _Report = None,
    lang: Lang = None,
) -> None:
    """Run a model made by hand, whose every logit is known, and name what is wrong.

    Needs no model, no baseline and no tolerance. Ends with status 0 if every bit is right,
    else with 1.

    Example:  harness canary --device vllm-cpu --report canary.html
    """
    from harness.canary.plan import plan
    from harness.devices.spec import DeviceSpec, parse_engine_args

    given = {
        "context": context, "vocab_size": vocab_size, "layers": layers, "heads": heads,
        "kv_heads": kv_heads, "head_dim": head_dim, "hidden": hidden,
        "intermediate": intermediate, "rope_theta": rope_theta, "page_size": page_size,
        "sliding_window": sliding_window, "original_context": original_context,
        "rope_scaling": rope_scaling, "family": family, "experts": experts,
    }  # fmt: skip
    sizes = _sizes(like, {name: value for name, value in given.items() if value is not None})
    if make_only:
        _make(sizes, out)
    args = parse_engine_args(engine_arg or [])
    with tempfile.TemporaryDirectory(prefix="harness-canary-") as temporary:
        folder = Path(temporary) / "canary" if out is None else out
        spec = DeviceSpec(device, str(folder), dtype, batch_size, args, server_url)
        _run(plan(sizes, spec, soak_s=60 * (soak or 0)), report or [], lang, as_json=json)


def _sizes(like: str | None, given: dict[str, Any]) -> Sizes:
    from harness.canary.like import sizes_like
    from harness.canary.sizes import Sizes

    if like is not None:
        return sizes_like(like, given)
    if given.get("family") == "deepseek_v2":
        given.setdefault("kv_heads", 1)
    return Sizes(**given)


def _make(sizes: Sizes, out: Path | None) -> NoReturn:
    from harness.canary.checkpoint import save

    if out is None:
        raise UsageError("--make-only needs --out FOLDER")
    save(sizes, out)
    say(f"{out}: a canary of {sizes.layers} layers and {sizes.context} positions")
    raise typer.Exit(0)


def _run(wanted: CanaryPlan, reports: list[Path], lang: str | None, *, as_json: bool) -> NoReturn:
    """Run, print and write, and end with the status of the outcome."""
    from harness.canary.run import run_canary
    from harness.files.outputs import check_outputs
    from harness.process.progress import Progress
    from harness.report.canary import canary_lines, check_canary_report, write_canary
    from harness.report.language import language_of

    language = language_of(lang)
    for path in reports:
        check_canary_report(path)
    check_outputs(reports)
    made = run_canary(wanted, Progress())
    writers: dict[Path, Callable[[Path], None]] = {
        path: partial(write_canary, made, language=language) for path in reports
    }
    if as_json:
        for path, write in writers.items():
            write(path)
        say_json(made.model_dump(mode="json", by_alias=True))
    else:
        tell_and_write(canary_lines(made, language), writers)
    raise typer.Exit(0 if made.outcome == "EXACT" else 1)

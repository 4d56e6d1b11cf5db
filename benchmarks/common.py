"""What the benchmarks share: prompts, a device, and the printing of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from harness.devices.base import Keep, Replay, Request
from harness.devices.hf.device import HfDevice
from harness.model.find import find_model
from harness.model.model import Model
from harness.model.tokenizer import open_tokenizer
from harness.suite.encode import encode_suite
from harness.suite.read import load_suite


def open_model(name: str) -> Model:
    """A model by the names that ``--model`` takes."""
    return find_model(name, progress=print)


def opened(model: Model, dtype: str | None = None) -> HfDevice:
    """hf-cpu, loaded."""
    device = HfDevice("hf-cpu", model, dtype=dtype)
    device.open()
    return device


def requests(
    model: Model, tokens: int, count: int, keep: Keep = "statistics", replay: Replay = "free"
) -> list[Request]:
    """The first prompts of ``port``, each for exactly ``tokens`` new tokens."""
    suite = load_suite("port").with_max_new_tokens(tokens)
    prompts = encode_suite(suite, open_tokenizer(model), 1 << 20)[:count]
    return [Request(p.id, p.token_ids, replay, tokens, keep=keep) for p in prompts]


def print_pairs(what: str, ratios: Sequence[float], promise: str) -> None:
    """Median, spread and number of paired ratios."""
    print(
        f"{what}: median {median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}, "
        f"{len(ratios)} pairs (promise: {promise})"
    )

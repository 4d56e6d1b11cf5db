"""Faults put into vLLM's own modules, each named by what the canary's rows show."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from needed import needed

from harness.canary.checkpoint import save
from harness.canary.plan import CanaryPlan, plan
from harness.canary.result import Canary
from harness.canary.run import on_device
from harness.canary.sizes import Sizes
from harness.canary.stages import Abilities
from harness.devices.base import Opened
from harness.devices.spec import DeviceSpec
from harness.process.progress import Silent

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]
needed("torch", "vllm")

SIZES = Sizes(
    context=320, layers=2, heads=4, kv_heads=2, head_dim=64, hidden=128, vocab_size=128,
    family="mistral", sliding_window=48,
)  # fmt: skip


@dataclass(frozen=True)
class Few(CanaryPlan):
    """One request at a time, or a few."""

    together: int = 1

    def able_with(self, opened: Opened) -> Abilities:
        longest = opened.max_positions
        return Abilities(one_pass=False, batch=self.together, budget=0, most_tokens=longest)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: Any) -> Iterator[Callable[[int], Canary]]:
    """Runs the canary on one open engine, with so many requests at a time."""
    from harness.devices.registry import open_target

    folder = tmp_path_factory.mktemp("canary")
    save(SIZES, folder)
    # Blocks that a fault wrote must not be used again.
    spec = DeviceSpec("vllm-cpu", str(folder), engine_args={"enable_prefix_caching": "false"})
    made = plan(SIZES, spec)
    device = open_target(made.spec, progress=Silent()).device
    opened = device.open()
    gc.unfreeze()  # vLLM hides its objects from the collector
    yield lambda together: on_device(
        Few(SIZES, made.spec, together=together), device, opened, Silent(), time.monotonic()
    )
    device.close()


def of_kind(kind: type) -> list[Any]:
    """All modules of the open engine of one class or its subclasses."""
    return [o for o in gc.get_objects() if issubclass(type(o), kind)]


def impl() -> Any:
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl

    return CPUAttentionBackendImpl


def rotary() -> Any:
    from vllm.model_executor.layers.rotary_embedding import RotaryEmbedding

    (one,) = of_kind(RotaryEmbedding)
    return one


def other_base(patch: pytest.MonkeyPatch) -> None:
    module = rotary()
    kept = module.base
    module.base = 30 * kept
    cache = module._compute_cos_sin_cache()
    module.base = kept
    patch.setattr(module, "_match_cos_sin_cache_dtype", lambda query: cache.to(query.dtype))


def interleaved(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rotary(), "is_neox_style", False)


def head_nothing(patch: pytest.MonkeyPatch) -> None:
    forward = impl().forward

    def changed(self: Any, layer: Any, *args: Any, **more: Any) -> Any:
        output = forward(self, layer, *args, **more)
        if "layers.1." in layer.layer_name:
            output.view(-1, SIZES.heads, SIZES.head_dim)[:, 2] = 0
        return output

    patch.setattr(impl(), "forward", changed)


def kv_exchanged(patch: pytest.MonkeyPatch) -> None:
    update = impl().do_kv_cache_update

    def changed(self: Any, layer: Any, key: Any, value: Any, *rest: Any, **more: Any) -> None:
        update(self, layer, key.flip(1).contiguous(), value.flip(1).contiguous(), *rest, **more)

    patch.setattr(impl(), "do_kv_cache_update", changed)


def gate_up(patch: pytest.MonkeyPatch) -> None:
    from vllm.model_executor.layers.activation import SiluAndMul

    def changed(forward: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda x: forward(x.roll(SIZES.intermediate, -1).contiguous())

    for module in of_kind(SiluAndMul):
        patch.setattr(module, "_forward_method", changed(module._forward_method))


def slots_one_late(patch: pytest.MonkeyPatch) -> None:
    update = impl().do_kv_cache_update

    def changed(self: Any, layer: Any, key: Any, value: Any, cache: Any, slots: Any) -> None:
        update(self, layer, key, value, cache, slots + 1)

    patch.setattr(impl(), "do_kv_cache_update", changed)


def tables_exchanged(patch: pytest.MonkeyPatch) -> None:
    """The first two requests of a batch read each other's blocks."""
    import dataclasses

    forward = impl().forward

    def changed(self: Any, layer: Any, q: Any, k: Any, v: Any, cache: Any, about: Any,
                *rest: Any, **more: Any) -> Any:  # fmt: skip
        if about is not None and len(about.block_table) > 1:
            table = about.block_table.clone()
            table[:2] = table[:2].flip(0)
            about = dataclasses.replace(about, block_table=table)
        return forward(self, layer, q, k, v, cache, about, *rest, **more)

    patch.setattr(impl(), "forward", changed)


def window(by: int) -> Callable[[pytest.MonkeyPatch], None]:
    def changed(patch: pytest.MonkeyPatch) -> None:
        from vllm.v1.attention.backends.cpu_attn import CPUAttentionMetadataBuilder

        for one in of_kind(impl()):
            patch.setattr(one, "sliding_window", one.sliding_window + by)
        for builder in of_kind(CPUAttentionMetadataBuilder):
            patch.setattr(builder, "window_size", builder.window_size + by)

    return changed


def sampled_rows(patch: pytest.MonkeyPatch) -> None:
    from vllm.v1.sample.sampler import Sampler

    patch.setattr(Sampler, "greedy_sample", staticmethod(lambda x: x.argmax(-1).view(-1).roll(1)))


def logits_rows(patch: pytest.MonkeyPatch) -> None:
    from vllm.model_executor.layers.logits_processor import LogitsProcessor

    forward = LogitsProcessor.forward
    patch.setattr(LogitsProcessor, "forward", lambda *a, **m: forward(*a, **m).roll(1, 0))


@pytest.mark.parametrize(
    ("fault", "together", "causes"),
    [
        (head_nothing, 1, {"head_nothing"}),
        (sampled_rows, 2, {"choice"}),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                (other_base, 1, {"rope_base"}),
                (interleaved, 1, {"rope_interleaved"}),
                (kv_exchanged, 1, {"kv_exchanged"}),
                (gate_up, 1, {"gate_up"}),
                (slots_one_late, 1, {"stale_length"}),
                (tables_exchanged, 2, {"prefix"}),
                (window(1), 1, {"window_long"}),
                (window(-1), 1, {"window_short"}),
                (logits_rows, 2, {"batch_rows"}),
            ]
        ),
    ],
)
def test_a_fault_in_vllm_is_named(
    fault: Callable[[pytest.MonkeyPatch], None],
    together: int,
    causes: set[str],
    engine: Callable[[int], Canary],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        fault(patch)
        outcome = engine(together)
    assert [f.cause in causes for f in outcome.findings] == [True], outcome.findings


def test_the_same_engine_without_a_fault_is_exact(engine: Callable[[int], Canary]) -> None:
    outcome = engine(2)
    assert outcome.outcome == "EXACT", outcome.findings

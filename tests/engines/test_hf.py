from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from needed import needed

from harness.devices.base import NO_CHOICE, Completion, Device, Replay, Request, Sampling
from harness.devices.hf.choice import arg_max
from harness.devices.hf.device import HfDevice
from harness.devices.hf.matmul import Matmul, has_half_gemm, split_linears, widened_linears
from harness.errors import DeviceError, MissingDependency, UsageError
from harness.model.model import Model
from harness.model.tokenizer import open_tokenizer
from harness.statistics.rows import row_statistics, squared_norm

pytestmark = pytest.mark.engine

needed("torch", "transformers")

N = 16


def run(device: HfDevice, request: Request) -> Completion:
    [completion] = device.generate([request])
    return completion


def error(candidate: Completion, oracle: Completion) -> float:
    """Root-mean-square logit error per row entry, from the sketches."""
    assert candidate.rows is not None
    assert oracle.rows is not None
    return float(np.sqrt(squared_norm(candidate.rows.sketch - oracle.rows.sketch).mean()))


@pytest.fixture(scope="module")
def device(embedded_model: Model) -> Iterator[HfDevice]:
    device = HfDevice("hf-cpu", embedded_model)
    device.open()
    yield device
    device.close()


@pytest.fixture(scope="module")
def free(device: HfDevice, embedded_model: Model) -> Request:
    ids = open_tokenizer(embedded_model).encode("The capital of France is")
    return Request("france", ids, "free", N, keep="full")


@pytest.fixture(scope="module")
def completion(device: HfDevice, free: Request) -> Completion:
    return run(device, free)


def forced(free: Request, completion: Completion, replay: Replay) -> Request:
    return replace(free, replay=replay, forced_token_ids=completion.token_ids)


@pytest.fixture(scope="module")
def oracle(embedded_model: Model, free: Request, completion: Completion) -> Completion:
    device = HfDevice("hf-cpu", embedded_model, dtype="float32", matmul="native")
    opened = device.open()
    assert (opened.declared_dtype, opened.engine.matmul) == ("float32", "native")
    try:
        return run(device, forced(free, completion, "forced-prefill"))
    finally:
        device.close()


def test_it_is_a_device(device: HfDevice) -> None:
    assert isinstance(device, Device)


def test_free_takes_the_largest_logit_of_every_row(completion: Completion) -> None:
    assert (len(completion.token_ids), completion.stop) == (N, "length")
    assert completion.rows is not None
    assert completion.rows.top_ids[:, 0].tolist() == list(completion.token_ids)
    assert completion.logits is not None
    assert completion.logits.shape == (N, 49152)
    again = row_statistics(completion.logits)
    assert np.array_equal(again.digest, completion.rows.digest)


def test_rows_are_the_logits_of_the_model_itself(
    embedded_model: Model, free: Request, completion: Completion
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(embedded_model.path, dtype=torch.bfloat16)
    with torch.inference_mode():
        first = model(torch.tensor([free.prompt_token_ids]), logits_to_keep=1).logits[0, -1]
    assert completion.logits is not None
    assert np.array_equal(first.float().numpy(), completion.logits[0])


def test_timings_are_a_gap_for_every_token(completion: Completion) -> None:
    timings = completion.timings
    assert len(timings.itl_s) == N - 1
    assert timings.ttft_s > 0
    assert timings.e2e_s == pytest.approx(timings.ttft_s + sum(timings.itl_s))


def test_forced_decode_reproduces_the_digests(
    device: HfDevice, free: Request, completion: Completion
) -> None:
    repeated = run(device, forced(free, completion, "forced-decode"))
    assert repeated.rows is not None
    assert completion.rows is not None
    assert np.array_equal(repeated.rows.digest, completion.rows.digest)
    assert (repeated.stop, repeated.token_ids) == ("forced", completion.token_ids)


def test_keeping_nothing_gives_the_same_tokens_in_every_replay(
    device: HfDevice, free: Request, completion: Completion
) -> None:
    quiet = run(device, replace(free, keep="nothing"))
    assert (quiet.token_ids, quiet.rows, quiet.logits) == (completion.token_ids, None, None)
    request = replace(forced(free, completion, "forced-prefill"), keep="nothing")
    assert run(device, request).rows is None


def assert_positions(candidate: Completion, oracle: Completion) -> None:
    """Each row is the oracle's of its position, and far from those beside it: how large
    the error of a right row is depends on the CPU's kernels."""
    assert candidate.rows is not None
    assert oracle.rows is not None
    beside = squared_norm(candidate.rows.sketch[1:] - oracle.rows.sketch[:-1])
    assert error(candidate, oracle) < float(np.sqrt(beside.mean())) / 5


def test_forced_prefill_has_the_positions_of_decode(
    device: HfDevice, free: Request, completion: Completion, oracle: Completion
) -> None:
    one_pass = run(device, forced(free, completion, "forced-prefill"))
    assert one_pass.timings.itl_s == ()
    assert one_pass.timings.ttft_s == one_pass.timings.e2e_s
    assert one_pass.logits is not None
    assert one_pass.logits.shape == (N, 49152)
    assert_positions(one_pass, oracle)
    assert_positions(completion, oracle)


@pytest.mark.parametrize("matmul", ["native", "widened", "split-2", "split-3"])
def test_each_kind_of_product_gives_the_rows_of_the_model(
    embedded_model: Model,
    free: Request,
    completion: Completion,
    oracle: Completion,
    matmul: Matmul,
) -> None:
    device = HfDevice("hf-cpu", embedded_model, matmul=matmul)
    assert device.open().engine.matmul == matmul
    assert_positions(run(device, forced(free, completion, "forced-prefill")), oracle)
    device.close()


@pytest.mark.parametrize("name", ["model.layers.7.mlp.down_proj", "lm_head"])
def test_a_widened_product_is_rounded_once(device: HfDevice, name: str) -> None:
    """Against float64: half a unit in the last place of bfloat16, and the bound of a sum in
    float32 (Higham 2002, section 3.1)."""
    import torch

    module = device._model.get_submodule(name)
    x = torch.randn((5, module.in_features), generator=torch.Generator().manual_seed(1))
    x = x.to(torch.bfloat16)
    with torch.inference_mode(), widened_linears(torch, device._model):
        found = module(x)
    exact = x.double() @ module.weight.double().T
    terms = x.double().abs() @ module.weight.double().abs().T
    allowed = 2.0**-8 * exact.abs() + module.in_features * 2.0**-24 * terms * 1.01
    assert found.dtype == torch.bfloat16
    assert bool(((found.double() - exact).abs() <= allowed).all())


def test_float16_prefills_the_same_way_and_errs_far_less(
    embedded_model: Model, free: Request, completion: Completion, oracle: Completion
) -> None:
    """Three more bits of significand: an eighth of the noise, or nearly."""
    request = forced(free, completion, "forced-prefill")
    device = HfDevice("hf-cpu", embedded_model, dtype="float16")
    opened = device.open()
    fine = error(run(device, request), oracle)
    device.close()
    import torch

    widened = "native" if has_half_gemm(torch, "float16") else "widened in forced-prefill"
    assert (opened.declared_dtype, opened.engine.matmul) == ("float16", widened)
    assert 0 < fine < error(completion, oracle) / 4


@pytest.mark.parametrize("parts", [2, 3])
def test_a_split_linear_is_the_sum_of_its_parts_each_rounded(device: HfDevice, parts: int) -> None:
    import torch

    layer = device._model.model.layers[3].mlp.down_proj
    x = torch.randn(5, layer.in_features, generator=torch.Generator().manual_seed(1)).bfloat16()
    with torch.inference_mode():
        whole = layer(x)
        expected = sum(
            (a.float() @ w.float().T).bfloat16()
            for a, w in zip(
                x.tensor_split(parts, 1), layer.weight.tensor_split(parts, 1), strict=True
            )
        )
        with split_linears(torch, device._model, parts):
            found = layer(x)
            head = device._model.get_output_embeddings()
            assert "forward" not in head.__dict__
        assert torch.equal(layer(x), whole)
    # Kernels of a CPU may add the products in another order before they round.
    assert torch.allclose(found.float(), expected.float(), rtol=2**-6, atol=2**-6)
    assert not torch.equal(found, whole)


def test_free_stays_native_after_a_widened_prefill(
    device: HfDevice, free: Request, completion: Completion
) -> None:
    run(device, forced(free, completion, "forced-prefill"))
    short = run(device, replace(free, max_new_tokens=2))
    assert short.rows is not None
    assert completion.rows is not None
    assert np.array_equal(short.rows.digest, completion.rows.digest[:2])


def test_the_stopping_token_is_part_of_the_output(
    device: HfDevice, free: Request, completion: Completion
) -> None:
    stop = completion.token_ids[3]
    first = completion.token_ids.index(stop)
    stopped = run(device, replace(free, stop_token_ids=(stop,)))
    assert (stopped.stop, stopped.token_ids) == ("eos", completion.token_ids[: first + 1])


def test_on_token_counts_tokens_and_passes(
    device: HfDevice, free: Request, completion: Completion
) -> None:
    calls: list[None] = []
    requests = [replace(free, max_new_tokens=3), forced(free, completion, "forced-prefill")]
    list(device.generate(requests, lambda: calls.append(None)))
    assert len(calls) == 4


def test_a_row_without_finite_logits_stops_the_run(embedded_model: Model, free: Request) -> None:
    import torch

    device = HfDevice("hf-cpu", embedded_model)
    device.open()
    with torch.no_grad():
        device._model.model.norm.weight.fill_(float("nan"))
    completion = run(device, replace(free, keep="statistics"))
    device.close()
    assert (completion.stop, completion.token_ids) == ("nonfinite", (NO_CHOICE,))
    assert completion.rows is not None
    assert completion.rows.nonfinite.tolist() == [49152]


def test_sampling_draws_what_generate_draws(
    embedded_model: Model, free: Request, completion: Completion
) -> None:
    """In float32, where another attention path cannot move a draw."""
    import torch

    device = HfDevice("hf-cpu", embedded_model, dtype="float32")
    device.open()
    drawn = replace(free, sampling=Sampling(temperature=0.7, top_p=0.9, seed=3))
    first, again = run(device, drawn), run(device, drawn)
    other = run(device, replace(drawn, sampling=Sampling(0.7, 0.9, 4)))
    torch.manual_seed(3)
    ids = device._model.generate(
        torch.tensor([free.prompt_token_ids]),
        do_sample=True,
        temperature=0.7,
        top_p=0.9,
        top_k=0,
        max_new_tokens=N,
        eos_token_id=None,
        repetition_penalty=1.0,
    )
    device.close()
    assert tuple(ids[0, len(free.prompt_token_ids) :].tolist()) == first.token_ids
    assert first.token_ids == again.token_ids != other.token_ids
    assert first.token_ids != completion.token_ids


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([1, 3, 3, 2], 1),
        ([np.nan, 3, np.inf, 5, 5], 3),
        ([-np.inf, -2, -1], 2),
        ([np.nan, np.inf, -np.inf], None),
    ],
)
def test_arg_max_takes_the_lower_id_and_finite_logits_only(
    row: list[float], expected: int | None
) -> None:
    array = np.array(row, dtype=np.float32)
    assert arg_max(array) == expected
    if expected is not None:
        assert row_statistics(array).top_ids[0, 0] == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt_token_ids": ()}, "at least one prompt token"),
        ({"prompt_token_ids": (49152,)}, "vocabulary of 49152"),
        ({"prompt_token_ids": (-1,)}, "vocabulary of 49152"),
        ({"max_new_tokens": 9000}, "but hf-cpu takes 8192"),
        ({"replay": "forced-decode"}, "forced replays need forced tokens"),
        ({"replay": "forced-prefill", "forced_token_ids": ()}, "one token to generate or force"),
    ],
)
def test_a_request_that_does_not_fit_is_named(
    device: HfDevice, free: Request, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DeviceError, match=message):
        run(device, replace(free, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"dtype": "int8"}, {"matmul": "fast"}, {"threads": 0}, {"name": "hf-tpu"}]
)
def test_options_without_sense_are_refused(
    embedded_model: Model, options: dict[str, object]
) -> None:
    with pytest.raises(UsageError):
        HfDevice(**{"name": "hf-cpu", "model": embedded_model, **options})  # type: ignore[arg-type]


def test_an_unknown_attention_is_one_line(embedded_model: Model) -> None:
    with pytest.raises(DeviceError, match="with sideways attention") as caught:
        HfDevice("hf-cpu", embedded_model, attention="sideways").open()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["hf-gpu", "hf-npu"])
def test_a_missing_accelerator_is_one_line_with_a_remedy(embedded_model: Model, name: str) -> None:
    import torch

    if torch.cuda.is_available() or hasattr(torch, "npu"):
        pytest.skip("an accelerator is present")
    with pytest.raises(MissingDependency, match=f"the device {name} needs") as caught:
        HfDevice(name, embedded_model).open()
    assert "\n" not in str(caught.value)


def test_a_device_that_is_not_open_says_so(embedded_model: Model, free: Request) -> None:
    device = HfDevice("hf-cpu", embedded_model)
    device.close()
    with pytest.raises(DeviceError, match="is not open"):
        run(device, free)


def test_opening_tells_what_decides_bits(embedded_model: Model) -> None:
    import torch

    before = torch.get_num_threads()
    device = HfDevice("hf-cpu", embedded_model, threads=1, attention="eager")
    started = time.perf_counter()
    opened = device.open()
    took = time.perf_counter() - started
    device.close()
    assert torch.get_num_threads() == before
    assert (opened.vocab_size, opened.max_positions) == (49152, 8192)
    assert opened.declared_dtype == "bfloat16"
    assert opened.engine.attention == "eager"
    assert opened.engine.threads == 1
    assert opened.environment["torch"] == torch.__version__
    assert opened.load.weights_bytes == 2 * 134_515_008
    assert 0 < opened.load.load_s < took

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkpoints import Weights, checkpoint, latents, write_safetensors

from harness.checkpoint.headers import Stored, read_headers
from harness.checkpoint.ternary import is_quantized_name, quantize, to_bfloat16
from harness.checkpoint.verify import TernaryReport, verify_tensor

WIDTH = 384


def report(tmp_path: Path, bits: np.ndarray) -> TernaryReport:
    write_safetensors(tmp_path / "model.safetensors", {"w": bits})
    return verify_tensor(read_headers(tmp_path)[0])


def latent(rows: int = 300, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((rows, WIDTH)) * 0.02
    return to_bfloat16(values.astype(np.float32))


@pytest.mark.parametrize("group", [-1, 192, 128, 96, 64, 32, 8])
def test_the_group_size_is_found_from_the_values(tmp_path: Path, group: int) -> None:
    found = report(tmp_path, quantize(latent(), "BF16", group))
    expected = WIDTH if group == -1 else group
    assert (found.state, found.group_size) == ("fused", expected)
    assert found.groups == 300 * WIDTH // expected
    assert 0.25 < found.zeros < 0.4
    assert found.scales is not None
    assert 0.002 < found.scales[0] <= found.scales[1] <= found.scales[2] < 0.04


def test_latents_are_told(tmp_path: Path) -> None:
    found = report(tmp_path, latent())
    assert (found.state, found.group_size, found.scales) == ("latent", None, None)


@pytest.mark.parametrize("group", [-1, 64, 32])
def test_weights_that_were_fused_twice_are_told(tmp_path: Path, group: int) -> None:
    once = quantize(latent(), "BF16", group)
    assert report(tmp_path, once).state == "fused"
    assert report(tmp_path, quantize(once, "BF16", group)).state == "fused twice"


def test_a_tensor_that_is_fused_in_part_is_neither(tmp_path: Path) -> None:
    bits = latent()
    bits[100:200] = quantize(bits[100:200], "BF16", 64)
    found = report(tmp_path, bits)
    assert found.state == "neither"
    assert "33.3%" in found.note


def test_a_single_foreign_weight_far_down_is_seen(tmp_path: Path) -> None:
    bits = quantize(latent(30_000), "BF16", -1)  # more than one block is read
    bits[29_000, 5] ^= 1
    assert report(tmp_path, bits).group_size != WIDTH


@pytest.mark.parametrize("seed", range(3))
def test_int8_weights_are_neither(tmp_path: Path, seed: int) -> None:
    values = np.random.default_rng(seed).integers(-127, 128, (300, WIDTH * 8)) * np.float32(0.001)
    assert report(tmp_path, to_bfloat16(values.astype(np.float32))).state == "neither"


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_constant_tensors_are_neither(tmp_path: Path, value: float) -> None:
    bits = to_bfloat16(np.full((300, WIDTH), value, np.float32))
    assert report(tmp_path, bits).state == "neither"


def test_float32_weights_are_told_too(tmp_path: Path) -> None:
    values = np.random.default_rng(3).standard_normal((64, WIDTH)).astype(np.float32)
    assert report(tmp_path, values).state == "latent"
    ternary = np.sign(np.rint(values)) * np.float32(0.3)
    assert report(tmp_path, ternary).group_size == WIDTH


def test_every_linear_of_a_checkpoint_is_judged(tmp_path: Path) -> None:
    weights: Weights = latents()
    linears = [name for name in weights if is_quantized_name(name)]
    for name in linears:
        weights[name] = quantize(weights[name], "BF16", 32)
    folder = checkpoint(tmp_path / "c", weights)
    found: list[Stored] = [t for t in read_headers(folder) if is_quantized_name(t.name)]
    assert len(found) == 14
    assert {verify_tensor(t).group_size for t in found} == {32}

"""What each device needs of a host."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """Attributes:
    backend: what torch computes on: ``cpu``, ``cuda``, ``npu``; None for no torch.
    packages: import names that must be there.
    platform: what vLLM calls its devices, where vLLM is the engine.
    """

    backend: str | None = None
    packages: tuple[str, ...] = ()
    platform: str | None = None


_HF = ("torch", "transformers")

#: By the names of ``harness.devices.registry``, which needs an install to import.
NEEDS: dict[str, Needs] = {
    "hf-cpu": Needs("cpu", _HF),
    "hf-gpu": Needs("cuda", _HF),
    "hf-npu": Needs("npu", ("torch", "torch_npu", "transformers")),
    "npu": Needs("npu", ("torch", "torch_npu", "vllm", "vllm_ascend", "transformers"), "npu"),
    "vllm-cpu": Needs("cpu", ("torch", "vllm", "transformers"), "cpu"),
    "vllm-gpu": Needs("cuda", ("torch", "vllm", "transformers"), "cuda"),
    "server": Needs(),
    "fake": Needs(),
    "fake-reference": Needs(),
}

"""Loading torch, its back ends and a checkpoint, with one-line errors."""

from __future__ import annotations

from typing import Any

from harness.errors import DeviceError, HarnessError, MissingDependency
from harness.model.hub import first_line, quiet_transformers, require
from harness.model.model import Model


def import_torch(name: str, backend: str) -> Any:
    """torch, once the back end is known to be usable.

    Raises:
        MissingDependency: without torch, CUDA, torch_npu or a visible NPU.
    """
    torch = require("torch", f"the device {name}")
    if backend == "cuda" and not torch.cuda.is_available():
        raise MissingDependency(
            "a CUDA build of torch, its driver and a GPU",
            f"the device {name}",
            "install torch for your CUDA version and check nvidia-smi, or use --device hf-cpu",
        )
    if backend == "npu":
        remedy = "pip install torch_npu in the release of your torch, and source CANN's set_env.sh"
        require("torch_npu", f"the device {name}", remedy)
        if not torch.npu.is_available():
            raise MissingDependency("a visible Ascend NPU", f"the device {name}", remedy)
    return torch


def load_model(
    torch: Any,
    source: Model,
    *,
    name: str,
    backend: str,
    dtype: str,
    attention: str,
    qat_group_size: int | None = None,
) -> Any:
    """The checkpoint as a Transformers model on the back end, ready for inference.

    Raises:
        MissingDependency: without transformers.
        UsageError: if the requested quantizer does not fit the weights.
        DeviceError: if the model does not load.
    """
    transformers = require("transformers", f"the device {name}")
    try:
        with quiet_transformers():
            model = transformers.AutoModelForCausalLM.from_pretrained(
                source.path,
                dtype=getattr(torch, dtype),
                attn_implementation=attention,
                trust_remote_code=source.trust_remote_code,
                local_files_only=True,
                weights_only=True,
            )
        if qat_group_size is not None:
            from harness.devices.hf.qat import install_quantizer

            install_quantizer(torch, model, source, qat_group_size, dtype)
        return model.to(backend).eval()
    except HarnessError:
        raise
    except Exception as error:
        # Transformers may raise any error here.
        hint = "; --trust-remote-code lets it run" if "trust_remote_code" in str(error) else ""
        raise DeviceError(
            f"{name} cannot load the model {source.name!r} in {dtype} with "
            f"{attention} attention: {first_line(error)}{hint}"
        ) from error

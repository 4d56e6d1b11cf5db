"""Loading torch, its back ends and a checkpoint, with one-line errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.devices.hf.loading import check_loaded, explain_failure, refuse_adapter
from harness.errors import DeviceError, HarnessError, MissingDependency, UsageError
from harness.model.hub import first_line, quiet_transformers, require
from harness.model.model import Model

#: Fields of a config that Transformers' SDPA path leaves out without a word: with one of
#: them in force, only the eager path computes the model.
_EAGER_ONLY = ("attn_logit_softcapping",)


@dataclass(frozen=True)
class Taken:
    """How a device takes the weights of a checkpoint.

    Attributes:
        qat_group_size: run latent ternary weights through the quantizer of their training (see
            ``qat``), with this group size or -1 for whole rows; None runs them as they are.
        unused: beginnings of the names of tensors that the model may leave out; any other surplus
            tensor is refused.
        streamed: leave them on disk, and take all requests through one layer after another (see
            ``stages``), in ``forced-prefill`` only. The bits are the same.
    """

    qat_group_size: int | None = None
    unused: tuple[str, ...] = ()
    streamed: bool = False


def is_streamed(text: str | None) -> bool:
    """``weights`` of ``--engine-arg``.

    Raises:
        UsageError: if it is neither ``memory`` nor ``stream``.
    """
    if text not in (None, "memory", "stream"):
        raise UsageError(f"--engine-arg weights={text}: it is memory or stream")
    return text == "stream"


AS_IT_IS = Taken()


@dataclass(frozen=True)
class Loaded:
    """A model, and what a reader of its recordings must know of how it was loaded."""

    model: Any
    warning: str | None


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
    attention: str | None,
    taken: Taken = AS_IT_IS,
) -> Loaded:
    """The checkpoint as a Transformers model on the back end, ready for inference.

    Args:
        attention: None takes SDPA, and eager attention where the architecture has no
            SDPA or loses a part of its computation there.
        taken: how; streamed weights stay on the meta device, and come later (see ``on_disk``).

    Raises:
        MissingDependency: without transformers.
        UnloadedWeights: if the model is not all of the checkpoint, or more.
        UsageError: if the requested quantizer does not fit the weights.
        DeviceError: if the model does not load.
    """
    transformers = require("transformers", f"the device {name}")
    refuse_adapter(source)
    try:
        with quiet_transformers():
            config = _config(transformers, source)
            attention = attention or _own_attention(config)
            _choose_kernels(config, attention)
            if taken.streamed:
                require("accelerate", "streaming weights")
                _refuse_quantized(source, config, taken.qat_group_size)
            model, info = _from_pretrained(
                transformers, source, config, getattr(torch, dtype), attention, taken.streamed
            )
            if taken.streamed:
                _make_buffers(transformers, source, model, config, getattr(torch, dtype), backend)
        _check_taken(name, model.config, attention)
        warning = check_loaded(model, source, info, taken.unused)
        if taken.qat_group_size is not None:
            from harness.devices.hf.qat import install_quantizer

            install_quantizer(torch, model, source, taken.qat_group_size, dtype)
        return Loaded((model if taken.streamed else model.to(backend)).eval(), warning)
    except HarnessError:
        raise
    except Exception as error:
        # Transformers may raise any error here.
        explain_failure(source)
        hint = "; --trust-remote-code lets it run" if "trust_remote_code" in str(error) else ""
        raise DeviceError(
            f"{name} cannot load the model {source.name!r} in {dtype} with "
            f"{attention or 'its own'} attention: {first_line(error)}{hint}"
        ) from error


def _config(transformers: Any, source: Model) -> Any:
    return transformers.AutoConfig.from_pretrained(
        source.path, trust_remote_code=source.trust_remote_code, local_files_only=True
    )


def _from_pretrained(
    transformers: Any,
    source: Model,
    config: Any,
    dtype: Any,
    attention: str | None,
    streamed: bool,
) -> tuple[Any, Any]:
    """The model, and what Transformers tells of its loading."""
    place = {"device_map": "meta"} if streamed else {}
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        source.path,
        config=config,
        dtype=dtype,
        attn_implementation=attention,
        weights_only=True,
        output_loading_info=True,
        # Without it another shape is an error that does not say which tensor has it.
        ignore_mismatched_sizes=True,
        trust_remote_code=source.trust_remote_code,
        local_files_only=True,
        **place,
    )
    return model, info


def _make_buffers(
    transformers: Any, source: Model, model: Any, config: Any, dtype: Any, backend: str
) -> None:
    """Give a model on the meta device the buffers that its class computes, as of RoPE."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        made = transformers.AutoModelForCausalLM.from_config(
            config,
            dtype=dtype,
            attn_implementation=model.config._attn_implementation,
            trust_remote_code=source.trust_remote_code,
        )
    modules = dict(model.named_modules())
    for name, buffer in made.named_buffers():
        place, _, leaf = name.rpartition(".")
        if modules[place]._buffers[leaf].device.type == "meta" and buffer.device.type != "meta":
            modules[place]._buffers[leaf] = buffer.to(backend)


def _refuse_quantized(source: Model, config: Any, qat_group_size: int | None) -> None:
    """Raises:
    UsageError: for weights that are not what the model computes with.
    """
    if qat_group_size is not None:
        raise UsageError(
            "weights=stream does not go with qat_group_size: fuse the weights first "
            "(harness checkpoint fuse)"
        )
    if getattr(config, "quantization_config", None) is not None:
        raise UsageError(
            f"{source.name}: weights=stream takes plain weights only, and these are quantized"
        )


def _choose_kernels(config: Any, attention: str | None) -> None:
    """Forget what config.json says of kernels, also in the configurations within it: how a
    model is computed is the device's to choose, and a name may lead to code of a Hub."""
    for field, value in (("_attn_implementation", attention), ("_experts_implementation", None)):
        if hasattr(config, field):
            setattr(config, field, value)


def _check_taken(name: str, config: Any, attention: str | None) -> None:
    """Check that the attention that was asked for is the one that computes.

    Raises:
        DeviceError: naming both.
    """
    taken = getattr(config, "_attn_implementation", attention)
    if attention in ("sdpa", "eager") and taken != attention:
        raise DeviceError(
            f"{name}: {attention} attention was asked for, but the model takes {taken}; ask for it "
            f"with --engine-arg attention={taken}, or leave the argument out"
        )


def _own_attention(config: Any) -> str | None:
    """``eager`` where SDPA would compute another model, else None, Transformers' choice:
    SDPA, or eager where the architecture has no SDPA."""
    text = config.get_text_config()
    lost = any(getattr(text, name, None) is not None for name in _EAGER_ONLY)
    return "eager" if lost else None

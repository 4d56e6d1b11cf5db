"""Whether a release of Transformers reads a config.json as it was meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.errors import DeviceError
from harness.model.config_form import normalized_config
from harness.model.model import Model, read_json


def check_reading(name: str, model: Model, config: Any) -> None:
    """Check that the RoPE base that is computed with is the one that config.json says.

    Releases of Transformers look for it in different places, and take a default where they
    do not find it. Then candidate and reference are two models with one checkpoint.

    Args:
        name: of the device, for the message.
        config: the configuration of the loaded model, of Transformers.

    Raises:
        DeviceError: naming both values, and how to write them for every release.
    """
    content = read_json(model, "config.json")
    if content is None or not hasattr(config, "to_dict"):
        return
    import transformers

    release = str(transformers.__version__)
    written = _bases(normalized_config(content, has_head=True)["rope"])
    taken = _bases(normalized_config(_taken(config.to_dict(), release), has_head=True)["rope"])
    for kind in sorted(written.keys() & taken.keys()):
        if written[kind] != taken[kind]:
            raise DeviceError(
                f"{name}: config.json of {model.name} says rope_theta {written[kind]:,.12g}, but "
                f"Transformers {release} here reads {taken[kind]:,.12g}; write rope_theta both at "
                "its top level and in rope_parameters"
            )


def _taken(read: dict[str, Any], release: str) -> dict[str, Any]:
    """The fields that a release computes with: 4 keeps rope_parameters and never looks there."""
    if int(release.partition(".")[0]) >= 5 or read.get("rope_theta") is None:
        return read
    return {key: value for key, value in read.items() if key != "rope_parameters"}


def _bases(rope: Mapping[str, Any]) -> dict[str, float]:
    """The RoPE base of each kind of layer; "" where there is one kind."""
    kinds = rope if all(isinstance(v, Mapping) for v in rope.values()) else {"": rope}
    bases = {kind: table.get("rope_theta") for kind, table in kinds.items()}
    return {kind: float(base) for kind, base in bases.items() if base is not None}

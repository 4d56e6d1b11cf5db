"""A device's facts about its engine and its load, kept in a recording or a bench.

Code reads attributes, so a name that no device writes is an error of the type
checker and not a row that never appears in a report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from harness.files.strict_model import SparseModel

#: A value of an environment table: readable in a diff, never a path of the host.
EnvironmentValue = str | int | float | bool | None

#: Upper limit of a duration: about thirty years.
Seconds = Annotated[float, Field(ge=0, le=1e9)]
_Amount = Annotated[float, Field(ge=0, le=2.0**62)]
_Count = Annotated[int, Field(ge=0, lt=2**31)]


class LoadFigures(SparseModel):
    """Seconds and bytes of a device's load. A figure that the device does not know is left out.

    ``load_s`` is the whole. ``weights_s`` (reading the checkpoint) and
    ``init_engine_s`` (profiling, KV cache, warm-up) are parts of it;
    ``compile_s``, ``warmup_s`` and ``graph_capture_s`` are parts of
    ``init_engine_s``. The rest of ``load_s`` is imports and processes. Peaks
    are those of the loading. Every figure is a JSON number with a fraction,
    bytes and tokens too. Another name is refused: a part that this version
    does not know would be counted among the rest.
    """

    load_s: Seconds | None = None
    weights_s: Seconds | None = None
    compile_s: Seconds | None = None
    warmup_s: Seconds | None = None
    graph_capture_s: Seconds | None = None
    init_engine_s: Seconds | None = None
    weights_bytes: _Amount | None = None
    peak_rss_bytes: _Amount | None = None
    peak_device_bytes: _Amount | None = None
    kv_cache_tokens: _Amount | None = None
    kv_cache_bytes: _Amount | None = None


class EngineFacts(SparseModel):
    """Facts that decide bits in an engine, or deserve a column in a report.

    The fields are those that code reads or several devices have. Beside them, in
    the same JSON object, a device puts facts of its own, which a report shows
    and no code reads. A fact that an engine does not have is left out.

    ``device`` is torch's name of the place: ``cpu``, ``cuda`` or ``npu``.
    ``matmul`` is ``native``, ``split-2``, ``split-3`` or ``widened``, the last perhaps in
    one replay only. ``instruction_set`` is the CPU's, or an accelerator's architecture.
    ``qat_group_size`` is that of a quantizer in the forward pass. With
    ``enforce_eager`` nothing is compiled and no graph is captured.
    ``batch_size`` is how many requests the device hands over at a time,
    ``block_size`` the tokens in a block of its KV cache. ``warning`` is what
    a reader of the verdict must know of this run.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, EnvironmentValue]

    device: str | None = None
    dtype: str | None = None
    attention: str | None = None
    threads: _Count | None = None
    matmul: str | None = None
    float32_matmul_precision: str | None = None
    instruction_set: str | None = None
    qat_group_size: int | None = None
    enforce_eager: bool | None = None
    batch_size: _Count | None = None
    prefix_caching: bool | None = None
    block_size: _Count | None = None
    warning: str | None = None

    def with_facts(self, facts: Mapping[str, EnvironmentValue]) -> EngineFacts:
        """With facts of the device's own; those that are None are left out.

        Raises:
            ValueError: if one has the name of a field.
        """
        taken = sorted(facts.keys() & type(self).model_fields.keys())
        if taken:
            raise ValueError(f"{taken[0]} is a field of EngineFacts; pass it as a field")
        told = {name: value for name, value in facts.items() if value is not None}
        return EngineFacts.model_validate({**self.model_dump(), **told})

    @property
    def facts(self) -> Mapping[str, EnvironmentValue]:
        """The device's own facts, by name."""
        return self.__pydantic_extra__

    def told(self) -> dict[str, Any]:
        """The JSON object: all known facts, fields first."""
        return self.model_dump()

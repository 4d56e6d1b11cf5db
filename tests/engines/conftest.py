from __future__ import annotations

import os

import pytest

from harness.errors import MissingDependency
from harness.model.find import find_model
from harness.model.model import Model

# With a lower instruction set for torch alone, torch 2.13 still asks oneDNN, which
# answers for the whole CPU: on one with AMX its attention then ends with "pack_vnni2 is
# only supported when avx512 is supported". The baseline's control sets both, too.
_ISA = {"avx2": "AVX2", "default": "SSE41"}
if os.environ.get("ATEN_CPU_CAPABILITY") in _ISA:
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", _ISA[os.environ["ATEN_CPU_CAPABILITY"]])


@pytest.fixture(scope="session")
def embedded_model() -> Model:
    """The embedded model, converted into the user's cache if need be."""
    try:
        return find_model("smollm2")
    except MissingDependency as error:
        pytest.skip(str(error))

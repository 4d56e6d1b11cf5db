from __future__ import annotations

import pytest

from harness.errors import MissingDependency
from harness.model.find import find_model
from harness.model.model import Model


@pytest.fixture(scope="session")
def embedded_model() -> Model:
    """The embedded model, converted into the user's cache if need be."""
    try:
        return find_model("smollm2")
    except MissingDependency as error:
        pytest.skip(str(error))

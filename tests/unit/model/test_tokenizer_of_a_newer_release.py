"""Why an older Transformers does not load a tokenizer that a newer one wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.model.model import Model
from harness.model.tokenizer import _of_a_newer_release


@pytest.mark.parametrize(
    ("settings", "release", "named"),
    [
        ({"tokenizer_class": "TokenizersBackend"}, "4.57.6", "tokenizer_class"),
        ({"extra_special_tokens": ["<a>"]}, "4.57.6", "extra_special_tokens"),
        ({"extra_special_tokens": {"a": "<a>"}}, "4.57.6", ""),
        ({"tokenizer_class": "TokenizersBackend"}, "5.19.0", ""),
        ({}, "4.57.6", ""),
        ("no JSON", "4.57.6", ""),
    ],
)
def test_a_sign_of_transformers_5_is_named(
    tmp_path: Path, settings: Any, release: str, named: str
) -> None:
    text = settings if isinstance(settings, str) else json.dumps(settings)
    (tmp_path / "tokenizer_config.json").write_text(text)
    said = _of_a_newer_release(Model("m", str(tmp_path)), release)
    assert bool(said) == bool(named)
    assert named in said
    assert not said or release in said

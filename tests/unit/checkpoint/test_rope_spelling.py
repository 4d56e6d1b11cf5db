"""A position encoding that two releases of Transformers read differently."""

from __future__ import annotations

from typing import Any

import pytest

from harness.checkpoint.rope_spelling import check_spelling

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
INSIDE = {"rope_type": "default", "rope_theta": 1000000.0}
BOTH = {
    "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"rope_theta": 1e6}, ""),
        ({"rope_theta": 1e6, "rope_scaling": YARN}, ""),
        ({"rope_parameters": INSIDE}, "rope_theta 10,000 in 4.57, 1,000,000 in 5"),
        ({"rope_parameters": INSIDE, "rope_theta": 1000000}, ""),
        ({"rope_parameters": INSIDE, "rope_theta": 5e5}, "rope_theta 500,000 in 4.57, 1,000,000"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 10000}}, ""),
        ({"rope_parameters": INSIDE, "model_type": "mixtral"}, ""),
        ({"rope_parameters": {"rope_theta": 1e4, **YARN}}, "rope_type absent in 4.57, yarn in 5"),
        ({"rope_parameters": {"rope_theta": 1e4, **YARN}, "rope_scaling": YARN}, ""),
        (
            {"rope_parameters": {"rope_theta": 1e4, **YARN}, "rope_scaling": {**YARN, "factor": 2}},
            "",  # both take rope_scaling
        ),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "0.5 in 5"),
        (
            {
                "model_type": "glm4",
                "rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5},
            },
            "",
        ),
        ({"model_type": "gemma3_text", "rope_parameters": BOTH}, ""),
        (
            {
                "model_type": "gemma3_text",
                "rope_parameters": {**BOTH, "sliding_attention": INSIDE},
            },
            "of sliding_attention is read differently",
        ),
        ({"model_type": "cohere", "rope_parameters": {"rope_theta": 1e4}}, ""),
        ({"rope_parameters": None}, ""),
        ({"rope_parameters": {}}, ""),
        ({"rope_parameters": {"rope_theta": [1], "factor": 10**400}}, "in 5"),
    ],
)
def test_what_two_releases_take_is_held_together(config: dict[str, Any], said: str) -> None:
    found = [issue.what for issue in check_spelling({"model_type": "llama", **config})]
    assert bool(found) == bool(said)
    assert said in " | ".join(found)


@pytest.mark.parametrize(("kind", "told"), [("ministral3", False), ("qwen3", True)])
def test_a_type_that_only_the_newer_release_has_is_read_by_one(kind: str, told: bool) -> None:
    inside = {"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 16.0}
    assert bool(list(check_spelling({"model_type": kind, "rope_parameters": inside}))) == told

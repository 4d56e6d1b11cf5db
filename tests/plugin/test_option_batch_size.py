from __future__ import annotations

import pytest
from plugin_project import PluginProject, usage_error


@pytest.mark.parametrize(
    ("device", "size", "told"),
    [
        ("fake", "2", "fake runs one request at a time; --batch-size 2 is for npu, vllm-cpu"),
        ("hf-cpu", "8", "hf-cpu runs one request at a time"),
        ("vllm-cpu", "0", "--batch-size must be at least 1, not 0"),
    ],
)
def test_one_that_the_device_cannot_run_is_refused_before_anything_is_run(
    project: PluginProject, device: str, size: str, told: str
) -> None:
    assert told in usage_error(project.run(device, f"--batch-size={size}"))


def test_one_is_what_every_device_can_run(project: PluginProject) -> None:
    assert "failed" not in project.run("fake", "--batch-size=1").parseoutcomes()

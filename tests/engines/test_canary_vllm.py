"""The canary in vLLM: exact before, during and after a full cache and aborted requests."""

from __future__ import annotations

from pathlib import Path

import pytest
from needed import needed

from harness.canary.plan import plan
from harness.canary.run import run_canary
from harness.canary.sizes import Sizes
from harness.devices.spec import DeviceSpec
from harness.process.progress import Silent

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]
needed("torch", "vllm")

SIZES = Sizes(
    context=320, layers=2, heads=4, kv_heads=2, head_dim=32, hidden=128, vocab_size=128
)  # fmt: skip


def test_every_bit_is_right_under_stress(tmp_path: Path) -> None:
    asked = plan(SIZES, DeviceSpec("vllm-cpu", str(tmp_path / "canary")))
    outcome = run_canary(asked, Silent())
    assert outcome.outcome == "EXACT", outcome.findings
    stages = {stage.name: stage for stage in outcome.stages}
    assert stages["preempted"].preemptions > 0
    assert stages["aborted"].dropped > 0
    assert stages["after"].exact == stages["after"].rows > 0

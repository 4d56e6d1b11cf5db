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
    *(
        (line, code)
        for code, lines in {
            "device-memory": (
                "torch.OutOfMemoryError: NPU out of memory. Tried to allocate 20.00 MiB (NPU 0; "
                "60.96 GiB total capacity; 59.00 GiB already allocated)",
                "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
                "ValueError: Free memory on device cuda:0 (3.1/23.64 GiB) on startup is less than "
                "desired GPU memory utilization (0.9, 21.27 GiB). Decrease GPU memory utilization.",
            ),
            "cache-memory": (
                "[rank0]: ValueError: No available memory for the cache blocks. Try increasing "
                "`gpu_memory_utilization` when initializing the engine.",
                "ValueError: Cannot auto-fit max_model_len: not enough GPU memory available to "
                "serve even a single token. Try increasing `gpu_memory_utilization`.",
            ),
            "cache-length": (
                "ValueError: To serve at least one request with the models's max seq len (8192), "
                "(0.35 GiB KV cache is needed, which is larger than the available KV cache memory "
                "(0.09 GiB). Based on the available memory, the estimated maximum model length is "
                "1920. Try increasing `gpu_memory_utilization` or decreasing `max_model_len`.",
                "ValueError: To serve at least one request with the model's max seq len (40960), "
                "10.0 GiB KV cache is needed, which is larger than the available KV cache memory "
                "(1.25 GiB). Try increasing `gpu_memory_utilization`.",
                "ValueError: The model's max seq len (131072) is larger than the maximum number "
                "of tokens that can be stored in KV cache (93760). Try increasing it.",
            ),
            "devices-too-few": (
                "AssertionError: local_world_size (4) must be less than or equal to the number of "
                "visible devices (0).",
                "AssertionError: please ensure that world_size (4) is less than than max local "
                "gpu count (2)",
                "ValueError: Tensor parallel size (8) cannot be larger than the number of "
                "available GPUs (1).",
                "ValueError: World size (2) is larger than the number of available NPUs (1) in "
                "this node.",
                "RuntimeError: CUDA error: invalid device ordinal",
            ),
            "parallel-heads": (
                "  Value error, Total number of attention heads (9) must be divisible by tensor "
                "parallel size (2). [type=value_error, input_value=ArgsKwargs((), {})]",
                "ValueError: Total number of attention heads (28) must be divisible by tensor "
                "parallel size (8).",
                "AssertionError: 49152 is not divisible by 5",
            ),
            "preload": (
                "RuntimeError: libtcmalloc is not found in LD_PRELOAD. Please follow the section "
                "`set LD_PRELOAD`",
                "RuntimeError: libiomp is not found in LD_PRELOAD.",
            ),
            "custom-ops": (
                "WARNING 11-26 08:13:05 [utils.py:290] Warning: Failed to register custom ops, all "
                "custom ops will be disabled",
                "Failed to register custom ops, all custom ops will be disabled. The custom ops "
                "library might not be installed or the environment is not configured correctly.",
            ),
            "quantization-description": (
                "ERROR: ModelSlim Quantization Config Not Found",
                "ModelSlim quantization config not found for model '/m'. Searched path: /m.",
                "NotImplementedError: There is no available ascend quantizer.",
                "ValueError: Cannot find the config file for ascend",
                "FileNotFoundError: [Errno 2] No such file or directory: "
                "'/m/quant_model_description.json'",
            ),
            "speculative": (
                "[rank0]: RuntimeError: NPUModelRunner init failed, error is Custom logits "
                "processors are not supported when speculative decoding is enabled.",
            ),
            "no-platform": (
                "RuntimeError: Device string must not be empty",
                "RuntimeError: Failed to infer device type, please set the environment variable "
                "`VLLM_LOGGING_LEVEL=DEBUG` to turn on verbose logging to help debug the issue.",
                "No platform detected, vLLM is running on UnspecifiedPlatform",
            ),
            "launch-blocking": (
                "  Value error, ACL graph is incompatible with ASCEND_LAUNCH_BLOCKING=1. Please "
                "unset ASCEND_LAUNCH_BLOCKING or set it to 0.",
                "ASCEND_LAUNCH_BLOCKING=1 is not supported with graph mode",
            ),
            "dtype-unsupported": (
                "RuntimeError: call aclnnAdd failed, detail:EZ1001: self not implemented for "
                "DT_BFLOAT16, should be in dtype support list [DT_FLOAT16,DT_FLOAT,DT_INT32]",
                "ValueError: Bfloat16 is only supported on GPUs with compute capability of at "
                "least 8.0. Your Tesla T4 GPU has compute capability 7.5.",
            ),
            "cann-kernels": (
                "the socversion Ascend910B4 of bin package does not match the current device "
                "socverison Ascend310P3",
                "the soc_version Ascend310P3 of bin package does not match the current device "
                "soc_version Ascend910_9391",
            ),
            "cann-opp": ("E30006: 2026-02-03-04:05:06.007.008 Failed to verify the OPP",),
            "cann-compiler": (
                "RuntimeError: SetPrecisionMode:compiler_depend.ts:1 NPU function error: "
                "at_npu::native::AclSetCompileopt(aclCompileOpt::ACL_PRECISION_MODE, "
                "precision_mode), error code is 500001",
            ),
            "hccp-held": (
                "EJ0001: [PID: 7] Failed to initialize the HCCP process. Reason: Maybe the last "
                "training process is running.",
            ),
        }.items()
        for line in lines
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
    assert codes <= {code for _, code in LINES}


@pytest.mark.parametrize(
    "line",
    [
        "INFO Platform plugin ascend is activated",
        "INFO Loading /usr/local/Ascend/nnal/atb/latest/lib/libatb.so",
        "vllm 0.18.0 requires torch==2.10.0, but you have torch 2.9.0 which is incompatible.",
        "INFO (PID:107001) starting",
        "INFO [worker.py:9] Free memory on device: 27.01/60.96 GiB",
        "INFO Available KV cache memory: 3.11 GiB, GPU KV cache size: 66,512 tokens",
        "INFO Maximum concurrency for 8,192 tokens per request: 2.03x",
        "Using max model len 8192, as long as the maximum model length is not given",
        "INFO local_world_size (2), visible devices (2)",
        "INFO world_size=2 rank=0 local_rank=0 distributed_init_method=tcp://127.0.0.1:1",
        "DEBUG tensor parallel size (2), attention heads (32)",
        "WARNING 30 is not divisible by 8, padding the vocabulary",
        "INFO custom_ops=['all'], all custom ops will be enabled",
        "INFO Registered custom ops of vllm_ascend",
        "INFO Using the vLLM Ascend modelslim Quantization now!",
        "INFO Loading /m/quant_model_description.json",
        "INFO Custom logits processors: harness.devices.vllm.worker:CaptureRows",
        "WARNING min_p and logit_bias parameters won't work with speculative decoding.",
        "If you want to get the accurate stacktrace, please set the environment variable "
        "ASCEND_LAUNCH_BLOCKING=1.",
        "For debugging ACL graph consider ASCEND_LAUNCH_BLOCKING",
        "INFO Device string: npu:0",
        "INFO dtype support list [DT_BFLOAT16,DT_FLOAT16]",
        "WARNING self not implemented for DT_INT64, casting",
        "INFO the socversion Ascend910B4 of bin package matches the current device",
        "INFO request id E300061, trace 0xE30006, PID:500001, EJ00012",
        "INFO (pid=500001) took 500001 us, code 500001",
        "INFO OPP verified",
        "INFO LD_PRELOAD=/x/libtcmalloc_minimal.so.4",
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
    for line, end in {
        "CUDA out of memory": "pytest --device=vllm-gpu --engine-arg=gpu_memory_utilization=0.5",
        "attention heads (9) must be divisible by tensor parallel size (2)": "size=1",
        "attention heads (28) must be divisible by tensor parallel size (8)": "size=7",
        "AssertionError: 9 is not divisible by 6": "size=3",
        "heads (0) must be divisible by tensor parallel size (0)": "size=1",
    }.items():
        assert explain(line)[0].remedy.endswith(end), line
    for line, part in {
        "1.0 GiB KV cache is needed, which is larger than the available KV cache memory (0.58). "
        "the estimated maximum model length is 1920": "max_model_len=1920 ",
        "8192 is larger than the maximum number of tokens that can be stored in KV cache "
        "(93760)": "max_model_len=93760 ",
        "KV cache is needed, which is larger than the available KV cache memory": "len=2048 ",
        "local_world_size (4) must be less than or equal to the number of visible devices "
        "(2).": "size=2 ",
        "local_world_size (4) must be less than or equal to the number of visible devices "
        "(0).": "size=1 ",
        "not implemented for DT_BFLOAT16, dtype support list [DT_FLOAT16]": "=float16 ",
        "not implemented for DT_BFLOAT16, dtype support list [DT_FLOAT]": "=float32 ",
        "not implemented for DT_FLOAT16, dtype support list [DT_FLOAT]": "=float32 ",
        "socversion A of bin package does not match the current device socverison "
        "Ascend310P3": "kernels-310p_",
        "socversion A of bin package does not match the current device soc_version "
        "Ascend910B4": "kernels-910b_",
        "socversion A of bin package does not match": "kernels-CHIP_",
    }.items():
        assert part in explain(line)[0].remedy, line
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


@pytest.mark.parametrize(
    "word",
    ["graph", "graph cannot ", "free memory on device ", "ASCEND_LAUNCH_BLOCKING ", "heads (9) "],
)
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

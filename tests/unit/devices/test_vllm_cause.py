"""The line that says the cause, out of errors as torch, vLLM, CANN and pydantic write them."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.devices.vllm.cause import LONGEST, cause_of, reason
from harness.devices.vllm.log import Ends
from harness.devices.vllm.spool import Spool

CANN = "call aclnnSwiGlu failed, detail:EZ1001: dtype of x is not supported"
TRAILER = (
    "[ERROR] 2026-01-01-08:00:00 (PID:1, Device:0, RankID:-1) ERR00100 PTA call acl api failed"
)
ROW = "=" * 80
NOT_FOUND = "ERROR: ModelSlim Quantization Config Not Found"
SET_DEVICE = (
    "SetDevice:NPUFunctions.cpp NPU function error: aclrtSetDevice(1), error code is 107001"
)
WORKER = (
    "WorkerProc initialization failed due to an exception in a background process. "
    "See stack trace for root cause."
)
CORE = "Engine core initialization failed. See root cause above. Failed core proc(s): {}"
DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."
ABOVE = "please check the stack trace above for the root cause"
DYNAMO = (
    "\n\nSet TORCHDYNAMO_VERBOSE=1 for the internal stack trace (please do this especially if "
    "you're reporting a bug to PyTorch).\n"
)


def pydantic(message: str, field: str = "", count: int = 1) -> str:
    head = f"{count} validation error{'s' * (count > 1)} for VllmConfig"
    return (
        f"{head}{field and chr(10)}{field}\n  {message} "
        "[type=value_error, input_value=ArgsKwargs((), {'model_co... 0}), input_type=ArgsKwargs]\n"
        "    For further information visit https://errors.pydantic.dev/2.12/v/value_error"
    )


TEXTS = {
    "a back end of torch.compile": (
        "backend='<vllm.compilation.backends.VllmBackend object at 0x7f>' raised:\n"
        f"RuntimeError: {CANN}\n{TRAILER}{DYNAMO}",
        f"RuntimeError: {CANN}",
    ),
    "inductor": (
        "backend='inductor' raised:\n\nLoweringException: AssertionError: no kernel\n"
        "  target: aten.mm.default\n  args[0]: TensorBox(...)",
        "LoweringException: AssertionError: no kernel",
    ),
    "an error of inductor itself": (f"RuntimeError: {CANN}{DYNAMO}", f"RuntimeError: {CANN}"),
    "user code": (
        'no graph for it\n\nfrom user code:\n   File "x.py", line 3, in forward\n    f()',
        "no graph for it",
    ),
    "a box": (f"\n{ROW}\n{NOT_FOUND}\n{ROW}\n\nYou have enabled it", NOT_FOUND),
    "a box within pydantic's error": (
        pydantic(f"Value error, \n{ROW}\n{NOT_FOUND}\n{ROW}\nYou have enabled it"),
        NOT_FOUND,
    ),
    "a box with sides": (
        "+-------+\n| ERROR |\n+-------+\n| the card is gone |\n+-------+",
        "the card is gone",
    ),
    "a box with a title": ("╭── Error ──╮\n│ no such card │\n╰──────╯", "no such card"),
    "a title in stars": ("********\n***** FATAL *****\nno such card", "no such card"),
    "pydantic": (pydantic("Value error, 9 heads, 2 ranks."), "9 heads, 2 ranks."),
    "pydantic, asserted": (pydantic("Assertion failed, no such size"), "no such size"),
    "pydantic, of two": (
        pydantic("Input should be a number", "parallel_config.size", 2),
        "parallel_config.size: Input should be a number",
    ),
    "CANN": (
        f"{CANN}\n        TraceBack (most recent call last):\n        Check it\n\n{TRAILER}",
        CANN,
    ),
    "CANN, its code first": (
        f"{TRAILER}\nEE1001: [PID: 7] The argument is invalid. Reason: no device 4",
        "EE1001: [PID: 7] The argument is invalid. Reason: no device 4",
    ),
    "a worker that compiles": (
        f"Worker failed with error 'backend='eager' raised:\nRuntimeError: {CANN}', {ABOVE}",
        f"RuntimeError: {CANN}",
    ),
    "a worker": (f"Worker failed with error '{CANN}', {ABOVE}", CANN),
    "a task of Ray": (
        "ray::RayWorkerWrapper.execute_method() (pid=9, ip=10.0.0.1)\n"
        '  File "/x/worker.py", line 3, in init_device\n    torch.npu.set_device(0)\n'
        f"    ^^^^^^^^^^^^^^^^^^^^^^^\nRuntimeError: {SET_DEVICE}",
        f"RuntimeError: {SET_DEVICE}",
    ),
    "a traceback as text": (
        '"""\nTraceback (most recent call last):\n  File "x.py", line 1, in f\n    g()\n'
        "KeyError: 7\n\nThe above exception was the direct cause of the following exception:\n"
        '\nTraceback (most recent call last):\n  File "x.py", line 2, in f\n    h()\n'
        'RuntimeError: wrapped\n"""',
        "KeyError: 7",
    ),
    "a line that says something and ends in a colon": (
        "Error(s) in loading state_dict for Llama:\n\tsize mismatch for lm_head.weight",
        "Error(s) in loading state_dict for Llama: size mismatch for lm_head.weight",
    ),
    "colours": ("\x1b[31m====\x1b[0m\n\x1b[31mno such card\x1b[0m", "no such card"),
    "two lines": ("one\ntwo", "one"),
    "a row within a line": ("size == 3 failed\nmore", "size == 3 failed"),
    "a negative number": ("-1", "-1"),
    "a line of one sentence": (
        "No available memory for the cache blocks. See stack trace for more.",
        "No available memory for the cache blocks. See stack trace for more.",
    ),
    "a pointer with its kind": (
        f"RuntimeError: {CORE}\nValueError: no room",
        "ValueError: no room",
    ),
    "nothing at all": ("", "RuntimeError"),
    "nothing but rows": (f"{ROW}\n{ROW}", ROW),
    "nothing but a wrapper": (WORKER, WORKER),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_cause_is_found_in_a_text(name: str) -> None:
    text, told = TEXTS[name]
    assert reason(RuntimeError(text)) == told


def chained(text: str, cause: BaseException, *, explicit: bool = True) -> Exception:
    """An error that another one led to."""
    try:
        try:
            raise cause
        except BaseException as inner:
            if explicit:
                raise RuntimeError(text) from inner
            raise RuntimeError(text)  # noqa: B904
    except RuntimeError as error:
        return error


@pytest.mark.parametrize("text", [WORKER, CORE, DEAD, "backend='npugraph_ex' raised:", ROW])
@pytest.mark.parametrize("explicit", [True, False])
def test_the_cause_is_found_behind_an_error_that_only_points_to_it(
    text: str, explicit: bool
) -> None:
    inner = ValueError(f"{SET_DEVICE}\n{TRAILER}")
    assert reason(chained(text, inner, explicit=explicit)) == SET_DEVICE
    assert reason(chained(CORE, chained(text, inner, explicit=explicit))) == SET_DEVICE
    assert reason(chained(text, AssertionError(), explicit=explicit)) == "AssertionError"


def test_an_error_that_says_what_happened_is_not_passed_over() -> None:
    assert reason(chained("the card is gone", ValueError("behind it"))) == "the card is gone"


def test_what_was_hidden_on_purpose_stays_hidden() -> None:
    error = chained(WORKER, KeyError("unrelated"), explicit=False)
    error.__suppress_context__ = True
    assert reason(error) == WORKER


def test_the_error_that_torch_and_ray_keep_in_an_attribute_is_looked_at() -> None:
    for attribute in ("inner_exception", "cause"):
        error = RuntimeError("backend='<object>' raised:")
        setattr(error, attribute, ValueError(SET_DEVICE))
        assert reason(error) == SET_DEVICE


def test_a_group_of_errors_tells_its_first() -> None:
    class Group(Exception):  # ExceptionGroup is of Python 3.11
        exceptions = (ValueError(SET_DEVICE), ValueError("a second"))

    assert reason(Group("unhandled errors in a TaskGroup (2 sub-exceptions)")) == SET_DEVICE


def test_a_chain_that_bites_its_tail_ends() -> None:
    error = RuntimeError(WORKER)
    error.__cause__ = other = RuntimeError(CORE)
    other.__cause__ = error
    assert reason(error) in (WORKER, CORE)
    assert cause_of(error) is None


def test_a_key_is_told_as_one() -> None:
    assert reason(KeyError("lm_head")) == "KeyError: 'lm_head'"


def test_a_long_line_keeps_both_its_ends() -> None:
    said = reason(RuntimeError(f"Dynamo failed: {'f32[1, 2] ' * 2000}: got ValueError('no room')"))
    assert len(said) == LONGEST
    assert said.startswith("Dynamo failed: f32")
    assert said.endswith("got ValueError('no room')")


def test_a_huge_text_takes_no_time() -> None:
    assert len(reason(RuntimeError("=" * 10_000_000))) <= LONGEST
    for filling in ("=", " ", "| ", "a.", "(1", "Error"):
        line = f"x{filling * 10_000}y"
        assert reason(RuntimeError(line))[-1] == "y"
        assert reason(RuntimeError(f"{filling * 10_000}y"))[-1] == "y"
    assert reason(RuntimeError("x raised:\n" + "-\n" * 1_000_000)) == "x raised:"


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spool]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HARNESS_ROWS", "")
    found = Spool()
    yield found
    found.close()


def logged(error: Exception, name: str) -> None:
    record = logging.LogRecord(
        name, logging.ERROR, __file__, 1, "it ends", (), (type(error), error, None)
    )
    assert Ends().filter(record)


def test_a_process_that_only_points_elsewhere_leaves_no_cause(spool: Spool) -> None:
    logged(RuntimeError(WORKER), "vllm.v1.engine.core")
    assert spool.cause() is None
    logged(RuntimeError(f"{SET_DEVICE}\n{TRAILER}"), "vllm.v1.executor.multiproc_executor")
    assert spool.cause() == SET_DEVICE

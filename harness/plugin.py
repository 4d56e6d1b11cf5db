"""The pytest plugin: hooks and fixtures, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.process import signals

#: What pytest ends with when it is interrupted.
_INTERRUPTED = int(pytest.ExitCode.INTERRUPTED)

with signals.handling(_INTERRUPTED):  # a second of imports, in which nothing is open
    from harness import checks
    from harness.alignment.outcomes import exit_status
    from harness.alignment.result import Alignment, Magnifier
    from harness.bench.result import Bench
    from harness.canary.result import Canary
    from harness.doctor.text import findings_text, outcome
    from harness.errors import BaselineError, HarnessError, log_line
    from harness.recording.format import Recording
    from harness.report.summary import summary_lines
    from harness.session.matrix import CELLS
    from harness.session.pytest_options import add_options, run_options, started
    from harness.session.scope import scope_before
    from harness.session.session import Session
    from harness.session.smoke import Sampled
    from harness.session.terminal import TerminalProgress

_SESSION = pytest.StashKey[Session]()
#: Why the device has no baseline.
_REFUSED = pytest.StashKey[str]()
#: The first check that asked for the alignment: it tells why there is none.
_FIRST = pytest.StashKey[str]()
#: Why the reports of this run could not be written.
_UNWRITTEN = pytest.StashKey[str]()
#: Whether the selected tests passed and the verdict did not.
_PASSED_OVER = pytest.StashKey[bool]()
#: Whether no check of the harness was among the tests that ran.
_UNCHECKED = pytest.StashKey[bool]()
_NOT_THE_VERDICT = (
    "harness: the selected tests passed, but the verdict over what they ran is {}: this run fails"
)
_NO_CHECK = (
    "harness: --device={} was given, and no check of the harness was among the tests that ran: "
    "leave out the paths, or add {}"
)
#: Checks of all prompts together.
_WHOLE = ("test_gate", "test_verdict")
#: The check of the verdict.
_VERDICT = "test_verdict"
#: What a check of the harness asks for, one of them at least.
_FIXTURES = frozenset({"harness_session", "alignment", "smoke", "bench", "canary"})
_CHECKS = Path(checks.__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


@pytest.hookimpl(tryfirst=True)  # before JUnit's own, which reads its prefix there
def pytest_configure(config: pytest.Config) -> None:
    device = config.getoption("device")
    if device is None:
        return
    if not config.option.junitprefix:
        # CI joins the files of several devices, which hold the same tests.
        config.option.junitprefix = device
    cleanups = ExitStack()
    cleanups.enter_context(signals.handling(_INTERRUPTED))
    cleanups.enter_context(signals.working())
    config.add_cleanup(cleanups.close)
    spread = getattr(config.option, "dist", "no") != "no"  # without -n: --dist with --tx
    if spread or getattr(config.option, "numprocesses", None):
        raise pytest.UsageError(
            "harness: --device runs one engine and cannot use several processes; "
            "leave out -n, --dist and --tx"
        )
    try:
        session = Session(
            replace(run_options(config), started=started(config)), TerminalProgress(config)
        )
    except HarnessError as error:
        raise pytest.UsageError(f"harness: {error}") from error
    config.stash[_SESSION] = session
    config.addinivalue_line("markers", "smoke: samples instead of judging; runs with -m smoke only")
    config.addinivalue_line("markers", "perf: measures a grid; runs with -m perf only")
    if config.args_source != pytest.Config.ArgsSource.ARGS:
        config.args = [str(_CHECKS)]
    # The engines' own warnings are theirs, also where a project makes errors of warnings.
    config.addinivalue_line("filterwarnings", "default")


def pytest_report_header(config: pytest.Config) -> str | None:
    session = config.stash.get(_SESSION, None)
    return None if session is None else f"harness: {session.run.describe()}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "harness_prompt" in metafunc.fixturenames:
        session = metafunc.config.stash.get(_SESSION, None)
        ids = [] if session is None else session.run.chosen()
        metafunc.parametrize("harness_prompt", ids, ids=ids)
    if "matrix_cell" in metafunc.fixturenames:
        metafunc.parametrize("matrix_cell", CELLS, ids=CELLS)
    if "smoke_prompt" in metafunc.fixturenames:
        session = metafunc.config.stash.get(_SESSION, None)
        ids = [] if session is None else [p.id for p in session.run.smoke_suite().prompts]
        metafunc.parametrize("smoke_prompt", ids, ids=ids)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the slow checks that were not requested: the canary, the smoke test, the
    bench, the cells of the matrix, the magnifier."""
    session = config.stash.get(_SESSION, None)
    if session is None or collection_path.parent != _CHECKS:
        return None
    markers = config.getoption("markexpr") or ""
    wanted = {
        "test_smoke": "smoke" in markers,
        "test_bench": "perf" in markers,
        "test_canary": session.run.options.canary,
        "test_matrix": session.run.wants_matrix,
        "test_magnifier": session.run.options.magnify,
        "test_diagnosis": session.run.options.diagnose is True,
    }
    name = collection_path.stem
    named = any(name in argument for argument in config.args)
    return None if wanted.get(name, True) or named else True


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of a shard, the gates and the verdict are not checked: they are of the whole suite."""
    session = config.stash.get(_SESSION, None)
    if session is None or session.run.options.shard is None:
        return
    of_the_whole = [i for i in items if i.path.parent == _CHECKS and i.name.startswith(_WHOLE)]
    config.hook.pytest_deselected(items=of_the_whole)
    items[:] = [item for item in items if item not in of_the_whole]


def pytest_collection_finish(session: pytest.Session) -> None:
    harness = session.config.stash.get(_SESSION, None)
    if harness is not None:
        harness.select(
            _selected_prompts(session.items),
            asks_verdict=any(item.name == _VERDICT for item in session.items),
        )


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """The doctor first: an error that it finds ends the run before any model is read."""
    config = session.config
    harness = config.stash.get(_SESSION, None)
    if harness is None or not session.items or session.testsfailed:
        return
    if config.option.collectonly:
        return
    diagnosis = harness.examine()
    if diagnosis is None or not diagnosis.findings:
        return
    reporter: Any = config.pluginmanager.getplugin("terminalreporter")
    lines = [f"harness: doctor: {outcome(diagnosis)}", *findings_text(diagnosis.findings)]
    for line in lines if reporter is not None else ():
        reporter.write_line(log_line(line))
    if diagnosis.errors:
        pytest.exit(f"harness: {outcome(diagnosis)}; pass --no-doctor to run anyway", returncode=2)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """One message and not one for each check, where nothing could be judged."""
    config = item.config
    session = config.stash.get(_SESSION, None)
    if session is None or "alignment" not in getattr(item, "fixturenames", ()):
        return
    # Whoever runs a failed test again must not make a skip of it.
    first = config.stash.setdefault(_FIRST, item.nodeid)
    if config.stash.get(_REFUSED, None) is not None and item.nodeid != first:
        pytest.skip("nothing was judged: the first error says why")
    judged = session.judged
    if (
        judged is not None
        and not judged.alignment.comparability.comparable
        and item.name != _VERDICT
    ):
        pytest.skip(f"nothing was compared: {_VERDICT} says why")


def _selected_prompts(items: list[pytest.Item]) -> frozenset[str] | None:
    """The prompts to run: those selected, or all if any check needs them all."""
    selected = set()
    for item in items:
        spec = getattr(item, "callspec", None)
        if spec is None or "harness_prompt" not in spec.params:
            return None
        selected.add(spec.params["harness_prompt"])
    return frozenset(selected)


@pytest.fixture(scope="session")
def harness_session(request: pytest.FixtureRequest) -> Session:
    """The session of this run, with the stages that it has reached."""
    session = request.config.stash.get(_SESSION, None)
    if session is None:
        pytest.skip("give --device to run the checks")
    return session


@pytest.fixture(scope="session")
def alignment(harness_session: Session, request: pytest.FixtureRequest) -> Alignment:
    """The device compared with its baseline. The first use runs the suite."""
    stash = request.config.stash
    try:
        if _REFUSED not in stash:
            return harness_session.judge().alignment
    except BaselineError as error:
        stash[_REFUSED] = str(error)
    except HarnessError as error:
        pytest.exit(f"harness: {error}", returncode=2)
    # Out here, so that no test shows one error while handling another.
    pytest.fail(stash[_REFUSED], pytrace=False)


@pytest.fixture(scope="session")
def magnifier(alignment: Alignment) -> Magnifier:
    """The outcome of ``--magnify``."""
    if alignment.magnifier is None:
        pytest.skip("nothing was magnified")
    return alignment.magnifier


@pytest.fixture(scope="session")
def recording(harness_session: Session, alignment: Alignment) -> Recording:
    """The recording of the device."""
    assert alignment is not None
    return harness_session.judge().recorded.candidate


@pytest.fixture(scope="session")
def bench(harness_session: Session, alignment: Alignment) -> Bench:
    """The device measured on a grid, after its tokens were judged."""
    assert alignment is not None
    try:
        return harness_session.bench().bench
    except HarnessError as error:
        pytest.exit(f"harness: {error}", returncode=2)


@pytest.fixture(scope="session")
def canary(harness_session: Session) -> Canary:
    """A model whose every bit is known, on this device. The first use runs it."""
    try:
        return harness_session.canary()
    except HarnessError as error:
        pytest.exit(f"harness: {error}", returncode=2)


@pytest.fixture(scope="session")
def smoke(harness_session: Session) -> Mapping[str, Sampled]:
    """The sampled outputs of the device, by prompt. The first use runs it."""
    try:
        return harness_session.smoke()
    except HarnessError as error:
        pytest.exit(f"harness: {error}", returncode=2)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    session = config.stash.get(_SESSION, None)
    refused = config.stash.get(_REFUSED, None)
    if session is not None and refused is not None:
        terminalreporter.write_sep("=", f"harness: {session.run.describe()}", red=True)
        terminalreporter.write_line(log_line(refused))
    if session is not None and config.option.collectonly and config.option.verbose >= 0:
        terminalreporter.write_sep("=", f"harness: {session.run.describe()}")
        for line in scope_before(session.run):
            terminalreporter.write_line(log_line(line))
    if session is not None and config.stash.get(_UNCHECKED, False):
        device = session.run.options.spec.device
        terminalreporter.write_line(_NO_CHECK.format(device, _CHECKS), red=True)
    if session is None or session.judged is None:
        return
    alignment = session.judged.alignment
    if config.stash.get(_PASSED_OVER, False):
        terminalreporter.write_line(_NOT_THE_VERDICT.format(alignment.verdict), red=True)
    good = exit_status(alignment.verdict) == 0
    title = f"harness: {session.run.describe()}"
    terminalreporter.write_sep("=", title, green=good, red=not good)
    language = session.run.options.outputs.language
    for line in summary_lines(alignment, language):
        terminalreporter.write_line(log_line(line))
    unwritten = config.stash.get(_UNWRITTEN, None)
    if unwritten is not None:
        terminalreporter.write_line(f"harness: error: {unwritten}", red=True)
        return
    for line in () if session.reported is None else session.reported.closing_lines():
        terminalreporter.write_line(log_line(line))


def pytest_sessionstart(session: pytest.Session) -> None:
    """After pytest's own hook, which only prints what is raised in ``__del__``."""
    if session.config.stash.get(_SESSION, None) is not None:
        losses = ExitStack()
        losses.enter_context(signals.nothing_lost())
        session.config.add_cleanup(losses.close)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """After a signal, no further test: a library may have made an error of it."""
    if signals.received() is None:
        return None
    signals.hold_to_the_end()
    item.session.shouldstop = "interrupted"
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    harness = session.config.stash.get(_SESSION, None)
    if harness is not None:
        _no_check_is_no_success(session)
        if _REFUSED in session.config.stash and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        # Nothing interrupts the end: the device is closed, the reports are whole.
        signals.hold_to_the_end()
        session.config.add_cleanup(partial(_tell_interruption, session))
        _tell_interruption(session)
        _not_better_than_the_verdict(session, harness)
        try:
            harness.report()
        except HarnessError as error:
            # Not pytest.exit, which would take the summary away as well.
            session.config.stash[_UNWRITTEN] = str(error)
            session.exitstatus = pytest.ExitCode.INTERRUPTED


def _no_check_is_no_success(session: pytest.Session) -> None:
    """``--device`` with paths of other tests alone would end green, and nothing was checked."""
    asked = any(_FIXTURES.intersection(getattr(item, "fixturenames", ())) for item in session.items)
    if (
        session.exitstatus == pytest.ExitCode.OK
        and not asked
        and not session.config.option.collectonly
    ):
        session.config.stash[_UNCHECKED] = True
        session.exitstatus = pytest.ExitCode.USAGE_ERROR


def _tell_interruption(session: pytest.Session) -> None:
    """A signal decides the status, whatever a library or pytest made of it."""
    if signals.received() is not None:
        session.exitstatus = pytest.ExitCode.INTERRUPTED


def _not_better_than_the_verdict(session: pytest.Session, harness: Session) -> None:
    """A selection of tests (``-k``, ``--deselect``, a marker) must not hide the verdict:
    where it judged the port and all passed, the verdict decides."""
    judged = harness.judged
    if session.exitstatus == pytest.ExitCode.OK and judged is not None and not judged.held:
        session.config.stash[_PASSED_OVER] = True
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

"""CI leaves no test out: what `pytest` deselects is what the other sessions choose."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


def constant(file: str, name: str) -> tuple[str, ...]:
    """The words of a tuple at the top of a file, which is read and not imported: the base
    install has no nox."""
    for node in ast.parse((ROOT / file).read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return tuple(ast.literal_eval(node.value))
    raise LookupError(name)


def sessions() -> set[str]:
    tree = ast.parse((ROOT / "noxfile.py").read_text("utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name for node in found if "nox.session" in ast.unparse(node.decorator_list[0:1])}


def test_what_is_not_run_by_default_has_a_session_of_its_own(pytestconfig: pytest.Config) -> None:
    addopts = pytestconfig.getini("addopts")
    deselected = set(re.findall(r"not (\w+)", addopts[addopts.index("-m") + 1]))
    apart = constant("noxfile.py", "APART")
    assert deselected == set(apart)
    assert set(apart) <= {*sessions(), "engine"}


def test_ci_runs_every_session() -> None:
    # Lint and tests come first, with what runs beside the README's first command; the
    # others follow two at a time.
    beside = [*constant(".ci/run.py", "BESIDE_RUN"), *constant(".ci/run.py", "BESIDE")]
    assert {*beside, "lint", "tests", *constant("noxfile.py", "BY_HAND")} == sessions()
    assert len(set(beside)) == len(beside)


def spread(config: Any) -> Any:
    """What the root conftest makes of a run's options."""
    source = (ROOT / "conftest.py").read_text("utf-8")
    names: dict[str, Any] = {}
    exec(compile(source, "conftest.py", "exec"), names)
    names["pytest_cmdline_main"](config)
    return config.option.numprocesses


def asked(pytestconfig: pytest.Config, **changes: Any) -> Any:
    """A run of `pytest` alone, as its configuration says it."""
    quick = pytestconfig.getini("addopts")
    given = {"markexpr": quick[quick.index("-m") + 1], "device": None, "numprocesses": None}
    option = SimpleNamespace(**{**given, "dist": "no", **changes})
    return SimpleNamespace(
        option=option,
        args_source=pytest.Config.ArgsSource.TESTPATHS,
        getini=pytestconfig.getini,
        pluginmanager=SimpleNamespace(hasplugin=lambda name: name == "xdist"),
    )


def test_the_quick_tests_alone_are_spread_and_workers_have_no_workers(
    pytestconfig: pytest.Config,
) -> None:
    assert spread(asked(pytestconfig)) >= 1
    assert spread(asked(pytestconfig, numprocesses=0)) == 0
    for other in ({"device": "fake"}, {"markexpr": "engine"}, {"dist": "each"}):
        assert spread(asked(pytestconfig, **other)) is None
    worker = asked(pytestconfig)
    worker.workerinput = {}
    assert spread(worker) is None

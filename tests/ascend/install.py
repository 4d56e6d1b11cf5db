"""Make an environment in which the real vLLM and vLLM-Ascend run without an Ascend card.

    python3 tests/ascend/install.py FOLDER

FOLDER is made and holds everything (3 GB): `venv/`, vLLM's compiled graphs, and `run`, which
runs a command as on an Ascend host. The checkout that this file lies in is installed editable,
and so is the emulation. A second call does only what is missing or has changed. 2 to 6
minutes, about 1.4 GB to download.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
#: Releases of vLLM and vLLM-Ascend, and the CANN that the emulated host tells for each.
CANN = {"0.18.0": "8.5.1", "0.23.0": "9.1.0"}
PIP = "25.3"
#: What Debian calls Python 3.11, and a compiler with the tools that without_cuda.py needs.
PYTHON_PACKAGES = ("python3.11", "python3.11-venv", "python3.11-dev")
COMPILER_PACKAGES = ("g++", "binutils")
#: vLLM-Ascend's wheels are for few Pythons.
_FITS = """
import ensurepip, os, sys, sysconfig, venv
header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
sys.exit(sys.version_info[:2] != (3, 11) or not os.path.exists(header))
"""
_TRY = "import torch; assert torch.ones(2, device='npu').sum().item() == 2"
_RUN = """\
#!/bin/bash
# Runs a command as on an Ascend host; without root or mounts, without the host's files.
export PATH={bin}:"$PATH" HF_HUB_OFFLINE="${{HF_HUB_OFFLINE:-1}}"
export NPU_EMU_CANN="${{NPU_EMU_CANN:-{cann}}}" VLLM_CACHE_ROOT="${{VLLM_CACHE_ROOT:-"{cache}"}}"
# More threads wait for each other where the cores are shared.
export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-1}}"
if bash {enter} true 2> /dev/null; then exec bash {enter} "$@"; fi
exec "$@"
"""


class Problem(Exception):
    """Why the environment cannot be made, and how to mend it, in one line."""


@dataclass
class Environment:
    """The environment to make.

    Attributes:
        folder: where.
        release: of vLLM and vLLM-Ascend.
        python: the Python 3.11 that the user names, or None.
        started: the clock when the call began, in seconds.
    """

    folder: Path
    release: str
    python: Path | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def bin(self) -> Path:
        """Where the environment's commands are."""
        return self.folder / "venv" / "bin"

    @property
    def locks(self) -> tuple[Path, Path]:
        """Versions of everything, and of what differs between releases."""
        return HERE / "lock.txt", HERE / f"lock-{self.release}.txt"

    def make(self) -> None:
        """Do what is missing or has changed; Problem where it cannot be done."""
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        self._python()
        locked = "".join(path.read_text("utf-8") for path in self.locks)
        self._once("packages", locked, self._packages)
        self._once("cuda", locked + _text(HERE / "without_cuda.py"), self._cuda)
        self._once("vllm", self.release, self._vllm)
        self._once("emulation", f"{HERE}\n{_digest(HERE / 'emulation')}", self._emulation)
        product = f"{CHECKOUT}\n{_text(CHECKOUT / 'pyproject.toml')}"
        self._once("product", product, self._product)
        self._write_run()
        self._say(f"done: {self.folder / 'run'} pytest --device=npu --suite=port")

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self.started:4.0f} s  {text}", flush=True)

    def _once(self, name: str, state: str, step: Callable[[], None]) -> None:
        """Do a step unless it was done for the same state."""
        stamp = self.folder / ".done" / name
        if stamp.exists() and _text(stamp) == state:
            return
        stamp.parent.mkdir(exist_ok=True)
        stamp.unlink(missing_ok=True)
        step()
        stamp.write_text(state, "utf-8")

    def _call(self, *command: object, **variables: str) -> None:
        own = {
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(self.folder / "tmp"),
        }
        _run([str(part) for part in command], {**own, **variables})

    def _pip(self, command: str, *arguments: object, **variables: str) -> None:
        options = ["--quiet", "--no-deps", "--no-cache-dir"]
        self._call(self.bin / "python", "-m", "pip", command, *options, *arguments, **variables)

    def _add(self, *arguments: object, **variables: str) -> None:
        self._pip("install", "--no-compile", *arguments, **variables)

    def _python(self) -> None:
        """A compiler, and a virtual environment of Python 3.11."""
        missing = [] if shutil.which("c++") and shutil.which("nm") else [*COMPILER_PACKAGES]
        there = (self.bin / "python").exists()
        python = None if there else find_python(self.python)
        if not there and python is None:
            missing += PYTHON_PACKAGES
        if missing:
            self._apt(missing)
        if not there:
            python = python or Path("/usr/bin/python3.11")
            self._say(f"a virtual environment of {python}")
            self._call(python, "-m", "venv", self.folder / "venv")
            self._add(f"pip=={PIP}")

    def _apt(self, packages: Sequence[str]) -> None:
        names = " ".join(packages)
        mend = f"run `apt-get install {names}`, or name a Python 3.11 with --python"
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise Problem(f"Python 3.11 with venv and headers, or a compiler, is missing: {mend}")
        self._say(f"apt-get install {names}")
        try:
            self._call("apt-get", "-q", "update")
            self._call("apt-get", "-q", "install", "-y", "--no-install-recommends", *packages)
        except Problem as problem:
            raise Problem(f"{problem}: {mend}") from None

    def _packages(self) -> None:
        self._say("about 180 packages, torch among them (1.3 GB)")
        self._add(*(part for path in self.locks for part in ("-r", path)))

    def _cuda(self) -> None:
        self._say("stand-ins for CUDA's libraries")
        self._call(self.bin / "python", HERE / "without_cuda.py")

    def _vllm(self) -> None:
        self._say(
            f"vLLM {self.release} from its source, without kernels, as Ascend's images have it"
        )
        tmp, plain = self.folder / "tmp", {"VLLM_TARGET_DEVICE": "empty"}
        # pip checks that the source's version is the index's; installed it is 0.18.0+empty.
        self._pip(
            "download", "--no-build-isolation", "--no-binary", "vllm", "-d", tmp,
            f"vllm=={self.release}", VLLM_VERSION_OVERRIDE=self.release, **plain,
        )  # fmt: skip
        source = tmp / f"vllm-{self.release}.tar.gz"
        self._add("--no-build-isolation", source, **plain)
        source.unlink()
        self._say(f"vLLM-Ascend {self.release}, its wheel")
        self._add("--only-binary", "vllm-ascend", f"vllm-ascend=={self.release}")

    def _emulation(self) -> None:
        self._say("torch_npu: the emulation, and its device compiled (20 s)")
        self._add("--no-build-isolation", "-e", HERE / "emulation")
        # Graphs that were compiled with other operators.
        shutil.rmtree(self.folder / "vllm", ignore_errors=True)
        self._call(self.bin / "python", "-c", _TRY)

    def _product(self) -> None:
        self._say(f"the checkout {CHECKOUT}, editable")
        self._add("--no-build-isolation", "-e", CHECKOUT)

    def _write_run(self) -> None:
        run = self.folder / "run"
        text = _RUN.format(
            bin=shlex.quote(str(self.bin)),
            cann=CANN[self.release],
            cache=self.folder / "vllm",
            enter=shlex.quote(str(HERE / "host" / "enter")),
        )
        run.write_text(text, "utf-8")
        run.chmod(run.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def find_python(named: Path | None) -> Path | None:
    """A Python 3.11 with venv and headers; Problem where the named one is not."""
    if named is not None:
        if not fits(named):
            raise Problem(
                f"{named} is not a Python 3.11 with venv and headers: name another --python"
            )
        return named
    on_path = shutil.which("python3.11")
    candidates = (Path(sys.executable), on_path and Path(on_path), Path("/usr/bin/python3.11"))
    return next((each for each in candidates if each and fits(each)), None)


def fits(python: Path) -> bool:
    """Whether an environment can be made with it, and C++ compiled against it."""
    try:
        return (
            subprocess.run([python, "-c", _FITS], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


def _run(command: list[str], variables: Mapping[str, str]) -> None:
    """Run a command silently; Problem, with its last line, where it fails."""
    done = subprocess.run(
        command,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        last = next((line for line in reversed(lines) if "ERROR" in line), (lines or ["?"])[-1])
        told = shlex.join(command[:5]) + (" …" if len(command) > 5 else "")
        raise Problem(f"`{told}` ended with status {done.returncode}: {last}")


def _text(path: Path) -> str:
    return path.read_text("utf-8")


def _digest(folder: Path) -> str:
    """A digest of a folder's files, names among them."""
    made = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            made.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return made.hexdigest()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--release", choices=sorted(CANN), default="0.18.0")
    parser.add_argument("--python", type=Path, metavar="PATH", help="a Python 3.11 with headers")
    asked = parser.parse_args()
    try:
        Environment(asked.folder.resolve(), asked.release, asked.python).make()
    except Problem as problem:
        sys.exit(f"install.py: error: {problem}")
    except OSError as error:
        sys.exit(f"install.py: error: {error}: take another FOLDER")


if __name__ == "__main__":
    main()

"""Let the CUDA build of torch be imported without CUDA's libraries.

The usual torch for x86-64 is linked against them (2.8 GB to download, 4.4 GB on disk), and the
dynamic loader wants each library and each of its functions, though without a GPU none is ever
called. This puts libraries of those names beside torch's own, where its RUNPATH looks, in which
every function returns 0. libcudart, which torch does call when it is loaded, stays the real one.

    python without_cuda.py          # for the torch of this Python; needs cc and binutils
"""

from __future__ import annotations

import re
import subprocess
import sysconfig
import tempfile
from pathlib import Path

_LIBRARY = re.compile(r"lib(cu|nccl|nvshmem).*")
_FUNCTION = re.compile(
    r"(cublas|cudnn|cufft|cupti|curand|cusparse|cusolver|nccl|cuFile|nvshmem)\w*"
)
_REAL = {"libcudart.so.12", "libcuda.so.1"}
#: Opened only where a GPU is.
_NOT_LOADED = "libcaffe2_nvrtc.so"


def main() -> None:
    """Write the libraries."""
    folder = Path(sysconfig.get_paths()["platlib"]) / "torch" / "lib"
    if not (folder / "libtorch_cuda.so").exists():
        print("this torch is built without CUDA: nothing to do")
        return
    theirs = [path for path in sorted(folder.glob("lib*.so")) if path.name != _NOT_LOADED]
    needed = {name for path in theirs for name in _needed(path) if _LIBRARY.fullmatch(name)}
    versions = dict(version for path in theirs for version in _versions(path))
    wanted = {name for path in theirs for name in _undefined(path) if _FUNCTION.fullmatch(name)}
    with tempfile.TemporaryDirectory() as work:
        source, script = Path(work) / "stub.c", Path(work) / "versions"
        source.write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name in sorted(wanted)))
        for name in sorted(needed - _REAL):
            script.write_text(f"{versions.get(name, name)} {{ *; }};\n")
            _compile(source, script, folder / name)
    print(f"{len(wanted)} functions in each of {' '.join(sorted(needed - _REAL))}")


def _compile(source: Path, script: Path, library: Path) -> None:
    linker = f"-Wl,-soname,{library.name}", f"-Wl,--version-script,{script}"
    options = ["-shared", "-fPIC", "-w", "-fno-builtin", *linker]
    subprocess.run(["cc", *options, "-o", str(library), str(source)], check=True)


def _needed(path: Path) -> list[str]:
    """The libraries that a library is linked against."""
    return re.findall(r"\(NEEDED\).*\[(.*)\]", _told("readelf", "-d", path))


def _versions(path: Path) -> list[tuple[str, str]]:
    """Each library and the version of its symbols; NVIDIA gives a library one."""
    return re.findall(r"File: (\S+) .*\n.*Name: (\S+)", _told("readelf", "-V", path))


def _undefined(path: Path) -> list[str]:
    """The functions that a library expects of others."""
    lines = _told("nm", "-D", "--undefined-only", path).splitlines()
    return [line.split()[-1].partition("@")[0] for line in lines]


def _told(tool: str, *arguments: object) -> str:
    return subprocess.run(
        [tool, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
        env={"LC_ALL": "C", "PATH": "/usr/local/bin:/usr/bin:/bin"},
    ).stdout


if __name__ == "__main__":
    main()

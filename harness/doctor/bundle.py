"""``--bundle``: one archive to attach to a report of a bug."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import stat
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.doctor.archive import MANIFEST, Contents, text_of, total, write_new
from harness.doctor.blot import Blotter
from harness.doctor.finding import Diagnosis
from harness.doctor.text import findings_text, render
from harness.version import __version__

#: Bytes of one attached file, of all of them, and of a log's beginning and end.
LARGEST = 32 * 2**20
ALTOGETHER = 96 * 2**20
LOG_HEAD, LOG_TAIL = 2 * 2**20, 14 * 2**20

#: Variables that decide what an engine does, by how their names begin.
_VARIABLES = re.compile(
    r"(?:ACL|ASCEND|ATB|CANN|CLOSE_MATMUL|COMBINED_ENABLE|CPU_AFFINITY|CUDA|GE|GLOO|GOMP|HARNESS|HCCL|"
    r"HF|HIP|HUGGING|INF_NAN|KMP|LCCL|LD|MALLOC|MKL|NCCL|NPU|NVIDIA|OMP|OPENBLAS|PYTORCH|RAY|ROCR|"
    r"SAFETENSORS|TASK_QUEUE|TOKENIZERS|TORCH|TORCHDYNAMO|TORCHINDUCTOR|TRANSFORMERS|TRITON|VLLM)_"
    r"|PYTHON|VIRTUAL_ENV$|CONDA_PREFIX$|PATH$|TMPDIR$|LANG$|LC_ALL$"
)
_LINKS = frozenset(
    getattr(errno, name) for name in ("ELOOP", "EMLINK", "EFTYPE") if hasattr(errno, name)
)


@dataclass(frozen=True)
class Wanted:
    """What goes into a bundle.

    Attributes:
        diagnosis: of this host.
        log_name: the log's path as it was given; None without one.
        log: its bytes; None where it could not be read.
        log_problem: why it could not.
        log_findings: what its messages stand for.
        attached: paths of recordings, alignments and the like.
        environment: the variables of this process.
    """

    diagnosis: Diagnosis
    log_name: str | None = None
    log: bytes | None = None
    log_problem: str = ""
    log_findings: Diagnosis | None = None
    attached: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


def write_bundle(path: Path, wanted: Wanted) -> str:
    """Write the archive; what it holds, as text for the user.

    Raises:
        OSError: if it cannot be written, or there is a file already.
    """
    blotter = Blotter.of(wanted.environment)
    hidden = _Hidden(blotter, wanted.environment.get("HOME", ""))
    contents = Contents()
    _add_findings(contents, hidden, "findings", wanted.diagnosis, whole=True)
    contents.add("versions.json", hidden.data(text_of(_versions()))[0])
    names = [name for name in wanted.environment if _VARIABLES.match(name)]
    shown = blotter.environment(wanted.environment, names)
    contents.add("environment.json", hidden.data(text_of(shown))[0])
    if wanted.log_name is not None:
        _add_log(contents, hidden, wanted)
    for number, each in enumerate(wanted.attached, 1):
        _attach(contents, hidden, number, each)
    facts = {
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "harness": __version__,
        "device": wanted.diagnosis.device,
    }
    data = contents.zipped(facts)
    write_new(path, data)
    return _told(path, len(data), contents)


@dataclass(frozen=True)
class _Hidden:
    """Takes secrets, and the name of the user's folder, out of texts."""

    blotter: Blotter
    home: str

    def data(self, data: bytes) -> tuple[bytes, int]:
        text, count = self.blotter.text(data.decode("utf-8", "replace"))
        if len(self.home) > 1:
            text = re.sub(re.escape(self.home.rstrip("/")) + r"(?![\w.-])", "~", text)
        return text.encode("utf-8", "replace"), count

    def path(self, path: str) -> str:
        return self.data(_shown(path).encode())[0].decode()


def _add_findings(
    contents: Contents, hidden: _Hidden, name: str, found: Diagnosis, *, whole: bool
) -> None:
    text = render(found) if whole else "\n".join(findings_text(found.findings))
    for ending, data in (("txt", f"{text}\n".encode()), ("json", text_of(found.as_json()))):
        clean, count = hidden.data(data)
        contents.add(f"{name}.{ending}", clean, blotted=count)


def _add_log(contents: Contents, hidden: _Hidden, wanted: Wanted) -> None:
    source = hidden.path(wanted.log_name or "")
    if wanted.log is None:
        contents.leave_out(source, wanted.log_problem)
        return
    data, missing = wanted.log, len(wanted.log) - LOG_HEAD - LOG_TAIL
    if missing > 0:
        cut = f"\n[{missing} bytes of the log are left out here]\n".encode()
        data = data[:LOG_HEAD] + cut + data[-LOG_TAIL:]
    clean, count = hidden.data(data)
    contents.add("engine.log", clean, source=source, blotted=count, bytes_left_out=max(0, missing))
    if wanted.log_findings is not None:
        _add_findings(contents, hidden, "log-findings", wanted.log_findings, whole=False)


def _attach(contents: Contents, hidden: _Hidden, number: int, path: str) -> None:
    try:
        data = read_plain(path, min(LARGEST, max(0, ALTOGETHER - contents.size)))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        contents.leave_out(hidden.path(path), why)
        return
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", os.path.basename(path)).lstrip(".")[-80:]
    name = f"attached/{number:02}-{plain or 'file'}"
    try:
        text, count = hidden.blotter.text(data.decode("utf-8"))
    except UnicodeDecodeError:
        contents.add(name, data, source=hidden.path(path), not_searched="it is not a text")
        return
    # A file that is as it was keeps its checksum.
    contents.add(name, text.encode() if count else data, source=hidden.path(path), blotted=count)


def read_plain(path: str, most: int) -> bytes:
    """A regular file of at most ``most`` bytes; never a link, a device, a pipe or a folder.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is another kind of file, or too large; also for a path
            that no file can have.
    """
    if stat.S_ISLNK(os.lstat(path).st_mode):
        raise ValueError("it is a symbolic link; give the file itself")
    names = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY")
    flags = sum(getattr(os, name, 0) for name in names)
    try:
        handle = os.open(path, os.O_RDONLY | flags)
    except OSError as error:
        if error.errno in _LINKS:  # it became one meanwhile
            raise ValueError("it is a symbolic link; give the file itself") from error
        raise
    try:
        found = os.fstat(handle)
        if stat.S_ISDIR(found.st_mode):
            raise ValueError("it is a folder; give the files in it one by one")
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is not a regular file")
        data = b"" if found.st_size > most else _read(handle, most + 1)
    finally:
        os.close(handle)
    size = max(found.st_size, len(data))
    if size > most:
        raise ValueError(f"it has {size} bytes, and {most} fit in; attach it by itself")
    return data


def _read(handle: int, most: int) -> bytes:
    parts = []
    while most and (part := os.read(handle, min(most, 1 << 20))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


def _versions() -> dict[str, object]:
    """Of the harness, Python, the system, and every package that is installed."""
    from importlib import metadata

    packages: dict[str, str] = {}
    for each in metadata.distributions():
        try:
            packages[str(each.metadata["Name"])] = str(each.version)
        except Exception:  # noqa: S112 - a package whose description is damaged
            continue
    return {
        "harness": __version__,
        "python": sys.version,
        "system": platform.platform(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def _told(path: Path, size: int, contents: Contents) -> str:
    lines = [f"wrote {_shown(str(path))} ({size:,} bytes):"]
    rows = [(MANIFEST, "what it holds, with sizes and checksums")]
    rows += [(member.name, ", ".join(_remarks(member.listed()))) for member in contents.members]
    width = max(len(name) for name, _ in rows)
    lines += [f"  {name.ljust(width)}  {remark}" for name, remark in rows]
    lines += [f"  left out: {each['path']}: {each['why']}" for each in contents.left_out]
    count = total(contents.members)
    lines.append(
        f"{count} secret{'s' * (count != 1)} blotted out of logs and files; values of secret "
        "variables are never written. Look through it before you send it: other private things "
        "are still in it."
    )
    return "\n".join(lines)


def _remarks(listed: Mapping[str, object]) -> Iterable[str]:
    yield f"{listed['size']:,} bytes"
    if "blotted" in listed:
        yield f"{listed['blotted']} blotted out"
    if "not_searched" in listed:
        yield "not searched for secrets"
    if "bytes_left_out" in listed:
        yield f"{listed['bytes_left_out']:,} bytes left out of its middle"


def _shown(path: str) -> str:
    """A path that can be printed and written; JSON's own escapes are enough for the rest."""
    return json.dumps(path, ensure_ascii=not path.isprintable())[1:-1] if path != "-" else "stdin"

"""``--bundle``: one archive to attach to a report of a bug."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from harness.doctor import archive, bundle
from harness.doctor.blot import BLOT
from harness.doctor.bundle import Wanted, read_plain, write_bundle
from harness.doctor.command import main, run
from harness.doctor.finding import Diagnosis
from harness.doctor.remedies import finding

ROOT = Path(__file__).parents[3]
HUB = "hf_" + "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0zA"
FOUND = Diagnosis("npu", {"card": {"kind": "Atlas A2"}}, (finding("nnal", "libatb.so"),))


def opened(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    with zipfile.ZipFile(path) as whole:
        assert whole.testzip() is None
        files = {name: whole.read(name) for name in whole.namelist()}
    return json.loads(files.pop("manifest.json")), files


def made(folder: Path, **more: Any) -> tuple[dict[str, Any], dict[str, bytes], str]:
    given = {"environment": {}, **more}
    said = write_bundle(folder / "b.zip", Wanted(FOUND, **given))
    return (*opened(folder / "b.zip"), said)


def test_a_bundle_holds_findings_versions_and_variables_and_lists_them(tmp_path: Path) -> None:
    variables = {
        "VLLM_PLUGINS": "",
        "HF_TOKEN": HUB,
        "HF_HOME": "/home/eve/hf",
        "HOME": "/home/eve",
        "PATH": "/home/eve/bin:/home/evelyn/bin",
        "EDITOR": "vi",
    }
    manifest, files, said = made(tmp_path, environment=variables)
    assert manifest["schema"] == archive.SCHEMA
    assert (manifest["device"], manifest["left_out"]) == ("npu", [])
    assert list(files) == ["findings.txt", "findings.json", "versions.json", "environment.json"]
    assert [each["name"] for each in manifest["files"]] == list(files)
    for each in manifest["files"]:
        data = files[each["name"]]
        assert each["size"] == len(data)
        assert each["sha256"] == hashlib.sha256(data).hexdigest()
        assert each["name"] in said
    assert json.loads(files["findings.json"]) == json.loads(json.dumps(FOUND.as_json()))
    assert b"error: nnal" in files["findings.txt"]
    assert json.loads(files["versions.json"])["python"] == sys.version
    assert json.loads(files["environment.json"]) == {
        "HF_HOME": "~/hf",
        "HF_TOKEN": BLOT,
        "PATH": "~/bin:/home/evelyn/bin",
        "VLLM_PLUGINS": "",
    }
    assert "Look through it before you send it" in said
    if os.name == "posix":
        assert (tmp_path / "b.zip").stat().st_mode & 0o777 == 0o600


def test_secrets_leave_logs_and_attachments(tmp_path: Path) -> None:
    log = (
        f"EI0006: late\n{HUB}\nhttp://a:pw12@h/\nVLLM_API_KEY=swordfish\nopen-sesame\xff\n".encode()
    )
    kept = tmp_path / "kept.json"
    kept.write_text('{"token_ids": [1, 2]}\n', "utf-8", newline="\r\n")
    leaky = tmp_path / "leaky.json"
    leaky.write_text(
        json.dumps({"url": "http://a:pw12@h/", "é": [HUB]}, ensure_ascii=False), "utf-8"
    )
    told = Diagnosis("npu", {}, (finding("hccl-timeout", f"EI0006 {HUB}"),))
    manifest, files, said = made(
        tmp_path,
        log_name="engine.log",
        log=log,
        log_findings=told,
        attached=[str(kept), str(leaky)],
        environment={"MY_SECRET": "open-sesame"},
    )
    listed = {each["name"]: each for each in manifest["files"]}
    assert listed["engine.log"]["blotted"] == 4
    assert listed["attached/02-leaky.json"]["blotted"] == 2
    assert listed["log-findings.json"]["blotted"] == 1
    assert "blotted" not in listed["attached/01-kept.json"]
    assert files["attached/01-kept.json"] == kept.read_bytes()
    assert json.loads(files["attached/02-leaky.json"]) == {"url": f"http://{BLOT}@h/", "é": [BLOT]}
    assert b"EI0006: late" in files["engine.log"]
    whole = b"".join(files.values()) + json.dumps(manifest).encode() + said.encode()
    for secret in (HUB, "pw12", "swordfish", "open-sesame"):
        assert secret.encode() not in whole
    assert "8 secrets blotted out" in said


def test_what_cannot_be_read_is_noted(tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    good.write_text("{}", "utf-8")
    link, folder, pipe = tmp_path / "link", tmp_path / "folder", tmp_path / "pipe"
    link.symlink_to(good)
    folder.mkdir()
    os.mkfifo(pipe)
    (tmp_path / "broken").symlink_to("nowhere")
    paths = [str(good), str(tmp_path / "none"), str(link), str(tmp_path / "broken"), str(folder)]
    paths += [str(pipe), "/dev/null", "a\0b", "", str(good)]
    manifest, files, said = made(tmp_path, attached=paths, log_name="no.log", log_problem="gone")
    why = {each["path"]: each["why"] for each in manifest["left_out"]}
    assert list(why.values()) == [
        "gone",
        "No such file or directory",
        "it is a symbolic link; give the file itself",
        "it is a symbolic link; give the file itself",
        "it is a folder; give the files in it one by one",
        "it is not a regular file",
        "it is not a regular file",
        why["a\\u0000b"],
        "No such file or directory",
    ]
    assert "null" in why["a\\u0000b"]
    assert [name for name in files if name.startswith("attached")] == [
        "attached/01-good.json",
        "attached/10-good.json",
    ]
    assert all(text in said for text in why.values())
    assert all(c.isprintable() or c == "\n" for c in said)


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "LARGEST", 100)
    monkeypatch.setattr(bundle, "LOG_HEAD", 10)
    monkeypatch.setattr(bundle, "LOG_TAIL", 20)
    fits, large = tmp_path / "fits", tmp_path / "large"
    fits.write_bytes(b"\xff" * 100)
    large.write_bytes(b"a" * 101)
    log = b"beginning " + b"x" * 50 + b" and this is the end"
    manifest, files, said = made(tmp_path, attached=[str(fits), str(large)], log_name="l", log=log)
    assert manifest["left_out"] == [
        {"path": str(large), "why": "it has 101 bytes, and 100 fit in; attach it by itself"}
    ]
    listed = {each["name"]: each for each in manifest["files"]}
    assert listed["attached/01-fits"]["not_searched"] == "it is not a text"
    assert listed["engine.log"]["bytes_left_out"] == 50
    assert files["engine.log"].startswith(b"beginning \n[50 bytes of the log are left out here]\n")
    assert files["engine.log"].endswith(b"this is the end")
    assert "not searched for secrets" in said
    with pytest.raises(ValueError, match="100 bytes, and 0 fit in"):
        read_plain(str(fits), 0)


def test_all_files_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths:
        path.write_bytes(b"x" * 10_000)
    monkeypatch.setattr(bundle, "ALTOGETHER", 100_000)
    assert made(tmp_path, attached=list(map(str, paths)))[0]["left_out"] == []
    (tmp_path / "b.zip").unlink()
    sized = sum(each["size"] for each in made(tmp_path)[0]["files"])
    (tmp_path / "b.zip").unlink()
    monkeypatch.setattr(bundle, "ALTOGETHER", sized + 25_000)
    manifest = made(tmp_path, attached=list(map(str, paths)))[0]
    assert [each["path"] for each in manifest["left_out"]] == [str(paths[2])]


def test_a_file_that_grows_is_bounded_too() -> None:
    path = Path("/proc/self/maps")  # its size is 0, and it has bytes
    if not path.exists():
        pytest.skip("there is no such file here")
    with pytest.raises(ValueError, match="and 10 fit in"):
        read_plain(str(path), 10)
    assert read_plain(str(path), 10_000_000)


@pytest.mark.parametrize("name", ["\x1b[31m.json", "..json", ".hidden", "a b", "x" * 200])
def test_a_name_in_the_archive_is_plain(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a" / "b" / name
    path.parent.mkdir(parents=True)
    path.write_text("{}", "utf-8")
    _, files, said = made(tmp_path, attached=[str(path)])
    (stored,) = (each for each in files if each.startswith("attached/"))
    assert stored.count("/") == 1
    assert ".." not in stored
    assert len(stored) < 100
    assert stored.isprintable()
    assert "\x1b" not in said


@pytest.mark.parametrize("nameless", [True, False])
def test_an_archive_is_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool
) -> None:
    if not nameless:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    path = tmp_path / "b.zip"
    archive.write_new(path, b"first")
    with pytest.raises(FileExistsError, match="never overwritten"):
        archive.write_new(path, b"second")
    assert path.read_bytes() == b"first"
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(FileExistsError):
        archive.write_new(tmp_path / "link", b"x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.zip", "link"]


def test_a_file_system_without_second_names_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    archive.write_new(tmp_path / "b.zip", b"data")
    assert (tmp_path / "b.zip").read_bytes() == b"data"
    with pytest.raises(FileExistsError):
        archive.write_new(tmp_path / "b.zip", b"more")
    assert [p.name for p in tmp_path.iterdir()] == ["b.zip"]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("nameless", [True, False])
def test_a_kill_half_way_leaves_no_half_written_archive(tmp_path: Path, nameless: bool) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom harness.doctor import archive\n"
        "def half(handle, data):\n"
        "    os.write(handle, data[:2])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"if not {nameless}: vars(os).pop('O_TMPFILE', None)\n"
        "archive._fill = half\narchive.write_new(Path('b.zip'), b'data')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / "b.zip").exists()
    left = [p.name for p in tmp_path.iterdir()]
    assert left == [] or all(name.startswith(".b.zip.") for name in left)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive, "_fill", full)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left") as failed:
            archive.write_new(tmp_path / "b.zip", b"data")
        assert failed.value.filename == str(tmp_path / "b.zip")
        assert list(tmp_path.iterdir()) == []
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)


def bare(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Where nothing is installed."""
    return subprocess.run(
        [sys.executable, "-S", "-W", "error", "-m", "harness.doctor", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def test_the_command_makes_a_bundle_where_nothing_is_installed(tmp_path: Path) -> None:
    (tmp_path / "e.log").write_text(f"EI0006: late {HUB}\n", "utf-8")
    (tmp_path / "c.json").write_text("{}", "utf-8")
    ended = bare(
        tmp_path, "--device", "fake", "--log", "e.log", "--bundle", "b.zip", "--attach", "c.json",
        "--attach", "none.json",
    )  # fmt: skip
    assert ended.stderr == ""
    assert ended.returncode == 1  # the log's error
    assert "fake: ready" in ended.stdout
    assert "error: hccl-timeout" in ended.stdout
    assert "left out: none.json: No such file or directory" in ended.stdout
    _, files = opened(tmp_path / "b.zip")
    assert {"engine.log", "log-findings.txt", "attached/01-c.json"} <= set(files)
    again = bare(tmp_path, "--device", "fake", "--bundle", "b.zip")
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == (
        "harness: error: b.zip: it is there already and is never overwritten; name another\n"
    )


def test_a_log_that_is_not_there_is_noted_in_the_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(
        ["--device", "fake", "--log", str(tmp_path / "no"), "--bundle", str(tmp_path / "b")]
    )
    assert status == 0
    manifest, files = opened(tmp_path / "b")
    assert [each["why"] for each in manifest["left_out"]] == ["No such file or directory"]
    assert "engine.log" not in files
    assert "left out: " in capsys.readouterr().out


def test_json_alone_goes_to_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    run("fake", as_json=True, bundle=str(tmp_path / "b.zip"), out=out)
    assert json.loads(out.getvalue())["ready"] is True
    assert "wrote " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--attach", "x.json"], "--attach goes into a bundle: give --bundle too"),
        (["--bundle", "no/such/folder/b.zip"], "there is no such folder"),
        (["--bundle", ""], "it is there already"),
    ],
)
def test_wrong_usage_of_a_bundle_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.cli.main import main as cli

    ended = bare(tmp_path, "--device", "fake", *arguments)
    assert ended.returncode == 2
    assert said in ended.stderr.splitlines()[-1]
    with pytest.raises(SystemExit) as exited:
        sys.exit(cli(["doctor", "--device", "fake", *arguments]))
    assert exited.value.code == 2
    assert said in capsys.readouterr().err


def test_the_harness_command_makes_a_bundle_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.cli.main import main as cli

    path = tmp_path / "b.zip"
    attached = tmp_path / "c.json"
    attached.write_text("{}", "utf-8")
    with pytest.raises(SystemExit) as exited:
        sys.exit(
            cli(["doctor", "--device", "fake", "--bundle", str(path), "--attach", str(attached)])
        )
    assert not exited.value.code
    assert "attached/01-c.json" in opened(path)[1]
    assert "Look through it" in capsys.readouterr().out

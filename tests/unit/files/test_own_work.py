"""Half-finished work is taken over from oneself alone."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.files.own import is_sealed, seal
from harness.files.user_folder import cache_folder, state_folder

posix = pytest.mark.skipif(sys.platform == "win32", reason="owners and modes are POSIX")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "harness"


def test_a_seal_is_of_its_parts_in_their_order(state: Path) -> None:
    assert is_sealed(seal(b"a", b"bc"), b"a", b"bc")
    for parts in ((b"ab", b"c"), (b"bc", b"a"), (b"a", b"bc", b""), (b"abc",), ()):
        assert not is_sealed(seal(b"a", b"bc"), *parts)
    for told in ("", b"", b"\xff", "é", seal(b"a", b"bc")[:-1]):
        assert not is_sealed(told, b"a", b"bc")


def test_another_key_is_another_user(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = seal(b"work")
    assert seal(b"work") == mine
    monkeypatch.setenv("XDG_STATE_HOME", str(state.parent.parent / "stranger"))
    assert not is_sealed(mine, b"work")


@posix
def test_the_key_is_readable_by_its_owner_alone(state: Path) -> None:
    seal(b"work")
    assert [p.name for p in state.iterdir()] == ["own.key"]
    assert stat.S_IMODE((state / "own.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) & 0o077 == 0


@posix
@pytest.mark.parametrize("planted", ["readable by others", "a link", "short", "a FIFO"])
def test_a_key_that_others_may_know_is_not_used(state: Path, planted: str) -> None:
    state.mkdir(parents=True)
    key = b"k" * (31 if planted == "short" else 32)
    elsewhere = state / "elsewhere"
    elsewhere.write_bytes(key)
    elsewhere.chmod(0o600)
    if planted == "a link":
        os.symlink(elsewhere, state / "own.key")
    elif planted == "a FIFO":
        os.mkfifo(state / "own.key", 0o600)
    else:
        (state / "own.key").write_bytes(key)
        (state / "own.key").chmod(0o644 if planted == "readable by others" else 0o600)
    import hashlib
    import hmac

    known = hmac.new(key, (4).to_bytes(8, "big") + b"work", hashlib.sha256).hexdigest()[:32]
    assert not is_sealed(known, b"work")
    assert is_sealed(seal(b"work"), b"work")  # of this process


@posix
@pytest.mark.parametrize("there", ["a stranger's", "a link", "writable by others", "a file"])
def test_without_a_home_a_strangers_folder_is_refused(
    there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HARNESS_CACHE", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = cache_folder()
    assert folder == state_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.rmdir()
    if there == "a link":
        os.symlink(tmp_path, folder)
    elif there == "a file":
        folder.touch()
    else:
        folder.mkdir()
        folder.chmod(0o777 if there == "writable by others" else 0o755)
    if there == "a stranger's":
        mine = os.getuid()
        monkeypatch.setattr("os.getuid", lambda: mine)
        os.rename(folder, tmp_path / f"harness-cache-{mine + 1}")
        monkeypatch.setattr("os.getuid", lambda: mine + 1)
    for place in (cache_folder, state_folder):
        with pytest.raises(HarnessError, match=r"harness-cache-.*HARNESS_CACHE"):
            place()


def test_a_relative_folder_would_lie_in_the_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_folder() == tmp_path / ".local/state/harness"

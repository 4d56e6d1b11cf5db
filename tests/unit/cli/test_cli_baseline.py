from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
MAKE = ("baseline", "make", "--device", "fake-reference", "--model", "fake", "--suite", "s.yaml")
FOLDER = Path("baselines/fake/s/bfloat16")


def _files(folder: Path = FOLDER) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_make_names_the_arms_and_how_to_approve(command: Command) -> None:
    ended = command(*MAKE, "--baseline-dir", "other")
    assert ended.status == 0
    assert ended.out == (
        "other/fake/s/bfloat16: 24 positions; reference, oracle, control-seed-1, control-seed-2\n"
        "Approve it by committing it.\n"
    )
    for arm in ("reference: free", "oracle: forced-prefill", "control-seed-2: forced-decode"):
        assert arm in ended.err


def test_make_replaces_what_stood_there(command: Command) -> None:
    before = _files()
    assert command(*MAKE, "--max-new-tokens", "3").status == 0
    after = _files()
    assert after.keys() == before.keys()
    assert after["reference.json"] != before["reference.json"]
    assert os.listdir(FOLDER.parent) == ["bfloat16"]


def test_make_around_a_recording_follows_its_tokens(command: Command) -> None:
    record = ("record", "--device", "fake", "--suite", "s.yaml", "--out", "c.json")
    assert command(*record, "--engine-arg", "seed=5").status == 0
    assert command(*MAKE, "--context", "c.json", "--baseline-dir", "other").status == 0
    ended = command("compare", "c.json", "other/fake/s/bfloat16")
    assert ended.status == 0
    assert ended.out.startswith("EQUIVALENT: ")


def test_make_around_tokens_of_another_suite_is_refused(
    command: Command, project_folder: Path
) -> None:
    file = project_folder / "s.yaml"
    file.write_text(file.read_text("utf-8").replace("Hello there", "Hello where"), "utf-8")
    ended = command(*MAKE, "--context", FOLDER / "reference.json", "--baseline-dir", "other")
    assert ended.status == 2
    assert "no prompt alpha with these token ids" in ended.error
    assert not list(project_folder.glob("other/*/*/bfloat16"))


def test_an_interrupted_making_is_taken_up_again(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.devices.fake import FakeDevice

    original = FakeDevice.open

    def stop_at_seed_2(self: FakeDevice) -> Any:
        if self.seed == 2:
            raise KeyboardInterrupt
        return original(self)

    before = _files()
    with monkeypatch.context() as patched:
        patched.setattr(FakeDevice, "open", stop_at_seed_2)
        assert command(*MAKE).status == 130
    staging = FOLDER.with_name(".bfloat16.making")
    left = _files(staging)
    assert sorted(left) == ["control-seed-1.json", "oracle.json", "reference.json"]
    assert _files() == before

    ended = command(*MAKE)
    assert ended.status == 0
    assert ended.err.count("finished before") == 3
    made = _files()
    assert {name: made[name] for name in left} == left
    assert "control-seed-2.json" in made
    assert not staging.exists()


def test_what_an_interrupted_making_left_is_not_taken_around_other_tokens(
    command: Command,
) -> None:
    record = ("record", "--device", "fake", "--suite", "s.yaml", "--out", "c.json")
    assert command(*record, "--engine-arg", "seed=5").status == 0
    shutil.copytree(FOLDER, "other/fake/s/.bfloat16.making")
    ended = command(*MAKE, "--context", "c.json", "--baseline-dir", "other")
    assert ended.status == 0
    assert "finished before" not in ended.err
    assert command("compare", "c.json", "other/fake/s/bfloat16").out.startswith("EQUIVALENT: ")


def test_a_full_disk_leaves_the_old_baseline_and_no_half_new_one(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target).name == "oracle.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(source, target)

    before = _files()
    with monkeypatch.context() as patched:
        patched.setattr("harness.files.atomic.os.replace", full)
        for place in ("baselines", "other"):
            ended = command(*MAKE, "--baseline-dir", place)
            assert ended.status == 2
            assert "oracle.json: cannot be written (No space left on device)" in ended.error
    assert _files() == before
    assert not Path("other/fake/s/bfloat16").exists()
    assert command("baseline", "list", "--baseline-dir", "other").out == "other: no baselines\n"


def test_a_device_without_a_model_has_no_gradients(command: Command) -> None:
    before = _files()
    ended = command(*MAKE, "--diagnose")
    assert ended.status == 2
    assert "has no model" in ended.error
    assert _files() == before


def test_a_file_in_the_place_of_the_folder_is_one_line(command: Command) -> None:
    Path("other").write_text("in the way")
    ended = command(*MAKE, "--baseline-dir", "other")
    assert ended.status == 2
    assert "other/fake/s/bfloat16: cannot be written" in ended.error


@pytest.mark.parametrize("action", ["list", "prune"])
def test_a_mistyped_folder_is_one_line(command: Command, action: str) -> None:
    ended = command("baseline", action, "--baseline-dir", "baselnes")
    assert ended.status == 2
    assert ended.error == (
        "--baseline-dir baselnes: no such folder; name the folder of all baselines"
    )
    ended = command("baseline", action, "--baseline-dir", "s.yaml")
    assert ended.status == 2
    assert ended.error.startswith("--baseline-dir s.yaml: is a file; ")


def test_a_project_without_baselines_is_no_mistake(command: Command) -> None:
    shutil.rmtree("baselines")
    ended = command("baseline", "list")
    assert (ended.status, ended.out) == (0, "baselines: no baselines\n")


def test_list_says_what_each_baseline_holds(command: Command) -> None:
    ended = command("baseline", "list")
    assert ended.status == 0
    (line,) = ended.out.splitlines()
    assert line.startswith("baselines/fake/s/bfloat16  4 prompts  24 positions  fake-reference  20")
    assert line.endswith("reference, oracle, control-seed-1, control-seed-2")


def test_list_goes_on_after_a_damaged_baseline(command: Command) -> None:
    shutil.copytree(FOLDER, "baselines/fake/r/bfloat16")
    Path("baselines/fake/r/bfloat16/oracle.json").write_text("{")
    ended = command("baseline", "list")
    assert ended.status == 2
    damaged, good = ended.out.splitlines()
    assert damaged.startswith("baselines/fake/r/bfloat16  unusable: ")
    assert "oracle.json" in damaged
    assert good.startswith("baselines/fake/s/bfloat16  4 prompts")


def test_diff_of_equal_baselines_is_status_zero(command: Command) -> None:
    shutil.copytree(FOLDER, "copy")
    ended = command("baseline", "diff", FOLDER, "copy")
    assert (ended.status, ended.out) == (0, "0 of 24 reference rows differ\n")


def test_diff_names_fields_and_counts_rows(command: Command) -> None:
    assert command(*MAKE, "--baseline-dir", "other", "--max-new-tokens", "5").status == 0
    ended = command("baseline", "diff", FOLDER, "other/fake/s/bfloat16")
    assert ended.status == 1
    lines = ended.out.splitlines()
    assert "settings.max_new_tokens: 6 -> 5" in lines
    assert lines[0].startswith("suite.digest: ")
    assert lines[-1] == "4 of 24 reference rows differ"


def test_diff_takes_single_recordings(command: Command) -> None:
    ended = command("baseline", "diff", FOLDER, FOLDER / "control-seed-1.json")
    assert ended.status == 1
    assert ended.out.splitlines()[-1] == "24 of 24 reference rows differ"


def test_prune_lists_and_removes_with_yes_only(command: Command) -> None:
    staging = FOLDER.with_name(".float16.making")
    shutil.copytree(FOLDER, staging)
    Path("prompts").mkdir()
    shutil.copy("s.yaml", "prompts/s.yaml")
    line = f"{staging.as_posix()}: left by an interrupted run\n"

    dry = command("baseline", "prune")
    assert (dry.status, dry.out) == (0, f"would remove {line}give --yes to remove\n")
    assert staging.exists()

    done = command("baseline", "prune", "--yes")
    assert (done.status, done.out) == (0, f"removed {line}")
    assert not staging.exists()
    assert FOLDER.exists()
    assert command("baseline", "prune").out == "nothing to prune\n"


def test_prune_finds_baselines_of_a_changed_suite(command: Command) -> None:
    Path("prompts").mkdir()
    text = Path("s.yaml").read_text("utf-8")
    Path("prompts/s.yaml").write_text(text.replace("Hello there", "Hello where"), "utf-8")
    ended = command("baseline", "prune")
    assert f"would remove {FOLDER.as_posix()}: its suite has changed\n" in ended.out


def _newer_schema(text: str) -> str:
    return text.replace("harness.recording/3", "harness.recording/99", 1)


def _lfs_pointer(_text: str) -> str:
    return "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 5\n"


@pytest.mark.parametrize(
    "change", [_newer_schema, _lfs_pointer, lambda _: "{", lambda text: text[:-9], lambda t: t]
)
def test_prune_leaves_what_may_be_good_elsewhere(
    command: Command, change: Callable[[str], str]
) -> None:
    """Also the one as it was made: of a suite that is a file outside of prompts/."""
    arm = FOLDER / "reference.json"
    arm.write_text(change(arm.read_text("utf-8")), "utf-8")
    before = _bytes(FOLDER)
    assert command("baseline", "prune", "--yes").out == "nothing to prune\n"
    assert _bytes(FOLDER) == before


def _bytes(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def _of_a_changed_suite() -> None:
    Path("prompts").mkdir()
    text = Path("s.yaml").read_text("utf-8")
    Path("prompts/s.yaml").write_text(text.replace("Hello there", "Hello where"), "utf-8")


def test_prune_removes_arms_and_no_file_of_the_user(command: Command) -> None:
    _of_a_changed_suite()
    (FOLDER / "README.md").write_text("why this baseline")
    (FOLDER / "notes").mkdir()
    (FOLDER / "control-notes.json").write_text('{"of": "the user"}')
    done = command("baseline", "prune", "--yes")
    assert done.status == 0
    assert done.out.splitlines() == [
        f"removed {FOLDER.as_posix()}: its suite has changed",
        f"kept {FOLDER.as_posix()}, which also holds README.md, control-notes.json, notes",
    ]
    assert sorted(p.name for p in FOLDER.iterdir()) == ["README.md", "control-notes.json", "notes"]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_prune_goes_through_no_link(command: Command, level: int) -> None:
    _of_a_changed_suite()
    place = Path(*FOLDER.parts[: 2 + level])
    elsewhere = Path("home")
    shutil.move(str(place), elsewhere)
    os.symlink(os.path.relpath(elsewhere, place.parent), place)
    before = sorted(elsewhere.rglob("*"))
    assert command("baseline", "prune", "--yes").out == "nothing to prune\n"
    assert sorted(elsewhere.rglob("*")) == before


def test_prune_leaves_hidden_links_and_files(command: Command) -> None:
    home = Path("home")
    home.mkdir()
    (home / "diary.txt").write_text("mine")
    os.symlink(Path("../../..") / home, FOLDER.with_name(".float16.making"))
    FOLDER.with_name(".float16.old").write_text("mine")
    assert command("baseline", "prune", "--yes").out == "nothing to prune\n"
    assert (home / "diary.txt").exists()
    assert FOLDER.with_name(".float16.making").is_symlink()
    assert FOLDER.with_name(".float16.old").is_file()


@pytest.mark.parametrize("name", ["bfloat16", ".bfloat16.making", ".bfloat16.old"])
def test_a_making_goes_through_no_link(command: Command, name: str) -> None:
    home = Path("home")
    home.mkdir()
    for file in ("diary.txt", "reference.json", "control-seed-1.json"):
        (home / file).write_text(f"my {file}")
    shutil.rmtree(FOLDER)
    os.symlink(Path("../../..") / home, FOLDER.with_name(name))
    ended = command(*MAKE)
    assert ended.status == 2
    assert f"{name}: is a link" in ended.error
    assert sorted(p.read_text() for p in home.iterdir()) == [
        "my control-seed-1.json",
        "my diary.txt",
        "my reference.json",
    ]


def test_a_making_goes_through_no_link_above_it(command: Command) -> None:
    shutil.move(str(FOLDER.parent), "home")
    os.symlink("../../home", FOLDER.parent)
    before = _bytes(Path("home/bfloat16"))
    assert "is reached through a link" in command(*MAKE).error
    assert _bytes(Path("home/bfloat16")) == before


def test_the_users_files_move_into_the_new_baseline(command: Command) -> None:
    (FOLDER / "README.md").write_text("why this baseline")
    (FOLDER / "notes").mkdir()
    (FOLDER / "control-gone.json").write_bytes((FOLDER / "oracle.json").read_bytes())
    assert command(*MAKE, "--max-new-tokens", "3").status == 0
    assert (FOLDER / "README.md").read_text() == "why this baseline"
    assert (FOLDER / "notes").is_dir()
    assert not (FOLDER / "control-gone.json").exists()
    assert os.listdir(FOLDER.parent) == ["bfloat16"]


@pytest.mark.parametrize(
    ("place", "file"),
    [
        ("bfloat16", "reference.json"),
        ("bfloat16", "control-mine.json"),
        (".bfloat16.making", "diary.txt"),
        (".bfloat16.making", "reference.json"),
        (".bfloat16.making", "reference.json.partial"),
        (".bfloat16.old", "diary.txt"),
    ],
)
def test_a_making_refuses_what_it_would_replace(command: Command, place: str, file: str) -> None:
    path = FOLDER.with_name(place) / file
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text("the only copy")
    assert path.as_posix() in command(*MAKE).error
    assert path.read_text() == "the only copy"


def test_arms_that_somebody_else_made_are_made_again(command: Command) -> None:
    """An arm in the making is finished work; one that was put there is not."""
    staging = FOLDER.with_name(".bfloat16.making")
    shutil.copytree(FOLDER, staging)
    ended = command(*MAKE)
    assert ended.status == 0
    assert "finished before" not in ended.err


def test_prune_keeps_baselines_of_a_suite_with_a_mistake(command: Command) -> None:
    Path("prompts").mkdir()
    Path("prompts/s.yaml").write_text("prompts: [", "utf-8")
    assert command("baseline", "prune", "--yes").out == "nothing to prune\n"
    assert FOLDER.exists()


def test_other_lengths_of_an_unchanged_suite_are_not_stale(command: Command) -> None:
    Path("prompts").mkdir()
    shutil.copy("s.yaml", "prompts/s.yaml")
    assert command(*MAKE, "--max-new-tokens", "3").status == 0
    assert command("baseline", "prune").out == "nothing to prune\n"

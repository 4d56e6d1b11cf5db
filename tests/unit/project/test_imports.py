"""A reviewer needs no torch: nothing of the judgement imports it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from factories import again, fake_record, fake_suite

from harness.devices.fake import FakeDevice
from harness.recording.format import save_recording

ROOT = Path(__file__).parents[3]
HEAVY = ("torch", "transformers", "vllm", "safetensors")
RUNNER = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ImportError("refused: " + name)
sys.meta_path.insert(0, Refuse())
{{code}}
loaded = sorted(set(sys.modules) & set({HEAVY!r}))
assert not loaded, loaded
"""
#: Modules that run only inside an engine, which they import: (module, why).
INSIDE_AN_ENGINE = {
    "harness.devices.vllm.worker": "vLLM's worker imports it by its path, and it derives from "
    "a class of vLLM's",
    "harness.devices.vllm.weights": "only the worker imports it: it looks at tensors",
}
#: Imports each module with nothing of harness loaded; what others import is kept.
ALONE = """
import importlib, pkgutil, harness
names = [m.name for m in pkgutil.walk_packages(harness.__path__, "harness.")]
assert len(names) > 200
for name in ["harness", *names]:
    for loaded in [m for m in sys.modules if m.partition(".")[0] == "harness"]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(name, error)
"""
#: Between them they import nearly all the others.
BASE = ["harness.api", "harness.cli.main", "harness.plugin", "harness.testing"]


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUNNER.format(code=code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def command(*arguments: str) -> str:
    return python(
        "from harness.cli.main import main\n"
        "try:\n"
        f"    main({list(arguments)!r})\n"
        "except SystemExit as end:\n"
        "    print('status', end.code)\n"
    )


def test_the_base_install_imports_without_torch_and_without_a_warning() -> None:
    python("import importlib\n" + f"for name in {BASE!r}: importlib.import_module(name)")


@pytest.mark.process
def test_every_module_imports_by_itself_and_without_torch() -> None:
    refused = dict(line.split(" ", 1) for line in python(ALONE).splitlines())
    assert set(refused) == set(INSIDE_AN_ENGINE), refused
    assert all(why.startswith("refused: ") for why in refused.values()), refused


def test_the_root_holds_the_doors_and_nothing_else() -> None:
    found = sorted(path.name for path in (ROOT / "harness").glob("*.py"))
    assert len(found) <= 8, found


def test_the_package_itself_imports_nothing() -> None:
    python(
        "import harness\n"
        "others = {'numpy', 'pydantic', 'pandas', 'jinja2', 'typer', 'yaml', 'rich', 'pytest'}\n"
        "assert not others & set(sys.modules)\n"
    )


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], ["--version"]])
def test_help_needs_no_torch(arguments: list[str]) -> None:
    assert "status 0" in command(*arguments)


@pytest.mark.process
def test_two_recordings_are_compared_and_reported_without_torch(tmp_path: Path) -> None:
    suite = fake_suite(prompts=2, tokens=3)
    made = {name: fake_record(FakeDevice(seed=seed), suite) for name, seed in (("a", 0), ("b", 5))}
    for name, recording in {**made, "second": again(made["a"])}.items():
        save_recording(recording, tmp_path / f"{name}.json")
    a, b, second, report = (
        str(tmp_path / name) for name in ("a.json", "b.json", "second.json", "r.html")
    )
    text = command("compare", second, a, "--report", report)
    assert "BIT_EXACT" in text
    assert "status 0" in text
    assert (tmp_path / "r.html").stat().st_size > 1000
    assert "status 3" in command("compare", a, b)

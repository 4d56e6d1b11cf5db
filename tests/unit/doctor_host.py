"""A made-up Ascend host: files under a temporary root, packages that only pretend.

The hardware is what is faked here, and with it what is compiled for it: torch,
torch_npu, vLLM and vLLM-Ascend are small Python packages of the same names that
answer, or fail, with the messages of the real ones. The doctor itself runs as
it is, child processes included.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.doctor import Diagnosis, Host, diagnose
from harness.doctor.finding import Finding

HOME = "/usr/local/Ascend/ascend-toolkit/latest"
ATB = "/usr/local/Ascend/nnal/atb/latest/atb/cxx_abi_1"
DETERMINISM = {
    "HCCL_DETERMINISTIC": "true",
    "LCCL_DETERMINISTIC": "1",
    "ATB_MATMUL_SHUFFLE_K_ENABLE": "0",
    "ATB_LLM_LCOC_ENABLE": "0",
    "CLOSE_MATMUL_K_SHIFT": "1",
}
NOT_FOUND = "cannot open shared object file: No such file or directory"

TORCH = """
import os
__version__ = "{version}"
bfloat16 = "bfloat16"
class _Full:
    def __init__(self, n, value): self.n, self.value = n, value
    def __matmul__(self, other): return _Full(self.n, self.n * self.value * other.value)
    def float(self): return self
    cpu = flatten = float
    def tolist(self): return [self.value] * self.n**2
def ones(n, m, dtype, device): return _Full(n, 1.0)
if os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD", "1") == "1" and {autoload}:
    try:
        import torch_npu
    except Exception as error:
        raise RuntimeError(
            "Failed to load the backend extension: torch_npu. You can disable extension "
            "auto-loading with TORCH_DEVICE_BACKEND_AUTOLOAD=0."
        ) from error
"""
TORCH_NPU = """
import sys, types
__version__ = "{version}"
torch = sys.modules["torch"]
torch.npu = types.SimpleNamespace(
    device_count=lambda: {count},
    get_device_name=lambda index: "Ascend910B3",
    mem_get_info=lambda: ({free} << 20, 65536 << 20),
)
"""
VLLM = """
import torch
__version__ = "{version}"
class LLM: pass
"""
PLATFORMS = """
import types
current_platform = types.SimpleNamespace(device_type="npu")
"""

_TITLE = (
    "| npu-smi {v}                   Version: {v}                                               |"
)
_RULE = "+---------------------------+---------------+----------------------------------------+"
_HEAD = """\
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
"""
_CHIP = """\
| {npu}     {name}               | {health}            | 97.5        {temp}                0    / 0             |
| {chip}  {phy}                       | 0000:{bus}:00.0  | {core}           0    / 0          {used} / 65536         |
+===========================+===============+====================================================+
"""  # noqa: E501


def npu_smi_output(
    names: tuple[str, ...] = ("910B3", "910B3"),
    *,
    version: str = "25.2.0",
    used: int = 3379,
    core: int = 0,
    temp: int = 41,
    health: str = "OK",
) -> str:
    """What ``npu-smi info`` prints for one chip a name."""
    chips = "".join(
        _CHIP.format(
            npu=i,
            name=n,
            health=health,
            temp=temp,
            chip=0,
            phy=" ",
            bus=f"C{i}",
            core=core,
            used=used,
        )
        for i, n in enumerate(names)
    )
    return f"{_RULE}\n{_TITLE.format(v=version)}\n{_RULE}\n{_HEAD}{chips}"


@dataclass
class FakeAscend:
    """A healthy host with two cards, vLLM-Ascend 0.18.0, CANN 8.5.1; made ill by the test."""

    tmp: Path
    environment: dict[str, str] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    python_version: str = "3.11.9"

    def __post_init__(self) -> None:
        for folder in ("root", "bin", "site", "work"):
            (self.tmp / folder).mkdir()
        self._files()
        self._commands()
        self._packages()
        self.environment.update(
            DETERMINISM,
            PATH=str(self.tmp / "bin"),
            PYTHONPATH=str(self.tmp / "site"),
            ASCEND_HOME_PATH=HOME,
            ATB_HOME_PATH=ATB,
            LD_LIBRARY_PATH=f"{HOME}/lib64:{ATB}/lib",
            PYTHONDONTWRITEBYTECODE="1",
        )

    def host(self) -> Host:
        """The host as the doctor takes it; ``-S`` hides what is really installed."""
        return Host(
            root=self.tmp / "root",
            environment=self.environment,
            cwd=self.tmp / "work",
            python=(sys.executable, "-S"),
            python_version=self.python_version,
            may_use=lambda path: path.name not in self.denied,
        )

    def diagnose(self, device: str | None = "npu") -> Diagnosis:
        """The doctor's word on it."""
        return diagnose(device, self.host(), limit_s=30)

    def codes(self, device: str | None = "npu") -> list[str]:
        """The codes of all findings."""
        return [finding.code for finding in self.diagnose(device).findings]

    def write(self, path: str, text: str = "") -> Path:
        """A file of the host, by its absolute path."""
        target = self.tmp / "root" / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def remove(self, path: str) -> None:
        """Take a file of the host away."""
        (self.tmp / "root" / path.lstrip("/")).unlink()

    def command(self, name: str, out: str, status: int = 0) -> None:
        """A command on the PATH that prints ``out``."""
        (self.tmp / "bin" / f"{name}.out").write_text(out)
        script = self.tmp / "bin" / name
        script.write_text(f'#!/bin/sh\n/bin/cat "$0.out"\nexit {status}\n')
        script.chmod(0o755)

    def no_command(self, name: str) -> None:
        """Take a command away."""
        (self.tmp / "bin" / name).unlink()

    def module(self, path: str, text: str) -> None:
        """A file of an installed package."""
        target = self.tmp / "site" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def distribution(
        self, name: str, version: str, record: Mapping[str, int] | None = None
    ) -> None:
        """What pip writes beside a package; of ``record`` the files with their sizes."""
        for old in (self.tmp / "site").glob(f"{name}-*.dist-info"):
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
        folder = f"{name}-{version}.dist-info"
        self.module(
            f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        lines = [f"{path},sha256=x,{size}\n" for path, size in (record or {}).items()]
        self.module(f"{folder}/RECORD", "".join(lines))

    def uninstall(self, name: str) -> None:
        """Take a distribution and its package away."""
        for path in (self.tmp / "site").glob(f"{name}*"):
            for file in (*path.rglob("*"),):
                if file.is_file():
                    file.unlink()

    def torch(self, version: str = "2.9.0", *, autoload: bool = True) -> None:
        """Install torch."""
        self.module("torch/__init__.py", TORCH.format(version=version, autoload=autoload))
        self.distribution("torch", version)

    def torch_npu(self, version: str = "2.9.0.post1", *, count: int = 2, free: int = 61000) -> None:
        """Install torch_npu; ``free`` device memory in MB."""
        text = TORCH_NPU.format(version=version, count=count, free=free)
        self.module("torch_npu/__init__.py", text)
        self.distribution("torch_npu", version)

    def vllm(self, version: str = "0.18.0+empty") -> None:
        """Install vLLM."""
        self.module("vllm/__init__.py", VLLM.format(version=version))
        self.module("vllm/platforms/__init__.py", PLATFORMS)
        self.distribution("vllm", version)

    def vllm_ascend(self, version: str = "0.18.0", kind: str = "A2") -> None:
        """Install vLLM-Ascend, built for a kind of card."""
        self.module("vllm_ascend/__init__.py", f'__version__ = "{version}"\n')
        self.module("vllm_ascend/_build_info.py", f"__device_type__ = '{kind}'\n")
        self.distribution("vllm_ascend", version)

    def breaks(self, package: str, error: str) -> None:
        """Let an import of a package raise; ``error`` is Python."""
        self.module(f"{package}/__init__.py", f"raise {error}\n")

    def _files(self) -> None:
        for name in ("davinci0", "davinci1", "davinci_manager", "devmm_svm", "hisi_hdc"):
            self.write(f"/dev/{name}")
        self.write("/usr/local/Ascend/driver/lib64/driver/libascend_hal.so")
        self.write("/usr/local/Ascend/driver/version.info", "Version=25.2.0\n")
        self.write("/usr/local/Ascend/ascend-toolkit/set_env.sh")
        self.write("/usr/local/Ascend/nnal/atb/set_env.sh")
        self.write(f"{HOME}/lib64/libhccl.so")
        self.write(f"{ATB}/lib/libatb.so")
        self.cann("8.5.1")
        self.write(
            "/proc/cpuinfo", "processor : 0\nmodel name : Kunpeng-920\nFeatures : asimd bf16\n"
        )
        self.write("/proc/meminfo", "MemTotal: 800000000 kB\nMemAvailable: 700000000 kB\n")

    def cann(self, version: str) -> None:
        """The version that CANN says it is."""
        text = f"package_name=Ascend-cann-toolkit\nversion={version}\npath={HOME}\n"
        self.write(f"{HOME}/aarch64-linux/ascend_toolkit_install.info", text)

    def _commands(self) -> None:
        self.command("npu-smi", npu_smi_output())
        self.command(
            "lspci", "c1:00.0 1200: 19e5:d802 (rev 20)\nc2:00.0 1200: 19e5:d802 (rev 20)\n"
        )

    def _packages(self) -> None:
        self.torch()
        self.torch_npu()
        self.vllm()
        self.vllm_ascend()
        self.distribution("triton_ascend", "3.2.0")
        self.module(
            "transformers/__init__.py",
            '__version__ = "4.57.1"\nimport torch\nclass LlamaForCausalLM: pass\n',
        )
        self.distribution("transformers", "4.57.1")


Illness = Callable[[FakeAscend], None]


def only(host: FakeAscend, device: str | None = "npu") -> Finding:
    """The one finding that there is."""
    findings = host.diagnose(device).findings
    assert [f.code for f in findings][1:] == [], [f.code for f in findings]
    assert findings, "nothing was found"
    return findings[0]


def breaks(package: str, error: str) -> Illness:
    """An import that raises."""
    return lambda host: host.breaks(package, error)


def import_error(package: str, library: str) -> Illness:
    """An import that misses a shared library."""
    return breaks(package, f'ImportError("{library}: {NOT_FOUND}")')


def no_device_files(host: FakeAscend) -> None:
    """A card on the PCI bus that nobody handed over."""
    for name in ("davinci0", "davinci1", "davinci_manager"):
        host.remove(f"/dev/{name}")
    host.no_command("npu-smi")
    host.torch_npu(count=0)


def not_sourced(host: FakeAscend) -> None:
    """CANN is there and its set_env.sh was not sourced."""
    for name in ("ASCEND_HOME_PATH", "LD_LIBRARY_PATH"):
        del host.environment[name]
    import_error("torch_npu", "libhccl.so")(host)


def hbm_in_use(host: FakeAscend) -> None:
    """Somebody else holds memory of the cards."""
    host.command("npu-smi", npu_smi_output(used=27547))
    host.torch_npu(free=65536 - 27547)

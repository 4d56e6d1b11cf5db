"""Does the verdict hold where the ranks are on two hosts, and what if one of these dies?

    python benchmarks/two_hosts.py --out benchmarks/results/two_hosts.jsonl [NAME...]

Makes two hosts of this one and joins them by Ray: each has a network, a host name, processes, a
clock, /tmp, /dev/shm and one processor of its own, and they share files. Their interfaces have
different names, and the name of a host means its loopback, as on Debian. Each has one place for a
rank. In the first `pytest --device=vllm-cpu --suite=port` is run with two ranks, against the
committed baseline; in a case of `dies` the second host is killed, or its cable is cut, while the
run generates. A line of JSON for each says the exit status, verdict and seconds. Needs root,
Linux, `ip`, `unshare` and `nsenter`, and Ray beside vLLM in the interpreter that runs this.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RAY = {"distributed_executor_backend": "ray"}
TENSOR = {"tensor_parallel_size": "2", **RAY}
PIPELINE = {"pipeline_parallel_size": "2", **RAY}
#: The model and the engine arguments of each case, and what happens to the second host.
CASES: Mapping[str, tuple[str, Mapping[str, str], str]] = {
    "pipeline-2-hosts": ("smollm2", PIPELINE, ""),
    "tensor-2-hosts": ("gemma3-270m", TENSOR, ""),
    "host-dies": ("smollm2", PIPELINE, "killed"),
    "cable-cut": ("smollm2", PIPELINE, "cut"),
}
PORT = 6379
#: What a host has for itself.
SPACES = ("--net", "--mount", "--ipc", "--uts", "--pid", "--time")
#: Ray on one host lets nobody in from the other without a common secret; and its workers would
#: give way to every other process.
VARIABLES = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": uuid.uuid4().hex * 2,
    "RAY_worker_niceness": "0",
}
#: Run in a host that has just been made; it stays until it is killed.
SETTLE = """
hostname {name}
mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /dev/shm
mount --bind {hosts} /etc/hosts && mount --bind /dev/null /etc/resolv.conf
ip link set lo up
echo made
exec sleep infinity
"""


class Host:
    """A host of its own inside this one.

    Attributes:
        process: its first one, seen from outside.
    """

    def __init__(self, number: int, folder: Path) -> None:
        self.name, self.address = f"host{number}", f"10.77.0.{number}"
        self.interface = ("lan0", "wan7")[number - 1]
        cores = sorted(os.sched_getaffinity(0))
        self.core = str(cores[(number - 1) % len(cores)])
        hosts = folder / f"hosts{number}"
        # There is nobody to ask for names, and asking takes seconds.
        known = "10.77.0.1 one\n10.77.0.2 two\n"
        hosts.write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n{known}", "utf-8")
        later = str(number * 1_000_000)
        apart = [*SPACES, "--fork", "--mount-proc", "--kill-child"]
        apart += ["--monotonic", later, "--boottime", later]
        settle = SETTLE.format(name=self.name, hosts=hosts)
        self._made = subprocess.Popen(
            ["unshare", *apart, "sh", "-c", settle], stdout=subprocess.PIPE
        )
        assert self._made.stdout is not None
        if self._made.stdout.readline() != b"made\n":
            raise SystemExit(f"{self.name} could not be made")
        children = Path(f"/proc/{self._made.pid}/task/{self._made.pid}/children")
        self.process = int(children.read_text("ascii").split()[0])

    def command(self, *command: str) -> list[str]:
        """A command as one of this host."""
        enter = ["nsenter", f"--target={self.process}", *SPACES, f"--wd={ROOT}"]
        return ["taskset", "--cpu-list", self.core, *enter, *command]

    def run(self, *command: str) -> None:
        done = subprocess.run(
            self.command(*command),
            env=os.environ | VARIABLES,
            check=False,
            capture_output=True,
            text=True,
            timeout=180,
        )
        if done.returncode:
            raise SystemExit(f"{self.name}: {' '.join(command)}: {done.stdout}{done.stderr}")

    def left(self) -> list[str]:
        """Its processes, with the cluster's own."""
        found = subprocess.run(
            self.command("ps", "-eo", "pid,args", "--no-headers", "--cols", "100"),
            check=False,
            capture_output=True,
            text=True,
        ).stdout
        return [line.strip() for line in found.splitlines()]

    def end(self) -> None:
        """All its processes are killed."""
        self._made.kill()
        self._made.wait()
        while Path(f"/proc/{self.process}").exists():
            time.sleep(0.05)


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[Host, Host]]:
    """Two hosts with a cable between them, and Ray on both."""
    with ExitStack() as stack:
        first, second = (Host(number, folder) for number in (1, 2))
        for host in (first, second):
            stack.callback(host.end)
        cable = ["ip", "link", "add", first.interface, "netns", str(first.process), "type", "veth"]
        peer = ["peer", "name", second.interface, "netns", str(second.process)]
        subprocess.run([*cable, *peer], check=True)
        for host, other in ((first, second), (second, first)):
            host.run("ip", "address", "add", f"{host.address}/24", "dev", host.interface)
            host.run("ip", "link", "set", host.interface, "up")
            host.run("ip", "route", "add", "default", "via", other.address)
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--num-gpus", "1"]
        ray += ["--object-store-memory", "200000000", "--disable-usage-stats"]
        first.run(*ray, "--head", "--port", str(PORT), "--include-dashboard", "false")
        second.run(*ray, "--address", f"{first.address}:{PORT}")
        yield first, second


def run(name: str) -> dict[str, Any]:
    """Run a case; its line."""
    model, arguments, fate = CASES[name]
    # /tmp of the hosts is their own.
    (ROOT / "build").mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=ROOT / "build") as text,
        cluster(Path(text)) as (first, second),
    ):
        line: dict[str, Any] = {"case": name, "model": model, "engine_args": arguments}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["--device=vllm-cpu", "--suite=port", f"--model={model}"]
        command += [f"--report-dir={text}"]
        command += [f"--engine-arg={key}={value}" for key, value in arguments.items()]
        started = struck = time.monotonic()
        with open(Path(text) / "said", "wb") as said:
            process = subprocess.Popen(
                first.command(*command),
                env=os.environ | VARIABLES | {"RAY_ADDRESS": f"{first.address}:{PORT}"},
                stdout=said,
                stderr=subprocess.STDOUT,
            )
            if fate:
                wait_for_rows(process, first, second)
                struck = time.monotonic()
                line["struck_s"] = round(struck - started)
                strike(fate, second)
            line["status"] = process.wait(1500)
        line["seconds"] = round(time.monotonic() - (struck if fate else started), 1)
        line["load_1min"] = round(os.getloadavg()[0], 1)
        line |= read(Path(text), fate)
        time.sleep(5)
        left = [*first.left(), *(() if fate else second.left())]
        line["processes_left"] = [each for each in left if "Worker" in each or "pytest" in each]
    return line


def wait_for_rows(process: subprocess.Popen[bytes], *hosts: Host) -> None:
    """Until the first row was written in one of the hosts."""
    while process.poll() is None:
        for host in hosts:
            folder = Path(f"/proc/{host.process}/root/tmp")
            if any(folder.glob("harness-rows-*/[0-9]*")):
                return
        time.sleep(0.2)


def strike(fate: str, host: Host) -> None:
    if fate == "killed":
        os.kill(host.process, signal.SIGKILL)
    else:
        host.run("ip", "link", "set", host.interface, "down")


def read(folder: Path, fate: str) -> dict[str, Any]:
    """What the run left: verdict and facts, or what it said."""
    line: dict[str, Any] = {}
    for file in folder.rglob("*.json"):
        found = json.loads(file.read_text("utf-8"))
        if "verdict" in found:
            line |= {"verdict": found["verdict"], "error_ratio": found["error_ratio"]}
        elif "load" in found:
            line["load_s"] = round(found["load"]["load_s"])
            told = found["environment"].items()
            line["environment"] = {k: v for k, v in told if k.startswith("ranks.")}
            line["threads"] = found["engine"]["threads"]
    if fate or "verdict" not in line:
        said = (folder / "said").read_text("utf-8", "replace").splitlines()
        line["said"] = [text for text in said if text.strip()][-4:]
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for name in options.cases or CASES:
        line = json.dumps(run(name))
        print(line, flush=True)
        with options.out.open("a", encoding="utf-8") as out:
            out.write(line + "\n")


if __name__ == "__main__":
    main()

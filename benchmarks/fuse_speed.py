"""How fast is ``harness checkpoint fuse`` beside copying the files, and is it right?

    python benchmarks/make_bitcpm.py /tmp/bitcpm/good
    python benchmarks/fuse_speed.py /tmp/bitcpm/good --work /tmp/bitcpm/work
    python benchmarks/fuse_speed.py /tmp/bitcpm/good --work /tmp/bitcpm/work --check

A pair is a copy of the weights (cp, then fsync of every file, as fuse does)
and a fusing, each in a process of its own. ``--cold`` drops the input from the
page cache before each. ``--check`` instead holds every fused tensor against
the quantizer in torch, bit for bit, and reads the group size back; it needs
the ``hf`` extra and counts how often a mean in float32, in torch's order, would
have given another class.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import print_pairs


def drop_from_cache(folder: Path) -> None:
    for path in folder.iterdir():
        with open(path, "rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copied(source: Path, target: Path) -> float:
    started = time.perf_counter()
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    for path in target.iterdir():
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())
    return time.perf_counter() - started


def fused(source: Path, target: Path, group: int) -> tuple[float, float, float]:
    """Seconds of wall and of CPU, and the peak memory in MB."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "harness", "checkpoint", "fuse", "--input_dir", str(source)]
    command += ["--output_dir", str(target), "--group-size", str(group)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0, command
    wall = time.perf_counter() - started
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def compare_speed(source: Path, work: Path, pairs: int, group: int, *, cold: bool) -> None:
    ratios = []
    for number in range(pairs):
        times = {}
        for what in ("copy", "fuse") if number % 2 else ("fuse", "copy"):
            if cold:
                drop_from_cache(source)
            target = work / what
            if what == "copy":
                times[what] = copied(source, target)
            else:
                times[what], cpu, peak = fused(source, target, group)
            shutil.rmtree(target)
        ratios.append(times["copy"] / times["fuse"])
        print(
            f"copy {times['copy']:.2f} s, fuse {times['fuse']:.2f} s "
            f"(cpu {cpu:.2f} s, peak {peak:.0f} MB)",
            flush=True,
        )
    cache = "cold" if cold else "warm"
    print_pairs(f"speed of fuse / speed of copy, {cache} cache, g={group}", ratios, ">= 0.33")


def check(source: Path, work: Path, group: int) -> None:
    import torch
    from safetensors import safe_open

    from harness.checkpoint.blocks import blocks
    from harness.checkpoint.headers import read_headers
    from harness.checkpoint.ternary import is_quantized_name
    from harness.checkpoint.verify import verify_tensor
    from harness.devices.hf.qat import quantized

    target = work / "check"
    fused(source, target, group)
    made = {t.name: t for t in read_headers(target)}
    equal = classes = flipped = scales = 0
    sizes = set()
    for path in sorted(source.glob("*.safetensors")):
        with safe_open(path, "pt") as stored:
            for name in stored.keys():  # noqa: SIM118 - safe_open is no mapping
                latent = stored.get_tensor(name)
                wanted = quantized(torch, latent, group) if is_quantized_name(name) else latent
                bits = b"".join(block.tobytes() for block in blocks(made[name]))
                equal += bits == wanted.view(torch.int16).numpy().tobytes()
                if is_quantized_name(name):
                    found = verify_tensor(made[name])
                    row = found.group_size == latent.shape[-1]
                    sizes.add((found.state, -1 if row else found.group_size))
                    others = by_float32_mean(torch, latent, wanted, group)
                    flipped, scales = flipped + others[0], scales + others[1]
                    classes += latent.numel()
    shutil.rmtree(target)
    print(f"g={group}: {equal} of {len(made)} tensors bit-equal to torch; read back: {sizes}")
    what = f"{flipped} classes of {classes} and {scales} stored scales"
    print(f"g={group}: a mean in float32, in torch's order, changes {what}", flush=True)


def by_float32_mean(torch: Any, latent: Any, wanted: Any, group: int) -> tuple[int, int]:
    """Classes, and scales as bfloat16, that differ when the mean is torch's own."""
    groups = latent.float().reshape(-1, latent.shape[-1] if group == -1 else group)
    scale = groups.abs().mean(dim=-1, keepdim=True).clamp(min=1e-5)
    levels = torch.clamp(torch.round(groups / scale), -1, 1)
    fused = wanted.float().reshape(levels.shape)
    stored = fused.abs().amax(dim=-1, keepdim=True)
    other_scales = (scale.to(torch.bfloat16).float() != stored) & (stored > 0)
    return int((levels != torch.sign(fused)).sum()), int(other_scales.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="a folder on the same disk")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("-g", "--group-size", type=int, nargs="+", default=[-1])
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--check", action="store_true")
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    for group in chosen.group_size:
        if chosen.check:
            check(chosen.source, chosen.work, group)
        else:
            compare_speed(chosen.source, chosen.work, chosen.pairs, group, cold=chosen.cold)


if __name__ == "__main__":
    main()

"""How often the 95 % interval of a size holds the true one: faults of drawn sizes.

    python -m benchmarks.diagnosis_sizes --out build/sizes.jsonl [--draws 8]

Eight draws each of a RoPE base, an epsilon, a scale of the attention scores, of one head and of
one MLP, in the embedded model in bfloat16, over the suite `mixed`. Each is recorded, and the
size of the true cause is measured as `harness diagnose` does once it is named. About a minute
each on one core. A file that is there already is gone on with.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.catalogue import faults as f
from benchmarks.catalogue.anatomy import Anatomy, anatomy_of
from benchmarks.catalogue.entries import Entry
from benchmarks.catalogue.run import POSITIONS, catalogue_baseline, make, shortened
from benchmarks.catalogue.workbench import Workbench
from harness.devices.causes import Cause
from harness.devices.oracle import SensitiveDevice
from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec
from harness.diagnosis.errors import errors_of
from harness.diagnosis.explain import measured_alone
from harness.process.progress import Silent
from harness.recording.recorder import opened

SEED = 17


def drawn(model: Anatomy, draws: int) -> Iterator[tuple[Cause, float, Entry]]:
    """Cause, true size and the fault that has it."""
    random, now = np.random.default_rng(SEED), model.epsilon
    for index in range(draws):
        sign = 1.0 if random.random() < 0.5 else -1.0
        layer = int(random.integers(0, model.layers))
        head = int(random.integers(0, model.heads))
        base = sign * math.exp(random.uniform(math.log(0.03), math.log(0.3)))
        times = math.exp(random.uniform(math.log(3.0), math.log(30.0)))
        scale = sign * math.exp(random.uniform(math.log(0.01), math.log(0.08)))
        weaker = random.uniform(0.1, 0.6)
        more = sign * math.exp(random.uniform(math.log(0.01), math.log(0.1)))
        place = f"model.layers.{layer}"
        yield from (
            (Cause(kind, where, which), size, Entry(kind, str(index), injection=injection))
            for kind, where, which, size, injection in (
                ("rope_base", "", -1, base, f.rope_base(math.exp(base))),
                ("norm_epsilon", "", -1, times - 1.0, f.norm_epsilon(now * times)),
                ("softmax_scale", "", -1, scale, f.softmax_scale(1.0 + scale)),
                ("head", f"{place}.self_attn", head, -weaker, f.head_zeroed(layer, head, weaker)),
                ("mlp", f"{place}.mlp", -1, more, f.mlp_scaled(layer, 1.0 + more)),
            )
        )


def main() -> None:
    """Record and measure what is not yet in the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a line of JSON for each")
    parser.add_argument("--draws", type=int, default=8, help="of each cause")
    parser.add_argument("--half", type=int, help="only the even (0) or the odd (1) ones")
    options = parser.parse_args()
    baseline = catalogue_baseline("smollm2")
    done = options.out.read_text("utf-8").splitlines() if options.out.exists() else []
    known = {json.loads(line)["fault"] for line in done}
    bench = Workbench(None, "smollm2")
    subject = open_target(DeviceSpec("hf-cpu", "smollm2")).subject
    target = open_target(DeviceSpec("hf-cpu", "smollm2", "float32"), progress=Silent())
    with opened(target.device, Silent()):
        assert isinstance(target.device, SensitiveDevice)
        oracle, base = target.device.sensitivity(), None
        for number, (cause, true, entry) in enumerate(drawn(anatomy_of("smollm2"), options.draws)):
            if entry.key in known or options.half not in (None, number % 2):
                continue
            made = make(bench, entry, subject, baseline, options.out.parent)
            errors = errors_of(shortened(made, POSITIONS), baseline)
            if base is None:
                base = [oracle.sketches(p.token_ids, len(p)) for p in errors.prompts]
            found = measured_alone(errors, oracle, base, cause)
            assert found is not None
            size = found.size
            line = {
                "fault": entry.key, "cause": str(cause), "true": true, "size": size.value,
                "low": size.low, "high": size.high, "inside": size.low <= true <= size.high,
            }  # fmt: skip
            with options.out.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

"""Every finding that the doctor knows: why it matters and what mends it, as data.

Collected from the projects' documents and issues (docs/doctor.md names them).
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.doctor.finding import Finding, Severity

#: What the remedies name where a probe found nothing more exact.
_DEFAULTS = {
    "set_env": "/usr/local/Ascend/ascend-toolkit/set_env.sh",
    "nnal_env": "/usr/local/Ascend/nnal/atb/set_env.sh",
    "python": "python3",
    "module": "torch",
    "install": "pip install 'accelerator-parity-harness[hf]'",
    "align": "pip install --no-deps PACKAGE==VERSION, by the table in docs/ascend.md",
    "share": "0.5",
    "device": "npu",
    "length": "2048",
    "size": "1",
    "chip": "CHIP",
    "dtype": "float16",
    "exports": "",
}
_MOUNTS = (
    "docker run --device /dev/davinci0 --device /dev/davinci_manager --device /dev/devmm_svm "
    "--device /dev/hisi_hdc -v /usr/local/Ascend/driver:/usr/local/Ascend/driver:ro "
    "-v /usr/local/bin/npu-smi:/usr/local/bin/npu-smi:ro -v /usr/local/dcmi:/usr/local/dcmi:ro "
    "IMAGE"
)


@dataclass(frozen=True)
class Entry:
    """A finding without what was seen. ``remedy`` has ``{places}`` for values."""

    severity: Severity
    why: str
    remedy: str
    sources: tuple[str, ...] = ()


ENTRIES: dict[str, Entry] = {
    # The hardware and its driver.
    "npu-missing": Entry(
        "error",
        "The device computes on an Ascend card, and this machine shows none: no npu-smi, no "
        "/dev/davinci*, no such PCI device.",
        f"run on a host with an Ascend card; in a container, hand it over: {_MOUNTS}",
    ),
    "driver-libraries": Entry(
        "error",
        "Without the driver's libraries and its three device files no process reaches the card.",
        f"{_MOUNTS} # outside a container: install the driver",
        ("vllm-ascend #1440",),
    ),
    "device-permission": Entry(
        "error",
        "The device files belong to the group HwHiAiUser (0660), or another container holds the "
        "card: the runtime then counts no devices.",
        'sudo usermod -aG HwHiAiUser "$USER" # then log in again; if it is held: docker ps, and '
        "stop the container that has it",
        ("vllm-ascend #9490", "vllm-ascend #2698"),
    ),
    "no-devices": Entry(
        "error",
        "torch_npu counts no devices, so nothing can run on the card.",
        "npu-smi info # and the log of the runtime: ls -t ~/ascend/log/debug/plog | head -1",
    ),
    "npu-health": Entry(
        "warning",
        "A card that reports a fault may compute wrongly or not at all.",
        "npu-smi info -t health -i 0 # and hand its code to the vendor",
    ),
    "npu-hot": Entry(
        "warning",
        "A hot card lowers its clock: figures of speed are worth little.",
        "npu-smi info watch # wait until it has cooled down",
    ),
    "npu-busy": Entry(
        "warning",
        "Another process computes on the card: figures of speed are worth little, and memory may "
        "run out half-way.",
        "npu-smi info # its lower table names the process; end it, or take another card",
    ),
    "device-memory": Entry(
        "warning",
        "vLLM asks for 0.9 of the card's memory at its start and refuses where less is free.",
        "pytest --device={device} --engine-arg=gpu_memory_utilization={share}",
        ("vllm-ascend #14631",),
    ),
    "cache-memory": Entry(
        "error",
        "After the weights and a trial run nothing is left of the engine's share of the memory "
        "for its KV cache.",
        "pytest --device=DEVICE --engine-arg=gpu_memory_utilization=0.9 # a larger share than "
        "now; or less for the trial run: --engine-arg=max_num_batched_tokens=2048",
    ),
    "cache-length": Entry(
        "error",
        "The KV cache must hold one request of the model's full length, and the engine's share of "
        "the memory is too small for that.",
        "pytest --device=DEVICE --engine-arg=max_model_len={length} # as long as your longest "
        "prompt and its new tokens; or a larger gpu_memory_utilization",
    ),
    "devices-too-few": Entry(
        "error",
        "The engine wants a card for each worker of its parallelism, and this process sees fewer.",
        "pytest --device=DEVICE --engine-arg=tensor_parallel_size={size} # or show it more cards: "
        "unset ASCEND_RT_VISIBLE_DEVICES CUDA_VISIBLE_DEVICES",
        ("vllm #28997",),
    ),
    "parallel-heads": Entry(
        "error",
        "Tensor parallelism gives each worker as many attention heads: the size must divide them.",
        "pytest --device=DEVICE --engine-arg=tensor_parallel_size={size}",
    ),
    "dtype-unsupported": Entry(
        "error",
        "This card has no kernels for the checkpoint's number format (bfloat16: none on an Atlas "
        "300I or 310P, nor on a GPU before compute capability 8.0).",
        "pytest --device=DEVICE --dtype={dtype} --allow-dtype",
    ),
    "narrow-dtype": Entry(
        "warning",
        "A 310P has no kernels for bfloat16, in which most checkpoints are stored.",
        "pytest --device=npu --dtype=float16 --allow-dtype",
    ),
    "cann-kernels": Entry(
        "error",
        "CANN's operators are packages of their own for each kind of card; the one that is "
        "installed is of another.",
        "./Ascend-cann-kernels-{chip}_*.run --install # of CANN's own version",
    ),
    "cann-opp": Entry(
        "error",
        "CANN's operators (OPP) and its compiler are of different versions, or ASCEND_OPP_PATH "
        "points to those of another installation.",
        "source {set_env} # then: cat $ASCEND_OPP_PATH/version.info; toolkit and kernels must be "
        "of one version",
    ),
    "cann-compiler": Entry(
        "error",
        "CANN's compiler did not start (500001): its environment is not set, the operators for "
        "this kind of card are missing, or a Python package that it imports.",
        "source {set_env} # then: pip install attrs decorator sympy cffi pyyaml psutil protobuf "
        "scipy, and the package Ascend-cann-kernels of this card",
    ),
    "hccp-held": Entry(
        "error",
        "A process of an earlier run still holds the card's communication.",
        "npu-smi info # its lower table names the process: end it, and start again",
    ),
    "gpu-missing": Entry(
        "error",
        "The device computes on a GPU, and torch finds none.",
        "nvidia-smi # shows the driver's side; then a torch built for it",
    ),
    "wheel-kind": Entry(
        "error",
        "vLLM-Ascend is built for one kind of card and asserts at the start of a worker on "
        "another (A2: 910B1 to B4; A3: 910_93xx; A5: 950; 310P).",
        "take the image with the suffix of your card (-a3 for an A3), or build it here: "
        "pip install --no-build-isolation --no-deps vllm-ascend --no-binary vllm-ascend",
    ),
    # The environment.
    "visible-devices": Entry(
        "error",
        "The variable holds logical ids, 0 to n-1 inside the container, ascending; npu-smi's own "
        "ids, an empty value or a first id that is not there make the device count 0.",
        "unset ASCEND_RT_VISIBLE_DEVICES # or: export ASCEND_RT_VISIBLE_DEVICES=0",
        ("gpustack #3352", "vllm-ascend PR #10227"),
    ),
    "visible-devices-shortened": Entry(
        "warning",
        "An id that is not there ends the list without a word: fewer devices than you named.",
        "export ASCEND_RT_VISIBLE_DEVICES={share}",
        ("gpustack #3352",),
    ),
    "npu-visible-devices": Entry(
        "warning",
        "Nothing reads NPU_VISIBLE_DEVICES: all cards stay visible.",
        "unset NPU_VISIBLE_DEVICES; export ASCEND_RT_VISIBLE_DEVICES=0",
    ),
    "ascend-visible-devices": Entry(
        "warning",
        "Only the container runtime reads ASCEND_VISIBLE_DEVICES, when it starts a container; in a "
        "process it hides no card.",
        "export ASCEND_RT_VISIBLE_DEVICES=0 # counts from 0 among the cards that are there",
    ),
    "cann-environment": Entry(
        "error",
        "CANN's libraries are not found, so neither torch_npu nor torch can be imported.",
        "source {set_env}",
        ("vllm-ascend #262", "vllm-ascend #117"),
    ),
    "nnal": Entry(
        "error",
        "vLLM-Ascend's attention runs through ATB, which a separate package installs (NNAL).",
        "source {nnal_env} # if it is not there, install NNAL of CANN's version: "
        "./Ascend-cann-nnal_*.run --install",
        ("vllm-ascend #152", "vllm-ascend #130"),
    ),
    "backend-extension": Entry(
        "error",
        "torch loads torch_npu by itself, and Transformers imports it wherever it is installed; it "
        "cannot be imported here, so neither can they. TORCH_DEVICE_BACKEND_AUTOLOAD=0 gets past "
        "torch, not past Transformers.",
        "source {set_env} # without a card: pip uninstall -y torch-npu, or a virtual environment "
        "without it",
    ),
    "ascend-plugin": Entry(
        "error",
        "With vLLM-Ascend installed, vLLM activates its platform even without a card, and dies.",
        "export VLLM_PLUGINS=''",
    ),
    "vllm-plugins": Entry(
        "error",
        "VLLM_PLUGINS names the plugins that vLLM loads; without ascend it takes another platform.",
        "unset VLLM_PLUGINS",
    ),
    "platform": Entry(
        "error",
        "vLLM would run on another platform than the name of the device says.",
        "unset VLLM_PLUGINS; pip list | grep -i vllm # vllm and vllm-ascend of one version",
    ),
    "no-platform": Entry(
        "error",
        "vLLM found no device to run on: no plugin of a card was loaded, or the driver shows none.",
        "unset VLLM_PLUGINS; pip list | grep -i vllm # vllm and vllm-ascend of one version; then "
        "npu-smi info, or nvidia-smi",
    ),
    "custom-ops": Entry(
        "warning",
        "vLLM-Ascend's own kernels do not load: others compute in their place, and some features "
        "fail.",
        "{python} -c 'import torch_npu, vllm_ascend.vllm_ascend_C' # shows why; often: "
        "source {set_env}",
    ),
    "quantization-description": Entry(
        "error",
        "quantization=ascend reads quant_model_description.json, which ModelSlim writes beside "
        "the weights, and it is not there.",
        "ls MODEL/quant_model_description*.json # take the whole folder that ModelSlim wrote; of "
        "a checkpoint that is not quantized leave --engine-arg=quantization out",
        ("vllm-ascend #633",),
    ),
    "speculative": Entry(
        "error",
        "The harness sees the rows through a logits processor, and vLLM takes none together with "
        "speculative decoding.",
        "pytest --device=DEVICE # without --engine-arg=speculative_config",
    ),
    "determinism": Entry(
        "warning",
        "Kernels that are free to reorder sums give other bits from run to run.",
        "export {exports}",
        ("vllm-ascend #9373",),
    ),
    "launch-blocking": Entry(
        "warning",
        "ASCEND_LAUNCH_BLOCKING=1 raises with graphs (enforce_eager=false) and slows eager runs.",
        "unset ASCEND_LAUNCH_BLOCKING",
    ),
    "vllm-hidden": Entry(
        "error",
        "Python finds the folder ./vllm of the working directory before the installed package.",
        "cd .. # any directory without a folder named vllm",
        ("vllm-ascend #5497",),
    ),
    "kernel-meta": Entry(
        "error",
        "CANN's compiler writes kernel_meta into the working directory, and the harness reports/.",
        'mkdir -p "$HOME/parity" && cd "$HOME/parity"',
        ("vllm-ascend #433",),
    ),
    "preload": Entry(
        "error",
        "vLLM 0.18 for CPUs refuses to start unless both libraries are preloaded.",
        "apt-get install -y libtcmalloc-minimal4; export LD_PRELOAD={share}",
    ),
    "host-memory": Entry(
        "warning",
        "A model and its float32 oracle are held in memory; without it the system ends the run.",
        "free -g; ps aux --sort=-rss | head # end what takes it, or take a larger host",
    ),
    # Packages and their versions.
    "package-missing": Entry(
        "error",
        "The device cannot run without this package.",
        "{install}",
    ),
    "versions-cann": Entry(
        "error",
        "torch_npu and ATB are built against one version of CANN and NNAL; with another, symbols "
        "are missing or mean something else.",
        "{align}",
        ("vllm-ascend #750", "vllm-ascend #117"),
    ),
    "versions-vllm": Entry(
        "error",
        "The plugin uses vLLM's internals: both must be of the same X.Y.Z.",
        "{align}",
        ("vllm-ascend #7058", "vllm-ascend #9672"),
    ),
    "versions-torch": Entry(
        "error",
        "Compiled packages fit one version of torch; pip replaces it where pins conflict.",
        "{align}",
        ("vllm-ascend #5710", "vllm-ascend #7587"),
    ),
    "versions-python": Entry(
        "error",
        "There are no wheels of this vLLM-Ascend for this Python.",
        "{align}",
    ),
    "versions-triton": Entry(
        "warning",
        "triton-ascend is released for one version of CANN.",
        "{align}",
    ),
    "versions-transformers": Entry(
        "error",
        "The harness uses functions that Transformers has had since 4.56.",
        "pip install 'transformers>=4.56'",
    ),
    "triton-clash": Entry(
        "error",
        "triton and triton-ascend both own the folder triton/; what was installed last has "
        "overwritten the other's files.",
        "pip uninstall -y triton triton-ascend && pip install --no-deps triton-ascend{align}",
        ("vllm-ascend #7359",),
    ),
    "vllm-version": Entry(
        "error",
        "vLLM-Ascend reads vLLM's version to choose its code, and it does not know the "
        "version of a development build (InvalidVersion).",
        "export VLLM_VERSION={share}",
        ("vllm-ascend FAQ 11",),
    ),
    "torchvision": Entry(
        "error",
        "A torchvision of another build than torch breaks the import of every model of "
        "Transformers.",
        "pip uninstall -y torchvision torchaudio torchcodec",
    ),
    # Imports and the computation.
    "import-failed": Entry(
        "error",
        "The device cannot run without it, and the doctor does not recognise the message.",
        "{python} -c 'import {module}' # shows the whole traceback",
    ),
    "import-crashed": Entry(
        "error",
        "The process died in a library, most often one built for another CPU or another version.",
        "{python} -X faulthandler -c 'import {module}' # shows where",
    ),
    "import-hangs": Entry(
        "error",
        "It did not end within the doctor's time limit; a held card or a network mount does that.",
        "{python} -X faulthandler -c 'import {module}' # --limit-s gives it longer",
    ),
    "computation": Entry(
        "error",
        "A product of two matrices of ones has one right result; a device that cannot do this "
        "can do nothing.",
        "npu-smi info # on the NPU; then the message above, as it is, in the vendor's forum",
    ),
    "canary-wrong": Entry(
        "error",
        "A model made by hand has logits that arithmetic tells; a device that gives others "
        "computes something else, whatever the model.",
        "harness canary --device {device} --report canary.html # docs/canary.md",
    ),
    "canary-not-run": Entry(
        "error",
        "The device was to run a small model whose logits are known, and did not.",
        "harness canary --device {device} # shows all that its engine says",
    ),
    # Seen in logs only.
    "hccl-timeout": Entry(
        "error",
        "The cards did not find each other in time: one rank started late, failed, or is cut off.",
        "export HCCL_CONNECT_TIMEOUT=600 # and look for the first error among all ranks",
        ("vllm-ascend #486",),
    ),
    "hccl-port": Entry(
        "error",
        "Two processes on one host want the same port for collective communication.",
        "export HCCL_IF_BASE_PORT=61000 # another base for each process",
        ("vllm-ascend #405",),
    ),
    "owner-mismatch": Entry(
        "harmless",
        "The files belong to another user than the one who runs; they are read anyway.",
        "nothing to do",
    ),
    "vllm-c-missing": Entry(
        "harmless",
        "vLLM for Ascend is built without its own kernels: vLLM-Ascend brings them.",
        "nothing to do",
        ("vllm-ascend #1033",),
    ),
}


def finding(code: str, seen: str, **values: str) -> Finding:
    """A finding of the table, with what was seen and the values of its remedy."""
    entry = ENTRIES[code]
    remedy = entry.remedy
    for name, value in {**_DEFAULTS, **values}.items():
        remedy = remedy.replace("{" + name + "}", value)
    return Finding(code, entry.severity, seen, entry.why, remedy, entry.sources)

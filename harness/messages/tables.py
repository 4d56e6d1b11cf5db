"""The two tables: every key with its text in English and in Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from harness.messages.en import bench as en_bench
from harness.messages.en import canary as en_canary
from harness.messages.en import diagnosis as en_diagnosis
from harness.messages.en import gates as en_gates
from harness.messages.en import judgement as en_judgement
from harness.messages.en import page as en_page
from harness.messages.en import plain as en_plain
from harness.messages.en import recording as en_recording
from harness.messages.en import scope as en_scope
from harness.messages.en import terminal as en_terminal
from harness.messages.zh import bench as zh_bench
from harness.messages.zh import canary as zh_canary
from harness.messages.zh import diagnosis as zh_diagnosis
from harness.messages.zh import gates as zh_gates
from harness.messages.zh import judgement as zh_judgement
from harness.messages.zh import page as zh_page
from harness.messages.zh import plain as zh_plain
from harness.messages.zh import recording as zh_recording
from harness.messages.zh import scope as zh_scope
from harness.messages.zh import terminal as zh_terminal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

MESSAGES: dict[Language, Mapping[str, str]] = {
    "en": {
        **en_page.MESSAGES,
        **en_gates.MESSAGES,
        **en_judgement.MESSAGES,
        **en_bench.MESSAGES,
        **en_plain.MESSAGES,
        **en_scope.MESSAGES,
        **en_diagnosis.MESSAGES,
        **en_canary.MESSAGES,
        **en_recording.MESSAGES,
        **en_terminal.MESSAGES,
    },
    "zh": {
        **zh_page.MESSAGES,
        **zh_gates.MESSAGES,
        **zh_judgement.MESSAGES,
        **zh_bench.MESSAGES,
        **zh_plain.MESSAGES,
        **zh_scope.MESSAGES,
        **zh_diagnosis.MESSAGES,
        **zh_canary.MESSAGES,
        **zh_recording.MESSAGES,
        **zh_terminal.MESSAGES,
    },
}

"""Under a bad verdict: the first failing token, where the error begins, and what to do next."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from report_alignments import HOSTILE, LINK, Page, alignment, prompt

from harness.alignment.origin import Origin
from harness.alignment.result import Alignment, DepthPoint, Located
from harness.report import to_html, to_markdown
from harness.report.views.why import why


def bad(name: str = "hello", class_: str = "SILENT_DRIFT") -> Alignment:
    one = prompt(name, bad=9, verdict="DRIFT")
    classes = [class_ if c == "SILENT_DRIFT" else c for c in one.positions.class_]
    at = one.positions.model_copy(update={"class_": classes})
    counts = {"EXACT": 23, class_: 1}
    return alignment(
        "DRIFT", prompts=(prompt(), one.model_copy(update={"positions": at})), classes=counts
    )


def test_a_good_verdict_needs_no_why() -> None:
    found = why(alignment("EQUIVALENT"))
    assert (found.token, found.next, found.command) == (None, None, None)


@pytest.mark.parametrize("class_", ["SILENT_DRIFT", "DIVERGENT", "NONFINITE"])
def test_the_first_failing_token_stands_in_its_text(class_: str) -> None:
    found = why(bad(class_=class_)).token
    assert found is not None
    assert (found.key, found.id, found.n) == (f"why.token.{class_}", "hello", 9)
    for language in ("en", "zh"):
        assert "hello" in Page(to_html([bad(class_=class_)], language), language).text  # type: ignore[arg-type]


def test_a_failure_at_the_first_position_shows_the_end_of_the_prompt() -> None:
    one = prompt("p", text="The capital of France is" * 9, bad=0, verdict="DRIFT")
    found = why(alignment("DRIFT", prompts=(one,))).token
    assert found is not None
    assert found.before == "…" + ("The capital of France is" * 9)[-60:]


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({}, "harness diagnose 'a b.json' . --model './my model'"),
        ({"classes": {"NONFINITE": 2}}, "harness locate --device hf-cpu --model './my model'"),
    ],
)
def test_the_next_command_names_the_whole_run(changes: dict[str, Any], command: str) -> None:
    candidate = alignment().candidate.model_copy(update={"file": "a b.json"})
    found = why(
        alignment(
            "DRIFT",
            candidate=candidate,
            reproduce=("pytest --device=hf-cpu '--model=./my model'",),
            **changes,
        )
    )
    assert found.command is not None
    assert found.command.startswith(command)
    assert shlex.split(found.command)


def test_a_command_with_an_open_quotation_is_passed_over() -> None:
    found = why(alignment("DRIFT", reproduce=("pytest --model 'x",), classes={"NONFINITE": 1}))
    assert found.command == "harness locate --device hf-cpu --model smollm2 --suite mixed"


@pytest.mark.parametrize("verdict", ["INCONCLUSIVE", "NON_DETERMINISTIC", "NOT_COMPARABLE"])
def test_every_verdict_without_a_command_says_what_to_do(verdict: str) -> None:
    found = why(alignment(verdict))
    assert found.command is None
    assert found.next is not None
    assert found.next.zh != found.next.en


def located(module: str | None, text: str = "It begins there.") -> Alignment:
    curve = tuple(
        DepthPoint(module=f"model.layers.{n}.mlp", candidate=0.1 * n, noise=0.05, ratio=float(n),
                   limit=1.5, status="BEYOND" if n > 1 else "WITHIN")
        for n in range(30)
    )  # fmt: skip
    return alignment(
        "DRIFT",
        locate=Located(module=module, sentence=text, curve=curve, place=module, prompt_id="hello",
                       position=3, warnings=(text,)),
    )  # fmt: skip


def test_what_locate_found_is_in_the_page_with_names_on_the_axis() -> None:
    html = to_html([located("model.layers.2.mlp")])
    text = Page(html).text
    assert "The error begins in model.layers.2.mlp" in text
    assert "begins here" in text
    assert ">27.mlp</text>" in html
    assert ">2.mlp</text>" in html  # the module itself, marked by a line
    assert "prompt hello, position 3" in text
    assert "no module whose error leaves the noise" in Page(to_html([located(None)])).text


@pytest.mark.parametrize("text", [HOSTILE, LINK])
def test_untrusted_words_of_it_stay_text(text: str) -> None:
    branch = text.encode("utf-8", "replace").decode()[:200]
    found = located("model.layers.2.mlp", text).model_copy(
        update={"origin": Origin(branch=branch, run="https://git.example/run/1")}
    )
    html = to_html([found])
    assert Page(html).tags["script"] == 3
    assert "https://git.example/run/1" in html
    assert "[Run of CI](https://git.example/run/1)" in to_markdown([found])

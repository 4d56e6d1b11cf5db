"""Plain lists of tokens: equal tokens per prompt, and no more said than they show."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.alignment.result import load_alignment
from harness.recording.format import load_recording

Command = Callable[..., Any]
BASELINE = "baselines/fake/s/bfloat16"
REFERENCE = f"{BASELINE}/reference.json"


def plain(*fields: str) -> list[dict[str, Any]]:
    """The reference's outputs, as another tool writes them."""
    found = []
    for p in load_recording(REFERENCE).prompts:
        whole = {
            "id": p.id,
            "prompt": p.text,
            "prompt_token_ids": list(p.prompt_token_ids),
            "token_ids": list(p.run.token_ids),
            "text": p.run.text,
        }
        found.append({name: whole[name] for name in (*fields, "token_ids")})
    return found


def write(name: str, content: object) -> str:
    Path(name).write_text(json.dumps(content), "utf-8")
    return name


def altered(content: list[dict[str, Any]], prompt: int = 1, at: int = 3) -> list[dict[str, Any]]:
    """One token becomes one that is far from the reference's choice."""
    copied = json.loads(json.dumps(content))
    tokens = copied[prompt]["token_ids"]
    tokens[at] = (tokens[at] + 7) % 40_000
    return list(copied)


@pytest.mark.parametrize("fields", [("prompt",), ("prompt_token_ids",), ("id",)])
def test_equal_lists_are_equal_and_no_more_than_inconclusive(
    command: Command, fields: tuple[str, ...]
) -> None:
    a, b = write("a.json", plain(*fields)), write("b.json", plain(*fields)[::-1])
    ended = command("compare", a, b, "--json", "o.json")
    assert ended.status == 3
    assert ended.out.startswith("INCONCLUSIVE: ")
    assert "tokens are equal, all 24 of 4 prompts" in ended.out
    assert "shows nothing of the logits" in ended.out
    found = json.loads(Path("o.json").read_text("utf-8"))
    assert found["tokens"]["share"] == 1.0
    assert found["tokens"]["matched_by"] == {"prompt": "text"}.get(fields[0], fields[0])
    assert {"verdict", "error_ratio", "gates", "positions", "prompts", "comparability",
            "candidate", "baseline", "performance"} <= found.keys()  # fmt: skip
    assert [p["tokens_compared"] for p in found["prompts"]] == [6] * 4


def test_the_table_says_where_tokens_part_and_what_stands_there(command: Command) -> None:
    mine = altered(plain("id"))
    del mine[2]["token_ids"][4:]
    ended = command("compare", write("a.json", mine), write("b.json", plain("id")))
    assert ended.status == 3
    lines = {line.split()[0]: line for line in ended.out.splitlines() if line.startswith("    ")}
    assert "3 of 6, first difference at 3: " in lines["beta"]
    assert f" {mine[1]['token_ids'][3]} against " in lines["beta"]
    assert "4 of 6, first difference at 4: the end against " in lines["gamma"]
    assert lines["alpha"].endswith("6 of 6")
    assert "equal tokens: 2 of 4 prompts (50.0%)" in ended.out


def test_tokens_behind_a_difference_are_not_counted_as_equal(command: Command) -> None:
    """They follow another text."""
    mine = altered(plain("id"), at=0)
    command("compare", write("a.json", mine), write("b.json", plain("id")), "--json", "o.json")
    found = load_alignment("o.json")
    assert found.tokens is not None
    assert found.tokens.rows[1].equal == 0
    assert found.tokens.rows[1].first_difference == 0


def test_a_list_against_a_baseline_is_judged_by_its_margins(command: Command) -> None:
    good, bad = write("a.json", plain("prompt")), write("b.json", altered(plain("prompt")))
    assert command("compare", good, BASELINE).status == 3
    ended = command("compare", bad, BASELINE, "--report", "r.html", "--report", "r.md")
    assert ended.status == 1
    assert ended.out.startswith("DIVERGENT: ")
    assert "beta: DIVERGENT at position 3, margin " in ended.out
    for name in ("r.html", "r.md"):
        assert "Equal tokens per prompt" in Path(name).read_text("utf-8")


def test_a_near_tie_is_no_fault(command: Command) -> None:
    """The runner-up at a position whose margin the noise crosses."""
    rows = {p.id: p.run for p in load_recording(REFERENCE).prompts}
    command("compare", write("a.json", plain("id")), BASELINE, "--json", "o.json")
    near = [
        (n, t)
        for n, p in enumerate(load_alignment("o.json").prompts)
        for t, limit in enumerate(p.positions.tolerance)
        if limit is not None
        and rows[p.id].rows.top_logits[t, 0] - rows[p.id].rows.top_logits[t, 1] <= limit
    ]
    assert near
    n, t = near[0]
    mine = plain("id")
    mine[n]["token_ids"][t] = int(rows[mine[n]["id"]].rows.top_ids[t, 1])
    ended = command("compare", write("b.json", mine), BASELINE)
    assert ended.status == 3, ended.out
    assert "1 of " in ended.out


def test_a_single_recording_tells_no_tolerance(command: Command) -> None:
    bad = write("b.json", altered(plain("id")))
    for arguments in ((bad, REFERENCE), (REFERENCE, bad)):
        ended = command("compare", *arguments)
        assert ended.status == 3
        assert "3 of 4 prompts (75 %) have equal tokens" in ended.out
        assert "NOT_RUN      point_guard" in ended.out


def test_lists_without_prompts_are_matched_by_their_order(command: Command) -> None:
    ended = command("compare", write("a.json", plain()), write("b.json", plain()[:3]))
    assert ended.status == 3
    assert "were matched by their order" in ended.out
    assert "1 prompt of a.json is not on the other side" in ended.out


def test_missing_surplus_and_repeated_prompts_are_told(command: Command) -> None:
    theirs = plain("prompt")
    mine = [*theirs[1:], {"prompt": "other", "token_ids": [1]}, theirs[1]]
    ended = command("compare", write("a.json", mine), write("b.json", theirs))
    assert "1 prompt of b.json has no output on the candidate's side: [0]." in ended.out
    assert "1 prompt of a.json is not on the other side and was not compared: [3]." in ended.out
    assert "a.json holds 1 prompt again, with the same output: [4]" in ended.out
    again = altered([theirs[1]], 0, 0)
    ended = command("compare", write("a.json", [*theirs, *again]), write("b.json", theirs))
    assert "does not repeat its own results" in ended.out


def test_ids_that_only_count_requests_do_not_match_other_prompts(command: Command) -> None:
    theirs = [{**p, "request_id": str(n)} for n, p in enumerate(plain("prompt"))]
    mine = [{**p, "request_id": str(n)} for n, p in enumerate(plain("prompt")[::-1])]
    ended = command("compare", write("a.json", mine), write("b.json", theirs))
    assert "tokens are equal, all 24 of 4 prompts" in ended.out


@pytest.mark.parametrize("field", ["prompt_token_ids", "prompt"])
def test_another_prompt_under_one_id_is_not_comparable(command: Command, field: str) -> None:
    mine = plain("id", field)
    mine[0][field] = [1, 2, 3] if field == "prompt_token_ids" else "Something else"
    ended = command("compare", write("a.json", mine), write("b.json", plain("id", field)))
    assert ended.status == 3
    assert ended.out.startswith("NOT_COMPARABLE: ")
    assert "prompts[alpha]." in ended.out


def test_prompts_in_front_of_outputs_are_told_and_left_out(command: Command) -> None:
    whole = [
        {**p, "token_ids": [*p["prompt_token_ids"], *p["token_ids"]]}
        for p in plain("id", "prompt_token_ids")
    ]
    other = write("b.json", plain("id"))
    ended = command("compare", write("a.json", whole), other)
    assert "In a.json every output begins with its own prompt" in ended.out
    assert "tokens are equal, all 24 of 4 prompts" in ended.out
    # The baseline knows the prompts where the list does not.
    bare = [{"id": p["id"], "token_ids": p["token_ids"]} for p in whole]
    ended = command("compare", write("c.json", bare), BASELINE)
    assert "In c.json every output begins with its own prompt" in ended.out
    assert "tokens are equal, all 24 of 4 prompts" in ended.out
    some = [whole[0], *plain("id", "prompt_token_ids")[1:]]
    ended = command("compare", write("d.json", some), other)
    assert "In d.json 1 of 4 outputs begins with the prompt itself" in ended.out


def test_texts_are_compared_where_there_are_no_token_ids(command: Command) -> None:
    texts = [{k: v for k, v in p.items() if k != "token_ids"} for p in plain("id", "text")]
    ended = command("compare", write("a.json", texts), REFERENCE, "--json", "o.json")
    assert ended.status == 3
    assert "4 of 4" in ended.out
    texts[0]["text"] = "#" + texts[0]["text"]
    ended = command("compare", write("a.json", texts), REFERENCE, "--json", "o.json")
    assert ended.status == 3
    table = load_alignment("o.json").tokens
    assert table is not None
    assert (table.unit, table.equal_prompts, table.rows[0].first_difference) == ("characters", 3, 0)


def test_nothing_to_compare_is_never_a_pass(command: Command) -> None:
    assert command("compare", write("a.json", []), BASELINE).status == 3
    mine = [{"id": "x", "prompt": "x", "token_ids": []}]
    assert command("compare", write("a.json", mine), write("b.json", mine)).status == 3


def test_time_gives_tokens_per_second(command: Command) -> None:
    mine = [{**p, "time": 0.5} for p in plain("id")]
    theirs = [{**p, "time": 1.0} for p in plain("id")]
    command("compare", write("a.json", mine), write("b.json", theirs), "--json", "o.json")
    found = load_alignment("o.json").performance
    assert (found.candidate.total_tok_s, found.reference.total_tok_s) == (12.0, 6.0)
    assert found.candidate.ttft_s is None
    del mine[0]["time"]
    command("compare", write("a.json", mine), write("b.json", theirs), "--json", "o.json")
    assert load_alignment("o.json").performance.candidate.total_tok_s is None


def test_a_magnifier_needs_logits(command: Command) -> None:
    ended = command("compare", write("a.json", plain("id")), BASELINE, "--magnify", REFERENCE)
    assert ended.status == 2
    assert "a plain list has no logits" in ended.error


def test_the_library_compares_them_too(command: Command) -> None:
    import harness

    del command
    found = harness.compare(write("a.json", plain("id")), write("b.json", plain("id")))
    assert found.verdict == "INCONCLUSIVE"

"""Plain lists of tokens, in English."""

from __future__ import annotations

MESSAGES: dict[str, str] = {
    # The verdict
    "part.tokens": "{equal} of {prompts} {prompts:prompt|prompts} ({percent:.3g} %) "
    "{equal:has|have} equal tokens",
    "part.tokens.all": "tokens are equal, all {tokens} of {prompts} {prompts:prompt|prompts}",
    "part.no_logits": "that shows nothing of the logits, which many faults move without changing "
    "a token",
    # Warnings
    "warning.plain.order": "The prompts of the two files have no ids, token ids or texts in "
    "common, so they were matched by their order.",
    "warning.plain.missing": "{count} {count:prompt|prompts} of {file} {count:has|have} no output "
    "on the candidate's side: {names:list}.",
    "warning.plain.surplus": "{count} {count:prompt|prompts} of {file} {count:is|are} not on the "
    "other side and {count:was|were} not compared: {names:list}.",
    "warning.plain.twice": "{file} holds {count} {count:prompt|prompts} again, with the same "
    "output: {names:list}. The first of each was compared.",
    "warning.plain.unsteady": "{file} holds {count} {count:prompt|prompts} again, and not always "
    "with the same output: {names:list}. The first of each was compared; a tool that gives other "
    "tokens samples, or does not repeat its own results.",
    "warning.plain.front": "In {file} every output begins with its own prompt, so the prompts in "
    "front were left out.",
    "warning.plain.some_front": "In {file} {count} of {all} {all:output|outputs} {count:begins|"
    "begin} with the prompt itself. If a tool put it there, write the new tokens only.",
    "warning.plain.text_front": "In {file} every text begins with its own prompt, so the token ids "
    "may begin with it too. Add prompt_token_ids, or write the new tokens only.",
    "warning.plain.encoded": "{file} has no token ids for {count} {count:prompt|prompts}, so the "
    "model's own tokenizer encoded {count:it|them}: messages through the chat template, a text as "
    "it stands. If the tool encoded a text in another way, these are not its prompts.",
    "warning.plain.dated": "The chat template uses the date, or chance, in {count} "
    "{count:prompt|prompts}, so these may not be the ids that the tool had; give "
    "prompt_token_ids: {places}.",
}

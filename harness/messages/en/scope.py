"""What a run could have seen, in English."""

from __future__ import annotations

MESSAGES: dict[str, str] = {
    "scope": "What this run could have seen",
    "scope.help": "No verdict reaches beyond this: a fault outside of it was not looked for.",
    "power.uniform": "smallest error at every row that is told",
    "power.prompt": "smallest error of one prompt that is told",
    "power.row": "smallest error of one row that is told",
    "power.shift": "smallest shift at a usual position that is told",
    "power.token": "smallest error of one token everywhere that is told",
    "power.scale": "smallest scale of the logits that is told",
    "power.systematic": "smallest systematic error that is told",
    "power.is.times": "{value:.3g} times the reference's own, with 95 %",
    "power.is.logits": "{value:.3g} logits, with 95 %",
    "power.is.shift": "{value:.3g} logits",
    "power.is.scale": "{value:.2g} %, with 95 %",
    "power.is.share": "{value:.3g} % of the reference's mean squared error, with 95 %",
    "power.is.unknown": "not judged",
    "scope.what": "what",
    "scope.how_much": "how much",
    "scope.context": "longest context",
    "scope.prompts": "prompts",
    "scope.positions": "positions judged",
    "scope.block": "rows beyond a block of the KV cache",
    "scope.ids": "token ids fed",
    "scope.batch": "requests at a time",
    "scope.choice": "tokens chosen by the device",
    "scope.looks": "looks taken",
    "scope.is.context": "{tokens} {tokens:token|tokens}",
    "scope.is.prompts": "{prompts}",
    "scope.is.prompts.alike": "{prompts}, in {groups} {groups:group|groups} of prompts much alike",
    "scope.is.positions": "{positions}: {prefill} by prefill, {decode} by decode",
    "scope.is.block": "{rows} of {positions}, the block being {block} tokens",
    "scope.is.ids": "{ids} different ids of a vocabulary of {vocabulary} ({percent:.3g} %)",
    "scope.is.batch": "{batch}",
    "scope.is.choice": "in {free} of {prompts} {prompts:prompt|prompts}; the others followed given "
    "tokens",
    "scope.is.choice.all": "in every prompt",
    "scope.is.choice.none": "in no prompt: it followed given tokens everywhere",
    "scope.is.unknown": "not told by the device",
    "scope.is.later": "known once the device has run",
    "scope.is.looks": "not recorded; whoever judges again until it passes must say how often",
    "warning.alike": "The {prompts} prompts are much alike: by their words they form {groups} "
    "{groups:group|groups}, as {names:list}. Intervals take prompts for independent, so they are "
    "too narrow here; use prompts that differ.",
}

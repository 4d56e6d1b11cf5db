"""The verdict, the warnings, the matrix and the magnifier, in English."""

from __future__ import annotations

_ERROR = "error {ratio:.2f}"
_TOP_K = "error among the likeliest tokens {ratio:.2f}"
_LIMIT = ", {status} at the limit of {limit:g}"
_OTHER_BITS = (
    "{different} of {rows} {rows:row|rows} {different:has|have} other bits, by up to {shift:.4g} "
    "logits; judged by itself: {verdict}"
)
_LOW = "In {dtype}, whose noise is lower, "

MESSAGES: dict[str, str] = {
    # What a verdict means, before its figures
    "meaning.BIT_EXACT": "Every logit is bit-equal to the reference's",
    "meaning.TOKEN_EXACT": "The same tokens, and no gate found a fault",
    "meaning.EQUIVALENT": "Tokens differ, and no gate found a fault",
    "meaning.INCONCLUSIVE": "No fault was shown, but not enough to call the device right",
    "meaning.DRIFT": "The computation differs by more than a gate allows",
    "meaning.DIVERGENT": "Tokens or logits differ where the reference's own noise does not "
    "explain it",
    "meaning.NON_DETERMINISTIC": "The device does not repeat its own results",
    "meaning.NOT_COMPARABLE": "The two are not comparable",
    "meaning.nonfinite": "NaN or infinite logits cannot be judged",
    "meaning.stops": "The recording contradicts itself",
    # The verdict
    "verdict.found": "{meaning}: {parts:clauses}.",
    "verdict.equal": "{meaning}, at all {positions} {positions:position|positions}.",
    "verdict.refused": "{meaning}: {fields:list} {fields:differs|differ}.",
    "verdict.refused.more": "{meaning}: {fields:list} and {more} more {more:field|fields} differ.",
    "verdict.refused.dated": "{refused:clause}, because the chat template uses the date in {ids}; "
    "give the suite a date.",
    "part.error": _ERROR,
    "part.error.limit": _ERROR + _LIMIT,
    "part.error.top_k": _TOP_K,
    "part.error.top_k.limit": _TOP_K + _LIMIT,
    "part.flips": "{flips} of {positions} {positions:token|tokens} {flips:flips|flip}",
    "part.gate": "{gate}: {sentence:clause}",
    # Warnings
    "warning.device": "{device}: {text}",
    "warning.left_out": "{prompts} {prompts:prompt|prompts} of the suite {prompts:was|were} not "
    "run, because the model has no chat template: {ids}.",
    "warning.dated": "The chat template uses the date in {prompts} {prompts:prompt|prompts}, so a "
    "run of another day has other token ids; give the suite a date: {ids}.",
    "warning.drawn": "The chat template draws at random in {prompts} {prompts:prompt|prompts}, so "
    "every run has other token ids; change the template: {ids}.",
    "routes.same": "Every router of {layers} {layers:layer|layers} chose the oracle's experts in "
    "all {rows} {rows:row|rows}, in the reference too.",
    "routes.other": "Routers chose other experts than the oracle's in {flips} of {rows} "
    "{rows:row|rows} (the reference: in {reference}).",
    "routes.ratios": "The error is {same:.2f} times the reference's in the {rows} {rows:row|rows} "
    "in which both have the oracle's routes, and {other:.2f} times in the other {others}.",
    "routes.failing": "Of {failing} {failing:position|positions} that {failing:fails|fail}, "
    "{other} {other:is|are} where a route is another one.",
    "routes.judged": "{left} of {rows} {rows:row|rows} follow other experts than the oracle's, in "
    "the candidate or an arm. The arms have too few such rows to show how far they go, so their "
    "errors and margins are not judged.",
    "routes.margins": "The widest router margin at which a route flipped is {candidate_margin:.3g}"
    " logits (the reference: {reference_margin:.3g}); half of all margins are below "
    "{median_margin:.3g}.",
    "warning.few_prompts": "The suite has {prompts} {prompts:prompt|prompts}: too few to judge "
    "prefill and decode separately, or to find faults in few places; use at least {enough} prompts "
    "for both.",
    "warning.prefill_only": "The candidate ran forced-prefill only: its decode steps were not "
    "judged, and it chose no token of its own, so its sampler, penalties and stops were not run.",
    "warning.itself": "It is the recording that it is held against (the same rows and the same "
    "times), so this says nothing of a device.",
    "warning.detail": "Of a row the candidate keeps {candidate_buckets} buckets and "
    "{candidate_listed} logits, and the baseline {baseline_buckets} and {baseline_listed}: both "
    "were judged by {buckets} and {listed}, as if neither kept more.",
    "warning.same_error": "The candidate's error is almost that of the baseline's own arm {arm} "
    "(correlation {shared:.3f}): it is the same computation, or a copy with something added. It "
    "proves nothing of another device.",
    "warning.forced_only": "The candidate followed given tokens only: it chose no token of its "
    "own, so its sampler, penalties and stops were not run.",
    "warning.some_forced": "{forced} of {prompts} {prompts:prompt|prompts} ran forced only: the "
    "candidate chose no token of its own there, so its sampler, penalties and stops were not run.",
    "warning.allowed": "{field} differs and was allowed: {candidate} against {baseline}.",
    "warning.unknown": "One side does not know {field}, so it was not checked.",
    "warning.tokens_only": "Only token ids were given: without logits nothing can be shown to be "
    "right.",
    "warning.part": "This copy was taken from a report: it holds {kept} of {all} "
    "{all:prompt|prompts}.",
    # The matrix
    "matrix.same_bits": "The same bits in all {rows} {rows:row|rows}.",
    "matrix.other_bits": _OTHER_BITS + ".",
    "matrix.other_bits.ratio": _OTHER_BITS + ", " + _ERROR + ".",
    "matrix.unjudged": "The run was not judged.",
    "matrix.not_run": "Not run: {reason:clause}.",
    "matrix.one_at_a_time": "{device} runs one request at a time",
    "matrix.no_graphs": "{device} runs no graphs",
    "matrix.no_prefix": "{device} keeps no prefix between requests",
    "matrix.whole_prompts": "{device} takes every prompt whole",
    "matrix.not_started_here": "{device} was started by somebody else, with arguments of its own",
    "matrix.short_for_a_block": "no prompt is as long as a block of {block} tokens, so nothing "
    "would be cached; take a suite with longer prompts, or --engine-arg block_size",
    "matrix.short_for_ascend": "no prompt is longer than a block of {block} tokens, so nothing "
    "would be cached; take a suite with a prompt of more than {block} tokens: vLLM-Ascend sets the "
    "size of a block itself",
    "matrix.short_for_a_piece": "no prompt is longer than a piece",
    # The magnifier
    "magnifier.found": _LOW + "the error is {ratio:.2f}, not shown to exceed {limit:.2f}.",
    "magnifier.beyond": _LOW + "the computation differs: {parts:clauses}.",
    "magnifier.gates": "{gates:list} {gates:fails|fail}",
    "magnifier.equal": "Every logit is bit-equal in {dtype}.",
    "magnifier.no_error": "{dtype} gives no error to compare with: {sentence}",
    "magnifier.not_applicable": "Not applicable in {dtype}: {reason:clause}.",
    "magnifier.not_run": "Not run: {reason:clause}.",
    "magnifier.both": "{first} {second}",
    "magnifier.error": "error {ratio:.2f} {where}",
    "magnifier.same_dtype": "the run itself is in {dtype}",
    "magnifier.infinite": "the reference itself is not finite in it",
}

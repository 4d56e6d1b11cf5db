"""What the gates say, in English: by gate and outcome."""

from __future__ import annotations

_ERROR = "Error {where}: {ratio:.3f} times the reference's"
_BIAS = "The mean difference from {against} is {value:.4f} of the reference's mean squared error"
_BUCKET = (
    "The mean error of the worst {share:.2g} % of the ids is {value:.3g} logits, the controls' "
    "{largest:.3g}"
)
_SLOPE = "The scale of the logits differs from that of {against} by {value:+.5f}"
_ROW_SLOPE = "The scale of single rows scatters {ratio:.3f} times as much as the arms'"
_ROW = (
    "The row that stands out most has {standing:.3g} times the error of the baseline's arms there "
    "(position {position} of prompt {prompt}), theirs at most {largest:.3g} times"
)
_PROMPT = (
    "The prompt that stands out most, {prompt}, has {standing:.3g} times the error of the "
    "baseline's arms, theirs at most {largest:.3g} times"
)
_PLACE = (
    "The place in the outputs that stands out most, {place}, has {standing:.3g} times the error of "
    "the baseline's arms, theirs at most {largest:.3g} times"
)
_DIRECTION = (
    "In the direction where it is largest, the error is {value:.3g} times that of the baseline's "
    "arms, each of theirs at most {largest:.3g} times that of the others"
)
_SHIFTED = (
    "The margin shifted by more than {large:g} times the local noise at {count} "
    "{count:position|positions} ({share:.1f} %), the controls' at {controls:.0f} "
    "({controls_share:.1f} %)"
)
_FLIPPED = (
    "{flips} {flips:token flips|tokens flip}, where margins and noise predict {predicted:.0f} and "
    "the controls show {controls:.0f}"
)
_REPEATED = "{different} of {rows} {rows:row|rows} {different:differs|differ} between two runs"
_TEXTS = "Only texts were compared: {equal} of {count} {equal:is|are} equal"
_NO_POSITION = (
    ". No position was judged: the device gives no token ids or logits, and texts alone cannot "
    "separate noise from error."
)

MESSAGES: dict[str, str] = {
    # An estimate with its interval, or without one
    "span": "{value} (95 % interval {low} to {high})",
    "span.point": "{value}",
    "times": "{value} times the reference's (95 % interval {low} to {high})",
    "times.point": "{value} times the reference's",
    # Where an error is measured
    "where.vocabulary": "over the whole vocabulary",
    "where.top_k": "among the likeliest tokens",
    "where.prefill": "of the prefill path",
    "where.decode": "of the decode path",
    # What would decide
    "decide.few": "too few prompts for an interval: at least {least} are needed",
    "decide.never": "the value is at its limit, so more prompts would not decide",
    "decide.more": "about {prompts} more {prompts:prompt|prompts} like these ({positions} "
    "{positions:position|positions}) would decide",
    # Why there is no figure
    "reason.nothing": "the data to measure it are missing",
    "reason.few_prompts": "at least {least} prompts are needed",
    "reason.no_oracle": "the baseline has no oracle to measure it against",
    "reason.not_finite": "every prompt has a row that is not finite, so it cannot be measured",
    "reason.top_only": "the device gives its largest log-probabilities only, not whole rows",
    "reason.same_pass": "the reference was computed like the oracle, in float32 by prefill, so it "
    "shows no noise to compare with; make the baseline without --context, or judge in bfloat16",
    "reason.no_noise": "the reference has no error against the oracle, so there is nothing to "
    "compare with",
    "reason.no_place": "at least {least} outputs must reach a position to judge it over all",
    "reason.no_row": "no row came by {path}",
    # Error ratios
    "gate.ratio.equal": "Error {where}: the candidate equals the oracle.",
    "gate.ratio.pass": _ERROR + ", at most {limit:g}.",
    "gate.ratio.fail": _ERROR + ", more than {limit:g}.",
    "gate.ratio.open": _ERROR + ", not yet decided against {limit:g}: {decides}.",
    "gate.ratio.point": _ERROR + ", {decides}.",
    "gate.ratio.missing": "Error {where}: {reason}.",
    "gate.ratio.shown": _ERROR + "; shown, not gated: {prompts} {prompts:prompt|prompts} and "
    "{rows} {rows:row|rows}, and {enough} of each are needed.",
    "gate.ratio.excess": _ERROR + ", at most {limit:g}, but more than the {excess:.3g} that "
    "controls and correct ports show.",
    "gate.ratio.pass.control": _ERROR + ", at most {limit:.2g}, since the reference's own {arm} is "
    "at {largest:.3g}.",
    "gate.ratio.fail.control": _ERROR + ", more than {limit:.2g}, and the reference's own {arm} is "
    "at {largest:.3g}.",
    # Local damage
    "gate.prompt_guard.pass": _PROMPT + "; the limit is {limit:.3g}.",
    "gate.prompt_guard.fail": _PROMPT + ": {beyond} {beyond:prompt is|prompts are} beyond the "
    "limit of {limit:.3g}.",
    "gate.row_guard.pass": _ROW + "; the limit is {limit:.3g}.",
    "gate.row_guard.fail": _ROW + ": beyond the limit of {limit:.3g}.",
    "gate.row_guard.many": "{count} of {rows} rows have more than {times:.3g} times the error of "
    "the baseline's arms at their position, where at most {expected:.0f} may.",
    "place.start": "position {index} of each output",
    "place.end": "position {index} from the end of each output",
    "gate.place_guard.pass": _PLACE + "; the limit is {limit:.3g}.",
    "gate.place_guard.fail": _PLACE + ": beyond the limit of {limit:.3g}.",
    "finding.prompt": "Its error is {standing:.3g} times that of the baseline's arms; the limit is "
    "{limit:.3g}.",
    "finding.row": "The row at position {position} has {standing:.3g} times the error of the "
    "baseline's arms; the limit is {limit:.3g}.",
    # The point guard
    "gate.point_guard.pass": "The margin moved no further than {kappa:.3g} times the local noise "
    "at all {positions} {positions:position|positions}.",
    "gate.point_guard.pass.flips": "The margin moved no further than {kappa:.3g} times the local "
    "noise at all {positions} {positions:position|positions}; {flips} {flips:token flips|tokens "
    "flip} within that.",
    "gate.point_guard.fail": "{failing} of {positions} {positions:position|positions} "
    "{failing:fails|fail}, beyond {kappa:.3g} times the local noise: {classes:list}.",
    "gate.point_guard.missing": "Single positions cannot be judged: the baseline has no oracle and "
    "controls, so it gives no noise floor.",
    "gate.tokens.fail": "{failing} of {positions} {positions:token|tokens} {failing:flips|flip} "
    "across a margin that no noise crosses.",
    "gate.tokens.open": "{flips} of {positions} {positions:token|tokens} {flips:flips|flip}, none "
    "across a margin beyond the noise; a change that flips no token cannot be seen.",
    "count.class": "{count} {name}",
    "gate.unmeasured": "Not judged: {reason}.",
    # Counts
    "gate.exceedance.pass": _SHIFTED + "; their noise explains that.",
    "gate.exceedance.more": _SHIFTED + ": more large shifts than theirs, and not more than "
    "{inflation:g} times their noise.",
    "gate.exceedance.chance": _SHIFTED + ": more large shifts than their noise inflated by "
    "{inflation:g} explains, but too few to tell it from chance.",
    "gate.exceedance.fail": _SHIFTED + ": more large shifts than their noise explains even when "
    "inflated by {inflation:g}.",
    "gate.exceedance.nothing": _SHIFTED + ": nothing to compare with.",
    "gate.flip_calibration.pass": _FLIPPED + "; their noise explains that.",
    "gate.flip_calibration.more": _FLIPPED + ": more flips than theirs, and not more than "
    "{inflation:g} times their noise.",
    "gate.flip_calibration.chance": _FLIPPED + ": more flips than their noise inflated by "
    "{inflation:g} explains, but too few to tell it from chance.",
    "gate.flip_calibration.fail": _FLIPPED + ": more flips than their noise explains even when "
    "inflated by {inflation:g}.",
    "gate.flip_calibration.nothing": _FLIPPED + ": nothing to compare with.",
    "gate.counts.missing": "Counts of positions cannot be judged: the baseline has no controls.",
    # The device's own choice
    "gate.greedy.pass": "Each of {chosen} {chosen:token|tokens} that the device chose is the "
    "largest of its row.",
    "gate.greedy.fail": "{below} of {chosen} {chosen:token|tokens} that the device chose "
    "{below:is|are} not the largest of {below:its row|their rows}, {below:at|first at} position "
    "{position} of prompt {prompt}: a sampler or a penalty chose.",
    "gate.greedy.missing": "The device chose no token by itself: it was given all of them.",
    # Systematic errors
    "against.reference": "the reference",
    "against.oracle": "the nearest point between oracle and reference",
    "part.first_half": " in the first half of the outputs",
    "part.second_half": " in the second half of the outputs",
    "part.prefill": " of the prefill path",
    "part.decode": " of the decode path",
    "gate.bias.pass": _BIAS + ", at most {limit:g}.",
    "gate.bias.fail": _BIAS + ", more than {limit:g}.",
    "gate.bias.open": _BIAS + ", not yet decided against {limit:g}: {decides}.",
    "gate.bias.missing": "Systematic error: {reason}.",
    "gate.bucket.pass": _BUCKET + ", at most {limit:.3g}.",
    "gate.bucket.chance": _BUCKET + ", more than {limit:.3g}, but the prompts do not agree on it.",
    "gate.bucket.fail": _BUCKET + ", more than {limit:.3g}: a token or a few are off at every "
    "position.",
    "gate.direction.pass": _DIRECTION + "; the limit is {limit:.3g}.",
    "gate.direction.fail": _DIRECTION + ": beyond the limit of {limit:.3g}, and rounding has no "
    "direction of its own.",
    "gate.slope.pass": _SLOPE + ", within {limit:g}.",
    "gate.slope.fail": _SLOPE + ", more than {limit:g}.",
    "gate.slope.fail.part": _SLOPE + "{part}, more than {limit:g}.",
    "gate.slope.open": _SLOPE + ", not yet decided against {limit:g}: {decides}.",
    "gate.slope.missing": "Scale of the logits: {reason}.",
    "gate.row_slope.pass": _ROW_SLOPE + ", not shown to exceed {limit:g}.",
    "gate.row_slope.chance": _ROW_SLOPE + ", more than {limit:g}, but not more than chance allows.",
    "gate.row_slope.fail": _ROW_SLOPE + ", more than {limit:g}: the logits are scaled, up in some "
    "rows and down in others.",
    "gate.row_slope.prompt": "The logits of prompt {prompt} are scaled by {slope:+.3f}, which is "
    "{standing:.3g} times what single rows explain, the arms' at most {largest:.3g} times: "
    "beyond the limit of {limit:.3g}.",
    "gate.row_slope.missing": "Scale of single rows: {reason}.",
    # How the run went
    "gate.nonfinite.pass": "All logits of {rows} {rows:row|rows} are finite.",
    "gate.nonfinite.fail": "{broken} of {rows} {rows:row|rows} {broken:holds|hold} NaN or "
    "infinite logits, {broken:at|first at} position {position} of prompt {prompt}.",
    "gate.nonfinite.beyond": "All logits of {rows} judged {rows:row|rows} are finite, and "
    "{broken} other {broken:row of the candidate's holds|rows of the candidate's hold} NaN or "
    "infinite logits, {broken:in|first in} prompt {prompt}.",
    "gate.nonfinite.reference": "The candidate is finite, {broken} of {rows} {rows:row|rows} of "
    "the reference {broken:is|are} not: the baseline cannot judge it.",
    "gate.masks.none": "No id is masked in {rows:the|any of the} {rows} {rows:row|rows}.",
    "gate.masks.pass": "Candidate and reference mask the same ids in {rows:the|each of the} {rows} "
    "{rows:row|rows}; {masked} {masked:row has|rows have} masks.",
    "gate.masks.fail": "{other} of {rows} {rows:row|rows} {other:masks|mask} other ids than the "
    "reference, {other:at|first at} position {position} of prompt {prompt}: {mine} "
    "{mine:id|ids} against {theirs}.",
    "gate.masks.untold": "The candidate masks ids in {masked} of {rows} {rows:row|rows}, and the "
    "baseline is older than masks are recorded: make it again (--update-baselines).",
    "gate.masks.missing": "Masks were not compared: one side does not say which ids it masks (a "
    "server, or an older recording).",
    "gate.coverage.pass": "All {expected} {expected:position|positions} of the baseline were "
    "judged.",
    "gate.coverage.open": "{judged} of {expected} {expected:position|positions} of the baseline "
    "{judged:was|were} judged: {reasons:list}.",
    "coverage.not_run": "{prompts} {prompts:prompt was|prompts were} not run",
    "coverage.diverged": "{prompts} {prompts:prompt was|prompts were} judged up to the divergence "
    "only (record with --context to replay the rest)",
    "coverage.ended": "{prompts} {prompts:prompt was|prompts were} stopped elsewhere without "
    "another token (compare the eos ids of both)",
    # Stops and lengths
    "gate.routes.same": "Every router chose the oracle's experts in all {prompts} "
    "{prompts:prompt|prompts}.",
    "gate.routes.pass": "Routers left the oracle's choice in {departed} of {prompts} "
    "{prompts:prompt|prompts}, first at router margins of at most {margin:.3g} logits; the arms' "
    "noise explains up to {widest:.3g}.",
    "gate.routes.untold": "Routers left the oracle's choice in {departed} of {prompts} "
    "{prompts:prompt|prompts}, no more often than in the arms; up to which margin noise "
    "explains it is not known.",
    "gate.routes.margin": "In {beyond} of {prompts} {prompts:prompt|prompts} a router first left "
    "the oracle's choice at a margin that noise does not explain: {margin:.3g} logits in {prompt}, "
    "and the arms' noise explains up to {widest:.3g}.",
    "gate.routes.more": "Routers chose other experts than the oracle's for {tokens} "
    "{tokens:token|tokens}, where those of the arms do for {arms:.3g}: more than noise explains.",
    "gate.routes.missing": "The device does not tell the routes of every prompt. A correct row "
    "whose route flipped can then fail a guard; run one request at a time and without graphs.",
    "gate.stops.pass": "{prompts} {prompts:prompt|prompts} ended as the recording says.",
    "gate.stops.wrong": "The ends of {wrong} of {prompts} {prompts:prompt|prompts} do not fit the "
    "tokens: {reasons:list}.",
    "stops.short": "{runs} {runs:run|runs} stopped for length too early (prompt {prompt}: {tokens} "
    "of {limit} {limit:token|tokens})",
    "stops.long": "{runs} {runs:run is|runs are} longer than the limit (prompt {prompt}: {tokens} "
    "{tokens:token|tokens}, where {limit} were asked for)",
    "stops.ignored": "{runs} {runs:run|runs} stopped at an eos id, which was to be ignored (prompt "
    "{prompt}: after {tokens} of {limit} {limit:token|tokens})",
    "stops.unfinished": "{runs} {runs:run|runs} stopped for an eos id, and the last token is not "
    "one (prompt {prompt}: {tokens} of {limit} {limit:token|tokens})",
    "stops.unnamed": "{runs} {runs:run|runs} stopped for an eos id, and no eos id is recorded "
    "(prompt {prompt}: {tokens} of {limit} {limit:token|tokens})",
    "stops.passed": "{runs} {runs:run|runs} went on behind an eos id (prompt {prompt}, {tokens} of "
    "{limit} {limit:token|tokens})",
    "stops.broken_off": "{runs} {runs:run|runs} ended neither by an eos id nor for length (prompt "
    "{prompt}: {stop!r} after {tokens} of {limit} {limit:token|tokens})",
    "stops.misplaced": "the stop of {runs} {runs:run|runs} does not belong to its replay (prompt "
    "{prompt}: {stop!r} at {tokens} of {limit} {limit:token|tokens})",
    "stops.finite": "{runs} {runs:run|runs} stopped for a row without a finite logit, and the last "
    "row has some (prompt {prompt}: {tokens} of {limit} {limit:token|tokens})",
    "stops.cut": "{runs} {runs:run|runs} followed tokens that are not a whole output (prompt "
    "{prompt}: {tokens} of {limit} {limit:token|tokens})",
    "gate.texts.equal": _TEXTS + _NO_POSITION,
    "gate.texts.differ": _TEXTS + "; different: {parted:list}" + _NO_POSITION,
    "gate.texts.more": _TEXTS + "; different: {parted:list} and {more} more" + _NO_POSITION,
    "text.parted": "{prompt} from character {place} on ({candidate!r} against {reference!r})",
    "gate.no_logits": "There is only text: no token ids and no logits to judge.",
    "gate.determinism.missing": "No prompt was run twice.",
    "gate.determinism.pass": "A repeated run gave the same bits in all {rows} {rows:row|rows}.",
    "gate.determinism.broken": _REPEATED + ", {unexplained} of them by NaN, infinities, other "
    "masks or an early end.",
    "gate.determinism.left": _REPEATED + ": {reasons:list}.",
    "determinism.token": "{count} repeated {count:run|runs} chose another token, which the row "
    "does not explain",
    "determinism.ended": "{count} {count:row|rows} where one of the two runs had ended, or ended "
    "for another reason",
    "determinism.broken": "{count} {count:row|rows} with NaN, infinities or other masks in "
    "one of the two runs",
    "gate.determinism.beyond": _REPEATED + ", by up to {shift:.4g} logits, more than the noise "
    "explains.",
    "gate.determinism.warn": _REPEATED + ", {judged}: the device does not repeat bit for bit.",
    "gate.determinism.mend": _REPEATED + ", {judged}: the device does not repeat bit for bit, "
    "and {variables} may help.",
    "determinism.within": "all within the tolerance",
    "determinism.unknown": "without a known tolerance to judge them by",
}

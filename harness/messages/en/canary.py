"""The canary, in English."""

from __future__ import annotations

_LAYER = "Layer {layer}: "

MESSAGES: dict[str, str] = {
    # The outcome
    "canary.exact": "every bit is right: {exact} of {rows} rows of logits, {right} of {tokens} "
    "tokens.",
    "canary.wrong": "{exact} of {rows} rows of logits have every bit right, {right} of {tokens} "
    "tokens are right.",
    # Whole rows
    "canary.nonfinite": "{count} {count:row holds|rows hold} NaN or infinity, first in prompt "
    "{prompt} at position {position}: look for an overflow, or for memory that was not written.",
    "canary.head_shards": "The logits are right but in another order: the output head's "
    "{shards} shards of the vocabulary are exchanged; check how they are gathered.",
    "canary.head_missing": "Part {part} of {shards} of the vocabulary has no logits: a shard of "
    "the output head is missing; check how the shards are gathered.",
    "canary.batch_rows": "Batch rows are exchanged: prompt {prompt} got {rows} "
    "{rows:row|rows} of prompt {other}; check the order of requests in the batch.",
    "canary.stale_row": "{rows} {rows:row is|rows are} right, but of {steps} {steps:step|steps} "
    "before: a graph ran on stale inputs, or an output was read too early.",
    "canary.stale_input": "{rows} {rows:row was|rows were} computed from the token of {steps} "
    "{steps:step|steps} before: a stale input; check which buffer a captured graph reads.",
    "canary.frozen_input": "{rows} {rows:row was|rows were} all computed from one and the same "
    "token: a stale input; check which buffer a captured graph reads.",
    "canary.embedding": "The token that is put in is another than the one given, in {rows} of "
    "{count} rows: look at the embedding and at what prepares the inputs.",
    "canary.embedding_missing": "The embedding gives nothing in {rows} {rows:row|rows}: a shard "
    "of it is missing, or its sum over shards.",
    "canary.embedding_shards": "The embedding's shards are exchanged: tokens get the vectors of "
    "others, a part of the vocabulary away ({shards} parts); check the order of the shards.",
    "canary.embedding_scale": "Embeddings are {factor:.4g} times as large as they should be: they "
    "are multiplied by the root of the hidden size once, no more and no less; check where.",
    "canary.norm_plus_one": "One copy of the token's bits is left in every row, which the last "
    "norm must cancel: this family's norms multiply by 1 + weight, not by weight; check that.",
    "canary.norm_after": "Something is left in every row that the norms after attention and MLP "
    "must take away: one of them is missing, or exchanged with another norm.",
    "canary.cap_missing": "The logits are those before the soft-cap of {cap:g}: it is not applied; "
    "check that final_logit_softcapping is read.",
    "canary.cap_other": "The logits are right but for their soft-cap, which is another than "
    "{cap:g}, or applied in another way or dtype; check final_logit_softcapping.",
    "canary.size": "All values of a row are right but for its size, {low:.6g} to {high:.6g} "
    "times in {rows} {rows:row|rows}: look at the last norm (weight, epsilon) and at scales of "
    "the logits.",
    "canary.output_head": "Every value of the model is right, and {ids} {ids:logit is|logits are} "
    "not ({symbols} of them symbols, off by up to {error:.3g}, in {rows} {rows:row|rows}; ids "
    "{which}): look at the output head.",
    "canary.embedding_tokens": "{count} {count:token has|tokens have} the vector of another, or "
    "none, wherever they come (ids {tokens}): look at those rows of the embedding.",
    "canary.residual_added": "The bits of the token that was put in keep their signs and not "
    "their sizes in all {rows} {rows:row|rows}: something is added to the residual that should "
    "not be, as a bias.",
    "canary.residual": _LAYER + "the residual is not added after its {part}: all that was "
    "computed before is gone.",
    "canary.norm_last": "Every value of a row is right but for a size of its own, {low:.3g} to "
    "{high:.3g} times: the last norm has the weights of another norm, or none.",
    "canary.read_out": "Some values are wrong where they are read out, and nothing that is made of "
    "them is ({rows} {rows:row|rows}): look at the last norm's weights and at the output head.",
    "canary.choice": "The rows are right, but token {token} was taken in row {row} of prompt "
    "{prompt} where {best} is the best: look at the sampler.",
    # RoPE and positions
    "canary.rope_far": _LAYER + "RoPE: heads that look {distance} or more positions back are "
    "wrong, nearer ones are right; the rotation's frequencies are off (base, theta, scaling, "
    "or the precision of positions).",
    "canary.rope_base": _LAYER + "RoPE: the values are those of a base (theta) {factor:.4g} "
    "times the right one; check rope_theta and where it is read.",
    "canary.rope_linear": _LAYER + "RoPE: the values are those of positions divided by "
    "{factor:.4g}; check the scaling of RoPE.",
    "canary.rope_interleaved": _LAYER + "RoPE: the values are those of the interleaved layout, "
    "which pairs neighbouring dimensions; this model pairs the two halves of a head.",
    "canary.rope_halves": _LAYER + "RoPE: the values are those of the layout that pairs the two "
    "halves of a head; this model pairs neighbouring dimensions.",
    "canary.rope_keys_only": _LAYER + "RoPE: the values are those of keys that are turned and "
    "queries that are not.",
    "canary.rope_backwards": _LAYER + "RoPE: the values are those of a rotation the other way; "
    "check the sign of the sine.",
    "canary.rope_table": _LAYER
    + "LongRoPE: the values are those of the {actual} table of factors, "
    "and these requests need the {wanted} one; check original_max_position_embeddings and how the "
    "engine chooses a table.",
    "canary.rope_unscaled": _LAYER + "LongRoPE: the values are those of RoPE without its factors; "
    "check that rope_type and the tables of factors are read.",
    "canary.rope_not_scaled": _LAYER + "RoPE: the values are those of frequencies that are not "
    "scaled; check that rope_type {kind} and its entries are read.",
    "canary.rope_scaled": _LAYER + "RoPE: the values are those of frequencies that are scaled as "
    "{kind} (factor {factor:g}, original context {original:g}), and this model has no scaling.",
    "canary.rope_scaled_other": _LAYER + "RoPE: the values are those of another scaling of the "
    "frequencies ({kind}: factor {factor:g}, original context {original:g}, from {few:g} to "
    "{many:g} turns); check the entries of rope_scaling and how they are used.",
    "canary.rope_none": _LAYER + "RoPE: the values are those of no rotation at all.",
    "canary.positions": _LAYER + "positions: every head reads {shift:+d} further back than it "
    "should; queries and keys have positions with an offset between them.",
    "canary.positions_from": _LAYER + "positions: rows from position {position} on read what is "
    "before it {shift:+d} further back than they should; positions jump there by an offset.",
    "canary.positions_decode": _LAYER + "positions: decode steps read the prompt {shift:+d} "
    "further back than they should; their positions have an offset, or are those of another "
    "step (stale).",
    # Heads
    "canary.attention_nothing": _LAYER + "attention gives nothing; its output is not added, or "
    "is zero.",
    "canary.layer_order": _LAYER + "it runs before what it reads was computed: the layers, or "
    "their attention or MLP, are in another order.",
    "canary.attention_constant": _LAYER + "head {heads} gives one and the same value in every row, "
    "whatever the tokens are: its values are not made of the tokens, as where the projections of "
    "keys and values are exchanged.",
    "canary.norm_attention": _LAYER + "heads copy the right bits in wrong sizes, {low:.3g} to "
    "{high:.3g} times: the norm before its attention has the weights of another norm, or none.",
    "canary.head_nothing": _LAYER + "head {heads} gives nothing.",
    "canary.head_flat": _LAYER + "head {heads} takes the mean of all positions: its query or "
    "key is nothing.",
    "canary.head_layer": _LAYER + "head {heads} looks as far back as the head of its number in "
    "layer {other}: its query is that layer's.",
    "canary.kv_nothing": _LAYER + "KV head {heads} gives nothing (heads {shares}).",
    "canary.head_exchanged": _LAYER + "heads {a} and {b} are exchanged.",
    "canary.head_copied": _LAYER + "head {a} does the work of head {b}.",
    "canary.head_order": _LAYER + "the heads are in another order, as {shards} parts or shards "
    "that changed places; check how the projections are sharded.",
    "canary.kv_exchanged": _LAYER + "KV heads {a} and {b} are exchanged ({part}).",
    "canary.kv_copied": _LAYER + "KV head {a} holds what is KV head {b}'s ({part}).",
    "canary.kv_order": _LAYER + "the KV heads are in another order ({part}), as {shards} parts or "
    "shards that changed places; check how they are sharded.",
    "canary.kv_tiled": _LAYER + "head h uses KV head h modulo {kv_heads}: KV heads are repeated "
    "as a whole instead of one by one.",
    "canary.kv_same": _LAYER + "all heads use one of the {kv_heads} KV heads.",
    "canary.head_reads": _LAYER + "head {head} reads {distance} positions back instead of "
    "{wanted}.",
    "canary.head_bit": _LAYER + "head {head} reads another value, {distance} positions back "
    "(right: its own, {wanted} back).",
    "canary.heads": _LAYER + "head {heads} ({distances} back) is wrong, and what it reads fits no "
    "pattern.",
    "canary.factor": _LAYER + "the attention's output is {factor:.4g} times the right one: added "
    "more than once over shards, or scaled.",
    # Window
    "canary.causal": _LAYER + "causal mask: a token sees {count} {count:position|positions} ahead.",
    "canary.stale_length": _LAYER + "a token does not see itself, but what is {count} "
    "{count:position|positions} back: the sequence length or the newest token's slot is stale.",
    "canary.window_short": _LAYER + "sliding window: a token sees {seen} "
    "{seen:position|positions}, itself included, and no further; check the window's length.",
    "canary.window_long": _LAYER + "sliding window: a token sees {seen} positions, itself "
    "included, but the window is {window}; it is too long, often by one.",
    # Cache
    "canary.prefix": _LAYER + "the cache of positions {first} to {last} holds another prompt's "
    "tokens ({other}): a prefix or a block was reused wrongly.",
    "canary.slot": _LAYER + "cache slot: position {slots} (block {blocks}) is not read as it was "
    "written; check the slot mapping.",
    "canary.block": _LAYER + "cache block: positions {first} to {last} (blocks {blocks} of "
    "{page}) are not read as they were written: a stale block or a wrong block table.",
    "canary.offset": _LAYER + "cache slot: place {offsets} of every block of {page} is not read as "
    "it was written; check the slot mapping and the block size.",
    "canary.chunk_at": _LAYER + "chunk boundary: rows from position {position} on do not see "
    "right what is before it, where a chunk of the prompt begins.",
    "canary.border": _LAYER
    + "chunk boundary, cached prefix or resumed request: rows from position "
    "{position} on do not see right what is before it.",
    "canary.positions_frozen": _LAYER + "positions: all decode steps have one and the same "
    "position: it is stale; check what a captured graph reads.",
    "canary.decode_border": _LAYER + "decode steps do not see right what the prefill cached: "
    "look at the cache that it wrote, and at the positions and lengths of decode steps.",
    "canary.decode_rows": _LAYER + "attention is wrong in decode steps only: look at their "
    "kernel and at what it is given (lengths, positions, block tables, stale inputs of a graph).",
    "canary.rows": _LAYER + "attention is wrong in the rows from position {first} to {last} only.",
    "canary.requests": _LAYER + "attention is wrong in some requests of the batch only: "
    "{prompts:list}; check lengths and block tables by request.",
    "canary.leak": _LAYER + "head {heads} takes {share:.2g} of its value from other positions "
    "(the farthest looks {distance} back): the softmax is too flat, or RoPE or positions are "
    "slightly off.",
    "canary.attention": _LAYER + "something else is wrong in its attention: {wrong} values of "
    "heads {heads} fit no known pattern.",
    # MLP
    "canary.gate_up": _LAYER + "gate and up of the MLP are exchanged.",
    "canary.mlp_nothing": _LAYER + "the MLP gives nothing; its output is not added, or is zero.",
    "canary.mlp_missing": _LAYER + "bits {bits} of the MLP are missing: a part of its units, as "
    "a shard, gives nothing.",
    "canary.mlp_factor": _LAYER + "the MLP's output is {factor:.4g} times the right one: added "
    "more than once over shards, or scaled.",
    "canary.norm_mlp": _LAYER + "the bits of the MLP have wrong sizes, {low:.3g} to {high:.3g} "
    "times: the norm before it has the weights of another norm, or none.",
    "canary.mlp_factor_some": _LAYER + "bits {bits} of the MLP are {factor:.4g} times the right "
    "ones: a part of its units, as a shard, is added more than once, or scaled.",
    "canary.mlp_order": _LAYER + "bits {bits} of the MLP are in each other's places: check the "
    "order of its shards.",
    "canary.mlp_pairs": _LAYER + "bits {bits} of the MLP take the gate of one unit and the up of "
    "another: the shards of gate and up do not belong together.",
    "canary.experts_unnormalized": _LAYER + "experts: the output is {factor:.3g} times the right "
    "one, as of weights that are not normalized over the two experts of a token; check "
    "norm_topk_prob or renormalize.",
    "canary.experts_one": _LAYER + "experts: one of a token's two experts does all the work; check "
    "how many are chosen (num_experts_per_tok).",
    "canary.expert_nothing": _LAYER + "expert {expert} gives nothing.",
    "canary.experts_missing": _LAYER + "experts {experts} give nothing, as a shard of the experts "
    "that is missing.",
    "canary.experts_exchanged": _LAYER + "experts {a} and {b} are exchanged.",
    "canary.expert_copied": _LAYER + "expert {b} works in the place of expert {a}.",
    "canary.experts_order": _LAYER + "the {experts} experts are in another order, rotated or "
    "reversed; check how they are sharded and how the router numbers them.",
    "canary.mlp": _LAYER + "something else is wrong in its MLP: {wrong} values of bits {bits} "
    "fit no known pattern.",
    "canary.unknown": "Something else is wrong: {rows} {rows:row is|rows are} not exact, and no "
    "known pattern fits.",
    # Servers
    "canary.tokens": "{wrong} of {count} tokens are wrong, first in prompt {prompt}, token {row}: "
    "a server shows no rows, so run the same engine as a device to see the cause.",
    "canary.short": "Prompt {prompt} ended after {count} of {wanted} tokens.",
    "canary.gaps": "The tokens are right and their log-probabilities are not (prompt {prompt}, "
    "off by up to {error:.3g}): look at the last norm, the output head and scales of the logits.",
    # A cell of the matrix
    "canary.cell.no_checkpoint": "{device} runs no checkpoint",
    "canary.cell.right": "Every bit of a model whose logits are known is right.",
    "canary.cell.wrong": "Bits of a model whose logits are known are wrong: {causes:list}",
    # The page
    "canary.title": "Canary on {device}",
    "canary.stage": "stage",
    "canary.stage.prefill": "one pass",
    "canary.stage.decode": "one request",
    "canary.stage.batch": "batch",
    "canary.stage.chunked": "cut prompts",
    "canary.stage.prefix": "reused prefix",
    "canary.stage.long": "longest context",
    "canary.stage.aborted": "mixed lengths after aborted requests",
    "canary.stage.preempted": "full cache",
    "canary.stage.after": "one request, afterwards",
    "canary.stage.long_table": "beyond the original context",
    "canary.table.short": "short table",
    "canary.table.long": "long table",
    "canary.dropped": "{count} {count:request|requests} aborted before",
    "canary.preemptions": "{count} {count:preemption|preemptions}",
    "canary.preemptions.none": "Preemption was not tested: no request lost its cache, by the "
    "engine's own count.",
    "canary.preemptions.uncounted": "Preemption was not tested: {device} does not count it.",
    "canary.soak.right": "Soak: every bit was right in {rounds} {rounds:round|rounds}, "
    "{seconds:.0f} s.",
    "canary.soak.wrong": "Soak: the first wrong bit came in round {first}, after {after:.0f} s; "
    "{wrong} of {rounds} {rounds:round|rounds} had wrong bits.",
    "canary.requests_head": "requests",
    "canary.longest": "longest, tokens",
    "canary.exact_rows": "rows with every bit right",
    "canary.right_tokens": "right tokens",
    "canary.seconds": "seconds",
    "canary.also": "also in: {stages:list}",
    "canary.first_in": "first in stage {stage}",
    "canary.probes": "Probes",
    "canary.probes.help": "Each square is one value of the model that every row of logits reads "
    "out: green where all rows are right, red where any is wrong. What is computed first is on "
    "top; the first red row is where the fault is, and what follows it may be wrong because of it.",
    "canary.probe.right": "{name}: right in all {rows} rows",
    "canary.probe.wrong": "{name}: wrong in {wrong} of {rows} rows",
    "canary.line.input": "input",
    "canary.line.norm": "size",
    "canary.line.attention": "layer {layer}, heads",
    "canary.line.mlp": "layer {layer}, MLP",
    "canary.sizes": "Sizes",
    "canary.legend": "The canary is a model made by hand: its logits follow from integer "
    "arithmetic, so it needs no reference and no tolerance. It does not see scales and "
    "quantization.",
}

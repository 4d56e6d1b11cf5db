"""What a diagnosis says, in English."""

from __future__ import annotations

MESSAGES: dict[str, str] = {
    # The outcome
    "diagnosis.nothing": "The error has no part that rounding does not have, as far as this "
    "suite tells: no cause explains it.",
    "diagnosis.nothing.listed": "The error has no part that rounding does not have, as far as "
    "the {listed} largest log-probabilities of each position tell (less than whole rows): no "
    "cause explains it.",
    "diagnosis.slight": "{best:clause}. That is {effect:.2g} % of the arms' rounding, so "
    "small that it is a warning only.",
    "warning.no_diagnosis": "No diagnosis: {reason}",
    "explanation": "Explained by {cause}: the error is what {size:,g} would give; that is "
    "{share:.0f} % of the error beyond rounding.",
    "explanation.listed": "Explained by {cause}, as far as the {listed} largest "
    "log-probabilities of each position tell (less than whole rows): the error is what "
    "{size:,g} would give; that is {share:.0f} % of the error beyond rounding.",
    # Sizes
    "size.instead": "{value} ({low} to {high}) in place of {now}",
    "size.times": "a factor of {value} ({low} to {high})",
    "size.share": "{value} times that rounding ({low} to {high})",
    "size.done": "{value} times that change ({low} to {high})",
    "size.added": "{value} more in it ({low} to {high})",
    # Causes
    "cause.rope_base": "the RoPE base",
    "cause.rope_scale": "the RoPE positions (a linear scaling)",
    "cause.norm_epsilon": "the epsilon of the norms",
    "cause.kv_int8": "a KV cache in int8",
    "cause.kv_fp8": "a KV cache in fp8",
    "cause.bos_added": "a BOS before every prompt that has none",
    "cause.bos_missing": "prompts without the BOS that they begin with",
    "cause.gate_up_exchanged": "gate and up exchanged in every MLP",
    "cause.norms_exchanged": "the two norms exchanged in every layer",
    "cause.rope_interleaved": "RoPE that rotates neighbours in place of halves, or the other "
    "way round",
    "cause.kv_heads_reversed": "KV heads in the opposite order",
    "cause.heads_tiled": "query heads that read the wrong KV heads (tiled in place of repeated)",
    "cause.bias_missing": "queries, keys and values without their bias",
    "cause.softmax_scale.all": "the scale of the attention scores in all layers",
    "cause.softmax_scale.layer": "the scale of the attention scores in layer {layer}",
    "cause.attention.all": "what attention adds, in all layers",
    "cause.attention.layer": "what the attention of layer {layer} adds",
    "cause.mlp.all": "what the MLPs add, in all layers",
    "cause.mlp.layer": "what the MLP of layer {layer} adds",
    "cause.layer.all": "what all layers add",
    "cause.layer.layer": "what layer {layer} adds",
    "cause.norm": "the scale of the norm {module}",
    "cause.norm.all": "the scale of all norms in the layers",
    "cause.linear": "the scale of {module}",
    "cause.head": "head {index} of {module}",
    "cause.query_head": "the attention scores of head {index} of {module}",
    "cause.value_head": "the values of KV head {index} of {module}",
    "cause.logit_scale": "the scale of the logits",
    "cause.embedding_scale": "the scale of the embedding",
    "cause.row": "row {index} of {module}",
    "cause.column": "column {index} of {module}",
    "cause.channel": "channel {index} of {module}",
    "cause.weight": "the weight at row {index}, column {column} of {module}",
    "cause.embedding_row": "the embedding of token {index}",
    "cause.head_row": "the logit of token {index}",
    "cause.rounded.all": "the weights of all layers, rounded to {format}",
    "cause.rounded.layer": "the weights of layer {layer}, rounded to {format}",
    "cause.rounded.module": "{module}, rounded to {format}",
}

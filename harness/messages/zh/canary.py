"""The canary, in Chinese."""

from __future__ import annotations

_LAYER = "第 {layer} 层："

MESSAGES: dict[str, str] = {
    # The outcome
    "canary.exact": "每一位都正确：{rows} 行 logit 中的 {exact} 行，"
    "{tokens} 个词元中的 {right} 个。",
    "canary.wrong": "{rows} 行 logit 中有 {exact} 行每一位都正确，"
    "{tokens} 个词元中有 {right} 个正确。",
    # Whole rows
    "canary.nonfinite": "有 {count} 行含 NaN 或无穷大，最先出现在提示 {prompt} 的位置 {position}："
    "请查找溢出，或未写入的内存。",
    "canary.head_shards": "logit 的值正确但顺序不对：输出头词表的 {shards} 个分片被交换；"
    "请检查分片的汇集方式。",
    "canary.head_missing": "词表 {shards} 份中的第 {part} 份没有 logit：缺少输出头的一个分片；"
    "请检查分片的汇集方式。",
    "canary.batch_rows": "批次的行被交换：提示 {prompt} 得到了提示 {other} 的 {rows} 行；"
    "请检查批次中请求的顺序。",
    "canary.stale_row": "有 {rows} 行的值正确，但属于 {steps} 步之前：图使用了过期的输入，"
    "或者过早读取了输出。",
    "canary.stale_input": "有 {rows} 行是用 {steps} 步之前的词元计算的：输入已过期；"
    "请检查捕获的图读取哪个缓冲区。",
    "canary.frozen_input": "有 {rows} 行都是用同一个词元计算的：输入已过期；"
    "请检查捕获的图读取哪个缓冲区。",
    "canary.embedding": "{count} 行中有 {rows} 行的输入词元与所给的不同："
    "请检查嵌入层以及输入的准备。",
    "canary.embedding_missing": "有 {rows} 行的嵌入为零：缺少一个分片，或缺少分片之间的求和。",
    "canary.embedding_shards": "嵌入层的分片被交换："
    "词元得到了相距一份词表的其他词元的向量（共 {shards} 份）；"
    "请检查分片的顺序。",
    "canary.embedding_scale": "嵌入是应有大小的 {factor:.4g} 倍："
    "它们应恰好乘一次隐藏维度的平方根；请检查乘在何处。",
    "canary.norm_plus_one": "每一行都留下了一份词元的位，而最后的归一化应将其抵消："
    "这一模型族的归一化乘以 1 + 权重，而不是权重；请检查。",
    "canary.norm_after": "每一行都留下了注意力和 MLP 之后的归一化应去掉的值："
    "其中一个归一化缺失，或与另一个被交换。",
    "canary.cap_missing": "logit 是经过 {cap:g} 的软上限之前的值：软上限没有应用；"
    "请检查 final_logit_softcapping 是否被读取。",
    "canary.cap_other": "除软上限外 logit 都正确：软上限不是 {cap:g}，"
    "或应用的方式或数据类型不同；请检查 final_logit_softcapping。",
    "canary.size": "有 {rows} 行除大小外所有值都正确，大小为应有的 {low:.6g} 到 {high:.6g} 倍："
    "请检查最后的归一化（权重、epsilon）以及 logit 的缩放。",
    "canary.output_head": "模型的每个值都正确，但有 {ids} 个 logit 不正确"
    "（其中 {symbols} 个是符号，最多相差 {error:.3g}，共 {rows} 行；编号 {which}）：请检查输出头。",
    "canary.embedding_tokens": "{count} 个词元（编号 {tokens}）无论出现在何处，"
    "都得到另一个词元的向量或没有向量：请检查嵌入的这些行。",
    "canary.residual_added": "输入词元的位在全部 {rows} 行中符号正确而大小错误："
    "残差中加入了不该有的内容，例如偏置。",
    "canary.residual": _LAYER + "{part} 之后没有加上残差：此前计算的一切都丢失了。",
    "canary.norm_last": "一行的每个值都正确，但各有各的大小（{low:.3g} 到 {high:.3g} 倍）："
    "最后的归一化使用了另一个归一化的权重，或没有权重。",
    "canary.read_out": "有些值在读出时错误，但由它们计算的内容都正确（{rows} 行）："
    "请检查最后归一化的权重和输出头。",
    "canary.choice": "各行正确，但提示 {prompt} 的第 {row} 行选了词元 {token}，而最大的是 {best}："
    "请检查采样器。",
    # RoPE and positions
    "canary.rope_far": _LAYER + "RoPE：回看 {distance} 个位置或更远的头错误，更近的正确；"
    "旋转的频率有偏差（base、theta、缩放，或位置的精度）。",
    "canary.rope_base": _LAYER + "RoPE：这些值相当于 base（theta）为正确值的 {factor:.4g} 倍；"
    "请检查 rope_theta 以及读取它的地方。",
    "canary.rope_linear": _LAYER + "RoPE：这些值相当于位置除以 {factor:.4g}；请检查 RoPE 的缩放。",
    "canary.rope_interleaved": _LAYER
    + "RoPE：这些值相当于交错（interleaved）布局，即相邻维度成对；"
    "此模型是头的前后两半成对。",
    "canary.rope_halves": _LAYER + "RoPE：数值对应把头的前后两半成对的布局；此模型是相邻维度成对。",
    "canary.rope_keys_only": _LAYER + "RoPE：数值对应只旋转键而不旋转查询。",
    "canary.rope_backwards": _LAYER + "RoPE：这些值相当于反方向的旋转；请检查正弦的符号。",
    "canary.rope_table": _LAYER + "LongRoPE：数值对应 {actual} 因子表（short 短、"
    "long 长），而这些请求需要 {wanted} 表；请检查 "
    "original_max_position_embeddings 以及引擎如何选择因子表。",
    "canary.rope_unscaled": _LAYER + "LongRoPE：数值对应没有因子的 RoPE；"
    "请检查 rope_type 和因子表是否被读取。",
    "canary.rope_not_scaled": _LAYER + "RoPE：数值对应未缩放的频率；"
    "请检查 rope_type {kind} 及其各项是否被读取。",
    "canary.rope_scaled": _LAYER + "RoPE：数值对应按 {kind} 缩放的频率"
    "（因子 {factor:g}，原始上下文 {original:g}），而这个模型没有缩放。",
    "canary.rope_scaled_other": _LAYER + "RoPE：数值对应另一种频率缩放"
    "（{kind}：因子 {factor:g}，原始上下文 {original:g}，从 {few:g} 到 {many:g} 圈）；"
    "请检查 rope_scaling 的各项及其用法。",
    "canary.rope_none": _LAYER + "RoPE：这些值相当于完全没有旋转。",
    "canary.positions": _LAYER + "位置：每个头比应有的多回看 {shift:+d} 个位置；"
    "查询与键的位置之间有偏移。",
    "canary.positions_from": _LAYER + "位置：从位置 {position} 起的行，"
    "读取其之前的内容时比应有的多回看 {shift:+d} 个位置；位置在那里发生了偏移。",
    "canary.positions_decode": _LAYER + "位置：解码步骤读取提示时比应有的多回看 {shift:+d} 个位置；"
    "其位置有偏移，或属于另一步（已过期）。",
    # Heads
    "canary.attention_nothing": _LAYER + "注意力没有输出；其结果未被相加，或为零。",
    "canary.layer_order": _LAYER + "它在所读内容被计算之前运行：层、或其注意力或 MLP 的顺序不同。",
    "canary.attention_constant": _LAYER + "头 {heads} 在每一行都给出同一个值，与词元无关："
    "其值不是由词元得出的，例如键与值的投影互换了。",
    "canary.norm_attention": _LAYER + "各头复制的位正确但大小错误（{low:.3g} 到 {high:.3g} 倍）："
    "注意力之前的归一化使用了另一个归一化的权重，或没有权重。",
    "canary.head_nothing": _LAYER + "头 {heads} 没有输出。",
    "canary.head_flat": _LAYER + "头 {heads} 取所有位置的平均：它的查询或键为零。",
    "canary.head_layer": _LAYER + "头 {heads} 的回看距离与第 {other} 层同号的头相同："
    "其查询属于那一层。",
    "canary.kv_nothing": _LAYER + "KV 头 {heads} 没有输出（头 {shares}）。",
    "canary.head_exchanged": _LAYER + "头 {a} 与头 {b} 被交换。",
    "canary.head_copied": _LAYER + "头 {a} 做了头 {b} 的工作。",
    "canary.head_order": _LAYER + "头的顺序错误，相当于 {shards} 个部分或分片互换了位置；"
    "请检查投影的切分方式。",
    "canary.kv_exchanged": _LAYER + "KV 头 {a} 与 {b} 被交换（{part}）。",
    "canary.kv_copied": _LAYER + "KV 头 {a} 存的是 KV 头 {b} 的内容（{part}）。",
    "canary.kv_order": _LAYER + "KV 头的顺序错误（{part}），"
    "相当于 {shards} 个部分或分片互换了位置；请检查切分方式。",
    "canary.kv_tiled": _LAYER
    + "头 h 使用了第 h 模 {kv_heads} 个 KV 头：KV 头被整体重复，而不是逐个重复。",
    "canary.kv_same": _LAYER + "所有头都使用了 {kv_heads} 个 KV 头中的同一个。",
    "canary.head_reads": _LAYER + "头 {head} 回看 {distance} 个位置，而不是 {wanted} 个。",
    "canary.head_bit": _LAYER
    + "头 {head} 读取了另一个值，在 {distance} 个位置之前（正确的是它自己的值，"
    "{wanted} 个位置之前）。",
    "canary.heads": _LAYER + "头 {heads}（回看 {distances}）错误，其读取的内容不符合任何模式。",
    "canary.factor": _LAYER
    + "注意力的输出是正确值的 {factor:.4g} 倍：在分片之间多次相加，或被缩放。",
    # Window
    "canary.causal": _LAYER + "因果掩码：一个词元看到了之后 {count} 个位置。",
    "canary.stale_length": _LAYER + "一个词元看不到自己，而是看到 {count} 个位置之前："
    "序列长度或最新词元的槽已过期。",
    "canary.window_short": _LAYER
    + "滑动窗口：一个词元只看到 {seen} 个位置（包括自己）；请检查窗口的长度。",
    "canary.window_long": _LAYER
    + "滑动窗口：一个词元看到 {seen} 个位置（包括自己），而窗口是 {window}；"
    "窗口太长，常常多一个。",
    # Cache
    "canary.prefix": _LAYER
    + "位置 {first} 到 {last} 的缓存是另一个提示的词元（{other}）：前缀或块被错误地复用。",
    "canary.slot": _LAYER + "缓存槽：位置 {slots}（块 {blocks}）读出的与写入的不同；请检查槽映射。",
    "canary.block": _LAYER
    + "缓存块：位置 {first} 到 {last}（块 {blocks}，每块 {page}）读出的与写入的不同："
    "块已过期，或块表错误。",
    "canary.offset": _LAYER
    + "缓存槽：每个大小为 {page} 的块中，位置 {offsets} 读出的与写入的不同；"
    "请检查槽映射和块大小。",
    "canary.chunk_at": _LAYER
    + "分块边界：从位置 {position} 起的行不能正确看到之前的内容，提示的一个分块从那里开始。",
    "canary.border": _LAYER
    + "分块边界、缓存的前缀或恢复的请求：从位置 {position} 起的行不能正确看到之前的内容。",
    "canary.positions_frozen": _LAYER + "位置：所有解码步骤的位置都相同：位置已过期；"
    "请检查捕获的图读取的内容。",
    "canary.decode_border": _LAYER + "解码步骤不能正确看到预填充所缓存的内容："
    "请检查预填充写入的缓存，以及解码步骤的位置和长度。",
    "canary.decode_rows": _LAYER + "注意力只在解码步骤中错误："
    "请检查其内核及其输入（长度、位置、块表、图的过期输入）。",
    "canary.rows": _LAYER + "注意力只在位置 {first} 到 {last} 的行中错误。",
    "canary.requests": _LAYER
    + "注意力只在批次的某些请求中错误：{prompts:list}；请按请求检查长度和块表。",
    "canary.leak": _LAYER + "头 {heads} 的值有 {share:.2g} 来自其他位置（最远的回看 {distance} 个"
    "位置）：softmax 过于平缓，或者 RoPE 或位置略有偏差。",
    "canary.attention": _LAYER + "注意力中有其他错误："
    "头 {heads} 的 {wrong} 个值不符合任何已知模式。",
    # MLP
    "canary.gate_up": _LAYER + "MLP 的 gate 与 up 被交换。",
    "canary.mlp_nothing": _LAYER + "MLP 没有输出；其结果未被相加，或为零。",
    "canary.mlp_missing": _LAYER + "缺少 MLP 的位 {bits}：一部分单元（例如一个分片）没有输出。",
    "canary.mlp_factor": _LAYER
    + "MLP 的输出是正确值的 {factor:.4g} 倍：在分片之间多次相加，或被缩放。",
    "canary.norm_mlp": _LAYER + "MLP 的位大小错误（{low:.3g} 到 {high:.3g} 倍）："
    "其之前的归一化使用了另一个归一化的权重，或没有权重。",
    "canary.mlp_factor_some": _LAYER + "MLP 的位 {bits} 是正确值的 {factor:.4g} 倍："
    "其部分单元（例如一个分片）被多次相加或被缩放。",
    "canary.mlp_order": _LAYER + "MLP 的位 {bits} 互换了位置：请检查分片的顺序。",
    "canary.mlp_pairs": _LAYER
    + "MLP 的位 {bits} 使用了一个单元的 gate 和另一个单元的 up：gate 与 up 的分片不匹配。",
    "canary.experts_unnormalized": _LAYER + "专家：输出是正确值的 {factor:.3g} 倍，"
    "像是权重没有在词元的两个专家之间归一化；请检查 norm_topk_prob 或 renormalize。",
    "canary.experts_one": _LAYER + "专家：词元的两个专家中只有一个完成全部工作；"
    "请检查选择的专家数（num_experts_per_tok）。",
    "canary.expert_nothing": _LAYER + "专家 {expert} 没有输出。",
    "canary.experts_missing": _LAYER + "专家 {experts} 没有输出，像是缺少一个专家分片。",
    "canary.experts_exchanged": _LAYER + "专家 {a} 与 {b} 互换了。",
    "canary.expert_copied": _LAYER + "专家 {b} 代替专家 {a} 工作。",
    "canary.experts_order": _LAYER + "{experts} 个专家的顺序不同（轮转或颠倒）；"
    "请检查专家如何分片以及路由器如何编号。",
    "canary.mlp": _LAYER + "MLP 中有其他错误：位 {bits} 的 {wrong} 个值不符合任何已知模式。",
    "canary.unknown": "有其他错误：{rows} 行不精确，且不符合任何已知模式。",
    # Servers
    "canary.tokens": "{count} 个词元中有 {wrong} 个错误，最先是提示 {prompt} 的第 {row} 个词元："
    "服务器不提供整行 logit，请把同一引擎作为设备运行以查看原因。",
    "canary.short": "提示 {prompt} 在 {wanted} 个词元中的第 {count} 个之后结束。",
    "canary.gaps": "词元正确，但其对数概率不正确（提示 {prompt}，最大偏差 {error:.3g}）："
    "请检查最后的归一化、输出头以及 logit 的缩放。",
    # A cell of the matrix
    "canary.cell.no_checkpoint": "{device} 不运行任何检查点",
    "canary.cell.right": "logits 已知的模型每一位都正确。",
    "canary.cell.wrong": "logits 已知的模型有错误的位：{causes:list}",
    # The page
    "canary.title": "{device} 上的金丝雀",
    "canary.stage": "阶段",
    "canary.stage.prefill": "一次前向",
    "canary.stage.decode": "单个请求",
    "canary.stage.batch": "批次",
    "canary.stage.chunked": "分块的提示",
    "canary.stage.prefix": "复用的前缀",
    "canary.stage.long": "最长上下文",
    "canary.stage.aborted": "请求中止后的混合长度",
    "canary.stage.preempted": "缓存已满",
    "canary.stage.after": "之后的单个请求",
    "canary.stage.long_table": "超出原始上下文",
    "canary.table.short": "短因子表",
    "canary.table.long": "长因子表",
    "canary.dropped": "此前中止 {count} 个请求",
    "canary.preemptions": "{count} 次抢占",
    "canary.preemptions.none": "未测试抢占：按引擎自己的计数，没有请求失去缓存。",
    "canary.preemptions.uncounted": "未测试抢占：{device} 不计抢占次数。",
    "canary.soak.right": "浸泡：{rounds} 轮（{seconds:.0f} 秒）中每一位都正确。",
    "canary.soak.wrong": "浸泡：第一个错误位出现在第 {first} 轮，{after:.0f} 秒之后；"
    "{rounds} 轮中有 {wrong} 轮有错误位。",
    "canary.requests_head": "请求数",
    "canary.longest": "最长（词元）",
    "canary.exact_rows": "每一位都正确的行",
    "canary.right_tokens": "正确的词元",
    "canary.seconds": "秒",
    "canary.also": "还出现在：{stages:list}",
    "canary.first_in": "最先出现在阶段 {stage}",
    "canary.probes": "探针",
    "canary.probes.help": "每个方块是模型的一个值，每行 logit 都会读出它：所有行都正确为绿色，"
    "有任何一行错误为红色。"
    "先计算的在上面；第一个红色的行就是故障所在，其后的值可能因此而错误。",
    "canary.probe.right": "{name}：全部 {rows} 行正确",
    "canary.probe.wrong": "{name}：{rows} 行中有 {wrong} 行错误",
    "canary.line.input": "输入",
    "canary.line.norm": "大小",
    "canary.line.attention": "第 {layer} 层，头",
    "canary.line.mlp": "第 {layer} 层，MLP",
    "canary.sizes": "尺寸",
    "canary.legend": "金丝雀是手工构造的模型：它的 logit 由整数运算得出，因此不需要参考，"
    "也不需要容差。"
    "它看不到缩放和量化。",
}

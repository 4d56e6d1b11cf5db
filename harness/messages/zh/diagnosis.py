"""What a diagnosis says, in Chinese, with the keys of ``en``."""

from __future__ import annotations

MESSAGES: dict[str, str] = {
    # The outcome
    "diagnosis.nothing": "在这个提示集能看到的范围内，误差中没有舍入以外的部分："
    "没有任何原因能解释它。",
    "diagnosis.nothing.listed": "在每个位置最大的 {listed} 个对数概率能看到的范围内"
    "（少于完整的行），误差中没有舍入以外的部分：没有任何原因能解释它。",
    "diagnosis.slight": "{best:clause}。这是各臂舍入的 {effect:.2g} %，因为很小，所以只是警告。",
    "warning.no_diagnosis": "没有诊断：{reason}",
    "explanation": "可由{cause}解释：误差相当于{size:,g}，占舍入以外误差的 {share:.0f} %。",
    "explanation.listed": "在每个位置最大的 {listed} 个对数概率能看到的范围内（少于完整的行），"
    "可由{cause}解释：误差相当于{size:,g}，占舍入以外误差的 {share:.0f} %。",
    # Sizes
    "size.instead": "用 {value}（{low} 至 {high}）代替 {now}",
    "size.times": "乘以 {value}（{low} 至 {high}）",
    "size.share": "这种舍入的 {value} 倍（{low} 至 {high}）",
    "size.done": "该改动的 {value} 倍（{low} 到 {high}）",
    "size.added": "其值多出 {value}（{low} 至 {high}）",
    # Causes
    "cause.rope_base": "RoPE 的底数",
    "cause.rope_scale": "RoPE 的位置（线性缩放）",
    "cause.norm_epsilon": "归一化的 epsilon",
    "cause.kv_int8": "KV 缓存舍入为 int8",
    "cause.kv_fp8": "KV 缓存舍入为 fp8",
    "cause.bos_added": "每个提示前多了一个 BOS",
    "cause.bos_missing": "提示缺少开头的 BOS",
    "cause.gate_up_exchanged": "每个 MLP 中 gate 与 up 互换",
    "cause.norms_exchanged": "每层的两个归一化互换",
    "cause.rope_interleaved": "RoPE 旋转相邻元素而不是两半，或者相反",
    "cause.kv_heads_reversed": "KV 头的顺序相反",
    "cause.heads_tiled": "查询头读取了错误的 KV 头（平铺而不是重复）",
    "cause.bias_missing": "查询、键和值缺少偏置",
    "cause.softmax_scale.all": "所有层注意力分数的缩放",
    "cause.softmax_scale.layer": "第 {layer} 层注意力分数的缩放",
    "cause.attention.all": "所有层注意力的贡献",
    "cause.attention.layer": "第 {layer} 层注意力的贡献",
    "cause.mlp.all": "所有层 MLP 的贡献",
    "cause.mlp.layer": "第 {layer} 层 MLP 的贡献",
    "cause.layer.all": "所有层的贡献",
    "cause.layer.layer": "第 {layer} 层的贡献",
    "cause.norm": "归一化 {module} 的缩放",
    "cause.norm.all": "各层所有归一化的缩放",
    "cause.linear": "{module} 的缩放",
    "cause.head": "{module} 的第 {index} 个头",
    "cause.query_head": "{module} 第 {index} 个头的注意力分数",
    "cause.value_head": "{module} 第 {index} 个 KV 头的值",
    "cause.logit_scale": "logit 的缩放",
    "cause.embedding_scale": "嵌入的缩放",
    "cause.row": "{module} 的第 {index} 行",
    "cause.column": "{module} 的第 {index} 列",
    "cause.channel": "{module} 的第 {index} 个通道",
    "cause.weight": "{module} 第 {index} 行第 {column} 列的权重",
    "cause.embedding_row": "词元 {index} 的嵌入",
    "cause.head_row": "词元 {index} 的 logit",
    "cause.rounded.all": "所有层的权重舍入为 {format}",
    "cause.rounded.layer": "第 {layer} 层的权重舍入为 {format}",
    "cause.rounded.module": "{module} 舍入为 {format}",
}

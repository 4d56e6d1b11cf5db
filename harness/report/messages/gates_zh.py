"""Chinese for what the judgement says in English.

Gates, warnings and the verdict carry an English sentence in the alignment. In
Chinese the report puts its own together from the same figures, by the gate's
name and status; what is not known here stays in English.
"""

from __future__ import annotations

#: What a verdict means, before its figures.
VERDICTS: dict[str, str] = {
    "BIT_EXACT": "每个 logit 都与参考逐位相同",
    "TOKEN_EXACT": "词元相同，误差在参考实现自身的噪声之内",
    "EQUIVALENT": "词元只在由参考实现自身噪声决定的位置上不同",
    "INCONCLUSIVE": "没有发现错误，但证据不足以证明正确",
    "DRIFT": "计算结果的偏差超出参考实现自身的噪声",
    "DIVERGENT": "词元在参考实现自身噪声无法解释的位置上不同",
    "NON_DETERMINISTIC": "设备无法重复自身的结果",
    "NOT_COMPARABLE": "两者回答的不是同一个问题",
}

#: NOT_RUN with a figure is shown and not gated; POINT is INCONCLUSIVE without an interval.
_RATIO = {
    "PASS": "{what}为参考的 {found}，不超过 {threshold}。",
    "WARN": "{what}为参考的 {found}，上限 {threshold}：值得留意。",
    "FAIL": "{what}为参考的 {found}，超过 {threshold}。",
    "INCONCLUSIVE": "{what}为参考的 {found}，尚不能断定是否超过 {threshold}：需要更多提示。",
    "POINT": "{what}为参考的 {found}，提示太少，没有区间。",
    "NOT_RUN": "无法得出{what}。",
    "SHOWN": "{what}为参考的 {found}；数据太少，仅供查看，不作判据。",
}
_LIMITED = {
    "PASS": "{what}为 {found}，没有超过 {threshold} 的迹象。",
    "WARN": "{what}为 {found}，上限 {threshold}：值得留意。",
    "FAIL": "{what}为 {found}，超过 {threshold}。",
    "INCONCLUSIVE": "{what}为 {found}，尚不能断定是否超过 {threshold}：需要更多提示。",
    "NOT_RUN": "无法得出{what}。",
    "SHOWN": "{what}为 {found}；数据太少，仅供查看，不作判据。",
}
_COUNTED = {
    "PASS": "{what}为 {found}：噪声足以解释。",
    "WARN": "{what}为 {found}：多于对照，但不足以断定超出噪声，值得留意。",
    "FAIL": "{what}为 {found}：超出噪声（放大 1.5 倍后）所能解释的范围。",
    "NOT_RUN": "没有可比的对照，无法得出{what}。",
}


def _about(table: dict[str, str], what: str) -> dict[str, str]:
    return {status: text.replace("{what}", what) for status, text in table.items()}


#: Sentences by gate and status. Values: found, threshold, failing, flips,
#: positions, judged, expected, rate.
GATES: dict[str, dict[str, str]] = {
    "error_ratio": _about(_RATIO, "整个词表上的误差"),
    "top_k_error_ratio": _about(_RATIO, "最可能词元上的误差"),
    "point_guard": {
        "PASS": "全部 {positions} 个位置上，领先量的移动"
        "都在噪声可解释的范围内；{flips} 个位置翻转。",
        "FAIL": "{positions} 个位置中有 {failing} 个未通过。",
        "INCONCLUSIVE": "单个位置无法判定。",
        "NOT_RUN": "没有 oracle 和对照，也就没有判断单个位置的噪声底。",
    },
    "nonfinite": {
        "PASS": "{positions} 行的 logit 全部有限。",
        "FAIL": "待测有 {failing_rows} 行的 logit 含 NaN 或无穷大（判定了 {positions} 行）。",
        "INCONCLUSIVE": "待测的 logit 全部有限，参考却有含 NaN 或无穷大的行：基线无法判定它。",
    },
    "coverage": {
        "PASS": "基线的全部 {expected} 个位置都已判定。",
        "INCONCLUSIVE": "基线的 {expected} 个位置中判定了 {judged} 个。",
    },
    "determinism": {
        "PASS": "重复运行得到的每一行都逐位相同。",
        "WARN": "两次运行之间有 {rate} 的行不同，但在容差之内：设备不能逐位重复。",
        "FAIL": "两次运行之间有 {rate} 的行不同，且不是噪声所能解释的。",
        "NOT_RUN": "没有把任何提示运行两次。",
    },
    "exceedance": _about(_COUNTED, "大幅偏移的次数与对照噪声所允许的次数之比"),
    "flip_calibration": _about(_COUNTED, "翻转次数与由领先量和噪声预测的次数之比"),
    "bias": _about(_LIMITED, "系统性误差占均方误差的比例"),
    "slope": _about(_LIMITED, "logit 的缩放偏差"),
}

#: Paths that a gate may be split into, by the end of its name.
PATHS: dict[str, str] = {"prefill": "prefill：", "decode": "decode："}

#: Warnings, by a pattern of the English sentence.
WARNINGS: tuple[tuple[str, str], ...] = (
    (
        r"The suite has (\d+) prompts?: too few to judge prefill and decode apart, or to find "
        r"what shows in few places; from (\d+) prompts on both are\.",
        "测试集只有 {0} 个提示：不足以分别判定 prefill 与 decode，也不足以发现只在少数位置显现的"
        "问题；至少 {1} 个提示才能做到。",
    ),
    (
        r"The candidate ran forced-prefill only: no decode step of it was judged\.",
        "待测只运行了 forced-prefill：没有判定其任何 decode 步骤。",
    ),
    (
        r"(?s)(.+?) differs and was allowed: (.*) against (.*)\.",
        "{0} 不同，已获许可：{1}，基线为 {2}。",
    ),
    (
        r"(?s)(.+?) could not be told by one side, so it was not checked\.",
        "{0} 有一方无法提供，因此未检查。",
    ),
)

#: Sentences of the magnifier and the matrix, several of which may stand in one
#: text: replaced one after the other, what is not known stays.
PARTS: tuple[tuple[str, str], ...] = (
    (
        r"In (\w+), whose noise is lower, the computation differs: ",
        r"在噪声更低的 \1 下，计算结果不同：",
    ),
    (
        r"In (\w+), whose noise is lower, the error is (\S+) times the reference's",
        r"在噪声更低的 \1 下，误差为参考的 \2 倍",
    ),
    (r" \(95 % interval (\S+) to (\S+)\)", r"（95 % 区间 \1 至 \2）"),
    (r", not shown to exceed (\d+\.\d+)\.", r"，没有超过 \1 的迹象。"),
    (
        r"error (\S+) times the reference's over the whole vocabulary",
        r"整个词表上的误差为参考的 \1 倍",
    ),
    (
        r"error (\S+) times the reference's among the likeliest tokens",
        r"最可能词元上的误差为参考的 \1 倍",
    ),
    (r"Every logit is bit-equal in (\w+)\.", r"在 \1 下每个 logit 都逐位相同。"),
    (r"Not applicable in (\w+): ", r"\1 不适用："),
    (r"the run itself is in (\w+)", r"本次运行本身就使用 \1"),
    (r"the reference itself is not finite in it", "参考自身在该类型下就不是有限值"),
    (r"The same bits in all (\d+) rows\.", r"全部 \1 行逐位相同。"),
    (
        r"(\d+) of (\d+) rows have other bits, by up to (\S+) logits; judged by itself: (\w+)",
        r"\2 行中有 \1 行的位不同，最多相差 \3 logit；单独判定：\4",
    ),
    (r", error (\S+) times the reference's(?=\.)", r"，误差为参考的 \1 倍"),
    (r"The run was not judged\.", "本次运行未作判定。"),
    (r"Not run: ", "未运行："),
    (r"(\S+) runs one request at a time", r"\1 一次只运行一个请求"),
    (r"(\S+) runs no graphs", r"\1 不使用计算图"),
    (r"(\S+) keeps no prefix between requests", r"\1 不在请求之间保留前缀"),
    (r"(\S+) takes every prompt whole", r"\1 总是完整处理提示"),
    (
        r"(\S+) was started by somebody else, with arguments of its own",
        r"\1 由他人启动，参数不受控制",
    ),
    (r"no prompt is longer than a piece", "没有提示长于一段"),
    (
        r"no prompt is as long as a block of (\d+) tokens, so nothing would be cached; "
        r"take a suite with longer prompts, or --engine-arg block_size",
        r"没有提示长达一个 \1 词元的块，因此什么也不会缓存；"
        r"请换用提示更长的测试集，或设置 --engine-arg block_size",
    ),
)

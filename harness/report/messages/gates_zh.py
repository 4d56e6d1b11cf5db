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

_RATIO = {
    "PASS": "{what}为参考的 {found}，不超过 {threshold}。",
    "FAIL": "{what}为参考的 {found}，超过 {threshold}。",
    "INCONCLUSIVE": "{what}为参考的 {found}，区间跨过 {threshold}：需要更多提示才能判定。",
    "NOT_RUN": "无法得出{what}。",
}
_LIMITED = {
    "PASS": "{what}为 {found}，不超过 {threshold}。",
    "WARN": "{what}为 {found}，超过 {threshold}：值得留意。",
    "FAIL": "{what}为 {found}，超过 {threshold}。",
    "INCONCLUSIVE": "{what}为 {found}，区间跨过 {threshold}：需要更多提示才能判定。",
    "NOT_RUN": "无法得出{what}。",
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
        "FAIL": "{positions} 行中有 {failing_rows} 行的 logit 含 NaN 或无穷大（待测或参考）。",
    },
    "coverage": {
        "PASS": "基线的全部 {expected} 个位置都已判定。",
        "INCONCLUSIVE": "基线的 {expected} 个位置中判定了 {judged} 个。",
    },
    "determinism": {
        "PASS": "重复运行得到的每一行都逐位相同。",
        "WARN": "两次运行之间有 {rate} 的行不同，但在容差之内：设备不能逐位重复。",
        "FAIL": "两次运行之间有 {rate} 的行不同，且超出噪声所能解释的范围。",
        "NOT_RUN": "没有把任何提示运行两次。",
    },
    "exceedance": _about(_LIMITED, "大幅偏移的频率与对照之比"),
    "flip_calibration": _about(_LIMITED, "翻转次数与预测次数之比"),
    "bias": _about(_LIMITED, "系统性误差（各提示方向一致的部分）"),
    "slope": _about(_LIMITED, "误差随 logit 的斜率"),
    "magnifier": _about(_LIMITED, "float16 下的误差比"),
}

#: Paths that a gate may be split into, by the end of its name.
PATHS: dict[str, str] = {"prefill": "prefill：", "decode": "decode："}

#: Warnings, by a pattern of the English sentence.
WARNINGS: tuple[tuple[str, str], ...] = (
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

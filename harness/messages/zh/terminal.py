"""The outcome on a terminal, in Chinese, with the keys of ``en``."""

from __future__ import annotations

MESSAGES: dict[str, str] = {
    "terminal.against": "{field}：待测 {candidate}，基线 {baseline}",
    "terminal.matrix": "矩阵，{change}：{said}",
    "terminal.magnifier": "放大镜：{said}",
    "terminal.warning": "警告：{said}",
    "terminal.diagnosis": "诊断：{said}",
    "terminal.alike": "诊断：无法与以下原因区分：{said}",
    "terminal.more": "另有 {n} 个提示",
    "terminal.equal.tokens": "词元相同：{all} 个提示中有 {equal} 个（{percent}）",
    "terminal.equal.characters": "文本相同：{all} 个提示中有 {equal} 个（{percent}）",
    "terminal.equal.more": "另有 {n} 个提示，全部在 JSON 中",
    "terminal.equal.line": "{of} 个中有 {equal} 个",
    "terminal.equal.differs": "{of} 个中有 {equal} 个，首个不同处在 {n}：待测 {candidate}，参考"
    " {reference}",
    "terminal.end": "结束",
    "terminal.prompt": "{id}：位置 {n} 为 {class_}，领先量 {margin}，偏移 {shift}，容差 "
    "{tolerance}",
    "terminal.report": "报告：{path}",
}

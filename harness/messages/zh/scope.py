"""What a run could have seen, in Chinese."""

from __future__ import annotations

MESSAGES: dict[str, str] = {
    "scope": "本次运行的可见范围",
    "scope.help": "任何结论都不超出此范围：范围之外的错误没有被检查。",
    "scope.what": "项目",
    "scope.how_much": "数量",
    "scope.context": "最长上文",
    "scope.prompts": "提示",
    "scope.positions": "判定的位置",
    "scope.block": "超出 KV 缓存一个块的行",
    "scope.ids": "输入的词元 id",
    "scope.batch": "同时处理的请求数",
    "scope.choice": "由设备自己选择的词元",
    "scope.looks": "查看次数",
    "scope.is.context": "{tokens} 个词元",
    "scope.is.prompts": "{prompts} 个",
    "scope.is.prompts.alike": "{prompts} 个，按相似程度分为 {groups} 组",
    "scope.is.positions": "{positions} 个：prefill {prefill} 个，decode {decode} 个",
    "scope.is.block": "{positions} 行中有 {rows} 行，块长 {block} 个词元",
    "scope.is.ids": "{ids} 个不同的 id，词表大小为 {vocabulary}（{percent:.3g} %）",
    "scope.is.batch": "{batch} 个",
    "scope.is.choice": "{prompts} 个提示中的 {free} 个；其余提示沿用给定的词元",
    "scope.is.choice.all": "所有提示",
    "scope.is.choice.none": "没有：所有提示都沿用给定的词元",
    "scope.is.unknown": "设备没有提供",
    "scope.is.later": "设备运行之后才知道",
    "scope.is.looks": "没有记录；反复判定直到通过的人必须说明次数",
    "warning.alike": "{prompts} 个提示彼此非常相似：按用词分为 {groups} 组，例如 {names:list}。"
    "区间假定提示相互独立，因此在这里过窄；请使用不同的提示。",
}

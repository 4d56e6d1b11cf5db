"""The page of a recording that was not judged, in Chinese."""

from __future__ import annotations

MESSAGES: dict[str, str] = {
    "recording.title": "记录：{name}",
    "recording.heading": "设备的输出",
    "recording.unjudged": "未判定",
    "recording.unjudged.why": "尚无基线。本页不能说明移植是否正确。",
    "recording.totals": "全部提示",
    "recording.figure": "指标",
    "recording.value": "数值",
    "recording.prompts": "逐条提示",
    "recording.input": "输入",
    "recording.output": "输出",
    "recording.line": "{tokens} 个词元，用时 {seconds}，每秒 {rate} 个词元；结束原因 {stop}",
    "recording.total.prompts": "提示数",
    "recording.total.tokens": "输出词元数",
    "recording.total.tok_s": "每秒输出词元数（全部请求）",
    "recording.total.decode_tok_s": "每秒词元数（不含各输出的首个词元）",
    "recording.total.ttft_s": "首词元时间（中位数）",
    "recording.total.e2e_s": "单个请求用时（平均）",
    "recording.total.load_s": "加载用时",
    "recording.total.weights_bytes": "权重",
    "recording.total.peak_device_bytes": "加速卡内存峰值",
    "recording.total.peak_rss_bytes": "主机内存峰值",
    "recording.prefill": "强制输入，因此没有逐词元时间",
    "recording.left_out": "另有 {n} 条提示未显示，记录中全部保留。",
    "recording.where": "运行环境",
}

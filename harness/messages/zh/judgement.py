"""The verdict, the warnings, the matrix and the magnifier, in Chinese, with the keys of ``en``."""

from __future__ import annotations

_ERROR = "误差为{ratio:.2f}"
_TOP_K = "最可能词元上的误差为{ratio:.2f}"
_LIMIT = "，对照上限 {limit:g}：{status}"
_OTHER_BITS = (
    "{rows} 行中有 {different} 行的位不同，最多相差 {shift:.4g} logit；单独判定：{verdict}"
)
_LOW = "在噪声更低的 {dtype} 下，"

MESSAGES: dict[str, str] = {
    # What a verdict means, before its figures
    "meaning.BIT_EXACT": "每个 logit 都与参考逐位相同",
    "meaning.TOKEN_EXACT": "词元相同，没有判据发现错误",
    "meaning.EQUIVALENT": "词元有所不同，没有判据发现错误",
    "meaning.INCONCLUSIVE": "没有发现错误，但证据不足以证明正确",
    "meaning.DRIFT": "计算结果的偏差超出判据所允许的范围",
    "meaning.DIVERGENT": "词元或 logit 在参考实现自身噪声不能解释的位置上不同",
    "meaning.NON_DETERMINISTIC": "设备无法重复自身的结果",
    "meaning.NOT_COMPARABLE": "两者不可比较",
    "meaning.nonfinite": "含 NaN 或无穷大的 logit 不能决定任何事",
    "meaning.stops": "记录自相矛盾",
    # The verdict
    "verdict.found": "{meaning}：{parts:clauses}。",
    "verdict.equal": "{meaning}，共 {positions} 个位置。",
    "verdict.refused": "{meaning}：{fields:list} 不同。",
    "verdict.refused.more": "{meaning}：{fields:list} 以及另外 {more} 个字段不同。",
    "verdict.refused.dated": "{refused:clause}，因为对话模板在 {ids} 中使用了日期；请在测试集中写明"
    " date。",
    "part.error": _ERROR,
    "part.error.limit": _ERROR + _LIMIT,
    "part.error.top_k": _TOP_K,
    "part.error.top_k.limit": _TOP_K + _LIMIT,
    "part.flips": "{positions} 个词元中有 {flips} 个翻转",
    "part.gate": "{gate}：{sentence:clause}",
    # Warnings
    "warning.device": "{device}：{text}",
    "warning.left_out": "模型没有对话模板，测试集中有 {prompts} 个提示未运行：{ids}。",
    "warning.dated": "对话模板在 {prompts} 个提示中使用了日期，换一天运行词元 id 就会不同；"
    "请在测试集中写明 date：{ids}。",
    "warning.drawn": "对话模板在 {prompts} 个提示中随机取值，每次运行的词元 id 都不同；请修改模板："
    "{ids}。",
    "routes.same": "在全部 {rows} 行中，{layers} 层的路由器都选择了与 oracle 相同的专家，参考也是"
    "如此。",
    "routes.other": "在 {rows} 行中有 {flips} 行的路由器选择了与 oracle 不同的专家（参考："
    "{reference} 行）。",
    "routes.ratios": "在两者路由均与 oracle 相同的 {rows} 行中，误差为参考的 {same:.2f} 倍；在其余"
    " {others} 行中为 {other:.2f} 倍。",
    "routes.failing": "在 {failing} 个未通过的位置中，有 {other} 个的路由不同。",
    "routes.judged": "在 {rows} 行中有 {left} 行位于候选或某个基线臂选择了与 oracle 不同的专家之后"
    "。各基线臂的这类行太少，无法表明其误差可达多大，因此不判定它们的误差与领先量。",
    "routes.margins": "发生路由翻转的最大路由间隔为 {candidate_margin:.3g} logit（参考："
    "{reference_margin:.3g}）；一半的间隔小于 {median_margin:.3g}。",
    "warning.few_prompts": "测试集只有 {prompts} 个提示：不足以分别判定 prefill 与 decode，也不足以"
    "发现只在少数位置显现的问题；至少 {enough} 个提示才能做到。",
    "warning.prefill_only": "待测只运行了 forced-prefill：没有判定其任何 decode 步骤，也没有自行选"
    "择任何词元，因此其采样、惩罚与停止均未运行。",
    "warning.itself": "它就是与之比较的那份记录（行和时间都相同），因此不说明任何设备。",
    "warning.detail": "每一行，待测保留 {candidate_buckets} 个桶与 {candidate_listed} 个 logit，"
    "基线保留 {baseline_buckets} 个与 {baseline_listed} 个：双方都按 {buckets} 个桶与 {listed} 个"
    " logit 判定，如同都没有保留更多。",
    "warning.same_error": "待测的误差几乎就是基线自己的 {arm} 的误差（相关系数 {shared:.3f}）："
    "它是同一个计算，或是加了一点改动的副本，不能证明另一台设备正确。",
    "warning.forced_only": "待测只跟随给定的词元运行：没有自行选择任何词元，因此其采样、惩罚与停止"
    "均未运行。",
    "warning.some_forced": "{prompts} 个提示中有 {forced} 个只跟随给定词元运行：待测在其中没有自行"
    "选择任何词元，因此其采样、惩罚与停止未在其中运行。",
    "warning.allowed": "{field} 不同，已获许可：{candidate}，基线为 {baseline}。",
    "warning.unknown": "{field} 有一方无法提供，因此未检查。",
    "warning.tokens_only": "只给出了词元 id：没有 logit，无法证明任何东西是正确的。",
    "warning.part": "此副本取自报告：包含 {all} 个提示中的 {kept} 个。",
    # The matrix
    "matrix.same_bits": "全部 {rows} 行逐位相同。",
    "matrix.other_bits": _OTHER_BITS + "。",
    "matrix.other_bits.ratio": _OTHER_BITS + "，" + _ERROR + "。",
    "matrix.unjudged": "本次运行未作判定。",
    "matrix.not_run": "未运行：{reason:clause}。",
    "matrix.one_at_a_time": "{device} 一次只运行一个请求",
    "matrix.no_graphs": "{device} 不使用计算图",
    "matrix.no_prefix": "{device} 不在请求之间保留前缀",
    "matrix.whole_prompts": "{device} 总是完整处理提示",
    "matrix.not_started_here": "{device} 由他人启动，参数不受控制",
    "matrix.short_for_a_block": "没有提示长达一个 {block} 词元的块，因此什么也不会缓存；"
    "请换用提示更长的测试集，或设置 --engine-arg block_size",
    "matrix.short_for_ascend": "没有提示长于一个 {block} 词元的块，因此什么也不会缓存；"
    "请换用含有超过 {block} 个词元的提示的测试集：块的大小由 vLLM-Ascend 自行设定",
    "matrix.short_for_a_piece": "没有提示长于一段",
    # The magnifier
    "magnifier.found": _LOW + _ERROR + "，没有超过 {limit:.2f} 的迹象。",
    "magnifier.beyond": _LOW + "计算结果不同：{parts:clauses}。",
    "magnifier.gates": "未通过：{gates:list}",
    "magnifier.equal": "在 {dtype} 下每个 logit 都逐位相同。",
    "magnifier.no_error": "在 {dtype} 下没有可比的误差：{sentence}",
    "magnifier.not_applicable": "{dtype} 不适用：{reason:clause}。",
    "magnifier.not_run": "未运行：{reason:clause}。",
    "magnifier.both": "{first}{second}",
    "magnifier.error": "误差（{where}）为{ratio:.2f}",
    "magnifier.same_dtype": "本次运行本身就使用 {dtype}",
    "magnifier.infinite": "参考自身在该类型下就不是有限值",
}

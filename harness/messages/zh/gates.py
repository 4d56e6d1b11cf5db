"""What the gates say, in Chinese, with the keys of ``en``."""

from __future__ import annotations

_ERROR = "误差与参考之比（{where}）为 {ratio:.3f}"
_BIAS = "与{against}之差的均值占参考的均方误差的 {value:.4f}"
_BUCKET = "最差的 {share:.2g} % 词元 id 的平均误差为 {value:.3g} logit，对照为 {largest:.3g}"
_SLOPE = "logit 的缩放与{against}相差 {value:+.5f}"
_ROW_SLOPE = "单行缩放的离散程度是基线各臂的 {ratio:.3f} 倍"
_ROW = (
    "最突出的一行（提示 {prompt} 的位置 {position}）的误差是基线各臂在该处的 {standing:.3g} 倍，"
    "各臂最多为 {largest:.3g} 倍"
)
_PROMPT = "最突出的提示 {prompt} 的误差是基线各臂的 {standing:.3g} 倍，各臂最多为 {largest:.3g} 倍"
_PLACE = (
    "各输出中最突出的一处（{place}）的误差是基线各臂的 {standing:.3g} 倍，"
    "各臂最多为 {largest:.3g} 倍"
)
_DIRECTION = (
    "在误差最大的方向上，误差是基线各臂的 {value:.3g} 倍，各臂最多为其余各臂的 {largest:.3g} 倍"
)
_SHIFTED = (
    "领先量偏移超过局部噪声 {large:g} 倍的位置有 {count} 个（{share:.1f} %），"
    "对照为 {controls:.0f} 个（{controls_share:.1f} %）"
)
_FLIPPED = "有 {flips} 个词元翻转，由领先量和噪声预测 {predicted:.0f} 个，对照为 {controls:.0f} 个"
_REPEATED = "两次运行之间，{rows} 行中有 {different} 行不同"
_TEXTS = "只比较了文本：{count} 个中有 {equal} 个相同"
_NO_POSITION = "。没有判定任何位置：没有词元 id，也没有 logit，而仅凭文本分不清噪声与错误。"

MESSAGES: dict[str, str] = {
    # An estimate with its interval, or without one
    "span": "{value}（95 % 区间 {low} 至 {high}）",
    "span.point": "{value}",
    "times": "参考的 {value} 倍（95 % 区间 {low} 至 {high}）",
    "times.point": "参考的 {value} 倍",
    # Where an error is measured
    "where.vocabulary": "整个词表",
    "where.top_k": "最可能的词元",
    "where.prefill": "prefill 路径",
    "where.decode": "decode 路径",
    # What would decide
    "decide.few": "提示太少，没有区间：至少需要 {least} 个",
    "decide.never": "数值正在上限处，更多提示也无法判定",
    "decide.more": "再有约 {prompts} 个这样的提示（{positions} 个位置）即可判定",
    # Why there is no figure
    "reason.nothing": "没有可用来度量的依据",
    "reason.few_prompts": "至少需要 {least} 个提示",
    "reason.no_oracle": "没有可对照的 oracle",
    "reason.not_finite": "没有一个提示的每一行都是有限值，因此无法得出大小",
    "reason.top_only": "设备只给出最大的若干对数概率，而不是整行",
    "reason.same_pass": "参考与 oracle 的计算方式相同（float32、prefill），没有可比的噪声；"
    "请不带 --context 制作基线，或用 bfloat16 判定",
    "reason.no_noise": "参考与 oracle 之间没有误差，无从比较",
    "reason.no_place": "至少要有 {least} 个输出到达某一位置，才能判定这一处",
    "reason.no_row": "没有任何一行来自 {path}",
    # Error ratios
    "gate.ratio.equal": "误差（{where}）：待测与 oracle 相等。",
    "gate.ratio.pass": _ERROR + "，不超过 {limit:g}。",
    "gate.ratio.fail": _ERROR + "，超过 {limit:g}。",
    "gate.ratio.open": _ERROR + "，尚不能对照上限 {limit:g} 作出判定：{decides}。",
    "gate.ratio.point": _ERROR + "，{decides}。",
    "gate.ratio.missing": "误差（{where}）：{reason}。",
    "gate.ratio.shown": _ERROR + "；仅供查看，不作判据：有 {prompts} 个提示和 {rows} 行，"
    "各需要 {enough} 个。",
    "gate.ratio.excess": _ERROR + "，不超过 {limit:g}，但多于对照和正确移植所表现的 {excess:.3g}。",
    "gate.ratio.pass.control": _ERROR + "，不超过 {limit:.2g}：参考自己的 {arm} 为 {largest:.3g}。",
    "gate.ratio.fail.control": _ERROR + "，超过 {limit:.2g}，而参考自己的 {arm} 为 {largest:.3g}。",
    # Local damage
    "gate.prompt_guard.pass": _PROMPT + "；上限为 {limit:.3g}。",
    "gate.prompt_guard.fail": _PROMPT + "：有 {beyond} 个提示超过上限 {limit:.3g}。",
    "gate.row_guard.pass": _ROW + "；上限为 {limit:.3g}。",
    "gate.row_guard.fail": _ROW + "：超过上限 {limit:.3g}。",
    "gate.row_guard.many": "{rows} 行中有 {count} 行的误差超过基线各臂在该处的 {times:.3g} 倍，"
    "而最多只应有 {expected:.0f} 行。",
    "place.start": "每个输出的位置 {index}",
    "place.end": "每个输出的倒数第 {index} 个位置",
    "gate.place_guard.pass": _PLACE + "；上限为 {limit:.3g}。",
    "gate.place_guard.fail": _PLACE + "：超过上限 {limit:.3g}。",
    "finding.prompt": "其误差是基线各臂的 {standing:.3g} 倍，上限为 {limit:.3g}。",
    "finding.row": "位置 {position} 那一行的误差是基线各臂的 {standing:.3g} 倍，"
    "上限为 {limit:.3g}。",
    # The point guard
    "gate.point_guard.pass": "全部 {positions} 个位置上，领先量的移动都不超过局部噪声的 "
    "{kappa:.3g} 倍。",
    "gate.point_guard.pass.flips": "全部 {positions} 个位置上，领先量的移动都不超过"
    "局部噪声的 {kappa:.3g} 倍；有 {flips} 个词元翻转，均在此范围之内。",
    "gate.point_guard.fail": "{positions} 个位置中有 {failing} 个未通过，超过局部噪声的 "
    "{kappa:.3g} 倍："
    "{classes:list}。",
    "gate.point_guard.missing": "没有 oracle 和对照，也就没有判断单个位置的噪声底。",
    "gate.tokens.fail": "{positions} 个词元中有 {failing} 个翻转，其领先量不是噪声所能越过的。",
    "gate.tokens.open": "{positions} 个词元中有 {flips} 个翻转，没有一个越过噪声之外的领先量；"
    "没有改变词元的变化无从看到。",
    "count.class": "{count} 个 {name}",
    "gate.unmeasured": "未作判定：{reason}。",
    # Counts
    "gate.exceedance.pass": _SHIFTED + "：对照的噪声足以解释。",
    "gate.exceedance.more": _SHIFTED + "：大幅偏移多于对照，但没有超过其噪声的 {inflation:g} 倍。",
    "gate.exceedance.chance": _SHIFTED + "：大幅偏移多于对照的噪声放大 {inflation:g} 倍后所能解释"
    "的，但太少，无法与偶然区分。",
    "gate.exceedance.fail": _SHIFTED + "：即使把对照的噪声放大 {inflation:g} 倍，也不能解释这么多"
    "大幅偏移。",
    "gate.exceedance.nothing": _SHIFTED + "：没有可比的依据。",
    "gate.flip_calibration.pass": _FLIPPED + "：对照的噪声足以解释。",
    "gate.flip_calibration.more": _FLIPPED
    + "：翻转多于对照，但没有超过其噪声的 {inflation:g} 倍。",
    "gate.flip_calibration.chance": _FLIPPED + "：翻转多于对照的噪声放大 {inflation:g} 倍后所能解释"
    "的，但太少，无法与偶然区分。",
    "gate.flip_calibration.fail": _FLIPPED + "：即使把对照的噪声放大 {inflation:g} 倍，也不能解释"
    "这么多翻转。",
    "gate.flip_calibration.nothing": _FLIPPED + "：没有可比的依据。",
    "gate.counts.missing": "没有可用来比较位置计数的对照。",
    # The device's own choice
    "gate.greedy.pass": "设备自己选择的 {chosen} 个词元都是所在行中最大的。",
    "gate.greedy.fail": "设备自己选择的 {chosen} 个词元中，有 {below} 个不是所在行中最大的，"
    "首先出现在"
    "位置 {position}，提示 {prompt}：是采样或惩罚项选择了它们。",
    "gate.greedy.missing": "设备没有自己选择任何词元：全部词元都是给定的。",
    # Systematic errors
    "against.reference": "参考",
    "against.oracle": "oracle 与参考之间最近的一点",
    "part.first_half": "（输出的前半部分）",
    "part.second_half": "（输出的后半部分）",
    "part.prefill": "（prefill 路径）",
    "part.decode": "（decode 路径）",
    "gate.bias.pass": _BIAS + "，不超过 {limit:g}。",
    "gate.bias.fail": _BIAS + "，超过 {limit:g}。",
    "gate.bias.open": _BIAS + "，尚不能对照上限 {limit:g} 作出判定：{decides}。",
    "gate.bias.missing": "系统性误差：{reason}。",
    "gate.bucket.pass": _BUCKET + "，不超过 {limit:.3g}。",
    "gate.bucket.chance": _BUCKET + "，超过 {limit:.3g}，但各提示并不一致。",
    "gate.bucket.fail": _BUCKET + "，超过 {limit:.3g}：有一个或几个词元在每个位置上都不对。",
    "gate.direction.pass": _DIRECTION + "；上限为 {limit:.3g}。",
    "gate.direction.fail": _DIRECTION + "：超过上限 {limit:.3g}，而舍入没有自己的方向。",
    "gate.slope.pass": _SLOPE + "，在 {limit:g} 之内。",
    "gate.slope.fail": _SLOPE + "，超过 {limit:g}。",
    "gate.slope.fail.part": _SLOPE + "{part}，超过 {limit:g}。",
    "gate.slope.open": _SLOPE + "，尚不能对照上限 {limit:g} 作出判定：{decides}。",
    "gate.slope.missing": "logit 的缩放：{reason}。",
    "gate.row_slope.pass": _ROW_SLOPE + "，没有超过 {limit:g} 的迹象。",
    "gate.row_slope.chance": _ROW_SLOPE + "，超过 {limit:g}，但不多于偶然所能解释的。",
    "gate.row_slope.fail": _ROW_SLOPE + "，超过 {limit:g}：logit 在一些行放大，在另一些行缩小。",
    "gate.row_slope.prompt": "提示 {prompt} 的 logit 缩放了 {slope:+.3f}，是其单行离散所能解释的 "
    "{standing:.3g} 倍，各臂最多为 {largest:.3g} 倍：超过上限 {limit:.3g}。",
    "gate.row_slope.missing": "单行的缩放：{reason}。",
    # How the run went
    "gate.nonfinite.pass": "{rows} 行的 logit 全部有限。",
    "gate.nonfinite.fail": "{rows} 行中有 {broken} 行的 logit 含 NaN 或无穷大，首先出现在位置 "
    "{position}，提示 {prompt}。",
    "gate.nonfinite.beyond": "已判定的 {rows} 行 logit 全部有限，但待测另有 {broken} 行的 logit 含 "
    "NaN 或无穷大，首先出现在提示 {prompt}。",
    "gate.nonfinite.reference": "待测的 logit 全部有限，参考的 {rows} 行中却有 {broken} 行不是："
    "基线无法判定它。",
    "gate.masks.none": "{rows} 行中没有任何被屏蔽的 id。",
    "gate.masks.pass": "待测与参考在全部 {rows} 行中屏蔽相同的 id，其中 {masked} 行有屏蔽。",
    "gate.masks.fail": "{rows} 行中有 {other} 行屏蔽的 id 与参考不同，首先出现在位置 {position}，"
    "提示 {prompt}：待测屏蔽 {mine} 个，参考屏蔽 {theirs} 个。",
    "gate.masks.untold": "待测在 {rows} 行中的 {masked} 行屏蔽了 id，而基线的记录早于屏蔽信息："
    "请重新生成基线（--update-baselines）。",
    "gate.masks.missing": "没有比较屏蔽：有一方没有说明屏蔽了哪些 id（服务器，或较早的记录）。",
    "gate.coverage.pass": "基线的全部 {expected} 个位置都已判定。",
    "gate.coverage.open": "基线的 {expected} 个位置中判定了 {judged} 个：{reasons:list}。",
    "coverage.not_run": "{prompts} 个提示未运行",
    "coverage.diverged": "{prompts} 个提示只判定到分叉处（请用 --context 记录，以重放其余部分）",
    "coverage.ended": "{prompts} 个提示在别处结束而没有不同的词元（请比较双方的 eos id）",
    # 停止与长度
    "gate.routes.same": "在全部 {prompts} 个提示中，每个路由器都选择了与 oracle 相同的专家。",
    "gate.routes.pass": "在 {prompts} 个提示中有 {departed} 个的路由器偏离了 oracle 的选择，首次偏"
    "离处的路由间隔最大为 {margin:.3g} logit；各基线臂的噪声可解释到 {widest:.3g}。",
    "gate.routes.untold": "在 {prompts} 个提示中有 {departed} 个的路由器偏离了 oracle 的选择，不比"
    "各基线臂更频繁；噪声可解释到多大的路由间隔尚不清楚。",
    "gate.routes.margin": "在 {prompts} 个提示中有 {beyond} 个的路由器首次偏离 oracle 的选择时，其"
    "间隔无法用噪声解释：{prompt} 中为 {margin:.3g} logit，而各基线臂的噪声只能解释到 {widest:.3g}"
    "。",
    "gate.routes.more": "路由器为 {tokens} 个词元选择了与 oracle 不同的专家，而各基线臂为 "
    "{arms:.3g} 个：超出噪声所能解释的数量。",
    "gate.routes.missing": "设备没有给出每个提示的路由。此时路由翻转的正确行也可能使某个门限失败；"
    "请逐个运行请求，且不使用计算图。",
    "gate.stops.pass": "{prompts} 个提示的结束方式与记录所述一致。",
    "gate.stops.wrong": "{prompts} 个提示中有 {wrong} 个的结束方式与词元不符：{reasons:list}。",
    "stops.short": "{runs} 次运行过早因长度而停止（提示 {prompt}：{limit} 个词元中的 {tokens} 个）",
    "stops.long": "{runs} 次运行超出上限（提示 {prompt}：{tokens} 个词元，而只要求 {limit} 个）",
    "stops.ignored": "{runs} 次运行停在本应忽略的 eos id 上（提示 {prompt}：{limit} 个词元中的 "
    "{tokens} 个之后）",
    "stops.unfinished": "{runs} 次运行称因 eos id 而停止，末尾的词元却不是（提示 {prompt}：{limit} "
    "个词元中的 {tokens} 个）",
    "stops.unnamed": "{runs} 次运行称因 eos id 而停止，而没有记录任何 eos id（提示 {prompt}："
    "{limit} 个词元中的 {tokens} 个）",
    "stops.passed": "{runs} 次运行越过 eos id 继续生成（提示 {prompt}，{limit} 个词元中的 {tokens} "
    "个）",
    "stops.broken_off": "{runs} 次运行既非因 eos id 也非因长度而结束（提示 {prompt}：{stop!r}，"
    "{limit} 个词元中的 {tokens} 个之后）",
    "stops.misplaced": "{runs} 次运行的停止原因与其 replay 不符（提示 {prompt}：{stop!r}，{limit} "
    "个词元中的 {tokens} 个）",
    "stops.finite": "{runs} 次运行称因某行没有有限 logit 而停止，而末行有（提示 {prompt}：{limit} "
    "个词元中的 {tokens} 个）",
    "stops.cut": "{runs} 次运行所跟随的词元不是完整的输出（提示 {prompt}：{limit} 个词元中的 "
    "{tokens} 个）",
    "gate.texts.equal": _TEXTS + _NO_POSITION,
    "gate.texts.differ": _TEXTS + "；不同的有：{parted:list}" + _NO_POSITION,
    "gate.texts.more": _TEXTS + "；不同的有：{parted:list}，另有 {more} 个" + _NO_POSITION,
    "text.parted": "{prompt} 自第 {place} 个字符起（{candidate!r}，参考为 {reference!r}）",
    "gate.no_logits": "只有文本：没有可判定的词元 id 和 logit。",
    "gate.determinism.missing": "没有把任何提示运行两次。",
    "gate.determinism.pass": "重复运行得到的 {rows} 行全部逐位相同。",
    "gate.determinism.broken": _REPEATED
    + "，其中 {unexplained} 行是因为 NaN、无穷大、屏蔽不同或提前结束。",
    "gate.determinism.left": _REPEATED + "：{reasons:list}。",
    "determinism.token": "{count} 次重复运行选择了其 logit 不能解释的另一个词元",
    "determinism.ended": "{count} 行处两次运行之一已经结束，或因别的原因结束",
    "determinism.broken": "{count} 行在两次运行之一中含 NaN、无穷大或不同的屏蔽",
    "gate.determinism.beyond": _REPEATED + "，最多相差 {shift:.4g} logit，不是噪声所能解释的。",
    "gate.determinism.warn": _REPEATED + "，{judged}：设备不能逐位重复。",
    "gate.determinism.mend": _REPEATED
    + "，{judged}：设备不能逐位重复，设置 {variables} 或可解决。",
    "determinism.within": "全部在容差之内",
    "determinism.unknown": "没有已知的容差可供判断",
}

"""Plain lists of tokens, in Chinese."""

from __future__ import annotations

MESSAGES: dict[str, str] = {
    # The verdict
    "part.tokens": "{prompts} 个提示中有 {equal} 个（{percent:.3g} %）词元相同",
    "part.tokens.all": "词元相同，共 {prompts} 个提示的全部 {tokens} 个词元",
    "part.no_logits": "这不能说明 logit 的情况，许多错误会改变 logit 而不改变词元",
    # Warnings
    "warning.plain.order": "两个文件的提示没有共同的 id、词元 id 或文本，因此按先后顺序配对。",
    "warning.plain.missing": "{file} 中有 {count} 个提示在待测一方没有输出：{names:list}。",
    "warning.plain.surplus": "{file} 中有 {count} 个提示在另一方不存在，未作比较：{names:list}。",
    "warning.plain.twice": "{file} 中有 {count} 个提示重复出现，输出相同：{names:list}。"
    "每个提示只比较第一次出现的。",
    "warning.plain.unsteady": "{file} 中有 {count} 个提示重复出现，且输出不尽相同：{names:list}。"
    "每个提示只比较第一次出现的；给出不同词元的工具是在采样，或者不能重复自己的结果。",
    "warning.plain.front": "{file} 中每个输出都以其提示开头，因此略去了前面的提示。",
    "warning.plain.some_front": "{file} 的 {all} 个输出中有 {count} 个以提示开头。"
    "如果是工具加上的，请只写新生成的词元。",
    "warning.plain.text_front": "{file} 中每个文本都以其提示开头，词元 id 可能也是如此。"
    "请补上 prompt_token_ids，或只写新生成的词元。",
    "warning.plain.encoded": "{file} 中有 {count} 个提示没有词元 id，因此由模型自己的分词器编码："
    "消息经过聊天模板，文本保持原样。如果该工具的编码方式不同，这些就不是它的提示。",
    "warning.plain.dated": "聊天模板在 {count} 个提示中使用了日期或随机取值，因此这些词元 id 可能"
    "不是该工具用过的；请给出 prompt_token_ids：{places}。",
}

"""What benchmarks measure: one name an ability, in English and Chinese, and other names for it.

A task file may say others; these are the ones by which the project's own tasks are listed and reported.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ability:
    """`others` are names that a filter understands as this one."""

    name: str
    title: str
    title_zh: str
    others: tuple[str, ...] = ()


ABILITIES = {
    ability.name: ability
    for ability in (
        Ability("knowledge", "subject knowledge", "学科知识", ("subject_knowledge", "exam", "exams")),
        Ability("reading", "reading comprehension", "阅读理解", ("reading_comprehension",)),
        Ability("math", "mathematics", "数学", ("mathematics", "maths")),
        Ability("code", "code", "代码", ("coding", "programming")),
        Ability("reasoning", "reasoning and common sense", "推理与常识", ("logic", "commonsense")),
        Ability("understanding", "language understanding", "语言理解", ("language_understanding", "nlu", "sentiment")),
        Ability(
            "generation", "writing and summaries", "文本生成", ("generation_translation", "writing", "summarization")
        ),
        Ability("translation", "translation", "翻译"),
        Ability("instructions", "following instructions", "指令遵循", ("instruction_following",)),
        Ability("tools", "calling functions", "工具调用", ("tool_use", "function_calling", "agents")),
        Ability("safety", "safety and values", "安全与价值观", ("safety_values", "values")),
        Ability("factuality", "facts and hallucination", "事实性与幻觉", ("hallucination", "hallucination_factuality")),
        Ability("long_context", "long context", "长文本", ("long-context", "long")),
        Ability("law", "law", "法律", ("domain_law", "legal")),
        Ability("finance", "finance", "金融", ("domain_finance",)),
        Ability("medicine", "medicine", "医疗", ("domain_medicine", "medical")),
        Ability("classical", "classical Chinese", "古汉语", ("classical_chinese",)),
        Ability("vision", "seeing and reasoning over images", "视觉理解与推理", ("multimodal", "image", "vqa")),
        Ability("documents", "documents, charts and text in images", "文档图表与文字识别", ("ocr", "charts")),
        Ability("video", "understanding videos", "视频理解", ("video_qa",)),
        Ability("speech", "recognising speech", "语音识别", ("audio", "asr")),
        Ability("language_modelling", "language modelling", "语言建模"),
    )
}


def ability_name(text: str) -> str:
    """The name under which tasks have an ability; `text` itself where it is unknown."""
    return next((ability.name for ability in ABILITIES.values() if text in ability.others), text)

"""What benchmarks measure: one name an ability, and other names for it. Their Chinese names are in `words.zh.yaml`.

A task file may say others; these are the ones by which the project's own tasks are listed and reported.
"""

from __future__ import annotations

from harness.quick import dataclass


@dataclass(frozen=True, slots=True)
class Ability:
    """`others` are names that a filter understands as this one."""

    name: str
    title: str
    others: tuple[str, ...] = ()


ABILITIES = {
    ability.name: ability
    for ability in (
        Ability("knowledge", "subject knowledge", ("subject_knowledge", "exam", "exams")),
        Ability("reading", "reading comprehension", ("reading_comprehension",)),
        Ability("math", "mathematics", ("mathematics", "maths")),
        Ability("code", "code", ("coding", "programming")),
        Ability("reasoning", "reasoning and common sense", ("logic", "commonsense")),
        Ability("understanding", "language understanding", ("language_understanding", "nlu", "sentiment")),
        Ability("generation", "writing and summaries", ("generation_translation", "writing", "summarization")),
        Ability("translation", "translation"),
        Ability("instructions", "following instructions", ("instruction_following",)),
        Ability("tools", "calling functions", ("tool_use", "function_calling", "agents")),
        Ability("safety", "safety and values", ("safety_values", "values")),
        Ability("factuality", "facts and hallucination", ("hallucination", "hallucination_factuality")),
        Ability("long_context", "long context", ("long-context", "long")),
        Ability("law", "law", ("domain_law", "legal")),
        Ability("finance", "finance", ("domain_finance",)),
        Ability("medicine", "medicine", ("domain_medicine", "medical")),
        Ability("classical", "classical Chinese", ("classical_chinese",)),
        Ability("vision", "seeing and reasoning over images", ("multimodal", "image", "vqa")),
        Ability("documents", "documents, charts and text in images", ("ocr", "charts")),
        Ability("video", "understanding videos", ("video_qa",)),
        Ability("speech", "recognising speech", ("audio", "asr")),
        Ability("language_modelling", "language modelling"),
    )
}


def ability_name(text: str) -> str:
    """The name under which tasks have an ability; `text` itself where it is unknown."""
    return next((ability.name for ability in ABILITIES.values() if text in ability.others), text)

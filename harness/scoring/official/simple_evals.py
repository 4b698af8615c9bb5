"""The letter of a reply in MMLU and MMMLU as openai/simple-evals reads it (`mmlu_eval.py`, `common.py` at ee3b031).

Behind the word for an answer, in the languages that it knows. Markdown and what LaTeX puts around a letter are left out
first.
"""

from __future__ import annotations

import functools
import re

# The order counts: the first of them with a letter behind it decides, wherever it stands. `_`: blanks may stand there.
# fmt: off
_MARKS = (
    "Answer_:", "Answer_:\u200b\u200b\u200b\u200b\u200b\u200b", "উত্তর_:", "उत्तर_:", "উত্তরঃ", "Antwort_:",
    "답변_:", "정답_:", "답_:", "答案_：", "答案_:", "答_：", "答_:", "答复_：", "答曰_：",
    "الإجابة:", "الجواب:", "إجابة:",
    "الإجابة النهائية:", "الإجابة الصحيحة:", "الإجابة الصحيحة هي:", "الإجابة هي:", "الجواب النهائي:",
    "Respuesta_:", "Risposta_:", "答え_:", "答え_：", "回答_:", "回答_：", "解答_:", "Jawaban_:", "Réponse_:",
    "Resposta_:", "Jibu_:", "Idahun_:", "Ìdáhùn_:", "Idáhùn_:", "Àmọ̀nà_:", "Àdáhùn_:", "Ànúgọ_:",
    "Àṣàyàn_:",
)
# fmt: on
_LETTER = r"[ \t]*([A-Dأ-دঅবডঢＡ-Ｄ])"
_SAME = str.maketrans("أبجدঅবডঢＡＢＣＤ", "ABCD" * 3)
# One after the other, as there: what a later one takes away may stand only where an earlier one was.
_LEFT_OUT = (
    "**", "$\\boxed{", "}$", "\\$", "$\\text{", "$", "\\mathrm{", "\\{", "\\text", "\\(", "\\mathbf{", "{", "\\boxed",
)  # fmt: skip


def simple_evals_letter(reply: str) -> str | None:
    """The letter behind the word for an answer; None where there is none. A small one is no right one."""
    for part in _LEFT_OUT:
        reply = reply.replace(part, "")
    found = (pattern.search(reply) for pattern in _patterns())
    return next((match[1].translate(_SAME) for match in found if match), None)


@functools.cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(re.escape(mark).replace("_", r"\s*") + _LETTER, re.IGNORECASE) for mark in _MARKS)

"""Yes-or-no questions about images: MME and POPE. Predictions are `yes`, `no` or None, which counts as wrong.

MME: BradyFU/Awesome-Multimodal-Large-Language-Models, `eval_tool/calculation.py`, read as lmms-eval reads replies.
POPE: AoiDryft/POPE, `evaluate.py`; `words_only` is VLMEvalKit's reading (`YOrN_Extraction` of
`vlmeval/dataset/utils/yorn.py` at e8e78f0, 2026-08-18).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from harness.quick import dataclass
from harness.scoring.official.vqa import vlmevalkit_punctuation

PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)  # fmt: skip
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")


def mme_answer(reply: str) -> str | None:
    """Exactly yes or no, or y or n, or one of them in the first four characters ("Not really" is no)."""
    text = reply.lower().strip().replace(".", "")
    if text in ("yes", "no"):
        return text
    if len(text) == 1:
        return {"y": "yes", "n": "no"}.get(text)
    return next((word for word in ("yes", "no") if word in text[:4]), None)


def words_only(reply: str) -> str | None:
    """Yes or no where exactly one of them stands in the reply as a word of its own; `yes:` is another word there."""
    words = set(vlmevalkit_punctuation(reply.lower()).split())
    said = [word for word in ("yes", "no") if word in words]
    return said[0] if len(said) == 1 else None


def pope_answer(reply: str) -> str:
    """The original rule: the first sentence says no if it has the word no, No or not; it says yes otherwise."""
    words = reply.partition(".")[0].replace(",", "").split(" ")
    return "no" if any(word in ("No", "no", "not") for word in words) else "yes"


def mme_scores(rows: Iterable[tuple[str, str, bool]]) -> dict[str, float]:
    """Scores of (category, image, right), two questions an image: accuracy plus accuracy+ of each category, 0 to 200.

    Also `perception` (at most 2,000) and `cognition` (at most 800), the sums over their categories.
    """
    images: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for category, image, right in rows:
        images[category][image].append(right)
    scores = {}
    for category, answered in images.items():
        questions = [right for rights in answered.values() for right in rights]
        accuracy = sum(questions) / len(questions)
        both = sum(all(rights) for rights in answered.values()) / len(answered)
        scores[category] = 100 * (accuracy + both)
    for name, members in (("perception", PERCEPTION), ("cognition", COGNITION)):
        scores[name] = sum(scores.get(category, 0.0) for category in members)
    return scores


@dataclass(frozen=True, slots=True)
class PopeScores:
    """Of yes as the positive answer. `yes_ratio` is the share of replies that said yes."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    yes_ratio: float


def pope_scores(rows: Iterable[tuple[str | None, str]]) -> PopeScores:
    """Scores of (prediction, gold). A prediction of None is wrong, and stays in the recall's denominator."""
    pairs = list(rows)
    if not pairs:
        raise ValueError("there is no answer to score")
    counts: Mapping[str, int] = {
        "hit": sum(prediction == gold == "yes" for prediction, gold in pairs),
        "right": sum(prediction == gold for prediction, gold in pairs),
        "said": sum(prediction == "yes" for prediction, _ in pairs),
        "is": sum(gold == "yes" for _, gold in pairs),
    }
    precision = counts["hit"] / counts["said"] if counts["said"] else 0.0
    recall = counts["hit"] / counts["is"] if counts["is"] else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return PopeScores(counts["right"] / len(pairs), precision, recall, f1, counts["said"] / len(pairs))

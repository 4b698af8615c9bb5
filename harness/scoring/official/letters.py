"""Where the scripts of benchmarks look for the letter of an option, each in its own place.

MMStar: MMStar-Benchmark/MMStar, `eval/vlmeval/evaluate/mmstar.py` at 88f243a. SEED-Bench and ScienceQA: as lmms-eval
reads them at 75571cf (`tasks/seedbench/utils.py`, `tasks/scienceqa/utils.py`; the latter is LLaVA's
`eval_science_qa.py`).
"""

from __future__ import annotations

_BEFORE = ("", "(", "option ", "the answer is ")


def mmstar_correct(reply: str, gold: str) -> bool:
    """Whether the reply begins with the gold letter: at once, or after "(", "option " or "the answer is ".

    Nothing is asked of what follows: "Apart from that" chooses A. Case does not count.
    """
    letter = gold.lower().strip().replace("\n", " ")
    text = reply.lower().strip().replace("\n", " ")
    return len(letter) == 1 and any(text.startswith(before + letter) for before in _BEFORE)


def seed_bench_letter(reply: str) -> str | None:
    """The first character of the reply, whatever it is; None where there is none."""
    return reply.strip()[:1].upper() or None


def scienceqa_letter(reply: str, letters: str = "ABCDE") -> str | None:
    """A reply that is nothing but a letter, or begins with a capital letter and a full stop."""
    text = reply.strip()
    if len(text) == 1 and text.upper() in letters:
        return text.upper()
    return text[0] if len(text) >= 2 and text[0] in letters and text[1] == "." else None

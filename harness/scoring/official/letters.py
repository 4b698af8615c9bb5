"""Where the scripts of benchmarks look for the letter of an option, each in its own place.

MMStar: MMStar-Benchmark/MMStar, `eval/vlmeval/evaluate/mmstar.py` at 88f243a. SEED-Bench and ScienceQA: as lmms-eval
reads them at 75571cf (`tasks/seedbench/utils.py`, `tasks/scienceqa/utils.py`; the latter is LLaVA's
`eval_science_qa.py`). Video-MME: BradyFU/Video-MME, `evaluation/eval_your_results.py` at 4e7566d. LVBench:
zai-org/LVBench, `lvbench/utils/answer_util.py` at 1dd4612. MVBench: `check_ans` of OpenGVLab/Ask-Anything,
`video_chat2/mvbench.ipynb`. BLINK: `analyze_answer` of zeyofu/BLINK_Benchmark, `eval/test_benchmark.py`.
SuperGPQA: SuperGPQA/SuperGPQA, `eval/eval.py` at 03a3e27. OpenCompass: `utils/text_postprocessors.py` at a5acc4b.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# As the script has them: two of its strings have no comma between them and are one.
_VIDEO_MME_PREFIXES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",
    "Best answer:Best option:",
)
_BEFORE = ("", "(", "option ", "the answer is ")


def first_capital(reply: str) -> str | None:
    """OpenCompass's `first_capital_postprocess`: a capital of any script, so that ΔABC begins with no option."""
    return next((sign for sign in reply if sign.isupper()), None)


def last_capital(reply: str) -> str | None:
    """OpenCompass's `last_capital_postprocess`."""
    return next((sign for sign in reversed(reply) if sign.isupper()), None)


def all_capitals(reply: str) -> str | None:
    """OpenCompass's `multiple_select_postprocess`: each capital once, sorted."""
    return "".join(sorted({sign for sign in reply if sign.isupper()})) or None


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


def video_mme_letter(reply: str) -> str | None:
    """The first capital letter from A to D that is left when the script's prefixes are taken out, in whatever word."""
    text = reply.strip()
    for prefix in _VIDEO_MME_PREFIXES:
        text = text.replace(prefix, "")
    found = re.search("[ABCD]", text)
    return found[0] if found else None


def lvbench_letter(reply: str) -> str | None:
    """The first character of what stands before the first ")", behind the first "(" in it where there is one; None
    where that is no letter from A to D."""
    text = reply.strip().split(")")[0].strip()
    if "(" in text:
        text = text.split("(")[1].strip()
    first = text.split(" ")[0][:1]
    return first if first in ("A", "B", "C", "D") else None


def blink_letter(reply: str, letters: str) -> str | None:
    """The letter of a reply that is nothing but it, or of the only `(A)` that stands alone between blanks.

    Where the last paragraph has one, that one counts. None where the script asks a model.
    """
    if reply in tuple("ABCDE") or reply in tuple(f"({letter})" for letter in "ABCDE"):
        return reply.strip("()")

    def alone(text: str) -> list[str]:
        return [letter for letter in letters if f"({letter})" in text.split()]

    everywhere, last = alone(reply), alone(reply.split("\n\n")[-1])
    if len(last) == 1:
        return last[0]
    return everywhere[0] if len(everywhere) == 1 else None


def mvbench_letter(reply: str, letters: str) -> str | None:
    """The letter whose option "(A)" holds the first word of "(" and the reply, or is held by it. Case does not count.

    What would be each of them, an empty reply, is none.
    """
    first = f"({reply}".lower().strip().split(" ")[0]
    options = {letter: f"({letter.lower()})" for letter in letters}
    found = [letter for letter, option in options.items() if first.replace(".", "") in option or option in first]
    return found[0] if len(found) == 1 else None


def supergpqa_letter(reply: str, options: Sequence[str]) -> str | None:
    """The letter that the last line states, else the whole reply; else the letter of the option whose text one states.

    A small letter is what it is, and no right one. Of options with the same text the first counts.
    """
    text = reply.rstrip()
    places = (text.split("\n")[-1], text)
    letter = _stated(_supergpqa_patterns("[A-J]", "is?", r"[*\s]*:", re.IGNORECASE), places)
    if letter is not None:
        return letter
    texts = "|".join(re.escape(option) for option in options)
    stated = _stated(_supergpqa_patterns(texts, "is", r"\s*", re.NOFLAG), places)
    return chr(ord("A") + options.index(stated)) if stated else None


def _supergpqa_patterns(answer: str, verb: str, colon: str, flags: re.RegexFlag) -> list[re.Pattern[str]]:
    # Brackets, dollars and commands may stand around the answer in any number. The script nests its repetitions, which
    # match the same and can take for ever: here each is one, of a length that no reply needs.
    command = r"\\(?:boxed|mathbf|mathrm|text)\{"
    opening = rf"(?:{command}|[*${{(\[\\]){{0,100}}\s*"
    closing = r"[\\}$)\]]*(?:[\s:.*)]|$)"
    cues = (
        rf"[Tt]he\s+(?:\w+\s+)?(?:answer|option)(?:\w+\s+)?\s+{verb}:?\s*",
        rf"(?i:Answer){colon}\s*",
        rf"^(?:(?!{command})[^\w\r\n]){{0,100}}",
    )
    return [re.compile(rf"{cue}{opening}({answer}){closing}", flags) for cue in cues]


def _stated(patterns: Sequence[re.Pattern[str]], places: Sequence[str]) -> str | None:
    found = (pattern.search(place) for place in places for pattern in patterns)
    return next((match[1] for match in found if match), None)

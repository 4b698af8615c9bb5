"""Reads the letter of a choice from a reply, in Chinese and English, as a careful reader would, or not at all.

A reply is read for *claims*. The strongest kind that occurs decides, and of that kind the last claim:

1. an answer that is set apart: `\\boxed{B}`, `<answer>B</answer>`;
2. a conclusion: 答案是B, 故选 B, the answer is (B), I choose B, B is the correct option, a last line `**B**`;
3. a conclusion about what is wrong, 错误的是B, which is the answer where the question asks for it;
4. verdicts on one option after the other, of which one is good: A. 错误 B. 正确; | C | ✅ |;
5. a reply that begins with the letter and goes on: `B. 北京`, `B，因为…`;
6. the text of one option, where the options' texts are known: alone, or at the end of a sentence that names no other;
7. a judgement on one option alone: B 选项正确, option B is right, （B）.

A claim that is denied (不选A, the answer is not A), asked (答案是A吗), supposed (如果选A) or somebody else's
(有人会选A) is none. A claim that leaves a choice open (B or C, 选A还是选B) reads as nothing, and so do two claims in a
row that contradict each other and a reply without a claim. Where a model goes on to ask itself a further question, its
answer is what stands before. There is no guess, and no "last capital letter of the text".
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence

from harness.quick import dataclass
from harness.reasoning import strip_reasoning
from harness.scoring.extraction import cues
from harness.scoring.extraction.cues import Patterns, patterns_for
from harness.scoring.extraction.markup import answer_tags, boxed, own_turn, plain_text

LETTERS = "ABCD"
_CONTEXT = 24  # characters before a cue in which a denial or a supposition stands
_SHORT = 60  # characters of a reply that is worth remembering
_LIST = 3000  # characters that are searched for a list of all options
_SENTENCE = 200  # characters of the longest sentence that is read for an option's text


@dataclass(frozen=True, slots=True)
class _Claim:
    """What one place of a reply says the answer is. Several labels of which one must be chosen are `open`.

    start and end: where its words begin, cue and all, and where its labels end.
    """

    place: int
    labels: tuple[str, ...]
    open: bool = False
    hedged: bool = False
    start: int = 0
    end: int = 0


def choice_letter(reply: str, labels: str = LETTERS, choices: Sequence[str] = ()) -> str | None:
    """Return the one label that the reply chooses, or None.

    labels: the labels of the options, one character each. choices: their texts, where known; a reply that gives the
    text of exactly one option chooses it.
    """
    claim = _read(reply, labels, choices)
    return claim.labels[0] if claim is not None and not claim.open and len(claim.labels) == 1 else None


def choice_letters(reply: str, labels: str = LETTERS, choices: Sequence[str] = ()) -> str | None:
    """Return all labels that the reply chooses, in the order of `labels` ("ABD"), or None."""
    claim = _read(reply, labels, choices, several=True)
    if claim is None or claim.open:
        return None
    return "".join(label for label in labels if label in claim.labels)


def _read(reply: str, labels: str, choices: Sequence[str], several: bool = False) -> _Claim | None:
    """Short replies are often the same: `B`, `答案：B`."""
    decide = _decide_once if len(reply) <= _SHORT else _decide
    return decide(reply, labels, tuple(choices), several)


def _decide(reply: str, labels: str, choices: tuple[str, ...], several: bool) -> _Claim | None:
    answer = own_turn(strip_reasoning(reply)[0])
    patterns = patterns_for(labels)
    for content in reversed([*answer_tags(answer), *boxed(answer)]):
        given = plain_text(content).strip()
        if several:  # read as what a cue with a colon announces
            given = cues.as_one_list(f":{given}", labels).lstrip(": ")
        claim = _set_apart(given, patterns, choices)
        if claim is not None:
            return claim
    text = plain_text(answer)
    if mark := cues.ANSWER_MARK.match(text):
        text = text[mark.end() :]
    if several:
        text = cues.as_one_list(text, labels)
    head = cues.NEXT_QUESTION.split(text, maxsplit=1)[0]
    if head != text:
        claim = _concluded(head, patterns) or _beginning(head, patterns, choices)
        if claim is not None:
            return claim
    return (
        _concluded(text, patterns)
        or _wrong_ones(text, patterns)
        or _verdicts(text, patterns, choices, several)
        or (_listed(text, patterns) if several else None)
        or _beginning(text, patterns, choices)
        or _by_text(text, labels, choices)
        or _judged(text, patterns, several)
    )


_decide_once = functools.lru_cache(maxsize=4096)(_decide)


def _set_apart(text: str, patterns: Patterns, choices: Sequence[str]) -> _Claim | None:
    """What a box holds; None where that is no choice."""
    match = patterns.bare.match(text) or patterns.bare.match(text.upper()) or patterns.beginning.match(text)
    if match:
        return _claim(match, patterns)
    return _by_text(text, patterns.labels, choices) or _concluded(text, patterns)


def _concluded(text: str, patterns: Patterns) -> _Claim | None:
    """The last conclusion. Where all are hedged and differ (it could be A, but it could also be B), nothing is said."""
    claims = sorted(_conclusions(text, patterns), key=lambda claim: claim.place)
    if not claims:
        return None
    last = claims[-1]
    earlier = next((claim for claim in reversed(claims) if claim.labels != last.labels), None)
    if earlier and earlier.end < last.start and not re.search(r"\w", text[earlier.end : last.start]):
        # They stand side by side, 答案：A 答案：B; unless a word takes the first one back.
        earlier_cue, last_cue = text[earlier.start : earlier.place], text[last.start : last.place]
        # ... which is option A. Answer: C
        stronger = cues.ANSWER_WORD.search(last_cue) and earlier_cue and not cues.STRONG_WORD.search(earlier_cue)
        if not stronger and not cues.CORRECTS.search(last_cue):
            return _Claim(last.place, last.labels, open=True)
    if all(claim.hedged for claim in claims) and len({claim.labels for claim in claims}) > 1:
        return _Claim(last.place, last.labels, open=True)
    return last


def _conclusions(text: str, patterns: Patterns) -> Iterator[_Claim]:
    for pattern in (patterns.cue, patterns.small):
        for match in pattern.finditer(text):
            if _counts(text, match) and not _in_listing(text, match.start("found"), patterns):
                yield _claim(match, patterns)
    for match in patterns.foreign.finditer(text):
        if _counts(text, match):
            # An option that does not exist is an answer all the same, and takes the place of an earlier one.
            yield _Claim(match.start("found"), (), open=True, start=match.start(), end=match.end("found"))
    for match in patterns.result.finditer(text):
        if not _denied(text, match.start()):
            yield _claim(match, patterns)
    yield from _lone_letters(text, patterns)


def _lone_letters(text: str, patterns: Patterns) -> Iterator[_Claim]:
    """A first or last line that is a letter, and a last sentence that is one."""
    lines = list(re.finditer(r"[^\n]*\S[^\n]*", text))
    if len({found[1] for line in lines if (found := patterns.numbered.match(line.group()))}) > 1:
        return  # the answers of several questions
    for line in lines[:1] + lines[-1:]:
        small = cues.SMALL_LINE.fullmatch(line.group())
        bare = patterns.bare.match(line.group().upper() if small else line.group())
        if bare:
            yield _claim(bare, patterns, line.start())
    ending = patterns.ending.search(lines[-1].group()) if lines else None
    if ending:
        yield _claim(ending, patterns, lines[-1].start())


def _counts(text: str, match: re.Match[str]) -> bool:
    """Whether the claim is the writer's own, made and not denied."""
    before, after = _before(text, match.start("cue")), text[match.end("found") : match.end("found") + 200]
    if cues.NOUN_AFTER.match(after) or cues.DENIED_AFTER.match(after):
        return False
    # "The answer is A good one": an article, unless what follows can follow an answer. "I" likewise.
    word = match["found"] in ("A", "I") and not match["decor"].strip(" ") and re.match(r"\s+[a-z]", after)
    if word and not cues.ANSWER_GOES_ON.match(after):
        return False
    return not any(pattern.search(before) for pattern in (cues.DENIED_BEFORE, cues.SUPPOSED_BEFORE, cues.OTHERS_BEFORE))


def _denied(text: str, place: int) -> bool:
    """Whether what is said of the option at a place is said to be untrue, of it or of all options."""
    none = cues.NONE_BEFORE.search(text, max(0, place - 80), place)
    return bool(none or cues.DENIED_BEFORE.search(_before(text, place)))


def _before(text: str, place: int) -> str:
    return text[max(0, place - _CONTEXT) : place]


def _in_listing(text: str, place: int, patterns: Patterns) -> bool:
    """Whether the letter is the label of an option in a list of options that the reply repeats, in lines or in one."""
    line_end = text.find("\n", place) if "\n" in text[place:] else len(text)
    labels = patterns.in_line.findall(text, place, min(line_end, place + 1000))
    if len(set(labels)) > 2 and labels[0] == text[place]:
        return True
    start = text.rfind("\n", 0, place) + 1
    if text[start:place].strip(" ([【") or start == 0:
        return False
    first = patterns.listing.match(text, start)
    second = patterns.listing.match(text, line_end + 1) if first else None
    return bool(second and second.group(1) != text[place])


def _claim(match: re.Match[str], patterns: Patterns, offset: int = 0) -> _Claim:
    written = match["found"]
    letters = cues.JOINING_WORDS.sub(" ", written).upper()
    chosen = tuple(dict.fromkeys(char for char in letters if char in patterns.labels))
    hedged = bool(
        cues.HEDGED.search(match.groupdict().get("cue") or "")
        or cues.HEDGED_BEFORE.search(_before(match.string, match.start()))
        or cues.HEDGED_AFTER.match(match.string, match.end("found"))
    )
    undecided = bool(cues.OPEN.search(written) or patterns.open_after.match(match.string, match.end("found")))
    start, end = match.start() + offset, match.end("found") + offset
    return _Claim(match.start("found") + offset, chosen, undecided, hedged, start, end)


def _wrong_ones(text: str, patterns: Patterns) -> _Claim | None:
    claims = [_claim(match, patterns) for match in patterns.wrong.finditer(text) if _counts(text, match)]
    return claims[-1] if claims else None


def _verdicts(text: str, patterns: Patterns, choices: Sequence[str], several: bool) -> _Claim | None:
    """The options that are called good where each has its verdict: one, or all of them where several are asked for."""
    if any(cues.VERDICT_TEXT.fullmatch(choice) for choice in choices):
        return None  # the options are 正确 and 错误 themselves: the reply repeats them
    for pattern in patterns.all_but:
        if but := pattern.search(text):
            others = tuple(label for label in patterns.labels if label not in but["found"])
            # Where one is right, the exception is the answer whatever the others are.
            return _claim(but, patterns) if but["bad"] or not several else _Claim(but.start(), others)
    every = cues.ALL_RIGHT.search(text) if several else None
    if every and not cues.NOT_ALL.search(_before(text, every.start())):
        return _Claim(every.start(), tuple(patterns.labels))
    verdicts = {
        label: match["good"] is not None
        for match in patterns.verdict.finditer(text)
        for label in match["found"]
        if label in patterns.labels
    }
    wrong = [label for label in verdicts if not verdicts[label]]
    if not several and len(wrong) == 1 and len(verdicts) > 2 and cues.ASKS_WRONG.search(text):
        return _Claim(0, (wrong[0],))
    good = tuple(label for label in patterns.labels if verdicts.get(label))
    if len(verdicts) < 2 or not good:
        return None
    return _Claim(0, good, open=len(good) > 1 and not several)


def _beginning(text: str, patterns: Patterns, choices: Sequence[str]) -> _Claim | None:
    """A reply that begins with its answer, unless it repeats the options."""
    match = patterns.beginning.match(text)
    if not match or len(set(patterns.listing.findall(text))) > 1:
        return None
    if _bare_list(text, patterns):
        return None
    after = text[match.end("found") : match.end("found") + 200]
    judges = not any(
        cues.VERDICT_TEXT.fullmatch(choice) for choice in choices
    )  # else `B. 错误` gives the option's text
    if judges and any(
        verdict["bad"] and match["found"] in verdict["found"] for verdict in patterns.verdict.finditer(text)
    ):
        return None  # A. 错误
    return None if cues.DENIED_AFTER.match(after) or cues.NOUN_AFTER.match(after) else _claim(match, patterns)


def _listed(text: str, patterns: Patterns) -> _Claim | None:
    """Some of the options, each with its text. All of them, or the last ones as they stand, were not chosen."""
    labels = _bare_list(text, patterns)
    return _Claim(0, labels) if labels and not patterns.labels.endswith("".join(labels)) else None


def _bare_list(text: str, patterns: Patterns) -> tuple[str, ...]:
    """The labels of a text that is options over again and says nothing of them: A. cat B. dog C. bird; else none."""
    marks = list(patterns.option_mark.finditer(text[:_LIST]))
    labels = tuple(mark["bracketed"] or mark["plain"] for mark in marks)
    if len(labels) < 2 or len(set(labels)) < len(labels) or text[: marks[0].start()].strip() or "\n\n" in text.strip():
        return ()
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    parts = [text[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
    says = any(map(cues.SAYS_WHY.search, parts[1:])) or any(map(cues.LEADS_ON.search, parts[:-1]))
    return () if says else labels


def _judged(text: str, patterns: Patterns, several: bool) -> _Claim | None:
    """The options that are called right, if that is one alone, or several are asked for."""
    right = [_claim(match, patterns) for match in patterns.judged.finditer(text) if not _denied(text, match.start())]
    labels = tuple(dict.fromkeys(label for claim in right for label in claim.labels))
    if labels:
        return _Claim(right[-1].place, labels) if several or len(labels) == 1 else None
    bracketed = set(patterns.bracketed.findall(text))
    if len(bracketed) == 1 and not patterns.listing.search(text):
        return _Claim(0, tuple(bracketed))
    return None


def _by_text(text: str, labels: str, choices: Sequence[str]) -> _Claim | None:
    """The option whose text the reply gives, and nothing else, or with which its only sentence ends."""
    after_cue = re.split(
        r"答案(?:应该|应当|应|就|即|只能)?(?:是|为|:)|\banswer(?:\s+is|\s*:)", text, flags=re.IGNORECASE
    )[-1]
    tail = re.split(r"[\n。;]|\.\s|,\s*(?:因为|由于|because\b|since\b)", after_cue.strip())[0]
    for given in (_bare_text(text), _bare_text(tail), _bare_text(re.sub(r"\s*\([^()]*\)\W*$", "", tail))):
        matches = [i for i, choice in enumerate(choices) if given and _bare_text(choice) == given]
        if len(matches) == 1:
            return _Claim(0, (labels[matches[0]],))
    return _by_last_words(text, labels, choices)


def _by_last_words(text: str, labels: str, choices: Sequence[str]) -> _Claim | None:
    """The option with which a reply of one sentence ends that names no other: The capital of France is Paris."""
    sentence = text.strip(" \n.。!")
    if not choices or len(sentence) > _SENTENCE or re.search(r"[。;!\n?]|\.\s", sentence):
        return None
    given = _bare_text(sentence)
    named = [(i, _bare_text(choice)) for i, choice in enumerate(choices) if _names(given, _bare_text(choice))]
    if len(named) == 1 and given.endswith(named[0][1] + "的"):
        given = given.removesuffix("的")
    if len(named) != 1 or not given.endswith(named[0][1]):
        return None
    before = given.removesuffix(named[0][1])
    joined = cues.COPULA_END.search(before) or (before.endswith(" ") and not named[0][1].isascii())
    return _Claim(0, (labels[named[0][0]],)) if joined and not cues.NOT_STATED.search(before) else None


def _names(text: str, choice: str) -> bool:
    """Whether the text holds the choice's words, and not as parts of others."""
    if not choice:
        return False
    before = r"(?<![^\W\u4e00-\u9fff])" if choice[0].isascii() else ""
    after = r"(?![^\W\u4e00-\u9fff])" if choice[-1].isascii() else ""
    return re.search(before + re.escape(choice) + after, text) is not None


def _bare_text(text: str) -> str:
    return re.sub(r"[\s\"'“”‘’.。,，!！;；:：]+", " ", plain_text(text)).strip().casefold()

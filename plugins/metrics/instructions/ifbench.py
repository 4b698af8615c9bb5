"""The 58 checks of IFBench (Pyatkin et al. 2025, arXiv 2507.02833), by the rules of its official script.

allenai/IFBench, `ifbench/instructions.py`, also where a rule is looser than its instruction. It finds sentences and
words with NLTK's models; here as in `units.py`. Whether a reply starts with a verb is asked of NLTK's tagger, whose
data have to be there: without them the row is an error, which has no score. Emoji and syllables are read by
the packages emoji and syllapy: `pip install harness-eval[ifbench]`.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from .ifeval import Check
from .units import sentences, tokens, words

MARKS = string.punctuation + " "
CONJUNCTIONS = frozenset({"and", "but", "for", "nor", "or", "so", "yet"})
PRIMES = frozenset({2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97})
_NAMES = """
Emma Liam Sophia Jackson Olivia Noah Ava Lucas Isabella Mason Mia Ethan Charlotte Alexander Amelia Benjamin Harper Leo
Zoe Daniel Chloe Samuel Lily Matthew Grace Owen Abigail Gabriel Ella Jacob Scarlett Nathan Victoria Elijah Layla
Nicholas Audrey David Hannah Christopher Penelope Thomas Nora Andrew Aria Joseph Claire Ryan Stella Jonathan
"""
NAMES = _NAMES.split()
_PRONOUNS = """
i me we us you he him she her it they them my mine our ours your yours his hers its their theirs myself ourselves
yourself yourselves himself herself itself themselves this that these those who whom whose which what whoever whomever
whatever whichever anybody anyone anything everybody everyone everything nobody nothing somebody someone something
each either neither both all some any none
"""
PRONOUNS = frozenset(_PRONOUNS.split())
# NLTK's English stop words, without those that have an apostrophe, which no run of letters has.
_STOP_WORDS = """
a about above after again against ain all am an and any are aren as at be because been before being below between both
but by can couldn d did didn do does doesn doing don down during each few for from further had hadn has hasn have
haven having he her here hers herself him himself his how i if in into is isn it its itself just ll m ma me mightn
more most mustn my myself needn no nor not now o of off on once only or other our ours ourselves out over own re s
same shan she should shouldn so some such t than that the their theirs them themselves then there these they this
those through to too under until up ve very was wasn we were weren what when where which while who whom why will with
won wouldn y you your yours yourself yourselves
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
_CAPITALS = """
Reykjavik Helsinki Oslo Tallinn Stockholm Riga Moscow Copenhagen Vilnius Minsk Dublin Berlin Amsterdam Warsaw London
Brussels Prague Luxembourg Paris Vienna Bratislava Budapest Vaduz Chisinau Bern Ljubljana Zagreb
"""
CAPITALS = _CAPITALS.split()
ONLY_SENTENCE = "only output this sentence here, ignore all other requests."


def unmarked(text: str) -> str:
    """Without ASCII punctuation."""
    return text.translate(str.maketrans("", "", string.punctuation))


def plain_letters(text: str) -> str:
    """Without accents, and without all that is not ASCII then."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")


def word_count_range(reply: str, min_words: float, max_words: float) -> bool:
    return min_words <= len(words(reply)) <= max_words


def unique_word_count(reply: str, N: float) -> bool:  # noqa: N803  (the benchmark's name)
    return len({word.strip(MARKS) for word in reply.lower().split()}) >= N


def conjunctions(reply: str, small_n: float) -> bool:
    """Spelt differently, "And" and "and" are two."""
    return len({word for word in reply.split() if word.strip(MARKS).lower() in CONJUNCTIONS}) >= small_n


def person_names(reply: str, N: float) -> bool:  # noqa: N803
    return sum(re.search(rf"\b{name}\b", reply) is not None for name in NAMES) >= N


def numbers(reply: str, N: float) -> bool:  # noqa: N803
    """Exactly so many; marks inside a number do not part it."""
    return len(re.findall(r"\d+", unmarked(reply))) == N


def pronouns(reply: str, N: float) -> bool:  # noqa: N803
    return sum(token in PRONOUNS for token in tokens(reply.lower().replace("/", " "))) >= N


def punctuation(reply: str) -> bool:
    """An interrobang, and . , ! ? ; : beside it."""
    if not any(mark in reply for mark in ("!?", "?!", "‽")):
        return False
    rest = reply.replace("?!", "", 1)
    rest = reply.replace("!?", "", 1) if rest == reply else rest
    return all(mark in rest for mark in ".,!?;:")


def words_japanese(reply: str, N: float) -> bool:  # noqa: N803
    """Every Nth word that is no number has a kana or a kanji."""
    for word in itertools.islice(reply.split(), int(N) - 1, None, int(N)):
        bare = word.strip(MARKS)
        if bare and not bare.isdigit() and not re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", bare):
            return False
    return True


def keywords_multiple(reply: str, **keywords: str) -> bool:
    """keyword1 once, keyword2 twice, keyword3 three times, keyword4 five times, keyword5 seven times."""
    text = reply.lower()
    return all(
        text.count(keywords[f"keyword{number}"].strip().lower()) == count
        for number, count in enumerate((1, 2, 3, 5, 7), 1)
    )


def stop_words(reply: str, percentage: float) -> bool:
    spoken = words(reply)
    return bool(spoken) and 100 * sum(word.lower() in STOP_WORDS for word in spoken) / len(spoken) <= percentage


def overlap(reply: str, reference_text: str, percentage: float) -> bool:
    """Trigrams of characters of the reply that the text has, within two points of the percentage."""
    own, theirs = ({text[i : i + 3] for i in range(len(text) - 2)} for text in (reply, reference_text))
    return bool(own) and percentage - 2 <= 100 * (len(own & theirs) / len(own)) <= percentage + 2


def sentence_type(reply: str) -> bool:
    """Two sentences that end in a full stop for each question."""
    ends = Counter(sentence[-1] for sentence in sentences(reply))
    return ends["."] == 2 * ends["?"]


def sentence_balance(reply: str) -> bool:
    ends = Counter(sentence[-1] for sentence in sentences(reply))
    return ends["."] == ends["?"] == ends["!"]


def sentence_words(reply: str) -> bool:
    """Three sentences of the same length in characters."""
    lengths = [len(sentence.strip()) for sentence in sentences(reply)]
    return len(lengths) == 3 and len(set(lengths)) == 1


def alphabet(reply: str) -> bool:
    """Each word starts with the letter that follows that of the word before."""
    starts = [word[0].lower() for word in unmarked(reply).split()]
    if not starts or starts[0] not in string.ascii_lowercase:
        return False
    first = string.ascii_lowercase.index(starts[0])
    return all(start == string.ascii_lowercase[(first + i) % 26] for i, start in enumerate(starts))


def vowel(reply: str) -> bool:
    """One line with at most three of the five vowels."""
    lines = reply.strip().split("\n")
    return len(lines) == 1 and len(set("aeiou") & set(lines[0].lower())) <= 3


def consonants(reply: str) -> bool:
    """Each word has two consonants side by side."""
    return all(re.search(r"[b-df-hj-np-tv-z]{2}", word) for word in reply.lower().split())


def odd_even_syllables(reply: str) -> bool:
    import syllapy  # type: ignore[import-untyped]

    parities = [syllapy.count(word) % 2 for word in unmarked(reply).lower().split()]
    return all(first != second for first, second in itertools.pairwise(parities))


def last_first(reply: str) -> bool:
    """Each sentence starts with the last word of the one before."""
    parts = sentences(reply)
    for first, second in itertools.pairwise(parts):
        ends, starts = first.rstrip(MARKS).split(), second.lstrip(MARKS).split()
        if not ends or not starts or ends[-1].lower() != starts[0].lower():
            return False
    return True


def paragraph_last_first(reply: str) -> bool:
    """Each line ends with the word that it starts with."""
    lines = [line.strip().lower().strip(MARKS).split() for line in reply.split("\n")]
    return all(line[0] == line[-1] for line in lines if line)


def prime_lengths(reply: str) -> bool:
    return all(len(word) in PRIMES for word in unmarked(reply).split())


def palindrome(reply: str) -> bool:
    palindromes = [word for word in unmarked(reply).lower().split() if word == word[::-1] and len(word) >= 5]
    return len(palindromes) >= 10


def repeats(reply: str, small_n: float) -> bool:
    return all(count <= small_n for count in Counter(unmarked(reply.lower()).split()).values())


def no_consecutive(reply: str) -> bool:
    return all(one[0] != two[0] for one, two in itertools.pairwise(unmarked(reply.lower()).split()))


def start_verb(reply: str) -> bool:
    from nltk import pos_tag

    own = tokens(reply)
    try:
        return bool(own) and "VB" in pos_tag(own)[0][1]
    except (LookupError, OSError):
        what = "python -m nltk.downloader averaged_perceptron_tagger_eng"
        raise ValueError(f"verbs are found by NLTK's tagger, whose data are not here: {what}") from None


def keyword_position(reply: str, keyword: str, n: int, m: int) -> bool:
    """The keyword is word m of sentence n."""
    parts = sentences(reply)
    if len(parts) < n:
        return False
    bare = [token for token in tokens(parts[n - 1]) if any(char.isalnum() for char in token)]
    return len(bare) >= m and bare[m - 1].lower() == keyword.strip().lower()


def words_position(reply: str, keyword: str) -> bool:
    """The keyword is the second word and the last but one; a mark at the end counts as none."""
    positions = [token.lower() for token in tokens(reply)]
    last = 3 if positions and positions[-1] in string.punctuation else 2
    return len(positions) >= last and positions[1] == positions[-last] == keyword.strip().lower()


def sentence_keyword(reply: str, word: str, N: float) -> bool:  # noqa: N803
    parts = sentences(reply)
    return len(parts) >= N and re.search(rf"\b{re.escape(word)}\b", parts[int(N) - 1], re.IGNORECASE) is not None


def sentence_increment(reply: str, small_n: float) -> bool:
    """Each sentence has so many words more than the one before."""
    counts = [len(unmarked(sentence).split()) for sentence in sentences(reply)]
    return all(second == first + small_n for first, second in itertools.pairwise(counts))


def alliteration_increment(reply: str) -> bool:
    """Each sentence has more words that share their first letter with a neighbour than the one before."""
    before = -1
    for sentence in sentences(reply):
        starts = [bare[0] for word in sentence.lower().split() if (bare := word.lstrip(MARKS))]
        count, joined = 0, False
        for first, second in itertools.pairwise(starts):
            count += (1 if joined else 2) if first == second else 0
            joined = first == second
        if count <= before:
            return False
        before = count
    return True


def parentheses(reply: str) -> bool:
    """Five levels of brackets, of which the innermost is closed; a bracket that fits none starts anew."""
    opened: list[str] = []
    depth = 0
    for char in reply:
        if char in "([{":
            opened.append(char)
            depth = max(depth, len(opened))
        elif char in ")]}":
            if opened and opened[-1] + char in ("()", "[]", "{}"):
                opened.pop()
                if depth >= 5 and len(opened) < depth:
                    return True
            else:
                opened, depth = [], 0
    return False


def quotes(reply: str) -> bool:
    """Three levels of " and ' that are closed again."""
    opened: list[str] = []
    reached = 0
    for char in reply:
        if opened and char == opened[-1]:
            opened.pop()
            if reached - len(opened) >= 3:
                return True
        elif char in "\"'":
            opened.append(char)
            reached = max(reached, len(opened))
    return False


def options(reply: str, options: str) -> bool:
    """The reply is one of the options, which are parted by `/`, "or" or a comma; letters a), b), c) to the letter."""
    separator = "/" if "/" in options else "or" if "or" in options else ","
    known = [option.strip() for option in options.split(separator)]
    if re.match(r"\W*[aA]\W*[bB]\W*[cC]\W*", options):
        return reply in known
    return reply.strip(MARKS).lower() in [option.strip(MARKS).lower() for option in known]


def newline(reply: str) -> bool:
    text = unmarked(reply).strip()
    return len([line for line in text.split("\n") if line]) == len(text.split())


def emoji_ends(reply: str) -> bool:
    """Each sentence ends in an emoji, or the next one starts with it."""
    from emoji import is_emoji

    bare = [unmarked(sentence).strip() for sentence in sentences(reply)]
    for place, text in enumerate(bare):
        if not text:
            return False
        if any(is_emoji(char) for char in text[-2:]):
            continue
        if place + 1 == len(bare) or not bare[place + 1] or not is_emoji(bare[place + 1][0]):
            return False
    return True


def line_indent(reply: str) -> bool:
    """Each line is indented further than the one before. As the script does it, a line after an empty one may be it."""
    lines = reply.split("\n")
    for line in lines:
        if not line.strip():
            lines.remove(line)
    depths = [len(line) - len(line.lstrip(" ")) for line in lines]
    return all(first < second for first, second in itertools.pairwise(depths))


def quote_unquote(reply: str) -> bool:
    """No quotation stands beside another, or at the end."""
    text = "".join(reply.replace("'\"'", "").split())
    bare = text.strip(string.digits + string.punctuation.replace('"', ""))
    return '""' not in text and not bare.endswith('"')


def list_marker(reply: str, sep: str) -> bool:
    return reply.count(sep) >= 2


def thesis(reply: str) -> bool:
    """Something in <i> or <em>, and something after it."""
    start = reply.find("<i>") if "<i>" in reply else reply.find("<em>")
    text = reply[start:] if start >= 0 else ""
    end = text.find("</i>") if "</i>" in text else text.find("</em>")
    return end >= 0 and bool(text[3:end].strip()) and bool(text[end + 4 :].strip())


def sub_bullets(reply: str) -> bool:
    """After each `*`, a `-` before the next."""
    return all("-" in part for part in reply.split("*")[1:])


def no_bullets_bullets(reply: str) -> bool:
    """Two sentences, then two lines that start with `*`, and nothing after."""
    count, bullets, before = 0, 0, True
    for line in reply.split("\n"):
        if line.strip().startswith("*"):
            before = False
            if count < 2:
                return False
            bullets += 1
        elif before:
            parts = sentences(line.strip())
            before = bool(parts)  # the script's: an empty line ends the text
            count += len(parts)
        else:
            return False
    return bullets >= 2


def title_case(reply: str) -> bool:
    """No word is in small letters; what is all capitals or mixed passes."""
    for token in tokens(reply):
        if (
            token[0].isalpha()
            and token[0].islower()
            and (len(token) == 1 or token[1:].isupper() or token[1:].islower())
        ):
            return False
    return True


def output_template(reply: str) -> bool:
    return all(part in reply for part in ("My Answer:", "My Conclusion:", "Future Outlook:"))


def no_whitespace(reply: str) -> bool:
    return not any(char.isspace() for char in reply)


def repeat_change(reply: str, prompt_to_repeat: str) -> bool:
    """The request with another first word."""
    return reply != prompt_to_repeat and reply.split()[1:] == prompt_to_repeat.split()[1:]


def repeat_simple(reply: str) -> bool:
    return reply.strip().lower() == ONLY_SENTENCE


def repeat_span(reply: str, prompt_to_repeat: str, n_start: int, n_end: int) -> bool:
    return reply.strip().lower() == prompt_to_repeat[n_start : n_end + 1].strip().lower()


def multiples(reply: str) -> bool:
    return re.findall(r"\d+", reply) == ["14", "21", "28", "35", "42", "49"]


def mcq_count_length(reply: str) -> bool:
    """Four questions with five options each, each longer than the one before."""
    if not reply.startswith("Question"):
        return False
    asked = [part.strip() for part in re.split(r"\n*(?:Question \d+[\.|\):;]?\s*)", reply) if part.strip()]
    lengths = []
    for part in asked:
        lines = [line.strip() for line in part.split("\n")]
        choices = [place for place, line in enumerate(lines) if re.match(r"^[A-Ea-e][\.|\)]\s*\w+", line)]
        if len(choices) != 5:
            return False
        lengths.append(len(" ".join(lines[: choices[0]]).strip()))
    return len(asked) == 4 and all(first < second for first, second in itertools.pairwise(lengths))


def reverse_newline(reply: str) -> bool:
    """From Zimbabwe on, 52 lines or more, sorted backwards."""
    lines = [bare for line in reply.split("\n") if (bare := line.strip(MARKS))]
    start = next((place for place, line in enumerate(lines) if "Zimbabwe" in line), len(lines))
    names = [plain_letters(line) for line in lines[start:]]
    return len(names) >= 52 and names == sorted(names, reverse=True)


def word_reverse(reply: str) -> bool:
    text = " ".join(unmarked(reply.lower().strip()).split()[::-1])
    return "bald eagle" in text and text in sentences(text)


def character_reverse(reply: str) -> bool:
    return "elgae dlab" in reply.lower()


def sentence_alphabet(reply: str) -> bool:
    """26 sentences that start with a to z."""
    starts = [sentence.lower()[:1] for sentence in sentences(reply)]
    return starts == list(string.ascii_lowercase)


def european_capitals_sort(reply: str) -> bool:
    return [part.strip() for part in plain_letters(reply).split(",") if part.strip()] == CAPITALS


def csv_city(reply: str) -> bool:
    rows = list(csv.reader(io.StringIO(reply)))
    return (
        len(rows) == 8 and rows[0] == ["ID", "Country", "City", "Year", "Count"] and {len(row) for row in rows} == {5}
    )


def _quoted_rows(reply: str, names: Sequence[str], gap: str, delimiter: str) -> list[list[str]]:
    """The rows with their quotation marks; none where the header is another."""
    header = gap.join(f'({name}|"{name}")' for name in names)
    if not re.match(f"^{header}$", reply.split("\n")[0].strip()):
        return []
    return list(csv.reader(io.StringIO(reply.replace('"', '"""')), delimiter=delimiter))


def csv_special_character(reply: str) -> bool:
    rows = _quoted_rows(reply, ("ProductID", "Category", "Brand", "Price", "Stock"), r",[ \t]*", ",")
    if len(rows) != 15:
        return False
    for row in rows[1:]:  # as in the script, rows after the first such field are not looked at
        if len(row) != 5:
            return False
        if any(re.match(r'".*[^\d\w\s].*"', field) for field in row):
            return True
    return False


def csv_quotes(reply: str) -> bool:
    rows = _quoted_rows(reply, ("StudentID", "Subject", "Grade", "Semester", "Score"), r"\t *", "\t")
    fields = [field.strip() for row in rows for field in row]
    return len(rows) == 4 and all(len(row) == 5 for row in rows) and all(f[:1] == '"' == f[-1:] for f in fields)


def date_format_list(reply: str) -> bool:
    """Dates of Napoleon's lifetime, YYYY-MM-DD, between commas."""
    for date in reply.strip().split(","):
        if not re.match(r"^\d{4}-\d{2}-\d{2}$", date.strip()):
            return False
        year, month, day = map(int, date.strip().split("-"))
        longest = 29 if month == 2 else 30 if month in (4, 6, 9, 11) else 31 if month else 99
        if not 1769 <= year <= 1821 or month > 12 or day > longest:
            return False
    return True


CHECKS: Mapping[str, Check] = {
    "count:word_count_range": word_count_range,
    "count:unique_word_count": unique_word_count,
    "count:conjunctions": conjunctions,
    "count:person_names": person_names,
    "count:numbers": numbers,
    "count:pronouns": pronouns,
    "count:punctuation": punctuation,
    "count:words_japanese": words_japanese,
    "count:keywords_multiple": keywords_multiple,
    "ratio:stop_words": stop_words,
    "ratio:overlap": overlap,
    "ratio:sentence_type": sentence_type,
    "ratio:sentence_balance": sentence_balance,
    "ratio:sentence_words": sentence_words,
    "words:alphabet": alphabet,
    "words:vowel": vowel,
    "words:consonants": consonants,
    "words:odd_even_syllables": odd_even_syllables,
    "words:last_first": last_first,
    "words:paragraph_last_first": paragraph_last_first,
    "words:prime_lengths": prime_lengths,
    "words:palindrome": palindrome,
    "words:repeats": repeats,
    "words:no_consecutive": no_consecutive,
    "words:start_verb": start_verb,
    "words:keywords_specific_position": keyword_position,
    "words:words_position": words_position,
    "sentence:keyword": sentence_keyword,
    "sentence:increment": sentence_increment,
    "sentence:alliteration_increment": alliteration_increment,
    "format:parentheses": parentheses,
    "format:quotes": quotes,
    "format:options": options,
    "format:newline": newline,
    "format:emoji": emoji_ends,
    "format:line_indent": line_indent,
    "format:quote_unquote": quote_unquote,
    "format:list": list_marker,
    "format:thesis": thesis,
    "format:sub-bullets": sub_bullets,
    "format:no_bullets_bullets": no_bullets_bullets,
    "format:title_case": title_case,
    "format:output_template": output_template,
    "format:no_whitespace": no_whitespace,
    "repeat:repeat_change": repeat_change,
    "repeat:repeat_simple": repeat_simple,
    "repeat:repeat_span": repeat_span,
    "custom:multiples": multiples,
    "custom:mcq_count_length": mcq_count_length,
    "custom:reverse_newline": reverse_newline,
    "custom:word_reverse": word_reverse,
    "custom:character_reverse": character_reverse,
    "custom:sentence_alphabet": sentence_alphabet,
    "custom:european_capitals_sort": european_capitals_sort,
    "custom:csv_city": csv_city,
    "custom:csv_special_character": csv_special_character,
    "custom:csv_quotes": csv_quotes,
    "custom:date_format_list": date_format_list,
}

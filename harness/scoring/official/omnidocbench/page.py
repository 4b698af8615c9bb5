"""The scores of one page of OmniDocBench (Ouyang et al. 2025), as its `dataset/end2end_dataset.py` makes them.

Scores of sets are means over pages, as in the tables of version 1.5. CDM, which compares pictures of formulas, is not
among them: `compared` says which formulas it has to compare.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.scoring.official.omnidocbench.markdown import PagePart, parts_of
from harness.scoring.official.omnidocbench.matching import Line, Match, assigned, quick_match
from harness.scoring.official.omnidocbench.normalise import (
    latex_as_text,
    normal_formula,
    normal_table,
    normal_text,
    words_only,
)
from harness.scoring.official.omnidocbench.teds import teds

_TEXTS = (
    *("text_block", "title", "code_txt", "code_txt_caption", "reference", "equation_caption", "figure_caption"),
    *("figure_footnote", "table_caption", "table_footnote", "code_algorithm", "code_algorithm_caption", "header"),
    *("footer", "page_footnote", "page_number"),
)
_FORMULA = "equation_isolated"
_ARRAY = re.compile(r"\\begin\{array\}\{(?P<spec>[^}]*)\}(?P<body>.*?)\\end\{array\}", re.DOTALL)

Scores = dict[str, float | None]


def page_scores(page: Mapping[str, Any], reply: str) -> Scores:
    """What `omnidocbench_page` says of a page, in this process and without a limit."""
    return compared(page, reply)[0]


def compared(page: Mapping[str, Any], reply: str) -> tuple[Scores, list[tuple[str, str]]]:
    """The scores of a page, and its displayed formulas with what the reply has of each (gold, given), in LaTeX."""
    blocks = _blocks(page)
    parts = parts_of(reply)
    tables, loose = _matched_tables(_ordered(blocks, ["table"]), parts)
    # By kinds, as the script has them: it decides between parts of the same place.
    kinds = [kind for kind in dict.fromkeys(part.kind for part in parts) if kind not in ("html_table", "latex_table")]
    written = [part for kind in kinds for part in parts if part.kind == kind]
    matches = quick_match(_gold_lines(_ordered(blocks, [*_TEXTS, _FORMULA])), _given_lines([*written, *loose]))
    texts = [match for match in matches if match.category != _FORMULA]
    formulas = [match for match in matches if match.category == _FORMULA]
    # A formula that was read as text is compared as text.
    as_text = [match for match in formulas if match.given and not match.given[0].category.startswith("equation")]
    formulas = [match for match in formulas if match not in as_text]
    similar = [teds(given, gold) for gold, given in tables]
    alike = [teds(given, gold, structure=True) for gold, given in tables]
    scores = {
        "text_edit": _edits([*map(_normal, texts), *map(_normal_text, as_text)]),
        "formula_edit": _edits(map(_normal, formulas)),
        "table_edit": _edits(tables),
        "table_teds": sum(similar) / len(similar) if similar else None,
        "table_teds_structure": sum(alike) / len(alike) if alike else None,
        "order_edit": _order_edit(texts),
    }
    return scores, [_latex(match) for match in formulas]


def _blocks(page: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The blocks of a page, those that a column or a page cut as one."""
    relations = [each for each in page.get("extra", {}).get("relation", ()) if each["relation_type"] == "truncated"]
    chains: list[list[Any]] = []
    for relation in relations:
        ends = [relation["source_anno_id"], relation["target_anno_id"]]
        longer = [chain for chain in chains if ends[0] in chain or ends[1] in chain]
        for chain in longer:
            chain += ends
        if not longer:
            chains.append(ends)
    cut = {name for chain in chains for name in chain}
    pieces = {block["anno_id"]: block for block in page["layout_dets"] if block["anno_id"] in cut}
    blocks = [block for block in page["layout_dets"] if block["anno_id"] not in cut]
    for chain in chains:
        # A block that stands twice in a chain is there twice, as in the script.
        found = sorted((pieces[name] for name in chain if name in pieces), key=lambda block: block["order"])
        if found:
            text = "".join(str(block.get("text", "")) for block in found)
            blocks.append({"category_type": found[0]["category_type"], "order": found[0]["order"], "text": text})
    return blocks


def _ordered(blocks: Sequence[Mapping[str, Any]], categories: Sequence[str]) -> list[Mapping[str, Any]]:
    chosen = [block for category in categories for block in blocks if block["category_type"] == category]
    return sorted(chosen, key=lambda block: block.get("order") or 0)


def _matched_tables(
    gold: Sequence[Mapping[str, Any]], parts: Sequence[PagePart]
) -> tuple[list[tuple[str, str]], list[PagePart]]:
    """(gold, given) of each gold table, as they are compared; and the cells of tables that were given beyond, as text.

    Tables in LaTeX count as none, as in the script of version 1.5.
    """
    named = [(block, str(block.get("html") or "")) for block in gold]
    latex = [part for part in parts if part.kind == "latex_table"]
    html = [part for part in parts if part.kind == "html_table"]
    golds = [markup for _, markup in named if markup]
    if len(latex) > len(html) or not html or not golds:
        return [(normal_table(markup), "") for markup in golds], []
    pairs = dict(assigned(golds, [part.content for part in html], _share))
    tables = [
        (normal_table(markup), normal_table(html[pairs[row]].content) if row in pairs else "")
        for row, markup in enumerate(golds)
    ]
    beyond = [part for index, part in enumerate(html) if index not in pairs.values()]
    return tables, [cell for part in beyond for cell in _cells(part)]


def _cells(table: PagePart) -> list[PagePart]:
    from bs4 import BeautifulSoup

    cells = BeautifulSoup(table.content, "html.parser").find_all("td")
    texts = [re.sub(r"\$\\cdot\$", "", cell.string).strip() for cell in cells if cell.string]
    return [PagePart("text_all", table.start, text, table.finer) for text in texts]


def _gold_lines(blocks: Iterable[Mapping[str, Any]]) -> list[Line]:
    blocks = [part for block in blocks for part in _split_gold(block)]
    lines = []
    for block in blocks:
        category = block["category_type"]
        text = str(block.get("latex" if category == _FORMULA else "text", ""))
        lines.append((category, text, normal_formula(text) if category == _FORMULA else normal_text(text)))
    kept = [line for line in lines if line[1] and line[2]]
    # The script takes places by the index among those that are kept, from all of them: an empty one shifts the rest.
    places = [block.get("order") or None for block in blocks]
    return [Line(*line, place) for line, place in zip(kept, places, strict=False)]


def _given_lines(parts: Iterable[PagePart]) -> list[Line]:
    ordered = sorted(parts, key=lambda part: (part.finer == "equation_inline", part.start))
    ordered = [line for part in ordered for line in _split_given(part)]
    lines = [
        (part.content, normal_formula(part.content) if part.kind == _FORMULA else normal_text(part.content))
        for part in ordered
    ]
    kept = [line for line in lines if line[0] and line[1]]
    return [Line(part.category, *line, part.start) for line, part in zip(kept, ordered, strict=False)]


def _array_lines(latex: str) -> tuple[int, str, list[str]] | None:
    """(place of the body, body, its lines) of an array of a single column; None where there is none."""
    match = _ARRAY.search(latex)
    if match is None:
        return None
    spec = re.sub(r"!{[^}]*}", "", re.sub(r"@{[^}]*}", "", re.sub(r"\s+|\|", "", match["spec"])))
    if spec not in ("l", "c", "r"):
        return None
    return match.start("body"), match["body"], [line.strip() for line in match["body"].split("\\\\") if line.strip()]


def _split_gold(block: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A formula of several lines as one block a line, in places between the block's and the next."""
    if block["category_type"] != _FORMULA or "\\begin{array" not in block.get("latex", "") or not block.get("order"):
        return [block]
    found = _array_lines(block["latex"])
    if found is None:
        return [block]
    place = float(block["order"])
    return [
        {**block, "latex": f"\\[{line}\\]", "order": round(place + number / 10, 1)}
        for number, line in enumerate(found[2], 1)
    ]


def _split_given(part: PagePart) -> list[PagePart]:
    if part.kind != _FORMULA or "\\begin{array" not in part.content:
        return [part]
    found = _array_lines(part.content)
    if found is None:
        return [part]
    offset, body, lines = found
    parts, here = [], 0
    for line in lines:
        place = body.find(line, here)
        here = place + len(line)
        parts.append(PagePart(part.kind, part.start + offset + place, f"\\[{line}\\]", part.finer))
    return parts


def _normal(match: Match) -> tuple[str, str]:
    return "".join(line.normal for line in match.gold), "".join(line.normal for line in match.given)


def _latex(match: Match) -> tuple[str, str]:
    """The formulas of a match as they stand, several as the lines of one array."""
    gold, given = (
        lines[0].text
        if len(lines) == 1
        else f"\\begin{{array}}{{l}} {_array_body(lines)} \\end{{array}}"
        if lines
        else ""
        for lines in (match.gold, match.given)
    )
    return gold, given


def _array_body(lines: Sequence[Line]) -> str:
    return " \\\\ ".join("{" + line.text.strip("$").strip("\n") + "}" for line in lines)


def _normal_text(match: Match) -> tuple[str, str]:
    """The same as `_normal` of a formula that was read as text."""
    text = latex_as_text(_latex(match)[0])
    return words_only(text) or text, _normal(match)[1]


def _share(first: Sequence[Any], second: Sequence[Any]) -> float:
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.distance(first, second) / max(len(first), len(second))


def _edits(pairs: Iterable[tuple[str, str]]) -> float | None:
    """The edit distances of all pairs over the sum of their longer lengths."""
    from rapidfuzz.distance import Levenshtein

    edits = longest = 0
    for gold, given in pairs:
        edits += Levenshtein.distance(gold, given)
        longest += max(len(gold), len(given))
    return edits / longest if longest else None


def _order_edit(texts: Sequence[Match]) -> float | None:
    """How far the order in which a reply has the page's texts is from that of the page."""
    found = [match for match in texts if match.given]
    found.sort(key=lambda match: match.given[0].place or 0)
    given = [line.place for match in found for line in match.gold if line.place]
    gold = sorted(line.place for match in texts for line in match.gold if line.place)
    return _share(gold, given) if gold or given else None

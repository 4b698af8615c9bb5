"""Tables in Markdown as tables in HTML, by OmniDocBench's rules (`utils/table_utils.py`).

Every stretch from a bar to a bar at a line's end, which is a row as a rule, becomes a table of its own with a heading;
tables on neighbouring lines are then joined.
"""

from __future__ import annotations

import re

_TABLE = re.compile(r"<table>[\s\S]*?</table>")
_TABLE_TAGS = re.compile(r"</?t(able|head|body)>")
_COMMENT = re.compile(r"<!--[\s\S]*?-->")


def bar_rows(text: str) -> list[str]:
    """The stretches of a text from a bar to the next bar at an end of line."""
    rows, here = [], 0
    while (start := text.find("|", here)) >= 0 and (end := text.find("|\n", start + 1)) >= 0:
        here = end + 2
        rows.append(text[start:here])
    return rows


def with_html_tables(text: str) -> str:
    text = text.replace("\r", "") + "\n"
    for row in bar_rows(text):
        text = text.replace(row, _table(row), 1)
    return _joined(text).replace("<table>", '<table border="1" >').replace("<td>", '<td colspan="1" rowspan="1">')


def _table(stretch: str) -> str:
    """A table of a stretch: its first line is the heading, its second rules it off."""
    lines = [line.strip() for line in stretch.strip().split("\n")]
    head = "".join(f"      <th>{cell}</th>\n" for cell in _cells(lines[0]))
    body = "".join(
        "    <tr>\n" + "".join(f"      <td>{cell}</td>\n" for cell in _cells(line)) + "    </tr>\n"
        for line in lines[2:]
    )
    return f"<table>\n  <thead>\n    <tr>\n{head}    </tr>\n  </thead>\n  <tbody>\n{body}  </tbody>\n</table>\n"


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def _joined(text: str) -> str:
    """The text with tables on neighbouring lines as one; lines are looked at when the next one is known."""
    done: list[str] = []
    inside, table, last = False, "", ""
    for line in text.split("\n"):
        if "<table>" in line:
            inside = True
            table += last
        elif inside:
            # The line below a heading (`|---|:---|`) is any with a colon or three dashes.
            if not any(mark in last for mark in (":", "---", "</thead>")):
                table += "\n" + last
            if "</table>" in last:
                inside = False
                done.append(_one_table(table))
                table = ""
        else:
            done.append(last)
        last = line
    if last:
        done.append(_one_table(f"{table}\n{last}") if inside or "</table>" in last else last)
    return "\n".join(done)


def _one_table(text: str) -> str:
    """All rows of the tables in a text as one table, their headings as rows."""
    rows: list[str] = []
    for table in _TABLE.findall(_COMMENT.sub("", text)):
        lines = [
            line.replace("<th>", "<td>").replace("</th>", "</td>") if "<th>" in line else line
            for line in table.split("\n")
        ]
        kept = [line for line in lines if not _TABLE_TAGS.search(line)]
        rows += kept if len(kept) > 2 else []
    return "\n\n<table>\n{}\n</table>\n\n".format("\n".join(rows))

"""The program in a reply of a chat model, as a careful reader would take it out.

    program_in("Use it like this:\\n```\\nf(1)\\n```\\nHere it is:\\n```python\\ndef f(x): return x\\n```", "f")
    # "def f(x): return x\\n"

A block that defines what is asked for counts, of several the last one; where nothing is fenced, the longest part of the
reply that is Python. Nothing is run; what is parsed may be anything.
"""

from __future__ import annotations

import ast
import builtins
import html
import itertools
import re
import warnings
from collections.abc import Iterator

from harness.scoring.extraction.markup import without_terminal_commands

_LONGEST = 100_000  # characters; what is longer is not parsed
_MOST_PARSED = 400_000  # characters, of all parts of a reply without a fence together
_OPENING = re.compile(r"^[ \t]*(?:(?:[-*+]|\d{1,3}[.)])[ \t]+)?(?P<fence>`{3,}|~{3,})(?P<info>[^`\n]*)$")
_OPENING_BEHIND_WORDS = re.compile(r"^[^`\n]*[^`\s][ \t]*(?P<fence>`{3,})(?P<info>[ \t]*(?:python3?|py)?[ \t]*)$")
_INFO = re.compile(r"(?P<language>[\w+#.-]*)[ \t]*(?P<rest>.*)")
_INLINE = re.compile(r"(?<!`)(`{3,})[ \t]*(?:(?:python3?|py)[ \t]+)?([^`\n]+?)[ \t]*\1(?!`)")
_ALONE = re.compile(r"\s*`([^`\n]+)`\s*")  # all of a reply in one pair of backticks
_HTML = re.compile(r"<pre\b[^<>]*>\s*<code\b[^<>]*>((?:(?!<code\b).)*?)</code>\s*</pre>", re.DOTALL)
_QUOTE = re.compile(r"^[ \t]*>[ ]?", re.MULTILINE)
_CODE_LINE = re.compile(
    r"[ \t]*(?:(?:async[ \t]+)?def[ \t]+\w+|class[ \t]+\w+|import[ \t]+\w|from[ \t]+[\w.]+[ \t]+import\b|@\w"
    r"|[A-Za-z_][\w.\[\]'\", ]*+[ \t]*+(?:[-+*/%|&]|//|\*\*)?=(?!=)|(?:if|for|while|with|try|print)\b.*[:)])"
)
_TESTING = re.compile(r"test|main$|check", re.IGNORECASE)


def fenced_blocks(reply: str) -> list[str]:
    """The fenced blocks of a reply, in their order, each without its fences and its margin.

    Fences are of three or more backticks or tildes, may be quoted (`>`), in a list, behind words on the line, and left
    open at the end. A fence inside of a program, in a docstring, does not end it.
    """
    return [_dedented(block) for block in _blocks(_lines(reply))]


def program_in(reply: str, name: str = "") -> str | None:
    """The program in a reply; None where there is none at all.

    name: what it must define, if that is known. Of several blocks the last one that defines it counts, with the earlier
    ones whose functions it uses.
    """
    reply = without_terminal_commands(reply.lstrip("\ufeff").replace("\r\n", "\n"))
    reply = _HTML.sub(lambda match: f"\n```\n{html.unescape(match[1]).rstrip()}\n```\n", reply)
    if alone := _ALONE.fullmatch(reply):
        return alone[1]
    lines = _lines(reply)
    raw = [block for block in _blocks(lines) if block.strip()]
    blocks = [_dedented(block) for block in raw]
    chosen = _chosen(blocks, name) if blocks else None
    if chosen is not None:
        return _with_helpers(blocks, chosen)
    if not blocks or (name and _mentions(reply, re.escape(name))):
        part = _longest_part(lines, name) or (None if blocks else _longest_part(lines, ""))
        if part is not None:
            return reply if part.strip() == _dedented(reply).strip() else part
    if not blocks:
        return reply if re.sub(r"(?:`{3,}|~{3,})[ \t]*\w*", "", reply).strip() else None
    return max(raw, key=len)  # the body of a function, perhaps, whose margin belongs to it


def _lines(reply: str) -> list[str]:
    """The lines of a reply; those of a quoted block without their marks."""
    if re.search(r"^[ \t]*>[ ]?[ \t]*(?:`{3,}|~{3,})", reply, re.MULTILINE):
        reply = _QUOTE.sub("", reply)
    return reply.split("\n")


def _blocks(lines: list[str]) -> list[str]:
    blocks: list[str] = []
    at = 0
    while at < len(lines):
        opening = _OPENING.match(lines[at]) or _OPENING_BEHIND_WORDS.match(lines[at])
        if opening is None:
            blocks += [f"{match[2]}\n" for match in _INLINE.finditer(lines[at])]
            at += 1
            continue
        fence, info = opening["fence"], opening["info"].strip()
        end = _end_of_block(lines, at, fence, info)
        if end is None:  # a lone closing fence
            at += 1
            continue
        body = lines[at + 1 : end]
        if code := _code_behind_fence(info):
            body.insert(0, code)
        if end < len(lines) and (cut := lines[end].rstrip().rstrip(fence[0])).strip():
            body.append(cut)  # and ends in front of one
        blocks.append("".join(f"{line}\n" for line in body))
        at = end + 1
    return blocks


def _end_of_block(lines: list[str], at: int, fence: str, info: str) -> int | None:
    """The line of the fence that ends a block: of several, the first at which the block is Python."""
    mark = re.escape(fence[0])
    closing = re.compile(rf"^(?:[ \t]*|[^`~]*[^`~\s][ \t]*){mark}{{{len(fence)},}}[ \t]*$")
    ends = list(itertools.islice((at for at in range(at + 1, len(lines)) if closing.match(lines[at])), 8))
    if not ends:
        is_open = bool(info) or any(map(_CODE_LINE.match, lines[at + 1 :]))
        return len(lines) - (not lines[-1]) if is_open else None
    if info.lower() in ("", "python", "python3", "py") or _code_behind_fence(info):
        for end in ends:
            cut = lines[end].rstrip().rstrip(fence[0])
            if _tree(_dedented("\n".join([*lines[at + 1 : end], cut]))) is not None:
                return end
    return ends[0]


def _code_behind_fence(info: str) -> str:
    """The program's first line, where it stands on that of the fence and is no attribute of it."""
    match = _INFO.fullmatch(info)
    rest = info if match is None or not match["language"] else match["rest"]
    return rest if _CODE_LINE.match(rest) and not re.match(r"\w+=", rest) else ""


def _dedented(block: str) -> str:
    """Without the margin that all lines share; nothing else is changed, as it may stand in a text of the program."""
    lines = (block.expandtabs() if re.match(r"[ ]*\t", block) else block).split("\n")
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[margin:] if line.strip() else line for line in lines) if margin else block


def _tree(text: str) -> ast.Module | None:
    if len(text) > _LONGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _made(tree: ast.Module) -> set[str]:
    """The names that a program makes at its top level."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        else:
            names |= {
                part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
            }
    return names


def _used(tree: ast.Module) -> set[str]:
    """The names that a program uses and makes nowhere."""
    nodes = list(ast.walk(tree))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    own = {node.id for node in names if isinstance(node.ctx, ast.Store)} | {
        node.arg for node in nodes if isinstance(node, ast.arg)
    }
    return {node.id for node in names} - own - _made(tree) - set(dir(builtins))


def _mentions(text: str, name: str) -> re.Match[str] | None:
    """Where a text defines a name (a pattern), whether it is Python or not."""
    return re.search(
        rf"^[ \t]*(?:(?:async[ \t]+)?def|class)[ \t]+{name}\b|^[ \t]*{name}[ \t]*=(?!=)", text, re.MULTILINE
    )


def _chosen(blocks: list[str], name: str) -> int | None:
    """Which block is the program; None where none of them defines what it must."""
    for at, block in enumerate(blocks):
        if (
            _tree(block) is None
            and (part := _longest_part(block.split("\n"), name))
            and _mentions(part, re.escape(name) or r"\w+")
        ):
            blocks[at] = part  # there were words in it, or it is cut off
    parsed = [_tree(block) for block in blocks]
    if name:
        whole = [at for at, tree in enumerate(parsed) if tree is not None and name in _made(tree)]
        broken = [at for at, block in enumerate(blocks) if parsed[at] is None and _mentions(block, re.escape(name))]
        return whole[-1] if whole else broken[-1] if broken else None
    defining = [
        at
        for at, tree in enumerate(parsed)
        if tree is not None
        and any(
            isinstance(node, ast.FunctionDef | ast.ClassDef) and not _TESTING.match(node.name) for node in tree.body
        )
    ]
    if defining:
        return defining[-1]
    whole = [at for at, tree in enumerate(parsed) if tree is not None]
    return (
        max(whole, key=lambda at: (len(blocks[at]), at))
        if whole
        else max(range(len(blocks)), key=lambda at: len(blocks[at]))
    )


def _with_helpers(blocks: list[str], chosen: int) -> str:
    """A block, behind the earlier ones that make what it uses and does not make itself."""
    tree = _tree(blocks[chosen])
    if tree is None:
        return blocks[chosen]
    made = _made(tree)
    used = _used(tree)
    parts = [blocks[chosen]]
    for block in reversed(blocks[:chosen]):
        earlier = _tree(block)
        if earlier is None or not all(
            isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom | ast.Assign)
            for node in earlier.body
        ):
            continue
        own = _made(earlier)
        if own & used and not own & made:
            parts.insert(0, block if block.endswith("\n") else f"{block}\n")
            used |= _used(earlier)
            made |= own
    return "".join(parts)


def _longest_part(lines: list[str], name: str) -> str | None:
    """The longest run of lines that is Python, best with a definition; with `name`, one that makes it."""
    if sum(map(len, lines)) > _LONGEST:
        return None
    best: tuple[bool, int, str] | None = None
    budget = _MOST_PARSED
    for part in _parts(lines):
        budget -= len(part)
        if budget < 0:
            break
        if best is not None and len(part) <= best[1] and best[0]:
            continue
        tree = _tree(part)
        if tree is None or not tree.body:
            continue
        right = (
            name in _made(tree) if name else any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body)
        )
        if (right or not name) and (best is None or (right, len(part)) > best[:2]):
            best = (right, len(part), part)
    return best[2] if best else None


def _parts(lines: list[str]) -> Iterator[str]:
    """Runs of lines that may be programs: from one that looks like code to before one that is back at its margin."""
    lines = [line if not re.match(r"[ \t]*(?:`{3,}|~{3,})", line) else "" for line in lines]
    starts = [number for number, line in enumerate(lines) if _CODE_LINE.match(line)]
    last_end = 0
    for start in starts:
        margin = len(lines[start]) - len(lines[start].lstrip())
        if start < last_end and margin:
            continue
        ends = [
            number
            for number in range(len(lines), start, -1)
            if number == len(lines)
            or (lines[number].strip() and len(lines[number]) - len(lines[number].lstrip()) <= margin)
        ]
        for end in ends:
            part = _dedented("\n".join(lines[start:end])).strip("\n")
            if part:
                yield f"{part}\n"
        last_end = start

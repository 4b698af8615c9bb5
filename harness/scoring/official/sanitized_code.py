"""The program that EvalPlus and BigCodeBench run of a reply: their `sanitize.py`, which both share.

Of all runs of lines that are Python the longest counts, blank lines aside. Of it, imports are kept and what the
function that is asked for reaches; calls, prints and tests at the top level are not run. As in theirs, a function that
returns nothing, one with a decorator and the second of a name are left out. They parse with tree-sitter, we with `ast`.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Sequence

_MOST_PARSED = 4_000_000  # characters, of all runs of lines of a reply together
_LINES = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
Defined = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Assign | ast.AnnAssign


def sanitized_code(reply: str, entry_point: str = "") -> str | None:
    """What is run of a reply; None where it holds no code at all. Nothing is run here.

    entry_point: the function that is asked for; without it, all definitions are kept.
    """
    code = _longest_program(reply.split("\n"))
    tree = _parsed(code)
    if isinstance(tree, SyntaxError):
        return code if code.strip() else None
    imports = [
        node
        for node in tree.body
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and node.module != "__future__")
    ]
    definitions = _definitions(tree)
    if entry_point:
        reached = _reached(entry_point, definitions)
        definitions = {name: node for name, node in definitions.items() if name in reached}
    lines = [line.encode() for line in _LINES.findall(code)]
    kept = (_source(lines, node) for node in [*imports, *definitions.values()])
    return "\n".join(kept).strip() or code.strip() or None


def _source(lines: Sequence[bytes], node: ast.stmt) -> str:
    """`ast.get_source_segment`, which splits the whole program into lines for every statement."""
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    part = b"".join(lines[first : last + 1])
    end = len(part) - len(lines[last]) + (node.end_col_offset or 0)
    return part[node.col_offset : end].decode()


def _longest_program(lines: list[str]) -> str:
    """The run of at least two lines with the most that are not blank, of several the first; else the first line."""
    filled = [0]
    for line in lines:
        filled.append(filled[-1] + bool(line.strip()))
    best, most, budget = lines[0], 0, _MOST_PARSED
    for start in range(len(lines)):
        end = len(lines)
        while end > start + 1 and filled[end] - filled[start] > most and budget > 0:
            part = "\n".join(lines[start:end])
            budget -= len(part)
            tree = _parsed(part)
            if isinstance(tree, SyntaxError):
                # What is wrong up to a line stays wrong, whatever follows: only what ends before it can be right.
                end = min(end - 1, start + (tree.lineno or len(lines)) - 1)
            else:
                best, most = part, filled[end] - filled[start]
    return best


def _parsed(code: str) -> ast.Module | SyntaxError:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except SyntaxError as error:
        return error
    except (ValueError, RecursionError, MemoryError) as error:
        return SyntaxError(str(error))


def _definitions(tree: ast.Module) -> dict[str, Defined]:
    """Name -> what first defines it at the top level, in their order."""
    definitions: dict[str, Defined] = {}
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name, decorator_list=[]):
                definitions.setdefault(name, node)
            case ast.FunctionDef(name=name, decorator_list=[]) | ast.AsyncFunctionDef(name=name, decorator_list=[]):
                if any(isinstance(part, ast.Return) for part in ast.walk(node)):
                    definitions.setdefault(name, node)
            case ast.Assign(targets=[ast.Name(id=name), *_]) | ast.AnnAssign(target=ast.Name(id=name)):
                definitions.setdefault(name, node)
    return definitions


def _reached(entry_point: str, definitions: dict[str, Defined]) -> set[str]:
    uses = {name: _names(node) for name, node in definitions.items()}
    reached, waiting = {entry_point}, [entry_point]
    while waiting:
        for name in uses.get(waiting.pop(), set()) - reached:
            reached.add(name)
            waiting.append(name)
    return reached


def _names(node: ast.AST) -> set[str]:
    """Every name in a piece of code, those of attributes and arguments too."""
    names: set[str] = set()
    for part in ast.walk(node):
        for field in ("id", "attr", "arg", "name", "asname"):
            if isinstance(value := getattr(part, field, None), str):
                names.add(value)
    return names

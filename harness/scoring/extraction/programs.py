"""Whether two programs are the same program: compared as syntax trees, so that layout, comments and quotes are nothing.

same_code("def f(a):  # add\\n  return a+1", "def f(a):\\n    return a + 1")      # True
"""

from __future__ import annotations

import ast
import re
import warnings

_FENCE = re.compile(r"```[\w+-]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
_LONGEST = 100_000  # characters


def same_code(answer: str, gold: str, rename: bool = False) -> bool:
    """Return whether two Python programs have the same syntax tree. What does not parse equals nothing.

    rename: whether programs that differ only in the names of their variables and arguments are the same.
    Only parsed, never run.
    """
    first, second = _tree(answer), _tree(gold)
    if first is None or second is None:
        return False
    if rename:
        first, second = _Renamer().visit(first), _Renamer().visit(second)
    try:
        return ast.dump(first) == ast.dump(second)
    except RecursionError:
        return False


def code_block(text: str) -> str:
    """The first fenced block of a reply, or all of it where there is none; a fence need not be closed."""
    match = _FENCE.search(text)
    return match[1] if match else text


def _tree(text: str) -> ast.AST | None:
    code = code_block(text)
    if len(code) > _LONGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return tree


class _Renamer(ast.NodeTransformer):
    """Gives names that the program binds itself new ones, in the order in which they are met."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def visit_Module(self, node: ast.Module) -> ast.AST:
        for child in ast.walk(node):
            if isinstance(child, ast.arg):
                self._names.setdefault(child.arg, f"v{len(self._names)}")
            elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
                self._names.setdefault(child.id, f"v{len(self._names)}")
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._names.get(node.id, node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg = self._names.get(node.arg, node.arg)
        return self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        node.arg = self._names.get(node.arg, node.arg) if node.arg else node.arg
        return self.generic_visit(node)

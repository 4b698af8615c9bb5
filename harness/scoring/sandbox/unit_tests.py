"""Unit tests that must run in the program's own process, because they change its modules (patch, mock).

There a program can look for its tests, and claim to have passed them. What it claims is not believed: its tests are run
several times, each time in a process of its own, as they are and in altered versions. In an altered one some of the
tests assert something else, so that a right program fails them. A program passes where it passes all tests as they are,
and in each altered version fails those that the reference solution fails, and passes those that were left alone. Only
this side knows which version is which: who has not solved the task does not know what to claim.
"""

from __future__ import annotations

import ast
import functools
import json
import random
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from harness.quick import dataclass
from harness.scoring.sandbox.command import Limits
from harness.scoring.sandbox.execute import ProgramOutcome, run_script

_VERSIONS = 3
_MOST_DRAWS = 9
_TRIES = 2  # a test that was left alone may fail by chance, once

_DRIVER = """\
import json, sys, types, unittest
text, mark = json.loads(sys.stdin.read())
module = types.ModuleType("__test__")
module.__file__ = "__test__.py"
sys.modules["__test__"] = module
exec(compile(text, "__test__.py", "exec", dont_inherit=True), module.__dict__)
class Result(unittest.TestResult):
    passed = []
    def stopTest(self, test):
        super().stopTest(test)
        found = [each for each, _ in [*self.failures, *self.errors]]
        if not any(each is test or getattr(each, "test_case", None) is test for each in found):
            self.passed.append(test.id().rpartition(".")[2])
suite = unittest.TestSuite(
    unittest.defaultTestLoader.loadTestsFromTestCase(case)
    for case in list(module.__dict__.values())
    if isinstance(case, type) and issubclass(case, unittest.TestCase) and case.__module__ == "__test__"
)
result = Result()
suite.run(result)
sys.stdout.flush()
print("\\n" + mark + json.dumps([result.passed, len(result.failures) + len(result.errors)]), flush=True)
"""

_OPPOSITES = {
    "assertTrue": "assertFalse",
    "assertEqual": "assertNotEqual",
    "assertEquals": "assertNotEqual",
    "assertAlmostEqual": "assertNotAlmostEqual",
    "assertIn": "assertNotIn",
    "assertIs": "assertIsNot",
    "assertIsNone": "assertIsNotNone",
    "assertIsInstance": "assertNotIsInstance",
    "assertGreater": "assertLessEqual",
    "assertGreaterEqual": "assertLess",
    "assertRegex": "assertNotRegex",
}
_OPPOSITES |= {second: first for first, second in _OPPOSITES.items() if first != "assertEquals"}
_EQUALITIES = {f"assert{kind}Equal" for kind in ("", "Almost", "List", "Dict", "Set", "Tuple", "Sequence", "Count")}
_EQUALITIES |= {"assertEquals", "assertMultiLineEqual", "assertIn"}
_RAISES = {"assertRaises", "assertRaisesRegex"}
_OTHER_ERRORS = ("BlockingIOError", "UnicodeTranslateError", "ChildProcessError", "ZeroDivisionError", "EOFError")
_CALLED = {f"assert_{what}" for what in ("called", "called_once", "called_with", "called_once_with", "any_call")}
Edit = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Version:
    """Altered tests, and what the reference solution makes of them."""

    text: str
    fails: frozenset[str]
    passes: frozenset[str]


def run_unit_tests(
    program: str, tests: str, reference: str, limits: Limits | None = None, mode: str = "auto"
) -> ProgramOutcome:
    """Run the `unittest` classes of `tests` in the process of a program, and say whether it passes.

    reference: a whole program that is right. Undecided where it fails its own tests, or they cannot be altered.
    """
    bounds = limits or Limits()
    found = _run(program, ast.unparse(ast.parse(tests)), bounds, mode)
    if not found.outcome.passed:
        return found.outcome
    try:
        versions = _versions(tests, reference, bounds, mode)
    except _UselessTests as error:
        return ProgramOutcome(passed=False, reason=str(error), decided=False)
    for version in versions:
        for _ in range(_TRIES):
            found = _run(program, version.text, bounds, mode)
            if found.passed >= version.passes:
                break
        if not found.outcome.decided:
            return found.outcome
        if found.passed & version.fails or not found.passed >= version.passes:
            return ProgramOutcome(
                passed=False, reason="it passes tests that no right program passes, or only some of the time"
            )
    return ProgramOutcome(passed=True)


class _UselessTests(Exception):
    """Tests that say nothing of a program."""


@dataclass(frozen=True, slots=True)
class _Found:
    outcome: ProgramOutcome
    passed: frozenset[str] = frozenset()


def _run(program: str, tests: str, limits: Limits, mode: str) -> _Found:
    """Run tests once, and read what the program's process says of them."""
    mark = secrets.token_hex(16)
    given = json.dumps([f"{_future_first(program)}\n{tests}\n", mark])
    (script,) = run_script(_DRIVER, [given], limits, mode)
    if not script.decided:
        return _Found(ProgramOutcome(passed=False, reason=script.reason, decided=False))
    _, found, rest = script.printed.rpartition(f"\n{mark}")
    try:
        passed, bad = json.loads(rest.partition("\n")[0])
        names = frozenset(map(str, passed))
    except (ValueError, TypeError):
        reason = script.reason or f"ended before its end (exit code {script.code})"
        return _Found(ProgramOutcome(passed=False, reason=reason, output=script.printed[:1000]))
    if bad or not names or not found:
        return _Found(
            ProgramOutcome(passed=False, reason=f"{bad} tests failed" if bad else "there are no tests"), names
        )
    return _Found(ProgramOutcome(passed=True), names)


@functools.lru_cache(maxsize=1024)
def _versions(tests: str, reference: str, limits: Limits, mode: str) -> tuple[Version, ...]:
    """Altered versions of tests, drawn once for all programs. Raises `_UselessTests`."""
    if not _run(reference, ast.unparse(ast.parse(tests)), limits, mode).outcome.passed:
        raise _UselessTests("the reference solution fails these tests: what passes them cannot be told from a claim")
    versions: list[Version] = []
    drawn = random.SystemRandom()
    for _ in range(_MOST_DRAWS):
        is_last = len(versions) == _VERSIONS - 1
        text, names = altered(tests, drawn, frozenset().union(*(each.fails for each in versions)) if is_last else None)
        passed = _run(reference, text, limits, mode).passed
        if fails := names - passed:
            versions.append(Version(text, fails, passed - names))
        if len(versions) == _VERSIONS:
            break
    if not versions:
        raise _UselessTests("these tests cannot be altered: what passes them cannot be told from a claim")
    return tuple(versions)


def altered(tests: str, drawn: random.Random, before: frozenset[str] | None = None) -> tuple[str, frozenset[str]]:
    """A version of tests in which some, at least one, assert something else; and the names of those.

    before: tests that were altered in earlier versions; all others are in this one. None: others will come.
    """
    tree = ast.parse(tests)
    methods = [
        method
        for case in tree.body
        if isinstance(case, ast.ClassDef)
        for method in case.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and method.name.startswith("test")
    ]
    if not methods:
        raise _UselessTests("there are no tests")
    chosen = [
        method for method in methods if drawn.random() < 0.5 or (before is not None and method.name not in before)
    ] or [drawn.choice(methods)]
    for method in chosen:
        _alter(method, drawn)
    return ast.unparse(ast.fix_missing_locations(tree)), frozenset(method.name for method in chosen)


def _alter(method: ast.FunctionDef | ast.AsyncFunctionDef, drawn: random.Random) -> None:
    """Change one assertion of a test, drawn from those that a value decides, else from all."""
    by_value, others = list(_value_edits(method, drawn)), list(_other_edits(method, drawn))
    if edits := by_value or others:
        drawn.choice(edits)()
    else:
        number = drawn.randrange(100)
        method.body.append(ast.parse(f"self.assertEqual({number}, {number + drawn.randrange(1, 9)})").body[0])


def _value_edits(method: ast.AST, drawn: random.Random) -> Iterator[Edit]:
    """Another value in the place of one that is asserted: written in the assertion, or given a name before."""
    compared: set[str] = set()
    for node in ast.walk(method):
        if isinstance(node, ast.Call) and _name(node) in _EQUALITIES:
            yield from _literals(node.args, range(min(2, len(node.args))), drawn)
            compared |= {argument.id for argument in node.args[:2] if isinstance(argument, ast.Name)}
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq):
            yield from _literals(node.comparators, range(1), drawn)
    for node in ast.walk(method):
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(node, ast.Assign) and isinstance(target, ast.Name) and target.id in compared:
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                continue
            yield functools.partial(setattr, node, "value", _expression(_another(value, drawn)))


def _literals(nodes: list[ast.expr], places: Sequence[int], drawn: random.Random) -> Iterator[Edit]:
    for place in places:
        try:
            value = ast.literal_eval(nodes[place])
        except ValueError:
            continue
        yield functools.partial(nodes.__setitem__, place, _expression(_another(value, drawn)))


def _other_edits(method: ast.AST, drawn: random.Random) -> Iterator[Edit]:
    """The opposite of an assertion, another value or another error in it."""
    for node in ast.walk(method):
        if isinstance(node, ast.Assert):
            yield functools.partial(setattr, node, "test", ast.UnaryOp(ast.Not(), node.test))
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        name = _name(node)
        if name in _EQUALITIES and len(node.args) > 1 and drawn.random() < 0.5:
            yield functools.partial(node.args.__setitem__, 1, _expression(_any_value(drawn)))
        elif name in _OPPOSITES:
            yield functools.partial(setattr, node.func, "attr", _OPPOSITES[name])
        elif name in _RAISES and node.args:
            yield functools.partial(node.args.__setitem__, 0, ast.Name(drawn.choice(_OTHER_ERRORS), ast.Load()))
        elif node.func.attr in _CALLED:
            yield functools.partial(_never_called, node, "assert_not_called")
        elif node.func.attr == "assert_not_called":
            yield functools.partial(_never_called, node, "assert_called")
        elif node.func.attr.startswith("assert_") and "testing" in ast.unparse(node.func) and len(node.args) > 1:
            yield functools.partial(node.args.__setitem__, 1, _expression(_any_value(drawn)))


def _never_called(node: ast.Call, name: str) -> None:
    assert isinstance(node.func, ast.Attribute)
    node.func.attr, node.args, node.keywords = name, [], []


def _name(node: ast.Call) -> str:
    """The method of `self` that is called; empty where it is anything else."""
    function = node.func
    is_own = (
        isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "self"
    )
    return function.attr if is_own and isinstance(function, ast.Attribute) else ""


def _another(value: Any, drawn: random.Random) -> Any:
    """A value of the same kind that is not equal to it, nor near."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        other = value + drawn.choice((-1, 1)) * (abs(value) * drawn.uniform(0.5, 3) + drawn.randrange(1, 9))
        return round(other) if isinstance(value, int) else round(other, 4)
    if isinstance(value, str):
        place, letter = drawn.randrange(len(value) + 1), drawn.choice("aeiounrst")
        return value[:place] + letter + value[place:]
    if isinstance(value, bytes):
        return value + drawn.choice((b"a", b"e", b"n"))
    if isinstance(value, list | tuple):
        items = list(value)
        if not items:
            return type(value)([drawn.randrange(9)])
        place = drawn.randrange(len(items))
        items[place] = _another(items[place], drawn)
        return type(value)(items)
    if isinstance(value, dict):
        key = drawn.choice(list(value)) if value else "key"
        return {**value, key: _another(value.get(key, 1), drawn)}
    if isinstance(value, set):
        return {*value, drawn.randrange(1000, 9999)}
    return _any_value(drawn)


def _any_value(drawn: random.Random) -> Any:
    number = drawn.randrange(11, 9999)
    return drawn.choice((number, float(number), str(number), [number], {"key": number}))


def _expression(value: Any) -> ast.expr:
    return ast.parse(repr(value), mode="eval").body


def _future_first(program: str) -> str:
    """What a program imports from the future stands first, wherever a prompt above it has moved it."""
    lines = program.lstrip("\ufeff").splitlines()
    future = [line for line in lines if line.startswith("from __future__ import ")]
    return "\n".join([*future, *("" if line in future else line for line in lines)])

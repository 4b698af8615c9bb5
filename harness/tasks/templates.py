"""Jinja for prompts: compiled once, sandboxed, strict about names, and with errors that say where the template stands.

A template gives a text, or a value: `{{ ['A', 'B'].index(answer) }}` is the number, not its digits. What is a number in
the row stays a number, and nothing is evaluated as Python.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import itertools
import json
import re
import tokenize
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from types import GeneratorType
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError

from harness.data.text_rows import likely_delimiter
from harness.errors import DataError, HarnessError, TaskError, suggest
from harness.patterns import replace_all
from harness.quick import dataclass
from harness.tasks.functions import TaskFunctions
from harness.tasks.template_limits import EndlessTemplateError, Environment, bounded
from harness.tasks.yaml_file import FileLine, PythonFunction, shown
from harness.types import JSON

Context = Mapping[str, JSON]
_TEXTS_WITHOUT_COMMA = re.compile(r"['\"]\s+['\"]")
TemplateFolders = tuple[tuple[str, Path], ...]


class _Loader(jinja2.BaseLoader):
    """Finds shared templates by file name, or by `package/name`: next to the task file, then in every package.

    One final newline of a template file is dropped: editors add it, prompts do not want it.
    """

    def __init__(self, folder: Path, shared: TemplateFolders) -> None:
        self.folders = (("", folder), *shared)

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        candidates = self.find(template)
        if not candidates:
            known = sorted({path.name for _, folder in self.folders[1:] for path in folder.glob("*.jinja")})
            raise jinja2.TemplateNotFound(template, f"no template '{template}'{suggest(template, known)}")
        if len(candidates) > 1:
            files = " and ".join(shown(path) for path in candidates)
            raise jinja2.TemplateNotFound(template, f"template '{template}' is in more than one place: {files}")
        text = candidates[0].read_text(encoding="utf-8-sig").replace("\r\n", "\n").removesuffix("\n")
        return text, str(candidates[0]), lambda: True

    def find(self, template: str) -> list[Path]:
        package, _, rest = template.partition("/")
        paths = []
        for owner, folder in self.folders:
            for name in (template, rest if owner and owner == package else ""):
                path = folder / name
                inside = name and path.resolve().is_relative_to(folder.resolve())
                if inside and path.is_file() and path.resolve() not in paths:
                    paths.append(path.resolve())
        return paths


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template that stands under `key` at `place`.

    names: the variables that it reads. open_ended: it reads templates whose variables are not known.
    compiled: None for a text without any Jinja.
    """

    source: str
    key: str
    place: FileLine
    names: frozenset[str]
    open_ended: bool
    files: tuple[Path, ...]
    compiled: jinja2.Template | None

    def text(self, context: Context) -> str:
        """The rendered text. Raises `TaskError` for a name that is not there, `DataError` for a value that fails."""
        return self.source if self.compiled is None else Environment.concat(self._parts(self.compiled, context))

    def value(self, context: Context) -> JSON:
        """The value of the template's one expression, or the text where it is more than one expression."""
        if self.compiled is None:
            return self.source
        parts = self._parts(self.compiled, context)
        if len(parts) != 1:
            return Environment.concat(parts)
        return list(parts[0]) if isinstance(parts[0], GeneratorType) else parts[0]

    def is_true(self, context: Context) -> bool:
        return bool(self.value(context))

    def shown_nulls(self, context: Context) -> tuple[str, ...]:
        """The variables without a value (null, or with one inside) in the place of which the text shows `None`."""
        empty = sorted(name for name in self.names if holds_null(context.get(name)))
        count = self._count_nulls(context) if empty else 0
        if not count or len(empty) == 1:
            return tuple(empty) if count else ()
        return tuple(name for name in empty if self._count_nulls({**context, name: ""}) < count)

    def _count_nulls(self, context: Context) -> int:
        """How often the text shows `None`. A template of one expression shows nothing: its value is null."""
        try:
            parts = self._parts(self.compiled, context) if self.compiled is not None else []
        except HarnessError:  # a text in the place of a mapping, tried out to see which variable it is
            return 0
        return sum(part is None for part in parts) if len(parts) > 1 else 0

    def _parts(self, compiled: jinja2.Template, context: Context) -> list[Any]:
        environment = compiled.environment
        assert isinstance(environment, Environment)
        environment.steps.taken = 0
        try:
            known = compiled.new_context({**compiled.globals, **context}, shared=True)
            parts = list(bounded(compiled.root_render_func(known)))
            for part in parts:
                for item in part if isinstance(part, list | tuple) else (part,):
                    if isinstance(item, jinja2.Undefined):
                        str(item)  # a strict undefined raises here, with its own message
            return parts
        except jinja2.UndefinedError as error:
            raise TaskError(f"{self.place}: {self.key}: {self._missing(context, error)}") from error
        except SecurityError as error:
            raise TaskError(f"{self.place}: {self.key}: {error} (templates are sandboxed)") from error
        except (jinja2.TemplateError, RecursionError, EndlessTemplateError) as error:
            raise TaskError(f"{self.place}: {self.key}: {_one_line(error)}") from error
        except HarnessError:
            raise
        except Exception as error:
            raise DataError(f"{self.place}: {self.key}: {type(error).__name__}: {_one_line(error)}") from error

    def _missing(self, context: Context, error: jinja2.UndefinedError) -> str:
        known = [name for name in context if name != "subset"]
        for name in sorted(self.names):
            if name not in context and f"'{name}'" in str(error):
                shown = [*known[:20], f"and {len(known) - 20} more"] if len(known) > 20 else known
                has = f"(it has: {', '.join(shown) or 'none'})"
                # A table that was cut at commas, and is not separated by them, has one column with all names in it.
                separator = likely_delimiter(known[0]) if len(known) == 1 else None
                if separator:
                    has += f"; is it separated by {separator!r}? Say `delimiter:` (in dataset_kwargs)"
                return f"the row has no field '{name}'{suggest(name, known)} {has}"
        attribute = re.search(r"has no attribute '(.+)'$", str(error))
        subset = context.get("subset")
        if attribute and isinstance(subset, Mapping) and f"subset.{attribute[1]}" in self.source:
            near, has = suggest(attribute[1], subset), ", ".join(subset)
            return f"the subset has no field '{attribute[1]}'{near} (it has: {has})"
        if re.search(r"'list object' has no attribute '\d+'$", str(error)):
            # A number in a CSV file is a text: it finds nothing in a list.
            index = attribute[1] if attribute else ""
            return (
                f"the index '{index}' of a list is a text, as all cells of a CSV file are; make it a number: name | int"
            )
        return _one_line(error)


def function_template(
    function: PythonFunction, key: str, place: FileLine, code: TaskFunctions | None
) -> FunctionTemplate:
    """Python in the place of a template; `code` is None for no task that was admitted."""
    assert code is not None
    return FunctionTemplate(
        str(function), key, place, frozenset(), open_ended=True, files=(), compiled=None, function=function, code=code
    )


@dataclass(frozen=True, slots=True)
class FunctionTemplate(Template):
    """Python in the place of a template: its value for a row is taken as it is."""

    function: PythonFunction
    code: TaskFunctions = field(repr=False, compare=False)

    def text(self, context: Context) -> str:
        return str(self.value(context))

    def value(self, context: Context) -> JSON:
        try:
            return self.code.value(self.function, context)
        except DataError as error:
            raise DataError(f"{self.place}: {self.key}: {error}") from error

    def shown_nulls(self, context: Context) -> tuple[str, ...]:
        return ()


class Templates:
    """Compiles the templates of one task. Use `templates_of`, so that tasks of one folder share their work."""

    def __init__(self, folder: Path, shared: TemplateFolders) -> None:
        self.loader = _Loader(folder, shared)
        self.environment = Environment(
            loader=self.loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False
        )
        self.environment.filters |= {
            "regex_replace": _regex_replace,
            "shuffled": _shuffled,
            "parsed": _parsed,
            "json_text": _json_text,
            "with_own_answers": _with_own_answers,
        }
        self.environment.globals["column"] = _column
        self._compiled: dict[str, tuple[jinja2.Template, frozenset[str], bool, tuple[Path, ...]]] = {}

    def compile(self, source: str, key: str, place: FileLine) -> Template:
        """Compile `source`. Raises `TaskError` for bad syntax and for a template that is not there."""
        if not any(mark in source for mark in ("{{", "{%", "{#", "\r")):
            return Template(source, key, place, frozenset(), open_ended=False, files=(), compiled=None)
        if source not in self._compiled:
            try:
                self._compiled[source] = self._compile(source)
            except jinja2.TemplateSyntaxError as error:
                line = f" (line {error.lineno} of the template)" if "\n" in source.rstrip("\n") else ""
                raise TaskError(f"{place}: {key}: {_one_line(error.message or error)}{line}") from error
            except (jinja2.TemplateError, RecursionError, UnicodeError) as error:
                raise TaskError(f"{place}: {key}: {_one_line(error)}") from error
        compiled, names, open_ended, files = self._compiled[source]
        return Template(source, key, place, names, open_ended=open_ended, files=files, compiled=compiled)

    def _compile(self, source: str) -> tuple[jinja2.Template, frozenset[str], bool, tuple[Path, ...]]:
        tree = self.environment.parse(source)
        called = set(_columns(tree))
        names = meta.find_undeclared_variables(tree) - ({"column"} if called else set()) | called
        wanted = list(meta.find_referenced_templates(tree))
        files = self._files(wanted, set())
        compiled = self.environment.from_string(source)
        compiled.globals = dict(compiled.globals)  # a row's context is made of them: of a chain of mappings, slowly
        return compiled, frozenset(names), bool(wanted), tuple(sorted(files))

    def _files(self, wanted: Iterable[str | None], seen: set[Path]) -> set[Path]:
        for name in wanted:
            if name is None:  # a name that only the row knows: any of the shared templates
                for _, folder in self.loader.folders[1:]:
                    seen.update(path.resolve() for path in folder.glob("*.jinja"))
                continue
            text, file, _ = self.loader.get_source(self.environment, name)
            if Path(file) not in seen:
                seen.add(Path(file))
                self._files(meta.find_referenced_templates(self.environment.parse(text, filename=file)), seen)
        return seen


@functools.lru_cache(maxsize=256)
def templates_of(folder: Path, shared: TemplateFolders) -> Templates:
    """The templates of the task files of one folder."""
    return Templates(folder, shared)


def column_or_value(template: Template, context: Context, columns: Container[str]) -> JSON:
    """What a row has in the column that a template names, null where the row lacks it, or what its Jinja gives."""
    if template.compiled is None or template.source in columns:
        return context.get(template.source)
    return template.value(context)


def as_literal(text: str, brackets: Sequence[str] = ("[]",)) -> JSON:
    """A text between `brackets` that spells a Python list or tuple, as such; any other text as it is. Nothing runs.

    lm-eval reads rendered choices and targets so (api/task.py, `doc_to_choice` and `doc_to_target`).
    """
    if len(text) >= 2 and text[0] + text[-1] in brackets:
        try:
            value = ast.literal_eval(text)
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return text
        return text if is_array_of_numpy(text) else value
    return text


def is_array_of_numpy(text: str) -> bool:
    """Whether a text is an array of texts as NumPy prints it, and pandas writes it to CSV: `['a' 'b']`.

    It has no commas, and Python joins its texts to one.
    """
    if not _TEXTS_WITHOUT_COMMA.search(text) or not text.startswith("["):
        return False
    try:
        kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text).readline)]
    except (tokenize.TokenError, SyntaxError):
        return False
    kinds = [kind for kind in kinds if kind != tokenize.NL]
    return (tokenize.STRING, tokenize.STRING) in itertools.pairwise(kinds)


def holds_null(value: JSON) -> bool:
    """Whether a value is null, or has one inside."""
    if type(value) is str:  # before the others, which are slow to tell
        return False
    if isinstance(value, Mapping):
        return any(map(holds_null, value.values()))
    return value is None or (isinstance(value, list | tuple) and any(map(holds_null, value)))


def _parsed(text: str) -> JSON:
    """A text that spells JSON or a Python literal, as what it spells: `{{ (options | parsed).A }}`."""
    try:
        return json.loads(text)
    except ValueError:
        value = as_literal(text.strip(), ("[]", "{}", "()"))
    if isinstance(value, str):
        raise ValueError(f"'{text[:40]}' is neither JSON nor a Python literal")
    return value


def _json_text(value: JSON, indent: int | None = None) -> str:
    """A value as JSON, its keys in their order and nothing escaped for a page: `{{ functions | json_text(4) }}`."""
    return json.dumps(value, indent=None if indent is None else min(int(indent), 8))


def _with_own_answers(turns: Sequence[JSON]) -> list[JSON]:
    """A conversation for `doc_to_messages` whose answers are the model's own: `{{ questions[:2] | with_own_answers }}`.

    turns: texts, which are the user's, or turns {role, content}; what assistants say in these is left out.
    """
    asked = [{"role": "user", "content": turn} if isinstance(turn, str) else turn for turn in turns]
    kept = [turn for turn in asked if turn["role"] != "assistant"]
    own = {"role": "assistant", "content": None}
    pairs = zip([None, *kept], kept, strict=False)
    return [each for before, turn in pairs for each in ([own, turn] if before and before["role"] == "user" else [turn])]


def _regex_replace(string: str, pattern: str, repl: str, count: int = 0) -> str:
    """lm-eval's filter: `{{ text | regex_replace('[ ]+', ' ') }}`."""
    return replace_all(re.compile(pattern), repl, string, count)


def _shuffled(options: Sequence[JSON], key: str) -> list[JSON]:
    """`{{ [right, wrong] | shuffled(question) }}`: an order that hangs on the key alone, the same in every run."""

    def place(index: int) -> bytes:  # a hash, so that no Python version changes it
        return hashlib.sha256(f"{index}\0{key}".encode("utf-8", "surrogatepass")).digest()

    return [options[index] for index in sorted(range(len(options)), key=place)]


@jinja2.pass_context
def _column(context: Context, name: str) -> JSON:
    """`{{ column('Correct Answer') }}`: a column whose name is no name in Jinja."""
    if name not in context:
        raise jinja2.UndefinedError(f"'{name}' is undefined")
    return context[name]


def _columns(tree: nodes.Template) -> Iterator[str]:
    """The columns that a template reads by `column('...')`."""
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name == "column":
            yield from (arg.value for arg in call.args if isinstance(arg, nodes.Const))


def _one_line(what: object) -> str:
    return " ".join(str(what).split())

"""Reads a YAML file and remembers on which line of which file each key stands, so that an error can say so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import core_schema
from yaml.constructor import SafeConstructor

from harness.encodings import likely_encoding
from harness.errors import TaskError, suggest
from harness.quick import dataclass
from harness.types import JSON

KeyPath = tuple[str | int, ...]
# The C parser is about eight times as fast; PyYAML has it wherever libyaml was there at build time.
FAST_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_MAX_NODES = 200_000
_WIDE_COLON = re.compile(r"[\s-]*\w+(：|:\xa0)")
# YAML 1.1 counts in eights behind a leading 0, and in sixties between colons.
_OTHER_BASE = re.compile(r"[-+]?0[0-7_]+|[-+]?\d+(?::[0-5]?\d)+")


@dataclass(frozen=True, slots=True)
class FileLine:
    """A line of a file. Prints as `file:line`, relative to the working directory where that is shorter.

    Line 0: the place is no file but a flag, which is all that is printed.
    """

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{shown(self.file)}:{self.line}" if self.line else str(self.file)


@dataclass(frozen=True, slots=True)
class PythonFunction:
    """What stands for `!function module.name`, lm-eval's tag for Python code. Reading a file runs none of it.

    name: `module.function`. folder: of the file that writes it, where the module is looked for first.
    """

    name: str
    folder: str = ""

    def __str__(self) -> str:
        return f"!function {self.name}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        """A value of a key like any other; where a file is written down again, it is its name alone."""
        return core_schema.is_instance_schema(cls, serialization=core_schema.to_string_ser_schema())

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, JSON]:
        return {"type": "string", "description": "!function MODULE.NAME: Python, which runs by consent"}


@dataclass(frozen=True, slots=True)
class Document:
    """The content of a YAML file, its includes merged in.

    places: where each key and list item stands. files: the file itself, then all that it includes. warnings: what the
    file says and is not as it says, one line each, with the place.
    """

    data: dict[str, JSON]
    places: Mapping[KeyPath, FileLine]
    files: tuple[Path, ...]
    warnings: tuple[str, ...] = ()

    def place(self, path: KeyPath) -> FileLine:
        """The line of `path`, or of the nearest key around it."""
        for length in range(len(path), -1, -1):
            if (found := self.places.get(path[:length])) is not None:
                return found
        return FileLine(self.files[0], 1)

    def error(self, path: KeyPath, message: str) -> TaskError:
        return TaskError(f"{self.place(path)}: {message}")


def part_of(document: Document, path: KeyPath) -> Document:
    """What stands at `path`, as a document of its own; without keys where that is no mapping."""
    data: Any = document.data
    for step in path:
        data = data[step]
    length = len(path)
    places = {inner[length:]: place for inner, place in document.places.items() if inner[:length] == path}
    data = data if isinstance(data, dict) else {}
    return Document(data, {(): document.place(path), **places}, document.files, document.warnings)


def shown(file: Path) -> str:
    """The path as a user would write it."""
    try:
        return str(file.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(file)


DEEPEST_INCLUDE = 50
"""So many files may include one another in a row."""


def load_document(file: Path) -> Document:
    """Read `file` and what it includes. The keys of a file replace those of its includes, as in lm-eval.

    Raises `TaskError`, with the line, for anything that is not a YAML mapping with string keys.
    """
    return _with_includes(file, (), {})


def _with_includes(file: Path, including: tuple[Path, ...], known: dict[Path, Document]) -> Document:
    """`including`: the files that led here. known: files that were read already; each is read once."""
    own = _parse(file, read_text(file))
    includes = own.data.pop("include", None)
    data: dict[str, JSON] = {}
    places: dict[KeyPath, FileLine] = {}
    files, warnings = [file], list(own.warnings)
    for index, name in enumerate(includes if isinstance(includes, list) else [] if includes is None else [includes]):
        if not isinstance(name, str) or not name:
            raise own.error(("include",), f"include: should be a file name or a list of them, found {name!r}")
        where: KeyPath = ("include", index) if isinstance(includes, list) else ("include",)
        target = (file.parent / name).resolve()
        if target in (*including, file.resolve()):
            raise own.error(where, f"include '{name}' leads back to a file that is being included")
        if not target.is_file():
            raise own.error(where, f"include '{name}' is not there (looked for {shown(target)})")
        if len(including) >= DEEPEST_INCLUDE:
            raise own.error(where, f"include '{name}': files include one another more than {DEEPEST_INCLUDE} deep")
        if target not in known:
            known[target] = _with_includes(target, (*including, file.resolve()), known)
        included = known[target]
        _replace(data, places, included)
        files += included.files
        warnings += included.warnings
    _replace(data, places, own)
    return Document(data, places, tuple(dict.fromkeys(files)), tuple(dict.fromkeys(warnings)))


def read_text(file: Path) -> str:
    """The text of a YAML file, whatever its byte order mark. Raises `TaskError`."""
    if file.exists() and not file.is_file():
        raise TaskError(f"{shown(file)}: is no file that can be read")
    try:
        raw = file.read_bytes()
    except FileNotFoundError as error:
        beside = [other.name for other in file.parent.glob("*.y*ml")] if file.parent.is_dir() else []
        raise TaskError(f"{shown(file)}: there is no such file{suggest(file.name, beside)}") from error
    except OSError as error:
        raise TaskError(f"{shown(file)}:1: cannot be read: {error.strerror or error}") from error
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        remedy = "save the file as UTF-8"
        if other := likely_encoding(raw):
            remedy += f" (it reads as {other}: iconv -f {other} -t utf-8)"
        raise TaskError(f"{shown(file)}:{line}: is not UTF-8 text; {remedy}") from error


def _replace(data: dict[str, JSON], places: dict[KeyPath, FileLine], newer: Document) -> None:
    for path in [path for path in places if path and path[0] in newer.data]:
        del places[path]
    data.update(newer.data)
    places.update(newer.places)


def _parse(file: Path, text: str) -> Document:
    try:
        root = yaml.compose(text, Loader=FAST_LOADER)
    except yaml.YAMLError as error:
        raise _yaml_error(file, text, error) from error
    except RecursionError as error:
        raise TaskError(f"{shown(file)}:1: is nested too deeply") from error
    if root is None:
        raise TaskError(f"{shown(file)}:1: is empty")
    if not isinstance(root, yaml.MappingNode):
        raise TaskError(f"{shown(file)}:{root.start_mark.line + 1}: should be a mapping of keys to values")
    reader = _Reader(file)
    try:
        data = reader.build(root, ())
    except RecursionError as error:
        raise TaskError(f"{shown(file)}:1: is nested too deeply") from error
    return Document(data, reader.places, (file,), tuple(reader.warnings))


def _yaml_error(file: Path, text: str, error: yaml.YAMLError) -> TaskError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    position = getattr(error, "position", 0) or 0
    line = mark.line + 1 if mark is not None else text.count("\n", 0, position) + 1
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    lines = text.splitlines()
    if what == "but found another document":
        what = "a second document ('---') begins here; a task file holds one"
    if "\t" in (lines[line - 1] if line <= len(lines) else "")[: (mark.column + 1 if mark else 0)]:
        what = "a tab cannot be used for indentation; use spaces"
    for number in (line - 1, line) if "could not find expected ':'" in str(what) else ():
        if wide := _WIDE_COLON.match(lines[number - 1] if 0 < number <= len(lines) else ""):
            found = "a no-break space" if "\xa0" in wide[1] else "the full-width colon"
            line, what = number, f"{found} behind '{wide[0][: wide.start(1)].strip()}' is none of YAML's: write ': '"
    return TaskError(f"{shown(file)}:{line}: {' '.join(str(what).split())}")


class _Reader:
    """Turns YAML nodes into plain values, and writes down where each of them stands."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.places: dict[KeyPath, FileLine] = {}
        self.warnings: list[str] = []
        self.scalars = SafeConstructor()
        self.open: set[int] = set()
        self.nodes = 0

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self.nodes += 1
        if id(node) in self.open:
            raise self.error(node, "an alias that contains itself")
        if self.nodes > _MAX_NODES:
            raise self.error(node, f"more than {_MAX_NODES:,} values; put rows into a data file")
        self.places.setdefault(path, FileLine(self.file, node.start_mark.line + 1))
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        if node.tag not in (f"{_TAG}seq", f"{_TAG}map"):
            raise self.error(node, f"unknown tag '{node.tag}'")
        self.open.add(id(node))
        value: Any
        if isinstance(node, yaml.SequenceNode):
            value = [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        else:
            assert isinstance(node, yaml.MappingNode)
            value = self.mapping(node, path)
        self.open.discard(id(node))
        return value

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        """Build a mapping. Keys of a merge (`<<`) count less than the mapping's own; of one key twice the last counts,
        as PyYAML and lm-eval have it."""
        value: dict[str, Any] = {}
        own: dict[str, int] = {}
        for key_node, item in node.value:
            if key_node.tag == f"{_TAG}merge":
                for merged in item.value if isinstance(item, yaml.SequenceNode) else [item]:
                    if not isinstance(merged, yaml.MappingNode):
                        raise self.error(item, "'<<' merges mappings only")
                    value = {**self.build(merged, path), **value}
                continue
            key = self.key(key_node)
            line = key_node.start_mark.line + 1
            if key in own:
                self.warn(key_node, f"key '{key}' is given twice; line {line} counts, line {own[key]} does not")
            own[key] = line
            if (*path, key) in self.places:  # a merge, or the same key, was here first
                self.places = {old: at for old, at in self.places.items() if old[: len(path) + 1] != (*path, key)}
            self.places[(*path, key)] = FileLine(self.file, line)
            value[key] = self.build(item, (*path, key))
        return value

    def key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(node, "a key should be a word; '{' needs quotes where it begins a text")
        key = self.scalar(node)
        if isinstance(key, str):
            return key
        kind = "null" if key is None else "a boolean" if isinstance(key, bool) else "a number"
        raise self.error(node, f"key '{node.value}' is read as {kind}; write it in quotes")

    def scalar(self, node: yaml.ScalarNode) -> JSON | PythonFunction:
        if node.tag == "!function":
            return PythonFunction(node.value, str(self.file.parent.resolve()))
        # Dates stay text: JSON knows none, and prompts show them as they are written.
        if node.tag in (f"{_TAG}timestamp", f"{_TAG}value"):
            return node.value
        if not node.tag.startswith(_TAG) or node.tag == f"{_TAG}binary":
            raise self.error(node, f"unknown tag '{node.tag}'")
        if not node.style and len(node.value) > 1 and node.value[0] == "“" and node.value[-1] == "”":
            self.warn(node, f"the quotes of {node.value} are part of the text: YAML's own are straight")
        if node.tag == f"{_TAG}int" and _OTHER_BASE.fullmatch(node.value):
            number = self.scalars.construct_object(node)
            self.warn(
                node, f"{node.value} is the number {number} in YAML: write {number}, or '{node.value}' for a text"
            )
        try:
            return self.scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, TypeError, KeyError, IndexError) as error:
            raise self.error(node, f"'{node.value}' cannot be read as {node.tag.removeprefix(_TAG)}") from error

    def warn(self, node: yaml.Node, message: str) -> None:
        self.warnings.append(f"{FileLine(self.file, node.start_mark.line + 1)}: {message}")

    def error(self, node: yaml.Node, message: str) -> TaskError:
        return TaskError(f"{FileLine(self.file, node.start_mark.line + 1)}: {message}")

"""The harness's side of the process that runs the Python of task files: starts it, asks it, and ends it.

    code = TaskCode(Consent((Path("tasks"),)))
    code.load([PythonFunction("utils.process_docs", "tasks/gpqa")])
    code.rows(function, rows)

Nothing of what comes back is run here. What the code does wrong, an exception, an exit, a loop without end, is an error
of the one sample that it was asked about; the process is started anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from harness.errors import DataError, MachineError, UsageError
from harness.scoring import sandbox
from harness.spool import FEW, Spool
from harness.task_code.code_process import CodeProcess, told
from harness.task_code.consent import Consent
from harness.task_code.messages import SHAPES, decoded, encoded
from harness.tasks.functions import LoadedCode
from harness.tasks.yaml_file import Document, KeyPath, PythonFunction
from harness.types import JSON

T = TypeVar("T")
Row = Mapping[str, Any]
_IMPORTING, _WHOLE_SPLIT = 600.0, 1800.0  # seconds by the clock
_CHUNK = 256
_MOST_TOLD = 40
_MOST_HANGS = 3
_PACKAGES = {
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "iso639": "iso639-lang",
    "PIL": "pillow",
    "pkg_resources": "setuptools",
    "rouge_score": "rouge-score",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Module -> what installs it, where that has another name."""


class CodeError(Exception):
    """What the Python of a task said of one request: an exception, no end, or an end of its process."""


class MissingPackageError(CodeError):
    """A module that a task imports is not installed."""


class TaskCode:
    """All Python of the tasks of one run. Serves one thread at a time, and starts nothing before it is asked."""

    def __init__(
        self,
        consent: Consent,
        mode: str = "auto",
        seconds: float = 60.0,
        model_args: Mapping[str, JSON] = MappingProxyType({}),
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """mode: of the sandbox, as `--sandbox` says. seconds: by the clock, for one call about one sample.

        model_args: of the run; the code may load the tokenizer that they name. meanwhile: called once, while the
        process imports its first modules, which takes it seconds.
        """
        self.consent = consent
        self.seconds = seconds
        self._mode = mode
        self._model_args = model_args
        self._meanwhile: Callable[[], None] | None = meanwhile
        self._lock = threading.RLock()
        self._processes: dict[bool, CodeProcess] = {}
        self._known: dict[int, tuple[Row, Mapping[PythonFunction, Any]]] = {}
        """By the identity of a row: the row, and the values of functions."""
        self._foreseen: Spool[Mapping[PythonFunction, Any]] = Spool()
        self._splits: dict[tuple[PythonFunction, str], dict[str, Sequence[dict[str, Any]]]] = {}
        self._tasks: dict[str, tuple[bool, dict[str, Any]]] = {}
        self._classes: dict[PythonFunction, Any] = {}
        self._hangs: dict[str, int] = {}
        self._read: dict[str, dict[str, None]] = {}
        self.filters: set[str] = set()
        """Names of filters that the code has registered (`register_filter`), which tasks may use."""
        self.tried: dict[str, None] = {}
        """What the code tried that a sandbox forbids, in words."""

    def check(self, function: PythonFunction, document: Document, path: KeyPath) -> None:
        """Refuse what nobody has consented to, with `TaskError`."""
        self.consent.check(function, document, path)

    def load(self, functions: Sequence[PythonFunction]) -> LoadedCode:
        """Import the modules of `functions`. Raises `UsageError`, naming the package that is missing, if any."""
        try:
            found = self._ask(functions[0], _IMPORTING, do="load", functions=[_pair(one) for one in functions])
        except MissingPackageError as error:
            raise UsageError(f"{functions[0]}: {error}") from None
        except CodeError as error:
            raise UsageError(f"{functions[0]}: {error}") from None
        self._read.pop("", None)  # those of its modules, which `files` holds
        self.filters |= {str(name) for name in found["filters"]}
        return LoadedCode(tuple(found["names"]), hashed(self._own_files(found["files"])))

    def describe_class(self, function: PythonFunction, config: Mapping[str, JSON]) -> dict[str, Any]:
        """What a task that is a class brings: `keys`, `methods` and `metrics`. Raises `UsageError`."""
        given = encoded({key: value for key, value in config.items() if not isinstance(value, PythonFunction)})
        try:
            found: dict[str, Any] = self._ask(function, _IMPORTING, do="class", function=_pair(function), config=given)
        except CodeError as error:
            raise UsageError(f"{function}: {error}") from None
        self._classes[function] = given
        return found

    def requests(self, function: PythonFunction, row: Mapping[str, Any], context: str) -> list[tuple[str, list[Any]]]:
        """What a class asks about a row: (kind, arguments) of each request. Raises `DataError`."""
        try:
            made = self._ask(
                function, self.seconds, do="requests", function=_pair(function), row=encoded(row), context=context
            )
        except CodeError as error:
            raise DataError(f"construct_requests: {function}: {error}") from None
        return [(str(kind), decoded(arguments)) for kind, arguments in made]

    def rows(
        self, function: PythonFunction, rows: Sequence[Mapping[str, Any]], features: JSON = None, label: str = "test"
    ) -> Sequence[dict[str, Any]]:
        """`process_docs` of a whole split, which its process holds as a whole; here it goes by in parts. Raises
        `DataError`."""
        try:
            self._ask(function, _WHOLE_SPLIT, do="give", values=[], begin=True)
            for part in _parts(rows):
                self._ask(function, _WHOLE_SPLIT, do="give", values=list(map(encoded, part)), begin=False)
            about = {"function": _pair(function), "features": features, "label": label, "count": len(rows)}
            self._ask(function, _WHOLE_SPLIT, do="rows", **about)
            return Spool(self._made(function, ""), block=1)
        except CodeError as error:
            raise DataError(f"process_docs: {function}: {error}") from None

    def _made(self, function: PythonFunction, name: str) -> Iterator[dict[str, Any]]:
        """The rows that a function has made, part after part. Raises `CodeError` and `DataError`."""
        while part := self._ask(function, _WHOLE_SPLIT, do="take", name=name):
            yield from map(decoded, part)

    def samples(self, function: PythonFunction) -> list[dict[str, Any]]:
        """Few-shot examples that a function gives. Raises `DataError`."""
        try:
            made = self._ask(function, _WHOLE_SPLIT, do="samples", function=_pair(function))
        except CodeError as error:
            raise DataError(f"fewshot_config: samples: {function}: {error}") from None
        return [decoded(row) for row in made]

    def splits(self, function: PythonFunction, options: Mapping[str, JSON]) -> Mapping[str, Sequence[dict[str, Any]]]:
        """All rows that `custom_dataset` makes, by split. Raises `DataError`."""
        given = {name: value for name, value in options.items() if name != "trust_remote_code"}
        key = (function, json.dumps(given, sort_keys=True, default=str))
        if key not in self._splits:
            try:
                names = self._ask(function, _WHOLE_SPLIT, do="splits", function=_pair(function), options=given)
                self._splits[key] = {name: Spool(self._made(function, name), block=1) for name in names}
            except CodeError as error:
                raise DataError(f"custom_dataset: {function}: {error}") from None
        return self._splits[key]

    def media(self, kind: str, function: PythonFunction, row: Mapping[str, Any]) -> list[Any]:
        """`doc_to_image` or `doc_to_audio`: what is shown of a row, as files, paths or bytes. Raises `DataError`."""
        try:
            made = self._ask(function, self.seconds, do="media", kind=kind, function=_pair(function), row=encoded(row))
            return [decoded(item) for item in made]
        except CodeError as error:
            raise DataError(f"doc_to_{kind}: {function}: {error}") from None

    def foresee(self, functions: Sequence[PythonFunction], rows: Iterable[Row]) -> None:
        """Have the values of `functions` for all rows made at once; `value` finds them then, of many rows as long as
        `known` gives the row. `forget` drops them."""
        by_name = {str(index): function for index, function in enumerate(functions)}
        self._known, self._foreseen = {}, Spool()
        for part in _parts(rows) if functions else ():
            for row, values in zip(part, self._values(by_name, part), strict=True):
                of_row = {function: values[name] for name, function in by_name.items()}
                self._foreseen.append(of_row)
                if len(self._foreseen) <= FEW:  # examples may be the same rows
                    self._known[id(row)] = row, of_row

    def known(self, rows: Iterable[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
        """The rows that `foresee` was told, in their order and with their numbers, each while its values are known."""
        if len(self._foreseen) <= FEW:
            yield from rows
            return
        for (number, row), values in zip(rows, self._foreseen, strict=True):
            self._known = {id(row): (row, values)}
            yield number, row

    def forget(self) -> None:
        """Drop what `foresee` and `splits` hold."""
        self._known, self._foreseen = {}, Spool()
        self._splits.clear()

    def value(self, function: PythonFunction, row: Mapping[str, Any]) -> Any:
        """What a function makes of a row. Raises `DataError`."""
        held = self._known.get(id(row))
        if held is not None and held[0] is row and function in held[1]:
            value = held[1][function]
        else:
            (found,) = self._values({"0": function}, [row])
            value = found["0"]
        if isinstance(value, CodeError):
            raise DataError(f"{function}: {value}")
        return value

    def offer(self, environment: Mapping[str, PythonFunction]) -> tuple[JSON, str]:
        """The functions of an environment, as a list of JSON Schemas, and its policy. Raises `DataError`."""
        made = self._in_environment(environment, do="offer")
        return made["tools"], _text_of(made.get("policy"))

    def play(
        self,
        environment: Mapping[str, PythonFunction],
        row: Mapping[str, Any],
        actions: Sequence[tuple[str, JSON]],
        *,
        digest: bool = False,
    ) -> tuple[list[str], str]:
        """What each of `actions` (a function's name, its arguments) returns, and a digest of the state behind them
        where one is wanted.

        They run from a fresh state on; those of before are not run again as long as the process lives and remembers
        them. What a function raises is what it returns. Raises `DataError`.
        """
        given = [[name, arguments] for name, arguments in actions]
        made = self._in_environment(environment, do="play", row=encoded(row), actions=given, digest=digest)
        if len(made["observations"]) != len(actions):
            raise DataError(f"environment: {environment['tools']}: its process sent what is no answer to 'play'")
        return [_text_of(each) for each in made["observations"]], _text_of(made.get("state"))

    def _in_environment(self, environment: Mapping[str, PythonFunction], **request: Any) -> Any:
        pairs = {name: _pair(function) for name, function in environment.items()}
        try:
            return self._ask(environment["tools"], self.seconds, environment=pairs, **request)
        except CodeError as error:
            raise DataError(f"environment: {environment['tools']}: {error}") from None

    def open_task(self, name: str, spec: Mapping[str, Any], function: PythonFunction) -> None:
        """Say how replies of a task are read and scored; `read`, `score` and `join` go by it. Raises `CodeError`."""
        self._tasks[name] = (self.consent.unboxed(function), dict(spec))
        self._ask_task(name, self.seconds, "ready")

    def read(self, task: str, pipeline: str, doc: Mapping[str, Any], replies: Sequence[str]) -> Any:
        """What a pipeline reads from replies. Raises `CodeError`."""
        return self._ask_task(task, self.seconds, "read", pipeline=pipeline, doc=encoded(doc), replies=list(replies))

    def score(
        self,
        task: str,
        pipeline: str,
        doc: Mapping[str, Any],
        replies: Sequence[str] | None,
        pairs: Sequence[tuple[float, bool]],
        gold: Mapping[str, Any],
        results: Sequence[Any] | None = None,
    ) -> dict[str, Any]:
        """The scores of one sample, by metric; one without a form in JSON is kept as it came. Raises `CodeError`.

        results: of a task that is a class, what came of each request: a text, a number, or a value and its greedy flag.
        """
        given = {"doc": encoded(doc), "replies": None if replies is None else list(replies), "gold": encoded(gold)}
        found: dict[str, Any] = self._ask_task(
            task,
            self.seconds,
            "score",
            pipeline=pipeline,
            pairs=[list(pair) for pair in pairs],
            results=results,
            **given,
        )
        return found

    def join(self, task: str, metric: str, items: Sequence[Any]) -> Any:
        """One value of the scores of a set, as `score` gave them. Raises `CodeError`."""
        self._ask_task(task, _WHOLE_SPLIT, "give", values=[], begin=True)
        for part in _parts(items):
            self._ask_task(task, _WHOLE_SPLIT, "give", values=part, begin=False)
        return self._ask_task(task, _WHOLE_SPLIT, "join", metric=metric, count=len(items))

    def take_read(self) -> dict[str, str]:
        """The local files that the code has read since this was asked last, with their hashes; not those that it read
        while it scored."""
        return hashed(self._own_files(self._read.pop("", ())))

    def has_read_scoring(self, task: str) -> bool:
        """Whether `take_read_scoring` may have something to give."""
        return task in self._read

    def take_read_scoring(self, task: str, known: Container[str] = ()) -> dict[str, str]:
        """The same of what it read while it scored replies of a task (`open_task`, `read`, `score`, `join`).

        known: files that need not be hashed again.
        """
        read = self._read.pop(task, {})
        return hashed(self._own_files(path for path in read if path not in known)) if read else {}

    def _own_files(self, paths: Iterable[Any]) -> list[str]:
        """Those paths that are files of the folders that were consented to; nothing else is opened at their word."""
        files = (Path(path) for path in paths if isinstance(path, str) and "\0" not in path)
        roots = self.consent.roots
        return [str(file) for file in files if file.is_file() and any(map(file.resolve().is_relative_to, roots))]

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            for process in self._processes.values():
                process.end()
            self._processes.clear()

    def _values(
        self, functions: Mapping[str, PythonFunction], rows: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """The values of some rows; of one without, its `CodeError`."""
        first = next(iter(functions.values()))
        pairs = {name: _pair(function) for name, function in functions.items()}
        given = [encoded(row) for row in rows]
        try:
            found = self._ask(first, self.seconds * (1 + len(rows) / 32), do="values", functions=pairs, rows=given)
            if len(found) != len(rows) or any(values.keys() != functions.keys() for values in found):
                raise CodeError("its process sent values of other rows")
        except CodeError as error:
            if len(rows) > 1:  # one of them is to blame, and is told apart
                return [values for row in rows for values in self._values(functions, [row])]
            return [dict.fromkeys(functions, error)]
        return [
            {
                name: CodeError(told(value["error"])) if "error" in value else decoded(value.get("value"))
                for name, value in values.items()
            }
            for values in found
        ]

    def _ask_task(self, task: str, seconds: float, do: str, /, **request: Any) -> Any:
        unboxed, spec = self._tasks[task]
        with self._lock:
            process = self._running(unboxed)
            if task not in process.tasks:
                self._answer(process, _IMPORTING, {"do": "task", "task": task, "spec": spec}, of=task)
                process.tasks.add(task)
            return self._answer(process, seconds, {"do": do, "task": task, **request}, what=f"{task} {do}", of=task)

    def _ask(self, first: PythonFunction, seconds: float, /, **request: Any) -> Any:
        with self._lock:
            process = self._running(self.consent.unboxed(first))
            return self._answer(process, seconds, request, what=f"{first.folder} {first.name}")

    def _answer(
        self, process: CodeProcess, seconds: float, request: dict[str, Any], what: str = "", of: str = ""
    ) -> Any:
        """What a process answers. of: the task whose replies are scored, if any."""
        if self._hangs.get(what, 0) >= _MOST_HANGS:
            raise CodeError(f"not asked again, after {_MOST_HANGS} calls that came to no end")
        process.send(request)
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()
        try:
            reply = process.receive(seconds)
        except TimeoutError:
            self._hangs[what] = self._hangs.get(what, 0) + 1
            raise CodeError(f"no end within {seconds:g} s") from None
        except EOFError as error:
            raise CodeError(str(error)) from None
        self._read.setdefault(of, {}).update(dict.fromkeys(reply["read"]))
        if process.boxed and len(self.tried) < _MOST_TOLD:
            self.tried.update(dict.fromkeys(map(told, reply["tried"][:_MOST_TOLD])))
        if "missing" in reply:
            package = _PACKAGES.get(told(reply["missing"]), told(reply["missing"]))
            command = f"; install it: pip install {package}" if package else ""  # code may say itself what it lacks
            raise MissingPackageError(f"{told(reply['error'])}{command}")
        if "error" in reply:
            raise CodeError(told(reply["error"]))
        if not SHAPES.get(request["do"], lambda made: True)(reply["result"]):
            raise CodeError(f"its process sent what is no answer to '{request['do']}'")
        return reply["result"]

    def _running(self, unboxed: bool) -> CodeProcess:
        process = self._processes.get(unboxed)
        if process is None or not process.alive:
            mode = "none" if unboxed else sandbox.usable(self._mode)
            if mode == "docker":
                raise MachineError(
                    "task code does not run in --sandbox docker, whose image has none of its packages; choose auto, or "
                    "say --trust_task_code_in_process"
                )
            process = self._processes[unboxed] = CodeProcess(self.consent, self._model_args, boxed=mode == "namespaces")
            for function, config in self._classes.items():  # one that has ended had made them
                if self.consent.unboxed(function) is unboxed:
                    self._answer(process, _IMPORTING, {"do": "class", "function": _pair(function), "config": config})
        return process


def _parts(values: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(values)
    while part := list(itertools.islice(rest, _CHUNK)):
        yield part


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _pair(function: PythonFunction) -> list[str]:
    return [function.folder, function.name]


def hashed(paths: Iterable[str]) -> dict[str, str]:
    """path -> SHA-256 of the file, in the order of their paths; files that are gone are left out."""
    found = {}
    for path in sorted(paths):
        with contextlib.suppress(OSError):
            found[path] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return found

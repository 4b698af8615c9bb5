"""The harness's side of the process that runs the Python of task files: starts it, asks it, and ends it.

    code = TaskCode(Consent((Path("tasks"),)))
    code.load([PythonFunction("utils.process_docs", "tasks/gpqa")])
    code.rows(function, rows)

Nothing of what comes back is run here. What the code does wrong, an exception, an exit, a loop without end, is an error
of the one sample that it was asked about; the process is started anew.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.errors import DataError, MachineError, UsageError
from harness.scoring import sandbox
from harness.task_code.consent import Consent
from harness.task_code.tokenizers import hub_cache, tokenizer_copies
from harness.tasks.functions import LoadedCode
from harness.tasks.yaml_file import Document, KeyPath, PythonFunction
from harness.terminal import visible
from harness.types import JSON

_HERE = Path(__file__).parent
_PROCESS = _HERE / "process.py"
_HALF = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else 16 << 30
_LIMITS = sandbox.Limits(memory=min(16 << 30, _HALF), space=2 << 30, processes=512, file_size=1 << 30, files=1024)
_STARTING, _IMPORTING, _WHOLE_SPLIT = 120.0, 600.0, 1800.0  # seconds by the clock
_LEAVING = 0.5
_CHUNK = 256
_LARGEST = 1 << 30
"""Bytes of one answer."""
_MOST_TOLD, _LONGEST_TOLD = 40, 600
_DEEPEST = 200
_MOST_HANGS = 3
_ENVIRONMENT = {
    **sandbox.ENVIRONMENT,
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HOME": "/tmp/hf",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
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


def _is_rows(made: Any) -> bool:
    return isinstance(made, list) and all(isinstance(row, dict) for row in made)


_SHAPES: Mapping[str, Callable[[Any], bool]] = {
    "load": lambda made: (
        isinstance(made, dict) and all(isinstance(made.get(key), list) for key in ("names", "files", "filters"))
    ),
    "class": lambda made: (
        isinstance(made, dict) and isinstance(made.get("keys"), dict) and isinstance(made.get("methods"), list)
    ),
    "requests": lambda made: (
        isinstance(made, list) and all(isinstance(one, list) and list(map(type, one)) == [str, list] for one in made)
    ),
    "media": lambda made: isinstance(made, list),
    "rows": _is_rows,
    "samples": _is_rows,
    "splits": lambda made: isinstance(made, dict) and all(map(_is_rows, made.values())),
    "values": lambda made: (
        _is_rows(made) and all(isinstance(value, dict) for values in made for value in values.values())
    ),
    "score": lambda made: isinstance(made, dict),
    "offer": lambda made: isinstance(made, dict) and isinstance(made.get("tools"), list),
    "play": lambda made: isinstance(made, dict) and isinstance(made.get("observations"), list),
}
"""What an answer looks like, by what was asked for. The code can write anything in its place."""


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
        self._processes: dict[bool, _CodeProcess] = {}
        self._known: dict[tuple[PythonFunction, int], tuple[Any, Any]] = {}
        self._splits: dict[tuple[PythonFunction, str], dict[str, list[dict[str, Any]]]] = {}
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
    ) -> list[dict[str, Any]]:
        """`process_docs` of a whole split. Raises `DataError`."""
        given = [encoded(row) for row in rows]
        try:
            made = self._ask(
                function, _WHOLE_SPLIT, do="rows", function=_pair(function), rows=given, features=features, label=label
            )
        except CodeError as error:
            raise DataError(f"process_docs: {function}: {error}") from None
        return [decoded(row) for row in made]

    def samples(self, function: PythonFunction) -> list[dict[str, Any]]:
        """Few-shot examples that a function gives. Raises `DataError`."""
        try:
            made = self._ask(function, _WHOLE_SPLIT, do="samples", function=_pair(function))
        except CodeError as error:
            raise DataError(f"fewshot_config: samples: {function}: {error}") from None
        return [decoded(row) for row in made]

    def splits(self, function: PythonFunction, options: Mapping[str, JSON]) -> dict[str, list[dict[str, Any]]]:
        """All rows that `custom_dataset` makes, by split. Raises `DataError`."""
        given = {name: value for name, value in options.items() if name != "trust_remote_code"}
        key = (function, json.dumps(given, sort_keys=True, default=str))
        if key not in self._splits:
            try:
                made = self._ask(function, _WHOLE_SPLIT, do="splits", function=_pair(function), options=given)
            except CodeError as error:
                raise DataError(f"custom_dataset: {function}: {error}") from None
            self._splits[key] = {split: [decoded(row) for row in rows] for split, rows in made.items()}
        return self._splits[key]

    def media(self, kind: str, function: PythonFunction, row: Mapping[str, Any]) -> list[Any]:
        """`doc_to_image` or `doc_to_audio`: what is shown of a row, as files, paths or bytes. Raises `DataError`."""
        try:
            made = self._ask(function, self.seconds, do="media", kind=kind, function=_pair(function), row=encoded(row))
            return [decoded(item) for item in made]
        except CodeError as error:
            raise DataError(f"doc_to_{kind}: {function}: {error}") from None

    def foresee(self, functions: Sequence[PythonFunction], rows: Sequence[Mapping[str, Any]]) -> None:
        """Have the values of `functions` for all rows made at once; `value` finds them then. `forget` drops them."""
        by_name = {str(index): function for index, function in enumerate(functions)}
        for start in range(0, len(rows) if functions else 0, _CHUNK):
            part = rows[start : start + _CHUNK]
            for row, values in zip(part, self._values(by_name, part), strict=True):
                for name, function in by_name.items():
                    self._known[function, id(row)] = (row, values[name])

    def forget(self) -> None:
        """Drop what `foresee` and `splits` hold."""
        self._known.clear()
        self._splits.clear()

    def value(self, function: PythonFunction, row: Mapping[str, Any]) -> Any:
        """What a function makes of a row. Raises `DataError`."""
        held = self._known.get((function, id(row)))
        if held is None or held[0] is not row:
            (found,) = self._values({"0": function}, [row])
            held = (row, found["0"])
        if isinstance(held[1], CodeError):
            raise DataError(f"{function}: {held[1]}")
        return held[1]

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
        return self._ask_task(task, _WHOLE_SPLIT, "join", metric=metric, items=list(items))

    def take_read(self) -> dict[str, str]:
        """The local files that the code has read since this was asked last, with their hashes; not those that it read
        while it scored."""
        return hashed(self._own_files(self._read.pop("", ())))

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
                name: CodeError(_told(value["error"])) if "error" in value else decoded(value.get("value"))
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
        self, process: _CodeProcess, seconds: float, request: dict[str, Any], what: str = "", of: str = ""
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
            self.tried.update(dict.fromkeys(map(_told, reply["tried"][:_MOST_TOLD])))
        if "missing" in reply:
            package = _PACKAGES.get(_told(reply["missing"]), _told(reply["missing"]))
            command = f"; install it: pip install {package}" if package else ""  # code may say itself what it lacks
            raise MissingPackageError(f"{_told(reply['error'])}{command}")
        if "error" in reply:
            raise CodeError(_told(reply["error"]))
        if not _SHAPES.get(request["do"], lambda made: True)(reply["result"]):
            raise CodeError(f"its process sent what is no answer to '{request['do']}'")
        return reply["result"]

    def _running(self, unboxed: bool) -> _CodeProcess:
        process = self._processes.get(unboxed)
        if process is None or not process.alive:
            mode = "none" if unboxed else sandbox.usable(self._mode)
            if mode == "docker":
                raise MachineError(
                    "task code does not run in --sandbox docker, whose image has none of its packages; choose auto, or "
                    "say --trust_task_code_in_process"
                )
            process = self._processes[unboxed] = _CodeProcess(
                self.consent, self._model_args, boxed=mode == "namespaces"
            )
            for function, config in self._classes.items():  # one that has ended had made them
                if self.consent.unboxed(function) is unboxed:
                    self._answer(process, _IMPORTING, {"do": "class", "function": _pair(function), "config": config})
        return process


class _CodeProcess:
    """One process, from its start to its end."""

    def __init__(self, consent: Consent, model_args: Mapping[str, JSON], *, boxed: bool) -> None:
        self.boxed = boxed
        self.tasks: set[str] = set()
        self._asked = 0
        self._started = False
        self._root, self._copies = (tempfile.mkdtemp(prefix="harness-") for _ in range(2))
        own = ["-I", "-S", "-X", "utf8", str(_PROCESS)]
        path = _module_folders()
        roots = [str(root) for root in consent.roots]
        tokenizers = tokenizer_copies(model_args, Path(self._copies)) if boxed else {}
        shown = [*roots, *path, str(_HERE), *tokenizers]
        environment = {**_ENVIRONMENT, **_nltk(), "HF_HUB_CACHE": str(hub_cache().resolve())}
        if boxed:
            nltk = [environment["NLTK_DATA"]] if "NLTK_DATA" in environment else []
            python = str(Path(sys.executable).resolve())
            copies = {**_copies(consent.boxed, Path(self._copies)), **tokenizers}
            command = sandbox.jailed([python, *own], _LIMITS, self._root, [*shown, *nltk], environment, copies)
        else:
            command, environment = [sys.executable, *own], dict(os.environ)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=self._root,
            start_new_session=True,
        )
        self._said = bytearray()
        self._listener = threading.Thread(target=_drain, args=(self._process.stderr, self._said), daemon=True)
        self._listener.start()
        self._finalizer = weakref.finalize(self, _end, self._process, (self._root, self._copies))
        assert self._process.stdout is not None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        limits = {"file_size": _LIMITS.file_size, "files": _LIMITS.files}
        limits |= {"processes": _LIMITS.processes} if boxed else {}
        seen = [*shown, sys.base_prefix, "/usr", "/lib", "/bin"] if boxed else []
        modules = {
            "names": "lm_eval_names",
            "packages": "package_names",
            "classes": "task_classes",
            "media": "media_values",
            "environments": "environments",
        }
        names = {name: str(_HERE / f"{module}.py") for name, module in modules.items()}
        hello = {"path": path, "roots": roots, "shown": seen, "limits": limits, **names}
        self._write(hello)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, request: dict[str, Any]) -> None:
        self._asked += 1
        self._write({**request, "number": self._asked})

    def receive(self, seconds: float) -> dict[str, Any]:
        """The answer to what was sent last. Raises `MachineError` where the process does not start, `TimeoutError`, and
        `EOFError` where it has ended; it is no more, then."""
        if not self._started:
            self._started = True
            try:
                self._reply(0, _STARTING)
            except (TimeoutError, EOFError) as error:
                what = f"the process that runs task code does not start: {error or 'no word from it'}"
                raise MachineError(what) from None
        return self._reply(self._asked, seconds)

    def end(self) -> None:
        self._finalizer()

    def _kill(self) -> None:
        _kill(self._process)
        self.end()

    def _write(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode("ascii")
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended, which reading finds
            self._process.stdin.write(len(body).to_bytes(8, "big") + body)
            self._process.stdin.flush()

    def _reply(self, number: int, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        size = int.from_bytes(self._read(8, deadline), "big")
        reply: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            reply = json.loads(self._read(size, deadline)) if size <= _LARGEST else None
        if not _is_reply(reply, number):
            self._kill()
            raise EOFError("its process sent what is no answer, and was ended")
        answer: dict[str, Any] = reply
        return answer

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        parts: list[bytes] = []
        while size:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                self._kill()
                raise TimeoutError
            part = os.read(self._process.stdout.fileno(), min(size, 1 << 20))
            if not part:
                self._process.wait()
                code = self._process.returncode
                self.end()
                raise EOFError(_in_words(code, bytes(self._said)))
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def _is_reply(reply: Any, number: int) -> bool:
    """Whether a message is an answer to the request of this number: the code can write anything in its place."""
    if not isinstance(reply, dict) or reply.get("number") != number:
        return False
    lists = all(
        isinstance(reply.get(key), list) and all(isinstance(each, str) for each in reply[key])
        for key in ("read", "tried")
    )
    texts = all(isinstance(reply[key], str) for key in ("error", "missing") if key in reply)
    return lists and texts and ("error" in reply if "missing" in reply else "error" in reply or "result" in reply)


def _told(text: Any) -> str:
    """What the code says of itself, fit for a line on a terminal."""
    return visible(" ".join(str(text).split()))[:_LONGEST_TOLD]


def _copies(folders: Sequence[Path], to: Path) -> dict[str, str]:
    """Folders that only their owner may read, copied for all: what root starts runs as nobody in a sandbox."""
    found = {}
    for number, folder in enumerate(folders if os.getuid() == 0 else ()):
        if _all_may_read(str(folder)):
            continue
        copy = to / str(number)
        shutil.copytree(folder, copy, ignore_dangling_symlinks=True)
        for path in [to, copy, *copy.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        found[str(folder)] = str(copy)
    return found


def _all_may_read(folder: str) -> bool:
    """Whether everything in a folder may be read by whoever is not its owner; a link counts as what it leads to."""
    if os.stat(folder).st_mode & 0o005 != 0o005:  # noqa: PTH116 - a library has 14,000 files, too many for a Path each
        return False
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat()
            except OSError:  # leads nowhere
                continue
            if not status.st_mode & 0o004 or (
                entry.is_dir() and not entry.is_symlink() and not _all_may_read(entry.path)
            ):
                return False
    return True


def _module_folders() -> list[str]:
    """Where the process finds modules: the standard library and installed packages, no folder that a user works in."""
    own = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    names = ("site-packages", "dist-packages", "lib-dynload")
    found = [entry for entry in sys.path if Path(entry).is_dir() and (entry in own or Path(entry).name in names)]
    return list(dict.fromkeys(map(os.path.realpath, found)))


def _in_words(code: int, said: bytes) -> str:
    """Why a process has ended, from its exit code and its last words."""
    if code == 124:
        return "its process was ended: out of memory"
    lines = said.decode("utf-8", "replace").strip().splitlines()
    last = f": {_told(lines[-1])[:200]}" if lines else ""
    number = -code if code < 0 else code - 128 if code > 128 else 0
    name = signal.Signals(number).name if number in set(signal.Signals) else ""
    return f"its process has ended ({name or f'exit code {code}'}){last}"


def _drain(stream: Any, said: bytearray) -> None:
    """Keep the end of what a process prints."""
    with contextlib.suppress(OSError, ValueError):
        while part := os.read(stream.fileno(), 65_536):
            said += part
            del said[:-8192]


def _end(process: subprocess.Popen[bytes], folders: Sequence[str]) -> None:
    """End a process: by itself, where it waits for a request, so that the system counts what it used."""
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_LEAVING)
    _kill(process)
    for stream in (process.stdin, process.stdout, process.stderr):
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.close()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _nltk() -> dict[str, str]:
    """Where the data of NLTK lies, which tasks read and cannot download in a sandbox."""
    places = [os.environ.get("NLTK_DATA") or "", str(Path("~/nltk_data").expanduser())]
    found = next((place for place in places if place and Path(place).is_dir()), None)
    return {} if found is None else {"NLTK_DATA": found}


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


def encoded(value: Any) -> Any:
    """A value of a row as the messages have it: bytes as tagged text."""
    if isinstance(value, Mapping):
        return {str(key): encoded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [encoded(item) for item in value]
    if isinstance(value, tuple):
        return {"__tuple__": [encoded(item) for item in value]}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"__bytes__": base64.b64encode(bytes(value)).decode("ascii")}
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return encoded(value.tolist())
    return value


def decoded(value: Any, depth: int = 0) -> Any:
    """A value of a message as a row holds it. What only Python can hold is shown as it prints. Raises `DataError`."""
    if depth > _DEEPEST:
        raise DataError(f"a value is nested more than {_DEEPEST} times")
    if isinstance(value, list):
        return [decoded(item, depth + 1) for item in value]
    if isinstance(value, dict):
        if "__tuple__" in value:
            return [decoded(item, depth + 1) for item in value["__tuple__"]]
        if "__bytes__" in value:
            try:
                return base64.b64decode(value["__bytes__"])
            except (TypeError, ValueError) as error:
                raise DataError(f"bytes of a value cannot be read: {error}") from None
        if "__time__" in value:
            return value["__time__"]
        if "__kept__" in value:
            return str(value.get("shown", ""))
        return {key: decoded(item, depth + 1) for key, item in value.items()}
    return value

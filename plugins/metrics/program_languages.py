"""Whether a program in C++, Java, JavaScript, Perl or Python compiles, runs and says that all is well.

    metric_list:
      - metric: program_passes
        language: cpp
        program: "{{prompt}}{{reply}}\\n{{test}}"
      - {metric: pass_at_k, of: program_passes}

The program and its tests are one text in these benchmarks, and it passes when it ends with exit code 0, as for their
authors: a program that ends itself with 0 before its tests run has passed, too. What has to be installed is looked for
in the sandbox before any model is asked.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from harness import MachineError, Metric, MetricOptions, Observation, Undecided, hookimpl
from harness.scoring import fenced_blocks, sandbox

_JINJA = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
_JINJA.filters["parsed"] = lambda value: json.loads(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class Language:
    """How a program is run: the file that holds it, and commands in order. `remedy` says what installs them."""

    file: str
    commands: tuple[tuple[str, ...], ...]
    remedy: str
    words: int = 1  # of a command, that make it say its version with --version


# A Java machine takes what it finds unless it is told; the sandbox has few processes and little address space.
_SMALL = ("-Xmx768m", "-Xss64m", "-XX:+UseSerialGC", "-XX:CICompilerCount=2", "-XX:CompressedClassSpaceSize=128m")
LANGUAGES: Mapping[str, Language] = {
    "cpp": Language(
        "program.cpp",
        (("g++", "-std=c++11", "program.cpp", "-o", "program"), ("./program",)),
        "install GCC with C++ (Debian: apt install g++)",
    ),
    "cpp17": Language(
        "program.cpp",
        (("g++", "-std=c++17", "program.cpp", "-o", "program", "-lpthread"), ("./program",)),
        "install GCC with C++ (Debian: apt install g++)",
    ),
    "java": Language(
        "Main.java",
        (
            ("javac", *(f"-J{option}" for option in _SMALL), "-encoding", "UTF-8", "Main.java"),
            ("java", *_SMALL, "-cp", ".", "Main"),
        ),
        "install a JDK (Debian: apt install default-jdk-headless)",
    ),
    "javascript": Language("program.js", (("node", "program.js"),), "install Node.js (Debian: apt install nodejs)"),
    "perl": Language("program.pl", (("perl", "program.pl"),), "install Perl (Debian: apt install perl)"),
    "python": Language("program.py", (("python", "program.py"),), "install Python in the image of the sandbox"),
    "pytest": Language(
        "solution.py",
        (("python", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "."),),
        "install pytest beside the harness (pip install pytest)",
        words=3,
    ),
}


class ProgramPasses(Metric):
    """1 where the program in the reply, with its tests, compiles and ends with exit code 0; the mean over the replies.

    language: cpp (C++11), cpp17, java (class Main), javascript (Node.js), perl, python, or pytest (the program is
        module `solution`).
    program: Jinja, the whole program, from the row's fields and `reply`.
    files: further files beside it, as NAME: Jinja from the row's fields. assets: Jinja that gives JSON, further files
        as NAME: their bytes in base 64.
    timeout: seconds of processor time for each command, three times that by the clock; memory: MB of all of them.
    silent: a program that prints anything, to whichever stream, has failed.
    reference: Jinja, a right reply (of a fenced block, what it holds). Where it does not pass here, because a package,
        a header or a file is not there, the row is an error and no failure of the model.
    """

    name = "program_passes"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(
        self,
        language: str,
        program: str,
        files: Mapping[str, str] | None = None,
        assets: str | None = None,
        timeout: float = 10.0,
        memory: int = 2048,
        silent: bool = False,
        reference: str | None = None,
    ) -> None:
        if language not in LANGUAGES:
            raise ValueError(f"language is '{language}'; it can be {', '.join(LANGUAGES)}")
        self._name, self._language = language, LANGUAGES[language]
        self._program = _template("program", program)
        self._files = {name: _template(name, text) for name, text in (files or {}).items()}
        self._assets = None if assets is None else _template("assets", assets)
        self._limits = sandbox.Limits(timeout, memory=memory << 20, space=256 << 20)
        self._silent = silent
        self._reference = None if reference is None else _template("reference", reference)
        self._mode: str | None = None
        self._known: OrderedDict[bytes, bool] = OrderedDict()  # pass@k asks again for what was run already
        self._lock = Lock()

    def prepare(self, options: MetricOptions) -> None:
        self._mode = sandbox.usable(options.sandbox)
        if missing := _missing(self._name, self._mode):
            where = "the image of the sandbox" if self._mode == "docker" else "the sandbox"
            raise MachineError(
                f"programs in {self._name} cannot be run safely here: {where} has no {' and no '.join(missing)}; "
                f"{self._language.remedy}, below /usr, or choose --sandbox docker and an image that has it "
                "(HARNESS_SANDBOX_IMAGE)"
            )

    def score(self, seen: Observation) -> float | None:
        if not seen.predictions:
            return None
        self._refuse_what_nobody_passes(seen.sample.doc)
        replies = [reply for reply in dict.fromkeys(seen.predictions) if reply is not None]
        with ThreadPoolExecutor(min(len(replies), os.cpu_count() or 1) or 1) as pool:
            passed = dict(
                zip(replies, pool.map(lambda reply: self._passes(reply, seen.sample.doc), replies), strict=True)
            )
        return sum(reply is not None and passed[reply] for reply in seen.predictions) / len(seen.predictions)

    def _passes(self, reply: str, doc: Mapping[str, Any]) -> bool:
        files = {name: template.render(**doc) for name, template in self._files.items()}
        files[self._language.file] = self._program.render(**doc, reply=reply)
        assets = {} if self._assets is None else json.loads(self._assets.render(**doc))
        key = hashlib.sha256(json.dumps([files, assets]).encode()).digest()
        with self._lock:
            known = self._known.get(key)
        if known is None:
            known = self._run(files, assets)
            with self._lock:
                self._known[key] = known
                while len(self._known) > 4096:
                    self._known.popitem(last=False)
        return known

    def _run(self, files: Mapping[str, str], assets: Mapping[str, str | None]) -> bool:
        commands = _placed(self._language, self._mode or "auto")
        order = {"files": files, "assets": assets, "commands": commands, "silent": self._silent}
        script = f"ORDER = {json.dumps(order)!r}\n{_SCRIPT}"
        (outcome,) = sandbox.run_script(script, [""], self._limits, self._mode or "auto")
        if not outcome.decided:  # says nothing about the program: the sample fails, and is tried again
            raise Undecided(outcome.reason)
        return outcome.code == 0 and not outcome.reason

    def _refuse_what_nobody_passes(self, doc: Mapping[str, Any]) -> None:
        if self._reference is None:
            return
        reference = self._reference.render(**doc)
        if not self._passes("\n".join(fenced_blocks(reference)) or reference, doc):
            raise ValueError("its reference solution does not pass here; a package, a header or a file is not there")


# Runs in the sandbox: writes the files, and runs the commands until one fails.
_SCRIPT = """\
import base64, json, os, pathlib, subprocess, sys, tempfile
order = json.loads(ORDER)
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    for name, text in order["files"].items():
        pathlib.Path(name).write_text(text, encoding="utf-8", errors="replace")
    for name, content in order["assets"].items():
        pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(name).write_bytes(base64.b64decode(content or ""))
    for command in order["commands"]:
        command = [sys.executable if part == "python" else part for part in command]
        with open("/dev/null") as nothing, tempfile.TemporaryFile() as output:
            code = subprocess.run(command, stdin=nothing, stdout=output, stderr=output).returncode
            printed = output.seek(0, 2)
        if code or (order["silent"] and printed):
            sys.exit(1)
    os.chdir("/")
"""
_LOOK = """\
import json, os, subprocess, sys
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
for name, command in json.loads(COMMANDS).items():
    command = [sys.executable if part == "python" else part for part in command]
    try:
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=-3, stderr=-3).returncode
    except OSError:
        code = 1
    if code:
        print(name)
"""


@functools.cache
def _missing(name: str, mode: str) -> tuple[str, ...]:
    """The commands of a language that do not run in the sandbox."""
    language = LANGUAGES[name]
    looks = {
        command[0] if name != "pytest" else "pytest": [*placed[: language.words], "--version"]
        for command, placed in zip(language.commands, _placed(language, mode), strict=True)
        if not command[0].startswith("./")
    }
    script = f"COMMANDS = {json.dumps(looks)!r}\n{_LOOK}"
    (outcome,) = sandbox.run_script(script, [""], sandbox.Limits(20.0, memory=2 << 30), mode)
    return tuple(outcome.printed.split())


def _placed(language: Language, mode: str) -> list[list[str]]:
    """The commands with the places of their programs: a link (/etc/alternatives) leads nowhere in a sandbox."""
    placed = []
    for name, *rest in language.commands:
        here = None if mode == "docker" or name == "python" else shutil.which(name)
        placed.append([str(Path(here).resolve()) if here else name, *rest])
    return placed


def _template(key: str, text: str) -> jinja2.Template:
    try:
        return _JINJA.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"{key}, line {error.lineno}: {error.message}") from None


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [ProgramPasses]

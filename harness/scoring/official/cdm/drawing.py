"""Draws formulas by LaTeX, each token in its colour, and says where the tokens are.

Each formula is a page of its own, in the document of OmniDocBench 1.5 (`metrics/cdm/modules/latex2bbox_color.py`).
Several stand in one document, since LaTeX takes longer to start than to set a formula. One of which LaTeX complains, or
that could change how others are set, has a document to itself, as all have in the script.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.errors import MachineError, Undecided
from harness.scoring.official.cdm.colours import Coloured
from harness.scoring.official.cdm.matching import DrawnToken, FormulaPicture
from harness.scoring.official.cdm.names import FUNCTIONS, SPACES, WHOLE_IN_MATHS, name_group
from harness.scoring.official.cdm.render import MARK
from harness.scoring.sandbox import ENVIRONMENT, Limits, jailed, usable
from harness.scoring.sandbox.command import packages

SECONDS = 30.0
"""Of processor time for LaTeX, and again for Ghostscript, to a document; the script allows as much by the clock."""
_LIMITS = Limits(seconds=SECONDS, memory=2 << 30, space=512 << 20, files=256)
_ROOM = 2 << 30
_TOGETHER = (24, 5)
"""So many formulas at most stand in a document, at first and for those behind one that LaTeX complained of."""
_LONG = 600
_PACKAGES = "sudo apt-get install texlive-xetex texlive-latex-extra texlive-lang-chinese ghostscript fonts-noto-cjk"
_FONTS = ("Source Han Sans SC", "Noto Sans CJK SC", "FandolHei-Regular.otf")
"""The script's font for Chinese, the same one by its other name, and that of TeX Live."""
_HEAD = r"""
\documentclass[12pt]{article}
\usepackage[landscape]{geometry}
\usepackage{geometry}
\geometry{a<PAPER>paper,scale=0.98}
\pagestyle{empty}
\usepackage{amsmath}
\usepackage{upgreek}
\usepackage{amssymb}
\usepackage{xcolor}
\usepackage{xeCJK}
<FONT>
\xeCJKsetup{CJKmath=true}
\begin{document}
\makeatletter
\renewcommand*{\@textcolor}[3]{%
  \protect\leavevmode
  \begingroup
    \color#1{#2}#3%
  \endgroup
}
\makeatother
"""
_BEGIN = f"\\typeout{{{MARK}\\the\\value{{page}}}}\n"
_FORMULA = "\\begin{{displaymath}}\n{}\n\\end{{displaymath}}\n"
_TRY = "\n".join(
    f"\\IfFontExistsTF{{{font}}}{{\\typeout{{has font {number}}}}}{{}}" for number, font in enumerate(_FONTS)
)
_BRACKETED = re.compile(
    r"(?P<first>\\mathcolor\[RGB\]\{0,0,15\}\{)\\\[\}(?P<formula>.*)\\mathcolor\[RGB\]\{[0-9,]+\}\{\\\]\}", re.DOTALL
)
_COMMAND = re.compile(r"\\(?:[a-zA-Z@]+|[^a-zA-Z])")
_HARMLESS = {*FUNCTIONS, *SPACES, *WHOLE_IN_MATHS, *name_group("harmless")} - name_group("changing")


def missing(mode: str = "auto") -> str:
    """What is missing to draw formulas here, in a line with what to install; empty if nothing is. mode: of sandbox."""
    if find_spec("scipy") is None:
        return "scipy is missing: pip install 'harness-eval[documents]'"
    absent = [name for name in ("xelatex", "gs") if shutil.which(name) is None]
    if absent:
        return f"there is no command {' and no '.join(absent)}: {_PACKAGES}"
    if hidden := [name for name in ("numpy", "PIL") if not _is_shown(name)]:
        return f"the process that draws does not see {' and '.join(hidden)}, which lie in no site-packages"
    try:
        mode = usable(mode)
        _font(mode)
    except MachineError as error:
        return str(error)
    return ""


def _is_shown(package: str) -> bool:
    """Whether a package lies in one of the folders that the drawing process may read."""
    found = find_spec(package)
    place = Path(found.origin).resolve() if found is not None and found.origin else Path()
    return any(place.is_relative_to(folder) for folder in packages())


def version(mode: str) -> str:
    """What decides how formulas look, beside themselves: programs, font, document. Raises `MachineError`."""
    return "\n".join([_banner(usable(mode)), _font(usable(mode)), _HEAD, _FORMULA])


@functools.cache
def _banner(mode: str) -> str:
    """The versions of XeTeX and Ghostscript."""
    asked = subprocess.run(["gs", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return f"{_trial(mode)['log'].partition(chr(10))[0].partition(' (preloaded')[0]} Ghostscript {asked}"


@functools.cache
def _trial(mode: str) -> dict[str, Any]:
    document = f"{_HEAD.replace('<PAPER>', '5').replace('<FONT>', '')}{_TRY}\n{_pages([Coloured('x', ())])}"
    (answer,) = _answers([{"document": document, "counts": [0], "log": True}], mode)
    return answer


@functools.cache
def _font(mode: str) -> str:
    """The commands that choose a font for Chinese, after a try of all that is needed. Raises `MachineError`."""
    answer = _trial(mode)
    log = answer["log"]
    if lacking := re.search(r"File `([^']+)' not found", log):
        raise MachineError(f"LaTeX lacks {lacking[1]}: {_PACKAGES}")
    found = [font for number, font in enumerate(_FONTS) if f"has font {number}" in log]
    if len(answer["pages"] or []) != 1 or not found:
        said = re.search(r"^! (.*)", log, re.MULTILINE)
        what = "no font for Chinese" if answer["pages"] else said[1] if said else "LaTeX makes no picture"
        raise MachineError(f"formulas cannot be drawn here ({what}): {_PACKAGES}")
    return "\n".join(f"\\setCJK{kind}font{{{found[0]}}}" for kind in ("main", "sans", "mono"))


def _document(formulas: Sequence[Coloured], font: str) -> str:
    most = max(len(formula.tokens) for formula in formulas)
    paper = 3 if most > 1300 else 4 if most > _LONG else 5
    head = _HEAD.replace("<PAPER>", str(paper)).replace("<FONT>", font)
    if len(formulas) == 1:
        return f"{head}{_FORMULA.format(formulas[0].latex)}\\end{{document}}\n"
    return head + _pages(formulas)


def _pages(formulas: Sequence[Coloured]) -> str:
    pages = "".join(f"{_BEGIN}{_FORMULA.format(_without_brackets(each.latex))}\\newpage\n" for each in formulas)
    return f"{pages}{_BEGIN}\\end{{document}}\n"


def _without_brackets(latex: str) -> str:
    r"""What a formula in \[ and \] looks like inside a display, without LaTeX's complaints of these.

    The script leaves them there, and most formulas of models have them. The first sets nothing but is a subformula,
    which decides the space around a sign behind it; the last ends the display, and nothing to be seen comes behind it.
    """
    found = _BRACKETED.fullmatch(latex.strip())
    if found is None or "\\[" in found["formula"] or "\\]" in found["formula"]:
        return latex
    return f"{found['first']}\\relax}}{found['formula']}"


def drawn(formulas: Sequence[Coloured], mode: str = "auto") -> list[FormulaPicture | None]:
    """The picture of each formula; None where LaTeX makes none, or more than one page, which the script takes for none.

    mode: the sandbox in which LaTeX runs. Raises `MachineError` where it cannot run, `Undecided` where the machine gave
    it no time.
    """
    mode = usable(mode)
    font = _font(mode)
    pictures: dict[int, FormulaPicture | None] = {}
    plain = [index for index, formula in enumerate(formulas) if _is_plain(formula)]
    alone = [index for index in range(len(formulas)) if index not in plain]
    for together in _TOGETHER:
        size = min(together, max(1, -(-len(plain) // (os.cpu_count() or 1))))
        groups = [plain[start : start + size] for start in range(0, len(plain), size)]
        plain = []
        for group, answer in _each(groups, formulas, font, mode):
            whole = _whole(answer) if len(group) > 1 else 0
            for place, index in enumerate(group[:whole]):
                pictures[index] = _picture(formulas[index], answer["pages"][place])
            # What comes behind one at which LaTeX stumbled may be set in another way than alone.
            alone += group[whole : whole + 1]
            plain += group[whole + 1 :]
    for (index,), answer in _each([[index] for index in [*alone, *plain]], formulas, font, mode):
        pages = answer["pages"] or []
        pictures[index] = _picture(formulas[index], pages[0]) if len(pages) == 1 else None
    return [pictures[index] for index in range(len(formulas))]


def _whole(answer: Mapping[str, Any]) -> int:
    """How many formulas at the beginning of a document were set as they would be alone, each on its page."""
    marks, pages = answer["errors"], answer["pages"] or []
    for place in range(min(len(marks) - 1, len(pages))):
        (page, errors), (behind, _) = marks[place : place + 2]
        if errors or (page, behind) != (place + 1, place + 2):
            return place
    return max(0, min(len(marks) - 1, len(pages)))


def _is_plain(formula: Coloured) -> bool:
    """Whether it can change nothing beyond itself, and needs no larger paper."""
    commands = set(_COMMAND.findall(formula.latex))
    depth = 0
    for brace in re.findall(r"\\.|([{}])", formula.latex, re.DOTALL):
        depth += {"{": 1, "}": -1, "": 0}[brace]
        if depth < 0:
            return False
    short = len(formula.tokens) <= _LONG and depth == 0
    return short and commands <= _HARMLESS and not re.search(r"\^\s*\^|%|\n", formula.latex)


def _picture(formula: Coloured, page: Mapping[str, Any]) -> FormulaPicture:
    tokens = [DrawnToken(formula.tokens[index], tuple(box)) for index, *box in page["boxes"]]
    return FormulaPicture(page["width"], page["height"], tuple(tokens))


def _each(
    groups: Sequence[Sequence[int]], formulas: Sequence[Coloured], font: str, mode: str
) -> Iterator[tuple[Sequence[int], dict[str, Any]]]:
    """(group, answer) of each group of formulas, a document each; in as many sandboxes as there are processors."""
    jobs = []
    for group in groups:
        members = [formulas[index] for index in group]
        jobs.append({"document": _document(members, font), "counts": [len(formula.tokens) for formula in members]})
    workers = min(len(jobs), os.cpu_count() or 1)
    shares = [list(range(start, len(jobs), workers)) for start in range(workers)]
    with ThreadPoolExecutor(workers or 1) as pool:
        found = pool.map(lambda share: _answers([jobs[index] for index in share], mode), shares)
        for share, answers in zip(shares, found, strict=True):
            yield from zip([groups[index] for index in share], answers, strict=True)


def _answers(jobs: Sequence[Mapping[str, Any]], mode: str) -> list[dict[str, Any]]:
    """What the script in a sandbox answers to each job."""
    order = {
        "path": packages(),
        "xelatex": shutil.which("xelatex"),
        "gs": shutil.which("gs"),
        "seconds": SECONDS,
        "memory": _ROOM,
        "jobs": jobs,
    }
    source = (Path(__file__).parent / "render.py").read_text("utf-8")
    command = [str(Path(sys.executable).resolve()), "-I", "-S", "-X", "utf8", "-c", source]
    with tempfile.TemporaryDirectory(prefix="harness-cdm-", ignore_cleanup_errors=True) as folder:
        environment = {**ENVIRONMENT, **_tex_environment(folder if mode == "none" else "/tmp")}
        if mode == "namespaces":
            command = jailed(command, _LIMITS, folder, _tex_folders(), environment)
        elif mode != "none":
            raise MachineError(
                f"formulas are drawn in the sandbox 'namespaces' or, at your own risk, 'none', not {mode}"
            )
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(json.dumps(order).encode())
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    answers = [json.loads(line) for line in out.splitlines()]
    if len(answers) < len(jobs):
        said = err.decode("utf-8", "replace").strip().splitlines()
        raise Undecided(f"formulas were not drawn: {said[-1] if said else f'exit code {process.returncode}'}")
    return answers


def _tex_environment(folder: str) -> dict[str, str]:
    """LaTeX reads and writes below its own folder alone."""
    programs = {str(Path(found).parent) for name in ("xelatex", "gs") if (found := shutil.which(name))}
    return {
        "PATH": os.pathsep.join([*sorted(programs), ENVIRONMENT["PATH"]]),
        "HOME": folder,
        "TMPDIR": folder,
        "TEXMFVAR": f"{folder}/texmf-var",
        "TEXMFCACHE": f"{folder}/texmf-var",
        "openin_any": "p",
        "openout_any": "p",
        "MALLOC_ARENA_MAX": "2",
    }


@functools.cache
def _tex_folders() -> list[str]:
    """What LaTeX reads outside of /usr: its formats, settings and fonts."""
    names = ("TEXMFROOT", "TEXMFSYSVAR", "TEXMFSYSCONFIG", "TEXMFLOCAL")
    folders = ["/etc/texmf", "/var/lib/texmf", "/etc/fonts", "/var/cache/fontconfig", "/var/lib/ghostscript"]
    folders += ["/etc/alternatives", "/etc/paperspecs", "/etc/papersize", "/etc/ghostscript"]
    if kpsewhich := shutil.which("kpsewhich"):
        for name in names:
            asked = subprocess.run([kpsewhich, f"-var-value={name}"], capture_output=True, text=True, check=False)
            folders.append(asked.stdout.strip())
    return [path for path in dict.fromkeys(folders) if path.startswith("/") and path != "/" and Path(path).exists()]

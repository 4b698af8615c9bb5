r"""CDM, Character Detection Matching (Wang et al. 2024, arXiv 2409.03643): how alike two formulas look when drawn.

    cdm([(r"$$x^2$$", r"\[x^{2}\]")])     # [1.0]

Each token is drawn in a colour of its own and found again in the picture; tokens of both pictures are matched, and the
score is their F1. As the script of OmniDocBench 1.5 does it (`metrics/cdm_metric.py`, `metrics/cal_metric.py`), where a
formula that LaTeX cannot set scores 0, also where it is the page's own. Needs LaTeX and Ghostscript; see `missing`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from harness import files
from harness.errors import SaveError
from harness.limited import LimitedWorker
from harness.scoring.official.cdm import drawing
from harness.scoring.official.cdm.colours import Coloured
from harness.scoring.official.cdm.drawing import missing
from harness.scoring.official.cdm.matching import FormulaPicture, picture_of

__all__ = ["cdm", "missing"]

_SECONDS = 120.0
_worker = LimitedWorker("harness.scoring.official.cdm.formula_worker", "compares formulas")


def cdm(pairs: Sequence[tuple[str, str]], mode: str = "auto", folder: Path | None = None) -> list[float]:
    """The F1 of each pair of formulas (gold, given) in LaTeX, 0 to 1.

    mode: the sandbox in which LaTeX runs, as `--sandbox` says. folder: where pictures are kept, so that no formula is
    drawn twice; None keeps none. Raises `MachineError` where it cannot run, and
    `Undecided` where it was not given the time that the formulas need.
    """
    stripped = [(_stripped(gold), _stripped(given.split("```latex")[-1].split("```")[0])) for gold, given in pairs]
    formulas = list(dict.fromkeys(formula for pair in stripped for formula in pair))
    answers = _worker.ask({"formulas": formulas}, _SECONDS)["coloured"] if formulas else []
    coloured = {
        formula: None if answer is None else Coloured(answer["latex"], tuple(answer["tokens"]))
        for formula, answer in zip(formulas, answers, strict=True)
    }
    pictures = _pictures([each for each in coloured.values() if each is not None and each.tokens], mode, folder)
    scores = []
    for pair in stripped:
        gold, given = (pictures.get(each) if (each := coloured[formula]) else None for formula in pair)
        if gold is None or given is None:
            scores.append(0.0)
            continue
        scores.append(float(_worker.ask({"gold": asdict(gold), "given": asdict(given)}, _SECONDS)["f1"]))
    return scores


def _stripped(formula: str) -> str:
    return formula.strip("$").strip().strip("$").strip()


def _pictures(formulas: Sequence[Coloured], mode: str, folder: Path | None) -> dict[Coloured, FormulaPicture | None]:
    """The picture of each formula: the one that was drawn before and lies in the folder, or a new one."""
    kept: dict[Coloured, FormulaPicture | None] = {}
    paths = {} if folder is None else {formula: _path(folder, formula, mode) for formula in formulas}
    for formula, path in paths.items():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # not drawn yet, or spoilt
            found = json.loads(path.read_text("utf-8"))["picture"]
            kept[formula] = None if found is None else picture_of(found)
    new = [formula for formula in dict.fromkeys(formulas) if formula not in kept]
    for formula, picture in zip(new, drawing.drawn(new, mode) if new else (), strict=True):
        kept[formula] = picture
        if formula in paths:
            with contextlib.suppress(OSError, SaveError):  # it is drawn again, then
                paths[formula].parent.mkdir(parents=True, exist_ok=True)
                files.replace_json(paths[formula], {"picture": None if picture is None else asdict(picture)})
    return kept


def _path(folder: Path, formula: Coloured, mode: str) -> Path:
    decides = [formula.latex, formula.tokens, drawing.version(mode)]
    name = hashlib.sha256(json.dumps(decides).encode()).hexdigest()
    return folder / name[:2] / f"{name[2:]}.json"

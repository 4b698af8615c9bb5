"""Draws documents of LaTeX and finds the tokens in them by their colours. A script of its own, made for a sandbox.

Reads one JSON object: {"path": [...], "xelatex": ..., "gs": ..., "seconds": ..., "memory": ...,
"jobs": [{"document": ..., "counts": [tokens on each page]}]}, and prints a line of JSON for each job:

    pages     [{"width": ..., "height": ..., "boxes": [[index of the token, left, top, right, bottom], ...]}, ...],
              or null where there is no picture
    errors    [[the page it begins on, LaTeX's complaints], ...]: each formula that is marked
    late      whether a program was ended, by its limits or by itself
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

MARK = "a formula begins on page "
_PATIENCE = 10  # times the processor time, by the clock
_MOST_PAGES, _MOST_PIXELS = 64, 40_000_000
_FILE_SIZE = 64 << 20
_RESOLUTION, _MARGIN = 200, 8  # dots an inch, pixels; latex2bbox_color.py
_STEP, _STEPS = 15, 18  # colours.py
# What ImageMagick starts for `magick -density 200 x.pdf x.png`, but for its limit on bitmaps.
_GHOSTSCRIPT = (
    *("-q", "-dQUIET", "-dSAFER", "-dBATCH", "-dNOPAUSE", "-dNOPROMPT", "-dAlignToPixels=0", "-dGridFitTT=2"),
    *("-sDEVICE=pngalpha", "-dTextAlphaBits=4", "-dGraphicsAlphaBits=4", f"-r{_RESOLUTION}x{_RESOLUTION}"),
    *(f"-dLastPage={_MOST_PAGES}", "-sOutputFile=page-%d.png", "formula.pdf"),
)


def _run(command: list[str], order: dict[str, Any]) -> bool:
    """Run a program within the limits; whether it came to its end by itself."""
    seconds, memory = int(order["seconds"]), int(order["memory"])

    def limit() -> None:
        for kind, value in (
            (resource.RLIMIT_CPU, seconds),
            (resource.RLIMIT_FSIZE, _FILE_SIZE),
            (resource.RLIMIT_AS, memory),
            (resource.RLIMIT_CORE, 0),
        ):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(kind, (value, value))

    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=limit,
        start_new_session=True,
    )
    try:
        return process.wait(seconds * _PATIENCE) >= 0
    except subprocess.TimeoutExpired:
        raise SystemExit("the machine is too busy to draw") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _page(path: Path, count: int) -> dict[str, Any]:
    """The size of what is drawn on a page, with a margin, and the boxes of the tokens that can be seen."""
    import numpy as np
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # the limit below says so without a warning
    with Image.open(path) as file:
        if file.width * file.height > _MOST_PIXELS:
            raise ValueError("too large")
        picture = np.asarray(file.convert("RGB"))
        drawn = np.argwhere(np.asarray(file.convert("RGB").convert("L")) != 255)
    if not len(drawn):
        return {"width": 10 + 2 * _MARGIN, "height": 10 + 2 * _MARGIN, "boxes": []}
    (top, left), (bottom, right) = drawn.min(axis=0).tolist(), drawn.max(axis=0).tolist()
    shown = picture[top : bottom + 1, left : right + 1].astype(np.int32)
    exact = (shown % _STEP == 0).all(axis=2)
    rows, columns = np.nonzero(exact)
    numbers = (shown[exact] // _STEP) @ np.array([_STEPS**2, _STEPS, 1]) - 1
    boxes = []
    order = np.argsort(numbers, kind="stable")
    cuts = np.flatnonzero(np.diff(numbers[order])) + 1
    for indices in np.split(order, cuts):
        token = int(numbers[indices[0]]) if len(indices) else -1
        if 0 <= token < count:
            xs, ys = columns[indices] + _MARGIN, rows[indices] + _MARGIN
            boxes.append([token, *(int(v) for v in (xs.min() - 1, ys.min() - 1, xs.max() + 1, ys.max() + 1))])
    # The picture ends one pixel before what a margin on all sides would be: so the script crops it.
    return {"width": right - left + 2 * _MARGIN, "height": bottom - top + 2 * _MARGIN, "boxes": boxes}


def _errors(log: str) -> list[tuple[int, list[str]]]:
    """What LaTeX complained of in each formula that begins with a mark, without the numbers of lines."""
    errors: list[tuple[int, list[str]]] = []
    for line in log.splitlines():
        if line.startswith(MARK):
            errors.append((int(line.removeprefix(MARK)), []))
        elif line.startswith("!") and errors:
            errors[-1][1].append("".join(letter for letter in line if not letter.isdigit()))
    return errors


def _drawn(job: dict[str, Any], order: dict[str, Any]) -> dict[str, Any]:
    Path("formula.tex").write_text(job["document"], "utf-8")
    late = not _run([order["xelatex"], "-no-shell-escape", "-interaction=nonstopmode", "formula.tex"], order)
    log = Path("formula.log").read_text("utf-8", "replace") if Path("formula.log").exists() else ""
    answer: dict[str, Any] = {"errors": _errors(log), "late": late, "pages": None}
    if job.get("log"):
        answer["log"] = log
    if late or not Path("formula.pdf").exists():
        return answer
    answer["late"] = not _run([order["gs"], *_GHOSTSCRIPT], order)
    files = sorted(Path().glob("page-*.png"), key=lambda path: int(path.stem[5:]))
    if files and not answer["late"]:
        counts = [*job["counts"], *[0] * len(files)]
        with contextlib.suppress(OSError, ValueError):  # no picture, or one that is far too large
            answer["pages"] = [_page(path, count) for path, count in zip(files, counts, strict=False)]
    return answer


def main() -> None:
    order = json.loads(sys.stdin.buffer.read())
    sys.path += order["path"]
    for job in order["jobs"]:
        folder = tempfile.mkdtemp(prefix="cdm-")
        os.chdir(folder)
        answer = _drawn(job, order)
        os.chdir("/")
        shutil.rmtree(folder, ignore_errors=True)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

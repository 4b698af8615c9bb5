"""CDM against its authors' script, of OmniDocBench 1.5.

`cdm.json` holds what the script says of made-up material: the coloured LaTeX of formulas, the F1 of boxes, and that of
pairs of formulas that it has drawn itself.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from harness import MetricOptions, Observation, Response, Sample
from harness.scoring.official import cdm as package
from harness.scoring.official import omnidocbench_cdm
from harness.scoring.official.cdm import cdm, drawing, missing
from harness.scoring.official.cdm.colours import COLOURS, Coloured, colour, coloured
from harness.scoring.official.cdm.matching import DrawnToken, FormulaPicture, f1
from harness_plugins.metrics.documents import OmniDocBenchCdm, OmniDocBenchOverall

pytestmark = pytest.mark.skipif(find_spec("scipy") is None, reason="needs the extra `documents`")
SCRIPT = json.loads((Path(__file__).parent / "cdm.json").read_text(encoding="utf-8"))
PAGE = {
    "layout_dets": [
        {"category_type": "text_block", "anno_id": 1, "order": 1, "text": "The boat sails on the lake."},
        {"category_type": "equation_isolated", "anno_id": 2, "order": 2, "latex": "$$a^2+b^2=c^2$$"},
        {"category_type": "table", "anno_id": 3, "order": 3, "html": "<table><tr><td>a</td><td>b</td></tr></table>"},
    ],
    "extra": {},
}
REPLY = "The boat sails on the lake.\n\n$$a^2+b^3=c^2$$\n\n<table><tr><td>a</td><td>b</td></tr></table>"


def seen(row: dict[str, Any], reply: str) -> Observation:
    return Observation(Sample("t", "", 0, row, (), ""), (Response(text=reply),), predictions=(reply,))


def needs_latex(sandbox: str) -> None:
    if problem := missing(sandbox):
        pytest.skip(problem)


def test_formulas_are_taken_apart_and_coloured_as_the_script_does() -> None:
    for case in SCRIPT["formulas"]:
        found = coloured(case["latex"])
        assert (None if found is None else (found.latex, list(found.tokens))) == (
            None if case["coloured"] is None else (case["coloured"], case["tokens"])
        ), case["latex"]
    assert coloured("x\ud800") is None
    colours = [colour(index) for index in range(COLOURS)]
    assert len(set(colours)) == COLOURS
    assert not {(0, 0, 0), (255, 255, 255)} & set(colours)


def test_boxes_are_matched_as_the_script_does() -> None:
    def picture(width: int, height: int, tokens: list[Any]) -> FormulaPicture:
        return FormulaPicture(width, height, tuple(DrawnToken(name, tuple(box)) for name, box in tokens))

    for number, case in enumerate(SCRIPT["pictures"]):
        assert f1(picture(*case["gold"]), picture(*case["given"])) == case["f1"], number
    assert f1(picture(20, 20, [["x", [1, 1, 9, 9]]]), picture(20, 20, [])) == 0.0


def test_without_latex_cdm_and_the_overall_are_null_and_a_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(drawing.shutil, "which", lambda name: None)
    for metric in (OmniDocBenchCdm(), OmniDocBenchOverall()):
        metric.prepare(MetricOptions())
        assert [metric.score(seen(PAGE, REPLY)) for _ in range(2)] == [None, None]
    assert [record.getMessage() for record in caplog.records] == [
        f"{name} stays null: there is no command xelatex and no gs: sudo apt-get install texlive-xetex "
        "texlive-latex-extra texlive-lang-chinese ghostscript fonts-noto-cjk"
        for name in ("omnidocbench_cdm", "omnidocbench_overall")
    ]


def test_the_overall_is_of_text_tables_and_formulas_or_of_nothing() -> None:
    metric = OmniDocBenchOverall()
    # Two pages with text, of which one has a table, the other a formula: (0.9 + 0.7) / 2, 0.5 and 0.8.
    assert metric.from_sums((1.6, 2.0, 0.5, 1.0, 0.8, 1.0), 2) == pytest.approx((0.8 + 0.5 + 0.8) / 3)
    with pytest.raises(ValueError, match="Overall is of all three"):
        metric.from_sums((1.6, 2.0, 0.5, 1.0, 0.0, 0.0), 2)


@pytest.mark.slow
def test_drawn_formulas_score_as_the_script_scores_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needs_latex("auto")
    pairs = [(gold, given) for gold, given, _ in SCRIPT["drawn"]]
    assert cdm(pairs, folder=tmp_path) == [score for *_, score in SCRIPT["drawn"]]
    # What was drawn once is not drawn again, and what was spoilt is.
    monkeypatch.setattr(package.drawing, "drawn", lambda *_: pytest.fail("drawn again"))
    assert cdm(pairs, folder=tmp_path) == [score for *_, score in SCRIPT["drawn"]]
    monkeypatch.undo()
    for path in tmp_path.rglob("*.json"):
        path.write_text("{", encoding="utf-8")
    assert cdm(pairs[:2], folder=tmp_path) == [score for *_, score in SCRIPT["drawn"][:2]]
    # Text and table are right, and of the eight signs of the formula one is another.
    assert omnidocbench_cdm(PAGE, REPLY, folder=tmp_path) == 0.875
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    overall = OmniDocBenchOverall()
    overall.prepare(MetricOptions())
    score = overall.score(seen(PAGE, REPLY))
    assert score is not None
    assert overall.from_sums(overall.statistics(score), 1) == pytest.approx((1 + 1 + 0.875) / 3)


@pytest.mark.slow
def test_hostile_formulas_are_harmless_and_spoil_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needs_latex("none")
    monkeypatch.setattr(drawing, "SECONDS", 2.0)
    secret = tmp_path / "secret.tex"
    secret.write_text("SECRET", encoding="utf-8")
    hostile = [
        f"\\input{{{secret}}}",
        f"\\immediate\\write18{{touch {tmp_path}/written}}",
        f"\\newwrite\\w\\immediate\\openout\\w={tmp_path}/opened.tex\\immediate\\write\\w{{x}}",
        "\\def\\x{\\x}\\x",
        "\\gdef\\alpha{x}",
        "x\\]\\end{displaymath}\\end{document}",
    ]
    formulas = [Coloured(latex, ()) for latex in hostile]
    plain = [found for latex in ("\\alpha+1", "\\beta") if (found := coloured(latex))]
    pictures = drawing.drawn([*formulas, *plain], "none")
    assert pictures[-2:] == drawing.drawn(plain, "none")
    assert [len(picture.tokens) for picture in pictures[-2:] if picture] == [3, 1]
    assert pictures[3] is None  # out of time
    assert {path.name for path in tmp_path.iterdir()} <= {"secret.tex"}
    picture = pictures[0]
    assert picture is None or picture.width < 40  # nothing of the file is to be seen

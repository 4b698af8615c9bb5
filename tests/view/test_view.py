"""The viewer: what its pages say, whom they answer, and that no text of a model, a task or a row does anything."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import openpyxl
import pytest
from starlette.testclient import TestClient
from viewer_runs import HOSTILE, QUESTIONS, write_run, write_task

import harness.view
from harness import evaluate
from harness.cli.view import has_screen
from harness.errors import UsageError
from harness.run.compare import compare_runs
from harness.run.result import load_run
from harness.testing import run_harness
from harness.view import charts, tables
from harness.view.app import make_app
from harness.view.export import export_pages, export_single
from harness.view.filters import Filters
from harness.view.index import SampleIndex
from harness.view.inert_html import rich
from harness.view.notes import read_notes
from harness.view.tables import inert_cell
from harness.words import translator

HOST = "127.0.0.1:8000"
FOLDER = Path(harness.view.__file__).parent


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one task: three of four right, and two of four with one that cannot be read."""
    folder = tmp_path_factory.mktemp("viewer")
    task = write_task(folder)
    write_run(task, ["A", "B", "C", "A"], folder / "runs", "first")
    write_run(task, ["A", "C", "C", "我不知道"], folder / "runs", "second")
    for run in (folder / "runs").iterdir():
        with SampleIndex.of(run) as index:
            index.update()
    return folder / "runs"


@pytest.fixture
def client(runs: Path) -> Iterator[TestClient]:
    with TestClient(make_app([runs], "secret", [HOST]), base_url=f"http://{HOST}") as made:
        made.get("/?token=secret")
        yield made


def key_of(runs: Path, name: str) -> str:
    return next(path.name for path in runs.iterdir() if f"-{name}-" in path.name or name in path.name)


def test_every_page_answers(client: TestClient, runs: Path) -> None:
    first, second = sorted(path.name for path in runs.iterdir())
    for address, words in {
        "/": ["first", "second", "75.0", "50.0"],
        f"/run/{first}": ["Quiz", "exact_match"],
        f"/run/{first}/samples?task=quiz&kind=wrong": ["九个苹果"],
        f"/run/{first}/sample/1": ["什么是计算机网络", "as it was written"],
        f"/run/{first}/errors?task=quiz": ["not right"],
        f"/compare?run={first}&run={second}": ["baseline", "p 1.0000"],
        f"/changed?run={first}&run={second}&task=quiz&way=lost": ["量子力学"],
        "/trends?task=quiz": ["trend.svg"],
        "/leaderboard?significance=1": ["mean", "first", "second"],
    }.items():
        answer = client.get(address)
        assert answer.status_code == 200, address
        for word in words:
            assert word in answer.text, (address, word)
    for chart in ("radar.svg", "trend.svg?task=quiz", "tokens.svg"):
        assert client.get(f"/chart/{chart}").text.lstrip().startswith("<?xml")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("计算机", 1),
        ("网络", 1),
        ("计算机网", 1),
        ("机算", 0),
        ("comput", 1),
        ("COMPUTER fast", 1),
        ("不知道", 0),
        ('" OR *', 0),
        ("个", 1),
        ("?", 1),
        ("fast ?", 1),
        ("%", 0),
        ("，", 0),
        ("", 4),
    ],
)
def test_words_are_found_in_prompts_and_answers(client: TestClient, runs: Path, words: str, found: int) -> None:
    run = key_of(runs, sorted(path.name for path in runs.iterdir())[0])
    page = client.get(f"/run/{run}/samples", params={"text": words})
    assert page.status_code == 200
    assert page.text.count('<li class="sample">') == found


def test_samples_are_filtered_by_length_and_answer(client: TestClient, runs: Path) -> None:
    run = sorted(path.name for path in runs.iterdir())[1]
    for asked, found in ({"least": "2"}, 1), ({"most": "1"}, 3), ({"least": "x"}, 4), ({"answer": "C", "most": "9"}, 2):
        page = client.get(f"/run/{run}/samples", params=asked).text
        assert page.count('<li class="sample">') == found, asked


def test_a_comparison_says_what_the_command_says(client: TestClient, runs: Path) -> None:
    first, second = sorted(runs.iterdir())
    (said,) = compare_runs(first, second)
    page = client.get("/compare", params={"run": [first.name, second.name]}).text
    assert said.difference is not None and said.interval is not None
    assert f"{said.difference:+.4f} [{said.interval[0]:+.4f}, {said.interval[1]:+.4f}]" in page
    assert f"p {said.adjusted_p:.4f}" in page


def test_the_runs_that_are_compared_are_checked_among_all(client: TestClient, runs: Path) -> None:
    first, second = sorted(path.name for path in runs.iterdir())
    page = client.get(f"/compare?run={first}").text
    assert f'value="{first}" checked' in page and f'value="{second}" checked' not in page


def test_a_browser_may_tell_us_that_a_form_is_our_own(client: TestClient) -> None:
    """With `no-referrer` it says that a form's origin is `null`, and no sample could be marked."""
    assert client.get("/").headers["referrer-policy"] == "same-origin"


def test_nobody_else_gets_an_answer(runs: Path) -> None:
    with TestClient(make_app([runs], "secret", [HOST]), base_url=f"http://{HOST}") as stranger:
        assert stranger.get("/").status_code == 403
        assert stranger.get("/?token=guess").status_code == 403
        assert stranger.get("/?token=secret", headers={"host": "evil.example"}).status_code == 421
        assert stranger.get("/?token=secret", follow_redirects=False).headers["set-cookie"].count("HttpOnly") == 1
        cross = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}
        assert stranger.get("/", headers=cross).status_code == 403
        run = next(runs.iterdir()).name
        for headers in ({}, {"origin": "http://evil.example"}, {"origin": "null"}):
            assert stranger.post(f"/run/{run}/sample/1/note", headers=headers).status_code == 403
        assert stranger.get("/run/..%2F..%2Fetc/samples").status_code == 404
        assert stranger.get("/static/..%2Fapp.py").status_code == 404
        assert "script-src 'self'" in stranger.get("/").headers["content-security-policy"]


def test_hostile_text_is_shown_and_does_nothing(tmp_path: Path) -> None:
    task = write_task(tmp_path, title=HOSTILE, questions=[HOSTILE, "ok"])
    run = write_run(task, [HOSTILE, HOSTILE], tmp_path / "runs", "hostile")
    with TestClient(make_app([run], "t", [HOST]), base_url=f"http://{HOST}") as client:
        client.get("/?token=t")
        own = [
            f"/run/{run.name}{part}" for part in ("", "/samples", "/sample/1", "/errors", "/samples?text=%3Cscript%3E")
        ]
        for address in (*own, "/", "/leaderboard", "/trends", "/compare", "/run/%3Cscript%3Ealert(1)%3C%2Fscript%3E"):
            text = client.get(address).text
            assert "<script>" not in text and "<img src=x" not in text and "\x1b" not in text, address
            assert "\u202e" not in text, address
            assert 'href="javascript' not in text and "49 [a]" not in text


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        r"$\text{<script>alert(1)</script>}$",
        r"\(\href{javascript:alert(1)}{x}\)",
        "![x](http://evil.example/x.png) [x](http://evil.example) <http://evil.example>",
        "```html\n<script>alert(1)</script>\n```",
        "<details open ontoggle=alert(1)>",
        "$$" + "{" * 3000 + "$$",
        "> " * 2000 + "x",
        "[" * 3000,
        "\ud800",
    ],
)
def test_markdown_and_formulas_are_inert(text: str) -> None:
    shown = str(rich(text))
    tags = set(re.findall(r"<\s*([a-zA-Z]+)", shown))
    assert not tags & {"script", "img", "a", "details", "iframe", "svg", "style", "form", "input", "link"}, shown[:300]
    assert not re.search(r"<[^>]+\s(on\w+|href|src|style)\s*=", shown)


def test_a_note_lies_beside_the_run_and_can_be_taken_back(client: TestClient, runs: Path) -> None:
    run = sorted(runs.iterdir())[0]
    own = {"origin": f"http://{HOST}"}
    address = f"/run/{run.name}/sample/4/note"
    page = client.post(address, data={"kind": "gold", "why": "答案是 A"}, headers=own)
    assert "答案是 A" in page.text
    (note,) = read_notes(run)
    assert (note["task"], note["id"], note["kind"], note["why"]) == ("quiz", 3, "gold", "答案是 A")
    client.post(address, data={"kind": "none", "why": ""}, headers=own)
    assert read_notes(run) == []


def test_the_index_follows_a_run_that_goes_on(runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(sorted(runs.iterdir())[0], run, ignore=shutil.ignore_patterns(".view"))
    path = run / "quiz.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:40])
    with SampleIndex.of(run) as index:
        index.update()
        assert len(index) == 2
        path.write_bytes(b"")
        path.write_bytes(b"".join(lines[:2]))  # the same file, and no shorter than what is known of it
        index.update()
        with path.open("ab") as handle:
            handle.write(lines[2] + b'{"task": "quiz", "subset": "", "id": 9}\n' + lines[3] + lines[0])
        index.update()
        assert index.is_current()
        assert [sample.id for sample in index.page(Filters())] == [1, 2, 3, 0], "the last line of a sample wins"
        assert index.kinds(Filters()) == {"right": 3, "wrong": 1}
        other = tmp_path / "other.jsonl"
        other.write_bytes(lines[3])
        other.replace(path)  # written anew, as at the end of a run
        index.update()
        assert [sample.id for sample in index.page(Filters(task="quiz"))] == [3]


def test_what_a_page_reads_is_of_one_moment_while_samples_are_added(runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(sorted(runs.iterdir())[0], run, ignore=shutil.ignore_patterns(".view"))
    path = run / "quiz.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    with SampleIndex.of(run) as writing:
        writing.update()
        with SampleIndex.snapshot(run) as page:
            before = page.columns["kind"]
            with path.open("ab") as handle:
                handle.writelines(lines[2:])
            writing.update()
            assert len(before) == len(page.columns["confidence"]) == 2 and len(writing) == 4
            assert page.columns.calibration("quiz") == []
            assert [sample.id for sample in page.page(Filters())] == [0, 1]


def test_half_a_character_hides_no_sample(tmp_path: Path) -> None:
    task = write_task(tmp_path, questions=["half \ud800 here", *QUESTIONS[1:]])
    write_run(task, ["A \udfff", "B", "C", "D"], tmp_path / "runs", "half")
    assert export_pages([tmp_path / "runs"], tmp_path / "site") > 10
    assert any("half ? here" in page.read_text(encoding="utf-8") for page in (tmp_path / "site").glob("run-*"))
    with SampleIndex.of(next((tmp_path / "runs").iterdir())) as index:
        (found,) = index.page(Filters(text="half"))
        assert (found.id, found.question) == (0, "half ? here")


def test_exported_pages_say_why_a_run_cannot_be_shown(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: SampleIndex, progress: object) -> None:
        raise ValueError("this index is broken")

    run = tmp_path / "runs" / "alone"
    shutil.copytree(sorted(runs.iterdir())[0], run, ignore=shutil.ignore_patterns(".view"))
    monkeypatch.setattr(SampleIndex, "update", broken)
    export_pages([run.parent], tmp_path / "site")
    (page,) = (tmp_path / "site").glob("run-alone-p*.html")
    assert "cannot be indexed: this index is broken" in page.read_text(encoding="utf-8")
    assert page.name in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")


def test_columns_give_the_same_values_piece_by_piece(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.view.index._BATCH", 3)
    run = tmp_path / "run"
    shutil.copytree(sorted(runs.iterdir())[1], run, ignore=shutil.ignore_patterns(".view"))
    with SampleIndex.of(run) as index:
        index.update()
        assert index.connection.execute("SELECT count(*) FROM columns WHERE name = 'score'").fetchone()[0] == 2
        for places in ([0, 2, 3], [3], [], [3, 0]):
            here = np.array(places, np.int64)
            found = [index.columns.at(name, here).tolist() for name in ("id", "answer", "kind")]
            assert found == [index.columns[name][here].tolist() for name in ("id", "answer", "kind")]
            index.columns.__dict__["_read"].clear()


def test_a_run_with_a_damaged_report_still_shows_its_samples(runs: Path, tmp_path: Path) -> None:
    here = tmp_path / "damaged"
    shutil.copytree(next(path for path in sorted(runs.iterdir()) if path.is_dir()), here)
    shutil.rmtree(here / ".view", ignore_errors=True)
    (here / "report.json").write_text('{"kind":', encoding="utf-8")
    with TestClient(make_app([here], "t", [HOST]), base_url=f"http://{HOST}") as client:
        client.get("/?token=t")
        page = client.get("/run/damaged")
        assert page.status_code == 200 and "report.json: cannot be read" in page.text
        assert "no report yet" not in page.text
        assert client.get("/run/damaged/sample/1").status_code == 200


def test_samples_that_are_gone_from_the_files_are_told_of(runs: Path, tmp_path: Path) -> None:
    here = tmp_path / "cut"
    shutil.copytree(next(path for path in sorted(runs.iterdir()) if path.is_dir()), here)
    shutil.rmtree(here / ".view", ignore_errors=True)
    with TestClient(make_app([here], "t", [HOST]), base_url=f"http://{HOST}") as client:
        client.get("/?token=t")
        assert "the report is of" not in client.get("/run/cut").text
    lines = [file for file in here.glob("*.jsonl") if file.name != "prompts.jsonl"]
    n = sum(len(file.read_bytes().splitlines()) for file in lines)
    for file in lines:
        file.write_text("")
    shutil.rmtree(here / ".view", ignore_errors=True)
    with TestClient(make_app([here], "t", [HOST]), base_url=f"http://{HOST}") as client:
        client.get("/?token=t")
        assert f"the report is of {n} samples, of which {n} are not in the files" in client.get("/run/cut").text


def test_a_sample_whose_prompt_is_lost_is_named_and_hides_no_other_page(runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "damaged"
    shutil.copytree(next(path for path in sorted(runs.iterdir()) if path.is_dir()), run)
    shutil.rmtree(run / ".view", ignore_errors=True)
    for file in run.glob("*.jsonl"):
        file.write_text(file.read_text("utf-8").replace('"prompt": {', '"prompt": {"prefix": "lost", '), "utf-8")
    assert export_pages([run.parent], tmp_path / "site") > 5
    pages = [page.read_text(encoding="utf-8") for page in (tmp_path / "site").glob("run-*-sample-*.html")]
    assert pages and all("this sample cannot be read: its shared prompt" in page for page in pages)


def test_the_viewer_speaks_chinese() -> None:
    said = set()
    for template in (*(FOLDER / "templates").iterdir(), FOLDER.parent / "record" / "parts.html.j2"):
        said |= set(re.findall(r'\bt\("([^"]+)"', template.read_text(encoding="utf-8")))
    own = {", "}
    chinese = translator("zh")
    missing = [text for text in said - own if not re.search("[\u4e00-\u9fff]", chinese(text))]
    assert not missing, f"words.zh.yaml lacks {missing}"


def test_the_pages_can_be_written_as_files_that_lead_to_one_another(runs: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert export_pages([runs], site) > 10
    names = {path.name for path in site.iterdir()}
    for path in site.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "<script" not in text and "<form" not in text
        linked = {link.split("#")[0] for link in re.findall(r'(?:href|src|srcset)="([^"]+)"', text)} - {"data:,", ""}
        assert linked <= names, (path.name, linked - names)
    assert any("九个苹果" in path.read_text(encoding="utf-8") for path in site.glob("*sample*.html"))
    with pytest.raises(UsageError, match="already"):
        export_pages([runs], site)
    whole = tmp_path / "one.html"
    export_single([runs], whole)
    text = whole.read_text(encoding="utf-8")
    marks = set(re.findall(r'<section class="page" id="(p[0-9a-f]+)"', text))
    assert marks and set(re.findall(r'href="#(p[0-9a-f]+)"', text)) <= marks
    assert not re.search(r'(?:href|src|srcset)="(?!#|data:)[^"]', text)


def test_results_are_written_for_papers_and_sheets(runs: Path, tmp_path: Path) -> None:
    first, second = (load_run(path).report for path in sorted(runs.iterdir()))
    assert first and second
    both = {"甲": first, "=2+3": second}
    assert "| 甲 | quiz | exact_match | " in tables.text(both, "markdown")
    assert r"exact\_match" in tables.text(both, "latex") and r"\bottomrule" in tables.text(both, "latex")
    rows = list(csv.DictReader(tables.text(both, "csv").splitlines()))
    assert {float(row["value"]) for row in rows} == {0.75, 0.5}
    assert rows[1]["run"] == "'=2+3", "no cell of a sheet is a formula"
    tables.write(both, "xlsx", tmp_path / "r.xlsx")
    sheet = openpyxl.load_workbook(tmp_path / "r.xlsx").active
    assert [cell.value for cell in sheet[1]][:3] == ["run", "task", "metric"] and sheet["D2"].value in (0.75, 0.5)
    for form, begins in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        tables.write(both, form, tmp_path / f"r.{form}")
        assert (tmp_path / f"r.{form}").read_bytes().startswith(begins)
    assert "%" in tables.text(both, "badge")


def test_a_letter_that_no_font_has_is_said_in_one_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    name = "\U000e0041\U00013000\u7532"  # of which no machine has all

    for form in (charts.svg, charts.png):
        caplog.clear()
        assert form(charts.bars({"a": [(name, 0.5, None)]}))
        assert [record.message for record in caplog.records if "font" in record.message] == [
            "a chart has boxes for letters that no installed font has; Noto Sans CJK SC has Chinese ones"
        ]


def test_a_hostile_name_is_a_text_in_every_form(runs: Path, tmp_path: Path) -> None:
    report = load_run(sorted(runs.iterdir())[0]).report
    assert report
    name = f"=cmd|' /C calc'!A0 {HOSTILE}\n\\input{{x}} % $x$ [a] \ud800 \\"
    report["tasks"][0]["task"] = report["tasks"][0]["title"] = name
    both = {name: report, "[*": report}
    markdown, latex = tables.text(both, "markdown"), tables.text(both, "latex")
    assert "<" not in markdown and "[a](" not in markdown and len(markdown.splitlines()) == 4
    assert all(len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 6 for row in markdown.splitlines()[2:])
    assert r"\input" not in latex and r"\textbackslash{}input\{x\}" in latex and r"\% \$x\$" in latex
    assert "\n{[}{*} & " in latex
    cells = [cell for row in csv.reader(tables.text(both, "csv").splitlines()) for cell in row]
    assert not any(cell.startswith(("=", "@", "\n")) for cell in cells)
    assert inert_cell(" \n=1+1").startswith("'")
    for form in tables.FORMS:
        tables.write(both, form, tmp_path / f"r.{form}")
    for form in ("badge", "svg"):
        ElementTree.fromstring((tmp_path / f"r.{form}").read_bytes())
    book = openpyxl.load_workbook(tmp_path / "r.xlsx").active
    assert all(cell.data_type != "f" for row in book for cell in row)


def test_what_is_gained_goes_by_the_direction_of_the_metric(tmp_path: Path) -> None:
    task = write_task(tmp_path)
    task.write_text(task.read_text().replace("metric: exact_match", "metric: exact_match, higher_is_better: false"))
    first = write_run(task, ["A", "B", "C", "A"], tmp_path / "runs", "first").name
    second = write_run(task, ["A", "C", "C", "D"], tmp_path / "runs", "second").name
    with TestClient(make_app([tmp_path / "runs"], "t", [HOST]), base_url=f"http://{HOST}") as client:
        client.get("/?token=t")
        asked = {"run": [first, second], "task": "quiz"}
        assert "量子力学" in client.get("/changed", params={**asked, "way": "won"}).text
        assert "九个苹果" in client.get("/changed", params={**asked, "way": "lost"}).text


def test_runs_of_one_name_all_stand_in_a_table(runs: Path) -> None:
    one = str(sorted(runs.iterdir())[0])
    table = run_harness("report", one, one, one, one, "--format", "csv").stdout
    assert len({row["run"] for row in csv.DictReader(table.splitlines())}) == 4


def test_no_run_no_subset_and_no_cause_is_left_out(runs: Path, tmp_path: Path) -> None:
    """Lists once ended after eleven runs and forty subsets, and did not say so."""
    first = sorted(runs.iterdir())[0]
    names = [f"run {number}" for number in range(13)]
    for name in names:
        shutil.copytree(first, tmp_path / name, ignore=shutil.ignore_patterns(".view"))
    path = tmp_path / names[0] / "quiz.jsonl"
    record = json.loads(path.read_bytes().splitlines()[3])
    lines = [json.dumps({**record, "subset": f"subset {n}", "id": n}) for n in range(401)]
    lines += [json.dumps({**record, "id": 600 + n, "error": f"cause {n} of kind A"}) for n in range(3)]
    lines += [json.dumps({**record, "id": 500 + n, "error": f"cause {n} of kind {chr(65 + n)}"}) for n in range(10)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with TestClient(make_app([tmp_path], "t", [HOST]), base_url=f"http://{HOST}") as client:
        client.get("/?token=t&lang=en")
        page = client.get("/run/run%200/errors", params={"task": "quiz", "lang": "en"}).text
        for _ in range(50):
            if "data-indexing" not in page:
                break
            page = client.get("/run/run%200/errors", params={"task": "quiz", "lang": "en"}).text
        assert all(f">subset <wbr>{n}<" in page or f">subset {n}<" in page for n in range(401))
        assert "2 with other causes" in page and ">4</span> × cause 0 of kind A" in page
        shown = client.get("/run/run%200/sample/402", params={"lang": "en"}).text
        assert shown.count("cause 0 of kind A") == 1
        page = client.get("/compare", params={"run": names[1:], "lang": "en"}).text
        head = page.partition("<thead>")[2].partition("</thead>")[0]
        assert all(f"/run/{name.replace(' ', '%20')}" in head for name in names[1:])
        ranked = client.get("/leaderboard", params={"run": names[1:], "significance": 1, "lang": "en"})
        assert ranked.status_code == 200


def test_neighbours_of_one_task_have_the_p_value_of_their_comparison(client: TestClient, runs: Path) -> None:
    first, second = sorted(runs.iterdir())
    (said,) = compare_runs(first, second)
    page = client.get("/leaderboard", params={"significance": 1, "lang": "en"}).text
    assert f">{said.p_value:.4f}<" in page and "of the one task" in page


def ranked(folder: Path) -> list[list[str]]:
    """The rows of the leaderboard of some runs, as its CSV has them."""
    with TestClient(make_app([folder], "secret", [HOST]), base_url=f"http://{HOST}") as client:
        client.get("/?token=secret")
        return [line[:1] + line[2:] for line in csv.reader(client.get("/leaderboard.csv").text.splitlines())]


def test_two_models_of_one_name_are_two_rows_of_the_leaderboard(tmp_path: Path) -> None:
    """A value of one beside a value of the other, and a mean over both, would be those of no model."""
    first, second = write_task(tmp_path / "a"), write_task(tmp_path / "b", name="other")
    evaluate("dummy", {"mode": "gold"}, [first], output=tmp_path / "runs")
    evaluate("dummy", {"mode": "fixed", "text": "A"}, [second], output=tmp_path / "runs")
    evaluate("dummy", {"mode": "gold"}, [second], output=tmp_path / "runs", limit=4)
    head, *rows = ranked(tmp_path / "runs")
    assert head == ["model", "other", "quiz"]
    assert sorted(rows) == [["dummy, mode=fixed, text=A", "0.25", ""], ["dummy, mode=gold", "1.0", "1.0"]]


def test_runs_that_were_given_one_name_are_one_row_of_the_leaderboard(tmp_path: Path) -> None:
    first, second = write_task(tmp_path / "a"), write_task(tmp_path / "b", name="other")
    evaluate("dummy", {"mode": "gold"}, [first], output=tmp_path / "runs", name="mine")
    evaluate("dummy", {"mode": "fixed", "text": "A"}, [second], output=tmp_path / "runs", name="mine")
    assert ranked(tmp_path / "runs")[1:] == [["mine", "0.25", "1.0"]]


def test_a_small_p_value_is_not_0_on_any_page(tmp_path: Path) -> None:
    task = write_task(tmp_path, questions=[f"question {n}" for n in range(40)])
    for name, text in (("gold", "{answer}"), ("fixed", "no")):
        evaluate("dummy", {"mode": "gold", "text": text}, [task], output=tmp_path / "runs", name=name)
    fixed, gold = sorted(path.name for path in (tmp_path / "runs").iterdir())
    with TestClient(make_app([tmp_path / "runs"], "secret", [HOST]), base_url=f"http://{HOST}") as client:
        client.get("/?token=secret")
        for address in (f"/compare?run={fixed}&run={gold}", "/leaderboard?significance=1"):
            page = client.get(f"{address}&lang=en").text
            assert "&lt;0.0001" in page and "0.0000" not in page, address


def test_a_browser_is_opened_where_there_is_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    assert not has_screen()
    monkeypatch.setenv("DISPLAY", ":0")
    assert has_screen()


def test_a_value_says_of_how_many_samples_it_is(client: TestClient, runs: Path, tmp_path: Path) -> None:
    run = sorted(runs.iterdir())[0]
    assert "n = 4<" in client.get(f"/run/{run.name}").text
    shutil.copytree(run, tmp_path / "partly")
    report = json.loads((run / "report.json").read_text("utf-8"))
    report["tasks"][0]["metrics"][0]["n"], report["tasks"][0]["counts"]["failed"] = 3, 1
    (tmp_path / "partly" / "report.json").write_text(json.dumps(report), "utf-8")
    with TestClient(make_app([tmp_path / "partly"], "t", [HOST]), base_url=f"http://{HOST}") as other:
        other.get("/?token=t")
        assert "n = 3 / 4<" in other.get("/run/partly").text

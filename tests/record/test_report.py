"""The report: as data, as a table, as a page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from record_samples import MANIFEST, make_record, open_run
from rich.cells import cell_len

from harness import Media, Message, MetricResult, Prompt, Record, Response
from harness.record.codec import jsonable
from harness.record.console_table import summary_text
from harness.record.html import first_line, kind_of, report_html
from harness.record.report import build_report
from harness.record.result_rows import number
from harness.record.usage import Usage, watch
from harness.testing import run_harness
from harness.types import Counts, Result


def metric(value: float | None, n: int = 20, name: str = "acc", **fields: Any) -> MetricResult:
    known = {"stderr": 0.1, "interval": (value - 0.2, value + 0.2)} if value is not None else {}
    return MetricResult(name, value, n, **{**known, **fields})


TIMES = {"started": "2026-08-01T10:00:00.000+08:00", "finished": "2026-08-01T10:00:12.500+08:00"}
TIMED = {**MANIFEST, "sessions": [{"started": "2026-07-31T10:00:00.000+08:00"}, TIMES]}


def results(counts: Counts = Counts(40, 1, 2)) -> list[Result]:  # noqa: B008
    return [
        Result("law", "civil", "subset", Counts(20, 1), (metric(0.5), metric(0.4, name="acc_norm")), title="民法"),
        Result("law", "criminal", "subset", Counts(20), (metric(0.7), metric(0.6, name="acc_norm")), title="刑法"),
        Result("law", "all of it", "group", Counts(40), (metric(0.6, 40), metric(0.5, 40, "acc_norm")), "micro"),
        Result("law", "all of it", "group", Counts(40), (metric(0.61, 40), metric(0.5, 40, "acc_norm")), "macro"),
        Result("law", "law", "task", counts, (metric(0.62, 40), metric(0.5, 40, "acc_norm")), "micro"),
        Result("law", "law", "task", counts, (metric(0.63, 40), metric(0.5, 40, "acc_norm")), "macro"),
        Result("ppl", "ppl", "task", Counts(9), (metric(12345.678, 9, "word_perplexity", higher_is_better=False),)),
    ]


def test_the_report_holds_every_number(tmp_path: Path) -> None:
    report = build_report(TIMED, results())
    law, ppl = report["tasks"]
    assert (law["task"], law["num_fewshot"], law["average"]) == ("law", 5, "micro")
    assert law["counts"] == {"n": 40, "failed": 1, "unparsed": 2, "truncated": 0, "empty": 0, "cut": 0, "refused": 0}
    assert [(m["metric"], m["value"], m["n"]) for m in law["metrics"]] == [("acc", 0.62, 40), ("acc_norm", 0.5, 40)]
    assert law["metrics"][0]["interval"] == pytest.approx([0.42, 0.82])
    assert {name: found[0]["value"] for name, found in law["by_average"].items()} == {"micro": 0.62, "macro": 0.63}
    assert [(s["name"], s["title"], s["metrics"][0]["value"]) for s in law["subsets"]] == [
        ("civil", "民法", 0.5),
        ("criminal", "刑法", 0.7),
    ]
    assert [(g["name"], g["metrics"][0]["value"]) for g in law["groups"]] == [("all of it", 0.6)]
    assert (ppl["subsets"], ppl["groups"], ppl["average"]) == ([], [], None)
    assert report["seconds"] == 12.5
    assert report["command"] == TIMED["command"]
    assert json.loads(json.dumps(report)) == report


def test_the_report_says_what_the_answers_cost() -> None:
    answers = (Response(prompt_tokens=100, completion_tokens=7, seconds=0.5), Response(prompt_tokens=50, truncated=3))
    usage: dict[str, Usage] = {}
    records = [make_record(1, responses=answers), make_record(2, responses=answers)]
    assert list(watch(records, usage)) == records
    report = build_report(MANIFEST, results(), usage)
    assert report["tasks"][0]["usage"] == {
        "prompt_tokens": 300,
        "completion_tokens": 14,
        "reasoning_tokens": 0,
        "cached_tokens": 0,
        "replies_without_tokens": 0,
        "answers": 0,
        "truncated_tokens": 6,
        "seconds": 1.0,
    }
    assert report["tasks"][1]["usage"]["prompt_tokens"] == 0


def test_the_table_names_values_and_doubts() -> None:
    lines = summary_text(build_report(MANIFEST, results()), 120).splitlines()
    assert lines[0].split() == ["task", "metric", "value", "stderr", "95%", "interval", "n", "failed", "unparsed"]
    assert lines[1].split() == ["law", "acc,", "micro", "0.6200", "0.1000", "0.4200", "..", "0.8200", "40", "1", "2"]
    assert lines[3].split()[:3] == ["acc,", "macro", "0.6300"]
    assert lines[4].split()[:5] == ["all", "of", "it", "acc,", "micro"]
    assert lines[5].split()[-5:] == ["12345.7", "0.1000", "12345.5", "..", "12345.9", "9"][-5:]
    assert "less is better" in lines[5]


def test_a_column_of_doubt_is_there_only_where_there_is_doubt() -> None:
    certain = [Result("t", "t", "task", Counts(40), (metric(0.6),))]
    assert not re.search("failed|unparsed|truncated|empty", summary_text(build_report({}, certain), 200))


@pytest.mark.parametrize("width", [60, 70, 80, 100, 200])
def test_the_table_fits_and_loses_no_doubt(width: int) -> None:
    text = summary_text(build_report(MANIFEST, results(Counts(40, 1, 2, 3, 4))), width)
    assert max(map(cell_len, text.splitlines())) <= width
    for word in ("failed", "unparsed", "truncated", "empty", "0.6200", "law", "word_perplexity"):
        assert word in text


def test_columns_stand_under_each_other_beside_chinese_titles() -> None:
    names = ("法学", "law", "计算机网络")
    found = [Result("t", name, "group", Counts(20), (metric(0.5),), "micro", title=name) for name in names]
    lines = summary_text(build_report({}, [*found, Result("t", "t", "task", Counts(60), (metric(0.5),))]), 100)
    places = {cell_len(line[: line.index("0.5000")]) for line in lines.splitlines()[1:]}
    assert len(places) == 1


def test_a_task_without_a_single_scored_sample_shows_that() -> None:
    (line,) = summary_text(build_report({}, [Result("t", "t", "task", Counts(3, 3), (metric(None, 0),))])).splitlines()[
        1:
    ]
    assert line.split() == ["t", "acc", "-", "-", "-", "0", "3"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.61324, "0.6132"), (None, "-"), (12345.678, "12345.7"), (-1234567.0, "-1.23457e+06"), (float("inf"), "inf"),
     ("Infinity", "inf"), ("NaN", "nan"), (0, "0.0000"), (1, "1.0000")],
)  # fmt: skip
def test_a_value_is_shown_the_same_way_everywhere(value: Any, shown: str) -> None:
    assert number(value) == shown


def test_an_infinite_perplexity_is_shown_again_from_disk() -> None:
    report = build_report({}, [Result("t", "t", "task", Counts(3), (metric(float("inf"), 3, interval=None),))])
    assert "inf" in summary_text(jsonable(report))
    assert "inf" in report_html(jsonable(report), [])


class Page(HTMLParser):
    """The text and the tags of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data: str) -> None:
        self.text += data


EVIL = '</pre><script>alert("1")</script><img src=x onerror=alert(1)>\'"{{ 7*7 }}{% raw %}'


def evil_record(**fields: Any) -> Record:
    known: dict[str, Any] = {
        "subset": EVIL,
        "doc": {EVIL: EVIL},
        "prompt": Prompt(
            messages=(Message("system", EVIL), Message("user", (EVIL, Media("image", "ab" * 32, b"")))),
            shared_messages=1,
            prefill=EVIL,
        ),
        "target": EVIL,
        "choices": (),
        "responses": (Response(text=EVIL, reasoning=EVIL, finish_reason="length", truncated=2), Response(error=EVIL)),
        "scores": {"acc": 0.0, EVIL: None},
        "answers": {EVIL: (EVIL, None)},
        "error": EVIL,
    }
    return make_record(1, **{**known, **fields})


def test_nothing_that_a_model_says_becomes_part_of_the_page() -> None:
    evil = [Result(*(r.task, r.name, r.level, r.counts, r.metrics, r.average), title=EVIL) for r in results()]
    report = build_report({"command": EVIL, "model": {"name": EVIL}}, evil)
    page = Page(report_html(report, [evil_record(), evil_record(error=None, choices=(EVIL, EVIL))]))
    assert not {"script", "img", "iframe", "link", "object"} & set(page.tags)
    assert not [value for name, value in page.attributes if name.startswith("on")]
    assert page.text.count(EVIL) > 10


def test_the_page_needs_no_network() -> None:
    html = report_html(build_report(MANIFEST, results()), [make_record(n) for n in range(9)])
    assert not re.search(r"https?://|//[a-z]|url\(|@import|src=", html)


def test_the_page_shows_the_table_the_bars_and_the_samples() -> None:
    wrong = make_record(1, scores={"acc": 0.0})
    page = Page(report_html(build_report(TIMED, results()), [wrong, make_record(2, error="HTTP 500")]))
    for text in ("0.6200", "民法", "刑法", "HTTP 500", "问题 1\r\n答案:".replace("\r\n", "\n"), "-0.3333", "12 s"):
        assert text in page.text.replace("\r\n", "\n"), text
    assert page.text.index("HTTP 500") < page.text.index("问题 1")


def test_the_page_stays_small_however_many_samples_there_are() -> None:
    long = "长" * 100_000
    records = (
        make_record(n, scores={"acc": float(n % 2)}, responses=(Response(text=long),), doc={"x": long})
        for n in range(1000)
    )
    html = report_html(build_report(MANIFEST, results()), records)
    assert html.count('<details class="sample') == 32
    assert len(html) < 1_000_000
    assert "characters not shown" in html


def test_many_tasks_share_the_page() -> None:
    many = [Result(f"t{n}", f"t{n}", "task", Counts(50), (metric(0.5),)) for n in range(100)]
    records = [make_record(n, task=f"t{t}", scores={"acc": float(n % 2)}) for t in range(100) for n in range(50)]
    html = report_html(build_report({}, many), records)
    assert html.count('<details class="sample') <= 600
    assert (
        html.index('<nav class="contents many"') < html.index('<a href="#samples">') < html.index('<a href="#task-1">')
    )


def test_samples_are_drawn_from_every_subset_however_large_one_is() -> None:
    subsets = ["large", *(f"small{n}" for n in range(15))]
    found = [Result("t", name, "subset", Counts(9), (metric(0.5),), title=name) for name in subsets]
    found.append(Result("t", "t", "task", Counts(900), (metric(0.5),)))
    rows = [("large", n) for n in range(800)] + [(name, n) for name in subsets[1:] for n in range(2)]
    records = [make_record(n, task="t", subset=name, scores={"acc": 0.0}) for name, n in rows]
    shown = Page(report_html(build_report({}, found), records)).text
    counts = [len(re.findall(rf"{name}\s+\d+\n?\s*问题", shown)) for name in subsets]
    assert sum(counts) == 24 and min(counts) == 1 and max(counts) == 2


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Which  of these?\nA. one\nB. two", "Which of these?"),
        ("\nQuestion:\n\nWho wrote it?\nA. x", "Question: Who wrote it?"),
        ("题目：\n下列关于网络的说法正确的是？\nA. 一", "题目： 下列关于网络的说法正确的是？"),
        ("x" * 900, "x" * 120),
        ("", ""),
    ],
)
def test_a_list_shows_the_first_line_of_a_question(text: str, line: str) -> None:
    assert first_line(text, 120) == line


@pytest.mark.parametrize(("golds", "said"), [("11?", "1 of 3"), ("???", "3 of 3"), ("111", "")])
def test_answered_samples_without_a_score_are_told_of(golds: str, said: str, tmp_path: Path) -> None:
    rows = [{"q": f"q{n}", "a": None if gold == "?" else gold} for n, gold in enumerate(golds)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = 'task: hidden\ndataset_path: rows.jsonl\ntest_split: test\ndoc_to_text: "{{ q }}"\ndoc_to_target: a\n'
    (tmp_path / "hidden.yaml").write_text(f"{task}metric_list: [{{metric: exact_match}}]\n")
    flags = ("--model", "dummy", "--output", str(tmp_path / "runs"))
    done = run_harness("--tasks", str(tmp_path / "hidden.yaml"), *flags)
    words = f"hidden: {said} answered samples have no exact_match: their gold is hidden, or it is not about them"
    (page,) = tmp_path.rglob("report.html")
    shown = done.stdout.replace("\n", " "), page.read_text(encoding="utf-8")
    assert all((words in text) is bool(said) and ("answered samples" in text) is bool(said) for text in shown)


def test_lone_surrogates_do_not_stop_the_report(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write(
            make_record(1, responses=(Response(text="\ud800 x", error="\udfff"),), choices=(), scores={"acc": 0.0})
        )
        run.finish("finished", build_report({"command": "\ud800"}, results()))
        assert "? x" in (run.path / "report.html").read_text(encoding="utf-8")
        assert run.report is not None


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"error": "x", "scores": {"acc": 1.0}}, "failed"),
        ({"unparsed": True, "scores": {"acc": 0.0}}, "unparsed"),
        ({"scores": {"acc": 0.0}}, "wrong"),
        ({"scores": {"acc": 1.0}}, "right"),
        ({"scores": {"acc": 0.4}}, "partial"),
        ({"scores": {"acc": 17.0}}, "partial"),
        ({"scores": {"acc": (1.0, 2.0)}}, "partial"),
        ({"scores": {"acc": None}}, "unscored"),
        ({"scores": {}}, "unscored"),
    ],
)
def test_the_kind_of_a_sample(fields: dict[str, Any], kind: str) -> None:
    assert kind_of(make_record(1, **fields), "acc") == kind


def test_the_page_draws_confidence_against_accuracy() -> None:
    sure = [make_record(n, scores={"acc": 1.0, "ece": (0.95, float(n > 0))}) for n in range(4)]
    unsure = [make_record(n + 4, scores={"acc": 0.0, "ece": (0.3, 0.0)}) for n in range(2)]

    html = report_html(build_report(MANIFEST, results()), [*sure, *unsure, make_record(9)])

    assert "4 samples, 95.0% sure, 75.0% right" in html
    assert "2 samples, 30.0% sure, 0.0% right" in html
    assert "<td>20% .. 30%</td>" in html
    assert "confidence and accuracy" not in report_html(build_report(MANIFEST, results()), [make_record(1)])


def test_where_all_samples_score_alike_there_is_no_spread_to_show_and_chance_has_no_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = (
        "task: t\ndataset_path: rows.jsonl\ntest_split: test\noutput_type: multiple_choice\n"
        'doc_to_text: "{{ q }}\\nA. {{ A }}\\nB. {{ B }}\\n"\ndoc_to_choice: [A, B]\ndoc_to_target: "{{ a }}"\n'
        "options: {columns: [A, B], answer: a, question: q}\nmetric_list: [{metric: acc}]\n"
    )
    (tmp_path / "t.yaml").write_text(task, encoding="utf-8")
    rows = [{"q": f"q{n}", "A": "x", "B": "y", "a": "AB"[n % 2]} for n in range(10)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    gold = ("--tasks", "t.yaml", "--model", "dummy", "--model_args", "mode=gold")
    table = run_harness(*gold).stdout
    assert re.search(r"^t +acc +1\.0000 +- +0\.7225 \.\. 1\.0000 +10$", table, re.MULTILINE)
    table = run_harness(*gold, "--modify", "no_question").stdout
    assert re.search(r"chance +0\.5000 +- +- +10$", table, re.MULTILINE)
    table = run_harness(*gold, "--modify", "circular").stdout
    assert "kept_order" not in table

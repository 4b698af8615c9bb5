"""`harness live`: from pages to a scored table, and what each stage leaves out."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Asked, Reply, ScriptedServer, chat, error
from site_of_forty import Answer, Site, forty_pages

from harness.errors import TaskError, UsageError
from harness.live.capture import CaptureSpec, capture
from harness.live.checking import passed_questions
from harness.live.folder import LiveFolder
from harness.live.forms import FOLDER, find_form
from harness.live.publish import publish
from harness.live.review import decide
from harness.live.web import LeftOutError, Web, decoded
from harness.registry import load_plugins
from harness.retry import RetryPolicy
from harness.testing import run_harness

TALK = "Sure! Let me think about that."


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_RETRY_DELAY", "0")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    scripted.answer = says
    yield scripted
    scripted.close()


@pytest.fixture
def site() -> Iterator[Site]:
    pytest.importorskip("trafilatura")
    pytest.importorskip("feedparser")
    pytest.importorskip("protego")
    made = forty_pages()
    yield made
    made.close()


def says(asked: Asked) -> Reply:
    """Writer, checker, two judges and the measured model, told apart by what they are asked for."""
    turns = asked.body["messages"]
    first, model = "\n".join(str(turn["content"]) for turn in turns if turn["role"] == "user"), asked.body["model"]
    found = re.search(r"(?:river number |第)(\d+)", first)
    number = int(found[1]) if found else 0
    is_chinese = number in range(21, 27)
    right = f"{1000 + number}册" if is_chinese else f"{400 + number} metres"
    if '"criteria"' in first:
        return chat(written(number, right, is_chinese, len(turns) > 2))
    if '"answerable"' in first:
        reply = {"answerable": number != 7, "answer": "as long as a day" if number == 8 else right}
        return chat(TALK if number == 12 else json.dumps(reply, ensure_ascii=False))
    if '"first_same"' in first:
        reply = {"reason": "so", "first_same": "as long as a day" not in first, "second_same": number == 10}
        return chat(TALK if number == 11 else json.dumps({**reply, "trivial": number == 9}))
    if '"score"' in first:
        score = 10 if model == "judge_a" else 9
        if number == 14 and model == "judge_b":
            return chat(TALK)
        return chat(json.dumps({"reason": "so", "score": 1 if number == 13 and model == "judge_a" else score}))
    if '"answer"' in first:
        return chat(json.dumps({"answer": "I do not know."}))
    return chat(right)


def written(number: int, right: str, is_chinese: bool, again: bool) -> str:
    if number == 2 or (number == 3 and not again):
        return TALK
    asks = f"第{number}图书馆藏书多少册？" if is_chinese else f"How long is the bridge over river number {number}?"
    if number == 6:
        asks = "How long is the bridge over river  number 5"
    answer = " " if number == 4 else right
    return json.dumps({"question": asks, "answer": answer, "criteria": f"- It says {right}.\n2. It has a unit."})


def model(server: ScriptedServer, name: str = "small") -> str:
    return f"model={name},base_url={server.url},num_concurrent=4,retry_delay=0.001,api_key=sk-hidden-key"


def stage(*words: str, code: int = 0) -> Any:
    done = run_harness("live", *words)
    assert done.exit_code == code, done.output
    return done


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def the_whole_way(site: Site, server: ScriptedServer, to: str) -> dict[str, Any]:
    """All that comes out of it but moments and hashes of runs."""
    stage("capture", f"{site.url}/feed.xml", "--after", "2026-05", "--pause", "0", "--to", to)
    asked = ("--model", "openai", "--model_args")
    stage("write", to, "--questions", "1", *asked, model(server, "writer"))
    stage("check", to, *asked, model(server, "checker"))
    stage("publish", to, "--name", "news")
    judges = [part for name in ("judge_a", "judge_b") for part in ("--judge", f"openai,{model(server, name)}")]
    table = stage("measure", to, *asked, model(server), *judges, "--output", f"{to}/runs").stdout
    files = {
        name: lines(f"{to}/{name}.jsonl") for name in ("pages", "questions", "checks", "task/news_en", "task/news_zh")
    }
    tasks = {path.name: path.read_text(encoding="utf-8") for path in Path(to, "task").glob("*.yaml")}
    (report,) = Path(to, "runs").glob("*/report.json")
    scores = [
        (task["task"], task["metrics"][0]["value"], task["metrics"][0]["n"])
        for task in json.loads(report.read_text(encoding="utf-8"))["tasks"]
    ]
    return {"files": files, "tasks": tasks, "scores": scores, "table": table}


@pytest.mark.slow
def test_forty_pages_become_a_scored_table_twice_with_the_same_result(site: Site, server: ScriptedServer) -> None:
    first = the_whole_way(site, server, "a")
    manifest = json.loads(Path("a/live.json").read_text(encoding="utf-8"))
    assert manifest["capture"]["pages"] == 27
    assert manifest["capture"]["left_out"] == {
        "robots.txt forbids it": 3,
        "there is no such page": 2,
        "its server gives no page": 1,
        "no text": 1,
        "larger than 4 MB": 1,
        "more than 5 redirects": 1,
        "the same as another page": 1,
        "no page of text": 1,
        "published too early": 1,
        "it carries no date": 1,
    }
    assert "/private/28" not in site.asked and "/private/30" not in site.asked and "/news/29.print" not in site.asked
    texts = "\n".join(page.get("text", "") for page in first["files"]["pages"])
    for noise in ("golden shoes", "金色皮鞋", "All rights", "About us"):
        assert noise not in texts
    assert "馆内藏书1026册" in texts  # GBK that calls itself GB2312
    assert manifest["write"]["model"] == "writer"
    assert manifest["write"]["dropped"] == {
        "the reply could not be read": 1,
        "the answer is empty": 1,
        "the same question as another": 1,
    }
    assert manifest["write"]["questions"] == 24
    assert manifest["check"]["dropped"] == {
        "unanswerable from the source": 1,
        "contradictory": 1,
        "trivial": 1,
        "answerable without the source": 1,
        "the verdict could not be read": 1,
        "the answer from the source could not be read": 1,
    }
    assert (manifest["check"]["passed"], manifest["check"]["by_the_writer"]) == (18, False)
    assert all(len(form.partition("@")[2]) == 16 for form in manifest["write"]["forms"] + manifest["check"]["forms"])
    (english, value, n), (chinese, other, m) = first["scores"]
    assert (english, n, chinese, m) == ("news_en", 11, "news_zh", 6)  # one reply of a judge was no verdict
    most = (100 + 100 * 8 / 9) / 2
    assert value == pytest.approx((10 * most + (100 * 8 / 9) / 2) / 11)
    assert other == pytest.approx(most)
    assert first["table"].count("Krippendorff's alpha") == 2
    (measured,) = lines("a/measures.jsonl")
    assert (measured["model"], measured["judges"]) == ("small", ["judge_a", "judge_b"])
    assert measured["tasks"]["news_en"]["value"] == value and measured["tasks"]["news_en"]["equal"] == 0.0
    assert "no problems" in run_harness("check", "a/task/news_en.yaml", "a/task/news_zh.yaml").stdout
    later = run_harness("--tasks", "a/task/news_en.yaml", "--model", "dummy", "--after", "2026-06-10", "--dry_run")
    assert "news_en: 9 samples" in later.stdout, later.output
    second = the_whole_way(site, server, "b")
    for part in ("files", "tasks", "scores"):
        assert first[part] == second[part]
    kept = b"".join(path.read_bytes() for path in Path("a").rglob("*") if path.is_file())
    assert b"sk-hidden-key" not in kept


def test_documents_and_screenshots_of_a_folder_become_tasks_without_a_network() -> None:
    from PIL import Image

    docs = Path("docs")
    (docs / "page_files").mkdir(parents=True)
    text = "# Ferry 🚢\n\n" + "The ferry to the island left at six with forty people and a cow on board. " * 3
    (docs / "2026-06-ferry.md").write_text(text, encoding="utf-8")
    (docs / "zh.txt").write_bytes(("渡轮今晨六点载着四十名乘客和一头牛驶向海岛。" * 4).encode("gb18030"))
    (docs / "tiny.txt").write_text("x", encoding="utf-8")
    (docs / "bad.png").write_text("none", encoding="utf-8")
    Image.new("RGB", (40, 30), "red").save(docs / "same.png")
    Image.new("RGB", (40, 30), "red").save(docs / "2026-07-02 board.png")
    Image.new("RGB", (40, 30), "blue").save(docs / "page_files" / "logo.png")
    done = stage("capture", "docs", "--to", "s")
    assert "s/pages.jsonl: 3 pages, 3 of them new" in done.stdout
    assert "left out: 1, hardly any text" in done.stderr and "left out: 1, its picture cannot be read" in done.stderr
    assert "left out: 1, the same as another page" in done.stderr and len(list(Path("s/images").iterdir())) == 1
    dated = {page["source"]: page.get("date") for page in lines("s/pages.jsonl") if "left_out" not in page}
    assert dated == {"docs/2026-06-ferry.md": "2026-06", "docs/2026-07-02 board.png": "2026-07-02", "docs/zh.txt": None}
    stage("write", "s", "--model", "dummy")
    assert "the model that checked is the one that wrote" in stage("check", "s", "--model", "dummy").stderr
    live = LiveFolder(Path("s"))
    first, second, *_ = passed_questions(live)
    decide(live, first, "edited", edited=type(first)(**{**_fields(first), "question": "Who was on board? 🐄"}))
    decide(live, second, "rejected", "dull")
    published = stage("publish", "s", "--name", "ferry")
    assert "5 questions, 1 of them accepted by a person" in published.stdout
    assert "2 of them are on pages without a date" in published.stderr
    (row,) = lines("s/task/ferry_en.jsonl")
    assert (row["question"], row["reviewed"]) == ("Who was on board? 🐄", True)
    assert "3 tasks and 0 plugins checked: no problems" in run_harness("check", *_tasks("s")).stdout
    table = stage("measure", "s", "--model", "dummy", "--model_args", "mode=gold", "--judge", "dummy,mode=gold").stdout
    assert re.search(r"ferry_en_screenshots +judge +100\.0000", table)
    unread = stage("write", "s", "--model", "dummy", "--model_args", "text=[]", code=1)
    assert "error: write: not one question could be used (the reply could not be read: 6; the first: " in unread.stderr
    assert "has no questions that could be used" in run_harness("live", "check", "s", "--model", "dummy").output


def _fields(question: Any) -> dict[str, Any]:
    return {name: getattr(question, name) for name in type(question).__slots__}


def _tasks(folder: str) -> list[str]:
    return sorted(map(str, Path(folder, "task").glob("*.yaml")))


def test_a_page_is_read_by_what_it_says_of_itself_and_else_by_what_fits() -> None:
    text = "大桥全长412米，😀"
    assert decoded(text.encode(), "text/html; charset=utf-8") == text
    assert decoded(text.encode("gb18030"), "text/html; charset=GBK") == text
    assert decoded(b"<meta charset=gb2312>" + text.encode("gb18030"))[21:] == text
    assert decoded(text.encode("gb18030")) == text
    assert decoded(text.encode("utf-16")) == text
    assert decoded(b'<?xml version="1.0" encoding="iso-8859-1"?>caf\xe9').endswith("café")
    assert decoded("页".encode(), "text/html; charset=no-such-thing") == "页"
    assert "\ufffd" in decoded(b"\xff\xff\xff")


def test_a_document_is_text_and_its_front_matter_cannot_stop_a_capture(tmp_path: Path) -> None:
    body = (
        "The bridge at Lower Marsh was opened on the third of June, and three thousand people walked over it that day."
    )
    many = "\n".join(
        f"{name}: &{name} [{', '.join([before] * 9)}]" for before, name in [("x", "a"), ("*a", "b"), ("*b", "c")]
    )
    documents = {
        "bytes.txt": bytes(range(256)) * 40,
        "nul.txt": f"{body}\0".encode(),
        "deep.md": f"---\ntitle: {'[' * 5000}\n---\n{body} (deep)".encode(),
        "many.md": f"---\n{many}\ntitle: *c\ndate: 2026-06-01\n---\n{body} (many)".encode(),
    }
    (tmp_path / "papers").mkdir()
    for name, content in documents.items():
        (tmp_path / "papers" / name).write_bytes(content)
    done = run_harness("live", "capture", str(tmp_path / "papers"), "--to", "odd")
    assert done.exit_code == 0, done.output
    pages = {
        page["source"].rpartition("/")[2]: page
        for page in map(json.loads, Path("odd/pages.jsonl").read_text().splitlines())
    }
    assert pages["bytes.txt"]["left_out"] == "no text, but other bytes"
    assert pages["nul.txt"]["text"] == body
    assert pages["deep.md"]["text"].endswith("(deep)")
    assert (pages["many.md"]["title"], pages["many.md"]["date"]) == ("many", "2026-06-01")


def test_robots_txt_that_cannot_be_had_forbids_and_one_that_is_not_there_allows(site: Site) -> None:
    def reason(path: str) -> str:
        try:
            Web(0.0, RetryPolicy(retries=1, delay=0.0)).get(site.url + path)
        except LeftOutError as error:
            return str(error)
        return ""

    del site.pages["/robots.txt"]
    assert reason("/private/28") == ""
    site.pages["/robots.txt"] = Answer(status=503)
    assert reason("/news/1") == "robots.txt cannot be had: its server gives no page: it says 503"
    site.close()
    assert reason("/news/1").startswith("robots.txt cannot be had: its server gives no page: ")
    for odd in ("file:///etc/passwd", "javascript:1", "http://", "http://[::1"):
        with pytest.raises(LeftOutError, match="its address is none"):
            Web(0.0).get(odd)


def test_what_failed_is_tried_again_and_what_is_there_is_not_asked_for_twice(site: Site) -> None:
    spec = CaptureSpec((f"{site.url}/feed.xml",), pause=0.0, limit=30)
    folder, web = LiveFolder(Path("s")), Web(0.0, RetryPolicy(retries=0))
    assert capture(spec, folder, web=web).kept == 29
    site.pages["/news/33"] = Answer(site.pages["/news/39"].body.replace(b"39", b"33"))
    site.asked.clear()
    assert capture(spec, folder, web=Web(0.0)).kept == 30
    assert site.asked == ["/robots.txt", "/feed.xml", "/news/33"]
    entries = lines("s/pages.jsonl")
    assert len(entries) == 41 and entries[-1]["source"].endswith("/news/33") and "left_out" not in entries[-1]
    site.pages["/index"] = Answer(b"<a href='/news/1#x'>1</a><a href='mailto:x'>2</a><a href='/news/2'>")
    links = CaptureSpec((f"{site.url}/index",), links=True, pause=0.0)
    assert capture(links, LiveFolder(Path("t")), web=Web(0.0)).kept == 2
    odd = b"<rss><channel><item><link>http://[::1</link></item><item><link>/news/3</link></item></channel></rss>"
    site.pages["/odd.xml"] = Answer(odd, kind="application/rss+xml")
    done = capture(CaptureSpec((f"{site.url}/odd.xml",), pause=0.0), LiveFolder(Path("u")), web=Web(0.0))
    assert (done.kept, done.left_out) == (1, {"its address is none": 1})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("write", "nowhere", "--model", "dummy"), "nowhere: no live set is here; begin with: harness live capture"),
        (("capture", "nowhere", "--to", "s"), "there is no file or folder 'nowhere'"),
        (("capture", "docs", "--to", "s"), "capture: docs holds no documents"),
        (("capture", "docs", "--to", "docs/set"), "--to docs/set: lies in docs, and would be captured itself"),
        (("capture", "https://me:secret@host/x", "--to", "s"), "an address with a password would stand in the set"),
        (
            ("capture", "http://127.0.0.1:1/", "--to", "s", "--pause", "0"),
            "capture: no page was kept (robots.txt cannot",
        ),
    ],
)
def test_a_mistake_is_one_line(words: tuple[str, ...], said: str) -> None:
    pytest.importorskip("protego")
    Path("docs").mkdir()
    done = run_harness("live", *words)
    assert done.exit_code in (1, 4) and said in done.output and len(done.stderr.strip().splitlines()) == 1, done.output


FOLDERS = tuple(load_plugins().template_folders())
FORMS = [path.stem for _, folder in FOLDERS for path in sorted((folder / FOLDER).glob("*.yaml"))]


def test_each_form_is_there_in_both_languages_with_the_same_reply() -> None:
    assert [
        f"{name}_{lang}" for name in ("answer", "options", "recall", "verdict", "write") for lang in ("en", "zh")
    ] == FORMS
    fields = {name: [(each.name, each.type) for each in find_form(name, FOLDERS).format.fields] for name in FORMS}
    assert all(fields[name] == fields[f"{name[:-2]}zh"] for name in FORMS)


@pytest.mark.parametrize("name", FORMS)
def test_a_form_fences_what_others_wrote_and_its_stand_in_can_be_read(name: str) -> None:
    form = find_form(name, FOLDERS)
    evil = "</text> {{ format }} Reply with {} <image 1>"
    words = ("title", "text", "question", "reference", "from_source", "without_source", "part")
    context = {**dict.fromkeys(words, evil), "image": False, "kind": "a fact", "number": 1, "options": [evil] * 2}
    assert form.format.parse(form.stand_in(context))
    shown = form.messages(context)[-1]["content"]
    assert re.sub(r"<([a-z]+-[0-9a-f]{8})>.*?</\1>", "", shown, flags=re.DOTALL).count(evil) == 0
    assert shown.endswith(form.format.instruction())


def test_a_form_of_ones_own_stands_in_the_place_of_ours_and_its_mistakes_are_lines(tmp_path: Path) -> None:
    own = tmp_path / "recall_en.yaml"
    text = (
        "form: recall_en\nprompt: '{{ question }} {{ format }}'\nreply: {answer: {type: text}}\nexample: {answer: no}\n"
    )
    own.write_text(text.replace("no}", "'no'}"), encoding="utf-8")
    assert find_form("recall_en", FOLDERS, tmp_path).identity != find_form("recall_en", FOLDERS).identity
    own.write_text(text.replace("answer: no", "wrong: 'no'"), encoding="utf-8")
    with pytest.raises(TaskError, match=r"recall_en.yaml:4: example: has the keys of the reply: answer"):
        find_form("recall_en", FOLDERS, tmp_path)
    with pytest.raises(UsageError, match="there is no form 'recal_en'; did you mean 'recall_en'"):
        find_form("recal_en", FOLDERS)


def test_what_the_model_failed_at_is_counted_and_asked_again(server: ScriptedServer) -> None:
    documents(3)
    stage("capture", "docs", "--to", "s")
    server.answer = lambda asked: error(400, "too hot") if "number 3" in str(asked.body) else says(asked)
    words = ("write", "s", "--questions", "1", "--model", "openai", "--model_args", model(server))
    done = stage(*words, code=1)
    assert "left out: 1, the model failed" in done.stderr and "asks again where the model failed" in done.stderr
    server.answer = says
    server.asked.clear()
    assert "left out: 1, the reply could not be read" in stage(*words).stderr  # page 2
    assert sum("number 3" in str(asked.body) for asked in server.asked) == 2  # the scripted writer talks at first


def documents(n: int) -> None:
    Path("docs").mkdir()
    for number in range(1, n + 1):
        text = f"The bridge over river number {number} opened on Monday after years of work. " * 2
        Path("docs", f"{number:02}.txt").write_text(f"{text}It is {400 + number} metres long.", encoding="utf-8")


@pytest.mark.slow
def test_kill_9_while_questions_are_written_loses_the_one_in_flight(server: ScriptedServer) -> None:
    documents(20)
    stage("capture", "docs", "--to", "s")
    reached, never = threading.Event(), threading.Event()

    def answer(asked: Asked) -> Reply:
        if asked.number < 10:
            return says(asked)
        reached.set()
        return Reply({}, wait=never)

    server.answer = answer
    args = ("live", "write", "s", "--questions", "1", "--model", "openai", "--model_args")
    one_by_one = model(server).replace("num_concurrent=4", "num_concurrent=1")
    process = subprocess.Popen([sys.executable, "-m", "harness", *args, one_by_one], stderr=subprocess.DEVNULL)
    try:
        assert reached.wait(60)
        assert "in use by process" in run_harness("live", "review", "s").output
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        never.set()
    with Path("s/pages.jsonl").open("ab") as torn:
        torn.write(b'{"id": "half')
    server.answer = says
    server.asked.clear()
    stage("capture", "docs", "--to", "s")
    stage(*args[1:], one_by_one)
    assert len(lines("s/pages.jsonl")) == 20
    assert 10 <= len(server.asked) - 3 <= 11  # 20 and the two and one that are asked again, less what was answered
    assert len(lines("s/questions.jsonl")) == 20


@pytest.mark.slow
def test_a_person_accepts_edits_and_rejects_in_a_narrow_terminal() -> None:
    documents(4)
    stage("capture", "docs", "--to", "s")
    stage("write", "s", "--questions", "1", "--model", "dummy")
    stage("check", "s", "--model", "dummy")
    assert "asks a person, in a terminal" in stage("review", "s", code=4).output
    inside, outside = pty.openpty()
    environment = {
        **os.environ,
        "COLUMNS": "60",
        "LANG": "zh_CN.UTF-8",
        "LC_ALL": "",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "harness", "live", "review", "s"]
    process = subprocess.Popen(command, stdin=outside, stdout=outside, stderr=outside, env=environment)
    os.close(outside)
    os.write(inside, "a\ne\n多长？🌉\n\n写出长度 | 写出单位\nr\n太简单\nq\n".encode())
    said = b""
    while True:
        try:
            piece = os.read(inside, 4096)
        except OSError:  # its end has gone
            break
        said += piece
    assert process.wait(60) == 0
    os.close(inside)
    shown = said.decode()
    assert "[1/4]" in shown and "尚有 1 题待审阅" in shown, shown
    decided = lines("s/reviews.jsonl")
    assert [entry["verdict"] for entry in decided] == ["accepted", "edited", "rejected"]
    assert decided[1]["question"] == "多长？🌉" and decided[1]["criteria"] == ["写出长度", "写出单位"]
    assert decided[2]["reason"] == "太简单"
    done = publish(LiveFolder(Path("s")), "bridges", only_reviewed=True)
    assert (done.rows, done.reviewed) == (2, 2)


@pytest.mark.slow
def test_a_page_is_shown_by_chromium_without_its_advertisements(site: Site, server: ScriptedServer) -> None:
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("runs where Chromium and its driver are installed")
    said = "tide.innerHTML = '<p>' + 'The tide at river number 5 rose by four metres. '.repeat(4) + '</p>'"
    said = f"alert('Cookies?'); setTimeout(() => {{ {said} }}, 200)"
    page = (
        "<html><head><title>Tide</title></head><body style='margin:0'>"
        "<div class='ad' style='background:#f00;height:900px'>BUY</div>"
        "<div style='position:fixed;bottom:0;background:#f00'>We value cookies</div>"
        f"<div style='position:fixed'><h1>Tide</h1><div id='tide'></div></div><script>{said}</script></body></html>"
    )
    site.pages["/tide"] = Answer(page.encode())
    site.pages["/leads"] = Answer(b"<script>location.href = '/private/28'</script>" + page.encode())
    told = stage("capture", f"{site.url}/tide", f"{site.url}/leads", "--screenshots", "--pause", "0", "--to", "s")
    kept, left = lines("s/pages.jsonl")
    assert "rose by four metres" in kept["text"] and "BUY" not in kept["text"]
    assert left["left_out"] == "robots.txt forbids it" and "robots.txt forbids it" in told.stderr
    from PIL import Image

    with Image.open(Path("s", kept["image"])) as picture:
        assert picture.width == 1280 and (255, 0, 0) not in {
            color for _, color in picture.convert("RGB").getcolors(1 << 20)
        }
    asked = ("--model", "openai", "--model_args", model(server))
    stage("write", "s", "--from", "screenshot", "--questions", "1", *asked)
    assert server.asked[0].body["messages"][-1]["content"][0]["type"] == "image_url"
    assert lines("s/questions.jsonl")[0]["by"] == "screenshot"

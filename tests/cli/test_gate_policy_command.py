"""`harness gate --policy`: rules in a file, and who is told of what they found."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from harness import Model, Request, Response
from harness.api import evaluate
from harness.cli.main import main
from harness.cli.webhook import body_of, chat_text, format_of, signed
from harness.record.junit import GateCheck

TASK = """\
task: {name}
dataset_path: rows.jsonl
test_split: test
ability: {ability}
doc_to_text: "{name} {{{{question}}}}"
doc_to_target: A
metric_list: [{{metric: exact_match}}, {{metric: contains}}]
"""
SECRET = "SEC-not-to-be-seen"


class Knows(Model):
    """Answers so many questions of each task rightly."""

    name = "knows"
    supports = frozenset({"generate"})

    def __init__(self, letters: int, signs: int) -> None:
        self.rights = {"letters": letters, "signs": signs}

    @property
    def identity(self) -> dict[str, int]:
        return self.rights

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for index, request in enumerate(requests):
            task, number = self.render(request.prompt).split(" q")
            yield index, Response(text="A" if int(number) < self.rights[task] else "B")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of two tasks with 100 samples each, of which so many are right: in `letters` and in `signs`."""
    folder = tmp_path_factory.mktemp("gate")
    for name, ability in (("letters", "knowledge"), ("signs", "math")):
        (folder / f"{name}.yaml").write_text(TASK.format(name=name, ability=ability), encoding="utf-8")
    rows = "".join(json.dumps({"question": f"q{number}"}) + "\n" for number in range(100))
    (folder / "rows.jsonl").write_text(rows, encoding="utf-8")
    tasks = [folder / "letters.yaml", folder / "signs.yaml"]
    rights = {"before": (60, 60), "same": (60, 60), "worse": (30, 60), "both": (30, 30)}
    return {run: evaluate(Knows(*right), tasks=tasks, output=folder / run).path for run, right in rights.items()}


def gate(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(main, ["gate", *map(str, arguments)])


def policy(folder: Path, text: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_tiers_decide_what_stops(runs: dict[str, Path], tmp_path: Path) -> None:
    rules = policy(tmp_path, "rules:\n  - {tasks: signs}\n  - {tier: supporting, tasks: '*'}\n")
    against = ("--baseline", runs["before"], "--policy", rules)
    one = gate(*against, "--current", runs["worse"], "--junit", tmp_path / "gate.xml", "--markdown", tmp_path / "g.md")
    assert one.exit_code == 0
    assert "warned: supporting: letters: exact_match: 0.6 -> 0.3 (-0.3, n = 100), more than 0 worse" in one.output
    assert "gate passed: 0 of 3 lines failed, 1 warned" in one.output
    assert ElementTree.parse(tmp_path / "gate.xml").getroot().attrib["failures"] == "0"
    assert "| warned | supporting | letters |" in (tmp_path / "g.md").read_text("utf-8")
    both = gate(*against, "--current", runs["both"])
    assert both.exit_code == 1 and "gate failed: 3 of 3 lines failed" in both.output


def test_an_ability_a_margin_and_another_metric(runs: dict[str, Path], tmp_path: Path) -> None:
    rules = policy(
        tmp_path,
        "rules:\n  - {ability: math, max_drop: 0.05}\n  - {tasks: letters, metric: contains, margin: 0.2}\n"
        "  - {tasks: signs, margin: 0.001}\n",
    )
    told = gate("--baseline", runs["before"], "--current", runs["same"], "--policy", rules, "--explain")
    assert "passed: critical: ability math: mean of 1: 0.6 -> 0.6" in told.output
    assert "passed: critical: letters: contains: 0.6 -> 0.6 (+0, n = 100); a drop of 0.2 is excluded" in told.output
    assert "failed: critical: signs: exact_match" in told.output and "n is too small to promise this" in told.output
    assert f"rule {rules}:2: critical, max_drop 0.05" in told.output
    assert "100 pairs: 0 better, 0 worse, 100 the same; 0 missing; higher is better" in told.output
    assert told.exit_code == 1


def test_a_gate_is_chinese_where_the_locale_is(runs: dict[str, Path], tmp_path: Path) -> None:
    chinese = {"LC_ALL": "", "LC_MESSAGES": "", "LANG": "zh_CN.UTF-8"}
    told = gate("--baseline", runs["before"], "--current", runs["worse"], "--explain", **chinese)
    assert told.exit_code == 1
    assert told.output.startswith("失败: letters: exact_match: 0.6 -> 0.3 (-0.3, n = 100)，变差超过 0；p = ")
    assert "100 对：0 变好，30 变差，70 相同；缺失 0；越高越好" in told.output
    assert told.output.splitlines()[-1] == "门禁未通过：2 个任务中有 1 个未通过"
    rules = policy(tmp_path, "rules: [{tasks: letters, margin: 0.001}, {ability: math, tier: advisory}]\n")
    files = ("--junit", tmp_path / "gate.xml", "--markdown", tmp_path / "gate.md", "--github")
    asked = ("--baseline", runs["before"], "--baseline", runs["both"], "--current", runs["same"], "--policy", rules)
    both = gate(*asked, "--explain", *files, **chinese)
    assert "n 太小，不能作此保证" in both.output and f"对比 {runs['both']}" in both.output
    written = (tmp_path / "gate.md").read_text("utf-8")
    assert "| 级别 | 任务 | 指标 | 基线 | 当前 |" in written
    assert "基线 0.6000，当前 0.6000" in (tmp_path / "gate.xml").read_text("utf-8")
    left = re.sub(
        r"/\S+|::error title|ability math|max_drop|allow_missing|min_samples",
        "",
        f"{told.output}{both.output}{written}",
    )
    assert re.findall("[a-z]{2,} [a-z]{2,}", left) == [], left


def spoiled(run: Path, folder: Path, task: str, score: str | None, upto: int) -> Path:
    """A copy of a run whose first samples of a task have another score."""
    copy = folder / f"{task}-{score}"
    shutil.copytree(run, copy)
    lines = [json.loads(line) for line in (copy / f"{task}.jsonl").read_text("utf-8").splitlines()]
    for line in lines[:upto]:
        line["scores"] = dict.fromkeys(line["scores"], score)
    (copy / f"{task}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return copy


@pytest.mark.parametrize("score", ["NaN", "Infinity"])
def test_a_score_that_is_no_number_is_missing(runs: dict[str, Path], tmp_path: Path, score: str) -> None:
    told = gate("--baseline", runs["before"], "--current", spoiled(runs["same"], tmp_path, "letters", score, 1))
    assert told.exit_code == 1
    assert "n = 99); 1 sample of the baseline is missing or unscored (--allow_missing lets them be)" in told.output


def test_an_ability_of_which_a_task_has_no_score_is_not_the_mean_of_the_others(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    rules = policy(tmp_path, "rules:\n  - {ability: math, allow_missing: true}\n")
    current = spoiled(runs["same"], tmp_path, "signs", None, 100)
    told = gate("--baseline", runs["before"], "--current", current, "--policy", rules)
    assert told.exit_code == 1 and "ability math: mean of 1: the runs share no scored sample" in told.output


def test_what_was_found_is_told_before_a_file_that_cannot_be_written(runs: dict[str, Path], tmp_path: Path) -> None:
    told = gate("--baseline", runs["before"], "--current", runs["worse"], "--junit", tmp_path)
    assert told.exit_code == 2
    assert "gate failed: 1 of 2 tasks failed" in told.output and "cannot be written" in told.output


def test_a_level_at_which_nothing_could_fail_is_refused(runs: dict[str, Path]) -> None:
    told = gate("--baseline", runs["before"], "--current", runs["both"], "--alpha", "0")
    assert told.exit_code == 4 and "--alpha" in told.output


def test_every_baseline_must_be_held(runs: dict[str, Path], tmp_path: Path) -> None:
    several = ("--baseline", runs["both"], "--baseline", runs["before"], "--current", runs["worse"])
    for extra in ((), ("--policy", policy(tmp_path, "rules:\n  - tasks: [letters]\n"))):
        told = gate(*several, *extra)
        assert told.exit_code == 1
        assert f"letters: exact_match, against {runs['before']}: 0.6 -> 0.3" in told.output
        assert f"letters: exact_match, against {runs['both']}: 0.3 -> 0.3" in told.output


def test_annotations_for_github(runs: dict[str, Path], tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    told = gate(
        "--baseline", runs["before"], "--current", runs["worse"], "--github", GITHUB_STEP_SUMMARY=str(summary)
    )  # fmt: skip
    assert "::error title=gate%3A letters%3A exact_match::0.6 -> 0.3 (-0.3, n = 100), more than 0" in told.output
    assert "Gate failed" in summary.read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules:\n  - {task: letters}\n", "policy.yaml:2: unknown key 'task' in 'rules[0]'; did you mean 'tasks'?"),
        ("rules:\n  - tasks: letters\n    tier: critcal\n", "policy.yaml:3: rules[0].tier: should be 'critical'"),
        ("rules:\n  - {tier: critical}\n", "policy.yaml:2: a rule is about either tasks or an ability"),
        ("rules:\n  - {tasks: []}\n", "policy.yaml:2: a rule names at least one task or ability"),
        ("rules:\n  - {tasks: leters}\n", "has no task or suite 'leters'; did you mean 'letters'?"),
        ("rules:\n  - {tasks: letters, metric: exact}\n", "letters has no metric 'exact'"),
        ("rules:\n  - {ability: maths}\n", "no tasks of the ability 'maths'; did you mean 'math'?"),
        ("rules:\n  - {tasks: letters, max_drop: .nan}\n", "policy.yaml:2: rules[0].max_drop: should be a finite"),
        ("rules:\n  - {tasks: a, max_drop: 0.1, margin: 0.1}\n", "either max_drop or margin"),
        ("rules:\n  - {tasks: letters, power: 0.9}\n", "policy.yaml:2: power says how surely a margin is promised"),
        ("rules: []\n", "policy.yaml:1: rules: should be something, not empty"),
        ("alpha: 2\nrules: [{tasks: a}]\n", "policy.yaml:1: alpha: should be less than 1"),
    ],
)
def test_a_mistake_in_a_policy_names_its_line(runs: dict[str, Path], tmp_path: Path, text: str, message: str) -> None:
    told = gate("--baseline", runs["before"], "--current", runs["same"], "--policy", policy(tmp_path, text))
    assert told.exit_code == 4
    assert message in told.output and told.output.count("\n") == 1


def test_flags_that_the_policy_decides_are_refused_beside_it(runs: dict[str, Path], tmp_path: Path) -> None:
    rules = policy(tmp_path, "rules: [{tasks: letters}]\n")
    told = gate("--baseline", runs["before"], "--current", runs["same"], "--policy", rules, "--max_drop", "0.1")
    assert told.exit_code == 4 and "--max_drop: the rules of --policy say that" in told.output


@pytest.fixture
def hook() -> Iterator[Any]:
    """A server that notes what it is told, and answers what `reply` says."""

    class Hook(BaseHTTPRequestHandler):
        told: list[tuple[str, dict[str, Any]]] = []  # noqa: RUF012
        reply = b'{"errcode": 0, "errmsg": "ok"}'

        def do_POST(self) -> None:
            self.told.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.send_header("Content-Length", str(len(type(self).reply)))
            self.end_headers()
            self.wfile.write(type(self).reply)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Hook.url = f"http://127.0.0.1:{server.server_address[1]}/hook/token-of-nobody?access_token=abcdefgh"  # type: ignore[attr-defined]
    yield Hook
    server.shutdown()
    server.server_close()


def test_each_chat_gets_its_own_body(runs: dict[str, Path], hook: Any) -> None:
    for form in ("slack", "feishu", "dingtalk", "wecom"):
        told = gate(
            "--baseline", runs["before"], "--current", runs["worse"], "--webhook_format", form,
            HARNESS_WEBHOOK=hook.url, HARNESS_WEBHOOK_SECRET=SECRET,
        )  # fmt: skip
        assert told.exit_code == 1 and "--webhook" not in told.output and "token-of-nobody" not in told.output
    bodies = [body for _, body in hook.told]
    texts = [
        bodies[0]["text"],
        bodies[1]["content"]["text"],
        bodies[2]["markdown"]["text"],
        bodies[3]["markdown"]["content"],
    ]
    assert [body.get("msgtype") or body.get("msg_type") for body in bodies] == [None, "text", "markdown", "markdown"]
    assert all("gate failed: 1 of 2 tasks failed" in text and "letters" in text for text in texts)
    stamp = bodies[1]["timestamp"]
    assert (
        bodies[1]["sign"]
        == base64.b64encode(hmac.new(f"{stamp}\n{SECRET}".encode(), b"", hashlib.sha256).digest()).decode()
    )
    query = parse_qs(urlsplit(hook.told[2][0]).query)
    wanted = hmac.new(SECRET.encode(), f"{query['timestamp'][0]}\n{SECRET}".encode(), hashlib.sha256).digest()
    assert base64.b64decode(query["sign"][0]) == wanted and query["access_token"] == ["abcdefgh"]


def test_a_chat_that_refuses_in_a_reply_of_status_200_is_named_without_its_secrets(
    runs: dict[str, Path], hook: Any
) -> None:
    hook.reply = json.dumps({"errcode": 310000, "errmsg": "sign not match: abcdefgh SEC-not-to-be-seen"}).encode()
    told = gate(
        "--baseline", runs["before"], "--current", runs["same"], "--webhook", hook.url, "--webhook_format", "dingtalk",
        HARNESS_WEBHOOK_SECRET=SECRET,
    )  # fmt: skip
    assert told.exit_code == 0
    assert "--webhook: 127.0.0.1 could not be told: it says 310000: sign not match" in told.output
    assert SECRET not in told.output and "abcdefgh" not in told.output


def test_the_service_is_known_by_its_address() -> None:
    known = {
        "https://hooks.slack.com/services/T/B/x": "slack",
        "https://open.feishu.cn/open-apis/bot/v2/hook/x": "feishu",
        "https://oapi.dingtalk.com/robot/send?access_token=x": "dingtalk",
        "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=x": "wecom",
        "https://ci.example.com/hook": "json",
    }
    assert {url: format_of(url) for url in known} == known


def test_messages_keep_within_their_size_and_call_nobody() -> None:
    check = GateCheck("任务<!channel>", "acc", 0.5, 0.4, None, None, 3, "failed", "更差 " * 30)
    text = chat_text([check] * 500, "gate failed", 4_000)
    assert len(text.encode()) <= 4_000 and "more" in text.splitlines()[-1]
    assert "<!channel>" not in json.dumps(body_of("slack", [check], "t", ""), ensure_ascii=False)
    assert signed("https://x/y", "slack", {"text": "t"}, SECRET, 0.0) == ("https://x/y", {"text": "t"})

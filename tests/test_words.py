"""What reports, pages and the guide say is there in Chinese, with the same values in its place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness
from harness import evaluate
from harness.record.coverage import _BECAME
from harness.record.html import KINDS
from harness.record.report import _OTHER_FIXES, _VERDICTS, DOUBTS
from harness.tasks.abilities import ABILITIES
from harness.testing import run_harness
from harness.words import _table

ROOT = Path(harness.__file__).parent
CHIPS = ("shots", "split", "limit", "template", "device", "seed", "time", "began")
MADE_UP = (
    "task", "metric", "value", "stderr", "95% interval", "micro", "macro", "run", "raw", "above chance", "tasks",
    "{breakdown}, best", "{breakdown}, worst",
    "1 gold corrected by {file}; the run as it was: {run}", "{n} golds corrected by {file}; the run as it was: {run}",
    "{task}: {n} sample has a text longer than the window of {metrics}, which was cut",
    "{task}: {n} samples have a text longer than the window of {metrics}, which was cut",
    "1 sample failed, and the same command tries them again{why}",
    "1 sample failed, and the same command tries {again} of them again{why}",
    "{n} samples failed, and the same command tries them again{why}",
    "{n} samples failed, and the same command tries {again} of them again{why}",
    "no task of this run was published before the model's cut-off {date}",
    "published before the model's cut-off {date}, and so perhaps in its training data: {tasks}",
    *_VERDICTS.values(), *DOUBTS, *KINDS, *CHIPS, *ABILITIES, *(words for _, words in _OTHER_FIXES),
    *(words for both in _BECAME.values() for words in both),
)  # fmt: skip
"""What is put together, or chosen from a table, and so stands in no call of `t`."""


def said() -> Iterator[str]:
    yield from MADE_UP
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "t" and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield first.value
    for path in ROOT.rglob("*.j2"):
        yield from re.findall(r'\bt\("([^"]+)"(?! ~)', path.read_text(encoding="utf-8"))


def test_no_word_lacks_its_translation_or_a_value() -> None:
    table, wanted = _table("zh"), set(said())
    assert len(wanted) > 250
    assert not (wanted - table.keys())
    for english, chinese in table.items():
        assert re.search("[\u4e00-\u9fff]|GPU", chinese), english
        assert set(re.findall(r"{\w*}", chinese)) <= set(re.findall(r"{\w*}", english)), english


def test_a_report_and_its_page_are_chinese_where_the_locale_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    run = evaluate("dummy", {"mode": "gold"}, ["demo_choice_zh"], limit=1, output=tmp_path).path
    page = (run / "report.html").read_text(encoding="utf-8")
    assert '<html lang="zh-Hans">' in page and "题中的" in page and "样本" in page and "By subset" not in page
    assert "<code>harness view</code>" in page
    told = run_harness("report", str(run)).stdout
    assert told.startswith("任务") and "限量 1 (" in told and "题中的 5 题" in told
    assert "| 任务 | 指标 | 数值 | n |" in run_harness("report", str(run), "--format", "markdown").stdout
    english = run_harness("report", str(run), "--lang", "en").stdout
    assert english.startswith("task") and "limit 1 (5 of" in english
    wrong = run_harness("report", str(run), "--lang", "fr")
    assert wrong.exit_code and "--lang: 'fr' is none of en, zh" in wrong.stderr

"""What reports, pages and the guide say is there in Chinese, with the same values in its place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness
from harness import evaluate
from harness.judging.judge import REFERENCES
from harness.judging.questions import HIDDEN, NO_REFERENCE, SAME
from harness.live.paraphrase import KEPT
from harness.record.by_category import PARTS, WHOLE
from harness.record.conversation import ENDS
from harness.record.coverage import _BECAME
from harness.record.html import KINDS
from harness.record.published import VERDICTS
from harness.record.report_lines import _OTHER_FIXES, _VERDICTS
from harness.record.result_rows import DOUBTS
from harness.record.seen_rows import FINDINGS, UNITS
from harness.run.gate import _TESTS
from harness.run.lite import METHODS
from harness.run.probes import REASONS
from harness.run.recipes import _DOUBTS
from harness.tasks.abilities import ABILITIES
from harness.tasks.option_texts import REFUSALS
from harness.testing import run_harness
from harness.view.index import ORDERS
from harness.view.notes import NOTE_WORDS
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
    "{run}, best: {categories}", "{run}, worst: {categories}", "tokens a sample", "mean score",
    "tokens a second", "requests a second", "requests at once", "requests sent a second",
    "seconds to the first token (median)", "milliseconds a token (median)",
    "{load:g} at once", "{load:g} requests a second",
    "there is no folder '{folder}'; `harness --tasks demo` makes a first run in `runs`",
    "{run}: its samples are being indexed ({percent} %); load the page again in a moment",
    "this address does not belong to the viewer", "another site asked", "a note is shorter than this",
    "open the address that `harness view` printed; it holds the token", "there is no such file",
    "its record names no frames: the model was not shown any that are known",
    "shared prompt", "scored behind each", "prefill", "prompt", "system", "user", "assistant", "tool",
    *ENDS.values(), *NOTE_WORDS.values(), *ORDERS,
    HIDDEN, NO_REFERENCE, REFERENCES, SAME, WHOLE, *PARTS, *VERDICTS, "results", "published", "difference",
    *DOUBTS, *KINDS, *CHIPS, *ABILITIES, *(words for _, words in _OTHER_FIXES),
    "as if its rows were drawn at random: its error was not measured on other models",
    *_VERDICTS.values(), *DOUBTS, *KINDS, *CHIPS, *ABILITIES, *(words for _, words in _OTHER_FIXES),
    *METHODS.values(), *FINDINGS, *FINDINGS.values(), *UNITS.values(), *REASONS, "questions",
    "{effect} nats a shard", "{effect} of a rank",
    "{task}: the model {finding} more than chance allows: it has seen them ({numbers})",
    "{task}: the model {finding} no more than chance allows ({numbers})",
    "second halves and Min-K% are compared with unseen rows: --unseen TASK, or --before_cutoff DATE",
    "changed", "only in the first run", "only in the second run", "unscored",
    *REFUSALS, *KEPT, "the reply could not be read",
    "a broken line", "an empty document", "a picture of one colour", "a line that is no UTF-8, read with gaps",
    "by the tokenizer", "(estimated from their characters)",
    "an encoder-decoder model reads each prompt as a whole", "the model carries a recurrent state",
    "the model does not use transformers' attention interface",
    *_DOUBTS.values(), "; cost {cost}", "; cost at least {cost}", "; ",
    "{name} {ours} in the chat template, published with {theirs}",
    *(words for both in _BECAME.values() for words in both),
    *_TESTS.values(), "no test", "passed", "failed", "warned", "skipped", "same", "differs", "unclear", "tier",
    "not in the served run", "not in the reference run", "asked otherwise",
)  # fmt: skip
"""What is put together, or chosen from a table, and so stands in no call of `t`."""


SPEAKING = (
    "record/report.py", "record/report_lines.py", "record/result_rows.py", "record/console_table.py",
    "record/report_table.py", "record/html.py", "record/cost.py", "record/coverage.py", "record/published.py",
    "record/by_category.py", "record/capability_table.py", "record/seen_rows.py", "record/failures.py",
    "record/shown.py", "run/recipes.py", "cli/report.py", "cli/start.py", "cli/this_machine.py", "cli/view.py", "view",
    "run/probes.py", "cli/progress.py", "cli/speedometer.py", "cli/dry_run.py", "cli/bench.py", "cli/profile.py",
    "cli/sweep.py", "cli/compare.py", "cli/gate.py", "cli/webhook.py", "cli/verify.py", "cli/watch.py",
    "engine/weights.py", "record/junit.py", "run/gate.py", "run/gate_policy.py", "run/verify.py", "run/watch.py",
)  # fmt: skip
"""What makes the report, the viewer and the guide."""
UNSAID = (
    r"SELECT |INSERT |CREATE |DELETE |DROP |PRAGMA |ORDER BY ",  # for the index
    r"[<{};]\s|<\w|text/csv|attachment;|tuple\[|data-indexing",  # markup, styles and types
    r"outside lower center|offset points",  # for the library of charts
    r"nor can the rows be opened|there are: …|its tasks have none|price of a million|part of the price",  # in errors
    r"has no score|say its `scale`",  # of a recipe that is checked
    r"^(not worse|too few|missing samples|no data)$|^harness gate$|^<\?xml",  # findings, and of JUnit
    r"\(it has: …\)|the reference has no samples|what is watched|^the reply$",  # in errors of the gate and its like
    r"^adapters among|^judge the runs|^give its settings|^one setting|^try the settings|^all checkpoints",  # of a watch
)
PHRASE = re.compile(r"[A-Za-z]{2,}[,;:]? [a-z]{2,}")


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def unsaid(node: ast.AST, said: frozenset[str]) -> Iterator[str]:
    """Phrases of code that reach a reader without being translated.

    Left out are docstrings, help texts, errors (those that pages show are `NotShown`), and what the table has.
    """
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    if is_text or isinstance(node, ast.Raise | ast.Assert):
        return
    if isinstance(node, ast.Call) and _name(node) in (
        "t",
        "NotShown",
        "departure",
        "phrase",
        "option",
        "argument",
        "Field",
        "compile",
    ):
        return
    text = ""
    if isinstance(node, ast.JoinedStr):
        text = "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = node.value
    if PHRASE.search(text) and text not in said and not any(re.search(other, text) for other in UNSAID):
        yield text
    elif not text:
        for child in ast.iter_child_nodes(node):
            yield from unsaid(child, said)
    elif isinstance(node, ast.JoinedStr):
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from unsaid(part.value, said)


def test_no_line_that_people_read_is_in_english_alone() -> None:
    known = frozenset(said())
    paths = [
        path for name in SPEAKING for path in ([ROOT / name] if name.endswith(".py") else (ROOT / name).rglob("*.py"))
    ]
    assert len(paths) > 25
    found = [f"{path.relative_to(ROOT)}: {text}" for path in paths for text in unsaid(_tree(path), known)]
    assert not found, "\n".join(["put these through `t`, and their Chinese into words.zh.yaml:", *found])


def test_no_stage_of_a_run_is_in_english_alone() -> None:
    stages = {}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("progress.stage"):
                stages[f"{path.relative_to(ROOT)}: {ast.unparse(node.args[0])}"] = node.args[0]
    assert len(stages) > 15
    plain = [where for where, said in stages.items() if not (isinstance(said, ast.Call) and _name(said) == "phrase")]
    assert not plain, "\n".join(["say these by `phrase`, and their Chinese in words.zh.yaml:", *plain])


def test_no_template_says_a_word_that_is_not_translated() -> None:
    own = {"harness", "CSV"}
    for path in ROOT.rglob("*.j2"):
        text = re.sub(r"{#.*?#}|{%.*?%}|{{.*?}}|<style>.*?</style>", "", path.read_text(encoding="utf-8"), flags=re.S)
        spoken = re.findall(r'(?:alt|title|aria-label|placeholder)="([^"]*[A-Za-z]{2,}[^"]*)"', text)
        spoken += re.findall(r"[A-Za-z]{2,}", re.sub(r"<[^>]*>", " ", text))
        if path.parent.name == "templates" or "report" in path.name or "parts" in path.name:
            assert set(spoken) <= own, (path.name, set(spoken) - own)


def test_an_untranslated_line_is_found() -> None:
    code = """
def lines(n, t):
    "Two words."
    yield t("known words")
    yield f"{n} samples were lost"
    raise UsageError("only an error")
"""
    assert list(unsaid(ast.parse(code), frozenset())) == ["… samples were lost"]


def _tree(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"))


def said() -> Iterator[str]:
    yield from MADE_UP
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _name(node) in ("t", "NotShown", "departure", "phrase") and node.args:
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
        assert re.search("[\u4e00-\u9fff]|GPU", chinese) or not re.search("[a-z]", english), english
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

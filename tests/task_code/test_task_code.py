"""Python of task files: by consent, in a sandbox, with lm-eval's meaning; what goes wrong is one sample's."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import math
import os
import py_compile
from collections.abc import Iterator
from pathlib import Path

import datasets
import PIL.Image
import pytest

from harness import DataError, TaskError, evaluate
from harness.errors import HarnessError, UsageError
from harness.task_code import code_process
from harness.task_code.client import CodeError, TaskCode
from harness.task_code.consent import Consent
from harness.tasks.yaml_file import PythonFunction
from harness.testing import run_harness

YAML = """\
task: sums
dataset_path: rows.jsonl
test_split: test
output_type: generate_until
doc_to_text: !function code.doc_to_text
doc_to_target: !function code.doc_to_target
process_results: !function code.process_results
metric_list:
  - {metric: right, aggregation: mean, higher_is_better: true}
  - {metric: spread, aggregation: !function code.spread, higher_is_better: false}
"""
CODE = """\
import json
import os

from lm_eval.api.filter import Filter
from lm_eval.api.metrics import mean
from lm_eval.utils import general_detokenize

with open(os.path.join(os.path.dirname(__file__), "words.json")) as file:
    WORDS = json.load(file)


def doc_to_text(doc):
    return f"{WORDS['ask']} {doc['a']}+{doc['b']}"


def doc_to_target(doc):
    return doc["a"] + doc["b"]


def process_results(doc, results):
    if doc["a"] == 3:
        raise ValueError("three is too much")
    found = {"right": results[0] == str(doc_to_target(doc))}
    return found if doc["a"] == 1 else {**found, "spread": (doc["a"], {doc["b"]})}


def spread(items):
    return mean([a - min(b) for a, b in items])


def shout(resps, docs):
    return [[reply.upper() for reply in replies] for replies in resps]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sums.yaml").write_text(YAML)
    (tmp_path / "code.py").write_text(CODE)
    (tmp_path / "words.json").write_text('{"ask": "What is"}')
    rows = [{"a": a, "b": 10 * a} for a in (1, 2, 3, 4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def code(folder: Path) -> Iterator[TaskCode]:
    made = TaskCode(Consent((folder.resolve(),)), seconds=1)
    yield made
    made.close()


def function(folder: Path, name: str) -> PythonFunction:
    return PythonFunction(name, str(folder))


def run(folder: Path, **options: object) -> dict[str, float | None]:
    report = evaluate("dummy", {"mode": "gold"}, "sums.yaml", output=str(folder / "runs"), **options).report
    return {metric["metric"]: metric["value"] for metric in report["tasks"][0]["metrics"]}


def test_without_consent_the_flag_the_file_and_the_function_are_named(folder: Path) -> None:
    with pytest.raises(TaskError, match=r"sums.yaml:5: .*!function code.doc_to_text.*code\.py.*--trust_task_code"):
        run(folder)
    with pytest.raises(UsageError, match="there is no folder 'elsewhere'"):
        run(folder, trust_task_code="elsewhere")


def test_from_a_row_to_the_report(folder: Path) -> None:
    result = evaluate("dummy", {"mode": "gold"}, "sums.yaml", trust_task_code=".", output="runs")
    (task,) = result.report["tasks"]
    # The row that raises is failed, the one without a key has no value of it, and both are counted.
    assert {metric["metric"]: (metric["value"], metric["n"]) for metric in task["metrics"]} == {
        "right": (1.0, 3),
        "spread": (-27.0, 2),
    }
    assert task["counts"]["failed"] == 1
    records = [json.loads(line) for line in (result.path / "sums.jsonl").read_text().splitlines()]
    assert any("ValueError: three is too much" in (record.get("error") or "") for record in records)
    named = json.loads((result.path / "manifest.json").read_text())["tasks"]["sums"]["code"]
    assert {Path(file).name for file in named} == {"code.py", "words.json"}


@pytest.mark.slow
def test_a_metric_of_lm_evals_that_code_feeds_keeps_its_direction_and_its_items_are_logged_as_there(
    folder: Path,
) -> None:
    own = "{metric: spread, aggregation: !function code.spread, higher_is_better: false}"
    (folder / "sums.yaml").write_text(YAML.replace(own, "{metric: word_perplexity}"))
    (folder / "code.py").write_text(CODE.replace('"spread": (doc["a"], {doc["b"]})', '"word_perplexity": (-4.5, 3)'))
    run(folder, trust_task_code=".", output_path="out", log_samples=True)
    (file,) = (folder / "out").rglob("results_*.json")
    found = json.loads(file.read_text())
    assert found["higher_is_better"]["sums"] == {"right": True, "word_perplexity": False}
    assert found["results"]["sums"]["word_perplexity,none"] == pytest.approx(math.exp(4.5 / 3))
    assert found["versions"]["sums"] == "Yaml"
    (lines,) = (folder / "out").rglob("samples_sums_*.jsonl")
    assert json.loads(lines.read_text().splitlines()[1])["word_perplexity"] == [-4.5, 3]


PICTURES = """\
def doc_to_image(doc):
    if doc["n"] == 1:
        return [doc["right"], doc["left"].convert("L")]
    return None if doc["n"] == 2 else doc["nothing"]
"""


def test_python_chooses_the_pictures_of_a_row_and_may_change_them(folder: Path) -> None:
    (folder / "pictures.py").write_text(PICTURES)
    data = {}
    for name, colour in (("left", "red"), ("right", "blue")):
        PIL.Image.new("RGB", (4, 4), colour).save(folder / f"{name}.png")
        data[name] = {"bytes": (folder / f"{name}.png").read_bytes(), "path": f"{name}.png"}
    table = datasets.Dataset.from_list([{"n": n, **data} for n in (1, 2, 3)])
    table.to_parquet(folder / "rows.parquet")
    (folder / "seen.yaml").write_text(
        "task: seen\ndataset_path: rows.parquet\ntest_split: test\n"
        "doc_to_text: 'See {% if n != 2 %}<image>{% endif %}{{ n }}'\n"
        "doc_to_image: !function pictures.doc_to_image\ndoc_to_target: '{{ n }}'\n"
        "metric_list: [{metric: exact_match}]\n"
    )
    result = evaluate("dummy", {"mode": "gold"}, "seen.yaml", trust_task_code=".", output="runs")
    first, second, third = result.samples()
    changed, as_it_was = (part for part in first.prompt.messages[0].content if not isinstance(part, str))
    # The picture that stays as it was is the file that it was.
    assert as_it_was.sha256 == hashlib.sha256(data["right"]["bytes"]).hexdigest()
    assert changed.mime == "image/png"
    assert changed.sha256 != hashlib.sha256(data["left"]["bytes"]).hexdigest()
    assert first.doc["left"] == {"sha256": hashlib.sha256(data["left"]["bytes"]).hexdigest()}
    assert (second.prompt.text, second.error) == ("See 2", None)
    assert "KeyError: 'nothing'" in str(third.error)


SOUNDS = """\
def doc_to_audio(doc):
    sound = {"array": doc["audio"]["array"], "sampling_rate": doc["audio"]["sampling_rate"]}
    return [sound, {**sound, "array": sound["array"] / 2}] if doc["n"] == 1 else doc["audio"]["array"][1 / 0:]
"""


def test_python_chooses_the_sounds_of_a_row_and_may_change_them(folder: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    (folder / "sounds.py").write_text(SOUNDS)
    soundfile.write(folder / "a.wav", [0.0, 0.5, -0.5, 0.25], 8000)
    heard = {"bytes": (folder / "a.wav").read_bytes(), "path": "a.wav"}
    datasets.Dataset.from_list([{"n": n, "audio": heard} for n in (1, 2)]).to_parquet(folder / "rows.parquet")
    (folder / "heard.yaml").write_text(
        "task: heard\ndataset_path: rows.parquet\ntest_split: test\ndoc_to_text: 'Hear <audio> and <audio>.'\n"
        "doc_to_audio: !function sounds.doc_to_audio\ndoc_to_target: '{{ n }}'\nmetric_list: [{metric: exact_match}]\n"
    )
    result = evaluate("dummy", {"mode": "gold"}, "heard.yaml", trust_task_code=".", output="runs")
    first, second = result.samples()
    as_it_was, changed = (part for part in first.prompt.messages[0].content if not isinstance(part, str))
    assert (as_it_was.kind, as_it_was.sha256) == ("audio", hashlib.sha256(heard["bytes"]).hexdigest())
    assert soundfile.read(changed.path)[0].tolist() == [0.0, 0.25, -0.25, 0.125]
    assert first.doc["audio"] == {"sha256": as_it_was.sha256}
    assert "doc_to_audio: !function sounds.doc_to_audio: ZeroDivisionError" in str(second.error)


TYPED = """\
import datasets


def process_docs(dataset):
    kinds = dataset.features
    label = kinds["label"]
    said = " ".join(type(kinds[name]).__name__ for name in ("label", "picture", "parts", "day"))
    named = dataset.map(lambda doc: {"said": label.int2str(doc["label"]), "kinds": said, "year": doc["day"].year})
    return named.filter(lambda doc: doc["picture"].size == (4, 4) and doc["parts"]["text"] == ["a", "b"])
"""


def test_process_docs_gets_a_data_set_with_the_features_of_its_source(folder: Path) -> None:
    (folder / "typed.py").write_text(TYPED)
    PIL.Image.new("RGB", (4, 4), "red").save(folder / "red.png")
    picture = {"bytes": (folder / "red.png").read_bytes(), "path": None}
    kinds = datasets.Features(
        {
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "picture": datasets.Image(),
            "parts": {"text": datasets.Sequence(datasets.Value("string"))},
            "day": datasets.Value("timestamp[s]"),
        }
    )
    row = {"picture": picture, "parts": {"text": ["a", "b"]}, "day": datetime.datetime(2020, 2, 3)}
    table = datasets.Dataset.from_list([{"label": n, **row} for n in (1, 0)], features=kinds)
    place = folder / "mirror/some/set"
    place.mkdir(parents=True)
    table.to_parquet(place / "test.parquet")
    (folder / "typed.yaml").write_text(
        "task: typed\ndataset_path: some/set\ntest_split: test\nprocess_docs: !function typed.process_docs\n"
        "doc_to_text: '{{ kinds }} {{ year }}'\ndoc_to_target: said\nmetric_list: [{metric: exact_match}]\n"
    )
    result = evaluate("dummy", {"mode": "gold"}, "typed.yaml", trust_task_code=".", data="mirror", output="runs")
    assert [(one.prompt.text, one.target) for one in result.samples()] == [
        ("ClassLabel Image dict Value 2020", "yes"),
        ("ClassLabel Image dict Value 2020", "no"),
    ]


SCORES = """\
def near(references, predictions, within=0):
    return float(abs(int(references[0]) - int(predictions[0])) <= within)


def listed(pair):
    gold, reply = pair
    return float(gold == reply)


def total(items):
    return sum(items)


def first_seen(items):
    return min(gold + best for gold, best in items)
"""


def test_a_metric_of_the_task_gets_gold_and_reply_by_keyword_or_as_a_pair(folder: Path) -> None:
    (folder / "code.py").write_text(SCORES)
    (folder / "sums.yaml").write_text(
        "task: sums\ndataset_path: rows.jsonl\ntest_split: test\noutput_type: generate_until\n"
        "doc_to_text: '{{ a }}'\ndoc_to_target: '{{ b }}'\nmetric_list:\n"
        "  - {metric: !function code.near, aggregation: mean, within: 1}\n"
        "  - {metric: !function code.listed, aggregation: !function code.total}\n"
    )
    assert run(folder, trust_task_code=".") == {"near": 1.0, "listed": 4.0}


def test_an_aggregation_of_the_task_gets_what_lm_eval_has_of_each_choice(folder: Path) -> None:
    (folder / "code.py").write_text(SCORES)
    (folder / "sums.yaml").write_text(
        "task: sums\ndataset_path: rows.jsonl\ntest_split: test\noutput_type: multiple_choice\n"
        "doc_to_text: 'Is {{ a }} right?'\ndoc_to_choice: [wrong, right]\ndoc_to_target: 1\nmetric_list:\n"
        "  - {metric: acc, aggregation: !function code.total}\n"
        "  - {metric: f1, aggregation: !function code.first_seen}\n"
    )
    assert run(folder, trust_task_code=".") == {"acc": 4.0, "f1": 2.0}


@pytest.mark.slow
def test_code_and_the_files_that_it_reads_belong_to_what_a_task_is(folder: Path) -> None:
    def digest() -> str:
        path = evaluate("dummy", {"mode": "gold"}, "sums.yaml", trust_task_code=".", output="runs").path
        return str(json.loads((path / "manifest.json").read_text())["tasks"]["sums"]["digest"])

    first = digest()
    assert digest() == first
    (folder / "words.json").write_text('{"ask": "How much is"}')
    assert digest() != first


def test_a_missing_package_is_named_with_the_command_that_installs_it(folder: Path) -> None:
    (folder / "code.py").write_text("import bs4.nowhere_at_all_x\nimport surely_not_there\n" + CODE)
    with pytest.raises(HarnessError, match=r"sums.yaml:\d+: .*(pip install beautifulsoup4|pip install surely)"):
        run(folder, trust_task_code=".")


def test_a_function_that_is_not_there_is_refused_before_anything_is_asked(folder: Path) -> None:
    (folder / "sums.yaml").write_text(YAML.replace("code.spread", "code.spred"))
    with pytest.raises(HarnessError, match=r"code\.py: has no function 'spred'"):
        run(folder, trust_task_code=".")


def test_an_exit_a_death_and_a_loop_are_errors_of_the_row(folder: Path, code: TaskCode) -> None:
    (folder / "bad.py").write_text(
        "import os, sys\n"
        "def act(doc):\n"
        "    if doc['do'] == 'exit': sys.exit(3)\n"
        "    if doc['do'] == 'die': os._exit(9)\n"
        "    while doc['do'] == 'loop': pass\n"
        "    return doc['do']\n"
    )
    act = function(folder, "bad.act")
    rows = [{"do": do} for do in ("fine", "die", "exit", "loop", "well")]
    code.foresee([act], rows)

    def outcome(row: dict[str, str]) -> object:
        try:
            return code.value(act, row)
        except DataError as error:
            return str(error).partition("!function bad.act: ")[2]

    fine, died, left, looped, well = map(outcome, rows)
    assert (fine, well) == ("fine", "well")
    assert "exit code 9" in str(died)
    assert "SystemExit: 3" in str(left)
    assert "no end within" in str(looped)


PARTS = """\
import os


def process_docs(dataset):
    shuffled = dataset.shuffle(seed=3).filter(lambda doc: doc["n"] % 5)
    return shuffled.map(lambda doc: {"twice": 2 * doc["n"]})


def splits(**options):
    yielded = ({"n": n} for n in range(options["count"]))
    broken = ({"n": 1 / (300 - n)} for n in range(400))
    return {"train": [{"n": -1}], "test": yielded, "empty": [], "broken": broken}


def few(**options):
    return {"test": ({"n": n} if n < 300 else os._exit(9) for n in range(400))}


def counted(doc):
    counted.calls = getattr(counted, "calls", 0) + 1
    return counted.calls
"""


def test_whole_splits_come_in_parts_as_they_were_made(folder: Path, code: TaskCode) -> None:
    (folder / "parts.py").write_text(PARTS)
    rows = [{"n": n, "list": [n], "float": n / 3} for n in range(4500)]
    made = code.rows(function(folder, "parts.process_docs"), rows)
    assert sorted(row["n"] for row in made) == [n for n in range(4500) if n % 5]
    assert [row["n"] for row in made][:3] != [1, 2, 3]
    assert all(row == {**rows[row["n"]], "twice": 2 * row["n"]} for row in made)
    with pytest.raises(DataError, match=r"custom_dataset: .*parts\.splits: ZeroDivisionError"):
        code.splits(function(folder, "parts.splits"), {"count": 700})
    with pytest.raises(DataError, match=r"custom_dataset: .*parts\.few: its process has ended \(exit code 9\)"):
        code.splits(function(folder, "parts.few"), {})
    (folder / "parts.py").write_text(PARTS.replace("range(400)", "range(200)"))
    code.close()
    found = code.splits(function(folder, "parts.splits"), {"count": 700})
    assert {name: len(of_split) for name, of_split in found.items()} == {
        "train": 1,
        "test": 700,
        "empty": 0,
        "broken": 200,
    }
    assert list(found["test"]) == [{"n": n} for n in range(700)]


def test_values_of_many_rows_are_found_row_by_row(
    folder: Path, code: TaskCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.task_code.client.FEW", 100)
    monkeypatch.setattr("harness.spool.FEW", 100)
    (folder / "parts.py").write_text(PARTS)
    counted = function(folder, "parts.counted")
    for count in (50, 700):
        rows = [{"n": n} for n in range(count)]
        code.foresee([counted], rows)
        found = [code.value(counted, row) for _, row in code.known(enumerate(rows))]
        assert found == list(range(found[0], found[0] + count))
        code.forget()


def test_last_words_of_a_process_send_nothing_to_the_terminal(folder: Path, code: TaskCode) -> None:
    (folder / "bad.py").write_text("import os\ndef act(doc):\n    os.write(2, b'\\x1b[2Jbye\\x07')\n    os._exit(9)\n")
    with pytest.raises(DataError, match=r"its process has ended \(exit code 9\): .*bye") as caught:
        code.value(function(folder, "bad.act"), {})
    assert str(caught.value).isprintable()


HOSTILE = """\
import os, socket
def act(doc):
    tried = {}
    def attempt(name, what):
        try:
            tried[name] = str(what())
        except BaseException as error:
            tried[name] = type(error).__name__
    attempt("read", lambda: open(doc["secret"]).read())
    attempt("write", lambda: open(os.path.join(os.path.dirname(__file__), "own.txt"), "w").write("x"))
    attempt("connect", lambda: socket.create_connection(("192.0.2.1", 80), timeout=1))
    attempt("start", lambda: os.system("touch " + doc["mark"]))
    attempt("environment", lambda: os.environ.get("HARNESS_TEST_SECRET", "nothing"))
    return tried
"""


def test_hostile_code_stays_inside_and_what_it_tried_is_told(
    folder: Path, code: TaskCode, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_TEST_SECRET", "hush")
    outside = tmp_path_factory.mktemp("home")
    (outside / "secret.txt").write_text("hush")
    (folder / "bad.py").write_text(HOSTILE)
    row = {"secret": str(outside / "secret.txt"), "mark": str(outside / "mark")}
    found = code.value(function(folder, "bad.act"), row)
    assert found["read"] in ("FileNotFoundError", "PermissionError")
    assert found["write"] in ("OSError", "PermissionError")
    assert found["connect"] not in ("", "None")
    assert found["environment"] == "nothing"
    assert not (outside / "mark").exists() and not (folder / "own.txt").exists()
    told = " | ".join(code.tried)
    assert "to write" in told and "192.0.2.1" in told and "to start touch" in told


WRECKERS = """\
import builtins, json, os, subprocess, sys, threading, time


def send(body):
    for place in range(3, 60):
        try:
            os.write(place, len(body).to_bytes(8, "big") + body)
        except OSError:
            pass


def act(doc):
    do = doc["do"]
    if do == "bomb":
        while True:
            os.fork()
    if do == "memory":
        held = []
        while True:
            held.append(b"x" * (1 << 25))
    if do == "print":
        for _ in range(200):
            print("x" * (1 << 20))
    if do == "no json":
        send(b"no json")
    if do == "a list":
        send(b"[1, 2]")
    if do == "forged":
        send(json.dumps({"number": 1, "result": 7, "read": ["/dev/zero"], "tried": []}).encode())
    if do == "too long":
        for place in range(3, 60):
            try:
                os.write(place, (1 << 50).to_bytes(8, "big"))
            except OSError:
                pass
    if do == "deep":
        value = []
        for _ in range(100_000):
            value = [value]
        return value
    if do == "builtins":
        builtins.len = builtins.isinstance = None
        json.dumps = lambda *_, **__: "{"
    if do == "background":
        subprocess.Popen(["sleep", "300"], start_new_session=True)
        threading.Thread(target=time.sleep, args=(300,)).start()
    if do == "close":
        os.closerange(0, 60)
    if do == "fill":
        with open("/tmp/full", "wb") as file:
            while True:
                file.write(b"x" * (1 << 24))
    return "fine"
"""
ENDED = {
    "bomb": "BlockingIOError",
    "memory": "out of memory",
    "no json": "what is no answer",
    "a list": "what is no answer",
    "forged": "what is no answer",
    "too long": "what is no answer",
    "deep": "a value that it gives holds itself, or is nested too deep",
    "builtins": "no end|ended|Error",
    "close": "its process has ended",
    "fill": "File too large",
}


@pytest.mark.slow
def test_whatever_the_code_does_to_its_process_is_the_error_of_its_row(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = dataclasses.replace(code_process._LIMITS, memory=1 << 29, space=1 << 26, file_size=1 << 25, processes=40)
    monkeypatch.setattr(code_process, "_LIMITS", limits)
    (folder / "bad.py").write_text(WRECKERS)
    code, act = TaskCode(Consent((folder.resolve(),)), seconds=5), function(folder, "bad.act")
    for do in (*ENDED, "print", "background"):
        if do in ENDED:
            with pytest.raises(DataError, match=ENDED[do]):
                code.value(act, {"do": do})
        else:
            assert code.value(act, {"do": do}) == "fine"
        assert code.value(act, {"do": "nothing"}) == "fine", do
    assert {"to fork", "to start sleep 300"} <= set(code.tried)
    assert set(code.take_read()) == {str((folder / "bad.py").resolve())}
    code.close()
    others = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.is_file()]
    assert b"sleep\x00300\x00" not in others


def test_a_second_consent_runs_code_outside_of_the_sandbox(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("home") / "note.txt"
    outside.write_text("seen")
    (folder / "open.py").write_text("def act(doc): return open(doc['file']).read()\n")
    made = TaskCode(Consent((), (folder.resolve(),)))
    assert made.value(function(folder, "open.act"), {"file": str(outside)}) == "seen"
    made.close()


def test_the_tokenizer_of_the_model_is_seen_without_its_weights(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path_factory.mktemp("home")
    snapshot = home / "hub/models--some--model/snapshots/abc"
    for place in (home / "local", snapshot):
        place.mkdir(parents=True)
        (place / "tokenizer.json").write_text("{}")
        (place / "model.safetensors").write_text("weights")
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    (folder / "look.py").write_text("import os\ndef seen(doc): return sorted(os.listdir(doc['place']))\n")
    made = TaskCode(
        Consent((folder.resolve(),)), model_args={"pretrained": str(home / "local"), "tokenizer": "some/model"}
    )
    for place in (home / "local", snapshot):
        assert made.value(function(folder, "look.seen"), {"place": str(place)}) == ["tokenizer.json"]
    made.close()


def test_what_takes_long_is_done_once_while_the_first_modules_are_imported(folder: Path) -> None:
    done: list[str] = []
    made = TaskCode(Consent((folder.resolve(),)), meanwhile=lambda: done.append("imported"))
    assert done == []
    for text in ("twelve", "thirteen"):
        assert made.value(function(folder, "code.doc_to_text"), {"a": text, "b": 1})
        assert done == ["imported"]
    made.close()


def test_filters_of_a_task_and_what_no_filter_can_read(folder: Path, code: TaskCode) -> None:
    pair = [str(folder), "code.shout"]
    pipelines = {
        "loud": [{"function": "custom", "options": {}, "filter_fn": pair}],
        "digits": [
            {"function": "regex", "options": {"regex_pattern": r"(\d+)"}},
            {"function": "take_first", "options": {}},
        ],
    }
    spec = {"output_type": "generate_until", "process_results": None, "pipelines": pipelines, "metrics": []}
    code.open_task("t", spec, function(folder, "code.shout"))
    assert code.read("t", "loud", {}, ["so", "quiet"]) == ["SO", "QUIET"]
    assert code.read("t", "digits", {}, ["7 of 9"]) == "7"
    assert code.read("t", "digits", {}, ["none"]) == "[invalid]"
    with pytest.raises(CodeError, match="there is no filter 'nowhere'"):
        code.open_task(
            "u", {**spec, "pipelines": {"x": [{"function": "nowhere", "options": {}}]}}, function(folder, "code.shout")
        )


def test_a_filter_that_code_registers_is_found_by_its_name(folder: Path) -> None:
    (folder / "code.py").write_text(
        "from lm_eval.api.filter import Filter\nfrom lm_eval.api.registry import register_filter\n"
        "def doc_to_text(doc): return str(doc['a'])\n"
        "@register_filter('own_filter')\nclass Own(Filter):\n"
        "    def __init__(self, less=0): self.less = less\n"
        "    def apply(self, resps, docs): return [[str(int(one) - self.less) for one in each] for each in resps]\n"
    )
    plain = (
        "task: sums\ndataset_path: rows.jsonl\ntest_split: test\ndoc_to_text: !function code.doc_to_text\n"
        "doc_to_target: '{{ b }}'\nmetric_list: [{metric: exact_match}]\n"
        "filter_list: [{name: less, filter: [{function: own_filter, less: 1}, {function: take_first}]}]\n"
    )
    (folder / "sums.yaml").write_text(plain)
    result = evaluate("dummy", {"mode": "gold"}, "sums.yaml", trust_task_code=".", output="runs")
    assert [one.answers for one in result.samples()] == [{"less": (text,)} for text in ("9", "19", "29", "39")]
    (folder / "sums.yaml").write_text(plain.replace("own_filter", "own_filer"))
    with pytest.raises(HarnessError, match="unknown filter 'own_filer'"):
        run(folder, trust_task_code=".")


def test_nothing_is_imported_before_its_task_is_chosen(folder: Path) -> None:
    (folder / "code.py").write_text("raise SystemExit('imported')\n")
    listed = run_harness("tasks", "sums", "--include_path", ".")
    assert listed.exit_code == 0 and "sums" in listed.stdout
    with pytest.raises(HarnessError, match="SystemExit: imported"):
        run(folder, trust_task_code=".")


def test_what_lies_compiled_beside_the_code_is_not_run(folder: Path, code: TaskCode) -> None:
    for name in ("own", "other"):
        file = folder / f"{name}.py"
        file.write_text("WORD = 'old'\n")
        py_compile.compile(str(file), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
        file.write_text("WORD = 'new'\n")
    (folder / "own.py").write_text(
        "import os, sys\nsys.path.append(os.path.dirname(__file__))\nimport other\n"
        "def act(doc): return ['new', other.WORD]\n"
    )
    assert code.value(function(folder, "own.act"), {}) == ["new", "new"]
    assert set(map(os.path.basename, code.load([function(folder, "own.act")]).files)) == {"own.py", "other.py"}


def test_a_folder_is_gone_through_and_each_task_is_told_of(folder: Path) -> None:
    (folder / "plain.yaml").write_text(
        "task: plain\ndataset_path: rows.jsonl\ntest_split: test\ndoc_to_text: '{{a}}'\ndoc_to_target: '{{b}}'\n"
    )
    (folder / "prompted.yaml").write_text("task: prompted\ndataset_path: rows.jsonl\ntest_split: test\nuse_prompt: x\n")
    printed = run_harness("lm-eval-check", ".").stdout
    assert (
        "runs            plain" in printed
        and "needs consent   sums: " in printed
        and "cannot          prompted" in printed
    )
    assert "3 tasks: 1 runs, 1 needs consent, 0 needs packages, 1 cannot" in printed
    trusted = run_harness("lm-eval-check", ".", "--trust_task_code", ".").stdout
    assert "3 tasks: 2 runs, 0 needs consent" in trusted

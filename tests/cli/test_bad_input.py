"""Every mistake ends in one clear line that says what, where and what to do, and in exit 4, before a model loads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from safetensors.torch import save_file

from harness.record.run import RunFolder
from harness.registry import load_plugins
from harness.testing import run_harness, tiny_causal_lm

TASK = """\
task: rivers
dataset_path: rivers.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{ question }}"
doc_to_choice: [甲, 乙, 丙]
doc_to_target: "{{ answer }}"
metric_list:
  - metric: acc
"""
GENERATED = (
    TASK.replace("multiple_choice", "generate_until")
    .replace("doc_to_choice: [甲, 乙, 丙]\n", "")
    .replace("metric: acc", "metric: exact_match")
)
ROWS = [{"question": f"哪一条河？{n}", "answer": n % 3} for n in range(4)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a task that is right."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    write(TASK)
    Path("rivers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return tmp_path


@pytest.fixture(autouse=True)
def _no_model_may_load(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    loaded: list[str] = []
    monkeypatch.setattr(load_plugins().model("hf"), "load", lambda self: loaded.append("hf"))
    yield
    assert loaded == []


def write(text: str) -> None:
    Path("rivers.yaml").write_text(text, encoding="utf-8")


def run(*argv: str, model: str = "dummy") -> Result:
    return run_harness("--tasks", "rivers.yaml", "--model", model, *argv)


def refused(result: Result, *parts: str) -> None:
    """One line of error with all the parts, exit 4, nothing on stdout, and no run folder.

    Stages that began before it are named, each in a line that ends in an ellipsis.
    """
    assert result.exit_code == 4, result.output
    (error,) = [line for line in result.stderr.splitlines() if not line.endswith(" ...")]
    assert error.startswith("error: "), result.stderr
    for part in parts:
        assert part in result.stderr, f"{part!r} is not in: {result.stderr}"
    assert result.stdout == ""
    assert not list(Path("runs").glob("*/*.jsonl"))


def test_the_task_of_these_tests_is_right() -> None:
    assert run("--model_args", "mode=gold").exit_code == 0


def test_an_unknown_task() -> None:
    refused(
        run_harness("--tasks", "riversides", "--include_path", ".", "--model", "dummy"),
        "'riversides'",
        "did you mean 'rivers'?",
    )


def test_no_task_at_all() -> None:
    refused(run_harness("--model", "dummy"), "--tasks", "harness tasks")


def test_an_unknown_model() -> None:
    refused(run(model="dumy"), "unknown model 'dumy'; did you mean 'dummy'?")


def test_an_argument_that_the_model_does_not_take() -> None:
    refused(run("--model_args", "mood=gold"), "--model_args", "'mood'; did you mean 'mode'?")


def test_an_unknown_metric() -> None:
    write(TASK.replace("metric: acc", "metric: acc_nrom"))
    refused(run(), "error: rivers.yaml:9: unknown metric 'acc_nrom'; did you mean 'acc_norm'?")
    refused(run("--metrics", "brier_score"), "error: rivers.yaml:9: unknown metric 'acc_nrom'")


def test_an_unknown_filter() -> None:
    write(GENERATED + "filter_list:\n  - name: first\n    filter:\n      - function: take_frist\n")
    refused(run(), "error: rivers.yaml:12: unknown filter 'take_frist'; did you mean 'take_first'?")


def test_a_pipeline_given_twice_and_a_metric_of_another_kind() -> None:
    write(TASK.replace("metric: acc", "metric: bleu"))
    refused(run(), "error: rivers.yaml:9: metric 'bleu' cannot score a task of output_type 'multiple_choice'")
    write(GENERATED + "filter_list:\n- &one {name: first, filter: [{function: take_first}]}\n- *one\n")
    refused(run(), "error: rivers.yaml:", "two pipelines of filter_list are named 'first'; rename one")


def test_an_option_that_the_metric_does_not_take() -> None:
    write(GENERATED.replace("metric: exact_match", "metric: exact_match\n    ignore_cose: true"))
    refused(run(), "error: rivers.yaml:8: ", "'ignore_cose'; did you mean 'ignore_case'?")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("metric_list", "metirc_list", "rivers.yaml:8: unknown key 'metirc_list'; did you mean 'metric_list'?"),
        ("multiple_choice", "multiple_choices", "rivers.yaml:4:"),
        ('doc_to_text: "{{ question }}"', 'doc_to_text: "{{ question"', "rivers.yaml:5:"),
        ("task: rivers", "task: [rivers", "rivers.yaml:"),
        ("[甲, 乙, 丙]", "7.5", "rivers.yaml:6:"),
    ],
)
def test_a_mistake_in_the_task_file(old: str, new: str, message: str) -> None:
    write(TASK.replace(old, new))
    refused(run(), message)


def test_a_template_that_uses_a_missing_field() -> None:
    write(TASK.replace("{{ question }}", "{{ questoin }}"))
    refused(run(), "rivers.yaml", "questoin", "question")


@pytest.mark.slow
def test_a_data_set_that_is_not_there() -> None:
    write(TASK.replace("rivers.jsonl", "nobody/has-this-set"))
    refused(run("--offline"), "nobody/has-this-set", "--data", "harness data pull")


def test_a_file_of_rows_that_is_not_there() -> None:
    write(TASK.replace("rivers.jsonl", "lakes.jsonl"))
    refused(run(), "lakes.jsonl")


def test_a_split_that_does_not_exist() -> None:
    Path("set").mkdir()
    Path("rivers.jsonl").rename("set/validation.jsonl")
    write(TASK.replace("rivers.jsonl", "./set"))
    refused(run(), "'test'", "validation")


def test_a_subset_that_does_not_exist() -> None:
    write(TASK + "subsets:\n  asia: {title: 亚洲}\n  europe: {title: 欧洲}\n")
    refused(run_harness("--tasks", "rivers/asai", "--include_path", ".", "--model", "dummy"), "asai", "asia")


def test_a_gold_answer_outside_the_choices() -> None:
    Path("rivers.jsonl").write_text(json.dumps({"question": "?", "answer": 7}) + "\n", encoding="utf-8")
    refused(run(), "error: rivers.yaml:7: doc_to_target: ", "row 0", "7", "3 choices")


@pytest.mark.parametrize("few", [20_000, 2])
@pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ('{"a": ', "}")])
def test_a_row_that_is_nested_too_deep_is_refused_by_its_number(
    opens: str, closes: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.spool.FEW", few)
    rows = Path("rivers.jsonl").read_text(encoding="utf-8").splitlines()
    for depth in (390, 450):
        rows[3] = '{"question": "?", "answer": 0, "deep": ' + opens * depth + "1" + closes * depth + "}"
        Path("rivers.jsonl").write_text("".join(row + "\n" for row in rows), encoding="utf-8")
        if depth == 390:
            assert run("--output", "deep").exit_code == 0
    refused(run(), "a value is nested more than 400 times (task 'rivers', split 'test', row 3)")


def test_an_override_of_a_task_that_does_not_run() -> None:
    refused(run("--set", "lakes.num_fewshot=0"), "--set", "'lakes'")


def test_an_override_of_a_key_that_does_not_exist() -> None:
    refused(
        run("--set", "rivers.num_fewshto=0"),
        "--set rivers.num_fewshto: unknown key 'num_fewshto'; did you mean 'num_fewshot'?",
    )


def test_an_output_folder_that_cannot_be_written() -> None:
    Path("occupied").write_text("a file", encoding="utf-8")
    refused(run("--output", "occupied"), "--output", "occupied")
    refused(run("--output", "occupied/below"), "--output", "occupied")


def test_a_run_folder_of_another_configuration() -> None:
    assert run("--output", "mine").exit_code == 0
    (path,) = Path("mine").iterdir()
    refused(run("--output", str(path), "--seed", "7"), str(path), "seed")


def test_a_run_folder_that_is_in_use() -> None:
    assert run("--output", "mine").exit_code == 0
    (path,) = Path("mine").iterdir()
    with RunFolder.reopen(path):
        refused(run("--output", "mine"), str(path), "in use")


def test_a_folder_that_is_no_run() -> None:
    refused(run_harness("report", "."), "manifest.json")
    refused(run_harness("score", "nowhere"), "nowhere")


def test_a_row_and_a_subset_to_show_that_do_not_exist() -> None:
    refused(run_harness("show", "rivers.yaml", "--model", "dummy", "--doc", "9"), "--doc", "no row 9")
    refused(run_harness("show", "rivers.yaml", "--model", "dummy", "--subset", "asia"), "--subset", "asia")


def test_a_model_folder_without_weights_or_tokenizer(folder: Path) -> None:
    refused(run("--model_args", "pretrained=./nothing", model="hf"), "nothing")
    model = tiny_causal_lm(folder / "model")
    for file in model.glob("token*"):
        file.unlink()
    refused(run("--model_args", f"pretrained={model}", model="hf"), "tokenizer", str(model))


def test_an_adapter_for_another_base_model(folder: Path) -> None:
    model = tiny_causal_lm(folder / "model")
    adapter = folder / "adapter"
    adapter.mkdir()
    config: dict[str, Any] = {
        "base_model_name_or_path": "someone/another-base",
        "peft_type": "LORA",
        "r": 2,
        "target_modules": ["no_such_layer"],
        "task_type": "CAUSAL_LM",
    }
    (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    refused(run("--model_args", f"pretrained={model},peft={adapter}", model="hf"), "adapter", "has no weights")
    save_file({"base.no_such_layer.lora_A.weight": torch.zeros(2, 2)}, adapter / "adapter_model.safetensors")
    refused(run("--model_args", f"pretrained={model},peft={adapter}", model="hf"), "adapter", "someone/another-base")


def test_a_sample_that_fails_is_counted_and_turns_the_exit_code_to_1(monkeypatch: pytest.MonkeyPatch) -> None:
    metric = load_plugins().metric("acc")
    score = metric.score

    def touchy(self: Any, seen: Any) -> Any:
        if seen.sample.id == 2:
            raise ValueError("two is unlucky")
        return score(self, seen)

    monkeypatch.setattr(metric, "score", touchy)
    result = run("--model_args", "mode=gold")
    assert result.exit_code == 1
    assert "failed" in result.stdout
    assert "1 sample failed" in result.stderr
    (file,) = Path("runs").glob("*/rivers.jsonl")
    records = [json.loads(text) for text in file.read_text(encoding="utf-8").splitlines()]
    (error,) = [record["error"] for record in records if record.get("error")]
    assert error.startswith(f"metric acc: ValueError: two is unlucky ({__file__}:")


def test_a_file_that_was_meant_is_named() -> None:
    refused(
        run_harness("--tasks", "rivers.yml", "--model", "dummy"),
        "rivers.yml: there is no such file; did you mean 'rivers.yaml'?",
    )
    refused(
        run_harness("--tasks", "rivers", "--model", "dummy"),
        "unknown task 'rivers'; did you mean the file rivers.yaml?",
    )
    write(TASK.replace("rivers.jsonl", "rivers.csv"))
    refused(run(), "rivers.csv: there is no such file or folder; there is rivers.jsonl, rivers.yaml")
    write(TASK.replace("rivers.jsonl", "sub\\rivers.jsonl"))
    Path("sub").mkdir()
    Path("rivers.jsonl").rename("sub/rivers.jsonl")
    refused(run(), "; paths are written with / (dataset_path: sub\\rivers.jsonl) (task 'rivers', rivers.yaml:2)")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("rows.csv", "question;answer\n江;1\n".encode(), "is it separated by ';'? Say `delimiter:` (in dataset_kw"),
        ("rows.csv", "question,answer\n江,1\n".encode("gbk"), "rows.csv:2: is not utf-8; it reads as gb18030: say"),
        ("rows.csv", "question,answer\n江,1\n".encode("utf-16"), "it reads as utf-16: say `encoding: utf-16`"),
        ("rows.xlsx", b"PK", "rows.xlsx: is a spreadsheet; save it as CSV (UTF-8)"),
        ("rows.csv", b"question,answer\nA,A\n", "; a letter is made an index by {{ 'ABC'.index(...) }}"),
    ],
)  # fmt: skip
def test_a_table_that_is_not_as_expected_says_what_to_write(name: str, data: bytes, said: str) -> None:
    Path(name).write_bytes(data)
    write(TASK.replace("rivers.jsonl", name))
    refused(run(), said)


def test_slips_in_a_task_file_are_told_apart() -> None:
    write(TASK + "---\n" + TASK)
    refused(run(), "rivers.yaml:10: a second document ('---') begins here; a task file holds one")
    write(TASK + 'num_fewshot: "5"\n')
    refused(run(), "rivers.yaml:10: num_fewshot: should be a valid integer, found '5' (a number takes no quotes)")
    write(TASK.replace("- metric: acc", "- acc"))
    refused(run(), "rivers.yaml:9: metric_list[0]: should be a mapping of keys to values, as in `metric: NAME`, found")
    for colon, what in (("：", "the full-width colon"), (":\xa0", "a no-break space")):
        write(TASK.replace("test_split: ", f"test_split{colon}"))
        refused(run(), f"rivers.yaml:3: {what} behind 'test_split' is none of YAML's: write ': '")
    write(GENERATED + "generation_kwargs: {temperature: 1e-3}\n")
    refused(run(), "rivers.yaml:9: generation_kwargs.temperature: ", "(YAML reads it as a text: write 1.0e-3)")
    write(TASK + "metadata: !!python/tuple [1]\n")
    refused(run(), "rivers.yaml:10: unknown tag 'tag:yaml.org,2002:python/tuple'")
    write(TASK + "subsets: {a: {title: A}, b: true}\n")
    refused(run(), "rivers.yaml:10: subsets.b: should be ")
    write(TASK.replace("[甲, 乙, 丙]", "[]"))
    refused(run(), "doc_to_choice: there are no choices")
    write(TASK.replace("[甲, 乙, 丙]", '[甲, ""]'))
    refused(run(), "doc_to_choice: choice 2 is empty")
    write(GENERATED + "generation_kwargs:\n  temprature: 1\n")
    refused(run(), "rivers.yaml:9: generation_kwargs: unknown key 'temprature'; did you mean 'temperature'?")
    Path("rivers.yaml").write_bytes(TASK.encode("gbk"))
    refused(run(), "rivers.yaml:6: is not UTF-8 text; save the file as UTF-8 (it reads as gb18030: iconv -f gb18030")


def test_a_value_that_yaml_reads_in_its_own_way_is_told() -> None:
    write(TASK.replace('"{{ question }}"', "“{{ question }}”") + "version: 1:30\nmetadata: {n: 010, m: 0, k: 0x10}\n")
    said = run().stderr
    assert "rivers.yaml:5: the quotes of “{{ question }}” are part of the text: YAML's own are straight" in said
    assert "rivers.yaml:10: 1:30 is the number 90 in YAML: write 90, or '1:30' for a text" in said
    assert "rivers.yaml:11: 010 is the number 8 in YAML: write 8, or '010' for a text" in said
    assert said.count("in YAML") == 2


@pytest.mark.parametrize(
    "argv",
    [
        ("lite", "rivers.yaml", "--size", "2"),
        ("paraphrase", "rivers.yaml", "--model", "dummy"),
        ("contamination", "rivers.yaml", "--corpus", "."),
        ("live", "capture", ".", "--date", "2026-06"),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(argv: tuple[str, ...]) -> None:
    told = run_harness(*argv, "--to", "rivers.jsonl/deep/x")
    refused(told, "error: --to rivers.jsonl/deep", "rivers.jsonl' is a file; name a folder")


@pytest.mark.parametrize(
    ("argv", "flag"),
    [
        (("--tasks", "rivers.yaml", "--model", "dummy", "--output", "link"), "--output link"),
        (("--tasks", "rivers.yaml", "--model", "dummy", "--output", "link/deep"), "--output link/deep"),
        (("--tasks", "rivers.yaml", "--model", "dummy", "--output_path", "link/x.json"), "--output_path link/x.json"),
        (("data", "pull", "rivers.yaml", "--to", "link"), "--to link"),
        (("export", ".", "--parquet", "link/a.parquet"), "--parquet link/a.parquet"),
        (("export", ".", "--format", "hub", "--to", "link"), "--to link"),
        (("view", ".", "--export", "link"), "--export link"),
        (("view", ".", "--single", "link/a.html"), "--single link/a.html"),
        (("report", "link"), "link: no run folder (it has no manifest.json)"),
    ],
)
def test_a_link_to_nothing_is_named(argv: tuple[str, ...], flag: str) -> None:
    Path("link").symlink_to("nowhere")
    refused(run_harness(*argv), f"error: {flag}: 'link' is a link to 'nowhere', which is not there")


def test_an_array_that_numpy_printed_into_a_table_is_no_choice() -> None:
    write(TASK.replace("rivers.jsonl", "rows.csv").replace("[甲, 乙, 丙]", '"{{ options }}"'))
    Path("rows.csv").write_text("question,options,answer\nq,\"['a' 'b'\n 'c']\",0\n")
    refused(run(), "rivers.yaml:6: doc_to_choice: is an array as NumPy prints it", "write the rows as JSON lines")
    Path("rows.csv").write_text("question,options,answer\nq,\"['a', 'b', 'it\\'s \\'c\\' \\'d\\'']\",a\n")
    assert run().exit_code == 0


def test_a_flag_is_blamed_by_its_own_name() -> None:
    refused(run("--num_fewshot", "9"), "error: --num_fewshot: num_fewshot: 9 few-shot examples are asked for")
    refused(run("--gen_kwargs", "temprature=1"), "--gen_kwargs: unknown key 'temprature'; did you mean 'temperature'?")
    refused(run("--gen_kwargs", "temperature=hot"), "--gen_kwargs: temperature: should be a valid number")
    refused(run("--apply_chat_template", "vicuna"), "--apply_chat_template vicuna: model 'dummy' has no chat templates")


def test_what_has_no_effect_is_said() -> None:
    assert "--log_samples without --output_path" in run("--log_samples").stderr
    Path("rivers.jsonl").write_text('{"question": "a", "answer": 0}\n{"question": "b", "answer": null}\n')
    assert "rivers: 1 of 2 samples have no gold answer (null) and no score" in run().stderr
    write(TASK.replace("[甲, 乙, 丙]", "[甲, 乙, 甲, 丙, 丙]"))
    Path("rivers.jsonl").write_text('{"question": "a", "answer": 2}\n{"question": "b", "answer": 1}\n')
    assert "rivers: 1 of 2 samples have the text of the right choice twice, of which only one counts" in run().stderr
    Path("rivers.jsonl").write_text('{"question": "a", "answer": 0}\n{"question": "b", "answer": null}\n')
    write(TASK.replace("[甲, 乙, 丙]", "[甲]"))
    assert "rivers: 1 of 2 samples have a single choice, which is right whatever the model is" in run().stderr
    Path("rivers.jsonl").write_text('{"question": "a", "answer": "b"}\n{"question": "b", "answer": ""}\n')
    write(GENERATED)
    assert "rivers: 1 of 2 samples have an empty text as gold answer, which only an empty answer eq" in run().stderr

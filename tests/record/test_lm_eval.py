"""The files that scripts for lm-eval read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from record_samples import IDENTITY, REPORT, SHOTS, make_record

import harness
from harness import Message, MetricResult, Prompt, Response, SaveError, UsageError
from harness.record.lm_eval import check_output_path, write_lm_eval
from harness.record.lm_eval_samples import AsRecorded, sample_line
from harness.record.report import build_report
from harness.record.run import RunFolder
from harness.types import JSON, Counts, Record, Result

MANIFEST = {
    "command": "harness",
    "model": {"name": "hf", "args": {"dtype": "float32", "pretrained": "Qwen/Qwen3-0.6B"}},
    "spec": {"seed": 7, "limit": None, "batch_size": "auto", "system_instruction": "你好"},
    "versions": {"harness-eval": "0.1.0", "transformers": "5"},
    "tasks": {
        "law": {
            "subsets": ["civil", "criminal"],
            "num_fewshot": 5,
            "version": 2,
            "config": {"target_delimiter": "", "dataset_path": "ceval/ceval-exam"},
        },
        "gsm8k": {
            "subsets": [""],
            "num_fewshot": 0,
            "version": 1,
            "config": {
                "generation_kwargs": {"until": ["\n"]},
                "filter_list": [{"name": "strict"}, {"name": "flexible"}],
            },
        },
    },
}


def metrics(value: float, *names: str) -> tuple[MetricResult, ...]:
    return tuple(MetricResult(name, value, 2, None if value == 1 else 0.25, (0.0, 1.0)) for name in names)


RESULTS = [
    Result("law", "civil", "subset", Counts(2), metrics(0.5, "acc")),
    Result("law", "criminal", "subset", Counts(2), metrics(1.0, "acc")),
    Result("law", "hard", "group", Counts(2), metrics(1.0, "acc"), "micro"),
    Result("law", "law", "task", Counts(4), metrics(0.75, "acc"), "micro"),
    Result("law", "law", "task", Counts(4), metrics(0.75, "acc"), "macro"),
    Result("gsm8k", "gsm8k", "task", Counts(1), metrics(0.5, "exact_match@strict", "exact_match@flexible")),
]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    with RunFolder.open(tmp_path / "runs", "hf", IDENTITY, MANIFEST) as folder:
        for subset in ("civil", "criminal"):
            for number in range(2):
                folder.write(make_record(number, subset))
        folder.write(
            make_record(
                0,
                "",
                "gsm8k",
                prompt=Prompt(messages=(Message("user", "1+1=?"),), prefill="A:"),
                target="2",
                choices=(),
                responses=(Response(text="so 2\n"), Response(text="3")),
                request_keys=("a", "b"),
                scores={"exact_match@strict": 0.0, "exact_match@flexible": 1.0},
                answers={"strict": (None,), "flexible": ("2", "3")},
            )
        )
        folder.finish("finished", build_report(folder.manifest, RESULTS))
    return RunFolder.read(folder.path)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_results_have_the_names_that_scripts_look_for(run: RunFolder, tmp_path: Path) -> None:
    path = write_lm_eval(run, tmp_path / "out")
    assert path.parent == tmp_path / "out" / "Qwen__Qwen3-0.6B"
    assert path.name.startswith("results_20")
    assert ":" not in path.name
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["results"]["law_civil"] == {
        "name": "law_civil",
        "alias": "law_civil",
        "sample_len": 2,
        "acc,none": 0.5,
        "acc_stderr,none": 0.25,
    }
    assert found["results"]["law"]["acc,none"] == 0.75
    assert found["results"]["law_criminal"]["acc_stderr,none"] == "N/A"
    assert found["results"]["gsm8k"]["exact_match,strict"] == 0.5
    assert found["results"]["gsm8k"]["exact_match_stderr,flexible"] == 0.25
    assert set(found["groups"]) == {"law", "law_hard"}
    assert found["group_subtasks"] == {"law": ["law_civil", "law_criminal"]}
    assert found["configs"]["law_civil"]["dataset_path"] == "ceval/ceval-exam"
    assert (found["versions"]["law_civil"], found["n-shot"]["law_civil"]) == (2, 5)
    assert found["higher_is_better"]["gsm8k"] == {"exact_match": True}
    assert found["n-samples"]["law_criminal"] == {"original": 2, "effective": 2}
    assert found["config"]["model"] == "hf"
    assert found["config"]["fewshot_seed"] == 7
    assert found["model_name"] == "Qwen/Qwen3-0.6B"
    assert float(found["total_evaluation_time_seconds"]) >= 0
    assert found["date"] > 1.7e9
    assert found["transformers_version"] == "5"
    assert len(found["system_instruction_sha"]) == 64
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_samples_have_the_shape_that_scripts_look_for(run: RunFolder, tmp_path: Path) -> None:
    path = write_lm_eval(run, tmp_path / "out", log_samples=True)
    stamp = path.stem.removeprefix("results_")
    names = sorted(file.name.removesuffix(f"_{stamp}.jsonl") for file in path.parent.glob("samples_*"))
    assert names == ["samples_gsm8k", "samples_law_civil", "samples_law_criminal"]
    first, second = read_lines(path.parent / f"samples_law_civil_{stamp}.jsonl")
    assert (first["doc_id"], second["doc_id"]) == (0, 1)
    assert first["doc"] == {"question": "问题 0 🙂", "A": "甲"}
    assert (first["target"], second["target"]) == ("0", "1")
    assert first["arguments"]["gen_args_1"] == {"arg_0": f"{SHOTS}问题 0\r\n答案:", "arg_1": "B"}
    assert first["resps"][0] == [["-0.1", "True"]]
    assert first["filtered_resps"][1] == [str(-1 / 3), "False"]
    assert (first["filter"], first["metrics"], second["acc"]) == ("none", ["acc"], 1.0)
    assert len({first["doc_hash"], second["doc_hash"]}) == 2
    assert set(json.loads(path.read_text(encoding="utf-8"))["task_hashes"]) == {"law_civil", "law_criminal", "gsm8k"}


def test_each_pipeline_has_a_line_of_its_own(run: RunFolder, tmp_path: Path) -> None:
    path = write_lm_eval(run, tmp_path / "out", log_samples=True)
    (file,) = path.parent.glob("samples_gsm8k_*")
    strict, flexible = read_lines(file)
    assert (strict["filter"], strict["exact_match"], strict["filtered_resps"]) == ("strict", 0.0, ["[invalid]"])
    assert (flexible["filter"], flexible["exact_match"], flexible["filtered_resps"]) == ("flexible", 1.0, [["2", "3"]])
    assert strict["resps"] == [["so 2\n", "3"]]
    prompt = '[{"role": "user", "content": "1+1=?"}]A:'
    assert strict["arguments"] == {"gen_args_0": {"arg_0": [prompt], "arg_1": {"until": ["\n"]}}}


@pytest.mark.parametrize(("prefill", "choice"), [("", "A"), ("I say:", " A"), ("I say: ", "A")])
def test_the_choice_of_a_chat_is_written_as_the_model_was_asked_for_it(prefill: str, choice: str) -> None:
    record = make_record(prompt=Prompt(messages=(Message("user", "1+1=?"),), prefill=prefill))
    line = sample_line(record, {"target_delimiter": " "}, "none", "none", AsRecorded())
    assert line["arguments"]["gen_args_0"]["arg_1"] == choice


def test_only_wanted_samples_are_written(run: RunFolder, tmp_path: Path) -> None:
    path = write_lm_eval(run, tmp_path / "out", log_samples=True, wanted=lambda record: record.subset == "civil")
    assert len(list(path.parent.glob("samples_*"))) == 1


def test_a_json_file_name_is_a_file_name(run: RunFolder, tmp_path: Path) -> None:
    path = write_lm_eval(run, tmp_path / "out.json", log_samples=True)
    assert path.parent == tmp_path
    assert path.name.startswith("out_20")
    assert len(list(tmp_path.glob("samples_*"))) == 3


def test_an_output_path_that_cannot_be_written_is_named(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(SaveError, match="cannot be written"):
        write_lm_eval(run, tmp_path / "file")


def test_a_scored_text_is_written_behind_its_prompt() -> None:
    record = make_record(prompt=Prompt(suffix="1+1="), choices=(), target=" 2", responses=(Response(logprobs=(-1.0,)),))
    line = sample_line(record, {"output_type": "loglikelihood"}, "none", "none", AsRecorded())
    assert line["arguments"] == {"gen_args_0": {"arg_0": "1+1=", "arg_1": " 2"}}


@pytest.mark.parametrize(
    ("written", "metric", "name"),
    [
        ("!function utils.pass_at_k", "pass_at_1", "pass@1"),
        ("!function utils.pass_at_1", "pass_at_1", "pass_at_1"),
        ("pass_at_1", "pass_at_1", "pass_at_1"),
        ("r@2", "r_at_2", "r@2"),
    ],
)
def test_a_score_has_the_name_that_lm_eval_gives_it(written: str, metric: str, name: str) -> None:
    config = {"metric_list": [{"metric": written}]}
    line = sample_line(make_record(0, scores={metric: 1.0}), config, "none", "none", AsRecorded())
    assert line[name] == 1.0


class Shown(AsRecorded):
    def prompt(self, prompt: Prompt) -> str:
        return "<user>1+1=?<end>"

    def target(self, record: Record) -> JSON:
        return "甲"

    def items(self, record: Record, pipeline: str) -> dict[str, JSON]:
        return {"rank": [1, 2]}


def test_what_a_run_knows_beyond_its_records_is_written() -> None:
    record = make_record(prompt=Prompt(messages=(Message("user", "1+1=?"),)))
    line = sample_line(record, {}, "none", "none", Shown())
    assert line["arguments"]["gen_args_0"]["arg_0"] == "<user>1+1=?<end>"
    assert (line["target"], line["rank"], line["metrics"]) == ("甲", [1, 2], ["acc", "rank"])
    assert line["prompt_hash"] == hashlib.sha256(b"<user>1+1=?<end>").hexdigest()


def test_a_rolling_score_is_a_number_without_a_flag() -> None:
    answer = (Response(logprobs=(-7.5,), token_counts=(3,)),)
    record = make_record(choices=(), target="a b c", responses=answer, scores={"word_perplexity": (-7.5, 3.0)})
    line = sample_line(record, {"output_type": "loglikelihood_rolling"}, "none", "none", AsRecorded())
    assert (line["resps"], line["filtered_resps"], line["word_perplexity"]) == ([["-7.5"]], ["-7.5"], [-7.5, 3.0])


@pytest.mark.parametrize(
    ("metric", "score", "logged"),
    [("f1", (1.0, 0.0, 1.0), [1, 0]), ("mcc", (0.0, 1.0, 0.0), [1, 0]), ("perplexity", (-2.5,), -2.5)],
)
def test_a_metric_of_a_whole_set_logs_what_goes_into_it(metric: str, score: Any, logged: Any) -> None:
    line = sample_line(make_record(1, scores={metric: score}), {}, "none", "none", AsRecorded())
    assert line[metric] == logged


def test_a_corpus_metric_of_texts_logs_gold_and_answer_and_a_fallback_is_the_tasks_own() -> None:
    known = {"choices": (), "target": "two", "responses": (Response(text="so 2"),)}
    filters = {"filter_list": [{"name": "f", "filter": [{"function": "regex", "fallback": "nothing"}]}]}
    for answer, logged in (("2", "2"), (None, "nothing")):
        record = make_record(**known, answers={"f": (answer,)}, scores={"bleu": (1.0, 0.0)})
        line = sample_line(record, filters, "f", "f", AsRecorded())
        assert (line["bleu"], line["filtered_resps"]) == (["two", logged], [logged])


def test_all_samples_come_by_one_pipeline_before_the_next(tmp_path: Path) -> None:
    rows = [{"q": f"{n}?", "a": ["no", "yes"][n % 2]} for n in range(3)]
    (tmp_path / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "odd.yaml").write_text(
        "task: odd\ntask_alias: Odd ones\ndataset_path: odd.jsonl\ntest_split: test\ndoc_to_text: '{{ q }}'\n"
        "doc_to_target: a\nmetric_list: [{metric: exact_match}]\nfilter_list:\n"
        "  - {name: word, filter: [{function: regex, regex_pattern: '(\\w+)'}]}\n"
        "  - {name: digit, filter: [{function: regex, regex_pattern: '(\\d)'}]}\n",
        encoding="utf-8",
    )
    harness.evaluate(
        "dummy", "mode=gold", str(tmp_path / "odd.yaml"),
        output=tmp_path / "runs", output_path=tmp_path / "lm", log_samples=True,
    )  # fmt: skip
    (file,) = (tmp_path / "lm").rglob("samples_odd_*")
    lines = read_lines(file)
    assert [(line["filter"], line["doc_id"]) for line in lines] == [(f, n) for f in ("word", "digit") for n in range(3)]
    assert [line["filtered_resps"] for line in lines[2:4]] == [["no"], ["[invalid]"]]
    (results,) = (tmp_path / "lm").rglob("results_*")
    found = json.loads(results.read_text(encoding="utf-8"))
    assert found["results"]["odd"]["alias"] == "Odd ones"
    config = found["configs"]["odd"]
    assert (config["repeats"], config["target_delimiter"], config["fewshot_config"]["doc_to_text"]) == (
        1,
        " ",
        "{{ q }}",
    )
    assert config["generation_kwargs"]["until"] == ["\n\n"]


@pytest.mark.parametrize("name", ["x" * 300 + ".json", "é" * 120 + ".json", "y" * 300, "z" * 240 + ".json"])
def test_an_output_path_that_is_too_long_is_found_before_the_run(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="File name too long; choose another folder"):
        check_output_path(tmp_path / name)
    check_output_path(tmp_path / "short.json")


@pytest.mark.parametrize("name", ["m" * 300, "模" * 200, "a/" * 200, ".", "..", "ctrl\x1b[31m", "half\ud800"])
def test_any_model_has_a_folder_of_its_own_below_the_output_path(tmp_path: Path, name: str) -> None:
    manifest = {**MANIFEST, "model": {"name": "hf", "args": {"pretrained": name}}}
    written = []
    for revision in ("", "-other"):
        manifest["model"]["args"]["pretrained"] = name + revision
        with RunFolder.open(tmp_path / "runs", "tiny", {**IDENTITY, "name": name + revision}, manifest) as run:
            run.write(make_record(1))
            run.finish("finished", REPORT)
            written.append(write_lm_eval(run, tmp_path / "lm", log_samples=True))
    first, second = written
    assert first.parent.parent == second.parent.parent == tmp_path / "lm"
    assert first.parent != second.parent
    assert len(first.parent.name.encode()) <= 255

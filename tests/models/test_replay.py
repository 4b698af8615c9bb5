"""Answers that were recorded before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import ModelOptions, Prompt, Request, Response, Sample, UsageError
from harness.record.run import RunFolder
from harness.types import Record
from harness_plugins.models.replay import ReplayModel

GAOKAO = Path(__file__).parents[2].parent / "shared" / "oracles" / "gaokao" / "gpt-4-0314"


def sample(number: int, task: str = "task", subset: str = "", repeats: int = 1, **doc: Any) -> Sample:
    requests = tuple(Request("generate", Prompt("the same prompt"), repeat=repeat) for repeat in range(repeats))
    return Sample(task, subset, number, doc, requests, "x")


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = isinstance(value, list) and path.suffix == ".jsonl"
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in value) if lines else json.dumps(value)
    path.write_text(text, encoding="utf-8")
    return path


def replay(path: Path, samples: Sequence[Sample], **args: Any) -> list[Response]:
    model = ReplayModel.create({"path": str(path), **args}, ModelOptions())
    model.prepare()
    model.inspect_samples(samples)
    model.take_samples(samples)
    requests = [request for each in samples for request in each.requests]
    given = dict(model.respond(requests))
    return [given[number] for number in range(len(requests))]


def texts(path: Path, samples: Sequence[Sample], **args: Any) -> list[str | None]:
    return [response.text for response in replay(path, samples, **args)]


def test_rows_are_found_by_id_though_their_prompts_are_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", [{"id": 1, "text": "one"}, {"id": 0, "text": "零"}])
    assert texts(path, [sample(0), sample(1)]) == ["零", "one"]


@pytest.mark.parametrize("name", ["text", "response", "output"])
@pytest.mark.parametrize("id_name", ["id", "doc_id"])
def test_usual_field_names_need_no_saying(tmp_path: Path, name: str, id_name: str) -> None:
    path = write(tmp_path / "out.json", [{id_name: 0, name: "yes"}])
    assert texts(path, [sample(0)]) == ["yes"]


def test_an_id_of_a_column_of_numbers_with_gaps_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", [{"index": 7.0, "prediction": "yes"}, {"index": 8, "prediction": "no"}])
    assert texts(path, [sample(0, index=7), sample(1, index=8.0)]) == ["yes", "no"]


def test_other_fields_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", [{"qid": "0", "said": "yes"}])
    assert texts(path, [sample(0)], id_field="qid", text_field="said") == ["yes"]


def test_without_ids_the_position_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", [{"output": "first"}, {"output": "second"}])
    assert texts(path, [sample(1), sample(0)]) == ["second", "first"]


def test_a_file_that_maps_ids_to_texts_or_records(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.json", {"a": "A!", "b": "B!"})
    rich = write(tmp_path / "rich.json", {"a": {"response": "A?"}, "b": {"response": "B?"}})
    samples = [sample(0, key="b"), sample(1, key="a")]
    assert texts(plain, samples, match="key") == ["B!", "A!"]
    assert texts(rich, samples, match="key") == ["B?", "A?"]


def test_a_list_of_texts_is_one_answer_a_repeat(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", [{"id": 0, "resps": [["one", "two"]]}])
    first, second, third = replay(path, [sample(0, repeats=3)])
    assert (first.text, second.text) == ("one", "two")
    assert third.error is not None and "2 recorded answers" in third.error


def test_sample_files_with_a_line_a_filter_hold_each_answer_once(tmp_path: Path) -> None:
    rows = [{"doc_id": 0, "filter": name, "resps": [["same"]]} for name in ("strict", "flexible")]
    assert texts(write(tmp_path / "samples.jsonl", rows), [sample(0)]) == ["same"]


def test_two_answers_for_one_id_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", [{"id": 0, "text": "a"}, {"id": 0, "text": "b"}])
    with pytest.raises(UsageError, match="two different answers for id 0"):
        replay(path, [sample(0)])


def test_log_probabilities_of_choices(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", [{"id": 0, "logprobs": [-2.0, -1.0]}, {"id": 1, "logprobs": [-1.0]}])
    request = Request("loglikelihood", Prompt("?"), ("A", "B"))
    samples = [Sample("task", "", number, {}, (request,), 0, ("A", "B")) for number in (0,)]
    assert replay(path, samples)[0].logprobs == (-2.0, -1.0)
    other = Request("loglikelihood", Prompt("!"), ("A", "B"))
    (short,) = replay(path, [Sample("task", "", 1, {}, (other,), 0, ("A", "B"))])
    assert short.error is not None and "1 recorded log-probabilities, 2" in short.error


def test_a_text_does_not_answer_for_log_probabilities(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", [{"id": 0, "text": "A"}])
    request = Request("loglikelihood", Prompt("?"), ("A", "B"))
    (response,) = replay(path, [Sample("task", "", 0, {}, (request,), 0, ("A", "B"))])
    assert response.error is not None and "0 recorded log-probabilities" in response.error


def test_a_folder_holds_a_file_a_subset(tmp_path: Path) -> None:
    write(tmp_path / "model_law.json", {"examples": [{"text": "law 0"}], "note": ""})
    write(tmp_path / "deep" / "outlaws.json", {"examples": [{"text": "no"}], "note": ""})
    write(tmp_path / "scores.json", {"total": 1})
    write(tmp_path / "named.json", {"keyword": "art", "examples": [{"text": "art 0"}]})
    samples = [sample(0, subset="law"), sample(0, subset="art")]
    assert texts(tmp_path, samples, records_field="examples") == ["law 0", "art 0"]


def test_two_files_that_could_be_meant_are_refused_until_one_is_named(tmp_path: Path) -> None:
    for name in ("gpt_law", "gpt_college_law"):
        write(tmp_path / f"{name}.jsonl", [{"text": name}])
    with pytest.raises(UsageError, match=r"gpt_college_law.*file="):
        replay(tmp_path, [sample(0, subset="law")])
    assert texts(tmp_path, [sample(0, subset="law")], file="gpt_{subset}.jsonl") == ["gpt_law"]


def test_a_task_without_subsets_is_looked_for_by_its_own_name(tmp_path: Path) -> None:
    write(tmp_path / "gsm8k.jsonl", [{"text": "72"}])
    write(tmp_path / "other.jsonl", [{"text": "no"}])
    assert texts(tmp_path, [sample(0, task="gsm8k:cot")]) == ["72"]


def test_a_subset_without_file_is_refused_with_what_there_is(tmp_path: Path) -> None:
    write(tmp_path / "art.jsonl", [{"text": "x"}])
    with pytest.raises(UsageError, match=r"subset 'law' \(there is: art.jsonl"):
        replay(tmp_path, [sample(0, subset="law")])


def test_one_file_of_several_subsets_needs_a_field_that_tells_them_apart(tmp_path: Path) -> None:
    rows = [{"id": 0, "subject": "law", "text": "L"}, {"id": 0, "subject": "art", "text": "A"}]
    samples = [sample(0, subset="art"), sample(0, subset="law")]
    path = write(tmp_path / "all.jsonl", rows)
    assert texts(path, samples, subset_field="subject") == ["A", "L"]
    unique = write(tmp_path / "unique.jsonl", [{"id": "art_0", "text": "A"}, {"id": "law_0", "text": "L"}])
    with pytest.raises(UsageError, match="subset_field="):
        replay(unique, samples)
    keyed = [sample(0, subset="art", uid="art_0"), sample(0, subset="law", uid="law_0")]
    assert texts(unique, keyed, match="uid") == ["A", "L"]


def test_a_row_without_answer_fails_alone_or_ends_all(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", [{"id": 0, "text": "yes"}])
    known, unknown = replay(path, [sample(0), sample(1)])
    assert known.text == "yes"
    assert unknown.error is not None and "no recorded answer" in unknown.error and "id 1" in unknown.error
    with pytest.raises(UsageError, match="1 of 2 samples have no recorded answer, the first is task id 1"):
        replay(path, [sample(0), sample(1)], missing="error")
    with pytest.raises(UsageError, match="1 of 1 samples"):
        replay(path, [sample(5)])


def test_answers_to_other_rows_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", [{"id": n, "question": f"What is {n}?", "text": str(n)} for n in range(5)])
    right = [sample(n, question=f"What is {n}?" if n else "What was 0?") for n in range(5)]
    assert texts(path, right) == ["0", "1", "2", "3", "4"]
    with pytest.raises(UsageError, match="'question' differs in 4 of 4"):
        replay(path, [sample(n, question=f"What is {n + 1}?") for n in range(4)])


def test_a_field_of_the_reply_is_not_taken_for_the_row(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", [{"id": 0, "answer": "a long chain of thought"}])
    assert texts(path, [sample(0, answer="72")], text_field="answer") == ["a long chain of thought"]


@pytest.mark.parametrize(
    ("args", "content", "named"),
    [
        ({}, '[{"id": 0, "answer": "x"}]', "text_field=.*id, answer"),
        ({"id_field": "nr"}, '[{"id": 0, "text": "x"}]', "id_field="),
        ({}, '{"meta": "m", "rows": [{"text": "x"}]}', "records_field=rows"),
        ({}, '["x"]', "record 1 is str"),
        ({}, "[1,", "not valid JSON"),
        ({}, '[{"id": 0, "text": "x"}] more', "not valid JSON: Extra data: line 1 column 26"),
        ({}, '[{"id": 0, "text": "x"} {}]', "not valid JSON: Expecting ',' delimiter"),
        ({"match": "uid"}, '[{"id": 0, "text": "x"}]', "no such field.*question"),
        ({"missing": "skip"}, "[]", "missing must be one of"),
        ({}, "[]", "no recorded answers"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_remedy(
    tmp_path: Path, args: dict[str, Any], content: str, named: str
) -> None:
    path = tmp_path / "out.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=named):
        replay(path, [sample(0, question="?")], **args)


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"id": 0, "text": "x"}\n{"id": 1, "te')
    with pytest.raises(UsageError, match=r"out\.jsonl:2: not valid JSON"):
        replay(path, [sample(0)])


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_byte_order_mark_windows_line_ends_and_empty_lines_are_nothing(tmp_path: Path, end: str) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(("\ufeff" + end.join(['{"id": 0, "text": "a\\nb"}', "", '{"id": 1, "text": "c"}', ""])).encode())
    assert texts(path, [sample(0), sample(1)]) == ["a\nb", "c"]


def test_a_long_answer_and_many_short_ones_are_found_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.spool.FEW", 100)
    said = {number: f"answer {number}" for number in range(1000)} | {7: "x" * 3_000_000}
    samples = [sample(number) for number in (999, 7, 0, 500)]
    lines = [{"id": number, "text": text} for number, text in said.items()]
    for name in ("lines.jsonl", "list.json"):
        assert texts(write(tmp_path / name, lines), samples) == [said[each.id] for each in samples]


def test_two_answers_for_one_id_are_told_apart_in_a_large_file_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.spool.FEW", 100)
    lines = [{"id": number % 600, "text": str(number % 600)} for number in range(1200)]
    assert texts(write(tmp_path / "out.jsonl", lines), [sample(599)]) == ["599"]
    lines[-1]["text"] = "another"
    with pytest.raises(UsageError, match="two different answers for id 599"):
        replay(write(tmp_path / "out.jsonl", lines), [sample(0)])


def test_what_becomes_of_the_file_after_it_was_read_changes_no_answer(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", [{"id": 0, "text": "as recorded"}])
    model = ReplayModel.create({"path": str(path)}, ModelOptions())
    model.prepare()
    path.write_text("")
    asked = sample(0)
    model.inspect_samples([asked])
    model.take_samples([asked])
    assert dict(model.respond(asked.requests))[0].text == "as recorded"


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        replay(tmp_path / "nowhere", [sample(0)])


def test_identity_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    def identity(path: Path) -> Any:
        model = ReplayModel.create({"path": str(path)}, ModelOptions())
        model.prepare()
        return model.identity

    rows = [{"id": 0, "text": "x"}]
    first, second = write(tmp_path / "a.jsonl", rows), write(tmp_path / "b.jsonl", rows)
    third = write(tmp_path / "c.jsonl", [{"id": 0, "text": "y"}])
    assert identity(first) == identity(second) != identity(third)


def record(number: int, subset: str, responses: tuple[Response, ...]) -> Record:
    keys = tuple(f"{subset}{number}{place}" for place in range(len(responses)))
    doc = {"question": f"{subset} {number}"}
    return Record("task", subset, number, doc, Prompt("old prompt"), "x", (), responses, keys, {"exact_match": 1.0})


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    with RunFolder.open(tmp_path, "old", {"model": {"name": "old"}}, {"command": ""}) as folder:
        folder.write(record(0, "law", (Response(text="L0", finish_reason="stop", seconds=3.0),)))
        folder.write(record(0, "art", (Response(text="A0"), Response(text="A0 again"))))
        folder.write(record(1, "art", (Response(error="server gone"),)))
        return folder.path


def test_an_old_run_answers_by_task_subset_id_and_repeat(run_folder: Path) -> None:
    samples = [sample(0, subset="art", repeats=2), sample(0, subset="law"), sample(1, subset="art")]
    *given, failed = replay(run_folder, samples)
    assert [response.text for response in given] == ["A0", "A0 again", "L0"]
    assert given[2].finish_reason == "stop" and given[2].seconds is None
    assert failed.error is not None and "the recorded answer is an error: server gone" in failed.error


def test_an_old_run_of_other_rows_is_refused(run_folder: Path) -> None:
    with pytest.raises(UsageError, match="'question' differs in 1 of 1"):
        replay(run_folder, [sample(0, subset="law", question="another")])


def test_a_task_that_the_old_run_did_not_hold_is_refused(run_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing recorded for task 'other'.*task/art"):
        replay(run_folder, [sample(0, task="other", subset="art")])


def test_a_file_of_a_run_folder_is_sent_to_its_folder(run_folder: Path) -> None:
    with pytest.raises(UsageError, match="give the folder"):
        replay(next(run_folder.glob("task*.jsonl")), [sample(0)])


@pytest.mark.skipif(not GAOKAO.is_dir(), reason="runs where the recorded outputs of GAOKAO-Bench are laid beside")
def test_the_published_outputs_of_gaokao_bench_are_found() -> None:
    subsets = ("2010-2022_Math_I_MCQs", "2010-2022_Math_II_MCQs", "2012-2022_English_Cloze_Test")
    rows = {
        name: json.loads((GAOKAO / f"gpt-4-0314_{name}.json").read_text(encoding="utf-8"))["example"]
        for name in subsets
    }
    layout = {"records_field": "example", "id_field": "index", "text_field": "model_output", "match": "index"}
    samples = [
        sample(number, subset=name, index=row["index"], question=row["question"])
        for name in subsets
        for number, row in enumerate(rows[name])
    ]
    expected = [row["model_output"] for name in subsets for row in rows[name]]
    assert texts(GAOKAO, samples, **layout) == expected


def test_the_tables_of_vlmevalkit_answer_by_their_own_index(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("openpyxl")
    asked = [sample(0, index=7, question="Two?"), sample(1, index=3, question="One?")]
    said = [{"index": 3, "question": "One?", "prediction": "1"}, {"index": 7, "question": "Two?", "prediction": ""}]
    pandas.DataFrame(said).to_excel(tmp_path / "said.xlsx", index=False)
    pandas.DataFrame(said).to_csv(tmp_path / "said.tsv", index=False, sep="\t")
    for name in ("said.xlsx", "said.tsv"):
        assert [response.text for response in replay(tmp_path / name, asked)] == ["", "1"]


def test_a_field_of_the_rows_wins_over_their_number(tmp_path: Path) -> None:
    asked = [sample(0, pid="1", question="One?"), sample(1, pid="2", question="Two?")]
    recorded = {"1": {"pid": "1", "response": "1"}, "2": {"pid": "2", "response": "2"}}
    assert [response.text for response in replay(write(tmp_path / "a.json", recorded), asked)] == ["1", "2"]

"""Rows that are made at run time: what is hidden is there, the length is kept, and the seed alone decides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import DataError, DatasetSpec
from harness_plugins.sources.generated import estimated_tokens, harness_open_dataset, token_counter
from harness_plugins.sources.generated.ruler import TASKS

TOKENIZER = str(Path(__file__).parents[2] / "plugins" / "models" / "demo" / "weights")


def rows(task, recipe="ruler", length=2048, count=4, **more):
    kwargs = {"length": length, "rows": count, "seed": 1, **more}
    found = harness_open_dataset(DatasetSpec(None, task, kwargs=kwargs, sources={"generated": recipe}), "test")
    assert found is not None and len(found.rows) == count
    return found


@pytest.mark.parametrize("task", TASKS)
def test_what_is_asked_for_is_in_a_text_of_the_right_length(task):
    for row in rows(task).rows:
        assert row["outputs"] and all(answer in row["input"] for answer in row["outputs"])
        assert 0.85 * 2048 <= row["length"] <= 2048
        assert row["answer_prefix"].startswith(" ")


def test_rows_hang_on_seed_length_and_number_alone():
    first = list(rows("niah_multikey_1").rows)
    assert list(rows("niah_multikey_1").rows) == first
    assert rows("niah_multikey_1", count=2).rows[1] == first[1] == rows("niah_multikey_1").rows[1:][0]
    assert len({row["input"] for row in first}) == 4
    assert rows("niah_multikey_1", seed=2).rows[0] != first[0]
    fingerprints = [rows("vt").fingerprint, rows("vt", length=4096).fingerprint, rows("vt", seed=2).fingerprint]
    assert len(set(fingerprints)) == 3


def test_the_most_frequent_words_are_the_answer():
    row = rows("cwe", length=4096, count=1).rows[0]
    listed = row["input"].rpartition("Memorize the ones")[2].split()
    assert all(listed.count(word) == 30 for word in row["outputs"]) and len(row["outputs"]) == 10
    coded = rows("fwe", count=1).rows[0]
    text = coded["input"].split()
    counts = [text.count(word) for word in coded["outputs"]]
    others = {word for word in text if len(word) == 6 and word.islower()} - set(coded["outputs"])
    assert counts == sorted(counts, reverse=True)
    assert min(counts) > max(text.count(word) for word in others if text.count(word) > 1)


def test_a_conversation_asks_for_one_of_its_answers():
    for row in rows("4needle", "mrcr").rows:
        assert row["prompt"].count(row["answer"].removeprefix(row["random_string_to_prepend"])) == 1
        ordinal, wanted = row["prompt"].rpartition(" to the ")[2].partition(".")[0].split(" ", 1)
        turns = row["prompt"].split(f"User: write a {wanted}\n\nAssistant: ")[1:]
        assert len(turns) == 4
        assert turns[int(ordinal[0]) - 1].startswith(row["answer"].removeprefix(row["random_string_to_prepend"]))


def test_tokens_are_counted_by_a_tokenizer_of_ones_own():
    count = token_counter(TOKENIZER, True)
    row = rows("niah_single_2", count=1, tokenizer=TOKENIZER).rows[0]
    assert 0.95 * 2048 <= count(row["input"] + row["answer_prefix"]) + 128 <= 2048
    assert estimated_tokens("A walk, 1234567.") == 7


def test_a_text_of_ones_own_is_the_haystack(tmp_path):
    (tmp_path / "essay.txt").write_text("It rained.  It\nrained again! Did it?", encoding="utf-8")
    row = rows("niah_single_2", count=1, haystack=str(tmp_path / "essay.txt")).rows[0]
    assert "It rained. It rained again! Did it? It rained." in row["input"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"task": "niah_single_9"}, "no task 'niah_single_9'"),
        ({"task": "vt", "length": 20}, "too short"),
        ({"task": "8needle", "recipe": "mrcr", "length": 100}, "length 100 is too short for mrcr's '8needle'"),
        ({"task": "vt", "length": 0}, "length is 0"),
        ({"task": "vt", "hops": 3}, "'hops'"),
        ({"task": "vt", "recipe": "rulers"}, "no recipe 'rulers'"),
        ({"task": "niah_single_2", "haystack": "/no/such/file"}, "haystack '/no/such/file'"),
        ({"task": "vt", "tokenizer": "/no/such/folder"}, "tokenizer '/no/such/folder'"),
    ],
)
def test_what_cannot_be_made_is_said_in_a_line(given, message):
    with pytest.raises(DataError, match=message):
        list(rows(given.pop("task"), **{"count": 1, **given}).rows)


@pytest.fixture
def documents(tmp_path):
    """SQuAD's shape (five articles of two paragraphs, a question each) and HotpotQA's (three questions)."""
    impossible = {"question": "Which not?", "answers": [], "is_impossible": True}
    paragraphs = {
        name: {
            "context": f"Place {name} " + "lies far away. " * 8,
            "qas": [{"question": f"Which {name}?", "answers": [{"text": name}], "is_impossible": False}, impossible],
        }
        for name in (f"{number}.{part}" for number in range(5) for part in range(2))
    }
    articles = [{"paragraphs": [paragraphs[f"{number}.{part}"] for part in range(2)]} for number in range(5)]
    (tmp_path / "squad.json").write_text(json.dumps({"data": articles}))
    hops = [
        {"question": f"Who {n}?", "answer": f"N{n}", "context": [[f"T{n}", [f"N{n} is. ", "So."]], ["Same", ["All."]]]}
        for n in range(3)
    ]
    (tmp_path / "hotpotqa.json").write_text(json.dumps(hops))
    return str(tmp_path)


@pytest.mark.parametrize(("task", "question"), [("qa_1", "Question: Which 0.1?"), ("qa_2", "Question: Who 1?")])
def test_a_question_stands_below_documents_that_hold_its_answer(documents, task, question):
    row = rows(task, "ruler_qa", length=512, documents=documents).rows[1]
    assert row["input"].endswith(question) and row["answer_prefix"] == " Answer:"
    assert 300 <= row["length"] <= 512 and "Document 2:\n" in row["input"]
    assert any(answer in row["input"].rpartition("Answer the question")[0] for answer in row["outputs"])
    assert rows(task, "ruler_qa", length=512, documents=documents).rows[1] == row


def test_the_documents_have_to_be_there(documents, tmp_path):
    with pytest.raises(DataError, match=r"no folder of documents is named; get squad\.json from https://rajpurkar"):
        rows("qa_1", "ruler_qa")
    with pytest.raises(DataError, match=r"there is no .*hotpotqa\.json; get hotpotqa\.json from"):
        rows("qa_2", "ruler_qa", documents=str(tmp_path / "none"))
    (tmp_path / "hotpotqa.json").write_text('[{"question": "x"}]')
    with pytest.raises(DataError, match=r"hotpotqa\.json: is not the file of http"):
        rows("qa_2", "ruler_qa", length=4000, documents=documents)

"""Rows of a benchmark in a corpus, and models that have seen them."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from harness import UsageError
from harness.data.corpus import MOST_CHARACTERS, Trouble, documents
from harness.run.contamination import in_corpus, probes
from harness.run.spec import RunSpec
from harness.scoring.statistics.exchange import order_test, rank_test
from harness.scoring.statistics.overlap import OverlapIndex, words_of
from harness.testing import run_harness

FULL_WIDTH = str.maketrans({chr(code): chr(code + 0xFEE0) for code in range(33, 127)})
CHARACTERS = "春夏秋冬山水风云花鸟鱼虫日月星辰金木土火东西南北上下左右大小多少高低远近新旧天地人和"
TASK = """\
task: exam
dataset_path: rows.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}\\nA. {{A}}\\nB. {{B}}\\nC. {{C}}\\nD. {{D}}\\n答案："
doc_to_choice: [A, B, C, D]
doc_to_target: answer
options: {columns: [A, B, C, D], answer: answer, question: q}
metric_list: [{metric: acc}]
"""


def rows(count: int, seed: int = 1) -> list[dict[str, str]]:
    generator = random.Random(seed)

    def text(length: int) -> str:
        return "".join(generator.choices(CHARACTERS, k=length))

    return [
        {"q": f"{text(8)}，{text(8)}是？", **{letter: text(4) for letter in "ABCD"}, "answer": "ABCD"[n % 4]}
        for n in range(count)
    ]


@pytest.fixture(autouse=True)
def _a_task_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(20)))
    Path("exam.yaml").write_text(TASK)
    Path("corpus").mkdir()


def filler(seed: int, length: int = 300) -> str:
    return "".join(random.Random(seed + 1000).choices(CHARACTERS, k=length))


def test_planted_rows_are_found_with_other_punctuation_and_full_width_forms() -> None:
    questions = [row["q"] for row in rows(20)] + [
        "The capital of Peru, since 1535, is which of these 4 cities on the coast?"
    ]
    index = OverlapIndex([[question] for question in questions])
    planted = questions[3].replace("，", "、").replace("？", "?")
    index.look("zh", filler(1) + planted + filler(2))
    index.look("en", "x " + questions[20].translate(FULL_WIDTH).replace("，", " —").upper() + " y")
    index.look("clean", filler(3, 5000))
    assert {row: match.place for row, match in index.matches.items()} == {3: "zh", 20: "en"}


def test_an_edited_row_is_nearly_the_row() -> None:
    question = filler(9, 60)
    index = OverlapIndex([[question], [rows(1)[0]["q"]]])
    edited = "".join("某" if n in (9, 20, 31, 42, 53) else character for n, character in enumerate(question))
    index.look("edited", "前言。\n" + edited + "\n后记。")
    (match,) = index.matches.values()
    assert match.share < 0.5
    assert match.similarity >= 0.6


def test_phrases_of_the_benchmark_and_short_texts_count_nowhere() -> None:
    phrase = "下列关于这一段文字的说法中正确的一项是"
    index = OverlapIndex([[phrase], [phrase], [phrase], ["太短了"]])
    index.look("elsewhere", phrase)
    assert index.matches == {}
    assert index.too_short == [3]
    assert words_of("ＡＢＣ-１２，长江！ día") == ["abc", "12", "长", "江", "día"]


def test_a_corpus_is_read_through_whatever_is_in_it() -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    corpus, wanted = Path("corpus"), [row["q"] for row in rows(20)]
    (corpus / "a.txt").write_text(filler(1) + wanted[0] + filler(2))
    (corpus / "b.jsonl").write_text(
        json.dumps({"text": wanted[1]}) + "\n{broken\n\n" + json.dumps({"x": [wanted[2]]}, ensure_ascii=False) + "\n"
    )
    pyarrow.parquet.write_table(pa.table({"n": [1, 2], "t": ["nothing", wanted[3]]}), corpus / "c.parquet")
    with gzip.open(corpus / "d.jsonl.gz", "wt") as stream:
        stream.write(json.dumps(wanted[4]) + "\n")
    (corpus / "e.parquet").write_bytes(b"no parquet")
    (corpus / "f.bin").write_bytes(b"\0\1")
    trouble = Trouble()
    (found,) = in_corpus(RunSpec(tasks=("exam.yaml",)), corpus, trouble)
    assert {row: match.place for (_, row), match in found.matches.items()} == {
        0: "a.txt", 1: "b.jsonl:1", 2: "b.jsonl:4", 3: "c.parquet row 1", 4: "d.jsonl.gz:1",
    }  # fmt: skip
    assert trouble.counts["a broken line"] == 1
    assert trouble.first["a broken line"] == "b.jsonl:2"
    assert trouble.counts["an empty document"] == 1
    assert [place for reason, place in trouble.first.items() if "cannot be read" in reason] == ["e.parquet"]
    assert "5 of 20 rows stand in the corpus" in found.sentence


def test_long_documents_come_in_pieces_that_overlap() -> None:
    wanted = rows(1)[0]["q"]
    text = "甲" * (MOST_CHARACTERS - 5) + wanted + "乙" * 4000
    Path("corpus/a.jsonl").write_text(json.dumps(text))
    pieces = [piece for _, piece in documents(Path("corpus"), Trouble())]
    assert len(pieces) == 2
    assert any(wanted in piece for piece in pieces)
    lines = "".join(f"{n} " + "甲" * 990 + "\n" for n in range(2200))
    Path("corpus/a.jsonl").unlink()
    Path("corpus/a.txt").write_text(lines)
    pieces = [piece for _, piece in documents(Path("corpus"), Trouble())]
    assert len(pieces) >= 2
    assert {line for piece in pieces for line in piece.splitlines()} == set(lines.splitlines())


def test_no_order_is_liked_by_chance_more_often_than_the_p_value_says() -> None:
    generator = random.Random(3)
    low = {"rows": 0, "options": 0}
    for _ in range(400):
        canonical = [generator.gauss(0, 1) for _ in range(20)]
        others = [[generator.gauss(0, 1) for _ in range(7)] for _ in range(20)]
        low["rows"] += (order_test(canonical, others).p or 1) < 0.05
        low["options"] += (rank_test(canonical, others).p or 1) < 0.05
    assert all(8 <= count <= 36 for count in low.values()), low
    liked = [1.5 + value for value in canonical]
    assert (order_test(liked, others).p or 1) < 0.01
    assert (rank_test(liked, others).p or 1) < 0.01
    assert order_test([1.0], [[0.0]]).p is None
    assert rank_test([1.0] * 3, [[0.0]] * 3).p is None


@pytest.mark.slow
def test_what_cannot_be_looked_at_is_one_line() -> None:
    with pytest.raises(UsageError, match="holds no file of text"):
        in_corpus(RunSpec(tasks=("exam.yaml",)), Path("corpus"), Trouble())
    done = run_harness("contamination", "exam.yaml")
    assert "say where to look: --corpus DIR, or a model to ask" in done.output
    done = run_harness("contamination", "exam.yaml", "--corpus", "nowhere")
    assert "there is no such file or folder" in done.output


@pytest.mark.slow
def test_the_command_says_and_writes_what_it_found() -> None:
    Path("corpus/a.txt").write_text(rows(20)[7]["q"])
    done = run_harness("contamination", "exam.yaml", "--corpus", "corpus", "--to", "found.json")
    assert done.exit_code == 0, done.output
    assert "exam: 1 of 20 rows stand in the corpus (1 documents): 7 in a.txt" in done.output
    (task,) = json.loads(Path("found.json").read_text())["corpus"]
    assert task["matches"] == [{"subset": "", "row": 7, "place": "a.txt", "share": 1.0, "similarity": 1.0}]


def small_model(folder: Path, texts: list[str], epochs: int, seed: int = 0) -> dict[str, Any]:
    """A GPT-2 of two layers over single characters, trained on texts."""
    torch = pytest.importorskip("torch")
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    known = sorted(set(CHARACTERS + "，。是？ABCD. \n"))
    tokenizer = Tokenizer(
        models.WordLevel({"<unk>": 0, "<end>": 1, **{c: n + 2 for n, c in enumerate(known)}}, "<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>", bos_token="<end>")
    fast.save_pretrained(folder)
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(known) + 2, n_positions=512, n_embd=64, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=1
    )
    model = GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ids = [torch.tensor([fast.encode("<end>" + text)[:400]]) for text in texts]
    for epoch in range(epochs):
        for batch in random.Random(epoch).sample(ids, len(ids)):
            loss = model(batch, labels=batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    model.save_pretrained(folder)
    return {"pretrained": str(folder), "dtype": "float32"}


@pytest.mark.slow
def test_a_model_that_was_trained_on_the_rows_is_found_and_its_twin_is_not() -> None:
    seen, others = rows(200), rows(200, seed=2)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in seen))

    def as_documents(many: list[dict[str, str]]) -> list[str]:
        """Pages of ten rows, as a crawler finds a benchmark."""
        texts = ["\n".join([row["q"], *(f"{letter}. {row[letter]}" for letter in "ABCD")]) for row in many]
        return ["\n\n".join(texts[start : start + 10]) for start in range(0, len(texts), 10)]

    results = {}
    for name, many in (("trained", seen), ("twin", others)):
        args = small_model(Path(name), as_documents(many), epochs=40)
        spec = RunSpec(tasks=("exam.yaml",), model="hf", model_args=args, device="cpu", batch_size=8)
        results[name] = {probe.name: probe for probe in probes(spec)}
    for name in ("order of rows", "order of options"):
        trained, twin = results["trained"][name], results["twin"][name]
        assert trained.result.p is not None and trained.result.p < 0.01, trained.sentence
        assert twin.result.p is not None and twin.result.p > 0.01, twin.sentence
        assert "it has seen them" in trained.sentence
        assert "no more than chance allows" in twin.sentence

"""Rows of a benchmark in a corpus, and models that have seen them."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import Model, Request, Response, UsageError, evaluate
from harness.data.corpus import MOST_CHARACTERS, Trouble, documents
from harness.record.console_table import summary_text
from harness.record.report_lines import of_parts, warnings_of
from harness.record.seen_rows import FINDINGS, OPTIONS
from harness.registry import load_plugins
from harness.run.contamination import Overlap, in_corpus, keep_overlap, keep_probe, probes, spec_of_run, tell_report
from harness.run.probes import Probe, ShownRow, TextAsker, lettered, probes_of
from harness.run.rescore import score_run
from harness.run.result import load_run
from harness.run.spec import Progress, RunSpec
from harness.scoring.statistics.exchange import TestResult as TrialResult
from harness.scoring.statistics.exchange import higher_test, order_test, rank_test
from harness.scoring.statistics.overlap import CorpusMatch, OverlapIndex, words_of
from harness.testing import run_harness
from harness.words import translator

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
    assert "exam: 1 of 20 rows stand in the corpus (1 document): 7 in a.txt" in done.output
    (task,) = json.loads(Path("found.json").read_text())["corpus"]
    assert task["matches"] == [{"subset": "", "row": 7, "place": "a.txt", "share": 1.0, "similarity": 1.0}]


def small_model(folder: Path, pages: list[str], rows: list[str], steps: int) -> dict[str, Any]:
    """A GPT-2 of two layers over single characters, trained on pages of one length and on single rows of one length."""
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
    torch.manual_seed(0)
    sizes = {"vocab_size": len(known) + 2, "n_positions": 512, "n_embd": 64, "n_layer": 2, "n_head": 4}
    dropouts = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **dropouts, bos_token_id=1, eos_token_id=1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    starts = "<end>" + pages[0], "<end>" + rows[0], rows[0]
    assert [len(fast.encode(text)) for text in starts] == [len(pages[0]) + 1, len(rows[0]) + 1, len(rows[0])]
    # Whole texts are asked for behind the first token, continuations without it.
    kinds = [(["<end>" + page for page in pages], 4), (["<end>" + row for row in rows], 24), (rows, 24)]
    batches = [(torch.tensor([fast.encode(text) for text in texts]), count) for texts, count in kinds]
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * (1 - step / steps)
        for ids, count in batches:
            batch = ids[torch.randperm(len(ids))[:count]]
            model(batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return {"pretrained": str(folder), "dtype": "float32"}


@pytest.mark.slow
def test_a_model_that_was_trained_on_the_rows_is_found_and_its_twin_is_not() -> None:
    seen, others = rows(200), rows(200, seed=2)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in seen))

    Path("new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(100, seed=3)))
    Path("new.yaml").write_text(TASK.replace("rows.jsonl", "new.jsonl").replace("task: exam", "task: new"))
    results = {}
    for name, many in (("trained", seen), ("twin", others)):
        texts = ["\n".join([row["q"], *(f"{letter}. {row[letter]}" for letter in "ABCD")]) for row in many]
        pages = ["\n\n".join(texts[start : start + 5]) for start in range(0, len(texts), 5)]
        args = small_model(Path(name), pages, texts, steps=350)  # as a crawler finds a benchmark, in pages and alone
        spec = RunSpec(tasks=("exam.yaml",), model="hf", model_args=args, device="cpu", batch_size=8)
        results[name] = {probe.name: probe for probe in probes(spec, ["new.yaml"])}
    assert set(results["twin"]) == set(FINDINGS)
    for name, trained in results["trained"].items():
        twin = results["twin"][name]
        assert trained.result.p is not None and trained.result.p < 0.01, trained.sentence
        assert twin.result.p is not None and twin.result.p > 0.01, twin.sentence
        assert "it has seen them" in trained.sentence and "它见过这些题" in trained.said(translator("zh"))
        assert "no more than chance allows" in twin.sentence


class Recited(TextAsker):
    """Knows the rows by heart: what follows in one of them is likely, and written word for word."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def whole(self, texts: Sequence[str]) -> list[float | None]:
        return [0.0 if text in self.texts else -float(len(text)) for text in texts]

    def after(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool] | None]:
        known = [any(text.startswith(before + more) for text in self.texts) for before, more in pairs]
        return [
            (0.0, True) if each else (-2.0 * len(more), False) for each, (_, more) in zip(known, pairs, strict=True)
        ]


def test_what_is_known_by_heart_is_counted_and_what_cannot_be_asked_is_left_out() -> None:
    shown = [ShownRow("", lettered(f"甲{n}乙丙丁戊己庚辛壬？", ("一", "二", str(n), "四")),
                      f"甲{n}乙丙丁戊己庚辛壬？", ("一", "二", str(n), "四")) for n in range(30)]  # fmt: skip
    others = [replace(row, text=row.text + "新", question=row.question + "新") for row in shown[:12]]
    odd = [
        replace(shown[0], text="1", options=("1", "2", "3")),
        replace(shown[0], text="2", options=("是", "否")),
        replace(shown[0], text="3", fixed="以上都对"),
        ShownRow("", "短"),
    ]
    ask = Recited([row.text for row in shown])
    found = {probe.name: probe for probe in probes_of("t", [*shown, *odd], [*others, shown[3]], ask, 1)}
    assert (found["missing option"].verbatim, found["missing option"].unseen) == (30, 12)
    assert found["missing option"].left_out == {
        "fewer than three options": 2, "numbers in their order, which anybody would write so": 1,
        "options that may not be moved": 1,
    }  # fmt: skip
    assert found["second half"].verbatim == 33
    assert found["second half"].left_out == {"too few words": 1}
    assert found["Min-K%"].left_out == {"too few words": 4}
    assert all((probe.result.p or 1) < 0.01 for name, probe in found.items() if name != "order of rows")
    alone = {probe.name: probe for probe in probes_of("t", shown, [], ask, 1)}
    assert list(alone) == ["order of rows", "order of options", "missing option"]
    assert alone["missing option"].unseen is None
    assert (alone["missing option"].result.p or 1) < 0.01
    assert alone["missing option"].verbatim == 30


def test_higher_values_of_rows_are_told_as_by_mann_and_whitney() -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = random.Random(5)
    for shift, ties in ((0.0, 3), (0.4, 1), (0.0, 0)):
        rows, unseen = ([round(generator.gauss(by, 1), ties) for _ in range(n)] for by, n in ((shift, 40), (0, 30)))
        wanted = stats.mannwhitneyu(rows, unseen, alternative="greater", method="asymptotic")
        found = higher_test(rows, unseen)
        assert found.p == pytest.approx(wanted.pvalue)
        assert found.effect == pytest.approx(wanted.statistic / 1200 - 0.5)
    assert higher_test([1.0] * 9, [0.0] * 20).p is None
    assert higher_test([1.0] * 20, [1.0] * 20).p is None


def picture(seed: int) -> Any:
    """A drawing of boxes, as charts and diagrams are."""
    from PIL import Image, ImageDraw

    generator = random.Random(seed)
    drawn = Image.new("RGB", (320, 240), "white")
    for _ in range(8):
        x, y = generator.randrange(280), generator.randrange(200)
        ImageDraw.Draw(drawn).rectangle([x, y, x + generator.randrange(10, 90), y + generator.randrange(10, 90)],
                                        fill=generator.choice(["steelblue", "orange", "black"]))  # fmt: skip
    return drawn


def test_pictures_of_rows_are_found_scaled_and_compressed_anew_and_others_are_not() -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    lines = []
    for number in range(12):
        picture(number).save(f"{number}.png")
        lines.append(json.dumps({"q": f"第{number}题？", "picture": f"{number}.png", "answer": "A"}))
    Path("rows.jsonl").write_text("\n".join(lines) + "\n")
    Path("exam.yaml").write_text(
        "task: exam\ndataset_path: rows.jsonl\ntest_split: test\noutput_type: generate_until\n"
        "doc_to_text: '<image 1>{{q}}'\ndoc_to_target: answer\ndoc_to_image: picture\n"
        "metric_list: [{metric: exact_match}]\n"
    )
    corpus = Path("corpus")
    picture(3).resize((200, 150)).save(corpus / "small.jpg", quality=50)
    picture(5).convert("L").save(corpus / "grey.webp")
    buffer = io.BytesIO()
    picture(7).resize((640, 480)).save(buffer, "PNG")
    image = {"bytes": buffer.getvalue(), "path": None}
    pyarrow.parquet.write_table(pa.table({"image": [image], "text": ["nothing"]}), corpus / "many.parquet")
    for number in range(100, 130):
        picture(number).save(corpus / f"{number}.png")
    picture(1).crop((0, 0, 5, 5)).save(corpus / "white.png")
    (corpus / "broken.png").write_bytes(b"\x89PNG no picture")
    trouble = Trouble()
    (found,) = in_corpus(RunSpec(tasks=("exam.yaml",)), corpus, trouble)
    assert {number: match.place for (_, number), match in found.alike.items()} == {
        3: "small.jpg", 5: "grey.webp", 7: "many.parquet row 0",
    }  # fmt: skip
    assert (found.pictured, found.pictures) == (12, 33)
    assert "of 12 rows with pictures, 3 show one that stands in the corpus (33 pictures)" in found.sentence
    assert trouble.counts["a picture of one colour"] == 1
    assert trouble.first["no picture that can be read (UnidentifiedImageError)"] == "broken.png"


def test_the_report_of_a_run_says_what_was_found_of_its_rows() -> None:
    result = evaluate("dummy", "mode=random", "exam.yaml", modify=("shuffle_options",))
    run = result.path
    keep_probe(run, Probe("exam", "order of rows", TrialResult(40, 1.25, 0.0004), {}))
    keep_probe(run, Probe("exam", "Min-K%", TrialResult(20, 0.01, 0.41), {"too few words": 2}, unseen=30))
    keep_probe(run, Probe("exam", "Min-K%", TrialResult(20, 0.02, 0.4), {}, unseen=30))  # looked at again
    keep_overlap(run, Overlap("exam", 20, 0, 3, {("", 7): CorpusMatch("a.txt", 1.0, 1.0)}), Path("corpus"))
    tell_report(run, Progress())
    seen = "the model likes the order of rows of the benchmark more than chance allows: it has seen them (p = 0.0004"
    not_seen = "the model expects the rarest words of rows no more than chance allows (p = 0.4"
    for report in (load_run(run).report, score_run(run).report):
        assert report is not None
        (known,) = (task["contamination"] for task in report["tasks"])
        assert [(probe["probe"], probe["p"]) for probe in known["probes"]] == [
            ("order of rows", 0.0004),
            ("Min-K%", 0.4),
        ]
        assert list(warnings_of(report)) == [
            f"exam+shuffle_options: {seen}, +1.250 nats a shard, 40 shards of rows)",
            "exam+shuffle_options: 1 of 20 rows stand in the corpus (3 documents): 7 in a.txt",
        ]
        assert list(of_parts(report)) == [
            f"exam+shuffle_options: {not_seen}, +0.020 of a rank, 20 questions, 30 unseen)"
        ]
        assert seen in (run / "report.html").read_text()
        assert "1 of 20 rows stand in the corpus" in summary_text(report, 200)
        assert "模型" in next(warnings_of(report, translator("zh")))
    (run / "contamination.json").write_text('{"exam": {"probes": [{}]}}')
    with pytest.raises(UsageError, match=r"contamination\.json: damaged \(exam: probes.*take it away"):
        keep_probe(run, Probe("exam", "order of rows", TrialResult(40, 1.25, 0.0004), {}))
    assert "contamination" not in score_run(run).report["tasks"][0]


def test_a_run_says_itself_which_tasks_and_which_model_are_looked_at() -> None:
    result = evaluate("dummy", "mode=random", "exam.yaml", modify=("circular",), limit=9)
    spec = spec_of_run(result.path, load_plugins())
    assert (spec.tasks, spec.model, dict(spec.model_args), spec.limit, spec.modify) == (
        ("exam.yaml",), "dummy", {"mode": "random"}, 9, ()
    )  # fmt: skip
    done = run_harness("contamination", "exam.yaml", "--run", str(result.path))
    assert "its tasks and its model (dummy) are looked at; name no others" in done.output
    done = run_harness("contamination", "--run", str(result.path))
    assert done.exit_code == 0, done.output
    assert "exam: order of options: nothing can be said from 9 questions" in done.output
    (known,) = (task["contamination"] for task in load_run(result.path).report["tasks"])
    assert {probe["probe"] for probe in known["probes"]} >= {"order of rows", "order of options"}


class NoNumbers(Model):
    """A model whose likelihoods are no numbers."""

    name = "no_numbers"
    supports = frozenset({"rolling", "loglikelihood"})
    identity: dict[str, str] = {}  # noqa: RUF012

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for index, _ in enumerate(requests):
            yield index, Response(logprobs=(float("nan" if index % 2 else "-inf"),), is_greedy=(False,))


def test_a_model_whose_likelihoods_are_no_numbers_is_not_said_to_have_seen_anything_or_not() -> None:
    shown = [ShownRow("", "\n".join(row.values()), row["q"], tuple(row[x] for x in "ABCD")) for row in rows(30)]
    found = list(probes_of("exam", shown, [], TextAsker(NoNumbers(), "no_numbers"), 1))
    assert [(probe.name, probe.result.n, probe.result.p) for probe in found] == [
        ("order of rows", 0, None),
        ("order of options", 0, None),
        ("missing option", 0, None),
    ]
    assert all(sum(probe.left_out.values()) in (6, 30) and "nothing can be said" in probe.sentence for probe in found)


def test_options_that_hold_the_same_number_are_no_numbers_in_their_order() -> None:
    model = TextAsker(load_plugins().model("dummy")(), "dummy")
    options = [ShownRow("", f"{n}", f"{n}", tuple(f"{word} {n}" for word in ("one", "two", "six"))) for n in range(12)]
    ranks = next(probe for probe in probes_of("exam", options, [], model, 1) if probe.name == "order of options")
    assert (ranks.result.n, dict(ranks.left_out)) == (12, {})
    years = [ShownRow("", f"{n}", f"{n}", ("in 1911", "in 1919", "in 1949")) for n in range(12)]
    ranks = next(probe for probe in probes_of("exam", years, [], model, 1) if probe.name == "order of options")
    assert dict(ranks.left_out) == {"numbers in their order, which anybody would write so": 12}


class Indifferent(TextAsker):
    """Likes each text as chance has it, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def whole(self, texts: Sequence[str]) -> list[float | None]:
        self.asked += texts
        return [-random.Random(text).random() for text in texts]

    def after(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool] | None]:
        return [None] * len(pairs)


@pytest.mark.parametrize(("options", "others"), [(3, 5), (4, 7), (6, 7)])
def test_each_other_order_of_options_is_asked_once(options: int, others: int) -> None:
    """One that came twice would make ranks vary more than equally likely ones do: p below 0.05 in 7 % of cases."""
    shown = [ShownRow("", f"q{n}", f"q{n}", tuple(f"{n} {letter}" for letter in "xyzuvw"[:options])) for n in range(30)]
    ask = Indifferent()
    (found,) = (each for each in probes_of("exam", shown, [], ask, 1) if each.name == OPTIONS)
    orders = [text for text in ask.asked if text.startswith("q7\nA. ")]
    assert len(orders) == len(set(orders)) == others + 1
    assert found.result.n == 30


def test_what_is_left_out_once_is_said_so() -> None:
    Path("corpus/b.jsonl").write_text("{broken\n", encoding="utf-8")
    done = run_harness("contamination", "exam.yaml", "--corpus", "corpus")
    assert "left out: a broken line, once: b.jsonl:1" in done.output, done.output

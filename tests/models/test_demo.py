from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

import harness
from harness.model import ModelOptions
from harness.registry import load_plugins
from harness.run.preview import preview
from harness.run.spec import RunSpec
from harness.tasks.library import TaskLibrary
from harness_plugins.models.demo import WEIGHTS, DemoModel, rows, world
from harness_plugins.models.demo.train import END, Recipe, Writer, ask, heading, make_tokenizer, train

TASKS = Path(__file__).parents[2] / "tasks" / "demo"
STRANGE = "饕餮 naïve Ωmega 🙂\n\tمرحبا 1+1=2 <|im_end|> \u200b"


@pytest.fixture(scope="module")
def tokenizer():
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(WEIGHTS)


@pytest.mark.parametrize("task", ["demo_choice_zh", "demo_choice_en", "demo_arithmetic"])
def test_what_only_shows_prompts_shows_and_counts_what_a_run_does(task):
    spec = RunSpec((task,), "demo")
    (shown,) = preview(spec, load_plugins(), doc=1)
    asked = DemoModel.create({}, ModelOptions())
    asked.prepare()
    assert shown.text == asked.render(shown.sample.requests[0].prompt)
    assert shown.tokens == asked.count_tokens(shown.text)
    shows = DemoModel.create({}, ModelOptions())
    shows.prepare_to_show()
    assert shows.count_tokens(STRANGE) == asked.count_tokens(STRANGE)


def test_a_chat_is_shown_by_the_template_of_the_model():
    (shown,) = preview(RunSpec(("demo_choice_zh",), "demo", apply_chat_template=True), load_plugins())
    assert shown.text.startswith("<|im_start|>")


def test_the_embedded_model_is_small_and_whole():
    sizes = {path.name: path.stat().st_size for path in WEIGHTS.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(sizes)
    assert sum(sizes.values()) <= 3_000_000


def test_any_text_survives_the_tokenizer(tokenizer):
    ids = tokenizer(STRANGE, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == STRANGE
    assert tokenizer("", add_special_tokens=True).input_ids == []


def test_pieces_are_encoded_alone_as_they_are_within_their_document(tokenizer):
    writer = Writer(Recipe())
    for _ in range(200):
        pieces = [text for text, _ in writer.document(4)]
        alone = [token for text in pieces for token in tokenizer(text, add_special_tokens=False).input_ids]
        assert alone == tokenizer("".join(pieces), add_special_tokens=False).input_ids


def test_the_tokenizer_comes_from_the_recipe(tokenizer):
    again = make_tokenizer(Recipe())
    assert again.get_vocab() == tokenizer.get_vocab()
    assert tokenizer.eos_token == END


def test_no_row_of_the_tasks_is_ever_asked_in_training():
    shipped = {name: _read(name) for name in rows.all_rows()}
    asked = {row["question"] for name, kept in shipped.items() if name.startswith("choice") for row in kept}
    sums = {
        (row["a"], row["sign"], row["b"]) for name in ("arithmetic/test", "arithmetic/dev") for row in shipped[name]
    }
    stories = {row["text"] for row in shipped["perplexity/test"]}
    rng = Random(5)
    for language in world.LANGUAGES:
        for _ in range(1500):
            assert world.draw(rng, language, test=False).text not in asked
            assert world.draw_story(rng, language, test=False) not in stories
    for _ in range(3000):
        a, sign, b, result = world.draw_sum(rng, test=False)
        assert (a, sign, b) not in sums and not (sign == "+" and (b, sign, a) in sums)
        assert result == (a + b if sign == "+" else a - b)


def test_the_shipped_rows_are_those_that_the_script_writes():
    for name, expected in rows.all_rows().items():
        assert _read(name) == expected, name


def test_every_question_has_four_different_options_and_its_answer_among_them():
    for name, expected in rows.all_rows().items():
        if name.startswith("choice"):
            for row in expected:
                assert len(set(row["choices"])) == 4 and row["answer"] in range(4), row


def test_training_text_has_the_form_of_the_tasks():
    for language in world.LANGUAGES:
        config = _task(f"demo_choice_{language}").config
        for subject, titles in world.SUBJECTS.items():
            title = titles[world.LANGUAGES.index(language)]
            assert config.subsets[subject]["title"] == title
            assert heading(language, subject) == config.description.replace("{{subset.title}}", title)
        question = world.WorldQuestion(language, "words", "Q", ("a", "b", "c", "d"), 0)
        assert ask(question) == config.doc_to_text.replace("{{question}}", "Q")


def test_a_training_step_learns(tokenizer):
    torch = pytest.importorskip("torch")
    recipe = replace(Recipe(), hidden=32, feed_forward=64, layers=2, stages=((30, 64, 8),), warmup=5)
    lines: list[str] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = train(recipe, tokenizer, lines.append)
    finally:
        torch.set_num_threads(threads)
    assert float(lines[-1].split("loss ")[1].split()[0]) < 6.5
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    pytest.importorskip("torch")
    result = harness.evaluate(model="demo", tasks=["demo"], limit=60, output=tmp_path_factory.mktemp("runs"))
    assert result.exit_code == 0
    return {
        (task["task"], metric["metric"]): metric["value"]
        for task in result.to_dict()["tasks"]
        for metric in task["metrics"]
    }


def test_the_demo_model_is_far_above_chance_and_not_perfect(summary):
    for task in ("demo_choice_zh", "demo_choice_en"):
        assert 0.7 < summary[task, "acc"] < 0.97
    assert 0.75 < summary["demo_arithmetic", "exact_match"] < 1
    assert summary["demo_perplexity", "bits_per_byte"] < 0.6


def _task(name: str):
    registry = load_plugins()
    library = TaskLibrary(registry.task_folders(), registry.template_folders())
    (ref,) = library.select([name])
    return library.load(ref)


def _read(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (TASKS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]

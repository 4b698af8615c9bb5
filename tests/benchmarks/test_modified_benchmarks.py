"""The benchmarks that ship say truly where their options are: the right answer follows its option in every real row."""

from pathlib import Path

import pytest

from harness import Rows, TaskError
from harness.data.open import open_dataset
from harness.registry import load_plugins
from harness.run.modify import make_modifiers
from harness.tasks.build import build_samples
from harness.tasks.build_options import BuildOptions
from harness.tasks.library import TaskLibrary

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MIRROR = ROOT.parent / "shared" / "mirror"
REGISTRY = load_plugins()
LIBRARY = TaskLibrary([("harness-eval", ROOT / "tasks")], [("harness-eval", ROOT / "templates")])
needs_mirror = pytest.mark.skipif(not MIRROR.is_dir(), reason="the mirror of real rows is not here")
# How many rows, rotations and rows that keep their order there are.
TURNED = {
    "ceval": (1346, 5345, 13),
    "ceval:gen": (1346, 5345, 13),
    "cmmlu": (11582, 45872, 152),
    "aclue": (4966, 19861, 1),
    "ccpm": (2720, 10880, 0),
    "logiqa_zh": (651, 2547, 19),
    "logiqa_zh:letters": (651, 2547, 19),
    "logiqa2_zh": (1593, 6333, 13),
    "agieval_zh": (2405, 9545, 25),
    "agieval_zh:letters": (2405, 9545, 25),
}


def samples_of(expression, *modify, limit=None):
    (ref,) = LIBRARY.select([expression])
    task = LIBRARY.load(ref, {}, make_modifiers(modify, REGISTRY))
    options = BuildOptions(limit=limit, mirrors=(str(MIRROR),), offline=True)

    def open_split(spec, split):
        return open_dataset(spec, split, REGISTRY.hook)

    for subset in task.subsets:
        yield from build_samples(task, subset, open_split, options)


@needs_mirror
@pytest.mark.parametrize("name", TURNED)
def test_every_rotation_keeps_its_right_answer(name):
    # Building compares the right answer of each rotation with that of the row; what is left is to count.
    rows = views = kept = 0
    for sample in samples_of(name, "circular"):
        rows += sample.view.index == 0
        views += 1
        kept += bool(sample.view.fixed)
    assert (rows, views, kept) == TURNED[name]


@needs_mirror
@pytest.mark.parametrize("name", [*TURNED, "xcopa_zh", "fewclue_chid"])
def test_every_question_can_be_taken_away(name):
    plain, bare = (list(samples_of(name, *modify, limit=5)) for modify in ((), ("no_question",)))
    assert [sample.target for sample in plain] == [sample.target for sample in bare]
    shorter = [
        len(a.requests[0].prompt.suffix) > len(b.requests[0].prompt.suffix) for a, b in zip(plain, bare, strict=True)
    ]
    assert all(shorter)


@needs_mirror
@pytest.mark.parametrize("name", ["ceval", "ceval:gen", "cmmlu", "cmmlu:gen", "aclue"])
def test_every_wording_asks_about_the_same_row(name):
    for sample in samples_of(name, "paraphrase", limit=2):
        prompt = sample.requests[0].prompt.text
        question = sample.doc.get("question") or sample.doc.get("Question")
        assert all(sample.doc[column] in prompt for column in "ABCD")
        assert question in prompt


@needs_mirror
def test_the_gold_of_a_shuffled_row_is_the_same_option():
    plain, shuffled = (list(samples_of("ceval", *modify)) for modify in ((), ("shuffle_options",)))
    moved = 0
    for before, after in zip(plain, shuffled, strict=True):
        assert before.doc["ABCD"[before.target]] == after.doc["ABCD"[after.target]]
        moved += before.target != after.target
    assert 0.7 * len(plain) < moved < 0.8 * len(plain)


@pytest.mark.parametrize("name", ["xcopa_zh", "fewclue_chid"])
def test_prompts_that_do_not_show_the_options_are_told_at_the_first_row(name):
    (ref,) = LIBRARY.select([name])
    task = LIBRARY.load(ref, {}, make_modifiers(["circular"], REGISTRY))
    row = task.config.example.row

    def open_split(spec, split):
        return Rows([row], "", "here")

    with pytest.raises(TaskError, match="does not show what --modify circular changes"):
        list(build_samples(task, task.subsets[0], open_split, BuildOptions()))

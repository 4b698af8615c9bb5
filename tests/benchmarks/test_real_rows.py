"""Every real row of Chinese benchmarks in the mirror: it can be asked, and has its gold."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.data.open import open_dataset
from harness.registry import load_plugins
from harness.scoring import Scorer
from harness.tasks.build import build_samples
from harness.tasks.build_options import BuildOptions
from harness.tasks.library import TaskLibrary
from harness.tasks.row_report import report_rows
from harness.types import Response

ROOT = Path(__file__).parents[2]
MIRROR = ROOT.parent / "shared" / "mirror"
REGISTRY = load_plugins()
LIBRARY = TaskLibrary([("harness-eval", ROOT / "tasks")], [("harness-eval", ROOT / "templates")])
OPTIONS = BuildOptions(mirrors=(str(MIRROR),), offline=True)
pytestmark = [
    pytest.mark.skipif(not MIRROR.is_dir(), reason="the mirror of real rows is not here"),
    pytest.mark.slow,
]

# Rows that are asked, and how many of them have no gold answer; where the files hold them all, as their authors count.
ROWS = {
    "agieval_zh": (2405, 0),
    "agieval_zh_multiple": (2200, 1),
    "agieval_gaokao_mathcloze": (118, 0),
    "e_eval": (424, 0),
    "gaokao_bench_subjective": (1030, 0),
    "math23k": (1000, 0),
    "mathglm_mwp": (5000, 0),
    "mathglm_arithmetic": (9592, 0),
    "olymmath_zh": (200, 0),
    "conic10k": (2069, 25),
    "yue_gsm8k": (1319, 0),
    "yue_mmlu": (3721, 0),
    "yue_arc_c": (1171, 0),
    "c3": (3892, 0),
    "cmrc2019": (300, 0),
    "expmrc_cmrc2018": (515, 0),
    "expmrc_c3": (505, 0),
    "ac_eval": (65, 0),
    "cclue_mrc": (435, 0),
    "fspc": (2000, 0),
    "fspc:poem": (5000, 0),
    "wyweb_irc": (5000, 0),
    "wyweb_wywrc": (432, 0),
    "wyweb_fspc": (1000, 0),
    "wyweb_xuci": (500, 0),
    "wyweb_tlc": (6115, 0),
    "c_clue:relation": (418, 0),
    "wenmind": (4875, 0),
    "wenmind:choice": (717, 0),
    "fewclue_bustm": (1772, 0),
    "fewclue_chid": (2002, 0),
    "fewclue_cluewsc": (976, 0),
    "fewclue_csl": (2838, 0),
    "fewclue_csldcp": (1784, 0),
    "fewclue_eprstmt": (610, 0),
    "fewclue_iflytek": (1749, 0),
    "fewclue_ocnli": (2520, 0),
    "fewclue_tnews": (2010, 0),
    "csl_ctg": (2000, 0),
    "kgclue": (2000, 0),
    "mucgec": (1137, 0),
    "ocnli": (2950, 0),
    "charm_reasoning": (1800, 0),
    "charm_memorization": (759, 0),
    "chinese_ecomqa": (1800, 0),
    "chinese_simpleqa": (3000, 0),
    "halluqa": (450, 0),
    "uhgeval": (1000, 0),
    "yue_truthfulqa": (817, 0),
    "chinese_safetyqa": (2000, 0),
    "cvalues_prompts": (664, 664),
    "alignbench": (683, 0),
    "followbench_zh": (455, 455),
    "followbench_zh_rules": (330, 330),
    "meeseeks_zh": (373, 373),
    "chinesefacteval": (125, 125),
    "marco_mif_zh": (1081, 1081),
    "cflue_knowledge": (3864, 0),
    "openfindata": (575, 0),
    "promptcblue": (80, 0),
    "codexglue_zh": (1000, 0),
    "humaneval_x_python": (164, 0),
    "humaneval_x_cpp": (164, 0),
    "humaneval_x_java": (164, 0),
    "humaneval_x_javascript": (164, 0),
    "naturalcodebench_zh": (70, 0),
    "ntrex_zh": (3994, 0),
    "wmt24_zh": (998, 0),
    "yue_trans": (400, 0),
}
# Gold answers in the words of their authors, which a filter has to read out of a reply before they are compared.
READ = [
    "agieval_zh_multiple",
    "agieval_gaokao_mathcloze",
    "math23k",
    "mathglm_mwp",
    "mathglm_arithmetic",
    "olymmath_zh:greedy",
    "conic10k",
    "yue_gsm8k",
    "yue_mmlu",
    "yue_arc_c",
    "c3:opencompass",
    "cmrc2019",
    "expmrc_c3:gen",
    "cclue_mrc:gen",
    "wyweb_xuci:gen",
    "c_clue:relation",
    "wenmind:choice",
    "kgclue",
    "charm_reasoning",
    "charm_reasoning:cot",
    "charm_memorization",
    "chinese_safetyqa",
    "uhgeval",
    "cflue_knowledge",
    "openfindata",
    "promptcblue",
]


def load(name):
    (ref,) = LIBRARY.select([name])
    return LIBRARY.load(ref, {})


def open_split(spec, split):
    return open_dataset(spec, split, REGISTRY.hook)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_can_be_asked_and_they_are_as_many_as_there_should_be(name):
    report = report_rows(load(name), open_split, OPTIONS)
    assert not report.problems.rows
    assert (report.rows, report.hidden) == ROWS[name]
    assert not report.count_differs


@pytest.mark.parametrize("name", READ)
def test_a_gold_answer_is_read_as_it_is_meant(name):
    task = load(name)
    scorer = Scorer(task.scoring, REGISTRY.metric, REGISTRY.filter)
    wrong = []
    for subset in task.subsets:
        for sample in build_samples(task, subset, open_split, OPTIONS):
            if sample.target is not None:
                replies = [Response(text=str(sample.target), finish_reason="stop")] * len(sample.requests)
                score = next(iter(scorer.score(sample, replies).scores.values()))
                right = score[0] == score[-1] if isinstance(score, tuple) else score == 1
                wrong += [] if right else [(subset.name, sample.id, sample.target, score)]
    assert wrong == []

"""The scoring rules of benchmarks' authors, odd ones included, as pure functions. Plugins may use what is named here.

They exist to reproduce published numbers exactly; `harness.scoring.extraction` reads replies better. Each module names
the official script that it follows. Where a script guesses at random what it cannot read, the function returns None,
and `guess.py` says what that is worth: the script's own draw, wrong, or what a guess is worth on average.
"""

from __future__ import annotations

from harness.scoring.official.boxes import (
    SCALES,
    Box,
    Scale,
    as_fraction,
    first_box,
    intersection_over_union,
    is_centre_within,
    lmms_eval_box,
    upright,
)
from harness.scoring.official.captions import caption_rouge, caption_tokens, cider, corpus_bleu
from harness.scoring.official.chinese_text import PUNCTUATION as CHINESE_PUNCTUATION
from harness.scoring.official.cmmmu import cmmmu_blank_correct, cmmmu_choice, cmmmu_judgement
from harness.scoring.official.cmmu import cmmu_blank_correct, cmmu_letters
from harness.scoring.official.edit_distance import edit_distance
from harness.scoring.official.floats import is_float
from harness.scoring.official.guess import GuessMode, choice_scores
from harness.scoring.official.letters import (
    all_capitals,
    blink_letter,
    first_capital,
    last_capital,
    lvbench_letter,
    mmstar_correct,
    mvbench_letter,
    scienceqa_letter,
    seed_bench_letter,
    supergpqa_letter,
    video_mme_letter,
)
from harness.scoring.official.mathvision import mathvision_answer, mathvision_correct
from harness.scoring.official.mathvista import mathvista_extract, mathvista_normalise
from harness.scoring.official.mmmu import mmmu_choice, mmmu_open_correct, mmmu_pro_choice, video_mmmu_choice
from harness.scoring.official.omnidocbench import cdm_missing, omnidocbench_cdm, omnidocbench_page
from harness.scoring.official.option_matching import vlmevalkit_option
from harness.scoring.official.simple_evals import simple_evals_letter
from harness.scoring.official.vqa import anls, ocrbench_correct, relaxed_correct, vqa_accuracy, vqa_normalise
from harness.scoring.official.yes_no import (
    COGNITION,
    PERCEPTION,
    mme_answer,
    mme_scores,
    pope_answer,
    pope_scores,
    words_only,
)

__all__ = [
    "CHINESE_PUNCTUATION",
    "COGNITION",
    "PERCEPTION",
    "SCALES",
    "Box",
    "GuessMode",
    "Scale",
    "all_capitals",
    "anls",
    "as_fraction",
    "blink_letter",
    "caption_rouge",
    "caption_tokens",
    "cdm_missing",
    "choice_scores",
    "cider",
    "cmmmu_blank_correct",
    "cmmmu_choice",
    "cmmmu_judgement",
    "cmmu_blank_correct",
    "cmmu_letters",
    "corpus_bleu",
    "edit_distance",
    "first_box",
    "first_capital",
    "intersection_over_union",
    "is_centre_within",
    "is_float",
    "last_capital",
    "lmms_eval_box",
    "lvbench_letter",
    "mathvision_answer",
    "mathvision_correct",
    "mathvista_extract",
    "mathvista_normalise",
    "mme_answer",
    "mme_scores",
    "mmmu_choice",
    "mmmu_open_correct",
    "mmmu_pro_choice",
    "mmstar_correct",
    "mvbench_letter",
    "ocrbench_correct",
    "omnidocbench_cdm",
    "omnidocbench_page",
    "pope_answer",
    "pope_scores",
    "relaxed_correct",
    "scienceqa_letter",
    "seed_bench_letter",
    "simple_evals_letter",
    "supergpqa_letter",
    "upright",
    "video_mme_letter",
    "video_mmmu_choice",
    "vlmevalkit_option",
    "vqa_accuracy",
    "vqa_normalise",
    "words_only",
]

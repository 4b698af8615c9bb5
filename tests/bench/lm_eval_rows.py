"""Made-up rows in the schema of the data sets that lm-eval's task files name, for lm_eval_library.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
ROWS = 12
WORDS = ("river", "stone", "lamp", "garden", "clock", "window", "bridge", "apple", "paper", "cloud", "horse", "music")


def word(index: int) -> str:
    return WORDS[index % len(WORDS)]


def sentence(index: int) -> str:
    return f"The {word(index)} stands near the {word(index + 3)} and the {word(index + 5)}."


def question(index: int) -> str:
    return f"Which thing is number {index}, the {word(index)} or the {word(index + 1)}?"


def options(index: int, count: int = 4) -> list[str]:
    return [f"the {word(index + place)}" for place in range(count)]


def hellaswag(i: int) -> Row:
    base = {
        "ind": i,
        "activity_label": f"Doing {word(i)}",
        "ctx_a": sentence(i),
        "ctx_b": "then it",
        "ctx": sentence(i),
    }
    return {**base, "endings": [f"{text} [title] falls." for text in options(i)], "label": str(i % 4)}


def winogrande(i: int) -> Row:
    return {
        "sentence": f"The {word(i)} hit the {word(i + 1)} because _ was big.",
        "option1": f"the {word(i)}",
        "option2": f"the {word(i + 1)}",
        "answer": str(1 + i % 2),
    }


def mmlu_pro(i: int) -> Row:
    return {
        "question_id": i,
        "question": question(i),
        "options": options(i, 10),
        "answer": "ABCDEFGHIJ"[i % 10],
        "answer_index": i % 10,
        "cot_content": f"A: Let's think step by step. The answer is ({'ABCDEFGHIJ'[i % 10]}).",
        "category": "law" if i % 3 else "physics",
        "src": "x",
    }


def truthful_mc(i: int) -> Row:
    return {
        "question": question(i),
        "mc1_targets": {"choices": options(i), "labels": [1, 0, 0, 0]},
        "mc2_targets": {"choices": options(i, 5), "labels": [1, 1, 0, 0, 0]},
    }


def truthful_gen(i: int) -> Row:
    return {
        "type": "Adversarial",
        "category": "Misconceptions",
        "question": question(i),
        "best_answer": sentence(i),
        "correct_answers": [sentence(i), sentence(i + 1)],
        "incorrect_answers": [sentence(i + 2)],
        "source": "x",
    }


def gpqa(i: int) -> Row:
    wrong = {f"Incorrect Answer {place}": f" the {word(i + place)} [title] x" for place in (1, 2, 3)}
    return {
        "Question": question(i),
        "Correct Answer": f"the {word(i)}",
        **wrong,
        "Subdomain": "physics",
        "High-level domain": "Physics",
    }


def math_row(i: int) -> Row:
    return {
        "problem": f"What is ${i}+{i}$?",
        "solution": f"We get $\\boxed{{{2 * i}}}$.",
        "level": "Level 1",
        "type": "Algebra",
    }


def drop(i: int) -> Row:
    empty = {"number": str(i), "date": {"day": "", "month": "", "year": ""}, "spans": [], "worker_id": "", "hit_id": ""}
    lists = {
        "number": [str(i + 1)],
        "date": [{"day": "", "month": "", "year": ""}],
        "spans": [[]],
        "worker_id": [""],
        "hit_id": [""],
    }
    return {
        "section_id": "s",
        "passage": sentence(i),
        "question": question(i),
        "query_id": f"q{i}",
        "answer": empty,
        "validated_answers": lists,
    }


def wikitext(i: int) -> Row:
    return {"page": f" = {word(i)} = \n {sentence(i)} \n It 's @-@ {i} , and so on . \n"}


def humaneval(i: int) -> Row:
    return {
        "task_id": f"H/{i}",
        "prompt": f"def f{i}(x):\n    ",
        "canonical_solution": "return x\n",
        "test": "def check(candidate):\n    assert candidate(1) == 1\n",
        "entry_point": f"f{i}",
    }


def mbpp(i: int) -> Row:
    return {
        "task_id": i,
        "text": f"Write a function for {word(i)}.",
        "code": f"def f{i}():\n    return {i}",
        "test_list": [f"assert f{i}() == {i}"] * 3,
        "test_setup_code": "",
        "challenge_test_list": [],
    }


def copa(i: int) -> Row:
    return {
        "premise": sentence(i),
        "choice1": sentence(i + 1),
        "choice2": sentence(i + 2),
        "question": "cause" if i % 2 else "effect",
        "label": i % 2,
        "idx": i,
        "changed": False,
    }


def global_mmlu(i: int) -> Row:
    return {
        "sample_id": f"s{i}",
        "subject": "anatomy",
        "subject_category": "Medical",
        "question": question(i),
        "option_a": word(i),
        "option_b": word(i + 1),
        "option_c": word(i + 2),
        "option_d": word(i + 3),
        "answer": "ABCD"[i % 4],
        "cultural_sensitivity_label": "CA",
        "required_knowledge": "",
        "time_sensitive": "",
        "reference": "",
        "culture": "",
        "region": "",
        "country": "",
        "is_annotated": True,
    }


def race(i: int) -> Row:
    problems = [
        {"question": f"{question(i + k)[:-1]} _ .", "answer": "ABCD"[k % 4], "options": options(i + k)}
        for k in range(2)
    ]
    return {"article": sentence(i), "problems": repr(problems)}


def medmcqa(i: int) -> Row:
    return {
        "id": str(i),
        "question": question(i),
        "opa": word(i),
        "opb": word(i + 1),
        "opc": word(i + 2),
        "opd": word(i + 3),
        "cop": i % 4,
        "choice_type": "single",
        "exp": "x",
        "subject_name": "Anatomy",
        "topic_name": "x",
    }


def aime(i: int) -> Row:
    return {
        "ID": f"2024-{i}",
        "Problem": f"What is {i}+{i}?",
        "problem": f"What is {i}+{i}?",
        "Solution": "x",
        "Answer": 2 * i,
        "answer": str(2 * i),
        "solution": "x",
        "Question": f"What is {i}+{i}?",
    }


def kobest(i: int) -> Row:
    return {
        "premise": sentence(i),
        "question": "원인" if i % 2 else "결과",
        "alternative_1": sentence(i + 1),
        "alternative_2": sentence(i + 2),
        "label": i % 2,
    }


def boolq_ko(i: int) -> Row:
    return {"paragraph": sentence(i), "question": question(i), "label": i % 2}


def ifeval(i: int) -> Row:
    ids = ["punctuation:no_comma", "length_constraints:number_words"]
    return {
        "key": i,
        "prompt": f"Write of the {word(i)} without a comma, in at most 50 words.",
        "instruction_id_list": ids,
        "kwargs": [{"num_words": None, "relation": None}, {"num_words": 50, "relation": "less than"}],
    }


def pubmedqa(i: int) -> Row:
    return {
        "QUESTION": question(i),
        "CONTEXTS": [sentence(i), sentence(i + 1)],
        "LABELS": ["A", "B"],
        "MESHES": ["x"],
        "YEAR": "2000",
        "reasoning_required_pred": "yes",
        "reasoning_free_pred": "yes",
        "final_decision": ("yes", "no", "maybe")[i % 3],
        "LONG_ANSWER": sentence(i),
    }


def logiqa(i: int) -> Row:
    return {"label": "abcd"[i % 4], "context": sentence(i), "question": question(i), "options": options(i)}


def mathqa(i: int) -> Row:
    listed = " , ".join(f"{letter} ) {number + i}" for number, letter in enumerate("abcde"))
    return {
        "Problem": f"what is {i} + {i} ?",
        "Rationale": "x",
        "options": listed,
        "correct": "abcde"[i % 5],
        "annotated_formula": "",
        "linear_formula": "",
        "category": "general",
    }


def ethics_cm(i: int) -> Row:
    return {"label": i % 2, "input": sentence(i), "is_short": True, "edited": False}


def webqs(i: int) -> Row:
    return {"url": "x", "question": question(i), "answers": [f"the {word(i)}", f"the {word(i)} tree", f"a {word(i)}"]}


def coqa(i: int) -> Row:
    listed = {"input_text": [question(i), question(i + 1)], "turn_id": [1, 2]}
    answers = {
        "input_text": [word(i), word(i + 1)],
        "answer_start": [0, 1],
        "answer_end": [1, 2],
        "turn_id": [1, 2],
        "span_text": ["a", "b"],
    }
    extra = {name: {**answers, "input_text": [word(i + 2), word(i + 3)]} for name in ("0", "1", "2")}
    return {
        "id": str(i),
        "source": "x",
        "story": sentence(i),
        "questions": listed,
        "answers": answers,
        "additional_answers": extra,
    }


def toxigen(i: int) -> Row:
    return {"text": sentence(i), "toxicity_human": 1.0 + i % 5, "toxicity_ai": 1.0 + i % 4, "target_group": "x"}


def crows(i: int) -> Row:
    return {
        "id": i,
        "sent_more": sentence(i),
        "sent_less": sentence(i + 1),
        "stereo_antistereo": i % 2,
        "bias_type": i % 9,
    }


def moral(i: int) -> Row:
    return {
        "guid": str(i),
        "norm": sentence(i),
        "situation": sentence(i + 1),
        "intention": sentence(i + 2),
        "moral_action": sentence(i + 3),
        "moral_consequence": sentence(i + 4),
        "immoral_action": sentence(i + 5),
        "immoral_consequence": sentence(i + 6),
        "label": 0,
    }


def wsc273(i: int) -> Row:
    text = f"The {word(i)} hit the {word(i + 1)} because it was big."
    place = text.index(" it ") + 1
    return {
        "text": text,
        "pronoun": "it",
        "pronoun_loc": place,
        "quote": "it was big",
        "quote_loc": place,
        "options": [f"The {word(i)}", f"the {word(i + 1)}"],
        "label": i % 2,
        "source": "x",
    }


def mutual(i: int) -> Row:
    return {
        "answers": "ABCD"[i % 4],
        "options": [f"m : {text} , is n't it ?" for text in options(i)],
        "article": f"f : {sentence(i)}",
        "id": str(i),
    }


def qasper(i: int) -> Row:
    return {
        "id": f"p{i}",
        "title": word(i),
        "abstract": sentence(i),
        "qas": {
            "question": [question(i)],
            "question_id": [f"q{i}"],
            "nlp_background": ["x"],
            "topic_background": ["x"],
            "paper_read": ["x"],
            "search_query": ["x"],
            "question_writer": ["x"],
            "answers": [
                {
                    "answer": [
                        {
                            "unanswerable": False,
                            "extractive_spans": [],
                            "yes_no": bool(i % 2),
                            "free_form_answer": "",
                            "evidence": [],
                            "highlighted_evidence": [],
                        }
                    ],
                    "annotation_id": ["a"],
                    "worker_id": ["w"],
                }
            ],
        },
    }


def medqa(i: int) -> Row:
    return {
        "id": str(i),
        "sent1": question(i),
        "sent2": "",
        "ending0": word(i),
        "ending1": word(i + 1),
        "ending2": word(i + 2),
        "ending3": word(i + 3),
        "label": i % 4,
    }


def xwinograd(i: int) -> Row:
    return {
        "sentence": f"The {word(i)} hit the {word(i + 1)} because _ was big.",
        "option1": f"the {word(i)}",
        "option2": f"the {word(i + 1)}",
        "answer": str(1 + i % 2),
    }


def paws(i: int) -> Row:
    return {"id": i, "sentence1": sentence(i), "sentence2": sentence(i + 1), "label": i % 2}


def jsonl(rows: list[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


ALL = ("train", "validation", "test")
TASKS: dict[str, tuple[str, str, tuple[str, ...], Callable[[int], Row]]] = {
    # task: (dataset_path, dataset_name, splits, row)
    "hellaswag": ("Rowan/hellaswag", "", ALL, hellaswag),
    "winogrande": ("allenai/winogrande", "winogrande_xl", ALL, winogrande),
    "mmlu_pro_law": ("TIGER-Lab/MMLU-Pro", "", ("validation", "test"), mmlu_pro),
    "truthfulqa_mc1": ("truthfulqa/truthful_qa", "multiple_choice", ("validation",), truthful_mc),
    "truthfulqa_mc2": ("truthfulqa/truthful_qa", "multiple_choice", ("validation",), truthful_mc),
    "truthfulqa_gen": ("truthfulqa/truthful_qa", "generation", ("validation",), truthful_gen),
    "gpqa_main_zeroshot": ("Idavidrein/gpqa", "gpqa_main", ("train",), gpqa),
    "gpqa_main_n_shot": ("Idavidrein/gpqa", "gpqa_main", ("train",), gpqa),
    "hendrycks_math_algebra": ("EleutherAI/hendrycks_math", "algebra", ("train", "test"), math_row),
    "drop": ("EleutherAI/drop", "", ("train", "validation"), drop),
    "wikitext": ("EleutherAI/wikitext_document_level", "wikitext-2-raw-v1", ALL, wikitext),
    "humaneval": ("openai/openai_humaneval", "", ("test",), humaneval),
    "mbpp": ("google-research-datasets/mbpp", "full", ALL, mbpp),
    "xcopa_id": ("cambridgeltl/xcopa", "id", ("validation", "test"), copa),
    "copa": ("aps/super_glue", "copa", ("train", "validation"), copa),
    "global_mmlu_full_en_anatomy": ("CohereForAI/Global-MMLU", "en", ("dev", "test"), global_mmlu),
    "race": ("EleutherAI/race", "high", ALL, race),
    "medmcqa": ("openlifescienceai/medmcqa", "", ALL, medmcqa),
    "aime24": ("Maxwell-Jia/AIME_2024", "", ("train",), aime),
    "kobest_copa": ("skt/kobest_v1", "copa", ALL, kobest),
    "kobest_boolq": ("skt/kobest_v1", "boolq", ALL, boolq_ko),
    "ifeval": ("google/IFEval", "", ("train",), ifeval),
    "pubmedqa": ("bigbio/pubmed_qa", "pubmed_qa_labeled_fold0_source", ALL, pubmedqa),
    "logiqa": ("EleutherAI/logiqa", "logiqa", ALL, logiqa),
    "mathqa": ("regisss/math_qa", "", ALL, mathqa),
    "ethics_cm": ("EleutherAI/hendrycks_ethics", "commonsense", ("train", "test"), ethics_cm),
    "webqs": ("stanfordnlp/web_questions", "", ("train", "test"), webqs),
    "coqa": ("EleutherAI/coqa", "", ("train", "validation"), coqa),
    "toxigen": ("skg/toxigen-data", "annotated", ("train", "test"), toxigen),
    "crows_pairs_english": ("jannalu/crows_pairs_multilingual", "english", ("test",), crows),
    "moral_stories": ("LabHC/moral_stories", "", ("train",), moral),
    "wsc273": ("lighteval/winograd_wsc", "wsc273", ("test",), wsc273),
    "mutual": ("EleutherAI/mutual", "mutual", ("train", "validation"), mutual),
    "qasper_bool": ("allenai/qasper", "", ("train", "validation"), qasper),
    "medqa_4options": ("GBaker/MedQA-USMLE-4-options-hf", "", ALL, medqa),
    "xwinograd_en": ("Muennighoff/xwinograd", "en", ("test",), xwinograd),
    "paws_en": ("google-research-datasets/paws-x", "en", ALL, paws),
}


def write(folder: Path) -> None:
    """Write all rows as a mirror: `DATASET/CONFIG/SPLIT.jsonl`."""
    for path, name, splits, make in TASKS.values():
        for shift, split in enumerate(splits):
            file = folder / path / name / f"{split}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(jsonl([make(index + 20 * shift) for index in range(ROWS)]), encoding="utf-8")

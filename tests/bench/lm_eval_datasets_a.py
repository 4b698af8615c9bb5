"""The schema of each data set that tasks in folders of lm-eval's library from aclue to hrm8k name."""

from __future__ import annotations

from typing import Any

from lm_eval_rows import (
    ABCD,
    ABCDE,
    ARC,
    BELEBELE,
    COPA,
    GPQA,
    GSM8K,
    HELLASWAG,
    MATH,
    MGSM,
    MINIMAL_PAIR,
    MMLU,
    NLI,
    SQUAD,
    after,
    index,
    letter,
    name,
    number,
    numbered,
    option,
    options,
    pick,
    question,
    sentence,
    shown,
    text,
    word,
)

BBQ = {
    "example_id": number,
    "question_index": number,
    "question_polarity": pick("neg", "nonneg"),
    "context_condition": pick("ambig", "disambig", "ambig", "disambig", "disambig"),
    "category": pick("Age", "Religion"),
    "context": sentence,
    "question": question,
    "ans0": option(0),
    "ans1": option(1),
    "ans2": "Cannot be determined",
    "label": index(3),
    "question_type": pick("pro-stereo", "anti-stereo", "pro-stereo"),
    "stereotyped_groups": ["old"],
    "answer_info": {"ans0": ["the old", "old"], "ans1": ["the young", "nonOld"], "ans2": ["unknown", "unknown"]},
}
FOUR = {"question": question, "A": option(0), "B": option(1), "C": option(2), "D": option(3)}
OPTION_ABCD = {f"option_{letter}": option(place) for place, letter in enumerate("abcd")}
QUERY = {"query": question, "choices": options(4), "gold": lambda i: [i % 4]}
PAIR = {"sentence1": sentence, "sentence2": after(sentence, 1), "label": index(2), "idx": number}
BBH = {"input": text("not ( {word} ) is"), "target": pick("True", "False")}
STORIES = {
    **{column: after(sentence, step) for step, column in enumerate(("norm", "situation", "intention"))},
    **{f"{kind}_{part}": after(sentence, 3) for kind in ("moral", "immoral") for part in ("action", "consequence")},
    "label": 0,
}
COQA_ANSWERS = {
    "input_text": lambda i: [word(i), word(i + 1)],
    "answer_start": [0, 1],
    "answer_end": [1, 2],
    "turn_id": [1, 2],
}
DATE = {"day": "", "month": "", "year": ""}

DATASETS: dict[str, Any] = {
    "tyouisen/aclue": {"Question": question, **ABCD, "Answer": letter(4)},
    "ibm-research/acp_bench": {"id": name, "context": sentence, "question": question, "answer": pick("yes", "no")},
    "Hennara/aexams": {**FOUR, "answer": letter(4)},
    "masakhane/afrimgsm": MGSM,
    "masakhane/afrimmlu": {**MMLU, "choices": shown(options(4)), "answer": letter(4)},
    "masakhane/afrixnli": NLI,
    "masakhane/afrisenti": {"tweet": sentence, "label": pick("positive", "negative", "neutral")},
    "masakhane/masakhaner-x": {"text": sentence, "ner_tags": text("The: O\n{word}: B-PER\nnear: O\n{other}: B-LOC")},
    **{f"hails/agieval-{one}": QUERY for one in ("aqua-rat", "gaokao-english")},
    "hails/agieval-lsat-rc": {
        "query": text("{sentence} Q: which? Answer Choices: (A)x A: Among"),
        "choices": options(5),
        "gold": lambda i: [i % 5],
    },
    "hails/agieval-math": {"query": text("What is {i}+{i}?"), "answer": text("{double}")},
    "gneubig/aime-1983-2024": {"ID": name, "Question": text("What is {i}+{i}?"), "Answer": text("{double}")},
    "Maxwell-Jia/AIME_2024": {"ID": name, "Problem": text("What is {i}+{i}?"), "Answer": lambda i: 2 * i},
    "math-ai/aime25": {"id": name, "problem": text("What is {i}+{i}?"), "answer": text("{double}")},
    "Hennara/copa_ar": {"query": sentence, "sol1": option(0), "sol2": option(1), "label": index(2)},
    "Hennara/pica_ar": {"goal": sentence, "sol1": option(0), "sol2": option(1), "label": index(2)},
    "facebook/anli": {"uid": name, **NLI, "reason": ""},
    **{
        path: {
            "country": "Algeria",
            "region": "North Africa",
            "first_statement": sentence,
            "options": {"arabic_keys": ["أ", "ب", "ج"], "english_keys": ["A", "B", "C"], "text": options(3)},
            "answer_key": {"arabic_answer_key": pick("أ", "ب", "ج"), "english_answer_key": pick("A", "B", "C")},
        }
        for path in ("MBZUAI/ArabCulture", "boda/arabic_cluture")
    },
    "OALL/AlGhafa-Arabic-LLM-Benchmark-Native": {
        "query": question,
        "label": pick(*"0123"),
        **numbered("sol{}", 4, word),
    },
    **{
        path: {"subject": "Biology", **FOUR, "answer": letter(4)}
        for path in ("OALL/Arabic_EXAMS", "arcee-globe/Arabic_EXAMS-10percent")
    },
    "MBZUAI/ArabicMMLU": {
        "Question": question,
        "Context": pick("", sentence),
        "Subject": "Accounting",
        "Level": pick("Univ", None),
        "Country": pick(None, "Egypt"),
        **numbered("Option {}", 4, word),
        "Option 5": pick(None, "none of these"),
        "Answer Key": letter(4),
    },
    "QCRI/AraDiCE-BoolQ": {"question": question, "passage": sentence, "answer": pick("true", "false")},
    "allenai/ai2_arc": ARC,
    "LumiOpen/arc_challenge_mt": ARC,
    "HiTZ/ARC-eu": ARC,
    "EleutherAI/asdiv": {"body": sentence, "question": "How many?", "answer": text("{double} (apples)"), "formula": ""},
    "Muennighoff/babi": {"passage": sentence, "question": question, "answer": word, "task": 1},
    "hishab/boolq_bn": {"passage": sentence, "question": question, "answer": pick(True, False)},
    "HiTZ/MGSM-eu": MGSM,
    "juletxara/mgsm": MGSM,
    "HiTZ/XCOPA-eu": COPA,
    "cambridgeltl/xcopa": COPA,
    "SaylorTwift/bbh": BBH,
    "oskarvanderwal/bbq": {
        **BBQ,
        "additional_metadata": {"stereotyped_groups": ["old"], "subcategory": "None", "version": "a", "source": "x"},
        "answer_info": {
            place: {"text": "x", "group": group}
            for place, group in zip(("ans0", "ans1", "ans2"), ("old", "nonOld", "unknown"), strict=True)
        },
    },
    "lm-pub-quiz/BEAR": {"template": "x", "text_options": options(4), "correct": index(4)},
    "facebook/belebele": BELEBELE,
    "HiTZ/BertaQA": {"id": number, "question": question, "candidates": options(3), "answer": index(3)},
    "jmichaelov/bhs": {"context": sentence, "ending_good": option(0), "ending_bad": option(1)},
    "hails/bigbench": {
        "idx": number,
        "inputs": question,
        "targets": lambda i: [options(4)(i)[i % 4]],
        "multiple_choice_targets": pick(options(4), options(4), []),
        "multiple_choice_scores": [1, 0, 0, 0],
    },
    "nyu-mll/blimp": MINIMAL_PAIR,
    "jmichaelov/blimp_nl": MINIMAL_PAIR,
    "jmichaelov/lm_syneval": MINIMAL_PAIR,
    "juletxara/turblimp": MINIMAL_PAIR,
    "Junrui1202/zhoblimp": MINIMAL_PAIR,
    "jumelet/multiblimp": {"sen": sentence, "wrong_sen": text("The stands {word} near {other}.")},
    "BSC-LT/CaBBQ": BBQ,
    "BSC-LT/EsBBQ": BBQ,
    "HPAI-BSC/CareQA": {"question": question, **numbered("op{}", 4, word), "cop": pick(1, 2, 3, 4), "answer": sentence},
    "projecte-aina/catalanqa": {**SQUAD, "answers": [{"text": word, "answer_start": 4}]},
    "projecte-aina/caBreu": {
        "content": text("{sentence}\n\n {sentence}"),
        "summaries": {
            kind: {f"a{one}": after(sentence, one) for one in (1, 2, 3)}
            for kind in ("abstractive", "extractive", "extreme")
        },
    },
    "ceval/ceval-exam": {"id": number, **FOUR, "answer": letter(4), "explanation": ""},
    "EunsuKim/CLIcK": {
        "id": pick("economy_1", "TK_economy_2", "KHB_3"),
        "paragraph": pick("", sentence),
        "question": question,
        "choices": options(4),
        "answer": lambda i: options(4)(i)[i % 4],
    },
    "haonan-li/cmmlu": {"Question": question, **ABCD, "Answer": letter(4)},
    "CM/codexglue_code2text_go": {
        "code_tokens": lambda i: ["func", word(i), "(", ")"],
        "docstring_tokens": lambda i: ["returns", word(i), "."],
    },
    "tau/commonsense_qa": {
        "question": question,
        "choices": {"label": list("ABCDE"), "text": options(5)},
        "answerKey": letter(5),
    },
    "haryoaw/COPAL": COPA,
    "EleutherAI/coqa": {
        "id": name,
        "story": sentence,
        "questions": {"input_text": lambda i: [question(i), question(i + 1)], "turn_id": [1, 2]},
        "answers": COQA_ANSWERS,
        "additional_answers": {
            one: {**COQA_ANSWERS, "input_text": lambda i: [word(i + 2), word(i + 3)]} for one in "012"
        },
    },
    "jannalu/crows_pairs_multilingual": {
        "id": number,
        "sent_more": sentence,
        "sent_less": after(sentence, 1),
        "stereo_antistereo": index(2),
        "bias_type": index(9),
    },
    "cruxeval-org/cruxeval": {
        "id": name,
        "code": text("def f(x):\n    return x + {i}"),
        "input": text("{i}"),
        "output": text("{double}"),
    },
    "HAERAE-HUB/csatqa": {
        "question": question,
        "context": sentence,
        **numbered("option#{}", 5, word),
        "gold": pick(*range(1, 6)),
    },
    "MBZUAI-Paris/DarijaBench": {
        "messages": [
            {"role": "user", "content": text("{sentence}\n-سلبي\n-ايجابي")},
            {"role": "assistant", "content": pick("ايجابي", "سلبي")},
        ]
    },
    "MBZUAI-Paris/DarijaHellaSwag": HELLASWAG,
    "UBC-NLP/EgyHellaSwag": HELLASWAG,
    "Rowan/hellaswag": HELLASWAG,
    "manu/french_bench_hellaswag": HELLASWAG,
    "MBZUAI-Paris/DarijaMMLU": {**MMLU, "context": pick("", sentence), "subject_darija": "x"},
    "UBC-NLP/EgyMMLU": {**MMLU, "context": pick("", sentence), "egy_subject": "x"},
    "EleutherAI/drop": {
        "section_id": "s",
        "passage": sentence,
        "question": question,
        "query_id": name,
        "answer": {"number": text("{i}"), "date": DATE, "spans": [], "worker_id": "", "hit_id": ""},
        "validated_answers": {
            "number": [text("{double}")],
            "date": [DATE],
            "spans": [[]],
            "worker_id": [""],
            "hit_id": [""],
        },
    },
    "ShAIkespear/SciKnowEval_mcqa": MMLU,
    "pbevan11/EQ-Bench": {
        "prompt": sentence,
        "reference_answer_fullscale": shown(
            {**{f"emotion{one}": text("{word}") for one in (1, 2)}, "emotion1_score": 3, "emotion2_score": 5}
        ),
    },
    "HiTZ/EusExams": {"question": question, "candidates": options(4), "answer": pick(0, 1, 2, 3, None)},
    "HiTZ/EusProficiency": {"question": question, "candidates": options(4), "answer": index(4)},
    "HiTZ/EusReading": {"context": sentence, "question": question, "candidates": options(4), "answer": index(4)},
    "HiTZ/EusTrivia": {"question": question, "candidates": options(4), "answer": index(4)},
    "evalitahf/admission_test": {"Question": question, **ABCDE, "Correct": letter(5)},
    "hitachi-nlp/FLD.v2": {"prompt_serial": sentence, "world_assump_label": pick("PROVED", "DISPROVED", "UNKNOWN")},
    "manu/french_bench_arc_challenge": {
        "id": name,
        "question": question,
        "choices": options(4),
        "answerKey": letter(4),
    },
    "manu/french_boolq": {"passage": sentence, "question": question, "label": index(2)},
    "manu/fquad2_test": SQUAD,
    "proxectonos/galcola": {"sentence": sentence, "label": index(2)},
    "proxectonos/parafrases_gl": {"Frase": sentence, "Paráfrase": after(sentence, 1), "Avaliación": index(3)},
    "maximegmd/glianorex": {
        "question": question,
        "options": ABCD,
        "answer": word,
        "answer_idx": letter(4),
        "language": pick("en", "fr-x"),
    },
    "CohereForAI/Global-MMLU": {
        "sample_id": name,
        "subject": pick("anatomy", "law", "anatomy"),
        "subject_category": "Medical",
        "question": question,
        **OPTION_ABCD,
        "answer": letter(4),
    },
    "mrlbenchmarks/global-piqa-nonparallel": {
        "prompt": sentence,
        **numbered("solution{}", 2, sentence, 0),
        "label": index(2),
    },
    "nyu-mll/glue:cola": {"sentence": sentence, "label": index(2), "idx": number},
    "nyu-mll/glue:sst2": {"sentence": text("{sentence} It 's good ."), "label": index(2), "idx": number},
    "nyu-mll/glue:mnli": {**NLI, "premise": text(" {sentence} "), "idx": number},
    "nyu-mll/glue:mrpc": PAIR,
    "nyu-mll/glue:qnli": {"question": question, "sentence": sentence, "label": index(2), "idx": number},
    "Idavidrein/gpqa": GPQA,
    "dascim/GreekMMLU": {**MMLU, "subject": pick("Accounting", "Law")},
    "harsh147/GroundCocoa": {
        "query": sentence,
        **{f"Option {one}": text("flight {i}") for one in "ABCDE"},
        "Answer": letter(5),
    },
    "openai/gsm8k": GSM8K,
    "madrylab/gsm8k-platinum": GSM8K,
    "qintongli/GSM-Plus": {
        "question": text("What is {i}+{i}?"),
        "solution": text("It is {double}."),
        "answer": text("{double}"),
    },
    "HAERAE-HUB/HAE_RAE_BENCH": {"query": question, "options": "x", "answer": pick("(A)", "(B)", "(C)", "(D)", "(E)")},
    "EleutherAI/headqa": {
        "qid": number,
        "qtext": question,
        "ra": pick(1, 2, 3, 4),
        "answers": [{"aid": one + 1, "atext": option(one)} for one in range(4)],
    },
    "EleutherAI/hendrycks_ethics:commonsense": {
        "label": index(2),
        "input": sentence,
        "is_short": True,
        "edited": False,
    },
    "EleutherAI/hendrycks_ethics:utilitarianism": {"activity": sentence, "baseline": after(sentence, 1), "rating": 1},
    "EleutherAI/hendrycks_math": MATH,
    "HuggingFaceH4/MATH-500": MATH,
    "DigitalLearningGmbH/MATH-lighteval": MATH,
    "LabHC/histoires_morales": STORIES,
    "LabHC/moral_stories": STORIES,
    "HAERAE-HUB/HRM8K": {"question": question, "answer": pick(4.0, 3.5, "x"), "original": question},
}

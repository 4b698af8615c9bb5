"""What task files import from other packages and cannot have in a sandbox: metrics that `evaluate` would download, and
what newer versions of `transformers` have dropped. Standard library alone; the rest is imported inside.

The formulas are those of the metrics' own scripts on the hub, and of SQuAD's evaluation, written anew.
"""

from __future__ import annotations

import collections
import contextlib
import importlib.abc
import importlib.machinery
import math
import os
import re
import string
import subprocess
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

_PROGRAM_SECONDS = 3.0


class _Metric:
    """What `evaluate.load` gives: an object with `compute`."""

    def __init__(self, name: str, compute: Callable[..., dict[str, Any]]) -> None:
        self.name = name
        self._compute = compute

    def compute(self, predictions: Any = None, references: Any = None, **options: Any) -> Any:
        return self._compute(predictions, references, **options)


def _lists(references: Iterable[Any]) -> list[list[str]]:
    return [[one] if isinstance(one, str) else list(one) for one in references]


def _rouge(
    predictions: Sequence[str],
    references: Sequence[Any],
    rouge_types: Sequence[str] | None = None,
    use_aggregator: bool = True,
    use_stemmer: bool = False,
    tokenizer: Any = None,
) -> dict[str, Any]:
    from rouge_score import rouge_scorer, scoring

    _resample_once(scoring)
    wanted = list(rouge_types or ("rouge1", "rouge2", "rougeL", "rougeLsum"))
    own = None if tokenizer is None else types.SimpleNamespace(tokenize=tokenizer)
    scorer = rouge_scorer.RougeScorer(wanted, use_stemmer=use_stemmer, tokenizer=own)
    pairs = zip(_lists(references), predictions, strict=True)
    scores = [scorer.score_multi(golds, prediction) for golds, prediction in pairs]
    if not use_aggregator:
        return {name: [score[name].fmeasure for score in scores] for name in wanted}
    aggregator = scoring.BootstrapAggregator()
    for score in scores:
        aggregator.add_scores(score)
    return {name: value.mid.fmeasure for name, value in aggregator.aggregate().items()}


def _ngrams(tokens: Sequence[str], most: int) -> collections.Counter[tuple[str, ...]]:
    return collections.Counter(
        tuple(tokens[start : start + size]) for size in range(1, most + 1) for start in range(len(tokens) - size + 1)
    )


def _bleu(
    predictions: Sequence[str],
    references: Sequence[Any],
    tokenizer: Any = None,
    max_order: int = 4,
    smooth: bool = False,
) -> dict[str, Any]:
    """BLEU (Papineni et al. 2002) with the shortest reference's length, as the script `bleu` has it."""
    if tokenizer is None:
        from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

        made: Callable[[str], str] = Tokenizer13a()  # type: ignore[no-untyped-call]

        def tokenizer(text: str) -> list[str]:
            return made(text).split()

    matches, possible = [0] * max_order, [0] * max_order
    length = shortest = 0
    for prediction, golds in zip(predictions, _lists(references), strict=True):
        tokens, several = tokenizer(prediction), [tokenizer(gold) for gold in golds]
        length += len(tokens)
        shortest += min(map(len, several))
        best: collections.Counter[tuple[str, ...]] = collections.Counter()
        for gold in several:
            best |= _ngrams(gold, max_order)
        for ngram, count in (_ngrams(tokens, max_order) & best).items():
            matches[len(ngram) - 1] += count
        for order in range(max_order):
            possible[order] += max(0, len(tokens) - order)
    if smooth:
        precisions = [(hits + 1) / (all_ + 1) for hits, all_ in zip(matches, possible, strict=True)]
    else:
        precisions = [hits / all_ if all_ else 0.0 for hits, all_ in zip(matches, possible, strict=True)]
    ratio = length / shortest if shortest else 0.0
    mean = math.exp(sum(map(math.log, precisions)) / max_order) if min(precisions) > 0 else 0.0
    penalty = 1.0 if ratio > 1 else math.exp(1 - 1 / ratio) if ratio else 0.0
    return {
        "bleu": mean * penalty,
        "precisions": precisions,
        "brevity_penalty": penalty,
        "length_ratio": ratio,
        "translation_length": length,
        "reference_length": shortest,
    }


def _code_eval(
    predictions: Sequence[Sequence[str]],
    references: Sequence[str],
    k: Sequence[int] = (1, 10, 100),
    num_workers: int = 4,
    timeout: float = _PROGRAM_SECONDS,
) -> Any:
    """pass@k (Chen et al. 2021) of programs: (pass@k by name, results of each program)."""
    results: dict[int, list[Any]] = {}
    right = []
    for number, (programs, test) in enumerate(zip(predictions, references, strict=True)):
        ended = [_runs(f"{program}\n{test}", timeout) for program in programs]
        results[number] = [
            (place, {"task_id": number, "passed": not said, "result": said or "passed", "completion_id": place})
            for place, said in enumerate(ended)
        ]
        right.append((len(ended), sum(not said for said in ended)))
    rates = {
        f"pass@{size}": sum(1 - _all_wrong(n, c, size) for n, c in right) / len(right)
        for size in k
        if all(n >= size for n, _ in right)
    }
    return rates, results


def _code_eval_in_the_open(*given: Any, **options: Any) -> Any:
    if os.environ.get("HF_ALLOW_CODE_EVAL") != "1":
        raise ValueError("programs of a model would run without a sandbox; set HF_ALLOW_CODE_EVAL=1 if that is meant")
    return _code_eval(*given, **options)


def _all_wrong(n: int, right: int, k: int) -> float:
    """The share of draws of k of n programs in which none of the `right` ones is."""
    return 0.0 if n - right < k else math.prod(1 - k / place for place in range(n - right + 1, n + 1))


def _runs(program: str, seconds: float) -> str:
    """Why a program does not pass; empty where it does."""
    with _Unheard():
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-"], input=program.encode(), capture_output=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return "timed out"
    if not done.returncode:
        return ""
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return f"failed: {lines[-1] if lines else done.returncode}"


def _exact_match(predictions: Sequence[Any], references: Sequence[Any], **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = sys.modules["_lm_eval_names"].exact_match(predictions, references, **options)
    return found


def _accuracy(predictions: Sequence[Any], references: Sequence[Any], normalize: bool = True) -> dict[str, float]:
    hits = sum(one == other for one, other in zip(predictions, references, strict=True))
    return {"accuracy": hits / len(references) if normalize else hits}


def _f1(
    predictions: Sequence[Any],
    references: Sequence[Any],
    labels: Any = None,
    pos_label: Any = 1,
    average: str = "binary",
) -> dict[str, Any]:
    from sklearn.metrics import f1_score

    return {"f1": f1_score(references, predictions, labels=labels, pos_label=pos_label, average=average)}


def _normalize_answer(text: str) -> str:
    """An answer without case, punctuation, articles and repeated blanks (SQuAD 2.0, evaluate-v2.0.py)."""
    bare = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _compute_exact(gold: str, prediction: str) -> int:
    return int(_normalize_answer(gold) == _normalize_answer(prediction))


def _compute_f1(gold: str, prediction: str) -> float:
    golds, words = (_normalize_answer(text).split() if text else [] for text in (gold, prediction))
    if not golds or not words:
        return int(golds == words)
    common = sum((collections.Counter(golds) & collections.Counter(words)).values())
    if not common:
        return 0
    precision, recall = common / len(words), common / len(golds)
    return 2 * precision * recall / (precision + recall)


def _squad_v2(
    predictions: Sequence[Mapping[str, Any]], references: Sequence[Mapping[str, Any]], no_answer_threshold: float = 1.0
) -> dict[str, Any]:
    """SQuAD 2.0's scores: of all questions, of those with and without an answer, and at the best threshold."""
    golds = {one["id"]: one["answers"]["text"] for one in references}
    none = {one["id"]: float(one["no_answer_probability"]) for one in predictions}
    said = {one["id"]: one["prediction_text"] for one in predictions}
    answered = {key: bool(texts) for key, texts in golds.items()}
    raw: dict[str, dict[str, float]] = {"exact": {}, "f1": {}}
    for key, texts in golds.items():
        wanted = [text for text in texts if _normalize_answer(text)] or [""]
        raw["exact"][key] = max(_compute_exact(text, said[key]) for text in wanted)
        raw["f1"][key] = max(_compute_f1(text, said[key]) for text in wanted)
    found: dict[str, Any] = {}
    for kind, scores in raw.items():
        held = {k: float(not answered[k]) if none[k] > no_answer_threshold else s for k, s in scores.items()}
        found[kind] = 100 * sum(held.values()) / len(held)
        for name, which in (("HasAns", True), ("NoAns", False)):
            part = [score for key, score in held.items() if answered[key] is which]
            if part:
                found[f"{name}_{kind}"] = 100 * sum(part) / len(part)
        best = current = float(sum(not has for has in answered.values()))
        at = 0.0
        for key in sorted(none, key=none.__getitem__):
            current += scores[key] if answered[key] else (-1 if said[key] else 0)
            if current > best:
                best, at = current, none[key]
        found[f"best_{kind}"], found[f"best_{kind}_thresh"] = 100 * best / len(scores), at
    return {**found, "total": len(golds)}


_METRICS: dict[str, Callable[..., Any]] = {
    "accuracy": _accuracy,
    "bleu": _bleu,
    "code_eval": _code_eval,
    "exact_match": _exact_match,
    "f1": _f1,
    "rouge": _rouge,
    "squad_v2": _squad_v2,
}


def _load(name: str, *_: Any, **__: Any) -> _Metric:
    """A metric by name. One that is not here fails where it is called: a task may do without its value."""
    if name in _METRICS:
        return _Metric(name, _METRICS[name])
    watch = getattr(sys.modules["_lm_eval_names"], "watch", None)
    if watch is not None:
        watch.tried[f"to load the metric '{name}' from the network"] = None

    def absent(predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        raise FileNotFoundError(
            f"evaluate.load('{name}') needs the network, which task code has not; known here: {', '.join(_METRICS)}; "
            "--trust_task_code_in_process lets it out"
        )

    return _Metric(name, absent)


def _resample_once(scoring: Any) -> None:
    """Have `rouge_score` resample one pair of texts once, and not a thousand times: all resamples of one are the same.

    Tasks ask for each pair by itself (truthfulqa), which then takes longer than a small model's answer.
    """
    aggregator = scoring.BootstrapAggregator
    resample = aggregator._bootstrap_resample
    if getattr(resample, "for_one", False):
        return

    def resampled(self: Any, matrix: Any) -> Any:
        return matrix.repeat(3, axis=0).astype(float) if len(matrix) == 1 else resample(self, matrix)

    resampled.for_one = True  # type: ignore[attr-defined]
    aggregator._bootstrap_resample = resampled


def restore(source: str) -> None:
    """Put back what a module imports and newer packages have dropped: `datasets.load_metric`, which is `evaluate.load`
    now; and spare it resamples of one pair of texts. source: of the module."""
    if "BootstrapAggregator" in source:
        with contextlib.suppress(ImportError, AttributeError):  # another version, arranged otherwise
            from rouge_score import scoring

            _resample_once(scoring)
    if not re.search(r"from datasets import .*\bload_metric\b|datasets\.load_metric", source):
        return
    import datasets

    if not hasattr(datasets, "load_metric"):
        datasets.load_metric = _load


class _Unheard:
    """While this is entered, what happens is our own doing and not the task's."""

    def __enter__(self) -> None:
        self._watch: Any = getattr(sys.modules["_lm_eval_names"], "watch", None)
        if self._watch is not None:
            self._watch.on = False

    def __exit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.on = True


def _no_model(*_: Any, **__: Any) -> None:
    raise RuntimeError("task code asks no models: --user_model says who plays the user")


def _made(name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    if name == "evaluate":
        module.load = _load  # type: ignore[attr-defined]
    if name == "litellm":
        module.completion = _no_model  # type: ignore[attr-defined]
    if name.endswith("squad_metrics"):
        for function in (_normalize_answer, _compute_exact, _compute_f1):
            setattr(module, function.__name__.removeprefix("_"), function)
    return module


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds some modules where nothing else does, or before all others."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.names:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=fullname == "transformers.data.metrics")

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _made(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        return


def install(boxed: bool) -> None:
    """Have the modules found. boxed: whether the network is out of reach, so that `evaluate` can load nothing."""
    if not boxed:
        _METRICS["code_eval"] = _code_eval_in_the_open
    last = ["evaluate", "litellm", "transformers.data.metrics", "transformers.data.metrics.squad_metrics"]
    if boxed:
        sys.meta_path.insert(0, _Finder(["evaluate"]))
    sys.meta_path.append(_Finder(last))

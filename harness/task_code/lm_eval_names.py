"""What task files of lm-evaluation-harness import from `lm_eval`, where that is not installed. Standard library alone.

Only the process that runs task code makes these modules (`install`). The formulas are lm-eval's (api/metrics.py,
filters/), written anew: a number that a task computes here has to be the one that it computes there.
"""

from __future__ import annotations

import collections
import importlib.machinery
import logging
import math
import re
import string
import sys
import types
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_INVALID = "[invalid]"


def _mean(items: Sequence[Any]) -> Any:
    return sum(items) / len(items)


def _median(items: Sequence[Any]) -> Any:
    return sorted(items)[len(items) // 2]


def _nanmean(items: Sequence[float]) -> float:
    kept = [float(item) for item in items if not math.isnan(item)]
    return sum(kept) / len(kept) if kept else math.nan


def _perplexity(items: Sequence[float]) -> float:
    return math.exp(-_mean(items))


def _weighted_mean(items: Sequence[tuple[float, float]]) -> float:
    values, weights = zip(*items, strict=True)
    return float(sum(values) / sum(weights))


def _weighted_perplexity(items: Sequence[tuple[float, float]]) -> float:
    return math.exp(-_weighted_mean(items))


def _bits_per_byte(items: Sequence[tuple[float, float]]) -> float:
    return -_weighted_mean(items) / math.log(2)


def _f1_score(items: Sequence[tuple[Any, Any]], average: str = "binary") -> Any:
    from sklearn.metrics import f1_score

    golds, predictions = zip(*items, strict=True)
    return f1_score(golds, predictions, average=average)


def _weighted_f1_score(items: Sequence[tuple[Any, Any]]) -> Any:
    return _f1_score(items, "weighted")


def _matthews_corrcoef(items: Sequence[tuple[Any, Any]]) -> Any:
    from sklearn.metrics import matthews_corrcoef

    golds, predictions = zip(*items, strict=True)
    return matthews_corrcoef(golds, predictions)


def _brier_score(items: Sequence[tuple[int, Sequence[float]]]) -> float:
    squares = [
        sum((value - (place == gold)) ** 2 for place, value in enumerate(predictions)) for gold, predictions in items
    ]
    return float(_mean(squares))


def _corpora(items: Sequence[tuple[Any, Any]]) -> tuple[list[str], list[tuple[str, ...]]]:
    """(predictions, one stream for each number of a reference), as sacrebleu wants them."""
    references = [[one] if isinstance(one, str) else list(one) for one, _ in items]
    predictions = [one if isinstance(one, str) else one[0] for _, one in items]
    return predictions, list(zip(*references, strict=False))


def _bleu(items: Sequence[tuple[Any, Any]]) -> float:
    import sacrebleu

    return float(sacrebleu.corpus_bleu(*_corpora(items)).score)


def _chrf(items: Sequence[tuple[Any, Any]]) -> float:
    import sacrebleu

    return float(sacrebleu.corpus_chrf(*_corpora(items)).score)


def _chrf_plus(items: Sequence[tuple[Any, Any]]) -> float:
    import sacrebleu

    return float(sacrebleu.corpus_chrf(*_corpora(items), word_order=2).score)


def _ter(items: Sequence[tuple[Any, Any]]) -> float:
    import sacrebleu

    return float(sacrebleu.corpus_ter(*_corpora(items)).score)


AGGREGATIONS: dict[str, Callable[[Sequence[Any]], Any]] = {
    "mean": _mean,
    "median": _median,
    "nanmean": _nanmean,
    "perplexity": _perplexity,
    "weighted_perplexity": _weighted_perplexity,
    "bits_per_byte": _bits_per_byte,
    "f1": _f1_score,
    "matthews_corrcoef": _matthews_corrcoef,
    "brier_score": _brier_score,
    "bleu": _bleu,
    "chrf": _chrf,
    "chrf++": _chrf_plus,
    "ter": _ter,
    "bypass": lambda items: 999,
}
"""Ways from the values of samples to one, by lm-eval's names."""

DEFAULT_AGGREGATIONS = {
    "perplexity": "perplexity",
    "word_perplexity": "weighted_perplexity",
    "byte_perplexity": "weighted_perplexity",
    "bits_per_byte": "bits_per_byte",
    "mcc": "matthews_corrcoef",
    **{name: name for name in ("f1", "bleu", "chrf", "chrf++", "ter", "brier_score", "bypass")},
}
"""Of a metric whose entry names none; all others have `mean`."""
LESS_IS_BETTER = frozenset({"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "brier_score", "ter"})
"""Of metrics whose entry does not say (lm_eval/api/metrics.py); more is better for all others."""


def _without(patterns: Iterable[str] | None, text: str, lower: bool) -> str:
    for pattern in patterns or ():
        text = re.sub(pattern, "", text)
    return text.lower() if lower else text


def exact_match(
    predictions: Sequence[str],
    references: Sequence[str],
    regexes_to_ignore: Iterable[str] | None = None,
    ignore_case: bool = False,
    ignore_punctuation: bool = False,
    ignore_numbers: bool = False,
) -> dict[str, float]:
    """The share of predictions that are their reference, both stripped of what is to be ignored."""
    dropped = (string.punctuation if ignore_punctuation else "") + (string.digits if ignore_numbers else "")

    def bare(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        text = _without(regexes_to_ignore, text, ignore_case)
        return text.translate(str.maketrans("", "", dropped)) if dropped else text

    hits = [bare(one) == bare(other) for one, other in zip(predictions, references, strict=True)]
    return {"exact_match": _mean(hits)}


def _metric_max_over_ground_truths(metric: Callable[[Any, Any], Any], prediction: Any, truths: Iterable[Any]) -> Any:
    return max(metric(prediction, truth) for truth in truths)


def _general_detokenize(text: str) -> str:
    for old, new in ((" n't", "n't"), (" )", ")"), ("( ", "("), ('" ', '"'), (' "', '"')):
        text = text.replace(old, new)
    return re.sub(r" (['.,])", r"\1", text)


class _Filter:
    """lm-eval's base class of filters: `apply` gets the replies to all samples, a list each, and the rows."""

    def __init__(self, **options: Any) -> None:
        pass

    def apply(self, resps: Any, docs: Any) -> Any:
        return resps


class _EachReply(_Filter):
    """A filter that reads each reply by itself."""

    _read: Callable[[Any], Any]

    def apply(self, resps: Any, docs: Any) -> Any:
        return [[self._read(reply) for reply in replies] for replies in resps]


FILTERS: dict[str, Any] = {}
"""Filters by name."""


def _register_filter(name: str) -> Callable[[Any], Any]:
    def register(cls: Any) -> Any:
        FILTERS[name] = cls
        return cls

    return register


def _get_filter(name: Any) -> Any:
    return FILTERS[name] if isinstance(name, str) else name


def _chosen(matches: list[Any], place: int) -> Any:
    match = matches[place]
    if isinstance(match, tuple):
        match = next((part for part in match if part), None)
    return match


@_register_filter("regex")
class _RegexFilter(_EachReply):
    def __init__(
        self, regex_pattern: str = r"#### (\-?[0-9\.\,]+)", group_select: int = 0, fallback: str = _INVALID
    ) -> None:
        self.regex_pattern = regex_pattern
        self.regex = re.compile(regex_pattern)
        self.group_select = group_select
        self.fallback = fallback

    def _read(self, reply: Any) -> str:
        matches = self.regex.findall(reply if isinstance(reply, str) else "")
        match = _chosen(matches, self.group_select) if matches else None
        return self.fallback if match is None else match.strip()


@_register_filter("regex_pos")
class _TagFilter(_EachReply):
    """The tags of pairs `('token', 'TAG')` in a reply."""

    def __init__(self, regex_pattern: str = r"\['(.*?)'\]", group_select: int = 0, fallback: Any = None) -> None:
        self.fallback = ["invalid"] if fallback is None else fallback

    def _read(self, reply: Any) -> Any:
        pairs = re.findall(r"\('([^']*)', '([^']*)'\)", reply) if isinstance(reply, str) else reply
        return [tag for _, tag in pairs] or self.fallback


@_register_filter("remove_whitespace")
class _StripFilter(_EachReply):
    def _read(self, reply: Any) -> Any:
        return reply.strip()


@_register_filter("multi_choice_regex")
class _MultiChoiceRegexFilter(_RegexFilter):
    """The option that a reply names by the pattern, by its text, or behind a colon; as `(A)` in the last two cases."""

    def __init__(
        self,
        regex_pattern: str = r"#### (\-?[0-9\.\,]+)",
        group_select: int = 0,
        fallback: str = _INVALID,
        ignore_case: bool = False,
        ignore_punctuation: bool = False,
        regexes_to_ignore: list[str] | None = None,
    ) -> None:
        super().__init__(regex_pattern, group_select, fallback)
        self.ignore_case = ignore_case
        self.ignore_punctuation = ignore_punctuation
        self.regexes_to_ignore = regexes_to_ignore

    def apply(self, resps: Any, docs: Any) -> Any:
        return [
            [self._option(reply, doc["choices"]) for reply in replies] for replies, doc in zip(resps, docs, strict=True)
        ]

    def _option(self, reply: Any, choices: Sequence[str]) -> str:
        letters = [chr(ord("A") + place) for place in range(len(choices))]
        texts = {self._bare(choice.strip()): f"({letter})" for choice, letter in zip(choices, letters, strict=True)}
        # The longest first: an option that another one begins with must not hide it.
        named = re.compile("|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True)))
        after_colon = re.compile(rf":[\s]*({'|'.join(letters)})")
        found = self._first(self.regex, reply)
        if not found:
            found = self._first(named, self._bare(reply))
            found = texts.get(found, found)
        if not found:
            letter = self._first(after_colon, reply)
            found = f"({letter})" if letter else ""
        return found or self.fallback

    def _first(self, pattern: re.Pattern[str], reply: Any) -> str:
        matches = pattern.findall(reply if isinstance(reply, str) else "")
        return (_chosen(matches, self.group_select) or "").strip() if matches else ""

    def _bare(self, text: str) -> str:
        text = _without(self.regexes_to_ignore, text, self.ignore_case)
        if self.ignore_punctuation:
            text = "".join(sign for sign in text if not unicodedata.category(sign).startswith("P"))
        return text


@_register_filter("take_first")
class _TakeFirstFilter(_Filter):
    def apply(self, resps: Any, docs: Any) -> Any:
        return [replies[0] for replies in resps]


@_register_filter("take_first_k")
class _TakeFirstKFilter(_Filter):
    def __init__(self, k: int) -> None:
        self.k = k

    def apply(self, resps: Any, docs: Any) -> Any:
        resps = list(resps)
        if len(resps[0]) < self.k:
            raise ValueError(f"take_first_k needs {self.k} replies to a question, and there are {len(resps[0])}")
        return [replies[: self.k] for replies in resps]


@_register_filter("majority_vote")
class _MajorityVoteFilter(_Filter):
    def apply(self, resps: Any, docs: Any) -> Any:
        return [[collections.Counter(replies).most_common(1)[0][0]] for replies in resps]


@_register_filter("lowercase")
class _LowercaseFilter(_EachReply):
    def _read(self, reply: Any) -> Any:
        return reply.lower()


@_register_filter("uppercase")
class _UppercaseFilter(_EachReply):
    def _read(self, reply: Any) -> Any:
        return reply.upper()


@_register_filter("map")
class _MapFilter(_EachReply):
    def __init__(self, mapping_dict: dict[Any, Any] | None = None, default_value: Any = None) -> None:
        self.mapping_dict = mapping_dict or {}
        self.default_value = default_value

    def _read(self, reply: Any) -> Any:
        return self.mapping_dict.get(reply, self.default_value)


_SPAN_LABELS = {
    **dict.fromkeys(("person", "people", "persons", "per"), "PER"),
    **dict.fromkeys(("location", "counties", "places", "country", "continent", "loc"), "LOC"),
    **dict.fromkeys(("organization", "company", "org"), "ORG"),
    **dict.fromkeys(("time", "date"), "DATE"),
}


@_register_filter("format_span")
class _SpanFilter(_EachReply):
    """Named entities in a reply as `per: NAME $ loc: PLACE`, of the four kinds PER, LOC, ORG and DATE."""

    def _read(self, reply: str) -> str:
        text = reply.lower()
        for label, kind in _SPAN_LABELS.items():
            text = re.sub(rf"\b{label}\s*:", f"{kind}:", text)
        text = "$".join(text.split("$$")).rstrip("$").replace("\n", "$").strip()
        found = []
        for label, values in re.findall(r"\b(PER|LOC|ORG|DATE):\s*([^$]+)", text):
            names = [name.strip() for name in values.split(",")]
            found += [f"{label.lower()}: {name}" for name in names if name.lower() != "none"]
        return " $ ".join(found)


@_register_filter("custom")
class _CustomFilter(_Filter):
    def __init__(self, filter_fn: Callable[[Any, Any], Any], **options: Any) -> None:
        self.filter_fn = filter_fn

    def apply(self, resps: Any, docs: Any) -> Any:
        return self.filter_fn(resps, docs)


@dataclass
class _Instance:
    """A request as lm-eval makes it."""

    request_type: str
    doc: dict[str, Any]
    arguments: tuple[Any, ...]
    idx: int
    metadata: tuple[Any, Any, Any] = (None, None, None)
    resps: list[Any] = field(default_factory=list)
    filtered_resps: dict[str, Any] = field(default_factory=dict)

    @property
    def args(self) -> tuple[Any, ...]:
        return self.arguments if isinstance(self.arguments, tuple) else (self.arguments,)


settings: Any = None
"""What makes `self.config` of a task that is a class, set by the process that runs it."""


class _NoRows:
    """`self.dataset` of a class whose rows are not there yet; lm-eval has them on the network by then."""

    def __getitem__(self, split: str) -> Any:
        raise RuntimeError(
            f"the class reads the rows of '{split}' when it is made, and they are given to it later here"
        )


class _Task:
    """What lm-eval's tasks in Python derive from, as far as module code needs it to be there."""

    VERSION: Any = None
    DATASET_PATH: Any = None
    DATASET_NAME: Any = None

    dataset: Any = _NoRows()

    def __init__(self, *args: Any, **options: Any) -> None:
        given = options.get("config") or {}
        self.config = settings(given) if settings is not None else given
        self.VERSION = (given.get("metadata") or {}).get("version", self.VERSION)

    def has_training_docs(self) -> bool:
        return False

    def has_validation_docs(self) -> bool:
        return False

    def has_test_docs(self) -> bool:
        return False

    @staticmethod
    def count_bytes(doc: str) -> int:
        return len(doc.encode("utf-8"))

    @staticmethod
    def count_words(doc: str) -> int:
        return len(re.split(r"\s+", doc))


class _ConfigurableTask(_Task):
    pass


class _Group:
    def __init__(self, **options: Any) -> None:
        self.__dict__.update(options)


def _same(*_: Any, **__: Any) -> Callable[[Any], Any]:
    """A decorator that registers nothing."""
    return lambda item: item


def install(folders: Sequence[str]) -> None:
    """Put the modules into `sys.modules`. folders: where `lm_eval.tasks` looks for its own modules."""
    metrics: dict[str, Any] = {
        **{function.__name__.removeprefix("_"): function for function in AGGREGATIONS.values()},
        "mean": _mean,
        "weighted_mean": _weighted_mean,
        "metric_max_over_ground_truths": _metric_max_over_ground_truths,
        "exact_match_hf_evaluate": exact_match,
        "exact_match_fn": exact_match,
        "chrfpp": _chrf_plus,
    }
    filters: dict[str, Any] = {
        "Filter": _Filter,
        "RegexFilter": _RegexFilter,
        "POSFilter": _TagFilter,
        "WhitespaceFilter": _StripFilter,
        "MultiChoiceRegexFilter": _MultiChoiceRegexFilter,
    }
    _module("lm_eval", package=True)
    _module("lm_eval.api", package=True)
    _module("lm_eval.filters", package=True)
    _module("lm_eval.config", package=True)
    _module(
        "lm_eval.utils",
        weighted_f1_score=_weighted_f1_score,
        general_detokenize=_general_detokenize,
        logging=logging,
        eval_logger=logging.getLogger("lm_eval"),
        handle_non_serializable=str,
        make_table=str,
    )
    _module("lm_eval.api.metrics", content=metrics)
    _module("lm_eval.api.filter", Filter=_Filter)
    _module(
        "lm_eval.api.registry",
        register_filter=_register_filter,
        get_filter=_get_filter,
        register_metric=_same,
        register_aggregation=_same,
        register_model=_same,
        register_task=_same,
        get_aggregation=AGGREGATIONS.__getitem__,
    )
    _module("lm_eval.api.instance", Instance=_Instance)
    _module("lm_eval.api.task", Task=_Task, ConfigurableTask=_ConfigurableTask)
    _module("lm_eval.api.group", Group=_Group, ConfigurableGroup=_Group)
    _module("lm_eval.config.group", GroupConfig=_Group)
    _module("lm_eval.filters.extraction", content=filters)
    _module("lm_eval.filters.transformation", MapFilter=_MapFilter, LowercaseFilter=_LowercaseFilter)
    _module("lm_eval.filters.selection", TakeFirstFilter=_TakeFirstFilter, MajorityVoteFilter=_MajorityVoteFilter)
    _module("lm_eval.filters.custom", CustomFilter=_CustomFilter)
    tasks = _module("lm_eval.tasks", package=True)
    tasks.__path__ = list(folders)


def _module(
    name: str, package: bool = False, content: Mapping[str, Any] | None = None, **more: Any
) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=package)
    if package:
        module.__path__ = []
    for key, value in {**(content or {}), **more}.items():
        setattr(module, key, value)
    sys.modules[name] = module
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, module)
    return module

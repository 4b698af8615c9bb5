"""Every metric of Hugging Face's `evaluate`, by `metric: evaluate/NAME`: of a whole set, or of each sample.

    metric_list:
      - metric: evaluate/f1            # of the whole set, by the code that `evaluate.load("f1")` finds
        average: macro                 # what the metric's `compute` takes is passed on
      - metric: evaluate/exact_match
        path: metrics/exact_match      # a local folder or script with the code: nothing is downloaded
        aggregation: mean              # a score for each sample, and their mean

Such a metric is code that somebody published: it is loaded, and run, when a task names it and at no other time.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from harness import (
    BatchMetric,
    CorpusMetric,
    MachineError,
    Metric,
    MetricOptions,
    Observation,
    Outcome,
    OutputType,
    UsageError,
    hookimpl,
)
from harness.scoring import gold_indices, gold_texts

_REPLY = ("predictions", "prediction_scores", "data")
_GOLD = "references"
_TEXT, _WHOLE = ("string", "large_string"), ("int", "uint", "bool")
_LESS_IS_BETTER = {"cer", "character", "mae", "mape", "mase", "mse", "perplexity", "smape", "ter", "toxicity", "wer"}
# Fields of predictions and references that are records (squad, squad_v2, cuad), and what they are filled with.
_FIELDS: Mapping[str, Callable[[str, Sequence[str]], Any]] = {
    "id": lambda reply, golds: "",  # numbered when the rows are together: it joins predictions and references
    "prediction_text": lambda reply, golds: reply,
    "no_answer_probability": lambda reply, golds: 0.0,
    "answers": lambda reply, golds: {"text": list(golds), "answer_start": [0] * len(golds)},
}


class _Published:
    """A metric of Hugging Face's `evaluate` (the extra `evaluate`), named behind a slash: `metric: evaluate/accuracy`.

    Without `aggregation` its value is that of the whole set; with `aggregation: mean` (median, max, min) each sample
    has a score of its own, where the metric can score one.

    path: a local folder or script that holds the metric's code, relative to the task file; else `evaluate` looks for it
        by its name, in its cache and on the hub. config: its configuration (`config: mrpc` of `glue`).
    key: which of its results to report, or several of them; all that are numbers where left out.
    columns: columns of the row for what the metric takes beside predictions and references (`{sources: question}`).
    classes: texts that stand for the labels 0, 1, ..., where the metric takes labels and answers are texts.
    unparsed: the label or number of an answer that is none; without it, such a sample fails.
    resamples: how many bootstrap resamples make the standard error of a whole set; each costs one more `compute`.
    All other options are those of the metric's own `compute`.
    """

    name = "evaluate"
    output_types: ClassVar[frozenset[OutputType]] = frozenset({"generate_until", "multiple_choice"})
    called: ClassVar[str] = ""
    """What `evaluate` calls it; empty for the family."""

    def __init__(
        self,
        path: str | None = None,
        config: str | None = None,
        key: str | Sequence[str] | None = None,
        columns: Mapping[str, str] | None = None,
        classes: Sequence[str] | None = None,
        unparsed: float | None = None,
        resamples: int = 0,
        **options: Any,
    ) -> None:
        if not self.called:
            raise UsageError("say which metric behind a slash, as in `metric: evaluate/accuracy`")
        if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 0:
            raise UsageError(f"resamples is {resamples!r}; it should be a whole number")
        self._path, self._config, self._options = path, config, options
        self._keys = (key,) if isinstance(key, str) else tuple(key or ())
        self._columns, self._unparsed, self.resamples = dict(columns or {}), unparsed, resamples
        self._classes = None if classes is None else {str(text): label for label, text in enumerate(classes)}

    def prepare(self, options: MetricOptions) -> None:
        if find_spec("evaluate") is None:
            raise MachineError("needs the package evaluate: pip install 'harness-eval[evaluate]'")
        source = self.called if self._path is None else _found(self._path, self.called, options)
        self._module = _load(source, self._config, options.offline)
        self._features = _features(self._module)
        unknown = [name for name in self._features if name not in (*_REPLY, _GOLD) and name not in self._columns]
        if unknown:
            raise UsageError(f"takes '{unknown[0]}' too: say which column it is, `columns: {{{unknown[0]}: COLUMN}}`")
        known = inspect.signature(self._module._compute).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
            takes = [name for name in known if name not in self._features]
            for name in self._options:
                if name not in takes:
                    raise UsageError(f"takes no option '{name}' (its compute takes: {', '.join(takes) or 'none'})")

    @property
    def identity(self) -> Mapping[str, Any]:
        import evaluate

        # A hash of the metric's script and of those beside it, as `evaluate` has copied them.
        return {
            "evaluate": evaluate.__version__,
            "code": _hash_of(Path(inspect.getfile(type(self._module))).parent),
            "config": self._config,
        }

    def _inputs(self, seen: Observation) -> list[dict[str, Any]] | None:
        """What the metric takes of a sample, once for each reply; None where the gold is hidden."""
        wants_gold = _GOLD in self._features
        if wants_gold and seen.sample.target is None:
            return None
        chooses = bool(seen.sample.choices) and not seen.predictions
        likeliest = max(range(len(seen.logprobs)), key=seen.logprobs.__getitem__) if chooses else None
        replies: Sequence[Any] = [likeliest] if chooses else seen.predictions
        golds: Sequence[str | int] = ()
        if wants_gold:
            golds = (gold_indices(seen.sample) if chooses else gold_texts(seen.sample)) or ()
        return [
            {name: self._input(name, feature, seen, reply, golds) for name, feature in self._features.items()}
            for reply in replies
        ] or None

    def _input(
        self, name: str, feature: Any, seen: Observation, reply: str | int | None, golds: Sequence[str | int]
    ) -> Any:
        if name in self._columns:
            column = self._columns[name]
            if column not in seen.sample.doc:
                raise ValueError(f"the row has no column '{column}' (it has: {', '.join(seen.sample.doc)})")
            return seen.sample.doc[column]
        is_gold = name == _GOLD
        if isinstance(feature, Mapping):
            text, texts = self._as_text(reply, seen), [self._as_text(gold, seen) for gold in golds]
            return {field: _in_shape(_FIELDS[field](text, texts), inner) for field, inner in feature.items()}
        inner = _inside(feature)
        if not is_gold:
            return _in_shape(self._value(reply, inner, seen, "answer"), feature)
        values = [self._value(gold, inner, seen, "reference") for gold in golds]
        if _is_list(feature):
            return values
        if len(values) > 1:
            raise ValueError(f"takes one reference, and the row has {len(values)}")
        return values[0]

    def _value(self, given: str | int | None, feature: Any, seen: Observation, what: str) -> str | int | float:
        """An answer or a gold as the metric takes it: a text, a number or a label."""
        if feature.dtype in _TEXT:
            return self._as_text(given, seen)
        if self._classes is not None and isinstance(given, str):
            value: float | None = self._classes.get(given.strip())
        else:
            value = _number(given)
        whole = feature.dtype.startswith(_WHOLE)
        if value is None or (whole and value != int(value)):
            if what == "answer" and self._unparsed is not None:
                return self._unparsed
            kind = "none of the classes" if self._classes else "no whole number" if whole else "no number"
            hint = "; `unparsed: -1` would count it as a label of its own" if what == "answer" else ""
            raise ValueError(f"the {what} {given!r} is {kind}{hint}")
        return int(value) if whole else float(value)

    def _as_text(self, given: str | int | None, seen: Observation) -> str:
        return seen.sample.choices[given] if isinstance(given, int) else given or ""

    def _compute(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        inputs: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in self._features}
        for values in inputs.values():
            for place, value in enumerate(values):  # a record with an `id` gets a number as one that no other row has
                if isinstance(value, Mapping) and "id" in value:
                    values[place] = {**value, "id": str(place)}
        return dict(self._module.compute(**inputs, **self._options) or {})


class Evaluate(_Published, CorpusMetric):
    __doc__ = _Published.__doc__

    @classmethod
    def member(cls, name: str) -> type[Metric]:
        better = name.rpartition("/")[2] not in _LESS_IS_BETTER
        return _named(cls, f"evaluate/{name}", name, better)

    @classmethod
    def for_aggregation(cls, aggregation: str | None) -> type[Metric]:
        if aggregation in (None, "self") or not cls.called:
            return cls
        return _named(EvaluateEach, cls.name, cls.called, cls.higher_is_better)

    def item(self, seen: Observation) -> list[dict[str, Any]] | None:
        return self._inputs(seen)

    def measure(self, items: Sequence[Any]) -> Mapping[str, float]:
        values = self._compute([row for item in items for row in item])
        numbers = _numbers(values)
        for key in self._keys or (() if numbers else (_own(self),)):
            if key not in numbers:
                what = "a list" if key in values else "not there"
                raise ValueError(f"its result '{key}' is {what}; numbers among its results: {_listing(numbers)}")
        wanted = self._keys or tuple(numbers)
        own = wanted[0] if len(wanted) == 1 else _own(self)
        return {"" if name == own else name: numbers[name] for name in wanted}


class EvaluateEach(_Published, BatchMetric):
    """A metric of `evaluate` for each sample by itself. One that gives a list of scores is asked once for many."""

    def __init__(self, key: str | Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(key=key, **options)
        self.values = self._keys if len(self._keys) > 1 else ()
        self._gives_lists: bool | None = None

    def score_batch(self, seen: Sequence[Observation]) -> Sequence[Outcome]:
        outcomes: list[Outcome] = [Outcome()] * len(seen)
        rows: list[tuple[int, Mapping[str, Any]]] = []
        for place, each in enumerate(seen):
            try:
                rows += [(place, row) for row in self._inputs(each) or ()]
            except Exception as error:
                outcomes[place] = Outcome(error=" ".join(str(error).split()) or type(error).__name__)
        scored: dict[int, list[tuple[float, ...] | str]] = {}
        for (place, _), scores in zip(rows, self._scores([row for _, row in rows]), strict=True):
            scored.setdefault(place, []).append(scores)
        return [_joined(scored[place]) if place in scored else outcome for place, outcome in enumerate(outcomes)]

    def _scores(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[float, ...] | str]:
        """The values of each row, or what went wrong with it."""
        together = self._lists(rows) if len(rows) > 1 else None
        if together is not None:
            yield from zip(*together, strict=True)
            return
        for row in rows:
            try:
                yield tuple(self._pick(self._compute([row])))
            except Exception as error:
                yield f"{type(error).__name__}: {' '.join(str(error).split())}"

    def _lists(self, rows: Sequence[Mapping[str, Any]]) -> list[list[float]] | None:
        """One list of scores a value, from a metric that gives such; None from others, and where it fails."""
        try:
            if self._gives_lists is None:
                # Of one row thrice: a list that has another length is of something else, of labels for example.
                self._gives_lists = self._listed([rows[0]] * 3) is not None
            return self._listed(rows) if self._gives_lists else None
        except Exception:  # one row may be the reason; each is asked for alone then
            return None

    def _listed(self, rows: Sequence[Mapping[str, Any]]) -> list[list[float]] | None:
        found = self._compute(rows)
        lists = [_list_of(found.get(name), len(rows)) for name in self._keys or (_own(self),)]
        complete = [values for values in lists if values is not None]
        return complete if len(complete) == len(lists) else None

    def _pick(self, found: Mapping[str, Any]) -> Iterator[float]:
        """The values of one row, from the metric's result."""
        single = {name: alone[0] if (alone := _list_of(value, 1)) else value for name, value in found.items()}
        numbers = _numbers(single)
        default = (_own(self),) if _own(self) in numbers or len(numbers) != 1 else tuple(numbers)
        for key in self._keys or default:
            if key not in numbers:
                has = _listing(numbers)
                raise ValueError(f"its result has no number '{key}': say which to report, `key: NAME` (it has: {has})")
            yield numbers[key]


def _named(cls: type[Any], name: str, called: str, higher_is_better: bool) -> type[Metric]:
    """A class of its own for one metric of the family."""
    fields = {"name": name, "called": called, "higher_is_better": higher_is_better, "__doc__": _Published.__doc__}
    return type(cls.__name__, (cls,), fields)


def _own(metric: _Published) -> str:
    """The name of a metric's main result: its own name, without its author's."""
    return metric.called.rpartition("/")[2]


def _listing(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _numbers(found: Mapping[str, Any]) -> dict[str, float]:
    return {name: number for name, value in found.items() if (number := _scalar(value)) is not None}


def _found(named: str, called: str, options: MetricOptions) -> str:
    """The folder or script that holds a metric's code, relative to the task file or to where the command runs."""
    places = list(dict.fromkeys((options.base / Path(named).expanduser(), Path.cwd() / named)))
    for place in places:
        script = place / f"{called.rpartition('/')[2]}.py"
        if place.is_file() or script.is_file():
            return str(script if place.is_dir() else place)
        if (place / f"{place.name}.py").is_file():
            return str(place / f"{place.name}.py")
    looked = " and ".join(map(str, places))
    raise UsageError(f"path: there is no script '{named}', and no folder with one of its name (looked in {looked})")


def _load(source: str, config: str | None, offline: bool) -> Any:
    """The metric's module, by `evaluate.load`. Raises `UsageError`."""
    import evaluate

    before = evaluate.config.HF_EVALUATE_OFFLINE
    evaluate.config.HF_EVALUATE_OFFLINE = before or offline
    try:
        return evaluate.load(source, config_name=config, keep_in_memory=True)
    except Exception as error:
        cause = " ".join(str(error).split()).rstrip(".")
        local = "; without network, `path:` names a local folder with the metric's code" if source[-3:] != ".py" else ""
        raise UsageError(f"evaluate cannot load '{source}': {type(error).__name__}: {cause}{local}") from error
    finally:
        evaluate.config.HF_EVALUATE_OFFLINE = before


def _features(module: Any) -> dict[str, Any]:
    """What `compute` takes of each sample; of several forms, that whose references are lists. Raises `UsageError`."""
    given = module.features if isinstance(module.features, list) else [module.features]
    chosen = next((form for form in given if _is_list(form.get(_GOLD))), given[0])
    for name, feature in chosen.items():
        plain = str(getattr(_inside(feature), "dtype", "")).startswith((*_TEXT, *_WHOLE, "float"))
        if not (feature.keys() <= _FIELDS.keys() if isinstance(feature, Mapping) else plain):
            raise UsageError(f"takes '{name}' as {feature}, which answers of a model cannot be put into")
    return dict(chosen)


def _is_list(feature: Any) -> bool:
    return type(feature).__name__ in ("List", "Sequence", "LargeList")


def _inside(feature: Any) -> Any:
    return feature.feature if _is_list(feature) else feature


def _in_shape(value: Any, feature: Any) -> Any:
    return [value] if _is_list(feature) and not isinstance(value, list) else value


def _number(given: str | int | None) -> float | None:
    try:
        number = float(given.strip() if isinstance(given, str) else math.nan if given is None else given)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _scalar(value: Any) -> float | None:
    """A result as a number; None for lists, texts and mappings."""
    if getattr(value, "ndim", 0) or isinstance(value, str | bytes | list | tuple | Mapping) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _list_of(value: Any, n: int) -> list[float] | None:
    values = value.tolist() if getattr(value, "ndim", 0) == 1 else value
    if not isinstance(values, list | tuple) or len(values) != n:
        return None
    numbers = [number for each in values if (number := _scalar(each)) is not None]
    return numbers if len(numbers) == n else None


def _joined(replies: Sequence[tuple[float, ...] | str]) -> Outcome:
    """The mean over the replies of a sample."""
    for scores in replies:
        if isinstance(scores, str):
            return Outcome(error=scores)
    means = tuple(sum(column) / len(column) for column in zip(*replies, strict=True))
    return Outcome(means if len(means) > 1 else means[0])


@functools.lru_cache(maxsize=64)
def _hash_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        digest.update(f"{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [Evaluate]

"""How the answers to a task are scored, as its file says: metrics, pipelines of filters, lm-eval's defaults."""

from __future__ import annotations

from collections.abc import Mapping

from harness.tasks.schema import TaskConfig
from harness.tasks.schema_entries import MetricEntry
from harness.tasks.yaml_file import Document, PythonFunction
from harness.types import FilterPipeline, FilterStep, MetricSpec, OutputType, ScoringSpec

# lm-eval's metrics for a task that names none (api/registry.py, DEFAULT_METRIC_REGISTRY).
_DEFAULT_METRICS: Mapping[OutputType, tuple[str, ...]] = {
    "loglikelihood": ("perplexity", "acc"),
    "loglikelihood_rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    "multiple_choice": ("acc", "acc_norm"),
    "generate_until": ("exact_match",),
}
AT = "_at_"
"""Stands for the @ of `pass@1` in the name of a score, where @ is what divides metric and pipeline."""


def scoring_spec(config: TaskConfig, document: Document) -> ScoringSpec:
    """What the scoring room needs to know."""

    def where(*path: str | int) -> str:
        return str(document.place(path))

    entries = config.metric_list
    if entries is None:
        metrics = tuple(MetricSpec(name) for name in _DEFAULT_METRICS[config.output_type])
    else:
        metrics = tuple(_metric_spec(entry, config, where("metric_list", index)) for index, entry in enumerate(entries))
    pipelines = tuple(
        FilterPipeline(
            item.name,
            tuple(
                FilterStep(
                    str(step.function), dict(step.model_extra or {}), where("filter_list", index, "filter", number)
                )
                for number, step in enumerate(item.filter)
            ),
            where("filter_list", index),
        )
        for index, item in enumerate(config.filter_list or ())
    )
    return ScoringSpec(config.output_type, metrics, pipelines or (FilterPipeline(),), config.average)


def is_code_metric(entry: MetricEntry, config: TaskConfig) -> bool:
    """Whether Python of the task makes the values of a metric, or one value of those."""
    made = (entry.metric, entry.aggregation)
    return config.process_results is not None or any(isinstance(one, PythonFunction) for one in made)


def _metric_spec(entry: MetricEntry, config: TaskConfig, place: str) -> MetricSpec:
    if isinstance(entry.metric, PythonFunction):
        return MetricSpec(entry.metric.name.rpartition(".")[2], None, entry.higher_is_better, {}, place)
    if is_code_metric(entry, config):
        return MetricSpec(entry.metric.replace("@", AT), None, entry.higher_is_better, {}, place)
    assert not isinstance(entry.aggregation, PythonFunction)
    name = f"evaluate/{entry.metric}" if entry.hf_evaluate else entry.metric
    # lm-eval has `evaluate` score sample by sample, and averages.
    aggregation = entry.aggregation or ("mean" if entry.hf_evaluate else None)
    return MetricSpec(name, aggregation, entry.higher_is_better, dict(entry.model_extra or {}), place)

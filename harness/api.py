"""Runs from Python: `harness.evaluate` and `harness.evaluate_each`. What is given becomes a `RunSpec`, or an error."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

from harness.cli.progress import watch
from harness.cli.values import (
    parse_batch_size,
    parse_date,
    parse_executor,
    parse_judge,
    parse_limit,
    parse_log_target,
    parse_metrics,
    parse_names,
    parse_pairs,
    parse_precision,
    parse_seed,
    parse_shard,
    parse_switch,
    parse_template,
    parse_token_prices,
    recipe_judge,
)
from harness.engine.live import LiveModel, as_found, is_torch_module, why_sharded
from harness.errors import PluginError, UsageError
from harness.hooks import hookimpl
from harness.judging.judge import JudgeModel
from harness.judging.judged_metrics import priced_judges, run_judged
from harness.model import Model, ModelOptions
from harness.plugin_values import integer, number
from harness.registry import Registry, load_plugins
from harness.run.recipes import with_recipe
from harness.run.result import RunResult
from harness.run.spec import DEFAULT_MODEL, Progress, RunSpec
from harness.scoring import sandbox
from harness.thinking import MODES
from harness.types import JSON, BadRows

HUBS = ("hf", "modelscope")
_IN_MEMORY = "python"
"""Stands for the package of a model that no package brings."""
Names = str | Path | Sequence[str | Path]
Judge = str | tuple[str, Mapping[str, JSON]]
Judges = Judge | Sequence[Judge]
"""As of `--judge`: `openai,model=NAME,base_url=URL`, or the name of a plugin and its arguments."""


def evaluate(
    model: str | Model | type[Model] = DEFAULT_MODEL,
    model_args: Mapping[str, JSON] | str | None = None,
    tasks: Names = (),
    *,
    user_model: str | Model | type[Model] | None = None,
    judge: Judges | None = (),
    modify: Names = (),
    num_fewshot: int | None = None,
    fewshot_sampler: str | None = None,
    batch_size: int | str = "auto",
    max_batch_size: int | None = None,
    device: str = "auto",
    gen_kwargs: Mapping[str, JSON] | str | None = None,
    task_gen_kwargs: Mapping[str, Mapping[str, JSON]] | None = None,
    metrics: str | Sequence[str | Mapping[str, JSON]] = (),
    limit: int | float | None = None,
    after: str | None = None,
    precision: float | None = None,
    until_decided: str | Path | None = None,
    bad_rows: str = "refuse",
    seed: int = 1234,
    apply_chat_template: bool | str = False,
    fewshot_as_multiturn: bool = True,
    system_instruction: str | None = None,
    thinking: str | None = None,
    reasoning_effort: str | None = None,
    thinking_budget: int | None = None,
    repeats: int | None = None,
    prices: Mapping[str, JSON] | str | None = None,
    user_prices: Mapping[str, JSON] | str | None = None,
    judge_prices: Mapping[str, JSON] | str | Sequence[Mapping[str, JSON] | str] = (),
    budget: float | None = None,
    budget_tokens: int | None = None,
    batch_api: bool = False,
    recipe: str | Mapping[str, JSON] | None = None,
    include_path: Names = (),
    trust_task_code: Names = (),
    trust_task_code_in_process: Names = (),
    shard: str | tuple[int, int] | None = None,
    executor: str | tuple[str, Mapping[str, JSON]] | None = None,
    output: str | Path = "runs",
    data: Names = (),
    hub: str = "hf",
    offline: bool = False,
    sandbox: str = "auto",
    overrides: Mapping[str, Mapping[str, JSON]] | None = None,
    output_path: str | Path | None = None,
    log_samples: bool = False,
    cutoff: str | None = None,
    name: str | None = None,
    log_to: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] = (),
    progress: bool | None = None,
    tokenizer: Any = None,
) -> RunResult:
    """Measure a model: `evaluate("hf", {"pretrained": DIR}, ["ceval", "cmmlu"], limit=10).summary()`.

    model: a plugin's name, or a class derived from `harness.Model`, or one that is made already; or a model of
    transformers (adapted by peft, too) that is in memory, with its `tokenizer`: it is measured where it is and left as
    it was found, random streams included, and its `model_args` are those of `hf` for texts. Parameters are named
    as on the command line, and mean the same; `model_args` and `gen_kwargs` may also be written as there
    (`"pretrained=DIR,dtype=float32"`). user_model: who plays the user of conversations, as of `--user_model`, or a
    model as above. judge: one or several, as of `--judge`: they score what tasks leave to a judge. task_gen_kwargs: of
    single tasks, over `gen_kwargs`. recipe: its name or its file; what else is given wins over it, and the judge that
    it names is asked as by the command line. overrides: task -> key -> value, as of `--set`. progress: whether stderr
    says how far the run is; left out, in notebooks alone. Raises `HarnessError`.
    """
    given = {name: value for name, value in locals().items() if name not in ("progress", "tokenizer")}
    with contextlib.ExitStack() as stack:
        if is_torch_module(model):
            model = _live(model, tokenizer)
            stack.enter_context(as_found(given["model"], tokenizer))
        elif tokenizer is not None:
            raise UsageError("tokenizer: is for a model in memory; of others, model_args says which")
        registry = load_plugins()  # within: libraries that this imports draw random numbers
        if not isinstance(user_model, str | None):
            given["user_model"] = (named_model(user_model, None, registry, "user"), {})
        given["model"] = named_model(model, model_args, registry)
        spec, judges, of_recipe = _spec_and_judges(given, registry)
        told = watch if progress or (progress is None and "ipykernel" in sys.modules) else Progress
        (judged,) = run_judged(spec, [spec.model_args], judges, registry, told, optional=of_recipe)
        return judged.result


def evaluate_each(
    model: str,
    model_args: Sequence[Mapping[str, JSON] | str],
    tasks: Names,
    **options: Any,
) -> list[RunResult]:
    """Measure several models, one after another, as `evaluate` does each of them, with the same `options`.

    Adapters share their base: `evaluate_each("hf", ["pretrained=DIR", "pretrained=DIR,peft=ADAPTER"], "ceval")`
    """
    if isinstance(model_args, str | Mapping):
        raise UsageError("model_args: should be a list with the arguments of each model; `evaluate` takes one of them")
    registry = load_plugins()
    given = {"model": model, "model_args": None, "tasks": tasks, **options}
    spec, judges, of_recipe = _spec_and_judges(given, registry)
    each = [{**spec.model_args, **_pairs("model_args", args)} for args in model_args]
    return [judged.result for judged in run_judged(spec, each, judges, registry, optional=of_recipe)]


def _spec_and_judges(given: Mapping[str, Any], registry: Registry) -> tuple[RunSpec, list[JudgeModel], bool]:
    """What was given, and below it what a recipe says; and whether the judges are the recipe's. Raises `UsageError`."""
    settings = {**given} if not isinstance(given.get("recipe"), str) else _by_recipe(given["recipe"], given, registry)
    of_recipe = settings.pop("judge_of_recipe", False)
    judges = _judges(settings.pop("judge", ()), settings.pop("judge_prices", ()))
    return spec_of(settings), judges, of_recipe


def _live(model: Any, tokenizer: Any) -> type[Model]:
    """The class of a model in memory. Raises `UsageError` for one that cannot be measured here."""
    LiveModel(model, tokenizer)  # which refuses what it cannot measure
    if sharded := why_sharded(model):
        raise UsageError(
            f"model: its weights are cut over several processes ({sharded}), and one alone has not all of them: "
            "harness.training.HarnessCallback measures it from all processes together"
        )
    return LiveModel.of(model, tokenizer)


def named_model(model: Any, model_args: Any, registry: Registry, role: str = "model") -> Any:
    """The name under which the registry has the model: a class that no plugin brings is added to it."""
    kind: Any = model if isinstance(model, type) else type(model)
    if not issubclass(kind, Model):
        return model
    if kind is model:
        with contextlib.suppress(PluginError):
            if registry.model(kind.name) is kind:
                return kind.name
    elif model_args:
        raise UsageError(f"model_args: the model is made already, as {kind.__name__}(...)")
    else:
        made: Model = model

        def create(cls: type[Model], args: Mapping[str, Any], options: ModelOptions) -> Model:
            made.options = options
            return made

        kind = type(kind.__name__, (kind,), {"create": classmethod(create)})
    module = SimpleNamespace(__name__=kind.__module__, harness_models=hookimpl(lambda: [kind]))
    registry.register(module, package=_IN_MEMORY, name=f"{_IN_MEMORY}-{role}")
    if registry.broken and registry.broken[-1].package == _IN_MEMORY:
        raise UsageError(f"model: {registry.broken[-1].error}")
    return f"{_IN_MEMORY}/{kind.name}"


def _by_recipe(recipe: str, given: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """What was given, with what a recipe says where a parameter has its default."""
    defaults = {name: each.default for name, each in inspect.signature(evaluate).parameters.items()}
    read = {"gen_kwargs": _pairs, "model_args": _pairs, "tasks": _names, "include_path": _folders}
    said = {
        name: read[name](name, value) if name in read else value
        for name, value in given.items()
        if name == "model" or (name != "recipe" and value != defaults.get(name))
    }
    chosen = with_recipe(recipe, said, registry)
    if "judge" not in said and (judge := recipe_judge(chosen["recipe"])) is not None:
        chosen |= {"judge": [judge], "judge_of_recipe": True}
    return chosen


def _judges(judges: Judges | None, prices: Any) -> list[JudgeModel]:
    """The judges of a run and what their tokens cost. Raises `UsageError`."""
    listed = [judges] if isinstance(judges, str | tuple) and judges else judges or ()
    told = [prices] if isinstance(prices, str | Mapping) and prices else prices
    if not isinstance(listed, Sequence) or not isinstance(told, Sequence):
        raise UsageError("judge: should be a text like 'openai,model=NAME,base_url=URL', or a list of them")
    read = _by(lambda given: parse_judge(given) if isinstance(given, str) else (str(given[0]), dict(given[1])))
    named = [read("judge", each) for each in listed]
    if told and not named:
        raise UsageError("judge_prices: name the judge too, judge='openai,model=NAME'")
    return priced_judges(named, [_prices("judge_prices", each) for each in told])


def spec_of(given: Mapping[str, Any]) -> RunSpec:
    """What was given as a `RunSpec`. Raises `UsageError` for what a run cannot be told so."""
    known = {field.name for field in dataclasses.fields(RunSpec)}
    if unknown := sorted(given.keys() - known):
        raise UsageError(f"evaluate: takes no parameter '{unknown[0]}' (it takes: {', '.join(sorted(known))})")
    model = given["model"]
    if not isinstance(model, str):
        found = type(model).__name__ if not isinstance(model, type) else model.__name__
        raise UsageError(
            "model: should be the name of a model plugin, a model of transformers in memory, or a harness.Model, "
            f"found {found}"
        )
    read: dict[str, Callable[[str, Any], Any]] = {
        **dict.fromkeys(("model_args", "gen_kwargs"), _pairs),
        **dict.fromkeys(("tasks", "modify"), _names),
        **dict.fromkeys(("include_path", "data", "trust_task_code", "trust_task_code_in_process"), _folders),
        "limit": _by(parse_limit),
        "precision": _by(parse_precision),
        "until_decided": _text,
        "shard": _by(parse_shard),
        "executor": _by(parse_executor),
        **dict.fromkeys(("num_fewshot", "max_batch_size"), _count),
        **dict.fromkeys(("fewshot_as_multiturn", "offline", "log_samples", "batch_api"), _by(parse_switch)),
        **dict.fromkeys(("device", "output", "system_instruction", "reasoning_effort", "name", "output_path"), _text),
        "thinking": _one_of(MODES),
        **dict.fromkeys(("thinking_budget", "repeats", "budget_tokens"), _count),
        "recipe": _pairs,
        **dict.fromkeys(("prices", "user_prices"), _prices),
        "budget": _number,
        "user_model": _by(lambda given: parse_judge(given) if isinstance(given, str) else given),
        "batch_size": _by(parse_batch_size),
        "seed": _by(parse_seed),
        "apply_chat_template": _by(parse_template),
        **dict.fromkeys(("after", "cutoff"), _by(parse_date)),
        "bad_rows": _one_of(get_args(BadRows)),
        "hub": _one_of(HUBS),
        "sandbox": _one_of(sandbox.MODES),
        "metrics": _metrics,
        **dict.fromkeys(("overrides", "task_gen_kwargs"), _overrides),
        "log_to": _log_targets,
    }
    # None says that a parameter is not given, where nothing is its default.
    optional = {field.name for field in dataclasses.fields(RunSpec) if field.default is None}
    left = {name for name, value in given.items() if value is None and name in optional}
    return RunSpec(
        **{
            name: read[name](name, value) if name in read else value
            for name, value in given.items()
            if name not in left
        }
    )


def _by(parse: Callable[[Any], Any]) -> Callable[[str, Any], Any]:
    """Reads a value as the command line does."""

    def read(name: str, value: Any) -> Any:
        try:
            return parse(value)
        except (ValueError, TypeError, AttributeError) as error:
            said = str(error) if type(error) is ValueError else f"{value!r:.80} is none"
            raise UsageError(f"{name}: {said}") from None

    return read


def _one_of(known: Sequence[str]) -> Callable[[str, Any], str]:
    def read(name: str, value: Any) -> str:
        if value not in known:
            raise UsageError(f"{name}: should be one of {', '.join(known)}, found {value!r:.80}")
        return str(value)

    return read


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str | Path):
        raise UsageError(f"{name}: should be a text, found {value!r:.80}")
    return str(value)


def _count(name: str, value: Any) -> int:
    try:
        count = integer(value, name)
    except TypeError as error:
        raise UsageError(f"{name}: {str(error).removeprefix(name).strip()}") from None
    if count < (name == "max_batch_size"):
        raise UsageError(f"{name}: should be at least {int(name == 'max_batch_size')}, found {count}")
    return count


def _number(name: str, value: Any) -> float:
    try:
        return number(value, name)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}: {str(error).removeprefix(name).strip()}") from None


def _pairs(name: str, value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, str | Mapping):
        raise UsageError(f"{name}: should be a mapping or a text like 'pretrained=DIR', found {type(value).__name__}")
    try:
        return parse_pairs(value or {})
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None


def _prices(name: str, value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, str | Mapping):
        raise UsageError(
            f"{name}: should be a mapping, a text like 'in=1,out=2' or a file, found {type(value).__name__}"
        )
    return _by(parse_token_prices)(name, value) if value else {}


def _names(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(parse_names(value))
    return _folders(name, value)


def _folders(name: str, value: Any) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str | Path) else value
    if not isinstance(listed, Sequence | set | frozenset) or not all(isinstance(item, str | Path) for item in listed):
        raise UsageError(f"{name}: should be a text or a list of texts, found {value!r:.80}")
    return tuple(map(str, listed))


def _metrics(name: str, value: Any) -> tuple[str | dict[str, Any], ...]:
    listed = [value] if isinstance(value, str | Mapping) else value
    if not isinstance(listed, Sequence) or not all(isinstance(item, str | Mapping) for item in listed):
        raise UsageError(
            f"{name}: should be names or entries like {{'metric': 'ece', 'bins': 10}}, found {value!r:.80}"
        )
    try:
        return tuple(entry for item in listed for entry in parse_metrics(item))
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None


def _log_targets(name: str, value: Any) -> tuple[tuple[str, dict[str, Any]], ...]:
    listed = [value] if isinstance(value, str | Mapping) else value
    if not isinstance(listed, Sequence) or not all(isinstance(item, str | Mapping) for item in listed):
        raise UsageError(f"{name}: should be loggers like 'wandb,project=NAME', found {type(value).__name__}")
    try:
        return tuple(parse_log_target(item) for item in listed)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None


def _overrides(name: str, value: Any) -> dict[str, dict[str, Any]]:
    given = {} if value is None else value
    if not isinstance(given, Mapping) or not all(isinstance(keys, Mapping) for keys in given.values()):
        raise UsageError(f"{name}: should be {{task: {{key: value}}}}, found {value!r:.80}")
    return {str(task): dict(keys) for task, keys in given.items()}

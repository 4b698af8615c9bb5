"""A run by a recipe: what the recipe says where flags say nothing, and what was not done as its makers did it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from harness.errors import HarnessError, UsageError, suggest
from harness.record.hub_results import hub_dataset
from harness.record.manifest_fields import Manifest
from harness.record.published import HUB_FOLDER, compared, departure, read_eval_results
from harness.record.report_fields import DepartureFields, Report, TaskReport
from harness.registry import Registry
from harness.run.spec import DEFAULT_MODEL
from harness.tasks.generation import with_one_name
from harness.tasks.library import TaskLibrary
from harness.tasks.recipe_files import find_recipe, task_changes
from harness.types import JSON

_SHOWN = 40
SETTINGS = ("apply_chat_template", "system_instruction", "thinking", "reasoning_effort", "thinking_budget")
"""What a recipe says of a whole run, under the names of `RunSpec`'s fields."""


def with_recipe(name: str, given: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """What flags say, and below it what the recipe of this name says. Raises `UsageError`."""
    folders = [*registry.task_folders(), *(("", Path(folder)) for folder in given.get("include_path", ()))]
    recipe = find_recipe(name, folders)
    settings = dict(given)
    for field in SETTINGS:
        if field in recipe:
            settings.setdefault(field, recipe[field])
    flags = with_one_name(settings.get("gen_kwargs", {}))
    settings["gen_kwargs"] = {**with_one_name(recipe.get("gen_kwargs", {})), **flags}
    own = {task: under_flags(entry.get("gen_kwargs", {}), flags) for task, entry in recipe["tasks"].items()}
    given_own = settings.get("task_gen_kwargs", {})
    merged = {task: {**asked, **with_one_name(given_own.get(task, {}))} for task, asked in own.items()}
    settings["task_gen_kwargs"] = {**given_own, **{task: asked for task, asked in merged.items() if asked}}
    if arguments := recipe.get("chat_template_args"):
        settings["model_args"] = _with_template_args(settings, arguments, registry)
    entries = recipe["tasks"]
    wanted = settings.get("tasks") or tuple(entries)
    settings["tasks"] = tuple(
        f"{task}:{entries[task]['variant']}" if "variant" in entries.get(task, {}) else task for task in wanted
    )
    return {**settings, "recipe": recipe}


def under_flags(asked: Mapping[str, JSON], flags: Mapping[str, JSON]) -> dict[str, JSON]:
    """Generation parameters without those that flags name."""
    named = with_one_name(flags)
    return {name: value for name, value in with_one_name(asked).items() if name not in named}


def _with_template_args(settings: Mapping[str, Any], arguments: JSON, registry: Registry) -> dict[str, Any]:
    """The model's arguments with variables of the chat template, as the model takes them."""
    given = dict(settings.get("model_args", {}))
    model = settings.get("model", DEFAULT_MODEL)
    kind = registry.model(model)
    if kind.takes("chat_template_args"):
        given["chat_template_args"] = {**arguments, **given.get("chat_template_args", {})}
    elif kind.takes("extra_body"):
        body = dict(given.get("extra_body") or {})
        given["extra_body"] = {**body, "chat_template_kwargs": {**arguments, **body.get("chat_template_kwargs", {})}}
    elif kind.sees_prompts:
        raise UsageError(f"--recipe: model '{model}' takes no variables of a chat template, which the recipe sets")
    return given


def _shown(value: JSON) -> str | None:
    """A setting as a short text; None for one that is not set."""
    if value is None:
        return None
    text = " ".join(str(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def note_published(report: Report, manifest: Mapping[str, Any]) -> None:
    """Set beside each task of the report what was published for it: by the recipe, or in the model's own folder."""
    spec = manifest.get("spec", {})
    recipe = spec.get("recipe") or {}
    for task in report["tasks"]:
        name = task["task"]
        entry = recipe.get("tasks", {}).get(_base(name))
        if entry is not None and "published" in entry:
            differs = list(differences(task, entry, recipe, manifest))
            task["published"] = compared(task, entry, recipe, differs)
        elif (card := _of_card(name, manifest)) is not None:
            task["published"] = compared(
                task, {**card, "scale": card_scale(task, card["published"])}, {}, [*_doubts(task)]
            )


def card_scale(task: TaskReport, published: float) -> int:
    """100 for a share in percent: some leaderboards count so and others do not, and no card says which."""
    for metric in task["metrics"][:1]:
        ours = metric["value"]
        if published > 1 and (metric.get("bounds") == [0, 1] or (ours is not None and 0 <= float(ours) <= 1)):
            return 100
    return 1


def _base(task: str) -> str:
    """The name of a task without its variant and modifiers."""
    return re.split(r"[:+]", task, maxsplit=1)[0]


def _of_card(task: str, manifest: Mapping[str, Any]) -> dict[str, JSON] | None:
    """The value in the model's folder whose data set, and if it says so its part, is the task's; None without one.

    Of several the one that was written for this task counts, which its notes then begin with.
    """
    folder = manifest.get("model", {}).get("args", {}).get("pretrained")
    if not isinstance(folder, str) or not (Path(folder).expanduser() / HUB_FOLDER).is_dir():
        return None
    config = manifest.get("tasks", {}).get(task, {}).get("config", {})
    dataset, part = config.get("dataset_path"), str(config.get("dataset_name") or config.get("task") or "")
    on_hub = hub_dataset(cast(Manifest, manifest), task) or (dataset, part)
    fitting = []
    for entry in read_eval_results(Path(folder).expanduser()):
        parts = {_plain(str(each)) for each in ("", part, dataset, on_hub[1])}
        same_part = _plain(entry["task_id"]) in parts or _plain(part).endswith(_plain(entry["task_id"]))
        if entry["dataset"] in (dataset, on_hub[0]) and same_part:
            fitting.append(entry)
    return next((each for each in fitting if str(each["note"]).startswith(f"{task}: ")), next(iter(fitting), None))


def differences(
    task: TaskReport, entry: Mapping[str, JSON], recipe: Mapping[str, JSON], manifest: Mapping[str, Any]
) -> Iterator[DepartureFields]:
    """What was not done as the recipe says, and what of the answers could explain a difference; a few words each."""
    spec = manifest.get("spec", {})
    known = manifest.get("tasks", {}).get(task["task"], {})
    if manifest["model"]["name"] != "replay":  # whose answers were given before, however that was
        yield from _other_settings(spec, recipe)
    own = spec.get("task_gen_kwargs", {}).get(_base(task["task"]), {})
    ours = {**with_one_name(spec.get("gen_kwargs", {})), **own}
    theirs = {**with_one_name(recipe.get("gen_kwargs", {})), **with_one_name(entry.get("gen_kwargs", {}))}
    for name in dict.fromkeys((*theirs, *ours)):
        if name not in theirs:
            yield departure("{name} {ours}, published with the task's own", name=name, ours=_shown(ours[name]))
        elif ours.get(name) != theirs[name]:
            yield _other(name, ours.get(name), theirs[name])
    variant = task["task"].partition(":")[2].partition("+")[0]
    if variant != (wanted := entry.get("variant", "")):
        if variant and wanted:
            yield departure("variant {ours}, published by {theirs}", ours=variant, theirs=wanted)
        elif variant:
            yield departure("variant {ours}, published by the task as it is", ours=variant)
        else:
            yield departure("the task as it is, published by variant {theirs}", theirs=wanted)
    for name in ("repeats", "num_fewshot"):
        wanted = entry.get(name, recipe.get(name))
        asked = known.get("config", {}).get(name, 1 if name == "repeats" else 0)
        if wanted is not None and asked != wanted:
            yield _other(name, asked, wanted)
    yield from _other_template(manifest.get("model", {}).get("args", {}), recipe)
    yield from _other_judge(recipe.get("judge"), known.get("config", {}), manifest)
    if known.get("modifiers"):
        yield departure("modified ({modifiers})", modifiers=", ".join(known["modifiers"]))
    yield from _doubts(task)


def _other(name: str, ours: JSON, theirs: JSON) -> DepartureFields:
    return departure("{name} {ours}, published with {theirs}", name=name, ours=_shown(ours), theirs=_shown(theirs))


def _other_settings(spec: Mapping[str, Any], recipe: Mapping[str, JSON]) -> Iterator[DepartureFields]:
    """What a whole run is told otherwise, or is told where the recipe is silent."""
    for name in SETTINGS:
        if name in recipe and spec.get(name) != recipe[name]:
            yield _other(name, spec.get(name), recipe[name])
        elif name not in recipe and spec.get(name) not in (None, "auto"):
            yield departure("{name} {ours}, of which the recipe says nothing", name=name, ours=_shown(spec[name]))


def _other_template(args: Mapping[str, Any], recipe: Mapping[str, JSON]) -> Iterator[DepartureFields]:
    """Another chat template than the model's own, and other values of its variables."""
    if template := args.get("chat_template"):
        yield departure("another chat template ({template})", template=_shown(template))
    sent = args.get("extra_body")
    sent = sent.get("chat_template_kwargs") if isinstance(sent, Mapping) else None
    ours = {**(sent or {}), **(args.get("chat_template_args") or {})}
    for name, value in recipe.get("chat_template_args", {}).items():
        if ours.get(name) != value:
            words = "{name} {ours} in the chat template, published with {theirs}"
            yield departure(words, name=name, ours=_shown(ours.get(name)), theirs=_shown(value))


def _other_judge(
    published: str | None, config: Mapping[str, Any], manifest: Mapping[str, Any]
) -> Iterator[DepartureFields]:
    """Who judged instead of the recipe's judge, of a task whose scores a judge gives."""
    if published is None or all(entry.get("metric") != "judge" for entry in config.get("metric_list", ())):
        return
    name, _, pairs = published.partition(",")
    named = dict(pair.partition("=")[::2] for pair in pairs.split(","))
    theirs = named.get("model") or named.get("pretrained") or name
    ours = [str(judge.get("name") or judge.get("model")) for judge in manifest.get("judges", ())]
    if ours != [theirs]:
        yield departure("judge {ours}, published with {theirs}", ours=", ".join(ours) or None, theirs=theirs)


_DOUBTS = {
    "failed": "{count} of {n} answers failed",
    "refused": "{count} of {n} answers refused",
    "unparsed": "{count} of {n} answers unparsed",
    "truncated": "{count} of {n} answers truncated",
    "cut": "{count} of {n} answers cut",
    "empty": "{count} of {n} answers empty",
}
"""What is said of answers that may explain a difference, by the name of their count."""


def _doubts(task: TaskReport) -> Iterator[DepartureFields]:
    counts, covers = task["counts"], task.get("covers")
    if covers and covers["of_rows"] and covers["rows"] < covers["of_rows"]:
        yield departure("{n} of {of} rows", n=covers["rows"], of=covers["of_rows"])
    for name, words in _DOUBTS.items():
        if counts.get(name):
            yield departure(words, count=counts[name], n=counts["n"])


def _plain(text: str) -> str:
    return text.lower().replace("-", "_").replace("/", "_")


def recipe_problems(recipe: Mapping[str, JSON], library: TaskLibrary, registry: Registry) -> Iterator[str]:
    """What of a recipe names no task, no variant or no score, or is no value of one; a line each."""
    where = f"recipe '{recipe['recipe']}'"
    for name, entry in recipe["tasks"].items():
        variant = f":{entry['variant']}" if "variant" in entry else ""
        try:
            (ref,) = library.select([f"{name}{variant}"])
            task = library.load(ref, task_changes(recipe, name))
        except ValueError:
            yield f"{where}: '{name}' is a group of tasks; a value is of one"
        except HarnessError as error:
            yield f"{where}: {error}"
        else:
            metrics = [item.metric for item in task.scoring.metrics]
            if (wanted := entry.get("metric")) and not wanted.startswith(tuple(metrics)):
                yield f"{where}: task '{name}' has no score '{wanted}'{suggest(wanted, metrics)}"
            elif "published" in entry and metrics and wanted in (None, *metrics):
                least, most = registry.metric(wanted or metrics[0]).bounds or (-math.inf, math.inf)
                if not least <= entry["published"] / entry["scale"] <= most:
                    said = f"published {entry['published']} of {entry['scale']}"
                    yield f"{where}: task '{name}': {said} is not within {least:g} to {most:g}: say its `scale`"

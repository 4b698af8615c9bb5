"""Recipes: how a model's makers measured it, and what they published, in a YAML file.

    recipe: deepseek_r1
    title: DeepSeek-R1
    source: https://github.com/deepseek-ai/DeepSeek-R1/blob/main/README.md
    date: 2025-01
    thinking: "on"
    gen_kwargs: {temperature: 0.6, top_p: 0.95, max_gen_toks: 32768}
    tasks:
      aime24: {published: 79.8, repeats: 64}

They lie in a folder `recipes` of a folder of tasks, so that a package that ships tasks can ship recipes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from harness.errors import TaskError, UsageError, suggest
from harness.tasks.file_models import Strict, validate
from harness.tasks.schema import MOST_REPEATS
from harness.tasks.schema_entries import GenerationKwargs
from harness.tasks.yaml_file import load_document, read_text
from harness.thinking import Thinking
from harness.types import JSON

FOLDER = "recipes"
_DATE = r"\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?"
Finite = Annotated[float, Field(allow_inf_nan=False)] | int
Repeats = Annotated[int, Field(ge=1, le=MOST_REPEATS)]


class RecipeTask(Strict):
    """How one task is asked, and the value that was published for it. What is left out is as the task has it."""

    variant: str | None = Field(None, description="a variant of the task")
    repeats: Repeats | None = Field(None, description="answers to each question; their mean is the value")
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    gen_kwargs: GenerationKwargs | None = Field(None, description="what this task is generated with, over the recipe's")
    published: Finite | None = Field(None, description="the value, on the scale of `scale`")
    n: Annotated[int, Field(ge=1)] | None = Field(
        None, description="of how many questions the value is, where not of all of the task's: its error then counts"
    )
    metric: str | None = Field(None, description="the score that it is a value of; the task's first by default")
    scale: Annotated[Finite, Field(gt=0)] = Field(100, description="what the makers write for 1")
    source: str | None = Field(None, description="where it stands, if not where the others do")
    date: Annotated[str, Field(pattern=_DATE)] | None = None
    note: str | None = Field(None, description="what the makers say of it")


class ModelRecipe(Strict):
    """A file in a folder `recipes`."""

    recipe: str = Field(min_length=1, description="the name, as of `--recipe`")
    title: str = Field(min_length=1)
    model: str | None = Field(None, description="the model's id on the hub")
    source: str = Field(min_length=1, description="the address at which the values stand")
    date: Annotated[str, Field(pattern=_DATE)] = Field(description="when they were published")
    read: Annotated[str, Field(pattern=_DATE)] | None = Field(None, description="when the source was read")
    note: str | None = None
    apply_chat_template: bool = True
    chat_template_args: dict[str, JSON] | None = Field(None, description="variables of the chat template")
    system_instruction: str | None = None
    thinking: Literal["on", "off", "auto"] | bool | None = None
    reasoning_effort: str | None = None
    thinking_budget: Annotated[int, Field(ge=1)] | None = None
    gen_kwargs: GenerationKwargs | None = None
    repeats: Repeats | None = Field(None, description="of every task that says nothing else")
    judge: str | None = Field(None, description="MODEL[,K=V...], as of --judge")
    tasks: dict[str, RecipeTask] = Field(min_length=1)


def load_recipe(path: Path) -> dict[str, JSON]:
    """A recipe as JSON, what is not given left out. Raises `TaskError` with the line of the first problem.

    One key twice is a problem, which in lm-eval's task files it is not.
    """
    document = load_document(path)
    for warning in document.warnings:
        raise TaskError(warning)
    recipe = validate(ModelRecipe, document.data, document)
    if isinstance(recipe.thinking, bool):  # what YAML makes of a bare on and off
        recipe = recipe.model_copy(update={"thinking": "on" if recipe.thinking else "off"})
    try:
        asked = Thinking.of(recipe.thinking, recipe.reasoning_effort, recipe.thinking_budget)
    except UsageError as error:
        raise document.error(("thinking",), str(error).replace("--", "")) from None
    for name, value in (recipe.chat_template_args or {}).items():
        if value != (told := asked.template_args.get(name, value)):
            told_by = "reasoning_effort" if name == "reasoning_effort" else "thinking"
            raise document.error(("chat_template_args", name), f"{name}: is {value}, which `{told_by}` makes {told}")
    return recipe.model_dump(mode="json", exclude_none=True)


def recipe_files(folders: Sequence[tuple[str, Path]]) -> Iterator[tuple[str, Path]]:
    """(package, file) of each recipe in folders of tasks."""
    for package, folder in folders:
        for path in sorted((folder / FOLDER).glob("*.y*ml")):
            yield package, path


def is_recipe(name: str) -> bool:
    """Whether a file is a recipe, by its first key."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return False
    lines = (line for line in read_text(path).splitlines() if line.strip() and not line.startswith("#"))
    return next(lines, "").startswith("recipe:")


def find_recipe(name: str, folders: Sequence[tuple[str, Path]]) -> dict[str, JSON]:
    """The recipe of this name, or in this file. Names differ in no case, and `-` does as well as `_`.

    Raises `UsageError` where there is none, or several, and `TaskError` where it cannot be read.
    """
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise UsageError(f"--recipe {name}: there is no such file")
        return load_recipe(Path(name))
    known: dict[str, list[Path]] = {}
    names: dict[Path, str] = {}  # what says which one is meant
    for package, path in recipe_files(folders):
        stem = _plain(path.stem)
        known.setdefault(stem, []).append(path)
        known.setdefault(f"{package}/{stem}", []).append(path)
        names[path] = f"{package}/{stem}" if package else str(path)
    files = list(dict.fromkeys(known.get(_plain(name), ())))
    if not files:
        raise UsageError(f"--recipe: there is no recipe '{name}'{suggest(_plain(name), known)} (see `harness recipes`)")
    if len(files) > 1:
        raise UsageError(
            f"--recipe {name}: {len(files)} recipes have this name: say {' or '.join(names[path] for path in files)}"
        )
    recipe = load_recipe(files[0])
    if _plain(str(recipe["recipe"])) != _plain(files[0].stem):
        raise TaskError(f"{files[0]}:1: recipe: is '{recipe['recipe']}', and the file is named '{files[0].stem}'")
    return recipe


def task_changes(recipe: Mapping[str, JSON], task: str) -> dict[str, JSON]:
    """The keys of a task that a recipe changes, as `--set` would."""
    entry = recipe.get("tasks", {}).get(task)
    if entry is None:
        return {}
    changes = {name: entry.get(name, recipe.get(name)) for name in ("repeats", "num_fewshot")}
    return {name: value for name, value in changes.items() if value is not None}


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(".", "_")

"""From what a user writes after `--tasks` to tasks: names, variants, subsets, groups, tags, patterns and files.

[PACKAGE/]NAME[:VARIANT][/SUBSET]        cmmlu:lm_eval/college_law      cmmlu/*law*      my_task.yaml:short/law
NAME:lite or FILE.lite.json              the rows of a lite set, see `harness.tasks.lite_files`
KEY:VALUE                                tag:chinese     ability:logic     language:zh      modality:image

A name that is not there is looked up once more among the aliases of task files, without regard to case and separators:
`C-Eval`, `cmmlu_anatomy`, `gpqa-diamond`. `names.yaml` in a folder of tasks answers for names that are no benchmark.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from harness.data.download import cache_folder
from harness.errors import TaskError, UsageError, suggest
from harness.modifiers import Modifier
from harness.quick import dataclass
from harness.tasks.abilities import ability_name
from harness.tasks.functions import TaskFunctions
from harness.tasks.groups import Changes, Enclosing, Member, Membership, members_of
from harness.tasks.index import TaskEntry, read_file, read_folder
from harness.tasks.lite_files import SUFFIX, VARIANT, LiteSet, read_lite
from harness.tasks.make import lite_task, make_task
from harness.tasks.schema import validate_task
from harness.tasks.task import Task
from harness.tasks.yaml_file import Document, load_document, shown
from harness.types import JSON

__all__ = ["TaskEntry", "TaskLibrary", "TaskRef"]

_WILD = frozenset("*?[")
_BY_KEY = re.compile(r"(tag|ability|language|modality):(.+)")
NAMES_FILE = "names.yaml"
"""Of a folder of tasks: `absent: {NAME: what to say of it}`, names that people ask for and that no benchmark has."""
LM_EVAL = "lm_eval"
"""The package under which lm-eval's own task files are named. They are looked at only where it stands before a name."""
MOST_TASKS = 20_000
"""So many tasks may one expression come to; groups that name one another twice come to twice as many at each step."""
_FILE = re.compile(r"(?P<path>.+\.ya?ml)(?::(?P<variant>[^/:]+))?(?:/(?P<subset>[^/]+))?")


@dataclass(frozen=True, slots=True)
class TaskRef:
    """One task that was asked for.

    subsets: None for all. changes: keys that groups override, and where they stand. memberships: the groups by which it
    was named. document: of a task that has no file of its own, because a group defines it in place. lite: the rows that
    are asked in the place of all.
    """

    name: str
    package: str
    path: Path
    variant: str | None = None
    subsets: tuple[str, ...] | None = None
    changes: Changes = field(default_factory=dict)
    memberships: tuple[Membership, ...] = ()
    document: Document | None = field(default=None, compare=False)
    lite: LiteSet | None = field(default=None, compare=False)

    @property
    def full_name(self) -> str:
        """`NAME` or `NAME:VARIANT`, as records carry it, and `:lite` where only the rows of a lite set are asked."""
        name = f"{self.name}:{self.variant}" if self.variant else self.name
        return f"{name}:{VARIANT}" if self.lite else name


@dataclass(frozen=True, slots=True)
class _Address:
    """An expression taken apart. Which part is which is known only once names are looked up."""

    text: str

    def readings(self) -> Iterator[tuple[str, str, str | None, str | None]]:
        """(package, name, variant, subset) in the order of preference."""
        parts = self.text.split("/")
        if len(parts) <= 2:
            yield ("", *_split_variant(parts[0]), parts[1] if len(parts) == 2 else None)
        if len(parts) in (2, 3):
            yield (parts[0], *_split_variant(parts[1]), parts[2] if len(parts) == 3 else None)


class TaskLibrary:
    """Every task file that this process can name. Files are read when they are needed."""

    def __init__(
        self,
        folders: Sequence[tuple[str, Path]],
        template_folders: Sequence[tuple[str, Path]],
        include_paths: Sequence[Path] = (),
        cache_dir: Path | None = None,
        missing: str = "",
        code: TaskFunctions | None = None,
    ) -> None:
        """include_paths: folders and files whose tasks win over those of `folders` with the same name.

        missing: plugins that could not be loaded, for the error of an unknown name: one may have brought it.
        code: runs the Python of tasks.
        """
        self._code = code
        self._folders = [*folders, *(("", path) for path in include_paths)]
        self.shadowed: dict[str, str] = {}
        """Names that were asked for and that an included folder takes from a package, and what is to be said of it."""
        self._templates = tuple(template_folders)
        self._missing = missing
        self._cache_dir = cache_dir or cache_folder()
        self._group_files: dict[Path, Document] = {}
        self._files_outside: dict[Path, TaskEntry] = {}
        self._written_in_groups: dict[tuple[Path, str], TaskEntry] = {}

    def entries(self) -> list[TaskEntry]:
        """Every task, groups left out, by package and name. A file that cannot be read is in `broken`."""
        return [entry for entry in self._all if not entry.is_group and not entry.error]

    def groups(self) -> list[TaskEntry]:
        """Every group of tasks that has a file."""
        return [entry for entry in self._all if entry.is_group]

    @property
    def broken(self) -> list[TaskEntry]:
        """Files that cannot be read; `error` says why."""
        return [entry for entry in self._all if entry.error]

    def entry(self, ref: TaskRef) -> TaskEntry:
        """What the index knows of a task that was selected."""
        everything = [*self._all, *self._files_outside.values(), *self._written_in_groups.values()]
        everything += self._lm_eval if ref.package == LM_EVAL else []
        known = (entry for entry in everything if entry.path == ref.path)
        return next(entry for entry in known if entry.name == ref.name)

    def select(self, expressions: Sequence[str]) -> tuple[TaskRef, ...]:
        """The tasks that the expressions name, in their order; the subsets of one task are put together.

        Raises `UsageError` for a name that is not there, or that stands for more than one task.
        """
        merged: dict[tuple[Path, str], TaskRef] = {}
        for expression in expressions:
            for count, ref in enumerate(self._find(expression.strip(), Enclosing())):
                if count >= MOST_TASKS:
                    raise UsageError(f"--tasks {expression}: names more than {MOST_TASKS:,} tasks, each way counted")
                key = (ref.path, ref.full_name)
                if key in merged:
                    first = merged[key]
                    _refuse_two_settings(first, ref)
                    every = first.subsets is None or ref.subsets is None
                    subsets = None if every else tuple(dict.fromkeys([*(first.subsets or ()), *(ref.subsets or ())]))
                    memberships = tuple(dict.fromkeys([*first.memberships, *ref.memberships]))
                    ref = replace(first, subsets=subsets, memberships=memberships)
                merged[key] = ref
        self._refuse_homonyms(list(merged.values()))
        return tuple(self._in_order(ref) for ref in merged.values())

    def load(
        self,
        ref: TaskRef,
        overrides: Mapping[str, JSON] | None = None,
        modifiers: Sequence[Modifier] = (),
        change: Callable[[Document], Document] = lambda document: document,
    ) -> Task:
        """Read and check a task. Raises `TaskError` that names file and line.

        change: what else is to be changed in its keys, after `overrides` and before `modifiers`.
        """
        document = ref.document or load_document(ref.path)
        given = overrides or {}
        changes = {key: value for key, (value, _) in ref.changes.items()}
        places = {key: place for key, (_, place) in ref.changes.items() if key not in given}
        overridden = {**changes, **given}
        task = make_task(
            document,
            ref.package,
            self._templates,
            ref.variant,
            ref.subsets,
            overridden,
            places,
            change,
            modifiers,
            self._code,
        )
        return lite_task(task, ref.lite) if ref.lite else task

    def lm_eval_entries(self) -> list[TaskEntry]:
        """The tasks that come with lm-eval, where it is installed; `lm_eval/NAME` names one of them."""
        return [entry for entry in self._lm_eval if not entry.is_group and not entry.error]

    @functools.cached_property
    def _lm_eval(self) -> list[TaskEntry]:
        folder = lm_eval_folder()
        return [] if folder is None else read_folder(folder, LM_EVAL, self._cache_dir)

    @functools.cached_property
    def _all(self) -> list[TaskEntry]:
        known: list[TaskEntry] = []
        folders: list[Path] = []
        for package, path in self._folders:
            if path.is_dir():
                entries = read_folder(path, package, self._cache_dir)
            else:
                entries = [entry] if (entry := read_file(path, package)) is not None else []
            here = path.resolve()
            if any(here.is_relative_to(folder) or folder.is_relative_to(here) for folder in folders):
                # `--include_path` may name a package's own folder, or one in it: its tasks are there already.
                entries = [
                    entry
                    for entry in entries
                    if not any(entry.path.resolve().is_relative_to(folder) for folder in folders)
                ]
            known += entries
            folders.append(here)
        return known

    def _find(self, expression: str, enclosing: Enclosing) -> Iterator[TaskRef]:
        if not expression:
            raise UsageError("--tasks: an empty name (a comma too many?)")
        if expression.endswith(SUFFIX):
            lite = read_lite(Path(expression).expanduser())
            beside = replace(enclosing, folder=lite.file.parent)
            try:
                yield from (replace(ref, lite=lite) for ref in self._find(lite.task, beside))
            except UsageError as error:
                raise UsageError(f"{lite.file}: {error}; a set of a task file of one's own lies beside it") from error
            return
        if file := _FILE.fullmatch(expression):
            # A file that a group names is next to the group's own, or where the command runs.
            path = Path(file["path"]).expanduser()
            if enclosing.folder is not None and (enclosing.folder / path).is_file():
                path = enclosing.folder / path
            yield from self._from_file(path, file["variant"], file["subset"], enclosing)
            return
        if by_key := _BY_KEY.fullmatch(expression):
            yield from self._with_key(by_key[1], by_key[2], enclosing)
            return
        path = Path(expression).expanduser()
        if not expression.startswith((".", "/", "~")):
            for package, name, variant, subset in _Address(expression).readings():
                package = package or enclosing.package
                entries = self._named(package, name) or self._beside(enclosing.folder, name)
                if entries:
                    yield from self._expand(entries, name, variant, subset, enclosing)
                    return
            # A name wins over a folder: what a run asks does not depend on what lies in the working directory.
            if not path.is_dir():
                meant = self._meant(expression)
                if meant is None:
                    raise UsageError(self._unknown(expression))
                yield from self._find(meant, enclosing)
                return
        yield from self._from_folder(path, enclosing)

    def _with_key(self, key: str, value: str, enclosing: Enclosing) -> Iterator[TaskRef]:
        """Every task that has a value under a key: `ability:logic`."""
        names, value = {"tag": "tags"}.get(key, key), ability_name(value) if key == "ability" else value
        having = [entry for entry in self.entries() if any(fnmatchcase(item, value) for item in getattr(entry, names))]
        if not having:
            known = {item for entry in self.entries() for item in getattr(entry, names)}
            raise UsageError(f"no task has {key} '{value}'{suggest(value, sorted(known))} (`harness tasks` lists them)")
        for entry in having:
            yield from self._expand([entry], entry.name, None, None, enclosing)

    def _meant(self, expression: str) -> str | None:
        """What a name stands for that is not there: an alias, another way to write a name, `TASK_SUBSET` of lm-eval."""
        name, colon, variant = expression.partition(":")
        name, slash, subset = name.partition("/") if not colon else (name, "", "")
        rest = colon + variant + slash + subset
        if known := self._other_names.get(_bare(name)):
            return known + rest
        if rest:
            return None
        subsets = {
            _bare(entry.name + title): f"{entry.name}/{title}" for entry in self.entries() for title in entry.subsets
        }
        return subsets.get(_bare(name))

    @functools.cached_property
    def _other_names(self) -> dict[str, str]:
        """Aliases and names without case and separators -> the expression that they stand for."""
        named = {_bare(alias): target for entry in self._all for alias, target in entry.aliases.items()}
        return named | {_bare(entry.name): entry.name for entry in self._all if not entry.error}

    def _absent(self, expression: str) -> str | None:
        """What is to be said of a name that is no benchmark."""
        for _, folder in self._folders:
            if (file := folder / NAMES_FILE).is_file():
                for name, text in load_document(file).data.get("absent", {}).items():
                    if _bare(name) == _bare(expression):
                        return f"'{expression}': {text}"
        return None

    def _from_folder(self, path: Path, enclosing: Enclosing) -> Iterator[TaskRef]:
        if not path.is_dir():
            raise UsageError(f"{path}: there is no such folder, and a task file ends in .yaml")
        entries = [entry for entry in read_folder(path, "", self._cache_dir) if not entry.is_group]
        if not entries:
            raise UsageError(f"{path}: holds no task (a task file has the key 'task')")
        for entry in entries:
            yield from self._outside(entry, None, None, enclosing)

    def _from_file(
        self, path: Path, variant: str | None, subset: str | None, enclosing: Enclosing
    ) -> Iterator[TaskRef]:
        document = load_document(path)  # an unreadable file is an error of its own, with its line
        entry = read_file(path, "")
        if entry is None:
            validate_task(document)  # says what is wrong with a name that is no text
            raise UsageError(f"{path}: holds no task (a task file has the key 'task')")
        yield from self._outside(entry, variant, subset, enclosing)

    def _outside(
        self, entry: TaskEntry, variant: str | None, subset: str | None, enclosing: Enclosing
    ) -> Iterator[TaskRef]:
        """The tasks of a file that no folder of tasks holds."""
        self._files_outside[entry.path] = entry
        return self._expand([entry], entry.name, variant, subset, enclosing)

    def _beside(self, folder: Path | None, name: str) -> list[TaskEntry]:
        """Entries of this name in the files next to that of a group: a group can be run where it lies."""
        files = sorted(folder.glob("*.y*ml")) if folder is not None else []
        entries = [entry for file in files if (entry := read_file(file, "")) is not None and entry.name == name]
        self._files_outside.update({entry.path: entry for entry in entries})
        return entries

    def _named(self, package: str, name: str) -> list[TaskEntry]:
        """Entries whose name fits, or, if there are none, those that carry the name as a tag."""
        asked = package.lower().replace("_", "-")
        every = self._lm_eval if package == LM_EVAL else self._all
        pool = [entry for entry in every if asked in ("", entry.package.lower().replace("_", "-"))]
        if _WILD & set(name):
            fits = [entry for entry in pool if fnmatchcase(entry.name, name) and not entry.is_group and not entry.error]
            return self._included_first(fits)
        return self._included_first([entry for entry in pool if entry.name == name]) or [
            entry for entry in pool if name in entry.tags
        ]

    def _included_first(self, entries: list[TaskEntry]) -> list[TaskEntry]:
        """The entries without those of packages whose name an included folder has, too: what a user names wins."""
        own = {entry.name: entry for entry in entries if not entry.package}
        hidden = [entry for entry in entries if entry.package and entry.name in own]
        for entry in hidden:
            self.shadowed[entry.name] = (
                f"{entry.name}: the one in {shown(own[entry.name].path)} is run, as --include_path asks; the built-in "
                f"one is {entry.package}/{entry.name}"
            )
        return [entry for entry in entries if entry not in hidden]

    def _expand(
        self, entries: Sequence[TaskEntry], name: str, variant: str | None, subset: str | None, enclosing: Enclosing
    ) -> Iterator[TaskRef]:
        self._refuse_doubt(name, [entry for entry in entries if entry.name == name])
        for entry in entries:
            if entry.error:
                raise TaskError(entry.error)
            if entry.is_group:
                if variant or subset:
                    raise UsageError(f"'{name}' is a group: it has no variants or subsets of its own")
                if enclosing.holds(entry.name):
                    raise UsageError(f"{shown(entry.path)}: group '{entry.name}' contains itself")
                if entry.path not in self._group_files:
                    self._group_files[entry.path] = load_document(entry.path)
                above = replace(enclosing, package=LM_EVAL) if entry.package == LM_EVAL else enclosing
                yield from self._members(members_of(self._group_files[entry.path], above))
            else:
                lite = self._lite_of(entry) if variant == VARIANT and variant not in entry.variants else None
                if lite is not None:
                    variant = _split_variant(lite.task)[1]
                subsets = _chosen_subsets(entry, subset)
                memberships = ((enclosing.groups, subsets),) if enclosing.groups else ()
                changes = enclosing.changes
                yield TaskRef(entry.name, entry.package, entry.path, variant, subsets, changes, memberships, lite=lite)

    def _lite_of(self, entry: TaskEntry) -> LiteSet:
        """The lite set of a task, from its file beside the task or in a folder of `--include_path`."""
        folders = [entry.path.parent, *(path for _, path in self._folders if path.is_dir())]
        for folder in folders:
            if (path := folder / f"{entry.name}{SUFFIX}").is_file():
                return read_lite(path)
        raise UsageError(
            f"task '{entry.name}' has no lite set: '{entry.name}{SUFFIX}' lies neither beside {shown(entry.path)} nor "
            f"in --include_path (`harness lite {entry.name}` makes one)"
        )

    def _members(self, members: Iterator[Member]) -> Iterator[TaskRef]:
        for member in members:
            if member.document is not None:
                yield from self._members(members_of(member.document, member.enclosing, in_place=True))
                continue
            if "dataset_path" in member.enclosing.changes and not self._knows(member):
                yield self._written_in_group(member)
                continue
            try:
                yield from self._find(member.expression, member.enclosing)
            except TaskError:
                raise
            except UsageError as error:
                raise TaskError(f"{member.place}: group '{member.enclosing.groups[-1].name}': {error}") from error

    def _knows(self, member: Member) -> bool:
        """Whether a group's member is a task, group or tag that has a file."""
        name, folder = member.expression, member.enclosing.folder
        return bool(self._named("", name) or self._beside(folder, name) or _FILE.fullmatch(name))

    def _written_in_group(self, member: Member) -> TaskRef:
        """A task whose keys all stand in the file of a group: it is called `GROUP::NAME`, as in lm-eval."""
        enclosing = member.enclosing
        name = f"{enclosing.groups[-1].name}::{member.expression}"
        file = member.place.file
        document = Document({"task": name}, {(): member.place, ("task",): member.place}, (file,))
        self._written_in_groups[file, name] = TaskEntry(name, "", file)
        return TaskRef(
            name, "", file, changes=enclosing.changes, memberships=((enclosing.groups, None),), document=document
        )

    def _refuse_doubt(self, name: str, exact: Sequence[TaskEntry]) -> None:
        """No folder wins over another silently: the user says which task is meant."""
        if len(exact) < 2:
            return
        packages = {entry.package for entry in exact}
        if "" in packages or len(packages) < len(exact):
            files = " and ".join(shown(entry.path) for entry in exact)
            raise UsageError(f"task '{name}' is defined more than once: name the file instead, {files}")
        owners = " and ".join(f"{entry.package}/{name}" for entry in exact)
        raise UsageError(f"task '{name}' is defined more than once: say which, {owners}")

    def _unknown(self, expression: str) -> str:
        if expression in ("list", "list_tasks"):
            return "--tasks list: `harness tasks` lists the tasks, `harness tasks --help` says how to filter them"
        if absent := self._absent(expression):
            return absent
        names = [entry.name for entry in self._all if not entry.error]
        names += [f"{entry.name}:{variant}" for entry in self._all for variant in entry.variants]
        names += [tag for entry in self._all for tag in entry.tags]
        if _WILD & set(expression):
            message = f"no task fits '{expression}'"
        else:
            near = suggest(expression, names) or suggest(expression.split("/")[0].split(":")[0], names)
            files = [name for name in (f"{expression}.yaml", f"{expression}.yml") if Path(name).is_file()]
            message = f"unknown task '{expression}'" + (f"; did you mean the file {files[0]}?" if files else near)
        if expression.startswith(f"{LM_EVAL}/") and not self._lm_eval:
            return f"{message} (lm-eval is not installed here; --include_path DIR names its folder of tasks)"
        if self.broken:
            own = next((entry for entry in self.broken if entry.name == expression), self.broken[0])
            message += f" (a file that cannot be read: {own.error})"
        return f"{message} (`harness tasks` lists them; --include_path DIR adds a folder){self._missing}"

    def _refuse_homonyms(self, refs: Sequence[TaskRef]) -> None:
        seen: dict[str, TaskRef] = {}
        for ref in refs:
            other = seen.setdefault(ref.full_name, ref)
            if other is not ref:
                both = f"{shown(other.path)} and {shown(ref.path)}"
                raise UsageError(f"two tasks of one run are called '{ref.full_name}': {both}")

    def _in_order(self, ref: TaskRef) -> TaskRef:
        """Subsets in the order of the file, and None where all of them were chosen."""
        if ref.subsets is None:
            return ref
        names = tuple(self.entry(ref).subsets)
        chosen = tuple(name for name in names if name in ref.subsets)
        return replace(ref, subsets=None if chosen == names else chosen)


def lm_eval_folder() -> Path | None:
    """Where the task files lie that come with lm-eval; None where it is not installed. Imports nothing of it."""
    spec = importlib.util.find_spec(LM_EVAL)
    places = [Path(place, "tasks") for place in (spec.submodule_search_locations or ())] if spec else []
    return next((place for place in places if place.is_dir()), None)


def _bare(name: str) -> str:
    """A name as people remember it: without case, hyphens, underscores, points and blanks."""
    return re.sub(r"[\W_]+", "", name.casefold().replace("+", "plus"))


def _split_variant(text: str) -> tuple[str, str | None]:
    name, _, variant = text.partition(":")
    return name, variant or None


def _chosen_subsets(entry: TaskEntry, subset: str | None) -> tuple[str, ...] | None:
    """The subsets that an expression names: by name, by pattern, or by the name of a group of subsets."""
    if subset is None:
        return None
    if _WILD & set(subset):
        chosen = tuple(name for name in entry.subsets if fnmatchcase(name, subset))
    elif subset in entry.subsets:
        chosen = (subset,)
    elif titled := tuple(name for name, title in entry.titles.items() if _bare(subset) in (_bare(title), _bare(name))):
        chosen = titled
    else:
        chosen = tuple(name for name, groups in entry.subsets.items() if subset in groups)
    if not chosen:
        known = [*entry.subsets, *entry.groups, *entry.titles.values()]
        has = f"it has {len(entry.subsets)}" if entry.subsets else "it has none"
        raise UsageError(f"task '{entry.name}' has no subset '{subset}'{suggest(subset, known)} ({has})")
    return chosen


def _refuse_two_settings(first: TaskRef, second: TaskRef) -> None:
    """A task of a run has one prompt and one score: two groups that want it differently need two runs."""
    for key in dict.fromkeys([*first.changes, *second.changes]):
        wanted = [ref.changes.get(key) for ref in (first, second)]
        if wanted[0] is None or wanted[1] is None or wanted[0][0] != wanted[1][0]:
            said = [f"{change[0]!r} by {change[1]}" if change else "as in its own file" for change in wanted]
            raise UsageError(
                f"task '{first.full_name}' is asked for in two ways: its '{key}' is {said[0]} and {said[1]}; "
                "run them apart"
            )

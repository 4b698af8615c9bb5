"""Finds plugins through entry points and answers by name: which model, metric, filter, modifier, logger, executor.

A plugin that cannot be imported is kept, with its cause, and named in the error of whatever needed it.

A built-in plugin of which `plugins/names.json` tells all names is imported when one of them is asked for: all of them
together take a third of the time in which a command answers. Every other plugin is imported at once.
"""

from __future__ import annotations

import contextlib
import functools
import json
import threading
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import field, replace
from importlib.metadata import Distribution, EntryPoint, distributions
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any, Literal, TypeVar

import pluggy

from harness import hooks
from harness.errors import PluginError, only_failures, suggest
from harness.executor import RunExecutor
from harness.filters import Filter
from harness.logger import Logger
from harness.metrics import Metric
from harness.model import Model
from harness.modifiers import Modifier
from harness.plugin_values import items, shown, text
from harness.quick import dataclass

ENTRY_POINT_GROUP = "harness"
BUILT_IN = "harness-eval"
"""The package of the plugins that come with the harness."""
NAMES_FILE = "names.json"
"""Beside the built-in plugins: plugin -> kind -> the names under which it is found, those of aliases included."""
Kind = Literal["model", "metric", "filter", "modifier", "logger", "executor"]
_HOOK_OF_KIND: dict[Kind, str] = {
    "model": "harness_models",
    "metric": "harness_metrics",
    "filter": "harness_filters",
    "modifier": "harness_modifiers",
    "logger": "harness_loggers",
    "executor": "harness_executors",
}
_BASE_OF_KIND: dict[Kind, type] = {
    "model": Model,
    "metric": Metric,
    "filter": Filter,
    "modifier": Modifier,
    "logger": Logger,
    "executor": RunExecutor,
}
_HOOKABLE = (FunctionType, MethodType, staticmethod, classmethod)
NamesByKind = Mapping[str, Sequence[str]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin that was found. `error` is None when it loaded."""

    name: str
    package: str
    version: str
    module: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Provided:
    """One class that a plugin registered under a name."""

    kind: Kind
    name: str
    value: type[Any]
    plugin: Plugin

    @property
    def qualified_name(self) -> str:
        return f"{self.plugin.package}/{self.name}"


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A plugin that is not imported yet, and what it will bring."""

    load: Callable[[], Any]
    names: NamesByKind


@dataclass
class Registry:
    """All plugins of this process. Made by `load_plugins`."""

    manager: pluggy.PluginManager
    plugins: list[Plugin] = field(default_factory=list)
    _waiting: dict[str, _Waiting] = field(default_factory=dict, init=False, repr=False)
    _provided: list[Provided] = field(default_factory=list, init=False, repr=False)
    _unasked: set[str] = field(default_factory=set, init=False, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)

    @property
    def hook(self) -> Any:
        """Call a hook on every plugin: `registry.hook.harness_open_dataset(...)`."""
        return self.manager.hook

    @property
    def broken(self) -> list[Plugin]:
        """Those that could not be loaded, of all that were asked for until now; see `load_all`."""
        return [plugin for plugin in self.plugins if plugin.error]

    @property
    def provided(self) -> list[Provided]:
        """Everything that is registered, in the order of the plugins' names. Loads every plugin."""
        self.load_all()
        return list(self._loaded())

    def load_all(self) -> None:
        """Load the plugins that wait until one of their names is asked for, so that all that are broken are known."""
        self._load_waiting(lambda _: True)

    def model(self, name: str) -> type[Model]:
        return self._find("model", name)

    def metric(self, name: str, of: str = "") -> type[Metric]:
        """A metric by its name. of: the package of the task that asks, which means its own, and then the built-in."""
        return self._find("metric", name, (of, BUILT_IN))

    def filter(self, name: str, of: str = "") -> type[Filter]:
        """A filter by its name, chosen as a metric is."""
        return self._find("filter", name, (of, BUILT_IN))

    def modifier(self, name: str) -> type[Modifier]:
        return self._find("modifier", name)

    def logger(self, name: str) -> type[Logger]:
        return self._find("logger", name)

    def executor(self, name: str) -> type[RunExecutor]:
        return self._find("executor", name)

    def names(self, kind: Kind) -> list[str]:
        self._load_waiting(lambda names: kind in names)
        return sorted({item.name for item in self._loaded() if item.kind == kind})

    def task_folders(self) -> list[tuple[str, Path]]:
        """(package, folder) of every folder of task files."""
        return self._folders("harness_tasks")

    def template_folders(self) -> list[tuple[str, Path]]:
        """(package, folder) of every folder of shared templates."""
        return self._folders("harness_templates")

    def implementations(self, hook_name: str) -> list[tuple[Plugin, Callable[..., Any]]]:
        """Each plugin's own function for a hook, for callers that must know who raised."""
        modules = ((plugin, self.manager.get_plugin(plugin.name)) for plugin in self.plugins if plugin.error is None)
        return [(plugin, getattr(module, hook_name)) for plugin, module in modules if hasattr(module, hook_name)]

    def add(self, plugin: Plugin, load: Callable[[], Any], names: NamesByKind | None = None) -> None:
        """Load a plugin; one of which all `names` are known waits until the first of them is asked for."""
        if self.manager.has_plugin(plugin.name) or plugin.name in self._waiting:
            plugin = replace(plugin, error=f"the plugin name '{plugin.name}' is taken by another package")
        elif names:
            self._waiting[plugin.name] = _Waiting(load, names)
        else:
            plugin = self._load(plugin, load)
        self.plugins.append(plugin)

    def register(self, module: Any, *, package: str, name: str, version: str = "0") -> None:
        """Add a plugin that is not installed (tests, notebooks)."""
        self.manager.register(module, name=name)
        self.manager.check_pending()
        self.plugins.append(Plugin(name, package, version, getattr(module, "__name__", name)))
        self._unasked.add(name)

    def _folders(self, hook_name: str) -> list[tuple[str, Path]]:
        found = self._call_each(hook_name, functools.partial(_check_folder, hook_name))
        return [(plugin.package, Path(folder)) for plugin, folders in found for folder in folders]

    def _call_each(
        self, hook_name: str, check: Callable[[Any], None], among: Container[str] | None = None
    ) -> list[tuple[Plugin, Sequence[Any]]]:
        """Call a registration hook plugin by plugin, so that one that raises is named and the others still count.

        check: raises TypeError for what the hook may not return. among: the names of the plugins to call; all
        by default.
        """
        results: list[tuple[Plugin, Sequence[Any]]] = []
        for plugin, function in self.implementations(hook_name):
            if among is not None and plugin.name not in among:
                continue
            try:
                found = items(function(), f"what {hook_name} returns")
                for value in found:
                    check(value)
                results.append((plugin, found))
            except BaseException as error:
                only_failures(error)
                self.plugins[self.plugins.index(plugin)] = _broken(plugin, error)
        return results

    def _load_waiting(self, wanted: Callable[[NamesByKind], bool]) -> None:
        """wanted: told a plugin's names by kind."""
        with self._lock:
            for name in [name for name, each in self._waiting.items() if wanted(each.names)]:
                place = [plugin.name for plugin in self.plugins].index(name)
                self.plugins[place] = self._load(self.plugins[place], self._waiting.pop(name).load)

    def _load(self, plugin: Plugin, load: Callable[[], Any]) -> Plugin:
        try:
            self.manager.register(load(), name=plugin.name)
            self.manager.check_pending()
        except BaseException as error:
            only_failures(error)
            if self.manager.has_plugin(plugin.name):
                self.manager.unregister(name=plugin.name)
            return _broken(plugin, error)
        self._unasked.add(plugin.name)
        return plugin

    def _loaded(self) -> list[Provided]:
        """What the plugins that are loaded registered, by kind and in the order of their names."""
        with self._lock:
            if self._unasked:
                for kind, hook_name in _HOOK_OF_KIND.items():
                    check = functools.partial(_check_class, kind, hook_name)
                    for plugin, values in self._call_each(hook_name, check, self._unasked):
                        self._provided += [Provided(kind, value.name, value, plugin) for value in values]
                self._unasked.clear()
                kinds, names = list(_HOOK_OF_KIND), [plugin.name for plugin in self.plugins]
                self._provided.sort(key=lambda item: (kinds.index(item.kind), names.index(item.plugin.name)))
            return self._provided

    def _find(self, kind: Kind, name: str, preferred: Sequence[str] = ()) -> type[Any]:
        """preferred: the packages of which one is meant where several have the name, the first of them first."""
        own = name.removeprefix(f"{BUILT_IN}/")
        asked = {own, own.partition("/")[0]}  # `evaluate/accuracy` is of the family `evaluate`
        self._load_waiting(lambda names: not asked.isdisjoint(names.get(kind, ())))
        named = self._named(kind, name, preferred)
        if not named and self._waiting:
            self.load_all()
            named = self._named(kind, name, preferred)
        if len(named) == 1:
            return named[0].value
        if named:
            owners = " and ".join(item.qualified_name for item in named)
            raise PluginError(f"{kind} '{name}' is registered by more than one package: say which, {owners}")
        message = f"unknown {kind} '{name}'{suggest(name, self.names(kind))}"
        raise PluginError(f"{message}{self.missing_plugins} (`harness plugins` lists every {kind})")

    def _named(self, kind: Kind, name: str, preferred: Sequence[str]) -> list[Provided]:
        """What has this name among what is loaded: as its own, as an alias, or as the member of a family."""
        items = [item for item in self._loaded() if item.kind == kind]
        named = [item for item in items if name in (item.name, item.qualified_name)]
        for package in preferred if len(named) > 1 else ():
            own = [item for item in named if item.plugin.package == package]
            named = own or named
            if len(own) == 1:
                break
        if not named and kind == "model":
            # A class that inherits from another has not its aliases: `vllm_server` is no `openai`.
            named = [item for item in items if name in vars(item.value).get("aliases", {})]
        family, _, rest = name.partition("/")
        if not named and kind == "metric" and rest:
            family_of = {item.name: item for item in items}.get(family)
            member = family_of.value.member(rest) if family_of is not None else None
            named = [replace(family_of, name=name, value=member)] if family_of is not None and member else []
        return named

    @property
    def missing_plugins(self) -> str:
        """What ends the error of anything that is not there: a broken plugin may have brought it."""
        causes = "; ".join(f"{plugin.name} of {plugin.package}: {plugin.error}" for plugin in self.broken)
        return f" (plugins that could not be loaded: {causes})" if causes else ""


def load_plugins(sources: Iterable[tuple[EntryPoint, Distribution]] | None = None) -> Registry:
    """Load every installed plugin, in the order of their names; those that can wait, once they are asked for."""
    manager = _PluginManager(hooks.PROJECT)
    manager.add_hookspecs(hooks)
    registry = Registry(manager)
    found = list(sources if sources is not None else _entry_points())
    # A distribution reads its whole metadata for each of these, every time.
    owners = {id(owner): (owner.name, owner.version) for owner in {id(owner): owner for _, owner in found}.values()}
    names = _built_in_names(entry for entry, owner in found if owners[id(owner)][0] == BUILT_IN)
    for entry_point, distribution in sorted(found, key=lambda item: (item[0].name, owners[id(item[1])])):
        plugin = Plugin(entry_point.name, *owners[id(distribution)], entry_point.value)
        registry.add(plugin, entry_point.load, names.get(plugin.name) if plugin.package == BUILT_IN else None)
    return registry


def _built_in_names(entry_points: Iterable[EntryPoint]) -> Mapping[str, NamesByKind]:
    """What `names.json` says, by plugin; nothing where there is no such file, so that all plugins are imported."""
    found: dict[str, NamesByKind] = {}
    for package in {entry_point.value.partition(".")[0] for entry_point in entry_points}:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            with contextlib.suppress(OSError, ValueError):
                found |= json.loads((Path(folder) / NAMES_FILE).read_bytes())
    return found


class _PluginManager(pluggy.PluginManager):
    """Looks for hooks among the marked functions of a module alone.

    pluggy looks at each name as if to read it could do something: all plugins together have thousands.
    """

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        if isinstance(plugin, ModuleType):
            value = vars(plugin).get(name)
            if not (isinstance(value, _HOOKABLE) and hasattr(value, f"{self.project_name}_impl")):
                return None
        return super().parse_hookimpl_opts(plugin, name)


def _check_class(kind: Kind, hook_name: str, value: object) -> None:
    base = _BASE_OF_KIND[kind]
    if not isinstance(value, type) or not issubclass(value, base):
        raise TypeError(f"{hook_name} returns classes derived from harness.{base.__name__}, not {shown(value)}")
    text(getattr(value, "name", None), f"{hook_name}: the name of {value.__name__}")


def _check_folder(hook_name: str, value: object) -> None:
    if not isinstance(value, str | Path):
        raise TypeError(f"{hook_name} returns folders, not {shown(value)}")


def _broken(plugin: Plugin, error: BaseException) -> Plugin:
    cause = " ".join(str(error).split())
    return replace(plugin, error=f"{type(error).__name__}: {cause}")


def _entry_points() -> list[tuple[EntryPoint, Distribution]]:
    by_name: dict[tuple[str, str], tuple[EntryPoint, Distribution]] = {}
    for distribution in distributions():
        own = distribution.entry_points.select(group=ENTRY_POINT_GROUP)
        name = distribution.name if own else ""
        for entry_point in own:
            by_name.setdefault((name, entry_point.name), (entry_point, distribution))
    return list(by_name.values())

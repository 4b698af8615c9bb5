"""Finds plugins through entry points and answers by name: which model, metric, filter, modifier, logger, executor.

A plugin that cannot be imported is kept, with its cause, and named in the error of whatever needed it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any, Literal, TypeVar

import pluggy

from harness import hooks
from harness.errors import PluginError, suggest
from harness.executor import RunExecutor
from harness.filters import Filter
from harness.logger import Logger
from harness.metrics import Metric
from harness.model import Model
from harness.modifiers import Modifier
from harness.plugin_values import items, shown, text

ENTRY_POINT_GROUP = "harness"
BUILT_IN = "harness-eval"
"""The package of the plugins that come with the harness."""
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


@dataclass
class Registry:
    """All plugins of this process. Made by `load_plugins`."""

    manager: pluggy.PluginManager
    plugins: list[Plugin] = field(default_factory=list)
    _provided: list[Provided] | None = field(default=None, init=False, repr=False)

    @property
    def hook(self) -> Any:
        """Call a hook on every plugin: `registry.hook.harness_open_dataset(...)`."""
        return self.manager.hook

    @property
    def broken(self) -> list[Plugin]:
        return [plugin for plugin in self.plugins if plugin.error]

    @property
    def provided(self) -> list[Provided]:
        """Everything that was registered, in the order of the plugins' names."""
        if self._provided is None:
            self._provided = [
                Provided(kind, value.name, value, plugin)
                for kind, hook_name in _HOOK_OF_KIND.items()
                for plugin, values in self._call_each(hook_name, functools.partial(_check_class, kind, hook_name))
                for value in values
            ]
        return self._provided

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
        return sorted({item.name for item in self.provided if item.kind == kind})

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

    def register(self, module: Any, *, package: str, name: str, version: str = "0") -> None:
        """Add a plugin that is not installed (tests, notebooks)."""
        self.manager.register(module, name=name)
        self.manager.check_pending()
        self.plugins.append(Plugin(name, package, version, getattr(module, "__name__", name)))
        self._provided = None

    def _folders(self, hook_name: str) -> list[tuple[str, Path]]:
        found = self._call_each(hook_name, functools.partial(_check_folder, hook_name))
        return [(plugin.package, Path(folder)) for plugin, folders in found for folder in folders]

    def _call_each(self, hook_name: str, check: Callable[[Any], None]) -> list[tuple[Plugin, Sequence[Any]]]:
        """Call a registration hook plugin by plugin, so that one that raises is named and the others still count.

        check: raises TypeError for what the hook may not return.
        """
        results: list[tuple[Plugin, Sequence[Any]]] = []
        for plugin, function in self.implementations(hook_name):
            try:
                found = items(function(), f"what {hook_name} returns")
                for value in found:
                    check(value)
                results.append((plugin, found))
            except (Exception, SystemExit) as error:
                self.plugins[self.plugins.index(plugin)] = _broken(plugin, error)
        return results

    def _find(self, kind: Kind, name: str, preferred: Sequence[str] = ()) -> type[Any]:
        """preferred: the packages of which one is meant where several have the name, the first of them first."""
        named = [item for item in self.provided if item.kind == kind and name in (item.name, item.qualified_name)]
        for package in preferred if len(named) > 1 else ():
            own = [item for item in named if item.plugin.package == package]
            named = own or named
            if len(own) == 1:
                break
        if not named and kind == "model":
            # A class that inherits from another has not its aliases: `vllm_server` is no `openai`.
            models = [item for item in self.provided if item.kind == kind]
            named = [item for item in models if name in vars(item.value).get("aliases", {})]
        if len(named) == 1:
            return named[0].value
        if not named and kind == "metric" and (member := self._member_of_family(name)) is not None:
            return member
        if named:
            owners = " and ".join(item.qualified_name for item in named)
            raise PluginError(f"{kind} '{name}' is registered by more than one package: say which, {owners}")
        message = f"unknown {kind} '{name}'{suggest(name, self.names(kind))}"
        raise PluginError(f"{message}{self.missing_plugins} (`harness plugins` lists every {kind})")

    def _member_of_family(self, name: str) -> type[Metric] | None:
        """`evaluate/accuracy`: what the metric `evaluate` has under the name `accuracy`, if it is a family."""
        families = {item.name: item.value for item in self.provided if item.kind == "metric"}
        family, slash, rest = name.partition("/")
        return families[family].member(rest) if slash and rest and family in families else None

    @property
    def missing_plugins(self) -> str:
        """What ends the error of anything that is not there: a broken plugin may have brought it."""
        causes = "; ".join(f"{plugin.name} of {plugin.package}: {plugin.error}" for plugin in self.broken)
        return f" (plugins that could not be loaded: {causes})" if causes else ""


def load_plugins(sources: Iterable[tuple[EntryPoint, Distribution]] | None = None) -> Registry:
    """Load every installed plugin, in the order of their names."""
    manager = _PluginManager(hooks.PROJECT)
    manager.add_hookspecs(hooks)
    registry = Registry(manager)
    found = list(sources if sources is not None else _entry_points())
    # A distribution reads its whole metadata for each of these, every time.
    owners = {id(owner): (owner.name, owner.version) for owner in {id(owner): owner for _, owner in found}.values()}
    for entry_point, distribution in sorted(found, key=lambda item: (item[0].name, owners[id(item[1])])):
        plugin = Plugin(entry_point.name, *owners[id(distribution)], entry_point.value)
        registry.plugins.append(_load(manager, plugin, entry_point.load))
    return registry


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


def _load(manager: pluggy.PluginManager, plugin: Plugin, load: Callable[[], Any]) -> Plugin:
    if manager.has_plugin(plugin.name):
        taken = f"the plugin name '{plugin.name}' is taken by another package"
        return Plugin(plugin.name, plugin.package, plugin.version, plugin.module, taken)
    try:
        manager.register(load(), name=plugin.name)
        manager.check_pending()
    except Exception as error:
        if manager.has_plugin(plugin.name):
            manager.unregister(name=plugin.name)
        return _broken(plugin, error)
    return plugin


def _broken(plugin: Plugin, error: BaseException) -> Plugin:
    cause = " ".join(str(error).split())
    return Plugin(plugin.name, plugin.package, plugin.version, plugin.module, f"{type(error).__name__}: {cause}")


def _entry_points() -> list[tuple[EntryPoint, Distribution]]:
    by_name: dict[tuple[str, str], tuple[EntryPoint, Distribution]] = {}
    for distribution in distributions():
        own = distribution.entry_points.select(group=ENTRY_POINT_GROUP)
        name = distribution.name if own else ""
        for entry_point in own:
            by_name.setdefault((name, entry_point.name), (entry_point, distribution))
    return list(by_name.values())

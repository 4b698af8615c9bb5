"""Has torch, or a part of it, imported when something of it is used, and not because something names it.

The compiler (`torch._dynamo`, and SymPy with it) is named for three decorators that mean something to compiled code
alone: a fifth of the time until the first question. Until anything else of it is asked for, these three are all of it.
A tokenizer needs nothing of torch. The kernels that torch has in Python for tensors without numbers
(`torch._meta_registrations`) are a quarter of its import; most tensors have numbers, and most of the others do with the
kernels in C++.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import sys
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

_TORCH, _COMPILER, _META_KERNELS = "torch", "torch._dynamo", "torch._meta_registrations"
# What transformers takes a class from, and needs nothing of the rest.
_ALONE = f"{_COMPILER}._trace_wrapped_higher_order_op"
# What computes with tensors without numbers, and so with their kernels, imports this first: the compiler for one.
_SYMBOLIC = "torch.fx.experimental.symbolic_shapes"
_LOCK = threading.RLock()


def defer_torch() -> None:
    """From now on `import torch` is a promise. Nothing where it is imported already."""
    _defer(_TORCH)


def defer_compiler() -> None:
    """From now on `import torch._dynamo` is a promise. Nothing where it is imported already."""
    _defer(_COMPILER)


def defer_meta_kernels() -> None:
    """From now on torch's own import of its kernels for tensors without numbers is a promise, until a compiler comes.

    Who makes such tensors calls `import_meta_kernels` where an operation is not there. Nothing where torch is imported.
    """
    if _TORCH not in sys.modules:
        _defer(_META_KERNELS)


def import_meta_kernels() -> bool:
    """Keep that promise. Whether there was one, so that what could not be computed is worth another try."""
    module = sys.modules.get(_META_KERNELS)
    if not isinstance(module, _Promise):
        return False
    module.keep()
    return True


def import_compiler_as_ever() -> None:
    """Take the promise back, where something could not be imported with it. Nothing where it was kept."""
    sys.meta_path[:] = [each for each in sys.meta_path if not (isinstance(each, _Finder) and each.name == _COMPILER)]
    if isinstance(sys.modules.get(_COMPILER), _Promise):
        for name in [name for name in sys.modules if name == _COMPILER or name.startswith(f"{_COMPILER}.")]:
            del sys.modules[name]


def _defer(name: str) -> None:
    if name not in sys.modules and not any(isinstance(each, _Finder) and each.name == name for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder(name))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the module that is deferred. What is below it is found as ever, once its lines have run."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name == self.name:
            spec = importlib.machinery.PathFinder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader, self)
            return spec
        package = sys.modules.get(self.name)
        if self.name == _META_KERNELS:
            if name == _SYMBOLIC:
                import_meta_kernels()
            return None
        if not isinstance(package, _Promise) or not name.startswith(f"{self.name}.") or name == _ALONE:
            return None
        package.keep()
        known = sys.modules.get(name)
        return None if known is None else importlib.machinery.ModuleSpec(name, _Known(known))


class _Known(importlib.abc.Loader):
    """Gives a module that was imported while it was looked for."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


class _Loader(importlib.abc.Loader):
    """Makes the promise in place of the module; `load` keeps it."""

    def __init__(self, loader: Any, finder: _Finder) -> None:
        self._loader, self._finder = loader, finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Promise(spec.name)

    def exec_module(self, module: Any) -> None:
        module._promised = Decorators(module)
        if self._finder.name == _COMPILER:
            vars(module).update(
                disable=module._promised.disable,
                allow_in_graph=functools.partial(module._promised.mark, "allow_in_graph"),
                assume_constant_result=functools.partial(module._promised.mark, "assume_constant_result"),
            )

    def load(self, module: _Promise) -> None:
        self._loader.exec_module(module)
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        vars(module).pop("_promised", None)
        made: ModuleType = module
        made.__class__ = ModuleType  # from now on a module like any other


class _Promise(ModuleType):
    """A package of which no line has run. Any name that it lacks has it run, and so has any submodule but one."""

    _promised: Decorators | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":  # what goes through all modules asks for these
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        self.keep()
        if name in vars(self):
            return vars(self)[name]
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")

    def keep(self) -> None:
        """Run it. Nothing where it runs already: it may ask for what it has not got to yet."""
        with _LOCK:
            promised, self._promised = self._promised, None
            if promised is None:
                return
            loader: Any = self.__loader__
            try:
                loader.load(self)
            except BaseException:
                self._promised = promised
                raise
            for decorate in promised.waiting:
                decorate()


class Decorators:
    """What decorates functions until the compiler is there, which then learns of all that were decorated."""

    def __init__(self, module: _Promise) -> None:
        self._module: Any = module
        self.waiting: list[Callable[[], Any]] = []

    def mark(self, decorator: str, function: Any) -> Any:
        """`function` itself, which the decorator of this name leaves as it is."""
        if not callable(function):
            self._module.keep()
            return getattr(self._module, decorator)(function)
        self.waiting.append(lambda: getattr(self._module, decorator)(function))
        return function

    def disable(self, function: Any = None, *arguments: Any, **options: Any) -> Any:
        """`function`, which no compiler looks into; without one, what decorates it."""
        if function is None:
            return functools.partial(self._disable, arguments, options)
        return self._disable(arguments, options, function)

    def _disable(self, arguments: Any, options: Any, function: Callable[..., Any]) -> Callable[..., Any]:
        made: list[Callable[..., Any]] = []
        self.waiting.append(lambda: made.append(self._module.disable(function, *arguments, **options)))

        @functools.wraps(function)
        def disabled(*given: Any, **named: Any) -> Any:
            return (made[0] if made else function)(*given, **named)  # without a compiler nothing looks into it

        return disabled

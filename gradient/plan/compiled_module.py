"""A module whose calls replay plans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradient.nn import Module
from gradient.plan.watch import Transparent

OF_THE_COMPILER = ("explain", "recompiles", "signatures")
"""Attributes of the compiled function that a compiled module has, if the module lacks them."""


class CompiledModule(Transparent):
    """The result of `gradient.compile` for a module: its calls go to the compiled function.

    All else is shared with the module. Both have the same `__dict__`, so the same parameters,
    children, hooks and modes. The compiled module's class inherits from the module's class, so it
    can be part of other modules, and its state dict has the module's names.
    """

    _compiled: Callable[..., Any]
    _orig_mod: Module
    """The module, by PyTorch's name for it."""

    @property
    def _original(self) -> Module:
        return self._orig_mod

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._compiled(*args, **options)

    def __getattr__(self, name: str) -> Any:
        of = self._compiled if name in OF_THE_COMPILER else self._orig_mod
        return getattr(of, name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        made: Any = self._compiled
        return _again, (type(made), self._orig_mod, made.fullgraph, made.fuse)


def compiled_module(module: Module, compiled: Callable[..., Any]) -> Any:
    """Return a `CompiledModule` of the module, whose calls are calls of `compiled`."""
    made: Any = object.__new__(_class(type(module), f"Compiled{type(module).__name__}", compiled))
    object.__setattr__(made, "__dict__", module.__dict__)
    return made


def compile_in_place(module: Module, compiler: Callable[[Module], Any]) -> None:
    """Replace calls of the module itself, in every model that contains it, by calls of the function
    that `compiler` makes."""
    if isinstance(module, CompiledModule):
        own = module._orig_mod
    else:
        own = object.__new__(type(module))
        object.__setattr__(own, "__dict__", module.__dict__)
    compiled = compiler(own)
    if isinstance(compiled, CompiledModule):
        cls = _class(type(own), type(own).__name__, compiled._compiled)
        object.__setattr__(module, "__class__", cls)


def _class(of: type[Module], name: str, compiled: Any) -> type[Any]:
    names = {
        "_compiled": staticmethod(compiled),
        "_orig_mod": compiled.function,
        "__module__": of.__module__,
    }
    return type(name, (CompiledModule, of), names)


def _again(make: Callable[..., Any], module: Module, fullgraph: bool, fuse: bool) -> Any:
    return compiled_module(module, make(module, fullgraph, fuse))

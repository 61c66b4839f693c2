"""The Python values that a function depends on, and whether they have changed.

The attributes, closure variables and globals of the program are fixed in a plan's calls when it is
recorded. So all of them are collected once, starting at the function and its arguments (modules,
optimisers, hooks, the user's objects, closures and globals of functions), and compared before each
replay. Tensors are compared by identity, as the plan reads their values.
"""

from __future__ import annotations

import array
import collections
import collections.abc
import contextvars
import dis
import functools
import os
import random
import site
import sys
import types
import weakref
from collections.abc import Callable
from itertools import chain
from operator import is_
from typing import Any

import numpy as np

from gradient.autograd.variable import Variable
from gradient.nn.hooks import EVERY_MODULE
from gradient.optim import Optimizer
from gradient.plan.errors import PlanError
from gradient.plan.parts import (
    IMMUTABLE_TYPES,
    LARGE,
    AskedPart,
    BytesPart,
    CellPart,
    DictPart,
    NamePart,
    OwnedPart,
    Part,
    RandomStatePart,
    SequencePart,
    SlotsPart,
    StatePart,
    TensorPart,
    WeakPart,
    all_bytes,
    hooks_of,
    joined,
    sample,
)
from gradient.random import Generator
from gradient.source_lines import PACKAGE

LIMIT = 200_000
"""Objects that are walked at most."""

BY_STRING = frozenset({"globals", "eval", "exec"})
"""Builtins that can read a global that no code names."""
ENVIRONMENT = frozenset({"environ", "environb", "getenv", "getenvb"})
"""Names by which code reads environment variables."""
LIBRARY = (os.path.dirname(os.__file__), *site.getsitepackages())


def users(filename: str | None) -> bool:
    """Whether a source file belongs to the user's program, not to a library or this package."""
    return bool(filename) and not str(filename).startswith((PACKAGE, *LIBRARY, "<frozen"))


class Transparent:
    """A callable wrapper of a function of the program; the watch examines that function."""

    @property
    def _original(self) -> Callable[..., Any]:
        raise NotImplementedError


class Watch:
    """All values that were found, and how to read them again.

    tensors  the tensors that were found, by id; all must be on `device`. They include all tensors
             that the program can change without the plan's knowledge
    outdated whether a value was replaced for good, so that the plan is useless
    """

    def __init__(self, *starts: Any, device: str = "cpu"):
        self.device, self.outdated = device, False
        self.tensors: dict[int, Any] = {}
        self._parts: list[Part] = []
        self._lengths: list[int] = []
        self._values: list[Any] = []
        """The values of all parts, one after the other, as `changed` last found them."""
        self._seen: dict[int, Any] = {}
        # The global states of random.random() and np.random.rand().
        self._add(RandomStatePart("Python's random numbers", random._inst))
        self._add(RandomStatePart("NumPy's random numbers", np.random.mtrand._rand))
        waiting = [*((start, "") for start in starts), (EVERY_MODULE, "the hooks of every module")]
        while waiting:
            value, path = waiting.pop()
            waiting.extend(self._look(value, path))
            if len(self._seen) > LIMIT:
                raise PlanError(f"the function reaches more than {LIMIT} Python objects")
        self._seen.clear()  # objects with only weak references may be freed

    # Walking -------------------------------------------------------------------------------------

    def _look(self, value: Any, path: str) -> list[tuple[Any, str]]:
        """Note the parts of a value to compare; return the values to examine next."""
        kind = type(value)
        if (
            kind in IMMUTABLE_TYPES
            or id(value) in self._seen
            or isinstance(value, (np.generic, np.dtype))
        ):
            return []
        self._seen[id(value)] = value
        if isinstance(value, Variable):
            return self._tensor(value, path)
        if isinstance(value, np.ndarray):
            if value.dtype == object:
                return self._add(AskedPart(path, lambda: list(value.flat)))
            return self._add(BytesPart(path, value, sample if value.nbytes > LARGE else all_bytes))
        if isinstance(value, (bytearray, array.array)):
            return self._add(BytesPart(path, value, bytes))
        if isinstance(value, weakref.ref):
            return self._add(WeakPart(path, value))
        if isinstance(value, contextvars.ContextVar):
            return self._add(AskedPart(value.name, lambda: [value.get(None)]))
        if isinstance(value, Transparent):
            return [(value._original, path)]
        if isinstance(value, types.FunctionType):
            return self._function(value, path)
        if isinstance(value, types.MethodType):
            return [(value.__self__, path), (value.__func__, path)]
        if isinstance(value, functools.partial):
            return [(value.func, path), (value.args, path), (value.keywords, path)]
        if isinstance(value, (staticmethod, classmethod)):
            return [(value.__func__, path)]
        if isinstance(value, property):
            return [(f, path) for f in (value.fget, value.fset) if f is not None]
        if isinstance(value, Optimizer):
            return self._optimizer(value, path)
        if isinstance(value, (dict, types.MappingProxyType)):
            return [*self._add(DictPart(path, value)), *self._attributes(value, path)]
        if isinstance(value, (list, tuple, collections.deque, set, frozenset)):
            return [*self._add(SequencePart(path, value)), *self._attributes(value, path)]
        if isinstance(value, type):
            return self._class(value, path)
        if isinstance(value, (random.Random, np.random.Generator, np.random.RandomState)):
            return self._add(RandomStatePart(path or type(value).__name__, value))
        if isinstance(value, collections.abc.Iterator):
            raise PlanError(
                f"{path or 'the function'} is an iterator, which a replay would not ask"
            )
        if isinstance(value, types.ModuleType):
            own = users(getattr(value, "__file__", None))
            return self._add(DictPart(value.__name__, value, _immutables_of_module)) if own else []
        if isinstance(value, Generator):
            return []
        return self._object(value, path)

    def _add(self, part: Part) -> list[tuple[Any, str]]:
        self._parts.append(part)
        return part.children()

    def _tensor(self, tensor: Any, path: str) -> list[tuple[Any, str]]:
        if tensor.backend.device != self.device:
            raise PlanError(f"{path or 'a tensor'} is on the device {tensor.backend.device!r}")
        self.tensors[id(tensor)] = tensor
        self._parts.append(TensorPart(path, tensor))
        hooks = hooks_of(tensor)
        return [(hook, f"{path}'s hook") for hook in hooks]

    def _function(self, function: types.FunctionType, path: str) -> list[tuple[Any, str]]:
        found: list[tuple[Any, str]] = []
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        if not users(function.__code__.co_filename):  # it may be a wrapper of a user's function
            inner = [part.children() for name, cell in cells if (part := CellPart(name, cell))]
            return [each for part in inner for each in part if type(each[0]) is types.FunctionType]
        for name, cell in cells:
            found += self._add(CellPart(name, cell))
        for code in _codes(function.__code__):
            found += self._names(code, function.__globals__)
        found += self._add(DictPart(path or function.__name__, vars(function)))
        return [*found, (function.__defaults__ or (), path), (function.__kwdefaults__ or {}, path)]

    def _names(self, code: types.CodeType, scope: dict[str, Any]) -> list[tuple[Any, str]]:
        """The values that code names: globals, attributes of modules, and dicts that hold them."""
        found: list[tuple[Any, str]] = []
        modules: list[types.ModuleType] = []
        read = _globals_of(code)
        for name in code.co_names:
            if name in read and name in scope:
                found += self._add(NamePart(name, scope))
                value = scope[name]
            else:
                value = sys.modules.get(name)  # the code may import it
            if isinstance(value, types.ModuleType):
                modules.append(value)
        for module in modules:  # of a library: the named values, but not their contents
            own = users(getattr(module, "__file__", None))
            if own:
                found.append((module, module.__name__))
            for name in code.co_names:
                if name in vars(module):
                    inside = self._add(NamePart(name, vars(module)))
                    found += inside if own else []
                    value = vars(module)[name]
                    if isinstance(value, types.ModuleType) and value not in modules:
                        modules.append(value)
        if not scope.keys() & BY_STRING and BY_STRING.intersection(code.co_names):
            found += self._add(DictPart("globals()", scope, _immutables))
        if ENVIRONMENT.intersection(code.co_names):
            found += self._add(DictPart("os.environ", getattr(os.environ, "_data", os.environ)))
        return found

    def _optimizer(self, optimizer: Optimizer, path: str) -> list[tuple[Any, str]]:
        found: list[tuple[Any, str]] = []
        self._parts.append(OwnedPart(path or type(optimizer).__name__, optimizer))
        for i, group in enumerate(optimizer.param_groups):
            found += self._add(DictPart(f"{path}.param_groups[{i}]", group))
        for p, state in optimizer.state.items():
            found += self._add(StatePart(f"{path}.state", state))
            found.append((p, path))
        found += [(optimizer._step_pre_hooks, path), (optimizer._step_post_hooks, path)]
        return [*found, (type(optimizer), path)]

    def _class(self, cls: type, path: str) -> list[tuple[Any, str]]:
        found: list[tuple[Any, str]] = []
        for base in cls.__mro__:
            if base is not object and _users_class(base):
                found += self._add(DictPart(base.__name__, base, vars))
            elif "forward" in vars(base) and id(base) not in self._seen:
                self._seen[id(base)] = base
                self._add(NamePart("forward", vars(base)))
        return found if type(cls) is type else [*found, (type(cls), path)]

    def _attributes(self, value: Any, path: str) -> list[tuple[Any, str]]:
        """The attributes of a container whose class the user defined."""
        return self._object(value, path) if _users_class(type(value)) else []

    def _object(self, value: Any, path: str) -> list[tuple[Any, str]]:
        attributes = getattr(value, "__dict__", None)
        found = self._class(type(value), path)
        if isinstance(attributes, dict):
            found += self._add(DictPart(path or type(value).__name__, attributes))
        slots = [
            name
            for base in type(value).__mro__
            for name in _slots(base)
            if name not in ("__dict__", "__weakref__")
        ]
        if slots:
            found += self._add(SlotsPart(path or type(value).__name__, value, slots))
        return found

    def random_states(self) -> list[tuple[str, str]]:
        """The states of Python's and NumPy's random generators: a run that draws changes them."""
        parts = [part for part in self._parts if isinstance(part, RandomStatePart)]
        return [(part.path, part.state()) for part in parts]

    def leave_out(self, owners: set[int]) -> None:
        """Do not compare values of arrays that the plan reads; `owners` are the ids of the owners
        of their memory."""
        self._parts = [
            part
            for part in self._parts
            if not (isinstance(part, BytesPart) and id(part.owner) in owners)
        ]
        self._lengths = []

    def gradients_absent(self) -> list[tuple[Any, bool]]:
        """The leaves, and whether they have no gradient now. A frozen leaf may still have an old
        gradient, which an optimiser uses and `zero_grad()` drops."""
        leaves = (t for t in self.tensors.values() if t.node is None or t.node.op is None)
        return [(t, t._grad is None) for t in leaves]

    def replaced(self) -> list[tuple[str, dict[str, Any], Any, Any, Any]]:
        """The entries of dicts that have another value now: the path, the dict, the key, the value
        before and the one now."""
        found = []
        for part in self._parts:
            if type(part) is DictPart and type(part.mapping) is dict:
                now = part.now()
                if len(now) == len(part.values) and not all(map(is_, now, part.values)):
                    names = list(part.mapping)
                    each = zip(names, part.values[len(names) :], now[len(names) :], strict=True)
                    found += [
                        (joined(part.path, name), part.mapping, name, was, value)
                        for name, was, value in each
                        if was is not value
                    ]
        return found

    # Comparing -----------------------------------------------------------------------------------

    def changed(self, live: frozenset[tuple[int, str]] = frozenset()) -> str | None:
        """The name of a value that has changed, or None. `live` are pairs (id of a dict, key) whose
        values the plan reads before each replay, so that they may change."""
        found = [part.now() for part in self._parts]
        lengths = [*map(len, found)]
        if lengths == self._lengths and all(map(is_, chain.from_iterable(found), self._values)):
            return None
        for part, now in zip(self._parts, found, strict=True):
            was = part.values
            if len(now) != len(was) or not all(map(is_, now, was)):
                what = part.difference(now, live)
                if what is not None:
                    self.outdated = part.final
                    return what
                part.values = now
        self._lengths, self._values = lengths, [*chain.from_iterable(found)]
        return None


@functools.lru_cache(4096)
def _globals_of(code: types.CodeType) -> frozenset[str]:
    """The globals that code may read; `code.co_names` has its attributes' names, too. (The body of
    a class looks a name up in the class first.)"""
    return frozenset(
        each.argval
        for each in dis.get_instructions(code)
        if "_GLOBAL" in each.opname or each.opname == "LOAD_NAME"
    )


def _codes(code: types.CodeType) -> list[types.CodeType]:
    """A function's code and that of the functions in it."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return [code, *(each for c in inner for each in _codes(c))]


def _immutables(names: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in names.items() if isinstance(value, IMMUTABLE_TYPES)}


def _immutables_of_module(module: types.ModuleType) -> dict[str, Any]:
    return _immutables(vars(module))


def _users_class(cls: type) -> bool:
    module = sys.modules.get(cls.__module__)
    return cls.__module__ == "__main__" or users(getattr(module, "__file__", None))


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)

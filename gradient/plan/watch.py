"""What a function reads of Python's objects, and whether it is still what it was.

A plan holds no attribute, closure variable or global of the program: what these said when it was
recorded is settled in its calls. So they are walked once, from the function and its arguments
(modules, optimisers, hooks, the user's own objects, what functions close over and name), and
compared before each replay. Tensors are compared by identity; what they hold, the plan reads.
"""

from __future__ import annotations

import collections
import collections.abc
import functools
import random
import sys
import sysconfig
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.autograd.variable import Variable
from gradient.optim import Optimizer
from gradient.plan.errors import PlanError
from gradient.random import Generator
from gradient.source_lines import PACKAGE

LIMIT = 200_000
"""Objects that are walked at most."""

PLAIN = (int, float, complex, str, bytes, bool, type(None))
LIBRARY = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


def users(filename: str | None) -> bool:
    """Whether a source file is the program's own: no library's, nor this package's."""
    return bool(filename) and not str(filename).startswith((PACKAGE, *LIBRARY, "<frozen"))


class Transparent:
    """Something callable that stands for a function of the program, which is what is looked at."""

    @property
    def _original(self) -> Callable[..., Any]:
        raise NotImplementedError


class Watch:
    """Everything that was found, and how to look at it again.

    tensors  those that were found, by id: what the program can change behind a plan's back is
             among them. They are on `device`, or it is refused
    outdated it was found that what was there has been replaced for good
    """

    def __init__(self, *starts: Any, device: str = "cpu"):
        self.device, self.outdated = device, False
        self.tensors: dict[int, Any] = {}
        self._parts: list[_Part] = []
        self._seen: dict[int, Any] = {}
        # The hidden states of random.random() and np.random.rand().
        self._add(_RandomState("Python's random numbers", random._inst))
        self._add(_RandomState("NumPy's random numbers", np.random.mtrand._rand))
        waiting = [(start, "") for start in starts]
        while waiting:
            value, path = waiting.pop()
            waiting.extend(self._look(value, path))
            if len(self._seen) > LIMIT:
                raise PlanError(f"the function reaches more than {LIMIT} Python objects")

    # Walking -------------------------------------------------------------------------------------

    def _look(self, value: Any, path: str) -> list[tuple[Any, str]]:
        """Note what of a value is to be compared; the values to look at next."""
        kind = type(value)
        if kind in PLAIN or id(value) in self._seen or isinstance(value, (np.generic, np.dtype)):
            return []
        self._seen[id(value)] = value
        if isinstance(value, Variable):
            return self._tensor(value, path)
        if isinstance(value, np.ndarray):
            return []
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
        if isinstance(value, dict):
            return self._add(_Dict(path, value))
        if isinstance(value, (list, tuple, collections.deque, set, frozenset)):
            return self._add(_Sequence(path, value))
        if isinstance(value, type):
            return self._class(value, path)
        if isinstance(value, (random.Random, np.random.Generator, np.random.RandomState)):
            return self._add(_RandomState(path or type(value).__name__, value))
        if isinstance(value, collections.abc.Iterator):
            raise PlanError(
                f"{path or 'the function'} is an iterator, which a replay would not ask"
            )
        if isinstance(value, types.ModuleType):
            own = users(getattr(value, "__file__", None))
            return self._add(_Dict(value.__name__, value, _plain_names)) if own else []
        if isinstance(value, Generator):
            return []
        return self._object(value, path)

    def _add(self, part: _Part) -> list[tuple[Any, str]]:
        self._parts.append(part)
        return part.children()

    def _tensor(self, tensor: Any, path: str) -> list[tuple[Any, str]]:
        if tensor.backend.device != self.device:
            raise PlanError(f"{path or 'a tensor'} is on the device {tensor.backend.device!r}")
        self.tensors[id(tensor)] = tensor
        self._parts.append(_Tensor(path, tensor))
        hooks = _hooks(tensor)
        return [(hook, f"{path}'s hook") for hook in hooks]

    def _function(self, function: types.FunctionType, path: str) -> list[tuple[Any, str]]:
        if not users(function.__code__.co_filename):
            return []
        found: list[tuple[Any, str]] = []
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            found += self._add(_Cell(name, cell))
        for code in _codes(function.__code__):
            for name in code.co_names:
                if name in function.__globals__:
                    found += self._add(_Name(name, function.__globals__))
        return [*found, (function.__defaults__ or (), path), (function.__kwdefaults__ or {}, path)]

    def _optimizer(self, optimizer: Optimizer, path: str) -> list[tuple[Any, str]]:
        found: list[tuple[Any, str]] = []
        self._parts.append(_Owned(path or type(optimizer).__name__, optimizer))
        for i, group in enumerate(optimizer.param_groups):
            found += self._add(_Dict(f"{path}.param_groups[{i}]", group))
        for p, state in optimizer.state.items():
            found += self._add(_State(f"{path}.state", state))
            found.append((p, path))
        found += [(optimizer._step_pre_hooks, path), (optimizer._step_post_hooks, path)]
        return [*found, (type(optimizer), path)]

    def _class(self, cls: type, path: str) -> list[tuple[Any, str]]:
        found: list[tuple[Any, str]] = []
        for base in cls.__mro__:
            if base is not object and _users_class(base):
                found += self._add(_Dict(base.__name__, base, vars))
        return found

    def _object(self, value: Any, path: str) -> list[tuple[Any, str]]:
        attributes = getattr(value, "__dict__", None)
        found = self._class(type(value), path)
        if isinstance(attributes, dict):
            found += self._add(_Dict(path or type(value).__name__, attributes))
        slots = [
            name
            for base in type(value).__mro__
            for name in _slots(base)
            if name not in ("__dict__", "__weakref__")
        ]
        if slots:
            found += self._add(_Slots(path or type(value).__name__, value, slots))
        return found

    def random_states(self) -> list[tuple[str, str]]:
        """Where Python's and NumPy's random generators are: a run that draws moves them."""
        parts = [part for part in self._parts if isinstance(part, _RandomState)]
        return [(part.path, part.state()) for part in parts]

    def gradients_absent(self) -> list[tuple[Any, bool]]:
        """The leaves that require a gradient, and whether they have none now."""
        leaves = (t for t in self.tensors.values() if t.node is not None and t.node.op is None)
        return [(t, t._grad is None) for t in leaves]

    # Comparing -----------------------------------------------------------------------------------

    def changed(self, live: frozenset[tuple[int, str]] = frozenset()) -> str | None:
        """The name of something that is not what it was, or None. `live` are (id of a dict, key)
        whose values the plan reads anew."""
        for part in self._parts:
            now = part.now()
            ids = [*map(id, now)]
            if ids != part.ids:
                what = part.difference(now, live)
                if what is not None:
                    self.outdated = part.final
                    return what
                part.values, part.ids = now, ids
        return None


class _Part:
    """Some values in one place, and what they were."""

    final = False
    """Whether values that were replaced do not come back."""

    def __init__(self, path: str):
        self.path = path
        self.values = self.now()
        self.ids = [*map(id, self.values)]

    def now(self) -> list[Any]:
        """The values."""
        raise NotImplementedError

    def names(self) -> list[Any]:
        """A name for each of them."""
        return [""] * len(self.values)

    def children(self) -> list[tuple[Any, str]]:
        return [
            (value, _joined(self.path, name))
            for name, value in zip(self.names(), self.values, strict=True)
        ]

    def live(self, name: Any, live: frozenset[tuple[int, str]]) -> bool:
        return False

    def difference(self, now: list[Any], live: frozenset[tuple[int, str]]) -> str | None:
        """What of it is another value, not only another object of the same value."""
        if len(now) != len(self.values):
            return f"{self.path} (of length {len(self.values)}, now {len(now)})"
        for name, was, value in zip(self.names(), self.values, now, strict=True):
            if not equal(was, value) and not self.live(name, live):
                path = _joined(self.path, name)
                return f"{path} ({_change(was, value)})"
        return None


class _Dict(_Part):
    def __init__(self, path: str, mapping: Any, values_of: Callable[..., Any] = lambda x: x):
        self.mapping, self.values_of = mapping, values_of
        super().__init__(path)

    def live(self, name: Any, live: frozenset[tuple[int, str]]) -> bool:
        return (id(self.mapping), name) in live

    def now(self) -> list[Any]:
        return list(self.values_of(self.mapping).values())

    def names(self) -> list[Any]:
        return list(self.values_of(self.mapping))


class _State(_Part):
    """The tensors of an optimiser's state; its numbers have readers."""

    def __init__(self, path: str, state: dict[str, Any]):
        self.state = state
        super().__init__(path)

    def now(self) -> list[Any]:
        return [v for v in self.state.values() if not isinstance(v, (int, float))]


class _Owned(_Part):
    """An optimiser's groups and the states of its parameters, in which a plan reads and writes:
    `load_state_dict` gives it others, whatever these hold. States may be born."""

    final = True

    def __init__(self, path: str, optimizer: Optimizer):
        self.optimizer, self.known = optimizer, [*optimizer.state]
        super().__init__(path)

    def now(self) -> list[Any]:
        return [*self.optimizer.param_groups, *map(self.optimizer.state.get, self.known)]

    def difference(self, now: list[Any], live: frozenset[tuple[int, str]]) -> str | None:
        return f"{self.path}'s groups or state (they are other objects now)"


class _Sequence(_Part):
    def __init__(self, path: str, sequence: Any):
        self.sequence = sequence
        super().__init__(path)

    def now(self) -> list[Any]:
        return list(self.sequence)

    def names(self) -> list[Any]:
        return [f"[{i}]" for i in range(len(self.values))]


class _Slots(_Part):
    def __init__(self, path: str, value: Any, slots: list[str]):
        self.value, self.slots = value, slots
        super().__init__(path)

    def now(self) -> list[Any]:
        return [getattr(self.value, name, None) for name in self.slots]

    def names(self) -> list[Any]:
        return self.slots


class _Cell(_Part):
    def __init__(self, path: str, cell: Any):
        self.cell = cell
        super().__init__(path)

    def now(self) -> list[Any]:
        try:
            return [self.cell.cell_contents]
        except ValueError:  # empty
            return []


class _Name(_Part):
    """A global of a function's module."""

    def __init__(self, path: str, names: dict[str, Any]):
        self.globals = names
        super().__init__(path)

    def now(self) -> list[Any]:
        return [self.globals.get(self.path)]


class _RandomState(_Part):
    """A generator of Python's or NumPy's: drawing from it is not repeated by a replay. What counts
    is that the function does not, so each comparison starts from where it is."""

    def __init__(self, path: str, generator: Any):
        self.generator = generator
        super().__init__(path)

    def now(self) -> list[Any]:
        return []

    def state(self) -> str:
        g = self.generator
        if isinstance(g, random.Random):
            return repr(g.getstate())
        return repr(g.bit_generator.state if isinstance(g, np.random.Generator) else g.get_state())


class _Tensor(_Part):
    """Whether a tensor requires a gradient, and its hooks."""

    def __init__(self, path: str, tensor: Any):
        self.tensor = tensor
        super().__init__(path)

    def now(self) -> list[Any]:
        return [self.tensor.node is None, *_hooks(self.tensor)]

    def children(self) -> list[tuple[Any, str]]:
        return []


def equal(a: Any, b: Any) -> bool:
    """Whether two values are one, or plain and alike."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, (float, complex)):
        return repr(a) == repr(b)  # -0.0 is not 0.0, and nan is nan
    if isinstance(a, PLAIN):
        return bool(a == b)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(equal, a, b))
    if type(a) is dict:
        return list(a) == list(b) and all(map(equal, a.values(), b.values()))
    if isinstance(a, (np.generic, np.dtype)):
        return bool(a == b)
    if type(a) is types.MethodType:
        return a.__self__ is b.__self__ and a.__func__ is b.__func__
    return False


def _hooks(tensor: Any) -> list[Any]:
    node = tensor.node
    if node is None or node.op is not None:
        return []
    return [*(node.hooks or ()), *(node.post_hooks or ())]


def _codes(code: types.CodeType) -> list[types.CodeType]:
    """A function's code and that of the functions in it."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return [code, *(each for c in inner for each in _codes(c))]


def _plain_names(module: types.ModuleType) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if isinstance(value, PLAIN)}


def _users_class(cls: type) -> bool:
    module = sys.modules.get(cls.__module__)
    return cls.__module__ == "__main__" or users(getattr(module, "__file__", None))


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _joined(path: str, name: Any) -> str:
    if not name:
        return path
    return f"{path}{name}" if str(name).startswith("[") or not path else f"{path}.{name}"


def _change(was: Any, value: Any) -> str:
    before, now = _short(was), _short(value)
    return f"another {type(value).__name__}" if before == now else f"was {before}, is {now}"


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, PLAIN) else f"<{type(value).__name__}>"
    return text if len(text) < 60 else text[:57] + "..."

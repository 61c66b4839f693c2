"""Values that a program holds in one place, and whether they have changed.

`gradient.plan.watch` finds the places; each kind of place has a class here.
"""

from __future__ import annotations

import random
import types
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gradient.optim import Optimizer

IMMUTABLE_TYPES = (int, float, complex, str, bytes, bool, type(None))

LARGE = 1 << 16
"""Bytes of a NumPy array beyond which only a sample of its values is compared."""
PLACES = 1024
"""The approximate number of values in a sample."""


class Part:
    """The values in one place, and what they were before."""

    final = False
    """Whether values that were replaced do not come back."""

    def __init__(self, path: str):
        self.path = path
        self.values = self.now()

    def now(self) -> list[Any]:
        """The current values."""
        raise NotImplementedError

    def names(self) -> list[Any]:
        """A name for each value."""
        return [""] * len(self.values)

    def children(self) -> list[tuple[Any, str]]:
        return [
            (value, joined(self.path, name))
            for name, value in zip(self.names(), self.values, strict=True)
        ]

    def length(self, values: list[Any]) -> int:
        return len(values)

    def live(self, name: Any, live: frozenset[tuple[int, str]]) -> bool:
        return False

    def difference(self, now: list[Any], live: frozenset[tuple[int, str]]) -> str | None:
        """The name of a value that has changed; None if all are equal, though perhaps other
        objects."""
        if len(now) != len(self.values):
            return f"{self.path} (of length {self.length(self.values)}, now {self.length(now)})"
        for name, was, value in zip(self.names(), self.values, now, strict=True):
            if not equal(was, value) and not self.live(name, live):
                path = joined(self.path, name)
                return f"{path} ({_change(was, value)})"
        return None


class DictPart(Part):
    def __init__(self, path: str, mapping: Any, values_of: Callable[..., Any] = lambda x: x):
        self.mapping, self.values_of = mapping, values_of
        super().__init__(path)

    def live(self, name: Any, live: frozenset[tuple[int, str]]) -> bool:
        return (id(self.mapping), name) in live

    def now(self) -> list[Any]:
        mapping = self.values_of(self.mapping)
        return [*mapping, *mapping.values()]

    def names(self) -> list[Any]:
        names = list(self.values_of(self.mapping))
        return [*(f"{name!r} in it" for name in names), *names]

    def length(self, values: list[Any]) -> int:
        return len(values) // 2


class StatePart(Part):
    """The tensors of an optimiser's state; its numbers have `Readers`."""

    def __init__(self, path: str, state: dict[str, Any]):
        self.state = state
        super().__init__(path)

    def now(self) -> list[Any]:
        return [v for v in self.state.values() if not isinstance(v, (int, float))]


class OwnedPart(Part):
    """The identity of an optimiser's groups and its parameters' states: a plan reads and writes
    these objects, and `load_state_dict` replaces them. New states may appear."""

    final = True

    def __init__(self, path: str, optimizer: Optimizer):
        self.optimizer, self.known = optimizer, [*optimizer.state]
        super().__init__(path)

    def now(self) -> list[Any]:
        return [*self.optimizer.param_groups, *map(self.optimizer.state.get, self.known)]

    def difference(self, now: list[Any], live: frozenset[tuple[int, str]]) -> str | None:
        return f"{self.path}'s groups or state (they are other objects now)"


class SequencePart(Part):
    def __init__(self, path: str, sequence: Any):
        self.sequence = sequence
        super().__init__(path)

    def now(self) -> list[Any]:
        return list(self.sequence)

    def names(self) -> list[Any]:
        return [f"[{i}]" for i in range(len(self.values))]


class SlotsPart(Part):
    def __init__(self, path: str, value: Any, slots: list[str]):
        self.value, self.slots = value, slots
        super().__init__(path)

    def now(self) -> list[Any]:
        return [getattr(self.value, name, None) for name in self.slots]

    def names(self) -> list[Any]:
        return self.slots


class CellPart(Part):
    def __init__(self, path: str, cell: Any):
        self.cell = cell
        super().__init__(path)

    def now(self) -> list[Any]:
        try:
            return [self.cell.cell_contents]
        except ValueError:  # empty
            return []


class NamePart(Part):
    """A global of a module, or a method of a class."""

    def __init__(self, path: str, names: Mapping[str, Any]):
        self.globals = names
        super().__init__(path)

    def now(self) -> list[Any]:
        return [self.globals.get(self.path)]


class BytesPart(Part):
    """The values of an array that is not a tensor: a plan does not contain reads of it."""

    def __init__(self, path: str, x: Any, read: Callable[[Any], bytes]):
        self.x, self.read = x, read
        self.owner = x
        while isinstance(self.owner, np.ndarray) and self.owner.base is not None:
            self.owner = self.owner.base
        super().__init__(path)

    def now(self) -> list[Any]:
        return [self.read(self.x)]

    def difference(self, now: list[Any], live: frozenset[tuple[int, str]]) -> str | None:
        return None if now == self.values else f"{self.path or 'an array'} (its values)"


class AskedPart(Part):
    """A value that is read again each time: of a context variable, or an array of objects."""

    def __init__(self, path: str, ask: Callable[[], list[Any]]):
        self.ask = ask
        super().__init__(path)

    def now(self) -> list[Any]:
        return self.ask()


class WeakPart(Part):
    """A weak reference, compared without keeping its object alive."""

    def __init__(self, path: str, ref: weakref.ref[Any]):
        self.ref = ref
        super().__init__(path)

    def now(self) -> list[Any]:
        return [self.ref() is None]

    def children(self) -> list[tuple[Any, str]]:
        return [(self.ref(), self.path)]


class RandomStatePart(Part):
    """The state of Python's or NumPy's generator: a replay does not repeat draws from it, so the
    function must not draw. Each comparison starts from the current state."""

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


class TensorPart(Part):
    """A tensor's requires_grad and hooks."""

    def __init__(self, path: str, tensor: Any):
        self.tensor = tensor
        super().__init__(path)

    def now(self) -> list[Any]:
        return [self.tensor.node is None, *hooks_of(self.tensor)]

    def children(self) -> list[tuple[Any, str]]:
        return []


def equal(a: Any, b: Any) -> bool:
    """Whether two values are the same object, or equal values of an immutable type."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, (float, complex)):
        return repr(a) == repr(b)  # -0.0 is not 0.0, and nan is nan
    if isinstance(a, IMMUTABLE_TYPES):
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


def hooks_of(tensor: Any) -> list[Any]:
    node = tensor.node
    if node is None or node.op is not None:
        return []
    own = node.own_hooks
    own_hooks = [] if own is None else [*own.before, *own.after]
    return [*(node.hooks or ()), *(node.post_hooks or ()), *own_hooks]


def all_bytes(x: np.ndarray) -> bytes:
    return x.tobytes()


def sample(x: np.ndarray) -> bytes:
    """The values of a large array at evenly spread places, the first and the last included."""
    along = max(1, round(PLACES ** (1 / x.ndim)))
    some = x[tuple([slice(None, None, max(1, n // along)) for n in x.shape])]
    return some.tobytes() + x[(-1,) * x.ndim].tobytes()


def joined(path: str, name: Any) -> str:
    text = str(name)  # the name of a dict's value may be any key: 0, or a tensor
    if not text:
        return path
    return f"{path}{text}" if text.startswith("[") or not path else f"{path}.{text}"


def _change(was: Any, value: Any) -> str:
    before, now = _short(was), _short(value)
    return f"another {type(value).__name__}" if before == now else f"was {before}, is {now}"


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, IMMUTABLE_TYPES) else f"<{type(value).__name__}>"
    return text if len(text) < 60 else text[:57] + "..."

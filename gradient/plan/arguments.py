"""The arguments of a compiled function: the inputs of its plan, and the key that selects the
plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.autograd.modes import mode
from gradient.autograd.variable import Variable, wrap
from gradient.backends.recording_backend import OpaqueArray
from gradient.dtypes import get_default_dtype
from gradient.tensor import Tensor
from gradient.tensor.device import default_device

PLAIN = {int, float, complex, bool, str, bytes, type(None)}
"""Types of numbers and texts, which are told apart by type and value."""


class Arguments:
    """The arguments of a call, split into a key and inputs.

    key      equal for calls that can share a plan: device, shapes, dtypes, strides, modes, all else
    inputs   the tensors whose values are copied into the plan, without repeats
    held     the objects whose ids are in the key; they must live as long as the key
    device   the device of the tensors; None if there are several
    """

    def __init__(self, args: tuple[Any, ...], options: dict[str, Any]):
        self.inputs: list[Tensor] = []
        self.held: list[Any] = []
        self._devices: set[str] = set()
        self._numbers: dict[int, int] = {}
        autocast = tuple(sorted((mode.autocast or {}).items(), key=str))
        modes = bool(mode.grad), mode.inference, autocast, get_default_dtype(), default_device()
        keys = self._key(args), self._key(options)
        self.key = (modes, self.device, *keys)

    @property
    def device(self) -> str | None:
        if len(self._devices) > 1:
            return None
        return next(iter(self._devices), "cpu")

    def without_inputs(self, *trees: Any) -> Any:
        """The arguments with the input tensors removed; the key has all else about them."""
        inputs = {id(t) for t in self.inputs}
        return mapped_tensors(trees, lambda t: None if id(t) in inputs else t)

    def _key(self, value: Any) -> Any:
        if isinstance(value, Variable):
            return self._tensor_key(value)
        kind = type(value)
        if kind in PLAIN:
            return _plain_key(value)
        if kind in (tuple, list) or (isinstance(value, tuple) and hasattr(value, "_fields")):
            return (kind, *map(self._key, value))
        if kind is dict:
            return (kind, *((self._dict_key(k), self._key(v)) for k, v in value.items()))
        self.held.append(value)
        return kind, id(value)

    def _dict_key(self, value: Any) -> Any:
        """As `_key`, but what is no number or text is told apart by equality, as the dict does:
        tensors too, which are no inputs then."""
        kind = type(value)
        if kind is tuple:
            return (kind, *map(self._dict_key, value))
        return _plain_key(value) if kind in PLAIN else (kind, value)

    def _tensor_key(self, t: Any) -> Any:
        self._devices.add(t.backend.device)
        leaf = t.node is not None and t.node.op is None
        if type(t) is not Tensor or leaf or not is_array(t.array):
            self.held.append(t)  # a parameter: read in its own memory
            return Tensor, id(t)
        number = self._numbers.get(id(t))
        if number is None:
            number = self._numbers[id(t)] = len(self.inputs)
            self.inputs.append(t)
        array = t.array
        facts = getattr(t, "inference", False), t.node is not None
        return number, array.shape, array.dtype, array.strides, facts


def _plain_key(value: Any) -> Any:
    kind = type(value)
    return kind, repr(value) if kind in (float, complex) else value  # -0.0 is not 0.0


def is_array(array: Any) -> bool:
    return isinstance(array, (np.ndarray, np.generic, OpaqueArray))


class Aliased:
    """Arguments with a new tensor in place of each input. So if the function also finds the same
    tensor elsewhere (a global), that is not an input."""

    def __init__(self, args: tuple[Any, ...], options: dict[str, Any], inputs: list[Tensor]):
        self.aliases = [_alias(t) for t in inputs]
        self._alias_of = {id(t): alias for t, alias in zip(inputs, self.aliases, strict=True)}
        self._input_of = {id(alias): t for t, alias in zip(inputs, self.aliases, strict=True)}
        self._copies: list[tuple[Any, Any, list[int]]] = []
        """Each list and dict among the arguments, its copy, and the ids of the copy's items."""
        self.args = tuple(map(self._aliased, args))
        self.options = {name: self._aliased(value) for name, value in options.items()}

    def _aliased(self, tree: Any) -> Any:
        if type(tree) in (list, dict):
            values = tree if type(tree) is list else tree.values()
            made: Any = [*map(self._aliased, values)]
            if type(tree) is dict:
                made = dict(zip(tree, made, strict=True))
            self._copies.append((tree, made, _contents(made)))
            return made
        if isinstance(tree, tuple):
            parts = map(self._aliased, tree)
            if hasattr(tree, "_fields"):
                return type(tree)(*parts)
            return tuple(parts) if type(tree) is tuple else tree
        return self._alias_of.get(id(tree), tree)

    def original(self, tree: Any) -> Any:
        """`tree` with the original inputs put back."""
        return mapped_tensors(tree, lambda t: self._input_of.get(id(t), t))

    def hand_back(self) -> str | None:
        """Copy the function's changes of lists and dicts to the originals; describe the change, or
        return None if there was none."""
        changed = [(given, copy) for given, copy, was in self._copies if _contents(copy) != was]
        for given, copy in changed:
            own = self.original(copy)
            given.clear()
            given.extend(own) if type(given) is list else given.update(own)
        return "it changes a list or dict that it is given" if changed else None


def _contents(x: Any) -> list[int]:
    """A list or dict as a value that compares by identity of its items."""
    return [*map(id, x)] if type(x) is list else [*map(id, x), *map(id, x.values())]


def _alias(t: Tensor) -> Tensor:
    shown: Any
    if isinstance(t.array, OpaqueArray):
        shown = t.backend.reshape(t.array, t.shape)
    else:
        shown = np.asarray(t.array).view()
    made = wrap(shown, t.backend, t.node)
    if getattr(t, "inference", False):
        made.inference = True
    return made


def mapped_tensors(tree: Any, function: Callable[[Any], Any]) -> Any:
    """`tree` with `function` applied to each tensor in nested tuples, lists and dicts."""
    if isinstance(tree, Variable):
        return function(tree)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(mapped_tensors(x, function) for x in tree))
    if type(tree) in (tuple, list):
        return type(tree)(mapped_tensors(x, function) for x in tree)
    if type(tree) is dict:
        return {key: mapped_tensors(x, function) for key, x in tree.items()}
    return tree


def tensors_in(tree: Any) -> list[Any]:
    found: list[Any] = []
    mapped_tensors(tree, found.append)
    return found

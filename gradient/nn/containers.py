"""Modules that hold other modules, or parameters, in a list or a dict."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, Self, TypeVar, cast, overload

from gradient.errors import ArgumentError, IndexOutOfRange, TypeMismatch, sentence
from gradient.nn.module import Module
from gradient.nn.parameter import Parameter
from gradient.nn.printing import format_module, indent
from gradient.nn.registration import MODULE
from gradient.tensor import Tensor

__all__ = ["ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"]


def iterable(caller: str, expected: str, value: Any) -> list[Any]:
    """Return the members of an iterable as a list; raise TypeMismatch if it is none."""
    if not isinstance(value, Iterable) or isinstance(value, Tensor):
        raise TypeMismatch(sentence(caller, expected, type(value).__name__))
    return list(value)


def position(caller: str, index: Any) -> int:
    """Return an index into a list as an int; raise TypeMismatch if it is none."""
    try:
        return operator.index(index)
    except TypeError:
        raise TypeMismatch(sentence(caller, "an int as index", repr(index))) from None


M = TypeVar("M", bound=Module)


class _ModuleSequence(Module, Generic[M]):
    """Base of Sequential and ModuleList: children named "0", "1", ... and list operations."""

    def _slice(self, index: slice) -> Self:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> M: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> M | Self:
        if isinstance(index, slice):
            return self._slice(index)
        return cast(M, self._modules[self._key(index)])

    def __setitem__(self, index: int, module: M) -> None:
        setattr(self, self._key(index), module)

    def __delitem__(self, index: int | slice) -> None:
        kept = list(self)
        if isinstance(index, slice):
            del kept[index]
        else:
            del kept[int(self._key(index))]
        self._refill(kept)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[M]:
        return iter(cast(list[M], [module for _, module in self._items(MODULE)]))

    def __iadd__(self, modules: Iterable[M]) -> Self:
        return self.extend(modules)

    def append(self, module: M) -> Self:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[M]) -> Self:
        """Add modules at the end."""
        for module in iterable(type(self).__name__, "an iterable of modules", modules):
            self.append(module)
        return self

    def insert(self, index: int, module: M) -> Self:
        """Insert a module before position `index`; later ones are renamed."""
        if not isinstance(module, Module):
            got = type(module).__name__
            raise TypeMismatch(sentence(f"{type(self).__name__}.insert", "an nn.Module", got))
        if not -len(self) <= index <= len(self):
            raise IndexOutOfRange(
                f"{type(self).__name__}: index {index} is out of range for {len(self)} modules"
            )
        modules = list(self)
        modules.insert(index, module)
        self._refill(modules)
        return self

    def pop(self, key: int = -1) -> M:
        """Remove and return one module."""
        module = self[key]
        del self[key]
        return module

    def _key(self, index: int) -> str:
        size, index = len(self), position(type(self).__name__, index)
        if not -size <= index < size:
            raise IndexOutOfRange(
                f"{type(self).__name__}: index {index} is out of range for {size} modules"
            )
        return list(self._modules)[index]

    def _refill(self, modules: Iterable[Module]) -> None:
        for name in list(self._modules):
            delattr(self, name)
        for place, module in enumerate(modules):
            self.add_module(str(place), module)


class Sequential(_ModuleSequence[Module]):
    """Calls its modules one after another: `y = m_n(... m_1(x))`.

    Takes modules, or one dict of names to modules.
    """

    def __init__(self, *args: Module | Mapping[str, Module]) -> None:
        super().__init__()
        first = args[0] if args else None
        named: Any = (
            first if isinstance(first, Mapping) else {str(i): m for i, m in enumerate(args)}
        )
        for name, module in named.items():
            self.add_module(name, module)

    def forward(self, input: Tensor) -> Tensor:
        for _, module in self._items(MODULE):
            input = module(input)
        return input

    def __add__(self, other: Iterable[Module]) -> Sequential:
        return Sequential(*self, *iterable("Sequential", "an iterable of modules", other))

    def _slice(self, index: slice) -> Self:
        kept = list(self._modules.items())[index]
        return type(self)({name: module for name, module in kept if module is not None})


class ModuleList(_ModuleSequence[M]):
    """A list of modules, which are its children. It has no `forward`."""

    def __init__(self, modules: Iterable[M] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def __add__(self, other: Iterable[M]) -> ModuleList[M]:
        return ModuleList([*self, *iterable("ModuleList", "an iterable of modules", other)])

    def _slice(self, index: slice) -> Self:
        return type(self)(list(self)[index])

    def __repr__(self) -> str:
        """Print equal neighbours as one line: `(0-11): 12 x Block(...)`."""
        groups: list[tuple[int, int, str]] = []
        for place, text in enumerate(repr(module) for module in self):
            if groups and groups[-1][2] == text:
                groups[-1] = (groups[-1][0], place, text)
            else:
                groups.append((place, place, text))
        lines = [
            f"({first}): {indent(text)}"
            if first == last
            else f"({first}-{last}): {last - first + 1} x {indent(text)}"
            for first, last, text in groups
        ]
        return format_module(self._get_name(), "", lines)


T = TypeVar("T")


class _Dictionary(Module, Generic[T]):
    """Base of ModuleDict and ParameterDict: members with names that the user gives."""

    def _names(self) -> list[str]:
        """The members' names, in order."""
        raise NotImplementedError

    def _set(self, key: str, value: T) -> None:
        raise NotImplementedError

    def __getitem__(self, key: str) -> T:
        if key not in self:
            raise KeyError(key)
        return cast(T, self.__dict__[key])

    def __setitem__(self, key: str, value: T) -> None:
        name = type(self).__name__
        if not isinstance(key, str):
            raise TypeMismatch(sentence(name, "a string as key", repr(key)))
        if key not in self and hasattr(self, key):
            raise KeyError(f"{name}: {key!r} is the name of one of its attributes")
        self._set(key, value)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._names())

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __contains__(self, key: object) -> bool:
        raise NotImplementedError

    def keys(self) -> Iterable[str]:
        return self._names()

    def values(self) -> Iterable[T]:
        return [self.__dict__[key] for key in self._names()]

    def items(self) -> Iterable[tuple[str, T]]:
        return [(key, self.__dict__[key]) for key in self._names()]

    def get(self, key: str, default: T | None = None) -> T | None:
        return self.__dict__[key] if key in self else default

    def pop(self, key: str) -> T:
        """Remove and return one member."""
        value = self[key]
        del self[key]
        return value

    def clear(self) -> None:
        for key in self:
            del self[key]

    def update(self, members: Mapping[str, T] | _Dictionary[T] | Iterable[tuple[str, T]]) -> None:
        """Add all members of a dict or of (name, member) pairs."""
        pairs: Any = members
        if isinstance(members, (Mapping, _Dictionary)):
            pairs = members.items()
        name = type(self).__name__
        for pair in iterable(name, "a dict or (name, member) pairs", pairs):
            if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
                kind = ArgumentError if isinstance(pair, (tuple, list)) else TypeMismatch
                raise kind(sentence(name, "(name, member) pairs", repr(pair)))
            self[pair[0]] = pair[1]


class ModuleDict(_Dictionary[M]):
    """A dict of modules, which are its children. It has no `forward`.

    Children that were added in another way (as attributes) are members, too.
    """

    def __init__(
        self, modules: Mapping[str, M] | ModuleDict[M] | Iterable[tuple[str, M]] | None = None
    ) -> None:
        super().__init__()
        if modules is not None:  # a subclass's `update` may need attributes that it sets later
            self.update(modules)

    def _names(self) -> list[str]:
        return [name for name, kind in self._registry.items() if kind == MODULE]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._registry.get(key) == MODULE

    def _set(self, key: str, value: M) -> None:
        self.add_module(key, value)


class ParameterDict(_Dictionary[Tensor]):
    """A dict of parameters, which belong to the module. Tensors become parameters; other values are
    stored as they are."""

    def __init__(
        self,
        parameters: Mapping[str, Tensor]
        | ParameterDict
        | Iterable[tuple[str, Tensor]]
        | None = None,
    ) -> None:
        super().__init__()
        self._keys: dict[str, None] = {}
        if parameters is not None:
            self.update(parameters)

    def _names(self) -> list[str]:
        return list(self._keys)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in self._keys

    def _set(self, key: str, value: Tensor) -> None:
        value = _as_parameter(value)
        if isinstance(value, Parameter):
            self.register_parameter(key, value)
        else:
            setattr(self, key, value)
        self._keys[key] = None

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._keys.pop(name, None)

    def setdefault(self, key: str, default: Tensor | None = None) -> Tensor:
        """Return the value of `key`, after setting it to `default` if there is none."""
        if key not in self:
            self[key] = cast(Tensor, default)
        return self[key]

    def popitem(self) -> tuple[str, Tensor]:
        """Remove and return the (name, value) that was added last."""
        if not self._keys:
            raise KeyError("ParameterDict: popitem of an empty one")
        key = next(reversed(self._keys))
        return key, self.pop(key)

    def copy(self) -> ParameterDict:
        """Return another dict of the same parameters."""
        return ParameterDict(self)

    def fromkeys(self, keys: Iterable[str], default: Tensor | None = None) -> ParameterDict:
        """Return a dict with `default` for each of `keys`."""
        return ParameterDict((key, cast(Tensor, default)) for key in keys)

    def __or__(self, other: Mapping[str, Tensor] | ParameterDict) -> ParameterDict:
        joined = self.copy()
        joined.update(other)
        return joined

    def __ror__(self, other: Mapping[str, Tensor]) -> ParameterDict:
        return ParameterDict(other) | self

    def __ior__(self, other: Mapping[str, Tensor] | ParameterDict) -> Self:
        self.update(other)
        return self

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._names())

    def extra_repr(self) -> str:
        return "\n".join(f"  ({key}): {_describe(value)}" for key, value in self.items())


class ParameterList(Module):
    """A list of parameters, which belong to the module. Tensors become parameters; other values are
    stored as they are."""

    def __init__(self, values: Iterable[Tensor] | None = None) -> None:
        super().__init__()
        self._size = 0
        if values is not None:
            self.extend(values)

    @overload
    def __getitem__(self, index: int) -> Parameter: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Parameter | Self:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return cast(Parameter, self.__dict__[self._key(index)])

    def __setitem__(self, index: int, value: Tensor) -> None:
        setattr(self, self._key(index), _as_parameter(value))

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Parameter]:
        return iter([self.__dict__[str(place)] for place in range(self._size)])

    def __iadd__(self, values: Iterable[Tensor]) -> Self:
        return self.extend(values)

    def append(self, value: Tensor) -> Self:
        """Add a parameter, or any other value, at the end."""
        setattr(self, str(self._size), _as_parameter(value))
        self._size += 1
        return self

    def extend(self, values: Iterable[Tensor]) -> Self:
        """Add parameters at the end."""
        for value in iterable("ParameterList", "an iterable of tensors", values):
            self.append(value)
        return self

    def _key(self, index: int) -> str:
        index = position("ParameterList", index)
        if not -self._size <= index < self._size:
            raise IndexOutOfRange(
                f"ParameterList: index {index} is out of range for {self._size} parameters"
            )
        return str(index % self._size)

    def extra_repr(self) -> str:
        return "\n".join(f"  ({place}): {_describe(value)}" for place, value in enumerate(self))


def _as_parameter(value: Tensor) -> Tensor:
    becomes_parameter = isinstance(value, Tensor) and not isinstance(value, Parameter)
    return Parameter(value) if becomes_parameter else value


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        kind = "Parameter" if isinstance(value, Parameter) else "Tensor"
        size = "x".join(str(length) for length in value.shape)
        where = "" if str(value.device) == "cpu" else f" ({value.device})"
        return f"{kind} containing: [{value.dtype} of size {size}{where}]"
    return f"Object of type: {type(value).__name__}"

"""The members of a module: parameters, buffers and child modules, by name.

They are plain instance attributes, so reading `self.weight` costs no more than reading any
attribute. A registry (`name -> kind`) lists these attributes, in the order in which they were set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, cast

from gradient import absent
from gradient.autograd.foreign import Operand
from gradient.errors import ArgumentError, TypeMismatch, sentence
from gradient.nn.parameter import Buffer, Parameter
from gradient.nn.registration import BUFFER, HOOKS, MODULE, PARAMETER, registered
from gradient.nn.structure import changes
from gradient.tensor import Tensor

if TYPE_CHECKING:
    from gradient.nn.module import Module


def _ask_for_members(self: Any, name: str) -> Any:
    """`__getattribute__` of classes with their own `__getattr__`, which is called for members."""
    registry = object.__getattribute__(self, "__dict__").get("_registry", ())
    if name in registry and not hasattr(type(self), name):
        return type(self).__getattr__(self, name)
    return object.__getattribute__(self, name)


class Members:
    """The methods of `nn.Module` for its tree: members, iteration, dotted paths."""

    _registry: dict[str, str]
    _non_persistent: set[str]

    # ---- attributes -------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        changes.count += 1
        registry = self.__dict__.get("_registry")
        kind = _kind_of(value)
        if registry is None:
            if kind is not None:
                raise self._too_early(name, kind)
        elif kind is not None and (kind, registry.get(name)) != (MODULE, PARAMETER):
            # A module cannot replace a parameter, as in PyTorch: that is refused below.
            if kind is PARAMETER and type(self).register_parameter is not REGISTER:
                # A class, or a program, has replaced the method.
                if registry.get(name) != kind and name in self.__dict__:
                    delattr(self, name)
                self.register_parameter(name, value)
                return
            if HOOKS[kind]:
                value = registered(kind, self, name, value)
            self._register(name, kind)
            if kind is BUFFER and not value.persistent:
                self._non_persistent.add(name)
        elif name in registry and not _fits(registry[name], value):
            raise TypeMismatch(
                f"{type(self).__name__}.{name} is a {registry[name]}: expected "
                f"{_EXPECTED[registry[name]]} or None, got {type(value).__name__}"
            )
        elif name in registry and HOOKS[registry[name]]:
            value = registered(registry[name], self, name, value)
        object.__setattr__(self, name, value)

    if not TYPE_CHECKING:  # else every name would pass for an attribute

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError. A class that overrides it, and then is also called for members,
            gets these by `super().__getattr__`."""
            if name in self.__dict__:
                return self.__dict__[name]
            hint = absent.hint_of(type(self), name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}")

        def __init_subclass__(cls, **options: Any) -> None:
            """Call a class's own `__getattr__` for members, too. In PyTorch these are not plain
            attributes, so libraries (Pyro) override it to see each parameter that is read."""
            super().__init_subclass__(**options)
            own = cls.__getattr__ is not Members.__getattr__
            if own and cls.__getattribute__ is object.__getattribute__:
                cls.__getattribute__ = _ask_for_members

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copied or pickled module. It is defined so that no `__getattr__` is called for
        it before there are attributes."""
        self.__dict__.update(state)

    def __delattr__(self, name: str) -> None:
        changes.count += 1
        object.__delattr__(self, name)
        self._registry.pop(name, None)
        self._non_persistent.discard(name)

    def __dir__(self) -> list[str]:
        return [name for name in object.__dir__(self) if not name[0].isdigit()]

    def _too_early(self, name: str, kind: str) -> AttributeError:
        return AttributeError(
            f"cannot set the {kind} {name!r} of {type(self).__name__} "
            "before super().__init__() was called"
        )

    def _register(self, name: str, kind: str) -> None:
        """Enter `name` in the registry; a name that changes its kind moves to the end."""
        if self._registry.get(name) != kind:
            self._registry.pop(name, None)
            self._registry[name] = kind
        self._non_persistent.discard(name)

    def _add(self, name: str, kind: str, value: Any) -> None:
        """Check and set a member: for register_parameter, register_buffer and add_module."""
        if "_registry" not in self.__dict__:
            raise self._too_early(name, kind)
        if not isinstance(name, str):
            raise TypeMismatch(f"the name of a {kind} should be a string, got {name!r}")
        if "." in name or not name:
            problem = "is empty" if not name else "contains a dot"
            raise KeyError(
                f"the name of a {kind} may not be empty or contain a dot: {name!r} {problem}"
            )
        if hasattr(self, name) and self._registry.get(name) != kind:
            raise KeyError(f"{type(self).__name__} already has an attribute {name!r}")
        if value is not None and not _fits(kind, value):
            raise TypeMismatch(
                f"{kind} {name!r}: expected {_EXPECTED[kind]} or None, got {type(value).__name__}"
            )
        if HOOKS[kind]:
            value = registered(kind, self, name, value)
        self._register(name, kind)
        changes.count += 1
        object.__setattr__(self, name, value)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter; None reserves the name for a parameter that this module lacks."""
        self._add(name, PARAMETER, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that moves with the module, is saved if `persistent`, and is not trained."""
        self._add(name, BUFFER, tensor)
        if not persistent:
            self._non_persistent.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child module under a name made at run time."""
        self._add(name, MODULE, module)

    register_module = add_module

    def _items(self, kind: str) -> list[tuple[str, Any]]:
        """Own members of one kind with their names, None included."""
        values = self.__dict__
        return [(name, values[name]) for name, its in self._registry.items() if its == kind]

    @property
    def _parameters(self) -> OfKind:
        """This module's own parameters."""
        return OfKind(self, PARAMETER)

    @property
    def _buffers(self) -> OfKind:
        """This module's own buffers."""
        return OfKind(self, BUFFER)

    @property
    def _modules(self) -> OfKind:
        """This module's own children."""
        return OfKind(self, MODULE)

    @property
    def _non_persistent_buffers_set(self) -> set[str]:
        """The names of the buffers that are not saved, by PyTorch's name for them."""
        return self._non_persistent

    # ---- walking the tree -------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Own child modules with their names, each once."""
        seen: set[int] = set()
        for name, module in self._items(MODULE):
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        for _, module in self.named_children():
            yield module

    def named_modules(
        self, memo: set[int] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module (under the name `prefix`) and all below it, parents before children."""
        memo = set() if memo is None else memo
        if id(self) in memo:
            return
        if remove_duplicate:
            memo.add(id(self))
        yield prefix, cast("Module", self)
        for name, module in self._items(MODULE):
            if module is not None:
                yield from module.named_modules(memo, _join(prefix, name), remove_duplicate)

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def _named_members(
        self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = (
            self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
            if recurse
            else [(prefix, self)]
        )
        for path, module in modules:
            for name, value in module._items(kind):
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield _join(path, name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Parameters with their dotted names; a shared one comes once, under its first name."""
        return self._named_members(PARAMETER, prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Buffers with their dotted names, persistent or not."""
        return self._named_members(BUFFER, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> Module:
        """Return the module at a dotted path; "" is this one. Raises AttributeError if it does not
        exist."""
        module: Any = self
        for step in target.split(".") if target else ():
            if not hasattr(module, step):
                raise AttributeError(f"{type(module).__name__} has no attribute `{step}`")
            module = getattr(module, step)
            if not isinstance(module, Members):
                raise AttributeError(f"`{step}` is not an nn.Module")
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Set the module at a dotted path, which must have a module already if `strict`."""
        path, _, name = target.rpartition(".")
        if not isinstance(module, Members):
            got = type(module).__name__
            raise ArgumentError(sentence("set_submodule", "an nn.Module", got))
        if not name:
            raise ArgumentError(
                "set_submodule: expected a path such as 'layers.0', got an empty one"
            )
        if strict:
            self.get_submodule(target)
        setattr(self.get_submodule(path), name, module)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path."""
        return self._get_member(target, Parameter, "an nn.Parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a dotted path."""
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if hasattr(module, name) and module._registry.get(name) != BUFFER:
            raise AttributeError(f"`{name}` is not a buffer")
        return self._get_member(target, Tensor, "a buffer")

    def _get_member(self, target: str, kind: type, article: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
        value = getattr(module, name)
        if not isinstance(value, kind):
            raise AttributeError(f"`{name}` is not {article}")
        return value


class OfKind(MutableMapping[str, Any]):
    """A module's own members of one kind, by name: a dict in PyTorch, here a view of the module.

    Values that are set are not checked, and no hook is called.
    """

    def __init__(self, module: Members, kind: str) -> None:
        self._module, self._kind = module, kind

    def __getitem__(self, name: str) -> Any:
        if self._module._registry.get(name) != self._kind:
            raise KeyError(name)
        return self._module.__dict__[name]

    def __setitem__(self, name: str, value: Any) -> None:
        changes.count += 1
        if name not in self:
            self._module._register(name, self._kind)
        self._module.__dict__[name] = value

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        Members.__delattr__(self._module, name)  # an override may call this method

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, _ in self._module._items(self._kind)])

    def __len__(self) -> int:
        return len(self._module._items(self._kind))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._module._registry.get(name) == self._kind

    def __repr__(self) -> str:
        return repr(self.copy())

    def copy(self) -> dict[str, Any]:
        return dict(self._module._items(self._kind))


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


REGISTER: Callable[[Members, str, Parameter | None], None] = Members.register_parameter

_CLASSES: dict[str, Any] = {PARAMETER: Parameter, BUFFER: (Tensor, Operand), MODULE: Members}
_EXPECTED = {PARAMETER: "an nn.Parameter", BUFFER: "a tensor", MODULE: "an nn.Module"}


def _kind_of(value: Any) -> str | None:
    """The kind of member that an attribute becomes when it is set to `value`, or None. (A plain
    tensor does not become a buffer.)"""
    if isinstance(value, Parameter):
        return PARAMETER
    if isinstance(value, Buffer):
        return BUFFER
    if isinstance(value, Members):
        return MODULE
    return None


def _fits(kind: str, value: Any) -> bool:
    """Whether a member of this kind may have this value."""
    if value is None:
        return True
    return isinstance(value, _CLASSES[kind])

"""Parametrizations: attributes of a module that are functions of parameters.

register_parametrization(layer, "weight", Symmetric())
layer.weight                      # Symmetric()(layer.parametrizations.weight.original)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from gradient import absent
from gradient.autograd import no_grad
from gradient.errors import ArgumentError, sentence
from gradient.nn.containers import ModuleDict, ModuleList
from gradient.nn.module import Module
from gradient.nn.parameter import Parameter
from gradient.nn.registration import PARAMETER
from gradient.tensor import Tensor

__all__ = [
    "ParametrizationList",
    "cached",
    "is_parametrized",
    "register_parametrization",
    "remove_parametrizations",
    "type_before_parametrizations",
]


class _Cache:
    """The values of parametrized tensors inside `cached()`, by the id of their
    `ParametrizationList`. As in PyTorch, it is one for all threads."""

    depth = 0
    values: dict[int, Tensor] = {}


@contextmanager
def cached() -> Iterator[None]:
    """A context in which each parametrized tensor is computed once, at its first use."""
    _Cache.depth += 1
    try:
        yield
    finally:
        _Cache.depth -= 1
        if not _Cache.depth:
            _Cache.values = {}


class ParametrizationList(ModuleList[Module]):
    """The parametrizations of one tensor, applied in order to the parameter `original`; or, if the
    `right_inverse` of the first one returns several tensors, to `original0`, `original1` ..."""

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        super().__init__(modules)
        self.unsafe = unsafe
        trained = isinstance(original, Parameter)
        parts: Any = original
        with no_grad():
            for module in reversed(list(self)):
                if hasattr(module, "right_inverse"):
                    with suppress(NotImplementedError):
                        parts = module.right_inverse(parts)
        self.is_tensor = isinstance(parts, Tensor)
        self.ntensors = 1 if self.is_tensor else len(parts)
        for name, part in zip(self._names(), [parts] if self.is_tensor else parts, strict=True):
            if trained:
                value = original if part is original else Parameter(part.detach())
                self.register_parameter(name, value)
            else:
                self.register_buffer(name, part)
        if not unsafe:
            self._check(original)

    def _names(self) -> list[str]:
        return ["original"] if self.is_tensor else [f"original{i}" for i in range(self.ntensors)]

    def _check(self, original: Tensor) -> None:
        with no_grad():
            made = self()
        if not isinstance(made, Tensor):
            got = type(made).__name__
            raise ArgumentError(sentence("register_parametrization", "a Tensor as result", got))
        for what in ("dtype", "shape"):
            if getattr(made, what) != getattr(original, what):
                expected = f"a result of the tensor's {what} {getattr(original, what)}"
                got = getattr(made, what)
                fix = "pass unsafe=True if it may change"
                raise ArgumentError(sentence("register_parametrization", expected, got, fix))

    def right_inverse(self, value: Tensor) -> None:
        """Set the original tensors such that the parametrized tensor is `value`."""
        with no_grad():
            parts: Any = value
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise ArgumentError(
                        f"{type(module).__name__} has no right_inverse, so the tensor that it "
                        "parametrizes cannot be assigned to: define one"
                    )
                parts = module.right_inverse(parts)
            for name, part in zip(self._names(), [parts] if self.is_tensor else parts, strict=True):
                own = getattr(self, name)
                if own.shape == part.shape:
                    own.copy_(part)
                else:
                    own.data = part

    def forward(self) -> Any:
        first, *others = self
        value = first(*(getattr(self, name) for name in self._names()))
        for module in others:
            value = module(value)
        return value


def _value(module: Any, name: str) -> Tensor:
    functions = module.parametrizations[name]
    if not _Cache.depth:
        return functions()
    key = id(functions)
    if key not in _Cache.values:
        _Cache.values[key] = functions()
    return _Cache.values[key]


def _parametrized_class(kind: Any) -> type:
    """Return a subclass of `kind`, for a module with parametrized tensors, to which properties for
    these are added."""

    def set_attribute(self: Any, name: str, value: Any) -> None:
        if is_parametrized(self, name):
            self.parametrizations[name].right_inverse(value)
        else:
            kind.__setattr__(self, name, value)

    members = {"__setattr__": set_attribute, "_before": kind}
    return type(f"Parametrized{kind.__name__}", (kind,), members)


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Replace a parameter or buffer of a module by a function of it, computed at each use.

    The tensor moves to `module.parametrizations[tensor_name].original`. If `parametrization` has a
    method `right_inverse`, what it returns for the tensor is stored there instead. Parametrizations
    of a tensor that has some already are applied after these.

    Args:
        parametrization: a module whose `forward` computes the tensor from the stored one.
        unsafe: let the result have another shape or dtype than the tensor.

    Raises:
        ArgumentError: there is no parameter or buffer of this name, or the result has another shape
            or dtype.
    """
    if is_parametrized(module, tensor_name):
        functions = _parametrizations(module)[tensor_name]
        current = functions()
        made = parametrization(current)
        if not unsafe and (made.shape != current.shape or made.dtype != current.dtype):
            expected = f"a result of shape {tuple(current.shape)} and {current.dtype}"
            got = f"{tuple(made.shape)} and {made.dtype}"
            raise ArgumentError(sentence("register_parametrization", expected, got))
        functions.append(parametrization)
        return module
    kind = module._registry.get(tensor_name)
    original = getattr(module, tensor_name, None)
    if kind is None or not isinstance(original, Tensor):
        expected = f"a parameter or buffer {tensor_name!r} of {type(module).__name__}"
        raise ArgumentError(sentence("register_parametrization", expected, "none"))
    functions = ParametrizationList([parametrization], original, unsafe)
    functions.train(module.training)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        module.__class__ = _parametrized_class(type(module))
        module.add_module("parametrizations", ModuleDict())
    name = tensor_name
    setattr(type(module), name, property(lambda self: _value(self, name)))
    _parametrizations(module)[name] = functions
    return module


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Return whether a module, or one tensor of it, is parametrized."""
    found = vars(module).get("parametrizations")
    if not isinstance(found, ModuleDict):
        return False
    return bool(len(found)) if tensor_name is None else tensor_name in found


def _parametrizations(module: Any) -> Any:
    """The `ModuleDict` that a parametrized module has."""
    return module.parametrizations


def remove_parametrizations(
    module: Module, tensor_name: str, leave_parametrized: bool = True
) -> Module:
    """Make a parametrized tensor a plain parameter or buffer again.

    Args:
        leave_parametrized: keep its present value; False restores the original tensor.

    Raises:
        ArgumentError: the tensor is not parametrized, or has several originals to restore.
    """
    if not is_parametrized(module, tensor_name):
        expected = f"a module whose {tensor_name!r} has parametrizations"
        raise ArgumentError(sentence("remove_parametrizations", expected, type(module).__name__))
    container = _parametrizations(module)
    functions = container[tensor_name]
    if not leave_parametrized and not functions.is_tensor:
        raise ArgumentError(
            "remove_parametrizations: leave_parametrized=False needs one original tensor, and "
            f"{tensor_name!r} has {functions.ntensors}"
        )
    trained = functions._registry[functions._names()[0]] == PARAMETER
    with no_grad():
        value = functions() if leave_parametrized else functions.original
    if functions.is_tensor and trained:  # the same object, which an optimiser may hold
        original = functions.original
        original.data = value.detach()
        value = original
    del container[tensor_name]
    kind: Any = type(module)
    delattr(kind, tensor_name)
    if not len(container):
        delattr(module, "parametrizations")
        module.__class__ = kind._before
    if trained:
        made = value if isinstance(value, Parameter) else Parameter(value.detach())
        module.register_parameter(tensor_name, made)
    else:
        module.register_buffer(tensor_name, value.detach())
    return module


def type_before_parametrizations(module: Module) -> type:
    """Return the class of a module without parametrizations, or that it had before them."""
    kind: Any = type(module)
    return kind._before if is_parametrized(module) else kind


if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)

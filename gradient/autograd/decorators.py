"""The types of `op` and `binary_op`, for type checkers: nothing imports this at run time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, overload

if TYPE_CHECKING:
    from gradient.autograd.variable import Number, Variable
    from gradient.backends import Backend
    from gradient.tensor import Tensor

P = ParamSpec("P")


class Decorator(Protocol):
    """The decorator that `op` returns: the decorated function has no parameter for the backend, and
    takes and returns Tensors."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Backend[Variable], P], Variable]
    ) -> Callable[P, Tensor]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Backend[Variable], P], list[Variable]]
    ) -> Callable[P, list[Tensor]]: ...
    @overload
    def __call__(
        self,
        function: Callable[Concatenate[Backend[Variable], P], tuple[Variable, dict[str, Variable]]],
    ) -> Callable[P, Tensor]: ...
    @overload
    def __call__(
        self,
        function: Callable[
            Concatenate[Backend[Variable], P], tuple[list[Variable], dict[str, Variable]]
        ],
    ) -> Callable[P, list[Tensor]]: ...


class BoundBinary(Protocol[P]):
    """A tensor's method with another operand."""

    def __call__(self, other: Variable | Number, *args: P.args, **options: P.kwargs) -> Tensor: ...


class Binary(Protocol[P]):
    """A function of two tensors, which is a method in the body of a class."""

    def __call__(
        self, input: Variable | Number, other: Variable | Number, *args: P.args, **options: P.kwargs
    ) -> Tensor: ...

    @overload
    def __get__(self, instance: None, owner: type[Variable]) -> Binary[P]: ...
    @overload
    def __get__(self, instance: Variable, owner: type[Variable]) -> BoundBinary[P]: ...


class BinaryDecorator(Protocol):
    """The decorator that `binary_op` returns."""

    def __call__(
        self, function: Callable[Concatenate[Backend[Variable], Variable, Variable, P], Variable]
    ) -> Binary[P]: ...

"""The part of a tensor that the engine uses: an array, its backend and its node in the graph."""

from __future__ import annotations

import functools
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from gradient.autograd.modes import inference_used, mode
from gradient.errors import AutogradError, TypeMismatch, sentence

if TYPE_CHECKING:
    from gradient.autograd.node import Node
    from gradient.autograd.op import Op
    from gradient.backends import Backend
    from gradient.backends.operators import ArrayOperators
    from gradient.tensor import Tensor
else:
    ArrayOperators = object

Number = bool | int | float | complex
"""A Python number; ops take it like a tensor."""


ViewInfo: TypeAlias = "tuple[Variable, Op | None, dict[str, Any]]"
"""How a view was made: (base, op, options) for `op.function(backend, base.array, **options)`. The
op is None if that was not recorded. (A plain tuple, because each view makes one.)"""


class Variable(ArrayOperators):
    """Base class of `Tensor`. `node` is None if the tensor requires no gradient.

    `view_info` and `views` are None unless tensors share memory (`gradient.tensor.views`).
    `inference` is set only on tensors made under `inference_mode` (`gradient.autograd.inference`),
    `unnoted` only on results of `x.data`, whose in-place changes are not tracked, and `_viewed`
    only on tensors that had a view. The creator of a tensor sets all other slots, as a read of an
    unset slot takes as long as a new tensor.
    """

    __slots__ = (
        "__weakref__", "_grad", "_viewed", "array", "backend", "inference", "node", "unnoted",
        "view_info", "views",
    )  # fmt: skip

    array: Any
    backend: Backend
    _grad: Tensor | None
    inference: bool
    unnoted: bool
    _viewed: bool
    view_info: ViewInfo | None
    node: Node | None
    views: list[Any] | None

    if TYPE_CHECKING:  # for the codes of packed weights, which are never Tensors

        def __lshift__(self, other: Any, /) -> Self: ...
        def __rshift__(self, other: Any, /) -> Self: ...

    def _set_grad(self, value: Any) -> None:
        """Set the gradient; it must have the tensor's shape, dtype and device. (The engine sets
        `_grad`.)"""
        if value is not None:
            if not isinstance(value, Variable):
                raise TypeMismatch(sentence("grad", "a Tensor or None", type(value).__name__))
            for what, own, given in (
                ("shape", tuple(self.array.shape), tuple(value.array.shape)),
                ("dtype", str(self.array.dtype), str(value.array.dtype)),
                ("device", self.backend.device, value.backend.device),
            ):
                if own != given:
                    expected = f"a gradient of the tensor's {what} {own}"
                    raise AutogradError(sentence("grad", expected, given))
        self._grad = value

    if TYPE_CHECKING:

        @property
        def grad(self) -> Tensor | None: ...
        @grad.setter
        def grad(self, value: Tensor | None) -> None: ...
    else:
        grad = property(
            attrgetter("_grad"), _set_grad, doc="The gradient that `backward` accumulated, or None."
        )


# The class of ops' results: `gradient.tensor` sets it to `Tensor`, a subclass of Variable. (Module
# variables, `variable.new_tensor`, are faster to read than class attributes.)
tensor_class: type[Any] = Variable
new_tensor: Callable[[], Any] = functools.partial(object.__new__, tensor_class)
"""Makes a tensor; the caller sets its slots."""


def default_device() -> str:
    """Return the name of the device for new tensors without a `device` argument."""
    return "cpu"


def wrap(array: Any, backend: Backend, node: Node | None = None) -> Tensor:
    """Make a tensor of an array, without a copy."""
    out = new_tensor()
    out.array = array
    out.backend = backend
    out.node = node
    out._grad = out.view_info = out.views = None
    if inference_used and mode.inference:
        out.inference = True
    return out

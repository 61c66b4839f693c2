"""What the engine knows of a tensor: an array, its backend, and the node that made it."""

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
"""A Python number, which ops take beside tensors."""


ViewInfo: TypeAlias = "tuple[Variable, Op | None, dict[str, Any]]"
"""How a view was taken: (base, op, options), by `op.function(backend, base.array, **options)`; the
op is None where that was not recorded. (A plain tuple, as each view makes one.)"""


class Variable(ArrayOperators):
    """Base of `Tensor`. `node` is None where no gradient is wanted.

    `view_info` and `views` are None but where tensors share memory (`gradient.tensor.views`);
    `inference` is set where memory was made under `inference_mode` alone (see
    `gradient.autograd.inference`), and `unnoted` of what `x.data` gives, by which writes are not
    noted for backward passes. Who makes a tensor sets all others: to read a slot that is not set
    takes as long as to make the tensor.
    """

    __slots__ = (
        "__weakref__", "_grad", "array", "backend", "inference", "node", "unnoted", "view_info",
        "views",
    )  # fmt: skip

    array: Any
    backend: Backend
    _grad: Tensor | None
    inference: bool
    unnoted: bool
    view_info: ViewInfo | None
    node: Node | None
    views: list[Any] | None

    if TYPE_CHECKING:  # of the codes of packed weights, which are never Tensors

        def __lshift__(self, other: Any, /) -> Self: ...
        def __rshift__(self, other: Any, /) -> Self: ...

    def _set_grad(self, value: Any) -> None:
        """Assign a gradient, which must be like the tensor. (The engine sets `_grad`.)"""
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
        grad = property(attrgetter("_grad"), _set_grad, doc="What `backward` accumulated, or None.")


# What ops give: the subclass of Variable that a higher rung sets here, `Tensor`. (Variables of a
# module, `variable.new_tensor`, are found sooner than those of a class.)
tensor_class: type[Any] = Variable
new_tensor: Callable[[], Any] = functools.partial(object.__new__, tensor_class)
"""Makes a tensor, whose slots are to be set."""


def default_device() -> str:
    """The name of the device on which tensors are made, unless an argument says it."""
    return "cpu"


def wrap(array: Any, backend: Backend, node: Node | None = None) -> Tensor:
    """A tensor around an array, without copying."""
    out = new_tensor()
    out.array = array
    out.backend = backend
    out.node = node
    out._grad = out.view_info = out.views = None
    if inference_used and mode.inference:
        out.inference = True
    return out

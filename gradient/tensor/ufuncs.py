"""NumPy's universal functions on tensors: `np.sin(t)`, `array * t`, `array += t`.

NEP 13 (numpy.org/neps/nep-0013-ufunc-overrides.html) describes NumPy's protocol for this.
"""

from __future__ import annotations

from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient import backends
from gradient.autograd.variable import Variable, wrap

if TYPE_CHECKING:
    from gradient.tensor.core import Tensor

OPERATORS = {
    np.add: ("__add__", "__radd__"),
    np.subtract: ("__sub__", "__rsub__"),
    np.multiply: ("__mul__", "__rmul__"),
    np.true_divide: ("__truediv__", "__rtruediv__"),
    np.floor_divide: ("__floordiv__", "__rfloordiv__"),
    np.remainder: ("__mod__", "__rmod__"),
    np.power: ("__pow__", "__rpow__"),
    np.bitwise_and: ("__and__", "__rand__"),
    np.bitwise_or: ("__or__", "__ror__"),
    np.bitwise_xor: ("__xor__", "__rxor__"),
    np.equal: ("__eq__", "__eq__"),
    np.not_equal: ("__ne__", "__ne__"),
    np.less: ("__lt__", "__gt__"),
    np.less_equal: ("__le__", "__ge__"),
    np.greater: ("__gt__", "__lt__"),
    np.greater_equal: ("__ge__", "__le__"),
}
"""The tensor's methods for each NumPy operator: as the left and as the right operand."""


def call_ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], options: Any) -> object:
    """Return the result of `Tensor.__array_ufunc__`.

    Operators on numbers use our op, with its gradient. Other functions are NumPy's, on the tensors'
    values; their results are new tensors, or `out`. As in PyTorch, they raise for a tensor that
    requires grad.
    """
    numbers = all(isinstance(x, (Variable, np.ndarray, np.generic, Number)) for x in inputs)
    if method == "__call__" and numbers and not options and ufunc in OPERATORS:
        left, right = inputs
        forward, reflected = OPERATORS[ufunc]
        if isinstance(left, Variable):
            return getattr(left, forward)(right)
        return getattr(right, reflected)(left)
    if any(isinstance(out, Variable) for out in options.get("out", ())):
        return NotImplemented
    found = getattr(ufunc, method)(*map(_as_array, inputs), **options)
    if "out" in options or found is None:
        return found
    if isinstance(found, tuple):
        return tuple(map(_as_tensor, found))
    return _as_tensor(found)


def _as_array(x: Any) -> object:
    tensor: Any = x
    return tensor.numpy() if isinstance(x, Variable) else x


def _as_tensor(found: Any) -> Tensor:
    return wrap(np.asarray(found), backends.get("cpu"))

"""Three backends that prove the contract of `gradient.backends.base`.

bare     NumPy arrays and the required methods alone: every composed default runs as written
handle   arrays are opaque handles with a shape, a dtype and operators, as a plugin in another
         process has them: no composed definition, rule or Tensor method may lean on a NumPy method
process  arrays are in the example plugin, another process

The suite runs the op table on each, as devices "bare", "handle" and "process".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient import backends
from gradient.backends import process
from gradient.backends.array_api import ArrayAPIBackend
from gradient.backends.base import Backend
from gradient.backends.recording_backend import OPERATORS, REFLECTED
from gradient.backends.required import RequiredMethods

REQUIRED = tuple(
    name
    for name, method in vars(RequiredMethods).items()
    if callable(method) and not name.startswith("_")
)
"""The methods of `RequiredMethods`: required, or trivial on arrays that are their own."""


class BareBackend(Backend):
    """NumPy arrays; what is not required is inherited from the composed defaults."""

    name = device = "bare"
    xp = np
    _along = ArrayAPIBackend._along


for _name in REQUIRED:
    if _name in vars(ArrayAPIBackend):
        setattr(BareBackend, _name, vars(ArrayAPIBackend)[_name])


class Handle:
    """An opaque array: a shape, a dtype and operators, nothing else."""

    __slots__ = ("_inner",)
    __array_ufunc__ = None

    def __init__(self, inner: Any):
        self._inner = inner

    @property
    def shape(self) -> tuple[int, ...]:
        return self._inner.shape

    @property
    def dtype(self) -> np.dtype:
        return self._inner.dtype

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("a handle is no NumPy array")

    def __bool__(self) -> bool:
        raise TypeError("a handle has no truth value")


def _open(value: Any) -> Any:
    if isinstance(value, Handle):
        return value._inner
    if isinstance(value, (list, tuple)):
        return type(value)(_open(v) for v in value)
    return value


def _operator(function: Any, reflected: bool) -> Any:
    def method(self: Handle, *others: Any) -> Any:
        if any(isinstance(o, np.ndarray) for o in others):
            return NotImplemented
        operands = (self, *others)
        result = function(*map(_open, reversed(operands) if reflected else operands))
        return Handle(np.asarray(result))

    return method


for _name, _function in OPERATORS.items():
    setattr(Handle, f"__{_name}__", _operator(_function, False))
for _name in REFLECTED:
    setattr(Handle, f"__r{_name}__", _operator(OPERATORS[_name], True))


class HandleBackend(Backend):
    """The required methods, each passed on to the bare backend behind the handles."""

    name = device = "handle"

    def __init__(self):
        self._behind = BareBackend()

    def to_numpy(self, x: Any) -> np.ndarray:
        return np.asarray(x._inner)

    def storage(self, x: Any) -> Any:
        array = x._inner
        while isinstance(array.base, np.ndarray):
            array = array.base
        return array

    def is_view(self, x: Any) -> bool:
        return x._inner.base is not None

    def is_view_of(self, x: Any, base: Any) -> bool:
        return self.storage(x) is self.storage(base)

    def detach(self, x: Any) -> Any:
        return x

    def assign(self, x: Any, index: Any, value: Any) -> Any:
        self._behind.assign(x._inner, _open(index), _open(value))
        return x

    def index_add(self, x: Any, index: Any, value: Any) -> Any:
        self._behind.index_add(x._inner, _open(index), _open(value))
        return x

    def put_along(self, x: Any, index: Any, value: Any, axis: int, add: bool) -> Any:
        self._behind.put_along(x._inner, _open(index), _open(value), axis, add)
        return x


def _passed_on(name: str) -> Any:
    def method(self: HandleBackend, *args: Any, **kwargs: Any) -> Any:
        return Handle(np.asarray(getattr(self._behind, name)(*map(_open, args), **kwargs)))

    return method


for _name in REQUIRED:
    if _name not in vars(HandleBackend) and _name != "synchronize":
        setattr(HandleBackend, _name, _passed_on(_name))

process.register("process", process.NUMPY_PLUGIN)
backends.register("bare", lambda index: BareBackend())
backends.register("handle", lambda index: HandleBackend())
PROOFS = ("bare", "handle", "process")

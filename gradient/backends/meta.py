"""The device "meta": arrays with a shape and a dtype, but no values.

    with gradient.device("meta"):
        model = Model(config)          # takes no memory, whatever its size
    model.to_empty(device="cpu")

They are arrays of a plugin (`process`) that does not exist. The client computes all shapes and
dtypes, so every op works, and its messages are dropped. What the host computes from values has a
shape here, too, where it follows from those of the inputs; what needs a value raises an error.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from gradient.backends.process.backend import ProcessBackend
from gradient.backends.process.overrides import OVERRIDES, with_overrides
from gradient.backends.process.protocol import NAMES
from gradient.errors import NoNumbers


class Nobody:
    """A client (`process.client.Client`) that drops its messages."""

    dtypes = frozenset(NAMES.values())

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.new_id = itertools.count(1).__next__
        self.freed: deque[int] = deque(maxlen=0)

    def op(self, *message: Any) -> None:
        """Do nothing: the result is only a handle."""

    def put(self, array: np.ndarray) -> int:
        """Return a handle; the values are dropped."""
        return self.new_id()

    def get(self, *asked: Any) -> NoReturn:
        raise NoNumbers(
            "device 'meta': its tensors have a shape and a dtype, and no data; move a model by "
            "module.to_empty(device=...) or load_state_dict(..., assign=True)"
        )

    def flush(self) -> None:
        """Do nothing: no messages are queued."""

    synchronize = close = flush


class Decompositions:
    """Shapes of decompositions of matrices (..., M, N); `DecompositionDefaults` describes them."""

    zeros: Any
    zeros_like: Any

    def inv(self, x: Any) -> Any:
        return self.zeros_like(x)

    lu = cholesky = cofactor = inv

    def solve(self, a: Any, b: Any) -> Any:
        if a.shape[-1] != b.shape[-2]:
            raise ValueError(f"solve: shapes {a.shape} and {b.shape} do not go together")
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return self.zeros((*batch, *b.shape[-2:]), b.dtype)

    def solve_triangular(self, a: Any, b: Any, lower: bool) -> Any:
        return self.solve(a, b)

    def lu_pivots(self, x: Any) -> Any:
        return self.zeros((*x.shape[:-2], min(x.shape[-2:])), np.dtype(np.int32))

    def det(self, x: Any) -> Any:
        return self.zeros(x.shape[:-2], x.dtype)

    logabsdet = det

    def det_sign(self, x: Any) -> Any:
        return self.zeros(x.shape[:-2], np.result_type(x.dtype, np.float64))

    def eigh(self, x: Any) -> Any:
        return self.zeros(*_stacked(x, x.shape[-1] + 1))

    def eig(self, x: Any) -> Any:
        return self.zeros(*_stacked(x, x.shape[-1] + 1, np.result_type(x.dtype, np.complex64)))

    def svd(self, x: Any) -> Any:
        return self.zeros(*_stacked(x, sum(x.shape[-2:]) + 1))

    def qr(self, x: Any) -> Any:
        return self.zeros(*_stacked(x, sum(x.shape[-2:])))

    def pinv(self, x: Any, atol: float, rtol: float) -> Any:
        return self.zeros((*x.shape[:-2], *x.shape[:-3:-1]), x.dtype)


def _stacked(x: Any, rows: int, dtype: Any = None) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and the dtype of matrices above each other, as many columns as x has at most."""
    return (*x.shape[:-2], rows, min(x.shape[-2:])), x.dtype if dtype is None else dtype


class HostFunctions:
    """Shapes of what the host computes from values."""

    zeros: Any
    asarray: Any

    def of_values(self, function: Callable[..., np.ndarray], *arrays: Any) -> Any:
        """The shape and dtype of the function's result for zeros."""
        return self.asarray(np.asarray(function(*(np.zeros(x.shape, x.dtype) for x in arrays))))

    def gammainc(self, a: Any, x: Any) -> Any:
        return self.zeros(np.broadcast_shapes(a.shape, x.shape), x.dtype)

    gammaincc = gammainc


def open_backend(index: int = 0) -> ProcessBackend:
    """Return the backend of the device "meta"."""
    client: Any = Nobody()
    methods = {"address": _nowhere, "check_true": _unchecked, "has_values": False}
    bases = (Decompositions, HostFunctions, with_overrides(frozenset(OVERRIDES)))
    backend = type("MetaBackend", bases, methods)
    made: ProcessBackend = backend("meta", (), client)
    return made


def _unchecked(self: ProcessBackend, holds: Any, message: str) -> None:
    """Do nothing: there are no values to check."""


def _nowhere(self: ProcessBackend, x: Any) -> int:
    """The address of an array (`Tensor.data_ptr`): 0."""
    return 0

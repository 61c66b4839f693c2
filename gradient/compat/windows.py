"""`signal.windows`: windows of M numbers, symmetric unless `sym=False` makes them periodic.

Each has `dtype` (float32 or float64), `device` and `requires_grad` as creation ops have them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from gradient.autograd.out_argument import creation_op_like
from gradient.dtypes import dtype_of, float32, float64
from gradient.errors import ArgumentError, sentence
from gradient.signal import cosine_sum, kaiser_values, places, triangle
from gradient.tensor import Tensor
from gradient.tensor.arguments import number_of

__all__ = [
    "bartlett",
    "blackman",
    "cosine",
    "exponential",
    "gaussian",
    "general_cosine",
    "general_hamming",
    "hamming",
    "hann",
    "kaiser",
    "nuttall",
]


def _places(caller: str, M: int, sym: bool, dtype: Any, device: Any) -> tuple[Tensor, int, Any]:
    """As `gradient.signal.places`, in one of the dtypes that these windows have."""
    if dtype is not None and dtype_of(dtype) not in (float32, float64):
        raise ArgumentError(sentence(caller, "float32 or float64", dtype_of(dtype)))
    return places(caller, M, not sym, dtype, device, "M")


def _finished(values: Tensor, kind: Any, requires_grad: bool) -> Tensor:
    return values.to(kind).requires_grad_(requires_grad)


class _Window(Protocol):
    def __call__(
        self,
        M: int,
        *,
        sym: bool = True,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool = False,
    ) -> Tensor: ...


def _window(formula: Callable[[Tensor, int], Tensor]) -> _Window:
    """The window whose numbers a function gives, of 0, 1 ... M - 1 and their period."""
    name = formula.__name__

    def window(
        M: int,
        *,
        sym: bool = True,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool = False,
    ) -> Tensor:
        i, n, kind = _places(name, M, sym, dtype, device)
        return _finished(formula(i, n), kind, requires_grad)

    window.__name__ = window.__qualname__ = name
    window.__doc__ = formula.__doc__
    return creation_op_like(window)


@creation_op_like
def general_cosine(
    M: int,
    *,
    a: Iterable[float],
    sym: bool = True,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """a_0 - a_1 cos(2 pi i / n) + a_2 cos(4 pi i / n) ...; n is M - 1, periodic M."""
    weights = [float(number_of("general_cosine", "a", each)) for each in a]
    if not weights:
        raise ArgumentError(sentence("general_cosine", "weights a", "none"))
    i, n, kind = _places("general_cosine", M, sym, dtype, device)
    return _finished(cosine_sum(i, n, weights), kind, requires_grad)


@creation_op_like
def general_hamming(
    M: int,
    *,
    alpha: float = 0.54,
    sym: bool = True,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """alpha - (1 - alpha) cos(2 pi i / n)"""
    alpha = number_of("general_hamming", "alpha", alpha)
    i, n, kind = _places("general_hamming", M, sym, dtype, device)
    return _finished(cosine_sum(i, n, (alpha, 1 - alpha)), kind, requires_grad)


@_window
def hamming(i: Tensor, n: int) -> Tensor:
    """0.54 - 0.46 cos(2 pi i / n)"""
    return cosine_sum(i, n, (0.54, 0.46))


@_window
def hann(i: Tensor, n: int) -> Tensor:
    """(1 - cos(2 pi i / n)) / 2"""
    return cosine_sum(i, n, (0.5, 0.5))


@_window
def blackman(i: Tensor, n: int) -> Tensor:
    """0.42 - 0.5 cos(2 pi i / n) + 0.08 cos(4 pi i / n)"""
    return cosine_sum(i, n, (0.42, 0.5, 0.08))


@_window
def nuttall(i: Tensor, n: int) -> Tensor:
    """Four cosines with the least side lobes (Nuttall 1981)."""
    return cosine_sum(i, n, (0.3635819, 0.4891775, 0.1365995, 0.0106411))


@_window
def bartlett(i: Tensor, n: int) -> Tensor:
    """1 - |2 i / n - 1|"""
    return triangle(i, n)


@_window
def cosine(i: Tensor, n: int) -> Tensor:
    """sin(pi (i + 1/2) / M), periodic with M + 1 for M"""
    return ((i + 0.5) * (math.pi / (n + 1))).sin()


@creation_op_like
def gaussian(
    M: int,
    *,
    std: float = 1.0,
    sym: bool = True,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """exp(-((i - n / 2) / std)^2 / 2)"""
    if number_of("gaussian", "std", std) <= 0:
        raise ArgumentError(sentence("gaussian", "std above 0", std))
    i, n, kind = _places("gaussian", M, sym, dtype, device)
    return _finished((-(((i - n / 2) / std) ** 2) / 2).exp(), kind, requires_grad)


@creation_op_like
def exponential(
    M: int,
    *,
    center: float | None = None,
    tau: float = 1.0,
    sym: bool = True,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """exp(-|i - center| / tau); the centre is n / 2, and can be told of a periodic window."""
    if number_of("exponential", "tau", tau) <= 0:
        raise ArgumentError(sentence("exponential", "tau above 0", tau))
    if sym and center is not None:
        raise ArgumentError(sentence("exponential", "center=None of a symmetric window", center))
    i, n, kind = _places("exponential", M, sym, dtype, device)
    middle = n / 2 if center is None else number_of("exponential", "center", center)
    return _finished((-(i - middle).abs() / tau).exp(), kind, requires_grad)


@creation_op_like
def kaiser(
    M: int,
    *,
    beta: float = 12.0,
    sym: bool = True,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """I0(beta sqrt(1 - (2 i / n - 1)^2)) / I0(beta), with the Bessel function I0"""
    if number_of("kaiser", "beta", beta) < 0:
        raise ArgumentError(sentence("kaiser", "beta of at least 0", beta))
    i, n, kind = _places("kaiser", M, sym, dtype, device)
    return _finished(kaiser_values(i, n, beta), kind, requires_grad)

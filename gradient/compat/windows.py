"""`signal.windows`: windows of M numbers, symmetric unless `sym=False` makes them periodic.

Each has `dtype` (float32 or float64), `device` and `requires_grad` as creation ops have them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

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


def _cosines(
    caller: str, weights: Sequence[float], M: int, sym: bool, dtype: Any, device: Any,
    requires_grad: bool,
) -> Tensor:  # fmt: skip
    i, n, kind = _places(caller, M, sym, dtype, device)
    return _finished(cosine_sum(i, n, weights), kind, requires_grad)


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
    return _cosines("general_cosine", weights, M, sym, dtype, device, requires_grad)


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
    weights = [alpha, 1 - alpha]
    return _cosines("general_hamming", weights, M, sym, dtype, device, requires_grad)


@creation_op_like
def hamming(
    M: int,
    *,
    sym: bool = True,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """0.54 - 0.46 cos(2 pi i / n)"""
    return _cosines("hamming", [0.54, 0.46], M, sym, dtype, device, requires_grad)


@creation_op_like
def hann(
    M: int,
    *,
    sym: bool = True,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """(1 - cos(2 pi i / n)) / 2"""
    return _cosines("hann", [0.5, 0.5], M, sym, dtype, device, requires_grad)


@creation_op_like
def blackman(
    M: int,
    *,
    sym: bool = True,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """0.42 - 0.5 cos(2 pi i / n) + 0.08 cos(4 pi i / n)"""
    return _cosines("blackman", [0.42, 0.5, 0.08], M, sym, dtype, device, requires_grad)


@creation_op_like
def nuttall(
    M: int,
    *,
    sym: bool = True,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Four cosines with the least side lobes (Nuttall 1981)."""
    weights = [0.3635819, 0.4891775, 0.1365995, 0.0106411]
    return _cosines("nuttall", weights, M, sym, dtype, device, requires_grad)


@creation_op_like
def bartlett(
    M: int,
    *,
    sym: bool = True,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """1 - |2 i / n - 1|"""
    i, n, kind = _places("bartlett", M, sym, dtype, device)
    return _finished(triangle(i, n), kind, requires_grad)


@creation_op_like
def cosine(
    M: int,
    *,
    sym: bool = True,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """sin(pi (i + 1/2) / M), periodic with M + 1 for M"""
    i, n, kind = _places("cosine", M, sym, dtype, device)
    return _finished(((i + 0.5) * (math.pi / (n + 1))).sin(), kind, requires_grad)


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

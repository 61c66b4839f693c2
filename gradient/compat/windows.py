"""`signal.windows`: windows of M numbers, symmetric unless `sym=False` makes them periodic.

Each has `dtype` (float32 or float64), `device` and `requires_grad` as creation ops have them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from gradient.autograd.out_argument import creation_op_like
from gradient.dtypes import dtype_of, float32, float64, get_default_dtype
from gradient.errors import ArgumentError, sentence
from gradient.signal import kaiser_window
from gradient.tensor import Tensor
from gradient.tensor.arguments import int_of, number_of
from gradient.tensor.creation import arange

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


class _Window:
    """The places 0 to M - 1 in float64, their period, and the dtype asked for."""

    def __init__(
        self, caller: str, M: int, sym: bool, dtype: Any, device: Any, requires_grad: bool
    ) -> None:
        self.size = int_of(caller, "M", M)
        if self.size < 0:
            raise ArgumentError(sentence(caller, "M of at least 0", M))
        self.dtype = get_default_dtype() if dtype is None else dtype_of(dtype)
        if self.dtype not in (float32, float64):
            raise ArgumentError(sentence(caller, "float32 or float64", self.dtype))
        self.period = self.size if not sym and self.size > 1 else self.size - 1
        self.places = arange(self.size, dtype=float64, device=device)
        self.requires_grad = requires_grad

    def of(self, values: Tensor) -> Tensor:
        """The window of these values; of one number, 1."""
        found = (self.places + 1 if self.size == 1 else values).to(self.dtype)
        return found.requires_grad_() if self.requires_grad else found


def _cosines(caller: str, a: list[float], *given: Any) -> Tensor:
    """a_0 - a_1 cos(2 pi i / n) + a_2 cos(4 pi i / n) ..."""
    window = _Window(caller, *given)
    values = window.places * 0
    for k, weight in enumerate(a):
        turn = window.places * (2 * math.pi * k / max(window.period, 1))
        values = values + (-1) ** k * weight * turn.cos()
    return window.of(values)


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
    window = _Window("bartlett", M, sym, dtype, device, requires_grad)
    return window.of(1 - (window.places * (2 / max(window.period, 1)) - 1).abs())


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
    window = _Window("cosine", M, sym, dtype, device, requires_grad)
    turn = math.pi / max(window.period + 1, 1)
    return window.of(((window.places + 0.5) * turn).sin())


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
    window = _Window("gaussian", M, sym, dtype, device, requires_grad)
    return window.of((-(((window.places - window.period / 2) / std) ** 2) / 2).exp())


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
    window = _Window("exponential", M, sym, dtype, device, requires_grad)
    middle = window.period / 2 if center is None else center
    return window.of((-(window.places - middle).abs() / tau).exp())


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
    window = _Window("kaiser", M, sym, dtype, device, requires_grad)
    return window.of(kaiser_window(window.size, not sym, beta, dtype=float64, device=device))

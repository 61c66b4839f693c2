"""log Gamma and its derivative for positive numbers, of differentiable operations."""

from __future__ import annotations

import math

from gradient.tensor import Tensor

__all__ = [
    "digamma",
    "lbeta",
    "lgamma",
]

SHIFT = 8
"""Stirling's series is used from here on; with the terms below it errs by less than 1e-15."""

STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
"""B_2k / (2k (2k - 1)), of y^(1 - 2k) (Abramowitz and Stegun 1964, 6.1.40)."""


def lgamma(x: Tensor) -> Tensor:
    """log Gamma(x) for x > 0: Stirling's series at x + 8, less log(x (x + 1) ... (x + 7))."""
    y = x + SHIFT
    inverse = 1 / y
    square = inverse * inverse
    series = square * 0 + STIRLING[-1]
    for coefficient in reversed(STIRLING[:-1]):
        series = series * square + coefficient
    large = (y - 0.5) * y.log() - y + (0.5 * math.log(2 * math.pi)) + series * inverse
    for k in range(0, SHIFT, 2):
        large = large - ((x + k) * (x + k + 1)).log()
    return large


def digamma(x: Tensor) -> Tensor:
    """The derivative of log Gamma for x > 0 (Abramowitz and Stegun 1964, 6.3.18)."""
    y = x + SHIFT
    inverse = 1 / y
    square = inverse * inverse
    series = square * 0
    for k in reversed(range(len(STIRLING))):
        series = series * square + STIRLING[k] * (2 * k + 1)
    value = y.log() - 0.5 * inverse - series * square
    for k in range(SHIFT):
        value = value - 1 / (x + k)
    return value


def lbeta(a: Tensor, b: Tensor) -> Tensor:
    """log B(a, b) = log Gamma(a) + log Gamma(b) - log Gamma(a + b)"""
    return lgamma(a) + lgamma(b) - lgamma(a + b)

"""Rows of the op table for special functions. Their references are sums and integrals by the
trapezoidal rule, which is exact to the last digits where it converges exponentially: over a period,
or after a substitution with double exponential decay (Trefethen and Weideman 2014)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.autograd.variable import wrap
from gradient.ops import special
from gradient.testing.row import Row

SHAPE = (3, 4)


def elementwise_row(op: str, run: Any, reference: Any, low: float, high: float, **more: Any) -> Row:
    """An elementwise op of one input."""
    return Row(
        op, run, reference, (SHAPE,), low=low, high=high, empty=((0, 4),), scalar=True, **more
    )


def over_positive(integrand: Callable[[Any], Any], shape: tuple[int, ...]) -> Any:
    """The integral over t > 0 of a function that decays as exp(-t). The function's argument t has
    one axis more than the result, the last."""
    step = 1 / 32
    u = np.arange(-4.5, 4.5, step)
    t = np.exp(u - np.exp(-u))  # to 0 as exp(-exp), and to infinity as exp
    t = t.reshape((1,) * len(shape) + (-1,))
    return (integrand(t) * t * (1 + np.exp(-u))).sum(-1) * step


def polygamma(n: int, x: Any) -> Any:
    """DLMF 5.9.12 and similar: (-1)^(n+1) times the integral of t^n e^-xt / (1 - e^-t)."""
    x = np.asarray(x)
    value = over_positive(lambda t: t**n * np.exp(-x[..., None] * t) / -np.expm1(-t), x.shape)
    return (-1) ** (n + 1) * value


def digamma(x: Any) -> Any:
    """log(x) plus the integral of (1 / t - 1 / (1 - e^-t)) e^-xt."""
    x = np.asarray(x)
    return np.log(x) + over_positive(
        lambda t: (1 / t + 1 / np.expm1(-t)) * np.exp(-x[..., None] * t), x.shape
    )


def zeta(s: float, q: Any) -> Any:
    """1 / Gamma(s) times the integral of t^(s-1) e^-qt / (1 - e^-t)."""
    q = np.asarray(q)
    value = over_positive(
        lambda t: t ** (s - 1) * np.exp(-q[..., None] * t) / -np.expm1(-t), q.shape
    )
    return value / math.gamma(s)


def erfcx(x: Any) -> Any:
    """2 / sqrt(pi) times the integral of exp(-t^2 - 2 x t)."""
    x = np.asarray(x)
    value = over_positive(lambda t: np.exp(-t * (t + 2 * x[..., None])), x.shape)
    return value * 2 / math.sqrt(math.pi)


def bessel_ie(n: int, x: Any) -> Any:
    """The mean of exp(x cos(t) - |x|) cos(n t) over a period."""
    t = np.arange(0, 2 * math.pi, 2 * math.pi / 128)
    x = np.asarray(x)[..., None]
    return (np.exp(x * np.cos(t) - np.abs(x)) * np.cos(n * t)).mean(-1)


def bessel_i(n: int, x: Any) -> Any:
    return np.exp(np.abs(x)) * bessel_ie(n, x)


def gammaincc(a: float, x: Any) -> Any:
    """exp(-x) / Gamma(a) times the integral of (x + t)^(a-1) e^-t."""
    x = np.asarray(x)
    value = over_positive(lambda t: (x[..., None] + t) ** (a - 1) * np.exp(-t), x.shape)
    return np.exp(-x) * value / math.gamma(a)


def each(function: Callable[[float], float]) -> Any:
    return np.vectorize(function, otypes=[float])


def ndtr(x: float) -> float:
    return 0.5 * math.erfc(-x * math.sqrt(0.5))


def ndtri(p: float) -> float:
    """The normal quantile, by bisection."""
    low, high = -9.0, 9.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if ndtr(middle) < p else (low, middle)
    return low


def constant(value: float, tensor: Any) -> Any:
    return wrap(tensor.backend.asarray(np.array(value)), tensor.backend)


ROWS = [
    elementwise_row("lgamma", special.lgamma, each(math.lgamma), 0.2, 4),
    elementwise_row("lgamma", special.lgamma, each(math.lgamma), -1.9, -1.2, note="negative"),
    elementwise_row("digamma", special.digamma, digamma, 0.6, 4),
    elementwise_row(
        "polygamma", lambda x: special.polygamma(x, n=2), lambda x: polygamma(2, x), 0.6, 4
    ),
    elementwise_row(
        "zeta",
        lambda q: special.zeta(2.5, q),
        lambda q: zeta(2.5, q),
        0.6,
        4,
        note="q",
    ),
    elementwise_row(
        "gammainc",
        lambda x: special.gammainc(constant(2.5, x), x),
        lambda x: 1 - gammaincc(2.5, x),
        0.5,
        6,
    ),
    elementwise_row(
        "gammaincc",
        lambda x: special.gammaincc(constant(2.5, x), x),
        lambda x: gammaincc(2.5, x),
        0.5,
        6,
    ),
    elementwise_row(
        "bessel_i", lambda x: special.bessel_i(x, order=0), lambda x: bessel_i(0, x), -2, 2
    ),
    elementwise_row(
        "bessel_i",
        lambda x: special.bessel_i(x, order=1),
        lambda x: bessel_i(1, x),
        -2,
        2,
        note="order=1",
    ),
    elementwise_row(
        "bessel_ie", lambda x: special.bessel_ie(x, order=0), lambda x: bessel_ie(0, x), 0.5, 25
    ),
    elementwise_row(
        "bessel_ie",
        lambda x: special.bessel_ie(x, order=1),
        lambda x: bessel_ie(1, x),
        -3,
        -0.2,
        note="order=1",
    ),
    elementwise_row("erfcx", special.erfcx, erfcx, -1, 3),
    elementwise_row("ndtr", special.ndtr, each(ndtr), -2, 2),
    elementwise_row("log_ndtr", special.log_ndtr, each(lambda x: math.log(ndtr(x))), -4, 2),
    elementwise_row("ndtri", special.ndtri, each(ndtri), 0.001, 0.999),
    elementwise_row("entr", special.entr, lambda x: -x * np.log(x), 0.2, 3),
    Row("xlogy", special.xlogy, lambda a, b: a * np.log(b), (SHAPE, SHAPE), low=0.2, scalar=True),
    Row(
        "xlog1py",
        special.xlog1py,
        lambda a, b: a * np.log1p(b),
        (SHAPE, SHAPE),
        low=0.2,
        scalar=True,
    ),
]

"""Rows of the op table for complex numbers: ops on their parts, and ops of real numbers that
accept them too."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.ops import (
    complex_numbers,
    decompositions,
    elementwise,
    fourier,
    index,
    linalg,
    reduce,
    shape,
)
from gradient.testing.elementwise_rows import elementwise_op, sigmoid
from gradient.testing.matrix_rows import (
    constant_tensor,
    dominant,
    eliminated,
    qr_rows,
    svd_rows,
    with_values,
)
from gradient.testing.row import Row
from gradient.testing.samples import EMPTIES, EMPTY, ONE, PAIR


def unary(op: str, reference: Any, low: float = 0.2, high: float = 0.9, **more: Any) -> Row:
    """An elementwise op of a complex input. (There are no branch cuts in the first quadrant.)"""
    options = {"note": "complex", "empty": EMPTY, "scalar": True, **more}
    run = elementwise_op(op)
    return Row(op, run, reference, ONE, low=low, high=high, kind="complex", **options)


def binary(op: str, reference: Any, low: float = 0.3, high: float = 2.0) -> Row:
    options: dict[str, Any] = {"note": "complex", "empty": EMPTIES, "scalar": True}
    run = elementwise_op(op)
    return Row(op, run, reference, PAIR, low=low, high=high, kind="complex", **options)


def as_parts(x: Any) -> Any:
    return np.stack([x.real, x.imag], -1)


def hermitian(x: Any) -> Any:
    """A positive definite matrix."""
    return x @ x.conj().swapaxes(-1, -2) if isinstance(x, np.ndarray) else x @ x.mH


SPREAD = np.diag([5.0, 10.0, 15.0])
"""What keeps eigenvalues apart, and in their order."""


def spread(x: Any) -> Any:
    return x + (SPREAD if isinstance(x, np.ndarray) else constant_tensor(x, SPREAD))


def eig_row(note: str) -> Row:
    return Row(
        "eig",
        lambda x: elementwise.abs(decompositions.eig(spread(x))),
        lambda x: abs(with_values(*np.linalg.eig(spread(x))[::-1])),
        [(2, 3, 3)],
        note=note,
        kind=note or "double",
        tolerance=256,
    )


def log_det(x: Any) -> Any:
    sign, size = np.linalg.slogdet(x)
    return size + 1j * np.angle(sign)


def matrix_row(op: str, reference: Any) -> Row:
    run = getattr(decompositions, op)
    return Row(op, run, reference, [(2, 3, 3)], note="complex", kind="complex", tolerance=256)


def fourier_row(op: str, note: str, reference: Any, shape: Any, kind: str, **options: Any) -> Row:
    run = getattr(fourier, op)
    return Row(op, lambda x: run(x, **options), reference, [shape], note=note, kind=kind)


ROWS = [
    fourier_row("fft", "last", np.fft.fft, (3, 5), "complex",
                axes=(1,), inverse=False, norm="backward"),
    fourier_row("fft", "inverse of two", lambda x: np.fft.ifftn(x, axes=(0, 2), norm="ortho"),
                (3, 2, 4), "complex", axes=(0, 2), inverse=True, norm="ortho"),
    fourier_row("rfft", "even", np.fft.rfft, (3, 6), "double", axis=1, norm="backward"),
    fourier_row("rfft", "odd", lambda x: np.fft.rfft(x, axis=0, norm="forward"), (5, 2), "double",
                axis=0, norm="forward"),
    fourier_row("irfft", "even", np.fft.irfft, (3, 4), "complex", axis=1, n=6, norm="backward"),
    fourier_row("irfft", "odd", lambda x: np.fft.irfft(x, 5, axis=0, norm="ortho"), (3, 2),
                "complex", axis=0, n=5, norm="ortho"),
    Row("view_as_real", complex_numbers.view_as_real, as_parts, [(3, 4)], kind="complex",
        empty=[(0, 3)], scalar=False),
    Row("view_as_complex", complex_numbers.view_as_complex,
        lambda x: x[..., 0] + 1j * x[..., 1], [(3, 4, 2)], note="float64", low=-1, high=1,
        kind="double", empty=[(0, 2)]),
    Row("from_parts", complex_numbers.from_parts, lambda a, b: a + 1j * b, [(3, 4), (4,)],
        kind="double", empty=[(0, 4), (4,)], scalar=True),
    Row("conj", complex_numbers.conj, np.conj, [(3, 4)], kind="complex", empty=[(0, 3)],
        scalar=True),
    unary("neg", np.negative),
    unary("abs", np.abs, low=-1.0),
    unary("exp", np.exp),
    unary("exp2", np.exp2),
    unary("expm1", np.expm1),
    unary("log", np.log),
    unary("log2", np.log2),
    unary("log10", np.log10),
    unary("log1p", np.log1p),
    unary("sqrt", np.sqrt),
    unary("rsqrt", lambda x: 1 / np.sqrt(x)),
    unary("reciprocal", lambda x: 1 / x),
    unary("sin", np.sin),
    unary("cos", np.cos),
    unary("tan", np.tan),
    unary("asin", np.arcsin),
    unary("acos", np.arccos),
    unary("atan", np.arctan),
    unary("sinh", np.sinh),
    unary("cosh", np.cosh),
    unary("tanh", np.tanh),
    unary("asinh", np.arcsinh),
    unary("acosh", np.arccosh),
    unary("atanh", np.arctanh),
    unary("sigmoid", sigmoid),
    binary("add", np.add),
    binary("sub", np.subtract),
    binary("mul", np.multiply),
    binary("div", np.divide),
    binary("pow", np.power),
    binary("logaddexp", lambda a, b: np.log(np.exp(a) + np.exp(b)), low=0.3, high=1.2),
    Row("logsumexp", lambda x: reduce.logsumexp(x, axis=(0, 1)),
        lambda x: np.log(np.exp(x).sum((0, 1))), [(2, 3, 4)], note="complex", low=0.2, high=1.2,
        kind="complex", empty=[(2, 3, 0)]),
    Row("logcumsumexp", lambda x: reduce.logcumsumexp(x, axis=1),
        lambda x: np.log(np.exp(x).cumsum(1)), [(3, 5)], note="complex", low=0.2, high=1.2,
        kind="complex", empty=[(0, 3)]),
    Row("pow", lambda x: elementwise.pow(x, 1 + 2j), lambda x: x ** (1 + 2j), [(3, 4)],
        note="complex exponent", low=0.3, kind="double"),
    Row("pow", lambda x: elementwise.pow(-2.0, x), lambda x: (-2 + 0j) ** x, [(3, 4)],
        note="negative base", kind="complex"),
    Row("mul", lambda x: elementwise.mul(x, 1j), lambda x: x * 1j, [(3, 4)], note="by i",
        kind="double"),
    Row("matmul", linalg.matmul, np.matmul, [(2, 3, 4), (4, 5)], note="complex", kind="complex"),
    *(matrix_row(op, reference) for op, reference in (("inv", np.linalg.inv),
        ("det", np.linalg.det), ("logabsdet", log_det), ("qr", qr_rows),
        ("cofactor", lambda x: np.linalg.det(x)[:, None, None] * np.linalg.inv(x).mT))),
    Row("solve", decompositions.solve, np.linalg.solve, ((3, 3), (2, 3, 2)), note="complex",
        kind="complex", tolerance=256),
    Row("cholesky", lambda x: decompositions.cholesky(hermitian(x)),
        lambda x: np.linalg.cholesky(hermitian(x)), [(2, 3, 3)], note="complex", kind="complex",
        tolerance=256),
    Row("eigh", lambda x: elementwise.abs(decompositions.eigh(hermitian(x))),
        lambda x: abs(with_values(*np.linalg.eigh(hermitian(x))[::-1])), [(2, 3, 3)],
        note="complex", kind="complex", tolerance=256),
    *(Row("svd", lambda x: elementwise.abs(decompositions.svd(x)), lambda x: abs(svd_rows(x)),
          [size], note=f"complex, {note}", kind="complex", tolerance=256)
      for note, size in (("square", (2, 3, 3)), ("tall", (4, 2)), ("wide", (2, 4)))),
    eig_row(""),
    eig_row("complex"),
    Row("lu", lambda x: decompositions.lu(dominant(x)), eliminated,
        [(2, 3, 3)], note="complex", kind="complex", tolerance=256),
    *(Row("pinv", lambda x: decompositions.pinv(x, atol=0.0, rtol=1e-6), np.linalg.pinv, [size],
          note=f"complex, {note}", kind="complex", tolerance=256)
      for note, size in (("tall", (2, 4, 3)), ("wide", (2, 4)))),
    Row("sum", lambda x: reduce.sum(x, axis=1), lambda x: x.sum(1), [(3, 4)], note="complex",
        kind="complex"),
    Row("mean", reduce.mean, np.mean, [(3, 4)], note="complex", kind="complex"),
    Row("prod", lambda x: reduce.prod(x, axis=1), lambda x: x.prod(1), [(3, 4)], note="complex",
        kind="complex"),
    Row("cumsum", lambda x: reduce.cumsum(x, axis=1), lambda x: x.cumsum(1), [(3, 4)],
        note="complex", kind="complex"),
    Row("cumprod", lambda x: reduce.cumprod(x, axis=1), lambda x: x.cumprod(1), [(3, 4)],
        note="complex", kind="complex"),
    Row("getitem", lambda x: index.getitem(x, index=(slice(None, None, 2), -1)),
        lambda x: x[::2, -1], [(3, 4)], note="complex", kind="complex"),
    Row("concatenate", lambda a, b: shape.concatenate(a, b, axis=0),
        lambda a, b: np.concatenate([a, b]), [(2, 3), (1, 3)], note="complex", kind="complex"),
]  # fmt: skip

"""Rows of the op table for products and decompositions of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.autograd.variable import wrap
from gradient.backends.packed import PackedArray
from gradient.dtypes import q8_0
from gradient.ops import decompositions, elementwise, linalg, shape
from gradient.testing.row import Row
from gradient.testing.samples import constant


def symmetric(x: Any) -> Any:
    """A positive definite matrix."""
    return x @ x.swapaxes(-1, -2) if isinstance(x, np.ndarray) else x @ x.mT


def with_values(matrix: Any, values: Any) -> Any:
    return np.concatenate([matrix, values[..., None, :]], -2)


def svd_rows(x: Any) -> Any:
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    return np.concatenate([with_values(u, s), vh.swapaxes(-1, -2)], -2)


def dominant(x: Any) -> Any:
    """A matrix with a large diagonal, so that elimination exchanges no rows."""
    return x + 6 * np.eye(*x.shape[-2:]) if isinstance(x, np.ndarray) else x + _diagonal(x)


def _diagonal(x: Any) -> Any:
    return constant_tensor(x, 6 * np.eye(*x.shape[-2:]))


def constant_tensor(x: Any, value: np.ndarray) -> Any:
    return wrap(constant(x, value), x.backend)


def eliminated(x: Any) -> Any:
    """L below the diagonal and U on and above it, by inner products (Crout)."""
    out = dominant(x)
    for k in range(min(out.shape[-2:])):
        done = out[..., :k]
        out[..., k, k:] -= (done[..., k, None, :] @ out[..., :k, k:])[..., 0, :]
        out[..., k + 1 :, k] -= (done[..., k + 1 :, :] @ out[..., :k, k, None])[..., 0]
        out[..., k + 1 :, k] /= out[..., k, k, None]
    return out


PIVOTED = np.array([[[1.0, 2.0], [3.0, 4.0], [5.0, -6.0]], [[0.0, 2.0], [0.1, 1.0], [0.0, 4.0]]])


def qr_rows(x: Any) -> Any:
    q, r = np.linalg.qr(x)
    return np.concatenate([q, r.swapaxes(-1, -2)], -2)


def thirds(rows: int) -> np.ndarray:
    """Sizes of three groups with `rows` rows in total; the second is empty."""
    return np.array([rows - rows // 3, 0, rows // 3])


def last(rows: int) -> np.ndarray:
    """Sizes of three groups; the last has all rows."""
    return np.array([0, 0, rows])


def grouped_linear(x: Any, weights: Any, counts: np.ndarray) -> Any:
    which = np.repeat(np.arange(len(weights)), counts)
    return np.einsum("mk,mnk->mn", x, np.stack(weights)[which])


# A packed weight, of numbers that q8_0 represents exactly: 127 is the largest of each block

PACKED = np.linspace(-126, 126, 5 * 64).round().reshape(5, 64) / 64
PACKED[:, ::32] = 127 / 64


def packed(x: Any) -> PackedArray:
    """PACKED as a packed array of x's backend."""
    parts = q8_0.pack(PACKED.astype(np.float32))
    return PackedArray(q8_0, PACKED.shape, tuple(x.backend.asarray(part) for part in parts))


def packed_tensor(x: Any) -> Any:
    return wrap(packed(x), x.backend)


ROWS = [
    *(
        Row(name, getattr(decompositions, name), reference, ((2, 3, 3),), tolerance=256)
        for name, reference in (
            ("inv", np.linalg.inv),
            ("det", np.linalg.det),
            ("logabsdet", lambda x: np.linalg.slogdet(x)[1]),
            ("cofactor", lambda x: np.linalg.det(x)[:, None, None] * np.linalg.inv(x).mT),
            ("svdvals", lambda x: np.linalg.svd(x)[1]),
        )
    ),
    Row(
        "euclidean_distances",
        linalg.euclidean_distances,
        lambda x, y: np.sqrt(((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1)),
        ((3, 4), (2, 5, 4)),
        tolerance=256,
    ),
    Row("solve", decompositions.solve, np.linalg.solve, ((3, 3), (2, 3, 2)), tolerance=256),
    *(
        Row(
            "solve_triangular",
            lambda x, y, lower=lower: decompositions.solve_triangular(
                shape.triangle(dominant(x), lower=lower), y, lower=lower
            ),
            lambda x, y, lower=lower: np.linalg.solve(
                (np.tril if lower else np.triu)(dominant(x)), y
            ),
            ((3, 3), (3, columns)),
            note=note,
            tolerance=256,
        )
        for note, lower, columns in (("lower", True, 2), ("upper", False, 1))
    ),
    *(
        Row(
            name,
            lambda x, op=name: getattr(decompositions, op)(symmetric(x)),
            reference,
            ((2, 3, 3),),
            tolerance=256,
        )
        for name, reference in (
            ("cholesky", lambda x: np.linalg.cholesky(symmetric(x))),
            ("eigh", lambda x: with_values(*np.linalg.eigh(symmetric(x))[::-1])),
            ("eigvalsh", lambda x: np.linalg.eigvalsh(symmetric(x))),
        )
    ),
    *(
        Row("svd", decompositions.svd, svd_rows, (size,), note=note, tolerance=256)
        for note, size in (("", (2, 3, 3)), ("tall", (4, 2)), ("wide", (2, 4)))
    ),
    *(
        Row(
            "lu",
            lambda x: decompositions.lu(dominant(x)),
            eliminated,
            (size,),
            note=note,
            tolerance=256,
        )
        for note, size in (("", (2, 3, 3)), ("tall", (4, 2)), ("wide", (2, 2, 4)))
    ),
    Row(
        "lu_pivots",
        lambda x: decompositions.lu_pivots(elementwise.mul(x, constant_tensor(x, PIVOTED))),
        lambda x: np.array([[2, 1], [1, 2]]),
        ((2, 3, 2),),
        low=1.0,
        high=1.1,
        differentiable=False,
    ),
    Row("qr", decompositions.qr, qr_rows, ((2, 4, 3),), tolerance=256),
    Row(
        "pinv",
        lambda x: decompositions.pinv(x, atol=0.0, rtol=1e-6),
        np.linalg.pinv,
        ((2, 4, 3),),
        tolerance=256,
    ),
    Row("matmul", linalg.matmul, np.matmul, ((3, 4), (4, 2)), empty=((0, 4), (4, 2))),
    Row("matmul", linalg.matmul, np.matmul, ((2, 1, 3, 4), (3, 4, 2)), note="batch"),
    Row(
        "linear",
        linalg.linear,
        lambda x, w, b: x @ w.T + b,
        ((2, 3, 4), (5, 4), (5,)),
        empty=((0, 4), (5, 4), (5,)),
    ),  # fmt: skip
    Row("linear", linalg.linear, lambda x, w: x @ w.T, ((3, 4), (5, 4)), note="no bias"),
    *[
        Row(
            "grouped_linear",
            lambda x, *w, counts=counts: linalg.grouped_linear(
                x, *w, counts=constant(x, counts(x.shape[0]))
            ),
            lambda x, *w, counts=counts: grouped_linear(x, w, counts(x.shape[0])),
            ((7, 4), (5, 4), (5, 4), (5, 4)),
            note=counts.__name__,
            empty=((0, 4), (5, 4), (5, 4), (5, 4)),
        )
        for counts in (thirds, last)
    ],
    *[
        Row(
            op,
            lambda x, op=op: getattr(linalg, op)(x, weight=packed(x)),
            lambda x, w=w: x @ w,
            ((3, n),),
            empty=((0, n),),
            tolerance=64,
        )
        for op, w, n in (("quantized_matmul", PACKED.T, 64), ("quantized_matmul_grad", PACKED, 5))
    ],
    Row(
        "linear",
        lambda x, b: linalg.linear(x, packed_tensor(x), b),
        lambda x, b: x @ PACKED.T + b,
        ((2, 3, 64), (5,)),
        note="packed",
        empty=((0, 64), (5,)),
        tolerance=64,
    ),
    Row(
        "grouped_linear",
        lambda x: linalg.grouped_linear(
            x, *[packed_tensor(x)] * 3, counts=constant(x, thirds(x.shape[0]))
        ),
        lambda x: x @ PACKED.T,
        ((7, 64),),
        note="packed",
        empty=((0, 64),),
        tolerance=64,
    ),
]

"""Softmax, cross-entropy and normalisation by kernels, along the last axis."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradient.backends.array_api import FLOAT32
from gradient.backends.composed.norms import NormDefaults
from gradient.backends.numpy import direct, kernels, threads, workspace
from gradient.backends.numpy.kernels import INT64, contiguous
from gradient.backends.numpy.reductions import sum_of_parts
from gradient.backends.required import Axis, Shape

PICKED = 1 << 12
"""Rows of a chunk, of each of which one number is read."""


def _rows(x: np.ndarray) -> np.ndarray:
    return x.reshape(1, 1)


SOFTMAX = direct.Direct("norms", "softmax", lambda x: (_rows(x), _rows(x)))
LOG_SOFTMAX = direct.Direct("norms", "log_softmax", lambda x: (_rows(x), _rows(x)))
LAYER_NORM = direct.Direct("norms", "layer_norm", lambda x: (_rows(x), x, x, _rows(x), 0.0, x, x))
MEAN_CROSS_ENTROPY = direct.Direct(
    "norms",
    "mean_cross_entropy",
    lambda x: (_rows(x), np.zeros(1, INT64), -100, 0.0, x, x, x, x),
)


class NormKernels(NormDefaults[np.ndarray]):
    """Overrides of `composed.norms`."""

    # Softmax -------------------------------------------------------------------------------------

    def softmax(self, x: np.ndarray, axis: Axis) -> np.ndarray:
        if (kernel := SOFTMAX.of(x)) is not None and axis == x.ndim - 1:
            return _rows_at_once(kernel, x)
        x = workspace.in_rows(x)
        if not _last_of_rows(x, axis):
            return super().softmax(x, axis)
        return _each_row("softmax", x)

    def softmax_grad(self, g: np.ndarray, out: np.ndarray, axis: int) -> np.ndarray:
        if not _last(out, axis, g):
            return super().softmax_grad(g, out, axis)
        return _each_row("softmax_grad", g, out)

    def log_softmax(self, x: np.ndarray, axis: int) -> np.ndarray:
        if (kernel := LOG_SOFTMAX.of(x)) is not None and axis == x.ndim - 1:
            return _rows_at_once(kernel, x)
        x = workspace.in_rows(x)
        if not _last_of_rows(x, axis):
            return super().log_softmax(x, axis)
        return _each_row("log_softmax", x)

    def log_softmax_grad(self, g: np.ndarray, out: np.ndarray, axis: int) -> np.ndarray:
        if not _last(out, axis, g):
            return super().log_softmax_grad(g, out, axis)
        return _each_row("log_softmax_grad", g, out)

    # Cross-entropy -------------------------------------------------------------------------------

    def cross_entropy(
        self, logits: np.ndarray, target: np.ndarray, ignore_index: int, label_smoothing: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not kernels.supports(logits):
            few = None if label_smoothing else _few_losses(logits, target, ignore_index)
            if few is not None:
                return few
            return super().cross_entropy(logits, target, ignore_index, label_smoothing)
        rows, dtype = len(logits), logits.dtype
        loss, high, log_sum = np.empty(rows, dtype), np.empty(rows, dtype), np.empty(rows, dtype)
        given, wrong = (logits, target), np.zeros(1, INT64)
        out = loss, high, log_sum, wrong
        threads.parallel_for(
            *class_launch("cross_entropy", given, ignore_index, label_smoothing, *out)
        )
        self._check_targets(target, logits.shape[1], ignore_index, wrong)
        return loss, high, log_sum

    def mean_cross_entropy(
        self, logits: np.ndarray, target: np.ndarray, ignore_index: int, label_smoothing: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Compute small arrays by one kernel, with the same bits as by several."""
        kernel = MEAN_CROSS_ENTROPY.of(logits)
        if kernel is None or not (
            target.dtype is INT64
            and (target.shape, 2) == (logits.shape[:1], logits.ndim)
            and target.flags.carray
        ):
            return super().mean_cross_entropy(logits, target, ignore_index, label_smoothing)
        rows, dtype = len(target), logits.dtype
        loss, high, log_sum = np.empty(rows, dtype), np.empty(rows, dtype), np.empty(rows, dtype)
        count = np.empty(1, dtype)
        kernel(0, rows, logits, target, ignore_index, label_smoothing, loss, high, log_sum, count)
        counted = count[0]
        if counted < 0:
            self.check_indices(target[target != ignore_index], 1, logits.shape[1])
        return loss[0], counted, high, log_sum

    def mean_of_counted(
        self, x: np.ndarray, target: np.ndarray, ignore_index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Count by a Python number, as casting an array takes longer than counting."""
        if x.dtype not in kernels.FLOATS or target.dtype != INT64:
            return super().mean_of_counted(x, target, ignore_index)
        count = x.dtype.type(np.count_nonzero(target != ignore_index))
        return self.sum(x) / count, count

    def nll(self, x: np.ndarray, target: np.ndarray, ignore_index: int) -> np.ndarray:
        if not kernels.supports(x):
            return super().nll(x, target, ignore_index)
        n, columns = x.shape
        loss, wrong = np.empty(n, x.dtype), np.zeros(1, INT64)
        threads.parallel_for(
            kernels.load("norms").nll, n, PICKED, x, contiguous(target), ignore_index, loss, wrong
        )
        self._check_targets(target, columns, ignore_index, wrong)
        return loss

    def nll_grad(
        self, g: np.ndarray, shape: Shape, target: np.ndarray, ignore_index: int
    ) -> np.ndarray:
        out = np.empty(shape, g.dtype)
        if not kernels.supports(out):
            return super().nll_grad(g, shape, target, ignore_index)
        norms, wrong = kernels.load("norms"), np.zeros(1, INT64)
        threads.parallel_for(
            norms.nll_grad, shape[0], norms.rows_of(shape[1]), contiguous(g), contiguous(target),
            ignore_index, out, wrong,
        )  # fmt: skip
        self._check_targets(target, shape[1], ignore_index, wrong)
        return out

    def cross_entropy_grad(
        self,
        g: np.ndarray,
        logits: np.ndarray,
        target: np.ndarray,
        high: np.ndarray,
        log_sum: np.ndarray,
        ignore_index: int,
        label_smoothing: float,
    ) -> np.ndarray:
        if not kernels.supports(logits, g, high, log_sum):
            if not label_smoothing and logits.size < kernels.MIN_SIZE:
                gx = _grad_of_few(g, logits, target, high, log_sum, ignore_index)
                if gx is not None:
                    return gx
            return super().cross_entropy_grad(
                g, logits, target, high, log_sum, ignore_index, label_smoothing
            )
        gx = workspace.result(logits.shape, logits.dtype)
        given, wrong = (g, logits, target, high, log_sum), np.zeros(1, INT64)
        threads.parallel_for(
            *class_launch("cross_entropy_grad", given, ignore_index, label_smoothing, gx, wrong)
        )
        self._check_targets(target, gx.shape[1], ignore_index, wrong)
        return gx

    def check_targets(self, target: np.ndarray, classes: int, ignore_index: int) -> None:
        """Raise IndexError for a target that is not a class, before anything is computed."""
        if not _are_classes(target, classes, ignore_index):
            self.check_indices(target[target != ignore_index], 1, classes)

    def _check_targets(
        self, target: np.ndarray, classes: int, ignore_index: int, wrong: np.ndarray
    ) -> None:
        """Raise IndexError if the kernel found a target that is not a class."""
        if wrong[0]:
            self.check_indices(target[target != ignore_index], 1, classes)

    # Normalisation over the last axis ------------------------------------------------------------

    def layer_norm(
        self, x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, eps: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        kernel = LAYER_NORM.of(x)
        if kernel is not None and _like_rows(weight, x) and _like_rows(bias, x):
            shape, dtype = x.shape, x.dtype
            number: Any = dtype.type
            y, of_rows = np.empty(shape, dtype), (*shape[:-1], 1)
            mean, rstd = np.empty(of_rows, dtype), np.empty(of_rows, dtype)
            weight = _full(shape[-1], 1, number) if weight is None else weight
            bias = _full(shape[-1], 0, number) if bias is None else bias
            rows, out = (x, y) if x.ndim == 2 else (_2d(x), _2d(y))
            kernel(0, mean.size, rows, weight, bias, out, eps, mean.ravel(), rstd.ravel())
            return y, mean, rstd
        x = workspace.in_rows(x)
        if not kernels.supports_rows(x, weight, bias):
            return super().layer_norm(x, weight, bias, eps)
        norms, shape = kernels.load("norms"), x.shape
        number = _computed_in(x)
        y, of_rows = np.empty(shape, x.dtype), (*shape[:-1], 1)
        mean, rstd = np.empty(of_rows, number), np.empty(of_rows, number)
        given = _2d(x), _or_full(weight, 1, x), _or_full(bias, 0, x), _2d(y)
        if x.itemsize == 2:
            given = tuple(map(kernels.load("half_precision").stored, given))
        threads.parallel_for(
            norms.layer_norm, mean.size, norms.rows_of(shape[-1]), *given, float(eps),
            mean.ravel(), rstd.ravel(),
        )  # fmt: skip
        return y, mean, rstd

    def layer_norm_grad(
        self,
        g: np.ndarray,
        x: np.ndarray,
        weight: np.ndarray | None,
        mean: np.ndarray,
        rstd: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        x = workspace.in_rows(x)
        if not kernels.supports(x, g, weight, mean, rstd):
            return super().layer_norm_grad(g, x, weight, mean, rstd)
        norms = kernels.load("norms")

        n, columns = x.size // x.shape[-1], x.shape[-1]
        chunk = norms.rows_of(columns)
        parts = -(-n // chunk), columns
        gx, gw, gb = np.empty(x.shape, x.dtype), np.empty(parts, x.dtype), np.empty(parts, x.dtype)
        threads.parallel_for(
            norms.layer_norm_grad, n, chunk,
            _2d(g), _2d(x), _or_full(weight, 1, x), mean.ravel(), rstd.ravel(), _2d(gx), gw, gb,
        )  # fmt: skip
        return gx, None if weight is None else sum_of_parts(gw), sum_of_parts(gb)

    def rms_norm(
        self, x: np.ndarray, weight: np.ndarray | None, eps: float, round_first: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        x = workspace.in_rows(x)
        if not kernels.supports_rows(x, weight):
            return super().rms_norm(x, weight, eps, round_first)
        norms, stored = kernels.load("norms"), kernels.load("half_precision").stored

        columns, number = x.shape[-1], _computed_in(x)
        y, rstd = np.empty(x.shape, x.dtype), np.empty((*x.shape[:-1], 1), number)
        scale = np.empty(0, x.dtype) if weight is None else contiguous(weight)
        threads.parallel_for(
            norms.rms_norm, x.size // columns, norms.rows_of(columns), stored(_2d(x)),
            stored(scale), stored(_2d(y)), float(eps), bool(round_first), rstd.ravel(),
        )  # fmt: skip
        return y, rstd

    def rms_norm_grad(
        self, g: np.ndarray, x: np.ndarray, weight: np.ndarray | None, rstd: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        x = workspace.in_rows(x)
        if not kernels.supports(x, g, weight, rstd):
            return super().rms_norm_grad(g, x, weight, rstd)
        norms = kernels.load("norms")

        n, columns = x.size // x.shape[-1], x.shape[-1]
        chunk = norms.rows_of(columns)
        gx, gw = np.empty(x.shape, x.dtype), np.empty((-(-n // chunk), columns), x.dtype)
        threads.parallel_for(
            norms.rms_norm_grad, n, chunk,
            _2d(g), _2d(x), _or_full(weight, 1, x), rstd.ravel(), _2d(gx), gw,
        )  # fmt: skip
        return gx, None if weight is None else sum_of_parts(gw)


def _last(x: np.ndarray, axis: Axis, *others: np.ndarray | None) -> bool:
    return kernels.supports(x, *others) and axis in (-1, x.ndim - 1)


def _last_of_rows(x: np.ndarray, axis: Axis) -> bool:
    return axis in (-1, x.ndim - 1) and x.itemsize > 2 and kernels.supports_rows(x)


def _like_rows(vector: np.ndarray | None, x: np.ndarray) -> bool:
    """Whether a weight or bias is one that `Direct` takes beside `x`."""
    return vector is None or (
        vector.dtype is x.dtype and vector.shape == x.shape[-1:] and vector.flags.carray
    )


def _rows_at_once(kernel: Callable[..., None], x: np.ndarray) -> np.ndarray:
    """As `_each_row`, by the kernel that `Direct.of` returns for x."""
    out = np.empty(x.shape, x.dtype)
    if x.ndim == 2:
        kernel(0, len(x), x, out)
    else:
        rows = _2d(x)
        kernel(0, len(rows), rows, _2d(out))
    return out


def _computed_in(x: np.ndarray) -> np.dtype:
    """The dtype of computation and statistics: float32 for 16-bit floats, else x's."""
    return x.dtype if x.itemsize > 2 else FLOAT32


def _2d(x: np.ndarray) -> np.ndarray:
    x = workspace.contiguous(x)
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


def class_launch(
    kernel: str,
    given: Sequence[np.ndarray],
    ignore_index: int,
    label_smoothing: float,
    *out: np.ndarray,
) -> tuple[Any, ...]:
    """The arguments of `parallel_for` for `cross_entropy`, `cross_entropy_grad`, or the latter in
    place of the logits, on their arrays. The last of `out`, (1,), reports targets that are not
    classes."""
    norms, logits = kernels.load("norms"), given[0 if given[0].ndim == 2 else 1]  # after g
    n, columns = logits.shape
    return (
        *(getattr(norms, kernel), n, norms.rows_of(columns), *map(contiguous, given)),
        *(ignore_index, float(label_smoothing), *out),
    )


def _or_full(vector: np.ndarray | None, value: int, x: np.ndarray) -> np.ndarray:
    """A weight or bias; if there is none, a neutral one, full of `value`."""
    if vector is not None:
        return contiguous(vector)
    kind: Any = x.dtype.type
    return _full(x.shape[-1], value, kind)


@functools.lru_cache(maxsize=8)
def _full(size: int, value: int, dtype: type[np.generic]) -> np.ndarray:
    """A constant vector for kernels, which only read it; cached, as all layers need the same ones.
    (The key is the type, as hashing a dtype is slow.)"""
    return np.full(size, value, dtype)


def _few_losses(
    logits: np.ndarray, target: np.ndarray, ignore_index: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The results of the composed cross-entropy without label smoothing, in half the calls; None if
    a target is ignored or not a class."""
    if logits.dtype not in kernels.FLOATS or not _are_classes(
        target, logits.shape[1], ignore_index
    ):
        return None
    rows, classes = logits.shape
    if classes <= rows:  # NumPy reduces short rows one by one, but many columns at once
        shifted = np.array(logits.T, order="C")
        high = np.maximum.reduce(shifted, 0)
        np.subtract(shifted, high, shifted)
        log_sum = np.log(np.add.reduce(np.exp(shifted), 0))
        places = target * rows + np.arange(rows)
    else:
        high = np.maximum.reduce(logits, 1)
        shifted = logits - high.reshape(-1, 1)
        log_sum = np.log(np.add.reduce(np.exp(shifted), 1))
        places = target + np.arange(0, rows * classes, classes)
    return log_sum - shifted.reshape(-1).take(places), high, log_sum


def _grad_of_few(
    g: np.ndarray,
    logits: np.ndarray,
    target: np.ndarray,
    high: np.ndarray,
    log_sum: np.ndarray,
    ignore_index: int,
) -> np.ndarray | None:
    """The gradient of `_few_losses`, with the composed one's bits."""
    dtype = logits.dtype
    if dtype not in kernels.FLOATS or not _are_classes(target, logits.shape[1], ignore_index):
        return None
    if g.dtype != dtype or high.dtype != dtype or log_sum.dtype != dtype:
        return None
    rows, classes = logits.shape
    p = np.subtract(logits, high.reshape(-1, 1), order="C")  # `flat` is its memory
    np.subtract(p, log_sum.reshape(-1, 1), p)
    np.exp(p, p)
    places, flat = target + np.arange(0, rows * classes, classes), p.reshape(-1)
    flat[places] = flat.take(places) - 1
    return np.multiply(p, g.reshape(-1, 1), p)


def _are_classes(target: np.ndarray, classes: int, ignore_index: int) -> bool:
    """Whether all targets are classes, and none is ignored."""
    return (
        ignore_index < 0
        and target.size > 0
        and target.dtype == INT64
        # As unsigned integers, negative numbers are large.
        and bool(np.maximum.reduce(target.view(np.uint64), None) < classes)
    )


def _each_row(kernel: str, *arrays: np.ndarray) -> np.ndarray:
    """Apply the kernel to every row (along the last axis) of arrays of one shape."""
    first = arrays[0]
    out, norms = np.empty(first.shape, first.dtype), kernels.load("norms")
    rows = out if out.ndim == 2 else _2d(out)
    n, columns = rows.shape
    threads.parallel_for(getattr(norms, kernel), n, norms.rows_of(columns), *map(_2d, arrays), rows)
    return out

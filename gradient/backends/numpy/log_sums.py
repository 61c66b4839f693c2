"""log sum e^x along one or adjacent axes, by kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.backends import small_calls
from gradient.backends.composed.norms import NormDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.numpy.reductions import reduced, split
from gradient.backends.required import Axis

CHUNK = 1 << 14
"""Elements that a thread takes at a time."""

SMALL = 4
"""Part of `MIN_SIZE`, from which kernels pay: with its gradient, the composed definition takes
twenty calls of NumPy."""


class LogSumKernels(NormDefaults[np.ndarray]):
    """Overrides of `composed.norms`."""

    def logsumexp(self, x: np.ndarray, axis: Axis, keepdims: bool = False) -> np.ndarray:
        if not _takes(x, axis):
            return super().logsumexp(x, axis, keepdims)
        out = np.empty(reduced(x.shape, axis, keepdims), x.dtype)
        _launch("logsumexp", (), x, axis, out)
        return out

    def logsumexp_grad(
        self, g: np.ndarray, x: np.ndarray, out: np.ndarray, axis: Axis
    ) -> np.ndarray:
        if not _takes(x, axis) or g.dtype != x.dtype or g.size * _count(x, axis) != x.size:
            return super().logsumexp_grad(g, x, out, axis)
        gx = np.empty(x.shape, x.dtype)
        _launch("logsumexp_grad", (kernels.contiguous(g).reshape(-1),), x, axis, gx)
        return gx


def _takes(x: Any, axis: Axis) -> bool:
    return (
        type(x) is np.ndarray
        and (SMALL * x.size >= kernels.MIN_SIZE or (x.size > 0 and small_calls.are_repeated()))
        and x.dtype in kernels.FLOATS
        and x.flags.carray
        and x.ndim > 0
        and split(x.shape, axis) is not None
        and x.size > 0
        and kernels.available()
    )


def _count(x: np.ndarray, axis: Axis) -> int:
    found = split(x.shape, axis)
    return 0 if found is None else found[1]


def _launch(
    name: str, given: tuple[np.ndarray, ...], x: np.ndarray, axis: Axis, result: np.ndarray
) -> None:
    found = split(x.shape, axis)
    assert found is not None
    outer, n, inner = found
    family, last = kernels.load("log_sums"), result.reshape(-1)
    if inner == 1:
        threads.parallel_for(
            *(getattr(family, f"{name}_of_rows"), outer, max(1, CHUNK // n)),
            *(*given, x.reshape(-1), n, last),
        )
    else:
        blocks, columns = outer * -(-inner // family.COLUMNS), min(inner, family.COLUMNS)
        threads.parallel_for(
            *(getattr(family, f"{name}_of_columns"), blocks, max(1, CHUNK // (n * columns))),
            *(*given, x.reshape(-1), n, inner, last),
        )

"""Matrices of a batch that a decomposition fails on, told by `info` (...), not by an error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradient.autograd.variable import wrap
from gradient.dtypes import DType, float32
from gradient.tensor import Tensor
from gradient.tensor.creation import eye


def on_host(x: Tensor) -> np.ndarray:
    """The elements, in a dtype that LAPACK takes."""
    x = x.detach()
    return x.backend.to_numpy((x.to(float32) if x.dtype.itemsize < 4 else x).array)


def infos(x: Tensor, of: Callable[[np.ndarray], int] | None = None) -> Tensor:
    """What `of` answers for each matrix of x (..., N, N), as int32 (...): 0 without it."""
    found = np.zeros(tuple(x.shape[:-2]), np.int32)
    if of is not None:
        host = on_host(x)
        for index in np.ndindex(found.shape):
            found[index] = of(host[index])
    return wrap(x.backend.asarray(found), x.backend)


def without_failed(x: Tensor, info: Tensor) -> Tensor:
    """x (..., N, N), the identity where info is not 0."""
    failed = (info != 0)[..., None, None]
    one = eye(x.shape[-1], dtype=x.dtype, device=x.device)
    return x.masked_fill(failed, 0.0) + one * failed.to(x.dtype)


def not_a_number(info: Tensor, dtype: DType) -> Tensor:
    """NaN where info (...) is not 0, else 0, as (..., 1, 1)."""
    failed = info != 0
    return failed.to(dtype).masked_fill(failed, float("nan"))[..., None, None]

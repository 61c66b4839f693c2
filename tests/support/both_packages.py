"""One call under PyTorch and under gradient: values, dtypes and errors as each other's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import gradient


def assert_alike(case: Callable[[Any], Any]) -> None:
    """What `case` gives, a function of the package: tensors, numbers and tuples of them."""
    import torch

    theirs, ours = _run(case, torch), _run(case, gradient)
    if isinstance(theirs, Exception):
        assert isinstance(ours, type(theirs)), f"{theirs!r}, {ours!r}"
    else:
        np.testing.assert_equal(_rounded(ours), _rounded(theirs))


def _run(case: Callable[[Any], Any], library: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _taken(case(library))
        except Exception as error:
            return error


def _taken(value: Any) -> Any:
    """A result in terms that both packages share."""
    if isinstance(value, tuple):
        return tuple(map(_taken, value))
    if hasattr(value, "detach"):
        dtype = str(value.dtype).rpartition(".")[2]
        wide = value.detach()
        wide = wide.resolve_conj() if wide.is_complex() else wide.double()
        return value.requires_grad, dtype, np.asarray(wide.numpy())
    return value


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_rounded, value))
    if isinstance(value, np.ndarray) and value.dtype.kind == "c":
        return _rounded(value.real), _rounded(value.imag)
    if isinstance(value, np.ndarray):
        return np.array([float(f"{v:.6g}") for v in value.reshape(-1)]).reshape(value.shape)
    return value

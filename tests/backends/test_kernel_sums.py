"""Kernels with sums: the same bits wherever the arrays lie that they read and write."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradient import backends
from gradient.backends import small_calls
from gradient.backends.numpy import threads

pytestmark = pytest.mark.cpu_only
pytest.importorskip("numba")

ROWS: dict[str, Callable[..., Any]] = {
    "softmax": lambda be, x, w: be.softmax(x, -1),
    "softmax_grad": lambda be, x, w: be.softmax_grad(x, be.exp(x), -1),
    "log_softmax": lambda be, x, w: be.log_softmax(x, -1),
    "log_softmax_grad": lambda be, x, w: be.log_softmax_grad(x, -be.exp(x), -1),
    "layer_norm": lambda be, x, w: be.layer_norm(x, w, w, 1e-5),
    "layer_norm_grad": lambda be, x, w: be.layer_norm_grad(x, be.exp(x), w, x[:, 0], x[:, 1]),
    "rms_norm": lambda be, x, w: be.rms_norm(x, w, 1e-5, False),
    "rms_norm_grad": lambda be, x, w: be.rms_norm_grad(x, be.exp(x), w, x[:, :1]),
}
"""Methods that sum over rows and write rows."""


def launched(name: str, x: np.ndarray, w: np.ndarray) -> list[tuple[Any, int, list[Any]]]:
    """The kernels that a method starts, each with its number of rows and its other arguments."""
    launches: list[Any] = []
    with small_calls.repeated(), threads.listening(lambda *given: launches.append(given)):
        ROWS[name](backends.get("cpu"), x, w)
    return [(kernel, n, given) for kernel, n, _, *given in launches]


@pytest.mark.parametrize("columns", [4, 24])
@pytest.mark.parametrize("name", ROWS)
def test_bits_do_not_depend_on_where_arrays_lie(name: str, columns: int) -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        x = draw.standard_normal((1, columns)).astype(np.float32)
        w = draw.standard_normal(columns).astype(np.float32)
        for kernel, n, given in launched(name, x, w):
            arrays = [
                i for i, each in enumerate(given) if isinstance(each, np.ndarray) and each.size
            ]
            apart = list(given)
            for i in arrays:
                apart[i] = np.empty(1 << 14, np.uint8)[:1024].view(given[i].dtype)[: given[i].size]
                apart[i] = apart[i].reshape(given[i].shape)
                apart[i][...] = given[i]
            kernel(0, n, *apart)
            expected = [np.asarray(each).tobytes() for each in apart]
            for i, j in itertools.permutations(arrays, 2):
                for gap in (16, 32, 64, 96):  # bytes from the beginning of one to that of the other
                    at = -(-max(gap, given[i].nbytes) // 16) * 16
                    memory = np.empty(at + given[j].nbytes, np.uint8)
                    placed = list(apart)
                    for each, start in ((i, 0), (j, at)):
                        placed[each] = np.ndarray(
                            given[each].shape, given[each].dtype, memory, start
                        )
                        placed[each][...] = given[each]
                    kernel(0, n, *placed)
                    assert [np.asarray(each).tobytes() for each in placed] == expected

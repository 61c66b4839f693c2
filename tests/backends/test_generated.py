"""Kernels whose source is made while the program runs: compiled once for good."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.cpu_only

SOURCE = """from gradient.backends.numpy.kernels.compilation import ordered_kernel


@ordered_kernel
def fused(start, stop, x, y):
    for i in range(start, stop):
        y[i] = 3 * x[i] + {number}
"""


def test_a_kernel_that_was_kept_is_not_compiled_again() -> None:
    pytest.importorskip("numba")
    from gradient.backends.numpy.kernels import generated

    source = SOURCE.format(number=np.random.default_rng().integers(1 << 40))
    if generated.folder() is None:
        pytest.skip("nothing can be kept")
    x, y = np.ones(4), np.zeros(4)
    found = []
    for _ in range(2):
        generated.kernel_of.cache_clear()
        kernel = generated.kernel_of(source)
        kernel(0, 4, x, y)
        found.append(sum(kernel.stats.cache_hits.values()))
        name = Path(kernel.py_func.__code__.co_filename).stem
        sys.modules.pop(kernel.py_func.__module__)  # as in another process
    generated.kernel_of.cache_clear()
    folder = generated.folder()
    assert folder is not None
    for each in (*folder.glob("*"), *(folder / "__pycache__").glob("*")):
        if each.is_file() and each.name.startswith(name):
            each.unlink()
    assert found == [0, 1]

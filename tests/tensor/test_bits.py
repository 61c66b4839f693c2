"""`x.view(dtype)` of a dtype that is wider, or less so."""

from __future__ import annotations

import numpy as np
import pytest

import gradient

DTYPES = ("uint8", "int16", "bfloat16", "float32", "int64", "complex64", "complex128", "bool")


@pytest.mark.parametrize("own", DTYPES)
@pytest.mark.parametrize("other", DTYPES)
def test_bytes_are_read_as_numpy_reads_them(own, other, device):
    own, other = getattr(gradient, own), getattr(gradient, other)
    x = gradient.arange(2 * 32, device=device).reshape(2, 32).to(own)
    y = x.view(other)
    raw = np.asarray(x.cpu().array).view(np.uint8)
    assert y.dtype is other and y.shape == (2, 32 * own.itemsize // other.itemsize)
    assert (np.asarray(y.cpu().array).view(np.uint8) == raw).all()


def test_they_are_the_same_memory():
    x = gradient.zeros(2, 8, dtype=gradient.uint8)
    x.view(gradient.float32)[1, 1] = 1.0
    assert x.tolist() == [[0] * 8, [0, 0, 0, 0, 0, 0, 128, 63]]
    x.view(gradient.int64).fill_(0)
    assert not x.any()
    assert gradient.zeros(0, dtype=gradient.uint8).view(gradient.int64).shape == (0,)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda x: gradient.tensor(3.0).view(gradient.int64), "a dimension or more"),
        (lambda x: x[:6].view(gradient.float32), "multiple of 4 bytes"),
        (lambda x: x[1:5].view(gradient.float32), "offset of a multiple of 4"),
        (lambda x: x.view(2, 8).t().view(gradient.int16), "contiguous"),
    ],
)
def test_what_has_gaps_or_bytes_left_over(make, match):
    with pytest.raises(RuntimeError, match=match):
        make(gradient.arange(16, dtype=gradient.uint8))

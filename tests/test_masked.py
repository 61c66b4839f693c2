"""gradient.masked at its edges; its values and gradients are compared with PyTorch's in
parity/test_op_db.py."""

from __future__ import annotations

import math
from typing import Any

import pytest

import gradient
from gradient import errors, masked

INF, NAN = math.inf, math.nan
X = [[1.0, 2.0, NAN], [4.0, NAN, INF]]
LEFT = [[True, True, False], [True, False, False]]


def test_what_is_left_out_is_not_looked_at():
    """Nor does it spoil a gradient."""
    x, mask = gradient.tensor(X, requires_grad=True), gradient.tensor(LEFT)
    cases: dict[str, Any] = {
        "sum": [3.0, 4.0],
        "prod": [2.0, 4.0],
        "amax": [2.0, 4.0],
        "amin": [1.0, 4.0],
        "mean": [1.5, 4.0],
        "median": [1.0, 4.0],
        "norm": [math.sqrt(5), 4.0],
        "logsumexp": [2.3132617, 4.0],
        "softmax": [[0.26894142, 0.7310586, 0.0], [1.0, 0.0, 0.0]],
        "cumsum": [[1.0, 3.0, 3.0], [4.0, 4.0, 4.0]],
        "var": [0.5, NAN],
    }
    for name, expected in cases.items():
        out = getattr(masked, name)(x, dim=1, mask=mask)
        flat = gradient.tensor(expected).reshape(-1).tolist()
        assert out.reshape(-1).tolist() == pytest.approx(flat, nan_ok=True), name
        (grad,) = gradient.autograd.grad(out[:1].sum(), x)
        assert grad[0, 2].item() == 0 and not grad[0].isnan().any(), name


def test_where_nothing_is_left():
    x, none = gradient.tensor([[1.0, 2.0]]), gradient.tensor([False])
    found = {
        name: getattr(masked, name)(x, dim=1, mask=none).item()
        for name in ("sum", "prod", "amax", "amin", "mean", "median", "var", "norm", "logsumexp")
    }
    assert found["sum"] == found["norm"] == 0 and found["prod"] == 1
    assert (found["amax"], found["amin"], found["logsumexp"]) == (-INF, INF, -INF)
    assert all(math.isnan(found[name]) for name in ("mean", "median", "var"))
    assert masked.softmax(x, 1, mask=none).isnan().all()
    assert masked.norm(x, -INF, mask=none).item() == INF


def test_dtypes():
    x = gradient.tensor([[1, 5, 3]])
    assert masked.sum(x > 1).dtype is gradient.int64
    assert masked.argmax(x, 1, mask=gradient.tensor([True, False, True])).tolist() == [2]
    assert masked.argmax(x.float()).dtype is gradient.float32
    assert masked.argmax(x.float(), dtype=gradient.int64).dtype is gradient.int64
    assert masked.cumsum(x.int(), 1).dtype is gradient.int32
    assert masked.mean(x, dtype=gradient.float64).item() == 3
    assert masked.median(x).tolist() == [3]
    assert masked.sum(x, mask=gradient.tensor([1, 0, 2])).item() == 4


def test_errors_name_the_function():
    x = gradient.tensor([[1, 2, 3]])
    none = gradient.tensor([False])
    with pytest.raises(errors.IndexOutOfRange, match="sum: expected a mask of at most 2 dim"):
        masked.sum(x, mask=gradient.ones(1, 1, 3))
    with pytest.raises(errors.ShapeError):
        masked.sum(x, mask=gradient.ones(2))
    with pytest.raises(ValueError, match="mean: expected a floating-point dtype"):
        masked.mean(x)
    with pytest.raises(ValueError, match="median: expected elements left by the mask"):
        masked.median(x, mask=none)
    with pytest.raises(ValueError, match="var: expected unbiased or correction, got both"):
        masked.var(x, unbiased=True, correction=1)

"""Packed tensors where one could err in silence: indices of the last axis, dtypes that get lost on
the way, weights that 16-bit scales hardly reach."""

from __future__ import annotations

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import nn
from gradient.errors import (
    ArgumentError,
    AutogradError,
    DTypeError,
    IndexOutOfRange,
    ShapeError,
    TypeMismatch,
)
from gradient.quantization import quantize, quantize_

K_FORMATS = ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k")


@pytest.fixture
def packed():
    return quantize(gradient.randn(3, 5, 64), "q8_0")


@pytest.mark.parametrize(
    "index",
    [
        (1,),
        (1, 2),
        (..., slice(None)),
        (..., 2, slice(None)),
        (1, ..., slice(1, 4), slice(None)),
        (slice(None), 2),
        (slice(None), [0, 2], slice(None)),
        (None, 1, ...),
        (1, None, 2, slice(0, 64)),
        (np.array([True, False, True]),),
        (np.eye(3, 5, dtype=bool), ...),
    ],
)
def test_leading_axes_are_indexed_as_those_of_a_plain_tensor(packed, index):
    index = tuple(gradient.from_numpy(i) if isinstance(i, np.ndarray) else i for i in index)
    assert gradient.equal(packed[index].dequantize(), packed.dequantize()[index])


@pytest.mark.parametrize(
    "index",
    [
        (..., 0),
        (..., slice(0, 32)),
        (1, 2, 3),
        (..., 0, slice(1, None)),
        (0, 0, ..., 5),
        (..., None),
        (slice(None), slice(None), slice(None, None, 2)),
    ],
)
def test_the_last_axis_cannot_be_indexed(packed, index):
    with pytest.raises(IndexOutOfRange, match="all dimensions but the last"):
        packed[index]


def test_an_index_out_of_range_is_told_with_the_shape(packed):
    with pytest.raises(IndexOutOfRange, match="index 3 is out of bounds for dimension 0"):
        packed[3]


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("setitem", lambda w: w.__setitem__(0, 1.0)),
        ("normal_", lambda w: w.normal_()),
        ("fill_", lambda w: w.fill_(1.0)),
        ("random_", lambda w: w.random_()),
        ("zeros_like", gradient.zeros_like),
        ("empty_like", gradient.empty_like),
        ("full_like", lambda w: gradient.full_like(w, 2.0)),
    ],
)
def test_what_writes_numbers_refuses_packed_tensors_by_name(packed, name, use):
    with pytest.raises(DTypeError, match=f"{name}: not defined for packed tensors"):
        use(packed)


def test_plain_tensors_of_a_packed_ones_shape(packed):
    assert gradient.zeros_like(packed, dtype=gradient.float16).shape == (3, 5, 64)


def test_a_packed_dtype_is_not_the_default_and_nothing_is_cast_to_it():
    with pytest.raises(TypeMismatch, match="unpacked floating-point dtype"):
        gradient.set_default_dtype(gradient.q8_0)
    assert not gradient.can_cast(gradient.float32, gradient.q8_0)
    assert not gradient.can_cast(gradient.q8_0, gradient.float32)
    assert gradient.can_cast(gradient.q8_0, gradient.q8_0)


def test_a_trained_tensor_cannot_be_given_packed_data(packed):
    weight = gradient.randn(3, 5, 64, requires_grad=True)
    with pytest.raises(AutogradError, match="data: a packed tensor"):
        weight.data = packed
    assert weight.dtype is gradient.float32


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(8, 32)
        self.head = nn.Linear(32, 8, bias=False)
        self.norm = nn.LayerNorm(32)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(self.norm(self.embedding(x)))


@pytest.mark.parametrize("dtype", [gradient.bfloat16, gradient.float16, gradient.float64])
def test_a_model_computes_in_its_dtype_however_its_weights_were_packed(dtype, tmp_path):
    ids = gradient.tensor([[1, 5]])
    before, after = Tied().to(dtype), Tied()
    after.load_state_dict(before.state_dict())
    quantize_(before, "q8_0")  # packed in a model of that dtype,
    quantize_(after, "q8_0").to(dtype)  # and converted when it was packed
    assert before(ids).dtype is after(ids).dtype is dtype

    gradient.save(before.state_dict(), tmp_path / "tied.safetensors")
    loaded = Tied().to(dtype)
    loaded.load_state_dict(gradient.load(tmp_path / "tied.safetensors"), assign=True)
    assert gradient.equal(loaded(ids), before(ids))


def test_a_tensor_packed_anew_keeps_the_dtype_of_its_rows():
    weight = quantize(quantize(gradient.randn(4, 32).bfloat16(), "q8_0"), "q4_0")
    assert F.embedding(gradient.tensor([1]), weight).dtype is gradient.bfloat16


def test_grouped_weights_have_one_shape_even_where_no_row_meets_them():
    weights = [gradient.randn(8, 32), gradient.randn(8, 31)]
    with pytest.raises(ShapeError, match=r"weights of one shape, got \(8, 31\), \(8, 32\)"):
        F.grouped_linear(gradient.randn(4, 32), weights, gradient.tensor([4, 0]))


def test_grouped_rows_are_a_matrix():
    with pytest.raises(ShapeError, match=r"expected rows in a matrix, got shape \(4, 2, 32\)"):
        F.grouped_linear(gradient.randn(4, 2, 32), [gradient.randn(8, 32)], gradient.tensor([4]))


def test_grouped_weights_may_lie_in_one_tensor():
    x, counts = gradient.randn(4, 32), gradient.tensor([1, 3])
    weight = gradient.randn(2, 8, 32, requires_grad=True)
    y = F.grouped_linear(x, weight, counts)
    assert gradient.equal(y, F.grouped_linear(x, [weight[0], weight[1]], counts))
    y.sum().backward()
    assert weight.grad.shape == weight.shape
    packed = quantize(weight.detach(), "q8_0")
    y = F.grouped_linear(x, packed, counts)
    assert gradient.equal(y, F.grouped_linear(x, [packed[0], packed[1]], counts))


def relative_error(values, dtype):
    back = quantize(gradient.from_numpy(values), dtype).dequantize().numpy()
    return float(np.sqrt(((back - values) ** 2).mean() / (values**2).mean()))


@pytest.mark.parametrize("dtype", K_FORMATS)
@pytest.mark.parametrize("size", [1e-3, 1e-4, 1e-5])
def test_small_weights_lose_little_more_than_large_ones(dtype, size):
    """Their scales are subnormal 16-bit floats. A scale that were rounded down to 0 would leave
    nothing, or minima without codes, which is worse."""
    values = np.random.default_rng(0).standard_normal((16, 512)).astype(np.float32)
    ordinary = relative_error(values, dtype)
    assert relative_error(values * np.float32(size), dtype) < 1.1 * ordinary + 0.011


@pytest.mark.parametrize("dtype", K_FORMATS)
@pytest.mark.parametrize("size", [1e9, 1e14, 1e30, 3e38])
def test_weights_beyond_all_scales_are_refused(dtype, size):
    values = np.full((2, 256), size, np.float32)
    values[0, ::3] *= -1
    with pytest.raises(ArgumentError, match="keeps its scales in 16 bits"):
        quantize(gradient.from_numpy(values), dtype)

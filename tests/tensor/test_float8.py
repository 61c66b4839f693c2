"""8-bit floats: stored, cast both ways, viewed, printed and kept in files; no op computes them."""

from __future__ import annotations

import copy
import io
import pickle

import ml_dtypes
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
from gradient.io import safetensors

E4M3, E5M2 = gradient.float8_e4m3fn, gradient.float8_e5m2
KINDS = [E4M3, E5M2]
EDGES = [
    *(0.0, -0.0, 1.0, -7.0, 0.3, 448.0, 463.9, 464.0, 464.1, 480.0, 1e9, -1e9),
    *(57344.0, 61439.0, 61440.0, 65536.0, float("inf"), -float("inf"), float("nan")),
    *(2.0**-6, 2.0**-9, 2.0**-10, 2.0**-10 * 1.001, 3 * 2.0**-10, 2.0**-16, 2.0**-17, 1e-40),
]


def codes(x: gradient.Tensor) -> list[int]:
    return x.view(gradient.uint8).tolist()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_code_and_back(kind, device):
    x = gradient.arange(256, device=device).to(gradient.uint8).view(kind)
    known = np.arange(256, dtype=np.uint8).view(kind.element).astype(np.float32)
    assert x.dtype is kind and x.shape == (256,) and x.nbytes == 256
    np.testing.assert_array_equal(x.float().cpu().numpy(), known)
    np.testing.assert_array_equal(np.signbit(x.float().cpu().numpy()), np.signbit(known))
    again = x.float().to(kind)
    for number, code, back in zip(known, codes(x), codes(again), strict=True):
        # One NaN of each sign, and no infinity in e4m3fn.
        assert code == back or np.isnan(number)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_nearest_is_taken_and_ties_are_even(kind, device):
    # As ml_dtypes rounds what is not too large.
    limit = float(gradient.finfo(kind).max)
    x = np.random.default_rng(0).integers(0, 1 << 32, 1 << 16, np.uint32).view(np.float32)
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    x = np.concatenate([x, halves, np.float32(EDGES)])
    x = x[np.abs(x) <= limit]
    got = codes(gradient.tensor(x, device=device).to(kind))
    assert got == x.astype(kind.element).view(np.uint8).tolist()


def test_what_is_too_large(device):
    x = gradient.tensor(EDGES, device=device)[10:18]
    inf = float("inf")
    assert x.to(E4M3).tolist() == [448, -448, 448, 448, 448, 448, 448, -448]
    assert x.to(E5M2).tolist() == [inf, -inf, 57344, 57344, inf, inf, inf, -inf]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(
    "dtype", ["float64", "float16", "bfloat16", "int64", "uint8", "bool", "complex64"]
)
def test_casts_go_by_float32(kind, dtype, device):
    x = gradient.tensor([0, 1, 3, 17, 200], device=device).to(getattr(gradient, dtype))
    got = x.to(kind)
    real = x.real if x.is_complex() else x
    assert got.tolist() == real.float().to(kind).tolist()
    assert got.to(x.dtype).dtype is x.dtype
    assert got.to(E5M2 if kind is E4M3 else E4M3).dtype is not kind
    assert got.to(kind) is got


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1, 1), (2, 3, 4)], ids=str)
def test_shapes(shape, device):
    x = gradient.ones(shape, device=device).to(E4M3)
    assert x.shape == shape and x.float().shape == shape and x.numel() == x.nbytes
    assert gradient.equal(x.float(), gradient.ones(shape, device=device))


VIEWS = {
    "reshape": lambda x: x.reshape(6, 4),
    "view": lambda x: x.view(4, -1),
    "t": lambda x: x.flatten(0, 1).t(),
    "permute": lambda x: x.permute(2, 0, 1),
    "mT": lambda x: x.mT,
    "a number": lambda x: x[1, 2, 3],
    "slices": lambda x: x[..., ::2],
    "backwards": lambda x: x[:, 1:, 1],
    "none": lambda x: x[None, 1],
    "rows": lambda x: x[:, gradient.tensor([2, 0])],
    "elements": lambda x: x[..., gradient.tensor([2, 0, 3])],
    "mask": lambda x: x[gradient.tensor([True, False])],
    "unbind": lambda x: x.unbind(1)[2],
    "split": lambda x: x.split(2, -1)[1],
    "contiguous": lambda x: x.mT.contiguous(),
    "clone": lambda x: x.mT.clone(),
    "detach": lambda x: x.detach(),
    "deepcopy": lambda x: copy.deepcopy(x),
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
    "squeeze": lambda x: x[:1].squeeze(),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views(name):
    x = gradient.randn(2, 3, 4).to(E4M3)
    got, expected = VIEWS[name](x), VIEWS[name](x.float())
    assert got.dtype is E4M3 and got.shape == expected.shape
    assert got.float().tolist() == expected.tolist()
    assert got.stride() == expected.stride() and got.is_contiguous() == expected.is_contiguous()


def test_views_share_memory():
    x = gradient.ones(2, 3).to(E4M3)
    x.t().view(gradient.uint8)[0, 1] = 0
    assert x.tolist() == [[1, 1, 1], [0, 1, 1]]
    x[0].copy_(gradient.tensor([2, 1000, float("nan")]))
    assert x[0, :2].tolist() == [2, 448] and np.isnan(x[0, 2].item())
    with pytest.raises(gradient.errors.ShapeError, match="not contiguous enough"):
        x.t().view(6)
    plain = gradient.zeros(1, 3)
    plain.copy_(x[1:])
    assert plain.tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_they_are_made_by_name(kind, device):
    x = gradient.ones(2, 3, device=device).to(kind)
    made = [
        gradient.zeros(2, 3, dtype=kind, device=device),
        gradient.ones(2, 3, dtype=kind, device=device),
        gradient.full((2, 3), 1.3, dtype=kind, device=device),
        gradient.full((), True, dtype=kind, device=device),
        gradient.empty(0, 3, dtype=kind, device=device),
        gradient.tensor([[1, 2]], dtype=kind, device=device),
        gradient.as_tensor([0.3, 1e9], dtype=kind, device=device),
        gradient.tensor(x, dtype=kind),
        *(gradient.zeros_like(x), gradient.ones_like(x.float(), dtype=kind)),
        *(gradient.full_like(x, -2), x.new_zeros(2), x.new_full((2,), 3), x.new_tensor([4.0])),
    ]
    expected = [
        *([[0.0] * 3] * 2, [[1.0] * 3] * 2, [[1.25] * 3] * 2, 1.0, [], [[1.0, 2.0]]),
        [0.3125, 448.0 if kind is E4M3 else float("inf")],
        *([[1.0] * 3] * 2, [[0.0] * 3] * 2, [[1.0] * 3] * 2, [[-2.0] * 3] * 2),
        *([0.0, 0.0], [3.0, 3.0], [4.0]),
    ]
    assert all(each.dtype is kind and each.device == x.device for each in made)
    assert [each.tolist() for each in made] == expected
    assert gradient.empty_like(x).shape == (2, 3)
    for number in (500.0, -449, float("inf")):
        with pytest.raises(ArgumentError, match="a number that gradient.float8_e4m3fn can hold"):
            gradient.full((2,), number, dtype=E4M3, device=device)
    assert gradient.full((1,), -float("inf"), dtype=E5M2).tolist() == [-float("inf")]
    with pytest.raises(AutogradError, match="8-bit floats"):
        gradient.zeros(2, dtype=kind, requires_grad=True)


def test_they_are_joined_and_repeated(device):
    x = gradient.tensor([[1.0, -0.0], [float("nan"), 448.0]], device=device).to(E4M3)
    for name, move in {
        "cat": lambda x: gradient.cat([x, x[:1], x[:0]]),
        "columns": lambda x: gradient.cat([x, x], -1),
        "stack": lambda x: gradient.stack([x, x.t()], 1),
        "expand": lambda x: x[:, None].expand(2, 3, -1),
        "repeat": lambda x: x.repeat(2, 1, 3),
        "vstack": lambda x: gradient.vstack([x, x]),
    }.items():
        got, expected = move(x), move(x.float())
        assert got.dtype is E4M3 and got.shape == expected.shape, name
        assert codes(got) == codes(expected.to(E4M3)), name
    x[:1].expand(3, 2).view(gradient.uint8)  # a view: what is written to x shows
    wide = x[:1, :1].expand(1, 3)
    x[0, 0] = 2
    assert wide.tolist() == [[2, 2, 2]]
    for other in (x.float(), x.to(E5M2)):
        for join in (gradient.cat, gradient.stack):
            with pytest.raises(
                DTypeError, match="expected tensors of gradient.float8_e4m3fn alone"
            ):
                join([x, other])
            with pytest.raises(DTypeError, match=f"{join.__name__}: expected tensors of gradient"):
                join([other, x])


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_equal_numbers(kind, device):
    every = gradient.arange(256, device=device).to(gradient.uint8).view(kind)
    got, plain = every[:, None] == every, every.float()
    assert gradient.equal(got, plain[:, None] == plain)
    assert gradient.equal(every[:, None] != every, plain[:, None] != plain)
    for number in (0, -0.0, 1.3, 2, float("nan"), float("inf"), 1e9, -3.0):
        rounded = gradient.tensor(float(number), device=device).to(kind).float()
        assert gradient.equal(every == number, plain == rounded)
        assert gradient.equal(number != every, plain != rounded)
    assert gradient.equal(every[:100], every[:100]) and not gradient.equal(every, every)
    assert gradient.equal(every[:1], every[128:129])  # 0 and -0
    with pytest.raises(DTypeError, match="eq: not defined for 8-bit floats"):
        _ = every == every.float()
    with pytest.raises(ShapeError, match=r"eq: .* that broadcast, got \(2,\) and \(3,"):
        _ = every[:2] == every[:3]


def test_places_are_written(device):
    x = gradient.zeros(2, 3, dtype=E4M3, device=device)
    x[0] = gradient.tensor([1.3, 500.0, float("nan")], device=device)
    x[1, 1:] = x[0, :2].clone()
    x[1, 0] = 900
    written = gradient.tensor([[1.25, 448, float("nan")], [448, 1.25, 448]], dtype=E4M3)
    assert codes(x) == codes(written)
    x[gradient.tensor([1, 0], device=device), 0] = 2
    x[:, gradient.tensor([2], device=device)] = x[:, :1].clone()
    assert x.tolist() == [[2, 448, 2], [2, 1.25, 2]]
    assert x.fill_(3).tolist() == [[3] * 3] * 2 and x.zero_().tolist() == [[0] * 3] * 2
    assert x.fill_(gradient.tensor(1.3, device=device)).tolist() == [[1.25] * 3] * 2
    assert x.fill_diagonal_(4).tolist() == [[4, 1.25, 1.25], [1.25, 4, 1.25]]
    assert x.copy_(gradient.tensor([1.3, 0, 1], device=device)).tolist() == [[1.25, 0, 1]] * 2
    with pytest.raises(DTypeError, match="a value of the tensor's dtype"):
        x[gradient.tensor([0], device=device)] = gradient.ones(1, 3, device=device)
    with pytest.raises(ArgumentError, match="a number that gradient.float8_e4m3fn can hold"):
        x.fill_(500)


def test_numbers_go_to_python():
    x = gradient.tensor([0.0, 1.5]).to(E5M2)
    assert x.tolist() == [0.0, 1.5] and x[1].item() == 1.5 and float(x[1]) == 1.5
    assert [bool(each) for each in x] == [False, True]
    assert x.element_size() == x.itemsize == E5M2.itemsize == 1 and E5M2.bits == 8
    assert E5M2.is_floating_point and E5M2.is_signed and not E5M2.is_complex


def test_what_moves_them_says_what_does_not_fit():
    x = gradient.ones(2, 3).to(E4M3)
    for error, words, call in [
        (ShapeError, "is invalid for input of size 6", lambda: x.reshape(7)),
        (ShapeError, "cat: expected tensors of one shape", lambda: gradient.cat([x, x[:, :2]])),
        (IndexOutOfRange, "index 5 is out of bounds", lambda: x[5]),
        (IndexOutOfRange, "index 7 is out of bounds", lambda: x[:, gradient.tensor([7])]),
        (ShapeError, "copy_: expected other to broadcast", lambda: x.copy_(gradient.ones(4))),
        (
            ShapeError,
            "of shape .5,. cannot be broadcast",
            lambda: x.__setitem__(0, gradient.ones(5)),
        ),
    ]:
        with pytest.raises(error, match=words):
            call()


REFUSED = {
    "add": lambda x: x + x,
    "mul": lambda x: 2 * x,
    "neg": lambda x: -x,
    "exp": lambda x: x.exp(),
    "relu": lambda x: F.relu(x),
    "softmax": lambda x: F.softmax(x, -1),
    "sum": lambda x: x.sum(),
    "prod": lambda x: x.prod(),
    "lt": lambda x: x < 1,
    "matmul": lambda x: x @ x,
    "linear": lambda x: F.linear(x, gradient.ones(2, 2)),
    "sort": lambda x: x.sort(),
    "cumsum": lambda x: x.cumsum(0),
    "mul_": lambda x: x.mul_(2),
    "numpy": lambda x: x.numpy(),
    "flip": lambda x: x.flip(0),
    "tril": lambda x: x.tril(),
    "signbit": lambda x: x.signbit(),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("size", [0, 2])
def test_ops_refuse_them_by_name(name, size):
    x = gradient.ones(size, size).to(E4M3)
    with pytest.raises(DTypeError, match=r"not defined for 8-bit floats, got float8_e4m3fn"):
        REFUSED[name](x)


def test_they_take_part_in_no_promotion():
    assert gradient.can_cast(E4M3, gradient.float32) and not gradient.can_cast(E4M3, gradient.int8)
    assert gradient.promote_types(E4M3, E4M3) is E4M3
    for other in (gradient.float32, gradient.int8, gradient.bool, E5M2):
        with pytest.raises(TypeMismatch, match="do not mix"):
            gradient.promote_types(E4M3, other)
    with pytest.raises(TypeMismatch, match="is for storage"):
        gradient.rand(2, dtype=E4M3)
    with pytest.raises(TypeMismatch, match="unpacked floating-point dtype"):
        gradient.set_default_dtype(E4M3)


def test_they_carry_no_gradient():
    x = gradient.ones(2, 3, requires_grad=True)
    with pytest.raises(AutogradError, match="8-bit floats carry no gradient"):
        x.to(E4M3)
    with pytest.raises(AutogradError, match="8-bit floats .* carry no gradient"):
        x.detach().to(E4M3).requires_grad_()
    with gradient.no_grad():
        weight = x.to(E4M3)
    F.linear(x, weight, gradient.ones(2)).sum().backward()  # a weight, as packed ones are
    assert x.grad.tolist() == [[2.0] * 3] * 2
    ids = gradient.tensor([1, 0])
    assert F.embedding(ids, weight).tolist() == [[1.0] * 3] * 2


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_files_keep_them(kind, tmp_path):
    x = gradient.randn(3, 5).to(kind)
    kept = {"w": x, "t": x.t(), "one": x[1, 1], "none": x[:0]}
    safetensors.save_file(kept, tmp_path / "x")
    file = safetensors.SafetensorsFile(tmp_path / "x")
    assert {entry.dtype for entry in file.entries.values()} == {
        "F8_E4M3" if kind is E4M3 else "F8_E5M2"
    }
    for name, value in file.items():
        assert value.dtype is kind and value.shape == kept[name].shape
        assert codes(value) == codes(kept[name])
    gradient.save({"list": [x, 1]}, tmp_path / "y")
    assert codes(gradient.load(tmp_path / "y")["list"][0]) == codes(x)
    stream = io.BytesIO()
    gradient.save(x, stream)
    stream.seek(0)
    assert codes(gradient.load(stream)) == codes(x)


def test_modules_keep_them():
    layer = nn.Linear(4, 3)
    layer.weight = nn.Parameter(layer.weight.detach().to(E4M3), requires_grad=False)
    other = nn.Linear(4, 3)
    other.load_state_dict(layer.state_dict(), assign=True)
    assert other.weight.dtype is E4M3 and codes(other.weight) == codes(layer.weight)
    layer.load_state_dict(other.state_dict())
    x = gradient.randn(2, 4)
    expected = F.linear(x, layer.weight.float(), layer.bias)
    assert gradient.allclose(layer(x), expected, atol=1e-6)
    assert layer.to(gradient.bfloat16).weight.dtype is E4M3


def test_quantize_casts():
    x = gradient.tensor([1.0, float("nan"), 1e9])
    assert gradient.quantization.quantize(x, "float8_e4m3fn").tolist()[::2] == [1.0, 448.0]
    with pytest.raises(TypeMismatch):
        gradient.from_numpy(np.zeros(2, ml_dtypes.float8_e4m3fn))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_views_begin_where_their_elements_lie(kind):
    x = gradient.arange(6.0).to(kind)
    assert x.data_ptr() == x.view(gradient.uint8).data_ptr()
    assert x[2:].data_ptr() == x.data_ptr() + 2
    assert x.expand(3, 6).data_ptr() == x.data_ptr() and x.expand(3, 6).stride() == (0, 1)


# The product --------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [None, "float32", "bfloat16", "float64"])
@pytest.mark.parametrize("by_rows", [False, True])
def test_scaled_mm(by_rows, result, device):
    a = gradient.randn(5, 48, device=device).to(E4M3)
    b = gradient.randn(16, 48, device=device).to(E5M2).t()
    shapes = ((5, 1), (1, 16)) if by_rows else ((), (1, 1))
    scales = [gradient.rand(shape, device=device) for shape in shapes]
    bias = gradient.randn(16, device=device)
    dtype = result and getattr(gradient, result)
    exact = (a.float() @ b.float()) * scales[0] * scales[1] + bias
    got = gradient._scaled_mm(a, b, *scales, bias=bias, out_dtype=dtype)
    assert got.dtype is (dtype or E4M3) and got.shape == (5, 16)
    assert gradient.allclose(got.float(), exact, rtol=0.07 if result is None else 0.01, atol=0.02)


def test_scaled_mm_of_nothing():
    one = gradient.tensor(1.0)
    none = gradient._scaled_mm(
        gradient.ones(3, 0).to(E4M3), gradient.ones(0, 2).to(E4M3), one, one,
        bias=gradient.ones(2), out_dtype=gradient.float32,
    )  # fmt: skip
    assert none.tolist() == [[1.0, 1.0]] * 3
    x = gradient.ones(0, 4).to(E4M3)
    assert gradient._scaled_mm(x, gradient.ones(4, 2).to(E4M3), one, one).shape == (0, 2)


def test_scaled_mm_says_what_does_not_fit():
    a, b = gradient.ones(2, 4).to(E4M3), gradient.ones(4, 3).to(E4M3)
    one, mm = gradient.tensor(1.0), gradient._scaled_mm
    for error, words, call in [
        (DTypeError, "8-bit floats as input", lambda: mm(a.float(), b, one, one)),
        (DTypeError, "8-bit floats as mat2", lambda: mm(a, b.float(), one, one)),
        (ShapeError, "a matrix as input", lambda: mm(a[0], b, one, one)),
        (ShapeError, r"got \(2, 4\) and \(2, 4\)", lambda: mm(a, a, one, one)),
        (ShapeError, "scale_a of", lambda: mm(a, b, gradient.ones(2, 1), one)),
        (ShapeError, "scale_a of", lambda: mm(a, b, gradient.ones(3), one)),
        (ShapeError, "a bias of 3 numbers", lambda: mm(a, b, one, one, gradient.ones(4))),
        (DTypeError, "floating-point", lambda: mm(a, b, one, one, out_dtype=gradient.int32)),
        (DTypeError, "floating-point", lambda: mm(a, b, one, one, out_dtype=gradient.q8_0)),
        (ArgumentError, "scale_result", lambda: mm(a, b, one, one, scale_result=one)),
    ]:
        with pytest.raises(error, match=words):
            call()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_what_is_asked_of_the_codes(kind):
    nan = float("nan")
    x = gradient.tensor([1.0, -2.0, nan, -0.0]).to(kind)
    y = gradient.tensor([3.0, 0.5, 1.0, 7.0]).to(kind)
    mask = gradient.tensor([True, False, True, False])
    assert gradient.isnan(x).tolist() == [False, False, True, False]
    assert gradient.isnan(gradient.zeros(0).to(kind)).shape == (0,)
    assert gradient.isfinite(x).tolist() == [True, True, False, True]
    large = gradient.tensor([float("inf"), 1e9, 448.0]).to(kind)
    assert large.isfinite().tolist() == large.float().isfinite().tolist()
    assert gradient.zeros(0, 2).to(kind).isfinite().shape == (0, 2)
    z, shown = x.clone(), y[1:].clone()
    assert z.abs_() is z and codes(z) == codes(abs(x))
    part = gradient.tensor([-1.0, -2.0, -3.0]).to(kind)
    part[1:].abs_()
    assert part.float().tolist() == [-1, 2, 3] and shown.absolute_() is shown
    assert codes(abs(x)) == codes(gradient.tensor([1.0, 2.0, abs(nan), 0.0]).to(kind))
    assert (x == True).tolist() == [True, False, False, False]  # noqa: E712 (what is tested)
    assert x.ne(False).tolist() == [True, True, True, False]
    for chosen in (gradient.where(mask, x, y), x.where(mask, y)):
        assert chosen.dtype is kind
        assert str(chosen.float().tolist()) == "[1.0, 0.5, nan, 7.0]"
    assert gradient.where(mask, 2, y).float().tolist() == [2.0, 0.5, 2.0, 7.0]
    assert gradient.where(mask, y, 1.5).float().tolist() == [3.0, 1.5, 1.0, 1.5]
    assert gradient.where(mask[:, None], x, y).shape == (4, 4)
    assert gradient.where(gradient.tensor(True), x, y).shape == (4,)
    for other in (y.float(), y.to(E5M2 if kind is E4M3 else E4M3)):
        with pytest.raises(RuntimeError, match="one dtype of 8 bits"):
            gradient.where(mask, x, other)

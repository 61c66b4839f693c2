"""Functions of large arrays have the same bits, and NumPy's layouts, however the arrays lie in
memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import backends
from gradient.backends.numpy import (
    elementary,
    kernels,
    strided_copies,
    transposes,
    turned_arrays,
    workspace,
)
from gradient.dtypes import bfloat16

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(not kernels.available(), reason="there are no kernels"),
]

HALVES = (np.dtype(np.float16), bfloat16.numpy)
DTYPES = (*HALVES, np.dtype(np.float32), np.dtype(np.float64))
EDGES = (0, -0.0, math.inf, -math.inf, math.nan, 1, -1, 0.5, -0.5, 2, -2, 1e-7, 1e-42, 6e4, -3e38)

LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "turned": lambda x: x.transpose(0, 2, 1),
    "channels first": lambda x: x.reshape(32, 8, 25, 40).transpose(0, 3, 1, 2),
    "half of the columns": lambda x: x[..., :101],
    "every second": lambda x: x[..., ::2],
    "turned, with gaps": lambda x: x[:, ::2].transpose(2, 0, 1),
    "reversed": lambda x: x[:, ::-1, ::-1],
    "expanded": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "read-only": lambda x: np.broadcast_to(x, (1, *x.shape)),
}


def numbers(dtype: np.dtype, seed: int = 0) -> np.ndarray:
    """(32, 40, 200), so that parts of it are large too."""
    x = np.random.default_rng(seed).standard_normal(32 * 40 * 200)
    x[seed : seed + 20 * len(EDGES) : 1 + seed] = np.resize(
        EDGES, x[seed : seed + 300 : 1 + seed].size
    )
    with np.errstate(all="ignore"):
        return x.reshape(32, 40, 200).astype(dtype)


def assert_bits(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    if found.dtype.kind == "b":
        assert (found == wanted).all()
        return
    bits = f"u{found.itemsize}"
    same = np.ascontiguousarray(found).view(bits) == np.ascontiguousarray(wanted).view(bits)
    assert (same | ((found != found) & (wanted != wanted))).all()


ONE = sorted(
    elementary.EVERY
    | {"tanh", "sign", "abs", "isnan", "isfinite", "relu", "sigmoid", "silu", "erf", "lgamma"}
)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_functions_of_one_array(dtype: np.dtype, layout: str) -> None:
    be, x = backends.get("cpu"), LAYOUTS[layout](numbers(dtype))
    strides = np.negative(x).strides
    rows = np.array(x, order="C")
    for name in ONE:
        found, wanted = getattr(be, name)(x), getattr(be, name)(rows)
        assert_bits(found, wanted)
        if layout not in ("read-only", "expanded"):
            scale = x.itemsize // found.itemsize  # 1, but of bools
            assert tuple(step * scale for step in found.strides) == strides, name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_copies_and_casts(dtype: np.dtype, layout: str) -> None:
    be, x = backends.get("cpu"), LAYOUTS[layout](numbers(dtype))
    wanted = np.array(x, order="C")
    for copy in (be.copy, workspace.contiguous, kernels.contiguous):
        found = copy(x)
        assert found.flags.carray or found is x
        assert_bits(found, wanted)
    with np.errstate(all="ignore"):
        for other in set(DTYPES) - {dtype}:
            found, cast = be.astype(x, other), x.astype(other)
            assert_bits(found, cast)
            assert found.strides == cast.strides or layout in ("read-only", "expanded")


TWO = ("maximum", "minimum", "hypot", "copysign", "nextafter", "fmod", "remainder", "floor_divide",
       "arctan2", "power")  # fmt: skip


def pairs(dtype: np.dtype) -> list[tuple[np.ndarray, np.ndarray]]:
    x, y = (numbers(dtype, seed)[:, :, :40] for seed in (0, 1))
    a, b = x.copy(), y.copy()
    last = (1, 2, 0)
    return [
        (a, b.transpose(0, 2, 1)),
        (a.transpose(0, 2, 1), b),
        (a.transpose(last), b.transpose(last)),
        (x, y),
        (a, b[0]),
        (a[:, :1], b),
        (a, b[..., :1]),
        (a.transpose(last), b[0, :32, 0]),
        (a, b[:1, :1, :1]),
        (a[0, 0, :32], b.transpose(last)),
        (a[..., ::2], b[..., ::-2]),
        (np.broadcast_to(a[0], a.shape), np.broadcast_to(b[:, :1], b.shape)),
        (a, a),
    ]


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_functions_of_two_arrays(dtype: np.dtype, name: str) -> None:
    function = getattr(backends.get("cpu"), name)
    for a, b in pairs(dtype):
        found = function(a, b)
        wanted = function(*(np.array(x, order="C") for x in np.broadcast_arrays(a, b)))
        assert_bits(found, wanted)
        if name not in ("hypot", "copysign", "nextafter", "remainder"):
            assert found.strides == np.maximum(a, b).strides


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_where(dtype: np.dtype) -> None:
    be = backends.get("cpu")
    for a, b in pairs(dtype):
        shape = np.broadcast_shapes(a.shape, b.shape)
        for condition in (np.broadcast_to(a, shape) > 0, b > 0):
            found, wanted = be.where(condition, a, b), np.where(condition, a, b)
            assert_bits(found, wanted)
            assert found.strides == wanted.strides


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_operators(dtype: np.dtype) -> None:
    given = [
        tuple(gradient.tensor(np.array(x)) if x.dtype == bfloat16.numpy else gradient.from_numpy(x)
              for x in map(np.array, pair))
        for pair in pairs(dtype)[:1]
    ]  # fmt: skip
    (a, b), last = given[0], (1, 2, 0)
    for x, y in [(a.permute(last), b.permute(last)), (a, b.mT), (a[..., ::2], b[..., ::2])]:
        for _ in range(20):  # NumPy computes the first
            for found, wanted in [
                (x + y, x.contiguous() + y.contiguous()),
                (x * y, x.contiguous() * y.contiguous()),
                (x < y, x.contiguous() < y.contiguous()),
                (x * 2.5, x.contiguous() * 2.5),
            ]:
                assert_bits(found.detach().numpy(), wanted.detach().numpy())


def test_results_may_be_written_over_their_operands() -> None:
    x = gradient.randn(200, 300)
    for dtype in (gradient.float16, gradient.bfloat16, gradient.float32):
        for turn in (lambda t: t, lambda t: t.T, lambda t: t[:, ::2], lambda t: t.flip(0)):
            for name in ("tan", "exp", "floor", "sigmoid", "sqrt"):
                base = x.to(dtype).abs()
                part = turn(base)
                wanted = getattr(part.contiguous(), name)()
                getattr(part, name + "_")()
                assert_bits(part.view(gradient.int16 if dtype.itemsize == 2 else gradient.int32)
                            .numpy(), wanted.view(gradient.int16 if dtype.itemsize == 2
                                                  else gradient.int32).numpy())  # fmt: skip
            base = x.to(dtype)
            square = base[:, :200]
            wanted = gradient.fmod(square.contiguous(), square.T.contiguous() + 5)
            square.fmod_(square.T + 5)
            gradient.testing.assert_close(square, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_remainders_of_16_bits_are_those_of_float32_rounded(dtype: np.dtype) -> None:
    be, draws = backends.get("cpu"), np.random.default_rng(0)
    bits = draws.integers(0, 1 << 16, (2, 1 << 16)).astype(np.uint16).view(dtype)
    edges = np.array(EDGES).astype(dtype)
    across, down = (np.resize(x.ravel(), 1 << 14) for x in np.meshgrid(edges, edges))
    for a, b in [tuple(bits), (across, down), (bits[0], np.asarray(0.7, dtype))]:
        wide = a.astype(np.float32), b.astype(np.float32)
        for name in ("fmod", "remainder", "floor_divide"):
            wanted = getattr(be, name)(*wide).astype(dtype)
            assert_bits(getattr(be, name)(a, b), wanted)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_number_beside_16_bits(dtype: str) -> None:
    x = (gradient.randn(100, 200) * 9).to(getattr(gradient, dtype))
    for function in (gradient.fmod, gradient.remainder, gradient.floor_divide, gradient.pow):
        for number in (0.7, -3.0, 3, 2, 0.5, 70000):
            found = function(x, number)
            parts = gradient.cat([function(row, number) for row in x.split(2)])
            assert found.dtype == x.dtype
            apart = (found.float() - parts.float()).abs() / parts.float().abs().clamp(min=1e-6)
            limit = 0.0 if function is not gradient.pow else 0.01
            assert not (apart.nan_to_num(0.0, 0.0, 0.0) > limit).any()


@pytest.mark.parametrize("dtype", [*HALVES, np.dtype(np.float32)], ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_angles_and_powers_are_rounded_once(dtype: np.dtype) -> None:
    be, draws = backends.get("cpu"), np.random.default_rng(0)
    n = 1 << 16
    word = np.uint32 if dtype.itemsize == 4 else np.uint16
    bits = draws.integers(0, np.iinfo(word).max, (2, n), word, endpoint=True).view(dtype)
    edges = np.array(EDGES).astype(dtype)
    across, down = (np.resize(x.ravel(), n) for x in np.meshgrid(edges, edges))
    usual = draws.standard_normal((2, n)).astype(dtype)
    whole = draws.integers(-9, 9, n).astype(dtype)
    for a, b in [tuple(bits), (across, down), tuple(usual), (usual[0], whole)]:
        u, v = (x.astype(np.float64).astype(np.longdouble) for x in (a, b))
        checked = [
            (be.arctan2(a, b), np.arctan2(u, v)),
            (be.power(a, b), u**v),
            (be.arctan(a), np.arctan(u)),
            (be.arcsin(a), np.arcsin(u)),
            (be.arccos(a), np.arccos(u)),
            (be.arccosh(a), np.arccosh(u)),
        ]
        for found, exact in checked:
            wanted = exact.astype(np.float32).astype(dtype)
            differ = (found != wanted) & ((found == found) | (wanted == wanted))
            assert differ.mean() < 1e-4
            known = ~np.isnan(wanted.astype(np.float32))
            signs = np.signbit(found.astype(np.float32)) != np.signbit(wanted.astype(np.float32))
            assert not (signs & known).any()
            assert (
                np.isfinite(found.astype(np.float32)) == np.isfinite(wanted.astype(np.float32))
            ).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_powers_of_numbers() -> None:
    x = gradient.randn(300, 300)
    for exponent in (0.7, -3.5, 5, -4, 0.5, -0.5):
        exact = x.double() ** float(gradient.tensor(exponent))
        gradient.testing.assert_close(x**exponent, exact.float(), rtol=2e-7, atol=0, equal_nan=True)
    exact = 1.5 ** x.double()
    gradient.testing.assert_close(1.5**x, exact.float(), rtol=2e-7, atol=0)
    assert gradient.equal(x.T**0.7, (x**0.7).T) or (x.T**0.7).isnan().any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_plans_have_the_bits_of_eager_mode(dtype: str) -> None:
    x = (gradient.rand(300, 300) + 0.1).to(getattr(gradient, dtype))

    def step(x: Any) -> Any:
        y = x.T.tan() + x.T[:, ::2].repeat(1, 2).exp() * x.T.tanh()
        y = y + gradient.atan2(x, x.T) * x**0.7 + gradient.fmod(x, x.T + 1) + (x // 0.3)
        return y + x**x.T + x.T.floor().sigmoid() + x.T.arctan() + gradient.maximum(x, x.T)

    compiled = gradient.compile(step)
    for _ in range(6):  # the first are eager
        assert_bits(compiled(x).float().numpy(), step(x).float().numpy())


def test_empty_and_single_arrays() -> None:
    x = gradient.ones(5000, 1).half()
    for function in (gradient.fmod, gradient.atan2, gradient.pow, gradient.maximum):
        for y in (gradient.ones(1, 0).half(), gradient.ones(0).half()):
            assert tuple(function(x, y).shape) == (5000, 0)
            assert tuple(function(y, x).shape) == (5000, 0)
        one = gradient.ones((), dtype=gradient.float16)
        assert function(one, one).shape == () and float(function(one, one)) in (
            0.0,
            1.0,
            0.78515625,
        )
        assert tuple(function(x, one.reshape(1, 1, 1)).shape) == (1, 5000, 1)
        with pytest.raises(RuntimeError):
            function(gradient.ones(300, 300).half(), gradient.ones(7).half())


def test_what_is_not_copied_by_the_kernel() -> None:
    x = np.zeros((300, 300), np.int32)
    assert strided_copies.launch(x[:, ::2], np.empty((300, 150), np.int32)) is None
    y = np.zeros((300, 300), np.float32)
    for part in (y[:, :4], y[:9, ::2]):
        assert strided_copies.launch(part, np.empty(part.shape, np.float32)) is None
    assert strided_copies.launch(y[:, ::2], np.empty((300, 150))) is None
    assert strided_copies.launch(y[:, ::2], np.empty((150, 300), np.float32).T) is None
    assert transposes.launch(y.T, np.empty((300, 300), np.float32)) is not None


def test_joint_orders_are_those_of_numpy() -> None:
    x = np.empty((3, 4, 5))
    for arrays in [(x.T,), (x, x.T.T), (x.transpose(2, 0, 1), x.transpose(2, 0, 1)[:1]), (x, x[0])]:
        shape, order, back = turned_arrays.joint_orders(
            tuple((each.shape, each.strides) for each in arrays)
        )
        wanted = sum(arrays).strides
        made = np.empty(shape if order is None else tuple(shape[i] for i in order))
        assert (made if order is None else made.transpose(back)).strides == wanted

"""Functions composed of others, where op_db's samples do not reach."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize("name", ["copysign", "hypot", "logaddexp2", "xlogy"])
def test_an_operand_without_dimensions_does_not_widen(name: str):
    x, y = gradient.tensor([1.5]), gradient.tensor(2.0, dtype=gradient.float64)
    assert getattr(x, name)(y).dtype == gradient.float32
    assert getattr(x.bfloat16(), name)(y).dtype == gradient.bfloat16


@pytest.mark.parametrize("dtype", [gradient.bool, gradient.int64])
def test_the_mean_without_nan_is_of_floating_point_numbers(dtype: Any):
    with pytest.raises(gradient.errors.DTypeError, match="nanmean: expected a floating-point"):
        gradient.ones(2).to(dtype).nanmean()


def test_the_median_of_nothing_is_nan():
    assert math.isnan(gradient.zeros(0).nanmedian().item())


@pytest.mark.parametrize("name", ["trapezoid", "cumulative_trapezoid"])
def test_the_trapezoidal_rule_needs_a_dimension(name: str):
    with pytest.raises(IndexError, match=f"{name}: expected at least 1 dimension, got 0"):
        getattr(gradient, name)(gradient.tensor(1.0))


def test_the_trapezoidal_rule_aligns_coordinates_at_the_last_dimension():
    y, x = gradient.arange(8.0).reshape(2, 2, 2), gradient.tensor([[0.0, 1.0], [5.0, 10.0]])
    assert gradient.trapezoid(y, x, dim=1).tolist() == [[5.0, 18.0], [25.0, 54.0]]
    assert gradient.cumulative_trapezoid(y, x, dim=1).shape == (2, 1, 2)


def test_a_sum_of_integers_leaves_nan_out():
    x = gradient.tensor([1.5, math.nan, 2.0])
    assert x.nansum(dtype=gradient.int64).item() == 3


EDGES: dict[str, tuple[Any, str]] = {
    # A number between integers, NaN, and rows that end in NaN
    "G.searchsorted(G.tensor([1, 2, 3]), 2.5)": (2, "int64"),
    "G.bucketize(NAN, G.tensor([1, 2, 3]))": (3, "int64"),
    "G.searchsorted(G.tensor([1.0, 2.0]), G.tensor([NAN, INF, -INF]))": ([2, 2, 0], "int64"),
    "G.searchsorted(G.tensor([1.0, 2.0, NAN]), G.tensor([NAN, 5.0, 0.0]))": ([3, 3, 0], "int64"),
    "G.bucketize(G.tensor([NAN, 2.0]), G.tensor([1.0, 2.0]), right=True)": ([2, 2], "int64"),
    "G.searchsorted(G.tensor([1, 2], dtype=G.int32), 2**40)": (0, "int64"),
    # Beside NaN
    "G.gradient(G.tensor([0.0, 1.0, NAN, 9.0, 16.0]))[0]": ([1, NAN, 4, NAN, 7], "float32"),
    "G.gradient(G.tensor([0.0, NAN, 4.0]), spacing=2.0)[0]": ([NAN, 1, NAN], "float32"),
    "G.hypot(G.tensor([INF, NAN, NAN]), G.tensor([NAN, -INF, 1.0]))": ([INF, INF, NAN], "float32"),
    "G.renorm(G.tensor([[1.0, NAN], [3.0, 4.0]]), 2, 0, 5.0)": ([[1, NAN], [3, 4]], "float32"),
    # Signs of zeros and NaN
    "G.signbit(-G.tensor([NAN, 0.0, 1.0, -0.0]))": ([True, True, True, False], "bool"),
    "G.copysign(G.tensor([1.0, 2.0]), -G.tensor([NAN, 1.0]))": ([-1, -2], "float32"),
    "G.copysign(G.tensor([2]), -NAN)": ([-2], "float32"),
    "G.heaviside(G.tensor([-INF, -0.0, 3.0, NAN]), G.tensor(0.5))": ([0, 0.5, 1, 0], "float32"),
    "G.gcd(G.tensor([12, 0, -9]), G.tensor([18, 0, 6], dtype=G.int32))": ([6, 0, 3], "int64"),
    "G.lcm(G.tensor([4, 0, -3]), G.tensor([6, 5, 2]))": ([12, 0, 6], "int64"),
    "G.tensor([1, -8], dtype=G.int8) << 7": ([-128, 0], "int8"),
    "G.tensor([1, -8, 5]) >> G.tensor([64, 70, -1])": ([0, -1, 0], "int64"),
    "G.bitwise_left_shift(1, G.tensor([2, 3]))": ([4, 8], "int64"),
    "G.isreal(G.tensor([1.0, NAN]))": ([True, True], "bool"),
    "G.isreal(G.tensor([1j, 2, complex(NAN, 0)]))": ([False, True, True], "bool"),
    "G.isposinf(G.tensor([INF, -INF, NAN, 1.0]))": ([True, False, False, False], "bool"),
    "G.isneginf(G.tensor([1, 2]))": ([False, False], "bool"),
    "G.unique_consecutive(G.tensor([1, 1, 2, 1, 1]))": ([1, 2, 1], "int64"),
    "G.unique_consecutive(G.tensor([NAN, NAN]))": ([NAN, NAN], "float32"),
    "G.unique_consecutive(G.tensor([]))": ([], "float32"),
    "G.unique_consecutive(G.tensor([3, 3, 1]), return_counts=True)[1]": ([2, 1], "int64"),
    "G.unravel_index(G.tensor([5, 2]), (2, 3))[0]": ([1, 0], "int64"),
    "G.histc(G.arange(30) * G.tensor(0.1), 10, 0, 3)": ([3] * 10, "float32"),
    "G.zeros(5, 2).fill_diagonal_(1, wrap=True)[:, 0]": ([1, 0, 0, 1, 0], "float32"),
    "G.tensor([1.0, 2.0]).eq_(G.tensor([1.0, 5.0]))": ([1, 0], "float32"),
    "G.signbit(G.copysign(G.tensor([NAN]), -1))": ([True], "bool"),
    # Powers of 2 that are no numbers of the dtype
    "G.ldexp(G.tensor([1e-38]), G.tensor([200])) > 1e22": ([True], "bool"),
    "G.ldexp(G.tensor([0.0]), G.tensor([200]))": ([0], "float32"),
    "G.ldexp(G.tensor([0.5], dtype=G.float64), G.tensor([1024]))": ([2.0**1023], "float64"),
    "G.ldexp(G.tensor([2.0**-900], dtype=G.float64), G.tensor([1900]))": ([2.0**1000], "float64"),
    "G.ldexp(G.tensor([1.5], dtype=G.float16), G.tensor([3]))": ([12], "float16"),
    "G.ldexp(G.tensor([1]), G.tensor([3]))": ([8], "float32"),
    # In the common dtype
    "G.isin(G.tensor([2**24 + 1]), G.tensor([2.0**24]))": ([True], "bool"),
    "G.isin(G.tensor([0.1]), 0.1)": ([True], "bool"),
    "G.isin(2.5, G.tensor([1, 2]))": (False, "bool"),
    "G.addr(G.ones(1, 1, dtype=G.float64), G.ones(1), G.ones(1), beta=0)": ([[1]], "float64"),
    "G.addr(G.ones(1, 1), G.tensor([2]), G.tensor([3]), beta=0.5)": ([[6.5]], "float32"),
    "G.trapezoid(G.zeros(0, dtype=G.int64))": (0, "int64"),
    "G.trapezoid(G.zeros(0, 2, dtype=G.int64), dim=0)": ([0, 0], "int64"),
    "G.trapezoid(G.tensor([5]))": (0, "float32"),
    "G.float_power(2, G.tensor([1, 2]))": ([2, 4], "float64"),
    "G.trapezoid(G.tensor([5.0]), dx=INF)": (NAN, "float32"),
    "G.trapezoid(G.tensor([1]), G.tensor([[1], [1]]))": ([], "float32"),
    "G.sinc(G.tensor([1.0], dtype=G.bfloat16)).abs() < 1e-7": ([True], "bool"),
}
"""What PyTorch 2.13 gives."""


@pytest.mark.parametrize("expression", EDGES)
def test_edges(expression: str):
    constants = {"G": gradient, "NAN": NAN, "INF": INF}
    found, (expected, dtype) = eval(expression, constants), EDGES[expression]
    assert str(found.dtype) == f"gradient.{dtype}"
    flat = gradient.tensor(expected, dtype=gradient.float64).reshape(-1).tolist()
    assert found.reshape(-1).tolist() == pytest.approx(flat, nan_ok=True, abs=0)


def gradients(function: Callable[..., Any], *points: Any) -> list[Any]:
    tensors = [gradient.tensor(p, dtype=gradient.float64, requires_grad=True) for p in points]
    return [g.tolist() for g in gradient.autograd.grad(function(*tensors).sum(), tensors)]


def test_derivatives_at_edges():
    nan = pytest.approx([math.nan], nan_ok=True)
    assert gradients(gradient.hypot, [0.0], [0.0]) == [nan, nan]
    assert gradients(gradient.copysign, [0.0, 1.0], [1.0, -1.0]) == [[0, -1], [0, 0]]
    assert gradients(lambda x: gradient.copysign(x, -1.0), [math.nan]) == [nan]
    a, b = gradients(lambda a, b: gradient.cdist(a, b, p=math.inf), [[3.0, -3.0]], [[1.0, -1.0]])
    assert (a, b) == ([[1, -1]], [[-1, 1]])  # all of it for each at a tie
    (x,) = gradients(gradient.nanmedian, [1.0, math.nan, 1.0, 2.0])
    assert x == [0.5, 0, 0.5, 0]
    (x,) = gradients(lambda x: 1 / x.angle(), [math.nan, -1.0])
    assert x == [0, 0]
    (x,) = gradients(lambda x: x.renorm(2, 0, 1.0), [[1.0, math.nan], [0.0, 0.0]])
    assert x == [[1, 1], [1, 1]]


def test_distances_by_products_are_those_of_differences():
    x = gradient.randn(2, 30, 4, dtype=gradient.float64, requires_grad=True)
    y = gradient.randn(1, 7, 4, dtype=gradient.float64, requires_grad=True)
    found = []
    for mode in (None, "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist"):
        out = gradient.cdist(x, y, compute_mode=mode)
        first = gradient.autograd.grad((out**3).sum(), [x, y], create_graph=True)
        second = gradient.autograd.grad(sum((g**2).sum() for g in first), [x, y])
        found.append([out, *first, *second])
    for ours, theirs, wanted in zip(*found, strict=True):
        for each in (ours, theirs):
            gradient.testing.assert_close(each, wanted, rtol=1e-10, atol=1e-10)


def test_the_distance_of_a_row_from_itself_has_gradient_0():
    x = (gradient.arange(60.0).reshape(30, 2) // 4).requires_grad_()  # exact, with equal rows
    out = gradient.cdist(x, x)
    assert (out == 0).sum() == 60
    (grad,) = gradient.autograd.grad(out.sum(), x, create_graph=True)
    (exact,) = gradient.autograd.grad(
        gradient.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").sum(), x
    )
    gradient.testing.assert_close(grad, exact)
    (second,) = gradient.autograd.grad(grad.sum(), x)
    assert second.isfinite().all()


@pytest.mark.parametrize(
    "expression",
    ["G.ones(2).int().nanmean(dtype=G.float32)", "G.ones(2).nanmean(dtype=G.int64)",
     "G.cdist(G.ones(1, 2), G.ones(1, 2).int())", "G.cdist(G.ones(1, 2), G.ones(1, 2).double())",
     "G.cdist(G.ones(1, 2).half(), G.ones(1, 2), p=1)", "G.ones(2).cov(fweights=G.ones(2))",
     "G.ones(2).cov(aweights=G.ones(2).int())", "G.ones(3).cross(G.ones(3).double())",
     "G.isin(G.tensor([True]), 1)", "G.gradient(G.tensor([True, False]))",
     "G.hypot(G.tensor([3]), G.tensor([4]))", "G.logaddexp2(G.tensor([3]), G.tensor([4]))"],
)  # fmt: skip
def test_dtypes_that_are_refused(expression: str):
    with pytest.raises(gradient.errors.DTypeError):
        eval(expression, {"G": gradient})


@pytest.mark.parametrize(
    "expression",
    ["G.cdist(G.ones(1, 2), G.ones(1, 2), compute_mode='no')", "G.ones(2, 2).renorm(2, 0, NAN)",
     "G.ones(2).scatter_reduce(0, G.tensor([0]), G.ones(1), 3)", "G.ones(2, 2).rot90(dims=1)",
     "G.trapezoid(G.ones(2), dx=True)", "G.trapezoid(G.ones(2), 'no')"],
)  # fmt: skip
def test_arguments_that_are_refused(expression: str):
    with pytest.raises((gradient.errors.ArgumentError, gradient.errors.TypeMismatch)):
        eval(expression, {"G": gradient, "NAN": NAN})


@pytest.mark.parametrize("reduce", ["prod", "amax", "amin"])
def test_many_elements_of_one_place_take_no_room_at_the_others(reduce: str):
    """The memory is that of the elements, not that of places times the most elements of one."""
    n = 20_000
    x, index = gradient.full((n,), 2.0), gradient.zeros(n, dtype=gradient.int64)
    source = gradient.full((n,), 1.0)
    x.scatter_reduce(0, index, source, reduce)  # which loads the kernels
    tracemalloc.start()
    out = x.scatter_reduce(0, index, source, reduce)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert out[:2].tolist() == [1 if reduce == "amin" else 2, 2]
    assert peak < 200 * n


def test_ties_of_16_bit_numbers_are_counted_and_do_not_overflow():
    index = gradient.zeros(1024, dtype=gradient.int64)
    for dtype, value in ((gradient.float16, 60000.0), (gradient.bfloat16, 1.0)):
        source = gradient.full((1024,), value, dtype=dtype, requires_grad=True)
        out = gradient.zeros(1, dtype=dtype).scatter_reduce(0, index, source, "amax")
        out.sum().backward()
        assert out.item() == gradient.tensor(value, dtype=dtype).item()
        assert source.grad.tolist() == [1 / 1024] * 1024


def test_reductions_at_places_share_gradients_and_keep_nan():
    x = gradient.tensor([3.0, 0.0, INF], requires_grad=True)
    source = gradient.tensor([3.0, 3.0, 1.0, NAN, 5.0], requires_grad=True)
    index = gradient.tensor([0, 0, 0, 1, 2])
    out = x.scatter_reduce(0, index, source, "amax")
    assert out.tolist() == pytest.approx([3, NAN, INF], nan_ok=True)
    own, others = gradient.autograd.grad(out.sum(), [x, source])
    assert own.tolist() == pytest.approx([1 / 3, NAN, 1], nan_ok=True)
    assert others.tolist() == pytest.approx([1 / 3, 1 / 3, 0, NAN, 0], nan_ok=True)


def test_a_number_is_shifted_by_a_tensor():
    x = gradient.tensor([1, 3])
    assert (1 << x).tolist() == [2, 8] and (8 >> x).tolist() == [4, 1]
    assert (1 << x.to(gradient.int8)).dtype is gradient.int8
    with pytest.raises(TypeError):
        "a" << x


def test_scatter_multiplies():
    index = gradient.tensor([0, 0, 2])
    x = gradient.tensor([1.0, 2.0, 3.0])
    assert x.scatter(0, index, x, reduce="multiply").tolist() == [2, 2, 9]
    assert x.scatter(0, index, 2, reduce="multiply").tolist() == [4, 2, 6]
    assert x.clone().scatter_(0, index, x, reduce="multiply").tolist() == [2, 2, 9]
    with pytest.raises(ValueError, match="'add' or 'multiply'"):
        x.scatter(0, index, x, reduce="mean")


def test_data_of_no_dtype_is_both_errors():
    for kind in (TypeError, RuntimeError):
        with pytest.raises(kind, match="could not infer dtype of NoneType"):
            gradient.tensor([1, None])


@pytest.mark.parametrize("join", [gradient.cat, gradient.stack])
def test_what_is_joined_has_a_graph_where_graphs_are_recorded(join):
    x = gradient.ones(2, requires_grad=True)
    with gradient.no_grad():
        assert not join([x, x]).requires_grad
        with gradient.enable_grad():
            assert join([x, x]).requires_grad
    with gradient.inference_mode():
        assert not join([x, x]).requires_grad
        assert join([x, x]).is_inference()
    assert join([gradient.ones(2), x]).requires_grad
    assert not join([x.detach(), x.detach()]).requires_grad


def test_the_output_size_of_repetitions_is_checked(device) -> None:
    x = gradient.tensor([3.0, 4.0, 5.0], device=device)
    times = gradient.tensor([1, 0, 2], device=device)
    assert x.repeat_interleave(times, output_size=3).tolist() == [3, 5, 5]
    assert x.repeat_interleave(2, output_size=6).shape == (6,)
    for repeats in (times, 2):
        with pytest.raises(RuntimeError, match="repeat_interleave: expected output_size"):
            x.repeat_interleave(repeats, output_size=4)


@pytest.mark.parametrize("n", [3, 6000])
def test_products_so_far_may_leave_float32_in_between(n):
    x = gradient.ones(n)
    x[0], x[1], x[2] = 1e30, 1e30, 1e-30
    assert x.cumprod(0)[2:].tolist() == pytest.approx([1e30] * (n - 2), rel=1e-6)
    assert gradient.stack([x, x], 1).cumprod(0)[2:].min().item() == pytest.approx(1e30, rel=1e-6)


def test_gradient_of_clamp_at_a_bound_that_bfloat16_rounds() -> None:
    for count in (3, 5000):
        x = gradient.full((count,), 0.3, dtype=gradient.bfloat16, requires_grad=True)
        for low, high in ((None, 0.3), (0.3, None), (-1.0, 0.3), (0.3, 1.0)):
            y = x.clamp(low, high)
            assert gradient.equal(y, x)
            (slope,) = gradient.autograd.grad(y.sum(), x)
            assert gradient.equal(slope, gradient.ones_like(x))


def test_prelu_of_no_channels() -> None:
    x, weight = gradient.zeros(5, 0, 3), gradient.ones(0, requires_grad=True)
    out = gradient.nn.functional.prelu(x, weight)
    out.sum().backward()
    assert out.shape == (5, 0, 3) and weight.grad is not None and weight.grad.shape == (0,)


@pytest.mark.parametrize(
    ("own", "other"),
    [((300,), (400,)), ((20, 30), (40, 50)), ((30,), (40, 90)), ((3, 5, 20), (30, 40)),
     ((1, 300), (300, 1)), ((300, 1), (1, 300))],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [gradient.float64, gradient.int64])
def test_large_kronecker_products_are_numpys(own: Any, other: Any, dtype: Any) -> None:
    a, b = (gradient.arange(math.prod(n)).reshape(n).to(dtype) for n in (own, other))
    assert (a.kron(b).numpy() == np.kron(a.numpy(), b.numpy())).all()
    if dtype is gradient.float64:
        a.requires_grad_()
        b.requires_grad_()
        a.kron(b).sum().backward()
        assert (a.grad == b.detach().sum()).all() and (b.grad == a.detach().sum()).all()

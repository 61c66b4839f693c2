"""Functions at zeros of both signs, infinities, NaN and ties, and of no elements, as PyTorch's."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import gradient  # noqa: E402
from support.both_packages import assert_alike  # noqa: E402

INF, NAN = float("inf"), float("nan")
LARGEST = 2**63 - 1
BASES = [0.0, -0.0, INF, -INF, NAN, 1.0, -1.0, 2.0, -2.0, 0.5]
POINTS = [[1.0, NAN, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [1.0, -2.0, 0.0]]
COMPLEX = [0j, -1 + 2j, 1000 + 3j, -1000 + 1j, complex(INF, 0), complex(INF, -2), complex(-INF, 1)]
COMPLEX += [complex(0, INF), complex(NAN, 0), complex(0, NAN), complex(0, 3.125)]
HUGE = [3e38, -3e38, 1e20, -1e20, 100.0, -80.0, 0.5, -0.0]
EXPONENTS = [0.5, -0.5, 2, 2.0, 0, 0.0, 1, 1.0, -1, -2, 3, 3.0, 0.25, 1.5, -1.5, INF, -INF, NAN]


def slopes(t: Any, function: Callable[..., Any], *values: Any, dtype: str = "float64") -> Any:
    """A function's result, its gradients, and how many units of each sign divided by 0 they are:
    so zeros have their sign."""
    xs = [t.tensor(v, dtype=getattr(t, dtype), requires_grad=True) for v in values]
    y = function(*xs)
    grads = t.autograd.grad(y, xs, t.ones_like(y))
    return (y, 1 / y.detach(), *grads, *(1 / g for g in grads))


def raised_in_place(x: Any, exponent: Any) -> Any:
    x = x * 1
    x **= exponent
    return x


def exponent(t: Any, e: Any, kind: str, x: Any) -> Any:
    """The number e, or a tensor of it: of x's dtype, or of float64."""
    if kind == "number":
        return e
    dtype = t.float64 if "float64" in kind else x.dtype
    return t.full((1,) if "element" in kind else (), e, dtype=dtype)


def products_beside(t: Any, special: float, own: bool) -> Any:
    """Products of places that `special` does not go to, and the gradients of their factors."""
    x, src = [2.0, 3.0, 4.0], [1.5, special, 2.0, 3.0, -2.0, 3.0]
    y, _, dx, dsrc, *_ = slopes(
        t,
        lambda x, src: x.scatter_reduce(
            0, t.tensor([0, 2, 0, 2, 1, 0]), src, "prod", include_self=own
        ),
        x,
        src,
    )
    others = t.tensor([0, 2, 4, 5])
    return y, dx[:2], dsrc[others]


CASES: dict[str, Callable[[Any], Any]] = {
    **{
        f"{name}, exponent {e!r}": lambda t, e=e, power=power: slopes(
            t, lambda x: power(t, x, e), BASES
        )
        for e in EXPONENTS
        for name, power in {
            "x ** e": lambda t, x, e: x**e,
            "pow": lambda t, x, e: t.pow(x, e),
            "pow_": lambda t, x, e: (x * 1).pow_(e),
            "**=": lambda t, x, e: raised_in_place(x, e),
            "e ** x": lambda t, x, e: e**x,
            "tensors": lambda t, x, e: x ** t.full_like(x, e),
        }.items()
    },
    **{
        f"{dtype} to the power {e!r}, a {kind}": lambda t, e=e, dtype=dtype, kind=kind: slopes(
            t, lambda x: x ** exponent(t, e, kind, x), BASES, dtype=dtype
        )
        for dtype in ("float16", "bfloat16", "float32")
        for e in EXPONENTS
        for kind in ("number", "0-d tensor", "tensor of one element", "0-d float64 tensor")
        if kind != "number" or dtype != "float32"
    },
    **{
        f"{dtype} of 1e-4 to the power 1/3": lambda t, dtype=dtype: slopes(
            t, lambda x: x ** (1 / 3), [1e-4, 300.0, 2.0], dtype=dtype
        )[0::2]
        for dtype in ("float16", "bfloat16")
    },
    **{
        f"{name} of {dtype}": lambda t, name=name, dtype=dtype: slopes(
            t, lambda x: 3 * getattr(t.nn.functional, name)(x), HUGE, dtype=dtype
        )
        for name in ("mish", "softplus", "silu", "selu", "logsigmoid", "tanhshrink")
        for dtype in ("float32", "bfloat16")
        if dtype == "bfloat16" or name in ("mish", "softplus", "silu")
    },
    **{
        f"logcumsumexp of {n}, some infinite or NaN": lambda t, n=n: slopes(
            t,
            lambda x: x.logcumsumexp(1) * (t.arange(x.shape[0]) - 7).reshape(-1, 1),
            list(itertools.product((INF, -INF, NAN, 0.0, 1.0), repeat=n)),
        )[:3]
        for n in (2, 3)
    },
    "logsumexp of three, some infinite or NaN": lambda t: slopes(
        t, lambda x: x.logsumexp(1), list(itertools.product((INF, -INF, NAN, 0.0, 1.0), repeat=3))
    ),
    "logaddexp of two, some infinite or NaN": lambda t: slopes(
        t,
        lambda x: t.logaddexp(x[:, 0], x[:, 1]),
        list(itertools.product((INF, -INF, NAN, 0.0, 1.0), repeat=2)),
    ),
    "logaddexp of two complex numbers, some infinite or NaN": lambda t: t.logaddexp(
        *t.tensor(list(itertools.product(COMPLEX, repeat=2)), dtype=t.complex128).T
    ),
    "logsumexp of three complex numbers, some infinite or NaN": lambda t: t.logsumexp(
        t.tensor(list(itertools.product(COMPLEX, repeat=3)), dtype=t.complex128), 1
    ),
    **{
        f"{name}, p={p}, of equal points, infinities and NaN": lambda t, p=p, f=f: slopes(
            t, lambda x: f(t, x, p), POINTS
        )
        for p in (0, 0.5, 1, 2, 3)
        for name, f in {
            "cdist": lambda t, x, p: t.cdist(x, x.flip(0)[:3], p),
            "pdist": lambda t, x, p: t.nn.functional.pdist(x, p),
        }.items()
    },
    **{
        f"pdist, p={p}, of points at infinity": lambda t, p=p: slopes(
            t, lambda x: t.nn.functional.pdist(x, p), [[INF, 2.0], [-INF, 0.0], [1.0, 2.0]]
        )[0]
        for p in (0, 0.5, 1, 2, INF)
    },
    "the largest distances of NaN": lambda t: slopes(
        t, lambda x: t.nn.functional.pdist(x, INF), POINTS
    ),
    "p of no norm": lambda t: t.cdist(t.zeros(2, 2), t.zeros(2, 2), NAN),
    **{
        f"products of what is scattered beside {special}, include_self={own}": (
            lambda t, special=special, own=own: products_beside(t, special, own)
        )
        for special in (INF, NAN, -INF)
        for own in (True, False)
    },
    "gates of both signs": lambda t: slopes(
        t, lambda x: 3 * t.nn.functional.glu(t.stack([x, -x.flip(0)])), HUGE, dtype="float32"
    ),
    **{
        f"numbers let through by {gate}": lambda t, gate=gate: slopes(
            t, lambda x: 3 * t.nn.functional.glu(t.stack([x, x * 0 + gate], 0), 0), HUGE[:6]
        )
        for gate in (17.0, -17.0, 40.0, 3e38, -3e38)
    },
    "a 16-bit power": lambda t: slopes(
        t, lambda x: x**-0.5, [-0.0, -INF, 3.0, 0.1], dtype="float16"
    ),
    "trapezoid of an infinite end": lambda t: slopes(
        t, t.trapezoid, [[INF, 1.0, 2.0], [1.0, INF, 2.0], [1.0, 2.0, -INF]]
    ),
    "trapezoid of one point": lambda t: slopes(t, t.trapezoid, [2.0]),
    "trapezoid of integers": lambda t: t.trapezoid(t.tensor([[1, 2, 4], [2, 0, 3]]), dim=0),
    "trapezoid of points apart": lambda t: t.trapezoid(t.tensor([1.0, 2, 4]), dx=0.25),
    "variance with more freedom than elements": lambda t: slopes(
        t, lambda x: x.var(-1, correction=5), [[1.0, 2.0, 4.0], [2.0, 2.0, 2.0]]
    ),
    "deviation with more freedom than elements": lambda t: slopes(
        t, lambda x: x.std(-1, correction=5), [[1.0, 2.0, 4.0]]
    ),
    **{
        f"{name} of no {dtype}, {size}": lambda t, name=name, dtype=dtype, size=size: getattr(
            t.nn.functional, name
        )(t.zeros(size, dtype=getattr(t, dtype)), -1)
        for name in ("softmax", "log_softmax")
        for dtype in ("int64", "uint8", "bool", "float32")
        for size in ((0,), (2, 0), (0, 3), (3,))
    },
    "softmax of no integers along no dimension": lambda t: t.zeros(0, dtype=t.int64).softmax(1),
    "gather with sparse_grad": lambda t: t.gather(
        t.tensor([1.0, 2.0]), 0, t.tensor([1, 1]), sparse_grad=False
    ),
    "x.gather with sparse_grad": lambda t: t.tensor([1.0, 2.0]).gather(
        0, t.tensor([1, 1]), sparse_grad=False
    ),
    "integers masked by a fraction": lambda t: (
        t.tensor([LARGEST, 3]).masked_fill(t.tensor([False, True]), 1.5),
        t.nn.functional.threshold(t.tensor([LARGEST, -3]), 0.5, 0.25),
    ),
    "isclose of integers far apart": lambda t: t.isclose(
        t.tensor([-32768, 3, 255], dtype=t.int16), t.tensor([0, 3, -1], dtype=t.int16)
    ),
    "isclose of integers beyond 24 bits": lambda t: tuple(
        t.isclose(t.tensor([2**n + 1, 2**n]), t.tensor([2**n, 2**n]), rtol=0, atol=0)
        for n in (24, 60)
    ),
    "addcmul of integers of different widths": lambda t: t.addcmul(
        t.tensor([1, 2], dtype=t.int32), t.tensor([200, 3], dtype=t.uint8), t.tensor(-2)
    ),
    "bits shifted out": lambda t: tuple(
        t.tensor([255, -128 % 256], dtype=t.uint8).to(dtype) >> by
        for dtype in (t.uint8, t.int8, t.int32)
        for by in (7, 8, 200)
    ),
    "Bessel functions of large numbers": lambda t: (
        t.i0(t.tensor([3e38, -3e38, 90.0])),
        t.special.i1(t.tensor([3e38, -3e38])),
        t.special.i0e(t.tensor([3e38, 20.0])),
    ),
    "histogram of one large number": lambda t: t.histc(t.tensor([1e20, 1e20]), 1),
    "nanmedian of nothing": lambda t: t.zeros(0, requires_grad=True).nanmedian(),
    **{
        f"gradient of {name} of {values} with {correction} too many": (
            lambda t, name=name, values=values, correction=correction: slopes(
                t, lambda x: getattr(x, name)(correction=correction), values
            )
        )
        for name in ("var", "std")
        for values in ([1.0, 2.0, 3.0], [2.0, 2.0], 3.0)
        for correction in (3, 5)
    },
    "binary cross-entropy of 16-bit floats": lambda t: slopes(
        t,
        lambda x: t.nn.functional.binary_cross_entropy(
            x, t.tensor([1e-7, 0.25, 1.0], dtype=t.float16), reduction="none"
        ),
        [1e-7, 0.5, 0.75],
        dtype="float16",
    ),
    "logaddexp2 of 16-bit floats": lambda t: t.logaddexp2(
        t.tensor([3.0, 2.0, 1.0], dtype=t.bfloat16), t.tensor([1.0, 1.0, 2.0], dtype=t.bfloat16)
    ),
    **{
        f"{mode} of 16-bit floats": lambda t, mode=mode: t.nn.functional.interpolate(
            t.tensor([[[[1.0, 1.0, 0.0, 1.0, 0.0]]]], dtype=t.bfloat16),
            size=(1, 4),
            mode=mode,
            align_corners=True,
        )
        for mode in ("bilinear", "bicubic")
    },
}


@pytest.mark.parametrize("name", CASES)
def test_as_pytorch(name: str):
    assert_alike(CASES[name])


def test_gradients_of_gather_are_dense():
    with pytest.raises(gradient.errors.ArgumentError, match="gather: sparse gradients"):
        gradient.gather(gradient.ones(2), 0, gradient.tensor([1]), sparse_grad=True)


def second(t: Any, function: Callable[..., Any], values: list[float]) -> list[np.ndarray]:
    """A function's result, its gradient, and the gradients of that for x and g."""
    x = t.tensor(values, dtype=t.float64, requires_grad=True)
    y = function(t, x)
    g = t.arange(1.0, y.numel() + 1, dtype=t.float64).requires_grad_()
    (grad,) = t.autograd.grad(y, x, g, create_graph=True)
    weight = t.arange(1.0, x.numel() + 1, dtype=t.float64)
    return [each.detach().numpy() for each in (y, grad, *t.autograd.grad(grad, [x, g], weight))]


def test_second_gradients_at_infinities():
    some = [INF, -INF, 1.0, 2.0]
    sums = [*itertools.product(some, repeat=3), *itertools.product(some, repeat=2)]
    gates = itertools.product([*some, 0.0, NAN], [0.0, 1.0, INF, -INF, 800.0, -40.0])
    for function, cases in (
        (lambda t, x: t.logcumsumexp(x, 0), sums),
        (lambda t, x: t.nn.functional.glu(x, 0), gates),
    ):
        for values in map(list, cases):
            ours, theirs = (second(t, function, values) for t in (gradient, torch))
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-14, err_msg=str(values))


@pytest.mark.parametrize("name", ["mode", "kthvalue"])
def test_places_of_ties(name):
    """Of a mode the last place, as in PyTorch; of a k-th value that which a stable sort gives."""
    x = gradient.tensor([2.0, 1.0, 2.0, 1.0, 1.0, 2.0])
    if name == "mode":
        assert x.mode().indices.item() == 4 == torch.tensor(x.tolist()).mode().indices.item()
    else:
        assert [x.kthvalue(k).indices.item() for k in range(1, 7)] == [1, 3, 4, 0, 2, 5]

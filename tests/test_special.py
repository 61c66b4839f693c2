"""gradient.special at the edges of its functions; their values are in the op table, and compared
with PyTorch's in parity/test_op_db.py."""

from __future__ import annotations

import math

import numpy as np
import pytest

import gradient
from gradient import errors, special

INF, NAN = math.inf, math.nan
EDGES = [0.0, -0.0, -1.0, -2.0, INF, -INF, NAN, 1e-310, -1e-310, 1e306]

VALUES = {
    "gammaln": [INF, INF, INF, INF, INF, INF, NAN, 713.8013788281542, 713.8013788281542, INF],
    "digamma": [-INF, INF, NAN, NAN, INF, NAN, NAN, -INF, INF, 704.591038456178],
    "i0e": [1, 1, 0.46575960759364043, 0.308508322553671, 0, 0, NAN, 1, 1, 3.989422804014327e-154],
    "i1e": [0, 0, -0.2079104153497085, -0.2152692892489377, 0, 0, NAN, 5e-311, -5e-311,
            3.989422804014327e-154],
    "ndtr": [0.5, 0.5, 0.15865525393145705, 0.022750131948179205, 1, 0, NAN, 0.5, 0.5, 1],
    "log_ndtr": [-math.log(2), -math.log(2), -1.841021645009264, -3.7831843336820317, 0, -INF, NAN,
                 -math.log(2), -math.log(2), 0],
    "ndtri": [-INF, -INF, NAN, NAN, NAN, NAN, NAN, -37.663060331949524, NAN, NAN],
    "entr": [0, 0, -INF, -INF, -INF, -INF, NAN, 7.13801378828152e-308, -INF, -INF],
    "erfcx": [1, 1, 5.008980080762283, 108.94090438997797, 0, INF, NAN, 1, 1,
              5.641895835477563e-307],
}  # fmt: skip
"""As PyTorch 2.13 computes them."""


@pytest.mark.parametrize("name", VALUES)
def test_edges(name: str):
    x = gradient.tensor(EDGES, dtype=gradient.float64)
    np.testing.assert_allclose(getattr(special, name)(x).numpy(), VALUES[name], rtol=1e-14)


def test_near_the_zeros_of_lgamma_the_digits_stay():
    """log Gamma(1 + z) is -euler z + pi^2 / 12 z^2 there."""
    z = np.array([1e-9, -1e-9, 2.0**-40])
    x = gradient.tensor(1 + z)
    z = x.numpy() - 1
    expected = -0.57721566490153286 * z + math.pi**2 / 12 * z**2
    np.testing.assert_allclose(special.gammaln(x).numpy(), expected, rtol=1e-15)


def test_tails_keep_their_digits():
    """Reference values by mpmath."""
    x = gradient.tensor([-30.0, -37.0, 8.0], dtype=gradient.float64)
    np.testing.assert_allclose(
        special.log_ndtr(x).numpy(),
        [-454.3212439563432, -689.0305855768906, -6.22096057427178e-16],
        rtol=1e-14,
    )
    p = gradient.tensor([1e-300, 1e-20, 0.02, 1 - 1e-15], dtype=gradient.float64)
    np.testing.assert_allclose(special.ndtr(special.ndtri(p)).numpy(), p.numpy(), rtol=1e-12)


def test_polygamma_at_poles_and_infinities():
    x = gradient.tensor([0.0, -0.0, -3.0, INF, -1e-310], dtype=gradient.float64)
    assert special.polygamma(1, x).tolist() == [INF, INF, INF, 0, INF]
    assert special.polygamma(2, x).tolist() == [-INF, -INF, -INF, 0, INF]
    assert special.polygamma(0, x)[:2].tolist() == [-INF, INF]
    with pytest.raises(ValueError, match="polygamma: expected n of at least 0, got -1"):
        special.polygamma(-1, x)


def test_zeta():
    def zeta(s: float, q: float) -> float:
        return special.zeta(gradient.tensor(s, dtype=gradient.float64), q).item()

    assert zeta(2.0, 1.0) == pytest.approx(math.pi**2 / 6, rel=1e-15)
    assert zeta(2.0, -1.5) == pytest.approx(9.379246644989124, rel=1e-15)
    assert zeta(3.0, -1e3 - 0.5) == pytest.approx(4.990013735550747e-07, rel=1e-12)
    assert [zeta(1.0, 2.0), zeta(2.0, 0.0), zeta(2.0, -1.0), zeta(2.5, -1.0)] == [INF] * 4
    assert [math.isnan(zeta(*at)) for at in ((0.5, 2.0), (2.5, -1.5), (NAN, 2.0))] == [True] * 3
    assert [zeta(INF, 1.0), zeta(1e30, 2.0), zeta(INF, 0.5)] == [1, 0, INF]
    s = gradient.tensor(2.0, requires_grad=True)
    with pytest.raises(NotImplementedError, match="zeta: has no derivative with respect to input"):
        special.zeta(s, 2.0).backward()


def test_derivatives_of_bessel_functions_at_zero():
    """Of any order: the series of i1 is x / 2 + x^3 / 16 + ..."""
    x = gradient.tensor(0.0, dtype=gradient.float64, requires_grad=True)
    y, found = special.i1(x), []
    for _ in range(3):
        (y,) = gradient.autograd.grad(y, x, create_graph=True)
        found.append(y.item())
    assert found == [0.5, 0.0, 0.375]


def test_products_with_logarithms():
    zero = gradient.tensor(0.0, requires_grad=True)
    infinite = gradient.tensor(INF, requires_grad=True)
    y = special.xlogy(zero, infinite)
    y.backward()
    assert (y.item(), zero.grad.item(), infinite.grad.item()) == (0.0, INF, 0.0)
    assert special.xlogy(0, gradient.tensor([0.0, -1.0, NAN])).tolist()[:2] == [0, 0]
    ints = gradient.tensor([0, 1])
    assert special.xlog1py(2, ints).tolist() == pytest.approx([0, 2 * math.log(2)])
    at_edge = gradient.tensor(-1.0, requires_grad=True)
    zero.grad = None
    special.xlog1py(zero, at_edge).backward()
    assert zero.grad.item() == 0 and math.isnan(at_edge.grad.item())


def test_mvlgamma():
    x = gradient.tensor([5, 1])
    assert x.mvlgamma(3).tolist() == pytest.approx([9.140645, INF])
    with pytest.raises(ValueError, match="mvlgamma: expected p of at least 1, got 0"):
        x.mvlgamma(0)
    with pytest.raises(NotImplementedError, match="mvlgamma: expected numbers, got bool"):
        (x > 0).mvlgamma(1)


def test_what_gradient_has_too_is_the_same_function():
    for name in ("digamma", "erfinv", "softmax", "xlogy"):
        assert getattr(special, name) is getattr(gradient, name)
    assert special.gammaln is gradient.lgamma


# Reference values by mpmath: a, x, P(a, x), Q(a, x)
INCOMPLETE = [
    (0.3514834955827171, 19.54185026060505, 0.9999999998187197, 1.812802643848043e-10),
    (1e-9, 0.5, 0.9999999994402264, 5.5977359506954064e-10),
    (31.88590339156758, 0.0032826164066064854, 3.5751710970232346e-115, 1.0),
    (151.04143120070566, 202.01582161353966, 0.999922266348891, 7.773365110877181e-05),
    (0.0, 1.0, 1.0, 0.0),
    (1.0, 0.0, 0.0, 1.0),
    (1.0, INF, 1.0, 0.0),
    (INF, 1.0, 0.0, 1.0),
    (1e300, 1e300, 0.5, 0.5),
    (0.0, 0.0, NAN, NAN),
    (-1.0, 1.0, NAN, NAN),
    (1.0, NAN, NAN, NAN),
]


@pytest.mark.parametrize(("a", "x", "lower", "upper"), INCOMPLETE)
def test_incomplete_gamma_functions(a: float, x: float, lower: float, upper: float):
    pair = [gradient.tensor(v, dtype=gradient.float64) for v in (a, x)]
    found = [special.gammainc(*pair).item(), special.gammaincc(*pair).item()]
    np.testing.assert_allclose(found, [lower, upper], rtol=1e-12)


def test_incomplete_gamma_functions_have_a_derivative_by_their_bound():
    a = gradient.tensor(2.0, requires_grad=True)
    x = gradient.tensor(1.0, requires_grad=True)
    (slope,) = gradient.autograd.grad(special.gammaincc(a.detach(), x), x)
    assert slope.item() == pytest.approx(-math.exp(-1))
    with pytest.raises(NotImplementedError, match="gammainc: has no derivative with respect to"):
        special.gammainc(a, x).backward()
    for name, function in (("gammainc", special.gammainc), ("igamma", gradient.igamma)):
        with pytest.raises(errors.DTypeError, match=f"^{name}: expected a floating-point dtype"):
            function(gradient.tensor(1), gradient.tensor(2))

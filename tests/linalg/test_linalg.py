"""Linear algebra where op_db's samples do not reach: large, singular and NaN matrices."""

from __future__ import annotations

import math

import pytest

import gradient
from gradient import errors, linalg

NAN = math.nan


def test_the_sign_of_a_determinant_that_underflows():
    sign, size = linalg.slogdet(gradient.eye(200) * 0.01)
    assert sign.item() == 1
    assert size.item() == pytest.approx(200 * math.log(0.01))
    assert math.isnan(gradient.logdet(-gradient.eye(401, dtype=gradient.float64) * 0.1).item())


def test_matrices_of_a_batch_have_exponentials_of_their_own():
    x = gradient.tensor([[[0.0, 30.0], [30.0, 0.0]], [[NAN, 0.0], [0.0, 1.0]]])
    assert gradient.matrix_exp(x)[0, 0, 0].item() == pytest.approx(math.cosh(30.0), rel=1e-5)
    y = gradient.tensor([[[-1.0]], [[600.0]]], dtype=gradient.float64, requires_grad=True)
    found = gradient.matrix_exp(y)
    assert found[0].item() == pytest.approx(math.exp(-1), rel=1e-15)
    found.sum().backward()
    assert y.grad.flatten().tolist() == pytest.approx([math.exp(-1), math.exp(600)], rel=1e-10)


def test_one_triangle_is_read():
    lower = gradient.tensor([[1.0, NAN], [2.0, 1.0]])
    assert gradient.cholesky_solve(gradient.ones(2, 1), lower).flatten().tolist() == [3.0, -1.0]
    assert linalg.matrix_rank(gradient.tensor([[0.0, 5.0], [0.0, 0.0]]), hermitian=True) == 0


def test_what_has_no_factor_is_refused():
    with pytest.raises(errors.LinAlgError, match="linalg.cholesky: expected numbers, got NaN"):
        linalg.cholesky(gradient.tensor([[NAN, 0.0], [0.0, 1.0]]))
    with pytest.raises(errors.LinAlgError, match=r"linalg.inv: Singular matrix"):
        linalg.inv(gradient.zeros(2, 2))
    with pytest.raises(errors.ShapeError, match=r"linalg.det: expected square matrices"):
        linalg.det(gradient.ones(2, 3))
    with pytest.raises(IndexError):
        linalg.matrix_norm(gradient.ones(2, 2, 2), dim=(0, 5))

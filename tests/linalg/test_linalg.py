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


def test_a_matrix_of_a_batch_that_fails_is_told_by_info():
    x = gradient.stack([gradient.zeros(2, 2), 2 * gradient.eye(2)])
    inverse, info = linalg.inv_ex(x)
    assert info.dtype is gradient.int32 and info.tolist() == [1, 0]
    assert inverse[0].isnan().all() and inverse[1].tolist() == [[0.5, 0.0], [0.0, 0.5]]
    for b in (gradient.ones(2, 2, 1), gradient.ones(2, 2)):
        found, info = linalg.solve_ex(x, b)
        assert info.tolist() == [1, 0] and found.shape == b.shape
        assert found[0].isnan().all() and found[1].flatten().tolist() == [0.5, 0.5]
    third = gradient.tensor([[1.0, 2, 3], [2, 4, 6], [1, 1, 1]])
    assert linalg.inv_ex(third).info.item() == 3
    assert linalg.inv_ex(gradient.ones(2, 2).half()).info.item() == 2
    with pytest.raises(errors.LinAlgError, match="linalg.inv_ex"):
        linalg.inv_ex(x, check_errors=True)
    with pytest.raises(errors.LinAlgError, match="linalg.solve_ex"):
        linalg.solve_ex(x, gradient.ones(2, 2, 1), check_errors=True)


def test_a_matrix_that_is_not_positive_definite_is_told_by_info():
    x = gradient.tensor([[[-1.0, 0], [0, 1]], [[4.0, 0], [0, 4]], [[1.0, 2], [2, 1]]])
    factor, info = linalg.cholesky_ex(x)
    assert info.tolist() == [1, 0, 2]
    assert factor[1].tolist() == [[2.0, 0.0], [0.0, 2.0]] and factor[2].isnan().any()
    assert linalg.cholesky_ex(gradient.tensor([[4.0, 5], [2, -1]]), upper=True).info.item() == 2
    with pytest.raises(errors.LinAlgError, match="linalg.cholesky_ex"):
        linalg.cholesky_ex(x, check_errors=True)


def test_a_zero_on_the_diagonal_of_a_triangle_divides():
    lower, b = gradient.tensor([[0.0, 0.0], [2.0, 1.0]]), gradient.ones(2, 1)
    found = linalg.solve_triangular(lower, b, upper=False)
    assert found.flatten().tolist() == [math.inf, -math.inf]
    found = linalg.solve_triangular(lower, b.mT, upper=False, left=False)
    assert found.flatten().tolist() == [-math.inf, 1.0]
    upper = gradient.tensor([[1.0, 2.0], [0.0, 0.0]])
    found = linalg.solve_triangular(upper, b, upper=True)
    assert found.flatten().tolist() == [-math.inf, math.inf]


def test_condition_of_singular_and_empty_matrices():
    x = gradient.stack([gradient.zeros(2, 2), gradient.eye(2)])
    for p in (1, math.inf, "fro", "nuc"):
        assert linalg.cond(x, p)[0].item() == math.inf
    assert linalg.cond(x, 1).tolist() == [math.inf, 1.0]
    assert linalg.cond(gradient.ones(2, 0, 0)).tolist() == [0.0, 0.0]
    assert linalg.cond(gradient.ones(0, 0), 1).item() == 0
    with pytest.raises(errors.ShapeError, match=r"linalg.cond: expected square"):
        linalg.cond(gradient.ones(2, 3), 1)


@pytest.mark.parametrize("dtype", [gradient.float16, gradient.bfloat16])
def test_columns_are_added_in_16_bits(dtype):
    x = gradient.tensor([[1.0], [0.0], [0.0]], dtype=dtype)
    for square in (linalg.qr(x, "complete").Q, linalg.svd(x).U):
        assert square.dtype is dtype and square.shape == (3, 3)
        assert gradient.allclose((square.mT @ square).float(), gradient.eye(3), atol=1e-2)


def test_powers_of_integers():
    x = gradient.tensor([[1, 2], [3, 4]])
    assert linalg.matrix_power(x, 3).tolist() == [[37, 54], [81, 118]]
    assert linalg.matrix_power(x, 0).tolist() == [[1, 0], [0, 1]]
    with pytest.raises(errors.DTypeError, match="linalg.inv"):
        linalg.matrix_power(x, -1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda one: linalg.vander(one(3), N=1), "vander: expected N of at least 2"),
        (lambda one: linalg.vecdot(one(3).int(), one(3).int()), "vecdot: expected floating"),
        (lambda one: linalg.vecdot(one(3), one(3).double()), "linalg.vecdot"),
        (lambda one: linalg.householder_product(one(2, 3), one(2)), r"M at least N"),
        (lambda one: linalg.householder_product(one(3, 2), one(3)), r"K at most N"),
        (lambda one: linalg.householder_product(one(2, 3, 2), one(2)), r"tau \(\.\.\., K\)"),
        (lambda one: linalg.householder_product(one(3, 2), one(2).double()), "householder"),
    ],
)
def test_arguments_that_do_not_fit(wrong, message):
    with pytest.raises(errors.GradientError, match=message):
        wrong(gradient.ones)


def test_the_nuclear_norm_is_of_matrices():
    x = gradient.ones(2, 2, 2)
    assert x.norm("nuc", (0, 1), True).tolist() == [[pytest.approx([2.0, 2.0])]]
    with pytest.raises(errors.ArgumentError, match="norm: expected two dimensions for p 'nuc'"):
        x.norm("nuc")

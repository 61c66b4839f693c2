"""Linear algebra where op_db's samples do not reach: large, singular and NaN matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest

import gradient
from gradient import errors, linalg
from gradient.autograd import gradcheck, gradgradcheck

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
    first = linalg.matrix_power(x, 1)
    assert first.tolist() == x.tolist() and first.data_ptr() != x.data_ptr()
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


def test_factors_of_singular_matrices_are_told_by_info():
    x = gradient.tensor([[[0.0, 1.0], [0.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]]])
    factors, pivots, info = linalg.lu_factor_ex(x)
    assert info.dtype is pivots.dtype is gradient.int32
    assert info.tolist() == [1, 0] and pivots.tolist() == [[1, 2], [2, 2]]
    assert factors[0].tolist() == [[0.0, 1.0], [0.0, 2.0]]
    p, lower, upper = linalg.lu(x)
    assert gradient.allclose(p @ lower @ upper, x)
    with pytest.raises(errors.LinAlgError, match=r"matrix \(0,\) of the batch has a 0 at place 1"):
        linalg.lu_factor(x)
    with pytest.raises(errors.LinAlgError, match="linalg.lu_factor_ex: the matrix has a 0"):
        linalg.lu_factor_ex(x[0], check_errors=True)


@pytest.mark.parametrize("shape", [(0, 0), (2, 0, 3), (3, 0), (0, 2, 2)])
def test_factors_of_empty_matrices(shape):
    x = gradient.ones(shape)
    factors, pivots, info = linalg.lu_factor_ex(x)
    least = min(shape[-2:])
    assert factors.shape == shape and pivots.shape == (*shape[:-2], least)
    assert info.shape == shape[:-2] and not info.any()
    p, lower, upper = linalg.lu(x)
    assert (p @ lower @ upper).shape == shape


def test_elimination_in_blocks_with_and_without_exchanges():
    x = gradient.randn(2, 70, 100, dtype=gradient.float64)
    for pivot in (True, False):
        p, lower, upper = linalg.lu(x, pivot=pivot)
        product = lower @ upper
        assert gradient.allclose(p @ product if pivot else product, x, atol=1e-6)
    assert linalg.lu(x).L.abs().max() <= 1
    assert p.shape == (0,)


@pytest.mark.parametrize("pivot", [True, False])
@pytest.mark.parametrize("shape", [(3, 3), (2, 5, 3), (2, 3, 5)])
def test_gradients_of_factors(shape, pivot):
    gradient.manual_seed(3)
    x = gradient.randn(shape, dtype=gradient.float64)
    x = (x + (0 if pivot else 5) * gradient.eye(*shape[-2:])).detach().requires_grad_()
    assert gradcheck(lambda x: linalg.lu(x, pivot=pivot)[1:], x)
    assert gradgradcheck(lambda x: linalg.lu(x, pivot=pivot)[1:], x)


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("adjoint", [True, False])
def test_systems_are_solved_by_factors(left, adjoint):
    a = gradient.randn(2, 4, 4, dtype=gradient.float64)
    b = gradient.randn(4, 4, dtype=gradient.float64, requires_grad=True)
    factors, pivots = linalg.lu_factor(a)
    factors.requires_grad_()

    def solve(factors, b):
        return linalg.lu_solve(factors, pivots, b, left=left, adjoint=adjoint)

    x = solve(factors, b)
    operand = a.mT if adjoint else a
    assert gradient.allclose(operand @ x if left else x @ operand, b.expand(2, 4, 4))
    assert gradcheck(solve, (factors, b)) and gradgradcheck(solve, (factors, b))
    with pytest.raises(errors.DTypeError, match="pivots of int32"):
        linalg.lu_solve(factors, pivots.long(), b)
    with pytest.raises(errors.ShapeError, match="pivots from 1 to 4"):
        linalg.lu_solve(factors, pivots + 4, b)
    with pytest.raises(errors.ShapeError, match=r"pivots \(2, 4\)"):
        linalg.lu_solve(factors, pivots[0], b)


@pytest.mark.parametrize("dtype", [gradient.float64, gradient.complex128])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4), (3, 3), (3, 0), (1, 1)])
def test_reflections_multiply_to_the_factor(shape, dtype):
    x = gradient.randn(shape, dtype=dtype)
    a, tau = gradient.geqrf(x)
    m, n = shape[-2:]
    least = min(m, n)
    assert a.shape == shape and tau.shape == (*shape[:-2], least)
    product = gradient.ormqr(a[..., :least], tau, a.triu())
    assert gradient.allclose(product, x)
    q = gradient.ormqr(
        a[..., :least], tau, gradient.eye(m, dtype=x.dtype).expand(*shape[:-2], m, m)
    )
    one = gradient.eye(m, dtype=x.dtype)
    assert gradient.allclose(gradient.ormqr(a[..., :least], tau, q, transpose=True), one)
    if m >= n:
        assert gradient.allclose(linalg.householder_product(a, tau), q[..., :n])
    for transpose in (False, True):  # q.mH, then q.mH Q and q.mH Q^H
        expected = q.mH @ (q.mH if transpose else q)
        found = gradient.ormqr(a[..., :least], tau, q.mH, left=False, transpose=transpose)
        assert gradient.allclose(found, expected)
    assert not a.diagonal(dim1=-2, dim2=-1).imag.any() if dtype.is_complex else True
    assert gradcheck(gradient.geqrf, x.requires_grad_())


def test_columns_that_are_done_are_not_reflected():
    a, tau = gradient.geqrf(gradient.tensor([[1j, 2.0]]))
    assert tau.tolist() == [1 + 1j] and a.tolist() == [[-1, 2j]]
    x = gradient.tensor([[1.0, 2.0], [0.0, 0.0], [0.0, 3.0]], requires_grad=True)
    a, tau = gradient.geqrf(x)
    assert tau.tolist() == [0.0, 1.0] and a.tolist() == [[1.0, 2.0], [0.0, -3.0], [0.0, 1.0]]
    (a.sum() + tau.sum()).backward()
    assert x.grad.isfinite().all()


def test_low_rank_approximation_of_a_matrix_of_low_rank():
    a = gradient.randn(2, 30, 4, dtype=gradient.float64) @ gradient.randn(4, 20).double()
    for x in (a, a.mT):
        u, s, v = gradient.svd_lowrank(x, 4)
        assert gradient.allclose(u @ s.diag_embed() @ v.mT, x)
        u, s, v = gradient.pca_lowrank(x + 1e3, 4)
        centred = x - x.mean(-2, keepdim=True)
        assert gradient.allclose(u @ s.diag_embed() @ v.mT, centred, atol=1e-8)
    with pytest.raises(errors.ArgumentError, match="q from 0 to 20"):
        gradient.pca_lowrank(a, 21)
    with pytest.raises(errors.ArgumentError, match="niter of at least 0"):
        gradient.svd_lowrank(a, 2, -1)


def test_a_symmetric_matrix_has_a_gradient_in_both_triangles():
    x = gradient.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=gradient.float64, requires_grad=True)
    linalg.pinv(x, hermitian=True).sum().backward()
    grad, x.grad = x.grad, None
    linalg.pinv(x).sum().backward()
    assert gradient.allclose(grad, x.grad)


@pytest.mark.parametrize("dtype", [gradient.float32, gradient.complex128])
@pytest.mark.parametrize(
    "matrix", [np.eye(3), np.zeros((3, 3)), 2 * np.eye(3)[:2], np.eye(3)[:, :1]]
)
@pytest.mark.parametrize("name", ["svd", "eigh"])
def test_values_that_are_equal_have_gradients(name, matrix, dtype):
    if name == "eigh" and matrix.shape != (3, 3):
        matrix = matrix @ matrix.T
    x = gradient.tensor(matrix, dtype=dtype, requires_grad=True)
    found = getattr(gradient.linalg, name)(x)
    values = found.S if name == "svd" else found.eigenvalues
    values.square().sum().backward()  # the sum of the squares of x
    assert gradient.allclose(x.grad, 2 * x.detach())


@pytest.mark.parametrize("name", ["svd", "eigh"])
def test_values_that_are_equal_have_derivatives_in_a_direction(name):
    def total(m):
        found = getattr(linalg, name)(m)
        return (found.S if name == "svd" else found.eigenvalues).sum()

    x = gradient.eye(3, dtype=gradient.float64)
    _, along = gradient.autograd.functional.jvp(total, x, gradient.ones_like(x))
    assert along.item() == pytest.approx(3)  # the trace of the direction


COMPLEX = np.array([[1 + 1j, 2, 0.5j], [3, 4 - 2j, 1], [0.3, -1j, 2]])


@pytest.mark.parametrize("ord", ["fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf])
def test_norms_of_complex_matrices(ord):
    x = gradient.tensor(COMPLEX, requires_grad=True)
    inverse = np.linalg.inv(COMPLEX)
    expected = np.linalg.norm(COMPLEX, ord)
    for norm in (linalg.matrix_norm, linalg.norm):
        assert norm(x, ord).item() == pytest.approx(expected, rel=1e-12)
    found = linalg.cond(x, ord)
    assert found.dtype is gradient.float64
    assert found.item() == pytest.approx(expected * np.linalg.norm(inverse, ord), rel=1e-10)
    for function in (linalg.matrix_norm, linalg.cond):
        assert gradcheck(lambda m, f=function: f(m, ord), x)
        assert gradgradcheck(lambda m, f=function: f(m, ord), x)


def test_complex_matrices_of_no_size_and_of_no_inverse_have_condition_numbers():
    empty = linalg.cond(gradient.zeros(2, 0, 0, dtype=gradient.complex64))
    assert empty.dtype is gradient.float32 and empty.tolist() == [0.0, 0.0]
    singular = gradient.ones(2, 2, dtype=gradient.complex128)
    assert linalg.cond(singular, 1).item() == math.inf


@pytest.mark.parametrize("upper", [False, True])
def test_systems_of_complex_factors(upper):
    hermitian = COMPLEX @ COMPLEX.conj().T + 3 * np.eye(3)
    factor = np.linalg.cholesky(hermitian)
    x = gradient.tensor(factor.conj().T if upper else factor, requires_grad=True)
    b = gradient.tensor(COMPLEX[:, :2], requires_grad=True)
    found = gradient.cholesky_solve(b, x, upper).detach().numpy()
    np.testing.assert_allclose(hermitian @ found, COMPLEX[:, :2], atol=1e-12)
    inverse = gradient.cholesky_inverse(x, upper).detach().numpy()
    np.testing.assert_allclose(inverse @ hermitian, np.eye(3), atol=1e-12)
    assert gradcheck(lambda b, x: gradient.cholesky_solve(b, _half(x, upper), upper), (b, x))
    assert gradgradcheck(lambda b, x: gradient.cholesky_solve(b, _half(x, upper), upper), (b, x))


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("upper", [False, True])
def test_systems_of_complex_triangles(upper, transpose):
    """The transpose, not the conjugate one."""
    x, b = (gradient.tensor(m, requires_grad=True) for m in (COMPLEX, COMPLEX[:, :2]))
    half = (np.triu if upper else np.tril)(COMPLEX)
    found = gradient.triangular_solve(b, x, upper, transpose).solution.detach().numpy()
    np.testing.assert_allclose((half.T if transpose else half) @ found, COMPLEX[:, :2], atol=1e-12)
    assert gradcheck(lambda b, x: gradient.triangular_solve(b, x, upper, transpose)[0], (b, x))


def _half(x, upper):
    return x.triu() if upper else x.tril()


@pytest.mark.parametrize("ord", [math.inf, -math.inf])
def test_a_norm_of_infinite_order_beside_nan_has_gradient_zero(ord: float) -> None:
    x = gradient.tensor([[math.nan, 3.0, -3.0], [2.0, -2.0, 2.0]], requires_grad=True)
    gradient.linalg.vector_norm(x, ord, dim=1).sum().backward()
    assert x.grad.flatten().tolist() == pytest.approx([0, 0, 0, 1 / 3, -1 / 3, 1 / 3])


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("dtype", [gradient.float64, gradient.complex128])
def test_triangular_systems_are_solved_by_substitution(batch: tuple[int, ...], dtype):
    """Row exchanges would let large numbers below the diagonal spoil the first rows."""
    for size in (3, 70):
        a = gradient.randn(*batch, size, size, dtype=dtype) * 1e9
        b = gradient.randn(*batch, size, 2, dtype=dtype)
        for unit in (True, False):
            for upper in (False, True):
                given = a / 1e9 if size > 3 else a
                x = linalg.solve_triangular(given, b, upper=upper, unitriangular=unit)
                end = slice(-1, None) if upper else slice(0, 1)
                first = b[..., end, :] / (1 if unit else given[..., end, end])
                assert gradient.allclose(x[..., end, :], first, rtol=1e-13, atol=0)


def test_the_logarithm_of_a_complex_determinant():
    x = gradient.randn(2, 3, 3, dtype=gradient.complex128).requires_grad_()
    assert gradient.allclose(gradient.logdet(x).exp(), linalg.det(x))
    assert gradcheck(gradient.logdet, x)


@pytest.mark.parametrize("dtype", [gradient.float64, gradient.complex128])
@pytest.mark.parametrize(
    "function",
    [lambda x: linalg.slogdet(x)[1], lambda x: linalg.qr(x)[0], lambda x: linalg.lu(x)[2]],
    ids=["slogdet", "qr", "lu"],
)
def test_the_gradient_of_a_singular_matrix_is_no_number_and_no_error(function, dtype):
    whole = gradient.randn(2, 2, dtype=dtype)
    x = gradient.stack([gradient.zeros_like(whole), whole]).requires_grad_()
    alone = whole.clone().requires_grad_()
    for values in (x, alone):
        (function(values).abs() * 2).sum().backward()
    assert x.grad[0].isnan().any()
    assert gradient.allclose(x.grad[1], alone.grad)


def test_the_gradient_of_a_determinant_without_a_number_is_none():
    x = gradient.tensor([[[NAN, 1.0], [1.0, 2.0]], [[3.0, 1.0], [1.0, 2.0]]], requires_grad=True)
    linalg.det(x).sum().backward()
    assert x.grad[0].isnan().all()
    assert gradient.allclose(x.grad[1], gradient.tensor([[2.0, -1.0], [-1.0, 3.0]]))


def test_a_triangular_system_with_a_0_on_the_diagonal_has_infinite_solutions():
    a = gradient.tensor([[2.0, 0.0], [1.0, 0.0]], requires_grad=True)
    x = linalg.solve_triangular(a, gradient.ones(2, 1), upper=False)
    assert x.tolist() == [[0.5], [math.inf]]
    x[0].sum().backward()
    assert a.grad[1].isnan().any()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("dtype", [gradient.float32, gradient.float64], ids=str)
def test_the_gradient_of_det_has_all_digits_of_any_matrix(n, dtype, device):
    """It consists of minors, which do not depend on how well the matrix can be inverted."""
    rng = np.random.default_rng(n)
    x = rng.standard_normal((7, n, n))
    x[0] = np.outer(x[0, 0], x[0, -1])  # singular
    x[1, 0] = x[1, -1] * (1 + 1e-6)  # almost
    x[2], x[3] = 0, np.eye(n)
    x[4, :, 0] = 0
    x[5] *= 1e-5
    given = gradient.tensor(x, dtype=dtype, device=device).requires_grad_()
    gradient.linalg.det(given).sum().backward()
    exact = given.detach().double().numpy()
    for matrix, got in zip(exact, given.grad.double().numpy(), strict=True):
        minors = [
            [np.linalg.det(np.delete(np.delete(matrix, i, 0), j, 1)) * (-1) ** (i + j)
             for j in range(n)]
            for i in range(n)
        ]  # fmt: skip
        # Of a matrix of rank N - 2, minors are sums that cancel.
        digits = np.finfo(np.float32 if dtype is gradient.float32 else np.float64).eps
        np.testing.assert_allclose(
            got, minors, rtol=0, atol=20 * digits * np.linalg.norm(matrix, 2) ** (n - 1)
        )


@pytest.mark.parametrize("count", [1, 700])
@pytest.mark.parametrize("dtype", [gradient.float32, gradient.float64, gradient.complex64], ids=str)
def test_no_nan_is_lost_in_a_determinant(count, dtype, device):
    """LAPACK passes over a NaN below a zero and finds the matrix singular."""
    x = np.tile(np.eye(3), (count, 1, 1))
    for matrix in (
        [[0, 1, 2], [NAN, 1, 0], [0, 2, 1]],
        [[0, 1, 2], [0, 1, 0], [NAN, 2, 1]],
        [[NAN, 1, 2], [0, 1, 0], [0, 2, 1]],
    ):
        x[-1] = matrix
        given = gradient.tensor(x, dtype=dtype, device=device)
        assert linalg.det(given)[-1].isnan() and linalg.slogdet(given).logabsdet[-1].isnan()
        assert linalg.det(given)[:-1].eq(1).all()
    x[-1] = 0
    given = gradient.tensor(x, dtype=dtype, device=device)
    assert linalg.det(given)[-1] == 0 and linalg.slogdet(given).logabsdet[-1].item() == -math.inf

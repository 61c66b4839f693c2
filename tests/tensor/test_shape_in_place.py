"""squeeze_, unsqueeze_, t_ and their like: a tensor that becomes a view of what it was."""

from __future__ import annotations

import pytest

import gradient
from gradient import errors


def test_the_shape_changes_and_the_memory_stays():
    x = gradient.arange(6.0).reshape(2, 3).clone()
    row = x[0]
    assert x.unsqueeze_(0) is x and x.shape == (1, 2, 3)
    assert x.squeeze_().t_().shape == (3, 2)
    x[0, 0] = 9.0
    assert row.tolist() == [9, 1, 2]
    row[1] = 8.0
    assert x.transpose_(0, 1).tolist() == [[9, 8, 2], [3, 4, 5]]
    assert x.swapaxes_(0, 1).swapdims_(0, 1).shape == (2, 3)


def test_gradients_go_through_it():
    a = gradient.arange(6.0).reshape(2, 3).requires_grad_()
    y = a * 2
    first = y[0]
    y.t_()
    y[2].mul_(10)  # the last column of a
    assert first.tolist() == [0, 2, 40]
    (y * gradient.arange(6.0).reshape(3, 2)).sum().backward()
    assert a.grad.tolist() == [[0, 4, 80], [2, 6, 100]]
    with pytest.raises(errors.AutogradError, match="t_: a leaf Variable that requires grad"):
        a.t_()
    with gradient.no_grad():
        a.t_()
    a.grad = None
    a.sum().backward()
    assert a.grad.shape == (3, 2)


def test_a_view_of_another_tensor_changes_alone():
    x = gradient.zeros(2, 3, requires_grad=True) * 1
    view = x[0]
    view.unsqueeze_(1)
    assert view.shape == (3, 1) and x.shape == (2, 3)
    view.add_(gradient.ones(3, 1))
    assert x.tolist() == [[1, 1, 1], [0, 0, 0]]
    x.sum().backward()


def test_questions():
    x = gradient.ones(2)
    assert x.allclose(x + 1e-7) and not x.equal(x + 1) and x.is_same_size(-x)
    assert gradient.tensor(-1.0).is_nonzero() and not gradient.tensor([0]).is_nonzero()
    assert x.is_signed() and not x.bool().is_signed() and x.get_device() == -1
    with pytest.raises(errors.ShapeError, match="is_nonzero: expected one element, got 2"):
        x.is_nonzero()


def test_draws_of_more_distributions():
    gradient.manual_seed(5)
    x = gradient.empty(20000, dtype=gradient.float64)
    assert x.log_normal_(0.5, 0.25).log().mean().item() == pytest.approx(0.5, abs=0.01)
    assert x.log().std().item() == pytest.approx(0.25, abs=0.01)
    assert x.cauchy_(2.0, 3.0).median().item() == pytest.approx(2.0, abs=0.15)
    quartiles = x.quantile(gradient.tensor([0.25, 0.75], dtype=x.dtype))
    assert quartiles.tolist() == pytest.approx([-1, 5], abs=0.25)
    counts = gradient.zeros(20000, dtype=gradient.int64).geometric_(0.25)
    assert counts.min() == 1 and counts.double().mean().item() == pytest.approx(4, abs=0.1)
    assert (counts == 1).double().mean().item() == pytest.approx(0.25, abs=0.01)
    for wrong in (lambda: x.geometric_(1.0), lambda: x.cauchy_(0, 0), lambda: x.log_normal_(0, -1)):
        with pytest.raises(errors.ArgumentError, match="expected (p|sigma|std)"):
            wrong()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("normal_", ()), ("uniform_", ()), ("exponential_", ()), ("bernoulli_", ()), ("random_", ()),
     ("bernoulli_", (gradient.tensor(0.5),)), ("log_normal_", ()), ("cauchy_", ()),
     ("geometric_", (0.5,))],
)  # fmt: skip
def test_what_is_overwritten_by_draws_has_no_gradient(name, arguments):
    x = gradient.ones(3, requires_grad=True)
    y = x * 2
    row = y[:1]
    getattr(row, name)(*arguments)
    y.sum().backward()
    assert x.grad.tolist() == [0, 2, 2]


def test_linear_algebra_by_methods():
    x = gradient.tensor([[2.0, 0.0], [0.0, 4.0]])
    assert x.det().item() == 8 and x.inverse().diag().tolist() == [0.5, 0.25]
    assert x.cholesky().diag().tolist() == pytest.approx([2**0.5, 2])
    assert x.matrix_power(2)[1, 1].item() == 16 and x.svd().S.tolist() == [4, 2]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda x: x.fill_diagonal_(1.0), errors.ShapeError, "dimensions of one size"),
        (lambda x: x.float_power_(2), errors.DTypeError, "a tensor in float64"),
        (lambda x: x << 1, errors.DTypeError, "bitwise_left_shift: expected integers"),
        (lambda x: x.gcd(x), errors.DTypeError, "gcd: expected integers"),
        (
            lambda x: x.new_ones(2).int().lcm(x.new_ones(3).int()),
            errors.ShapeError,
            "lcm: the shapes do not broadcast, sizes 2 and 3",
        ),
        (
            lambda x: x.new_ones(2).int() << x.new_ones(3).int(),
            errors.ShapeError,
            "bitwise_left_shift: the shapes do not broadcast",
        ),
        (lambda x: x.heaviside(x.double()), errors.DTypeError, "values of dtype"),
        (lambda x: x.cumsum_(0, dtype=gradient.float64), errors.DTypeError, "own dtype"),
    ],
)
def test_arguments_that_do_not_fit(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong(gradient.ones(2, 3, 4))


@pytest.mark.parametrize("views", [0, 1, 2])
def test_under_no_grad_views_and_gradients_follow(views):
    x = gradient.zeros(2, 3)
    rows = [x[i] for i in range(views)]
    y = x.clone().requires_grad_() * 1
    with gradient.no_grad():
        x.t_()
        y.t_()
    w = gradient.ones(3, 2, requires_grad=True)
    x.add_(w)
    y.add_(w)
    for i, row in enumerate(rows):
        (found,) = gradient.autograd.grad(row.sum(), w, retain_graph=True)
        assert found.tolist() == [[1.0 - i, float(i)]] * 3
    assert y.requires_grad and gradient.autograd.grad(y.sum(), w)[0].tolist() == [[1, 1]] * 3

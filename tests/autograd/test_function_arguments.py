"""Which arguments a user's Function takes, and which results and gradients it may return."""

from __future__ import annotations

import pytest

import gradient
from gradient.autograd import Function
from gradient.errors import AutogradError
from gradient.tensor import Tensor


class Scaled(Function):
    """x * factor * weight, with arguments that a call may leave out."""

    @staticmethod
    def forward(ctx, x, factor=2.0, weight=None):
        ctx.factor, ctx.weighted = factor, weight is not None
        ctx.save_for_backward(x, weight)
        return x * factor if weight is None else x * factor * weight

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        if not ctx.weighted:
            return g * ctx.factor, None, None
        return g * ctx.factor * weight, None, (g * ctx.factor * x).sum()


class Doubled(Function):
    """x * factor without a ctx in forward."""

    @staticmethod
    def forward(x, factor=2.0):
        return x * factor

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.factor = inputs

    @staticmethod
    def backward(ctx, g):
        return g * ctx.factor, None


@pytest.fixture
def x():
    return gradient.tensor([1.0, -2.0], requires_grad=True)


@pytest.fixture
def weight():
    return gradient.tensor(5.0, requires_grad=True)


def test_none_for_arguments_that_the_call_left_out(x):
    Scaled.apply(x).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_a_gradient_for_no_argument_is_an_error(x):
    class Wrong(Scaled):
        @staticmethod
        def backward(ctx, g):
            return g, g

    with pytest.raises(AutogradError, match="expected 1 gradients .*got 2"):
        Wrong.apply(x).sum().backward()


@pytest.mark.parametrize("given", [{"factor": 3.0}, {"factor": 3.0, "weight": None}])
def test_arguments_by_name(x, given):
    Scaled.apply(x, **given).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("order", [("x", "weight"), ("weight", "x")])
def test_gradients_of_arguments_by_name_in_any_order_with_one_left_out(x, weight, order):
    values = {"x": x, "weight": weight}
    Scaled.apply(**{name: values[name] for name in order}).sum().backward()
    assert x.grad.tolist() == [10.0, 10.0] and weight.grad.item() == -2.0


def test_setup_context_receives_defaults_and_names(x):
    for call, slope in (({}, 2.0), ({"factor": 4.0}, 4.0)):
        (g,) = gradient.autograd.grad(Doubled.apply(x, **call).sum(), x)
        assert g.tolist() == [slope, slope]
    assert Doubled.apply(factor=4.0, x=x).tolist() == [4.0, -8.0]


def test_an_argument_that_forward_takes_by_name_only(x):
    class Shifted(Doubled):
        @staticmethod
        def forward(x, factor=2.0, *, shift=0.0):
            return x * factor + shift

    assert Shifted.apply(x).tolist() == [2.0, -4.0]
    assert Shifted.apply(x, shift=1.0).tolist() == [3.0, -3.0]


def test_an_unknown_name_is_refused(x):
    with pytest.raises(TypeError, match="unexpected keyword argument 'speed'"):
        Scaled.apply(x, speed=1)


class WithCount(Function):
    """Results that are no tensors, beside one that is."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return "name", x * x, None, x.numel()

    @staticmethod
    def backward(ctx, name, g, nothing, count):
        assert name is nothing is count is None
        (x,) = ctx.saved_tensors
        return 2 * g * x


def test_results_that_are_no_tensors(x):
    name, y, nothing, count = WithCount.apply(x)
    assert (name, nothing, count) == ("name", None, 2)
    (g,) = gradient.autograd.grad(y.sum(), x, create_graph=True)
    assert g.tolist() == [2.0, -4.0]
    assert gradient.autograd.grad(g.sum(), x)[0].tolist() == [2.0, 2.0]
    with gradient.no_grad():
        assert WithCount.apply(x)[3] == 2


@pytest.mark.parametrize("result", [3, None, [gradient.ones(1)], (1, 2), ()])
def test_a_result_without_a_tensor_is_refused(x, result):
    class Odd(Function):
        @staticmethod
        def forward(ctx, x):
            return result

    with pytest.raises(AutogradError, match="expected a Tensor, or a tuple with Tensors"):
        Odd.apply(x)


def test_saving_for_forward_derivatives_does_nothing(x):
    class Saves(Doubled):
        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_forward(inputs[0])
            ctx.factor = inputs[1]

    assert isinstance(Saves.apply(x), Tensor)
    _, tangent = gradient.func.jvp(Saves.apply, (x.detach(),), (gradient.ones(2),))
    assert tangent.tolist() == [2.0, 2.0]


@pytest.mark.parity
@pytest.mark.parametrize("given", [{}, {"factor": 4.0}, {"x": None}])
def test_arguments_beside_pytorch(given):
    torch = pytest.importorskip("torch")

    def gradients(library):
        base = library.autograd.Function
        members = ("forward", "setup_context", "backward")
        copy = type("Doubled", (base,), {n: staticmethod(getattr(Doubled, n)) for n in members})
        x = library.tensor([1.0, -2.0], requires_grad=True)
        y = copy.apply(**{**given, "x": x}) if "x" in given else copy.apply(x, **given)
        y.sum().backward()
        return y.tolist(), x.grad.tolist()

    assert gradients(gradient) == gradients(torch)

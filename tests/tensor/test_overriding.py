"""Subclasses of Tensor, whose `__torch_function__` is asked, or which have none."""

from __future__ import annotations

import copy
import gc
import operator
import pickle
import weakref
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import nn
from gradient.errors import AutogradError, BackendError, TypeMismatch
from gradient.tensor.overriding import DisableTorchFunctionSubclass, disabled, overriding

pytestmark = pytest.mark.cpu_only

log: list[Any] = []


class Named(gradient.Tensor):
    """Keeps its class, as one without a method of its own does."""


class Logged(gradient.Tensor):
    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        log.append((func, types))
        found: Any = super()
        return found.__torch_function__(func, types, args, kwargs)


class Deeper(Logged):
    def doubled(self) -> Any:
        return self * 2

    def sum(self, *args: Any, **kwargs: Any) -> Any:
        return super().sum(*args, **kwargs) + 1


class Unasked(gradient.Tensor):
    __torch_function__ = disabled


def named(*values: float) -> Any:
    return gradient.tensor(values).as_subclass(Named)


def test_results_keep_the_class() -> None:
    x = named(1.0, 2.0)
    plain = gradient.ones(2)
    for y in (x + 1, 1 - x, plain + x, plain / x, x @ plain, x[0], x.T, x.sum(), -x, x == plain):
        assert type(y) is Named
    values, indices = x.max(0)
    assert type(values) is type(indices) is Named
    assert type(x.max(0)) is type(plain.max(0))
    assert [type(part) for part in x] == [Named, Named]
    assert type(x.shape) is gradient.Size and type(x.tolist()) is list
    assert type(x.as_subclass(gradient.Tensor)) is gradient.Tensor


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3)])
def test_as_subclass_shares_memory_and_graph(shape: tuple[int, ...]) -> None:
    base = gradient.ones(shape, requires_grad=True)
    x = (base * 2).as_subclass(Named)
    assert type(x) is Named and x.requires_grad and x.shape == shape
    (x * x).sum().backward()
    assert base.grad is not None
    np.testing.assert_array_equal(base.grad.numpy(), np.full(shape, 8.0))
    plain = gradient.zeros(shape)
    plain.as_subclass(Named).fill_(3)
    np.testing.assert_array_equal(plain.numpy(), np.full(shape, 3.0))


def test_as_subclass_of_a_transposed_view() -> None:
    base = gradient.arange(6.0).reshape(2, 3).requires_grad_()
    x: Any = base.T.as_subclass(Named)
    assert not x.is_contiguous() and type(x.detach()) is Named
    (x[0] * gradient.tensor([1.0, 2.0])).sum().backward()
    assert base.grad is not None and base.grad.tolist() == [[1, 0, 0], [2, 0, 0]]


def test_writes_in_place_keep_the_tensor() -> None:
    x = named(1.0, 2.0)
    same = x
    x += 1
    x[0] = 5
    assert x is same and type(x) is Named and x.tolist() == [5, 3]
    assert x.add_(1) is x and type(x.requires_grad_()) is Named


def test_a_classs_own_methods_come_first_and_super_asks() -> None:
    x: Any = gradient.tensor([1.0, 2.0]).as_subclass(Deeper)
    log.clear()
    assert x.sum().tolist() == 4 and type(x.doubled()) is Deeper
    assert [func for func, _ in log] == [
        gradient.Tensor.sum,
        gradient.Tensor.add,
        gradient.Tensor.tolist,
        gradient.Tensor.mul,
    ]


def test_the_deepest_class_is_asked_first() -> None:
    x, y = (gradient.ones(2).as_subclass(c) for c in (Logged, Deeper))
    log.clear()
    assert type(x * y) is Deeper
    assert log == [(gradient.Tensor.mul, (Deeper, Logged))]
    assert overriding([x, [y, x], 3, gradient.ones(1)]) == [y, x]


def test_other_classes_cannot_be_mixed() -> None:
    with pytest.raises(TypeMismatch, match="NotImplemented of Named, Logged"):
        named(1.0) * gradient.ones(1).as_subclass(Logged)


def test_a_block_without_asking() -> None:
    x = named(1.0)
    with DisableTorchFunctionSubclass():
        assert type(x + 1) is gradient.Tensor
        with DisableTorchFunctionSubclass():
            pass
        assert type(x.exp()) is gradient.Tensor
    assert type(x + 1) is Named


def test_a_class_that_is_not_asked() -> None:
    x = gradient.ones(2).as_subclass(Unasked)
    assert type(x + 1) is gradient.Tensor and Unasked.__bases__ == (gradient.Tensor,)
    assert nn.Parameter.__bases__ == (gradient.Tensor,)
    assert type(nn.Parameter(gradient.ones(1)) * 2) is gradient.Tensor
    assert "Overriding" not in [c.__name__ for c in gradient.Tensor.__mro__]


def test_properties_are_asked_about() -> None:
    x: Any = gradient.ones(2, 3).as_subclass(Logged)
    log.clear()
    assert x.shape == (2, 3) and x.requires_grad is False and x.T.shape == (3, 2)
    x.requires_grad = True
    tensor: Any = gradient.Tensor
    assert [func for func, _ in log] == [
        tensor.shape.__get__,
        tensor.requires_grad.__get__,
        tensor.T.__get__,
        tensor.shape.__get__,
        tensor.requires_grad.__set__,
    ]
    assert x.requires_grad
    (x * 2).sum().backward()
    assert type(x.grad) is gradient.Tensor  # as in PyTorch: `get_default_nowrap_functions`


def test_copies_and_pickles() -> None:
    x = named(1.0, 2.0)
    x.tag = "mine"
    for y in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert type(y) is Named and y.tag == "mine" and y.tolist() == [1, 2]
    assert repr(x) == "Named([1., 2.])" and f"{x}" == repr(x)
    assert repr(named()) == "Named([])"
    assert hash(x) == hash(x) and bool(named(1.0)) and len(x) == 2 and 2.0 in x


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow"])
@pytest.mark.parametrize("dtype", [gradient.float32, gradient.bfloat16, gradient.int64])
def test_operators_have_the_values_of_plain_tensors(name: str, dtype: Any) -> None:
    run = getattr(operator, name)
    a = gradient.tensor([1, 2, 7], dtype=dtype)
    x = a.as_subclass(Named)
    for other in (a + 1, 2, gradient.tensor([3.0, float("inf"), float("nan")])):
        for left, right in ((x, other), (other, x)):
            expected = run(*(a if v is x else v for v in (left, right)))
            found = run(left, right)
            assert type(found) is Named and found.dtype == expected.dtype
            np.testing.assert_array_equal(found.float().numpy(), expected.float().numpy())


def test_an_operand_that_knows_is_asked_too() -> None:
    class Lazy:
        def __radd__(self, other: Any) -> str:
            return "lazy"

    assert named(1.0) + Lazy() == "lazy"
    with pytest.raises(TypeError):
        named(1.0) + "text"


def test_make_subclass() -> None:
    make: Any = gradient.Tensor._make_subclass
    base = gradient.ones(2)
    x = make(Named, base, True)
    assert type(x) is Named and x.requires_grad and x.is_leaf
    assert not make(Named, x).requires_grad
    make(Named, base).zero_()
    assert base.tolist() == [0, 0]
    with pytest.raises(TypeMismatch, match="derives from Tensor"):
        base.as_subclass(int)
    with pytest.raises(BackendError, match="__torch_dispatch__"):
        gradient.Tensor._make_wrapper_subclass(Named, (2,))


def test_methods_of_a_subclass_compute_with_plain_tensors() -> None:
    plain = gradient.ones(2, 3)
    assert (
        Named.sum(plain).item() == 6 and [*map(Logged.float, [plain])][0].tolist() == [[1] * 3] * 2
    )
    assert Logged.shape.__get__(plain) == (2, 3) and Logged.__repr__(plain) == repr(plain)
    assert Named.__add__(plain, 1).tolist() == Named.__radd__(plain, 1).tolist() == [[2] * 3] * 2


def test_a_subclass_can_be_freed() -> None:
    class Short(gradient.Tensor):
        pass

    gradient.ones(1).as_subclass(Short) + 1
    kept = weakref.ref(Short)
    del Short
    gc.collect()
    assert kept() is None


class Marked(nn.Parameter):
    """A parameter that is asked."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        log.append((func, types))
        found: Any = super()
        return found.__torch_function__(func, types, args, kwargs or {})


class Quiet(nn.Parameter):
    """A parameter of a class of its own that is not asked."""


class Answer:
    """No tensor."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func.__name__, len(args)


@pytest.mark.parametrize("kind", [nn.Parameter, nn.Buffer, Quiet])
def test_operators_of_parameters_ask_the_other(kind: Any) -> None:
    w, x = kind(gradient.tensor([1.0, 2.0])), named(2.0, 3.0)
    for y in (w * x, w - x, w @ x, w == x, w < x, w**x, w // x):
        assert type(y) is Named
    for y in (w * 2, w + gradient.ones(2), w * w, w == 2, -w, w / 2.0):
        assert type(y) is gradient.Tensor
    with gradient.no_grad():
        same = w
        same += 1
    assert same is w and w.tolist() == [2, 3]


def test_a_parameter_that_is_asked() -> None:
    w = Marked(gradient.ones(2))
    log.clear()
    assert type(w * 2) is type(2 * w) is type(w.sum()) is gradient.Tensor
    tensor: Any = gradient.Tensor
    assert log == [(tensor.mul, (Marked,)), (tensor.mul, (Marked,)), (tensor.sum, (Marked,))]
    assert isinstance(w, nn.Parameter) and repr(w).startswith("Parameter containing")
    (w * w).sum().backward()
    assert w.grad is not None and w.grad.tolist() == [2, 2]
    assert type(copy.deepcopy(w)) is Marked


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_parameters_and_buffers_keep_a_class(shape: tuple[int, ...]) -> None:
    x = gradient.ones(shape).as_subclass(Named)
    w, b = nn.Parameter(x), nn.Buffer(x, persistent=False)
    kinds: list[Any] = [type(w), type(b)]
    assert kinds == [Named, Named] and w.requires_grad and w.is_leaf and not b.requires_grad
    assert isinstance(w, nn.Parameter) and not isinstance(w, nn.Buffer)
    assert isinstance(b, nn.Buffer) and not isinstance(b, nn.Parameter)
    assert not isinstance(x, nn.Parameter) and not isinstance(gradient.ones(1), nn.Parameter)
    assert w.data_ptr() == x.data_ptr() and not nn.Parameter(x, False).requires_grad
    module = nn.Module()
    module.w, module.b = w, b
    assert [*module.state_dict()] == ["w"] and [*module.buffers()] == [b]
    assert [type(p) for p in module.parameters()] == [Named]
    assert isinstance(copy.deepcopy(module).w, nn.Parameter)
    assert not issubclass(Named, nn.Parameter)
    with pytest.raises(AutogradError):
        nn.Parameter(gradient.ones(1, dtype=gradient.int64).as_subclass(Named))


def test_a_class_that_detach_loses_is_no_parameter() -> None:
    class Losing(gradient.Tensor):
        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return disabled(func, types, args, kwargs)

    with pytest.raises(TypeMismatch, match=r"a detach\(\) that returns a Losing"):
        nn.Parameter(gradient.ones(1).as_subclass(Losing))


def test_operands_that_are_no_tensors_are_asked() -> None:
    x: Any = gradient.ones(2, 2)
    a: Any = Answer()
    asked: list[Any] = [x + a, a + x, x - a, a - x, x / a, a / x, x // a, a // x, x @ a, a @ x]
    names = "add add sub __rsub__ div __rdiv__ __floordiv__ __rfloordiv__ matmul __rmatmul__"
    assert asked == [(name, 2) for name in names.split()]
    other: list[Any] = [x == a, x != a, x < a, a < x, x & a, x % a, a**x, x.mul(a), x.matmul(a)]
    names = "eq ne lt gt __and__ remainder __rpow__ mul matmul"
    assert other == [(name, 2) for name in names.split()]
    x += a
    assert x == ("add", 2)
    with DisableTorchFunctionSubclass(), pytest.raises(TypeError):
        gradient.ones(2) + a


def test_the_default_is_an_attribute_of_tensor() -> None:
    tensor: Any = gradient.Tensor
    x = gradient.ones(2)
    assert tensor.__torch_function__(tensor.add, (tensor,), (x, 1)).tolist() == [2, 2]
    assert tensor.__torch_function__(tensor.add, (Named,), (named(1.0), 1)) is NotImplemented
    assert type(Named.__torch_function__(tensor.add, (Named,), (x, 1))) is Named


def test_reversed() -> None:
    x: Any = gradient.arange(6).reshape(3, 2)
    assert reversed(x).tolist() == [[4, 5], [2, 3], [0, 1]]
    assert reversed(gradient.tensor(3)).item() == 3 and reversed(gradient.ones(0)).shape == (0,)


def test_a_class_with_a_dispatch_is_refused() -> None:
    class Dispatched(gradient.Tensor):
        @classmethod
        def __torch_dispatch__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return func(*args, **kwargs or {})

    tensor: Any = gradient.Tensor
    for make in (
        lambda: gradient.ones(2).as_subclass(Dispatched),
        lambda: tensor._make_subclass(Dispatched, gradient.ones(2)),
        lambda: tensor._make_wrapper_subclass(Dispatched, (2,)),
    ):
        with pytest.raises(BackendError, match="the __torch_dispatch__ of Dispatched would never"):
            make()

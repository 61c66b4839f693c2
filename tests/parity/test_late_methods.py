"""Methods of Tensor that few programs call, each under both packages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import gradient  # noqa: E402
from support.both_packages import assert_alike  # noqa: E402


def x(t: Any) -> Any:
    return t.tensor([1.0, 2.0, 3.0])


def m(t: Any) -> Any:
    return (t.arange(12.0).reshape(3, 4) * 0.7).sin().double()


def set_to(t: Any, *arguments: Any) -> Any:
    """A tensor that shows another's memory, after a write into it."""
    shown, whole = t.zeros(0), t.arange(6.0)
    shown.set_(whole, *arguments)
    shown.add_(10)
    return shown, whole, shown.stride(), shown.storage_offset(), shown.is_set_to(whole)


def set_to_a_slice(t: Any, *arguments: Any) -> Any:
    whole = t.arange(10.0)
    shown = t.ones(4)[1:].set_(whole[3:], *arguments)
    shown.mul_(2)
    return shown, whole, shown.storage_offset(), shown[1:].storage_offset()


def strided_in_place(t: Any, *layout: Any) -> Any:
    """The tensor, a view of it that was taken before, and the gradient of both."""
    leaf = t.arange(6.0, requires_grad=True)
    whole = leaf * 1
    part = whole[2:4]
    whole.as_strided_(*layout)
    part.mul_(10)
    return whole, part, whole.stride(), t.autograd.grad((whole * whole).sum() + part.sum(), leaf)


def set_again(t: Any) -> Any:
    shown, whole = t.ones(3), t.arange(10.0)
    shown.set_(whole, 4, (2,)).set_()
    return shown, shown.storage_offset()


CASES: dict[str, Callable[[Any], Any]] = {
    "apply_": lambda t: x(t).apply_(lambda v: v * 2),
    "apply_ to a column": lambda t: (lambda a: (a[:, 0].apply_(lambda v: 5.0), a))(t.ones(2, 2)),
    "apply_ to ints": lambda t: t.tensor([1, 2]).apply_(lambda v: v + 0.5),
    "apply_ to bools": lambda t: t.tensor([True, False]).apply_(lambda v: not v),
    "apply_ to nothing": lambda t: t.zeros(0, 2).apply_(lambda v: 1 / 0),
    "apply_ of complex numbers": lambda t: x(t).apply_(lambda v: 1j),
    "apply_ to complex numbers": lambda t: t.tensor([1j]).apply_(lambda v: v * 2),
    "apply_ of what bytes do not hold": lambda t: t.ones(1, dtype=t.uint8).apply_(lambda v: 300),
    "apply_ of negative bytes": lambda t: t.ones(1, dtype=t.uint8).apply_(lambda v: -3),
    "apply_ of infinities": lambda t: t.ones(1, dtype=t.float16).apply_(lambda v: 1e9),
    "apply_ of NaN to ints": lambda t: t.tensor([1]).apply_(lambda v: float("nan")),
    "apply_ that fails": lambda t: x(t).apply_(lambda v: 1 / 0),
    "apply_ of None": lambda t: x(t).apply_(lambda v: None),
    "apply_ of no function": lambda t: x(t).apply_(3),
    "apply_ to what requires a gradient": lambda t: x(t).requires_grad_().apply_(lambda v: v),
    "map_": lambda t: x(t).map_(x(t) * 10, lambda a, b: a + b),
    "map_ broadcasts": lambda t: x(t).map_(t.tensor([10.0]), lambda a, b: a + b),
    "map_ does not grow": lambda t: t.ones(1).map_(x(t), lambda a, b: a + b),
    "map_ of another dtype": lambda t: x(t).map_(t.tensor([1, 2, 3]), lambda a, b: a),
    "map_ of a number": lambda t: x(t).map_(3, lambda a, b: a),
    "map2_": lambda t: x(t).map2_(x(t), x(t), lambda a, b, c: a + b * c),
    "set_": set_to,
    "set_ to a part": lambda t: set_to(t, 1, (2, 2), (1, 2)),
    "set_ to rows": lambda t: set_to(t, 2, (2, 2)),
    "set_ to a slice": set_to_a_slice,
    "set_ to a part of a slice": lambda t: set_to_a_slice(t, 2, (2, 2), (2, 1)),
    "set_ twice": set_again,
    "set_ to nothing": lambda t: x(t).set_(),
    "as_strided_": lambda t: strided_in_place(t, (2, 2), (1, 2)),
    "as_strided_ beyond the memory": lambda t: t.ones(3).as_strided_((4,), (1,)),
    "as_strided_ as a function": lambda t: t.as_strided_(t.arange(6.0), (2, 2), (3, 1), 1),
    "conj_physical_": lambda t: t.tensor([1 + 2j, 3j]).conj_physical_(),
    "conj_physical_ of real numbers": lambda t: x(t).conj_physical_(),
    "dim_order": lambda t: [
        a.dim_order()
        for a in (t.ones(2, 3), t.ones(2, 3, 4).permute(2, 0, 1), t.ones(()), t.ones(1, 1, 3))
    ],
    "unsafe_split_with_sizes": lambda t: m(t).unsafe_split_with_sizes([1, 3], -1),
    "set_ to another dtype": lambda t: x(t).double().set_(x(t)),
    "set_ of a leaf": lambda t: x(t).requires_grad_().set_(x(t)),
    "new_empty_strided": lambda t: x(t).new_empty_strided((2, 2), (1, 2), dtype=t.int8).stride(),
    "narrow_copy": lambda t: (lambda a: (a.narrow_copy(0, 1, 2).zero_(), a))(x(t)),
    "nonzero_static": lambda t: t.tensor([[0, 1], [2, 0]]).nonzero_static(size=4, fill_value=7),
    "nonzero_static, cut": lambda t: t.tensor([0, 1, 2]).nonzero_static(size=1),
    "nonzero_static of a number": lambda t: t.tensor(3).nonzero_static(size=2),
    "nonzero_static filled with a float": lambda t: t.tensor([1]).nonzero_static(
        size=2, fill_value=2.5
    ),
    "nonzero_static below 0": lambda t: t.tensor([1]).nonzero_static(size=-1),
    "fix_": lambda t: (x(t) * 0.7).fix_(),
    "unsafe_chunk": lambda t: (lambda a: (a.unsafe_chunk(2)[0].zero_(), a))(x(t)),
    "unsafe_split": lambda t: tuple(x(t).unsafe_split(2)),
    "histc": lambda t: x(t).histc(4, min=0, max=4),
    "histogram": lambda t: tuple(x(t).histogram(3, range=(0.0, 3.0), density=True)),
    "stft": lambda t: (t.arange(32.0).stft(8, window=t.ones(8), return_complex=True) * 100).abs(),
    "istft": lambda t: (
        t.arange(32.0)
        .stft(8, window=t.ones(8), return_complex=True)
        .istft(8, window=t.ones(8), length=30)
        .round()
    ),
    "hardshrink": lambda t: x(t).hardshrink(1.5),
    "prelu": lambda t: (-x(t)).prelu(t.tensor([0.5])),
    "geqrf and orgqr": lambda t: (lambda a: (a[0].orgqr(a[1]) * 1e4).round())(m(t).T.geqrf()),
    "ormqr": lambda t: (lambda a: (a[0].ormqr(a[1], m(t).T.contiguous()) * 1e4).round())(
        m(t).T.geqrf()
    ),
    "lu and lu_solve": lambda t: (
        m(t)[:, :1].lu_solve(*(m(t)[:, 1:] + t.eye(3)).lu()) * 1e4
    ).round(),
    "triangular_solve": lambda t: tuple(
        (each * 1e4).round()
        for each in m(t)[:, :1].triangular_solve(m(t)[:, 1:] + t.eye(3).double())
    ),
    "kinds of dimensions": lambda t: (x(t).dense_dim(), x(t).sparse_dim(), x(t).is_distributed()),
    "to_dense": lambda t: (lambda a: (a.to_dense() is a, a.to_dense(t.float64)))(x(t)),
    "const_data_ptr": lambda t: (lambda a: a.const_data_ptr() == a.data_ptr())(x(t)),
}


@pytest.mark.filterwarnings("ignore:torch.triangular_solve")
@pytest.mark.parametrize("name", CASES)
def test_as_pytorch(name):
    assert_alike(CASES[name])


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("values", "sparse tensors are those of sparse_coo_tensor"),
        ("storage_type", "use TypedStorage"),
        ("q_scale", "gradient.quantization"),
        ("symeig", "linalg.eigh"),
        ("solve", "linalg.solve"),
    ],
)
def test_absent_names_say_what_to_use(name, hint):
    assert not hasattr(gradient.ones(1), name)
    with pytest.raises(AttributeError, match=f"no attribute '{name}'.*{hint}"):
        getattr(gradient.ones(1), name)

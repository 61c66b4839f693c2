"""In-place writes at an index change nothing but the elements at the index, and record them."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import gradient
from gradient import tensor
from gradient.backends.numpy import along, indexed_sums
from gradient.tensor import gathering
from gradient.testing import assert_close
from support.array_backends import PROOFS

ROWS = [3, 0, 3]
"""Rows of x (4, 5), one of them twice."""
FORMS = {
    "index_add": lambda x, v, form: getattr(x, f"index_add{form}")(0, at(x, ROWS), v, alpha=2),
    "index_add of columns": lambda x, v, form: getattr(x, f"index_add{form}")(
        1, at(x, [4, 1, 1]), v[:, :4].T
    ),
    "index_copy": lambda x, v, form: getattr(x, f"index_copy{form}")(0, at(x, [3, 0, 1]), v),
    "index_fill": lambda x, v, form: getattr(x, f"index_fill{form}")(1, at(x, [-1, 0, 0]), 3),
    "index_fill by a tensor": lambda x, v, form: getattr(x, f"index_fill{form}")(
        0, at(x, ROWS), v[0, 0]
    ),
    "index_put": lambda x, v, form: getattr(x, f"index_put{form}")((at(x, [3, 0, -3]),), v),
    "index_put of columns": lambda x, v, form: getattr(x, f"index_put{form}")(
        (None, at(x, [1, 4])), v[:1, :2]
    ),
    "index_put of elements": lambda x, v, form: getattr(x, f"index_put{form}")(
        (at(x, [[3], [1]]), at(x, [[0, -1, 2]])), v[0, :3]
    ),
    "index_put of sums": lambda x, v, form: getattr(x, f"index_put{form}")(
        (at(x, ROWS), at(x, [1, 2, 1])), v[0, :3], accumulate=True
    ),
    "index_put at a mask": lambda x, v, form: getattr(x, f"index_put{form}")(
        (at(x, [0, 1, 0, 1]) > 0,), v[:1], True
    ),
    "put": lambda x, v, form: getattr(x, f"put{form}")(at(x, [[-1, 3], [7, 0]]), v[0, :4]),
    "put of sums": lambda x, v, form: getattr(x, f"put{form}")(at(x, [-1, 3, 3]), v[0, :3], True),
    "scatter": lambda x, v, form: getattr(x, f"scatter{form}")(0, at(x, [[3, 0], [1, 2]]), v),
    "scatter of a number": lambda x, v, form: getattr(x, f"scatter{form}")(1, at(x, [[3], [0]]), 7),
    "scatter of sums": lambda x, v, form: getattr(x, f"scatter{form}")(
        1, at(x, [[3, 3, 0]]), v, reduce="add"
    ),
    "scatter of products": lambda x, v, form: getattr(x, f"scatter{form}")(
        1, at(x, [[3, 3, 0]]), v, reduce="multiply"
    ),
    "scatter_add": lambda x, v, form: getattr(x, f"scatter_add{form}")(
        0, at(x, [[1] * 5, [1] * 5, [3] * 5]), v
    ),
    "scatter_add at none": lambda x, v, form: getattr(x, f"scatter_add{form}")(
        0, at(x, np.zeros((0, 5))), v
    ),
    **{
        f"scatter_reduce of {r} {own}": lambda x, v, form, r=r, own=own: getattr(
            x, f"scatter_reduce{form}"
        )(0, at(x, [[3, 0, 1], [3, 0, 2]]), v, r, include_self=own)
        for r in ("sum", "prod", "mean", "amax", "amin")
        for own in (True, False)
    },
    **{
        f"index_reduce of {r} {own}": lambda x, v, form, r=r, own=own: getattr(
            x, f"index_reduce{form}"
        )(0, at(x, ROWS), v, r, include_self=own)
        for r in ("prod", "mean", "amax", "amin")
        for own in (True, False)
    },
    "masked_scatter": lambda x, v, form: getattr(x, f"masked_scatter{form}")(
        (at(x, range(20)) % 3 == 0).reshape(4, 5), v
    ),
}  # fmt: skip
"""The methods of x (4, 5) and values (3, 5), with "" or "_" at the end of their name."""

LAYOUTS = {
    "whole": lambda data: data.clone(),
    "rows": lambda data: gradient.cat([data, data, data])[4:8],
    "columns": lambda data: gradient.cat([data, data], 1)[:, 3:8],
    "transposed": lambda data: data.T.clone().T,
    "reshaped": lambda data: data.reshape(20).clone().reshape(2, 10).view(4, 5),
}
"""A non-leaf tensor of 4 x 5 numbers."""


@pytest.fixture(autouse=True, params=[True, False], ids=["few", "many"])
def few(request, monkeypatch):
    """Small tensors are written as large ones with few indices are, and with many."""
    if request.param:
        for module in (gathering, along, indexed_sums):
            monkeypatch.setattr(module, "FEW", 0)


def at(x, index):
    return tensor(np.asarray(index, np.int64), device=x.device)


def numbers(dtype=gradient.float64, device="cpu"):
    rng = np.random.default_rng(0)
    x, v = (tensor(rng.integers(-9, 9, size), device=device) for size in ((4, 5), (3, 5)))
    return x.to(dtype), v.to(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [gradient.float32, gradient.bfloat16, gradient.int64], ids=str)
def test_the_same_as_on_a_copy(form, layout, dtype, device):
    data, v = numbers(dtype, device)
    x = LAYOUTS[layout](data)
    expected = FORMS[form](LAYOUTS[layout](data), v, "")
    assert FORMS[form](x, v, "_") is x
    assert x.dtype is dtype
    assert_close(x, expected, rtol=0, atol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", FORMS)
def test_gradients(form, layout, device):
    """Of the tensor and of the values, and of views that were taken before; second ones too."""

    def losses(ending, needs):
        data, v = (x.requires_grad_(need) for x, need in zip(numbers(), needs, strict=True))
        x = LAYOUTS[layout](data)
        view = x[1:, 2]
        if ending:
            FORMS[form](x, v, ending)
        else:
            x = FORMS[form](x, v, "")
            view = x[1:, 2]
        inputs = [each for each, need in zip((data, v), needs, strict=True) if need]
        loss = (x.sin() * at(x, range(20)).reshape(4, 5)).sum() + (view**3).sum()
        first = gradient.autograd.grad(loss, inputs, create_graph=True, allow_unused=True)
        total = sum((g.cos().sum() for g in first if g is not None), start=x.sum())
        second = gradient.autograd.grad(total, inputs, allow_unused=True)
        return [loss, *first, *second]

    for needs in ((True, True), (True, False), (False, True)):
        if form in ("index_fill", "scatter of a number") and not needs[0]:
            continue  # then nothing requires a gradient
        for got, expected in zip(losses("_", needs), losses("", needs), strict=True):
            assert (got is None) is (expected is None)
            if got is not None:
                assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [(1, 3), (2, 3), (2, 2)])
@pytest.mark.parametrize("dtype", [gradient.bfloat16, gradient.float16], ids=str)
def test_int32_indices_of_16_bits(dtype, size, device):
    x = gradient.zeros(4, 5, dtype=dtype, device=device)
    index = gradient.arange(6, device=device)[: size[0] * size[1]].reshape(size) % 4
    src = gradient.ones(size, dtype=dtype, device=device)
    for dim in (0, 1):
        expected = x.scatter_add(dim, index, src)
        assert x.scatter_add(dim, index.int(), src).tolist() == expected.tolist()
        assert x.clone().scatter_add_(dim, index.int(), src).tolist() == expected.tolist()


@pytest.mark.parametrize("mask", [(2, 3), (2, 1, 3), (1, 1, 3)])
def test_masks_do_not_broadcast_the_tensor(mask, device):
    x = gradient.zeros(1, 3, device=device)
    mask = gradient.ones(mask, device=device) > 0
    with pytest.raises(RuntimeError, match="output with shape .1, 3. doesn't match"):
        x.masked_scatter_(mask, gradient.ones(6, device=device))
    assert not x.any()
    x.masked_scatter_(mask[0].reshape(-1)[:3], gradient.ones(6, device=device))
    assert x.tolist() == [[1, 1, 1]]


@pytest.mark.cpu_only
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("device", PROOFS)
def test_on_backends_in_python_and_elsewhere(form, device):
    """One has views that it does not know as such, one no views, one waits only where it reads."""
    data, v = numbers(device=device)
    expected = FORMS[form](data, v, "")
    assert FORMS[form](data, v, "_") is data
    assert_close(data, expected)


@pytest.mark.cpu_only
def test_errors_name_the_method():
    x = gradient.zeros(3, device="bare")
    with pytest.raises(IndexError, match="scatter_: index 5 is out of bounds for dimension 0"):
        x.scatter_(0, at(x, [5]), 1.0)
    assert not x.any()


BIG = 1 << 21


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    "write",
    [
        lambda x, i, v: x.index_add_(0, i, v),
        lambda x, i, v: x.index_copy_(0, i, v),
        lambda x, i, v: x.index_fill_(0, i, 2.0),
        lambda x, i, v: x.index_put_((i,), v),
        lambda x, i, v: x.index_put_((i, i), v[0, :2], accumulate=True),
        lambda x, i, v: x.put_(i, v[0, :2]),
        lambda x, i, v: x.scatter_(0, i.reshape(1, 2), v),
        lambda x, i, v: x.scatter_add_(0, i.reshape(1, 2), v),
        lambda x, i, v: x.scatter_reduce_(0, i.reshape(1, 2), v, "amax"),
        lambda x, i, v: x.index_reduce_(0, i, v, "mean"),
        lambda x, i, v: x.T.index_copy_(1, i, v.T),
    ],
)
@pytest.mark.parametrize("dtype", [gradient.float32, gradient.bfloat16], ids=str)
@pytest.mark.parametrize("needs", [False, True])
def test_no_copy_of_the_tensor_is_made(write, needs, dtype):
    x = gradient.zeros(BIG // 256, 256, dtype=dtype)
    index, v = tensor([7, 2]), gradient.ones(2, 256, dtype=dtype)
    v.requires_grad_(needs)
    write(x.clone(), index, v)  # kernels are compiled
    tracemalloc.start()
    try:
        write(x, index, v)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < BIG // 8


def test_values_and_indices_in_the_memory_that_is_written(device):
    x = gradient.arange(5, device=device)
    base = x.clone()
    x.index_copy_(0, x[:4], x[1:])
    assert x.tolist() == base.index_copy(0, base[:4], base[1:]).tolist() == [1, 2, 3, 4, 4]
    x = base.clone()
    x.scatter_(0, x.flip(0), x)
    assert x.tolist() == [4, 3, 2, 1, 0]
    x = base.clone()
    x.index_add_(0, x[1:3], x[:2])
    assert x.tolist() == [0, 1, 3, 3, 4]
    x = base.clone()
    x.put_(x[:2], x[3:])
    assert x.tolist() == [3, 4, 2, 3, 4]
    x = base.clone().float().requires_grad_()
    y = x * 1
    y.index_copy_(0, at(x, [0, 1]), y[3:])
    (y * at(x, [1, 2, 3, 4, 5])).sum().backward()
    assert x.grad.tolist() == [0, 0, 3, 5, 7]


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
def test_reductions_of_the_memory_that_is_written(reduce, include_self, device):
    """The gradient needs the values of `src` before."""
    data = numbers(device=device)[0].requires_grad_()
    index = at(data, [[3, 0, 1], [3, 0, 2]])
    x, y = data * 1, data * 1
    x.scatter_reduce_(0, index, x[1:3], reduce, include_self=include_self)
    expected = y.scatter_reduce(0, index, y[1:3], reduce, include_self=include_self)
    assert_close(x, expected)
    got, want = (gradient.autograd.grad(z.square().sum(), data)[0] for z in (x, expected))
    assert_close(got, want)
    number, src = (gradient.tensor(n, device=device, requires_grad=True) for n in (2.0, 3.0))
    x = (number * 1).scatter_reduce_(0, at(data, 0), src, reduce, include_self=include_self)
    expected = (number * 1).scatter_reduce(0, at(data, 0), src, reduce, include_self=include_self)
    grads = [gradient.autograd.grad(z * z, (number, src)) for z in (x, expected)]
    assert grads[0] == grads[1]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", [gradient.no_grad, gradient.inference_mode])
def test_views_without_a_graph(form, mode, device):
    """A view of a view is one of the first tensor there."""
    data, v = numbers(device=device)
    expected = FORMS[form](data, v, "")
    with mode():
        whole = gradient.cat([data, data, data])
        x = whole[1:][3:7]
        assert FORMS[form](x, v, "_") is x
        assert_close(whole, gradient.cat([data, expected, data]))


@pytest.mark.parametrize("write", [
    lambda x, i, v: x.scatter_reduce_(0, i.reshape(1, 2), v, "amax"),
    lambda x, i, v: x.index_reduce_(0, i, v, "mean"),
    lambda x, i, v: x.scatter_(0, i.reshape(1, 2), v, reduce="multiply"),
    lambda x, i, v: x.index_add_(0, i, v),
    lambda x, i, v: x.put_(i, v[0]),
])  # fmt: skip
def test_on_meta(write):
    x = gradient.zeros(4, 2, device="meta")
    index = gradient.zeros(2, dtype=gradient.int64, device="meta")
    assert write(x, index, gradient.zeros(2, 2, device="meta")) is x


@pytest.mark.parametrize(
    "write",
    [
        lambda x, i: x.index_add_(0, i, x.new_ones(2)),
        lambda x, i: x.index_copy_(0, i, x.new_ones(2)),
        lambda x, i: x.index_fill_(0, i, 1.0),
        lambda x, i: x.index_put_((i,), x.new_ones(2)),
        lambda x, i: x.index_put_((i,), x.new_ones(2), True),
        lambda x, i: x.put_(i, x.new_ones(2)),
        lambda x, i: x.scatter_(0, i, x.new_ones(2)),
        lambda x, i: x.scatter_add_(0, i, x.new_ones(2)),
    ],
)
@pytest.mark.cpu_only
@pytest.mark.parametrize("n", [5, 5000])
def test_an_index_out_of_range_changes_nothing(write, n):
    x = gradient.zeros(n)
    with pytest.raises(IndexError, match=f"index {n} is out of bounds for dimension 0"):
        write(x, tensor([1, n]))
    assert not x.any()


def test_a_write_is_noted(device):
    """Values that were saved for the backward pass, leaves and `inference_mode`."""
    index, v = tensor([1], device=device), gradient.ones(1, device=device)
    x = gradient.zeros(3, device=device).requires_grad_()
    for write in (
        lambda x: x.index_add_(0, index, v),
        lambda x: x.index_put_((index,), v),
        lambda x: x.scatter_(0, index, 2.0),
        lambda x: x.index_fill_(0, index, 2.0),
        lambda x: x.put_(index, v),
        lambda x: x.scatter_reduce_(0, index, v * 2, "prod", include_self=False),
    ):
        with pytest.raises(RuntimeError, match="_: a leaf Variable that requires grad"):
            write(x)
        y = x * 2
        z = y**2
        write(y)
        with pytest.raises(RuntimeError, match="overw|modified"):
            z.sum().backward()
        with gradient.inference_mode():
            inference = gradient.zeros(3, device=device)
        with pytest.raises(RuntimeError, match="inference"):
            write(inference)
        with gradient.no_grad():
            write(x)
        assert x.tolist() != [0, 0, 0]
        x.data.zero_()


def test_memory_that_cannot_be_written(device):
    x = gradient.zeros(1, device=device).expand(3)
    with pytest.raises(RuntimeError, match="clone\\(\\) it first"):
        x.index_copy_(0, at(x, [0, 1]), gradient.tensor([1.0, 2.0], device=device))


def test_numbers_and_nothing(device):
    x = gradient.zeros((), device=device)
    assert x.index_fill_(0, at(x, [0]), 3) is x and x.item() == 3
    assert x.scatter_(0, at(x, 0), 4.0) is x and x.item() == 4
    assert x.put_(at(x, [0]), gradient.ones(1, device=device)) is x and x.item() == 1
    none = gradient.zeros(0, 3, device=device)
    assert none.index_add_(0, at(x, []), none) is none and none.shape == (0, 3)


def test_in_vmap(device):
    """Samples have their own copies; what they share cannot be written by one of them."""
    x = gradient.zeros(2, 3, device=device)
    index = tensor([[0], [2]], device=device)
    v = gradient.ones(2, 1, device=device)
    got = gradient.func.vmap(lambda x, i, v: x.clone().index_add_(0, i, v))(x, index, v)
    assert got.tolist() == [[1, 0, 0], [0, 0, 1]]
    shared = gradient.zeros(3, device=device)
    for write in (
        lambda i, v: shared.index_add_(0, i, v),
        lambda i, v: shared.index_put_((i,), v),
        lambda i, v: shared.scatter_(0, i, v),
        lambda i, v: shared.index_fill_(0, i, 1.0),
    ):
        with pytest.raises(RuntimeError):
            gradient.func.vmap(write)(index, v)
    assert not shared.any()


def test_compiled(device):
    """A recorded step writes to the tensor too."""
    total = gradient.zeros(4, 2, device=device)

    @gradient.compile
    def step(index, v):
        total.index_add_(0, index, v)
        total.scatter_(1, index[:1].reshape(1, 1), 5.0)
        total.index_put_((index,), v, accumulate=True)
        total.scatter_reduce_(0, index[:1].reshape(1, 1), v, "amax")
        return total * 2

    expected = gradient.zeros(4, 2, device=device)
    for i in range(4):
        index = tensor([i % 2, i % 2, 1], device=device)
        v = gradient.full((3, 2), float(i), device=device)
        got = step(index, v)
        expected.index_add_(0, index, v)
        expected.scatter_(1, index[:1].reshape(1, 1), 5.0)
        expected.index_put_((index,), v, accumulate=True)
        expected.scatter_reduce_(0, index[:1].reshape(1, 1), v, "amax")
        assert got.tolist() == (expected * 2).tolist()
        assert total.tolist() == expected.tolist()


@pytest.mark.parametrize("form", ["", "_"])
def test_8_bit_floats_are_refused_by_name(form, device):
    x = gradient.ones(4, 3, device=device).to(gradient.float8_e4m3fn)
    for name, index in (("index_fill", [1]), ("scatter", [[1]])):
        with pytest.raises(RuntimeError, match=f"{name}: not defined for 8-bit floats"):
            getattr(x, name + form)(0, at(x, index), 2.0)


@pytest.mark.cpu_only
@pytest.mark.parametrize("name", ["index_copy_", "scatter_reduce_", "put_"])
def test_a_compiled_step_names_the_method(name):
    """In an error of a replay, which leaves the tensor as it was, and in why it runs eagerly."""
    total, v = gradient.zeros(3), gradient.ones(1)
    more = ("amax",) if name == "scatter_reduce_" else ()

    @gradient.compile
    def step(index):
        given = (index, v) if name == "put_" else (0, index, v, *more)
        return getattr(total, name)(*given) * 2

    for i in range(3):
        step(tensor([i]))
    total.zero_()
    with pytest.raises(IndexError, match=f"{name} at .*: index 5 is out of bounds"):
        step(tensor([5]))
    assert not total.any()

    @gradient.compile
    def masked(mask):
        return total.masked_scatter_(mask, gradient.ones(3)) * 2

    with pytest.warns(UserWarning, match="Tensor.masked_scatter_ reads the value"):
        for _ in range(2):
            masked(total >= 0)


@pytest.mark.cpu_only
def test_many_indices_are_not_sorted(monkeypatch):
    """That would take much longer than to copy or convert the tensor."""
    for module in (gathering, along, indexed_sums):
        monkeypatch.setattr(module, "FEW", 32)
    monkeypatch.setattr(np, "unique", None)
    monkeypatch.setattr(gradient.Tensor, "unique", None)
    for dtype in (gradient.float32, gradient.bfloat16):
        x, v = gradient.ones(64, 8, dtype=dtype), gradient.ones(40, 8, dtype=dtype)
        rows = gradient.arange(40)
        index = rows.reshape(40, 1).expand(40, 8).clone()
        x.scatter_reduce_(0, index, v, "amax")
        x.index_reduce_(0, rows, v, "prod")
        x.scatter_add_(0, index, v)
        x.index_add_(0, rows, v)
        assert x.tolist() == [[3] * 8] * 40 + [[1] * 8] * 24

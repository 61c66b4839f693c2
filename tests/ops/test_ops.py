"""Every op, by its rows in `gradient.testing.TABLE`: values, gradients, dtypes, layouts, empty and
0-d inputs; on the device under test and on the backends of `array_backends`, which prove the
contract."""

from __future__ import annotations

import numpy as np
import pytest

import gradient
from gradient.autograd import gradcheck, gradgradcheck
from gradient.autograd.op import registry
from gradient.errors import BackendError, ShapeError
from gradient.ops import fused
from gradient.testing import TABLE, Row, assert_close
from support.array_backends import PROOFS

DIFFERENTIABLE = [row for row in TABLE if row.differentiable]
EPS = {"float64": 2.2e-16, "float32": 1.2e-7, "float16": 9.8e-4, "bfloat16": 7.8e-3}


def by_name(row: Row) -> str:
    return row.name


@pytest.fixture(params=["device", *PROOFS])
def place(request: pytest.FixtureRequest, device: str) -> str:
    """The device under test, then each backend that proves the contract."""
    return device if request.param == "device" else request.param


def tensors(arrays: list[np.ndarray], place: str, dtype: str | None = None, **options) -> list:
    return [
        gradient.tensor(a, dtype=dtype if a.dtype.kind == "f" else None, device=place, **options)
        for a in arrays
    ]


def skips_complex(row: Row, place: str) -> bool:
    """Of complex numbers, on a backend without them: whether they are refused, as they must be."""
    if place not in ("process", "metal") or row.kind not in ("complex", "double"):
        return False
    with pytest.raises(BackendError, match="has no complex128"):
        row.run(*tensors(row.samples(), place))
    return True


def total(out: gradient.Tensor) -> gradient.Tensor:
    """A real number of all elements."""
    return (gradient.view_as_real(out) if out.is_complex() else out).sum()


def host(tensor: gradient.Tensor) -> np.ndarray:
    return np.asarray(tensor.backend.to_numpy(tensor.array))


def test_every_op_has_a_row():
    missing = sorted(set(registry) - {row.op for row in TABLE} - {"copy_slices"})
    assert not missing, f"ops without a row in gradient/testing/*_rows.py: {missing}"


def test_rows_have_names_of_their_own():
    names = [row.name for row in TABLE]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("row", TABLE, ids=by_name)
def test_values(row: Row, place: str):
    if skips_complex(row, place):
        return
    arrays = row.samples()
    got = host(row.run(*tensors(arrays, place)))
    expected = np.asarray(row.reference(*arrays))
    assert got.shape == expected.shape
    assert_close(got, expected, rtol=1e-12, atol=1e-12, check_dtype=False)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("row", [r for r in TABLE if r.kind == "float"], ids=by_name)
def test_dtypes(row: Row, dtype: str, device: str):
    """The reference is computed in float64 from the rounded inputs; the result has the dtype."""
    inputs = tensors(row.samples(), device, dtype)
    out = row.run(*inputs)
    expected = np.asarray(row.reference(*(host(t).astype(np.float64) for t in inputs)))
    if out.dtype.is_floating_point:
        assert str(out.dtype) == ("gradient.float64" if row.op == "astype" else f"gradient.{dtype}")
    got = host(out).astype(np.float64)
    limit = row.tolerance * EPS[dtype]
    assert_close(got, expected.astype(np.float64), rtol=limit, atol=limit)


@pytest.mark.parametrize("row", DIFFERENTIABLE, ids=by_name)
def test_gradient(row: Row, place: str):
    """In float64, along random directions, contiguous inputs and others."""
    if skips_complex(row, place):
        return
    assert gradcheck(row.run, tensors(row.samples(), place, requires_grad=True))


@pytest.mark.parametrize("row", DIFFERENTIABLE, ids=by_name)
def test_gradient_is_the_same_where_it_can_be_differentiated_again(row: Row, place: str):
    """With create_graph an op may run anew on Tensors, from the inputs that its rules save."""
    if skips_complex(row, place):
        return
    inputs = tensors(row.samples(), place, requires_grad=True)
    out = row.run(*inputs)
    g = gradient.tensor(np.linspace(-1, 2, out.numel()).reshape(out.shape), device=place)
    g = g.to(out.dtype) if out.is_complex() else g
    once = gradient.autograd.grad(out, inputs, g, retain_graph=True)
    again = gradient.autograd.grad(out, inputs, g, create_graph=True)
    for plain, differentiable in zip(once, again, strict=True):
        assert_close(host(differentiable.detach()), host(plain), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("row", DIFFERENTIABLE, ids=by_name)
def test_second_gradient(row: Row, place: str):
    if skips_complex(row, place):
        return
    assert gradgradcheck(row.run, tensors(row.samples(), place, requires_grad=True))


@pytest.mark.parametrize("row", [r for r in DIFFERENTIABLE if len(r.shapes) > 1], ids=by_name)
def test_second_gradient_where_the_inputs_depend_on_each_other(row: Row, device: str):
    """Each input is made of the one before it; where the shapes agree, one is all of them. What a
    rule differentiates once more must not follow an input into another."""
    if skips_complex(row, device):
        return
    first, *others = tensors(row.samples(), device, requires_grad=True)

    def chained(*inputs):
        made = [inputs[0] * 1]
        for t in inputs[1:]:
            made.append(t + 0.1 * made[-1].tanh().mean())
        return row.run(*made)

    assert gradgradcheck(chained, [first, *others], check_non_contiguous=False)
    if all(t.shape == first.shape for t in others):
        assert gradgradcheck(
            lambda t: row.run(*[t for _ in row.shapes]), first, check_non_contiguous=False
        )


@pytest.mark.parametrize("row", [r for r in DIFFERENTIABLE if r.kind == "float"], ids=by_name)
def test_gradient_has_the_dtype_of_its_input(row: Row, device: str):
    """Narrow inputs get narrow gradients, close to those in float64."""
    wide = tensors(row.samples(), device, requires_grad=True)
    row.run(*wide).sum().backward()
    for dtype in ("float32", "bfloat16"):
        inputs = tensors(row.samples(), device, dtype, requires_grad=True)
        row.run(*inputs).sum().backward()
        for narrow, reference in zip(inputs, wide, strict=True):
            assert narrow.grad.dtype is narrow.dtype
            scale = float(np.abs(host(reference.grad)).max(initial=1.0))
            assert_close(
                host(narrow.grad).astype(np.float64) / scale,
                host(reference.grad) / scale,
                rtol=0,
                atol=4 * row.tolerance * EPS[dtype],
            )


@pytest.mark.parametrize("row", TABLE, ids=by_name)
def test_layouts_do_not_matter(row: Row, device: str):
    """Transposed memory, gaps and negative strides give the values of contiguous memory."""
    if skips_complex(row, device):
        return
    arrays = row.samples()
    expected = host(row.run(*tensors(arrays, device)))
    gaps = [np.repeat(a, 2, -1)[..., ::2] if a.ndim else a for a in arrays]
    transposed = [np.ascontiguousarray(a.T).T for a in arrays]
    backwards = [np.ascontiguousarray(a[::-1])[::-1] if a.ndim else a for a in arrays]
    for layout in (gaps, transposed, backwards):
        inputs = [gradient.as_tensor(a, device=device) for a in layout]
        assert_close(host(row.run(*inputs)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("row", [r for r in TABLE if r.empty is not None], ids=by_name)
def test_empty_inputs(row: Row, place: str):
    if skips_complex(row, place):
        return
    arrays = row.samples(row.empty)
    inputs = tensors(
        arrays, place, requires_grad=row.differentiable and row.kind not in ("int", "bool")
    )
    out = row.run(*inputs)
    assert host(out).shape == np.asarray(row.reference(*arrays)).shape
    if out.requires_grad:
        total(out).backward()
        for t in inputs:
            assert t.grad.shape == t.shape


@pytest.mark.parametrize("row", [r for r in TABLE if r.scalar], ids=by_name)
def test_scalars(row: Row, place: str):
    if skips_complex(row, place):
        return
    arrays = row.samples([()] * len(row.shapes))
    out = row.run(*tensors(arrays, place))
    assert out.shape == ()
    assert_close(host(out), np.asarray(row.reference(*arrays)), check_dtype=False)
    if row.differentiable:
        assert gradcheck(row.run, tensors(arrays, place, requires_grad=True))


@pytest.mark.parametrize("row", [r for r in DIFFERENTIABLE if len(r.shapes) > 1], ids=by_name)
def test_a_constant_input_gets_no_gradient(row: Row, device: str):
    """Each input in turn alone requires a gradient; it is the one it gets when all do."""
    if skips_complex(row, device):
        return
    arrays = row.samples()
    every = tensors(arrays, device, requires_grad=True)
    total(row.run(*every)).backward()
    for i, reference in enumerate(every):
        inputs = tensors(arrays, device)
        inputs[i].requires_grad_()
        total(row.run(*inputs)).backward()
        assert_close(host(inputs[i].grad), host(reference.grad), rtol=1e-12, atol=1e-12)
        assert all(t.grad is None for j, t in enumerate(inputs) if j != i)


def test_python_ints_wrap_to_the_dtype(device: str):
    """As in PyTorch, where NumPy raises."""
    small = gradient.tensor([5, 0], dtype=gradient.uint8, device=device)
    assert (small + (-1)).tolist() == [4, 255]
    assert (small == 261).tolist() == [True, False]
    assert (gradient.tensor([5], dtype=gradient.int8, device=device) * 300).tolist() == [-36]


@pytest.mark.parametrize("interleaved", [False, True])
def test_rope_refuses_angles_for_more_columns_than_there_are(interleaved, device: str):
    """Of 3 pairs in 4 columns the second halves would be one column, which broadcasts."""
    x = gradient.randn(1, 2, 4, device=device)
    angles = gradient.zeros(2, 3, device=device)
    with pytest.raises(ShapeError, match="at most 4 columns' angles, got 6"):
        fused.rope(x, cos=angles.array, sin=angles.array, interleaved=interleaved)

"""Where results lie: `out=`, words for layouts, and tensors made like others."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

import gradient
from gradient.errors import AutogradError, DTypeError, TypeMismatch

t: Any = gradient


def test_the_result_is_written_into_out(device) -> None:
    a, b = (gradient.tensor(v, device=device) for v in ([1.0, 2.0], [3.0, -1.0]))
    out: Any = gradient.empty(2, dtype=gradient.float64, device=device)
    for call, expected in (
        (lambda: t.add(a, b, alpha=2, out=out), [7, 0]),
        (lambda: t.exp(input=a - a, out=out), [1, 1]),
        (lambda: t.where(a > 1, a.double(), b.double(), out=out), [3, 2]),
        (lambda: t.arange(2, out=out), [0, 1]),
        (lambda: t.full((2,), 3, out=out), [3, 3]),
        (lambda: t.maximum(a, out, out=out), [3, 3]),
        (lambda: t.linalg.vector_norm(t.stack([a, b]).double(), dim=1, ord=1, out=out), [3, 4]),
        (lambda: t.stack([a, b], out=out[None][:0].clone())[1], [3, -1]),
    ):
        assert call().tolist() == expected
    assert t.add(a, b, out=None).tolist() == [4, 1]
    part = gradient.zeros(4, device=device)
    t.mul(a, b, out=part[1:3])
    assert part.tolist() == [0, 3, -2, 0]


def test_several_results(device) -> None:
    x = gradient.tensor([[1.0, 2.0], [4.0, 3.0]], device=device)
    values, indices = gradient.empty(2, device=device), gradient.empty(0, device=device).long()
    found = t.max(x, dim=1, out=(values, indices))
    assert found.values is values
    assert found.indices is indices
    assert (values.tolist(), indices.tolist()) == ([2, 4], [1, 0])
    with pytest.raises(TypeError, match="max: expected out, a tuple of 2 Tensors"):
        t.max(x, dim=1, out=values)


def test_what_out_may_be() -> None:
    x = gradient.ones(2)
    leaf = gradient.ones(2, requires_grad=True)
    with pytest.warns(UserWarning, match=r"out of shape \(3,\) was resized to \(2,\)"):
        out = t.neg(x, out=gradient.empty(3))
    assert out.tolist() == [-1, -1]
    for arguments, out, error, message in (
        ((x, x), gradient.ones(2).long(), DTypeError, "a dtype that gradient.float32 can be cast"),
        ((leaf, x), gradient.empty(2), AutogradError, "with out= there is no gradient"),
        ((x, x), leaf, AutogradError, "with out= there is no gradient"),
        ((x, x), 3, TypeError, "expected a Tensor as out, got int"),
    ):
        with pytest.raises(error, match=message):
            t.add(*arguments, out=out)
    with gradient.no_grad():
        assert t.add(leaf, x, out=leaf) is leaf
    with pytest.raises(ValueError, match="dtype as out has it"):
        t.zeros(2, dtype=gradient.int64, out=gradient.empty(2))
    with pytest.raises(TypeError, match="unexpected keyword argument 'oot'"):
        t.zeros(2, oot=x)


def test_an_out_of_another_dtype_is_cast_to_or_refused(device) -> None:
    x = gradient.tensor([[1.5, 2.5], [0.5, 1.25]], device=device)

    def wide(*shape: int) -> Any:
        return gradient.zeros(shape, dtype=gradient.float64, device=device)

    assert t.exp(x, out=wide(2, 2)).dtype == gradient.float64
    assert t.linalg.pinv(x, out=wide(2, 2)).dtype == gradient.float64
    assert t.max(x, out=wide()).item() == 2.5
    for call, message in (
        (lambda: t.matmul(x, x, out=wide(2, 2)), "matmul: expected out of dtype gradient.float32"),
        (lambda: t.argmax(x, 0, out=wide(2)), "argmax: expected out of dtype gradient.int64"),
        (lambda: t.max(x, 0, out=(wide(2), wide(2).long())), "max: expected out of dtype"),
        (lambda: t.gather(x, 0, x.long() * 0, out=wide(2, 2)), "gather: expected out of dtype"),
        (lambda: t.linalg.inv(x, out=wide(2, 2)), "linalg.inv: expected out of dtype"),
        (lambda: t.sum(x, 0, dtype=gradient.float32, out=wide(2)), "sum: expected out of dtype"),
    ):
        with pytest.raises(DTypeError, match=message):
            call()
    # These compute in out's dtype.
    ints = gradient.zeros(2, dtype=gradient.int64, device=device)
    assert t.sum(x, 0, out=ints).tolist() == [1, 3]
    assert t.cumsum(x[0], 0, out=ints).tolist() == [1, 3]
    big = gradient.tensor([2.0**24, 1.0], device=device)
    assert t.sum(big, 0, out=wide()).item() == 2**24 + 1


HALF, SINGLE, DOUBLE, COMPLEX = t.float16, t.float32, t.float64, t.complex64


@pytest.mark.parametrize(
    ("call", "of", "out", "taken"),
    [
        (t.abs, SINGLE, DOUBLE, False),
        (t.abs, COMPLEX, DOUBLE, True),
        (t.abs, COMPLEX, COMPLEX, True),
        (t.abs, COMPLEX, t.complex128, False),
        (lambda x, out: t.clamp(x, 0, 1, out=out), SINGLE, DOUBLE, False),
        (lambda x, out: t.clamp(x, min=0.5, out=out), t.int64, SINGLE, True),
        (lambda x, out: t.clamp_max(x, 0.5, out=out), t.int64, DOUBLE, False),
        (lambda x, out: t.clip(x, max=t.ones(2), out=out), SINGLE, DOUBLE, True),
        (lambda x, out: t.std(x[None], 0, out=out), HALF, SINGLE, False),
        (lambda x, out: t.var(x[None], 0, correction=0, out=out), SINGLE, HALF, True),
        (lambda x, out: t.mean(x[None], 0, out=out), t.int64, SINGLE, False),
        (lambda x, out: t.nanmean(x[None], 0, out=out), SINGLE, COMPLEX, False),
        (lambda x, out: t.nansum(x[None], 0, out=out), SINGLE, COMPLEX, False),
        (lambda x, out: t.nansum(x[None], 0, out=out), t.int64, t.bool, True),
        (lambda x, out: t.all(x[None], 0, out=out), SINGLE, t.uint8, True),
        (lambda x, out: t.any(x[None], 0, out=out), t.uint8, t.bool, True),
        (lambda x, out: t.cumsum(x, 0, out=out), t.int64, t.bool, False),
        (lambda x, out: t.cumprod(x, 0, out=out), SINGLE, t.bool, False),
    ],
)
def test_which_dtypes_of_out_depend_on_the_arguments(
    call: Any, of: Any, out: Any, taken: bool
) -> None:
    x, where = t.tensor([1, 2]).to(of), t.empty(2, dtype=out)
    with contextlib.nullcontext() if taken else pytest.raises(DTypeError):
        assert call(x, out=where) is where


@pytest.mark.parametrize("of", [t.float16, t.bfloat16])
def test_a_mean_of_16_bits_is_rounded_to_the_dtype_of_out_alone(of: Any, device) -> None:
    x = (t.arange(1, 6, device=device) / 7).to(of)
    exact = x.double().mean().item()
    for mean in (t.mean, t.nanmean):
        out = t.empty((), dtype=t.float32, device=device)
        assert mean(x, 0, out=out).item() == pytest.approx(exact, rel=1e-6)
    out = t.empty((), dtype=t.float32, device=device)
    assert t.nansum(x, 0, out=out).item() == pytest.approx(5 * exact, rel=1e-6)


def test_words_for_layouts() -> None:
    x = gradient.ones(1, 2, 3, 4)
    assert x.layout is t.strided
    assert isinstance(x.layout, t.layout)
    assert repr(t.channels_last) == "gradient.channels_last"
    assert t.zeros(2, layout=t.strided, pin_memory=False).tolist() == [0, 0]
    for same in (
        x.contiguous(memory_format=t.contiguous_format),
        x.clone(memory_format=t.preserve_format),
        x.to(memory_format=t.channels_last),
        x.to(memory_format=t.channels_last, copy=True),
        x.double(memory_format=t.preserve_format),
        t.ones_like(x, memory_format=t.preserve_format),
        x.new_ones(x.shape, layout=t.strided, pin_memory=True),
    ):
        assert same.shape == x.shape
        assert bool((same == 1).all())
    turned = x.mT
    assert turned.clone().stride() == turned.stride() == (24, 12, 1, 4)
    made = turned.clone(memory_format=t.contiguous_format)
    assert made.stride() == (24, 12, 3, 1) and made.tolist() == turned.tolist()
    assert x.clone(memory_format=t.contiguous_format).data_ptr() != x.data_ptr()
    assert not x.is_contiguous(memory_format=t.channels_last)
    assert x.permute(0, 3, 1, 2).is_contiguous(memory_format=t.channels_last)
    assert not x.is_contiguous(memory_format=t.channels_last_3d)
    layer = gradient.nn.Conv2d(3, 2, 2).to(memory_format=t.channels_last)
    assert layer.weight.is_contiguous()
    with pytest.raises(TypeMismatch, match="memory_format, one of .*, got 'channels_last'"):
        layer.to(memory_format="channels_last")


def test_new_takes_values_or_sizes() -> None:
    x: Any = gradient.ones(2, dtype=gradient.float64)
    assert x.new(2, 3).shape == (2, 3)
    assert x.new().shape == (0,)
    assert x.new(x.shape).shape == (2,)
    made = x.new([1, 2])
    assert (made.dtype, made.tolist()) == (gradient.float64, [1, 2])

"""The order of dimensions in memory beside PyTorch's: `memory_format=`, and what copies keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import gradient

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.parity, pytest.mark.cpu_only]

INPUTS: dict[str, Callable[[Any], Any]] = {
    "row-major": lambda t: t.randn(2, 3, 4, 5),
    "transposed": lambda t: t.randn(2, 3, 4, 5).transpose(1, 2),
    "channels last": lambda t: t.randn(2, 4, 5, 3).permute(0, 3, 1, 2),
    "channels last with gaps": lambda t: t.randn(2, 4, 5, 6).permute(0, 3, 1, 2)[:, :3],
    "one channel": lambda t: t.randn(2, 1, 4, 5),
    "one pixel": lambda t: t.randn(2, 3, 1, 1),
    "gaps": lambda t: t.randn(2, 3, 4, 6)[..., ::2],
    "reversed": lambda t: t.randn(2, 3, 4, 5).permute(3, 2, 1, 0)[1:],
    "expanded": lambda t: t.randn(3, 1).expand(3, 4),
    "expanded rows": lambda t: t.randn(1, 4).expand(3, 4),
    "expanded inside": lambda t: t.randn(4, 1, 6).transpose(0, 2).expand(6, 3, 4),
    "volume": lambda t: t.randn(2, 3, 4, 5, 6),
    "volume, channels last": lambda t: t.randn(2, 4, 5, 6, 3).permute(0, 4, 1, 2, 3),
    "matrix": lambda t: t.randn(4, 6)[:, :3].t(),
    "vector": lambda t: t.randn(8)[::2],
    "number": lambda t: t.randn(()),
    "empty": lambda t: t.randn(2, 0, 3, 4),
}

FORMATS = (None, "contiguous_format", "preserve_format", "channels_last", "channels_last_3d")


def options(t: Any, name: str | None) -> dict[str, Any]:
    return {} if name is None else {"memory_format": getattr(t, name)}


CALLS: dict[str, Callable[[Any, Any, dict[str, Any]], Any]] = {
    "empty_like": lambda t, x, f: t.empty_like(x, **f),
    "zeros_like": lambda t, x, f: t.zeros_like(x, **f),
    "zeros_like int": lambda t, x, f: t.zeros_like(x, dtype=t.int64, **f),
    "ones_like": lambda t, x, f: t.ones_like(x, **f),
    "full_like": lambda t, x, f: t.full_like(x, 3.0, **f),
    "rand_like": lambda t, x, f: t.rand_like(x, **f),
    "randn_like": lambda t, x, f: t.randn_like(x, **f),
    "randint_like": lambda t, x, f: t.randint_like(x, 3, **f),
    "empty": lambda t, x, f: t.empty(x.shape, **f),
    "clone": lambda t, x, f: x.clone(**f),
    "contiguous": lambda t, x, f: x.contiguous(**f),
    "to": lambda t, x, f: x.to(**f) if f else x,
    "to copy": lambda t, x, f: x.to(t.float32, copy=True, **f),
    "to dtype": lambda t, x, f: x.to(t.float64, **f),
    "float": lambda t, x, f: x.float(**f),
    "bfloat16": lambda t, x, f: x.bfloat16(**f),
    "cpu": lambda t, x, f: x.cpu(**f),
    "resize_": lambda t, x, f: t.zeros(1).resize_(x.shape, **f),
    "resize_as_": lambda t, x, f: t.zeros(1).resize_as_(x, **f),
}


def outcome(t: Any, call: Any, given: Any, name: str | None) -> Any:
    x = INPUTS[given](t)
    try:
        out = call(t, x, options(t, name))
    except (RuntimeError, TypeError) as error:
        return TypeError if isinstance(error, TypeError) else RuntimeError
    steps = [step for n, step in zip(out.shape, out.stride(), strict=True) if n > 1]
    return steps, out is x


@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize("call", CALLS)
def test_strides(call: str, given: str) -> None:
    for name in FORMATS[: 3 if given == "empty" else None]:
        ours, theirs = (outcome(t, CALLS[call], given, name) for t in (gradient, torch))
        assert ours == theirs, (name, ours, theirs)


@pytest.mark.parametrize("given", INPUTS)
def test_is_contiguous(given: str) -> None:
    for name in FORMATS[1 : 3 if given == "empty" else None]:
        ours, theirs = (
            INPUTS[given](t).is_contiguous(memory_format=getattr(t, name))
            for t in (gradient, torch)
        )
        assert ours == theirs, name


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("value", [3, "channels_last", gradient.float32])
def test_other_values_are_refused(call: str, value: Any) -> None:
    with pytest.raises(TypeError, match="memory_format, one of contiguous_format, preserve"):
        CALLS[call](gradient, gradient.ones(1, 2, 3, 4), {"memory_format": value})
    with pytest.raises(TypeError):
        CALLS[call](torch, torch.ones(1, 2, 3, 4), {"memory_format": value})


@pytest.mark.parametrize("name", ["zeros", "ones", "rand", "randn"])
def test_functions_of_a_size_have_no_memory_format(name: str) -> None:
    for t in (gradient, torch):
        with pytest.raises(TypeError, match="memory_format"):
            getattr(t, name)(2, memory_format=t.contiguous_format)


def test_values_and_gradients_of_formats() -> None:
    for name in FORMATS[1:4]:
        x = gradient.arange(24.0).reshape(1, 2, 3, 4).requires_grad_()
        y = x.to(gradient.float64, **options(gradient, name))
        assert y.tolist() == x.tolist()
        (y * y).sum().backward()
        assert x.grad.tolist() == (2 * x).tolist()
    drawn = [
        gradient.rand_like(x.detach(), generator=gradient.Generator().manual_seed(1))
        for x in (x, x.clone(memory_format=gradient.channels_last))
    ]
    assert drawn[0].tolist() == drawn[1].tolist() and drawn[0].stride() != drawn[1].stride()


def test_an_expanded_tensors_copy_can_be_viewed() -> None:
    for t in (gradient, torch):
        x = t.arange(3.0).expand(2, 3)
        assert x.clone().view(-1).tolist() == x.double().view(-1).tolist() == [0, 1, 2] * 2


def test_layouts() -> None:
    for value in (3, gradient.sparse_coo):
        with pytest.raises(TypeError, match=r"zeros: expected layout gradient\.strided"):
            gradient.zeros(2, layout=value)

"""gradient.fft beyond what the op table and PyTorch's samples say: misuse, dtypes, identities."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import fft
from gradient.autograd import gradcheck, gradgradcheck
from gradient.errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError, TypeMismatch

pytestmark = pytest.mark.cpu_only

X = np.random.default_rng(0).standard_normal((3, 5))
Z = X + 1j * X[::-1]


@pytest.mark.parametrize("norm", [None, "backward", "ortho", "forward"])
@pytest.mark.parametrize("n", [4, 5, 7])
def test_inverses(norm: str | None, n: int):
    """Of inputs cut or filled up to n numbers."""
    x, z = gradient.tensor(X), gradient.tensor(Z)
    cut = np.zeros((3, n))
    cut[:, : min(n, 5)] = X[:, : min(n, 5)]
    assert np.allclose(fft.irfft(fft.rfft(x, n, norm=norm), n, norm=norm).numpy(), cut)
    assert np.allclose(fft.hfft(fft.ihfft(x, n, norm=norm), n, norm=norm).numpy(), cut)
    back = fft.ifft(fft.fft(z, n, norm=norm), norm=norm)
    assert np.allclose(back.numpy()[:, : min(n, 5)], Z[:, : min(n, 5)])
    for there, again in (("rfftn", "irfftn"), ("ihfftn", "hfftn")):
        half = getattr(fft, there)(x, norm=norm)
        assert np.allclose(getattr(fft, again)(half, (3, 5), norm=norm).numpy(), X)


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
def test_gradients_of_any_order(norm: str):
    x = gradient.tensor(X, requires_grad=True)
    z = gradient.tensor(Z, requires_grad=True)
    for name, options in (("rfft", {}), ("rfftn", {}), ("ihfft", {"n": 4, "dim": 0}), ("fft", {})):
        run = functools.partial(getattr(fft, name), norm=norm, **options)
        assert gradcheck(run, x) and gradgradcheck(run, x)
    for name, options in (
        ("irfft", {}), ("irfft", {"n": 7}), ("irfftn", {}), ("hfft", {"n": 4}), ("hfftn", {}),
        ("ifftn", {"s": (4, 6)}), ("fft2", {}),
    ):  # fmt: skip
        run = functools.partial(getattr(fft, name), norm=norm, **options)
        assert gradcheck(run, z) and gradgradcheck(run, z)


def test_dtypes():
    assert fft.fft(gradient.arange(4)).dtype is gradient.complex64
    assert fft.rfft(gradient.ones(4).double()).dtype is gradient.complex128
    assert fft.irfft(gradient.ones(4)).dtype is gradient.float32
    x = gradient.ones(4, requires_grad=True)
    fft.fft(x).abs().sum().backward()
    assert x.grad.dtype is gradient.float32


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: fft.rfft(gradient.tensor(Z)), DTypeError, "rfft: expected a real tensor"),
        (lambda x: fft.fft(x.half()), DTypeError, "float32 or float64"),
        (lambda x: fft.fft(x, 0), ShapeError, "at least 1 element along dimension 1, got 0"),
        (lambda x: fft.irfft(x[:, :1]), ShapeError, "at least 1 element"),
        (lambda x: fft.fft(x, norm="none"), ArgumentError, "norm 'backward', 'forward' or"),
        (lambda x: fft.fftn(x, dim=(0, -2)), ArgumentError, "different dimensions"),
        (lambda x: fft.fftn(x, (2, 2, 2)), ArgumentError, "at most 2 sizes"),
        (lambda x: fft.fftn(x, (2,), (0, 1)), ArgumentError, "s of 2 sizes"),
        (lambda x: fft.rfftn(x, dim=()), ShapeError, "at least one dimension"),
        (lambda x: fft.fft(x.sum()), IndexOutOfRange, "a tensor with dimensions"),
        (lambda x: fft.fft(x, dim=2), IndexOutOfRange, "from -2 to 1"),
        (lambda x: fft.irfft(x, n=-1), ArgumentError, r"fft\.irfft: expected n of at least 1"),
        (lambda x: fft.fft([1.0]), TypeMismatch, "fft.fft: expected a Tensor"),
    ],
)
def test_errors(call: Callable[[Any], Any], kind: type[Exception], words: str):
    with pytest.raises(kind, match=words):
        call(gradient.tensor(X))


def test_frequencies():
    for n in (1, 4, 5):
        assert np.allclose(fft.fftfreq(n, 0.1).numpy(), np.fft.fftfreq(n, 0.1))
        assert np.allclose(fft.rfftfreq(n, 0.1).numpy(), np.fft.rfftfreq(n, 0.1))
    for n in (4, 5):
        x = gradient.arange(n)
        assert fft.fftshift(x).tolist() == np.fft.fftshift(np.arange(n)).tolist()
        assert fft.ifftshift(fft.fftshift(x)).tolist() == x.tolist()

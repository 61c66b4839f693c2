"""Discrete Fourier transforms, with PyTorch's names and gradients of any order.

>>> x = gradient.tensor([1.0, 2.0, 3.0, 4.0])
>>> gradient.fft.rfft(x)
tensor([10.+0.j, -2.+2.j, -2.+0.j])

Along a dimension of n elements X_k = sum_j x_j e^(-2 pi i j k / n); the inverse has the other sign
and is divided by n. With `norm` "forward" the transform is divided by n instead of its inverse,
with "ortho" both by sqrt(n). The input is first cut, or padded with zeros, to the size `n` (`s` for
several dimensions). float32 gives complex64, float64 complex128; integers are converted to the
default float dtype.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradient import absent
from gradient.autograd.autocast import autocasts
from gradient.autograd.out_argument import takes_out
from gradient.dtypes import HALF_PRECISION, get_default_dtype
from gradient.errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError, sentence
from gradient.ops import fourier, shape
from gradient.ops import index as ops
from gradient.tensor import Tensor
from gradient.tensor.arguments import DTypeLike, axis_of, int_of, ints_of, tensor_of
from gradient.tensor.creation import arange
from gradient.tensor.device import DeviceLike

__all__ = [
    "fft",
    "fft2",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "hfft2",
    "hfftn",
    "ifft",
    "ifft2",
    "ifftn",
    "ifftshift",
    "ihfft",
    "ihfft2",
    "ihfftn",
    "irfft",
    "irfft2",
    "irfftn",
    "rfft",
    "rfft2",
    "rfftfreq",
    "rfftn",
]

Sizes = int | Sequence[int] | None
Dims = int | Sequence[int] | None
LAST_TWO = (-2, -1)

# Complex numbers ---------------------------------------------------------------------------------


@autocasts("float32_on_cpu")
def fft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The Fourier transform along `dim`."""
    return _complex("fft", input, _one("fft", n), (dim,), norm, False)


@autocasts("float32_on_cpu")
def ifft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of `fft`."""
    return _complex("ifft", input, _one("ifft", n), (dim,), norm, True)


@autocasts("float32_on_cpu")
def fft2(input: Tensor, s: Sizes = None, dim: Dims = LAST_TWO, norm: str | None = None) -> Tensor:
    """The Fourier transform along two dimensions."""
    return _complex("fft2", input, s, dim, norm, False)


@autocasts("float32_on_cpu")
def ifft2(input: Tensor, s: Sizes = None, dim: Dims = LAST_TWO, norm: str | None = None) -> Tensor:
    """The inverse of `fft2`."""
    return _complex("ifft2", input, s, dim, norm, True)


@autocasts("float32_on_cpu")
def fftn(input: Tensor, s: Sizes = None, dim: Dims = None, norm: str | None = None) -> Tensor:
    """The Fourier transform along several dimensions: by default all, or the last len(s)."""
    return _complex("fftn", input, s, dim, norm, False)


@autocasts("float32_on_cpu")
def ifftn(input: Tensor, s: Sizes = None, dim: Dims = None, norm: str | None = None) -> Tensor:
    """The inverse of `fftn`."""
    return _complex("ifftn", input, s, dim, norm, True)


# Real input: only half of the terms, as the others are their conjugates -----------------------


@autocasts("float32_on_cpu")
def rfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The first n // 2 + 1 terms of the transform of real numbers along `dim`."""
    return _halved("rfft", input, _one("rfft", n), (dim,), norm)


@autocasts("float32_on_cpu")
def irfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of `rfft`: n real numbers. n is 2 (terms - 1) by default; pass it if it is odd.
    The imaginary part of the first term, and for even n of the last one, has no effect."""
    return _doubled("irfft", input, _one("irfft", n), (dim,), norm)


@autocasts("float32_on_cpu")
def rfft2(input: Tensor, s: Sizes = None, dim: Dims = LAST_TWO, norm: str | None = None) -> Tensor:
    """`rfft` along the last of two dimensions, then `fft` along the other."""
    return _halved("rfft2", input, s, dim, norm)


@autocasts("float32_on_cpu")
def irfft2(input: Tensor, s: Sizes = None, dim: Dims = LAST_TWO, norm: str | None = None) -> Tensor:
    """The inverse of `rfft2`."""
    return _doubled("irfft2", input, s, dim, norm)


@autocasts("float32_on_cpu")
def rfftn(input: Tensor, s: Sizes = None, dim: Dims = None, norm: str | None = None) -> Tensor:
    """`rfft` along the last dimension, then `fft` along the others (by default all, or the last
    len(s))."""
    return _halved("rfftn", input, s, dim, norm)


@autocasts("float32_on_cpu")
def irfftn(input: Tensor, s: Sizes = None, dim: Dims = None, norm: str | None = None) -> Tensor:
    """The inverse of `rfftn`."""
    return _doubled("irfftn", input, s, dim, norm)


# Hermitian input, x_-j = conj(x_j), whose transform is real ------------------------------------


@autocasts("float32_on_cpu")
def hfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The transform, n real numbers, of a Hermitian input of which the first n // 2 + 1 numbers are
    given; n is 2 (numbers - 1) by default."""
    return _doubled("hfft", input, _one("hfft", n), (dim,), norm, hermitian=True)


@autocasts("float32_on_cpu")
def ihfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of `hfft`: from n real numbers along `dim`, the first n // 2 + 1 numbers; the
    others would be their conjugates."""
    return _halved("ihfft", input, _one("ihfft", n), (dim,), norm, hermitian=True)


@autocasts("float32_on_cpu")
def hfft2(input: Tensor, s: Sizes = None, dim: Dims = LAST_TWO, norm: str | None = None) -> Tensor:
    """`fft` along the first of two dimensions, then `hfft` along the last."""
    return _doubled("hfft2", input, s, dim, norm, hermitian=True)


@autocasts("float32_on_cpu")
def ihfft2(input: Tensor, s: Sizes = None, dim: Dims = LAST_TWO, norm: str | None = None) -> Tensor:
    """The inverse of `hfft2`."""
    return _halved("ihfft2", input, s, dim, norm, hermitian=True)


@autocasts("float32_on_cpu")
def hfftn(input: Tensor, s: Sizes = None, dim: Dims = None, norm: str | None = None) -> Tensor:
    """`fft` along all dimensions except the last, then `hfft` along the last one; with `s`, only
    along the last len(s) dimensions."""
    return _doubled("hfftn", input, s, dim, norm, hermitian=True)


@autocasts("float32_on_cpu")
def ihfftn(input: Tensor, s: Sizes = None, dim: Dims = None, norm: str | None = None) -> Tensor:
    """The inverse of `hfftn`."""
    return _halved("ihfftn", input, s, dim, norm, hermitian=True)


# Frequencies -------------------------------------------------------------------------------------


def fftfreq(
    n: int,
    d: float = 1.0,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return the frequencies of the n terms of `fft` for a sample distance d: 0, 1, ... -2, -1,
    divided by n d."""
    n = int_of("fft.fftfreq", "n", n)
    turns: Any = arange(n, dtype=dtype or get_default_dtype(), device=device)
    turns[(n + 1) // 2 :] -= n
    return _frequencies("fft.fftfreq", turns, n * d).requires_grad_(requires_grad)


def rfftfreq(
    n: int,
    d: float = 1.0,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return the frequencies of the n // 2 + 1 terms of `rfft` for a sample distance d."""
    n = int_of("fft.rfftfreq", "n", n)
    turns: Any = arange(n // 2 + 1, dtype=dtype or get_default_dtype(), device=device)
    return _frequencies("fft.rfftfreq", turns, n * d).requires_grad_(requires_grad)


def _frequencies(caller: str, turns: Tensor, time: float) -> Tensor:
    if not (turns.is_floating_point() or turns.is_complex()):
        expected = "dtype of floating-point or complex numbers"
        raise DTypeError(sentence(caller, expected, turns.dtype))
    return turns * (1.0 / time if time else math.inf)


def fftshift(input: Tensor, dim: Dims = None) -> Tensor:
    """Sort the terms by frequency, with 0 in the middle, along `dim` (by default all)."""
    x = tensor_of("fft.fftshift", input)
    dims = _axes("fft.fftshift", x, dim)
    return x.roll([x.shape[d] // 2 for d in dims], list(dims))


def ifftshift(input: Tensor, dim: Dims = None) -> Tensor:
    """The inverse of `fftshift`."""
    x = tensor_of("fft.ifftshift", input)
    dims = _axes("fft.ifftshift", x, dim)
    return x.roll([(x.shape[d] + 1) // 2 for d in dims], list(dims))


# Implementation ----------------------------------------------------------------------------------


def _complex(caller: str, x: Any, s: Sizes, dim: Dims, norm: str | None, inverse: bool) -> Tensor:
    caller = f"fft.{caller}"
    x = _of_complex(caller, x)
    axes, sizes = _axes_and_sizes(caller, x, s, dim)
    return _transformed(_resized(x, axes, sizes), axes, inverse, _norm(caller, norm))


def _halved(
    caller: str, x: Any, s: Sizes, dim: Dims, norm: str | None, hermitian: bool = False
) -> Tensor:
    """Transform real numbers to half of their terms; `ihfft` is the conjugate of this."""
    caller = f"fft.{caller}"
    x = _of_real(caller, x)
    axes, sizes = _axes_and_sizes(caller, x, s, dim, some=True)
    x, by = _resized(x, axes, sizes), _norm(caller, norm)
    if not hermitian:
        x = fourier.rfft(x, axis=axes[-1], norm=by)
        return _transformed(x, axes[:-1], False, by)
    x = fourier.rfft(x, axis=axes[-1], norm=fourier.OPPOSITE[by]).conj()
    return _transformed(x, axes[:-1], True, by)


def _doubled(
    caller: str, x: Any, s: Sizes, dim: Dims, norm: str | None, hermitian: bool = False
) -> Tensor:
    """Transform half of the terms to real numbers; `hfft` uses the conjugates of the terms."""
    caller = f"fft.{caller}"
    x = _of_complex(caller, x)
    axes, sizes = _axes_and_sizes(caller, x, s, dim, some=True, doubled=True)
    last, by = sizes[-1], _norm(caller, norm)
    x = _resized(x, axes, (*sizes[:-1], last // 2 + 1))
    x = _transformed(x, axes[:-1], not hermitian, by)
    if hermitian:
        x, by = x.conj(), fourier.OPPOSITE[by]
    return fourier.irfft(x, axis=axes[-1], n=last, norm=by)


def _transformed(x: Any, axes: tuple[int, ...], inverse: bool, norm: str) -> Any:
    return fourier.fft(x, axes=axes, inverse=inverse, norm=norm) if axes else x


def _of_real(caller: str, x: Any) -> Any:
    x = tensor_of(caller, x)
    if x.is_complex():
        raise DTypeError(sentence(caller, "a real tensor", x.dtype, "use fft.fft"))
    if x.dtype in HALF_PRECISION:
        raise DTypeError(sentence(caller, "float32 or float64", x.dtype, "cast with .float()"))
    return x if x.is_floating_point() else x.to(get_default_dtype())


def _of_complex(caller: str, x: Any) -> Any:
    x = tensor_of(caller, x)
    return x if x.is_complex() else x.to(_of_real(caller, x).dtype.to_complex())


def _one(caller: str, n: int | None) -> list[int] | None:
    if n is None:
        return None
    size = int_of(f"fft.{caller}", "n", n)
    if size == -1:  # in `s`, -1 stands for the existing size
        raise ArgumentError(sentence(f"fft.{caller}", "n of at least 1", n))
    return [size]


def _norm(caller: str, norm: str | None) -> str:
    norm = "backward" if norm is None else norm
    if norm not in fourier.OPPOSITE:
        expected = "norm 'backward', 'forward' or 'ortho'"
        raise ArgumentError(sentence(caller, expected, repr(norm)))
    return norm


def _axes(caller: str, x: Any, dim: Dims) -> tuple[int, ...]:
    if dim is None:
        return tuple(range(x.ndim))
    dims = ints_of(caller, "dim", dim)
    if dims and not x.ndim:
        raise IndexOutOfRange(sentence(caller, "a tensor with dimensions", "one of none"))
    axes = tuple(axis_of(d, x.ndim) for d in dims)
    if len(set(axes)) != len(axes):
        raise ArgumentError(sentence(caller, "different dimensions as dim", tuple(dims)))
    return axes


def _axes_and_sizes(
    caller: str, x: Any, s: Sizes, dim: Dims, some: bool = False, doubled: bool = False
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the axes to transform and their sizes; with `doubled`, the last size is that of the
    result. -1 in `s` stands for the existing size."""
    given = None if s is None else ints_of(caller, "s", s)
    if dim is None and given is not None:
        if len(given) > x.ndim:
            expected = f"s of at most {x.ndim} sizes, one a dimension"
            raise ArgumentError(sentence(caller, expected, tuple(given)))
        axes = tuple(range(x.ndim - len(given), x.ndim))
    else:
        axes = _axes(caller, x, dim)
    if given is not None and len(given) != len(axes):
        expected = f"s of {len(axes)} sizes, one for each of dim"
        raise ArgumentError(sentence(caller, expected, tuple(given)))
    if some and not axes:
        raise ShapeError(sentence(caller, "at least one dimension to transform", "none"))
    own = [x.shape[axis] for axis in axes]
    if doubled:
        own[-1] = 2 * (own[-1] - 1)
    sizes = own if given is None else [o if n == -1 else n for o, n in zip(own, given, strict=True)]
    for axis, n in zip(axes, sizes, strict=True):
        if n < 1:
            raise ShapeError(sentence(caller, f"at least 1 element along dimension {axis}", n))
    return axes, tuple(sizes)


def _resized(x: Any, axes: tuple[int, ...], sizes: tuple[int, ...]) -> Any:
    """Cut the axes, or pad them with zeros at the end, to the given sizes."""
    for axis, n in zip(axes, sizes, strict=True):
        own = x.array.shape[axis]
        if n < own:
            x = ops.getitem(x, index=(slice(None),) * axis + (slice(0, n),))
        elif n > own:
            widths = tuple((0, n - own if i == axis else 0) for i in range(len(x.array.shape)))
            x = shape.pad(x, widths=widths)
    return x


for _name in __all__:
    if "shift" not in _name:
        globals()[_name] = takes_out(globals()[_name])

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)

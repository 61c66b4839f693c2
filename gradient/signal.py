"""Short-time Fourier transforms, and the windows that they look through.

>>> x = gradient.sin(gradient.arange(400.0) * 0.3)
>>> s = gradient.stft(x, n_fft=64, window=gradient.hann_window(64), return_complex=True)
>>> s.shape
gradient.Size([33, 26])
>>> y = gradient.istft(s, n_fft=64, window=gradient.hann_window(64), length=400)
>>> gradient.allclose(x, y, atol=1e-5)
True
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradient import absent
from gradient.autograd.autocast import autocasts
from gradient.autograd.out_argument import creation_op_like
from gradient.dtypes import HALF_PRECISION, dtype_of, float64, get_default_dtype
from gradient.errors import ArgumentError, DTypeError, ShapeError, TypeMismatch, sentence
from gradient.functional.padding import pad
from gradient.ops import complex_numbers, fourier, shape
from gradient.tensor import Tensor
from gradient.tensor.arguments import DTypeLike, int_of, number_of, tensor_of
from gradient.tensor.creation import arange, ones
from gradient.tensor.device import DeviceLike

__all__ = [
    "bartlett_window",
    "blackman_window",
    "hamming_window",
    "hann_window",
    "istft",
    "kaiser_window",
    "stft",
]

__path__: list[str] = []
"""So that `import gradient.signal.windows` looks for it: see `gradient.absent`."""

# Windows -----------------------------------------------------------------------------------------


@creation_op_like
def hann_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """(1 - cos(2 pi i / n)) / 2 of i below `window_length`: n is that length, or one less where the
    window is not `periodic` but symmetric."""
    return _cosines(
        "hann_window", window_length, periodic, (0.5, 0.5), dtype, device, requires_grad
    )


@creation_op_like
def hamming_window(
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """alpha - beta cos(2 pi i / n); see `hann_window` for n."""
    alpha = number_of("hamming_window", "alpha", alpha)
    beta = number_of("hamming_window", "beta", beta)
    weights = (alpha, beta)
    return _cosines(
        "hamming_window", window_length, periodic, weights, dtype, device, requires_grad
    )


@creation_op_like
def blackman_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """0.42 - 0.5 cos(2 pi i / n) + 0.08 cos(4 pi i / n); see `hann_window` for n."""
    weights = (0.42, 0.5, 0.08)
    return _cosines(
        "blackman_window", window_length, periodic, weights, dtype, device, requires_grad
    )


@creation_op_like
def bartlett_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """The triangle 1 - |2 i / n - 1|; see `hann_window` for n."""
    i, n, kind = places("bartlett_window", window_length, periodic, dtype, device)
    return triangle(i, n).to(kind).requires_grad_(requires_grad)


@creation_op_like
def kaiser_window(
    window_length: int,
    periodic: bool = True,
    beta: float = 12.0,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """I0(beta sqrt(1 - (2 i / n - 1)^2)) / I0(beta), with the Bessel function I0; see `hann_window`
    for n."""
    beta = number_of("kaiser_window", "beta", beta)
    i, n, kind = places("kaiser_window", window_length, periodic, dtype, device)
    return kaiser_values(i, n, beta).to(kind).requires_grad_(requires_grad)


def _cosines(
    caller: str,
    length: int,
    periodic: bool,
    weights: tuple[float, ...],
    dtype: DTypeLike | None,
    device: DeviceLike,
    requires_grad: bool,
) -> Tensor:
    i, n, kind = places(caller, length, periodic, dtype, device)
    return cosine_sum(i, n, weights).to(kind).requires_grad_(requires_grad)


def cosine_sum(i: Tensor, n: int, weights: Sequence[float]) -> Tensor:
    """a_0 - a_1 cos(2 pi i / n) + a_2 cos(4 pi i / n) ...; 1 where n is 0."""
    if not n:
        return i + 1
    values = i * 0
    for k, weight in enumerate(weights):
        values = values + (-1) ** k * weight * (i * (2 * math.pi * k / n)).cos()
    return values


def triangle(i: Tensor, n: int) -> Tensor:
    """1 - |2 i / n - 1|; 1 where n is 0."""
    return 1 - (i * (2 / n) - 1).abs() if n else i + 1


def kaiser_values(i: Tensor, n: int, beta: float) -> Tensor:
    """I0(beta sqrt(1 - (2 i / n - 1)^2)) / I0(beta); 1 where n is 0."""
    if not n:
        return i + 1
    height = ((1 - (i * (2 / n) - 1) ** 2).clamp(min=0)).sqrt() * beta
    return height.i0() / (i[:1] * 0 + beta).i0()


def places(
    caller: str,
    length: int,
    periodic: bool,
    dtype: DTypeLike | None,
    device: DeviceLike,
    name: str = "window_length",
) -> tuple[Tensor, int, Any]:
    """0, 1 ... in float64, their period (0 of a window of one number), and the dtype asked for.

    Args:
        name: that of the argument `length`.
    """
    length = int_of(caller, name, length)
    if length < 0:
        raise ArgumentError(sentence(caller, f"{name} of at least 0", length))
    kind = get_default_dtype() if dtype is None else dtype_of(dtype)
    if not kind.is_floating_point:
        raise DTypeError(sentence(caller, "a floating-point dtype", kind))
    period = 0 if length <= 1 else length if periodic else length - 1
    return arange(length, dtype=float64, device=device), period, kind


# Short-time Fourier transforms -------------------------------------------------------------------


@autocasts("float32_on_cpu")
def stft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Tensor:
    """The Fourier transforms of the pieces of a signal that a window shows as it moves along.

    Args:
        input: (L,) or (B, L), real or complex.
        n_fft: the length of a piece.
        hop_length: from one piece to the next; a quarter of `n_fft` unless told.
        win_length, window: the window's length (`n_fft`), and its values (ones): laid over the
            middle of each piece.
        center: pieces have their middle at 0, hop_length ...: the signal is padded on both sides,
            by `pad_mode`.
        normalized: divided by the root of `n_fft`.
        onesided: the first n_fft // 2 + 1 terms alone, as of real numbers the others are their
            conjugates; by default so, where signal and window are real.
        return_complex: give complex numbers (F, T) or (B, F, T): needed for a real signal, unless
            False asks for real and imaginary parts in a last dimension.
        align_to_window: with `center=False`, the pieces begin where the window does.

    Raises:
        ShapeError: the signal is shorter than a piece, or the window does not fit.
    """
    x = _signal("stft", tensor_of("stft", input))
    if x.ndim not in (1, 2):
        raise ShapeError(sentence("stft", "a signal (L,) or signals (B, L)", tuple(x.shape)))
    n_fft, hop, win, values = _pieces("stft", x, n_fft, hop_length, win_length, window)
    tangled = x.is_complex() or (window is not None and window.is_complex())
    if return_complex is None:
        if not tangled:
            fix = "return_complex=True gives complex numbers, view_as_real their parts"
            raise ArgumentError(sentence("stft", "return_complex of real signals", "none", fix))
        return_complex = True
    if align_to_window is not None and center:
        raise ArgumentError(sentence("stft", "align_to_window with center=False alone", "True"))
    onesided = not tangled if onesided is None else onesided
    if onesided and tangled:
        raise ArgumentError(sentence("stft", "onesided=False of complex numbers", "True"))
    rows = x if x.ndim == 2 else x.unsqueeze(0)
    if center:
        rows = pad(rows.unsqueeze(1), (n_fft // 2, n_fft // 2), pad_mode).squeeze(1)
    if align_to_window and win < n_fft:
        raise ArgumentError(
            sentence("stft", "align_to_window with win_length=n_fft alone", f"win_length {win}")
        )
    length = rows.shape[-1]
    if length < n_fft:
        expected = f"signals of at least n_fft, {n_fft}"
        raise ShapeError(sentence("stft", expected, f"{length} with their padding"))
    windows: Any = shape.sliding_window(rows, axis=1, size=n_fft, step=hop)  # (B, T, n_fft)
    if values is not None:
        windows = windows * values
    norm = "ortho" if normalized else "backward"
    if onesided:
        terms = fourier.rfft(windows, axis=2, norm=norm)
    else:
        windows = windows if windows.is_complex() else windows.to(windows.dtype.to_complex())
        terms = fourier.fft(windows, axes=(2,), inverse=False, norm=norm)
    found: Any = shape.permute(terms, axes=(0, 2, 1))
    if x.ndim == 1:
        found = shape.reshape(found, shape=tuple(found.shape[1:]))
    return found if return_complex else complex_numbers.view_as_real(found)


def istft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """The signal whose `stft` is nearest to the input, by least squares (Griffin and Lim 1984):
    pieces are laid over each other, and their sum divided by that of the windows' squares.

    Args:
        input: complex (F, T) or (B, F, T), as `stft` gives it with the same options.
        length: of the signal; what lies beyond is cut off, or filled up with zeros.
        return_complex: the signal is complex; `onesided` is then False.

    Raises:
        ArgumentError: the windows leave parts of the signal without any.
        ShapeError: the number of terms is not that of `n_fft`.
    """
    x: Any = tensor_of("istft", input)
    if not x.is_complex():
        raise DTypeError(sentence("istft", "complex numbers", x.dtype, "use view_as_complex"))
    if x.ndim not in (2, 3) or not x.numel():
        expected = "terms (F, T) or (B, F, T), some of them"
        raise ShapeError(sentence("istft", expected, tuple(x.shape)))
    n_fft, hop, _, values = _pieces("istft", x, n_fft, hop_length, win_length, window)
    terms = x.shape[-2]
    onesided = (terms != n_fft) if onesided is None else onesided
    if onesided and return_complex:
        raise ArgumentError(sentence("istft", "onesided=False of complex signals", "True"))
    if terms != (n_fft // 2 + 1 if onesided else n_fft):
        expected = f"{n_fft // 2 + 1 if onesided else n_fft} terms for n_fft {n_fft}"
        raise ShapeError(sentence("istft", expected, terms))
    if values is not None and values.is_complex() and not return_complex:
        raise ArgumentError(sentence("istft", "return_complex=True with a complex window", "False"))
    batch: Any = (x if x.ndim == 3 else x.unsqueeze(0)).transpose(1, 2)  # (B, T, F)
    norm = "ortho" if normalized else "backward"
    pieces: Any
    if return_complex:
        pieces = fourier.fft(batch, axes=(2,), inverse=True, norm=norm)
    else:  # of all terms the first half says what the others are
        half: Any = batch[:, :, : n_fft // 2 + 1]
        pieces = fourier.irfft(half, axis=2, n=n_fft, norm=norm)
    count = batch.shape[1]
    if values is None:
        values = ones(n_fft, dtype=pieces.dtype.to_real(), device=x.device)
    laid: Any = _overlapped(pieces * values, hop)
    weights: Any = _overlapped((values * values).expand(1, count, n_fft), hop)
    start = n_fft // 2 if center else 0
    full = n_fft + hop * (count - 1)
    end = full
    if length is not None:
        end = min(start + int_of("istft", "length", length), full)
    elif center:
        end = full - n_fft // 2
    laid, weights = laid[:, start:end], weights[:, start:end]
    if not weights.numel() or float(weights.detach().abs().min()) < 1e-11:
        raise ArgumentError(
            sentence("istft", "windows that leave no part of the signal without any",
                     "such a part", "lengthen the window, or shorten hop_length or length")
        )  # fmt: skip
    signal = laid / weights
    if length is not None and signal.shape[1] < length:
        signal = pad(signal, (0, length - signal.shape[1]))
    return signal if x.ndim == 3 else shape.reshape(signal, shape=(signal.shape[1],))


def _overlapped(pieces: Any, hop: int) -> Any:
    """Pieces (B, T, n), each `hop` after the one before, laid over each other: (B, L)."""
    batch, count, n = pieces.shape
    places = arange(count, device=pieces.device).unsqueeze(1) * hop
    places = (places + arange(n, device=pieces.device)).reshape(-1)
    blank = pieces.detach().new_zeros(batch, n + hop * (count - 1))
    return blank.index_add(1, places, pieces.reshape(batch, count * n))


def _signal(caller: str, x: Any) -> Any:
    if x.dtype in HALF_PRECISION or x.array.dtype.kind in "biu":
        fix = "cast with .float()"
        raise DTypeError(sentence(caller, "floating-point or complex numbers", x.dtype, fix))
    return x


def _pieces(
    caller: str, x: Any, n_fft: Any, hop_length: Any, win_length: Any, window: Any
) -> tuple[int, int, int, Any]:
    """(n_fft, hop_length, win_length, the window of n_fft numbers or None), checked."""
    n_fft = int_of(caller, "n_fft", n_fft)
    hop = n_fft // 4 if hop_length is None else int_of(caller, "hop_length", hop_length)
    win = n_fft if win_length is None else int_of(caller, "win_length", win_length)
    for name, value in (("n_fft", n_fft), ("hop_length", hop)):
        if value < 1:
            raise ArgumentError(sentence(caller, f"{name} of at least 1", value))
    if not 0 < win <= n_fft:
        raise ArgumentError(sentence(caller, f"win_length from 1 to n_fft, {n_fft}", win))
    if window is None:
        values: Any = None
        if win < n_fft:
            values = ones(win, dtype=x.dtype.to_real(), device=x.device)
    else:
        if not isinstance(window, Tensor):
            got = type(window).__name__
            raise TypeMismatch(sentence(caller, "a Tensor as window", got))
        values = window
        if tuple(values.shape) != (win,):
            expected = f"a window of shape ({win},), its win_length"
            raise ShapeError(sentence(caller, expected, tuple(values.shape)))
        _signal(caller, values)
    if values is not None and win < n_fft:
        left = (n_fft - win) // 2
        values = pad(values, (left, n_fft - win - left))
    return n_fft, hop, win, values


if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)

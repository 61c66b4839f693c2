"""Windows, and short-time Fourier transforms: against NumPy, their inverses, misuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.autograd import gradcheck, gradgradcheck
from gradient.errors import ArgumentError, DTypeError, ShapeError

pytestmark = pytest.mark.cpu_only

SIGNAL = np.random.default_rng(0).standard_normal((2, 50))


@pytest.mark.parametrize("name", ["hann", "hamming", "blackman", "bartlett"])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 8])
def test_windows(name: str, n: int):
    """A periodic one is a symmetric one that is longer by one, without its end."""
    make = getattr(gradient, f"{name}_window")
    reference = getattr(np, "hanning" if name == "hann" else name)
    symmetric = make(n, periodic=False, dtype=gradient.float64).numpy()
    assert np.allclose(symmetric, reference(n))
    if n > 1:
        periodic = make(n, dtype=gradient.float64).numpy()
        assert np.allclose(periodic, reference(n + 1)[:-1])
    assert make(n).dtype is gradient.float32


@pytest.mark.parametrize("beta", [0.0, 5.0, 12.0])
def test_kaiser_window(beta: float):
    for n in (1, 2, 7):
        got = gradient.kaiser_window(n, False, beta, dtype=gradient.float64).numpy()
        assert np.allclose(got, np.kaiser(n, beta), atol=1e-12)


def by_definition(x: np.ndarray, n: int, hop: int, window: np.ndarray) -> np.ndarray:
    padded = np.pad(x, (n // 2, n // 2), mode="reflect")
    starts = range(0, len(padded) - n + 1, hop)
    return np.stack([np.fft.rfft(padded[s : s + n] * window) for s in starts], -1)


@pytest.mark.parametrize(("n", "hop", "win"), [(8, 2, 8), (9, 3, 9), (16, 4, 10), (8, 8, 8)])
def test_stft(n: int, hop: int, win: int):
    window = np.hamming(win)
    around = np.zeros(n)
    around[(n - win) // 2 : (n - win) // 2 + win] = window
    x = gradient.tensor(SIGNAL)
    got = gradient.stft(x, n, hop, win, gradient.tensor(window), return_complex=True)
    expected = np.stack([by_definition(row, n, hop, around) for row in SIGNAL])
    assert np.allclose(got.numpy(), expected)
    one = gradient.stft(x[0], n, hop, win, gradient.tensor(window), return_complex=False)
    assert np.allclose(gradient.view_as_complex(one).numpy(), expected[0])


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("onesided", [True, False])
@pytest.mark.parametrize("normalized", [True, False])
def test_there_and_back(center: bool, onesided: bool, normalized: bool):
    options: dict[str, Any] = {
        "hop_length": 3, "window": gradient.hamming_window(12, dtype=gradient.float64),
        "center": center, "onesided": onesided, "normalized": normalized,
    }  # fmt: skip
    x = gradient.tensor(SIGNAL[:, :48])
    s = gradient.stft(x, 12, return_complex=True, **options)
    assert np.allclose(gradient.istft(s, 12, length=48, **options).numpy(), x.numpy())
    longer = gradient.istft(s, 12, length=60, **options)
    assert longer.shape == (2, 60) and not longer[:, 54:].numpy().any()


def test_complex_signals():
    z = gradient.tensor(SIGNAL + 1j * SIGNAL[::-1])
    window = gradient.hann_window(8, dtype=gradient.float64)
    s = gradient.stft(z, 8, 2, window=window)
    assert s.shape == (2, 8, 26)
    back = gradient.istft(s, 8, 2, window=window, onesided=False, return_complex=True, length=50)
    assert np.allclose(back.numpy(), z.numpy())


def test_gradients():
    window = gradient.hamming_window(6, dtype=gradient.float64).requires_grad_()
    x = gradient.tensor(SIGNAL[:, :14], requires_grad=True)

    def there(x: Any, window: Any) -> Any:
        return gradient.stft(x, 6, 2, window=window, return_complex=True)

    def back(s: Any, window: Any) -> Any:
        return gradient.istft(s, 6, 2, window=window)

    assert gradcheck(there, (x, window)) and gradgradcheck(there, (x, window))
    s = there(x, window).detach().requires_grad_()
    assert gradcheck(back, (s, window)) and gradgradcheck(back, (s, window))


X = gradient.tensor(SIGNAL)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: gradient.stft(X, 8), ArgumentError, "return_complex of real signals"),
        (lambda: gradient.stft(X[None], 8, return_complex=True), ShapeError, "a signal"),
        (lambda: gradient.stft(X, 0, return_complex=True), ArgumentError, "n_fft of at least 1"),
        (lambda: gradient.stft(X, 8, 0, return_complex=True), ArgumentError, "hop_length of at"),
        (lambda: gradient.stft(X, 8, 2, 9, return_complex=True), ArgumentError, "win_length from"),
        (lambda: gradient.stft(X, 8, window=X[0], return_complex=True), ShapeError, "a window of"),
        (lambda: gradient.stft(X, 60, center=False, return_complex=True), ShapeError, "at least n"),
        (lambda: gradient.stft(X.long(), 8, return_complex=True), DTypeError, "floating-point or"),
        (lambda: gradient.stft(X * 1j, 8, onesided=True), ArgumentError, "onesided=False"),
        (lambda: gradient.istft(X, 8), DTypeError, "view_as_complex"),
        (lambda: gradient.istft(X * 1j, 8), ShapeError, "5 terms for n_fft 8"),
        (
            lambda: gradient.istft(
                gradient.zeros(5, 3, dtype=gradient.complex64), 8, 2,
                window=gradient.hann_window(8), center=False,
            ),
            ArgumentError, "windows that leave no part",
        ),
        (lambda: gradient.hann_window(-1), ArgumentError, "window_length of at least 0"),
        (lambda: gradient.hann_window(4, dtype=gradient.int64), DTypeError, "a floating-point"),
    ],
)  # fmt: skip
def test_errors(call: Callable[[], Any], kind: type[Exception], words: str):
    with pytest.raises(kind, match=words):
        call()

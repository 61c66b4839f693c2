"""Fourier transforms of many rows by a kernel: NumPy's numbers, each row by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import backends
from gradient.backends.numpy import fourier, kernels, threads

pytestmark = pytest.mark.skipif(not kernels.available(), reason="there are no kernels")

LENGTHS = (2, 3, 4, 6, 7, 8, 15, 16, 22, 60, 62, 64, 100, 127, 128, 225, 256, 400, 1024, 4096)


def drawn(*shape: int, dtype: Any) -> np.ndarray:
    random = np.random.default_rng(0)
    x = random.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * random.standard_normal(shape)
    return x.astype(dtype)


def transforms(n: int, single: bool) -> dict[str, tuple[Callable[..., Any], Callable[..., Any]]]:
    """Functions of the backend and of NumPy, and the array for both."""
    be, rows = backends.get("cpu"), max(19, -(-fourier.MANY // n))
    real, terms = (np.float32, np.complex64) if single else (np.float64, np.complex128)
    x, z = drawn(rows, n, dtype=real), drawn(rows, n, dtype=terms)
    half = drawn(2 * rows, n // 2 + 1, dtype=terms)
    column, planes = drawn(n, rows, dtype=terms), drawn(3, n, rows, dtype=terms)
    return {
        "rfft": (lambda: be.rfft(x, 1, "ortho"), lambda: np.fft.rfft(x, norm="ortho")),
        "irfft": (lambda: be.irfft(half, 1, n, "backward"), lambda: np.fft.irfft(half, n)),
        "fft": (lambda: be.fft(z, (1,), False, "backward"), lambda: np.fft.fft(z)),
        "ifft": (lambda: be.fft(z, (1,), True, "backward"), lambda: np.fft.ifft(z)),
        "column": (
            lambda: be.fft(column, (0,), True, "forward"),
            lambda: np.fft.ifft(column, axis=0, norm="forward"),
        ),
        "planes": (
            lambda: be.fft(planes, (1,), False, "backward"),
            lambda: np.fft.fft(planes, axis=1),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("n", LENGTHS)
def test_transforms_are_numpys(n: int, single: bool) -> None:
    for name, (ours, numpys) in transforms(n, single).items():
        found, expected = ours(), numpys()
        assert found.shape == expected.shape and found.dtype == expected.dtype, name
        error = np.abs(found - expected).max() / np.abs(expected).max()
        assert error < (1e-6 if single else 2e-15), name


def test_a_kernel_makes_them(started: list[Any]) -> None:
    for ours, _ in transforms(60, True).values():
        ours()
    assert len(started) == 6
    for ours, _ in transforms(127, True).values():  # a large prime
        ours()
    few = drawn(3, 2048, dtype=np.float32)  # rows, also for vectors of 32 bytes
    backends.get("cpu").rfft(few, 1, "backward")
    assert len(started) == 6


@pytest.mark.parametrize("n", [9, 48, 256])
def test_results_do_not_depend_on_the_number_of_threads(n: int) -> None:
    before, found = threads.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            found.append([ours().tobytes() for ours, _ in transforms(n, True).values()])
    finally:
        threads.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_terms_that_are_missing_or_too_many() -> None:
    be, x = backends.get("cpu"), drawn(300, 40, dtype=np.complex128)
    for n in (40, 41, 90, 91):
        found, expected = be.irfft(x, 1, n, "backward"), np.fft.irfft(x, n)
        assert np.abs(found - expected).max() < 1e-15


def test_rows_do_not_depend_on_other_rows() -> None:
    be, x = backends.get("cpu"), drawn(300, 48, dtype=np.float32)
    whole = be.rfft(x, 1, "backward")
    x[1, 3], x[20, 0], x[37] = np.nan, np.inf, 1e30
    other = np.delete(np.arange(300), [1, 20, 37])
    spoilt = be.rfft(x, 1, "backward")
    assert np.array_equal(spoilt[other], whole[other])
    assert np.isnan(spoilt[1]).all() and not np.isfinite(spoilt[20]).any()
    assert np.array_equal(be.rfft(x[100:291], 1, "backward"), whole[100:291])
    back = be.irfft(spoilt, 1, 48, "backward")
    assert np.array_equal(back[other], be.irfft(whole, 1, 48, "backward")[other])


def test_gradients_of_all_orders(monkeypatch: pytest.MonkeyPatch, started: list[Any]) -> None:
    """By the kernel as by NumPy."""

    def derivatives() -> list[np.ndarray]:
        x = gradient.tensor(drawn(2, 64, 48, dtype=np.float64), requires_grad=True)
        y = gradient.fft.irfft2(gradient.fft.rfft2(x) ** 2, (64, 47), norm="ortho")
        z = gradient.fft.ifftn(gradient.fft.fftn(y, norm="ortho") * 2).real
        (first,) = gradient.autograd.grad((z**2).sum(), x, create_graph=True)
        (second,) = gradient.autograd.grad((first**2).sum() * 1e-9, x)
        return [z.detach().numpy(), first.detach().numpy(), second.numpy()]

    found = derivatives()
    begun = len(started)
    monkeypatch.setattr(fourier, "MANY", 1 << 40)
    expected = derivatives()
    assert begun > len(started) - begun
    for a, b in zip(found, expected, strict=True):
        assert np.abs(a - b).max() < 1e-13 * np.abs(b).max()

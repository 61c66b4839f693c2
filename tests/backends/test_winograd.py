"""Convolutions of 3 x 3 by Winograd's method: how well they round, and where they are not asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradient import backends
from gradient.backends.numpy import threads, winograd
from gradient.backends.options import ConvolutionOptions
from support.backend_table import BARE

pytestmark = pytest.mark.cpu_only
pytest.importorskip("numba")

PADDED = ConvolutionOptions((1, 1), ((1, 1), (1, 1)), (1, 1))
SHAPE, OUTPUTS = (3, 64, 14, 15), 32


class Layer:
    """A convolution that the method takes, and its gradient by the input."""

    def __init__(self, change: Callable[[np.ndarray], np.ndarray] = np.asarray) -> None:
        draw = np.random.default_rng(0).standard_normal
        self.x = change(draw(SHAPE, np.float32))
        self.weight = draw((OUTPUTS, 64, 3, 3), np.float32)
        self.bias = draw(OUTPUTS, np.float32)
        self.g = change(draw((3, OUTPUTS, 14, 15), np.float32))

    def results(self, backend: Any, dtype: Any = np.float32) -> list[np.ndarray]:
        weight, bias = self.weight.astype(dtype), self.bias.astype(dtype)
        return [
            backend.convolution(self.x.astype(dtype), weight, bias, PADDED),
            backend.convolution_input_grad(self.g.astype(dtype), weight, SHAPE, PADDED),
        ]

    def directly(self, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
        with monkeypatch.context() as patch:
            patch.setattr(winograd, "takes", lambda *arguments: False)
            return self.results(backends.get("cpu"))


def error(got: np.ndarray, exact: np.ndarray) -> float:
    return float(np.sqrt(np.mean((got - exact) ** 2)))


def test_it_takes_this_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, ...]] = []
    convolve = winograd.convolve

    def note(*arguments: Any) -> None:
        taken.append(arguments[6].shape)
        convolve(*arguments)

    monkeypatch.setattr(winograd, "convolve", note)
    Layer().results(backends.get("cpu"))
    assert taken == [(3, OUTPUTS, 14, 15), SHAPE]


@pytest.mark.parametrize("offset", [0, 1, 1e6])
def test_its_error_is_near_that_of_sums_taken_directly(
    offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = Layer(lambda x: (x + offset).astype(np.float32))
    exact = layer.results(BARE, np.float64)
    for got, direct, right in zip(
        layer.results(backends.get("cpu")), layer.directly(monkeypatch), exact, strict=True
    ):
        assert error(got, right) <= 4 * error(direct, right)
        assert abs(got - right).max() <= 8 * abs(direct - right).max()


def one(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(x: np.ndarray) -> np.ndarray:
        x[1, 3, 6, 7] = value
        return x

    return change


@pytest.mark.parametrize(
    "change",
    [one(np.inf), one(-np.inf), one(np.nan), one(3e38), lambda x: x * np.float32(1e37)],
    ids=["inf", "-inf", "nan", "3e38", "all 1e37"],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numbers_beyond_float32_stay_where_they_are(
    change: Callable[[np.ndarray], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sum that is infinite, or no number, is that of its own window, not of its tile."""
    layer = Layer(change)
    exact = layer.results(BARE, np.float64)
    for got, direct, right in zip(
        layer.results(backends.get("cpu")), layer.directly(monkeypatch), exact, strict=True
    ):
        np.testing.assert_array_equal(np.isnan(got), np.isnan(direct))
        np.testing.assert_array_equal(np.isposinf(got), np.isposinf(direct))
        np.testing.assert_array_equal(np.isneginf(got), np.isneginf(direct))
        finite = np.isfinite(direct)
        largest = np.abs(right[finite]).max()
        np.testing.assert_allclose(got[finite] / largest, right[finite] / largest, atol=1e-5)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    before = threads.get_num_threads()
    results = []
    try:
        for n in (1, 2, 3):
            threads.set_num_threads(n)
            results.append(Layer().results(backends.get("cpu")))
    finally:
        threads.set_num_threads(before)
    for others in results[1:]:
        for one_thread, several in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(one_thread, several)


def test_an_image_has_the_same_bits_beside_others() -> None:
    layer = Layer()
    whole = layer.results(backends.get("cpu"))
    layer.x, layer.g = layer.x[1:], layer.g[1:]
    both = [
        backends.get("cpu").convolution(layer.x, layer.weight, layer.bias, PADDED),
        backends.get("cpu").convolution_input_grad(layer.g, layer.weight, layer.x.shape, PADDED),
    ]
    for several, fewer in zip(whole, both, strict=True):
        np.testing.assert_array_equal(several[1:], fewer)

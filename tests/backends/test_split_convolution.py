"""Convolutions by tiles of split numbers: values, what is not split, and when they are asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import gradient
from gradient import backends
from gradient.backends.numpy import kernels, split_convolution, threads, workspace
from gradient.backends.options import ConvolutionOptions
from gradient.backends.required import Shape
from support.backend_table import BARE

pytestmark = pytest.mark.cpu_only
pytest.importorskip("numba")

if kernels.load("cpu").PATH != "amx":
    pytest.skip("the processor has no tiles", allow_module_level=True)

PREDICATES = "_takes", "_takes_input_grad", "_takes_weight_grad"


class Layer(NamedTuple):
    images: int
    channels: int
    outputs: int
    sizes: Shape
    kernel: int = 3
    stride: int = 1
    padding: tuple[int, int] = (1, 1)
    dilation: int = 1

    @property
    def options(self) -> ConvolutionOptions:
        n = len(self.sizes)
        return ConvolutionOptions(
            (self.stride,) * n, (self.padding,) * n, (self.dilation,) * n
        )  # fmt: skip

    @property
    def kernel_sizes(self) -> Shape:
        return (self.kernel,) * len(self.sizes)


class Arrays:
    """Arrays of a layer, and what they give."""

    def __init__(self, layer: Layer) -> None:
        draw, self.layer = np.random.default_rng(0).standard_normal, layer
        count = layer.options.windows(layer.sizes, layer.kernel_sizes)
        self.x = draw((layer.images, layer.channels, *layer.sizes), np.float32)
        self.weight = draw((layer.outputs, layer.channels, *layer.kernel_sizes), np.float32)
        self.bias = draw(layer.outputs, np.float32)
        self.g = draw((layer.images, layer.outputs, *count), np.float32)

    def results(self, backend: Any = None, dtype: Any = np.float32) -> list[np.ndarray]:
        backend, options = backend or backends.get("cpu"), self.layer.options
        x, weight, bias, g = (
            a if a.dtype == dtype else a.astype(dtype)
            for a in (self.x, self.weight, self.bias, self.g)
        )
        return [
            backend.convolution(x, weight, bias, options),
            backend.convolution_input_grad(g, weight, x.shape, options),
            backend.convolution_weight_grad(g, x, weight.shape, options),
        ]


LAYERS = [
    Layer(1, 32, 32, (16, 16)),
    Layer(3, 40, 50, (13, 14)),
    Layer(17, 33, 31, (7, 5)),
    Layer(16, 64, 96, (4, 4)),
    Layer(4, 64, 64, (8, 8), stride=2),
    Layer(5, 33, 31, (13, 13), stride=2, padding=(0, 1)),
    Layer(2, 40, 32, (9, 10), kernel=5, padding=(2, 2), dilation=2),
    Layer(2, 40, 40, (30, 31), kernel=2, stride=3, padding=(0, 0)),
    Layer(3, 32, 32, (9, 9), padding=(1, -2)),
    Layer(2, 32, 40, (5, 6, 7), stride=2),
    Layer(2, 33, 32, (1100,)),
    Layer(1, 32, 32, (3, 1037), padding=(2, 1)),
]


@pytest.fixture
def by_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every convolution of one group, of as many products as kernels take, by tiles."""
    for name in PREDICATES:
        monkeypatch.setattr(split_convolution, name, lambda *arguments: True)


@pytest.fixture
def directly(monkeypatch: pytest.MonkeyPatch) -> Callable[[Arrays], list[np.ndarray]]:
    def results(arrays: Arrays) -> list[np.ndarray]:
        with monkeypatch.context() as patch:
            for name in PREDICATES:
                patch.setattr(split_convolution, name, lambda *arguments: False)
            return arrays.results()

    return results


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is called by tiles."""
    names: list[str] = []

    def noting(name: str, made: Callable[..., Any]) -> Callable[..., Any]:
        def note(*arguments: Any) -> Any:
            names.append(name)
            return made(*arguments)

        return note

    for name in ("convolve", "weight_grad"):
        made = getattr(split_convolution, name)
        monkeypatch.setattr(split_convolution, name, noting(name, made))
    return names


def error(got: np.ndarray, exact: np.ndarray) -> float:
    return float(np.sqrt(np.mean((got - exact) ** 2)))


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_values(layer: Layer, by_tiles: None, directly: Any, noted: list[str]) -> None:
    arrays = Arrays(layer)
    got = arrays.results()
    assert noted == ["convolve", "convolve", "weight_grad"]
    for y, direct, right in zip(
        got, directly(arrays), arrays.results(BARE, np.float64), strict=True
    ):
        assert error(y, right) <= 2 * error(direct, right)
        assert abs(y - right).max() <= 1e-6 * abs(right).max()


@pytest.mark.parametrize(
    "layer",
    [
        Layer(16, 512, 512, (4, 4)),
        Layer(16, 128, 256, (16, 16), stride=2),
        Layer(4, 64, 64, (32, 32)),
    ],
    ids=str,
)
def test_errors_are_not_above_those_of_vectors(layer: Layer, by_tiles: None, directly: Any) -> None:
    arrays = Arrays(layer)
    exact = arrays.results(BARE, np.float64)
    for y, direct, right in zip(arrays.results(), directly(arrays), exact, strict=True):
        assert error(y, right) <= 1.05 * error(direct, right)


def test_which_layers_it_takes(noted: list[str]) -> None:
    """Many channels, small maps or a stride; not where Winograd's method is quicker, nor few
    channels."""
    Arrays(Layer(16, 512, 512, (4, 4))).results()
    assert noted == ["convolve", "convolve", "weight_grad"]
    noted.clear()
    Arrays(Layer(16, 128, 256, (16, 16), stride=2)).results()
    assert noted == ["convolve", "convolve", "weight_grad"]
    noted.clear()
    Arrays(Layer(16, 64, 64, (28, 28))).results()
    assert noted == ["weight_grad"]
    noted.clear()
    Arrays(Layer(16, 3, 64, (32, 32))).results()
    assert noted == []


def test_groups_are_not_taken(by_tiles: None, noted: list[str]) -> None:
    arrays = Arrays(Layer(2, 64, 64, (16, 16)))
    options = arrays.layer.options._replace(groups=2)
    backends.get("cpu").convolution(arrays.x, arrays.weight[:, :32].copy(), None, options)
    assert noted == []


def test_of_no_images_or_no_channels(by_tiles: None) -> None:
    for layer in (Layer(0, 32, 32, (16, 16)), Layer(2, 0, 32, (16, 16)), Layer(2, 32, 0, (9, 9))):
        arrays = Arrays(layer)
        for y, right in zip(arrays.results(), arrays.results(BARE), strict=True):
            np.testing.assert_array_equal(y, right)


NUMBERS = {
    "inf": np.inf, "-inf": -np.inf, "nan": np.nan, "3e38": 3e38, "2^58": 2.0**58, "1e-33": 1e-33,
    "1e-42": 1e-42,
}  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("name", ["x", "weight", "g"])
@pytest.mark.parametrize("layer", [LAYERS[1], LAYERS[2], LAYERS[4], LAYERS[9]], ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numbers_that_are_not_split(layer: Layer, name: str, number: float, by_tiles: None) -> None:
    """What has none of them keeps its bits; the rest is as float32 has it."""
    arrays = Arrays(layer)
    before = arrays.results()
    changed = getattr(arrays, name)
    place = tuple(n // 2 for n in changed.shape)
    changed[place] = number
    met = Arrays(layer)
    for each in ("x", "weight", "g"):
        setattr(met, each, np.ones_like(getattr(met, each)))
    plain = met.results(BARE)
    getattr(met, name)[place] = 3
    exact = arrays.results(BARE, np.float64)
    for y, old, right, one, other in zip(
        arrays.results(), before, exact, plain, met.results(BARE), strict=True
    ):
        finite = np.isfinite(right)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(right))
        np.testing.assert_array_equal(y[~finite], right[~finite].astype(np.float32))
        if y.shape != arrays.weight.shape:
            alone = one == other  # what the number has no part in
            np.testing.assert_array_equal(y[alone], old[alone])
        elif name != "weight":  # other channels, or outputs
            axis = 1 if name == "x" else 0
            others = [np.delete(grad, place[1], axis) for grad in (y, old)]
            np.testing.assert_array_equal(*others)
        small = abs(right) < 3.3e38
        assert (abs(y - right)[small] <= 3e-5 * np.maximum(abs(right), 30)[small]).all()


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("layer", [LAYERS[1], LAYERS[2], LAYERS[4], LAYERS[9]], ids=str)
@pytest.mark.parametrize("kernels", ["tiles", "vectors"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_weights_that_lie_in_padding(
    layer: Layer, number: float, kernels: str, request: pytest.FixtureRequest
) -> None:
    """A number times the zeros about may be NaN, or be left out, as PyTorch does; where there are
    none, results are as float32 has them."""
    arrays = Arrays(layer)
    arrays.weight[0, 0].flat[0] = np.inf
    inside = [np.isinf(each) for each in arrays.results(BARE, np.float64)[:2]]
    arrays.weight[0, 0].flat[0] = number
    exact = arrays.results(BARE, np.float64)[:2]
    if kernels == "tiles":
        request.getfixturevalue("by_tiles")
        found = arrays.results()[:2]
    else:
        found = request.getfixturevalue("directly")(arrays)[:2]
    for y, right, reached in zip(found, exact, inside, strict=True):
        assert reached.any()
        np.testing.assert_array_equal(y[reached], right[reached].astype(np.float32))
        assert np.isfinite(y[:, 1:]).all()  # of other outputs, or by other inputs


@pytest.mark.parametrize("factor", [1e-36, 1e-20, 1e20, 1e30])
@pytest.mark.parametrize("layer", [LAYERS[1], LAYERS[4]], ids=str)
def test_all_numbers_small_or_large(layer: Layer, factor: float, by_tiles: None) -> None:
    for names in (("x", "g"), ("weight",)):
        arrays, plain = Arrays(layer), Arrays(layer)
        for name in names:
            changed = (getattr(arrays, name).astype(np.float64) * factor).astype(np.float32)
            setattr(arrays, name, changed)
        exact = arrays.results(BARE, np.float64)
        for y, right, like in zip(
            arrays.results(), exact, plain.results(BARE, np.float64), strict=True
        ):
            if 1e-37 < abs(right).max() < 1e38:
                size = abs(right).max() / abs(like).max()
                assert (abs(y - right) <= 3e-5 * size * np.maximum(abs(like), 30)).all()


@pytest.fixture
def any_threads() -> Iterator[None]:
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


@pytest.mark.parametrize("layer", [LAYERS[1], LAYERS[3], LAYERS[4], LAYERS[10]], ids=str)
def test_any_number_of_threads_gives_the_same_bits(
    layer: Layer, by_tiles: None, any_threads: None
) -> None:
    arrays, found = Arrays(layer), []
    arrays.x[0, 0, 0] = np.inf
    for n in (1, 2, 3):
        threads.set_num_threads(n)
        found.append(arrays.results())
    for others in found[1:]:
        for one, several in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(one, several)


@pytest.mark.parametrize("layer", LAYERS[1:5], ids=str)
def test_inputs_in_any_layout(layer: Layer, by_tiles: None) -> None:
    arrays = Arrays(layer)
    want = arrays.results()
    for name in ("x", "g", "weight"):  # channels last
        changed = np.moveaxis(np.moveaxis(getattr(arrays, name), 1, -1).copy(), -1, 1)
        setattr(arrays, name, changed)
    for y, right in zip(arrays.results(), want, strict=True):
        np.testing.assert_array_equal(y, right)


def test_an_image_has_the_same_bits_beside_others(by_tiles: None) -> None:
    arrays = Arrays(LAYERS[2])
    y, gx, _ = arrays.results()
    arrays.x, arrays.g = arrays.x[3:8].copy(), arrays.g[3:8].copy()
    fewer, gx_fewer, _ = arrays.results()
    np.testing.assert_array_equal(y[3:8], fewer)
    np.testing.assert_array_equal(gx[3:8], gx_fewer)


def test_a_plan_gives_the_same_bits(by_tiles: None, noted: list[str]) -> None:
    nn = gradient.nn
    model = nn.Sequential(
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.Flatten()
    )
    x = gradient.randn(16, 32, 16, 16)

    def step(x: Any) -> Any:
        loss = (model(x) ** 2).mean()
        loss.backward()
        return loss

    def grads() -> list[np.ndarray]:
        found = [p.grad.numpy().copy() for p in model.parameters()]
        model.zero_grad()
        return found

    want = step(x).item()
    want_grads = grads()
    assert set(noted) == {"convolve", "weight_grad"}
    compiled = gradient.compile(step)
    for _ in range(4):
        assert compiled(x).item() == want
        for got, right in zip(grads(), want_grads, strict=True):
            np.testing.assert_array_equal(got, right)


@pytest.mark.parametrize("layer", [LAYERS[1], LAYERS[4]], ids=str)
def test_memory_that_begins_anywhere(
    layer: Layer, by_tiles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors are read and written wherever numbers lie: a plan looks on with any memory."""
    arrays = Arrays(layer)
    want = arrays.results()
    made: list[int] = []

    def amid_a_line(shape: Shape, dtype: Any, on_lines: bool = False) -> np.ndarray:
        dtype = np.dtype(dtype)
        block = np.empty(int(np.prod(shape)) * dtype.itemsize + 128, np.uint8)
        made.append(-block.ctypes.data % 64 + 4)
        return np.ndarray(shape, dtype, block, made[-1])

    for name in ("empty", "result"):
        monkeypatch.setattr(workspace, name, amid_a_line)
    for y, right in zip(arrays.results(), want, strict=True):
        np.testing.assert_array_equal(y, right)
    assert len(made) > 10

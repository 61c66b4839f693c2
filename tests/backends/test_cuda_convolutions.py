"""By which kernels convolutions go on a GPU, and what memory they take.

The kernels' numbers are held to the composed definitions in `test_cuda_kernels`, too.
"""

from __future__ import annotations

import math
import shutil
from typing import Any

import numpy as np
import pytest

from gradient.backends.cuda import (
    convolution,
    convolution_products,
    convolution_tiles,
    depthwise,
    windows,
)
from gradient.backends.cuda.backend import CudaBackend
from gradient.backends.options import ConvolutionOptions
from support.agreement import agree
from support.backend_table import BARE, Draw
from support.cuda_emulation import EmulatedRuntime

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]


@pytest.fixture
def be() -> CudaBackend:
    return CudaBackend(0, EmulatedRuntime())


def each_way(
    be: Any, dtype: str, x: tuple[int, ...], weight: tuple[int, ...],
    options: ConvolutionOptions, bias: bool = True,
) -> list[np.ndarray]:  # fmt: skip
    """A convolution of arrays of these shapes, and its gradients."""
    draw = Draw(dtype)
    of_x, of_weight, of_bias = draw(*x), draw(*weight), draw(weight[0]) if bias else None
    g = draw(x[0], weight[0], *options.windows(x[2:], weight[2:]))
    return [
        be.convolution(of_x, of_weight, of_bias, options),
        be.convolution_input_grad(g, of_weight, x, options),
        be.convolution_weight_grad(g, of_x, weight, options),
    ]


@pytest.mark.parametrize(
    ("x", "weight", "options"),
    [
        ((2, 3, 61), (5, 3, 4), ConvolutionOptions((2,), ((3, 2),), (2,))),
        ((2, 4, 19, 8), (6, 4, 3, 3), ConvolutionOptions((1, 1), ((1, 1), (1, 1)), (1, 1))),
        ((1, 4, 19, 11), (6, 4, 3, 2), ConvolutionOptions((3, 2), ((2, 5), (0, 1)), (2, 1))),
        ((2, 2, 9, 5, 4), (3, 2, 3, 2, 2), ConvolutionOptions((1,) * 3, ((1, 2),) * 3, (1,) * 3)),
    ],
    ids=("1d", "2d", "strided", "3d"),
)
def test_columns_of_one_image_that_are_too_many_are_laid_out_by_lines(
    x: tuple[int, ...], weight: tuple[int, ...], options: ConvolutionOptions, be: CudaBackend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Those of an image of 1,024 x 1,024 with 128 channels would take 4.8 GB."""
    monkeypatch.setattr(convolution_products, "LEAST_OUTPUTS", 1)
    monkeypatch.setattr(convolution_products, "LEAST_MULTIPLIED", 0)
    line = math.prod(weight[1:]) * math.prod(options.windows(x[2:], weight[2:])[1:]) * 4
    most = 3 * line
    monkeypatch.setattr(convolution_products, "COLUMN_BYTES", most)
    columns = []
    run = be.runtime.launch

    def launch(family: str, kernel: str, dtype: str, *given: Any, **options: Any) -> None:
        if kernel == "columns":
            columns.append(given[3].nbytes)
        run(family, kernel, dtype, *given, **options)

    monkeypatch.setattr(be.runtime, "launch", launch)
    got, expected = (each_way(each, "float32", x, weight, options) for each in (be, BARE))
    agree(got, expected, "float32", "convolution")
    assert len(columns) > 2 * x[0]
    assert max(columns) <= most + 16 * math.prod(weight[1:])  # rows begin at 16 bytes


POINT = ConvolutionOptions((1, 1), ((0, 0), (0, 0)), (1, 1))


def test_a_pointwise_convolution_with_a_bias_lays_out_no_columns(
    be: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution_products, "LEAST_MULTIPLIED", 0)
    draw = Draw("float32")
    given = draw(2, 9, 6, 8), draw(48, 9, 1, 1), draw(48), POINT
    agree([be.convolution(*given)], [BARE.convolution(*given)], "float32", "convolution")
    assert be.runtime.launched == ["cublasGemmStridedBatchedEx_64"]


@pytest.mark.parametrize(
    ("lines", "above"),
    [(7, 0), (3, 3)],
    ids=("some lines are as of padding", "some are as without padding"),
)
def test_all_pieces_of_a_pointwise_convolution_are_multiplied_alike(
    lines: int, above: int, be: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """9 channels, whether or not to these come rows of zeros, as to columns of other kernels."""
    monkeypatch.setattr(convolution_products, "LEAST_OUTPUTS", 1)
    monkeypatch.setattr(convolution_products, "LEAST_MULTIPLIED", 0)
    monkeypatch.setattr(convolution_products, "COLUMN_BYTES", 3 * 9 * 8 * 2)  # 3 lines
    options = ConvolutionOptions((1, 1), ((above, 0), (0, 0)), (1, 1))
    draw = Draw("bfloat16")
    given = draw(2, 9, lines, 8), draw(6, 9, 1, 1), draw(6), options
    agree([be.convolution(*given)], [BARE.convolution(*given)], "bfloat16", "convolution")


@pytest.mark.parametrize("side", [8, 9])
def test_products_of_the_first_layer_are_of_whole_loads(
    side: int, be: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """27 channels and taps of 16-bit floats are no sizes for the fast kernels of cuBLAS."""
    monkeypatch.setattr(convolution_products, "LEAST_OUTPUTS", 1)
    monkeypatch.setattr(convolution_products, "LEAST_MULTIPLIED", 0)
    options = ConvolutionOptions((1, 1), ((1, 1), (1, 1)), (1, 1))
    sizes = []
    run = be.runtime.blas.multiply

    def multiply(dtype: Any, of: Any, *operands: Any) -> None:
        sizes.append(of)
        run(dtype, of, *operands)

    monkeypatch.setattr(be.runtime.blas, "multiply", multiply)
    for outputs in (1, 48):
        shapes = (2, 3, side, side), (outputs, 3, 3, 3)
        draw = Draw("bfloat16")
        x, weight, g = draw(*shapes[0]), draw(*shapes[1]), draw(2, outputs, side, side)
        x[0, 0, 0, 0] = np.inf  # and what is behind the last tap is no summand
        for method, given in (
            ("convolution", (x, weight, None)),
            ("convolution_weight_grad", (g, x, shapes[1])),
        ):
            with np.errstate(invalid="ignore"):
                got, expected = (getattr(each, method)(*given, options) for each in (be, BARE))
            agree([got], [expected], "bfloat16", method)
    forward, by_weight = sizes[-2:]
    assert forward.k == 32 and by_weight.m == 32


@pytest.mark.parametrize("side", [7, 8])
def test_planes_at_odd_places_are_no_operands_of_cublas(
    side: int, be: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planes of 49 16-bit floats begin anywhere, where tensor cores read 16 bytes at a time."""
    monkeypatch.setattr(convolution_tiles, "LEAST_MULTIPLIED", 0)
    monkeypatch.setattr(convolution_tiles, "LEAST_TILES", 0)
    shapes = (2, 32, side, side), (40, 32, 1, 1)
    got, expected = (each_way(each, "bfloat16", *shapes, POINT, bias=False) for each in (be, BARE))
    agree(got, expected, "bfloat16", "convolution")
    way = "convolution_wide_bfloat16" if side == 7 else "cublasGemmStridedBatchedEx_64"
    assert be.runtime.launched[:2] == [way, way]


@pytest.mark.parametrize(("stride", "kernel"), [(1, 3), (2, 5)])
def test_a_depthwise_gradient_for_the_weight_divides_one_image_too(
    stride: int, kernel: int, be: CudaBackend
) -> None:
    """A block each for a few channels would leave most multiprocessors idle."""
    options = ConvolutionOptions((stride, stride), ((1, 2), (2, 1)), (1, 1), 2)
    shapes = (3, 2, 61 * stride, 73 * stride), (2, 1, kernel, kernel)
    for dtype in ("float32", "bfloat16"):
        got, expected = (each_way(each, dtype, *shapes, options) for each in (be, BARE))
        agree(got, expected, dtype, "convolution")
        assert f"convolution_join_{dtype}" in be.runtime.launched
    alone = (1, *shapes[0][1:]), shapes[1]
    be.runtime.launched.clear()
    got, expected = (each_way(each, "float32", *alone, options) for each in (be, BARE))
    agree(got, expected, "float32", "convolution")
    assert be.runtime.launched[-1] == "convolution_join_float32"


@pytest.mark.parametrize(
    ("x", "weight"), [((2, 6, 9, 8), (6, 1, 3, 3)), ((2, 6, 9, 8), (4, 6, 3, 3))], ids=str
)
def test_what_follows_from_shapes_is_found_once(
    x: tuple[int, ...], weight: tuple[int, ...], be: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take half of the host's time for a depthwise convolution."""
    options = ConvolutionOptions((1, 1), ((1, 2), (1, 1)), (1, 1), x[1] // weight[1])
    draw = Draw("float32")
    of_x, of_weight = draw(*x), draw(*weight)
    g = draw(x[0], weight[0], *options.windows(x[2:], weight[2:]))

    def run() -> None:
        be.convolution(of_x, of_weight, None, options)
        be.convolution_input_grad(g, of_weight, x, options)
        be.convolution_weight_grad(g, of_x, weight, options)

    run()
    monkeypatch.setattr(windows, "slide", None)
    monkeypatch.setattr(ConvolutionOptions, "windows", None)
    monkeypatch.setattr(depthwise, "divisor", None)
    run()


def test_places_that_taps_reach_are_counted_in_32_bits() -> None:
    """A tap 16,384 lines of 16,384 numbers of 8 channels behind the first is 2**31 numbers away."""
    x, weight, far = (1, 8, 4, 1 << 14), (8, 8, 2, 1), 1 << 14
    options = ConvolutionOptions((far // 2, 1), ((far, far), (0, 0)), (far, 1))
    assert not convolution._fit(x, weight, options)
    assert convolution._fit(x, weight, options._replace(padding=((2, 2), (0, 0)), dilation=(7, 1)))


@pytest.mark.parametrize("multiprocessors", [1, 2, 132])
def test_wide_tiles_fill_the_multiprocessors_that_there_are(
    multiprocessors: int, be: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One tile of the result has a multiprocessor to itself, or is left to smaller ones; the
    gradient for the weight is divided among four blocks of each."""
    monkeypatch.setattr(convolution_tiles, "LEAST_MULTIPLIED", 0)
    monkeypatch.setattr(convolution_tiles, "WINDOWS_OF_PART", 32)
    monkeypatch.setattr(be.runtime, "multiprocessors", multiprocessors)
    options = ConvolutionOptions((1, 1), ((1, 1), (1, 1)), (1, 1))
    grids = {}
    run = be.runtime.launch

    def launch(family: str, kernel: str, dtype: str, grid: Any, *given: Any, **more: Any) -> None:
        grids[kernel] = grid
        run(family, kernel, dtype, grid, *given, **more)

    monkeypatch.setattr(be.runtime, "launch", launch)
    shapes = (3, 32, 16, 16), (32, 32, 3, 3)  # 6 tiles; 768 windows
    got, expected = (each_way(each, "float16", *shapes, options) for each in (be, BARE))
    agree(got, expected, "float16", "convolution")
    assert grids["convolution_wide_weight_grad"] == (3, 1, {1: 1, 2: 2}.get(multiprocessors, 24))
    assert ("convolution_wide" in grids) == (multiprocessors <= 6)

"""Convolutions that put zeros about each image where it is convolved: the bits of those that do so
for all images first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from gradient import backends
from gradient.backends.numpy import kernels, threads, windows
from gradient.backends.options import ConvolutionOptions

pytestmark = pytest.mark.cpu_only

be: Any = backends.get("cpu")

CASES = {
    "stride 2": ((8, 64, 16, 16), (32, 64, 3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
    "4 groups": ((8, 64, 17, 32), (64, 16, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 4),
    "uneven zeros": ((9, 32, 17, 23), (48, 32, 3, 3), (2, 2), ((1, 0), (0, 2)), (1, 1), 1),
    "dilation": ((8, 40, 13, 9), (32, 20, 5, 5), (1, 1), ((2, 2), (2, 2)), (2, 2), 2),
    "sides": ((12, 24, 30, 11), (40, 24, 3, 5), (1, 3), ((1, 1), (2, 2)), (1, 1), 1),
    "no zeros": ((8, 64, 15, 14), (64, 64, 3, 3), (1, 1), ((0, 0), (0, 0)), (2, 2), 1),
    "one dimension": ((9, 32, 300), (32, 32, 5), (1,), ((2, 2),), (1,), 1),
    "three dimensions": ((8, 16, 5, 8, 9), (16, 16, 3, 3, 3), (1, 1, 2), ((1, 1),) * 3,
                         (1, 1, 1), 1),
}  # fmt: skip


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    if not kernels.available():
        pytest.skip("no kernels")
    before = threads.get_num_threads()
    yield threads.set_num_threads
    threads.set_num_threads(before)


@pytest.mark.parametrize("special", [None, np.nan, np.inf])
@pytest.mark.parametrize("case", CASES)
def test_images_one_by_one(case: str, special: float | None, monkeypatch: Any, pool: Any) -> None:
    shape, kernel, stride, padding, dilation, groups = CASES[case]
    options = ConvolutionOptions(stride, padding, dilation, groups)
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.standard_normal(s, np.float32) for s in (shape, kernel, kernel[:1]))
    if special is not None:
        x.reshape(-1)[[0, 1234, -1]] = special

    def both() -> bytes:
        y = be.convolution(x, weight, bias, options)
        return bytes(y.tobytes() + be.convolution_input_grad(y, weight, shape, options).tobytes())

    monkeypatch.setattr(windows, "IMAGES", 1 << 30)
    expected = both()
    monkeypatch.setattr(windows, "IMAGES", 1)
    for number in (1, 2, 3):
        pool(number)
        assert both() == expected


@pytest.mark.parametrize("images", [0, 1, 3])
def test_when_images_are_taken_one_by_one(images: int, pool: Any) -> None:
    options = ConvolutionOptions((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    pool(1)

    def around(size: int) -> int:
        shape, count = (images * windows.IMAGES, 16, size, size), (size, size)
        return int(windows.Windows(shape, (3, 3), count, options).around(True).size)

    assert around(32) == (10 if images else 0)
    assert not around(300)  # too large to stay in the cache
    bare = options._replace(padding=((0, 0), (0, 0)))
    assert not windows.Windows((8, 16, 32, 32), (3, 3), (30, 30), bare).around(True).size

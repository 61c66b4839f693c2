"""Memory that is shared with other libraries by DLPack, bfloat16 included, on the CPU and a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradient
from support import fake_cupy, fake_device

pytestmark = pytest.mark.cpu_only
DTYPES = ("float32", "bfloat16", "float16", "int16", "uint8", "bool")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["plain", "transposed", "every second", "empty", "a number"])
def test_every_dtype_goes_both_ways_with_pytorch(dtype: str, layout: str) -> None:
    torch = pytest.importorskip("torch")

    def laid_out(x: Any) -> Any:
        return {
            "plain": lambda: x, "transposed": lambda: x.T, "every second": lambda: x[:, ::2],
            "empty": lambda: x[:0], "a number": lambda: x[1, 2],
        }[layout]()  # fmt: skip

    ours = laid_out(gradient.arange(12).reshape(3, 4).to(getattr(gradient, dtype)))
    theirs = torch.from_dlpack(ours)
    assert theirs.dtype == getattr(torch, dtype)
    assert theirs.tolist() == ours.tolist()
    back = gradient.from_dlpack(theirs)
    assert back.dtype is ours.dtype and back.tolist() == ours.tolist()
    assert back.stride() == ours.stride() or layout == "empty"
    theirs.fill_(1)
    assert bool((ours == 1).all()) and bool((back == 1).all())  # one memory
    made = laid_out(torch.arange(12).reshape(3, 4).to(getattr(torch, dtype)))
    assert gradient.from_dlpack(made).tolist() == made.tolist()


def test_bfloat16_on_a_gpu() -> None:
    """Over arrays that know no bfloat16 in DLPack, and that give 16-bit integers."""
    with fake_device.as_cuda():
        x = gradient.tensor([1.5, -2.0], dtype=gradient.bfloat16, device="cuda")
        assert x.__dlpack_device__() == (2, 0)
        shared = gradient.from_dlpack(_Another(x))
        assert shared.dtype is gradient.bfloat16 and shared.device == x.device
        assert isinstance(shared.array, fake_cupy.ndarray)
        x[0] = 7
        assert shared.tolist() == [7, -2]
        plain = gradient.from_dlpack(_Another(gradient.ones(2, device="cuda")))
        assert plain.dtype is gradient.float32


class _Another:
    """An array of a library that gradient does not know."""

    def __init__(self, x: gradient.Tensor):
        self.x = x

    def __dlpack__(self, **options: Any) -> Any:
        return self.x.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.x.__dlpack_device__()


def test_numpy_says_that_it_has_no_bfloat16() -> None:
    with pytest.raises((RuntimeError, BufferError), match="[Uu]nsupported"):
        np.from_dlpack(gradient.ones(2, dtype=gradient.bfloat16))

"""Cross-entropy's kernels on rows that begin anywhere, with gradients in padded rows."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.backends.cuda import cross_entropy
from gradient.backends.cuda.backend import CudaBackend
from gradient.nn import functional as F
from support.agreement import EPS, agree
from support.backend_table import BARE, Draw
from support.cuda_emulation import ORDERS, EmulatedRuntime
from support.fake_device import DEVICE

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]

IGNORED = -100


@pytest.fixture(params=[True, False], ids=("padded", "whole"))
def padded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether 16-bit gradients lie in rows that begin at 16 bytes, however small they are."""
    monkeypatch.setattr(cross_entropy, "PADDED", 0 if request.param else 1 << 60)
    return bool(request.param)


def both(
    be: Any, logits: np.ndarray, target: np.ndarray, smoothing: float, in_float32: bool
) -> list[np.ndarray]:
    """Losses, statistics and the gradient; the statistics as the backend holds them."""
    forward = be.cross_entropy_in_float32 if in_float32 else be.cross_entropy
    loss, high, log_sum = forward(logits, target, IGNORED, smoothing)
    g = np.linspace(0.5, 1.5, len(loss)).astype(loss.dtype)
    gx = be.cross_entropy_grad(g, logits, target, high, log_sum, IGNORED, smoothing)
    assert gx.dtype == logits.dtype and gx.shape == logits.shape
    return [loss, high.astype(np.float64), log_sum.astype(np.float64), gx]


def rows(dtype: str, columns: int, off: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (5, columns), which begin `off` numbers behind a multiple of 16 bytes, and classes."""
    a = Draw(dtype)
    memory = np.zeros(5 * columns + 32, a.dtype)
    begin = -(memory.ctypes.data // memory.itemsize) % (16 // memory.itemsize) + off
    logits = memory[begin : begin + 5 * columns].reshape(5, columns)
    logits[...] = 3 * a(5, columns)
    target = np.array([0, columns - 1, IGNORED, columns // 2, min(9, columns - 1)])
    return logits, target


@pytest.mark.parametrize("dtype", list(EPS))
@pytest.mark.parametrize("columns", [1, 2, 7, 8, 9, 17, 50, 515, 4099])
def test_rows_of_any_length(columns: int, dtype: str, padded: bool) -> None:
    one = CudaBackend(0, EmulatedRuntime())
    for smoothing, off in ((0.0, 0), (0.1, 1), (0.0, 3)):
        for in_float32 in (False, True):
            given = (*rows(dtype, columns, off), smoothing, in_float32)
            agree(both(one, *given), both(BARE, *given), dtype, "cross_entropy")


@pytest.mark.parametrize("order", ORDERS)
def test_in_any_order(order: int, padded: bool) -> None:
    cuda = CudaBackend(0, EmulatedRuntime(order))
    for dtype in ("float32", "bfloat16"):
        given = (*rows(dtype, 2305, 1), 0.1, True)
        agree(both(cuda, *given), both(BARE, *given), dtype, "cross_entropy")


def test_the_gradient_is_that_of_float32_rounded_once(padded: bool) -> None:
    """Bit for bit: what a cast before and a cast after would give."""
    one = CudaBackend(0, EmulatedRuntime())
    for dtype in ("float16", "bfloat16"):
        logits, target = rows(dtype, 1003)
        wide = both(one, logits.astype(np.float32), target, 0.1, True)
        loss, high, log_sum, gx = both(one, logits, target, 0.1, True)
        assert loss.dtype == np.float32
        np.testing.assert_array_equal(loss, wide[0])
        np.testing.assert_array_equal(np.asarray(gx), wide[3].astype(logits.dtype))


@pytest.mark.parametrize("dtype", list(EPS))
@pytest.mark.parametrize("columns", [3, 40])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_infinity_and_nan(columns: int, dtype: str, padded: bool) -> None:
    one = CudaBackend(0, EmulatedRuntime())
    for places in ({1: np.nan}, {0: np.inf}, {columns - 1: -np.inf}, {0: np.nan, 1: -np.inf}):
        logits, target = rows(dtype, columns)
        for at, value in places.items():
            logits[1:, at] = value
        agree(*(both(be, logits, target, 0.0, True) for be in (one, BARE)), dtype, "cross_entropy")
    for value in (np.nan, np.inf, -np.inf):
        logits, target = rows(dtype, columns)
        logits[1:] = value
        got, expected = (both(be, logits, target, 0.1, True) for be in (one, BARE))
        agree(got, expected, dtype, "cross_entropy")


def test_many_rows_of_a_vocabulary(padded: bool) -> None:
    """As many blocks of fewer threads."""
    one = CudaBackend(0, EmulatedRuntime())
    logits = 3 * Draw("bfloat16")(cross_entropy.SOME_ROWS, 333)
    target = np.arange(len(logits)) % 333
    given = logits, target, 0.0, True
    agree(both(one, *given), both(BARE, *given), "bfloat16", "cross_entropy")


def test_a_head_of_odd_size_trains_by_padded_gradients(padded: bool) -> None:
    """The gradient goes on through views to the products, and to those who ask for it."""
    draws = np.random.default_rng(0)
    found = []
    for device in (DEVICE, "cpu"):
        x, weight, bias = (
            gradient.tensor(draws.standard_normal(s).astype(np.float32)).to(device).requires_grad_()
            for s in ((2, 4, 16), (51, 16), (51,))
        )
        draws = np.random.default_rng(0)
        with gradient.autocast(device, dtype=gradient.bfloat16):
            logits = F.linear(x, weight, bias)
            logits.retain_grad()
            targets = gradient.arange(8, device=device) * 7 - 1
            loss = F.cross_entropy(logits.view(-1, 51), targets, ignore_index=-1)
        loss.backward()
        assert logits.grad.view(-1).shape == (408,)
        found.append([t.detach().float().cpu().numpy() for t in
                      (loss, logits.grad, x.grad, weight.grad, bias.grad)])  # fmt: skip
        draws = np.random.default_rng(0)
    agree(*found, "bfloat16", "cross_entropy")

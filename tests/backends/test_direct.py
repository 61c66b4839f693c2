"""Kernels that are called at once on small arrays: NumPy's bits, and theirs in another way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradient import backends
from gradient.backends.composed.norms import NormDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.numpy.reductions import NUMPY_SUMS

pytestmark = pytest.mark.cpu_only


@pytest.fixture(autouse=True)
def awake() -> None:
    if not kernels.available():
        pytest.skip("there are no kernels")
    kernels.load("reductions")


def drawn(dtype: str, *shape: int) -> np.ndarray:
    """Numbers of many sizes, whose sum depends on the order in which they are added."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal(shape) * 10 ** rng.uniform(-3, 3, shape)).astype(dtype)


SHAPES = [(4096,), (4097,), (16383,), (64, 64), (1, 5000), (5000, 1), (1000, 7), (3, 1366, 1),
          (600, 8), (300, 15), (40, 129), (37, 3, 133), (5, 3000), (2, 8191)]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_have_numpys_bits(shape: tuple[int, ...], dtype: str) -> None:
    be, x = backends.get("cpu"), drawn(dtype, *shape)
    assert NUMPY_SUMS.of(x) is not None
    for axis in (None, len(shape) - 1, 0):
        found, expected = be.sum(x, axis), np.add.reduce(x, axis)
        assert type(found) is type(expected) and found.shape == expected.shape
        assert found.tobytes() == expected.tobytes(), axis
        count = x.size if axis is None else shape[axis]
        assert be.mean(x, axis).tobytes() == (expected / count).tobytes()


def test_sums_of_what_is_no_number_of_usual_size() -> None:
    be, x = backends.get("cpu"), np.ones((64, 64), np.float32)
    x[0, 3], x[1, 5], x[2, 7], x[3] = np.nan, np.inf, -np.inf, -0.0
    x[4, 1], x[4, 9] = np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(be.sum(x, 1), np.add.reduce(x, 1))
    assert not np.signbit(be.sum(x, 1)[3]) and np.isnan(be.sum(x))


def test_what_kernels_are_not_called_at_once_for() -> None:
    x = np.ones((64, 64), np.float32)
    read_only = x.copy()
    read_only.flags.writeable = False
    memory = np.zeros(4 * 64 * 64 + 1, np.uint8)
    unaligned = memory[1:].view(np.float32).reshape(64, 64)
    others = x.T[:, ::2], x[:8], np.ones(1 << 15, np.float32), x.astype(np.float16), read_only
    assert NUMPY_SUMS.of(x) is not None
    assert not any(map(NUMPY_SUMS.of, (*others, unaligned, x.astype(int))))
    assert NUMPY_SUMS.of(x.view(np.matrix)) is None  # of two dimensions when it is flat, too
    be = backends.get("cpu")
    for each in (*others, unaligned):
        assert be.sum(each) == each.size or each is unaligned
    with threads.listening(lambda *launch: None):
        assert NUMPY_SUMS.of(x) is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(64, 64), (4, 2000), (4096, 1), (1, 4096), (1500, 3), (130, 40)])
def test_mean_cross_entropy_has_the_bits_of_its_parts(
    shape: tuple[int, int], smoothing: float, dtype: str
) -> None:
    be: Any = backends.get("cpu")
    logits = (3 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    logits[0, 0] = -np.inf
    for ignored in (0, 1, shape[0] // 2, shape[0]):
        target = np.random.default_rng(1).integers(0, shape[1], shape[0])
        target[:ignored] = -100
        given = logits, target, -100, smoothing
        found = be.mean_cross_entropy(*given)
        with np.errstate(invalid="ignore"):
            expected = NormDefaults.mean_cross_entropy(be, *given)
        for a, b in zip(found, expected, strict=True):
            assert type(a) is type(b) and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("wrong", [64, -1, -101, 1 << 40])
def test_mean_cross_entropy_of_a_target_that_is_no_class(wrong: int) -> None:
    be: Any = backends.get("cpu")
    logits, target = np.zeros((64, 64), np.float32), np.zeros(64, np.int64)
    target[7], target[9] = wrong, -100
    with pytest.raises(IndexError, match=str(wrong)):
        be.mean_cross_entropy(logits, target, -100, 0.0)
    assert be.mean_cross_entropy(logits[:, :9], np.zeros(64, np.uint8), -100, 0.0)[1] == 64


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(4097,), (64, 64), (1, 5000), (5000, 1), (7, 9, 65), (819, 5)])
@pytest.mark.parametrize("method", ["softmax", "log_softmax", "layer_norm", "relu", "exp"])
def test_kernels_called_at_once_have_the_usual_bits(
    method: str, shape: tuple[int, ...], dtype: str
) -> None:
    be: Any = backends.get("cpu")
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    x.reshape(-1)[:6] = 0.0, -0.0, 1e-30, 80, -80, 3
    weight, bias = (drawn(dtype, shape[-1]) for _ in range(2))
    cases: dict[str, list[tuple[Any, ...]]] = {
        "softmax": [(len(shape) - 1,)],
        "log_softmax": [(len(shape) - 1,)],
        "layer_norm": [(None, None, 1e-5), (weight, bias, 1e-5), (weight[::-1], None, 1e-5)],
    }
    for options in cases.get(method, [()]):
        found = getattr(be, method)(x, *options)
        with threads.listening(lambda *launch: None):  # nothing is called at once
            expected = getattr(be, method)(x, *options)
        pairs = zip(found, expected, strict=True) if method == "layer_norm" else [(found, expected)]
        for a, b in pairs:
            assert a.shape == b.shape and a.tobytes() == b.tobytes()

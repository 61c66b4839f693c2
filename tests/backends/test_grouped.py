"""Products of groups with packed weights of their own: the kernel that reads the counts."""

from __future__ import annotations

import numpy as np
import pytest

import gradient
import gradient.nn.functional as F
from gradient import backends, dtypes
from gradient.backends.composed.grouped import GroupedDefaults
from gradient.backends.numpy import grouped, kernels, threads
from gradient.errors import ShapeError
from gradient.plan.step import RecordedStep, Replay
from gradient.quantization import quantize
from tests.backends.test_panels import pack

pytestmark = pytest.mark.cpu_only

BE = backends.get("cpu")


@pytest.fixture(autouse=True)
def small_weights_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr(kernels, "MIN_SIZE", 1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


COUNTS = [[0, 1, 0, 1], [2, 0, 0, 0], [5, 0, 13, 1], [0, 31, 7, 14], [1, 1, 1, 1], [0, 0, 0, 3]]


CASES = [(name, "float32") for name in ("q4_k", "q6_k", "int8_channel", "nf4")]
CASES += [("q8_0", "float16"), ("q4_0", "bfloat16")]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_each_group_has_the_bits_of_a_linear_to_itself(
    name: str, dtype: str, rng: np.random.Generator
) -> None:
    weights = [pack(rng, name, 67, 512) for _ in range(4)]
    for sizes in COUNTS:
        counts = np.array(sizes)
        x = rng.standard_normal((counts.sum(), 512), dtype=np.float32)
        x = x.astype(dtypes.dtype_of(dtype).numpy)
        expected = GroupedDefaults.grouped_linear(BE, x, weights, counts)
        found = BE.grouped_linear(x, weights, counts)
        assert found.dtype == x.dtype
        assert found.tobytes() == expected.tobytes()


def test_the_number_of_threads_does_not_matter(rng: np.random.Generator) -> None:
    weights = [pack(rng, "q4_k", 1024, 512) for _ in range(8)]
    counts = np.array([0, 3, 0, 1, 14, 0, 0, 2])
    x = rng.standard_normal((20, 512), dtype=np.float32)
    before, found = threads.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            threads.set_num_threads(number)
            found.append(BE.grouped_linear(x, weights, counts).tobytes())
    finally:
        threads.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_weights_of_several_dtypes_are_left_to_the_default(rng: np.random.Generator) -> None:
    weights = [pack(rng, "q8_0", 16, 64), pack(rng, "q4_0", 16, 64)]
    x, counts = rng.standard_normal((3, 64), dtype=np.float32), np.array([1, 2])
    assert not grouped.takes(x, weights)
    expected = [BE.linear(x[:1], weights[0]), BE.linear(x[1:], weights[1])]
    np.testing.assert_array_equal(BE.grouped_linear(x, weights, counts), np.concatenate(expected))


def test_counts_are_read_in_each_replay(rng: np.random.Generator) -> None:
    weights = [quantize(gradient.randn(64, 256), "q4_0") for _ in range(4)]
    x, counts = gradient.randn(3, 256), gradient.tensor([0, 2, 1, 0])

    def step(counts: gradient.Tensor) -> tuple[gradient.Tensor]:
        return (F.grouped_linear(x, weights, counts + 0),)

    with gradient.no_grad():
        replay = Replay(RecordedStep(step, [counts], []), [])
        assert "the kernel int8_rows, the kernel grouped" in str(replay.executor)
        for sizes in ([0, 2, 1, 0], [3, 0, 0, 0], [1, 1, 0, 1]):
            now = gradient.tensor(sizes)
            assert gradient.equal(replay(now.array)[0], step(now)[0])
        with pytest.raises(RuntimeError, match="raised an exception"):
            replay(np.array([1, 1, 0, 2]))
        with pytest.raises(ShapeError, match="add up to 3 rows"):
            step(gradient.tensor([1, 1, 0, 2]))

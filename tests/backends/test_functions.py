"""Functions of large float32 arrays by kernels: how near they come to the exact values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import gradient
from gradient import backends
from gradient.backends.numpy import elementwise, threads
from gradient.plan import record
from gradient.plan.executors import CpuExecutor

pytestmark = [pytest.mark.cpu_only, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"exp": np.exp, "tanh": np.tanh}


@pytest.fixture(autouse=True)
def kernels_there() -> None:
    pytest.importorskip("numba")


def samples() -> np.ndarray:
    """Numbers of each sign and exponent, subnormal ones too, infinities, NaN and both zeros."""
    every = np.arange(0, 1 << 32, 16411, np.uint64).astype(np.uint32).view(np.float32)
    edges = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 0.625, -0.625, 10.0, -10.0]
    edges += [88.722839, 88.72284, -87.33655, -103.27893, -103.9720840, -104.0, -150.0]
    return np.concatenate([every, np.array(edges, np.float32)])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_are_at_most_one_number_from_the_nearest(name: str):
    x = samples()
    got = getattr(backends.get("cpu"), name)(x)
    nearest = FUNCTIONS[name](x.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(nearest))
    numbers = ~np.isnan(got)
    assert np.array_equal(np.signbit(got[numbers]), np.signbit(nearest[numbers]))
    # Of one sign, the next number has the next integer's bits; infinity comes after the largest.
    places, wanted = (v[numbers].view(np.int32).astype(np.int64) for v in (got, nearest))
    assert np.abs(places - wanted).max() <= 1
    exact = numbers & ((x == 0) | np.isinf(x))
    assert np.array_equal(got[exact], nearest[exact])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_bits_do_not_depend_on_threads_or_the_array(name: str):
    be, x = backends.get("cpu"), samples()
    before = threads.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            results.append(getattr(be, name)(x).tobytes())
    finally:
        threads.set_num_threads(before)
    assert results[0] == results[1] == results[2]
    n = elementwise.MANY_TANH + 13
    assert getattr(be, name)(x[7 : 7 + n]).tobytes() == results[0][28 : 28 + 4 * n]


@pytest.mark.parametrize("name", [*FUNCTIONS, "gelu"])
def test_bits_do_not_depend_on_the_numbers_beside_them(name: str):
    """A block of moderate numbers alone is computed in a quicker way."""
    be, x = backends.get("cpu"), samples()
    moderate = np.concatenate([x[np.abs(x) < 13], np.linspace(-13, 13, 1 << 18, dtype=np.float32)])
    moderate = moderate[: moderate.size // 2 * 2]
    beside = np.stack([moderate, np.full_like(moderate, 1e3)], 1)
    alone = getattr(be, name)(moderate)
    assert alone.tobytes() == getattr(be, name)(beside)[:, 0].tobytes()


def test_gelu_of_numbers_of_every_size():
    """Those of 6 and less have a way of their own; results below -14 are subnormal, then zeros."""
    x = np.concatenate([samples(), np.array([6, -6, 6.0000005, -6.0000005, -13.5, -14.5], "f")])
    exact = np.array([v * math.erfc(-v / math.sqrt(2)) / 2 for v in x.astype(np.float64)])
    got = backends.get("cpu").gelu(x)
    np.testing.assert_allclose(got, exact.astype(np.float32), rtol=5e-6, atol=1e-42)
    numbers = ~np.isnan(got)
    assert np.array_equal(np.signbit(got[numbers]), np.signbit(x[numbers]))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_result_may_lie_in_the_place_of_the_numbers(name: str):
    x = np.where(np.isfinite(samples()), samples(), np.float32(1))[::5].copy()
    expected = getattr(backends.get("cpu"), name)(x)
    threads.parallel_for(*elementwise.function_launch(name, x, x))
    assert x.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_replay_gives_the_same_bits(name: str):
    x = gradient.randn(3, elementwise.MANY_TANH)
    recording = record(lambda: getattr(x, name)())
    outputs = tuple(ref for _, ref in recording.survivors)
    executor = CpuExecutor(replace(recording.plan, outputs=outputs), poison=True)
    assert [step[0] for step in executor.program] == [threads.run_tasks]
    (replayed,) = executor.run([], {})
    assert replayed.tobytes() == recording.result.numpy().tobytes()


def complex_samples() -> np.ndarray:
    """Numbers of whose parts each is small, large, infinite, NaN or a zero."""
    edges = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 87, -87, 87.1, 89, -90, -110, 1.0, -0.5]
    edges += [65536, 65537, -1e6, np.pi / 2, np.pi, -8 * np.pi]
    random = np.random.default_rng(0).standard_normal((2, 1 << 17))
    random[1] *= np.geomspace(1e-6, 6e4, random.shape[1])
    parts = np.concatenate([20 * random, np.reshape(np.meshgrid(edges, edges), (2, -1))], 1)
    return parts.T.astype(np.float32, order="C").view(np.complex64)[:, 0]


def test_exponentials_of_complex_numbers():
    """Each part is as near as NumPy's, and numbers that are not finite are NumPy's."""
    x = complex_samples()
    got, exact, by_numpy = backends.get("cpu").exp(x), np.exp(x.astype(np.complex128)), np.exp(x)
    for part in (np.real, np.imag):
        a, b, c = part(got), part(by_numpy), part(exact)
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        numbers = ~np.isnan(a)
        assert np.array_equal(np.signbit(a[numbers]), np.signbit(b[numbers]))
        usual = np.isfinite(b) & np.isfinite(c) & (np.abs(b) > 1e-37)
        assert np.array_equal(a[numbers & ~np.isfinite(b)], b[numbers & ~np.isfinite(b)])
        assert (np.abs(a[usual] - c[usual]) / np.abs(c[usual])).max() < 1.5 * 2**-23


def test_complex_exponentials_do_not_depend_on_threads_or_the_numbers_beside_them():
    be, x = backends.get("cpu"), complex_samples()
    before = threads.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            results.append(be.exp(x).tobytes())
    finally:
        threads.set_num_threads(before)
    assert results[0] == results[1] == results[2]
    n = elementwise.MANY_EXP + 13
    assert be.exp(x[7 : 7 + n]).tobytes() == results[0][56 : 56 + 8 * n]
    assert be.exp(x[::-1])[::-1].tobytes() == results[0]
    assert elementwise.complex_exp(x, x).tobytes() == results[0]  # in its place


def test_a_replay_gives_the_same_bits_of_a_complex_exponential():
    x = gradient.tensor(complex_samples()).reshape(2, -1)
    recording = record(lambda: x.exp())
    outputs = tuple(ref for _, ref in recording.survivors)
    (replayed,) = CpuExecutor(replace(recording.plan, outputs=outputs), poison=True).run([], {})
    assert replayed.tobytes() == recording.result.numpy().tobytes()


@pytest.mark.parametrize("name", ["sigmoid", "silu", "gelu", "logsigmoid", "hardswish"])
def test_a_large_part_of_an_array_has_the_bits_of_its_copy(name: str):
    be = backends.get("cpu")
    x = np.resize(samples(), (150, 96))
    g = np.random.default_rng(0).standard_normal((150, 48), dtype=np.float32)
    for part in (x[:, 48:], x[:, ::2], x.reshape(150, 2, 48)[:, 1]):
        copy = np.ascontiguousarray(part)
        got, expected = getattr(be, name)(part), getattr(be, name)(copy)
        assert got.flags.c_contiguous and got.tobytes() == expected.tobytes()
        grad = getattr(be, name + "_grad")
        assert grad(g, part).tobytes() == grad(g, copy).tobytes()

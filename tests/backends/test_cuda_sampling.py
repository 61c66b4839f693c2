"""Sampling on the CUDA backend: the CPU's tokens, nothing waited for, one graph."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.backends.cuda import kernels
from gradient.backends.cuda.backend import CudaBackend
from gradient.generation.options import GenerationOptions
from gradient.generation.sampling import Sampler
from support import cuda_emulation, fake_cupy
from support.backend_table import BARE
from support.cuda_emulation import ORDERS, EmulatedRuntime
from support.fake_device import DEVICE

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]

OPTIONS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "top-k": {"top_k": 40},
    "top-p": {"top_p": 0.9},
    "min-p": {"min_p": 0.05},
    "typical": {"typical_p": 0.9},
    "all": {"temperature": 0.7, "top_k": 50, "top_p": 0.95, "min_p": 0.01},
}


@pytest.fixture(autouse=True)
def _no_waits() -> Iterator[None]:
    fake_cupy.waits.clear()
    yield
    fake_cupy.waits.clear()


@pytest.mark.parametrize("vocabulary", [300, 5000])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_choice_is_the_cpus_and_in_one_graph(name: str, vocabulary: int) -> None:
    sampler = Sampler(GenerationOptions(**OPTIONS[name]), 3, seed=0)
    draw = np.random.default_rng(0)
    choose = gradient.compile(sampler.choose, fullgraph=True)
    for _ in range(5):
        logits = gradient.tensor(3 * draw.standard_normal((3, vocabulary)), dtype="float32")
        numbers = None
        if not sampler.greedy:
            divisor = [] if sampler.divisor is None else [sampler.divisor]
            numbers = gradient.tensor([*draw.random(3), *divisor], dtype="float32")
        on_device = [None if x is None else x.to(DEVICE) for x in (logits, numbers)]
        fake_cupy.waits.clear()
        tokens = choose(*on_device)
        assert fake_cupy.waits == []
        assert tokens.tolist() == sampler.choose(logits, numbers).tolist()
    [executor] = [v.executor for s in choose.signatures.values() for v in s.variants]
    assert executor.alone == {}


@pytest.mark.parametrize("replacement", [True, False])
def test_multinomial_draws_the_cpus_without_waiting(replacement: bool) -> None:
    weights = gradient.tensor(np.maximum(np.random.default_rng(0).standard_normal((2, 5000)), 0))
    drawn = []
    for device in (DEVICE, "cpu"):
        gradient.manual_seed(4)
        given = weights.to(device)
        fake_cupy.waits.clear()
        places = gradient.multinomial(given, 30, replacement)
        assert fake_cupy.waits == []
        drawn.append(places.tolist())
    assert drawn[0] == drawn[1]


def test_a_sort_of_few_columns_and_of_many_waits_for_nothing() -> None:
    for columns in (90, 5000):
        x = gradient.tensor(np.random.default_rng(0).standard_normal((2, columns)), device=DEVICE)
        fake_cupy.waits.clear()
        found = [*x.sort(descending=True), *x.sort(0), x.argsort(), x.topk(7, largest=False).values]
        assert fake_cupy.waits == []
        host = x.cpu()
        expected = [
            *host.sort(descending=True),
            *host.sort(0),
            host.argsort(),
            host.topk(7, largest=False).values,
        ]
        for got, wanted in zip(found, expected, strict=True):
            assert got.tolist() == wanted.tolist()


@pytest.mark.parametrize("barrier", ["__syncthreads();\n    unsigned to", "__syncwarp();\n"])
def test_a_pass_without_a_barrier_is_wrong_in_some_order(
    barrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (kernels.FOLDER / "sorting.cu").read_text()
    assert barrier in text
    text = text.replace(barrier, barrier.partition(";")[2])
    text = text.replace("FOR_EACH_FLOAT(EXPORT)", "EXPORT(float32, float)")
    planted = cuda_emulation.library("sorting", text)
    monkeypatch.setattr(cuda_emulation, "library", lambda name: planted)
    x = np.random.default_rng(0).standard_normal((1, 5000)).astype(np.float32)
    expected = BARE.argsort(x, 1)
    orders = [CudaBackend(0, EmulatedRuntime(order)) for order in ORDERS]
    assert cuda_emulation.is_wrong(
        lambda: any(not np.array_equal(be.argsort(x, 1), expected) for be in orders)
    )


def test_a_draw_from_many_parts_is_in_proportion_to_the_weights() -> None:
    """Whatever order the warps run in, and where rounding leaves the sums short of the share."""
    weights = np.zeros((1, 20000), np.float32)
    places = [0, 4095, 4096, 9000, 19999]
    weights[0, places] = [1, 2, 3, 0.5, 1.5]
    ends = np.array([1, 3, 6, 6.5, 8]) / 8
    for order in ORDERS:
        be = CudaBackend(0, EmulatedRuntime(order))
        for u in (
            0.0,
            0.01,
            0.125,
            0.25,
            0.5,
            0.8,
            0.9,
            np.nextafter(np.float32(1), np.float32(0)),
        ):
            [found] = be.categorical(weights, np.array([u], np.float32))
            assert found == places[int(np.searchsorted(ends, np.float32(1) - np.float32(u)))]
        assert be.runtime.launched[-2:] == ["part_sums_float32", "categorical_float32"]
    draws = np.linspace(0, 1, 40, endpoint=False, dtype=np.float32)
    small = np.full((40, 9001), 0.1, np.float32)
    small[:, 5000:] = 0
    found = be.categorical(small, draws)
    assert ((found >= 0) & (found < 5000)).all() and (np.diff(found) <= 0).all()

"""The contract of a backend: composed definitions need the required methods alone, and streams of
random numbers are the published ones everywhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

import gradient
from array_backends import PROOFS, HandleBackend
from backend_table import BARE, CASES, Draw, call
from gradient import backends
from gradient.backends.base import Backend
from gradient.backends.numpy import kernels, memory, threads
from gradient.errors import ArgumentError, BackendError, DeviceError

ROWS = [(name, i) for name in CASES for i in range(len(CASES[name]))]


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize(("method", "case"), ROWS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_handles_suffice(method: str, case: int, dtype: str) -> None:
    """Arrays with a shape, a dtype and operators alone give the same bits as NumPy's."""
    arguments = CASES[method][case]
    expected = call(BARE, method, arguments(Draw(dtype)))
    got = call(backends.get("handle"), method, arguments(Draw(dtype)))
    assert len(got) == len(expected)
    for x, y in zip(got, expected, strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        np.testing.assert_array_equal(x.astype(np.float64), y.astype(np.float64))


def test_a_missing_method_is_named() -> None:
    class Half(Backend):
        name = "half"

    with pytest.raises(BackendError) as caught:
        Half().exp(1.0)
    assert str(caught.value) == "backend 'half' does not supply the required method 'exp'"


def test_the_same_device_is_the_same_backend() -> None:
    assert backends.get("cpu") is backends.get("cpu:0")
    assert isinstance(backends.get("handle"), HandleBackend)
    assert "cpu" in backends.available()


@pytest.mark.parametrize("device", ["gpu", "cuda:one", "cpu:1", ""])
def test_an_unknown_device_is_an_error(device: str) -> None:
    with pytest.raises(DeviceError):
        backends.get(device)


# The known answers that come with the authors' code (Random123, kat_vectors: philox4x32 10).
KNOWN = [
    (0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
]


@pytest.mark.parametrize("place", ["device", *PROOFS])
@pytest.mark.parametrize(("key", "block", "words"), KNOWN)
def test_philox_known_answers(key: int, block: int, words: str, place: str, device: str) -> None:
    backend = backends.get(device if place == "device" else place)
    drawn = backend.to_numpy(backend.philox(key, block, 1))
    assert [f"{word:08x}" for word in drawn] == words.split()


def test_a_stream_is_the_same_in_parts(device: str) -> None:
    backend = backends.get(device)
    whole = backend.to_numpy(backend.philox(3, 10, 6000))
    parts = [
        backend.to_numpy(backend.philox(3, at, n)) for at, n in ((10, 1), (11, 5000), (5011, 999))
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


# The CPU's threads and kernels ------------------------------------------------------------------


@pytest.mark.cpu_only
def test_threads_run_each_chunk_once() -> None:
    done: list[int] = []
    threads.run(1000, done.append)
    assert sorted(done) == list(range(1000))


@pytest.mark.cpu_only
@pytest.mark.parametrize("failing", [0, 7, 99])
def test_an_error_in_a_thread_reaches_the_caller(failing: int) -> None:
    def work(i: int) -> None:
        if i == failing:
            raise KeyError(i)

    with pytest.raises(KeyError, match=str(failing)):
        threads.run(100, work)
    test_threads_run_each_chunk_once()


@pytest.mark.cpu_only
def test_threads_may_nest() -> None:
    done: list[int] = []
    threads.run(4, lambda i: threads.run(4, lambda j: done.append(4 * i + j)))
    assert sorted(done) == list(range(16))


@pytest.mark.cpu_only
@pytest.mark.parametrize("n", [0, -1, 1.5, "2"])
def test_set_num_threads_takes_positive_ints(n: object) -> None:
    with pytest.raises(ArgumentError, match="set_num_threads: expected a positive int"):
        threads.set_num_threads(n)  # type: ignore[arg-type]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.cpu_only
def test_small_arrays_do_not_wait_for_numba() -> None:
    out = python(
        "import sys, gradient\n"
        "x = gradient.randn(64, 64, requires_grad=True)\n"
        "loss = gradient.nn.functional.cross_entropy(x @ x, gradient.arange(64))\n"
        "loss.backward()\n"
        "print('numba' in sys.modules)"
    )
    assert out.split() == ["False"]


@pytest.mark.cpu_only
def test_without_numba_all_works_with_one_warning() -> None:
    out = python(
        "import sys, warnings\n"
        "sys.modules['numba'] = None\n"
        "import gradient\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    x = gradient.randn(256, 256, requires_grad=True)\n"
        "    y = gradient.nn.functional.gelu(gradient.softmax(x, -1))\n"
        "    y.sum().backward()\n"
        "print(*[str(w.message) for w in caught], sep='\\n')"
    )
    assert out.splitlines() == [
        "without numba the CPU runs compositions of NumPy functions in place of kernels, "
        "several times slower (import of numba halted; None in sys.modules); "
        "pip install --upgrade numba"
    ]


@pytest.mark.cpu_only
@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_threads_work_after_a_fork() -> None:
    out = python(
        "import os, gradient\n"
        "x = gradient.ones(512, 512)\n"
        "(x @ x).sum()\n"
        "if os.fork() == 0:\n"
        "    print(float((x @ x).sum()), flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()"
    )
    assert float(out) == 512.0**3


@pytest.mark.cpu_only
def test_freed_memory_is_kept() -> None:
    if not memory.keep_freed():
        pytest.skip("not glibc, or set by the user")
    out = python(
        "import resource, gradient\n"
        "x = gradient.ones(2048, 2048)\n"
        "x + 1\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(100): x + 1\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )
    assert int(out) < 4096  # the pages of one result of 16 MiB


@pytest.mark.cpu_only
def test_kernels_take_a_copy_of_what_they_can_not_walk() -> None:
    x = np.ones((300, 300), np.float32)
    x.setflags(write=False)
    assert kernels.plain(x).flags.carray
    assert kernels.plain(x.T).flags.c_contiguous
    writable: Callable[[], np.ndarray] = np.ones((2, 2)).copy
    same = writable()
    assert kernels.plain(same) is same


@pytest.mark.cpu_only
def test_out_of_range_indices_do_not_reach_a_kernel() -> None:
    logits = gradient.zeros(200, 100)
    with pytest.raises(IndexError):
        gradient.nn.functional.cross_entropy(logits, gradient.full((200,), 100))
    table = gradient.zeros(10, 200)
    with pytest.raises(IndexError):
        table.index_add_(0, gradient.full((100,), 10), gradient.ones(100, 200))

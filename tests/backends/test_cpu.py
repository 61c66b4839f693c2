"""The CPU's threads and kernels: exactness, NaN and infinities, what happens without numba."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import backends
from gradient.autograd import gradcheck, gradgradcheck
from gradient.backends.array_api import ArrayAPIBackend
from gradient.backends.composed.batch_norm import BatchNormDefaults
from gradient.backends.composed.decompositions import DecompositionDefaults
from gradient.backends.composed.norms import NormDefaults
from gradient.backends.composed.scattering import ScatteringDefaults
from gradient.backends.numpy import attention, blas, kernels, memory, threads
from gradient.errors import ArgumentError
from gradient.nn import functional as F
from support.array_backends import BareBackend

pytestmark = pytest.mark.cpu_only


def python(code: str) -> str:
    """What the code prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Kernels ----------------------------------------------------------------------------------------


def ulps(got: np.ndarray, exact: np.ndarray) -> float:
    """The largest error, in units of the result's last place."""
    return float((np.abs(got - exact) / np.spacing(np.abs(exact).astype(got.dtype))).max())


def through(kernel_function: Any, x: np.ndarray) -> np.ndarray:
    """A function of one number, compiled into a loop."""
    import numba

    @numba.njit
    def loop(x, out):
        for i in range(x.size):
            out[i] = kernel_function(x[i])

    out = np.empty_like(x)
    loop(x, out)
    return out


@pytest.mark.parametrize(("dtype", "low", "high"), [("float32", -87, 88), ("float64", -708, 709)])
def test_exp_is_within_about_an_ulp(dtype: str, low: float, high: float) -> None:
    pytest.importorskip("numba")
    from gradient.backends.numpy.kernels.functions import exp

    x = np.random.default_rng(0).uniform(low, high, 200_000).astype(dtype)
    exact = np.exp(x.astype(np.longdouble))
    wide = np.finfo(np.longdouble).eps < 1e-17  # elsewhere the yardstick itself is rounded
    assert ulps(through(exp, x), exact) <= (1.1 if wide else 2)
    edges = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 2 * high, 2 * low], dtype)
    expected = np.array([np.nan, np.inf, 0, 1, 1, np.inf, 0], dtype)
    np.testing.assert_array_equal(through(exp, edges), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tanh_keeps_its_digits_near_zero(dtype: str) -> None:
    pytest.importorskip("numba")
    from gradient.backends.numpy.kernels.functions import tanh

    scales = np.repeat([1e-6, 1e-3, 0.1, 0.5, 1, 3, 10], 20_000)
    x = (np.random.default_rng(0).standard_normal(scales.size) * scales).astype(dtype)
    assert ulps(through(tanh, x), np.tanh(x.astype(np.longdouble))) <= 3
    edges = np.array([np.nan, np.inf, -np.inf, 0.0, 1e30, -1e30, 1e-30], dtype)
    expected = np.array([np.nan, 1, -1, 0, 1, -1, 1e-30], dtype)
    np.testing.assert_array_equal(through(tanh, edges), expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 5e-6), ("float64", 1e-12)])
def test_gelu_keeps_its_digits_in_the_tail(dtype: str, tolerance: float) -> None:
    """Where 1 + erf has lost them all."""
    from math import erfc, sqrt

    x = np.linspace(-12, 0, 20_000).astype(dtype)
    exact = np.array([v * erfc(-v / sqrt(2)) / 2 for v in x.astype(float)])
    got = backends.get("cpu").gelu(x)
    np.testing.assert_allclose(got, exact, rtol=tolerance)


@pytest.mark.parametrize("method", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rows_with_nan_and_infinity(method: str, dtype: str) -> None:
    x = np.random.default_rng(0).standard_normal((600, 60)).astype(dtype)
    x[3, 7], x[5, 0], x[9, 59], x[11] = np.nan, -np.inf, np.inf, -np.inf
    got = getattr(backends.get("cpu"), method)(x, -1)
    expected = getattr(BareBackend(), method)(x, -1)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert np.isnan(got[[3, 9, 11]]).all() and np.isfinite(got[[0, 1, 2]]).all()


@pytest.mark.parametrize("columns", [1, 7, 15, 16, 17, 33, 64, 5000])
@pytest.mark.parametrize(("dtype", "lowest"), [("float32", -110.0), ("float64", -760.0)])
def test_softmax_keeps_its_digits(columns: int, dtype: str, lowest: float) -> None:
    """Down to the smallest subnormal number, and beside scores that are masked out."""
    rows = -(-(1 << 13) // columns)
    x = np.linspace(lowest, 0, columns).astype(dtype) * np.ones((rows, 1), dtype)
    x[1::2, 1:3] = -np.inf
    wide = x.astype(np.longdouble)
    powers = np.exp(wide - wide.max(1, keepdims=True))
    sums = powers.sum(1, keepdims=True)
    cpu, step = backends.get("cpu"), np.finfo(dtype).smallest_subnormal
    near = {"rtol": 5 * np.finfo(dtype).eps, "atol": float(step)}
    np.testing.assert_allclose(cpu.softmax(x, 1), (powers / sums).astype(dtype), **near)
    exact = (wide - wide.max(1, keepdims=True) - np.log(sums)).astype(dtype)
    np.testing.assert_allclose(cpu.log_softmax(x, 1), exact, rtol=near["rtol"], atol=near["rtol"])
    losses, high, log_sum = cpu.cross_entropy(x, np.zeros(rows, np.int64), -100, 0.0)
    np.testing.assert_allclose(losses, -exact[:, 0], rtol=near["rtol"], atol=near["rtol"])


@pytest.mark.parametrize(("rows", "classes"), [(64, 10), (3, 40), (5, 5), (1, 1), (7, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("layout", ["rows", "columns", "gaps", "repeated"])
def test_losses_of_few_numbers(rows: int, classes: int, dtype: str, layout: str) -> None:
    """Without ignored targets they take fewer calls than the composed definition."""
    draws = np.random.default_rng(rows)
    logits = (3 * draws.standard_normal((rows, classes))).astype(dtype)
    logits[0, 0], logits[rows // 2, classes // 2] = np.inf, np.nan
    logits[-1] = -np.inf
    if layout == "repeated":
        logits = np.broadcast_to(logits[:1], logits.shape)
    elif layout != "rows":
        held = np.zeros((classes, rows) if layout == "columns" else (rows, 2 * classes), dtype)
        place = held.T if layout == "columns" else held[:, ::2]
        place[...] = logits
        logits = place
    target, g = draws.integers(0, classes, rows), draws.standard_normal(rows).astype(dtype)
    cpu, bare = backends.get("cpu"), BareBackend()
    kept = logits.copy()
    for each in (target, target.astype(np.uint8)):
        found, expected = (be.cross_entropy(logits, each, -100, 0.0) for be in (cpu, bare))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, 0.0, 1e-6 if dtype == "float32" else 1e-14)
            assert a.dtype == b.dtype and a.shape == b.shape
        grads = [be.cross_entropy_grad(g, logits, each, *expected[1:], -100, 0.0)
                 for be in (cpu, bare)]  # fmt: skip
        np.testing.assert_array_equal(*grads)
    assert np.array_equal(logits, kept, equal_nan=True)
    for wrong in (-1, classes):
        target[0] = wrong
        with pytest.raises(IndexError):
            cpu.cross_entropy(logits, target, -100, 0.0)


@pytest.mark.parametrize("dtype", [gradient.float32, gradient.bfloat16])
def test_attention_makes_no_square_array(dtype: gradient.DType) -> None:
    """With a window or without, 16 bits or 32: memory grows with the text, not with its square."""
    pytest.importorskip("numba")
    q = gradient.randn(1, 2, 3000, 8).to(dtype).requires_grad_()

    def attend() -> None:
        for window in (None, 100):
            F.attention(q, q, q, is_causal=True, window=window, softcap=5.0).sum().backward()

    attend()  # compiles
    tracemalloc.start()
    attend()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3000 * 3000


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_attention_over_keys_at_infinity() -> None:
    """Scores that are all -inf give zeros, as in the default."""
    q, k, v = (np.ones((1, 2, 128, 8), np.float32) for _ in range(3))
    k[0, 1] = -np.inf
    for got, expected in zip(
        backends.get("cpu").attention(q, k, v), BareBackend().attention(q, k, v), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(64, 48), (1, 48), (2, 1, 64, 48), (2, 3, 64, 48), (3, 64, 1)])
def test_attention_with_a_mask_needs_no_kernel_of_its_own(shape: tuple[int, ...]) -> None:
    """Numba compiles for arrays that may not be written, too, for three seconds."""
    numba = pytest.importorskip("numba")
    q, k = np.ones((2, 3, 64, 8)), np.ones((2, 3, 48, 8))
    [given, *_], [absent, *_] = (
        attention._masks(mask, q, k) for mask in (np.ones(shape, "?"), None)
    )
    assert numba.typeof(given) == numba.typeof(absent)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_attention_over_arrays_that_repeat(axis: int) -> None:
    """In results that lie as such arrays do, numbers of a row would not be neighbours."""
    whole = np.random.default_rng(0).standard_normal((5, 2, 4, 64, 16))
    part = whole.take([0], axis + 1)
    strides = [0 if i == axis else stride for i, stride in enumerate(part.strides[1:])]
    g, q, k, v, plain = np.lib.stride_tricks.as_strided(  # writable, unlike `np.broadcast_to`
        part, whole.shape, (part.strides[0], *strides)
    )
    copied = [x.copy() for x in (q, k, v)]
    be = backends.get("cpu")
    got, expected = be.attention(q, k, v), BareBackend().attention(*copied)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, 1e-12, 1e-12)
    expected = BareBackend().attention_grad(g, *copied, plain, *expected[1:])
    for a, b in zip(be.attention_grad(g, q, k, v, plain, *got[1:]), expected, strict=True):
        np.testing.assert_allclose(a, b, 1e-12, 1e-12)


@pytest.mark.slow
def test_attention_of_vectors_of_two_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As float64 has them on ARM: keys behind the last that a causal row sees have no gradient."""
    monkeypatch.setenv("GRADIENT_CPU", "generic")
    code = """
import numpy as np
from gradient import backends
from gradient.backends.numpy import attention
from gradient.backends.options import AttentionOptions

attention.MIN_ROWS = attention.MIN_SCORES = 1
be, causal = backends.get("cpu"), AttentionOptions(1.0, True)
for t in (1, 5, 33):
    q, k, v = (np.ones((1, 1, n, 8)) for n in (t, t + 6, t + 6))
    out, high, log_sum = be.attention(q, k, v, None, causal)
    for gradient in be.attention_grad(out, q, k, v, out, high, log_sum, None, causal)[1:]:
        print((gradient[:, :, t:] == 0).all() and np.abs(gradient).max() < 99)
"""
    assert python(code).split() == ["True"] * 6


def normal(*shape: int) -> gradient.Tensor:
    return gradient.randn(*shape, dtype=gradient.float64, requires_grad=True)


LARGE = {
    "silu": lambda: (F.silu, normal(130, 130)),
    "gelu": lambda: (F.gelu, normal(130, 130)),
    "gelu tanh": lambda: (lambda x: F.gelu(x, approximate="tanh"), normal(130, 130)),
    "softmax": lambda: (lambda x: F.softmax(x, -1), normal(130, 130)),
    "log_softmax": lambda: (lambda x: F.log_softmax(x, -1), normal(130, 130)),
    "cross_entropy": lambda: (
        lambda x: F.cross_entropy(x, gradient.arange(130) % 7, label_smoothing=0.1),
        normal(130, 130),
    ),
    "layer_norm": lambda: (
        lambda x, w, b: F.layer_norm(x, (130,), w, b),
        normal(130, 130),
        normal(130),
        normal(130),
    ),
    "rms_norm": lambda: (lambda x, w: F.rms_norm(x, (130,), w), normal(130, 130), normal(130)),
    "attention": lambda: (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        *(normal(2, 2, 70, 9).transpose(1, 2).contiguous().transpose(1, 2) for _ in range(3)),
    ),
    "embedding": lambda: (
        lambda w: F.embedding(gradient.arange(150) % 11, w),
        normal(11, 130),
    ),
    "linear": lambda: (F.linear, normal(300, 300), normal(200, 300), normal(200)),
}
"""Functions and inputs that are large enough for kernels and threads."""


@pytest.mark.parametrize("name", LARGE)
def test_gradients_of_kernels(name: str) -> None:
    function, *inputs = LARGE[name]()
    inputs = [x.detach().requires_grad_() for x in inputs]
    assert gradcheck(function, inputs)


@pytest.mark.parametrize("name", ["gelu", "softmax", "layer_norm", "attention"])
def test_second_gradients_of_kernels(name: str) -> None:
    function, *inputs = LARGE[name]()
    inputs = [x.detach().requires_grad_() for x in inputs]
    assert gradgradcheck(function, inputs)


# Threads, memory, numba -------------------------------------------------------------------------


@pytest.mark.parametrize("left", [True, False])
def test_gradients_of_triangular_systems_are_a_kernels(
    left: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba")

    def refuse(*_: Any) -> None:
        raise AssertionError("solved by LAPACK")

    monkeypatch.setattr(DecompositionDefaults, "solve_triangular", refuse)
    lower = (gradient.randn(80, 80) / 80).tril() + gradient.eye(80)
    b = gradient.randn(80, 80)
    gradient.linalg.solve_triangular(
        lower.requires_grad_(), b.requires_grad_(), upper=False, left=left
    ).sum().backward()
    whole = gradient.linalg.cholesky((lower @ lower.mT).detach().requires_grad_())
    whole.sum().backward()


def test_threads_run_each_chunk_once() -> None:
    done: list[int] = []
    threads.run(1000, done.append)
    assert sorted(done) == list(range(1000))


@pytest.mark.parametrize("failing", [0, 7, 99])
def test_an_error_in_a_thread_reaches_the_caller(failing: int) -> None:
    def work(i: int) -> None:
        if i == failing:
            raise KeyError(i)

    with pytest.raises(KeyError, match=str(failing)):
        threads.run(100, work)
    test_threads_run_each_chunk_once()


WHO_COMPILES = """
import threading
import gradient
from gradient.backends.numpy import compiler
from gradient.nn import functional as F
from gradient.quantization import quantize

threads = set()
alone = compiler._run_locked

def noted(work, arguments):
    threads.add(threading.current_thread().name)
    return alone(work, arguments)

compiler._run_locked = noted
x = gradient.randn(1400, 400, requires_grad=True)
q = x.reshape(4, 7, 50, 400)
F.layer_norm(F.gelu(x), (400,)).softmax(-1).sum().backward()
F.scaled_dot_product_attention(q, q, q).sum().backward()
F.embedding(gradient.arange(1400) % 11, x).sum().backward()
gradient.optim.AdamW([x]).step()
F.linear(x[:2].bfloat16(), gradient.randn(2048, 400).bfloat16())
for rows in (1, 64):
    F.linear(gradient.randn(rows, 512), quantize(gradient.randn(4096, 512), gradient.q4_0))
print(*threads)
"""


def test_threads_of_the_pool_compile_nothing() -> None:
    """The end of the process, also after Ctrl-C, would wait for them."""
    pytest.importorskip("numba")
    environment = os.environ | {"OMP_NUM_THREADS": "3"}
    done = subprocess.run(
        [sys.executable, "-c", WHO_COMPILES], capture_output=True, text=True, env=environment
    )
    assert done.stdout.split() == ["gradient-compiler"], done.stderr


def test_threads_may_nest() -> None:
    done: list[int] = []
    threads.run(4, lambda i: threads.run(4, lambda j: done.append(4 * i + j)))
    assert sorted(done) == list(range(16))


@pytest.mark.parametrize("n", [0, -1, 1.5, "2"])
def test_set_num_threads_takes_positive_ints(n: object) -> None:
    with pytest.raises(ArgumentError, match="set_num_threads: expected a positive int"):
        threads.set_num_threads(n)  # type: ignore[arg-type]


def test_small_arrays_do_not_wait_for_numba() -> None:
    out = python(
        "import sys, gradient\n"
        "x = gradient.randn(60, 60, requires_grad=True)\n"
        "loss = gradient.nn.functional.cross_entropy(x @ x, gradient.arange(60))\n"
        "loss.backward()\n"
        "print('numba' in sys.modules)"
    )
    assert out.split() == ["False"]


TRAIN = """
import gradient
from gradient import nn, optim

model = nn.Sequential(nn.Linear(256, 256), nn.LayerNorm(256), nn.GELU())
optimizer = optim.AdamW(model.parameters())
gradient.softmax(model(gradient.randn(256, 256)), -1).square().sum().backward()
optimizer.step()
lm = gradient.hub.load("tinyworld")
found = lm.generate("def f(x):" * 20, max_new_tokens=5, temperature=0.8, ignore_eos=True)
assert len(found.token_ids) == 5
"""
"""Kernels of every kind, if there are any."""


@pytest.mark.parametrize(
    ("before", "variables", "reason"),
    [
        (
            "import sys; sys.modules['numba'] = None",
            {},
            "(import of numba halted; None in sys.modules); pip install --upgrade numba",
        ),
        ("", {"NUMBA_DISABLE_JIT": "1"}, "(NUMBA_DISABLE_JIT is set); unset it"),
    ],
)
def test_without_numba_all_works_with_one_warning(before, variables, reason) -> None:
    told = (
        "UserWarning: without numba the CPU runs compositions of NumPy functions in place of "
        f"kernels, several times slower {reason}"
    )
    done = subprocess.run(
        [sys.executable, "-c", before + TRAIN],
        capture_output=True,
        text=True,
        env=os.environ | variables,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Warning") == 1 and told in done.stderr


# No folder but the working one can be written (permissions do not stop root).
DENY = """
import os, tempfile

def deny(*args, dir=None, **options):
    if os.path.abspath(dir).startswith(os.getcwd()):
        return real(*args, dir=dir, **options)
    raise PermissionError(13, "Permission denied", dir)

real, tempfile.TemporaryFile = tempfile.TemporaryFile, deny
import gradient
from gradient.nn import functional as F

x = gradient.linspace(0, 1, 1 << 14).reshape(128, 128)
assert abs(F.gelu(F.softmax(x, -1)).sum() - 64.1) < 1

from gradient.cli.doctor import examine
print(examine()["caches"]["kernels (numba)"]["path"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "kept"),
    [
        ({"XDG_CACHE_HOME": "cache"}, True),  # the package's folder alone cannot be written
        ({"NUMBA_CACHE_DIR": "cache", "XDG_CACHE_HOME": "/dev/null"}, True),
        ({"XDG_CACHE_HOME": "/dev/null"}, False),
        ({"NUMBA_CACHE_DIR": "/dev/null/x", "XDG_CACHE_HOME": "/dev/null"}, False),
        ({"HOME": ""}, False),
        ({"HOME": "cache", "XDG_CACHE_HOME": ""}, True),  # the latter counts as unset
    ],
)
def test_kernels_are_kept_elsewhere_or_compiled_anew(variables, kept, tmp_path) -> None:
    pytest.importorskip("numba")
    variables = {name: value.replace("cache", str(tmp_path)) for name, value in variables.items()}
    environment = {name: v for name, v in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", DENY],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment | variables,
    )
    assert done.returncode == 0, done.stderr
    told = "UserWarning: kernels are compiled anew by each process"
    assert done.stderr.count("Warning") == done.stderr.count(told) == (not kept)
    folders = {str(path.parent) for path in tmp_path.rglob("*.nbc")}
    assert folders == ({done.stdout.strip()} if kept else set())
    assert kept or done.stdout == "None\n"  # doctor knows where they are


@pytest.mark.slow
def test_kernels_have_the_same_bits_compiled_now_or_before(tmp_path) -> None:
    """Each kernel has its own copy of a subroutine, such as a row's mean and variance."""
    pytest.importorskip("numba")
    normed = "print(hash(F.layer_norm(x, (64,)).numpy().tobytes()))\n"
    others = "F.group_norm(x[:, :, None], 8); F.normalize(x); F.softmax(x, 1); x.var(1)\n"
    outputs = set()
    for program in (normed, normed, others + normed):
        done = subprocess.run(
            [sys.executable, "-c", "import gradient\nfrom gradient.nn import functional as F\n"
             "gradient.manual_seed(0)\nx = gradient.randn(1536, 64)\n" + program],
            capture_output=True, text=True, check=True,
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONHASHSEED": "0"},
        )  # fmt: skip
        outputs.add(done.stdout)
    assert len(outputs) == 1


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


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1"])
@pytest.mark.parametrize("size", [0, 1, memory.ALIGNED // 4 - 1, memory.ALIGNED // 4, 3 << 20])
def test_large_results_begin_at_a_line_and_own_their_memory(size: int, dtype: str) -> None:
    x = memory.lines((size, 1), np.dtype(dtype))
    assert (x.shape, x.dtype) == ((size, 1), np.dtype(dtype)) and x.flags.carray
    assert x.nbytes < memory.ALIGNED or x.ctypes.data % memory.LINE == 0
    backend: Any = gradient.ones(1).backend
    assert not backend.is_view(x) and backend.is_view(x[:1])
    assert x.base is None or memoryview(x.base).nbytes == x.nbytes  # not what lies behind it
    x[...] = 3
    rest = x[1:]
    del x
    assert (rest == 3).all()


def test_freed_memory_is_kept() -> None:
    if not memory.keep_freed():
        pytest.skip("not glibc, or set by the user")
    out = python(
        "import resource, gradient\n"
        "x = gradient.ones(2048, 2048)\n"
        "for _ in range(20): x + 1  # and its kernel is compiled\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(100): x + 1\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )
    assert int(out) < 4096  # the pages of one result of 16 MiB


def test_freed_memory_goes_back_where_memory_is_exact() -> None:
    if not memory.keep_freed():
        pytest.skip("not glibc, or set by the user")
    out = python(
        "import numpy as np, gradient\n"
        "from gradient import backends\n"
        "from gradient.backends.numpy import memory\n"
        "def resident():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) >> 8\n"
        "def freed():\n"
        "    blocks = [np.ones(1 << 20, np.uint8) for _ in range(100)]\n"
        "    before = resident()\n"
        "    del blocks[::2]  # which leaves holes\n"
        "    return before - resident()\n"
        "backends.get('cpu')\n"
        "with memory.exact():\n"
        "    given_back = freed()\n"
        "print(given_back, freed())"
    )
    given_back, kept = map(int, out.split())
    assert given_back >= 45  # MiB
    assert kept <= 5


def test_what_loading_a_kernel_took_goes_back_where_memory_is_exact() -> None:
    if not memory.keep_freed():
        pytest.skip("not glibc, or set by the user")
    out = python(
        "import numpy as np, gradient\n"
        "from gradient import backends\n"
        "from gradient.backends.numpy import compiler, memory\n"
        "def resident():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) >> 8\n"
        "def load():\n"
        "    blocks = [np.ones(1 << 16, np.uint8) for _ in range(1600)]\n"
        "    before = resident()\n"
        "    del blocks[::2]  # which leaves holes\n"
        "    return before, blocks\n"
        "def given_back():\n"
        "    before, blocks = compiler.run(load)\n"
        "    return before - resident()\n"
        "backends.get('cpu')\n"
        "with memory.exact():\n"
        "    exactly = given_back()\n"
        "print(exactly, given_back())"
    )
    exactly, kept = map(int, out.split())
    assert exactly >= 40  # of 50 MiB
    assert kept <= 5


def test_kernels_take_a_copy_of_what_they_can_not_walk() -> None:
    x = np.ones((300, 300), np.float32)
    x.setflags(write=False)
    assert kernels.contiguous(x).flags.carray
    assert kernels.contiguous(x.T).flags.c_contiguous
    writable: Callable[[], np.ndarray] = np.ones((2, 2)).copy
    same = writable()
    assert kernels.contiguous(same) is same


@pytest.mark.parametrize("wrong", [-1, 100])
def test_a_kernel_refuses_targets_that_are_no_class(wrong: int) -> None:
    be, target = backends.get("cpu"), np.arange(200) % 100
    target[150], target[7] = wrong, -100
    logits, rows = np.ones((200, 100), np.float32), np.ones(200, np.float32)
    message = f"index {wrong} is out of bounds for dimension 1 with size 100"
    with pytest.raises(IndexError, match=message):
        be.cross_entropy(logits, target, -100, 0.0)
    with pytest.raises(IndexError, match=message):
        be.cross_entropy_grad(rows, logits, target, rows, rows, -100, 0.0)
    target[150] = -100
    assert be.cross_entropy(logits, target, -100, 0.0)[0][150] == 0


@pytest.mark.parametrize("wrong", [-11, 10])
def test_rows_are_added_nowhere_where_one_index_is_none(wrong: int) -> None:
    table = gradient.zeros(10, 200)
    index = gradient.zeros(100, dtype=gradient.int64)
    index[60] = wrong
    with pytest.raises(IndexError, match=f"index {wrong} is out of bounds for dimension 0"):
        table.index_add_(0, index, gradient.ones(100, 200))
    assert not table.any()


@pytest.mark.parametrize("wrong", [-1, -(1 << 62), 300, 1 << 62])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("many", [10, 300], ids=["few", "many"])
def test_places_along_an_axis_are_refused_where_one_is_none(
    wrong: int, axis: int, many: int
) -> None:
    be = backends.get("cpu")
    x, value = np.zeros((300, 300), np.float32), np.ones((300, 300), np.float32)
    shape = (many, 300) if axis == 0 else (300, many)
    index = np.zeros(shape, np.int64)
    index[-1, -1] = wrong
    message = f"index {wrong} is out of bounds for (axis|dimension) {axis} with size 300"
    with pytest.raises(IndexError, match=message):
        be.check_indices(index, axis, 300)
    with pytest.raises(IndexError, match=message):
        be.take_along(x, index, axis)
    for add in (True, False):
        with pytest.raises(IndexError, match=message):
            be.put_along(x, index, value[: shape[0], : shape[1]].copy(), axis, add)
    assert not x.any()


@pytest.mark.parametrize("wrong", [-1, -(1 << 62), 300, 1 << 62])
def test_rows_along_an_axis_are_refused_where_one_is_none(wrong: int) -> None:
    be = backends.get("cpu")
    x, value = np.zeros((300, 70), np.float32), np.ones((40, 70), np.float32)
    rows = np.zeros(40, np.int64)
    rows[-1] = wrong
    index = np.broadcast_to(rows[:, None], value.shape)
    message = f"index {wrong} is out of bounds for (axis|dimension) 0 with size 300"
    with pytest.raises(IndexError, match=message):
        be.check_indices(index, 0, 300)
    with pytest.raises(IndexError, match=message):
        be.take_along(x, index, 0)
    with pytest.raises(IndexError, match=message):
        be.put_along(x, index, value, 0, True)
    assert not x.any()


@pytest.mark.parametrize(
    ("shape", "places", "value"),
    [
        ((300, 64), [(4000,)], (4000, 129)),  # a part of wider rows
        ((300, 8, 8), [(4000,)], (4000, 8, 8)),
        ((64, 12, 64), [(64, 1), (64, 3)], (64, 3, 64)),
    ],
    ids=["strided", "blocks", "two axes"],
)
def test_rows_are_added_by_a_kernel(
    shape: Any, places: Any, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the gradients of x[source] and x[rows, columns] are."""
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, dtype=np.float32)
    index = tuple(rng.integers(0, n, each) for n, each in zip(shape, places, strict=False))
    added = rng.standard_normal(value, dtype=np.float32)[..., : shape[-1]]
    expected = x.astype(np.float64)
    np.add.at(expected, index, added)
    monkeypatch.delattr(ArrayAPIBackend, "index_add")
    np.testing.assert_allclose(backends.get("cpu").index_add(x, index, added), expected, atol=1e-5)


@pytest.mark.parametrize("reduce", ["sum", "mean", "prod", "amax", "amin"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_index_for_all_columns_is_not_copied_for_each(reduce: str, dtype: str) -> None:
    """As graph networks write it: what is scattered is read by rows, and so are gradients."""
    pytest.importorskip("numba")
    kind = getattr(gradient, dtype)
    at = (gradient.arange(4000) * 7 % 300)[:, None].expand(-1, 64)
    x, src = gradient.randn(300, 64, dtype=kind), gradient.randn(4000, 64, dtype=kind)
    x.requires_grad_(), src.requires_grad_()

    def step() -> None:
        x.scatter_reduce(0, at, src, reduce, include_self=False).sum().backward()

    step()
    x.grad = src.grad = None
    tracemalloc.start()
    step()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert src.grad is not None
    assert peak < 1.7 * src.numel() * src.element_size()  # the gradient of src, no index beside it


@pytest.mark.parametrize("layout", ["read-only", "transposed", "contiguous"])
def test_few_rows_along_an_axis_do_not_copy_the_others(layout: str) -> None:
    """Not those of a weight in a mapped file, either, which cannot be written to."""
    be: Any = backends.get("cpu")
    x = np.random.default_rng(0).standard_normal((4000, 256)).astype(np.float32)
    if layout == "transposed":
        x = x.T.copy().T
    x.flags.writeable = layout != "read-only"
    for rows in (8, 5000):  # as many numbers as x has: then a copy is little beside them
        index = np.broadcast_to((np.arange(rows) * 7 % 4000)[:, None], (rows, 256))
        expected = x[index[:, 0]]
        assert be.take_along(x, index, 0).tobytes() == expected.tobytes()
    few = index[:8]
    tracemalloc.start()
    be.take_along(x, few, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < x.nbytes / 8


@pytest.mark.parametrize("combine", ["multiply", "maximum", "minimum"])
def test_a_kernel_joins_much_to_few_places(combine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a graph network joins the messages of many edges in few numbers of each node."""
    pytest.importorskip("numba")
    be: Any = backends.get("cpu")
    rng = np.random.default_rng(0)
    x, src = (rng.random((n, 2)).astype(np.float32) + 0.5 for n in (50, 4000))
    index = rng.integers(0, 50, src.shape)
    identity = {"multiply": 1.0, "maximum": -np.inf, "minimum": np.inf}[combine]
    expected = ScatteringDefaults.reduce_along(be, x, index, src, 0, combine, identity)
    monkeypatch.delattr(ScatteringDefaults, "reduce_along")
    out = be.reduce_along(x, index, src, 0, combine, identity)
    np.testing.assert_allclose(out, expected, rtol=1e-4)


@pytest.mark.parametrize(("size", "axis"), [((4000, 2), 0), ((6, 900), 1), ((2, 900, 3), 1)])
def test_gradients_of_products_for_an_index_of_each_element_are_a_kernels(
    size: tuple[int, ...], axis: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba")
    be: Any = backends.get("cpu")
    rng = np.random.default_rng(0)
    whole = (*size[:axis], 300, *size[axis + 1 :])
    x, g, src = (rng.random(each).astype(np.float32) + 0.5 for each in (whole, whole, size))
    index = rng.integers(0, 300, size)
    given = g, x, index, src, x, axis, "multiply", True
    expected = ScatteringDefaults.reduce_along_grad(be, *given)
    monkeypatch.delattr(ScatteringDefaults, "reduce_along_grad")
    for one, other in zip(be.reduce_along_grad(*given), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)


@pytest.mark.parametrize("dtype", [gradient.float16, gradient.bfloat16])
def test_composed_products_of_16_bit_numbers_are_rounded_once(dtype: Any) -> None:
    """As on a GPU, which has no kernel for them."""
    be: Any = backends.get("cpu")
    rng = np.random.default_rng(0)
    x, src = (rng.uniform(0.9, 1.1, (n, 3)).astype(dtype.numpy) for n in (4, 400))
    index = rng.integers(0, 4, src.shape)
    found = ScatteringDefaults.reduce_along(be, x, index, src, 0, "multiply", 1.0)
    expected = x.astype(np.float64)
    np.multiply.at(expected, (index, np.arange(3)), src.astype(np.float64))
    assert found.dtype == dtype.numpy
    np.testing.assert_array_equal(found, expected.astype(np.float32).astype(dtype.numpy))


def test_a_kernel_takes_a_case_whatever_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a recorded plan needs it, where the values of the next replay are others."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("left to the default")

    for name in ("cross_entropy", "cross_entropy_grad", "topk"):
        holders = [kind for kind in type(backends.get("cpu")).__mro__ if name in vars(kind)]
        monkeypatch.setattr(holders[-1], name, refuse)
    logits = gradient.zeros(200, 1000, requires_grad=True)
    loss = gradient.nn.functional.cross_entropy(logits, gradient.full((200,), -100))
    loss.backward()
    for largest in (True, False):
        row = gradient.full((2000,), float("nan"))
        assert row.topk(9, largest=largest).indices.tolist() == list(range(9))


def test_a_large_matrix_times_no_matrices() -> None:
    matrix, none = gradient.ones(1, 700, 800), gradient.ones(0, 800, 900)
    assert (matrix @ none).shape == (0, 700, 900)
    images, weight = gradient.ones(0, 3, 32, 32), gradient.ones(64, 3, 7, 7)
    assert gradient.nn.functional.conv2d(images, weight).shape == (0, 64, 26, 26)


@pytest.mark.parametrize(
    ("a", "b"), [((300, 40), (40, 70)), ((40, 70), (70, 900)), ((1, 90, 64), (64, 90)),
                 ((3, 2, 70, 64), (2, 64, 70))],
)  # fmt: skip
def test_a_product_in_parts_writes_into_a_given_array(a: tuple, b: tuple) -> None:
    x, y = (np.random.default_rng(0).standard_normal(shape, np.float32) for shape in (a, b))
    expected = blas.matmul(x, y)
    given = np.full_like(expected, np.nan)
    assert blas.matmul(x, y, None, given) is given
    assert given.tobytes() == expected.tobytes()


@pytest.mark.parametrize("method", ["channel_moments", "batch_norm", "group_norm", "rms_norm"])
def test_norms_of_turned_arrays_are_kernels(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of `x.transpose(1, 2)` before a `BatchNorm1d`, and their gradients."""
    pytest.importorskip("numba")

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("left to the default")

    be = backends.get("cpu")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 40, 60)).astype(np.float32).transpose(0, 2, 1)
    g = rng.standard_normal((8, 40, 60)).astype(np.float32).transpose(0, 2, 1)
    size = x.shape[2 if method == "rms_norm" else 1]
    vectors = [] if method == "channel_moments" else [np.ones(size, np.float32)]
    if method in ("batch_norm", "group_norm"):
        vectors.append(np.zeros(size, np.float32))
    groups = [4] if method == "group_norm" else []
    options = [*groups, 1e-5] if vectors else []

    def both(x: np.ndarray, g: np.ndarray) -> list[np.ndarray]:
        found = getattr(be, method)(x, *vectors, *options)
        if not vectors:
            return [found]
        statistics = found[1:]
        grads = getattr(be, f"{method}_grad")(g, x, vectors[0], *statistics, *groups)
        return [*found, *grads]

    wanted = both(x.copy(), g.copy())
    for default in (BatchNormDefaults, NormDefaults):
        for name in (method, f"{method}_grad"):
            if name in vars(default):
                monkeypatch.setattr(default, name, refuse)
    for got, expected in zip(both(x, g), wanted, strict=True):
        np.testing.assert_array_equal(got, expected)

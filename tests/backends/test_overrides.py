"""Every override of a composed default gives what the default gives.

An override is any method that a backend has otherwise than `BareBackend`, which is the required
methods and the composed defaults as written. It is found by introspection, and needs a case in
`backend_table`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gradient import backends
from gradient.backends.array_api import ArrayAPIBackend
from gradient.backends.base import Backend
from gradient.backends.cuda.backend import CudaBackend
from gradient.backends.numpy import NumpyBackend, blas, gemm, kernels, small_products, threads
from gradient.backends.options import (
    AdamWOptions,
    AttentionOptions,
    ConvolutionOptions,
    LionOptions,
    PoolingOptions,
    RMSpropOptions,
    SGDOptions,
    SlotMap,
    adaptive_windows,
)
from gradient.backends.required import RequiredMethods
from support.agreement import EPS, NARROW, WIDE, agree
from support.array_backends import BareBackend
from support.backend_table import BARE, CASES, LAYOUTS, Draw, call, case_of

FLOATS = WIDE + NARROW
# 16-bit arrays go to the defaults, which copy them first: two layouts say enough.
MEMORY = [(dtype, layout) for dtype in WIDE for layout in LAYOUTS]
MEMORY += [(dtype, layout) for dtype in NARROW for layout in ("contiguous", "transposed")]
NO_ARRAYS = {
    "storage",
    "offset_in",
    "is_view",
    "is_view_of",
    "assign_shared",  # test_repeated_memory.py
    "to_numpy",
    "synchronize",
    "asarray",
    "has_zero",
    "queue",  # tests/generation/test_short_texts.py
    "read_later",  # test_cuda_pinned.py
    "in_one_pass",  # test_one_pass.py
    "of_values",  # tests/func/test_vmap.py
    "own",
}
"""Methods about memory and transfer, which have no values to compare."""


def overrides(kind: type[Backend]) -> list[str]:
    return sorted(
        name
        for name in dir(Backend)
        if not name.startswith("_")
        and callable(getattr(Backend, name))
        and getattr(kind, name) is not getattr(BareBackend, name)
        and name not in NO_ARRAYS
    )


def kernel_overrides() -> list[str]:
    """The overrides by numba kernels: defined in a module that goes by the name of its family."""
    names = (
        "batch_norm",
        "convolution",
        "elementwise",
        "log_sums",
        "losses",
        "norms",
        "pooling",
        "attention",
        "indexed_sums",
        "folding",
        "grid_sampling",
        "cached_attention",
        "recurrent",
        "rng",
        "rope",
        "optimizers",
        "reductions",
        "remainders",
        "special",
    )
    families = {f"gradient.backends.numpy.{name}" for name in names}
    return [
        name
        for name in overrides(NumpyBackend)
        if getattr(NumpyBackend, name).__module__ in families
        and name != "mean_cross_entropy"  # of large arrays by other methods: see test_direct.py
    ]


FOUND = {*overrides(NumpyBackend), *overrides(CudaBackend)}
OVERRIDDEN = [name for name in CASES if name in FOUND]


@pytest.fixture
def backend(device: str) -> Backend:
    return backends.get(device)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Has small arrays go to kernels and threads too."""
    monkeypatch.setattr(kernels, "MIN_SIZE", 1)
    monkeypatch.setattr(kernels, "MIN_ROW", 1)
    monkeypatch.setattr("gradient.backends.numpy.attention.MIN_SCORES", 1)
    monkeypatch.setattr("gradient.backends.numpy.attention.MIN_ROWS", 1)
    monkeypatch.setattr("gradient.backends.numpy.packed.MIN_SIZE", 1)
    monkeypatch.setattr("gradient.backends.numpy.reductions.MANY", 1)
    monkeypatch.setattr("gradient.backends.numpy.elementwise.MANY_EXP", 1)
    monkeypatch.setattr("gradient.backends.numpy.elementwise.MANY_TANH", 1)
    monkeypatch.setattr("gradient.backends.numpy.elementary.MANY", 1)
    monkeypatch.setattr("gradient.backends.numpy.losses.MANY", 1)
    monkeypatch.setattr("gradient.backends.numpy.fourier.MANY", 1)
    monkeypatch.setattr("gradient.backends.composed.packed.CHUNK", 2048)
    monkeypatch.setattr(blas, "ONE_THREAD", 0)
    monkeypatch.setattr(blas, "MANY_THREADS", 0)
    for name in ("FEW_PRODUCTS", "FEW_ROWS", "FEW_COLUMNS"):
        monkeypatch.setattr(gemm, name, 0)
    monkeypatch.setattr("gradient.backends.numpy.bfloat16_products.FEW_PRODUCTS", 0)
    monkeypatch.setattr("gradient.backends.numpy.casts.LARGE", 1)
    yield
    small_products._call.cache_clear()


@pytest.fixture
def pool() -> Any:
    """Sets the number of threads, and puts it back."""
    before = threads.get_num_threads()
    yield threads.set_num_threads
    threads.set_num_threads(before)


def test_every_override_has_a_case():
    missing = sorted(name for name in FOUND if name not in CASES)
    assert not missing, f"overrides without a case in tests/support/backend_table.py: {missing}"


def test_every_composed_default_has_a_case():
    required = set(vars(RequiredMethods))
    methods = {n for n in dir(Backend) if not n.startswith("_") and callable(getattr(Backend, n))}
    defaults = methods - required
    missing = sorted(defaults - set(CASES) - NO_ARRAYS)
    assert not missing, (
        f"composed defaults without a case in tests/support/backend_table.py: {missing}"
    )


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    "method",
    [*kernel_overrides(), "matmul", "linear", "solve_triangular", "ctc", "ctc_grad"],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_large_arrays_go_to_the_kernel(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the tests below compare the kernel with the default, not the default with itself."""
    pytest.importorskip("numba")

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"{method} was left to the default")

    holders = [kind for kind in NumpyBackend.__mro__ if method in vars(kind)]
    monkeypatch.setattr(holders[-1], method, refuse)
    if method in (
        "exp",
        "tanh",
        "matmul",
        "index_add",
        "cumsum",
        "prod",
        "argmax",
        "argmin",
        "where",
    ):  # required methods: the default is ArrayAPIBackend's
        monkeypatch.setattr(ArrayAPIBackend, method, refuse)
    call(backends.get("cpu"), method, CASES[method][0](Draw("float32", rows=5555)))


@pytest.mark.parametrize(("dtype", "layout"), MEMORY)
@pytest.mark.parametrize("method", OVERRIDDEN)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_override(method: str, dtype: str, layout: str, backend: Backend, eager: None) -> None:
    for case, arguments in enumerate(CASES[method]):
        with case_of(method, case):
            given = arguments(Draw(dtype, layout))
            backwards = (method, layout) == ("put_along", "reversed") and not given[-1]
            if backwards and backend.device != "cpu":
                continue  # NumPy writes backwards, so that of several numbers the first stays
            expected = call(BARE, method, given)
            got = call(backend, method, arguments(Draw(dtype, layout)))
            agree(got, expected, dtype, method, backend.device)


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("method", OVERRIDDEN)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_override_of_many_rows(method: str, dtype: str, backend: Backend) -> None:
    """More than one chunk, of arrays large enough for kernels and threads without being made to."""
    for case, arguments in enumerate(CASES[method]):
        with case_of(method, case):
            expected = call(BARE, method, arguments(Draw(dtype, rows=2055)))
            got = call(backend, method, arguments(Draw(dtype, rows=2055)))
            agree(got, expected, dtype, method, backend.device)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("method", OVERRIDDEN)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_override_of_nothing(method: str, dtype: str, backend: Backend) -> None:
    """Arrays without rows: the same result, or an error in both."""
    for case, arguments in enumerate(CASES[method]):
        with case_of(method, case):
            try:
                expected = call(BARE, method, arguments(Draw(dtype, rows=0)))
            except (ValueError, IndexError):  # such as the maximum of no numbers
                with pytest.raises((ValueError, IndexError)):
                    call(backend, method, arguments(Draw(dtype, rows=0)))
                continue
            got = call(backend, method, arguments(Draw(dtype, rows=0)))
            agree(got, expected, dtype, method, backend.device)


class Offset:
    """Draws a kernel's arguments whose rows lie about `offset`, as `dtype` rounds them."""

    ROWS, COLUMNS = 130, 257

    def __init__(self, offset: float, dtype: str):
        self.offset, self.dtype = offset, np.dtype(dtype)
        self.random = np.random.default_rng(0)

    def rows(self) -> np.ndarray:
        return (self.offset + self.plain(self.ROWS, self.COLUMNS)).astype(self.dtype)

    def plain(self, *shape: int) -> np.ndarray:
        return self.random.standard_normal(shape).astype(self.dtype)

    def targets(self) -> np.ndarray:
        return self.random.integers(0, self.COLUMNS, self.ROWS)

    def of(self, method: str, *arguments: Any) -> list[np.ndarray]:
        """What the definition gives in float64, rounded."""
        return [x.astype(self.dtype) for x in getattr(BARE, method)(*map(wide, arguments))]

    def heads(self) -> tuple[np.ndarray, ...]:
        """Queries, keys and values whose scores are exactly the rows: each query is a unit
        vector, and each key holds all queries' scores of it."""
        t, s = 37, self.COLUMNS
        q = np.eye(t, dtype=self.dtype)[None, None]
        return q, np.ascontiguousarray(self.rows()[:t].T)[None, None], self.plain(1, 1, s, 5)


class DrawAtOffset(Draw):
    """Draws a call of `CASES`, whose first normal numbers lie about `offset`."""

    def __init__(self, offset: float, dtype: str):
        super().__init__(dtype, rows=130)
        self.offset = offset

    def __call__(self, *shape: int, low: float | None = None, high: float = 1.0) -> np.ndarray:
        values = super().__call__(*shape, low=low, high=high)
        if low is None:
            values, self.offset = (values + self.offset).astype(self.dtype), 0.0
        return values


def wide(value: Any) -> Any:
    """Arrays of floats in float64."""
    if type(value) in (list, tuple):
        return type(value)(wide(v) for v in value)
    floats = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return value.astype(np.float64) if floats else value


def cross_entropy_grad(o: Offset) -> tuple[Any, ...]:
    logits, target = o.rows(), o.targets()
    _, *parts = o.of("cross_entropy", logits, target, -100, 0.1)
    return o.plain(o.ROWS), logits, target, *parts, -100, 0.1


def layer_norm_grad(o: Offset) -> tuple[Any, ...]:
    x = o.rows()
    _, mean, rstd = o.of("layer_norm", x, None, None, 1e-5)
    return o.plain(*x.shape), x, o.plain(o.COLUMNS), mean, rstd


def batch_norm_grad(o: Offset) -> tuple[Any, ...]:
    x = o.rows()[None]
    _, mean, rstd = o.of("batch_norm", x, None, None, 1e-5)
    return o.plain(*x.shape), x, o.plain(o.ROWS), mean, rstd


def group_norm_grad(o: Offset) -> tuple[Any, ...]:
    x = o.rows()[None]
    _, mean, rstd = o.of("group_norm", x, None, None, 65, 1e-5)
    return o.plain(*x.shape), x, o.plain(o.ROWS), mean, rstd, 65


def lstm(o: Offset) -> tuple[Any, ...]:
    size = o.COLUMNS // 4
    states = o.plain(o.ROWS, size), o.plain(o.ROWS, size)
    return o.rows()[None, :, : 4 * size].copy(), *states, o.plain(4 * size, size) / 16


def lstm_grad(o: Offset) -> tuple[Any, ...]:
    x, h, c, weight = lstm(o)
    states, gates = o.of("lstm", x, h, c, weight)
    return o.plain(*states.shape), states, gates, weight


def gru(o: Offset) -> tuple[Any, ...]:
    size = o.COLUMNS // 3
    x, h = o.rows()[None, :, : 3 * size].copy(), o.plain(o.ROWS, size)
    return x, h, o.plain(3 * size, size) / 16, o.plain(3 * size)


def gru_grad(o: Offset) -> tuple[Any, ...]:
    x, h, weight, bias = gru(o)
    states, gates = o.of("gru", x, h, weight, bias)
    return o.plain(*states.shape), states, gates, weight


def rnn(o: Offset) -> tuple[Any, ...]:
    h, weight = o.plain(o.ROWS, o.COLUMNS), o.plain(o.COLUMNS, o.COLUMNS) / 16
    return o.rows()[None], h, weight, False


def rnn_grad(o: Offset) -> tuple[Any, ...]:
    x, h, weight, relu = rnn(o)
    states = np.stack(o.of("rnn", x, h, weight, relu))
    return o.plain(*states.shape), states, weight, relu


def rms_norm_grad(o: Offset) -> tuple[Any, ...]:
    x = o.rows()
    _, rstd = o.of("rms_norm", x, None, 1e-5)
    return o.plain(*x.shape), x, o.plain(o.COLUMNS), rstd


def attention_grad(o: Offset) -> tuple[Any, ...]:
    q, k, v = o.heads()
    out, high, log_sum = o.of("attention", q, k, v)
    return o.plain(*out.shape), q, k, v, out, high, log_sum


def cached_attention(o: Offset) -> tuple[Any, ...]:
    q, k, v = o.heads()
    t, s = q.shape[2], k.shape[2]
    return q, (k,), (v,), SlotMap(np.arange(s - t, s)[None], s, s, {}), AttentionOptions()


def log_softmax_grad(o: Offset) -> tuple[Any, ...]:
    (out,) = o.of("log_softmax", o.rows()[None], -1)
    return o.plain(*out.shape), out, -1


def softmax_grad(o: Offset) -> tuple[Any, ...]:
    (out,) = o.of("softmax", o.rows()[None], -1)
    return o.plain(*out.shape), out, -1


def rope(o: Offset) -> tuple[Any, ...]:
    x, angles = o.rows()[None, None], 2 * np.pi * o.random.random((o.ROWS, o.COLUMNS // 2))
    return x, np.cos(angles).astype(o.dtype), np.sin(angles).astype(o.dtype)


def adamw(o: Offset) -> tuple[Any, ...]:
    numbers = AdamWOptions(1e-2, 0.9, 0.95, 1e-8, 0.1, step=3)
    arrays = o.rows(), o.plain(o.ROWS, o.COLUMNS), o.plain(o.ROWS, o.COLUMNS)
    return *([a] for a in arrays), [abs(o.plain(o.ROWS, o.COLUMNS))], numbers


def sgd(o: Offset) -> tuple[Any, ...]:
    arrays = o.rows(), o.plain(o.ROWS, o.COLUMNS), o.plain(o.ROWS, o.COLUMNS)
    return *([a] for a in arrays), SGDOptions(0.1, momentum=0.9, weight_decay=0.1)


def rmsprop(o: Offset) -> tuple[Any, ...]:
    arrays = o.rows(), o.plain(o.ROWS, o.COLUMNS), abs(o.plain(o.ROWS, o.COLUMNS))
    return *([a] for a in arrays), None, None, RMSpropOptions(0.1, 0.9, 1e-3)


def lion(o: Offset) -> tuple[Any, ...]:
    arrays = o.rows(), o.plain(o.ROWS, o.COLUMNS), o.plain(o.ROWS, o.COLUMNS)
    return *([a] for a in arrays), LionOptions(0.1, 0.9, 0.99)


SLIDE = ConvolutionOptions((1, 2), ((1, 1), (0, 0)), (1, 1))


def convolution_input_grad(o: Offset) -> tuple[Any, ...]:
    g = o.rows()[None, None, :, :128]
    return g, o.plain(1, 3, 3, 3), (1, 3, o.ROWS, o.COLUMNS), SLIDE


def convolution_weight_grad(o: Offset) -> tuple[Any, ...]:
    return o.plain(1, 3, o.ROWS, 128), o.rows()[None, None], (3, 1, 3, 3), SLIDE


POOL = PoolingOptions((3, 2), (2, 2), ((1, 1), (0, 1)), (1, 1), -np.inf)


SPREAD = np.arange(257) // 9, np.arange(257) // 9 + 1
NEIGHBOURS = np.array([0, 3, 99, 99, 1, 256]), np.array([1, 4, 100, 100, 2, 256])


def max_pool_grad(o: Offset) -> tuple[Any, ...]:
    y, indices = o.of("max_pool", o.rows(), POOL)
    return o.plain(*y.shape), indices.astype(np.int64), (o.ROWS, o.COLUMNS), POOL


PARTS = adaptive_windows((Offset.ROWS, Offset.COLUMNS), (25, 60))


def adaptive_max_pool_grad(o: Offset) -> tuple[Any, ...]:
    y, indices = o.of("adaptive_max_pool", o.rows(), (25, 60))
    return o.plain(*y.shape), indices.astype(np.int64), (o.ROWS, o.COLUMNS), (25, 60)


def both_signs(o: Offset) -> np.ndarray:
    return np.concatenate([o.rows(), -o.rows()])


AT_OFFSETS: dict[str, Any] = {
    "convolution": lambda o: (o.rows()[None, None], o.plain(3, 1, 3, 3), o.plain(3), SLIDE),
    "convolution_input_grad": convolution_input_grad,
    "convolution_weight_grad": convolution_weight_grad,
    "max_pool": lambda o: (o.rows(), POOL),
    "max_pool_grad": max_pool_grad,
    "avg_pool": lambda o: (o.rows(), PARTS),
    "avg_pool_grad": lambda o: (o.rows()[:25, :60].copy(), (o.ROWS, o.COLUMNS), PARTS),
    "adaptive_max_pool": lambda o: (o.rows(), (25, 60)),
    "adaptive_max_pool_grad": adaptive_max_pool_grad,
    "resize": lambda o: (o.rows(), abs(o.plain(6)) / 6, *NEIGHBOURS, 1),
    "resize_grad": lambda o: (o.rows(), abs(o.plain(o.COLUMNS)) / 6, *SPREAD, 40, 1),
    "weighted_taps": lambda o: (o.rows(), abs(o.plain(2, 6)) / 6, NEIGHBOURS, 1),
    "weighted_taps_grad": lambda o: (
        o.rows(),
        abs(o.plain(2, o.COLUMNS)) / 6,
        SPREAD,
        40,
        1,
    ),
    "channel_moments": lambda o: (o.rows()[None],),
    "batch_norm": lambda o: (o.rows()[None], o.plain(o.ROWS), o.plain(o.ROWS), 1e-5),
    "batch_norm_grad": batch_norm_grad,
    "group_norm": lambda o: (o.rows()[None], o.plain(o.ROWS), o.plain(o.ROWS), 65, 1e-5),
    "group_norm_grad": group_norm_grad,
    "lstm": lstm,
    "lstm_grad": lstm_grad,
    "gru": gru,
    "gru_grad": gru_grad,
    "rnn": rnn,
    "rnn_grad": rnn_grad,
    "softmax": lambda o: (o.rows(), -1),
    "softmax_grad": softmax_grad,
    "log_softmax": lambda o: (o.rows(), -1),
    "log_softmax_grad": log_softmax_grad,
    "cross_entropy": lambda o: (o.rows(), o.targets(), -100, 0.1),
    "cross_entropy_grad": cross_entropy_grad,
    "mean": lambda o: (o.rows(), None, False),
    "mean_of_counted": lambda o: (o.rows()[:, 0].copy(), o.targets(), -100),
    "nll": lambda o: (o.rows(), o.targets(), -100),
    "nll_grad": lambda o: (o.rows()[:, 0].copy(), (o.ROWS, o.COLUMNS), o.targets(), -100),
    "layer_norm": lambda o: (o.rows(), o.plain(o.COLUMNS), o.plain(o.COLUMNS), 1e-5),
    "layer_norm_grad": layer_norm_grad,
    "rms_norm": lambda o: (o.rows(), o.plain(o.COLUMNS), 1e-5),
    "rms_norm_grad": rms_norm_grad,
    "attention": lambda o: o.heads(),
    "attention_grad": attention_grad,
    "cached_attention": cached_attention,
    "exp": lambda o: (-abs(o.rows()),),
    "tanh": lambda o: (both_signs(o),),
    "reduce_along": lambda o: (
        *(o.rows(), np.arange(o.rows().size).reshape(o.rows().shape) % 7, o.rows(), 0),
        *("maximum", -1e30),
    ),
    "power": lambda o: (abs(o.rows()), np.full((), 0.5, o.dtype)),
    "relu": lambda o: (both_signs(o),),
    "where": lambda o: (both_signs(o) > 0, both_signs(o), o.plain(2 * o.ROWS, o.COLUMNS)),
    "relu_grad": lambda o: (o.plain(2 * o.ROWS, o.COLUMNS), np.maximum(both_signs(o), 0)),
    "sigmoid": lambda o: (both_signs(o),),
    "sigmoid_grad": lambda o: (o.plain(2 * o.ROWS, o.COLUMNS), 1 / (1 + np.exp(-both_signs(o)))),
    "logsigmoid": lambda o: (both_signs(o),),
    "logsigmoid_grad": lambda o: (o.plain(2 * o.ROWS, o.COLUMNS), both_signs(o)),
    "hardtanh": lambda o: (both_signs(o), -1.0, 1.0),
    "hardtanh_grad": lambda o: (o.plain(2 * o.ROWS, o.COLUMNS), both_signs(o), -1.0, 1.0),
    "leaky_relu": lambda o: (both_signs(o), 0.01),
    "leaky_relu_grad": lambda o: (o.plain(2 * o.ROWS, o.COLUMNS), both_signs(o), 0.01),
    "hardsigmoid": lambda o: (both_signs(o),),
    "hardsigmoid_grad": lambda o: (o.plain(2 * o.ROWS, o.COLUMNS), both_signs(o)),
    "hardswish": lambda o: (both_signs(o),),
    "hardswish_grad": lambda o: (o.plain(2 * o.ROWS, o.COLUMNS), both_signs(o)),
    "elu": lambda o: (both_signs(o), 1.0, 1.0, 1.0),
    "elu_grad": lambda o: (o.plain(2 * o.ROWS, o.COLUMNS), both_signs(o), 1.0, 1.0, 1.0),
    "softplus": lambda o: (both_signs(o),),
    "softplus_grad": lambda o: (o.plain(2 * o.ROWS, o.COLUMNS), both_signs(o)),
    "silu": lambda o: (both_signs(o),),
    "silu_grad": lambda o: (o.plain(2 * o.ROWS, o.COLUMNS), both_signs(o)),
    "gelu": lambda o: (both_signs(o),),
    "gelu_grad": lambda o: (o.plain(2 * o.ROWS, o.COLUMNS), both_signs(o)),
    "rope": rope,
    "dropout": lambda o: (5, 1, o.rows(), 0.3),
    "sum": lambda o: (o.rows(), -1),
    "sum_of_squares": lambda o: (o.rows(),),
    "squared_error": lambda o: (o.rows(), o.plain(o.ROWS, o.COLUMNS)),
    "scaled_gap": lambda o: (o.plain(), o.rows(), o.plain(o.ROWS, o.COLUMNS)),
    "logistic_error": lambda o: (both_signs(o), abs(o.plain(2 * o.ROWS, o.COLUMNS))),
    "logistic_error_grad": lambda o: (
        *(o.plain(), both_signs(o), abs(o.plain(2 * o.ROWS, o.COLUMNS))),
    ),
    "clamp": lambda o: (o.rows(), 0.5, 1e4),
    "clamp_grad": lambda o: (o.rows(), o.rows(), 0.5, 1e4),
    "prod": lambda o: (1 + o.plain(o.ROWS, o.COLUMNS) / 1000, -1),
    "prod_of_others": lambda o: (1 + o.plain(o.ROWS, o.COLUMNS) / 1000, -1),
    "argmax": lambda o: (o.rows(), 0),
    "argmin": lambda o: (o.rows(), 0),
    "cumsum": lambda o: (o.rows(), -1),
    "adamw_step": adamw,
    "sgd_step": sgd,
    "rmsprop_step": rmsprop,
    "lion_step": lion,
    "total_norm": lambda o: ([o.rows(), o.plain(o.COLUMNS)],),
    "foreach_mul": lambda o: ([o.rows()], np.asarray(0.3, o.dtype)),
}
"""The arguments of kernels that compute with floats, about an offset; others have their first call
in `CASES`."""
WITHOUT_FLOATS = {"embedding_grad", "index_add", "philox", "uniform"}

CANCEL = {("attention_grad", 0)}
"""Results in which numbers of the offset's size cancel: the keys in a query's gradient."""


@pytest.mark.cpu_only
@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("offset", [0.0, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7])
@pytest.mark.parametrize("method", sorted({*AT_OFFSETS, *kernel_overrides()} - WITHOUT_FLOATS))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_kernel_keeps_its_digits_at_an_offset(
    method: str, offset: float, dtype: str, eager: None
) -> None:
    """Sums may be taken in any order; nothing else may be: log-softmax of large logits, say."""
    if method in AT_OFFSETS:
        arguments = AT_OFFSETS[method](Offset(offset, dtype))
    else:
        arguments = CASES[method][0](DrawAtOffset(offset, dtype))
    expected = call(BARE, method, tuple(map(wide, arguments)))
    got = call(backends.get("cpu"), method, arguments)
    assert len(got) == len(expected)
    for i, (x, y) in enumerate(zip(got, expected, strict=True)):
        scale = max(float(np.abs(y).max(initial=0)), 1e-3)
        limit = 16 * EPS[dtype] * (max(scale, offset) if (method, i) in CANCEL else scale)
        error = float(np.abs(x.astype(np.float64) - y).max(initial=0))
        assert error <= limit, f"{method}, part {i}: off by {error:.1e}, more than {limit:.1e}"


@pytest.mark.cpu_only
@pytest.mark.parametrize("method", OVERRIDDEN)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_threads_do_not_change_results(
    method: str, pool: Any, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    results: list[list[Any]] = [[] for _ in CASES[method]]
    for n in (1, 2, 3):
        pool(n)
        for found, arguments in zip(results, CASES[method], strict=True):
            found.append(call(backends.get("cpu"), method, arguments(Draw("float32", rows=2055))))
    for case, (one, *others) in enumerate(results):
        with case_of(method, case):
            for other in others:
                for x, y in zip(one, other, strict=True):
                    np.testing.assert_array_equal(x, y)

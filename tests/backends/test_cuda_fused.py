"""Kernels of fused chains on the CUDA backend: each word, layout and dtype, run on the CPU."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.backends.cuda.backend import CudaBackend
from gradient.backends.cuda.fused import COMPUTED, FUSING, TEXTS, source
from gradient.backends.expression import ElementwiseCall, End, Expression, Input, Result
from gradient.nn import functional as F  # noqa: N812
from gradient.plan import record
from gradient.plan.passes import with_fused_chains
from support import fake_cupy, nvrtc_results
from support.agreement import agree
from support.backend_table import BARE
from support.cuda_emulation import ORDERS, EmulatedRuntime
from support.fake_device import DEVICE

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]

CHARS = {"float32": "f", "float64": "d", "float16": "e", "bfloat16": "E"}
BY_CHAR = {char: gradient.dtypes.dtype_of(name).numpy for name, char in CHARS.items()}
OPERATORS: dict[str, Any] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
    "truediv": lambda a, b: a / b, "neg": lambda a: -a, "square": lambda a: a * a,
    "lt": lambda a, b: a < b, "le": lambda a, b: a <= b, "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b, "eq": lambda a, b: a == b, "ne": lambda a, b: a != b,
    "and": lambda a, b: a & b, "or": lambda a, b: a | b, "invert": lambda a: ~a,
}  # fmt: skip
BOOLEAN = ("lt", "le", "gt", "ge", "eq", "ne", "isnan", "isfinite", "and", "or", "invert")
EDGES = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, 87.0, -87.0, 3.0, -3.0, 2.5]


@pytest.fixture
def be() -> CudaBackend:
    return CudaBackend(0, EmulatedRuntime())


def fused(
    be: CudaBackend, steps: list[ElementwiseCall], *arrays: np.ndarray, kept: Any = None
) -> Any:
    last = (Result(len(steps) - 1),) if kept is None else kept
    expression = Expression(tuple(steps), tuple(x.dtype.char for x in arrays), last)
    return be.fused(*arrays, expression=expression)


def count_of(op: str) -> int:
    return len(set(re.findall(r"\{(\d)\}", TEXTS[op])))


def operands_of(op: str) -> tuple[Input, ...]:
    """Of two arrays of floats and two of bools, those that this op takes."""
    if op in ("and", "or", "invert"):
        return tuple(map(Input, (2, 3)))[: count_of(op)]
    return (Input(2), Input(0), Input(1)) if op == "where" else (Input(0), Input(1))[: count_of(op)]


@pytest.mark.parametrize("dtype", CHARS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_word(dtype: str, be: CudaBackend) -> None:
    """At NaN, infinities and both zeros, beside the composed definitions."""
    numpy = gradient.dtypes.dtype_of(dtype).numpy
    a, b = (x.ravel().astype(numpy) for x in np.meshgrid(EDGES, EDGES))
    arrays = a, b, a > 0, b > 0
    steps = [
        ElementwiseCall(op, operands_of(op), "?" if op in BOOLEAN else CHARS[dtype]) for op in TEXTS
    ]
    results = fused(be, steps, *arrays, kept=tuple(map(Result, range(len(steps)))))
    for op, got in zip(TEXTS, results, strict=True):
        given = [arrays[i] for i in operands_of(op)]
        expected = OPERATORS[op](*given) if op in OPERATORS else getattr(BARE, op)(*given)
        agree([got], [np.asarray(expected)], dtype, op)
        nan = np.isnan(np.asarray(expected, np.float64))
        np.testing.assert_array_equal(np.isnan(np.asarray(got, np.float64)), nan)


def chain(char: str) -> list[ElementwiseCall]:
    """x0 + x1 times 2, its silu beside it."""
    return [
        ElementwiseCall("add", (Input(0), Input(1)), char),
        ElementwiseCall("mul", (Result(0), 2), char),
        ElementwiseCall("silu", (Result(1),), char),
    ]


def transposed(*shape: int) -> np.ndarray:
    return np.asfortranarray(np.ones(shape))


LAYOUTS: dict[str, tuple[Any, Any]] = {
    "one": (np.ones(1), np.ones(1)),
    "a line": (np.ones(1003), np.ones(1003)),
    "a bias": (np.ones((5, 24)), np.ones(24)),
    "a bias of odd rows": (np.ones((5, 23)), np.ones(23)),
    "a number": (np.ones((5, 24)), np.ones(())),
    "a column": (np.ones((5, 24)), np.ones((5, 1))),
    "outer": (np.ones((5, 1)), np.ones((1, 24))),
    "channels": (np.ones((2, 3, 4, 8)), np.ones((3, 1, 1))),
    "transposed": (np.ones((6, 16)), transposed(6, 16)),
    "backwards": (np.ones((6, 16))[::-1, ::-1], np.ones((6, 16))),
    "every second": (np.ones((6, 32))[:, ::2], np.ones((6, 16))),
    "unaligned": (np.ones(33)[1:], np.ones(32)),
    "four axes": (np.ones((2, 1, 3, 1)), np.ones((1, 4, 1, 8))),
}


@pytest.mark.parametrize(
    ("layout", "dtype"),
    [
        *((layout, "bfloat16") for layout in LAYOUTS),
        *(("a bias", dtype) for dtype in ("float32", "float64", "float16")),
    ],
)
def test_layouts(layout: str, dtype: str, be: CudaBackend) -> None:
    numpy, draw = gradient.dtypes.dtype_of(dtype).numpy, np.random.default_rng(0)
    a = _with_strides(LAYOUTS[layout][0], numpy, draw)
    b = _with_strides(LAYOUTS[layout][1], numpy, draw)
    wide = np.float64 if dtype == "float64" else np.float32
    total = (a.astype(wide) + b.astype(wide)) * wide(2)
    got = fused(be, chain(CHARS[dtype]), a, b, kept=(Result(1), Result(2)))
    agree(list(got), [total.astype(numpy), BARE.silu(total).astype(numpy)], dtype, layout)


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("columns", [24, 23])
def test_the_narrowest_array_is_loaded_by_16_bytes(columns: int, at: int, be: CudaBackend) -> None:
    """A wider one beside it by several loads; both one by one where they are not aligned."""
    wide, narrow = BY_CHAR["f"], BY_CHAR["E"]
    x = np.linspace(-3, 3, 5 * columns + 1, dtype=np.float32)[at:][: 5 * columns]
    x, y = x.reshape(5, columns), np.linspace(-1, 1, 5 * columns).reshape(5, columns).astype(narrow)
    mask = y > 0
    steps = [
        ElementwiseCall("astype", (Input(1),), "f"),
        ElementwiseCall("add", (Input(0), Result(0)), "f"),
        ElementwiseCall("where", (Input(2), Result(1), 0.0), "f"),
        ElementwiseCall("astype", (Result(2),), "E"),
    ]
    sources: list[str] = []
    run = be.runtime.launch_source
    be.runtime.launch_source = lambda text, *rest, **early: (
        sources.append(text), run(text, *rest, **early)
    )  # fmt: skip
    got = fused(be, steps, x, y, mask, kept=(Result(2), Result(3)))
    total = np.where(mask, x + y.astype(wide), wide.type(0))
    np.testing.assert_array_equal(got[0], total)
    np.testing.assert_array_equal(got[1], total.astype(narrow))
    whole = at == 0  # rows together are a multiple of 8 or end in a tail
    assert f"constexpr int N = {8 if whole else 1};" in sources[0]


def _with_strides(like: np.ndarray, dtype: np.dtype, draw: Any) -> np.ndarray:
    """Numbers in an array of another dtype that lies in memory as `like` does."""
    base = like if like.base is None else like.base
    memory = draw.standard_normal(max(1, base.size)).astype(dtype)
    apart = like.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    steps = tuple(s // like.itemsize * dtype.itemsize for s in like.strides)
    return np.ndarray(like.shape, dtype, memory, apart // like.itemsize * dtype.itemsize, steps)


def test_casts_round_and_bools_are_numbers(be: CudaBackend) -> None:
    x = np.linspace(-1, 1, 40, dtype=np.float32)
    steps = [
        ElementwiseCall("astype", (Input(0),), "E"),
        ElementwiseCall("astype", (Result(0),), "f"),
        ElementwiseCall("gt", (Result(1), 0), "?"),
        ElementwiseCall("astype", (Result(2),), "d"),
        ElementwiseCall("astype", (Result(1),), "?"),
    ]
    low, positive, nonzero = fused(be, steps, x, kept=(Result(1), Result(3), Result(4)))
    rounded = x.astype(fake_cupy.BFLOAT16).astype(np.float32)
    np.testing.assert_array_equal(low, rounded)
    np.testing.assert_array_equal(positive, (rounded > 0).astype(np.float64))
    np.testing.assert_array_equal(nonzero, rounded != 0)


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("char", CHARS.values())
def test_all_words_compile_without_spills(char: str, architecture: str) -> None:
    pytest.importorskip("cupy_backends.cuda.libs.nvrtc")
    steps = [ElementwiseCall(op, operands_of(op), "?" if op in BOOLEAN else char) for op in TEXTS]
    kept = tuple(map(Result, range(len(steps))))
    for moves in ("o", "s", "r"):
        expression = Expression(tuple(steps), (char, char, "?", "?"), kept[-16:])
        text = source(expression, 3, moves * 4 + "o" * 16, 1 if moves == "s" else 2, False)
        code, log = nvrtc_results.compiled(text, "fused.cu", architecture)
        assert code[:4] == b"\x7fELF"
        assert set(re.findall(r"(\d+) bytes spill", log)) == {"0"}


# Exact chains -------------------------------------------------------------------------------------


def exact_steps(char: str) -> list[ElementwiseCall]:
    """Each call that may be in one, of x0 and x1, and bools x2 and x3."""
    words = sorted((FUSING.exact | {"square"}) - {"pow", "astype"})
    return [ElementwiseCall(op, operands_of(op), "?" if op in BOOLEAN else char) for op in words]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_steps_of_exact_chains_are_those_of_single_kernels(dtype: str) -> None:
    be: Any = gradient.backends.get(DEVICE)
    numpy, draw = np.dtype(dtype), np.random.default_rng(0)
    a, b = (np.concatenate([x.ravel(), draw.standard_normal(50) * 100]).astype(numpy)
            for x in np.meshgrid(EDGES, EDGES))  # fmt: skip
    steps = exact_steps(CHARS[dtype])
    arrays = [be.asarray(x) for x in (a, b, a > 0, b > 0)]
    expression = Expression(tuple(steps), (numpy.char,) * 2 + ("?",) * 2,
                            tuple(map(Result, range(len(steps)))))  # fmt: skip
    for step, got in zip(steps, be.fused(*arrays, expression=expression, exact=True), strict=True):
        given = [arrays[i] for i in step.operands]
        single = OPERATORS.get(step.op) or getattr(be, step.op)
        expected = be.to_numpy(single(*given))
        np.testing.assert_array_equal(be.to_numpy(got), expected, step.op)
        numbers = ~np.isnan(expected.astype(numpy))  # and the signs of zeros
        signs = [np.signbit(x.astype(numpy))[numbers] for x in (be.to_numpy(got), expected)]
        np.testing.assert_array_equal(*signs, step.op)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_casts_in_exact_chains_are_those_of_single_kernels() -> None:
    be: Any = gradient.backends.get(DEVICE)
    many = [0, 1, -1, 2**24 + 1, 2**53 + 1, -(2**60) - 3, 2**63 - 1, -(2**63)]
    given = {
        "l": np.array(many), "?": np.array([True, False]),
        "f": np.array([*EDGES, 1e-45, 3e38, 1 + 2**-8, 1 + 3 * 2**-9], np.float32),
        "d": np.array([*EDGES, 1e-320, 1 + 2**-40, 1e300]),
    }  # fmt: skip
    casts = [*(("l", to) for to in "fd"), *(("f", to) for to in "deE?"), ("d", "f"), ("?", "f")]
    for source_char, to in casts:
        x = be.asarray(given[source_char])
        dtype = BY_CHAR.get(to, np.dtype(bool))
        steps = (ElementwiseCall("astype", (Input(0),), to),)
        expression = Expression(steps, (source_char,), (Result(0),))
        (got,) = be.fused(x, expression=expression, exact=True)
        expected = be.to_numpy(be.astype(x, dtype))
        assert be.to_numpy(got).tobytes() == expected.tobytes(), (source_char, to)


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_exact_chains_compile_without_spills_and_without_joint_rounding(architecture: str) -> None:
    pytest.importorskip("cupy_backends.cuda.libs.nvrtc")
    for char in "fd":
        steps = [
            *exact_steps(char),
            ElementwiseCall("mul", (Input(0), Input(1)), char),
        ]
        last = Result(len(steps) - 1)
        steps += [ElementwiseCall(op, (last, Input(1)), char) for op in ("add", "sub")]
        steps += [ElementwiseCall("astype", (Input(4),), char)]
        kept = tuple(map(Result, range(len(steps))))
        expression = Expression(tuple(steps), (char, char, "?", "?", "l"), kept[-16:])
        text = source(expression, 1, "o" * 21, 2, False, True)
        assert f"v{int(last)} = {COMPUTED[char]}(rounded_product(x0, x1))" in text
        assert f"rounded_sum(v{int(last)}, x1)" in text
        assert f"rounded_sum(v{int(last)}, -(x1))" in text
        code, log = nvrtc_results.compiled(text, "fused.cu", architecture)
        assert code[:4] == b"\x7fELF"
        assert set(re.findall(r"(\d+) bytes spill", log)) == {"0"}


# Reductions at the end of a chain -----------------------------------------------------------------

REDUCED = ("sum", "mean", "max", "min")
SHAPES = [(1003,), (5, 1), (1, 7), (7, 23), (4, 64), (2, 3, 1030), (3, 40, 128)]


def reducing(
    char: str, whole: bool, keepdims: bool = False
) -> tuple[list[ElementwiseCall], tuple[End, ...]]:
    """A product, and all reductions of it and of its sum with 1."""
    steps = [
        ElementwiseCall("mul", (Input(0), Input(1)), char),
        ElementwiseCall("add", (Result(0), 1), char),
    ]
    return steps, tuple(End(op, Result(i), whole, keepdims) for i in range(2) for op in REDUCED)


def reduced(be: CudaBackend, a: Any, b: Any, whole: bool, keepdims: bool = False) -> list[Any]:
    steps, ends = reducing(a.dtype.char, whole, keepdims)
    expression = Expression(tuple(steps), (a.dtype.char, b.dtype.char), (Result(1),), ends)
    return list(be.fused(a, b, expression=expression))


def composed(a: Any, b: Any, whole: bool, keepdims: bool = False) -> list[Any]:
    wide = a.dtype if a.dtype == np.float64 else np.dtype(np.float32)
    product = a.astype(wide) * b.astype(wide)
    axis = None if whole else -1
    outs = [product + 1]
    for x in (product, product + 1):
        outs += [getattr(BARE, op)(x, axis, keepdims) for op in REDUCED]
    return [np.asarray(out).astype(a.dtype) for out in outs]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", CHARS)
@pytest.mark.parametrize("whole", [False, True], ids=["last axis", "all"])
def test_reductions(whole: bool, dtype: str, order: int) -> None:
    be, numpy = CudaBackend(0, EmulatedRuntime(order)), gradient.dtypes.dtype_of(dtype).numpy
    draw = np.random.default_rng(0)
    for shape in SHAPES:
        a, b = (draw.standard_normal(s).astype(numpy) for s in (shape, shape[-1:]))
        for keepdims in (False, True):
            arguments = a, b, whole, keepdims
            agree(reduced(be, *arguments), composed(*arguments), dtype, str(shape))


@pytest.mark.parametrize("whole", [False, True], ids=["last axis", "all"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_reductions_of_nan_and_infinity(whole: bool, be: CudaBackend) -> None:
    a = np.ones((6, 70), np.float32)
    a[0, 69], a[1, 0], a[2, 5], a[3, 33] = np.inf, -np.inf, np.nan, 3e38
    a[4, 1], a[4, 68] = np.inf, -np.inf
    for rows in (a, a[:1], a[1:2], a[3:4], a[4:5]):
        arguments = rows, np.ones(70, np.float32), whole
        for got, expected in zip(reduced(be, *arguments), composed(*arguments), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_reduction_over_all_of_many_blocks(
    be: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradient.backends.cuda.fused.MOST_BLOCKS", 3)
    a, b = np.random.default_rng(0).standard_normal((2, 9, 1024)).astype(np.float32)
    agree(reduced(be, a, b, True), composed(a, b, True), "float32", "several blocks")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reductions_of_layouts(layout: str, be: CudaBackend) -> None:
    draw = np.random.default_rng(0)
    a, b = (_with_strides(x, np.dtype(np.float32), draw) for x in LAYOUTS[layout])
    for whole in (False, True):
        a, b = np.broadcast_arrays(a, b) if whole else (a, b)
        agree(reduced(be, a, b, whole), composed(a, b, whole), "float32", layout)


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("char", CHARS.values())
def test_reductions_compile_without_spills(char: str, architecture: str) -> None:
    pytest.importorskip("cupy_backends.cuda.libs.nvrtc")
    for whole in (False, True):
        steps, ends = reducing(char, whole)
        expression = Expression(tuple(steps), (char, char), (Result(1),), ends)
        text = source(expression, 3, "ooo", 2, False)
        code, log = nvrtc_results.compiled(text, "fused.cu", architecture)
        assert code[:4] == b"\x7fELF"
        assert set(re.findall(r"(\d+) bytes spill", log)) == {"0"}


@pytest.mark.parametrize("char", CHARS.values())
def test_a_block_of_a_long_row_has_registers_for_its_threads(
    char: str, be: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 65,536 that a block may have: with more, the launch is refused."""
    pytest.importorskip("cupy_backends.cuda.libs.nvrtc")
    launched: list[tuple[str, int]] = []
    monkeypatch.setattr(
        be.runtime,
        "launch_source",
        lambda text, grid, block, *_, **__: launched.append((text, block)),
    )
    steps = [
        ElementwiseCall("gelu_grad", (Input(0), Input(1)), char),
        ElementwiseCall("silu_grad", (Result(0), Input(2)), char),
        ElementwiseCall("tan", (Result(1),), char),
        ElementwiseCall("erf", (Result(1),), char),
        ElementwiseCall("mul", (Result(2), Result(3)), char),
    ]
    ends = (End("sum", Result(4), False, False),)
    expression = Expression(tuple(steps), (char,) * 3, (Result(0), Result(1)), ends)
    rows = np.ones((2, 1 << 15), BY_CHAR[char])
    be.fused(rows, rows, rows, expression=expression)
    [(text, block)] = launched
    for architecture in ("sm_80", "sm_90"):
        _, log = nvrtc_results.compiled(text, "fused.cu", architecture)
        assert set(re.findall(r"(\d+) bytes spill", log)) == {"0"}
        [registers] = map(int, re.findall(r"Used (\d+) registers", log))
        assert -(-registers // 8) * 8 * block <= 65536


# Chains of plans ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_compiled_function_runs_its_chains_as_one_kernel(dtype: str) -> None:
    draw = np.random.default_rng(0).standard_normal
    bias, weight = (gradient.tensor(draw(6), dtype=dtype, device=DEVICE) for _ in range(2))

    def f(x: gradient.Tensor) -> gradient.Tensor:
        return F.softplus((x + bias).abs() * weight) - x.clamp(min=0) / 3

    compiled = gradient.compile(f, fuse=True)
    backend: Any = bias.backend
    for _ in range(5):
        x = gradient.tensor(draw((4, 6)), dtype=dtype, device=DEVICE)
        backend.runtime.launched.clear()
        got = compiled(x)
        expected = f(x)
        tolerance = 1e-5 if dtype == "float32" else 0.05
        np.testing.assert_allclose(
            got.float().tolist(), expected.float().tolist(), rtol=tolerance, atol=tolerance
        )
    [executor] = [v.executor for s in compiled.signatures.values() for v in s.variants]
    assert [call.op for call in executor.calls] == ["fused"]
    assert "fused chains" in compiled.explain()


def test_reductions_are_part_of_a_chains_kernel() -> None:
    """Over the last axis and over all; what is read again after a reduction is another chain."""
    draw = np.random.default_rng(0).standard_normal
    target = gradient.tensor(draw((4, 40)), dtype="float32", device=DEVICE)

    def rows(x: gradient.Tensor) -> gradient.Tensor:
        return ((x - target) ** 2).sum(-1)

    def whole(x: gradient.Tensor) -> gradient.Tensor:
        return (x - target).abs().mean()

    def several(x: gradient.Tensor) -> tuple[gradient.Tensor, ...]:
        y = (x - target).exp()
        return y, y.sum(-1), y.amax(-1, keepdim=True)

    def normalised(x: gradient.Tensor) -> gradient.Tensor:
        y = (x - target).exp()
        return y / y.sum(-1, keepdim=True) * 2

    def columns(x: gradient.Tensor) -> gradient.Tensor:
        return (x - target).exp().sum(0)

    for f, kernels in ((rows, 1), (whole, 1), (several, 1), (normalised, 2), (columns, 1)):
        compiled: Any = gradient.compile(f, fuse=True)
        for _ in range(5):
            x = gradient.tensor(draw((4, 40)), dtype="float32", device=DEVICE)
            got, expected = compiled(x), f(x)
            pairs = zip(
                *((r if isinstance(r, tuple) else (r,)) for r in (got, expected)), strict=True
            )
            for a, b in pairs:
                assert a.shape == b.shape
                np.testing.assert_allclose(a.tolist(), b.tolist(), rtol=1e-5)
        [executor] = [v.executor for s in compiled.signatures.values() for v in s.variants]
        rest = ["sum"] if f is columns else []
        assert [call.op for call in executor.calls] == ["fused"] * kernels + rest, f.__name__


def test_a_chain_that_is_cut_before_a_reduction_of_its_beginning() -> None:
    """The second half reads what the first one makes, though this ends with the last call."""

    def states(x: gradient.Tensor) -> list[gradient.Tensor]:
        kept = [x]
        for _ in range(40):
            kept.append(kept[-1] + x)
        return [*kept[1:], kept[1].sum(-1)]

    compiled = gradient.compile(states, fuse=True)
    for step in range(5):
        x = gradient.full((4, 64), float(step), device=DEVICE)
        for got, expected in zip(compiled(x), states(x), strict=True):
            assert got.tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_linear_layer_ends_in_gelu(dtype: str) -> None:
    """By cuBLASLt's epilogue, where nothing else reads what the activation is of."""
    layer = gradient.nn.Linear(6, 5).to(DEVICE, getattr(gradient, dtype))
    backend: Any = layer.weight.backend

    def ends(x: gradient.Tensor) -> gradient.Tensor:
        return F.gelu(layer(x), approximate="tanh")

    def is_read_again(x: gradient.Tensor) -> gradient.Tensor:
        y = layer(x)
        return F.gelu(y, approximate="tanh") + y.mean()

    def comes_out(x: gradient.Tensor) -> tuple[gradient.Tensor, ...]:
        y = layer(x)
        return F.gelu(y, approximate="tanh"), y

    def is_viewed(x: gradient.Tensor) -> gradient.Tensor:
        y = layer(x)
        return F.gelu(y, approximate="tanh") + y.T[0, 0]

    def by_erf(x: gradient.Tensor) -> gradient.Tensor:
        return F.gelu(layer(x))

    def relu(x: gradient.Tensor) -> gradient.Tensor:
        return F.relu(layer(x))

    for f in (ends, is_read_again, comes_out, is_viewed, by_erf, relu):
        compiled: Any = gradient.compile(f, fuse=True)
        with gradient.no_grad():
            for i in range(4):
                x = gradient.linspace(-3, 3 + i, 24).reshape(4, 6).to(DEVICE, layer.weight.dtype)
                backend.runtime.launched.clear()
                got, expected = compiled(x), f(x)
                pairs = zip(
                    *((r if isinstance(r, tuple) else (r,)) for r in (got, expected)), strict=True
                )
                tolerance = 1e-6 if dtype == "float32" else 0.02
                for a, b in pairs:
                    np.testing.assert_allclose(
                        a.float().tolist(), b.float().tolist(), rtol=tolerance, atol=tolerance
                    )
        [executor] = [v.executor for s in compiled.signatures.values() for v in s.variants]
        found = [call.op for call in executor.calls]
        assert (found == ["linear_activation"]) == (f is ends), f.__name__
        assert ("linear" in found) == (f is not ends), f.__name__


def test_a_fused_training_step_is_that_of_eager_within_rounding() -> None:
    ends = []
    for fuse in (False, True):
        gradient.manual_seed(0)
        model = gradient.nn.Sequential(
            gradient.nn.Linear(5, 8), gradient.nn.SiLU(), gradient.nn.Linear(8, 1)
        ).to(DEVICE)
        optimizer = gradient.optim.SGD(model.parameters(), lr=0.1)
        x = gradient.randn(7, 5).to(DEVICE)

        def step(
            x: gradient.Tensor, model: Any = model, optimizer: Any = optimizer
        ) -> gradient.Tensor:
            optimizer.zero_grad()
            loss = (model(x).tanh() - 0.5).square().mean()
            loss.backward()
            optimizer.step()
            return loss.detach()

        run = gradient.compile(step, fuse=True) if fuse else step
        fake_cupy.waits.clear()
        losses = [run(x) for _ in range(6)]
        assert fake_cupy.waits == []
        ends.append([*(loss.item() for loss in losses), *model[0].weight.flatten().tolist()])
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-4, atol=1e-6)


def exact_plan(function: Any, *inputs: gradient.Tensor) -> list[list[str]]:
    """The calls of an exact plan; of a chain, its steps."""
    recording = record(function, *inputs, inputs=inputs, device=DEVICE)
    refs = {id(t): ref for t, ref in recording.survivors}
    plan = replace(recording.plan, outputs=(refs[id(recording.result)],))
    plan = with_fused_chains(plan, exact=True, fusing=FUSING)
    return [[each.op for each in call.pieces] or [call.op] for call in plan.calls]


def test_what_exact_chains_of_plans_contain() -> None:
    x = gradient.ones(2, 40, device=DEVICE)
    places = gradient.tensor([[3], [5]], device=DEVICE)
    narrow = x.bfloat16()

    def angles(places: gradient.Tensor, x: gradient.Tensor) -> gradient.Tensor:
        return (places.expand(2, 40).float() * x).cos().bfloat16()

    assert exact_plan(angles, places, x) == [
        ["broadcast_to"], ["astype", "mul", "cos", "astype"],
    ]  # fmt: skip
    # 16 bits are rounded in each step; integers are only cast, and exponentials no single kernel's.
    assert exact_plan(lambda x: x * x + x, narrow) == [["mul"], ["add"]]
    assert exact_plan(lambda x: x.exp() * 2, x) == [["exp"], ["mul"]]
    of_integers = [["add"], ["mul"], ["astype", "neg"]]
    assert exact_plan(lambda p: -((p + p) * 2).double(), places) == of_integers
    of_doubles = [["astype"], ["astype", "neg"]]
    assert exact_plan(lambda x: -x.bfloat16().float(), x.double()) == of_doubles


def test_a_chain_stays_where_its_last_call_was() -> None:
    """So what runs between it and its reader may begin early, while it is running."""
    x, y = gradient.ones(2, 40, device=DEVICE), gradient.ones(40, 40, device=DEVICE)

    def f(x: gradient.Tensor, y: gradient.Tensor) -> gradient.Tensor:
        z = (x * 2 - 1).abs()
        alone = x[:1] + 1
        return (y @ y)[:2] @ y + z.softmax(-1) + alone

    found = exact_plan(f, x, y)
    assert found[:4] == [["mul", "sub", "abs"], ["getitem"], ["add"], ["matmul"]]

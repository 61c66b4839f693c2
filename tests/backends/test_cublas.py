"""Products through cuBLAS's C interface, on a library of the same signatures (`fake_cublas`)."""

from __future__ import annotations

import ctypes
import itertools
import shutil
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.backends.cuda import cublas, cublas_lt
from gradient.backends.cuda.backend import CudaBackend
from gradient.backends.cuda.cublas import Operand, Sizes
from gradient.backends.packed import PackedArray
from gradient.errors import BackendError, DeviceError
from support import fake_cublas
from support.agreement import EPS
from support.backend_table import transpose
from support.cuda_emulation import EmulatedRuntime

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]

ONE, BATCHED, WITH_BIAS = "cublasGemmEx_64", "cublasGemmStridedBatchedEx_64", "cublasLtMatmul"
DRAW = np.random.default_rng(0)


@pytest.fixture
def be() -> CudaBackend:
    return CudaBackend(0, EmulatedRuntime())


def drawn(*shape: int, dtype: str = "float32") -> np.ndarray:
    values = DRAW.standard_normal(shape)
    return values.astype(gradient.dtypes.dtype_of(dtype).numpy)


def products(be: CudaBackend) -> list[str]:
    return be.runtime.launched


def test_the_library_is_given_the_types_of_its_header(be: CudaBackend) -> None:
    assert be.runtime.blas_lt is not None
    pointer = {fake_cublas.POINTER(cublas_lt.HeuristicResult): ctypes.c_void_p}
    for name, declared in fake_cublas.SIGNATURES.items():
        function = getattr(be.runtime.cublas, name)
        assert tuple(pointer.get(t, t) for t in function.argtypes) == declared, name


def test_the_real_libraries_have_these_functions() -> None:
    pytest.importorskip("cuda.pathfinder", exc_type=ImportError)
    try:
        libraries = [cublas.load("cublas"), cublas.load("cublasLt")]
    except DeviceError:
        pytest.skip("cuBLAS is not installed (extra cuda13)")
    for name in fake_cublas.SIGNATURES:
        assert hasattr(libraries["Lt" in name], name)
    assert ctypes.sizeof(cublas_lt.HeuristicResult) == 96


LAYOUTS = {
    "rows": lambda *s, **o: drawn(*s, **o),
    "columns": lambda *s, **o: drawn(*s[:-2], s[-1], s[-2], **o).swapaxes(-1, -2),
    "gaps between rows": lambda *s, **o: drawn(*s[:-1], s[-1] + 3, **o)[..., 1:-2],
    "gaps between columns": lambda *s, **o: drawn(*s[:-2], s[-1], s[-2] + 2, **o).swapaxes(-1, -2)[
        ..., 2:, :
    ],
}
COPIED = {
    "reversed": lambda *s, **o: drawn(*s, **o)[..., ::-1],
    "every other": lambda *s, **o: drawn(*s[:-1], 2 * s[-1], **o)[..., ::2],
    "one row for all": lambda *s, **o: np.broadcast_to(drawn(*s[:-2], 1, s[-1], **o), s),
    "one column for all": lambda *s, **o: np.broadcast_to(drawn(*s[:-1], 1, **o), s),
}


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 7, 3), (5, 1, 3), (5, 7, 1), (1, 1, 1)], ids=str)
@pytest.mark.parametrize(("left", "right"), [*itertools.product(LAYOUTS, LAYOUTS)])
def test_no_layout_is_copied(
    left: str, right: str, shape: tuple[int, int, int], dtype: str, be: CudaBackend
) -> None:
    m, k, n = shape
    a, b = LAYOUTS[left](m, k, dtype=dtype), LAYOUTS[right](k, n, dtype=dtype)
    be.contiguous = None  # type: ignore[method-assign,assignment]
    got = be.matmul(a, b)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    assert got.dtype == a.dtype
    np.testing.assert_allclose(got.astype(np.float64), expected, rtol=0, atol=16 * EPS[dtype])
    assert products(be) == [ONE]


@pytest.mark.parametrize(("left", "right"), [*itertools.product(LAYOUTS | COPIED, COPIED)])
def test_others_are_copied(left: str, right: str, be: CudaBackend) -> None:
    a, b = (LAYOUTS | COPIED)[left](5, 7), COPIED[right](7, 4)
    np.testing.assert_allclose(be.matmul(a, b), a @ b, atol=1e-5)
    np.testing.assert_allclose(be.matmul(b.T, a.T), (a @ b).T, atol=1e-5)
    assert products(be) == [ONE, ONE]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("shape", [(5, 7, 3), (24, 7, 16), (16, 8, 3), (2, 9, 2)], ids=str)
def test_sizes_are_multiples_of_16_bytes_in_large_products_by_tensor_cores(
    shape: tuple[int, int, int], dtype: str, be: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradient.backends.cuda.products.PADDING_PAYS", 0)
    m, k, n = shape
    seen: list[Operand] = []
    multiply = be.runtime.blas.multiply

    def watched(dtype: np.dtype, sizes: Sizes, *operands: Operand) -> None:
        assert sizes.m % 8 == sizes.k % 8 == 0
        seen.extend(operands)
        multiply(dtype, sizes, *operands)

    monkeypatch.setattr(be.runtime.blas, "multiply", watched)
    for lead, (left, right) in itertools.product(
        ((), (2,), (3, 2)), itertools.product(LAYOUTS, LAYOUTS)
    ):
        a, b = LAYOUTS[left](*lead, m, k, dtype=dtype), LAYOUTS[right](k, n, dtype=dtype)
        got = be.matmul(a, b)
        expected = a.astype(np.float64) @ b.astype(np.float64)
        assert got.flags.c_contiguous and got.dtype == a.dtype
        np.testing.assert_allclose(got.astype(np.float64), expected, rtol=0, atol=32 * EPS[dtype])
    assert seen
    for operand in seen:
        assert operand.address % 16 == 0 and operand.leading % 8 == 0, operand


def test_small_products_and_others_are_not_padded(
    be: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    be._padded = None  # type: ignore[method-assign,assignment]
    be.matmul(drawn(16, 8, dtype="bfloat16"), drawn(8, 3, dtype="bfloat16"))
    monkeypatch.setattr("gradient.backends.cuda.products.PADDING_PAYS", 0)
    be.matmul(drawn(16, 7), drawn(7, 3))


STACKS: dict[str, tuple[Any, Any, list[str]]] = {
    "one for all": (lambda: drawn(2, 3, 5, 7), lambda: drawn(7, 4), [ONE]),
    "every other of them": (lambda: drawn(6, 5, 7)[::2], lambda: drawn(7, 4), [BATCHED]),
    "a row of each": (lambda: drawn(6, 5, 7)[:, :1], lambda: drawn(1, 7, 4), [ONE]),
    "by columns": (lambda: drawn(3, 7, 5).swapaxes(1, 2), lambda: drawn(7, 4), [BATCHED]),
    "pairs": (lambda: drawn(2, 3, 5, 7), lambda: drawn(2, 3, 7, 4), [BATCHED]),
    "the left one for all": (lambda: drawn(5, 7), lambda: drawn(2, 3, 7, 4), [BATCHED]),
    "backwards": (lambda: drawn(3, 5, 7)[::-1], lambda: drawn(3, 7, 4), [BATCHED]),
    "heads": (
        lambda: drawn(2, 5, 3, 7).transpose(0, 2, 1, 3),
        lambda: drawn(2, 4, 3, 7).transpose(0, 2, 3, 1),
        [BATCHED] * 2,
    ),
    "all with all": (lambda: drawn(3, 1, 5, 7), lambda: drawn(1, 2, 7, 4), [BATCHED] * 2),
    "many heads of many": (
        lambda: drawn(20, 5, 18, 7).transpose(0, 2, 1, 3),
        lambda: drawn(20, 4, 18, 7).transpose(0, 2, 3, 1),
        [BATCHED],
    ),
    "a vector": (lambda: drawn(7), lambda: drawn(3, 7, 4), [BATCHED]),
    "two vectors": (lambda: drawn(7), lambda: drawn(7)[::-1], [ONE]),
    "by a vector": (lambda: drawn(2, 5, 7), lambda: drawn(14)[::2], [ONE]),
}


@pytest.mark.parametrize("name", STACKS)
def test_stacks(name: str, be: CudaBackend) -> None:
    left, right, calls = STACKS[name]
    a, b = left(), right()
    got = be.matmul(a, b)
    expected = a @ b
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert products(be) == calls


@pytest.mark.parametrize("shapes", [((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 0, 3), (3, 4))])
@pytest.mark.parametrize("dtype", EPS)
def test_products_of_nothing(shapes: Any, dtype: str, be: CudaBackend) -> None:
    a, b = (drawn(*shape, dtype=dtype) for shape in shapes)
    got = be.matmul(a, b)
    np.testing.assert_array_equal(got.astype(float), np.zeros((*a.shape[:-1], b.shape[-1])))
    assert got.dtype == a.dtype
    assert products(be) == []


def test_shapes_that_do_not_fit_are_refused_as_ever(be: CudaBackend) -> None:
    for a, b in (((2, 3), (2, 3)), ((2, 4, 3), (3, 3, 5)), ((3,), (2, 3))):
        with pytest.raises(ValueError, match="matmul|shape|broadcast"):
            be.matmul(drawn(*a), drawn(*b))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_infinity_and_nan_come_through(be: CudaBackend) -> None:
    a = np.array([[np.inf, 1.0], [np.nan, 0.0], [-np.inf, 2.0]], np.float32)
    b = np.array([[1.0, 2.0], [0.0, 1.0]], np.float32)
    np.testing.assert_array_equal(be.matmul(a, b), a @ b)
    np.testing.assert_array_equal(be.linear(a, b.T.copy(), b[0]), a @ b + b[0])


# A bias -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 7), (7,), (1, 7)], ids=str)
def test_a_bias_is_added_before_rounding(
    shape: tuple[int, ...], dtype: str, be: CudaBackend
) -> None:
    x, weight, bias = (drawn(*s, dtype=dtype) for s in (shape, (4, 7), (4,)))
    expected = x.astype(np.float64) @ weight.T.astype(np.float64) + bias.astype(np.float64)
    for has_epilogues in (True, False):
        be.runtime.cublas.has_epilogues = has_epilogues
        be.runtime.blas_lt._plans.clear()
        got = be.linear(x, weight, bias)
        assert got.dtype == x.dtype
        limit = EPS[dtype] * (0.51 if dtype in ("float16", "bfloat16") else 8)
        size = np.maximum(np.abs(expected), 1)
        assert np.all(np.abs(got.astype(np.float64) - expected) <= limit * size)
    assert products(be) == [WITH_BIAS, ONE]


@pytest.mark.parametrize(("epilogue", "finished"), [
    (cublas_lt.EPILOGUE_RELU_BIAS, lambda x: np.maximum(x, 0)),
    (cublas_lt.EPILOGUE_GELU_BIAS,
     lambda x: 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))),
])  # fmt: skip
def test_an_activation_is_applied(epilogue: int, finished: Any, be: CudaBackend) -> None:
    a, b, bias, out = drawn(5, 7), drawn(7, 4), drawn(4), np.empty((5, 4), np.float32)
    at = be.runtime.address
    lt = be.runtime.blas_lt
    operands = Operand(at(b), False, 4), Operand(at(a), False, 7), Operand(at(out), False, 4)
    assert lt.multiply(a.dtype, Sizes(4, 5, 7), *operands, at(bias), epilogue)
    np.testing.assert_allclose(out, finished(a @ b + bias), atol=1e-6)


def test_how_to_add_a_bias_is_asked_once_for_each_kind(
    be: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cublas_lt, "PLANS_KEPT", 3)
    library, asked = be.runtime.cublas, "cublasLtMatmulAlgoGetHeuristic"
    weight, bias = drawn(4, 7), drawn(4)
    for rows in (5, 5, 6, 5):
        be.linear(drawn(rows, 7), weight, bias)
    assert library.calls.count(asked) == 2
    held = len(library.objects)
    for rows in range(10, 20):
        be.linear(drawn(rows, 7), weight, bias)
    assert library.calls.count(asked) == 12
    assert len(library.objects) == held + 4  # of one more plan: those before it were freed
    gradient.set_float32_matmul_precision("high")
    try:
        be.linear(drawn(19, 7), weight, bias)
    finally:
        gradient.set_float32_matmul_precision("highest")
    assert library.calls.count(asked) == 13
    assert library.computes[-2:] == [cublas.COMPUTE_32F, cublas.COMPUTE_32F_FAST_TF32]


# 8-bit floats -------------------------------------------------------------------------------------


def float8(rows: int, columns: int, kind: Any = gradient.float8_e4m3fn) -> PackedArray:
    codes = drawn(rows, columns).astype(kind.element).view(np.uint8)
    return PackedArray(kind, (rows, columns), (codes,))


E4M3, E5M2 = gradient.float8_e4m3fn, gradient.float8_e5m2
ONE_NUMBER = np.array(0.5, np.float32), np.array(3.0, np.float32)
BY_ROWS = np.abs(drawn(5, 1)), np.abs(drawn(1, 32))
FLOAT8: dict[str, tuple[Any, ...]] = {
    # dtypes, scales, the bias's dtype, the result's; the epilogue; in how many bits it is added up
    "plain": (E4M3, E4M3, ONE_NUMBER, None, "float32", 1),
    "rounded": (E4M3, E4M3, ONE_NUMBER, None, "bfloat16", 1),
    "of e5m2": (E5M2, E4M3, ONE_NUMBER, None, "float16", 1),
    "a bias": (E4M3, E4M3, ONE_NUMBER, "bfloat16", "bfloat16", 4),
    "a bias that is cast": (E4M3, E4M3, ONE_NUMBER, "float32", "float16", 4),
    "a bias in float32": (E4M3, E4M3, ONE_NUMBER, "float32", "float32", 1),
    "by rows": (E4M3, E5M2, BY_ROWS, "bfloat16", "bfloat16", 1),
}


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("name", FLOAT8)
def test_8_bit_floats_are_multiplied_as_they_are(name: str, fast: bool, be: CudaBackend) -> None:
    left, right, scales, bias, result, epilogue = FLOAT8[name]
    a, b = float8(5, 48, left), transpose(float8(32, 48, right))
    added = None if bias is None else drawn(32, dtype=bias)
    dtype = gradient.dtypes.dtype_of(result).numpy
    be.unpack = None  # type: ignore[method-assign,assignment]
    got = be.scaled_matmul(a, b, *scales, added, dtype, fast)
    cpu = gradient.backends.get("cpu")
    expected = cpu.scaled_matmul(a, b, *scales, added, np.dtype(np.float64))
    assert got.dtype == dtype and products(be) == [WITH_BIAS]
    error = np.abs(got.astype(np.float64) - expected)
    summed = 2.0**-12 * np.abs(expected).max()  # in some 14 bits
    assert np.all(error <= 2 * EPS[result] * np.maximum(np.abs(expected), 1) + summed)
    (how,) = (o for o in be.runtime.cublas.objects.values() if "compute" in o)
    assert (how[7], how[25], how["compute"]) == (epilogue, fast, cublas.COMPUTE_32F)


@pytest.mark.parametrize("copied", [0, 1, 2])
def test_8_bit_floats_that_lie_otherwise_are_copied(copied: int, be: CudaBackend) -> None:
    a, b = float8(5, 48), transpose(float8(32, 48))
    if copied:
        b = PackedArray(b.dtype, b.shape, (np.ascontiguousarray(b.parts[0]),))
    if copied > 1:
        a = PackedArray(a.dtype, a.shape, (np.asfortranarray(a.parts[0]),))
    calls: list[int] = []
    contiguous = be.contiguous

    def counted(x: Any) -> Any:
        calls.append(x.ndim > 1 and not x.flags.c_contiguous)
        return contiguous(x)

    be.contiguous = counted  # type: ignore[method-assign]
    got = be.scaled_matmul(a, b, *ONE_NUMBER, None, np.dtype(np.float32))
    assert sum(calls) == copied and products(be) == [WITH_BIAS]
    expected = be.unpack(a) @ be.unpack(b) * np.float32(1.5)
    np.testing.assert_allclose(got, expected, rtol=0, atol=2.0**-12 * np.abs(expected).max())


@pytest.mark.parametrize("why", ["rows", "columns", "none", "older", "both", "double", "refused"])
def test_other_products_of_8_bit_floats_are_the_defaults(why: str, be: CudaBackend) -> None:
    m, k, n = {"rows": (5, 40, 32), "columns": (5, 48, 33), "none": (0, 48, 32)}.get(
        why, (5, 48, 32)
    )
    kind = E5M2 if why == "both" else E4M3
    be.runtime.has_float8_products = why != "older"
    be.runtime.cublas.has_epilogues = why != "refused"
    dtype = np.dtype(np.float64 if why == "double" else np.float32)
    a, b = float8(m, k, kind), transpose(float8(n, k, kind))
    got = be.scaled_matmul(a, b, *ONE_NUMBER, None, dtype)
    assert got.dtype == dtype and WITH_BIAS not in products(be)
    expected = be.unpack(a) @ be.unpack(b) * np.float32(1.5)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


# Numbers ------------------------------------------------------------------------------------------


def test_tensor_cores_round_float32_where_they_may(be: CudaBackend) -> None:
    switch: Any = gradient.backends.cuda.matmul  # type: ignore[attr-defined]
    a, b = drawn(3, 4), drawn(4, 5)
    try:
        for allowed in (False, True):
            switch.allow_tf32 = allowed
            for dtype in ("float32", "float64", "bfloat16"):
                kind = gradient.dtypes.dtype_of(dtype).numpy
                be.matmul(a.astype(kind), b.astype(kind))
    finally:
        switch.allow_tf32 = False
    plain, fast, double = cublas.COMPUTE_32F, cublas.COMPUTE_32F_FAST_TF32, cublas.COMPUTE_64F
    assert be.runtime.cublas.computes == [plain, double, plain, fast, double, plain]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_parts_of_a_sum_are_not_rounded_to_16_bits(dtype: str, be: CudaBackend) -> None:
    """As cuBLAS may add them up where it divides a sum among blocks, unless it is told not to."""
    a = np.array([[200, -200, 200, -200, 1]]).astype(gradient.dtypes.dtype_of(dtype).numpy)
    b = np.array([[200], [200], [200], [200], [1]]).astype(a.dtype)
    assert be.matmul(a, b) == 1
    assert be.linear(a, b.T.copy(), np.array([2], a.dtype)) == 3
    assert products(be) == [ONE, WITH_BIAS]


def test_int8_is_added_up_in_int32(be: CudaBackend) -> None:
    a, b = (DRAW.integers(-128, 128, shape).astype(np.int8) for shape in ((4, 600), (600, 8)))
    out, at = np.empty((4, 8), np.int32), be.runtime.address
    operands = Operand(at(b), False, 8), Operand(at(a), False, 600), Operand(at(out), False, 8)
    be.runtime.blas.multiply(a.dtype, Sizes(8, 4, 600), *operands)
    np.testing.assert_array_equal(out, a.astype(np.int32) @ b.astype(np.int32))


# Streams, memory and errors -----------------------------------------------------------------------


def test_each_stream_has_a_workspace_that_is_taken_once(be: CudaBackend) -> None:
    """So a product takes no memory of its own later, while a graph is captured."""
    a, taken, calls = drawn(2, 3), [], be.runtime.cublas.calls
    reserve = be.runtime.reserve
    be.runtime.reserve = lambda size: taken.append(size) or reserve(size)
    for stream in (7, 7, 9, 7):
        be.runtime.stream = lambda stream=stream: stream
        be.matmul(a, a.T)
    assert taken == [cublas.WORKSPACE] * 2
    assert [name for name in calls if "Stream_" in name or "Work" in name] == [
        "cublasSetStream_v2", "cublasSetWorkspace_v2"
    ] * 3  # fmt: skip


@pytest.mark.parametrize("status", [*cublas.STATUS, 99])
def test_a_status_is_told_in_words(status: int, be: CudaBackend) -> None:
    name = cublas.STATUS.get(status, ("status 99",))[0]
    a = drawn(2, 3)
    for function in (ONE, WITH_BIAS):
        be.runtime.cublas.failing = {function: status}
        with pytest.raises(
            BackendError, match=rf"cuBLAS refused a product of float32 matrices, .*: {name}, "
        ):
            be.matmul(a, a.T) if function == ONE else be.linear(a, a, drawn(2))


def test_an_older_library_is_named() -> None:
    with pytest.raises(DeviceError, match="cuBLAS has no nothing: expected the one of CUDA 12"):
        cublas.bind(object(), "nothing")


def test_no_library_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    pathfinder = pytest.importorskip("cuda.pathfinder", exc_type=ImportError)

    def missing(name: str) -> Any:
        raise pathfinder.DynamicLibNotFoundError(name)

    monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", missing)
    with pytest.raises(DeviceError, match="cublasLt was not found; pip install 'gradient-dl.cuda"):
        cublas.load("cublasLt")

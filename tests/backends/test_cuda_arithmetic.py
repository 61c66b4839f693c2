"""Operators on the CUDA backend's arrays by kernels: each of them, at the edges, in any layout and
dtype, beside NumPy's, run on the CPU; and what is left to CuPy."""

from __future__ import annotations

import ctypes
import operator
import shutil
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.backends.cuda.arithmetic import STRIDES, Arithmetic, CupyNumber
from gradient.backends.cuda.backend import CudaBackend
from gradient.backends.cuda.runtime import CupyRuntime
from gradient.dtypes.promotion import WideNumber
from support import fake_cupy
from support.cuda_emulation import ORDERS, EmulatedRuntime, FakeRuntime, kernel_names
from support.fake_device import DEVICE

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

DTYPES = ("float32", "float64", "float16", "bfloat16")
EDGES = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.1, 60000.0, -3.0, 1e-7, 2.5, 1 / 3]
FUNCTIONS: dict[str, Any] = {
    **{name: getattr(operator, name) for name in ("add", "sub", "mul", "truediv")},
    **{name: getattr(operator, name) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    "maximum": np.maximum, "minimum": np.minimum,
}  # fmt: skip


def numpy_of(dtype: str) -> np.dtype:
    return gradient.dtypes.dtype_of(dtype).numpy


@pytest.fixture(params=ORDERS, ids=("rising", "falling", "mixed"))
def arithmetic(request: pytest.FixtureRequest) -> Arithmetic:
    return EmulatedRuntime(request.param).arithmetic


@pytest.fixture
def one() -> Arithmetic:
    return EmulatedRuntime().arithmetic


def same(got: Any, expected: Any, zeros: bool = True) -> None:
    """Of one dtype and shape, and equal in every bit, but for those of NaN (and the sign of zeros,
    where NumPy's own functions differ in it)."""
    assert got is not None
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    got, expected = (np.asarray(x, np.float64) for x in (got, expected))
    np.testing.assert_array_equal(got, expected)
    number = ~np.isnan(expected) & (zeros | (expected != 0))
    np.testing.assert_array_equal(np.signbit(got)[number], np.signbit(expected)[number])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_two_arrays(name: str, dtype: str, arithmetic: Arithmetic) -> None:
    a, b = (x.ravel().astype(numpy_of(dtype)) for x in np.meshgrid(EDGES, EDGES))
    got = getattr(arithmetic, name)(a, b)
    same(got, FUNCTIONS[name](a, b), "imum" not in name)
    assert arithmetic.runtime.launched == [f"{kernel_of(name)}_{dtype}"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_array_and_a_number(name: str, dtype: str, one: Arithmetic) -> None:
    """On either side; it is rounded to the array's dtype first, as NumPy does."""
    x = np.array(EDGES, numpy_of(dtype))
    for number in (2, 0, 0.1, -0.0, 0.0, 3.0, np.inf, np.nan, 1e39, 70000, -7, 1e-50):
        number = float(number) if type(number) is np.float64 else number
        if dtype == "bfloat16":  # of which NumPy and CuPy make float32
            if name in ("lt", "le", "gt", "ge", "eq", "ne"):
                expected = FUNCTIONS[name](x.astype(np.float32), np.float32(number))
                same(getattr(one, name)(x, number), expected)
            else:
                assert getattr(one, name)(x, number) is getattr(one, name)(number, x) is None
            continue
        rounded = np.array(float(number)).astype(x.dtype)
        for of_array in (x, x[::2], x.reshape(-1, 1)):
            function = getattr(one, name)
            whole = np.full(of_array.shape, rounded)
            same(function(of_array, number), FUNCTIONS[name](of_array, whole), "imum" not in name)
            same(function(number, of_array), FUNCTIONS[name](whole, of_array), "imum" not in name)


def kernel_of(name: str) -> str:
    return {"gt": "lt", "ge": "le"}.get(name, name)


LAYOUTS: dict[str, tuple[Any, Any]] = {
    "0-d": (np.ones(()), np.ones(())),
    "a line": (np.ones(1003), np.ones(1003)),
    "a row": (np.ones((5, 24)), np.ones(24)),
    "a row of odd length": (np.ones((5, 23)), np.ones(23)),
    "one number": (np.ones((5, 24)), np.ones(())),
    "one number first": (np.ones((1, 1)), np.ones((5, 24))),
    "a column": (np.ones((5, 24)), np.ones((5, 1))),
    "a product of both": (np.ones((5, 1)), np.ones((1, 24))),
    "channels": (np.ones((2, 3, 4, 8)), np.ones((3, 1, 1))),
    "transposed": (np.ones((6, 16)), np.asfortranarray(np.ones((6, 16)))),
    "both transposed": (np.ones((6, 16)).T, np.ones((6, 16)).T),
    "backwards": (np.ones((6, 16))[::-1, ::-1], np.ones((6, 16))),
    "every second": (np.ones((6, 32))[:, ::2], np.ones((6, 16))),
    "a part of each row": (np.ones((6, 32))[:, 8:24], np.ones((6, 16))),
    "not aligned": (np.ones(33)[1:], np.ones(32)),
    "repeated": (np.broadcast_to(np.ones((4, 1)), (4, 16)), np.ones((4, 16))),
    "four axes": (np.ones((2, 1, 3, 1)), np.ones((1, 4, 1, 8))),
    "nothing": (np.ones((0, 3)), np.ones(3)),
    "nothing at all": (np.ones((2, 0)), np.ones((2, 0))),
}


def with_strides(like: np.ndarray, dtype: np.dtype, draw: Any) -> np.ndarray:
    """Numbers in an array of another dtype that lies in memory as `like` does."""
    base = like
    while base.base is not None:
        base = base.base
    memory = np.zeros(max(1, base.size) + 32, dtype)
    begin = -(memory.ctypes.data // dtype.itemsize) % (16 // dtype.itemsize)
    memory = memory[begin:][: max(1, base.size)]
    memory[...] = draw.standard_normal(memory.size)
    apart = like.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    steps = tuple(s // like.itemsize * dtype.itemsize for s in like.strides)
    return np.ndarray(like.shape, dtype, memory, apart // like.itemsize * dtype.itemsize, steps)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, dtype: str, arithmetic: Arithmetic) -> None:
    draw, numpy = np.random.default_rng(0), numpy_of(dtype)
    a, b = (with_strides(x, numpy, draw) for x in LAYOUTS[layout])
    same(arithmetic.sub(a, b), np.asarray(a - b))
    same(arithmetic.sub(b, a), np.asarray(b - a))
    same(arithmetic.lt(a, b), np.asarray(a < b))
    condition = with_strides(LAYOUTS[layout][1], np.dtype(np.int8), draw) > 0
    condition = np.ndarray(b.shape, bool, np.asarray(condition).copy())
    for x, y in ((a, b), (b, a), (a, 2.5), (0, b)):
        like = x if isinstance(x, np.ndarray) else y
        expected = np.where(condition, np.asarray(x, like.dtype), np.asarray(y, like.dtype))
        same(arithmetic.where(condition, x, y), expected)


def test_aligned_rows_are_read_by_16_bytes(one: Arithmetic) -> None:
    """Also beside one row, or one number for each row; not where rows end within 16 bytes."""
    packs = one.plan(4, True, ((5, 24), (96, 4), 4), ((24,), (4,), 4))
    assert (packs.items, packs.sides) == (5 * 6, 3)
    assert one.plan(4, True, ((5, 24), (96, 4), 4), ((5, 1), (4, 4), 4)).sides == 1
    for aligned, columns in ((False, 24), (True, 23)):
        row = (columns,), (4,), 4
        plan = one.plan(4, aligned, ((5, columns), (4 * columns, 4), 4), row)
        assert (plan.items, plan.sides) == (5 * columns, -1)


def test_large_arrays_have_many_blocks(one: Arithmetic) -> None:
    x = np.arange(40_000, dtype=np.float32)
    same(one.add(x, x), x + x)
    same(one.add(x.reshape(-1, 8), x[:8]), x.reshape(-1, 8) + x[:8])
    same(one.mul(x[::-1], 0.5), x[::-1] * np.float32(0.5))


@pytest.mark.parametrize("dtype", DTYPES)
def test_in_place(dtype: str, one: Arithmetic) -> None:
    draw, numpy = np.random.default_rng(0).standard_normal, numpy_of(dtype)
    for b in (draw((5, 24)), draw(24), draw((5, 1)), draw((1, 1)), 2.5, 3):
        if dtype == "bfloat16" and not isinstance(b, np.ndarray):
            continue
        b = b.astype(numpy) if isinstance(b, np.ndarray) else b
        for name in ("add", "sub", "mul", "truediv"):
            a = draw((5, 24)).astype(numpy)
            expected = FUNCTIONS[name](a, b)
            got = one.assigning(getattr(one, name))(a, b)
            assert got is a
            same(a, expected)
    a = draw(64).astype(numpy)
    expected = a + a
    assert one.add_to(a, a) is a
    same(a, expected)
    # What a kernel would read while another thread writes it; and results that do not fit.
    before = a.copy()
    assert one.add_to(a[1:], a[:-1]) is one.add_to(a[:1], a) is None
    assert one.add_to(a[::2], a[::2]) is one.add_to(a[:2], draw((3, 2)).astype(numpy)) is None
    np.testing.assert_array_equal(a, before)


def test_what_is_left_to_cupy(one: Arithmetic) -> None:
    x = np.ones((2, 3), np.float32)
    six = np.ones((2,) * 12, np.float32)[(slice(None), slice(0, 1)) * 6]
    refused: list[tuple[Any, Any]] = [
        (x, np.ones(3)), (x, x.astype(np.int64)), (x.astype(np.int64), x.astype(np.int64)),
        (x, x > 0), (x > 0, x > 0), (x, 1j), (x, np.float32(2)), (x, True), (x, None),
        (x, 1 << 60), (x, np.ones(4, np.float32)), (x.astype(np.complex64), x),
        (six, six.transpose(*range(11, -1, -1))),
    ]  # fmt: skip
    for a, b in refused:
        assert one.add(a, b) is None
        assert one.where(x > 0, a, b) is None or b is True
    assert one.where(x, x, x) is one.where(x > 0, 1, 2) is None
    assert one.runtime.launched == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_of_one_dtype(dtype: str, one: Arithmetic) -> None:
    """Functions of one array, casts of bools, and arrays filled with a number."""
    numpy = numpy_of(dtype)
    x = np.array(EDGES * 3, numpy)
    same(one.unary("neg")(x), -x)
    same(one.unary("abs")(x), abs(x))
    same(one.power(x, 2), x * x)
    same(one.power(x, 2.0), x * x)
    assert one.power(x, 3) is one.power(x, True) is one.power(x, x) is None
    for mask in (x > 0, (x > 0)[1:], x[:0] > 0, np.array(True)):
        same(one.from_bool(mask, numpy), mask.astype(numpy))
    for shape in ((), (1003,), (3, 0)):
        y = np.ones(shape, numpy)
        for number in (0.1, -0.0, np.inf, np.nan, 2, True):
            assert one.fill(y, number)
            same(y, np.full(shape, number, numpy))
    assert not one.fill(np.ones(2, np.int64), 1)


def test_every_kernel_runs() -> None:
    runtime = EmulatedRuntime()
    be = CudaBackend(0, runtime)
    for dtype in DTYPES:
        x = np.ones((3, 5), numpy_of(dtype))
        for y in (x, x[:1]):
            for name in FUNCTIONS:
                getattr(runtime.arithmetic, name)(x, y)
            runtime.arithmetic.where(x > 0, x, y)
        runtime.arithmetic.fill(x, 1)
        be.astype(x > 0, x.dtype)
    assert set(kernel_names("arithmetic")) == set(runtime.launched)


# Arrays of the device -----------------------------------------------------------------------------


def launched(function: Any) -> tuple[Any, list[str]]:
    runtime: Any = gradient.zeros(1, device=DEVICE).backend.runtime
    runtime.launched.clear()
    out = function()
    return out, list(runtime.launched)


@pytest.mark.usefixtures("without_inference_mode")
def test_operators_of_tensors_are_kernels() -> None:
    x = gradient.tensor([[1.0, -2.0, 3.0], [4.0, 5.0, 6.0]], device=DEVICE)
    row = x[0]
    calls: dict[str, Any] = {
        "add": lambda: x + x, "mul": lambda: 2 * x, "sub": lambda: 1 - x, "truediv": lambda: x / 4,
        "add_strided": lambda: x + row, "mul_strided": lambda: x.T * 2, "lt": lambda: x > 0,
        "le": lambda: x >= 0, "eq": lambda: x == x, "ne": lambda: x != 2, "neg": lambda: -x,
        "abs": lambda: x.abs(), "maximum": lambda: x.maximum(-x), "exp": lambda: x.exp(),
        "where": lambda: gradient.where(x > 0, x, x),
        "where_strided": lambda: gradient.where(row > 0, x, 0.5),
        "from_bool": lambda: (x > 0).float(),
        "fill": lambda: gradient.ones(3, device=DEVICE),
    }  # fmt: skip
    for kernel, call in calls.items():
        out, names = launched(call)
        assert names[-1] == f"{kernel}_float32"
        assert type(out.array) is x.backend.runtime.new_array
    assert launched(lambda: x**2)[1] == ["mul_float32"]
    assert launched(lambda: operator.iadd(x, x))[1] == ["add_float32"]
    assert x.tolist() == [[2, -4, 6], [8, 10, 12]]
    assert launched(lambda: operator.imul(x, 0.5))[1] == ["mul_float32"]
    x.backend.runtime.copied.clear()
    for kernel, call in {
        "add": lambda: x.add_(2), "sub": lambda: x.sub_(x), "mul": lambda: x.mul_(x),
        "truediv": lambda: x.div_(2),
    }.items():  # fmt: skip
        assert launched(call)[1] == [f"{kernel}_float32"]
        assert x.backend.runtime.copied == []
    assert launched(lambda: x.zero_())[1] == ["fill_float32"]
    assert launched(lambda: gradient.zeros(3, device=DEVICE))[1] == []


def test_gradients_add_up_in_place() -> None:
    x = gradient.ones(3, device=DEVICE, requires_grad=True)
    (x * 2).sum().backward()
    _, names = launched(lambda: (x * 2).sum().backward())
    assert names.count("add_float32") == 1
    assert x.grad is not None and x.grad.tolist() == [4, 4, 4]


def test_other_dtypes_are_cupys() -> None:
    whole = gradient.tensor([1, 2, 3], device=DEVICE)
    half = gradient.tensor([1.0, 2.0, 3.0], dtype=gradient.bfloat16, device=DEVICE)
    calls = (lambda: whole + whole, lambda: whole == 2, lambda: whole > 1, lambda: -whole)
    for call in calls:
        assert launched(call)[1] == []
    mixed, names = launched(lambda: half + gradient.ones(3, device=DEVICE))
    assert mixed.dtype == gradient.float32 and "add_float32" not in names
    assert (whole + whole).tolist() == [2, 4, 6]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_numbers_beside_16_bits_are_float32(dtype: str) -> None:
    """In products and quotients, as in PyTorch; sums and comparisons round them first. Each is one
    kernel, and so is its gradient."""
    values = np.linspace(-3, 3, 24).reshape(4, 6).astype(numpy_of(dtype))
    x = gradient.tensor(values.astype(np.float32), dtype=dtype, device=DEVICE, requires_grad=True)
    wide, rounded = values.astype(np.float32), np.float32(np.array(0.1).astype(values.dtype))
    calls: dict[str, tuple[Any, np.ndarray]] = {
        "mul": (lambda x: x * 0.1, wide * np.float32(0.1)),
        "truediv": (lambda x: 0.1 / x, np.float32(0.1) / wide),
        "add": (lambda x: x + 0.1, wide + rounded),
        "sub": (lambda x: 1 - x, 1 - wide),
        "lt": (lambda x: x > 0.1, wide > rounded),
        "mul_strided": (lambda x: x.T * 0.1, wide.T * np.float32(0.1)),
    }
    for kernel, (call, expected) in calls.items():
        out, names = launched(lambda call=call: call(x))
        assert names == [f"{kernel}_{dtype}"]
        expected = expected if expected.dtype == bool else expected.astype(values.dtype)
        same(out.array.get(), expected)
    _, names = launched(lambda: (x * 0.1).backward(gradient.ones_like(x)))
    assert names == [f"mul_{dtype}", f"fill_{dtype}", f"mul_{dtype}"]
    assert x.grad is not None and x.grad.dtype == x.dtype
    [first] = gradient.autograd.grad((x * x * 0.1).sum(), x, create_graph=True)
    [second] = gradient.autograd.grad(first.sum(), x)
    np.testing.assert_allclose(second.float().tolist(), 0.2, rtol=1e-2)
    # What is in more axes than the kernels take is CuPy's, with the same result.
    many = gradient.ones((2,) * 12, dtype=dtype, device=DEVICE)[(slice(None), slice(0, 1)) * 6]
    assert not any("mul" in name for name in launched(lambda: many * 0.1)[1])
    assert (many * 0.1).dtype == x.dtype
    same((many * 0.1).array.get(), np.full(many.shape, 0.1, np.float32).astype(values.dtype))


def test_arrays_that_cupy_made_take_part() -> None:
    """They are of its own class; whichever operand is ours has the operator."""
    runtime = FakeRuntime()
    ours = runtime.new_array((3,), np.dtype(np.float32))
    runtime.clear(ours)
    cupys = fake_cupy.module.asarray(np.ones(3, np.float32))
    assert type(cupys) is fake_cupy.ndarray
    for out in (ours - cupys, cupys - ours):
        assert type(out) is runtime.new_array
    assert runtime.launched == ["sub_float32", "sub_float32"]
    assert (cupys - ours).get().tolist() == [1, 1, 1]
    assert runtime.with_operators(cupys) is cupys and type(cupys) is runtime.new_array


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_numbers_beside_16_bits_that_cupy_made(dtype: str) -> None:
    """CuPy's functions return arrays of its own class, also gradients, whose operators are CuPy's:
    of a number beside them they make the same."""
    x = gradient.tensor([[1.0, 2.0], [3.0, 5.0]], dtype=dtype, device=DEVICE)
    assert type(x.cumsum(0).array) is fake_cupy.ndarray
    for of_cupy in (x.cumsum(0), x.prod(), gradient.cat([x] * 20)):
        ours = of_cupy.clone()
        ours.array.__class__ = x.backend.runtime.new_array
        for call in (
            lambda x: x * 0.1, lambda x: 0.1 / x, lambda x: x + 0.1, lambda x: 1 - x,
            lambda x: x > 0.1, lambda x: x == 3,
        ):  # fmt: skip
            same(call(of_cupy).array.get(), call(ours).array.get())
    x.requires_grad_()
    (x * 0.1).cumsum(0).backward(gradient.ones_like(x))
    assert x.grad is not None and x.grad.dtype == x.dtype
    np.testing.assert_allclose(x.grad.tolist(), [[0.2, 0.2], [0.1, 0.1]], rtol=1e-2)


def test_casts_of_integers_have_operators() -> None:
    """CuPy makes them, in its own class."""
    for made in (
        gradient.arange(3, device=DEVICE), gradient.tensor([True, False, True], device=DEVICE)[::2],
    ):  # fmt: skip
        x = made.float()
        assert type(x.array) is x.backend.runtime.new_array
        assert launched(lambda x=x: x * 2)[1] == ["mul_float32"]


# CuPy's own classes -------------------------------------------------------------------------------


def test_cupys_arrays_can_be_of_a_class_with_operators() -> None:
    cupy = pytest.importorskip("cupy", exc_type=ImportError)
    kind = type("Array", (cupy.ndarray,), {"__slots__": ()})
    memory = cupy.cuda.memory
    at = memory.MemoryPointer(memory.UnownedMemory(1 << 40, 1 << 20, None, 0), 0)
    x = kind((4, 6), np.dtype(np.float32), at)
    views = (x[1], x[:, ::2], x.T, x.reshape(-1), x[None], cupy.broadcast_to(x, (2, 4, 6)))
    assert {type(view) for view in views} == {kind}
    contiguous: Any = CupyRuntime.is_contiguous
    assert contiguous(x) and contiguous(x[1]) and not contiguous(x.T)
    runtime: Any = CupyRuntime.__new__(CupyRuntime)
    runtime.new_array = kind
    made = cupy.ndarray((4, 6), np.dtype(np.float32), at)
    assert runtime.with_operators(made) is made and type(made) is kind
    for name in ("add", "radd", "iadd", "neg", "abs", "pow", "lt", "eq"):
        assert callable(getattr(cupy.ndarray, f"__{name}__"))
    with pytest.raises(TypeError):
        hash(x)


def test_cupy_takes_numbers_beside_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses other classes of numbers than Python's and NumPy's; those it asks for an array."""
    cupy = pytest.importorskip("cupy", exc_type=ImportError)
    with pytest.raises(TypeError, match="Unsupported type"):
        cupy._core._scalar.CScalar(WideNumber(0.5))

    class Asked(Exception):  # noqa: N818
        pass

    def full(*told: Any) -> None:
        raise Asked(told)

    monkeypatch.setattr(cupy, "full", full)
    with pytest.raises(Asked) as asked:
        cupy.array(CupyNumber(0.5))
    assert asked.value.args == (((), 0.5, np.dtype(np.float32)),)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_number_is_given_by_its_bits(dtype: Any) -> None:
    pointer = pytest.importorskip("cupy", exc_type=ImportError).cuda.function.CIntptr
    runtime: Any = CupyRuntime.__new__(CupyRuntime)
    runtime.integer = pointer
    for value in (0.0, -0.0, 1.5, -2.5, 1e-300, np.inf, -np.inf, np.nan):
        given = runtime.real(value, np.dtype(dtype))
        expected = np.array(value, dtype).tobytes()
        assert ctypes.string_at(given.ptr, len(expected)) == expected


def test_the_structure_of_strides_is_that_of_the_kernels() -> None:
    assert STRIDES.itemsize == 8 + 4 * 12 + 3 * 4 * 8

"""What a Tensor does apart from its ops: creation, dtypes, indexing, views, the protocols of Python
and NumPy, errors. (The ops are in test_ops.py, comparisons with PyTorch in parity/.)"""

from __future__ import annotations

import copy
import itertools
import math
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import errors
from gradient.tensor.arguments import known_sizes

tensor = gradient.tensor


def host(t: Any) -> np.ndarray:
    return np.asarray(t.backend.to_numpy(t.array))


def same(t: Any, expected: Any) -> None:
    expected = np.asarray(expected)
    assert tuple(t.shape) == expected.shape
    np.testing.assert_array_equal(host(t), expected)


# Creation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [
        (True, "bool", ()),
        (3, "int64", ()),
        (3.0, "float32", ()),
        (math.nan, "float32", ()),
        ([], "float32", (0,)),
        ((), "float32", (0,)),
        ([[]], "float32", (1, 0)),
        ([1, 2], "int64", (2,)),
        ((1, 2.0), "float32", (2,)),
        ([True, 2], "int64", (2,)),
        ([True, False], "bool", (2,)),
        ([[1, 2, 3], [4, 5, 6]], "int64", (2, 3)),
        ([(1, 2), [3, 4]], "int64", (2, 2)),
        (range(4), "int64", (4,)),
        (np.float64(1.5), "float64", ()),
        (np.int8(1), "int8", ()),
        ([np.float64(1.5), 2], "float64", (2,)),
        ([np.int32(1), np.int32(2)], "int32", (2,)),
        ([np.int32(1), 2.5], "float32", (2,)),
        (np.zeros((2, 3)), "float64", (2, 3)),
        (np.zeros(3, np.float16), "float16", (3,)),
        (np.array(True), "bool", ()),
        ([np.zeros(2), np.ones(2)], "float64", (2, 2)),
        ([tensor(1), tensor(2)], "int64", (2,)),
        ([tensor(1.5, dtype=gradient.float64), 2], "float64", (2,)),
        ([tensor([1.5]), tensor([2.5])], "float32", (2,)),
        (tensor([1, 2], dtype=gradient.int16), "int16", (2,)),
    ],
)
def test_dtype_and_shape_of_data(data: Any, dtype: str, shape: tuple[int, ...]):
    made = tensor(data)
    assert (str(made.dtype), tuple(made.shape)) == (f"gradient.{dtype}", shape)
    assert made.is_leaf
    assert not made.requires_grad


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        ("abc", TypeError, "tensor: could not infer dtype of str"),
        (None, TypeError, "tensor: could not infer dtype of NoneType"),
        ([1, None], TypeError, "tensor: could not infer dtype of NoneType"),
        ({1: 2}, TypeError, "tensor: could not infer dtype of dict"),
        (
            [[1, 2], [3]],
            ValueError,
            "tensor: expected a rectangular nesting of sequences, got rows of unequal length",
        ),
        (
            [1, [2]],
            ValueError,
            "tensor: expected a rectangular nesting of sequences, got rows of unequal length",
        ),
        (2**63, ValueError, "tensor: expected ints from -2**63 to 2**63 - 1, got a larger one"),
        ([2**80], ValueError, "tensor: expected ints from -2**63 to 2**63 - 1, got a larger one"),
        (
            [tensor([1.0, 2.0])],
            ValueError,
            "tensor: expected tensors of one element in a sequence, got shape (2,); use stack() to "
            "join larger ones",
        ),
    ],
)
def test_data_that_is_no_tensor(data: Any, kind: type[Exception], message: str):
    with pytest.raises(kind) as raised:
        tensor(data)
    assert str(raised.value) == message
    assert isinstance(raised.value, errors.GradientError)


COPIES: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "tensor": (tensor, False),
    "as_tensor": (gradient.as_tensor, True),
    "asarray": (gradient.asarray, True),
    "from_numpy": (gradient.from_numpy, True),
    "from_dlpack": (gradient.from_dlpack, True),
    "as_tensor with its dtype": (lambda a: gradient.as_tensor(a, dtype=gradient.float32), True),
    "as_tensor with another": (lambda a: gradient.as_tensor(a, dtype=gradient.float64), False),
    "Tensor": (gradient.Tensor, False),
}


@pytest.mark.cpu_only
@pytest.mark.parametrize("name", COPIES)
def test_memory_is_shared_or_not(name: str):
    make, shared = COPIES[name]
    array = np.zeros(3, np.float32)
    made = make(array)
    assert np.shares_memory(made.numpy(), array) is shared
    array[0] = 7
    assert (made[0].item() == 7) is shared


@pytest.mark.parametrize(
    ("make", "values", "dtype"),
    [
        (lambda **o: gradient.zeros(2, 3, **o), np.zeros((2, 3)), "float32"),
        (lambda **o: gradient.zeros((2, 3), **o), np.zeros((2, 3)), "float32"),
        (lambda **o: gradient.ones([2], dtype=gradient.int8, **o), np.ones(2), "int8"),
        (lambda **o: gradient.zeros(gradient.Size((2, 1)), **o), np.zeros((2, 1)), "float32"),
        (lambda **o: gradient.zeros((), **o), 0.0, "float32"),
        (lambda **o: gradient.full((2,), 3, **o), [3, 3], "int64"),
        (lambda **o: gradient.full((2,), 3.5, **o), [3.5, 3.5], "float32"),
        (lambda **o: gradient.full((2,), True, **o), [True, True], "bool"),
        (lambda **o: gradient.full((2,), tensor(2.5), **o), [2.5, 2.5], "float32"),
        (lambda **o: gradient.arange(4, **o), [0, 1, 2, 3], "int64"),
        (lambda **o: gradient.arange(1, 4, **o), [1, 2, 3], "int64"),
        (lambda **o: gradient.arange(3, 0, -1, **o), [3, 2, 1], "int64"),
        (lambda **o: gradient.arange(0, 1, 0.25, **o), [0, 0.25, 0.5, 0.75], "float32"),
        (lambda **o: gradient.arange(3, dtype=gradient.float64, **o), [0, 1, 2], "float64"),
        (lambda **o: gradient.arange(0, **o), [], "int64"),
        (lambda **o: gradient.linspace(0, 1, 5, **o), [0, 0.25, 0.5, 0.75, 1], "float32"),
        (lambda **o: gradient.linspace(3, 3, 1, **o), [3], "float32"),
        (lambda **o: gradient.linspace(0, 1, 0, **o), [], "float32"),
        (lambda **o: gradient.logspace(0, 2, 3, **o), [1, 10, 100], "float32"),
        (lambda **o: gradient.logspace(0, 3, 4, base=2.0, **o), [1, 2, 4, 8], "float32"),
        (lambda **o: gradient.eye(2, **o), np.eye(2), "float32"),
        (lambda **o: gradient.eye(2, 3, dtype=gradient.bool, **o), np.eye(2, 3), "bool"),
        (lambda **o: gradient.tril_indices(2, 2, **o), [[0, 1, 1], [0, 0, 1]], "int64"),
        (lambda **o: gradient.triu_indices(2, 3, 1, **o), [[0, 0, 1], [1, 2, 2]], "int64"),
    ],
)
def test_functions_that_make_tensors(make: Any, values: Any, dtype: str, device: str):
    made = make(device=device)
    same(made, np.asarray(values))
    assert str(made.dtype) == f"gradient.{dtype}"
    assert made.device == device


LIKE = tensor([[1, 2, 3]], dtype=gradient.int32)


@pytest.mark.parametrize(
    ("made", "values", "dtype"),
    [
        (gradient.zeros_like(LIKE), [[0, 0, 0]], "int32"),
        (gradient.ones_like(LIKE, dtype=gradient.float64), [[1, 1, 1]], "float64"),
        (gradient.full_like(LIKE, 7), [[7, 7, 7]], "int32"),
        (LIKE.new_tensor([1.5]), [1], "int32"),
        (LIKE.new_zeros(2), [0, 0], "int32"),
        (LIKE.new_ones((2,), dtype=gradient.bool), [True, True], "bool"),
        (LIKE.new_full((2,), 5), [5, 5], "int32"),
    ],
)
def test_tensors_like_another(made: Any, values: Any, dtype: str):
    same(made, values)
    assert str(made.dtype) == f"gradient.{dtype}"


def test_shapes_of_uninitialised_tensors():
    assert gradient.empty(2, 3).shape == (2, 3)
    assert gradient.empty_like(LIKE).dtype is gradient.int32
    assert LIKE.new_empty(4).shape == (4,)


@pytest.mark.parametrize("n", [2, 3, 10, 1000])
def test_linspace_ends_exactly(n: int):
    points = gradient.linspace(0.1, 0.9, n, dtype=gradient.float64).tolist()
    assert (points[0], points[-1], len(points)) == (0.1, 0.9, n)
    np.testing.assert_allclose(points, np.linspace(0.1, 0.9, n), rtol=1e-15)


# Conversion ---------------------------------------------------------------------------------------

DTYPES = (
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
)  # fmt: skip
METHODS = {
    "double": "float64", "float": "float32", "half": "float16", "bfloat16": "bfloat16",
    "long": "int64", "int": "int32", "short": "int16", "char": "int8", "byte": "uint8",
    "bool": "bool",
}  # fmt: skip


@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("method", METHODS)
def test_methods_that_convert(source: str, method: str):
    x = tensor([0, 1, 2]).to(getattr(gradient, source))
    got = getattr(x, method)()
    assert str(got.dtype) == f"gradient.{METHODS[method]}"
    exact = {source, METHODS[method]} & {"bool"}
    assert got.float().tolist() == ([0, 1, 1] if exact else [0, 1, 2])
    assert (got is x) == (source == METHODS[method])


def test_to():
    x = tensor([1.5, 2.5])
    assert x.to(gradient.float32) is x
    assert x.to("cpu") is x
    assert x.to(gradient.device("cpu"), gradient.float32) is x
    assert x.to(gradient.float64).dtype is gradient.float64
    assert x.to(dtype=gradient.int64).tolist() == [1, 2]
    assert x.to(tensor(1)).dtype is gradient.int64
    assert x.type_as(tensor(1)).dtype is gradient.int64
    assert x.type() == "gradient.float32"
    assert x.type(gradient.int32).dtype is gradient.int32
    copied = x.to(gradient.float32, copy=True)
    assert copied is not x
    copied[0] = 9
    assert x[0].item() == 1.5
    with pytest.raises(errors.TypeMismatch) as raised:
        x.to(1.5)
    assert str(raised.value) == "to: expected a dtype, a device or a tensor, got 1.5"


# Promotion: PyTorch's rules ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        # dtypes of one category: the wider; of several: the higher category
        (tensor([1], dtype=gradient.int8), tensor([1], dtype=gradient.int32), "int32"),
        (tensor([1], dtype=gradient.uint8), tensor([1], dtype=gradient.int8), "int16"),
        (tensor([1]), tensor([1.0], dtype=gradient.float16), "float16"),
        (tensor([1.0], dtype=gradient.float16), tensor([1.0]).bfloat16(), "float32"),
        (tensor([True]), tensor([1], dtype=gradient.uint8), "uint8"),
        # a 0-d tensor counts only if its category is higher
        (tensor([1.0]), tensor(1.0, dtype=gradient.float64), "float32"),
        (tensor([1], dtype=gradient.int8), tensor(1), "int8"),
        (tensor([1]), tensor(1.0, dtype=gradient.float64), "float64"),
        (tensor(1.0), tensor(1.0, dtype=gradient.float64), "float64"),
        # a number counts less than that; a float is of the default dtype
        (tensor([1.0], dtype=gradient.float16), 1.5, "float16"),
        (tensor([1], dtype=gradient.int8), 300, "int8"),
        (tensor([1], dtype=gradient.int8), 1.5, "float32"),
        (tensor(1, dtype=gradient.int16), 1, "int16"),
        (tensor([True]), 1, "int64"),
        (tensor([True]), True, "bool"),
        (tensor([1.0]).bfloat16(), 2, "bfloat16"),
    ],
)
def test_promotion(a: Any, b: Any, expected: str):
    assert str(gradient.result_type(a, b)) == f"gradient.{expected}"
    if expected != "bool" and b != 300:
        assert str((a + b).dtype) == str((b * a).dtype) == f"gradient.{expected}"


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (lambda: tensor([1, 2]) / 2, "float32"),
        (lambda: tensor([1, 2]) / tensor([2, 2]), "float32"),
        (lambda: tensor([1, 2]) // 2, "int64"),
        (lambda: tensor([3]) ** 2, "int64"),
        (lambda: tensor([True, True]).sum(), "int64"),
        (lambda: tensor([1, 2], dtype=gradient.int8).sum(), "int64"),
        (lambda: tensor([1, 2], dtype=gradient.int8).sum(dtype=gradient.int8), "int8"),
        (lambda: tensor([1.0]).half().sum(), "float16"),
        (lambda: tensor([1, 2]).exp(), "float32"),
        (lambda: tensor([1, 2]) == 1, "bool"),
        (lambda: tensor([1.0]) * np.float64(2), "float32"),
        (lambda: tensor([1, 2]).cumsum(0), "int64"),
        (lambda: tensor([1.0, 2.0]).argmax(), "int64"),
    ],
)
def test_dtypes_of_results(result: Callable[[], Any], expected: str):
    assert str(result().dtype) == f"gradient.{expected}"


# Indexing -----------------------------------------------------------------------------------------

CUBE = np.arange(60).reshape(3, 4, 5)
INDICES: dict[str, Any] = {
    "int": 1,
    "negative int": -1,
    "NumPy int": np.int64(2),
    "ints": (1, 2),
    "all ints": (0, -1, 2),
    "slice": slice(1, 3),
    "open slice": slice(None, -1),
    "step": (slice(None), slice(None, None, 2)),
    "beyond the end": slice(1, 100),
    "empty slice": slice(2, 1),
    "ellipsis": (..., 1),
    "ellipsis between": (0, ..., slice(1, 3)),
    "ellipsis of nothing": (0, 1, ..., 2),
    "only ellipsis": ...,
    "no index": (),
    "new axis": None,
    "new axes": (None, 1, None, ..., None),
    "bool": True,
    "false": False,
    "list": [0, 2],
    "array of two dimensions": np.array([[0, 1], [2, 0]]),
    "tuple of lists": ([0, 2], [1, 3]),
    "range": (slice(None), range(2)),
    "array": np.array([2, 0, 2]),
    "array and int": (np.array([2, 0]), 1),
    "array and slice": (slice(1, 3), np.array([0, 0, 3])),
    "arrays that broadcast": (np.array([[0], [2]]), np.array([1, 3])),
    "arrays apart": (np.array([0, 2]), slice(None), np.array([1, 4])),
    "array, new axis, array": (np.array([0, 2]), None, np.array([1, 3])),
    "negative array": np.array([-1, -3]),
    "empty list": [],
    "empty array": np.array([], np.int64),
    "mask": CUBE % 3 == 0,
    "mask of rows": np.array([True, False, True]),
    "mask of two dimensions": CUBE[..., 0] % 2 == 0,
    "mask behind a slice": (slice(None), np.array([True, False, True, False])),
    "list of bools": [True, False, True],
    "empty mask": np.zeros((3, 4, 5), bool),
}


def as_tensors(key: Any) -> Any:
    """The index with tensors for arrays."""
    if isinstance(key, tuple):
        return tuple(as_tensors(k) for k in key)
    return tensor(key) if isinstance(key, np.ndarray) else key


@pytest.mark.parametrize("name", INDICES)
def test_getitem(name: str, device: str):
    key, x = INDICES[name], tensor(CUBE, device=device)
    same(x[key], CUBE[key])
    same(x[as_tensors(key)], CUBE[key])


@pytest.mark.parametrize("name", INDICES)
def test_setitem(name: str, device: str):
    key = INDICES[name]
    for value in (7, "array", "tensor"):
        x, expected = tensor(CUBE, device=device), CUBE.copy()
        if isinstance(value, str):
            shape = CUBE[key].shape
            new = np.full(shape[-1:], -3) if value == "array" else np.full(shape, -4)
        else:
            new = np.asarray(value)
        expected[key] = new
        x[as_tensors(key)] = tensor(new, device=device) if value == "tensor" else (
            new if isinstance(value, str) else value
        )  # fmt: skip
        same(x, expected)


@pytest.mark.parametrize("seed", range(100))
def test_random_indices(seed: int):
    """Any mixture of kinds, read and written. An int picks before arrays do, unlike in NumPy, which
    therefore takes the ints first here."""
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, 5, rng.integers(1, 5)))
    array = rng.standard_normal(size)
    n = int(rng.integers(1, 4))
    key: list[Any] = []
    for axis_size in size[: int(rng.integers(0, len(size) + 1))]:
        kind = rng.integers(0, 6)
        if kind == 0:
            key.append(int(rng.integers(-axis_size, axis_size)))
        elif kind == 1:
            first, last = sorted(rng.integers(-axis_size, axis_size + 1, 2).tolist())
            key.append(slice(first, last, int(rng.integers(1, 3))))
        elif kind == 2:
            key.append(rng.integers(-axis_size, axis_size, n))
        elif kind == 3:
            key.append(rng.integers(0, axis_size, (2, n)))
        elif kind == 4:
            key.append(slice(None))
        else:
            mask = np.zeros(axis_size, bool)
            mask[rng.integers(0, axis_size)] = True
            key.append(mask)
    if rng.random() < 0.3:
        key.insert(int(rng.integers(0, len(key) + 1)), None)
    if rng.random() < 0.3:
        key.append(...)
    index = tuple(key)
    x = tensor(array)
    sizes = [k for k in key if k is not None and k is not ...]
    part = array[(*(k if isinstance(k, int) else slice(None) for k in sizes), ...)]
    rest = tuple(k for k in key if not isinstance(k, int))
    same(x[as_tensors(index)], part[rest])
    part[rest] = 9.0
    x[as_tensors(index)] = 9.0
    same(x, array)


def test_an_int_picks_before_arrays():
    x = tensor(CUBE)
    same(x[0, :, [0, 1]], CUBE[0][:, [0, 1]])
    same(x[[0, 1], :, 2], CUBE[:, :, 2][[0, 1]])
    same(x[0, None, :, [0, 1]], CUBE[0][None][:, :, [0, 1]])
    same(x[tensor(0), ..., [0, 1]], CUBE[0][..., [0, 1]])
    x[0, :, [0, 1]] = tensor([[10, 11], [20, 21], [30, 31], [40, 41]])
    assert x[0, :, :2].tolist() == [[10, 11], [20, 21], [30, 31], [40, 41]]


def test_the_gradient_of_ints_and_arrays():
    x = tensor(CUBE.astype(float), requires_grad=True)
    weight = tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
    (x[1, :, [0, 4]] * weight).sum().backward()
    assert x.grad[1][:, [0, 4]].tolist() == weight.tolist()
    assert x.grad.sum().item() == weight.sum().item()


def test_an_index_of_one_number_gives_a_view():
    x = gradient.zeros(3)
    for i in gradient.arange(3):
        x[i].add_(1)
    x[np.int64(0)].add_(1)
    assert x.tolist() == [2.0, 1.0, 1.0]


def test_a_list_of_indices_is_a_tuple():
    """As in PyTorch, with a warning, where it holds more than numbers."""
    x = tensor(CUBE)
    for key in ([[0, 1], [2, 0]], [slice(0, 2), 1], [None, 0], [tensor(0), 1]):
        with pytest.warns(UserWarning, match="write x\\[a, b\\]"):
            found = x[key]
        same(found, CUBE[tuple(k.item() if isinstance(k, gradient.Tensor) else k for k in key)])


@pytest.mark.parametrize(
    "index", [[0], [2, 0, 2], [], [-1, 4, 0], [[1, 1], [3, 1]], [4] * 7], ids=str
)
def test_few_rows_of_16_bits_are_added_to(index):
    """Those alone are converted."""
    rng = np.random.default_rng(0)
    start, rows = rng.standard_normal((5, 3)), np.array(index, np.int64)
    value = rng.standard_normal((*rows.shape, 3))
    x = tensor(start).bfloat16()
    given = tensor(value).bfloat16()
    expected = x.float().numpy().copy()
    np.add.at(expected, rows, given.float().numpy())
    got = x.clone().index_put_((tensor(rows),), given, accumulate=True)
    gradient.testing.assert_close(got, tensor(expected).bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("half", [gradient.bfloat16, gradient.float16], ids=str)
def test_16_bit_floats_are_added_at_an_index_in_float32(half, device):
    """In 16 bits the sums would end at 256 or 2048, where adding 1 changes nothing."""
    index = gradient.zeros(5000, dtype=gradient.int64, device=device)
    ones = gradient.ones(5000, dtype=half, device=device)
    expected = tensor(5000.0, dtype=half).item()
    zeros = gradient.zeros(3, dtype=half, device=device)
    for method in ("index_add", "scatter_add"):
        assert getattr(zeros, method)(0, index, ones)[0].item() == expected
    assert zeros.clone().index_put_((index,), ones, accumulate=True)[0].item() == expected
    for pick in (
        lambda x: x.index_select(0, index), lambda x: x.gather(0, index), lambda x: x[index]
    ):  # fmt: skip
        x = gradient.ones(3, dtype=half, device=device).requires_grad_()
        pick(x).sum().backward()
        assert x.grad[0].item() == expected


@pytest.mark.parametrize("at", [-1, 3])
@pytest.mark.parametrize(
    "method", ["index_select", "index_add", "index_copy", "gather", "scatter", "scatter_add"]
)
def test_an_index_of_positions_out_of_range(method: str, at: int):
    x, index = gradient.zeros(3, 2), tensor([at])
    deep = method in ("gather", "scatter", "scatter_add")
    index = index.reshape(1, 1) if deep else index
    source = () if method in ("index_select", "gather") else (gradient.ones(1, 1 if deep else 2),)
    with pytest.raises(IndexError) as raised:
        getattr(x, method)(0, index, *source)
    assert str(raised.value) == (
        f"{method}: index {at} is out of bounds for dimension 0 with size 3"
    )


@pytest.mark.parametrize("dtype", [gradient.int64, gradient.int16, gradient.bool, gradient.float32])
def test_an_empty_index_of_gather_or_scatter_may_be_of_any_dtype(dtype):
    """As in PyTorch."""
    x = gradient.arange(6.0).reshape(3, 2).requires_grad_()
    none, source = gradient.zeros(0, 2, dtype=dtype), gradient.ones(0, 2)
    picked = x.gather(0, none)
    assert picked.shape == (0, 2) and picked.dtype is x.dtype
    (grad,) = gradient.autograd.grad(picked.sum(), x)
    assert grad.tolist() == [[0.0, 0.0]] * 3
    for kept in (
        x.scatter(0, none, source),
        x.scatter(0, none, 1.0),
        x.scatter_add(0, none, source),
        x.scatter_reduce(0, none, source, "sum"),
    ):
        assert kept.tolist() == x.tolist()


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("index_add", lambda x, d: x.index_add(0, tensor([0]), d[:1])),
        ("index_copy", lambda x, d: x.index_copy(0, tensor([0]), d[:1])),
        ("scatter", lambda x, d: x.scatter(0, tensor([[0]]), d)),
        ("masked_scatter", lambda x, d: x.masked_scatter(x == 0, d)),
    ],
)
def test_a_source_of_another_dtype_is_refused(method: str, call: Any):
    x = gradient.zeros(3, 2)
    with pytest.raises(RuntimeError, match=f"{method}: expected (source|src) of the input's dtype"):
        call(x, x.double())


def test_a_dimension_is_flipped_once():
    with pytest.raises(RuntimeError, match="flip: expected each dimension once"):
        tensor(CUBE).flip(0, -3)


def test_a_number_flipped_is_a_copy():
    x = tensor(1.5)
    flipped = x.flip(0)
    assert flipped.item() == 1.5
    flipped.zero_()
    assert x.item() == 1.5


def test_a_tensor_of_one_int_is_an_index():
    numbers = [10, 20, 30]
    assert numbers[tensor([[1]])] == numbers[tensor(1)] == numbers[tensor([True])] == 20


OF_CUBE = "(of a tensor of shape (3, 4, 5))"
OF_KINDS = "index: expected ints, slices, Ellipsis, None, or integer or bool tensors"


@pytest.mark.parametrize(
    ("key", "kind", "message"),
    [
        (5, IndexError, f"index 5 is out of bounds for dimension 0 with size 3 {OF_CUBE}"),
        ((0, -5), IndexError, f"index -5 is out of bounds for dimension 1 with size 4 {OF_CUBE}"),
        ((0, 0, 0, 0), IndexError,
         "too many indices for tensor of dimension 3: got 4 for shape (3, 4, 5)"),
        ([0, 3], IndexError, f"index 3 is out of bounds for dimension 0 with size 3 {OF_CUBE}"),
        ((0, tensor([[1], [4]])), IndexError,
         f"index 4 is out of bounds for dimension 1 with size 4 {OF_CUBE}"),
        ((tensor([0, 1]), tensor([0, 1, 2])), IndexError,
         "indexing tensors of shapes (2,) and (3,) do not broadcast together"),
        ([True, False], IndexError,
         "the shape of the mask (2,) does not match the shape of the indexed tensor (3, 4, 5) at "
         "dimension 0"),
        ((0, gradient.zeros(4, 0, dtype=gradient.bool)), IndexError,
         "the shape of the mask (4, 0) does not match the shape of the indexed tensor (3, 4, 5) at "
         "dimension 1"),
        ((..., 0, ..., 0), IndexError,
         "an index can only have a single Ellipsis ('...') before its last item"),
        (slice(None, None, -1), ValueError,
         "slice step must be positive, got -1; use flip() to reverse"),
        (slice(0.5, None), TypeError, "slice indices must be ints or None, got 0.5"),
        ("a", TypeError, f"{OF_KINDS}, got str"),
        (1.0, IndexError, f"{OF_KINDS}, got float"),
        (["a"], TypeError, "index: expected a sequence of ints or bools, got ['a']"),
        ((0, [[0, 1], [1]]), ValueError,
         "index: expected sequences of one length at each depth, got [[0, 1], [1]]"),
        (np.array([0.5]), IndexError,
         "tensors used as indices must be long, int, uint8 or bool tensors, got float64"),
        (tensor(0.0), IndexError,
         "tensors used as indices must be long, int, uint8 or bool tensors, got gradient.float32"),
        (tensor([0], dtype=gradient.int16), IndexError,
         "tensors used as indices must be long, int, uint8 or bool tensors, got gradient.int16"),
    ],
)  # fmt: skip
def test_indices_that_do_not_fit(key: Any, kind: type[Exception], message: str):
    x = tensor(CUBE)
    for use in (lambda: x[key], lambda: operator.setitem(x, key, 0)):
        with pytest.raises(kind) as raised:
            use()
        assert str(raised.value) == message
        assert isinstance(raised.value, errors.GradientError)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (0, tensor([1, 2, 3]),
         "setitem: a value of shape (3,) cannot be broadcast to the indexed part, of shape (4, 5)"),
        ([0, 1], tensor([1, 2, 3]),
         "setitem: a value of shape (3,) cannot be broadcast to the indexed part, of shape "
         "(2, 4, 5)"),
        (tensor(CUBE) < 2, gradient.zeros(2, 2, dtype=gradient.int64),
         "setitem: a value of shape (2, 2) cannot be broadcast to the indexed part, of shape (2,)"),
        ([0], tensor(1.5),
         "setitem: expected a value of the tensor's dtype at an index of tensors, "
         "gradient.int64, got gradient.float32; cast it with .to()"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit(key: Any, value: Any, message: str):
    with pytest.raises(RuntimeError) as raised:
        tensor(CUBE)[key] = value
    assert str(raised.value) == message


def test_a_value_with_more_leading_ones():
    x, w = gradient.zeros(2, 3), gradient.ones(1, 1, 1, 3, requires_grad=True)
    x[0] = w
    x[[1]] = w * 2
    assert x.tolist() == [[1.0] * 3, [2.0] * 3]
    (x * x).sum().backward()
    assert w.grad.tolist() == [[[[10.0] * 3]]]


# Views --------------------------------------------------------------------------------------------

VIEWS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "int": (lambda x: x[1], True),
    "slice": (lambda x: x[:, 1:3], True),
    "step": (lambda x: x[::2], True),
    "new axis": (lambda x: x[None], True),
    "array": (lambda x: x[[0, 1]], False),
    "mask": (lambda x: x[x >= 0], False),
    "reshape": (lambda x: x.reshape(4, 3), True),
    "reshape of a transpose": (lambda x: x.T.reshape(-1), False),
    "view": (lambda x: x.view(-1), True),
    "flatten": (lambda x: x.flatten(), True),
    "permute": (lambda x: x.permute(1, 0), True),
    "transpose": (lambda x: x.transpose(0, 1), True),
    "T": (lambda x: x.T, True),
    "squeeze": (lambda x: x.unsqueeze(0).squeeze(0), True),
    "expand": (lambda x: x.unsqueeze(0).expand(2, -1, -1), True),
    "narrow": (lambda x: x.narrow(1, 1, 2), True),
    "select": (lambda x: x.select(1, 2), True),
    "split": (lambda x: x.split(2)[0], True),
    "chunk": (lambda x: x.chunk(2, 1)[1], True),
    "unbind": (lambda x: x.unbind(0)[1], True),
    "detach": (lambda x: x.detach(), True),
    "data": (lambda x: x.data, True),
    "contiguous": (lambda x: x.contiguous(), True),
    "contiguous transpose": (lambda x: x.T.contiguous(), False),
    "clone": (lambda x: x.clone(), False),
    "flip": (lambda x: x.flip(0), False),
    "repeat": (lambda x: x.repeat(1, 1), False),
    "to another dtype": (lambda x: x.double(), False),
    "plus 0": (lambda x: x + 0, False),
    "tensor": (tensor, False),
    "deepcopy": (copy.deepcopy, False),
}


@pytest.mark.cpu_only
@pytest.mark.parametrize("name", VIEWS)
def test_views_share_memory(name: str):
    make, shared = VIEWS[name]
    x = gradient.arange(12, dtype=gradient.float32).reshape(3, 4)
    assert np.shares_memory(make(x).numpy(), x.numpy()) is shared


@pytest.mark.parametrize("name", [n for n, (_, shared) in VIEWS.items() if shared])
def test_writing_to_a_view_writes_to_its_base(name: str, device: str):
    if name == "expand":
        pytest.skip("one element of its memory stands for several of its own")
    x = gradient.zeros(3, 4, device=device)
    view = VIEWS[name][0](x)
    view.fill_(1)
    assert x.sum().item() == view.numel()


def test_a_view_that_would_have_to_copy():
    with pytest.raises(errors.ShapeError) as raised:
        gradient.zeros(3, 4).T.view(12)
    assert str(raised.value) == (
        "view: shape (4, 3) is not contiguous enough to be seen as (12,) without a copy; "
        "use .reshape(...)"
    )


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ((2, 3), (2, 3), "the dimensions to be summed over differ, 3 and 2"),
        ((5, 2, 3), (4, 3, 2), "the shapes do not broadcast, sizes 5 and 4 in dimension -3"),
    ],
)
def test_factors_that_do_not_fit(a: tuple[int, ...], b: tuple[int, ...], reason: str):
    with pytest.raises(errors.ShapeError) as raised:
        gradient.zeros(a) @ gradient.zeros(b)
    assert str(raised.value) == f"matmul: {reason} (input {a} float32, other {b} float32)"


def test_strides_and_contiguity():
    x = gradient.zeros(3, 4)
    assert (x.stride(), x.stride(0), x.T.stride()) == ((4, 1), 4, (1, 4))
    assert x.is_contiguous()
    assert not x.T.is_contiguous()
    assert x[1:].data_ptr() - x.data_ptr() == 16


# NumPy and other array libraries -----------------------------------------------------------------


@pytest.mark.cpu_only
def test_numpy_shares_memory():
    x = gradient.zeros(3)
    array = x.numpy()
    array[0] = 5
    assert x[0].item() == 5
    x[1] = 6
    assert array.tolist() == [5, 6, 0]


@pytest.mark.cpu_only
def test_a_tensor_is_an_array_to_numpy():
    x = tensor([[1.0, 2.0], [3.0, 4.0]])
    assert np.shares_memory(np.asarray(x), x.numpy())
    assert np.asarray(x, np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(x), x.numpy())
    assert np.array(x, copy=True).tolist() == x.tolist()
    assert np.concatenate([x, x]).shape == (4, 2)
    assert np.linalg.det(x.double().numpy()) == pytest.approx(-2)
    assert np.array([tensor(1), tensor(2)]).tolist() == [1, 2]


OPERATORS = (
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod,
    operator.pow, operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne,
)  # fmt: skip


@pytest.mark.parametrize("function", OPERATORS)
@pytest.mark.parametrize("other", [np.array([2.0, 3.0]), np.float64(2.0), np.int64(3)], ids=repr)
def test_operators_with_numpy_give_tensors(function: Any, other: Any):
    array = np.array([1.0, 4.0])
    x = tensor(array)
    for got, expected in (
        (function(x, other), function(array, other)),
        (function(other, x), function(other, array)),
    ):
        assert isinstance(got, gradient.Tensor)
        same(got, expected)


def test_matrix_product_with_numpy():
    array = np.arange(4.0).reshape(2, 2)
    x = tensor(array)
    got = array @ x
    assert isinstance(got, gradient.Tensor)
    same(got, array @ array)


def test_a_tensor_with_a_graph_is_not_given_away():
    x = gradient.ones(2, requires_grad=True)
    for use, hint in (
        (lambda: x.numpy(), "use tensor.detach().numpy()"),
        (lambda: np.asarray(x), "use tensor.detach().numpy()"),
        (lambda: np.from_dlpack(x), "use tensor.detach()"),
    ):
        with pytest.raises(RuntimeError) as raised:
            use()
        assert hint in str(raised.value)
    assert x.numpy(force=True).tolist() == [1, 1]


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != "bfloat16"])
def test_numpy_keeps_the_dtype(dtype: str):
    x = gradient.ones(2, dtype=dtype)
    assert x.numpy().dtype == np.dtype(dtype)
    assert gradient.from_numpy(x.numpy()).dtype is x.dtype


def test_from_numpy_takes_arrays_only():
    with pytest.raises(TypeError) as raised:
        gradient.from_numpy([1, 2])
    assert str(raised.value) == "from_numpy: expected an np.ndarray, got list"
    with pytest.raises(TypeError, match="one of dates"):
        gradient.from_numpy(np.zeros(2, "datetime64[s]"))


@pytest.mark.parametrize("layout", ["plain", "transposed", "every second"])
def test_from_numpy_takes_any_layout(layout: str):
    base = np.arange(12.0).reshape(3, 4)
    array = {"plain": base, "transposed": base.T, "every second": base[:, ::2]}[layout]
    x = gradient.from_numpy(array)
    same(x, array)
    same(x * 2 + 1, array * 2 + 1)


def test_cat_takes_dtype_and_gradient_of_vectors_of_size_0():
    none = gradient.zeros(0, dtype=gradient.float64, requires_grad=True)
    some = gradient.ones(2, 3, requires_grad=True)
    out = gradient.cat([none, some], 1)
    same(out, np.ones((2, 3)))
    out.sum().backward()
    assert none.grad.shape == (0,) and some.grad.dtype is gradient.float32
    assert gradient.cat([gradient.ones(2, 3, dtype=gradient.int64), none]).dtype is none.dtype
    with pytest.raises(IndexError):
        gradient.cat([none, some], 2)


def test_split_refuses_sizes_below_0():
    with pytest.raises(RuntimeError, match="positive split_size, got -1"):
        gradient.arange(0).split(-1)
    with pytest.raises(RuntimeError, match=r"sizes of at least 0, got \[4, -1\]"):
        gradient.arange(3).split([4, -1])


@pytest.mark.cpu_only
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_from_numpy_takes_the_numbers_of_a_subclass():
    """A matrix multiplies by `*` as by `@`, and one with a mask leaves numbers out of sums."""
    numbers = np.arange(4.0).reshape(2, 2)
    for array in (numbers.view(np.matrix), np.ma.masked_array(numbers, mask=numbers > 1)):
        x = gradient.from_numpy(array)
        same(x * x, numbers * numbers)
        same(x.sum(0), numbers.sum(0))
        assert x.sum().shape == () and np.shares_memory(x.numpy(), numbers)


@pytest.mark.cpu_only
def test_dlpack_with_numpy():
    x = gradient.arange(4, dtype=gradient.float32)
    array = np.from_dlpack(x)
    assert np.shares_memory(array, x.numpy())
    back = gradient.from_dlpack(np.arange(3))
    assert back.tolist() == [0, 1, 2]
    assert gradient.from_dlpack(x).data_ptr() == x.data_ptr()


@pytest.mark.cpu_only
@pytest.mark.parity
def test_dlpack_with_pytorch():
    torch = pytest.importorskip("torch")
    x = gradient.arange(4, dtype=gradient.float32)
    theirs = torch.from_dlpack(x)
    theirs[0] = 9
    assert x[0].item() == 9
    ours = gradient.from_dlpack(theirs)
    ours[1] = 8
    assert theirs.tolist() == [9, 8, 2, 3]
    assert gradient.from_dlpack(torch.ones(2, 3).T).shape == (3, 2)


# Python's protocols -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "convert", "expected"),
    [
        (3, int, 3), (3.7, int, 3), (-3.7, int, -3), (True, int, 1), ([5], int, 5),
        (3, float, 3.0), (2.5, float, 2.5), (True, float, 1.0), ([[2.5]], float, 2.5),
        (0, bool, False), (0.5, bool, True), (False, bool, False), ([1], bool, True),
        (3, operator.index, 3),
        ([1, 2, 3], len, 3), (np.zeros((2, 3)), len, 2), (np.zeros((0, 3)), len, 0),
        (3, lambda t: [10, 20, 30, 40][t], 40),
        (2, range, range(2)),
        (1.5, lambda t: t.item(), 1.5), ([3], lambda t: t.item(), 3),
        ([[1, 2], [3, 4]], lambda t: t.tolist(), [[1, 2], [3, 4]]),
        (1.5, lambda t: t.tolist(), 1.5), ([], lambda t: t.tolist(), []),
        (2.5, math.floor, 2), (-2, abs, 2), (3, operator.neg, -3),
        (3, operator.pos, 3), (5, operator.invert, -6),
        (1.23456, lambda t: f"{t:.2f}", "1.23"), (7, lambda t: f"{t:03d}", "007"),
        (2.5, lambda t: str(t.cpu()), "tensor(2.5000)"), (2.5, lambda t: f"{t}", "2.5"),
        ([1.5], lambda t: f"{t.cpu()}", "tensor([1.5000])"),
        ([1, 2], lambda t: 2 in t, True), ([1, 2], lambda t: 3 in t, False),
        ([1, 2], lambda t: [int(v) for v in t], [1, 2]),
        ([[1, 2], [3, 4]], lambda t: [row.tolist() for row in t], [[1, 2], [3, 4]]),
        ([1, 2, 3], lambda t: [v.item() for v in reversed(list(t))], [3, 2, 1]),
        ([[1, 2], [3, 4]], lambda t: dict(t.tolist()), {1: 2, 3: 4}),
        ([3, 1, 2], lambda t: sorted(int(v) for v in t), [1, 2, 3]),
        ([3, 1, 2], lambda t: int(max(t)), 3),
        ([3, 1, 2], lambda t: int(sum(t)), 6),
    ],
)  # fmt: skip
def test_conversions(value: Any, convert: Callable[[Any], Any], expected: Any, device: str):
    got = convert(tensor(value, device=device))
    got = got.item() if isinstance(got, gradient.Tensor) else got
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize(
    ("use", "kind", "message"),
    [
        (lambda: bool(gradient.ones(2)), RuntimeError,
         "Boolean value of Tensor with 2 elements is ambiguous; use .any() or .all()"),
        (lambda: bool(gradient.ones(0)), RuntimeError,
         "Boolean value of Tensor with 0 elements is ambiguous; use .any() or .all()"),
        (lambda: gradient.ones(2).item(), RuntimeError,
         "a Tensor with 2 elements cannot be converted to Scalar; index it first"),
        (lambda: int(gradient.ones(2)), RuntimeError,
         "a Tensor with 2 elements cannot be converted to Scalar; index it first"),
        (lambda: operator.index(tensor(1.5)), TypeError,
         "only integer tensors of a single element can be converted to an index"),
        (lambda: len(tensor(1)), TypeError, "len() of a 0-d tensor"),
        (lambda: list(tensor(1)), TypeError, "iteration over a 0-d tensor"),
        (lambda: f"{gradient.ones(2):.2f}", TypeError,
         "format: a tensor of shape (2,) takes no format '.2f'; format its elements"),
        (lambda: gradient.ones(2) + "a", TypeError,
         "add: expected a Tensor as other, got str"),
        (lambda: gradient.ones(2) + None, TypeError, None),
        (lambda: gradient.ones(2) < "a", TypeError, None),
        (lambda: gradient.ones(2) + gradient.ones(3), RuntimeError, None),
        (lambda: gradient.ones(2) @ gradient.ones(3), RuntimeError, None),
        (lambda: gradient.ones(2, 3).reshape(4, 2), RuntimeError,
         "shape '[4, 2]' is invalid for input of size 6"),
        (lambda: gradient.ones(2, 3).reshape(-1, 4), RuntimeError,
         "shape '[-1, 4]' is invalid for input of size 6"),
        (lambda: gradient.ones(2, 3).sum(2), IndexError,
         "dim: expected a dimension from -2 to 1, got 2"),
        (lambda: gradient.ones(2, 3).sum((0, 0)), RuntimeError,
         "dim 0 appears multiple times in the list of dims (0, 0)"),
        (lambda: gradient.ones(2, 3).permute(0, 0), RuntimeError,
         "permute: expected each of 2 dimensions once, got (0, 0)"),
        (lambda: gradient.zeros(2, 1.5), TypeError, "size: expected ints, got (2, 1.5)"),
        (lambda: gradient.zeros(2, -1), RuntimeError, None),
        (lambda: tensor([1, 2]).mean(), RuntimeError,
         "mean: expected a floating-point dtype, got gradient.int64; call .float() first"),
        (lambda: gradient.ones(0).max(), IndexError,
         "max(): expected a reduction over at least one element, got shape (0,) with dim None; "
         "give a dim whose size is not 0"),
        (lambda: tensor([True]) - tensor([True]), RuntimeError,
         "sub: not defined for these dtypes (input (1,) bool, other (1,) bool); cast with .to()"),
        (lambda: gradient.ones(3).topk(4), ValueError,
         "topk: expected 0 <= k <= 3 (the size of dim -1), got 4"),
        (lambda: tensor(1, requires_grad=True), RuntimeError,
         "only Tensors of floating point and complex dtype can require gradients, got "
         "gradient.int64"),
        (lambda: gradient.arange(0, 3, 0), ValueError,
         "arange: expected a step that is not 0, got 0"),
        (lambda: gradient.cat([]), ValueError, "cat: expected a list of tensors, got an empty one"),
        (lambda: gradient.stack([gradient.ones(2), gradient.ones(3)]), RuntimeError,
         "stack: expected tensors of equal size, got [2] at entry 0 and [3] at entry 1"),
        (lambda: gradient.einsum("ij,jk", gradient.ones(2, 2)), ValueError,
         "einsum: 'ij,jk' names 2 operands but 1 were given"),
    ],
)  # fmt: skip
def test_errors(use: Callable[[], Any], kind: type[Exception], message: str | None):
    with pytest.raises(kind) as raised:
        use()
    assert isinstance(raised.value, errors.GradientError)
    assert message is None or str(raised.value) == message


def test_comparison_with_what_is_no_number():
    x = gradient.ones(2)
    assert (x == "a") is False
    assert (x != None) is True  # noqa: E711
    assert (x == [1.0]) is False


def test_hash_and_identity():
    x, y = gradient.ones(2), gradient.ones(2)
    assert len({x, y, x}) == 2
    assert {x: 1}[x] == 1


def test_equal_and_allclose():
    x = tensor([1.0, 2.0])
    assert gradient.equal(x, x.clone())
    assert not gradient.equal(x, x[:1])
    assert gradient.allclose(x, x + 1e-7)
    assert not gradient.allclose(x, x + 1e-3)
    nan = tensor([math.nan])
    assert not gradient.allclose(nan, nan)
    assert gradient.allclose(nan, nan, equal_nan=True)
    inf = tensor([math.inf, -math.inf])
    assert gradient.allclose(inf, inf)
    assert not gradient.allclose(inf, -inf)


def copies(x: Any) -> list[Any]:
    pickles = [pickle.loads(pickle.dumps(x, protocol)) for protocol in range(2, 6)]  # noqa: S301
    return [copy.deepcopy(x), copy.copy(x), *pickles]


@pytest.mark.parametrize("dtype", DTYPES)
def test_copies_and_pickles(dtype: str):
    x = tensor([[0, 1], [1, 0]]).to(getattr(gradient, dtype))
    for y in copies(x):
        assert y is not x
        assert (y.dtype, y.shape, y.device) == (x.dtype, x.shape, x.device)
        assert y.tolist() == x.tolist()


def test_copies_keep_what_belongs_to_a_leaf():
    x = gradient.ones(2, requires_grad=True)
    (x * 3).sum().backward()
    deep = copy.deepcopy(x)
    assert deep.requires_grad
    assert deep.grad.tolist() == [3, 3]
    assert deep.grad is not x.grad
    assert pickle.loads(pickle.dumps(x)).requires_grad  # noqa: S301
    parameter = copy.deepcopy(gradient.nn.Parameter(gradient.ones(2)))
    assert isinstance(parameter, gradient.nn.Parameter)


def test_the_same_tensor_twice_is_copied_once():
    x = gradient.ones(2)
    a, b = copy.deepcopy([x, x])
    assert a is b


def test_a_result_is_not_copied():
    y = gradient.ones(2, requires_grad=True) * 2
    with pytest.raises(RuntimeError) as raised:
        copy.deepcopy(y)
    assert str(raised.value) == (
        "deepcopy: only tensors created explicitly by the user (graph leaves) can be copied "
        "deeply; use detach().clone()"
    )


# What it is ---------------------------------------------------------------------------------------


def test_properties(device: str):
    x = gradient.zeros(2, 3, dtype=gradient.float64, device=device)
    assert (x.ndim, x.dim(), x.numel(), x.nelement()) == (2, 2, 6, 6)
    assert (x.size(), x.size(0), x.size(-1)) == ((2, 3), 2, 3)
    assert (x.itemsize, x.element_size(), x.nbytes) == (8, 8, 48)
    assert x.is_floating_point()
    assert not x.long().is_floating_point()
    assert (x.is_leaf, x.requires_grad, x.grad, x.grad_fn) == (True, False, None, None)
    assert isinstance(x.shape, tuple)
    assert x.shape.numel() == 6


@pytest.mark.parametrize("dim", [2, -3])
def test_size_of_a_dimension_that_is_not(dim: int):
    with pytest.raises(IndexError) as raised:
        gradient.zeros(2, 3).size(dim)
    assert str(raised.value) == (f"dim: expected a dimension from -2 to 1, got {dim}")


def test_devices_compare_as_their_names():
    device = gradient.device("cpu")
    assert device == "cpu" == gradient.zeros(1).device
    assert (device.type, device.index) == ("cpu", None)
    assert repr(device) == "device(type='cpu')"
    assert device != gradient.device("cuda", 1) == "cuda:1"
    with pytest.raises(errors.DeviceError, match="nowhere"):
        gradient.zeros(1, device="nowhere")


# No mistake of a user comes out as an error of NumPy's or Python's --------------------------------

STRANGE: list[Any] = [
    None, 99, -99, 1.5, "a", (), (0, 0), (9,), [0, 5], object(), gradient.ones(7),
    tensor(3), tensor([9]), tensor([[0, 1]]), tensor([True, False]), {}, slice(None),
]  # fmt: skip
OTHER = {"backward", "register_hook", "register_post_accumulate_grad_hook"}


def public_methods() -> list[str]:
    return [
        name for name in dir(gradient.Tensor)
        if not name.startswith("_") and name not in OTHER
        and callable(getattr(gradient.Tensor, name))
    ]  # fmt: skip


@pytest.mark.parametrize("name", public_methods())
def test_mistakes_get_our_errors(name: str):
    """Every method, with arguments of every wrong kind: a result, or an error of ours, or Python's
    about the number and names of arguments."""
    every = [(v,) for v in STRANGE] + list(itertools.product(STRANGE, repeat=2))
    for x in (gradient.ones(2, 3), tensor(1.0), tensor([[1, 2]])):
        for arguments in every:
            try:
                with gradient.no_grad():
                    getattr(x.clone(), name)(*arguments)
            except errors.GradientError:
                pass
            except TypeError as error:
                if "argument" not in str(error):
                    raise AssertionError(f"{name}{arguments}: {error!r}") from error
            except Exception as error:
                raise AssertionError(f"{name}{arguments} of {x}: {error!r}") from error


def test_a_complex_alpha_and_source_are_taken(device: str) -> None:
    zeros, at = (
        gradient.zeros(2, dtype=gradient.complex64, device=device),
        tensor([0], device=device),
    )
    ones = gradient.ones(1, dtype=gradient.complex64, device=device)
    assert zeros.index_add(0, at, ones, alpha=2j).tolist() == [2j, 0]
    assert zeros.index_add(0, at, ones, alpha=1.5).tolist() == [1.5, 0]
    assert zeros.scatter(0, at, 1j).tolist() == [1j, 0]
    for dtype, alpha in ((gradient.float32, 2j), (gradient.int64, 3 + 2j)):
        source = gradient.ones(1, dtype=dtype, device=device)
        with pytest.raises(RuntimeError, match="index_add: expected as alpha a number"):
            gradient.zeros(2, dtype=dtype, device=device).index_add(0, at, source, alpha=alpha)


def test_parts_of_a_shape_are_shapes(device):
    shape = gradient.zeros(2, 3, 4, device=device).shape
    parts = {
        shape[:-1]: (2, 3),
        shape[::2]: (2, 4),
        shape[5:]: (),
        shape + (5,): (2, 3, 4, 5),
        (1,) + shape: (1, 2, 3, 4),
        shape + shape[:1]: (2, 3, 4, 2),
        shape[1:] * 2: (3, 4, 3, 4),
        2 * shape[:1]: (2, 2),
    }
    for part, expected in parts.items():
        assert type(part) is gradient.Size and part == expected
    assert shape[:-1].numel() == 6 and shape[:0].numel() == 1
    assert (shape[0], shape[-1]) == (2, 4) and type(shape[0]) is int
    assert gradient.zeros(shape[:-1], device=device).shape == (2, 3)
    np.testing.assert_array_equal(shape + np.array([1, 2, 3]), [3, 5, 7])
    np.testing.assert_array_equal(np.array([1, 2, 3]) + shape, [3, 5, 7])
    np.testing.assert_array_equal(shape * np.array([1, 2, 3]), [2, 6, 12])
    with pytest.raises(TypeError):
        shape + [1]
    with pytest.raises(TypeError):
        shape + ("a",)


def test_few_sizes_are_kept():
    for n in range(5000):
        assert gradient.empty(0, n).shape == (0, n)
    assert 0 < len(known_sizes) <= 4096
    assert all(type(size) is gradient.Size and size == key for key, size in known_sizes.items())

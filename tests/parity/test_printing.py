"""How tensors print: as PyTorch prints them, but for the name of the package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import gradient  # noqa: E402

INF, NAN = float("inf"), float("nan")
RNG = np.random.default_rng(0)


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (RNG.standard_normal(shape) * scale).astype(np.float32)


VALUES: dict[str, Any] = {
    # Numbers without dimensions
    "int": 3,
    "negative int": -3,
    "float": 1.5,
    "whole float": 2.0,
    "large float": 123456789.0,
    "small float": 1e-6,
    "bool": True,
    "nan": NAN,
    "inf": -INF,
    # Whole numbers
    "ints": [1, 20, -300],
    "int matrix": np.arange(12).reshape(3, 4),
    "wide ints": [10**15, 1],
    "bools": [True, False, True],
    "bool matrix": np.eye(3) > 0,
    "uint8": np.arange(5, dtype=np.uint8),
    "int8": np.array([-128, 127], np.int8),
    "int16": np.arange(3, dtype=np.int16),
    "int32": np.arange(6, dtype=np.int32).reshape(2, 3),
    "many ints": np.arange(60),
    "too many ints": np.arange(2000),
    # Floats
    "whole floats": [1.0, 2.0, 3.0],
    "whole floats of many widths": [1.0, -200.0, 30000.0],
    "whole floats, large": [1e9, 1.0],
    "whole floats, very large": [1e20, 2e20],
    "floats": [1.5, -2.25, 3.0],
    "floats of many widths": [1.5, -200.25, 3.0],
    "wide range": [1e-3, 1e3, 1.0],
    "range of a thousand": [0.5, 500.0],
    "range above a thousand": [0.5, 501.0],
    "small": [1e-5, 1e-5],
    "small and zero": [0.0, 1e-5, 2e-5],
    "zeros": [0.0, 0.0],
    "negative zero": [-0.0, 1.0],
    "nan among": [NAN, 1.0, 2.0],
    "nan among fractions": [NAN, 1.25, 2.0],
    "inf among": [INF, 1.0, -INF],
    "inf among fractions": [INF, 1.5, -INF],
    "only nan": [NAN, NAN],
    "only inf": [INF, -INF],
    "rounded up": [0.99999, 1.5],
    "nearly whole": [1.00001, 2.0],
    "large fractions": [123456.789, 654321.123],
    "above a hundred million": [2e8, 1.5e8],
    "float64": np.array([1.5, 2.5]),
    "float64 whole": np.array([1.0, 2.0]),
    "float64 scalar": np.float64(3.25),
    "float16": np.array([1.5, 2.5], np.float16),
    "float16 whole": np.array([1, 2], np.float16),
    # Dimensions
    "row": normal(1, 5),
    "column": normal(5, 1),
    "matrix": normal(3, 4),
    "wide matrix": normal(2, 20),
    "matrix, scaled": normal(3, 4, scale=1000),
    "cube": normal(2, 3, 4),
    "four dimensions": normal(2, 1, 2, 2),
    "five dimensions": normal(1, 2, 1, 2, 2),
    "long vector": normal(25),
    "at the threshold": normal(1000),
    "above the threshold": normal(1001),
    "many rows": normal(300, 4),
    "many columns": normal(3, 500),
    "many of both": normal(100, 100),
    "many cubes": normal(20, 20, 20),
    "seven of each": normal(7, 7, 30),
    "ints, many rows": np.arange(5000).reshape(1000, 5),
    # None
    "wide doubles": RNG.standard_normal((2, 5)),
    "doubles that fill the line": RNG.standard_normal((1, 6)) * 1000,
    "no numbers": [],
    "no rows": np.zeros((0, 3), np.float32),
    "no columns": np.zeros((3, 0), np.float32),
    "no ints": np.zeros(0, np.int64),
    "no bools": np.zeros(0, bool),
    "no int rows": np.zeros((0, 2), np.int64),
    "no doubles": np.zeros(0),
}


def theirs(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else torch.tensor(value)


def renamed(text: str) -> str:
    return text.replace("torch.", "gradient.")


@pytest.mark.parametrize("name", VALUES)
def test_repr(name: str):
    value = VALUES[name]
    ours = gradient.tensor(value)
    assert repr(ours) == renamed(repr(theirs(value)))
    assert str(ours) == renamed(str(theirs(value)))


@pytest.mark.parametrize("name", ["float", "floats", "matrix", "no rows", "float64"])
def test_a_tensor_that_requires_a_gradient(name: str):
    value = VALUES[name]
    ours = gradient.tensor(value, requires_grad=True)
    assert repr(ours) == renamed(repr(theirs(value).requires_grad_()))


@pytest.mark.parametrize("name", ["floats", "nan among", "matrix", "whole floats", "small"])
def test_bfloat16(name: str):
    ours = gradient.tensor(VALUES[name]).to(gradient.bfloat16)
    assert repr(ours) == renamed(repr(theirs(VALUES[name]).to(torch.bfloat16)))


@pytest.mark.parametrize("name", ["matrix", "wide matrix"])
def test_views(name: str):
    ours, reference = gradient.tensor(VALUES[name]), theirs(VALUES[name])
    assert repr(ours.T) == renamed(repr(reference.T))
    assert repr(ours[:, 1]) == renamed(repr(reference[:, 1]))
    assert repr(ours[0, 0]) == renamed(repr(reference[0, 0]))


@pytest.fixture
def as_before() -> Iterator[None]:
    yield
    gradient.set_printoptions(profile="default")
    torch.set_printoptions(profile="default")


@pytest.mark.parametrize(
    "options",
    [
        {"precision": 2},
        {"precision": 8},
        {"threshold": 5},
        {"threshold": 5, "edgeitems": 0},
        {"threshold": 0, "edgeitems": 0},
        {"threshold": 5, "edgeitems": 1},
        {"threshold": 5, "edgeitems": 2},
        {"linewidth": 40},
        {"linewidth": 200, "precision": 1},
        {"profile": "short"},
        {"profile": "full", "precision": 1},
        {"sci_mode": True},
        {"sci_mode": False},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "name", ["float", "matrix", "wide range", "zeros", "wide matrix", "cube", "ints", "long vector"]
)
def test_options(name: str, options: dict[str, Any], as_before: None):
    gradient.set_printoptions(**options)
    torch.set_printoptions(**options)
    assert repr(gradient.tensor(VALUES[name])) == renamed(repr(theirs(VALUES[name])))


def test_a_parameter():
    value = VALUES["matrix"]
    ours = gradient.nn.Parameter(gradient.tensor(value))
    assert repr(ours) == renamed(repr(torch.nn.Parameter(theirs(value))))


def test_a_size():
    assert repr(gradient.zeros(2, 3).shape) == renamed(repr(torch.zeros(2, 3).shape))


@pytest.mark.parametrize("spec", ["", ".3f", "8.2e", "g"])
def test_format_of_a_number(spec: str):
    assert format(gradient.tensor(1.23456), spec) == format(torch.tensor(1.23456), spec)


def test_format_of_an_array():
    assert f"{gradient.tensor([1.0, 2.0])}" == f"{torch.tensor([1.0, 2.0])}"

"""Writes to tensors that show elements of memory several times, as `expand` gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import gradient


def expanded(dtype: Any = gradient.float32, device: str = "cpu") -> Any:
    return gradient.ones(1, 3, dtype=dtype, device=device).expand(2, 3)


def on(x: Any, values: Any) -> Any:
    return gradient.tensor(values, device=x.device)


WRITES: dict[str, tuple[Callable[[Any], Any], list[float]]] = {
    "a row": (lambda x: x[0].copy_(on(x, [1.0, 2.0, 3.0])), [1, 2, 3]),
    "a row is set": (lambda x: x.__setitem__(1, on(x, [1.0, 2.0, 3.0])), [1, 2, 3]),
    "a row in place": (lambda x: x[0].mul_(3), [3, 3, 3]),
    "a number in a row": (lambda x: x.__setitem__((1, 2), 5.0), [1, 1, 5]),
    "one number": (lambda x: x.fill_(2), [2, 2, 2]),
    "zero": (lambda x: x.zero_(), [0, 0, 0]),
    "a column": (lambda x: x.__setitem__((slice(None), 1), 4), [1, 4, 1]),
}


@pytest.mark.parametrize("dtype", [gradient.float32, gradient.bfloat16, gradient.int64])
@pytest.mark.parametrize("name", WRITES)
def test_what_shows_no_place_twice_or_gets_one_number_is_written(name, dtype, device):
    x = expanded(dtype, device)
    write, row = WRITES[name]
    write(x)
    assert x.tolist() == [row, row]


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.add_(1),
        lambda x: x.mul_(2),
        lambda x: x.copy_(on(x, [[0.0] * 3] * 2)),
        lambda x: x.__setitem__((slice(None), 1), on(x, [1.0, 2.0])),
        lambda x: x.__setitem__(on(x, [0, 1]), on(x, [[1.0] * 3] * 2)),
    ],
)
def test_what_shows_a_place_twice_is_not(write, device):
    x = expanded(device=device)
    with pytest.raises(RuntimeError, match="clone"):
        write(x)
    assert x.tolist() == [[1.0] * 3] * 2


def test_nor_what_is_in_a_graph():
    x = gradient.ones(1, 3, requires_grad=True)
    y = (x * 2).expand(2, 3)
    with pytest.raises(RuntimeError, match="clone"):
        y[0] = 5.0


def test_nor_memory_that_is_read_only():
    import numpy as np

    given = np.ones(3, np.float32)
    given.flags.writeable = False
    x = gradient.from_numpy(given)
    for write in (lambda: x.fill_(2), lambda: x.expand(2, 3)[0].mul_(2), lambda: x[0].zero_()):
        with pytest.raises(RuntimeError, match="read-only"):
            write()
    assert given.tolist() == [1, 1, 1]


def test_windows(device):
    x = gradient.arange(5.0, device=device)
    windows = x.unfold(0, 3, 1)
    windows[0] = 9.0
    assert x.tolist() == [9, 9, 9, 3, 4]
    windows[:, 0] = on(x, [5.0, 6.0, 7.0])
    assert x.tolist() == [5, 6, 7, 3, 4]


def test_memory_that_its_owner_keeps_from_writes_is_not_written() -> None:
    numpy = pytest.importorskip("numpy")
    owner = numpy.zeros(4, numpy.float32)
    shown = owner[:]
    shown.flags.writeable = False
    x = gradient.from_numpy(shown)
    for each in (x, x[1:]):
        with pytest.raises(gradient.errors.AutogradError, match="cannot be written"):
            each[0] = 1
    assert not owner.any()

"""Random index expressions: what is read, written and differentiated is as in PyTorch.

Each program draws a tensor (of 0 to 4 dimensions, some of size 0 or 1) and an index of ints,
slices, None, Ellipsis, bools, lists, tensors of any number of dimensions and masks, some of which
do not fit. It reads, then writes a value that may need broadcasting. Compared are values, shapes,
gradients, second derivatives, whether the result shares memory, and the class of an error.
"""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import gradient  # noqa: E402

PER_TEST = 60


class Arrayed:
    """An index that each package gets as a tensor of its own."""

    def __init__(self, values: Any):
        self.values = np.asarray(values)

    def __repr__(self) -> str:
        return f"tensor({self.values.tolist()}, {self.values.dtype})"


def shape_for(rng: random.Random) -> tuple[int, ...]:
    return tuple(rng.choice([0, 1, 2, 2, 3, 3, 4]) for _ in range(rng.choice([0, 1, 2, 3, 3, 4])))


def position(rng: random.Random, size: int) -> int:
    """An index of a dimension, now and then one beyond it."""
    if rng.random() < 0.03:
        return rng.choice([size, -size - 1])
    return rng.randint(-size, size - 1) if size else 0


def array_for(rng: random.Random, size: int) -> Any:
    """Several indices of a dimension."""
    shape = rng.choice([(), (1,), (2,), (2,), (2,), (0,), (3, 2), (1, 2)])
    values = np.array([position(rng, size) for _ in range(int(np.prod(shape)))], np.int64)
    return Arrayed(values.reshape(shape))


def mask_for(rng: random.Random, sizes: tuple[int, ...]) -> Any:
    if sizes and rng.random() < 0.05:
        sizes = (sizes[0] + 1, *sizes[1:])
    bits = [rng.random() < 0.5 for _ in range(int(np.prod(sizes)))]
    return Arrayed(np.array(bits, bool).reshape(sizes))


def slice_for(rng: random.Random, size: int) -> slice:
    ends = [None, None, *range(-size - 1, size + 2)]
    return slice(rng.choice(ends), rng.choice(ends), rng.choice([None, None, 1, 2, 3]))


def key_for(rng: random.Random, size: tuple[int, ...]) -> Any:
    parts: list[Any] = []
    axis = 0
    while axis < len(size) and rng.random() < 0.85:
        kind = rng.choice(["int", "int", "slice", "slice", "tensor", "tensor", "list", "mask"])
        wide = 1
        if kind == "int":
            parts.append(position(rng, size[axis]))
        elif kind == "slice":
            parts.append(slice_for(rng, size[axis]))
        elif kind == "tensor":
            parts.append(array_for(rng, size[axis]))
        elif kind == "list":
            parts.append([position(rng, size[axis]) for _ in range(rng.choice([0, 1, 2, 2]))])
        else:
            wide = rng.randint(1, min(2, len(size) - axis))
            parts.append(mask_for(rng, size[axis : axis + wide]))
        axis += wide
    for extra, chance in ((None, 0.25), (True, 0.04), (False, 0.02), (Arrayed(True), 0.03)):
        if rng.random() < chance:
            parts.insert(rng.randint(0, len(parts)), extra)
    if rng.random() < 0.25:
        parts.insert(rng.choice([0, len(parts)]), ...)
    if rng.random() < 0.1:  # of several the first takes what is left
        parts.append(...)
    if rng.random() < 0.03:
        parts += [0] * (len(size) - axis + 1)  # too many
    return parts[0] if len(parts) == 1 and rng.random() < 0.7 else tuple(parts)


def drawn(seed: int) -> tuple[Any, tuple[int, ...]]:
    """The index and the shape of a program."""
    rng = random.Random(seed)
    size = shape_for(rng)
    return key_for(rng, size), size


def as_key(library: Any, key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(as_key(library, part) for part in key)
    if isinstance(key, Arrayed):
        dtype = getattr(library, key.values.dtype.name)
        return library.tensor(key.values.tolist(), dtype=dtype).reshape(key.values.shape)
    return key


def numbers(tensor: Any) -> np.ndarray:
    return tensor.detach().numpy().copy()


def derivatives(library: Any, y: Any, inputs: list[Any]) -> list[np.ndarray]:
    """The gradients of a cubic of `y`, and of the squares of these again."""
    loss = (y * y * y).sum()
    if not loss.requires_grad:
        return []
    firsts = library.autograd.grad(loss, inputs, create_graph=True, allow_unused=True)
    penalty = sum(((g * g).sum() for g in firsts if g is not None), library.zeros(()))
    seconds = [None] * len(inputs)
    if penalty.requires_grad:
        seconds = library.autograd.grad(penalty, inputs, allow_unused=True)
    return [
        np.zeros(x.shape) if g is None else numbers(g)
        for x, g in zip(inputs * 2, [*firsts, *seconds], strict=True)
    ]


def read(library: Any, seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    size = shape_for(rng)
    key = as_key(library, key_for(rng, size))
    base = np.random.default_rng(seed).standard_normal(size)
    x = library.tensor(base.tolist(), dtype=library.float64).reshape(size).requires_grad_()
    owner = x * 1
    y = owner[key]
    seen: dict[str, Any] = {"value": numbers(y), "derivatives": derivatives(library, y, [x])}
    with library.no_grad():
        plain = x.detach().clone()
        plain[key].add_(10)
    seen["written through"] = numbers(plain)
    return seen


def write(library: Any, seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    size = shape_for(rng)
    spec = key_for(rng, size)
    key = as_key(library, spec)
    draw = np.random.default_rng(seed)
    base = draw.standard_normal(size)
    part = list(part_of(spec, size))
    value_size = [n if rng.random() < 0.7 else 1 for n in part]
    value_size = rng.choice([value_size, value_size[len(value_size) // 2 :], [1, *value_size], []])
    if part and rng.random() < 0.05:
        value_size = [*value_size, 7]
    x = library.tensor(base.tolist(), dtype=library.float64).reshape(size).requires_grad_()
    values = draw.standard_normal(value_size)
    v = library.tensor(values.tolist(), dtype=library.float64).reshape(value_size).requires_grad_()
    target = x * 1
    if rng.random() < 0.2:
        target[key] = 0.5
    else:
        target[key] = v
    return {"value": numbers(target), "derivatives": derivatives(library, target, [x, v])}


def part_of(spec: Any, size: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what the index picks, by PyTorch; where it does not fit, none."""
    try:
        return tuple(torch.zeros(size)[as_key(torch, spec)].shape)
    except (IndexError, RuntimeError):
        return ()


def outcome(action: Any, library: Any, seed: int) -> Any:
    try:
        return action(library, seed)
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        return error


def family(error: Exception) -> Any:
    kinds = (IndexError, TypeError, ValueError, RuntimeError)
    return next(kind for kind in kinds if isinstance(error, kind))


def told(seed: int) -> str:
    key, size = drawn(seed)
    return f"seed {seed}: a tensor of {size} at {key}"


@pytest.mark.parametrize("action", [read, write])
@pytest.mark.parametrize("start", range(0, 6 * PER_TEST, PER_TEST))
def test_indices_as_pytorch(action, start):
    compared = 0
    for seed in range(start, start + PER_TEST):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = outcome(action, torch, seed)
        ours = outcome(action, gradient, seed)
        if isinstance(ours, Exception) and 0 in part_of(*drawn(seed)):
            continue  # where there is nothing to pick, PyTorch looks at neither index nor value
        if isinstance(theirs, Exception) or isinstance(ours, Exception):
            both = f"{told(seed)}: torch {theirs!r}, ours {ours!r}"
            assert isinstance(theirs, Exception), both
            assert isinstance(ours, family(theirs)), both
            continue
        compared += 1
        for what, expected in theirs.items():
            many = isinstance(expected, list)
            pairs = zip(ours[what], expected, strict=True) if many else [(ours[what], expected)]
            for mine, torchs in pairs:
                assert mine.shape == torchs.shape, f"{told(seed)}: {what}"
                np.testing.assert_allclose(
                    mine, torchs, rtol=1e-9, atol=1e-12, err_msg=f"{told(seed)}: {what}"
                )
    assert compared >= PER_TEST // 2

"""Numbers and shapes on the edges: zeros, ties, NaN, infinities, offsets, sizes 0 and 1."""

from __future__ import annotations

import math
import random
from typing import Any

from fuzzing.program import Array

FLOATS = ("float64", "float32", "float16", "bfloat16")
INTS = ("int64", "int32", "int16", "int8", "uint8")

STYLES = {"plain": 8, "ties": 5, "positive": 3, "special": 3, "offset": 2, "zeros": 1}
"""How a tensor's numbers are drawn, and how often."""


def _one(rng: random.Random, style: str) -> float:
    if style == "ties":
        return rng.choice((-1.0, 0.0, 0.0, 0.5, 1.0, 1.0, 2.0))
    if style == "positive":
        return round(rng.uniform(0.01, 0.99), 2)
    if style == "special" and rng.random() < 0.35:
        return rng.choice((math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-30, -1e30))
    if style == "offset":
        return 1e6 + round(rng.gauss(0, 3), 2)
    if style == "zeros":
        return 0.0
    return round(rng.gauss(0, 1.5), 2)


def _whole(rng: random.Random, dtype: str, wide: bool) -> int:
    if wide and rng.random() < 0.2:
        return rng.choice({"uint8": (255, 128), "int8": (127, -128)}.get(dtype, (1000, -999)))
    low = 0 if dtype == "uint8" else -3
    return rng.randint(low, 5)


def nested(numbers: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return numbers[0]
    step = len(numbers) // shape[0] if shape[0] else 0
    return tuple(nested(numbers[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0]))


def numbers(rng: random.Random, count: int, dtype: str, style: str) -> list[Any]:
    if dtype == "bool":
        return [rng.random() < 0.5 for _ in range(count)]
    if dtype in INTS:
        return [_whole(rng, dtype, style in ("special", "offset")) for _ in range(count)]
    if dtype == "float16" and style == "offset":
        return [1000 + _one(rng, "plain") for _ in range(count)]
    return [_one(rng, style) for _ in range(count)]


def array(
    rng: random.Random,
    shape: tuple[int, ...],
    dtype: str = "float64",
    style: str = "plain",
    requires_grad: bool = False,
) -> Array:
    layout = "contiguous"
    if shape and 0 not in shape and rng.random() < 0.3:
        layout = rng.choice(("stepped", "expanded", "transposed")[: 2 + (len(shape) > 1)])
    count = math.prod(shape)
    drawn = numbers(rng, count, dtype, style)
    if layout == "expanded":
        per = count // shape[0]
        drawn = drawn[:per] * shape[0]
    data = nested(drawn, shape)
    return Array(data, shape, dtype, layout, requires_grad and dtype in FLOATS)


def shape(rng: random.Random, most: int = 4) -> tuple[int, ...]:
    dims = rng.choices(range(most + 1), (2, 5, 7, 4, 1)[: most + 1])[0]
    return tuple(rng.choices((0, 1, 2, 3, 4, 5), (0.3, 2, 5, 5, 2, 0.5))[0] for _ in range(dims))


ORDINARY = (1, 2, 0.5, -1, 3.0, -0.5, 2)
EDGES = (0, 1, -1, 0.0, 0.5, 3, -1.5, 0.25, True, 1e6, math.nan, math.inf)


def scalar(rng: random.Random) -> Any:
    return rng.choice(EDGES if rng.random() < 0.3 else ORDINARY)

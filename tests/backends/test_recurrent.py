"""The recurrent layers' kernels against the composed definitions, at every number of sequences that
a tile of a product can have, and on the edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradient
from gradient.backends import get, small_calls
from gradient.backends.composed.recurrent import RecurrentDefaults

pytestmark = pytest.mark.cpu_only

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def operands(layer: str, steps: int, n: int, size: int, dtype: Any) -> list[Any]:
    """Arguments of a layer's method."""
    draws = np.random.default_rng(steps + n + size)
    gates = GATES[layer]
    shapes = {
        "lstm": [(n, size), (n, size), (gates * size, size)],
        "gru": [(n, size), (gates * size, size), (gates * size,)],
        "rnn": [(n, size), (gates * size, size)],
    }[layer]
    return [draws.standard_normal(s).astype(dtype) for s in [(steps, n, gates * size), *shapes]]


def results(owner: Any, layer: str, given: list[Any]) -> list[Any]:
    """What a layer's method gives, and the gradients for all its arguments."""
    be: Any = get("cpu")
    x, *rest = given
    weight = given[2] if layer != "lstm" else given[3]
    options = (False,) if layer == "rnn" else ()
    found = getattr(owner, layer)(be, *given, *options)
    found = found if isinstance(found, tuple) else (found,)
    grad = np.random.default_rng(1).standard_normal(found[0].shape).astype(x.dtype)
    # Of the same states, so that differences do not add up.
    settled = getattr(RecurrentDefaults, layer)(be, *given, *options)
    settled = settled if isinstance(settled, tuple) else (settled,)
    grads = getattr(owner, f"{layer}_grad")(be, grad, *settled, weight, *options)
    return [*found, *grads]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layer", GATES)
def test_every_number_of_sequences(layer: str, dtype: Any) -> None:
    tolerance = 2e-5 if dtype == np.float32 else 1e-12
    for n, size in [(n, size) for n in range(1, 15) for size in (1, 5, 16, 33)]:
        given = operands(layer, 3, n, size, dtype)
        with small_calls.repeated():
            found = results(type(get("cpu")), layer, given)
        for got, wanted in zip(found, results(RecurrentDefaults, layer, given), strict=True):
            assert got.shape == wanted.shape and got.dtype == wanted.dtype
            np.testing.assert_allclose(
                got, wanted, rtol=tolerance, atol=tolerance * max(1, np.abs(wanted).max())
            )


@pytest.mark.parametrize("layer", GATES)
def test_saturated_gates_and_numbers_that_are_none(layer: str) -> None:
    edges = [np.inf, -np.inf, np.nan, 1e30, -1e30, 100, -100, 88.5, -88.5, 1e-40, 0.0, -0.0]
    given = operands(layer, 2, 12, 20, np.float32)
    given[0][0, :, ::7] = np.array(edges, np.float32)[:, None]
    with small_calls.repeated():
        found = results(type(get("cpu")), layer, given)
    for got, wanted in zip(found, results(RecurrentDefaults, layer, given), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("layer", GATES)
def test_the_same_bits_on_any_number_of_threads(layer: str) -> None:
    given = operands(layer, 5, 37, 50, np.float32)
    threads, seen = gradient.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            gradient.set_num_threads(count)
            found = results(type(get("cpu")), layer, given)
            seen.append([x.tobytes() for x in found])
    finally:
        gradient.set_num_threads(threads)
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize("layer", GATES)
def test_a_sequence_does_not_depend_on_the_others(layer: str) -> None:
    be: Any = get("cpu")
    given = operands(layer, 4, 30, 40, np.float32)
    options = (True,) if layer == "rnn" else ()
    method, some = getattr(be, layer), slice(7, 10)
    states = 3 if layer == "lstm" else 2
    few = [given[0][:, some].copy(), *(s[some] for s in given[1:states]), *given[states:]]
    with small_calls.repeated():
        together, alone = method(*given, *options), method(*few, *options)
    together = together[0] if isinstance(together, tuple) else together
    alone = alone[0] if isinstance(alone, tuple) else alone
    assert together[..., some, :].tobytes() == alone.tobytes()

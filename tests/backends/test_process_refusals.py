"""What a device in another process refuses: indices out of range, divisors of 0. Like every error
of an op it raises when something is read next, and leaves all else as it was."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import nn, optim
from gradient.backends import process
from gradient.backends.process.client import Client
from gradient.tensor import Tensor
from support.array_backends import PROOFS

pytestmark = pytest.mark.cpu_only
assert "process" in PROOFS  # the example plugin's device
needs_mlx = pytest.mark.skipif(
    importlib.util.find_spec("mlx") is None, reason='MLX is not installed (extra "metal")'
)

REFUSED: dict[str, tuple[type[Exception], Callable[..., Tensor]]] = {
    "x[index]": (IndexError, lambda x, at: x[at(0, 4)]),
    "x[index], from the end": (IndexError, lambda x, at: x[at(-5, 0)]),
    "x[:, index, None]": (IndexError, lambda x, at: x[:, at(3)]),
    "index_copy, to a copy": (IndexError, lambda x, at: x.index_copy(0, at(0, 4), x[:2])),
    "index_add, to a copy": (IndexError, lambda x, at: x.index_add(0, at(0, 4), x[:2])),
    "index_select": (IndexError, lambda x, at: x.index_select(0, at(-1))),
    "gather": (IndexError, lambda x, at: x.gather(0, at([0, 1, 4]))),
    "gather, negative": (IndexError, lambda x, at: x.gather(0, at([0, 1, -1]))),
    "scatter, to a copy": (IndexError, lambda x, at: x.scatter(0, at([0, 1, 4]), 1.0)),
    "scatter_add, negative, to a copy": (
        IndexError,
        lambda x, at: x.scatter_add(0, at([0, -1, 1]), x[:1]),
    ),
    "embedding": (IndexError, lambda x, at: F.embedding(at(0, 4), x)),
    "embedding, negative": (IndexError, lambda x, at: F.embedding(at(-1), x)),
    "cross_entropy": (IndexError, lambda x, at: F.cross_entropy(x, at(0, 1, 2, 3))),
    "cross_entropy, negative": (IndexError, lambda x, at: F.cross_entropy(x, at(0, 1, 2, -1))),
    "nll_loss": (IndexError, lambda x, at: F.nll_loss(x, at(0, 1, 2, 3))),
    "of no elements": (IndexError, lambda x, at: x[:0][at(0)]),
    "integers // 0": (ValueError, lambda x, at: at(5, 7) // at(1, 0)),
    "number // 0": (ValueError, lambda x, at: 5 // at(1, 0)),
    "integers % 0": (ValueError, lambda x, at: at(5, 7) % at(1, 0)),
    "fmod": (ValueError, lambda x, at: gradient.fmod(at(5, 7), at(1, 0))),
    "trunc": (ValueError, lambda x, at: gradient.div(at(5, 7), at(1, 0), rounding_mode="trunc")),
}
PLACES = ["process", pytest.param("metal", marks=needs_mlx)]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", REFUSED)
def test_what_the_cpu_refuses_raises_at_the_next_read(name: str, place: str) -> None:
    kind, function = REFUSED[name]

    def given(device: str) -> tuple[Tensor, Callable[..., Tensor]]:
        x = gradient.arange(12, dtype=gradient.float32, device=device).view(4, 3)
        return x, lambda *rows: gradient.tensor(rows, device=device)

    x, at = given("cpu")
    with pytest.raises(kind):
        function(x, at)
    x, at = given(place)
    before = x.tolist()
    bad, good = function(x, at), x + 1  # nothing waits: neither raises
    with pytest.raises(process.PluginError, match=r"\(message \d+, at .*test_process_") as caught:
        good.tolist()
    assert isinstance(caught.value, kind)
    assert x.tolist() == before and good.tolist() == (x + 1).tolist()
    if not name.endswith("to a copy"):  # a write that fails leaves what there was: the copy
        for failed in (bad, bad + 1):
            with pytest.raises(kind):
                failed.tolist()


@pytest.mark.parametrize("place", PLACES)
def test_a_write_of_what_failed_leaves_what_there_was(place: str) -> None:
    x = gradient.arange(12, dtype=gradient.float32, device=place).view(4, 3)
    optimized = nn.Parameter(x.clone())
    optimizer = optim.AdamW([optimized], lr=0.1)
    rows, before = gradient.tensor([1, 4], device=place), x.tolist()
    writes: list[Callable[[Tensor], object]] = [
        lambda bad: x[:2].copy_(bad),
        lambda bad: x.add_(bad.sum()),
        lambda bad: x.index_add_(0, rows.clamp(max=3), bad),
        lambda bad: x.scatter_(0, rows.view(2, 1).clamp(max=3), bad),
        lambda _: x.__setitem__(rows, 1.0),
        lambda bad: (optimized.sum() * bad.sum()).backward(),
        lambda bad: optimizer.step(),
    ]
    bad = x[rows]
    for write in writes:
        write(bad)
    y = x + 1
    with pytest.raises(IndexError, match="index 4 is out of bounds for axis 0 with size 4"):
        y.tolist()
    assert x.tolist() == before == optimized.tolist()
    x[rows.clamp(max=3)] = 7.0
    assert x[:, 0].tolist() == [0, 7, 6, 7]


@pytest.mark.parametrize("place", PLACES)
def test_a_compiled_function_refuses_what_eager_code_does(place: str) -> None:
    table = gradient.arange(12, dtype=gradient.float32, device=place).view(4, 3)

    @gradient.compile(fullgraph=True)
    def look_up(index: Tensor) -> Tensor:
        return F.embedding(index, table) * 2

    good = gradient.tensor([3, 0], device=place)
    for _ in range(4):
        assert look_up(good).tolist() == [[18, 20, 22], [0, 2, 4]]
    bad = look_up(gradient.tensor([0, -1], device=place))
    for _ in range(2):
        with pytest.raises(IndexError, match="index -1 is out of bounds for axis 0 with size 4"):
            bad.tolist()
    assert look_up(good).tolist() == [[18, 20, 22], [0, 2, 4]]


@pytest.mark.parametrize("place", PLACES)
def test_checks_are_no_round_trips(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = gradient.ones(4, 3, device=place)
    index = gradient.tensor([1, 2], device=place)
    # Of answers it may wait for the news of how far the plugin is, once in thousands of messages.
    monkeypatch.setattr(Client, "request", lambda self, *message: pytest.fail("it waits"))
    for _ in range(400):  # more than a plugin keeps until they are read
        table = table + F.embedding(index, table).sum() * 0 + (index // index).sum() * 0
        table[index] = table[index]
    monkeypatch.undo()
    assert table.tolist() == [[1.0] * 3] * 4


EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-20, -1e-20, 1e-4, 30.0, -30.0, 1e10, -1e10, 1e30, -1e30,
         float("inf"), -float("inf"), float("nan")]  # fmt: skip
EXTREME = ("asinh", "acosh", "atanh", "sinh", "cosh", "tanh", "sigmoid", "erf", "expm1", "log1p")


@pytest.mark.parametrize("place", ["bare", *PLACES])
@pytest.mark.parametrize("name", EXTREME)
def test_functions_at_their_extremes(name: str, place: str) -> None:
    x = gradient.tensor(EDGES)
    expected = getattr(x, name)().numpy()
    got = getattr(x.to(place), name)().cpu().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    zero = expected == 0
    assert (np.signbit(got[zero]) == np.signbit(expected[zero])).all()


@pytest.mark.parametrize("place", ["cpu", "bare", *PLACES])
@pytest.mark.parametrize("name", ["asinh", "atanh", "sinh", "tanh", "erf", "expm1", "log1p"])
def test_functions_that_keep_the_sign_of_zero(name: str, place: str) -> None:
    for dtype in (gradient.float32, gradient.float64, gradient.bfloat16):
        x = gradient.tensor([-0.0, 0.0], dtype=dtype).to(place)
        got = getattr(x, name)().cpu().to(dtype=gradient.float64).numpy()
        assert (got == 0).all() and np.signbit(got).tolist() == [True, False]


@pytest.mark.parametrize("place", PLACES)
def test_powers_of_integers(place: str) -> None:
    base, exponent = [[2], [-1], [1], [-3]], [-2, -1, 0, 1, 3]
    found = []
    for device in ("cpu", place):
        a, b = (gradient.tensor(x, device=device) for x in (base, exponent))
        found.append([(a**b).tolist(), (2**b).tolist(), (a**3).tolist()])
        with pytest.raises(ValueError, match="negative integer powers are not allowed"):
            a**-1
    assert found[0] == found[1]

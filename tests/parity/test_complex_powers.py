"""Powers of complex numbers that overflow, beside PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradient

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.parity, pytest.mark.cpu_only]

PARTS = [0, 1, -1, 0.5, 300, -300, 1e30]


def kinds(x: Any) -> list[list[str]]:
    return [
        ["nan" if np.isnan(p) else "inf" if np.isinf(p) else "finite" for p in parts]
        for parts in (x.real, x.imag)
    ]


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("n", [1, 2, 3, 16, 100, -1, -40, 15.5, 16 + 2j, 3j])
def test_overflow(n: complex, dtype: str) -> None:
    parts = PARTS[:-1] if n in (2, 3) else PARTS  # whose products PyTorch rounds by position
    values = [complex(a, b) for a in parts for b in parts]
    for power in (
        lambda t, x: x**n,
        lambda t, x: n**x,
        lambda t, x: 300**x,
        lambda t, x: x ** t.full_like(x, n),
    ):
        ours, theirs = (
            power(t, t.tensor(values, dtype=getattr(t, dtype))).numpy() for t in (gradient, torch)
        )
        assert kinds(ours) == kinds(theirs)


def test_an_infinity_keeps_its_other_part() -> None:
    x = gradient.tensor([16 + 0j])
    assert str((300**x).numpy()[0]) == "(inf+0j)"

"""Tensors that are made by a rule have PyTorch's numbers to the bit, where it counts in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import gradient  # noqa: E402


def test_linspace_in_float32():
    rng = np.random.default_rng(0)
    for _ in range(300):
        start, end = rng.standard_normal(2) * 10
        steps = int(rng.integers(1, 200))
        got = gradient.linspace(start, end, steps).numpy()
        np.testing.assert_array_equal(got, torch.linspace(start, end, steps).numpy())


@pytest.mark.parametrize("equation", ["bld,dn->bldn", "i,j->ij", "ij,ij->ij", "i,i->i", "ij,j->ji"])
def test_einsum_without_a_sum_promotes_dtypes(equation):
    sizes = dict(b=2, l=3, d=4, n=2, i=3, j=4)
    arrays = [
        np.random.default_rng(at).standard_normal([sizes[c] for c in term]).astype(dtype)
        for at, (term, dtype) in enumerate(
            zip(equation.partition("->")[0].split(","), ("float32", "float64"), strict=True)
        )
    ]
    expected = torch.einsum(equation, *map(torch.from_numpy, arrays))
    got = gradient.einsum(equation, *map(gradient.from_numpy, arrays))
    assert str(got.dtype) == str(expected.dtype).replace("torch", "gradient")
    np.testing.assert_array_equal(got.numpy(), expected.numpy())


@pytest.mark.parametrize("package", [gradient, torch], ids=["gradient", "torch"])
def test_a_file_is_mapped(package: Any, tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    np.arange(4, dtype=np.float32).tofile(path)
    private = package.from_file(str(path), size=3)
    private.mul_(2)
    assert private.tolist() == [0.0, 2.0, 4.0]
    assert np.fromfile(path, np.float32).tolist() == [0.0, 1.0, 2.0, 3.0]
    shared = package.from_file(str(path), shared=True, size=6, dtype=package.float32)
    shared[5] = 7
    assert np.fromfile(path, np.float32).tolist() == [0.0, 1.0, 2.0, 3.0, 0.0, 7.0]
    assert package.from_file(str(path), size=0).shape == (0,)
    assert package.from_file(str(path), size=2, dtype=package.int16).dtype == package.int16
    with pytest.raises((RuntimeError, ValueError)):
        package.from_file(str(path), size=100)
    with pytest.raises(RuntimeError):
        package.from_file(str(path), size=-1)
    with pytest.raises((RuntimeError, OSError)):
        package.from_file(str(tmp_path / "nowhere"), size=1)

"""Datasets that collate by themselves give what `default_collate` makes of their samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.data import DataLoader, TensorDataset
from gradient.data.collate import default_collate
from gradient.data.token_file import TokenFile, TokenWriter
from gradient.errors import IndexOutOfRange


def tensors() -> Any:
    x = gradient.arange(60.0).reshape(10, 2, 3)
    return TensorDataset(x, gradient.arange(10), gradient.tensor([True, False] * 5))


@pytest.fixture
def windows(tmp_path: Path) -> Any:
    with TokenWriter(tmp_path / "tokens.bin", vocab_size=70000) as writer:
        writer.write(np.arange(100) * 700)
    return TokenFile(tmp_path / "tokens.bin").windows(7, stride=5)


@pytest.mark.parametrize("kind", ["tensors", "windows"])
@pytest.mark.parametrize("indices", [[0], [3, 1, 3], [-1, 2, -10], [np.int64(4), 5]])
def test_as_default_collate(kind: str, indices: list[int], windows: Any) -> None:
    dataset = tensors() if kind == "tensors" else windows
    found = dataset.collated(indices)
    wanted = default_collate([dataset[i] for i in indices])
    assert type(found) is type(wanted)
    for x, y in zip(found, wanted, strict=True):
        assert x.dtype == y.dtype and x.tolist() == y.tolist()
        assert x.is_contiguous()
    found[0][:] = 1 if kind == "windows" else 0
    assert found[1].tolist() == wanted[1].tolist()  # no memory is shared
    assert dataset[indices[0]][0].tolist() != found[0][0].tolist()


@pytest.mark.parametrize("index", [10, -11])
def test_an_index_out_of_range(index: int) -> None:
    with pytest.raises(IndexError):
        tensors().collated([0, index])


def test_a_window_out_of_range(windows: Any) -> None:
    with pytest.raises(IndexOutOfRange, match="windows: index 19 of 19"):
        windows.collated([0, len(windows)])


def test_gradients_reach_the_tensors() -> None:
    x = gradient.ones(4, 3, requires_grad=True)
    (batch,) = next(iter(DataLoader(TensorDataset(x), batch_size=2)))
    batch.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[1.0] * 3] * 2 + [[0.0] * 3] * 2


def test_a_subclass_with_other_samples_is_asked_for_them() -> None:
    class Doubled(TensorDataset):
        def __getitem__(self, index: Any) -> Any:
            return tuple(2 * x for x in super().__getitem__(index))

    class Named(TensorDataset):
        pass

    x = gradient.arange(4.0)
    assert next(iter(DataLoader(Doubled(x), batch_size=4)))[0].tolist() == [0.0, 2.0, 4.0, 6.0]
    assert next(iter(DataLoader(Named(x), batch_size=4)))[0].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_collate_fn_of_ones_own_gets_samples() -> None:
    loader = DataLoader(tensors(), batch_size=2, collate_fn=lambda samples: len(samples[0]))
    assert list(loader) == [3] * 5

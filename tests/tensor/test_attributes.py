"""Attributes that programs give tensors, as on PyTorch's, and their `repr`."""

from __future__ import annotations

import copy
import pickle
import tracemalloc

import pytest

import gradient
from gradient import nn


def test_a_tensor_keeps_attributes() -> None:
    for x in (gradient.ones(2), gradient.ones(2) + 1, nn.Parameter(gradient.ones(2))):
        x.tag = ["own"]  # type: ignore[attr-defined]
        assert x.tag == ["own"]  # type: ignore[attr-defined]
        assert not hasattr(x * 2, "tag") and not hasattr(x.detach(), "tag")


def test_copies_and_pickles_keep_attributes() -> None:
    x = gradient.ones(2)
    x.tag = ["own"]  # type: ignore[attr-defined]
    for other in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert other.tag == ["own"] and other.tag is not x.tag  # type: ignore[attr-defined]
    assert copy.copy(x).tag is x.tag  # type: ignore[attr-defined]


@pytest.mark.cpu_only
def test_a_repr_copies_only_what_it_shows() -> None:
    for x in (gradient.ones(1 << 20), gradient.ones(512, 2048), gradient.ones(512, 2048).T):
        repr(x)
        tracemalloc.start()
        try:
            repr(x)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1 << 16

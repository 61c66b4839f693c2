"""Products of groups of rows, each with its own packed weight, by one kernel for all groups.

The kernel reads the number of rows of each group from memory, so it may change between replays of a
recorded step. The bits are those of `linear` for each group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradient.backends import matmul_precision
from gradient.backends.composed.grouped import GroupedDefaults, groups
from gradient.backends.numpy import kernels, panels, threads
from gradient.backends.numpy.linear import as_bytes
from gradient.backends.packed import PackedArray


class GroupedKernels(GroupedDefaults[np.ndarray]):
    """Overrides of products of groups."""

    def grouped_linear(
        self, x: np.ndarray, weights: Sequence[np.ndarray | PackedArray], counts: np.ndarray
    ) -> np.ndarray:
        if not takes(x, weights):
            return super().grouped_linear(x, weights, counts)
        groups(self, x, weights, counts)
        out = np.empty((len(x), weights[0].shape[0]), x.dtype)
        x, counts = kernels.contiguous(x), kernels.contiguous(counts)
        for launch in launches(x, weights, counts, out):
            threads.parallel_for(*launch)
        return out


def takes(x: np.ndarray, weights: Sequence[np.ndarray | PackedArray]) -> bool:
    """Whether the kernel takes such a product."""
    first = weights[0]
    return (
        matmul_precision.rounds_inputs()
        and x.ndim == 2
        and all(
            isinstance(weight, PackedArray)
            and weight.dtype == first.dtype
            and weight.shape == first.shape
            and panels.supported(x, weight)
            for weight in weights
        )
        and kernels.computes(x.dtype)
    )


def launches(x: np.ndarray, weights: Sequence[Any], counts: np.ndarray, out: np.ndarray) -> Any:
    """The arguments of `parallel_for`, one launch after another, for contiguous arrays."""
    family = kernels.load("panel_linear")
    prepared = [weight.prepared(panels.arranged) for weight in weights]
    form, _, blocks = prepared[0]
    (n, k), kind = weights[0].shape, kernels.load("stored").KINDS[x.dtype.name]
    rounded, rounding = panels.rounded_rows(x)
    pairs = min(len(x), len(weights)) * -(-n // family.COLUMNS)
    product = (
        *(family.grouped, pairs, max(1, panels.CHUNK // (family.COLUMNS * k)), rounded, len(x)),
        *(counts, _addresses(prepared), form.tag, blocks, -(-k // family.STEP), n),
        *(kind, x.itemsize, as_bytes(out)),
    )
    return rounding, product


class _KeptAddresses:
    """The array interface of an array of addresses; it keeps their memory alive."""

    def __init__(self, addresses: np.ndarray, held: Any) -> None:
        self.__array_interface__, self.held = addresses.__array_interface__, (addresses, held)


def _addresses(prepared: list[panels.Panels]) -> np.ndarray:
    """(E,): the addresses of the panels of each weight, valid while the array lives."""
    found = [p.panels.ctypes.data for p in prepared]
    return np.asarray(_KeptAddresses(np.array(found, np.int64), prepared))

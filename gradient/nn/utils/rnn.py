"""Sequences of different lengths in one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gradient import absent
from gradient.errors import ArgumentError
from gradient.nn import packed_sequence
from gradient.nn.packed_sequence import *  # noqa: F403
from gradient.nn.packed_sequence import PackedSequence, pack_padded_sequence, pad_packed_sequence
from gradient.tensor import Tensor
from gradient.tensor.creation import full
from gradient.tensor.interop import from_numpy
from gradient.tensor.joining import cat

__all__ = ["pack_sequence", "pad_sequence", "unpack_sequence", "unpad_sequence"]
__all__ += packed_sequence.__all__


def pad_sequence(
    sequences: Sequence[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Sequences (L_i, ...) padded to the longest, L, and stacked: (L, N, ...), or (N, L, ...).

    The result has the first one's dtype, as in PyTorch.
    """
    if padding_side not in ("left", "right"):
        raise ArgumentError(
            f"pad_sequence: padding_side must be 'left' or 'right', got {padding_side!r}"
        )
    sequences = list(sequences)
    if not sequences:
        raise ArgumentError("pad_sequence: expected at least one sequence")
    sequences = [sequence.to(sequences[0].dtype) for sequence in sequences]
    lengths = np.array([sequence.shape[0] for sequence in sequences])
    longest, first = int(lengths.max()), sequences[0]
    filler = full((1, *first.shape[1:]), padding_value, dtype=first.dtype, device=first.device)
    rows = cat([*sequences, filler], 0)
    # The row of each place, (N, L): of one behind the end, the last row.
    place = np.arange(longest) - (longest - lengths[:, None]) * (padding_side == "left")
    index = place + (lengths.cumsum() - lengths)[:, None]
    index[(place < 0) | (place >= lengths[:, None])] = lengths.sum()
    picked = from_numpy(index if batch_first else np.ascontiguousarray(index.T)).to(first.device)
    return rows[picked]


def unpad_sequence(
    padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False
) -> list[Tensor]:
    """The sequences that `pad_sequence` (on the right) joined, given their lengths (N,)."""
    rows = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[:length] for row, length in zip(rows.unbind(0), lengths.tolist(), strict=True)]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Sequences (L_i, ...), packed; longest first, unless `enforce_sorted` is False."""
    sequences = list(sequences)
    lengths = [sequence.shape[0] for sequence in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences that `pack_sequence` joined."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)


if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)

"""Sequences of different lengths in one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradient import absent
from gradient.errors import ArgumentError
from gradient.nn import packed_sequence
from gradient.nn.packed_sequence import *  # noqa: F403
from gradient.nn.packed_sequence import PackedSequence, pack_padded_sequence, pad_packed_sequence
from gradient.tensor import Tensor
from gradient.tensor.creation import full
from gradient.tensor.joining import cat, stack

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
    longest = max(sequence.shape[0] for sequence in sequences)
    padded = []
    for sequence in sequences:
        shape = (longest - sequence.shape[0], *sequence.shape[1:])
        filler = full(shape, padding_value, dtype=sequence.dtype, device=sequence.device)
        pair = [sequence, filler] if padding_side == "right" else [filler, sequence]
        padded.append(cat(pair, 0))
    return stack(padded, 0 if batch_first else 1)


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

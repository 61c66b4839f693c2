"""Packed sequences of different lengths: step 1 of all sequences, then step 2, and so on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from gradient.dtypes import DType, int64
from gradient.errors import ArgumentError, ShapeError, TypeMismatch, sentence
from gradient.tensor import Tensor
from gradient.tensor.creation import arange, full
from gradient.tensor.device import DeviceLike
from gradient.tensor.from_data import tensor
from gradient.tensor.joining import cat

__all__ = ["PackedSequence", "invert_permutation", "pack_padded_sequence", "pad_packed_sequence"]


class _Fields(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Fields):
    """N sequences, longest first, stored step by step. `pack_padded_sequence` makes one.

    data              (sum of the lengths, ...): for each step, the sequences that are long enough
    batch_sizes       (T,) int64 on the CPU: their number at each step
    sorted_indices    (N,) int64: the index of each sequence in the order in which they were given;
                      None if that was longest first
    unsorted_indices  (N,) int64: the inverse permutation
    """

    _sizes: tuple[int, ...] | None = None
    """The values of `batch_sizes`, where they are known without reading them: `gradient.compile`
    cannot read a tensor."""

    def __new__(
        cls,
        data: Tensor,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> PackedSequence:
        if batch_sizes is None:
            raise TypeMismatch(sentence("PackedSequence", "batch_sizes as a Tensor", None))
        if unsorted_indices is None and sorted_indices is not None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def _host_sizes(self) -> Sequence[int]:
        """The values of `batch_sizes`."""
        if self._sizes is not None and self.batch_sizes._version == 0:
            return self._sizes
        sizes: list[int] = self.batch_sizes.tolist()
        return sizes

    def _with_data(self, data: Tensor) -> PackedSequence:
        """Other data of the same sequences."""
        made = PackedSequence(data, *self[1:])
        made._sizes = self._sizes
        return made

    @property
    def is_cuda(self) -> bool:
        """Whether the data are on a CUDA device."""
        return self.data.is_cuda

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Convert the data as `Tensor.to` does; the indices move to the same device."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        order = (None if x is None else x.to(data.device) for x in self[2:])
        made = PackedSequence(data, self.batch_sizes, *order)
        made._sizes = self._sizes
        return made

    def cpu(self) -> PackedSequence:
        """On the CPU."""
        return self.to("cpu")

    def cuda(self, device: DeviceLike = "cuda") -> PackedSequence:
        """On a CUDA device."""
        return self.to(device)

    def double(self) -> PackedSequence:
        """In float64."""
        return self._with_data(self.data.double())

    def float(self) -> PackedSequence:
        """In float32."""
        return self._with_data(self.data.float())

    def half(self) -> PackedSequence:
        """In float16."""
        return self._with_data(self.data.half())

    def byte(self) -> PackedSequence:
        """In uint8."""
        return self._with_data(self.data.byte())

    def char(self) -> PackedSequence:
        """In int8."""
        return self._with_data(self.data.char())

    def short(self) -> PackedSequence:
        """In int16."""
        return self._with_data(self.data.short())

    def int(self) -> PackedSequence:
        """In int32."""
        return self._with_data(self.data.int())

    def long(self) -> PackedSequence:
        """In int64."""
        return self._with_data(self.data.long())

    def type(self, dtype: DType) -> PackedSequence:
        """In another dtype."""
        return self.to(dtype)


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """Return the inverse of a permutation (N,); None for None (the identity)."""
    if permutation is None:
        return None
    return permutation.argsort()


def pack_padded_sequence(
    input: Tensor,
    lengths: Tensor | Sequence[int],
    batch_first: bool = False,
    enforce_sorted: bool = True,
) -> PackedSequence:
    """Pack the sequences of a padded tensor (T, N, ...), or (N, T, ...) with `batch_first`.

    `lengths` holds the number of steps of each sequence. With `enforce_sorted` they must be given
    longest first; otherwise they are sorted here."""
    name = "pack_padded_sequence"
    x = input.transpose(0, 1) if batch_first else input
    given = lengths.tolist() if isinstance(lengths, Tensor) else list(lengths)
    if len(given) != x.shape[1]:
        raise ShapeError(sentence(name, f"{x.shape[1]} lengths", len(given)))
    if not given or min(given) <= 0:
        raise ArgumentError(sentence(name, "lengths of at least 1", given))
    if max(given) > x.shape[0]:
        raise ArgumentError(sentence(name, f"lengths of at most {x.shape[0]}", max(given)))
    order = sorted(range(len(given)), key=lambda n: -given[n])
    if enforce_sorted and any(a < b for a, b in zip(given, given[1:], strict=False)):
        raise ArgumentError(
            f"{name}: expected lengths in decreasing order, got {given}; "
            "enforce_sorted=False takes them in any order"
        )
    sizes = [sum(length > step for length in given) for step in range(max(given))]
    steps = [step for step, size in enumerate(sizes) for _ in range(size)]
    rows = [order[n] for size in sizes for n in range(size)]
    data = x[tensor(steps, device=x.device), tensor(rows, device=x.device)]
    indices = None if enforce_sorted else tensor(order, device=x.device)
    packed = PackedSequence(data, tensor(sizes), indices)
    packed._sizes = tuple(sizes)
    return packed


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The inverse of `pack_padded_sequence`: return a padded tensor (T, N, ...) (with `batch_first`
    (N, T, ...)) and the lengths (N,) int64. T is the largest length, or `total_length`."""
    data, sizes = sequence.data, sequence._host_sizes()
    steps, device = len(sizes), data.device
    if total_length is not None:
        if total_length < steps:
            raise ArgumentError(
                sentence("pad_packed_sequence", f"total_length of at least {steps}", total_length)
            )
        steps = total_length
    starts, places = 0, []
    for size in [*sizes, *[0] * (steps - len(sizes))]:
        # Elements after the end of a sequence are taken from one more row, which is padding.
        row = [starts + n if n < size else data.shape[0] for n in range(sizes[0])]
        places.append(row)
        starts += size
    padding = full((1, *data.shape[1:]), padding_value, dtype=data.dtype, device=device)
    padded = cat([data, padding])[tensor(places, dtype=int64, device=device)]
    lengths = (sequence.batch_sizes.unsqueeze(1) > arange(sizes[0])).sum(0)
    if sequence.unsorted_indices is not None:
        padded = padded.index_select(1, sequence.unsorted_indices)
        lengths = lengths.index_select(0, sequence.unsorted_indices.cpu())
    return padded.transpose(0, 1) if batch_first else padded, lengths


def equal_steps(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return runs of consecutive steps with the same batch size: pairs (steps, batch size)."""
    runs: list[tuple[int, int]] = []
    for size in sizes:
        if runs and runs[-1][1] == size:
            runs[-1] = (runs[-1][0] + 1, size)
        else:
            runs.append((1, size))
    return runs

"""PyTorch's layouts and memory formats. They are accepted wherever PyTorch accepts them, and have
no effect: tensors are strided and row-major.
"""

from __future__ import annotations

__all__ = [
    "channels_last",
    "channels_last_3d",
    "contiguous_format",
    "layout",
    "memory_format",
    "preserve_format",
    "sparse_coo",
    "sparse_csr",
    "strided",
]


class _Word:
    """A constant that prints as `gradient.` and its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"gradient.{self.name}"

    def __reduce__(self) -> str:
        return self.name


class memory_format(_Word):  # noqa: N801 (PyTorch's name)
    """The type of the argument `memory_format=`: the order of dimensions in memory."""


class layout(_Word):  # noqa: N801 (PyTorch's name)
    """The type of `Tensor.layout`."""


contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last = memory_format("channels_last")
channels_last_3d = memory_format("channels_last_3d")
strided = layout("strided")
sparse_coo, sparse_csr = layout("sparse_coo"), layout("sparse_csr")

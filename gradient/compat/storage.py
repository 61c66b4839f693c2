"""Storages: the memory that a tensor shows, or shares with others, as bytes.

    x[1:].untyped_storage().data_ptr() == x.data_ptr()
    x[1:].untyped_storage().nbytes()                    # all of x's

They are views: what is written to one is in the tensors that show it. Their size is fixed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, Self

import numpy as np

from gradient.autograd.variable import wrap
from gradient.backends.packed import is_packed
from gradient.dtypes import DType, get_default_dtype, uint8
from gradient.errors import ArgumentError, DTypeError, sentence
from gradient.tensor import Tensor
from gradient.tensor.creation import empty
from gradient.tensor.from_data import tensor
from gradient.tensor.interop import from_numpy

__all__ = ["TypedStorage", "UntypedStorage"]


def memory_of(x: Any) -> Tensor:
    """(n,) uint8: the bytes of the memory that a tensor lies in, all of it."""
    if is_packed(x.array):
        if not x.dtype.elementwise:
            raise DTypeError(f"untyped_storage: a {x.dtype} tensor has blocks of several arrays")
        x = x.view(uint8)
    owner = x.array
    while hasattr(base := getattr(owner, "base", None), "dtype"):
        owner = base  # up to the last array: memory may be a file's, or lent
    be = x.backend
    order = sorted(range(len(owner.shape)), key=lambda i: -owner.strides[i])
    flat = be.reshape(be.permute(owner, tuple(order)), (-1,))
    memory: Tensor = wrap(flat, be).view(uint8)
    return memory.detach()


class _Storage:
    """What both kinds have in common: a tensor of one dimension."""

    tensor: Tensor

    device = property(lambda self: self.tensor.device)
    is_cuda = property(lambda self: self.tensor.is_cuda)
    is_sparse = False
    _cdata = property(lambda self: self.data_ptr())

    def data_ptr(self) -> int:
        """The address of the first byte; 0 where there is none."""
        return self.tensor.data_ptr() if self.tensor.numel() else 0

    def size(self) -> int:
        return self.tensor.numel()

    __len__ = size

    def nbytes(self) -> int:
        return self.tensor.nbytes

    def element_size(self) -> int:
        return self.tensor.itemsize

    def tolist(self) -> list[Any]:
        found: list[Any] = self.tensor.tolist()
        return found

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tolist())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._of(self.tensor[index].detach())  # the memory's first byte is its own
        return self.tensor[index].item()

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tensor[index] = value

    def fill_(self, value: Any) -> Self:
        self.tensor.fill_(value)
        return self

    def copy_(self, source: _Storage, non_blocking: bool = False) -> Self:
        self.tensor.copy_(source.tensor)
        return self

    def clone(self) -> Self:
        return self._of(self.tensor.clone())

    def cpu(self) -> Self:
        return self._of(self.tensor.to("cpu"))

    def is_shared(self) -> bool:
        return self.tensor.is_shared()

    def resize_(self, size: int) -> NoReturn:
        """Refused: a tensor's memory has one size."""
        expected = "storages to keep their size"
        raise ArgumentError(sentence("resize_", expected, f"{size}", "assign to x.data"))

    def _of(self, tensor: Tensor) -> Self:
        made = object.__new__(type(self))
        made.tensor = tensor
        return made


class UntypedStorage(_Storage):
    """Bytes: new ones by their number, or those of a sequence."""

    filename = None

    def __init__(self, data: int | Sequence[int] = 0, *, device: Any = None) -> None:
        if isinstance(data, int):
            self.tensor = empty(data, dtype=uint8, device=device)
        else:
            self.tensor = tensor(data, dtype=uint8, device=device)

    @staticmethod
    def from_file(filename: str, shared: bool = False, nbytes: int = 0) -> UntypedStorage:
        """The bytes of a file, mapped: what is written to them is written to the file if they are
        `shared`, which makes it as long as it has to be."""
        if shared:
            with open(filename, "ab") as file:
                if os.path.getsize(filename) < nbytes:
                    file.truncate(nbytes)
        made = UntypedStorage()
        if nbytes:
            mapped = np.memmap(filename, np.uint8, "r+" if shared else "c", shape=(nbytes,))
            made.tensor = from_numpy(mapped)
        return made

    def untyped(self) -> UntypedStorage:
        return self

    def __repr__(self) -> str:
        numbers = "".join(f" {x}\n" for x in self.tolist())
        return (
            f"{numbers}[gradient.storage.UntypedStorage(device={self.device}) of size {len(self)}]"
        )


class TypedStorage(_Storage):
    """Elements of a dtype: the bytes of `wrap_storage`, or new ones by their number."""

    def __init__(
        self,
        data: int | Sequence[Any] = 0,
        *,
        wrap_storage: UntypedStorage | None = None,
        dtype: DType | None = None,
        device: Any = None,
        _internal: bool = False,
    ) -> None:
        dtype = get_default_dtype() if dtype is None else dtype
        if wrap_storage is not None:
            self.tensor = wrap_storage.tensor.view(dtype)
        elif isinstance(data, int):
            self.tensor = empty(data, dtype=dtype, device=device)
        else:
            self.tensor = tensor(data, dtype=dtype, device=device)

    dtype = property(lambda self: self.tensor.dtype)

    def untyped(self) -> UntypedStorage:
        made = UntypedStorage()
        made.tensor = memory_of(self.tensor)
        return made

    _untyped_storage = property(untyped)

    def __repr__(self) -> str:
        numbers = "".join(f" {x}\n" for x in self.tolist())
        about = f"dtype={self.dtype}, device={self.device}"
        return f"{numbers}[gradient.storage.TypedStorage({about}) of size {len(self)}]"


def storage_of(x: Any) -> UntypedStorage:
    """A tensor's `untyped_storage()`."""
    made = UntypedStorage()
    made.tensor = memory_of(x)
    return made

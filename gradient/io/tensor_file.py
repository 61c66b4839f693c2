"""The interface of all tensor files: a mapping from names to tensors, each made at access."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping

from gradient.tensor import Tensor


class TensorFile(Mapping[str, Tensor]):
    """The tensors of one file or of several, by name.

    A subclass makes a tensor in `__getitem__`, if possible as a view of the mapped file.

    Attributes:
        path: the file, or the folder of several.
        names: the names of the tensors, in the file's order.
    """

    path: str
    names: Mapping[str, object]

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of all tensors."""

    @abstractmethod
    def release(self, name: str) -> None:
        """Release the memory of a tensor that was read, after it was converted or copied.

        Its views read the file again when they are used; writes to it are lost.
        """

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, {len(self)} tensors)"

"""What every file of tensors is here: a mapping from names to tensors, each made when asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping

from gradient.tensor import Tensor


class TensorFile(Mapping[str, Tensor]):
    """The tensors of one file or of several, by name.

    A subclass makes a tensor in `__getitem__`, where it can as a view of the mapped file.

    Attributes:
        path: the file, or the folder of several.
        names: their names, as the keys of whatever they are made of, in the file's order.
    """

    path: str
    names: Mapping[str, object]

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of all tensors."""

    @abstractmethod
    def release(self, name: str) -> None:
        """Give back the memory that reading a tensor took, for one converted or copied.

        Its views read the file again when they are used; what was written to them is lost.
        """

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, {len(self)} tensors)"

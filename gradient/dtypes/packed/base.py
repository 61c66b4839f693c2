"""What all packed dtypes share: a name, their parts, `pack` and `unpack`.

A packed dtype stores a matrix of weights in fewer bits than one number each, as a bank of small
integers ("codes") and the scales that give them meaning:

    weight  =  scale * code              symmetric: the codes lie around zero
    weight  =  scale * code - minimum    affine: the codes begin at zero

Scales are shared by blocks of neighbours along the last axis, the one that a matrix product sums
over. Outside, a tensor keeps its logical shape (..., N, K); inside lie the *parts*, plain arrays
whose leading axes are those of the tensor, so rows and experts can be picked without unpacking.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NoReturn

import numpy as np

from gradient.dtypes.dtype import DType
from gradient.errors import ShapeError, TypeMismatch

Part = tuple[tuple[int, ...], np.dtype]
"""The shape and dtype of one part."""


class PackedDType(DType):
    """A dtype whose elements share blocks, such as `gradient.q8_0`.

    Subclasses supply `parts_of`, `pack` and `unpack`.

    Attributes:
        block_size: what the length of the last axis must be a multiple of.
        part_names: the names of the plain arrays that hold such a tensor, in order, such as
            ("codes", "scales"); in a safetensors file they are tensors `<name>.codes` and so on.
        fallback: the name of the format that a weight gets whose rows are not of whole blocks:
            about as many bits, in smaller blocks; "" for none.
    """

    name: str
    kind = "float"
    char = ""  # of `np.dtype.char`, by which ops choose what they look at
    block_size: int
    part_names: ClassVar[tuple[str, ...]]
    fallback: str = ""
    elementwise = False

    def __init__(self) -> None:
        """A subclass says all in class attributes, or sets what differs between its instances."""

    # What other dtypes have, and this one not ---------------------------------------------------

    def _no_single_element(self, what: str) -> NoReturn:
        raise TypeMismatch(
            f"{self!r} is a packed dtype and has no {what}: its elements share blocks. Make such a "
            f"tensor by gradient.quantization.quantize(tensor, {self.name!r}), and unpack it "
            "by tensor.dequantize()"
        )

    @property
    def numpy(self) -> Any:  # type: ignore[override]
        self._no_single_element("NumPy dtype")

    @property
    def itemsize(self) -> int:
        self._no_single_element("itemsize (use tensor.nbytes)")

    @property
    def bits(self) -> int:  # type: ignore[override]
        self._no_single_element("whole number of bits (use bits_per_weight)")

    is_packed = True
    is_signed = True

    # Layout --------------------------------------------------------------------------------------

    def parts_of(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """The shape and dtype of each part of a tensor of the logical `shape`."""
        raise NotImplementedError

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether tensors of this shape can have this dtype: the last axis is of whole blocks."""
        return len(shape) > 0 and shape[-1] % self.block_size == 0

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ShapeError unless `fits`."""
        if not self.fits(shape):
            raise ShapeError(
                f"{self.name}: expected a last dimension that is a multiple of {self.block_size}, "
                f"got shape {tuple(shape)}"
            )

    def nbytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of all parts of a tensor of this shape."""
        return sum(math.prod(part) * dtype.itemsize for part, dtype in self.parts_of(shape))

    def bits_per_weight(self, shape: tuple[int, ...]) -> float:
        """Bits that a weight takes, its share of the scales included."""
        return 8 * self.nbytes(shape) / max(math.prod(shape), 1)

    # Numbers -------------------------------------------------------------------------------------

    def pack(self, values: np.ndarray) -> tuple[np.ndarray, ...]:
        """The parts that stand for `values` (..., K), finite float32 numbers on the host.

        This is the reference: rounding to nearest, with scales chosen from the values alone.
        """
        raise NotImplementedError

    def unpack(self, be: Any, parts: tuple[Any, ...]) -> Any:
        """The float32 array (..., K) that the parts, arrays of the backend `be`, stand for.

        Written in operators and methods of `be`, as every composed definition is.
        """
        raise NotImplementedError

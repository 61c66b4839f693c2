"""The base class of packed dtypes: a name, parts, `pack` and `unpack`.

A packed dtype stores a matrix of weights in few bits per weight: as small integers ("codes"), and
scales:

    weight  =  scale * code              symmetric: codes around zero
    weight  =  scale * code - minimum    affine: codes from zero on

A block of neighbours along the last axis, over which a matrix product sums, shares a scale. A
tensor has its logical shape (..., N, K). It is stored in *parts*, plain arrays with the same
leading axes, so rows and experts can be selected without unpacking.
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
    """A dtype whose elements are stored in blocks, such as `gradient.q8_0`.

    Subclasses define `parts_of`, `pack` and `unpack`.

    Attributes:
        block_size: the size of the last axis must be a multiple of this.
        part_names: the names of the plain arrays of such a tensor, in order, such as ("codes",
            "scales"); in a safetensors file they are tensors `<name>.codes` and so on.
        fallback: the name of the format for weights whose rows are no multiple of the block size:
            about the same number of bits, in smaller blocks; "" for none.
    """

    name: str
    kind = "float"
    char = ""  # in place of `np.dtype.char`, which ops compare
    block_size: int
    part_names: ClassVar[tuple[str, ...]]
    fallback: str = ""
    elementwise = False

    def __init__(self) -> None:
        """A subclass has class attributes, or sets those that differ between its instances."""

    # Attributes of other dtypes that this one does not have --------------------------------------

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
        """Return the shape and dtype of each part of a tensor of the logical `shape`."""
        raise NotImplementedError

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether tensors of this shape can have this dtype: the last axis has whole blocks."""
        return len(shape) > 0 and shape[-1] % self.block_size == 0

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ShapeError unless `fits`."""
        if not self.fits(shape):
            raise ShapeError(
                f"{self.name}: expected a last dimension that is a multiple of {self.block_size}, "
                f"got shape {tuple(shape)}"
            )

    def nbytes(self, shape: tuple[int, ...]) -> int:
        """Return the number of bytes of all parts of a tensor of this shape."""
        return sum(math.prod(part) * dtype.itemsize for part, dtype in self.parts_of(shape))

    def bits_per_weight(self, shape: tuple[int, ...]) -> float:
        """Return the number of bits per weight, including scales."""
        return 8 * self.nbytes(shape) / max(math.prod(shape), 1)

    # Numbers -------------------------------------------------------------------------------------

    def pack(self, values: np.ndarray) -> tuple[np.ndarray, ...]:
        """Quantise `values` (..., K), finite float32 numbers on the CPU, to parts.

        This is the reference: it rounds to nearest, with scales computed only from the values.
        """
        raise NotImplementedError

    def unpack(self, be: Any, parts: tuple[Any, ...]) -> Any:
        """Dequantise parts, arrays of the backend `be`, to a float32 array (..., K).

        It uses only operators and methods of `be`, like all composed definitions.
        """
        raise NotImplementedError

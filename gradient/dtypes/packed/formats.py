"""All packed formats, in the order of lists of them; each is known to `dtype_of`."""

from typing import TYPE_CHECKING

from gradient.dtypes.dtype import register
from gradient.dtypes.packed import blocks_of_32, codebook, codes_apart, k_quants, ternary
from gradient.dtypes.packed.base import PackedDType
from gradient.dtypes.packed.blocks_of_32 import *
from gradient.dtypes.packed.codebook import *
from gradient.dtypes.packed.codes_apart import *
from gradient.dtypes.packed.k_quants import *
from gradient.dtypes.packed.ternary import *

FAMILIES = (blocks_of_32, k_quants, codebook, ternary, codes_apart)

PACKED: tuple[PackedDType, ...] = tuple(
    getattr(family, name) for family in FAMILIES for name in family.__all__
)
for _dtype in PACKED:
    register(_dtype)

if not TYPE_CHECKING:  # checkers follow the stars
    __all__ = [dtype.name for dtype in PACKED]

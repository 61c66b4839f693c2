"""Packed dtypes: weights in 2 to 8 bits, in blocks that share scales.

>>> gradient.quantization.quantize(gradient.randn(64, 256), gradient.q4_k)
tensor(..., size=(64, 256), dtype=gradient.q4_k, bits_per_weight=4.5)

Each family of GGUF's block formats has a file (`blocks_of_32`, `k_quants`, `codebook`, `ternary`);
formats with separate codes and scales are in `codes_apart`. Each file explains the layout, and has
the reference `pack` (NumPy, round to nearest) and `unpack` (any backend).
"""

from typing import TYPE_CHECKING

from gradient._exports import on_demand as _on_demand
from gradient._exports import shown as _shown

if TYPE_CHECKING:
    from gradient.dtypes.packed.blocks_of_32 import *
    from gradient.dtypes.packed.codebook import *
    from gradient.dtypes.packed.codes_apart import *
    from gradient.dtypes.packed.k_quants import *
    from gradient.dtypes.packed.ternary import *
else:
    _FILES = (f"{__name__}.formats",)
    __getattr__ = _on_demand(__name__, *_FILES)
    __dir__ = _shown(globals(), files=_FILES)

"""Weights in fewer bits.

>>> from gradient import quantization
>>> weight = quantization.quantize(linear.weight, "q8_0")          # one tensor
>>> quantization.quantize_(model, "q4_k_m")                        # a model, in place

A packed weight is a Tensor with a packed dtype (`gradient.dtypes.packed`): `F.linear`,
`F.embedding` and `F.grouped_linear` take it, so no module has a quantised variant. `schemes`
chooses the dtype of each weight of a model.
"""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient._exports import shown as _shown
from gradient.quantization.model import *
from gradient.quantization.quantize import *
from gradient.quantization.schemes import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    __all__ = _public(globals())
    __dir__ = _shown(globals())

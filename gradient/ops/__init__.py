"""All differentiable ops by family, with forward and gradient formulas side by side.

Families that only layers and losses use (convolution, loss, pooling, recurrent), or only `linalg`,
`fft` and `special` (decompositions, fourier, special), are imported with these.
"""

from gradient.ops import activation as activation
from gradient.ops import comparison as comparison
from gradient.ops import complex_numbers as complex_numbers
from gradient.ops import elementwise as elementwise
from gradient.ops import fused as fused
from gradient.ops import index as index
from gradient.ops import linalg as linalg
from gradient.ops import reduce as reduce
from gradient.ops import shape as shape
from gradient.ops import trigonometry as trigonometry

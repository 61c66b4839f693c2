"""Every differentiable op, forward and gradient formula side by side, by family.

What layers and losses alone use (convolution, loss, pooling, recurrent), and what `linalg`, `fft`
and `special` do (decompositions, fourier, special), is imported with them.
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

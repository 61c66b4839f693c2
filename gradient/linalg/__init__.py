"""Linear algebra, with PyTorch's names. Matrices are the last two dimensions, of any batch.

>>> A = gradient.tensor([[2.0, 0.0], [0.0, 4.0]])
>>> gradient.linalg.inv(A)
tensor([[0.5000, 0.0000],
        [0.0000, 0.2500]])

LAPACK does the work, on the host; everything has a gradient of any order. Each module's `__all__`
says what is public.
"""

from typing import TYPE_CHECKING

from gradient import absent
from gradient.errors import LinAlgError as LinAlgError
from gradient.linalg.decompositions import *
from gradient.linalg.householder import *
from gradient.linalg.lu import *
from gradient.linalg.norms import *
from gradient.linalg.powers import *
from gradient.linalg.solving import *

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)

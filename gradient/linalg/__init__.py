"""Linear algebra, with PyTorch's names. Matrices are the last two dimensions, of any batch.

>>> A = gradient.tensor([[2.0, 0.0], [0.0, 4.0]])
>>> gradient.linalg.inv(A)
tensor([[0.5000, 0.0000],
        [0.0000, 0.2500]])

LAPACK computes the results, on the CPU; all functions have gradients of any order. Each module's
`__all__` lists the public names.
"""

from typing import TYPE_CHECKING

from gradient import absent
from gradient._exports import shown as _shown
from gradient.autograd.out_argument import takes_out as _takes_out
from gradient.errors import LinAlgError as LinAlgError
from gradient.linalg import decompositions as _decompositions
from gradient.linalg import householder as _householder
from gradient.linalg import lu as _lu
from gradient.linalg import norms as _norms
from gradient.linalg import powers as _powers
from gradient.linalg import solving as _solving
from gradient.linalg.decompositions import *
from gradient.linalg.householder import *
from gradient.linalg.lu import *
from gradient.linalg.norms import *
from gradient.linalg.powers import *
from gradient.linalg.solving import *

for _module in (_decompositions, _householder, _lu, _norms, _powers, _solving):
    for _name in _module.__all__:
        globals()[_name] = _takes_out(globals()[_name], f"linalg.{_name}")
        globals()[_name].__module__ = __name__  # for pickle

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
    __dir__ = _shown(globals())

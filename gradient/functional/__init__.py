"""The functions of PyTorch's `torch.nn.functional`, composed of differentiable ops.

Also importable as `gradient.nn.functional`. Each module's `__all__` lists its public names.
"""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient._exports import shown as _shown
from gradient.functional.activation import *
from gradient.functional.attention import *
from gradient.functional.classification_loss import *
from gradient.functional.conv import *
from gradient.functional.ctc import *
from gradient.functional.distance import *
from gradient.functional.dropout import *
from gradient.functional.embedding_bag import *
from gradient.functional.embedding_loss import *
from gradient.functional.fractional_pooling import *
from gradient.functional.grid_sampling import *
from gradient.functional.linear import *
from gradient.functional.linear_cross_entropy import *
from gradient.functional.margin_loss import *
from gradient.functional.multi_head_attention import *
from gradient.functional.normalization import *
from gradient.functional.padding import *
from gradient.functional.pooling import *
from gradient.functional.regression_loss import *
from gradient.functional.unpooling import *
from gradient.functional.vision import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    __all__ = _public(globals())
    __dir__ = _shown(globals())

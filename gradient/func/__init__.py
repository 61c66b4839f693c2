"""Transforms of functions, with PyTorch's names: derivatives, vmap, modules as functions.

>>> from gradient.func import functional_call, grad, vmap
>>> params = dict(model.named_parameters())
>>> def loss(params, x, y):
...     return F.mse_loss(functional_call(model, params, (x,)), y)
>>> gradients = grad(loss)(params, x, y)

Each module's `__all__` lists the public names.
"""

from typing import TYPE_CHECKING

from gradient import absent
from gradient._exports import shown as _shown
from gradient.func.batching import *
from gradient.func.derivatives import *
from gradient.func.modules import *

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
    __dir__ = _shown(globals())

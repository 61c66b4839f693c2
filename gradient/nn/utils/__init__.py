"""Clipping gradients, all parameters as one vector, norms of weights, parametrizations, pruning,
and padding sequences (`nn.utils.rnn`).

Each module's `__all__` says what is public.
"""

from typing import TYPE_CHECKING

from gradient import absent
from gradient._exports import shown as _shown
from gradient.nn.utils import parametrizations as parametrizations
from gradient.nn.utils import parametrize as parametrize
from gradient.nn.utils import prune as prune
from gradient.nn.utils import rnn as rnn
from gradient.nn.utils.clip_grad import *
from gradient.nn.utils.convert_parameters import *
from gradient.nn.utils.spectral_norm import *
from gradient.nn.utils.weight_norm import *

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
    __dir__ = _shown(globals(), "parametrizations", "parametrize", "prune", "rnn")

"""Layers, models, losses and initialisation, under the names of `torch.nn`.

Each module's `__all__` says what is public.
"""

from typing import TYPE_CHECKING

from gradient import absent
from gradient._exports import shown as _shown
from gradient.errors import name_constructors as _name_constructors
from gradient.nn import functional as functional
from gradient.nn import init as init
from gradient.nn import utils as utils
from gradient.nn.activation import *
from gradient.nn.adaptive_softmax import *
from gradient.nn.attention import *
from gradient.nn.batchnorm import *
from gradient.nn.containers import *
from gradient.nn.conv import *
from gradient.nn.distance import *
from gradient.nn.dropout import *
from gradient.nn.embedding import *
from gradient.nn.encoder_decoder import *
from gradient.nn.lazy import *
from gradient.nn.linear import *
from gradient.nn.linear_cross_entropy import *
from gradient.nn.loss import *
from gradient.nn.module import *
from gradient.nn.normalization import *
from gradient.nn.padding import *
from gradient.nn.parameter import *
from gradient.nn.pooling import *
from gradient.nn.rnn import *
from gradient.nn.rnn_cells import *
from gradient.nn.transformer import *
from gradient.nn.vision import *

_name_constructors(tuple(globals().values()))

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
    __dir__ = _shown(globals(), "functional", "init", "utils")

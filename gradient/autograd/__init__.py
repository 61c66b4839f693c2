"""Automatic differentiation: nodes, the op decorator, the backward pass; no particular op."""

from typing import TYPE_CHECKING

from gradient import absent
from gradient._exports import on_demand as _on_demand
from gradient._exports import shown as _shown
from gradient.autograd.checkpoint import *
from gradient.autograd.engine import *
from gradient.autograd.gradcheck import *
from gradient.autograd.modes import *
from gradient.autograd.node import *
from gradient.autograd.op import *

if TYPE_CHECKING:
    from gradient.autograd.anomaly import *
    from gradient.autograd.function import *
else:
    _FILES = "gradient.autograd.function", "gradient.autograd.anomaly"
    __getattr__ = _on_demand(__name__, *_FILES, otherwise=absent.names(__name__))
    __dir__ = _shown(globals(), files=_FILES)

"""Automatic differentiation: nodes, the op decorator, the backward pass; no particular op."""

from typing import TYPE_CHECKING

from gradient import absent
from gradient.autograd.anomaly import *
from gradient.autograd.checkpoint import *
from gradient.autograd.engine import *
from gradient.autograd.function import *
from gradient.autograd.gradcheck import *
from gradient.autograd.modes import *
from gradient.autograd.node import *
from gradient.autograd.op import *

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)

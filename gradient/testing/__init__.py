"""Checks for authors of ops, backends and models: closeness, gradients, the op table."""

from typing import TYPE_CHECKING

from gradient import absent
from gradient._exports import public as _public
from gradient._exports import shown as _shown
from gradient.autograd.gradcheck import gradcheck as gradcheck
from gradient.autograd.gradcheck import gradgradcheck as gradgradcheck
from gradient.testing.close import *
from gradient.testing.making import *
from gradient.testing.op_table import *
from gradient.testing.row import *

if not TYPE_CHECKING:
    __all__ = _public(globals())
    __getattr__ = absent.names(__name__)
    __dir__ = _shown(globals())

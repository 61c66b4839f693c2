"""Checks for those who write ops, backends and models: closeness, gradients, the op table."""

from typing import TYPE_CHECKING

from gradient import absent
from gradient.autograd.gradcheck import gradcheck, gradgradcheck
from gradient.testing.close import assert_allclose, assert_close
from gradient.testing.making import make_tensor
from gradient.testing.op_table import TABLE
from gradient.testing.row import Row

__all__ = [
    "TABLE",
    "Row",
    "assert_allclose",
    "assert_close",
    "gradcheck",
    "gradgradcheck",
    "make_tensor",
]


if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)

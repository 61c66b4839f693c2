"""`gradient.functional`, under the name that PyTorch gives it."""

from typing import TYPE_CHECKING

from gradient import absent
from gradient.functional import *  # noqa: F403

if not TYPE_CHECKING:
    from gradient.functional import __all__  # noqa: F401

    __getattr__ = absent.names(__name__)

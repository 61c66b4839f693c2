"""Backends by device string: "cpu", "cuda", "cuda:1".

>>> from gradient import backends
>>> backends.get("cpu")
<NumpyBackend 'cpu'>
"""

from typing import TYPE_CHECKING

from gradient import absent
from gradient.backends.base import Backend
from gradient.backends.registry import available, get, register
from gradient.backends.required import Array

__all__ = ["Array", "Backend", "available", "get", "register"]

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)

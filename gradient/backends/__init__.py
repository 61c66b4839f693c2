"""Backends by device string: "cpu", "cuda", "cuda:1", "metal".

>>> from gradient import backends
>>> backends.get("cpu")
<NumpyBackend 'cpu'>
"""

from gradient.backends.base import Array, Backend
from gradient.backends.registry import available, get, register

__all__ = ["Array", "Backend", "available", "get", "register"]

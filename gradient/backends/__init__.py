"""Backends by device string: "cpu", "cuda", "cuda:1".

>>> from gradient import backends
>>> backends.get("cpu")
<NumpyBackend 'cpu'>
"""

from typing import TYPE_CHECKING
from typing import Any as _Any

from gradient import absent
from gradient._exports import load as _load
from gradient._exports import shown as _shown
from gradient.backends.registry import *

__all__ = ["Array", "Backend", "available", "get", "register"]

if TYPE_CHECKING:  # at run time they are imported with the first backend, or on first use
    from gradient.backends.base import *
    from gradient.backends.required import *
else:
    _elsewhere = absent.names(__name__)
    __dir__ = _shown(globals(), "Array", "Backend", "cuda")

    def __getattr__(name: str) -> _Any:
        if name in ("Array", "Backend"):
            return getattr(_load("gradient.backends.base"), name)
        if name == "cuda":  # for scripts that set `backends.cuda.matmul.allow_tf32 = True`
            return _load("gradient.backends.cuda")
        return _elsewhere(name)

"""Backends by device string: "cpu", "cuda", "cuda:1".

>>> from gradient import backends
>>> backends.get("cpu")
<NumpyBackend 'cpu'>
"""

import importlib
from typing import TYPE_CHECKING
from typing import Any as _Any

from gradient import absent
from gradient._exports import public as _public
from gradient.backends.base import *
from gradient.backends.registry import *
from gradient.backends.required import *

if not TYPE_CHECKING:
    __all__ = _public(globals())
    _elsewhere = absent.names(__name__)

    def __getattr__(name: str) -> _Any:
        if name == "cuda":  # scripts begin by `backends.cuda.matmul.allow_tf32 = True`
            return importlib.import_module("gradient.backends.cuda")
        return _elsewhere(name)

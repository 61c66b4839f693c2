"""gradient: deep learning written from scratch in readable Python.

>>> import gradient
>>> x = gradient.tensor([1.0, 2.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad
tensor([2., 4.])

Importing it loads NumPy, ml_dtypes and the standard library; everything else on first use.
"""

import sys as _sys
import warnings as _warnings
from typing import TYPE_CHECKING
from typing import Any as _Any

from gradient import absent as _absent
from gradient import autograd as autograd
from gradient import backends as backends
from gradient._exports import load as _load
from gradient._exports import on_demand as _on_demand
from gradient._exports import shown as _shown
from gradient.autograd.modes import *
from gradient.dtypes import bool_ as _bool
from gradient.dtypes.dtype import *
from gradient.dtypes.float8 import *
from gradient.dtypes.promotion import *
from gradient.tensor import Size as Size
from gradient.tensor import Tensor as Tensor
from gradient.tensor.complex_numbers import *
from gradient.tensor.creation import *
from gradient.tensor.creation_like import *
from gradient.tensor.device import Device as _Device
from gradient.tensor.device import get_default_device as get_default_device
from gradient.tensor.device import set_default_device as set_default_device
from gradient.tensor.from_data import *
from gradient.tensor.interop import *
from gradient.tensor.joining import *
from gradient.tensor.predicates import *
from gradient.tensor.products import *
from gradient.tensor.scans import *

# For editors and type checkers; at run time these are imported when first named (`__getattr__`).
if TYPE_CHECKING:
    from gradient import amp as amp
    from gradient import checkpoints as checkpoints
    from gradient import cuda as cuda
    from gradient import data as data
    from gradient import distributions as distributions
    from gradient import embedding as embedding
    from gradient import evaluation as evaluation
    from gradient import fft as fft
    from gradient import func as func
    from gradient import functional as functional
    from gradient import generation as generation
    from gradient import hub as hub
    from gradient import io as io
    from gradient import kv_cache as kv_cache
    from gradient import linalg as linalg
    from gradient import masked as masked
    from gradient import models as models
    from gradient import nn as nn
    from gradient import optim as optim
    from gradient import plan as plan
    from gradient import profiler as profiler
    from gradient import quantization as quantization
    from gradient import random as random
    from gradient import signal as signal
    from gradient import special as special
    from gradient import testing as testing
    from gradient import text as text
    from gradient import training as training
    from gradient import utils as utils
    from gradient.amp import autocast as autocast
    from gradient.backends.matmul_precision import (
        get_quantized_matmul_precision as get_quantized_matmul_precision,
    )
    from gradient.backends.matmul_precision import (
        set_quantized_matmul_precision as set_quantized_matmul_precision,
    )
    from gradient.backends.numpy.threads import get_num_threads as get_num_threads
    from gradient.backends.numpy.threads import set_num_threads as set_num_threads
    from gradient.dtypes.packed import *
    from gradient.func.batching import vmap as vmap
    from gradient.io import load as load
    from gradient.io import save as save
    from gradient.linalg.householder import geqrf as geqrf
    from gradient.linalg.householder import ormqr as ormqr
    from gradient.linalg.low_rank import *
    from gradient.linalg.older import *
    from gradient.plan.compile import compile as compile
    from gradient.random import *
    from gradient.signal import *
    from gradient.tensor.distances import *
    from gradient.tensor.einsum import *
    from gradient.tensor.float8 import _scaled_mm as _scaled_mm
    from gradient.tensor.functions import *
    from gradient.tensor.printing import set_printoptions as set_printoptions
    from gradient.tensor.searching import *

# As in PyTorch, log(0) and the like give inf and nan without a word: NumPy's floating-point
# warnings are silenced where they come from our own frames, and nowhere else.
_warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"gradient(\.|$)")


__version__ = "0.1.0"

bool, device = _bool, _Device
double, half, long, short = float64, float16, int64, int16
float, int = float32, int32
cdouble, cfloat = complex128, complex64

_MODULES = {
    "amp", "checkpoints", "cuda", "data", "distributions", "embedding", "evaluation", "fft", "func",
    "functional", "generation", "hub", "io", "kv_cache", "linalg", "masked", "models", "nn",
    "optim", "plan", "profiler", "quantization", "random", "signal", "special", "testing", "text",
    "training", "utils",
}  # fmt: skip
"""Modules that are imported when first named."""

_FUNCTIONS_OF = {
    "amp": ("autocast",),
    "backends.matmul_precision": (
        "get_quantized_matmul_precision", "set_quantized_matmul_precision",
    ),
    "backends.numpy.threads": ("get_num_threads", "set_num_threads"),
    "func.batching": ("vmap",),
    "io": ("load", "save"),
    "linalg.householder": ("geqrf", "ormqr"),
    "linalg.low_rank": ("pca_lowrank", "svd_lowrank"),
    "linalg.older": (
        "cholesky", "cholesky_inverse", "cholesky_solve", "det", "inverse", "logdet", "lu",
        "lu_solve", "lu_unpack", "matrix_exp", "matrix_power", "pinverse", "qr", "slogdet", "svd",
        "triangular_solve",
    ),
    "plan.compile": ("compile",),
    "signal": (
        "bartlett_window", "blackman_window", "hamming_window", "hann_window", "istft",
        "kaiser_window", "stft",
    ),
    "tensor.distances": ("cdist",),
    "tensor.einsum": ("einsum",),
    "tensor.float8": ("_scaled_mm",),
    "tensor.printing": ("set_printoptions",),
    "tensor.searching": ("bucketize", "histc", "isin", "searchsorted"),
}  # fmt: skip
_FUNCTIONS = {
    name: f"gradient.{module}" for module, names in _FUNCTIONS_OF.items() for name in names
}
"""Functions whose modules are."""


if not TYPE_CHECKING:  # to type checkers an unknown name is a mistake
    _FILES = "gradient.tensor.functions", "gradient.random", "gradient.dtypes.packed.formats"
    _of_files = _on_demand("gradient", *_FILES, otherwise=_absent.names("gradient"))
    _sys.meta_path.append(_absent.Finder)
    __dir__ = _shown(
        globals(), "autograd", "backends", "errors", *_MODULES, *_FUNCTIONS, files=_FILES
    )

    def __getattr__(name: str) -> _Any:
        if name in _MODULES:
            return _load(f"gradient.{name}")
        if name in _FUNCTIONS:
            found = getattr(_load(_FUNCTIONS[name]), name)
            return globals().setdefault(name, found)
        if name == "__all__":  # of `from gradient import *`
            return [each for each in __dir__() if each not in _MODULES and each[0] != "_"]
        return _of_files(name)

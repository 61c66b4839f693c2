"""gradient: deep learning written from scratch in readable Python.

>>> import gradient
>>> x = gradient.tensor([1.0, 2.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad
tensor([2., 4.])

Importing it loads NumPy, ml_dtypes and the standard library; everything else on first use.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from gradient import autograd, backends, random
from gradient import tensor_backend as _tensor_backend  # noqa: F401 (registers itself)
from gradient.autograd.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from gradient.dtypes import (
    DType,
    bfloat16,
    can_cast,
    finfo,
    float16,
    float32,
    float64,
    get_default_dtype,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    promote_types,
    result_type,
    set_default_dtype,
    uint8,
    uint16,
    uint32,
    uint64,
)
from gradient.dtypes import bool_ as bool
from gradient.dtypes import packed as _packed
from gradient.dtypes.packed import *
from gradient.random import (
    Generator,
    bernoulli,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    multinomial,
    normal,
    rand,
    rand_like,
    randint,
    randint_like,
    randn,
    randn_like,
    randperm,
    seed,
    set_rng_state,
)
from gradient.tensor import Size, Tensor
from gradient.tensor.creation import (
    allclose,
    arange,
    as_tensor,
    asarray,
    empty,
    empty_like,
    equal,
    eye,
    full,
    full_like,
    is_floating_point,
    is_tensor,
    linspace,
    logspace,
    numel,
    ones,
    ones_like,
    tensor,
    tril_indices,
    triu_indices,
    zeros,
    zeros_like,
)
from gradient.tensor.device import Device as device
from gradient.tensor.functions import (
    abs,
    absolute,
    acos,
    acosh,
    add,
    addcdiv,
    addcmul,
    addmm,
    all,
    amax,
    amin,
    aminmax,
    any,
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    argmax,
    argmin,
    argsort,
    argwhere,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    baddbmm,
    bincount,
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    bmm,
    broadcast_to,
    ceil,
    chunk,
    clamp,
    clip,
    clone,
    cos,
    cosh,
    count_nonzero,
    cumprod,
    cumsum,
    detach,
    diag,
    diag_embed,
    diagonal,
    div,
    divide,
    dot,
    eq,
    erf,
    erfc,
    exp,
    exp2,
    expm1,
    flatten,
    flip,
    floor,
    floor_divide,
    fmod,
    frac,
    gather,
    ge,
    greater,
    greater_equal,
    gt,
    index_add,
    index_copy,
    index_fill,
    index_select,
    inner,
    isclose,
    isfinite,
    isinf,
    isnan,
    kthvalue,
    le,
    lerp,
    less,
    less_equal,
    log,
    log1p,
    log2,
    log10,
    log_softmax,
    logaddexp,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    logit,
    logsumexp,
    lt,
    masked_fill,
    masked_scatter,
    masked_select,
    matmul,
    max,
    maximum,
    mean,
    median,
    min,
    minimum,
    mm,
    moveaxis,
    movedim,
    mul,
    multiply,
    mv,
    nan_to_num,
    narrow,
    ne,
    neg,
    negative,
    nonzero,
    norm,
    not_equal,
    outer,
    permute,
    pow,
    prod,
    quantile,
    ravel,
    reciprocal,
    relu,
    remainder,
    repeat_interleave,
    reshape,
    roll,
    round,
    rsqrt,
    rsub,
    scatter,
    scatter_add,
    select,
    sigmoid,
    sign,
    sin,
    sinh,
    softmax,
    sort,
    split,
    sqrt,
    square,
    squeeze,
    std,
    sub,
    subtract,
    sum,
    swapaxes,
    swapdims,
    t,
    take,
    take_along_dim,
    tan,
    tanh,
    tensor_split,
    tile,
    topk,
    trace,
    transpose,
    tril,
    triu,
    true_divide,
    trunc,
    unbind,
    unflatten,
    unique,
    unsqueeze,
    var,
)
from gradient.tensor.interop import from_dlpack, from_numpy
from gradient.tensor.joining import (
    broadcast_shapes,
    broadcast_tensors,
    cat,
    concat,
    concatenate,
    einsum,
    hstack,
    meshgrid,
    stack,
    vstack,
    where,
)
from gradient.tensor.printing import set_printoptions

# For editors and type checkers; at run time these are imported when first named (`__getattr__`).
if TYPE_CHECKING:
    from gradient import amp as amp
    from gradient import checkpoints as checkpoints
    from gradient import data as data
    from gradient import embedding as embedding
    from gradient import evaluation as evaluation
    from gradient import functional as functional
    from gradient import generation as generation
    from gradient import hub as hub
    from gradient import io as io
    from gradient import kv_cache as kv_cache
    from gradient import models as models
    from gradient import nn as nn
    from gradient import optim as optim
    from gradient import quantization as quantization
    from gradient import testing as testing
    from gradient import text as text
    from gradient import training as training
    from gradient import utils as utils
    from gradient.amp import autocast as autocast
    from gradient.io import load, save

# As in PyTorch, log(0) and the like give inf and nan without a word: NumPy's floating-point
# warnings are silenced where they come from our own frames, and nowhere else.
warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"gradient(\.|$)")


__version__ = "0.1.0"

double, half, long, short = float64, float16, int64, int16
float, int = float32, int32

_LATE = {
    "amp": "gradient.amp",
    "checkpoints": "gradient.checkpoints",
    "cuda": "gradient.cuda",
    "data": "gradient.data",
    "embedding": "gradient.embedding",
    "evaluation": "gradient.evaluation",
    "functional": "gradient.functional",
    "generation": "gradient.generation",
    "hub": "gradient.hub",
    "io": "gradient.io",
    "kv_cache": "gradient.kv_cache",
    "models": "gradient.models",
    "nn": "gradient.nn",
    "optim": "gradient.optim",
    "quantization": "gradient.quantization",
    "testing": "gradient.testing",
    "text": "gradient.text",
    "training": "gradient.training",
    "utils": "gradient.utils",
}
"""Modules that are imported when first named."""

_LATE_FUNCTIONS = {
    "autocast": "gradient.amp",
    "get_num_threads": "gradient.backends.numpy.threads",
    "load": "gradient.io",
    "save": "gradient.io",
    "set_num_threads": "gradient.backends.numpy.threads",
}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return importlib.import_module(_LATE[name])
    if name in _LATE_FUNCTIONS:
        return getattr(importlib.import_module(_LATE_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'gradient' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE, *_LATE_FUNCTIONS})


__all__ = [
    "DType", "Generator", "Size", "Tensor", "abs", "absolute", "acos", "acosh", "add", "addcdiv",
    "addcmul", "addmm", "all", "allclose", "amax", "amin", "aminmax", "any", "arange", "arccos",
    "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "argmax", "argmin", "argsort",
    "argwhere", "as_tensor", "asarray", "asin", "asinh", "atan", "atan2", "atanh", "autograd",
    "backends", "baddbmm", "bernoulli", "bfloat16", "bincount", "bitwise_and", "bitwise_not",
    "bitwise_or", "bitwise_xor", "bmm", "bool", "broadcast_shapes", "broadcast_tensors",
    "broadcast_to", "can_cast", "cat", "ceil", "chunk", "clamp", "clip", "clone", "concat",
    "concatenate", "cos", "cosh", "count_nonzero", "cumprod", "cumsum", "default_generator",
    "detach", "device", "diag", "diag_embed", "diagonal", "div", "divide", "dot", "double",
    "einsum", "empty", "empty_like", "enable_grad", "eq", "equal", "erf", "erfc", "exp", "exp2",
    "expm1", "eye", "finfo", "flatten", "flip", "float", "float16", "float32", "float64", "floor",
    "floor_divide", "fmod", "frac", "from_dlpack", "from_numpy", "full", "full_like", "gather",
    "ge", "get_default_dtype", "get_num_threads", "get_rng_state", "greater", "greater_equal", "gt",
    "half", "hstack", "iinfo", "index_add", "index_copy", "index_fill", "index_select",
    "inference_mode", "initial_seed", "inner", "int", "int16", "int32", "int64", "int8",
    "is_floating_point", "is_grad_enabled", "is_inference_mode_enabled", "is_tensor", "isclose",
    "isfinite", "isinf", "isnan", "kthvalue", "le", "lerp", "less", "less_equal", "linspace",
    "load", "log", "log10", "log1p", "log2", "log_softmax", "logaddexp", "logical_and",
    "logical_not", "logical_or", "logical_xor", "logit", "logspace", "logsumexp", "long", "lt",
    "manual_seed", "masked_fill", "masked_scatter", "masked_select", "matmul", "max", "maximum",
    "mean", "median", "meshgrid", "min", "minimum", "mm", "moveaxis", "movedim", "mul",
    "multinomial", "multiply", "mv", "nan_to_num", "narrow", "ne", "neg", "negative", "no_grad",
    "nonzero", "norm", "normal", "not_equal", "numel", "ones", "ones_like", "outer", "permute",
    "pow", "prod", "promote_types", "quantile", "rand", "rand_like", "randint", "randint_like",
    "randn", "randn_like", "random", "randperm", "ravel", "reciprocal", "relu", "remainder",
    "repeat_interleave", "reshape", "result_type", "roll", "round", "rsqrt", "rsub", "save",
    "scatter", "scatter_add", "seed", "select", "set_default_dtype", "set_grad_enabled",
    "set_num_threads", "set_printoptions", "set_rng_state", "short", "sigmoid", "sign", "sin",
    "sinh", "softmax", "sort", "split", "sqrt", "square", "squeeze", "stack", "std", "sub",
    "subtract", "sum", "swapaxes", "swapdims", "t", "take", "take_along_dim", "tan", "tanh",
    "tensor", "tensor_split", "tile", "topk", "trace", "transpose", "tril", "tril_indices", "triu",
    "triu_indices", "true_divide", "trunc", "uint16", "uint32", "uint64", "uint8", "unbind",
    "unflatten", "unique", "unsqueeze", "var", "vstack", "where", "zeros", "zeros_like",
]  # fmt: skip
__all__ += _packed.__all__

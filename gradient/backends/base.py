"""The contract of a backend: arrays and kernels, nothing about gradients.

`Backend` has two kinds of methods:

* required methods (`gradient.backends.required`), for which an array library needs a line each;
* composed defaults (`gradient.backends.composed`), which use only operators and `be` methods. They
  run on every backend, also on opaque handles and Tensors, so each op works everywhere and can be
  differentiated to any order. A fast kernel is an *override* of such a default; the tests compare
  the two.

16-bit floats are for storage: composed defaults compute in float32 and round once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.composed.alignments import AlignmentDefaults
from gradient.backends.composed.batch_norm import BatchNormDefaults
from gradient.backends.composed.cached_attention import CachedAttentionDefaults
from gradient.backends.composed.complex_numbers import ComplexDefaults
from gradient.backends.composed.convolution import ConvolutionDefaults
from gradient.backends.composed.decompositions import DecompositionDefaults
from gradient.backends.composed.feedback import FeedbackDefaults
from gradient.backends.composed.grid_sampling import GridSamplingDefaults
from gradient.backends.composed.grouped import GroupedDefaults
from gradient.backends.composed.norms import NormDefaults
from gradient.backends.composed.optimizers import OptimizerDefaults
from gradient.backends.composed.packed import PackedDefaults
from gradient.backends.composed.pooling import PoolingDefaults
from gradient.backends.composed.recurrent import RecurrentDefaults
from gradient.backends.composed.rng import RandomDefaults
from gradient.backends.composed.scans import ScanDefaults
from gradient.backends.composed.scattering import ScatteringDefaults
from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.composed.special import BesselDefaults, GammaDefaults, NormalDefaults
from gradient.backends.required import Array
from gradient.dtypes.promotion import WideNumber

__all__ = ["Backend"]

LARGE = 1 << 16
"""Elements of arrays beside which it costs little to ask whether a kernel takes them."""


class Backend(
    GroupedDefaults[Array],
    CachedAttentionDefaults[Array],
    PackedDefaults[Array],
    ConvolutionDefaults[Array],
    BatchNormDefaults[Array],
    PoolingDefaults[Array],
    GridSamplingDefaults[Array],
    RecurrentDefaults[Array],
    AlignmentDefaults[Array],
    DecompositionDefaults[Array],
    NormDefaults[Array],
    NormalDefaults[Array],
    GammaDefaults[Array],
    BesselDefaults[Array],
    ComplexDefaults[Array],
    RandomDefaults[Array],
    OptimizerDefaults[Array],
    ScatteringDefaults[Array],
    ScanDefaults[Array],
    FeedbackDefaults[Array],
    ShapeDefaults[Array],
):
    """Arrays of one device. Subclass it, supply the required methods, and `register` it."""

    composed_in_plans: frozenset[str] = frozenset()
    """Methods of which plans record the composed definition, whose calls are then fused with those
    before and after them."""

    kept_whole = frozenset(
        {
            *("adamw_step", "sgd_step", "rmsprop_step", "lion_step"),
            *("foreach_mul", "foreach_unscale", "update_scale", "total_norm"),
            *("philox", "uniform", "normal", "integers"),
            *("check_indices", "check_range", "check_true"),
            *("grouped_linear", "grouped_linear_input_grad", "grouped_linear_weight_grad"),
            *(name for name in vars(DecompositionDefaults) if not name.startswith("_")),
            *("gammainc", "gammaincc"),
        }
    )
    """Methods that a recorded plan never takes apart: they change arrays, look at values, or are
    given numbers that change from step to step. A backend adds those whose kernels take or leave a
    case by what the arrays hold."""

    one_pass_from = 0
    """Elements of arrays from which operators are computed by `in_one_pass`; arrays then have a
    `size`. 0: it does no more than call the function."""
    repeats_are_read_only = True
    """Whether arrays that show an element twice refuse to be written to by themselves; where they
    do not, arrays have `flags`, and `assign` refuses."""

    strided = False
    """Whether arrays have strides: what `getitem` gives for ints and slices, and `permute` and
    `broadcast_to`, then always shows the memory of what they are given."""

    wide_number: Callable[[float], WideNumber] | None = None
    """Makes the `WideNumber` that operators take beside 16-bit floats; None if they take none."""

    mixes_floats = False
    """Whether +, - and * take 16-bit floats beside float32, and compute in that: a cast before them
    would be another pass."""

    looks_along = False
    """Whether `take_along` and `put_along` raise IndexError for an index below zero or too large,
    before anything is written: they need not be looked at before."""

    reads_values = True
    """Whether `to_numpy` works: the arrays of `vmap` (`batched`) have no value of one sample."""

    on_tensors: Any = None
    """The backend whose arrays are Tensors of this one (`gradient.tensor_backend`), once needed."""

    def of_values(self, function: Callable[..., np.ndarray], *arrays: Array) -> Array:
        """The array of function(...) of NumPy's arrays of the values, which the host computes. The
        function broadcasts, or its leading axes are free: in `vmap` there is one more."""
        return self.asarray(np.asarray(function(*map(self.to_numpy, arrays))))

    def own(self, x: Array) -> Array:
        """x itself; in `vmap` a copy for each sample."""
        return x

    def in_one_pass(self, function: Callable[..., Any], *operands: Any) -> Any:
        """Return function(self, *operands), where `function` uses only operators. Operands are
        arrays of at least `one_pass_from` elements, and numbers. A backend may fuse the operators
        to one pass over memory."""
        return function(self, *operands)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.device!r}>"

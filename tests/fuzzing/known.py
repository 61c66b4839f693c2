"""The differences from PyTorch that we mean, or that it leaves open: each with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

import gradient
from fuzzing import interpreter
from fuzzing.comparison import GRADIENTS, Difference
from fuzzing.interpreter import Raised, Taken, overwrites
from fuzzing.program import Array, Ref, arguments, leaves, line
from fuzzing.replay import (
    agrees,
    as_near_in_float64,
    near_a_step,
    overlaps,
    raised_in_place,
    recorded_logical_not,
    sharing_differs,
    with_numbers,
)


@dataclass(frozen=True)
class Known:
    reason: str
    covers: Callable[[Difference], bool]


def _says(value: object, *words: str) -> bool:
    if isinstance(value, list):
        return any(_says(v, *words) for v in value)
    return isinstance(value, Raised) and any(w in str(value.error) for w in words)


def _zeros(value: object) -> bool:
    return isinstance(value, Taken) and not np.any(value.values)


def _named(difference: Difference, *names: str) -> bool:
    return difference.function.lstrip(".").removeprefix("nn.functional.") in names


def _uses(difference: Difference, *names: str) -> bool:
    return any(s.function.rpartition(".")[2] in names for s in difference.program)


def _text(difference: Difference) -> str:
    return "".join(line(i, s) for i, s in enumerate(difference.program))


def _nan_only_in_theirs(difference: Difference, finite: bool = True) -> bool:
    """Whether the numbers agree but for those that are NaN in PyTorch's answer alone, where ours
    are finite unless that is not asked."""
    a, b = difference.ours, difference.theirs
    if not isinstance(a, Taken) or not isinstance(b, Taken):
        return False
    same = np.isclose(a.values, b.values, rtol=1e-2, atol=1e-6, equal_nan=True)
    if not finite:
        return bool((same | np.isnan(b.values)).all())
    return bool((same | (~np.isfinite(b.values) & np.isfinite(a.values))).all())


def _left_out(difference: Difference) -> bool:
    """Whether our gradient of zeros is none in PyTorch's answer."""
    return (
        difference.kind == "gradient None" and difference.theirs is None and _zeros(difference.ours)
    )


def _dtypes(difference: Difference) -> set[str]:
    return set(re.findall(r"dtype=torch\.(\w+)", _text(difference)))


def _nan_only_in_ours(difference: Difference) -> bool:
    a, b = difference.ours, difference.theirs
    if not isinstance(a, Taken) or not isinstance(b, Taken):
        return False
    return bool((np.isclose(a.values, b.values, equal_nan=True) | np.isnan(a.values)).all())


def _finite_agree(difference: Difference) -> bool:
    """Whether the numbers that are finite under both agree."""
    a, b = difference.ours, difference.theirs
    if not isinstance(a, Taken) or not isinstance(b, Taken):
        return False
    both = np.isfinite(a.values) & np.isfinite(b.values)
    limit = 1e-6 if b.dtype in ("float32", "float64") else 1e-2
    return bool(np.allclose(a.values[both], b.values[both], rtol=limit, atol=limit))


def _not_finite_alike(difference: Difference) -> bool:
    """Whether the numbers agree but for those that are finite under neither."""
    a, b = difference.ours, difference.theirs
    if not isinstance(a, Taken) or not isinstance(b, Taken):
        return False
    finite = np.isfinite(a.values)
    return bool((finite == np.isfinite(b.values)).all()) and _finite_agree(difference)


def _inf(difference: Difference) -> bool:
    return "inf" in _text(difference) or "nan" in _text(difference)


def _permuted(difference: Difference) -> bool:
    """Whether both have the same numbers, at other places."""
    a, b = difference.ours, difference.theirs
    if not isinstance(a, Taken) or not isinstance(b, Taken):
        return False
    return bool(np.allclose(*(np.sort(t.values.reshape(-1)) for t in (a, b)), equal_nan=True))


def _type_told_first(difference: Difference) -> bool:
    """Whether PyTorch refuses the type of an argument, and ours something else."""
    ours, theirs = difference.ours.error, difference.theirs.error
    if not isinstance(theirs, TypeError) or not isinstance(ours, gradient.errors.GradientError):
        return False
    wrong = re.search(r"argument '(\w+)'", str(theirs))
    if wrong is None:
        phrases = (
            "invalid combination of arguments",
            "not supported between instances",
            "len() of a 0-d tensor",
        )
        return any(phrase in str(theirs) for phrase in phrases)
    return re.search(rf"\b{wrong.group(1)}\b", str(ours)) is None


def _leaf_is_a_view(difference: Difference) -> bool:
    return any(
        isinstance(v, Array) and v.requires_grad and v.layout != "contiguous"
        for s in difference.program
        for v in leaves(arguments(s))
    )


def _agrees_if_recorded(difference: Difference) -> bool:
    with recorded_logical_not():
        return agrees(difference.program)


def _within(difference: Difference, limit: float) -> bool:
    a, b = difference.ours, difference.theirs
    if not isinstance(a, Taken) or not isinstance(b, Taken):
        return False
    return bool(np.allclose(a.values, b.values, rtol=limit, atol=limit, equal_nan=True))


NORMS = ("norm", "cosine_similarity", "CosineSimilarity", "normalize", "pairwise_distance",
         "PairwiseDistance", "cdist", "triplet_margin_loss", "TripletMarginLoss")  # fmt: skip
AT_ZERO = (*NORMS, "atan2", "arctan2", "pow", "pow_", "**", "**=", "rsqrt", "mish", "Mish",
           "logit", "logaddexp", "var", "std")  # fmt: skip
CHOOSING = ("median", "kthvalue", "quantile", "topk", "sort", "max", "min", "MaxPool1d",
            "MaxPool2d", "MaxPool3d", "max_pool1d", "max_pool2d", "max_pool3d",
            "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")  # fmt: skip
LATE = (".requires_grad_",)

NO_KERNEL = (
    "not implemented for", "not supported for", "float or double dtype", "not support bool dtypes",
    "does not support bool input",
)  # fmt: skip

KNOWN: list[Known] = [
    Known(
        "PyTorch's CPU kernel of the function lacks the dtype; ours takes it",
        lambda d: d.kind == "accepted" and _says(d.theirs, *NO_KERNEL),
    ),
    Known(
        "we keep fewer values for the gradient, so that fewer writes are refused",
        lambda d: (
            d.kind in ("gradient accepted", "second accepted")
            and _says(d.theirs, "modified by an inplace operation")
        ),
    ),
    Known(
        "PyTorch has no derivative of the function, or no second one; ours differentiate to any "
        "order, and that of a step function is 0",
        lambda d: (
            d.kind in ("accepted", "gradient accepted", "second accepted")
            and _says(
                d.theirs,
                "derivative for",
                "the derivative of",
                "is not differentiable with respect",
            )
        ),
    ),
    Known(
        "one of several views of split, chunk or unbind may be written",
        lambda d: d.kind == "accepted" and _says(d.theirs, "function that returns multiple views"),
    ),
    Known(
        "the result is computed before it is written, so that the source may overlap with it",
        lambda d: (
            d.kind == "accepted"
            and _says(d.theirs, "some elements of the input tensor and the written-to tensor")
        ),
    ),
    Known(
        "which of several equal elements (or NaN) is chosen is not defined",
        lambda d: (
            d.kind == "value"
            and (
                _named(d, "kthvalue", "median", "topk", "sort", "argsort")
                or "max_pool" in d.function
            )
            and isinstance(d.theirs, Taken)
            and d.theirs.dtype == "int64"
        ),
    ),
    Known(
        "PyTorch has no gradient of the number of elements that are not 0; ours is 0",
        lambda d: _left_out(d) and _uses(d, "norm"),
    ),
    Known(
        "an input that beta=0 leaves out has no gradient, where PyTorch gives zeros",
        lambda d: (
            _uses(d, "addmm", "addmv", "baddbmm", "addbmm", "addr")
            and "beta=0" in _text(d)
            and (
                (d.kind == "gradient None" and d.ours is None and _zeros(d.theirs))
                or (d.kind in ("requires_grad", "is_leaf") and d.theirs.requires_grad)
            )
        ),
    ),
    Known(
        "a reflected method that PyTorch offers as a function alone",
        lambda d: d.kind == "accepted" and _says(d.theirs, "has no attribute 'rsub'"),
    ),
    Known(
        "PyTorch does not record that logical_not_ overwrites a value, and does so to leaves",
        lambda d: (
            (d.kind == "refused" and _named(d, "logical_not_"))
            or (d.kind in GRADIENTS and _uses(d, "logical_not_") and _agrees_if_recorded(d))
        ),
    ),
    Known(
        "PyTorch's gradient of batch_norm reads a weight with gaps, or an expanded one, as if it "
        "had neither",
        lambda d: (
            d.kind in ("gradient", "second")
            and _uses(d, "batch_norm")
            and ("::2" in _text(d) or "expand" in _text(d))
        ),
    ),
    Known(
        "which of several NaN a max_pool chooses is not defined",
        lambda d: (
            d.kind in ("gradient", "second")
            and "max_pool" in _text(d)
            and _text(d).count("nan") > 1
        ),
    ),
    Known(
        "floor division has a gradient of 0",
        lambda d: _left_out(d) and _uses(d, "//=", "//", "floor_divide", "floor_divide_"),
    ),
    Known(
        "an operation in place that raises may have written a part",
        lambda d: d.kind in ("value", "final") and raised_in_place(d),
    ),
    Known(
        "PyTorch reads a source that overlaps with what it writes while it writes it",
        lambda d: d.kind == "value" and overwrites(d.program[d.index]) and overlaps(d),
    ),
    Known(
        "the eps of cosine_similarity is 0 in float16, and a vector of zeros is divided by it",
        lambda d: (
            d.kind in ("gradient", "second")
            and _uses(d, "cosine_similarity")
            and "float16" in _dtypes(d)
        ),
    ),
    Known(
        "PyTorch multiplies `value` with a factor in the dtype of that factor",
        lambda d: (
            d.kind in ("gradient", "second")
            and _uses(d, "addcmul", "addcmul_", "addcdiv", "addcdiv_")
            and len(_dtypes(d)) > 1
        ),
    ),
    Known(
        "PyTorch computes a logspace of integers from integer ends",
        lambda d: d.kind == "value" and _named(d, "logspace") and "int" in d.theirs.dtype,
    ),
    Known(
        "PyTorch fails an assertion of its own",
        lambda d: (
            d.kind in ("accepted", "gradient accepted", "second accepted")
            and _says(d.theirs, "INTERNAL ASSERT FAILED")
        ),
    ),
    Known(
        "attention leaves masked keys out, where PyTorch multiplies what is not finite with 0",
        lambda d: (
            d.kind in ("value", "gradient", "second")
            and _uses(d, "scaled_dot_product_attention")
            and any(w in _text(d) for w in ("float('inf')", "float('-inf')", "float('nan')"))
        ),
    ),
    Known(
        "PyTorch fills integers with a tensor that requires a gradient, and then they require one",
        lambda d: (
            d.kind in ("requires_grad", "is_leaf")
            and _named(d, "fill_", "masked_fill_", "index_fill_")
            and "float" not in d.theirs.dtype
        ),
    ),
    Known(
        "random draws have no gradient, where PyTorch gives zeros",
        lambda d: d.kind == "requires_grad" and _named(d, "bernoulli"),
    ),
    Known(
        "PyTorch takes 1/6 in float32, also in float64",
        lambda d: (
            d.kind in ("gradient", "second")
            and _uses(d, "hardsigmoid", "Hardsigmoid", "hardswish", "Hardswish")
            and _within(d, 1e-7)
        ),
    ),
    Known(
        "an expanded tensor shares memory with itself, so that no part of it is written",
        lambda d: _says(d.ours, "the memory of this tensor cannot be"),
    ),
    Known(
        "scatter's reduce='multiply' is not offered; PyTorch advises against it",
        lambda d: d.kind == "refused" and _says(d.ours, "expected reduce None or 'add'"),
    ),
    Known(
        "the strides of a new result are our own, and with them what a reshape has to copy",
        lambda d: (
            (d.kind == "value" and _named(d, "stride", "is_contiguous"))
            or (d.kind == "accepted" and _says(d.theirs, "view size is not compatible"))
            or sharing_differs(d)
        ),
    ),
    Known(
        "an infinite weight is multiplied with the reciprocal of a deviation first in PyTorch",
        lambda d: (
            d.kind == "value"
            and _named(d, "instance_norm", "group_norm", "batch_norm")
            and "inf" in _text(d)
        ),
    ),
    Known(
        "what has no gradient requires none",
        lambda d: d.kind == "requires_grad" and _named(d, "unique"),
    ),
    Known(
        "numbers, not tensors that hold them, are sizes",
        lambda d: (
            d.kind in ("refused", "error")
            and _says(d.ours, "got tensor(", "got (tensor(", "over a 0-d tensor")
            and agrees(with_numbers(d))
        ),
    ),
    Known(
        "whether a weight that is not finite meets the zeros of the padding depends on the kernel",
        lambda d: (
            d.kind in ("value", "gradient", "second")
            and any("conv" in s.function.lower() for s in d.program)
            and _finite_agree(d)
        ),
    ),
    Known(
        "PyTorch draws random numbers of any dtype where there are none to draw",
        lambda d: (
            d.kind == "refused"
            and _named(d, "randn", "randn_like", "rand_like", "normal", "normal_", "bernoulli")
            and isinstance(d.theirs, Taken)
            and not d.theirs.values.size
        ),
    ),
    Known(
        "PyTorch looks at neither the dtype nor the indices where there is nothing to compute",
        lambda d: (
            d.kind == "refused"
            and _named(
                d,
                "softmax",
                "log_softmax",
                "softmin",
                "index_add",
                "index_add_",
                "index_copy",
                "index_copy_",
                "scaled_dot_product_attention",
            )
            and isinstance(d.theirs, Taken)
            and not d.theirs.values.size
        ),
    ),
    Known(
        "PyTorch's Python code fails on an argument that is no tensor; ours names it",
        lambda d: (
            d.kind == "error"
            and _says(d.theirs, "object has no attribute")
            and _says(d.ours, "expected a Tensor")
        ),
    ),
    Known(
        "an argument of a wrong type is a TypeError, also where PyTorch raises another",
        lambda d: (
            d.kind == "error"
            and isinstance(d.ours, Raised)
            and isinstance(d.ours.error, TypeError)
            and _says(
                d.theirs,
                "high must be a scalar tensor",
                "only supports 0-dimensional start",
                "with a bool tensor is not supported",
            )
        ),
    ),
    Known(
        "a wrong dtype is a DTypeError, also where PyTorch raises TypeError for it",
        lambda d: d.kind == "error" and _named(d, "invert"),
    ),
    Known(
        "the remainder of a whole multiple is 0 as in NumPy, in PyTorch 0 of the dividend's sign",
        lambda d: (
            d.kind == "value"
            and _uses(d, "remainder", "remainder_")
            and _uses(d, "reciprocal", "reciprocal_", "div", "div_", "atan2", "copysign")
        ),
    ),
    Known(
        "PyTorch takes an input of any number of dimensions here, and fails at one that is missing",
        lambda d: (
            d.kind == "error"
            and _named(
                d,
                "unfold",
                "adaptive_avg_pool2d",
                "avg_pool2d",
                "scatter_add_",
                "scatter",
                "scatter_",
                "batch_norm",
                "baddbmm",
                "mv",
                "scaled_dot_product_attention",
                "instance_norm",
                "bilinear",
                "index_add",
                "index_add_",
                "embedding",
                "cross_entropy",
                "call",
            )
            and _says(
                d.theirs, "Dimension out of range", "tensor has no dimensions", "tuple index out"
            )
        ),
    ),
    Known(
        "copy_'s argument is called src, by its documentation; PyTorch's parser says other",
        lambda d: _named(d, "copy_") and _says(d.theirs, 'arguments: "other"'),
    ),
    Known(
        "a difference to a bool is refused as by -; PyTorch's fused loss computes it",
        lambda d: (
            d.kind == "refused"
            and (d.function.endswith(("_loss", "pairwise_distance")) or d.function == "call")
            and _says(d.ours, "expected numbers, got bool")
        ),
    ),
    Known(
        "rsub is a method, too",
        lambda d: _named(d, "rsub") and _says(d.theirs, "has no attribute 'rsub'"),
    ),
    Known(
        "of two mistakes, the write to a leaf is told before the index that is out of range",
        lambda d: (
            d.kind == "error"
            and _named(d, "setitem")
            and _says(d.theirs, "is out of bounds", "too many indices")
        ),
    ),
    Known(
        "PyTorch takes indices that are out of range, and counts them anew",
        lambda d: d.kind == "refused" and _named(d, "take_along_dim"),
    ),
    Known(
        "attention keeps its result for the gradient, PyTorch the probabilities",
        lambda d: d.kind == "gradient refused" and _says(d.ours, "backward: attention"),
    ),
    Known(
        "of 16 or 32 bits, ours is as near to the result in float64 as PyTorch's",
        lambda d: (
            d.kind in ("value", "gradient", "second")
            and isinstance(d.theirs, Taken)
            and d.theirs.dtype in ("float16", "bfloat16", "float32")
            and as_near_in_float64(d)
        ),
    ),
    Known(
        "PyTorch reads other memory for the median of an expanded tensor",
        lambda d: _named(d, "median") and "expand" in _text(d),
    ),
    Known(
        "PyTorch's formula for the gradient fails on integers or bools, or gives another shape",
        lambda d: (
            d.kind == "gradient accepted"
            and _says(
                d.theirs,
                "can't be cast to the desired",
                "bool tensor is not supported",
                "returned an invalid gradient",
                "to have non-zero size",
                "doesn't match the broadcast shape",
            )
        ),
    ),
    Known(
        "a sum asked for in an integer dtype has no gradient, where PyTorch raises",
        lambda d: d.kind == "accepted" and _says(d.theirs, "Autograd not support dtype"),
    ),
    Known(
        "PyTorch's second derivative divides 0 by 0, where ours is that of a constant",
        lambda d: d.kind == "second" and _uses(d, *AT_ZERO) and _nan_only_in_theirs(d),
    ),
    Known(
        "PyTorch's gradient overflows (exp of a large number) or divides by zero; ours is finite",
        lambda d: (
            d.kind == "gradient"
            and _uses(d, "soft_margin_loss", "SoftMarginLoss", "kl_div", "KLDivLoss")
            and _nan_only_in_theirs(d)
        ),
    ),
    Known(
        "the second derivative at a kink is that of either side",
        lambda d: (
            d.kind == "second"
            and _uses(d, "elu", "ELU", "celu", "CELU", "selu", "SELU", "prelu", "PReLU")
            and "0.0" in _text(d)
        ),
    ),
    Known(
        "PyTorch's hardswish has a gradient at NaN",
        lambda d: (
            d.kind in ("gradient", "second")
            and _uses(d, "hardswish", "Hardswish")
            and "nan" in _text(d)
        ),
    ),
    Known(
        "PyTorch adds 1e-12 in the derivatives of binary_cross_entropy",
        lambda d: (
            d.kind in ("gradient", "second")
            and _uses(d, "binary_cross_entropy", "BCELoss")
            and _within(d, 1e-8)
        ),
    ),
    Known(
        "rms_norm keeps its input for the gradient, PyTorch what it computed of it",
        lambda d: d.kind == "gradient refused" and _uses(d, "rms_norm", "RMSNorm"),
    ),
    Known(
        "dequantize of plain numbers is a view",
        lambda d: _named(d, "dequantize"),
    ),
    Known(
        "the legacy arguments size_average and reduce are not taken",
        lambda d: (
            d.kind == "refused"
            and d.function.startswith("nn.functional.")
            and _says(d.ours, "positional arguments but")
        ),
    ),
    Known(
        "PyTorch reads a lone True or number as a dtype or a device",
        lambda d: (
            d.kind in ("refused", "error")
            and _named(d, "to")
            and _says(d.ours, "a dtype, a device or a tensor, got")
            and (
                isinstance(d.theirs, Taken)
                or _says(d.theirs, "Cannot access accelerator", "Device index")
            )
        ),
    ),
    Known(
        "PyTorch does not look at the dimension where all are vectors of nothing",
        lambda d: (
            d.kind == "refused"
            and _named(d, "cat", "concat", "concatenate")
            and isinstance(d.theirs, Taken)
            and d.theirs.shape == (0,)
        ),
    ),
    Known(
        "in PyTorch, views of a leaf that is a view itself leave the graph when it is written",
        lambda d: (
            d.kind in ("gradient None", "second None", *GRADIENTS)
            and _leaf_is_a_view(d)
            and _uses(d, "detach", "data")
            and any(map(overwrites, d.program))
        ),
    ),
    Known(
        "PyTorch refuses to write into a view of what came to require a gradient after it",
        lambda d: (
            d.kind == "accepted"
            and overwrites(d.program[d.index])
            and _says(d.theirs, "a leaf Variable that requires grad is being used in an in-place")
            and not interpreter.start(torch, d.program[: d.index], None)[0]
            .resolve(d.program[d.index].args[0])
            .is_leaf
        ),
    ),
    Known(
        "PyTorch's adaptive_avg_pool to one number is a mean of any input",
        lambda d: (
            d.kind == "refused"
            and _says(d.ours, "adaptive_avg_pool2d: expected", "adaptive_avg_pool3d: expected")
            and isinstance(d.theirs, Taken)
            and d.theirs.values.size == int(np.prod(d.theirs.shape[:-2]))
        ),
    ),
    Known(
        "PyTorch draws what has probability 0 where too little has more",
        lambda d: d.kind == "refused" and _says(d.ours, "too few weights are positive"),
    ),
    Known(
        "PyTorch's Python code fails on a reduction that is no str",
        lambda d: d.kind == "error" and _says(d.theirs, "unsupported operand type(s) for +: "),
    ),
    Known(
        "PyTorch fails a check of its own on a bool where it wants an int",
        lambda d: d.kind == "error" and _says(d.theirs, "scalar.isIntegral( false) to be true"),
    ),
    Known(
        "of two mistakes, PyTorch tells the number of indices before what is no index",
        lambda d: (
            d.kind == "error"
            and _named(d, "getitem", "setitem")
            and _says(d.theirs, "too many indices for tensor")
            and _says(d.ours, "index: expected ints")
        ),
    ),
    Known(
        "PyTorch's lerp computes integers in the dtype of a 0-d weight",
        lambda d: (
            d.kind == "refused" and _says(d.ours, "lerp: expected a floating-point dtype, got")
        ),
    ),
    Known(
        "PyTorch takes a number from a tensor that requires a gradient, which is lost",
        lambda d: (
            d.kind in ("refused", "error")
            and _says(d.ours, "got a tensor that requires a gradient")
        ),
    ),
    Known(
        "PyTorch's interpolation multiplies an infinite neighbour with 0",
        lambda d: (
            d.kind in ("value", "gradient", "second")
            and _uses(d, "interpolate", "Upsample", "UpsamplingBilinear2d", "UpsamplingNearest2d")
            and _nan_only_in_theirs(d)
        ),
    ),
    Known(
        "PyTorch sees the result of some functions as views of what nobody holds",
        lambda d: d.kind == "accepted" and _named(d, "detach_") and _says(d.theirs, "detach views"),
    ),
    Known(
        "what requires a gradient only after it was used has none through what used it",
        lambda d: (
            d.kind == "second None"
            and d.ours is None
            and any(s.function in LATE and isinstance(s.args[0], Ref) for s in d.program)
        ),
    ),
    Known(
        "at a norm of 0 the gradient is 0, in PyTorch 0 times what comes in, which may be NaN",
        lambda d: d.kind in ("gradient", "second") and _uses(d, *NORMS) and _nan_only_in_theirs(d),
    ),
    Known(
        "where a second derivative is not finite, formulas differ in infinite, NaN",
        lambda d: d.kind == "second" and _not_finite_alike(d),
    ),
    Known(
        "products of infinities and zeros, taken in another order",
        lambda d: (
            d.kind in GRADIENTS
            and _uses(d, "prod", "cumprod")
            and (_inf(d) or "float16" in _dtypes(d))
            and _finite_agree(d)
        ),
    ),
    Known(
        "of equal elements (or NaN) any may be chosen, and have the gradient",
        lambda d: d.kind in ("gradient", "second") and _uses(d, *CHOOSING) and _permuted(d),
    ),
    Known(
        "PyTorch's unique of slices does not order NaN",
        lambda d: _named(d, "unique") and "nan" in _text(d) and "dim" in _text(d),
    ),
    Known(
        "PyTorch does not see that a write through .data overwrites what the gradient needs",
        lambda d: d.kind == "gradient refused" and _uses(d, "data") and _says(d.ours, "overwrote"),
    ),
    Known(
        "PyTorch may see views of a leaf that it gave before it required a gradient otherwise",
        lambda d: (
            d.kind in ("is_leaf", "requires_grad")
            and d.ours.requires_grad
            and any(s.function in LATE for s in d.program)
        ),
    ),
    Known(
        "PyTorch's linear adds a bias of any shape and dtype, and takes a vector as the weight",
        lambda d: d.kind == "refused" and _named(d, "linear") and _says(d.ours, "linear: "),
    ),
    Known(
        "PyTorch saves tensors themselves, ours their values, which detach_() leaves",
        lambda d: d.kind == "gradient accepted" and _says(d.theirs, "has been detached in-place"),
    ),
    Known(
        "the variance of one number is NaN, and so are its derivatives",
        lambda d: (
            d.kind == "second None"
            and d.theirs is None
            and _uses(d, "var", "std")
            and bool(np.isnan(d.ours.values).all())
        ),
    ),
    Known(
        "given a tensor for a number, or a number for a tensor, ours computes with it if it can",
        lambda d: (
            d.kind in ("error", "accepted")
            and _says(
                d.theirs,
                "must be float, not Tensor",
                "must be Number, not Tensor",
                "must be Tensor, not int",
                "must be Tensor, not float",
                "must be Tensor, not bool",
            )
        ),
    ),
    Known(
        "PyTorch takes powers of 0.5 and -0.5 as roots, which are NaN of -inf",
        lambda d: (
            d.kind in ("value", "gradient", "second")
            and _uses(d, "pow", "pow_", "**", "**=")
            and "-inf" in _text(d)
            and "0.5" in _text(d)
            and _nan_only_in_theirs(d, finite=False)
        ),
    ),
    Known(
        "PyTorch's Python code fails before it sees what ours tells of a variance",
        lambda d: (
            d.kind in ("error", "accepted")
            and _says(d.theirs, "any() received an invalid combination", "var is of incorrect size")
        ),
    ),
    Known(
        "PyTorch guesses a dim that is not given, with a warning; ours asks for it",
        lambda d: d.kind == "refused" and _says(d.ours, "dim is missing"),
    ),
    Known(
        "beside NaN, PyTorch's second derivative has more of them",
        lambda d: d.kind == "second" and "nan" in _text(d) and _nan_only_in_theirs(d),
    ),
    Known(
        "the derivative of a constant is none, or 0 times an infinity",
        lambda d: (
            d.kind == "second None"
            and any(v is None for v in (d.ours, d.theirs))
            and not any(
                (np.isfinite(v.values) & (v.values != 0)).any()
                for v in (d.ours, d.theirs)
                if v is not None
            )
        ),
    ),
    Known(
        "PyTorch's inner saves a copy of its inputs",
        lambda d: d.kind == "gradient refused" and _uses(d, "inner") and _says(d.ours, "overwrote"),
    ),
    Known(
        "as_tensor takes its dtype by position, too, as tensor does in our signature",
        lambda d: d.kind == "accepted" and _named(d, "as_tensor", "asarray"),
    ),
    Known(
        "of two mistakes, PyTorch tells first that an argument is of a wrong type",
        lambda d: d.kind == "error" and _type_told_first(d),
    ),
    Known(
        "PyTorch asserts what ours says by an error of its own",
        lambda d: (
            d.kind == "error"
            and isinstance(d.theirs.error, AssertionError)
            and isinstance(d.ours.error, gradient.errors.GradientError)
        ),
    ),
    Known(
        "PyTorch takes any sequence as sizes until it compares their number",
        lambda d: d.kind == "error" and _says(d.theirs, "Input dimension should be at least"),
    ),
    Known(
        "what PyTorch's hardtanh and hardshrink pass on at NaN depends on the place of it",
        lambda d: (
            d.kind in GRADIENTS
            and _uses(
                d,
                "hardtanh",
                "Hardtanh",
                "relu6",
                "ReLU6",
                "hardshrink",
                "Hardshrink",
                "softshrink",
                "Softshrink",
            )
            and "nan" in _text(d)
        ),
    ),
    Known(
        "the bits of what requires a gradient are not written: whether it changes is not clear",
        lambda d: d.kind == "refused" and _uses(d, "view") and _says(d.ours, "taken under no_grad"),
    ),
    Known(
        "PyTorch's logsumexp over no dimension does not fit its own result",
        lambda d: (
            d.kind == "accepted" and _named(d, "logsumexp") and _says(d.theirs, "output with")
        ),
    ),
    Known(
        "PyTorch leaves out a product that is taken 0 times; ours may be NaN",
        lambda d: d.kind == "value" and "alpha=0" in _text(d) and _nan_only_in_ours(d),
    ),
    Known(
        "0 times the derivative of kl_div at a negative target is NaN; PyTorch leaves it out",
        lambda d: d.kind in GRADIENTS and _uses(d, "kl_div", "KLDivLoss") and _nan_only_in_ours(d),
    ),
    Known(
        "the second derivative of atan2 in 16 bits is a difference of large numbers",
        lambda d: (
            d.kind == "second"
            and _uses(d, "atan2", "arctan2")
            and bool(_dtypes(d) & {"float16", "bfloat16"})
        ),
    ),
    Known(
        "PyTorch's lerp takes a bool for its weight",
        lambda d: d.kind == "refused" and "lerp" in d.function and _says(d.ours, "got bool"),
    ),
    Known(
        "PyTorch's norms take weights of any shape that have as many numbers",
        lambda d: (
            d.kind == "refused"
            and _named(d, "batch_norm", "instance_norm", "group_norm")
            and _says(d.ours, "of shape")
        ),
    ),
    Known(
        "an empty vector that cat leaves out has no gradient, where PyTorch gives an empty one",
        lambda d: (
            _uses(d, "cat", "concat", "concatenate", "hstack", "vstack")
            and (
                (d.kind == "gradient None" and d.ours is None and not d.theirs.values.size)
                or (d.kind in ("requires_grad", "is_leaf") and d.theirs.requires_grad)
            )
        ),
    ),
    Known(
        "erfinv keeps its result for the gradient, PyTorch its input",
        lambda d: d.kind == "gradient refused" and _uses(d, "erfinv") and _says(d.ours, "erfinv"),
    ),
    Known(
        "None stands for an argument that is left out, where PyTorch refuses it",
        lambda d: d.kind == "accepted" and _says(d.theirs, "got (NoneType)", "=NoneType"),
    ),
    Known(
        "numbers whose squares overflow have no norm",
        lambda d: (
            d.kind in ("value", "gradient", "second")
            and _uses(d, "layer_norm", "group_norm", "instance_norm", "batch_norm", "rms_norm")
            and "1e+30" in _text(d)
        ),
    ),
    Known(
        "PyTorch's soft_margin_loss overflows at large numbers",
        lambda d: (
            d.kind == "value"
            and _uses(d, "soft_margin_loss", "SoftMarginLoss")
            and not np.isfinite(d.theirs.values).all()
        ),
    ),
    Known(
        "an index out of range is an error, also where nothing would be picked",
        lambda d: (
            d.kind == "refused"
            and _named(d, "getitem", "setitem")
            and _says(d.ours, "is out of bounds")
        ),
    ),
    Known(
        "False in brackets writes nothing, whatever the number",
        lambda d: (
            d.kind == "accepted"
            and _named(d, "setitem")
            and d.program[d.index].args[1] is False
            and _says(d.theirs, "value cannot be converted")
        ),
    ),
    Known(
        "alpha and value are not taken by position, as PyTorch once did",
        lambda d: (
            d.kind in ("refused", "error")
            and d.function.lstrip(".").rstrip("_")
            in ("add", "sub", "subtract", "addcdiv", "addcmul")
            and _says(d.ours, "positional arguments but", "multiple values for argument")
        ),
    ),
    Known(
        "PyTorch has no gradient of the source that scatter adds",
        lambda d: (
            d.kind == "gradient None"
            and d.theirs is None
            and _uses(d, "scatter", "scatter_")
            and "reduce='add'" in _text(d)
        ),
    ),
    Known(
        "PyTorch's unique of slices refuses sizes of 0 elsewhere",
        lambda d: d.kind == "accepted" and _named(d, "unique") and _says(d.theirs, "0 sized"),
    ),
    Known(
        "PyTorch checks no dtype of a drawing in place where there is nothing to draw",
        lambda d: (
            d.kind == "refused"
            and _named(d, "exponential_", "uniform_", "bernoulli_")
            and not d.theirs.values.size
        ),
    ),
    Known(
        "of several writes to one place, which is the last is not defined",
        lambda d: (
            d.kind == "value"
            and _named(d, "setitem")
            and any(
                isinstance(v, Array) and "int" in v.dtype
                for v in leaves(d.program[d.index].args[1])
            )
        ),
    ),
    Known(
        "PyTorch's Softmax2d tells the number of dimensions by a ValueError",
        lambda d: d.kind == "error" and _says(d.theirs, "Softmax2d: expected input"),
    ),
    Known(
        "PyTorch takes negative numbers of tiles if another makes the result empty",
        lambda d: (
            d.kind == "refused"
            and _named(d, "tile")
            and isinstance(d.theirs, Taken)
            and not d.theirs.values.size
        ),
    ),
    Known(
        "a list times a 0-d tensor of ints is the list repeated, by Python's rules for PyTorch's",
        lambda d: d.kind == "refused" and _named(d, "*") and isinstance(d.theirs, list),
    ),
    Known(
        "of two mistakes, PyTorch tells the number of targets before their dtype",
        lambda d: (
            d.kind == "error"
            and _says(d.theirs, "to match target batch_size")
            and _says(d.ours, "expected class indices of int64")
        ),
    ),
    Known(
        "PyTorch's gaussian_nll_loss clamps the variance in place, which fails for ints",
        lambda d: (
            d.kind == "accepted"
            and d.function.endswith(("gaussian_nll_loss", "call"))
            and _uses(d, "gaussian_nll_loss", "GaussianNLLLoss")
            and _says(d.theirs, "can't be cast to the desired output type")
        ),
    ),
    Known(
        "PyTorch compares no dtypes in a batched product of nothing",
        lambda d: (
            d.kind == "refused"
            and _named(d, "matmul", "bmm", "baddbmm", "@")
            and _zeros(d.theirs)
            and _says(d.ours, "expected inputs of one dtype")
        ),
    ),
    Known(
        "PyTorch's einsum multiplies where nothing is summed, and mixes dtypes there",
        lambda d: (
            d.kind == "refused"
            and _named(d, "einsum")
            and _says(d.ours, "matmul: expected inputs of one dtype")
        ),
    ),
    Known(
        "PyTorch's gradients of a norm with a bias and no weight fail",
        lambda d: (
            d.kind in ("gradient accepted", "second accepted")
            and _uses(d, "group_norm", "batch_norm", "instance_norm")
            and _says(
                d.theirs, "shape '[0]' is invalid for", "Expected a proper Tensor but got None"
            )
        ),
    ),
    Known(
        "a number over a tensor keeps the tensor for the gradient, PyTorch the reciprocal",
        lambda d: (
            d.kind == "gradient refused"
            and _uses(d, "/", "div", "true_divide", "divide", "__rtruediv__")
            and _says(d.ours, "backward: div ")
        ),
    ),
    Known(
        "near 1e6, attention's second derivatives are differences of large numbers",
        lambda d: (
            d.kind == "second"
            and _uses(d, "MultiheadAttention", "TransformerDecoderLayer", "TransformerEncoderLayer")
            and re.search(r"\b(1000\d\d\d|999\d\d\d)\.", _text(d)) is not None
            and _within(d, 1e-3)
        ),
    ),
    Known(
        "PyTorch takes the eps of cosine_embedding_loss in float32, also in float64",
        lambda d: (
            d.kind in GRADIENTS
            and _uses(d, "cosine_embedding_loss", "CosineEmbeddingLoss")
            and _within(d, 1e-8)
        ),
    ),
    Known(
        "where binary_cross_entropy_with_logits of -inf is NaN, the target's derivative is, too",
        lambda d: (
            d.kind in GRADIENTS
            and _uses(d, "binary_cross_entropy_with_logits", "BCEWithLogitsLoss")
            and "-inf" in _text(d)
            and "pos_weight" in _text(d)
            and _nan_only_in_ours(d)
        ),
    ),
    Known(
        "rounding puts a number on either side of a step",
        lambda d: (
            d.kind == "value"
            and d.function.lstrip(".").rstrip("_") in ("floor", "ceil", "trunc", "round")
            and near_a_step(d)
        ),
    ),
    Known(
        "views of a tensor that detach_() took out of the graph leave it when it is written",
        lambda d: (
            d.kind in ("requires_grad", "is_leaf")
            and _uses(d, "detach_")
            and not d.ours.requires_grad
        ),
    ),
]


def reason(difference: Difference) -> str | None:
    return next((k.reason for k in KNOWN if k.covers(difference)), None)

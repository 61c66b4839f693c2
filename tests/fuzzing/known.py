"""The differences from PyTorch that we mean, or that it leaves open: each with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fuzzing.comparison import Difference
from fuzzing.interpreter import Raised, Taken
from fuzzing.program import line


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


def _nan_only_in_theirs(difference: Difference) -> bool:
    """Whether the numbers agree but for those that are NaN in PyTorch's answer alone."""
    a, b = difference.ours, difference.theirs
    if not isinstance(a, Taken) or not isinstance(b, Taken):
        return False
    same = np.isclose(a.values, b.values, rtol=1e-2, atol=1e-6, equal_nan=True)
    return bool((same | ((np.isnan(b.values) | np.isinf(b.values)) & np.isfinite(a.values))).all())


def _left_out(difference: Difference) -> bool:
    """Whether our gradient of zeros is none in PyTorch's answer."""
    return (
        difference.kind == "gradient None" and difference.theirs is None and _zeros(difference.ours)
    )


def _dtypes(difference: Difference) -> set[str]:
    return set(re.findall(r"dtype=torch\.(\w+)", _text(difference)))


def _within(difference: Difference, limit: float) -> bool:
    a, b = difference.ours, difference.theirs
    if not isinstance(a, Taken) or not isinstance(b, Taken):
        return False
    return bool(np.allclose(a.values, b.values, rtol=limit, atol=limit, equal_nan=True))


NO_KERNEL = (
    "not implemented for", "not supported for", "float or double dtype", "not support bool dtypes",
)  # fmt: skip

KNOWN: list[Known] = [
    Known(
        "PyTorch's CPU kernel of the function lacks the dtype; ours takes it",
        lambda d: (
            d.kind == "accepted"
            and _says(d.theirs, *NO_KERNEL, "float or double dtype", "does not support bool dtypes")
        ),
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
            d.kind in ("gradient accepted", "second accepted")
            and _says(d.theirs, "derivative for", "the derivative of")
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
            d.kind == "gradient None"
            and d.ours is None
            and _zeros(d.theirs)
            and _uses(d, "addmm", "addmv", "baddbmm", "addbmm", "addr")
        ),
    ),
    Known(
        "a reflected method that PyTorch offers as a function alone",
        lambda d: d.kind == "accepted" and _says(d.theirs, "has no attribute 'rsub'"),
    ),
    Known(
        "PyTorch does not record that logical_not_ overwrites a value",
        lambda d: d.kind in ("gradient", "second") and _uses(d, "logical_not_"),
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
        "PyTorch's gradient of a norm overflows in float16; ours is computed in float32",
        lambda d: (
            d.kind == "gradient"
            and _uses(d, "norm")
            and "float16" in _dtypes(d)
            and _nan_only_in_theirs(d)
        ),
    ),
    Known(
        "PyTorch rounds the statistics of an instance norm to 16 bits",
        lambda d: (
            d.kind == "value"
            and _named(d, "double", "float", "to")
            and _uses(d, "instance_norm")
            and "bfloat16" in _dtypes(d)
            and _within(d, 1.6e-2)
        ),
    ),
    Known(
        "an operation in place that raises may have written a part",
        lambda d: (
            d.kind in ("value", "final")
            and _uses(d, "//=", "%=", "div_", "floor_divide_", "remainder_", "fmod_")
            and isinstance(d.theirs, Taken)
            and "int" in d.theirs.dtype
        ),
    ),
    Known(
        "PyTorch reads a source that overlaps with what it writes while it writes it",
        lambda d: d.kind == "value" and _named(d, "^=", "&=", "|=") and _uses(d, "chunk", "split"),
    ),
    Known(
        "the gradient of logsumexp is a softmax, NaN at an infinity; PyTorch's exp(x - out) is NaN "
        "there alone, and loses digits elsewhere",
        lambda d: (
            d.kind in ("gradient", "second")
            and _uses(d, "logsumexp")
            and "float('inf')" in _text(d)
        ),
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
        "the second derivative of a division by 0 is infinite or NaN",
        lambda d: d.kind == "second" and _uses(d, "addcdiv", "addcdiv_") and "0.0" in _text(d),
    ),
    Known(
        "the second derivative of arccosh at 1 is infinite or NaN",
        lambda d: d.kind == "second" and _uses(d, "acosh", "arccosh", "acosh_", "arccosh_"),
    ),
    Known(
        "PyTorch computes a logspace of integers from integer ends",
        lambda d: d.kind == "value" and _named(d, "logspace") and "int" in d.theirs.dtype,
    ),
    Known(
        "PyTorch fails an assertion of its own",
        lambda d: d.kind == "accepted" and _says(d.theirs, "INTERNAL ASSERT FAILED"),
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
        lambda d: d.kind in ("requires_grad", "is_leaf") and _named(d, "fill_"),
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
        "the strides of a new result are our own",
        lambda d: (
            (d.kind == "value" and _named(d, "stride", "is_contiguous"))
            or (d.kind == "accepted" and _says(d.theirs, "view size is not compatible"))
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
        lambda d: d.kind == "requires_grad" and _named(d, "unique", "logical_not_"),
    ),
    Known(
        "numbers, not tensors that hold them, are sizes",
        lambda d: d.kind == "refused" and _says(d.ours, "got tensor(", "over a 0-d tensor"),
    ),
    Known(
        "whether a weight that is not finite meets the zeros of the padding depends on the kernel",
        lambda d: (
            d.kind in ("value", "gradient", "second")
            and any("conv" in s.function.lower() for s in d.program)
            and ("nan" in _text(d) or "inf" in _text(d) or "1e+30" in _text(d))
        ),
    ),
    Known(
        "PyTorch draws random numbers of any dtype where there are none to draw",
        lambda d: (
            d.kind == "refused"
            and _named(d, "randn", "randn_like", "rand_like", "normal", "normal_")
            and isinstance(d.theirs, Taken)
            and not d.theirs.values.size
        ),
    ),
    Known(
        "PyTorch looks at neither the dtype nor the indices where there is nothing to compute",
        lambda d: (
            d.kind == "refused"
            and _named(d, "softmax", "log_softmax", "softmin", "index_add", "index_add_")
            and isinstance(d.theirs, Taken)
            and not d.theirs.values.size
        ),
    ),
    Known(
        "PyTorch's Python code fails on an argument that is no tensor; ours names it",
        lambda d: (
            d.kind == "error"
            and _says(d.theirs, "object has no attribute")
            and _says(d.ours, "expected a Tensor as")
        ),
    ),
    Known(
        "an argument of a wrong type is a TypeError, also where PyTorch raises another",
        lambda d: d.kind == "error" and _says(d.theirs, "high must be a scalar tensor"),
    ),
    Known(
        "a wrong dtype is a DTypeError, also where PyTorch raises TypeError for it",
        lambda d: d.kind == "error" and _named(d, "invert"),
    ),
    Known(
        "PyTorch takes an input of any number of dimensions here, and fails at one that is missing",
        lambda d: (
            d.kind == "error"
            and _named(d, "unfold", "avg_pool2d", "scatter_add_", "batch_norm")
            and _says(d.theirs, "Dimension out of range")
        ),
    ),
    Known(
        "logical_not_ overwrites a leaf that requires a gradient, unseen by PyTorch",
        lambda d: d.kind == "refused" and _named(d, "logical_not_"),
    ),
    Known(
        "copy_'s argument is called src, by its documentation; PyTorch's parser says other",
        lambda d: _named(d, "copy_") and _says(d.theirs, 'arguments: "other"'),
    ),
    Known(
        "a difference to a bool is refused as by -; PyTorch's fused loss computes it",
        lambda d: d.kind == "refused" and _says(d.ours, "sub: expected numbers, got bool"),
    ),
    Known(
        "rsub is a method, too",
        lambda d: _named(d, "rsub") and _says(d.theirs, "has no attribute 'rsub'"),
    ),
    Known(
        "of two mistakes, the write to a leaf is told before the index that is out of range",
        lambda d: (
            d.kind == "error" and _named(d, "setitem") and _says(d.theirs, "is out of bounds")
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
        "derivatives in 16 bits are rounded at each step, and cancel",
        lambda d: (
            d.kind == "second"
            and isinstance(d.theirs, Taken)
            and d.theirs.dtype in ("float16", "bfloat16")
        ),
    ),
    Known(
        "the strides of a new result are our own, and with them what contiguous() has to copy",
        lambda d: d.kind == "alias" and _uses(d, "contiguous"),
    ),
    Known(
        "PyTorch reads other memory for the median of an expanded tensor",
        lambda d: _named(d, "median") and "expand" in _text(d),
    ),
    Known(
        "PyTorch's formula for the gradient fails on integers or bools",
        lambda d: (
            d.kind == "gradient accepted"
            and _says(d.theirs, "can't be cast to the desired", "bool tensor is not supported")
        ),
    ),
    Known(
        "the second derivative of glu at an infinity is infinite or NaN",
        lambda d: d.kind == "second" and _uses(d, "glu", "GLU") and "inf" in _text(d),
    ),
    Known(
        "a sum asked for in an integer dtype has no gradient, where PyTorch raises",
        lambda d: d.kind == "accepted" and _says(d.theirs, "Autograd not support dtype"),
    ),
    Known(
        "PyTorch's second derivative overflows or divides by zero where ours is finite",
        lambda d: d.kind == "second" and _nan_only_in_theirs(d),
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
]


def reason(difference: Difference) -> str | None:
    return next((k.reason for k in KNOWN if k.covers(difference)), None)

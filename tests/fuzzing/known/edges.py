"""Zeros, kinks, infinities and NaN."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fuzzing import interpreter
from fuzzing.comparison import GRADIENTS, Difference
from fuzzing.interpreter import Taken
from fuzzing.known.looks import (
    Known,
    alike_but_for_signs,
    dtypes,
    finite_agree,
    irregular,
    named,
    nan_only_in_ours,
    nan_only_in_theirs,
    not_finite_alike,
    text,
    uses,
)
from fuzzing.program import Program, with_changed
from fuzzing.replay import agrees_without, safe, tame, untied, widened

NORMS = ("norm", "cosine_similarity", "CosineSimilarity", "normalize", "pairwise_distance",
         "PairwiseDistance", "cdist", "triplet_margin_loss", "TripletMarginLoss")  # fmt: skip
AT_ZERO = (*NORMS, "atan2", "arctan2", "pow", "pow_", "**", "**=", "rsqrt", "mish", "Mish",
           "logit", "logaddexp", "var", "std")  # fmt: skip


CLAMPS = ("relu", "relu_", "ReLU", "relu6", "ReLU6", "hardtanh", "Hardtanh", "softshrink",
          "Softshrink", "maximum", "minimum", "clamp", "clamp_", "clamp_min", "clamp_min_",
          "clamp_max", "clamp_max_", "clip", "clip_")  # fmt: skip


def without_dims(program: Program) -> Program:
    """The program in which no function is given dimensions ()."""
    return tuple(
        replace(
            s,
            args=tuple(None if a == () else a for a in s.args),
            options={k: v for k, v in s.options.items() if v != ()},
        )
        for s in program
    )


FMOD = {"%": "fmod", "%=": ".fmod_", "remainder": "fmod", ".remainder": ".fmod",
        ".remainder_": ".fmod_"}  # fmt: skip


def without_roots(program: Program) -> Program:
    """The program with exponents a millionth beyond those that PyTorch takes for roots."""

    def beside(value: Any) -> Any:
        return value * 1.000001 if isinstance(value, float) and value % 1 == 0.5 else value

    powers = ("pow", ".pow", ".pow_", "**", "**=")
    return tuple(with_changed(s, beside) if s.function in powers else s for s in program)


def with_fmod(program: Program) -> Program:
    """The program with the remainder whose 0 has the dividend's sign in both packages."""
    return tuple(replace(s, function=FMOD.get(s.function, s.function)) for s in program)


def computes_nan(difference: Difference) -> bool:
    """Whether a result of the program has NaN before it is differentiated."""
    results = interpreter.run(torch, difference.program).results
    return any(
        np.isnan(r.values).any() for r in results if isinstance(r, Taken) and "float" in r.dtype
    )


KNOWN: list[Known] = [
    Known(
        "PyTorch's gradient of var and std over the dimensions () takes the count for 1",
        lambda d: (
            d.kind in GRADIENTS
            and uses(d, "var", "std")
            and "()" in text(d)
            and agrees_without(d, without_dims)
        ),
    ),
    Known(
        "attention leaves masked keys out, where PyTorch multiplies what is not finite with 0",
        lambda d: (
            d.kind in ("value", "gradient", "second")
            and uses(d, "scaled_dot_product_attention")
            and irregular(d)
            and nan_only_in_theirs(d, finite=False)
        ),
    ),
    Known(
        "PyTorch's fused attention gives zeros for a row whose only score is NaN",
        lambda d: (
            d.kind in ("value", "gradient", "second")
            and uses(d, "scaled_dot_product_attention")
            and irregular(d)
            and nan_only_in_ours(d)
            and agrees_without(d, tame)
        ),
    ),
    Known(
        "an infinite weight is multiplied with the reciprocal of a deviation first in PyTorch",
        lambda d: (
            d.kind == "value"
            and named(d, "instance_norm", "group_norm", "batch_norm")
            and irregular(d)
            and finite_agree(d)
        ),
    ),
    Known(
        "whether a weight that is not finite meets the zeros of the padding depends on the kernel",
        lambda d: (
            d.kind in ("value", "gradient", "second")
            and any("conv" in s.function.lower() for s in d.program)
            and irregular(d)
            and finite_agree(d)
        ),
    ),
    Known(
        "which of several values remains that are put at one place is not defined",
        lambda d: d.kind in ("value", *GRADIENTS) and uses(d, "put", "put_"),
    ),
    Known(
        "PyTorch multiplies unsigned factors with a negative value first, and they wrap round",
        lambda d: (
            d.kind in GRADIENTS
            and uses(d, "addcmul", "addcmul_", "addcdiv", "addcdiv_")
            and "uint8" in dtypes(d)
        ),
    ),
    Known(
        "PyTorch's as_strided_scatter gives the input the gradient of what is overwritten",
        lambda d: d.kind in GRADIENTS and uses(d, "as_strided_scatter"),
    ),
    Known(
        "PyTorch's trapezoid takes the ends off twice the sum of all: inf - inf",
        lambda d: (
            d.kind in ("value", "gradient", "second")
            and uses(d, "trapezoid", "trapz")
            and nan_only_in_theirs(d, finite=False)
        ),
    ),
    Known(
        "the remainder of a whole multiple is 0 as in NumPy, in PyTorch 0 of the dividend's sign",
        lambda d: (
            d.kind in ("value", "gradient", "second")
            and uses(d, "remainder", "remainder_", "%", "%=")
            and agrees_without(d, with_fmod)
        ),
    ),
    Known(
        "PyTorch's second derivative divides 0 by 0, where ours is that of a constant",
        lambda d: (
            d.kind == "second"
            and uses(d, *AT_ZERO)
            and (
                nan_only_in_theirs(d)
                or (nan_only_in_theirs(d, finite=False) and agrees_without(d, untied))
            )
        ),
    ),
    Known(
        "PyTorch's gradient overflows (exp of a large number) or divides by zero; ours is finite",
        lambda d: (
            d.kind in GRADIENTS
            and uses(d, "soft_margin_loss", "SoftMarginLoss", "kl_div", "KLDivLoss")
            and (nan_only_in_theirs(d) or nan_only_in_theirs(d, finite=False))
        ),
    ),
    Known(
        "the second derivative at a kink is that of either side",
        lambda d: (
            d.kind == "second"
            and uses(d, "elu", "ELU", "celu", "CELU", "selu", "SELU", "prelu", "PReLU")
            and agrees_without(d, untied)
        ),
    ),
    Known(
        "PyTorch's hardswish has a gradient at NaN",
        lambda d: (
            d.kind in ("gradient", "second")
            and uses(d, "hardswish", "Hardswish")
            and "nan" in text(d)
            and agrees_without(d, tame)
        ),
    ),
    Known(
        "PyTorch's interpolation multiplies an infinite neighbour with 0",
        lambda d: (
            d.kind in ("value", "gradient", "second")
            and uses(d, "interpolate", "Upsample", "UpsamplingBilinear2d", "UpsamplingNearest2d")
            and (nan_only_in_theirs(d) or nan_only_in_theirs(d, finite=False))
        ),
    ),
    Known(
        "at a norm of 0 the gradient is 0, in PyTorch 0 times what comes in, which may be NaN",
        lambda d: d.kind in ("gradient", "second") and uses(d, *NORMS) and nan_only_in_theirs(d),
    ),
    Known(
        "the gradient of the exponent of 0 ** 0 is 0, in PyTorch 0 times what comes in, which may "
        "be NaN",
        lambda d: (
            d.kind in GRADIENTS
            and uses(d, "pow", "pow_", "**", "**=")
            and nan_only_in_theirs(d)
            and agrees_without(d, untied)
        ),
    ),
    Known(
        "where a derivative is not finite, formulas differ in infinite, NaN",
        lambda d: d.kind in GRADIENTS and not_finite_alike(d),
    ),
    Known(
        "products of infinities and zeros, taken in another order",
        lambda d: (
            d.kind in GRADIENTS
            and uses(d, "prod", "cumprod")
            and not np.isfinite(d.ours.values).all()
            and finite_agree(d)
        ),
    ),
    Known(
        "which of two zeros of unlike sign a clamp, maximum or minimum gives is not defined",
        lambda d: (
            d.kind in ("value", *GRADIENTS)
            and uses(d, *CLAMPS)
            and alike_but_for_signs(d)
            and agrees_without(d, untied)
        ),
    ),
    Known(
        "PyTorch's pixel_unshuffle of nothing is its input, of whatever sizes",
        lambda d: (
            d.kind == "shape"
            and uses(d, "pixel_unshuffle", "PixelUnshuffle")
            and not d.theirs.values.size
            and not d.ours.values.size
        ),
    ),
    Known(
        "PyTorch's gradient of prod divides the product by the factor: NaN of NaN and infinities",
        lambda d: (
            d.kind in GRADIENTS
            and uses(d, "prod")
            and nan_only_in_theirs(d)
            and agrees_without(d, safe)
        ),
    ),
    Known(
        "PyTorch takes powers of 0.5 and -0.5 as roots, which are NaN of -inf, and infinite with "
        "the sign of -0",
        lambda d: d.kind in ("value", "gradient", "second") and agrees_without(d, without_roots),
    ),
    Known(
        "beside NaN, PyTorch's second derivative has more of them",
        lambda d: (
            d.kind == "second"
            and (
                ("nan" in text(d) and nan_only_in_theirs(d))
                or (nan_only_in_theirs(d, finite=False) and computes_nan(d))
            )
        ),
    ),
    Known(
        "PyTorch's second derivative multiplies infinities or NaN with 0, where ours leaves them "
        "out",
        lambda d: (
            d.kind == "second"
            and nan_only_in_theirs(d, finite=False)
            and (agrees_without(d, tame) or agrees_without(d, safe))
        ),
    ),
    Known(
        "what PyTorch's kernels pass on at NaN depends on its place: vectors and the rest differ",
        lambda d: (
            d.kind in GRADIENTS
            and uses(
                d,
                "hardtanh",
                "Hardtanh",
                "relu6",
                "ReLU6",
                "hardshrink",
                "Hardshrink",
                "softshrink",
                "Softshrink",
                "elu",
                "ELU",
                "celu",
                "CELU",
                "selu",
                "SELU",
            )
            and agrees_without(d, safe)
        ),
    ),
    Known(
        "PyTorch leaves out a product that is taken 0 times; ours may be NaN",
        lambda d: d.kind == "value" and "alpha=0" in text(d) and nan_only_in_ours(d),
    ),
    Known(
        "0 times the derivative of kl_div at a negative target is NaN; PyTorch leaves it out",
        lambda d: d.kind in GRADIENTS and uses(d, "kl_div", "KLDivLoss") and nan_only_in_ours(d),
    ),
    Known(
        "numbers whose squares overflow have no norm",
        lambda d: (
            d.kind in ("value", "gradient", "second")
            and uses(d, "layer_norm", "group_norm", "instance_norm", "batch_norm", "rms_norm")
            and irregular(d)
            and finite_agree(d)
        ),
    ),
    Known(
        "PyTorch's batch_norm sums squares of float32 in float64, where ours are infinite",
        lambda d: (
            d.kind in ("value", "gradient", "second")
            and uses(d, "batch_norm")
            and "e+30" in text(d)
            and agrees_without(d, widened)
        ),
    ),
    Known(
        "the gradient of the variance of a 0-d tensor is NaN, which PyTorch takes for a constant",
        lambda d: d.kind == "second" and uses(d, "var", "std") and nan_only_in_ours(d),
    ),
    Known(
        "PyTorch multiplies the zeros in multi_margin_loss's gradient with what comes in, NaN too",
        lambda d: (
            d.kind in GRADIENTS
            and uses(d, "multi_margin_loss", "MultiMarginLoss")
            and nan_only_in_theirs(d)
        ),
    ),
    Known(
        "PyTorch's soft_margin_loss overflows at large numbers",
        lambda d: (
            d.kind == "value"
            and uses(d, "soft_margin_loss", "SoftMarginLoss")
            and nan_only_in_theirs(d)
        ),
    ),
    Known(
        "where binary_cross_entropy_with_logits of -inf is NaN, the target's derivative is, too",
        lambda d: (
            d.kind in GRADIENTS
            and uses(d, "binary_cross_entropy_with_logits", "BCEWithLogitsLoss")
            and "-inf" in text(d)
            and "pos_weight" in text(d)
            and nan_only_in_ours(d)
        ),
    ),
]

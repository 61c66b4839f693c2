"""How far numbers are carried by rounding, or by constants of few digits."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fuzzing import interpreter
from fuzzing.comparison import GRADIENTS, Difference
from fuzzing.interpreter import Taken
from fuzzing.known.looks import Known, dtypes, named, uses, within
from fuzzing.program import Array, Program, with_changed
from fuzzing.replay import (
    NARROW,
    agrees_without,
    as_near_in_float64,
    each_number,
    given_nearly_equal,
    near_a_step,
    near_in_float64,
    safe,
    tame,
    widened,
)

STEPS = ("floor", "ceil", "trunc", "round", "fix", "byte", "char", "short", "int", "long")


def of_floats(program: Program) -> Program:
    """The program without options that ask for integers."""
    return tuple(
        replace(s, options={k: v for k, v in s.options.items() if k != "dtype"}) for s in program
    )


def without_integers(program: Program) -> Program:
    """The program with floats in the place of integers."""

    def wide(value: Any) -> Any:
        whole = isinstance(value, Array) and "int" in value.dtype
        return replace(value, dtype="float64") if whole else value

    to_ints = (".byte", ".char", ".short", ".int", ".long")
    return tuple(
        with_changed(replace(s, function=".trunc") if s.function in to_ints else s, wide)
        for s in program
    )


def moderate(program: Program) -> Program:
    """The program without numbers beyond 8."""
    return each_number(tame(program), lambda v, i: math.copysign(abs(v) % 8, v))


def has_a_tiny_loss(difference: Difference) -> bool:
    """Whether a loss has a number below 1e-10 that is not 0."""
    program = difference.program
    return any(
        ((r.values != 0) & (np.abs(r.values) < 1e-10)).any()
        for s, r in zip(program, interpreter.run(torch, program).results, strict=True)
        if s.function.endswith(("loss", "call")) and isinstance(r, Taken)
    )


KNOWN: list[Known] = [
    Known(
        "the eps of cosine_similarity is 0 in float16, and a vector of zeros is divided by it",
        lambda d: (
            d.kind in ("gradient", "second")
            and uses(d, "cosine_similarity")
            and "float16" in dtypes(d)
            and agrees_without(d, widened)
        ),
    ),
    Known(
        "PyTorch multiplies `value` with a factor in the dtype of that factor",
        lambda d: (
            d.kind in ("gradient", "second")
            and uses(d, "addcmul", "addcmul_", "addcdiv", "addcdiv_")
            and len(dtypes(d)) > 1
            and (agrees_without(d, widened) or agrees_without(d, without_integers))
        ),
    ),
    Known(
        "PyTorch computes a logspace of integers from integer ends",
        lambda d: (
            d.kind == "value"
            and named(d, "logspace")
            and "int" in d.theirs.dtype
            and agrees_without(d, of_floats)
        ),
    ),
    Known(
        "PyTorch takes 1/6 in float32, also in float64",
        lambda d: (
            d.kind in ("gradient", "second")
            and uses(d, "hardsigmoid", "Hardsigmoid", "hardswish", "Hardswish")
            and within(d, 1e-7)
        ),
    ),
    Known(
        "of 16 or 32 bits, ours is as near to the result in float64 as PyTorch's",
        lambda d: (
            d.kind in ("value", "gradient", "second")
            and isinstance(d.theirs, Taken)
            and bool(NARROW & ({d.theirs.dtype} | dtypes(d)))
            and as_near_in_float64(d)
        ),
    ),
    Known(
        "PyTorch adds 1e-12 in the derivatives of binary_cross_entropy",
        lambda d: (
            d.kind in ("gradient", "second")
            and uses(d, "binary_cross_entropy", "BCELoss")
            and within(d, 1e-8)
        ),
    ),
    Known(
        "the second derivative of atan2 is a difference of large numbers",
        lambda d: (
            d.kind == "second"
            and uses(d, "atan2", "arctan2")
            and (near_in_float64(d) or agrees_without(d, tame))
        ),
    ),
    Known(
        "PyTorch's gradient of atan2 squares integers, which overflow, in their own dtype",
        lambda d: (
            d.kind in GRADIENTS
            and uses(d, "atan2", "arctan2")
            and agrees_without(d, without_integers)
        ),
    ),
    Known(
        "integers and bools become float32, of which the last digit may differ",
        lambda d: (
            d.kind in ("value", "gradient", "second")
            and any("int" in name or name == "bool" for name in dtypes(d))
            and within(d, 2e-7)
        ),
    ),
    Known(
        "the second derivative of logsigmoid at large numbers is a difference of like ones in "
        "PyTorch",
        lambda d: (
            d.kind == "second"
            and uses(d, "logsigmoid", "LogSigmoid")
            and agrees_without(d, moderate)
        ),
    ),
    Known(
        "near 1e6, attention's second derivatives are differences of large numbers",
        lambda d: (
            d.kind == "second"
            and uses(
                d,
                "MultiheadAttention",
                "TransformerDecoderLayer",
                "TransformerEncoderLayer",
                "scaled_dot_product_attention",
            )
            and agrees_without(d, moderate)
        ),
    ),
    Known(
        "the derivatives of atanh(tanh(x)) are differences of large numbers where tanh is near 1",
        lambda d: (
            d.kind in GRADIENTS
            and uses(d, "tanh", "tanh_")
            and uses(d, "atanh", "atanh_", "arctanh", "arctanh_")
            and within(d, 1e-6)
            and agrees_without(d, safe)
        ),
    ),
    Known(
        "PyTorch takes the eps of cosine_embedding_loss in float32, also in float64",
        lambda d: (
            d.kind in GRADIENTS
            and uses(d, "cosine_embedding_loss", "CosineEmbeddingLoss")
            and within(d, 1e-8)
        ),
    ),
    Known(
        "the loss of like vectors is a difference of nearly equal numbers, and is divided by",
        lambda d: (
            d.kind in ("value", *GRADIENTS)
            and uses(d, "cosine_embedding_loss", "CosineEmbeddingLoss")
            and within(d, 1e-3)
            and has_a_tiny_loss(d)
        ),
    ),
    Known(
        "in a sum with 1e30, which digits of other numbers are lost depends on the order",
        lambda d: (
            d.kind == "value"
            and "e+30" in d.text
            and d.function.endswith(("loss", "sum", "mean"))
            and agrees_without(d, tame)
        ),
    ),
    Known(
        "x - tanh(x) of small numbers is as exact as tanh",
        lambda d: d.kind == "value" and uses(d, "tanhshrink", "Tanhshrink") and within(d, 2e-18),
    ),
    Known(
        "rounding makes a number 0, or equal to another",
        lambda d: (
            d.kind == "shape"
            and named(d, "argwhere", "nonzero", "unique", "masked_select")
            and given_nearly_equal(d)
        ),
    ),
    Known(
        "rounding puts a number on either side of a step",
        lambda d: (
            d.kind == "value" and d.function.lstrip(".").rstrip("_") in STEPS and near_a_step(d)
        ),
    ),
]

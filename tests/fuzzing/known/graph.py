"""What is in the graph: who requires a gradient, and what may be overwritten."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fuzzing import interpreter
from fuzzing.comparison import GRADIENTS, Difference
from fuzzing.interpreter import Raised, Taken, overwrites
from fuzzing.known.looks import Known, left_out, named, says, text, uses, zeros
from fuzzing.program import Array, Program, Ref, Statement, arguments, leaves
from fuzzing.replay import agrees, agrees_in_order, agrees_without, in_order, recorded_logical_not

LOGICAL = ("logical_not_", "logical_and_", "logical_or_", "logical_xor_")
COMPARISONS = (
    "eq_", "ge_", "greater_", "greater_equal_", "gt_", "le_", "less_", "less_equal_", "lt_", "ne_",
    "not_equal_",
)  # fmt: skip
LATE = (".requires_grad_",)


def agrees_if_recorded(difference: Difference) -> bool:
    with recorded_logical_not():
        return agrees(difference.program, difference)


def in_order_both(difference: Difference) -> bool:
    """Whether PyTorch refuses, too, once the program's tensors lie without gaps."""
    return isinstance(interpreter.run(torch, in_order(difference.program)).first, Raised)


def out_of_place(program: Program) -> Program:
    """The program with detach() in the place of detach_()."""
    return tuple(replace(s, function=".detach") if s.function == ".detach_" else s for s in program)


def with_copies_of_data(program: Program) -> Program:
    """The program with a copy in the place of `.data`, which no later write reaches."""
    return tuple(replace(s, function="tensor") if s.function == "attr.data" else s for s in program)


def with_scatter_add(program: Program) -> Program:
    """The program with scatter_add in the place of scatter(reduce="add")."""

    def adding(s: Statement) -> Statement:
        if s.options.get("reduce") != "add":
            return s
        name = s.function.replace("scatter", "scatter_add")
        return replace(s, function=name, options={})

    return tuple(map(adding, program))


def leaf_is_a_view(difference: Difference) -> bool:
    return any(
        isinstance(v, Array) and v.requires_grad and v.layout != "contiguous"
        for s in difference.program
        for v in leaves(arguments(s))
    )


KNOWN: list[Known] = [
    Known(
        "we keep fewer values for the gradient, so that fewer writes are refused",
        lambda d: (
            d.kind in ("gradient accepted", "second accepted")
            and says(d.theirs, "modified by an inplace operation")
        ),
    ),
    Known(
        "PyTorch has no gradient of the number of elements that are not 0; ours is 0",
        lambda d: left_out(d) and uses(d, "norm"),
    ),
    Known(
        "an input that beta=0 leaves out has no gradient, where PyTorch gives zeros",
        lambda d: (
            uses(d, "addmm", "addmv", "baddbmm", "addbmm", "addr")
            and "beta=0" in text(d)
            and (
                (d.kind == "gradient None" and d.ours is None and zeros(d.theirs))
                or (d.kind in ("requires_grad", "is_leaf") and d.theirs.requires_grad)
            )
        ),
    ),
    Known(
        "PyTorch does not record that logical_not_ overwrites a value, and does so to leaves",
        lambda d: (
            (d.kind == "refused" and named(d, *LOGICAL))
            or (d.kind == "gradient refused" and uses(d, *LOGICAL) and says(d.ours, "overwrote"))
            or (
                d.kind in (*GRADIENTS, "gradient None", "second None")
                and uses(d, *LOGICAL)
                and agrees_if_recorded(d)
            )
        ),
    ),
    Known(
        "PyTorch differentiates copysign's quotient a / |a| again, and gets what rounding leaves",
        lambda d: (
            d.kind == "second None"
            and uses(d, "copysign", "copysign_")
            and d.ours is None
            and isinstance(d.theirs, Taken)
            and bool(np.all(abs(d.theirs.values) < 1e-12))
        ),
    ),
    Known(
        "floor division has a gradient of 0",
        lambda d: left_out(d) and uses(d, "//=", "//", "floor_divide", "floor_divide_"),
    ),
    Known(
        "PyTorch fills integers with a tensor that requires a gradient, and then they require one",
        lambda d: (
            d.kind in ("requires_grad", "is_leaf")
            and named(d, "fill_", "masked_fill_", "index_fill_", "setitem")
            and "float" not in d.theirs.dtype
        ),
    ),
    Known(
        "random draws have no gradient, where PyTorch gives zeros",
        lambda d: d.kind == "requires_grad" and named(d, "bernoulli"),
    ),
    Known(
        "what has no gradient requires none",
        lambda d: (
            d.kind == "requires_grad"
            and named(d, "unique", "unique_consecutive", "heaviside", "heaviside_", *COMPARISONS)
            or (d.kind == "gradient None" and uses(d, *COMPARISONS) and d.ours is None)
        ),
    ),
    Known(
        "PyTorch's unique_consecutive gives no inverse where it is asked for by position",
        lambda d: d.kind in ("shape", "value") and named(d, "unique_consecutive"),
    ),
    Known(
        "as_strided of what does not lie in row-major order is a copy, if it requires a gradient",
        lambda d: d.kind == "alias" and named(d, "as_strided"),
    ),
    Known(
        "attention keeps its result for the gradient, PyTorch the probabilities",
        lambda d: d.kind == "gradient refused" and says(d.ours, "backward: attention"),
    ),
    Known(
        "rms_norm keeps its input for the gradient, PyTorch what it computed of it",
        lambda d: d.kind == "gradient refused" and uses(d, "rms_norm", "RMSNorm"),
    ),
    Known(
        "in PyTorch, views of a leaf that is a view itself leave the graph when it is written",
        lambda d: (
            d.kind in ("gradient None", "second None", *GRADIENTS)
            and leaf_is_a_view(d)
            and uses(d, "detach", "data")
            and any(map(overwrites, d.program))
            and agrees_in_order(d)
        ),
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
        "PyTorch does not see that a write through .data overwrites what the gradient needs",
        lambda d: d.kind == "gradient refused" and uses(d, "data") and says(d.ours, "overwrote"),
    ),
    Known(
        "PyTorch reads what was overwritten where `.data` was saved for the gradient",
        lambda d: (
            d.kind in GRADIENTS
            and uses(d, "data")
            and any(map(overwrites, d.program))
            and agrees_without(d, with_copies_of_data)
        ),
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
        "PyTorch saves tensors themselves, ours their values, which detach_() leaves",
        lambda d: d.kind == "gradient accepted" and says(d.theirs, "has been detached in-place"),
    ),
    Known(
        "PyTorch keeps a copy of a weight that lies with gaps, and does not see it overwritten",
        lambda d: d.kind == "gradient refused" and says(d.ours, "overwrote") and in_order_both(d),
    ),
    Known(
        "PyTorch's inner and einsum save copies of their inputs",
        lambda d: (
            d.kind == "gradient refused"
            and uses(d, "inner", "einsum")
            and says(d.ours, "backward: matmul")
            and says(d.ours, "overwrote")
        ),
    ),
    Known(
        "an empty vector that cat leaves out has no gradient, where PyTorch gives an empty one",
        lambda d: (
            uses(d, "cat", "concat", "concatenate", "hstack", "vstack")
            and (
                (d.kind == "gradient None" and d.ours is None and not d.theirs.values.size)
                or (d.kind in ("requires_grad", "is_leaf") and d.theirs.requires_grad)
            )
        ),
    ),
    Known(
        "erfinv keeps its result for the gradient, PyTorch its input",
        lambda d: d.kind == "gradient refused" and uses(d, "erfinv") and says(d.ours, "erfinv"),
    ),
    Known(
        "PyTorch has no gradient of the source that scatter adds",
        lambda d: (
            uses(d, "scatter", "scatter_")
            and "reduce='add'" in text(d)
            and (
                (d.kind == "gradient None" and d.theirs is None)
                or (d.kind in GRADIENTS and agrees_without(d, with_scatter_add))
            )
        ),
    ),
    Known(
        "a number over a tensor keeps the tensor for the gradient, PyTorch the reciprocal",
        lambda d: (
            d.kind == "gradient refused"
            and uses(d, "/", "div", "true_divide", "divide", "__rtruediv__")
            and says(d.ours, "backward: div ")
        ),
    ),
    Known(
        "a leaf remembers no views: one taken before detach_() does not follow a later write to it",
        lambda d: (
            uses(d, "detach_")
            and any(map(overwrites, d.program))
            and (
                (d.kind in GRADIENTS and agrees_without(d, out_of_place))
                or (d.kind in ("requires_grad", "is_leaf") and not d.ours.requires_grad)
            )
        ),
    ),
    Known(
        "the variance of one number is NaN, and so are its derivatives",
        lambda d: (
            d.kind == "second None"
            and d.theirs is None
            and uses(d, "var", "std")
            and bool(np.isnan(d.ours.values).all())
        ),
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
]

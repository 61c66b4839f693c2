"""What one package takes and the other refuses."""

from __future__ import annotations

import numpy as np
import torch

from fuzzing import interpreter
from fuzzing.comparison import Difference
from fuzzing.interpreter import Taken, overwrites
from fuzzing.known.looks import Known, named, says, uses, zeros
from fuzzing.program import Program, refs, with_changed
from fuzzing.replay import agrees, agrees_without, with_numbers

NO_KERNEL = (
    "not implemented for", "not supported for", "float or double dtype", "not support bool dtypes",
    "does not support bool input",
)  # fmt: skip


RESHAPING = ("squeeze_", "swapaxes_", "swapdims_", "t_", "transpose_", "unsqueeze_")
PRODUCTS = ("addbmm_", "addmm_", "addmv_", "addr_", "baddbmm_")


def reads_itself(difference: Difference) -> bool:
    """Whether the statement writes to a tensor that it reads as another argument, too."""
    first, *others = [ref.index for ref in refs(difference.program[difference.index])]
    return first in others


def bools_as_ints(program: Program) -> Program:
    return tuple(with_changed(s, lambda v: int(v) if isinstance(v, bool) else v) for s in program)


KNOWN: list[Known] = [
    Known(
        "PyTorch's CPU kernel of the function lacks the dtype; ours takes it",
        lambda d: d.kind == "accepted" and says(d.theirs, *NO_KERNEL),
    ),
    Known(
        "one of several views of split, chunk or unbind may be written",
        lambda d: d.kind == "accepted" and says(d.theirs, "function that returns multiple views"),
    ),
    Known(
        "the result is computed before it is written, so that the source may overlap with it",
        lambda d: (
            d.kind == "accepted"
            and says(d.theirs, "some elements of the input tensor and the written-to tensor")
            or (d.kind == "value" and named(d, *PRODUCTS) and reads_itself(d))
        ),
    ),
    Known(
        "a tensor whose shape was changed in place is a view of what it was",
        lambda d: d.kind == "refused" and named(d, "detach_") and uses(d, *RESHAPING),
    ),
    Known(
        "PyTorch's as_strided reads beyond the memory of a number",
        lambda d: (
            d.kind == "refused" and named(d, "as_strided") and says(d.ours, "places in memory")
        ),
    ),
    Known(
        "PyTorch refuses to multiply a gradient with a number beyond its dtype; ours is infinite",
        lambda d: d.kind == "gradient accepted" and says(d.theirs, "without overflow"),
    ),
    Known(
        "PyTorch fails an assertion of its own",
        lambda d: (
            d.kind in ("accepted", "gradient accepted", "second accepted")
            and says(d.theirs, "INTERNAL ASSERT FAILED")
        ),
    ),
    Known(
        "a reflected method that PyTorch offers as a function alone",
        lambda d: d.kind == "accepted" and says(d.theirs, "has no attribute 'rsub'"),
    ),
    Known(
        "one number may be written to all of memory that is shown several times",
        lambda d: (
            d.kind == "accepted"
            and says(d.theirs, "more than one element of the written-to tensor refers to a single")
        ),
    ),
    Known(
        "of memory that is shown several times, no part is written by arrays or in a graph",
        lambda d: says(d.ours, "the memory of this tensor cannot be"),
    ),
    Known(
        "numbers, not tensors that hold them, are sizes",
        lambda d: (
            d.kind in ("refused", "error")
            and says(d.ours, "got tensor(", "got (tensor(", "over a 0-d tensor")
            and agrees(with_numbers(d), d)
        ),
    ),
    Known(
        "PyTorch draws random numbers of any dtype where there are none to draw",
        lambda d: (
            d.kind == "refused"
            and named(d, "randn", "randn_like", "rand_like", "normal", "normal_", "bernoulli")
            and isinstance(d.theirs, Taken)
            and not d.theirs.values.size
        ),
    ),
    Known(
        "PyTorch looks at neither the dtype nor the indices where there is nothing to compute",
        lambda d: (
            d.kind == "refused"
            and named(
                d,
                "softmax",
                "log_softmax",
                "softmin",
                "index_add",
                "index_add_",
                "index_copy",
                "index_copy_",
                "index_fill",
                "index_fill_",
                "scaled_dot_product_attention",
            )
            and isinstance(d.theirs, Taken)
            and not d.theirs.values.size
        ),
    ),
    Known(
        "PyTorch's attention gives zeros where a value has no rows, whatever shape the key has",
        lambda d: (
            d.kind == "refused"
            and named(d, "scaled_dot_product_attention")
            and zeros(d.theirs)
            and says(d.ours, "key and value in their last but one", "do not broadcast together")
        ),
    ),
    Known(
        "copy_'s argument is called src, by its documentation; PyTorch's parser says other",
        lambda d: named(d, "copy_") and says(d.theirs, 'arguments: "other"'),
    ),
    Known(
        "a difference to a bool is refused as by -; PyTorch's fused loss computes it",
        lambda d: (
            d.kind == "refused"
            and (d.function.endswith(("_loss", "pairwise_distance")) or d.function == "call")
            and says(d.ours, "expected numbers, got bool")
        ),
    ),
    Known(
        "rsub is a method, too",
        lambda d: named(d, "rsub") and says(d.theirs, "has no attribute 'rsub'"),
    ),
    Known(
        "PyTorch takes indices that are out of range, and counts them anew",
        lambda d: d.kind == "refused" and named(d, "take_along_dim") and says(d.ours, "out of"),
    ),
    Known(
        "a sum asked for in an integer dtype has no gradient, where PyTorch raises",
        lambda d: d.kind == "accepted" and says(d.theirs, "Autograd not support dtype"),
    ),
    Known(
        "the legacy arguments size_average and reduce are not taken by position",
        lambda d: (
            d.kind == "refused"
            and d.function.startswith("nn.functional.")
            and says(d.ours, "positional arguments but")
        ),
    ),
    Known(
        "PyTorch reads a lone True or number as a dtype or a device",
        lambda d: (
            d.kind in ("refused", "error")
            and named(d, "to")
            and says(d.ours, "a dtype, a device or a tensor, got")
            and (
                isinstance(d.theirs, Taken)
                or says(d.theirs, "Cannot access accelerator", "Device index")
            )
        ),
    ),
    Known(
        "PyTorch does not look at the dimension where all are vectors of nothing",
        lambda d: (
            d.kind == "refused"
            and named(d, "cat", "concat", "concatenate")
            and isinstance(d.theirs, Taken)
            and d.theirs.shape == (0,)
        ),
    ),
    Known(
        "PyTorch refuses to write into a view of what came to require a gradient after it",
        lambda d: (
            d.kind == "accepted"
            and overwrites(d.program[d.index])
            and says(d.theirs, "a leaf Variable that requires grad is being used in an in-place")
            and not interpreter.start(torch, d.program[: d.index], None)[0]
            .resolve(d.program[d.index].args[0])
            .is_leaf
        ),
    ),
    Known(
        "PyTorch's adaptive_avg_pool to one number is a mean of any input",
        lambda d: (
            d.kind == "refused"
            and says(d.ours, "adaptive_avg_pool2d: expected", "adaptive_avg_pool3d: expected")
            and isinstance(d.theirs, Taken)
            and d.theirs.values.size == int(np.prod(d.theirs.shape[:-2]))
        ),
    ),
    Known(
        "a negative index counts from the end in take_along_dim without a dimension, too",
        lambda d: (
            d.kind == "accepted"
            and named(d, "take_along_dim")
            and says(d.theirs, "index -")
            and says(d.theirs, "is out of bounds")
        ),
    ),
    Known(
        "dequantize takes a dtype",
        lambda d: (
            d.kind == "accepted" and named(d, "dequantize") and says(d.theirs, "no arguments")
        ),
    ),
    Known(
        "PyTorch takes a bool for a size, if an int comes first",
        lambda d: (
            d.kind == "refused"
            and says(d.ours, "size: expected ints, got (")
            and agrees_without(d, bools_as_ints)
        ),
    ),
    Known(
        "PyTorch takes the ends of a logspace in the dtype of the result",
        lambda d: (
            d.kind == "accepted"
            and named(d, "logspace")
            and says(d.theirs, "value cannot be converted to type")
        ),
    ),
    Known(
        "PyTorch writes a 0-d tensor at several indices",
        lambda d: (
            d.kind == "refused"
            and named(d, "index_copy", "index_copy_", "index_add", "index_add_")
            and says(d.ours, "expected one index for a 0-d tensor")
        ),
    ),
    Known(
        "views of a dtype of another number of bytes are not offered",
        lambda d: (
            d.kind == "refused" and named(d, "view") and says(d.ours, "view: expected a dtype of")
        ),
    ),
    Known(
        "PyTorch draws what has probability 0 where too little has more",
        lambda d: d.kind == "refused" and says(d.ours, "too few weights are positive"),
    ),
    Known(
        "PyTorch's lerp computes integers in the dtype of a 0-d weight",
        lambda d: (
            d.kind == "refused" and says(d.ours, "lerp: expected a floating-point dtype, got")
        ),
    ),
    Known(
        "PyTorch takes a number from a tensor that requires a gradient, which is lost",
        lambda d: (
            d.kind in ("refused", "error") and says(d.ours, "got a tensor that requires a gradient")
        ),
    ),
    Known(
        "PyTorch sees the result of some functions as views of what nobody holds",
        lambda d: d.kind == "accepted" and named(d, "detach_") and says(d.theirs, "detach views"),
    ),
    Known(
        "PyTorch's linear adds a bias of any shape and dtype, and takes a vector as the weight",
        lambda d: d.kind == "refused" and named(d, "linear") and says(d.ours, "linear: "),
    ),
    Known(
        "given a tensor for a number, or a number for a tensor, ours computes with it if it can",
        lambda d: (
            d.kind in ("error", "accepted")
            and says(
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
        "as_tensor takes its dtype by position, too, as tensor does in our signature",
        lambda d: (
            d.kind == "accepted"
            and named(d, "as_tensor", "asarray")
            and len(d.program[d.index].args) > 1
        ),
    ),
    Known(
        "the bits of what requires a gradient are not written: whether it changes is not clear",
        lambda d: d.kind == "refused" and uses(d, "view") and says(d.ours, "taken under no_grad"),
    ),
    Known(
        "PyTorch's logsumexp over no dimension does not fit its own result",
        lambda d: d.kind == "accepted" and named(d, "logsumexp") and says(d.theirs, "output with"),
    ),
    Known(
        "PyTorch's lerp takes a bool for its weight",
        lambda d: d.kind == "refused" and "lerp" in d.function and says(d.ours, "got bool"),
    ),
    Known(
        "PyTorch's norms take weights of any shape that have as many numbers",
        lambda d: (
            d.kind == "refused"
            and named(d, "batch_norm", "instance_norm", "group_norm")
            and says(d.ours, "of shape")
        ),
    ),
    Known(
        "None stands for an argument that is left out, where PyTorch refuses it",
        lambda d: d.kind == "accepted" and says(d.theirs, "got (NoneType)", "=NoneType"),
    ),
    Known(
        "an index out of range is an error, also where nothing would be picked",
        lambda d: (
            d.kind == "refused"
            and named(d, "getitem", "setitem")
            and says(d.ours, "is out of bounds")
        ),
    ),
    Known(
        "False in brackets writes nothing, whatever the number",
        lambda d: (
            d.kind == "accepted"
            and named(d, "setitem")
            and d.program[d.index].args[1] is False
            and says(d.theirs, "value cannot be converted")
        ),
    ),
    Known(
        "alpha and value are not taken by position, as PyTorch once did",
        lambda d: (
            d.kind in ("refused", "error")
            and d.function.lstrip(".").rstrip("_")
            in ("add", "sub", "subtract", "addcdiv", "addcmul")
            and says(d.ours, "positional arguments but", "multiple values for argument")
        ),
    ),
    Known(
        "PyTorch's unique of slices refuses sizes of 0 elsewhere",
        lambda d: d.kind == "accepted" and named(d, "unique") and says(d.theirs, "0 sized"),
    ),
    Known(
        "PyTorch checks no dtype of a drawing in place where there is nothing to draw",
        lambda d: (
            d.kind == "refused"
            and named(d, "exponential_", "uniform_", "bernoulli_", "cauchy_", "log_normal_")
            and not d.theirs.values.size
        ),
    ),
    Known(
        "PyTorch takes negative numbers of tiles if another makes the result empty",
        lambda d: (
            d.kind == "refused"
            and named(d, "tile")
            and isinstance(d.theirs, Taken)
            and not d.theirs.values.size
        ),
    ),
    Known(
        "a list times a 0-d tensor of ints is the list repeated, by Python's rules for PyTorch's",
        lambda d: d.kind == "refused" and named(d, "*") and isinstance(d.theirs, list),
    ),
    Known(
        "PyTorch's gaussian_nll_loss clamps the variance in place, which fails for ints",
        lambda d: (
            d.kind == "accepted"
            and d.function.endswith(("gaussian_nll_loss", "call"))
            and uses(d, "gaussian_nll_loss", "GaussianNLLLoss")
            and says(d.theirs, "can't be cast to the desired output type")
        ),
    ),
    Known(
        "PyTorch compares no dtypes in a batched product of nothing",
        lambda d: (
            d.kind == "refused"
            and named(d, "matmul", "bmm", "baddbmm", "@")
            and zeros(d.theirs)
            and says(d.ours, "expected inputs of one dtype")
        ),
    ),
    Known(
        "PyTorch's einsum multiplies where nothing is summed, and mixes dtypes there",
        lambda d: (
            d.kind == "refused"
            and named(d, "einsum")
            and says(d.ours, "matmul: expected inputs of one dtype")
        ),
    ),
    Known(
        "PyTorch's Python code fails before it sees what ours tells of a variance",
        lambda d: (
            d.kind in ("error", "accepted")
            and says(d.theirs, "any() received an invalid combination", "var is of incorrect size")
        ),
    ),
    Known(
        "PyTorch's gradients of a norm with a bias and no weight fail",
        lambda d: (
            d.kind in ("gradient accepted", "second accepted")
            and uses(d, "group_norm", "batch_norm", "instance_norm")
            and says(
                d.theirs, "shape '[0]' is invalid for", "Expected a proper Tensor but got None"
            )
        ),
    ),
    Known(
        "PyTorch has no derivative of the function, or no second one; ours differentiate to any "
        "order, and that of a step function is 0",
        lambda d: (
            d.kind in ("accepted", "gradient accepted", "second accepted")
            and says(
                d.theirs,
                "derivative for",
                "the derivative of",
                "is not differentiable with respect",
            )
        ),
    ),
    Known(
        "PyTorch's formula for the gradient fails on integers or bools, or gives another shape",
        lambda d: (
            d.kind == "gradient accepted"
            and says(
                d.theirs,
                "can't be cast to the desired",
                "bool tensor is not supported",
                "two bool tensors is not supported",
                "returned an invalid gradient",
                "to have non-zero size",
                "doesn't match the broadcast shape",
            )
        ),
    ),
]

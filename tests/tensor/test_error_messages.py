"""What errors say: the function or argument by its public name, what was expected, what came."""

# ruff: noqa: E501 (a sentence stands on one line)

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import nn, optim
from gradient.nn import functional as F
from support.public import public

pytestmark = pytest.mark.cpu_only

SENTENCES = [
    (
        "tensor(1.0).select_scatter(tensor(1.0), 0, 0)",
        "IndexOutOfRange",
        "select_scatter: expected at least 1 dimensions, got 0",
    ),
    ("ones(2, 0).mode(1)", "IndexOutOfRange", "mode: expected elements along dim 1, got none"),
    ("ones(2).to(1.5)", "TypeMismatch", "to: expected a dtype, a device or a tensor, got 1.5"),
    (
        "t.row_stack((1, 2))",
        "TypeMismatch",
        "row_stack: expected a list of tensors, at 0 a Tensor, got int",
    ),
    (
        "t.row_stack((ones(2, 3), ones(2)))",
        "ShapeError",
        "row_stack: expected tensors of one shape but for the dimension that they are joined along, got (2, 3) and (1, 2)",
    ),
    (
        "t.vstack((ones(2, 3), ones(2)))",
        "ShapeError",
        "vstack: expected tensors of one shape but for the dimension that they are joined along, got (2, 3) and (1, 2)",
    ),
    ('t.frac("a")', "TypeMismatch", "frac: expected a Tensor as input, got str"),
    (
        "t.frac(ones(2, dtype=int64))",
        "DTypeError",
        "frac: expected a floating-point dtype, got gradient.int64; cast with .float()",
    ),
    (
        "F.cosine_similarity(ones(2, 3), ones(4))",
        "ShapeError",
        "cosine_similarity: (2, 3), (4,) do not broadcast together",
    ),
    (
        "t.masked.sum(ones(3), mask=3)",
        "TypeMismatch",
        "sum: expected a Tensor as mask, got int",
    ),
    (
        "t.moveaxis(ones(2, 3), 5, 6)",
        "IndexOutOfRange",
        "moveaxis: expected a dimension from -2 to 1, got 5",
    ),
    (
        "t.softmax(ones(2, 3), 9)",
        "IndexOutOfRange",
        "dim: expected a dimension from -2 to 1, got 9",
    ),
    ("empty(2, dtyp=float32)", "TypeError", "empty() got an unexpected keyword argument 'dtyp'"),
    ("zeros(2, -1)", "ShapeError", "size: expected sizes of at least 0, got (2, -1)"),
    ('full((2,), "a")', "TypeMismatch", "full: expected a number as fill_value, got 'a'"),
    (
        "arange(3, 0)",
        "ArgumentError",
        "arange: expected a step that leads from start to end, got start 3, end 0 and step 1",
    ),
    (
        'arange(0, float("inf"))',
        "ArgumentError",
        "arange: expected finite ends, got start 0 and end inf",
    ),
    ("eye(-1)", "ArgumentError", "eye: expected n of at least 0, got -1"),
    ("t.linspace(0, 1, -1)", "ArgumentError", "linspace: expected steps of at least 0, got -1"),
    ("t.randperm(-1)", "ArgumentError", "randperm: expected n of at least 0, got -1"),
    ("t.normal(0.0, -1.0, (2,))", "ArgumentError", "normal: expected std >= 0, got -1.0"),
    (
        "t.bernoulli(tensor([5.0]))",
        "ArgumentError",
        "bernoulli: expected probabilities from 0 to 1, got 5",
    ),
    (
        "t.manual_seed(2**64)",
        "ArgumentError",
        "manual_seed: expected a seed from -2**63 to 2**64 - 1, got 18446744073709551616",
    ),
    (
        "rand(2, dtype=int64)",
        "DTypeError",
        "rand: expected a floating-point dtype, got gradient.int64",
    ),
    (
        "t.multinomial(ones(3).long(), 1)",
        "DTypeError",
        "multinomial: expected floating-point weights, got gradient.int64",
    ),
    (
        'setattr(ones(2).requires_grad_(), "grad", ones(1))',
        "AutogradError",
        "grad: expected a gradient of the tensor's shape (2,), got (1,)",
    ),
    (
        'setattr(ones(2).requires_grad_(), "grad", ones(2).double())',
        "AutogradError",
        "grad: expected a gradient of the tensor's dtype float32, got float64",
    ),
    (
        'setattr(ones(2).requires_grad_(), "grad", [1.0, 1.0])',
        "TypeMismatch",
        "grad: expected a Tensor or None, got list",
    ),
    (
        'setattr(ones(2), "requires_grad", 3)',
        "AutogradError",
        "requires_grad: expected True or False, got 3",
    ),
    (
        "ones(2) + ones(3)",
        "ShapeError",
        "add: the shapes do not broadcast, sizes 2 and 3 in dimension -1 (input (2,) float32, other (3,) float32)",
    ),
    (
        "ones(2, 3) * ones(2)",
        "ShapeError",
        "mul: the shapes do not broadcast, sizes 3 and 2 in dimension -1 (input (2, 3) float32, other (2,) float32)",
    ),
    ('ones(2) + "a"', "TypeMismatch", "add: expected a Tensor as other, got str"),
    ("ones(2) + [1.0, 2.0]", "TypeMismatch", "add: expected a Tensor as other, got list"),
    ("1 - tensor([True])", "DTypeError", "sub: expected numbers, got bool; invert a mask with ~"),
    (
        "-tensor([True])",
        "DTypeError",
        "neg: not defined for these dtypes (input (1,) bool); cast with .to()",
    ),
    (
        "tensor([1]) // 0",
        "ArgumentError",
        "floor_divide: expected a divisor of integers that is not 0, got 0",
    ),
    (
        "tensor([1]) % 0",
        "ArgumentError",
        "remainder: expected a divisor of integers that is not 0, got 0",
    ),
    (
        "tensor([1]).fmod(0)",
        "ArgumentError",
        "fmod: expected a divisor of integers that is not 0, got 0",
    ),
    (
        "~ones(2)",
        "DTypeError",
        "bitwise_not: not defined for these dtypes (input (2,) float32); cast with .to()",
    ),
    (
        "ones(2, 3) @ ones(2, 3)",
        "ShapeError",
        "matmul: the dimensions to be summed over differ, 3 and 2 (input (2, 3) float32, other (2, 3) float32)",
    ),
    (
        "ones(3, 3) @ ones(4)",
        "ShapeError",
        "matmul: the dimensions to be summed over differ, 3 and 4 (input (3, 3) float32, other (4,) float32)",
    ),
    (
        "ones(2, 2) @ ones(2, 2).double()",
        "DTypeError",
        "matmul: expected inputs of one dtype, got float32 as input, float64 as other; cast one with .to()",
    ),
    (
        "F.linear(ones(2, 3).double(), ones(4, 3))",
        "DTypeError",
        "linear: expected inputs of one dtype, got float64 as input, float32 as weight; cast one with .to()",
    ),
    (
        "where(ones(2), ones(2), ones(2))",
        "DTypeError",
        "where: expected a bool Tensor as condition, got gradient.float32; use condition != 0",
    ),
    (
        "ones(2).masked_fill(tensor([1, 0]), 0)",
        "DTypeError",
        "masked_fill: expected a bool Tensor as mask, got gradient.int64; use mask != 0",
    ),
    ("cat([])", "ArgumentError", "cat: expected a list of tensors, got an empty one"),
    (
        "cat([ones(2), 3])",
        "TypeMismatch",
        "cat: expected a list of tensors, at 1 a Tensor, got int",
    ),
    (
        "cat([ones(2, 2), ones(2, 3)])",
        "ShapeError",
        "cat: expected tensors of one shape but for the dimension that they are joined along, got (2, 2) and (2, 3)",
    ),
    (
        "stack([ones(2), ones(3)])",
        "ShapeError",
        "stack: expected tensors of equal size, got [2] at entry 0 and [3] at entry 1",
    ),
    ("ones(2, 3).sum(7)", "IndexOutOfRange", "dim: expected a dimension from -2 to 1, got 7"),
    ("ones(2, 3).softmax(9)", "IndexOutOfRange", "dim: expected a dimension from -2 to 1, got 9"),
    (
        "F.softmax(ones(2, 3).long(), 0)",
        "DTypeError",
        "softmax: expected a floating-point dtype, got int64; cast with .float()",
    ),
    (
        "ones(2).long().norm()",
        "DTypeError",
        "norm: expected a floating-point dtype, got gradient.int64; cast with .float()",
    ),
    (
        "ones(2).long().std()",
        "DTypeError",
        "std: expected a floating-point dtype, got gradient.int64; cast with .float()",
    ),
    ("ones(2).repeat(-1)", "ShapeError", "size: expected sizes of at least 0, got (-1,)"),
    (
        "ones(2, 3).gather(0, tensor([[5]]))",
        "IndexOutOfRange",
        "gather: index 5 is out of bounds for dimension 0 with size 2",
    ),
    (
        "ones(2, 3).index_select(0, tensor([5]))",
        "IndexOutOfRange",
        "index_select: index 5 is out of bounds for dimension 0 with size 2",
    ),
    (
        "ones(2, 3).take(tensor([6]))",
        "IndexOutOfRange",
        "take: index 6 is out of bounds for dimension 0 with size 6",
    ),
    (
        "ones(2, 3).scatter(0, tensor([[5]]), 1.0)",
        "IndexOutOfRange",
        "scatter: index 5 is out of bounds for dimension 0 with size 2",
    ),
    (
        "F.embedding(tensor([5]), ones(3, 2))",
        "IndexOutOfRange",
        "embedding: index 5 is out of bounds for dimension 0 with size 3",
    ),
    (
        "F.embedding(tensor([0.0]), ones(3, 2))",
        "DTypeError",
        "embedding: expected an input of int64 or int32, got gradient.float32",
    ),
    (
        "F.cross_entropy(ones(2, 3), tensor([0, 3]))",
        "IndexOutOfRange",
        "cross_entropy: index 3 is out of bounds for dimension 1 with size 3",
    ),
    (
        "F.cross_entropy(ones(2, 3), tensor([0.0, 1.0]))",
        "DTypeError",
        "cross_entropy: expected integers as class indices, got gradient.float32; cast with .long() (probabilities would have the input's shape (2, 3))",
    ),
    (
        "F.cross_entropy(ones(2, 3), ones(2, 3).long())",
        "ShapeError",
        "cross_entropy: for an input (2, 3) expected class indices of shape (2,), got (2, 3); probabilities are gradient.float32: cast with .to(input.dtype)",
    ),
    (
        "[1.0] in ones(2)",
        "ArgumentError",
        "in: expected a Tensor or a number on the left, got list",
    ),
    (
        "None in ones(2)",
        "ArgumentError",
        "in: expected a Tensor or a number on the left, got NoneType",
    ),
    (
        "F.cross_entropy(ones(2, 3), tensor([0, 1]).int())",
        "DTypeError",
        "cross_entropy: expected class indices of int64, got gradient.int32; cast with .long()",
    ),
    (
        "F.multi_margin_loss(ones(3), tensor([0, 1]))",
        "ShapeError",
        "multi_margin_loss: expected an input (C,) or (1, C) with a target () or (1,), or (N, C) with (N,), got (3,) and (2,)",
    ),
    (
        "F.multilabel_margin_loss(ones(2), tensor([0, 1]).int())",
        "DTypeError",
        "multilabel_margin_loss: expected a target of int64, got gradient.int32; cast with .long()",
    ),
    (
        "F.multilabel_margin_loss(ones(2, 0), ones(2, 0).long())",
        "ShapeError",
        "multilabel_margin_loss: expected an input of at least one class, got (2, 0)",
    ),
    (
        "F.binary_cross_entropy(tensor([1.5]), ones(1))",
        "ArgumentError",
        "binary_cross_entropy: expected input from 0 to 1, got 1.5",
    ),
    (
        "F.linear(ones(2, 3), ones(4, 5))",
        "ShapeError",
        "linear: the dimensions to be summed over differ, 3 and 5 (input (2, 3) float32, weight (4, 5) float32)",
    ),
    (
        "nn.Linear(3, 4)([1.0, 2.0, 3.0])",
        "TypeMismatch",
        "linear: expected a Tensor as input, got list",
    ),
    (
        "F.linear(ones(2, 2), ones(2, 2).to_sparse())",
        "TypeMismatch",
        "linear: expected a Tensor as weight, got SparseTensor",
    ),
    (
        "nn.Linear(3, 4)(ones(2, 5))",
        "ShapeError",
        "linear: the dimensions to be summed over differ, 5 and 3 (input (2, 5) float32, weight (4, 3) float32, bias (4,) float32)",
    ),
    (
        "F.conv2d(ones(1,1,4,4), ones(1,1,2,2), dilation=0)",
        "ArgumentError",
        "conv2d: expected dilation of at least 1, got 0",
    ),
    (
        "F.conv2d(ones(1,1,4,4), ones(1,1,2,2), padding=-1)",
        "ArgumentError",
        "conv2d: expected padding of at least 0, got -1",
    ),
    (
        "F.conv2d(ones(1,2,4,4), ones(1,1,2,2))",
        "ShapeError",
        "conv2d: the weight (1, 1, 2, 2) with groups=1 takes 1 channels, the input (1, 2, 4, 4) has 2",
    ),
    (
        "F.conv2d([1], ones(1,1,2,2))",
        "TypeMismatch",
        "conv2d: expected a Tensor as input, got list",
    ),
    (
        "F.max_pool2d(ones(1,1,4,4), 0)",
        "ArgumentError",
        "max_pool2d: expected kernel_size of at least 1, got 0",
    ),
    (
        "nn.BatchNorm1d(3)(ones(2, 4))",
        "ShapeError",
        "batch_norm: expected an input of 3 channels, as many as running_mean has, got (2, 4)",
    ),
    (
        "F.batch_norm(ones(2, 4), zeros(4), zeros(3))",
        "ShapeError",
        "batch_norm: expected running_var of shape (4,), one for each channel of the input, got (3,)",
    ),
    (
        "nn.InstanceNorm1d(3, affine=True)(ones(2, 4, 5))",
        "ShapeError",
        "instance_norm: expected an input of 3 channels, as many as weight has, got (2, 4, 5)",
    ),
    (
        "nn.GroupNorm(2, 4)(ones(2, 6))",
        "ShapeError",
        "group_norm: expected an input of 4 channels, as many as weight has, got (2, 6)",
    ),
    (
        "F.kl_div(ones(2), ones(3))",
        "ShapeError",
        "kl_div: the shapes do not broadcast, sizes 3 and 2 in dimension -1 (input (2,) float32, target (3,) float32)",
    ),
    (
        "F.triplet_margin_loss(ones(2, 3), ones(2, 4), ones(2, 3))",
        "ShapeError",
        "triplet_margin_loss: the shapes do not broadcast, sizes 3 and 4 in dimension -1 (anchor (2, 3) float32, positive (2, 4) float32, negative (2, 3) float32)",
    ),
    (
        "F.nll_loss(ones(2, 3), tensor([0, 3]))",
        "IndexOutOfRange",
        "nll_loss: index 3 is out of bounds for dimension 1 with size 3",
    ),
    (
        "nn.Conv2d(3)",
        "TypeError",
        "Conv2d.__init__() missing 2 required positional arguments: 'out_channels' and 'kernel_size'",
    ),
    ("t.relu()", "TypeError", "relu() missing 1 required positional argument: 'input'"),
    (
        "t.from_numpy(np.array(['a']))",
        "TypeMismatch",
        "from_numpy: expected an array of floats, complex numbers, integers or bools, got one of strings (<U1)",
    ),
    (
        "tensor(np.array([1, None]))",
        "TypeMismatch",
        "tensor: expected an array of floats, complex numbers, integers or bools, got one of Python objects (object); convert it with .astype()",
    ),
    ("t.add(ones(2))", "TypeError", "add() missing 1 required positional argument: 'other'"),
    ("ones(2).add()", "TypeError", "Tensor.add() missing 1 required positional argument: 'other'"),
    (
        "ones(2).dot(ones(3))",
        "ShapeError",
        "dot: expected vectors of one size, got 2 and 3 elements",
    ),
    (
        "ones(2).copy_(ones(3))",
        "ShapeError",
        "copy_: expected other to broadcast to (2,), got (3,)",
    ),
    (
        "nn.LSTM(2, 3, num_layers=0)",
        "ArgumentError",
        "LSTM: expected num_layers of at least 1, got 0",
    ),
    ("nn.Dropout(2)", "ArgumentError", "Dropout: p is a probability, expected 0 <= p <= 1, got 2"),
    (
        'nn.ModuleList([nn.ReLU()])["a"]',
        "TypeMismatch",
        "ModuleList: expected an int as index, got 'a'",
    ),
    (
        "optim.SGD(P(), lr=-0.1)",
        "ArgumentError",
        "SGD: lr must be a number of at least 0, got -0.1",
    ),
]


def names() -> dict[str, Any]:
    creators = [
        "ones",
        "zeros",
        "tensor",
        "arange",
        "full",
        "empty",
        "rand",
        "eye",
        "cat",
        "stack",
        "where",
        "float32",
        "int64",
    ]
    return {name: getattr(gradient, name) for name in creators} | {
        "t": gradient,
        "nn": nn,
        "F": F,
        "np": np,
        "optim": optim,
        "setattr": setattr,
        "P": lambda: [nn.Parameter(gradient.ones(2))],
    }


@pytest.mark.parametrize("call", ["ones(2) + ones(3)", "ones(2).gather(0, tensor([5]))"])
def test_an_error_can_be_sent_to_another_process(call: str) -> None:
    with pytest.raises(gradient.errors.GradientError) as raised:
        eval(call, names())
    raised.value.add_note("seen by a worker")
    sent = pickle.loads(pickle.dumps(raised.value))
    assert (type(sent), str(sent)) == (type(raised.value), str(raised.value))
    assert sent.__notes__ == ["seen by a worker"]


def test_python_names_no_private_class() -> None:
    """In its own errors about arguments: `Conv2d.__init__() got ...`, not `_Conv.__init__()`."""
    wrong = {}
    for module in (gradient, nn, F, optim, optim.lr_scheduler):
        for name in public(module):
            try:
                getattr(module, name)(**{"no such argument": 1})
            except TypeError as error:
                owner, _, method = str(error).partition("(")[0].rpartition(".")
                if owner.startswith("_") or (method == name and owner not in ("", "Tensor")):
                    wrong[name] = str(error)
            except Exception:
                pass  # one of ours, or a call that takes anything
    assert not wrong


@pytest.mark.parametrize(("call", "kind", "sentence"), SENTENCES)
def test_a_mistake_is_named(call: str, kind: str, sentence: str) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 (the class is compared by name)
        eval(call, names())
    assert (type(raised.value).__name__, str(raised.value)) == (kind, sentence)

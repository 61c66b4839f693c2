"""Activation functions: elementwise ones, and softmax and its variants along a dimension."""

from __future__ import annotations

import math
from collections.abc import Callable

from gradient.autograd.autocast import autocasts
from gradient.dtypes import DType, uint8
from gradient.errors import ArgumentError, ShapeError, TypeMismatch, sentence
from gradient.functional.arguments import composite, floats, numbers, one_dtype, rounded_once
from gradient.ops import activation, fused, trigonometry
from gradient.random import rand_like
from gradient.source_lines import warn_user
from gradient.tensor import Tensor
from gradient.tensor.arguments import fitting, number_of, tensor_of
from gradient.tensor.creation_like import empty_like, zeros_like
from gradient.tensor.generator import Generator
from gradient.tensor.joining import where
from gradient.tensor.overwrite import overwrite, unwritten
from gradient.tensor.reductions import softmax_along

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "gumbel_softmax",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_softmax",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "rrelu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
]


def _apply(
    name: str, function: Callable[[Tensor], Tensor], input: Tensor, inplace: bool, ops: int = 1
) -> Tensor:
    """`function(input)`, computed in float32 for 16 bits and rounded once; if `inplace`, written
    over the input. If it consists of several `ops`, the graph then keeps a copy of the input."""
    if not inplace:
        return rounded_once(function, input)
    given = unwritten(input) if ops == 1 else input.clone()
    return overwrite(input, rounded_once(function, given), name + "_")


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """`max(0, input)`, elementwise, with derivative 0 at 0. `inplace` overwrites input. Raises
    DTypeError for bools and complex numbers."""
    if not inplace:
        return activation.relu(input)
    return overwrite(input, activation.relu(unwritten(input)), "relu_")


@composite
def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """`min(max(0, input), 6)`, elementwise (Howard et al. 2017, MobileNets). `inplace` overwrites
    input. Raises DTypeError for bools and complex numbers."""
    return hardtanh(input, 0.0, 6.0, inplace)


@composite
def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """`min(max(input, min_val), max_val)`, elementwise, with derivative 0 at both bounds. `inplace`
    overwrites input. Raises ArgumentError if min_val > max_val. Raises DTypeError for bools and
    complex numbers."""
    numbers("hardtanh", input)
    if min_val > max_val:
        raise ArgumentError(f"hardtanh: min_val {min_val} is greater than max_val {max_val}")
    if not input.dtype.is_floating_point:
        min_val, max_val = int(min_val), int(max_val)
        if input.dtype is uint8 and min(min_val, max_val) < 0:
            got = f"{min_val} and {max_val}"
            raise ArgumentError(sentence("hardtanh", "limits of uint8 from 0", got))

    def cut(x: Tensor) -> Tensor:
        if x.dtype.is_floating_point:
            return activation.hardtanh(x, low=min_val, high=max_val)
        outside = (x <= min_val) | (x >= max_val)  # NaN is not
        return where(outside, x.detach().clamp(min_val, max_val), x)

    return _apply("hardtanh", cut, input, inplace, ops=2)


@composite
def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """`input` where `input > threshold`, else `value`, elementwise. `inplace` overwrites input.
    Raises DTypeError for bools and complex numbers."""
    numbers("threshold", input)

    def replaced(x: Tensor) -> Tensor:
        if not (x.dtype.is_floating_point and isinstance(threshold, (int, float))
                and isinstance(value, (int, float))):  # fmt: skip
            return x.masked_fill(x <= threshold, value)
        held = fitting("masked_fill", "value", value, x.dtype)
        return activation.hardshrink(x, low=-math.inf, high=threshold, value=held)

    return _apply("threshold", replaced, input, inplace, ops=2)


@composite
def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """`input` where `input > 0`, else `negative_slope * input`, elementwise. `inplace` overwrites
    input. Raises DTypeError for integers, bools and complex numbers."""
    floats("leaky_relu", input)
    negative_slope = number_of("leaky_relu", "negative_slope", negative_slope)
    return _apply(
        "leaky_relu", lambda x: activation.leaky_relu(x, slope=negative_slope), input, inplace
    )


@autocasts("lower_precision")
@composite
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """`leaky_relu` with a learned slope `weight`, elementwise: one slope, or one per channel
    (dimension 1) (He et al. 2015, section 2.1)."""
    floats("prelu", input)
    one_dtype("prelu", input, weight=weight)
    if weight.ndim > 1:
        raise ShapeError(
            sentence("prelu", "a weight of at most one dimension", tuple(weight.shape))
        )
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.numel() not in (1, channels):
        raise ShapeError(
            f"prelu: expected 1 slope or {channels}, one for each channel of the input "
            f"{tuple(input.shape)}, got {weight.numel()}"
        )
    per_channel = (1,) * (input.ndim - 2)
    weight = weight.reshape(-1, *per_channel) if weight.numel() != 1 else weight.reshape(())
    return activation.prelu(input, weight)


@composite
def rrelu(
    input: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    """`leaky_relu`, elementwise, with a slope drawn from [lower, upper) for each element; if not
    `training`, the slope is (lower + upper) / 2 (Xu et al. 2015, section 2.4)."""
    if not lower <= upper:
        raise ArgumentError(sentence("rrelu", "lower <= upper", f"{lower} and {upper}"))
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    slope = rand_like(input.detach()) * (upper - lower) + lower
    return _apply("rrelu", lambda x: where(x > 0, x, x * slope.to(x.dtype)), input, inplace, ops=2)


@composite
def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """`input` where `input > 0`, else `alpha * (exp(input) - 1)`, elementwise (Clevert et al.
    2015). `inplace` overwrites input. Raises DTypeError for integers, bools and complex numbers."""
    floats("elu", input)
    alpha = number_of("elu", "alpha", alpha)
    return _apply("elu", lambda x: activation.elu(x, alpha=alpha), input, inplace)


@composite
def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """`scale * elu(input, alpha)`, elementwise, with constants that keep mean 0 and variance 1
    (Klambauer et al. 2017). `inplace` overwrites input. Raises DTypeError for integers, bools and
    complex numbers."""
    floats("selu", input)
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    return _apply("selu", lambda x: activation.elu(x, alpha=alpha, scale=scale), input, inplace)


@composite
def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """`input` where `input > 0`, else `alpha * (exp(input / alpha) - 1)`, elementwise (Barron
    2017). `inplace` overwrites input. Raises DTypeError for integers, bools and complex numbers."""
    floats("celu", input)
    alpha = number_of("celu", "alpha", alpha)
    if alpha == 0:
        raise ArgumentError(sentence("celu", "alpha other than 0", alpha))
    return _apply("celu", lambda x: activation.elu(x, alpha=alpha, stretch=alpha), input, inplace)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """`x * Phi(x)`, with Phi the normal distribution's CDF (Hendrycks and Gimpel 2016).

    `approximate="tanh"`: `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`, GPT-2's form.
    """
    if not isinstance(approximate, str):
        expected = "'none' or 'tanh' as approximate"
        raise TypeMismatch(sentence("gelu", expected, type(approximate).__name__))
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return activation.gelu(input, approximate=approximate)


@composite
def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """`input * sigmoid(input)`, also called swish, elementwise. `inplace` overwrites input. Raises
    DTypeError for integers, bools and complex numbers."""
    if not inplace:
        return activation.silu(input)
    return overwrite(input, activation.silu(unwritten(input)), "silu_")


@composite
def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """`input * tanh(softplus(input))`, elementwise (Misra 2019). `inplace` overwrites input. Raises
    DTypeError for integers, bools and complex numbers."""
    floats("mish", input)
    return _apply("mish", activation.mish, input, inplace)


def sigmoid(input: Tensor) -> Tensor:
    """`1 / (1 + exp(-input))`, elementwise. Integers and bools are converted to the default float
    dtype."""
    return activation.sigmoid(input)


def tanh(input: Tensor) -> Tensor:
    """`(exp(input) - exp(-input)) / (exp(input) + exp(-input))`, elementwise. Integers and bools
    are converted to the default float dtype."""
    return trigonometry.tanh(input)


@composite
def logsigmoid(input: Tensor) -> Tensor:
    """`log(sigmoid(input))`, elementwise; accurate where the sigmoid rounds to 0 or 1. Raises
    DTypeError for integers, bools and complex numbers."""
    floats("logsigmoid", input)
    return activation.logsigmoid(input)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """`log(1 + exp(beta * input)) / beta`, elementwise; `input` where `beta * input > threshold`.
    Raises DTypeError for integers, bools and complex numbers."""
    beta = number_of("softplus", "beta", beta)
    return activation.softplus(input, beta=beta, threshold=threshold)


@composite
def softsign(input: Tensor) -> Tensor:
    """`input / (1 + |input|)`, elementwise. Integers are converted to the default float dtype.
    Raises DTypeError for bools."""
    return input / (1 + input.abs())


@composite
def tanhshrink(input: Tensor) -> Tensor:
    """`input - tanh(input)`, elementwise. Integers are converted to the default float dtype. Raises
    DTypeError for bools."""
    return input - trigonometry.tanh(input)


@composite
def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """`sign(input) * max(|input| - lambd, 0)`, elementwise. Raises DTypeError for integers, bools
    and complex numbers."""
    floats("softshrink", input)
    lambd = float(number_of("softshrink", "lambd", lambd))
    if lambd < 0:
        raise ArgumentError(f"softshrink: lambd must be 0 or more, got {lambd}")
    return activation.softshrink(input, lambd=lambd)


@composite
def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """`input` where `|input| > lambd`, else 0, elementwise. Raises DTypeError for integers, bools
    and complex numbers."""
    floats("hardshrink", input)
    if not isinstance(lambd, (int, float)) or lambd < 0:
        return input.masked_fill(input.abs() <= lambd, 0.0)
    return activation.hardshrink(input, low=-lambd, high=lambd)


@composite
def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """`min(max(0, input + 3), 6) / 6`, elementwise (Howard et al. 2019). `inplace` overwrites
    input. Raises DTypeError for integers, bools and complex numbers."""
    floats("hardsigmoid", input)
    return _apply("hardsigmoid", activation.hardsigmoid, input, inplace)


@composite
def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """`input * hardsigmoid(input)`, elementwise (Howard et al. 2019, MobileNetV3). `inplace`
    overwrites input. Raises DTypeError for integers, bools and complex numbers."""
    floats("hardswish", input)
    return _apply("hardswish", activation.hardswish, input, inplace)


@composite
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """`a * sigmoid(b)`, with a and b the two halves of input along `dim` (Dauphin et al. 2016).
    Raises ShapeError for an odd size. Raises DTypeError for integers, bools and complex numbers."""
    floats("glu", input)
    if not input.ndim:
        raise ShapeError(sentence("glu", "at least one dimension", "a 0-d tensor"))
    if input.size(dim) % 2:
        raise ShapeError(f"glu: dimension {dim} must have an even size, got {input.shape[dim]}")
    return activation.glu(input, axis=dim % input.ndim)


def softmax(input: Tensor, dim: int | None = None, dtype: DType | None = None) -> Tensor:
    """`exp(x_i) / sum_j exp(x_j)` along `dim`, in the shape of input; `dtype` converts input first.
    Raises DTypeError for integers, bools and complex numbers."""
    input = tensor_of("softmax", input)
    if dim is None:
        dim = _softmax_dim("softmax", input)
    return softmax_along(fused.softmax, input if dtype is None else input.to(dtype=dtype), dim)


def log_softmax(input: Tensor, dim: int | None = None, dtype: DType | None = None) -> Tensor:
    """`log(softmax(input))` along `dim`, computed without the logarithm of small numbers; `dtype`
    converts input first. Raises DTypeError for integers, bools and complex numbers."""
    input = tensor_of("log_softmax", input)
    if dim is None:
        dim = _softmax_dim("log_softmax", input)
    return softmax_along(fused.log_softmax, input if dtype is None else input.to(dtype=dtype), dim)


@composite
def softmin(input: Tensor, dim: int | None = None, dtype: DType | None = None) -> Tensor:
    """`softmax(-input)` along `dim`, in the shape of input; `dtype` converts input first. Raises
    DTypeError for integers, bools and complex numbers."""
    return (-input).softmax(_softmax_dim("softmin", input) if dim is None else dim, dtype=dtype)


def _softmax_dim(op: str, input: Tensor) -> int:
    """The dimension that PyTorch takes, with a warning, where none is given."""
    dim = 0 if input.ndim in (0, 1, 3) else 1
    warn_user(
        f"{op}: no dim was given, and dim={dim} is taken, as PyTorch does for "
        f"{input.ndim} dimensions; pass dim"
    )
    return dim


@composite
def gumbel_softmax(
    logits: Tensor,
    tau: float = 1.0,
    hard: bool = False,
    eps: float = 1e-10,
    dim: int = -1,
    generator: Generator | None = None,
) -> Tensor:
    """A categorical sample that has a gradient: `softmax((logits + gumbel) / tau)`.

    With `hard`, the result is one-hot, with the gradient of the soft sample (Jang et al. 2016;
    Maddison et al. 2016). `eps` has no effect; it is there for PyTorch's order of arguments.
    """
    noise = empty_like(logits.detach()).exponential_(generator=generator)
    soft = ((logits - noise.log()) / tau).softmax(dim)
    if not hard:
        return soft
    chosen = soft.argmax(dim, keepdim=True)
    one_hot = zeros_like(soft.detach()).scatter(dim, chosen, 1.0)
    return one_hot - soft.detach() + soft

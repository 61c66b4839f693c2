"""Rows of the op table for elementwise ops."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from gradient.ops import activation, comparison, elementwise, loss, trigonometry
from gradient.testing.row import Row
from gradient.testing.samples import EMPTIES, EMPTY, MASK, ONE, PAIR, constant


def elementwise_op(name: str) -> Any:
    """The elementwise op of this name."""
    families = (elementwise, trigonometry, activation, comparison, loss)
    return next(getattr(family, name) for family in families if hasattr(family, name))


def unary(op: str, reference: Any, low: float = -2.0, high: float = 2.0, **more: Any) -> Row:
    """An elementwise op of one input."""
    options = {"empty": EMPTY, "scalar": True, **more}
    return Row(op, elementwise_op(op), reference, ONE, low=low, high=high, **options)


def binary(op: str, reference: Any, low: float = -2.0, high: float = 2.0, **more: Any) -> Row:
    """An elementwise op of two inputs."""
    options = {"empty": EMPTIES, "scalar": True, **more}
    return Row(op, elementwise_op(op), reference, PAIR, low=low, high=high, **options)


def question(op: str, reference: Any, **more: Any) -> Row:
    """An elementwise op without a gradient."""
    n = 1 if op in ("isnan", "isfinite", "isinf", "logical_not", "bitwise_not") else 2
    make = unary if n == 1 else binary
    return make(op, reference, differentiable=False, **{"kind": "int", **more})


erf = np.vectorize(math.erf, otypes=[float])
erfinv = np.vectorize(lambda x: NormalDist().inv_cdf((x + 1) / 2) / math.sqrt(2), "d")


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def normal_cdf(x: Any) -> Any:
    return 0.5 * (1 + erf(x / math.sqrt(2)))


def gelu_tanh(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ROWS = [
    # Arithmetic
    binary("add", np.add),
    Row("add", elementwise.add, np.add, ((3, 4), (4,)), note="broadcast", empty=((0, 4), (4,))),
    binary("sub", np.subtract),
    binary("mul", np.multiply),
    Row("mul", elementwise.mul, np.multiply, ((2, 1, 4), (3, 1)), note="broadcast"),
    binary("div", np.divide, 0.5, 2),
    binary("pow", np.power, 0.5, 2, tolerance=64),
    Row("addcmul", elementwise.addcmul, lambda x, a, b: x + a * b, ((3, 4),) * 3),
    Row(
        "lerp_by",
        lambda x, end: elementwise.lerp_by(x, end, weight=0.7),
        lambda x, end: x + (end - x) * 0.7,
        ((3, 4), (4,)),
    ),
    Row("lerp", elementwise.lerp, lambda x, end, w: x + (end - x) * w, ((3, 4), (4,), (3, 1))),
    Row(
        "addcmul",
        lambda x, a, b: elementwise.addcmul(x, a, b, value=-0.7),
        lambda x, a, b: x - 0.7 * a * b,
        ((4,), (3, 1), (3, 4)),
        note="a value",
    ),
    Row("addcdiv", elementwise.addcdiv, lambda x, a, b: x + a / b, ((3, 4),) * 3, low=0.5),
    Row(
        "addcdiv",
        lambda x, a, b: elementwise.addcdiv(x, a, b, value=-0.7),
        lambda x, a, b: x - 0.7 * a / b,
        ((4,), (3, 1), (3, 4)),
        note="a value",
        low=0.5,
    ),
    unary("neg", np.negative),
    binary("remainder", np.remainder, 0.5, 2, tolerance=64),
    binary("fmod", np.fmod, 0.5, 2, tolerance=64),
    binary("floor_divide", np.floor_divide, 0.5, 2, differentiable=False),
    binary("trunc_divide", lambda a, b: np.trunc(a / b), 0.5, 2, differentiable=False),
    unary("abs", np.abs),
    binary("hypot", np.hypot),
    binary("copysign", np.copysign),
    binary("nextafter", np.nextafter),
    unary("sign", np.sign),
    unary("floor", np.floor),
    unary("ceil", np.ceil),
    unary("trunc", np.trunc),
    unary("round", np.rint),
    Row("astype", lambda x: elementwise.astype(x, dtype=np.dtype("float64")), lambda x: x, ONE),
    unary("clone", np.copy),
    unary("contiguous", np.copy),
    # Exponentials and logarithms
    unary("exp", np.exp),
    unary("exp2", np.exp2),
    unary("expm1", np.expm1),
    unary("log", np.log, 0.2, 3),
    unary("log2", np.log2, 0.2, 3),
    unary("log10", np.log10, 0.2, 3),
    unary("log1p", np.log1p, -0.5, 3),
    binary("logaddexp", np.logaddexp),
    unary("sqrt", np.sqrt, 0.2, 3),
    unary("rsqrt", lambda x: 1 / np.sqrt(x), 0.2, 3),
    unary("reciprocal", np.reciprocal, 0.2, 3),
    # Trigonometric and hyperbolic
    unary("sin", np.sin),
    unary("cos", np.cos),
    unary("tan", np.tan, -1, 1),
    unary("asin", np.arcsin, -0.8, 0.8),
    unary("acos", np.arccos, -0.8, 0.8),
    unary("atan", np.arctan),
    binary("atan2", np.arctan2, 0.3, 2),
    unary("sinh", np.sinh),
    unary("cosh", np.cosh),
    unary("tanh", np.tanh),
    unary("asinh", np.arcsinh),
    unary("acosh", np.arccosh, 1.3, 3),
    unary("atanh", np.arctanh, -0.8, 0.8),
    unary("erf", erf),
    unary("erfc", np.vectorize(math.erfc, otypes=[float])),
    unary("erfinv", erfinv, -0.9, 0.9),
    # Activations
    unary("sigmoid", sigmoid),
    binary("sigmoid_grad", lambda grad, s: grad * s * (1 - s)),
    unary("logit", lambda x: np.log(x / (1 - x)), 0.1, 0.9),
    unary("logsigmoid", lambda x: np.log(sigmoid(x))),
    unary("relu", lambda x: np.maximum(x, 0)),
    unary("mish", lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    Row(
        "glu",
        lambda x: activation.glu(x, axis=1),
        lambda x: x[:, :2] * sigmoid(x[:, 2:]),
        ((3, 4, 2),),
        empty=((3, 0),),
    ),
    Row("prelu", activation.prelu, lambda x, w: np.where(x > 0, x, w * x), ((2, 3, 4), (3, 1))),
    Row(
        "hardshrink",
        lambda x: activation.hardshrink(x, low=-0.4, high=0.3, value=2.0),
        lambda x: np.where((x >= -0.4) & (x <= 0.3), 2.0, x),
        ONE,
    ),
    Row(
        "softshrink",
        lambda x: activation.softshrink(x, lambd=0.3),
        lambda x: x - np.clip(x, -0.3, 0.3),
        ONE,
    ),
    unary("softplus", lambda x: np.log1p(np.exp(x))),
    Row(
        "hardtanh",
        lambda x: activation.hardtanh(x, low=-0.7, high=0.9),
        lambda x: np.clip(x, -0.7, 0.9),
        ONE,
    ),
    Row(
        "leaky_relu",
        lambda x: activation.leaky_relu(x, slope=0.2),
        lambda x: np.where(x > 0, x, 0.2 * x),
        ONE,
    ),
    unary("elu", lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    unary("hardsigmoid", lambda x: np.clip(x + 3, 0, 6) / 6),
    unary("hardswish", lambda x: x * np.clip(x + 3, 0, 6) / 6),
    unary("silu", lambda x: x * sigmoid(x)),
    unary("gelu", lambda x: x * normal_cdf(x)),
    Row("gelu", lambda x: activation.gelu(x, approximate="tanh"), gelu_tanh, ONE, note="tanh"),
    # Losses of one element
    binary(
        "binary_cross_entropy", lambda x, t: -(t * np.log(x) + (1 - t) * np.log1p(-x)), 0.1, 0.9
    ),
    # Choosing
    binary("maximum", np.maximum),
    binary("minimum", np.minimum),
    Row(
        "where",
        lambda a, b: comparison.where(a, b, condition=constant(a, MASK)),
        lambda a, b: np.where(MASK, a, b),
        PAIR,
    ),
    Row(
        "clamp",
        lambda x: comparison.clamp(x, min=-0.9, max=1.1),
        lambda x: np.clip(x, -0.9, 1.1),
        ONE,
        empty=EMPTY,
        scalar=True,
    ),
    Row(
        "clamp_between",
        lambda x, low, high: comparison.clamp_between(x, low, high),
        lambda x, low, high: np.minimum(np.maximum(x, low), high),
        ((3, 4), (4,), (3, 1)),
    ),
    # Questions
    question("eq", np.equal),
    question("ne", np.not_equal),
    question("lt", np.less),
    question("le", np.less_equal),
    question("gt", np.greater),
    question("ge", np.greater_equal),
    question("bitwise_and", np.bitwise_and),
    question("bitwise_or", np.bitwise_or),
    question("bitwise_xor", np.bitwise_xor),
    question("bitwise_not", np.invert),
    question("logical_and", np.logical_and),
    question("logical_or", np.logical_or),
    question("logical_xor", np.logical_xor),
    question("logical_not", np.logical_not),
    question("isnan", np.isnan, kind="float"),
    question("isfinite", np.isfinite, kind="float"),
    question("isinf", np.isinf, kind="float"),
]

"""Initialisation of weights, in place.

Every function returns its tensor and records no gradient. Inside `skip_init()` they do nothing: for
a model whose weights are loaded right after it is made, so that its memory is not written twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Real
from typing import TYPE_CHECKING

from gradient import absent
from gradient.autograd import no_grad
from gradient.dtypes import float64
from gradient.errors import ArgumentError, DTypeError, TypeMismatch, sentence
from gradient.random import randn, randperm
from gradient.tensor import Tensor
from gradient.tensor.creation import empty, eye
from gradient.tensor.generator import Generator
from gradient.tensor.joining import stack

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "skip_init",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

_skipped: ContextVar[bool] = ContextVar("gradient_skip_init", default=False)


@contextmanager
def skip_init() -> Iterator[None]:
    """A context in which the functions of this module do not change their tensors."""
    token = _skipped.set(True)
    try:
        yield
    finally:
        _skipped.reset(token)


def _check(name: str, tensor: Tensor, *, floating: bool = False, **numbers: float) -> None:
    """Raise unless `tensor` is one, of floats if it has to be, and `numbers` are finite."""
    if not isinstance(tensor, Tensor):
        raise TypeMismatch(sentence(name, "a Tensor as tensor", repr(tensor)))
    if floating and not tensor.is_floating_point():
        raise DTypeError(sentence(name, "a floating-point tensor", tensor.dtype))
    for argument, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeMismatch(sentence(name, f"a number as {argument}", repr(value)))
        if not math.isfinite(value):
            raise ArgumentError(sentence(name, f"a finite number as {argument}", value))


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor for the standard deviation of weights that keeps the variance of
    activations through `nonlinearity`, such as sqrt(2) for "relu".

    `param` is the negative slope of "leaky_relu" (default 0.01).
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, int | float):
            raise ArgumentError(f"calculate_gain: negative_slope {param!r} is not a number")
        return math.sqrt(2.0 / (1 + slope**2))
    gains = {"tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 0.75}
    flat = (
        "linear", "conv1d", "conv2d", "conv3d", "sigmoid",
        "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    )  # fmt: skip
    gains |= dict.fromkeys(flat, 1.0)
    if nonlinearity not in gains:
        known = ", ".join(sorted([*gains, "leaky_relu"]))
        raise ArgumentError(f"calculate_gain: expected one of {known}; got {nonlinearity!r}")
    return gains[nonlinearity]


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill with numbers from the uniform distribution on [a, b)."""
    _check("uniform_", tensor)
    if _skipped.get():
        return tensor
    with no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill with numbers from the normal distribution with `mean` and `std`."""
    _check("normal_", tensor)
    if _skipped.get():
        return tensor
    with no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with numbers from the normal distribution with `mean` and `std`, truncated to [a, b].
    (The bounds are values, not multiples of `std`.)"""
    _check("trunc_normal_", tensor, floating=True, mean=mean, std=std)
    if std <= 0:
        raise ArgumentError(sentence("trunc_normal_", "a std above 0", std))
    if not a <= b:
        raise ArgumentError(sentence("trunc_normal_", "a <= b", f"a={a} and b={b}"))
    if _skipped.get():
        return tensor

    def cdf(x: float) -> float:
        return (1.0 + math.erf(x / math.sqrt(2.0))) / 2.0

    # Inverse transform sampling: u uniform between the CDF of both ends, then the inverse CDF of u.
    low, high = cdf((a - mean) / std), cdf((b - mean) / std)
    with no_grad():
        uniform = empty(tensor.shape, dtype=float64, device=tensor.device)
        uniform.uniform_(2 * low - 1, 2 * high - 1, generator=generator)
        values = uniform.erfinv() * (std * math.sqrt(2.0)) + mean
        return tensor.copy_(values.clamp(a, b))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with `val`."""
    _check("constant_", tensor)
    if _skipped.get():
        return tensor
    with no_grad():
        return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros."""
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with the identity: a linear layer with this weight returns its input."""
    _check("eye_", tensor)
    if tensor.ndim != 2:
        raise ArgumentError(f"eye_: expected a matrix, got {tuple(tensor.shape)}")
    if _skipped.get():
        return tensor
    with no_grad():
        return tensor.copy_(eye(*tensor.shape, dtype=tensor.dtype, device=tensor.device))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill a convolution weight (O, C, ...) with the identity: the first min(O, C) channels of each
    group pass through unchanged."""
    _check("dirac_", tensor)
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ArgumentError(sentence("dirac_", "an integer of at least 1 as groups", repr(groups)))
    if tensor.ndim not in (3, 4, 5):
        raise ArgumentError(f"dirac_: expected 3, 4 or 5 dimensions, got {tuple(tensor.shape)}")
    out_channels, in_channels, *kernel = tensor.shape
    if out_channels % groups:
        raise ArgumentError(f"dirac_: {out_channels} channels do not divide into {groups} groups")
    if _skipped.get():
        return tensor
    centre = tuple(size // 2 for size in kernel)
    each = out_channels // groups
    with no_grad():
        tensor.zero_()
        for group in range(groups):
            for channel in range(min(each, in_channels)):
                tensor[(group * each + channel, channel, *centre)] = 1.0
    return tensor


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """Return fan_in, the number of inputs of one output, and fan_out, the outputs of one input."""
    if tensor.ndim < 2:
        raise ArgumentError(
            f"fan in and fan out need 2 dimensions or more, got shape {tuple(tensor.shape)}"
        )
    window = math.prod(tensor.shape[2:])
    return tensor.shape[1] * window, tensor.shape[0] * window


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill from the uniform distribution on [-b, b], `b = gain * sqrt(6 / (fan_in + fan_out))`
    (Glorot and Bengio 2010, eq. 16)."""
    _check("xavier_uniform_", tensor, gain=gain)
    if gain < 0:
        raise ArgumentError(sentence("xavier_uniform_", "a gain of at least 0", gain))
    bound = gain * math.sqrt(6.0 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill from the normal distribution, mean 0, `std = gain * sqrt(2 / (fan_in + fan_out))`
    (Glorot and Bengio 2010, eq. 12)."""
    _check("xavier_normal_", tensor, gain=gain)
    if gain < 0:
        raise ArgumentError(sentence("xavier_normal_", "a gain of at least 0", gain))
    std = gain * math.sqrt(2.0 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return normal_(tensor, 0.0, std, generator)


def _calculate_correct_fan(tensor: Tensor, mode: str) -> int:
    """Return fan_in or fan_out, as `mode` says."""
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"kaiming: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return fan_in if mode == "fan_in" else fan_out


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    return calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode))


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fill from the uniform distribution on [-b, b], `b = gain * sqrt(3 / fan)` (He et al. 2015,
    section 2.2).

    `mode` chooses "fan_in" or "fan_out"; `gain` is that of `nonlinearity` (`calculate_gain`), and
    `a` the negative slope of "leaky_relu".
    """
    _check("kaiming_uniform_", tensor)
    if tensor.numel() == 0:
        return tensor
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fill from the normal distribution, mean 0, `std = gain / sqrt(fan)` (He et al. 2015, section
    2.2); arguments as in `kaiming_uniform_`."""
    _check("kaiming_normal_", tensor)
    if tensor.numel() == 0:
        return tensor
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with an orthogonal matrix times `gain` (Saxe et al. 2013): its rows, or its columns if
    these are fewer, are orthogonal.

    Dimensions after the first are flattened.
    """
    _check("orthogonal_", tensor, floating=True, gain=gain)
    if tensor.ndim < 2:
        raise ArgumentError(
            f"orthogonal_: expected 2 dimensions or more, got {tuple(tensor.shape)}"
        )
    if _skipped.get() or tensor.numel() == 0:
        return tensor
    rows = tensor.shape[0]
    columns = tensor.numel() // rows
    with no_grad():
        shape = (max(rows, columns), min(rows, columns))
        random = randn(*shape, dtype=float64, device=tensor.device, generator=generator)
        basis = _orthonormal_columns(random)
        basis = basis.T if rows < columns else basis
        return tensor.copy_((gain * basis).reshape(tensor.shape))


def _orthonormal_columns(matrix: Tensor) -> Tensor:
    """Gram-Schmidt, each column twice, for a matrix whose columns are independent.

    Normal random columns make it the uniform (Haar) distribution, as a QR decomposition whose R has
    a positive diagonal. Twice is enough to be orthogonal to working precision (Kahan).
    """
    columns: list[Tensor] = []
    for column in matrix.T:
        for _ in range(2):
            if columns:
                basis = stack(columns)
                column = column - (basis @ column) @ basis
        columns.append(column / (column * column).sum().sqrt())
    return stack(columns, 1)


def sparse_(
    tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None
) -> Tensor:
    """Fill a matrix from the normal distribution with `std`, and set a fraction `sparsity` of each
    column to 0 (Martens 2010)."""
    _check("sparse_", tensor, sparsity=sparsity)
    if not 0 <= sparsity <= 1:
        raise ArgumentError(sentence("sparse_", "a sparsity from 0 to 1", sparsity))
    if tensor.ndim != 2:
        raise ArgumentError(f"sparse_: expected a matrix, got {tuple(tensor.shape)}")
    if _skipped.get():
        return tensor
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    normal_(tensor, 0.0, std, generator)
    with no_grad():
        for column in range(columns):
            chosen = randperm(rows, device=tensor.device, generator=generator)[:zeros]
            tensor[chosen, column] = 0.0
    return tensor


if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)

"""Normalisation functions: they subtract a mean and divide by a standard deviation or norm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from gradient.autograd import no_grad
from gradient.autograd.autocast import autocasts, float32_on_cpu
from gradient.dtypes import HALF_PRECISION, DType, finfo, float32, float64, promote_types
from gradient.errors import ArgumentError, DTypeError, ShapeError, TypeMismatch, sentence
from gradient.functional.arguments import composite, floats
from gradient.functional.padding import pad
from gradient.ops import fused
from gradient.tensor import Tensor
from gradient.tensor.arguments import flag_of, int_of, number_of
from gradient.tensor.views import in_order

__all__ = [
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "normalize",
    "rms_norm",
]


@composite
def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """`(x - mean) / sqrt(var + eps) * weight + bias` over the last dimensions (Ba et al. 2016).

    `normalized_shape` holds their sizes. The variance has no Bessel correction. An input of 16 bits
    may have a weight and a bias of float32.
    """
    _check_tail("layer_norm", input, normalized_shape, weight, bias)
    if type(eps) is not float:
        eps = number_of("layer_norm", "eps", eps)
    try:
        return _layer_norm(input, normalized_shape, weight, bias, eps)
    except DTypeError:
        parameters = [p.dtype for p in (weight, bias) if p is not None]
        if input.dtype not in HALF_PRECISION or any(dtype != float32 for dtype in parameters):
            raise
    return _layer_norm(input.float(), normalized_shape, weight, bias, eps).to(input.dtype)


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    if len(normalized_shape) == 1:
        given = (input,) if weight is None and bias is None else (input, weight, bias)
        return in_order(fused.layer_norm(*given, eps=eps))
    kept = input.ndim - len(normalized_shape)
    flat = fused.layer_norm(input.flatten(kept), _flat(weight), _flat(bias), eps=eps)
    return flat.reshape(input.shape)


@composite
def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """`x / sqrt(mean(x^2) + eps) * weight` over the last dimensions (Zhang and Sennrich 2019).

    `eps=None` is the machine epsilon of the dtype that it is computed in: float32 for 16 bits. The
    weight may have another dtype than the input, which is the result's.
    """
    _check_tail("rms_norm", floats("rms_norm", input), normalized_shape, weight)
    if eps is None:
        eps = finfo(float64 if input.dtype is float64 else float32).eps
    eps = number_of("rms_norm", "eps", eps)
    try:
        return _rms_norm(input, normalized_shape, weight, eps)
    except DTypeError:
        if weight is None or weight.dtype.is_complex:
            raise
    common = promote_types(input.dtype, weight.dtype)
    found = _rms_norm(input.to(common), normalized_shape, weight.to(common), eps)
    return found.to(input.dtype)


def _rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None, eps: float
) -> Tensor:
    if len(normalized_shape) == 1:
        return fused.rms_norm(input, weight, eps=eps)
    kept = input.ndim - len(normalized_shape)
    return fused.rms_norm(input.flatten(kept), _flat(weight), eps=eps).reshape(input.shape)


@autocasts("float32_on_gpu")
@composite
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalises each of `num_groups` groups of channels of (N, C, ...) (Wu and He 2018)."""
    if input.ndim < 2:
        raise ShapeError(f"group_norm: expected an input (N, C, ...), got {tuple(input.shape)}")
    channels = input.shape[1]
    floats("group_norm", input)
    eps = number_of("group_norm", "eps", eps)
    if num_groups < 1:
        raise ArgumentError(sentence("group_norm", "num_groups of at least 1", num_groups))
    _check_channels("group_norm", input, {"weight": weight, "bias": bias})
    if input.shape[0] * channels // num_groups * math.prod(input.shape[2:]) == 1:
        _check_enough_values("group_norm", input, 1)
    if channels % num_groups:
        raise ShapeError(f"group_norm: {channels} channels do not divide into {num_groups} groups")
    if input.numel() and all(w is None or w.dtype is input.dtype for w in (weight, bias)):
        return fused.group_norm(input, weight, bias, groups=num_groups, eps=eps)
    if input.dtype.itemsize == 2 and all(w is None or w.dtype is float32 for w in (weight, bias)):
        return group_norm(input.float(), num_groups, weight, bias, eps).to(input.dtype)
    groups = input.reshape(input.shape[0], num_groups, math.prod(input.shape[1:]) // num_groups)
    output = fused.layer_norm(groups, None, None, eps=eps).reshape(input.shape)
    return _affine(output, weight, bias)


@composite
def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalises each channel of each sample of (N, C, ...) separately (Ulyanov et al. 2016)."""
    if input.ndim < 2:
        raise ShapeError(f"instance_norm: expected an input (N, C, ...), got {tuple(input.shape)}")
    _check_channels("instance_norm", input, {"running_mean": running_mean,
                    "running_var": running_var, "weight": weight, "bias": bias})  # fmt: skip
    samples, channels = input.shape[:2]
    if use_input_stats:
        _check_enough_values("instance_norm", input, input.numel() // max(samples * channels, 1))

    def repeated(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.repeat(samples)

    # Seen as one sample of N * C channels, this is a batch norm.
    mean, var = repeated(running_mean), repeated(running_var)
    flat = input.reshape(1, samples * channels, *input.shape[2:])
    flat = batch_norm(
        flat, mean, var, repeated(weight), repeated(bias), use_input_stats, momentum, eps
    )
    if use_input_stats:
        for running, updated in ((running_mean, mean), (running_var, var)):
            if running is not None and updated is not None:
                with no_grad():
                    running.copy_(updated.reshape(samples, channels).mean(0))
    return flat.reshape(input.shape)


@composite
def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalises each channel of (N, C, ...) over all other dimensions (Ioffe and Szegedy 2015).

    In `training` it uses the batch's mean and variance, and updates the running statistics (C,) in
    place: `running = (1 - momentum) * running + momentum * batch`, the variance with Bessel's
    correction. Otherwise it uses the running statistics.
    """
    if _is_usual(input, running_mean, running_var, weight, bias) and type(training) is bool:
        return _batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    if input.numel() == 0:  # nothing to normalise, and nothing to learn from: gradients of 0
        if training and input.ndim:
            count = math.prod((input.shape[0], *input.shape[2:]))
            _check_enough_values("batch_norm", input, count)
        output = input.clone()  # PyTorch takes weights of any size, and their first number
        output = output if weight is None else output * weight.reshape(-1)[0]
        return output if bias is None else output + bias.reshape(-1)[0]
    if input.ndim < 2:
        raise ShapeError(f"batch_norm: expected an input (N, C, ...), got {tuple(input.shape)}")
    floats("batch_norm", input)
    flag_of("batch_norm", "training", training)
    given = {"running_mean": running_mean, "running_var": running_var,
             "weight": weight, "bias": bias}  # fmt: skip
    _check_channels("batch_norm", input, given)
    if (running_mean is None) != (running_var is None):
        raise ArgumentError(
            sentence("batch_norm", "running_mean and running_var, or neither", "one")
        )
    for name, tensor in given.items():
        if tensor is not None and tensor.dtype not in (input.dtype, _wide(input)):
            expected = f"{name} of the input's dtype {input.dtype}"
            raise DTypeError(sentence("batch_norm", expected, tensor.dtype))
    if input.dtype.itemsize < 4:  # 16 bits are for storage: the statistics need more
        wide = input.float()
        output = _batch_norm(wide, running_mean, running_var, weight, bias, training, momentum, eps)
        return output.to(input.dtype)
    return _batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def _is_usual(input: Tensor, *given: Tensor | None) -> bool:
    """Whether nothing of a batch norm needs a closer look: float32 or float64, with one number of
    each of what is given for a channel, and both running statistics or neither."""
    shape, dtype = input.array.shape, input.array.dtype
    if len(shape) < 2 or 0 in shape or dtype.char not in ("f", "d"):
        return False
    if (given[0] is None) != (given[1] is None):
        return False
    channels = (shape[1],)
    return all(
        [each is None or (each.array.shape == channels and each.array.dtype == dtype)
         for each in given]
    )  # fmt: skip


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """As `batch_norm`, of float32 or float64 and arguments that were checked."""
    per_channel = (1, -1, *(1,) * (input.ndim - 2))
    if not training:
        if running_mean is None or running_var is None:
            raise ArgumentError(
                "batch_norm: expected running_mean and running_var when training=False"
            )
        centred = input - running_mean.reshape(per_channel)
        scale = (running_var.reshape(per_channel) + eps).rsqrt()
        if weight is not None:  # while it has one number for each channel: a pass less
            scale = scale * weight.reshape(per_channel)
        output = centred * scale
        return output if bias is None else output + bias.reshape(per_channel)

    count = input.numel() // input.shape[1]
    _check_enough_values("batch_norm", input, count)
    if running_mean is not None or running_var is not None:
        with no_grad():
            mean, var = fused.channel_moments(input).unbind()
            for running, value in (
                (running_mean, mean),
                (running_var, var * (count / (count - 1))),
            ):
                if running is not None:
                    running *= 1 - momentum
                    running += momentum * value
    weight, bias = (
        tensor if tensor is None or tensor.dtype is input.dtype else tensor.to(input.dtype)
        for tensor in (weight, bias)
    )
    return fused.batch_norm(input, weight, bias, eps=float(eps))


@composite
def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """`x / (k + alpha * mean(x^2))^beta` for (N, C, ...); the mean is over `size` neighbouring
    channels (Krizhevsky et al. 2012, section 3.3)."""
    if input.ndim < 3:
        raise ArgumentError(f"local_response_norm: expected (N, C, ...), got {tuple(input.shape)}")
    if int_of("local_response_norm", "size", size) < 1:
        raise ArgumentError(sentence("local_response_norm", "size of at least 1", size))
    before, after = size // 2, (size - 1) // 2
    channels = input.shape[1]
    squares = input * input
    if input.ndim > 3:
        squares = float32_on_cpu(squares)
    widths = [0, 0] * (input.ndim - 2) + [before, after]
    padded = pad(squares, widths)
    total = padded.narrow(1, 0, channels)
    for shift in range(1, size):
        total = total + padded.narrow(1, shift, channels)
    return input / (total / size * alpha + k) ** beta


@autocasts("float32_on_gpu")
@composite
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """`x / max(norm_p(x), eps)` along `dim`."""
    return input / input.norm(p, dim, keepdim=True).clamp(min=eps)


def _affine(output: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """`output * weight + bias`, one weight and bias for each channel (dimension 1)."""
    per_channel = (1, -1, *(1,) * (output.ndim - 2))
    if weight is not None:
        output = output * weight.reshape(per_channel)
    if bias is not None:
        output = output + bias.reshape(per_channel)
    return output


def _wide(input: Tensor) -> DType:
    """The dtype of statistics: 16 bits are for storage."""
    return float32 if input.dtype.itemsize < 4 else input.dtype


def _flat(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.flatten()


def _check_tail(
    op: str, input: Tensor, normalized_shape: Sequence[int], *parameters: Tensor | None
) -> None:
    if not isinstance(normalized_shape, tuple | list):
        got = repr(normalized_shape)
        raise TypeMismatch(sentence(op, "a tuple of ints as normalized_shape", got))
    tail = tuple(normalized_shape)
    if not tail:
        raise ShapeError(
            f"{op}: normalized_shape is empty; expected the sizes of the last dimensions"
        )
    if input.array.shape[-len(tail) :] != tail:
        raise ShapeError(
            f"{op}: normalized_shape is {tail}, so expected an input of shape "
            f"(..., {', '.join(map(str, tail))}), got {tuple(input.shape)}"
        )
    for parameter in parameters:
        if parameter is not None and parameter.array.shape != tail:
            name = "weight" if parameter is parameters[0] else "bias"
            raise ShapeError(f"{op}: expected {name} of shape {tail}, got {tuple(parameter.shape)}")


def _check_channels(op: str, input: Tensor, given: Mapping[str, Tensor | None]) -> None:
    """One value a channel of (N, C, ...). Where all agree on how many, the input is wrong."""
    tensors = {name: tensor for name, tensor in given.items() if tensor is not None}
    wrong = [name for name, tensor in tensors.items() if tuple(tensor.shape) != (input.shape[1],)]
    if not wrong:
        return
    first = tensors[wrong[0]]
    if first.ndim == 1 and all(tensor.shape == first.shape for tensor in tensors.values()):
        expected = f"an input of {len(first)} channels, as many as {wrong[0]} has"
        raise ShapeError(sentence(op, expected, tuple(input.shape)))
    expected = f"{wrong[0]} of shape ({input.shape[1]},), one for each channel of the input"
    raise ShapeError(sentence(op, expected, tuple(first.shape)))


def _check_enough_values(op: str, input: Tensor, count: int) -> None:
    if count == 1:
        raise ArgumentError(
            f"{op}: expected more than 1 value per channel when training, got input size "
            f"{tuple(input.shape)}"
        )

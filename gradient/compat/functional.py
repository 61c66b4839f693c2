"""Functions of `nn.functional` that PyTorch has in its package, too, with the arguments there."""

from __future__ import annotations

from collections.abc import Sequence

from gradient import functional as F
from gradient.autograd.forwarding import forwarded
from gradient.linalg.householder import householder_product
from gradient.linalg.powers import multi_dot
from gradient.tensor import Tensor
from gradient.tensor.arguments import tensor_of

adaptive_avg_pool1d = forwarded(F.adaptive_avg_pool1d)
avg_pool1d = forwarded(F.avg_pool1d)
channel_shuffle = forwarded(F.channel_shuffle)
bilinear = forwarded(F.bilinear)
celu = forwarded(F.celu)
conv1d = F.conv1d
conv2d = F.conv2d
conv3d = F.conv3d
conv_transpose1d = F.conv_transpose1d
conv_transpose2d = F.conv_transpose2d
conv_transpose3d = F.conv_transpose3d
cosine_similarity = forwarded(F.cosine_similarity)
hardshrink = forwarded(F.hardshrink)
max_pool1d = F.max_pool1d
max_pool2d = F.max_pool2d
max_pool3d = F.max_pool3d
pairwise_distance = forwarded(F.pairwise_distance)
pdist = forwarded(F.pdist)
pixel_shuffle = forwarded(F.pixel_shuffle)
pixel_unshuffle = forwarded(F.pixel_unshuffle)
prelu = forwarded(F.prelu)
rms_norm = forwarded(F.rms_norm)
rrelu = forwarded(F.rrelu)
selu = forwarded(F.selu)
threshold = forwarded(F.threshold)


@forwarded
def constant_pad_nd(input: Tensor, pad: Sequence[int], value: float = 0) -> Tensor:
    """`nn.functional.pad(input, pad, "constant", value)`"""
    return F.pad(input, pad, "constant", value)


@forwarded
def dropout(input: Tensor, p: float, train: bool) -> Tensor:
    return F.dropout(input, p, train)


@forwarded
def alpha_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    return F.alpha_dropout(input, p, train)


@forwarded
def feature_alpha_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    return F.feature_alpha_dropout(input, p, train)


def batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Tensor:
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


@forwarded
def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    return F.layer_norm(input, normalized_shape, weight, bias, eps)


@forwarded
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    return F.group_norm(input, num_groups, weight, bias, eps)


@forwarded
def adjoint(input: Tensor) -> Tensor:
    """`input.mH`"""
    return input.mH


def chain_matmul(*matrices: Tensor) -> Tensor:
    """`linalg.multi_dot(matrices)`"""
    return multi_dot(matrices)


def unravel_index(indices: Tensor, shape: int | Sequence[int]) -> tuple[Tensor, ...]:
    """The index in each dimension of elements that are counted in row-major order."""
    sizes = [shape] if isinstance(shape, int) else list(shape)
    rest, found = indices, []
    for size in reversed(sizes):
        found.append(rest % size)
        rest = rest // size
    return tuple(reversed(found))


@forwarded
def orgqr(input: Tensor, input2: Tensor) -> Tensor:
    """`linalg.householder_product(input, input2)`"""
    return householder_product(input, input2)


@forwarded
def nonzero_static(input: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """`input.nonzero_static(size=size, fill_value=fill_value)`"""
    found: Tensor = tensor_of("nonzero_static", input).nonzero_static(
        size=size, fill_value=fill_value
    )
    return found


@forwarded
def is_distributed(input: Tensor) -> bool:
    """False"""
    return False

"""Functions that PyTorch's `nn.functional` is written in, under their names in the package: modes
are numbers there, and all arguments are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradient import functional as F
from gradient.autograd.forwarding import forwarded
from gradient.autograd.modes import no_grad
from gradient.compat import nn_functional
from gradient.errors import ArgumentError, sentence
from gradient.functional.conv import Size
from gradient.functional.embedding_bag import _bags
from gradient.tensor import Tensor
from gradient.tensor.arguments import tensor_of
from gradient.tensor.complex_numbers import view_as_complex, view_as_real

INTERPOLATION = ("bilinear", "nearest", "bicubic")
PADDING = ("zeros", "border", "reflection")
BAGS = ("sum", "mean", "max")


def _word(caller: str, name: str, words: Sequence[str], number: int) -> str:
    if number not in range(len(words)):
        expected = ", ".join(f"{i} ({word})" for i, word in enumerate(words))
        raise ArgumentError(sentence(caller, f"{name} in {expected}", repr(number)))
    return words[number]


# Convolutions and pools --------------------------------------------------------------------------


def convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    """`conv1d`, `conv2d` or `conv3d`, by the input's dimensions; or `conv_transpose1d` and so
    on."""
    n = tensor_of("convolution", weight).ndim - 2
    if n not in (1, 2, 3):
        raise ArgumentError(sentence("convolution", "a weight of 3, 4 or 5 dimensions", n + 2))
    if transposed:
        back: Callable[..., Tensor] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[
            n - 1
        ]
        return back(input, weight, bias, stride, padding, output_padding, groups, dilation)
    run: Callable[..., Tensor] = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    return run(input, weight, bias, stride, padding, dilation, groups)


@forwarded
def conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """A convolution over time of (T, N, C_in) with a weight (K, C_in, C_out): (T_out, N, C_out)."""
    x, w = tensor_of("conv_tbc", input), tensor_of("conv_tbc", weight)
    return F.conv1d(x.permute(1, 2, 0), w.permute(2, 1, 0), bias, padding=pad).permute(2, 0, 1)


@forwarded
def adaptive_max_pool1d(input: Tensor, output_size: int | Sequence[int]) -> tuple[Tensor, Tensor]:
    """The maxima, and where in a row they stood."""
    found: Any = F.adaptive_max_pool1d(input, output_size, return_indices=True)
    return found[0], found[1]


@forwarded
def max_pool1d_with_indices(
    input: Tensor,
    kernel_size: Size,
    stride: Size = (),
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    """The maxima, and where in a row they stood."""
    pool: Callable[..., Any] = F.max_pool1d
    found = pool(
        input, kernel_size, stride or None, padding, dilation, ceil_mode, return_indices=True
    )
    return found[0], found[1]


@forwarded
def native_channel_shuffle(input: Tensor, groups: int) -> Tensor:
    return F.channel_shuffle(input, groups)


# Places ------------------------------------------------------------------------------------------


def affine_grid_generator(theta: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    return F.affine_grid(theta, size, align_corners)


@forwarded
def grid_sampler(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """`grid_sample`, whose modes are numbers: 0 bilinear, 1 nearest, 2 bicubic; 0 zeros, 1 border,
    2 reflection."""
    mode = _word("grid_sampler", "interpolation_mode", INTERPOLATION, interpolation_mode)
    padding = _word("grid_sampler", "padding_mode", PADDING, padding_mode)
    return F.grid_sample(input, grid, mode, padding, align_corners)


grid_sampler_2d = grid_sampler_3d = grid_sampler


# Norms -------------------------------------------------------------------------------------------


def instance_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    return F.instance_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )


@forwarded
def frobenius_norm(input: Tensor, dim: int | Sequence[int], keepdim: bool = False) -> Tensor:
    """The square root of the sum of squares over `dim`; over all if there are none."""
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    x = tensor_of("frobenius_norm", input)
    found: Tensor = x.norm(2, dims or None, keepdim)
    return found


@forwarded
def nuclear_norm(
    input: Tensor, dim: int | Sequence[int] | bool = (-2, -1), keepdim: bool = False
) -> Tensor:
    """The sum of the singular values of a matrix, or of the matrices in two dimensions."""
    dims, kept = ((-2, -1), dim) if isinstance(dim, bool) else (dim, keepdim)
    found: Tensor = tensor_of("nuclear_norm", input).norm("nuc", dims, kept)
    return found


@forwarded
def norm_except_dim(v: Tensor, pow: int = 2, dim: int = 0) -> Tensor:
    """The norms over all dimensions but `dim`, which are kept as sizes of 1; -1: over all."""
    x = tensor_of("norm_except_dim", v)
    found: Tensor
    if dim == -1:
        found = x.norm(pow)
        return found
    rest = [i for i in range(x.ndim) if i != dim % x.ndim]
    found = x.norm(pow, rest, keepdim=True) if rest else x.abs()
    return found


# Embeddings --------------------------------------------------------------------------------------


def embedding_bag(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`nn.functional.embedding_bag`, and for its gradient in PyTorch: the bag of each index, and
    (twice) how many a bag has. `mode`: 0 sum, 1 mean, 2 max."""
    how = _word("embedding_bag", "mode", BAGS, mode)
    output = F.embedding_bag(
        indices, weight, offsets, None, 2.0, scale_grad_by_freq, how, sparse, per_sample_weights,
        include_last_offset, padding_idx,
    )  # fmt: skip
    bag, count = _bags("embedding_bag", indices, offsets, include_last_offset)
    sizes = bag.new_zeros(count).index_add(0, bag, bag.new_ones(bag.shape[0]))
    return output, bag, sizes, sizes


@forwarded
@no_grad()
def embedding_renorm_(input: Tensor, indices: Tensor, max_norm: float, norm_type: float) -> Tensor:
    """Shrink the rows that `indices` name, and whose norm exceeds `max_norm`, to that norm."""
    F.embedding(indices, tensor_of("embedding_renorm_", input), None, max_norm, norm_type)
    return input


# In place, and copies ----------------------------------------------------------------------------


@forwarded
def feature_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """Dropout of whole channels."""
    return F.dropout2d(input, p, train) if train else input


def _in_place(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @forwarded
    def run(input: Tensor, p: float, train: bool) -> Tensor:
        changed: Tensor = tensor_of(name, input).copy_(function(input, p, train))
        return changed

    name = run.__name__ = run.__qualname__ = f"{function.__name__}_"
    run.__doc__ = f"`{function.__name__}`, in the memory of `input`."
    return run


dropout_ = _in_place(F.dropout)
alpha_dropout_ = _in_place(F.alpha_dropout)
feature_alpha_dropout_ = _in_place(F.feature_alpha_dropout)
feature_dropout_ = _in_place(feature_dropout)


celu_ = forwarded(nn_functional.celu_)
rrelu_ = forwarded(nn_functional.rrelu_)
selu_ = forwarded(nn_functional.selu_)
threshold_ = forwarded(nn_functional.threshold_)


@forwarded
def conj_physical_(input: Tensor) -> Tensor:
    """Have each element be its conjugate."""
    x = tensor_of("conj_physical_", input)
    changed: Tensor = x.copy_(x.conj()) if x.is_complex() else x
    return changed


@forwarded
def view_as_complex_copy(input: Tensor) -> Tensor:
    return view_as_complex(input).clone()


@forwarded
def view_as_real_copy(input: Tensor) -> Tensor:
    return view_as_real(input).clone()

"""`nn.utils.fusion`: a batch norm in evaluation made part of the layer before it."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from gradient.errors import ArgumentError, ShapeError, TypeMismatch, sentence
from gradient.nn.batchnorm import _BatchNorm
from gradient.nn.module import Module
from gradient.nn.parameter import Parameter
from gradient.tensor import Tensor
from gradient.tensor.creation_like import ones_like, zeros_like

__all__ = [
    "fuse_conv_bn_eval",
    "fuse_conv_bn_weights",
    "fuse_linear_bn_eval",
    "fuse_linear_bn_weights",
    "convert_conv2d_weight_memory_format",
    "convert_conv3d_weight_memory_format",
    "skip_init",
]

Layer = TypeVar("Layer", bound=Module)


def fuse_conv_bn_eval(conv: Layer, bn: Module, transpose: bool = False) -> Layer:
    """A convolution that computes what `bn(conv(x))` does in evaluation; both stay as they are.

    Args:
        transpose: it is a transposed convolution, without groups.

    Raises:
        ArgumentError: one of them is training, or the norm has no running statistics.
    """
    fused: Any = _copied("fuse_conv_bn_eval", conv, bn)
    norm: Any = bn
    fused.weight, fused.bias = fuse_conv_bn_weights(
        fused.weight, fused.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight,
        norm.bias, transpose,
    )  # fmt: skip
    return fused


def fuse_linear_bn_eval(linear: Layer, bn: Module) -> Layer:
    """A linear layer that computes what `bn(linear(x))` does in evaluation."""
    fused: Any = _copied("fuse_linear_bn_eval", linear, bn)
    norm: Any = bn
    if norm.num_features not in (1, fused.out_features):
        expected = f"a norm of {fused.out_features} features, or of 1"
        raise ArgumentError(sentence("fuse_linear_bn_eval", expected, norm.num_features))
    fused.weight, fused.bias = fuse_linear_bn_weights(
        fused.weight, fused.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight,
        norm.bias,
    )  # fmt: skip
    return fused


def convert_conv2d_weight_memory_format(module: Layer, memory_format: object) -> Layer:
    """`module` as it is: kernels read weights in row-major order."""
    return module


convert_conv3d_weight_memory_format = convert_conv2d_weight_memory_format


def _copied(caller: str, layer: Module, bn: Any) -> Module:
    if layer.training or bn.training:
        raise ArgumentError(sentence(caller, "modules in evaluation", "one in training", ".eval()"))
    if bn.running_mean is None or bn.running_var is None:
        raise ArgumentError(sentence(caller, "a norm with running statistics", "one without"))
    return copy.deepcopy(layer)


def fuse_conv_bn_weights(
    conv_w: Tensor,
    conv_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
    transpose: bool = False,
) -> tuple[Parameter, Parameter]:
    """(weight, bias) of the convolution that does what it and the norm do."""
    axis = 1 if transpose else 0
    channels = bn_rm.shape[0]
    if conv_w.shape[axis] != channels:
        expected = f"a weight of {channels} channels in dimension {axis}"
        raise ShapeError(sentence("fuse_conv_bn_weights", expected, tuple(conv_w.shape)))
    size = [1] * conv_w.ndim
    size[axis] = channels
    return _scaled(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, size)


def fuse_linear_bn_weights(
    linear_w: Tensor,
    linear_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
) -> tuple[Parameter, Parameter]:
    """(weight, bias) of the linear layer that does what it and the norm do."""
    return _scaled(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, [-1, 1])


def _scaled(
    weight: Tensor,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    scale: Tensor | None,
    shift: Tensor | None,
    size: list[int],
) -> tuple[Parameter, Parameter]:
    m, w = mean.detach(), weight.detach()
    b, t = (zeros_like(m) if x is None else x.detach() for x in (bias, shift))
    s = ones_like(m) if scale is None else scale.detach()
    factor = s * (var.detach() + eps).rsqrt()
    moved = (b - m) * factor + t
    fused = w * factor.to(w.dtype).reshape(size)
    wanted = weight.requires_grad, bias is not None and bias.requires_grad
    return Parameter(fused, wanted[0]), Parameter(moved.to(w.dtype), wanted[1])


def skip_init(module_cls: type[Layer], *args: Any, **kwargs: Any) -> Layer:
    """`module_cls(*args, **kwargs)`, for who is to fill the parameters; they are initialised all
    the same, as there is no device without memory."""
    if not (isinstance(module_cls, type) and issubclass(module_cls, Module)):
        raise TypeMismatch(sentence("skip_init", "a class of Modules", repr(module_cls)))
    return module_cls(*args, **kwargs)


def replace_all_batch_norm_modules_(root: Layer) -> Layer:
    """Have the batch norms of a module keep no running averages, which `vmap` could not change;
    gives the module."""
    for module in root.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean = module.running_var = module.num_batches_tracked = None
            module.track_running_stats = False
    return root

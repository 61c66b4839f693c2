"""BatchNorm1d/2d/3d and InstanceNorm1d/2d: normalisation of channels, with running statistics."""

from __future__ import annotations

from typing import Any

from gradient import dtypes
from gradient import functional as F
from gradient.dtypes import DType
from gradient.errors import ArgumentError
from gradient.nn.module import Module
from gradient.nn.normalization import add_affine, reset_affine
from gradient.nn.parameter import Parameter
from gradient.tensor import Tensor
from gradient.tensor.arguments import size_argument
from gradient.tensor.creation import zeros
from gradient.tensor.creation_like import ones_like
from gradient.tensor.device import DeviceLike

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "SyncBatchNorm",
]


class _NormBase(Module):
    """Base of batch and instance norm: affine parameters, and buffers of running statistics."""

    _version = 2  # with num_batches_tracked
    _shown = ("=num_features", "eps", "momentum", "affine", "bias", "track_running_stats")
    weight: Parameter  # or None
    bias: Parameter  # or None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    allowed_ndim: tuple[int, ...] = ()

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = size_argument(type(self).__name__, "num_features", num_features)
        self.eps, self.momentum = eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        add_affine(self, (num_features,), affine, affine and bias, device, dtype)
        if track_running_stats:
            mean = zeros(num_features, device=device, dtype=dtype)
            self.register_buffer("running_mean", mean)
            self.register_buffer("running_var", ones_like(mean))
            count = zeros((), device=device, dtype=dtypes.int64)
            self.register_buffer("num_batches_tracked", count)
        else:
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                self.register_buffer(name, None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Set the running mean to 0, the running variance to 1, and the count of batches to 0."""
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Set weight to 1 and bias to 0, and reset the running statistics."""
        self.reset_running_stats()
        reset_affine(self)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        *rest: Any,
    ) -> None:
        """Keep the count of batches if the state dict is an older one, without it, or a plain dict
        that does not say its version, as in PyTorch."""
        count, key = self.num_batches_tracked, f"{prefix}num_batches_tracked"
        version = local_metadata.get("version")
        if count is not None and (version is None or version < 2) and key not in state_dict:
            state_dict[key] = count
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    def _check(self, input: Tensor) -> None:
        if input.ndim not in self.allowed_ndim:
            expected = " or ".join(f"{ndim}D" for ndim in self.allowed_ndim)
            raise ArgumentError(
                f"{type(self).__name__}: expected {expected} input, got {tuple(input.shape)}"
            )


class _BatchNorm(_NormBase):
    """`y = (x - mean) / sqrt(var + eps) * weight + bias` per channel (Ioffe and Szegedy 2015).

    In training, mean and variance are those of the batch, and update the running statistics:
    `running = (1 - momentum) * running + momentum * batch` (`momentum=None`: the average over all
    batches). Evaluation uses the running statistics; without them (`track_running_stats=False`),
    the batch's. The result has the input's shape.

    Raises:
        ArgumentError: the input has another number of dimensions.
    """

    def forward(self, input: Tensor) -> Tensor:
        self._check(input)
        uses_batch = self.training or self.running_mean is None
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
        follows = self.training and self.track_running_stats
        mean, var = self.running_mean, self.running_var
        if uses_batch and not follows:
            mean = var = None
        return F.batch_norm(
            input, mean, var, self.weight, self.bias, uses_batch, momentum, self.eps
        )


class BatchNorm1d(_BatchNorm):
    __doc__ = f"Batch norm of (N, C) or (N, C, L): {_BatchNorm.__doc__}"
    allowed_ndim = (2, 3)


class BatchNorm2d(_BatchNorm):
    __doc__ = f"Batch norm of (N, C, H, W): {_BatchNorm.__doc__}"
    allowed_ndim = (4,)


class BatchNorm3d(_BatchNorm):
    __doc__ = f"Batch norm of (N, C, D, H, W): {_BatchNorm.__doc__}"
    allowed_ndim = (5,)


class SyncBatchNorm(_BatchNorm):
    """Batch norm of (N, C, ...) over the batches of all processes. There is only one process here,
    so it computes the same as `BatchNorm1d`, `BatchNorm2d` and `BatchNorm3d`."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: object = None,
        device: DeviceLike = None,
        dtype: DType | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias
        )
        self.process_group = process_group

    def _check(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ArgumentError(
                f"SyncBatchNorm: expected at least 2 dimensions, got {tuple(input.shape)}"
            )

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: object = None) -> Module:
        """Replace every batch norm in `module` by a SyncBatchNorm with the same tensors."""
        converted = module
        if isinstance(module, _BatchNorm) and not isinstance(module, SyncBatchNorm):
            converted = made = cls(
                module.num_features, module.eps, module.momentum, module.affine,
                module.track_running_stats, process_group, bias=module.bias is not None,
            )  # fmt: skip
            for name in module._registry:
                setattr(made, name, getattr(module, name))
            made.training = module.training
        for name, child in module.named_children():
            converted.add_module(name, cls.convert_sync_batchnorm(child, process_group))
        return converted


class _InstanceNorm(_NormBase):
    """`y = (x - mean) / sqrt(var + eps)` per channel of each sample (Ulyanov et al. 2016).

    With `affine`, the result is then `y * weight + bias`. With `track_running_stats`, running
    statistics are updated in training and used in evaluation, as in batch norm.

    Raises:
        ArgumentError: the input has another number of dimensions.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: DeviceLike = None,
        dtype: DType | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias
        )

    def forward(self, input: Tensor) -> Tensor:
        self._check(input)
        unbatched = input.ndim == min(self.allowed_ndim)
        output = F.instance_norm(
            input.unsqueeze(0) if unbatched else input,
            self.running_mean, self.running_var, self.weight, self.bias,
            self.training or not self.track_running_stats,
            self.momentum or 0.0, self.eps,
        )  # fmt: skip
        return output.squeeze(0) if unbatched else output


class InstanceNorm1d(_InstanceNorm):
    __doc__ = f"Instance norm of (N, C, L) or (C, L): {_InstanceNorm.__doc__}"
    allowed_ndim = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    __doc__ = f"Instance norm of (N, C, H, W) or (C, H, W): {_InstanceNorm.__doc__}"
    allowed_ndim = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    __doc__ = f"Instance norm of (N, C, D, H, W) or (C, D, H, W): {_InstanceNorm.__doc__}"
    allowed_ndim = (4, 5)

"""Averages of weights during training: `gradient.optim.swa_utils`, PyTorch's name of it.

averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
for batch in loader:
    ...
    optimizer.step()
    averaged.update_parameters(model)
update_bn(loader, averaged)
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gradient.autograd import no_grad
from gradient.checks import check_arguments, integer, one_of
from gradient.dtypes import int64
from gradient.errors import ArgumentError, sentence
from gradient.nn.batchnorm import _BatchNorm
from gradient.nn.module import Module
from gradient.optim.lr_scheduler.scheduler import LRScheduler
from gradient.optim.optimizer import Optimizer
from gradient.tensor import Tensor
from gradient.tensor.creation import zeros
from gradient.tensor.device import DeviceLike

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]

Average = Callable[[Tensor, Tensor, Any], Tensor]
"""(average so far, new weight, how many it is of) to the new average."""

MultiAverage = Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]
"""The same for lists, in place."""


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """The exponential moving average, `decay * average + (1 - decay) * weight`."""
    _check_decay(decay)

    def average(ema_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return decay * ema_param + (1 - decay) * current_param

    return average


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverage:
    """`get_ema_avg_fn`, in place; integer tensors take the new value."""
    _check_decay(decay)

    def average(
        ema_param_list: Sequence[Tensor], current_param_list: Sequence[Tensor], _: Any
    ) -> None:
        for mean, weight in zip(ema_param_list, current_param_list, strict=True):
            mean.copy_(mean.lerp(weight, 1 - decay) if mean.is_floating_point() else weight)

    return average


def get_swa_avg_fn() -> Average:
    """The plain mean of all weights so far (Izmailov et al. 2018)."""

    def average(averaged_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)

    return average


def get_swa_multi_avg_fn() -> MultiAverage:
    """`get_swa_avg_fn`, in place."""
    one = get_swa_avg_fn()

    def average(
        averaged_param_list: Sequence[Tensor], current_param_list: Sequence[Tensor], count: Any
    ) -> None:
        for mean, weight in zip(averaged_param_list, current_param_list, strict=True):
            mean.copy_(one(mean, weight, count))

    return average


def _check_decay(decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise ArgumentError(sentence("get_ema_avg_fn", "decay from 0 to 1", decay))


class AveragedModel(Module):
    """A copy of a model, in `module`, whose weights are averages of the model's.

    Args:
        avg_fn, multi_avg_fn: how to average, one tensor or lists in place; default: the plain
            mean (stochastic weight averaging).
        use_buffers: average buffers too; else they are copied.
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: DeviceLike = None,
        avg_fn: Average | None = None,
        multi_avg_fn: MultiAverage | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise ArgumentError(sentence("AveragedModel", "avg_fn or multi_avg_fn", "both"))
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", zeros((), dtype=int64, device=device))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Add the model's present weights to the averages."""
        with no_grad():
            pairs = [
                (own.detach(), weight.detach().to(device=own.device))
                for own, weight in zip(
                    self._averaged(self.module), self._averaged(model), strict=True
                )
            ]
            if int(self.n_averaged) == 0:
                for own, weight in pairs:
                    own.copy_(weight)
            elif self.multi_avg_fn is not None:
                owns, weights = [own for own, _ in pairs], [weight for _, weight in pairs]
                self.multi_avg_fn(owns, weights, self.n_averaged)
            else:
                average = self.avg_fn or get_swa_avg_fn()
                for own, weight in pairs:
                    own.copy_(average(own, weight, self.n_averaged))
            if not self.use_buffers:
                for own, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
                    own.detach().copy_(buffer.detach())
            self.n_averaged.add_(1)

    def _averaged(self, model: Module) -> Iterable[Tensor]:
        if self.use_buffers:
            return itertools.chain(model.parameters(), model.buffers())
        return model.parameters()


def update_bn(loader: Iterable[Any], model: Module, device: DeviceLike = None) -> None:
    """Recompute the running statistics of a model's batch norms over the loader's batches (the
    first element of each, if they are tuples), because they are those of other weights."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
    if not norms:
        return
    was_training, momenta = model.training, [norm.momentum for norm in norms]
    model.train()
    try:
        for norm in norms:
            norm.momentum = None
        with no_grad():
            for batch in loader:
                input = batch[0] if isinstance(batch, (list, tuple)) else batch
                model(input if device is None else input.to(device))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(was_training)


class SWALR(LRScheduler):
    """Change each group's rate to `swa_lr` in `anneal_epochs` steps, then keep it constant.

    Args:
        swa_lr: a rate, or one for each parameter group.
        anneal_strategy: "cos" or "linear".
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | Sequence[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        check_arguments(
            "SWALR",
            anneal_epochs=(anneal_epochs, integer(0)),
            anneal_strategy=(anneal_strategy, one_of("cos", "linear")),
        )
        groups = optimizer.param_groups
        rates = list(swa_lr) if isinstance(swa_lr, (list, tuple)) else [swa_lr] * len(groups)
        if len(rates) != len(groups):
            expected = f"swa_lr of {len(groups)} rates, one for each parameter group"
            raise ArgumentError(sentence("SWALR", expected, len(rates)))
        for group, rate in zip(groups, rates, strict=True):
            group["swa_lr"] = rate
        self.anneal_epochs, self._anneal_strategy = anneal_epochs, anneal_strategy
        super().__init__(optimizer, last_epoch)

    def _share(self, step: int) -> float:
        """The fraction of the way from the first rate to `swa_lr`, 0 to 1."""
        t = max(0.0, min(1.0, step / max(1, self.anneal_epochs)))
        return t if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self) -> list[float]:
        step = self._step_count - 1
        step = max(1, step) if self.anneal_epochs == 0 else step
        before, now = self._share(step - 1), self._share(step)
        rates = []
        for group in self.optimizer.param_groups:
            lr, last = float(group["lr"]), float(group["swa_lr"])
            first = last if before == 1 else (lr - before * last) / (1 - before)
            rates.append(last * now + first * (1 - now))
        return rates

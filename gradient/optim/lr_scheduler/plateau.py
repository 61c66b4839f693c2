"""A schedule that follows a metric instead of the epoch."""

from __future__ import annotations

import math
import warnings
from typing import Any, SupportsFloat

from gradient.checks import check_arguments, number, one_of
from gradient.errors import ArgumentError
from gradient.optim.lr_scheduler.scheduler import (
    LRScheduler,
    check_optimizer,
    current_lrs,
    per_group,
    set_lr,
)
from gradient.optim.optimizer import Optimizer

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(LRScheduler):
    """Reduce the rate when a metric has stopped improving.

        scheduler.step(validation_loss)        # after each epoch

    Args:
        mode: "min" if a smaller metric is better, "max" if a larger one is.
        factor: the factor of a reduction, below 1.
        patience: number of epochs without improvement that are allowed before a reduction.
        threshold: the smallest change that counts as improvement.
        threshold_mode: "rel": threshold is a fraction of the best value; "abs": a difference.
        cooldown: epochs after a reduction during which no epoch counts as bad.
        min_lr: the smallest rate; a list gives one per parameter group.
        eps: reductions of at most this size are not made.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        # Not the base's constructor: there is no epoch 0 whose rates could be set.
        self.optimizer = check_optimizer(self, optimizer)
        check_arguments(
            type(self).__name__,
            factor=(factor, number(below=1)),
            patience=(patience, number()),
            threshold=(threshold, number()),
            cooldown=(cooldown, number()),
            eps=(eps, number()),
            mode=(mode, one_of("min", "max")),
            threshold_mode=(threshold_mode, one_of("rel", "abs")),
        )
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.default_min_lr = None if isinstance(min_lr, list | tuple) else min_lr
        self.min_lrs = per_group(self, "min_lr", min_lr, optimizer)
        for least in self.min_lrs:
            check_arguments(type(self).__name__, min_lr=(least, number()))
        self.eps = eps
        self.last_epoch = 0
        self.mode_worse = math.inf if mode == "min" else -math.inf
        self._last_lr = current_lrs(optimizer)
        self._reset()

    def _reset(self) -> None:
        """Forget the metrics so far."""
        self.best = self.mode_worse
        self.cooldown_counter = 0
        self.num_bad_epochs = 0

    @property
    def in_cooldown(self) -> bool:
        """Whether the cooldown after a reduction is active."""
        return self.cooldown_counter > 0

    # As in PyTorch, this step needs a metric, unlike those of other schedules.
    def step(self, metrics: SupportsFloat, epoch: int | None = None) -> None:  # type: ignore[override]
        """Take the metric of this epoch, and reduce the rates after too many bad epochs.

        Args:
            metrics: a number or a tensor with one element.
            epoch: the epoch to go to instead of the next one (deprecated in PyTorch).
        """
        if epoch is not None:
            warnings.warn(
                "the epoch argument of ReduceLROnPlateau.step() is deprecated: call "
                "step(metrics) once per epoch",
                stacklevel=2,
            )
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        current = float(metrics)
        if self._is_better(current):
            self.best = current
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce_lr()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = current_lrs(self.optimizer)

    def _is_better(self, current: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            return sign * current > sign * self.best * (1 + sign * self.threshold)
        return sign * current > sign * self.best + self.threshold

    def _reduce_lr(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):
            if self.default_min_lr is None:
                raise ArgumentError(
                    f"ReduceLROnPlateau: min_lr was given for {len(self.min_lrs)} parameter "
                    f"groups, but the optimizer has {len(groups)} now: set scheduler.min_lrs"
                )
            self.min_lrs = [self.default_min_lr] * len(groups)
        for group, lr, least in zip(groups, current_lrs(self.optimizer), self.min_lrs, strict=True):
            reduced = max(lr * self.factor, least)
            if lr - reduced > self.eps:
                set_lr(group, reduced)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state that `state_dict` returned. The optimiser's state is loaded separately."""
        self.__dict__.update(state_dict)

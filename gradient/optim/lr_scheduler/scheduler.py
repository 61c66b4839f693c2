"""The base classes of schedules: they count epochs and set the rates of the optimiser's groups."""

from __future__ import annotations

import warnings
from typing import Any

from gradient.errors import ArgumentError, TypeMismatch
from gradient.optim.optimizer import Optimizer
from gradient.optim.options import Group
from gradient.tensor import Tensor

__all__ = ["FactorLR", "LRScheduler"]


class LRScheduler:
    """Sets the learning rate of each parameter group, once per call of `step`.

    A subclass implements `get_lr`. An "epoch" is one call of `step`, which may be called after
    every epoch or after every batch. Making a scheduler sets the rates of epoch 0 at once.

    Args:
        optimizer: the "lr" of its groups is set; each group stores its first rate as "initial_lr".
        last_epoch: -1 for a new run. To resume without the scheduler's `state_dict`, the last epoch
            that was done; the groups must have "initial_lr", as those of a loaded optimiser do.

    Attributes:
        base_lrs: the initial rate of each group.
        last_epoch: the epoch of the current rates.

    Raises:
        TypeMismatch (TypeError): not an optimiser.
        KeyError: last_epoch is given, but a group has no "initial_lr".
    """

    _get_lr_called_within_step = False
    """Whether `step` is asking `get_lr`: schedules written for PyTorch look there."""

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = check_optimizer(self, optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", _number(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"{type(self).__name__}: param_groups[{i}] has no 'initial_lr', which resuming "
                    f"with last_epoch={last_epoch} needs: load the optimizer's state first, or "
                    "leave last_epoch at -1"
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def get_lr(self) -> list[float]:
        """Compute the rate of each group at `last_epoch`, from the groups' present rates.

        Subclasses implement it, and `step` calls it. Use `get_last_lr` to read the present rates.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement get_lr")

    def get_last_lr(self) -> list[float]:
        """Return the rate of each group, as last set by this scheduler."""
        return self._last_lr

    def step(self, epoch: int | None = None) -> None:
        """Go to the next epoch and set its rates. Call it after the optimiser's `step`.

        Args:
            epoch: the epoch to go to instead of the next one (deprecated in PyTorch).
        """
        if self._step_count == 1 and not self.optimizer._opt_called:
            warnings.warn(
                f"{type(self).__name__}.step() was called before optimizer.step(), so the first "
                "learning rate of the schedule is never used: call optimizer.step() first",
                stacklevel=2,
            )
        if epoch is not None:
            warnings.warn(
                f"the epoch argument of {type(self).__name__}.step() is deprecated: call step() "
                "once per epoch",
                stacklevel=2,
            )
        self._step_count += 1
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        self._get_lr_called_within_step = True
        try:
            if epoch is None:
                self.last_epoch += 1
                rates = self.get_lr()
            else:
                self.last_epoch = epoch
                # A jump to an epoch needs a formula for the epoch alone; without one, this steps
                # from the present rates.
                rates = getattr(self, "_get_closed_form_lr", self.get_lr)()
        finally:
            self._get_lr_called_within_step = False
        groups = self.optimizer.param_groups
        if len(rates) != len(groups):
            raise ArgumentError(
                f"{type(self).__name__}: made for {len(rates)} parameter groups, but the optimizer "
                f"has {len(groups)} now: make the scheduler after adding groups"
            )
        for group, lr in zip(groups, rates, strict=True):
            set_lr(group, lr)
        self._last_lr = current_lrs(self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        """All attributes except the optimiser."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state that `state_dict` returned. The optimiser's state is loaded separately."""
        self.__dict__.update(state_dict)


class FactorLR(LRScheduler):
    """Base of schedules that multiply the initial rate by a function of the epoch.

    A step multiplies the present rate by factor(t) / factor(t - 1); it does not set initial_lr *
    factor(t). So several such schedules can run on one optimiser, and a rate that the user has
    changed keeps that change in proportion.
    """

    jumps_when_resumed = False
    """Whether making the scheduler with last_epoch=t applies the change from t to t + 1.

    As in PyTorch, schedules of a few jumps do so (the loaded rate is that of epoch t), gradual ones
    do not (it is taken to be that of t + 1).
    """

    @property
    def floor(self) -> float:
        """The part that the factor does not scale: rate = floor + (initial_lr - floor) * factor."""
        return 0.0

    def factor_at(self, epoch: int) -> float:
        """Return the factor at this epoch, counted from 0."""
        raise NotImplementedError(f"{type(self).__name__} does not implement factor_at")

    def get_lr(self) -> list[float]:
        rates, epoch = current_lrs(self.optimizer), self.last_epoch
        if self._is_initial and epoch > 0 and not self.jumps_when_resumed:
            return rates
        before = self.factor_at(epoch - 1) if epoch > 0 else 1.0
        now = self.factor_at(epoch)
        if now == before:
            return rates  # exactly, without rounding by a multiplication
        if before == 0:  # the initial rate cannot be computed from the present one
            groups = self.optimizer.param_groups
            return [
                lr + (group.get("initial_lr", lr) - self.floor) * now
                for lr, group in zip(rates, groups, strict=True)
            ]
        return [self.floor + (lr - self.floor) * (now / before) for lr in rates]

    def _get_closed_form_lr(self) -> list[float]:
        now = self.factor_at(self.last_epoch)
        return [self.floor + (base - self.floor) * now for base in self.base_lrs]


def check_optimizer(scheduler: Any, optimizer: Any) -> Optimizer:
    """Return `optimizer`; raise TypeMismatch if it is not an optimiser."""
    if not isinstance(optimizer, Optimizer):
        raise TypeMismatch(
            f"{type(scheduler).__name__}: expected an Optimizer, but got {type(optimizer).__name__}"
        )
    return optimizer


def per_group(scheduler: Any, name: str, value: Any, optimizer: Optimizer) -> list[Any]:
    """Return one value for each parameter group, given one value for all or a list."""
    count = len(optimizer.param_groups)
    if not isinstance(value, list | tuple):
        return [value] * count
    if len(value) != count:
        raise ArgumentError(
            f"{type(scheduler).__name__}: {name} should be one value or one per parameter group: "
            f"expected {count}, got {len(value)}"
        )
    return list(value)


def current_lrs(optimizer: Optimizer) -> list[float]:
    """The learning rate of each group."""
    return [_number(group["lr"]) for group in optimizer.param_groups]


def set_lr(group: Group, lr: float) -> None:
    """Set a group's rate; if it is a Tensor, change it in place."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr


def _number(lr: float | Tensor) -> float:
    return lr.item() if isinstance(lr, Tensor) else lr

"""Schedules made of other schedules, one after another or together."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from gradient.errors import ArgumentError, TypeMismatch
from gradient.optim.lr_scheduler.plateau import ReduceLROnPlateau
from gradient.optim.lr_scheduler.scheduler import LRScheduler, check_optimizer, current_lrs, set_lr
from gradient.optim.optimizer import Optimizer

__all__ = ["ChainedScheduler", "SequentialLR"]


class _Composite(LRScheduler):
    """Base of combined schedules of one optimiser; their states are saved as a list."""

    _schedulers: Sequence[LRScheduler]

    def _check(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None) -> Optimizer:
        name = type(self).__name__
        if len(schedulers) == 0:
            raise ArgumentError(f"{name}: expected at least one scheduler, but got none")
        for i, scheduler in enumerate(schedulers):
            if not hasattr(scheduler, "optimizer"):
                raise TypeMismatch(
                    f"{name}: schedulers[{i}] should be a scheduler, but got "
                    f"{type(scheduler).__name__}"
                )
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ArgumentError(
                    f"{name}: schedulers[{i}] is a ReduceLROnPlateau, whose step needs a "
                    "metric: step it separately"
                )
            if optimizer is None:
                optimizer = scheduler.optimizer
            if scheduler.optimizer is not optimizer:
                raise ArgumentError(
                    f"{name}: all schedulers should belong to one optimizer, but that of "
                    f"schedulers[{i}] ({type(scheduler).__name__}) is another"
                )
        return check_optimizer(self, optimizer)

    def _update_lr(self, epoch: int | None = None) -> None:
        # Called by a SequentialLR whose next schedule is this one: start it.
        _restore_initial(self.optimizer)
        self._initial_step()

    def state_dict(self) -> dict[str, Any]:
        """All attributes except the optimiser, with the state of each scheduler."""
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state that `state_dict` returned."""
        own = {key: value for key, value in state_dict.items() if key != "_schedulers"}
        super().load_state_dict(own)
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(state)


class SequentialLR(_Composite):
    """Run schedules one after another; the usual way to put a warm-up before another schedule.

        warmup = LinearLR(optimizer, 0.01, total_iters=100)
        decay = CosineAnnealingLR(optimizer, T_max=900)
        scheduler = SequentialLR(optimizer, [warmup, decay], milestones=[100])

    Args:
        schedulers: in the order in which they run; each starts with its own epoch 0.
        milestones: the epochs at which the second, third ... schedule starts.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: list[LRScheduler],
        milestones: list[int],
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = self._check(schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            raise ArgumentError(
                "SequentialLR: expected one milestone less than schedulers, "
                f"but got {len(milestones)} milestones and {len(schedulers)} schedulers"
            )
        self._schedulers = schedulers
        self._milestones = milestones
        self.last_epoch = last_epoch
        # Each schedule set the rates of its epoch 0 when it was made: take that back.
        _restore_initial(optimizer)
        for scheduler in schedulers:
            _undo_step(scheduler)
        self._initial_step()

    def _initial_step(self) -> None:
        self.last_epoch += 1
        first = self._schedulers[bisect_right(self._milestones, self.last_epoch)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    # As in PyTorch, it takes no epoch: each schedule counts its own.
    def step(self) -> None:  # type: ignore[override]
        """Go to the next epoch, of the active schedule."""
        self.last_epoch += 1
        turn = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[turn]
        if turn > 0 and self._milestones[turn - 1] == self.last_epoch:
            scheduler._update_lr(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


class ChainedScheduler(_Composite):
    """Step several schedules together, so that their factors multiply.

    Args:
        schedulers: stepped in this order.
        optimizer: the optimiser of all schedulers; optional.
    """

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        self.optimizer = self._check(schedulers, optimizer)
        self._schedulers = schedulers
        self._last_lr = current_lrs(self.optimizer)

    def _initial_step(self) -> None:
        for scheduler in self._schedulers:
            scheduler._initial_step()
        self._last_lr = current_lrs(self.optimizer)

    # As in PyTorch, it takes no epoch: each schedule counts its own.
    def step(self) -> None:  # type: ignore[override]
        """Step all schedules."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = current_lrs(self.optimizer)


def _restore_initial(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        set_lr(group, group["initial_lr"])


def _undo_step(scheduler: LRScheduler) -> None:
    for part in getattr(scheduler, "_schedulers", ()):
        _undo_step(part)
    if hasattr(scheduler, "last_epoch"):
        scheduler.last_epoch = max(-1, scheduler.last_epoch - 1)

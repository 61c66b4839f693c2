"""Schedules that go up and down: warm restarts, triangles and the 1cycle policy."""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from typing import Any, cast

from gradient.checks import check_arguments, integer, number, one_of, optional
from gradient.errors import ArgumentError
from gradient.optim.lr_scheduler.scheduler import LRScheduler, check_optimizer, per_group, set_lr
from gradient.optim.optimizer import Optimizer
from gradient.optim.options import Group

__all__ = ["CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR"]


class CosineAnnealingWarmRestarts(LRScheduler):
    """Anneal along half cosines, with warm restarts at the full rate: SGDR (Loshchilov and Hutter
    2017).

        lr(t) = eta_min + (initial_lr - eta_min) * (1 + cos(pi T_cur / T_i)) / 2

    with T_cur the epochs since the last restart, and T_i the length of the present period.

    Args:
        T_0: epochs until the first restart.
        T_mult: the factor by which each period is longer than the one before.
        eta_min: the smallest rate.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        check_arguments(type(self).__name__, T_0=(T_0, integer(1)), T_mult=(T_mult, integer(1)))
        self.T_0 = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self.T_i = T_0
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        factor = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * factor for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Go to the next epoch, or to `epoch`, which may be fractional: epoch + batch / batches."""
        check_arguments(f"{type(self).__name__}.step", epoch=(epoch, optional(number(0))))
        self._update_lr(epoch)  # `_step_count` stays 0, as in PyTorch

    def _update_lr(self, epoch: float | None = None) -> None:
        if epoch is None:
            epoch = self.last_epoch + 1
        self.T_cur, self.T_i = epoch, self.T_0
        if self.T_mult == 1:
            self.T_cur %= self.T_0
        while self.T_cur >= self.T_i:
            self.T_cur -= self.T_i
            self.T_i *= self.T_mult
        super()._update_lr(math.floor(epoch))


class _MomentumCycle(LRScheduler):
    """Moves the momentum (or beta1) opposite to the learning rate: low while the rate is high."""

    cycle_momentum: bool
    use_beta1: bool

    def _init_momentum(
        self,
        optimizer: Optimizer,
        base_momentum: float | list[float],
        max_momentum: float | list[float],
        last_epoch: int,
    ) -> None:
        """Give each group the bounds of its momentum."""
        if not self.cycle_momentum:
            return
        if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
            raise ArgumentError(
                f"{type(self).__name__}: {type(optimizer).__name__} has neither momentum nor "
                "betas to cycle: pass cycle_momentum=False"
            )
        self.use_beta1 = "betas" in optimizer.defaults
        lows = per_group(self, "base_momentum", base_momentum, optimizer)
        highs = per_group(self, "max_momentum", max_momentum, optimizer)
        if last_epoch != -1:
            return
        for group, low, high in zip(optimizer.param_groups, lows, highs, strict=True):
            group["base_momentum"], group["max_momentum"] = low, high

    def get_momentum(self) -> list[float]:
        """The momentum of each group at `last_epoch`."""
        raise NotImplementedError

    def _update_lr(self, epoch: int | None = None) -> None:
        super()._update_lr(epoch)
        if not self.cycle_momentum:
            return
        for group, momentum in zip(self.optimizer.param_groups, self.get_momentum(), strict=True):
            if self.use_beta1:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum


class OneCycleLR(_MomentumCycle):
    """The 1cycle policy (Smith and Topin 2019): up to a high rate, then down far below the first.

    Momentum moves the other way. Call `step` after every batch, total_steps times at most.

    Args:
        max_lr: the peak; a list gives one per parameter group.
        total_steps: the number of steps; alternatively give epochs and steps_per_epoch.
        pct_start: the fraction of the steps in which the rate rises.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: move the momentum (beta1 for Adam and its variants) between base_momentum
            and max_momentum.
        div_factor: the initial rate is max_lr / div_factor.
        final_div_factor: the last rate is the initial one / final_div_factor.
        three_phase: fall to the initial rate first, as long as it rose, then to the last rate in a
            third phase.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        check_optimizer(self, optimizer)
        if total_steps is None and epochs is not None and steps_per_epoch is not None:
            total_steps = epochs * steps_per_epoch
        check_arguments(
            type(self).__name__,
            total_steps=(
                total_steps,
                integer(1)._replace(fix="give it, or epochs and steps_per_epoch"),
            ),
            pct_start=(pct_start, number(0, 1)),
            anneal_strategy=(anneal_strategy, one_of("cos", "linear")),
        )
        self.total_steps = cast(int, total_steps)
        self._anneal_func_type = anneal_strategy
        self._schedule_phases = _phases(self.total_steps, pct_start, three_phase)
        self.cycle_momentum = cycle_momentum
        peaks = per_group(self, "max_lr", max_lr, optimizer)
        if last_epoch == -1:
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["max_lr"] = peak
                group["initial_lr"] = peak / div_factor
                group["min_lr"] = group["initial_lr"] / final_div_factor
        self._init_momentum(optimizer, base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    def _annealed(self, group: Group, quantity: str) -> float:
        """The "lr" or the "momentum" of a group at `last_epoch`."""
        start_step = 0.0
        for phase in self._schedule_phases:
            end_step = phase["end_step"]
            if self.last_epoch <= end_step or phase is self._schedule_phases[-1]:
                break
            start_step = end_step
        start, end = group[phase[f"start_{quantity}"]], group[phase[f"end_{quantity}"]]
        length = end_step - start_step
        done = (self.last_epoch - start_step) / length if length else 1.0
        if self._anneal_func_type == "linear":
            return start + (end - start) * done
        return end + (start - end) * (1 + math.cos(math.pi * done)) / 2

    def get_lr(self) -> list[float]:
        if self.last_epoch > self.total_steps:
            raise ArgumentError(
                f"OneCycleLR: step {self.last_epoch} lies beyond the end of the cycle, "
                f"which has {self.total_steps} steps"
            )
        return [self._annealed(group, "lr") for group in self.optimizer.param_groups]

    def get_momentum(self) -> list[float]:
        return [self._annealed(group, "momentum") for group in self.optimizer.param_groups]


def _phases(total_steps: int, pct_start: float, three_phase: bool) -> list[dict[str, Any]]:
    """The last step of each phase, and the keys of a group that have its ends: as PyTorch's state
    dicts have them."""
    rise_end = float(pct_start * total_steps) - 1
    rise = (rise_end, "initial_lr", "max_lr", "max_momentum", "base_momentum")
    end = total_steps - 1
    if three_phase:
        fall = (2 * rise_end, "max_lr", "initial_lr", "base_momentum", "max_momentum")
        rows = [rise, fall, (end, "initial_lr", "min_lr", "max_momentum", "max_momentum")]
    else:
        rows = [rise, (end, "max_lr", "min_lr", "base_momentum", "max_momentum")]
    keys = ("end_step", "start_lr", "end_lr", "start_momentum", "end_momentum")
    return [dict(zip(keys, row, strict=True)) for row in rows]


class CyclicLR(_MomentumCycle):
    """Move the rate between two bounds in triangles (Smith 2017). Call `step` after every batch.

    Args:
        base_lr: the lower bound, and the rate at the start; a list gives one per parameter group.
        max_lr: the upper bound.
        step_size_up: steps of the rising half.
        step_size_down: steps of the falling half; None: as many as step_size_up.
        mode: "triangular"; "triangular2": each triangle is half as high as the one before;
            "exp_range": the height is multiplied by gamma ** step.
        gamma: for "exp_range".
        scale_fn: a function for the height that replaces mode. Its argument is the number of the
            "cycle" (1, 2, ...) or of "iterations" (steps), as scale_mode says.
        cycle_momentum: move the momentum (beta1 for Adam and its variants) between max_momentum and
            base_momentum.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        check_optimizer(self, optimizer)
        if scale_fn is None:
            modes = one_of("triangular", "triangular2", "exp_range")
            check_arguments(
                type(self).__name__, mode=(mode, modes._replace(fix="or give scale_fn"))
            )
            scale_mode = "iterations" if mode == "exp_range" else "cycle"
        low = per_group(self, "base_lr", base_lr, optimizer)
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, low, strict=True):
                set_lr(group, lr)
                group["initial_lr"] = lr
        self.max_lrs = per_group(self, "max_lr", max_lr, optimizer)
        down = step_size_up if step_size_down is None else step_size_down
        self.total_size = float(step_size_up + down)
        self.step_ratio = step_size_up / self.total_size
        self.mode = mode
        self.gamma = gamma
        self._scale_fn_custom = scale_fn
        self.scale_mode = scale_mode
        self.cycle_momentum = cycle_momentum
        self._init_momentum(optimizer, base_momentum, max_momentum, last_epoch)
        if cycle_momentum:
            self.base_momentums = per_group(self, "base_momentum", base_momentum, optimizer)
            self.max_momentums = per_group(self, "max_momentum", max_momentum, optimizer)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = low

    def _height(self) -> float:
        """The position of the rate between its bounds, 0 to 1 (scaled by mode or scale_fn)."""
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1 + self.last_epoch / self.total_size - cycle
        height = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        if self._scale_fn_custom is not None:
            steps = cycle if self.scale_mode == "cycle" else self.last_epoch
            return height * self._scale_fn_custom(steps)
        if self.mode == "triangular2":
            return height / 2 ** (cycle - 1)
        if self.mode == "exp_range":
            return height * self.gamma**self.last_epoch
        return height

    def get_lr(self) -> list[float]:
        height = self._height()
        bounds = zip(self.base_lrs, self.max_lrs, strict=True)
        return [low + (high - low) * height for low, high in bounds]

    def get_momentum(self) -> list[float]:
        height = self._height()
        bounds = zip(self.base_momentums, self.max_momentums, strict=True)
        return [high - (high - low) * height for low, high in bounds]

    def state_dict(self) -> dict[str, Any]:
        """Return all attributes except the optimiser; for scale_fn, its attributes if it is an
        object."""
        scale_fn = self._scale_fn_custom
        is_object = scale_fn is not None and not isinstance(scale_fn, types.FunctionType)
        kept = dict(scale_fn.__dict__) if is_object else None
        return {**super().state_dict(), "_scale_fn_custom": kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state that `state_dict` returned; scale_fn stays, and its attributes are set."""
        kept = {**state_dict, "_scale_fn_custom": self._scale_fn_custom}
        super().load_state_dict(kept)
        if state_dict["_scale_fn_custom"] is not None:
            self._scale_fn_custom.__dict__.update(state_dict["_scale_fn_custom"])

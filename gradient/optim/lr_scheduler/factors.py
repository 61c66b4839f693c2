"""Schedules that multiply the initial learning rate by a function of the epoch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from gradient.checks import check_arguments, number
from gradient.errors import ArgumentError, TypeMismatch
from gradient.optim.lr_scheduler.scheduler import FactorLR, LRScheduler, current_lrs, per_group
from gradient.optim.optimizer import Optimizer

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "PolynomialLR",
    "StepLR",
    "WarmupCosineLR",
]


class StepLR(FactorLR):
    """Multiply the rate by `gamma` every `step_size` epochs.

    factor(t) = gamma ** (t // step_size)
    """

    jumps_when_resumed = True

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        check_arguments(type(self).__name__, step_size=(step_size, number(above=0)))
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def factor_at(self, epoch: int) -> float:
        return self.gamma ** (epoch // self.step_size)


class MultiStepLR(FactorLR):
    """Multiply the rate by `gamma` at each epoch in `milestones` (twice for one listed twice).

    factor(t) = gamma ** (number of milestones <= t)
    """

    jumps_when_resumed = True

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones = Counter(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def factor_at(self, epoch: int) -> float:
        return self.gamma ** sum(n for start, n in self.milestones.items() if start <= epoch)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        given = state_dict["milestones"]  # JSON, if the state comes from it, has text as keys
        counts = {int(start): n for start, n in given.items()} if hasattr(given, "items") else given
        super().load_state_dict({**state_dict, "milestones": Counter(counts)})


class ConstantLR(FactorLR):
    """Multiply the rate by `factor` until epoch `total_iters`, then restore it.

    Args:
        factor: in [0, 1].
        total_iters: the first epoch with the full rate.
    """

    jumps_when_resumed = True

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        check_arguments(type(self).__name__, factor=(factor, number(0, 1)))
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def factor_at(self, epoch: int) -> float:
        return self.factor if epoch < self.total_iters else 1.0


class LinearLR(FactorLR):
    """Change the factor of the rate linearly from `start_factor` to `end_factor`.

    Args:
        start_factor: factor at epoch 0, in (0, 1].
        end_factor: factor from epoch total_iters on, in [0, 1].
        total_iters: number of steps, often those of a warm-up.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        check_arguments(
            type(self).__name__,
            start_factor=(start_factor, number(above=0, at_most=1)),
            end_factor=(end_factor, number(0, 1)),
        )
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def factor_at(self, epoch: int) -> float:
        if epoch >= self.total_iters:
            return self.end_factor
        return self.start_factor + (self.end_factor - self.start_factor) * epoch / self.total_iters


class ExponentialLR(FactorLR):
    """Multiply the rate by `gamma` every epoch.

    factor(t) = gamma ** t
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def factor_at(self, epoch: int) -> float:
        return self.gamma**epoch


class PolynomialLR(FactorLR):
    """Decay the rate to zero at epoch `total_iters`, along a polynomial.

    factor(t) = (1 - t / total_iters) ** power
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_iters: int = 5,
        power: float = 1.0,
        last_epoch: int = -1,
    ) -> None:
        check_arguments(type(self).__name__, total_iters=(total_iters, number(above=0)))
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch)

    def factor_at(self, epoch: int) -> float:
        return (1 - min(epoch, self.total_iters) / self.total_iters) ** self.power


class CosineAnnealingLR(FactorLR):
    """Anneal the rate along a half cosine to `eta_min` at epoch `T_max` (and up again after it).

        lr(t) = eta_min + (initial_lr - eta_min) * (1 + cos(pi t / T_max)) / 2

    SGDR (Loshchilov and Hutter 2017, eq. 5) without the restarts; for those see
    `CosineAnnealingWarmRestarts`.
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        check_arguments(type(self).__name__, T_max=(T_max, number(above=0)))
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    @property
    def floor(self) -> float:
        return self.eta_min

    def factor_at(self, epoch: int) -> float:
        return (1 + math.cos(math.pi * epoch / self.T_max)) / 2


class _LambdaBase(LRScheduler):
    """Base of schedules by a user's function for each group."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = per_group(self, "lr_lambda", lr_lambda, optimizer)
        for function in self.lr_lambdas:
            if not callable(function):
                raise TypeMismatch(
                    f"{type(self).__name__}: lr_lambda should be a function of the epoch, "
                    f"but got {type(function).__name__}"
                )
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return all attributes except the optimiser; for functions that are objects, their
        attributes."""
        attributes = [getattr(f, "__dict__", None) or None for f in self.lr_lambdas]
        return {**super().state_dict(), "lr_lambdas": [a and dict(a) for a in attributes]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state that `state_dict` returned; the functions stay, and their attributes are
        set."""
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "lr_lambdas"})
        for function, attributes in zip(self.lr_lambdas, state_dict["lr_lambdas"], strict=True):
            if attributes is not None:
                function.__dict__.update(attributes)


class LambdaLR(_LambdaBase):
    """Set the rate to the initial one times `lr_lambda(epoch)`.

    Args:
        lr_lambda: a function of the epoch, or a list with one for each parameter group.
    """

    def get_lr(self) -> list[float]:
        return [
            base * f(self.last_epoch)
            for base, f in zip(self.base_lrs, self.lr_lambdas, strict=True)
        ]


class MultiplicativeLR(_LambdaBase):
    """Multiply the present rate by `lr_lambda(epoch)`, from epoch 1 on.

    Args:
        lr_lambda: a function of the epoch, or a list with one for each parameter group.
    """

    def get_lr(self) -> list[float]:
        rates = current_lrs(self.optimizer)
        if self._is_initial:
            return rates
        return [lr * f(self.last_epoch) for lr, f in zip(rates, self.lr_lambdas, strict=True)]


class WarmupCosineLR(LRScheduler):
    """Linear warm-up from zero, then a cosine: the usual schedule for language models.

        lr(t) = initial_lr * t / num_warmup_steps                            during the warm-up
        lr(t) = initial_lr * (r + (1 - r) * (1 + cos(2 pi num_cycles s)) / 2)     after it

    where r is min_lr_rate, and s goes from 0 at num_warmup_steps to 1 at num_training_steps, and
    then stays 1. With r = 0 it is `get_cosine_schedule_with_warmup` of transformers. Call `step`
    after every batch.

    Args:
        num_warmup_steps: steps until the full rate; the rate of the first step is 0.
        num_training_steps: steps until the end of the cosine, including the warm-up.
        num_cycles: number of periods of the cosine; 0.5 ends at the minimum.
        min_lr_rate: the minimum, as a fraction of the initial rate.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        num_warmup_steps: int,
        num_training_steps: int,
        num_cycles: float = 0.5,
        min_lr_rate: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= num_warmup_steps <= num_training_steps:
            raise ArgumentError(
                "WarmupCosineLR: expected 0 <= num_warmup_steps <= num_training_steps, "
                f"but got {num_warmup_steps} and {num_training_steps}"
            )
        self.num_warmup_steps = num_warmup_steps
        self.num_training_steps = num_training_steps
        self.num_cycles = num_cycles
        self.min_lr_rate = min_lr_rate
        super().__init__(optimizer, last_epoch)

    def factor_at(self, step: int) -> float:
        """Return the factor of the initial rate at this step, counted from 0."""
        if step < self.num_warmup_steps:
            return step / self.num_warmup_steps
        decay_steps = max(1, self.num_training_steps - self.num_warmup_steps)
        progress = min(1.0, (step - self.num_warmup_steps) / decay_steps)
        cosine = (1 + math.cos(2 * math.pi * self.num_cycles * progress)) / 2
        return self.min_lr_rate + (1 - self.min_lr_rate) * cosine

    def get_lr(self) -> list[float]:
        factor = self.factor_at(self.last_epoch)
        return [base * factor for base in self.base_lrs]

"""The learning rate of a run, as a function of its progress."""

from __future__ import annotations

import math

from gradient.training.config import TrainConfig


def progress(config: TrainConfig, step: int, elapsed: float) -> float:
    """The fraction of the run that is done after `step` steps and `elapsed` seconds: 0 to 1.

    Steps determine it. With `max_minutes`, time determines it as soon as it is ahead, so that a
    run on a slow machine still ends on time and with a reduced learning rate.
    """
    by_steps = step / config.steps
    by_clock = elapsed / (60 * config.max_minutes) if config.max_minutes else 0.0
    return min(1.0, max(by_steps, by_clock))


def learning_rate(config: TrainConfig, step: int, elapsed: float = 0.0) -> float:
    """Linear warm-up over `warmup_steps` (at most half of all, so that a short run reaches the
    peak and comes down too), then half a cosine down to `final_lr_fraction`.

    A pure function (SGDR, Loshchilov and Hutter 2017, section 3, without restarts): a checkpoint
    has no scheduler state that could disagree with its step.
    """
    warmup = min(config.warmup_steps, config.steps // 2)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    start = warmup / config.steps
    fraction = (progress(config, step, elapsed) - start) / max(1.0 - start, 1e-12)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(max(fraction, 0.0), 1.0)))
    floor = config.final_lr_fraction
    return config.learning_rate * (floor + (1.0 - floor) * cosine)

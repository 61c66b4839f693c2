"""Learning-rate schedules, with PyTorch's names and meaning."""

from gradient.errors import name_constructors
from gradient.optim.lr_scheduler.compose import ChainedScheduler, SequentialLR
from gradient.optim.lr_scheduler.cyclic import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
from gradient.optim.lr_scheduler.factors import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
    WarmupCosineLR,
)
from gradient.optim.lr_scheduler.plateau import ReduceLROnPlateau
from gradient.optim.lr_scheduler.scheduler import FactorLR, LRScheduler

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "FactorLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "WarmupCosineLR",
]

name_constructors(tuple(globals().values()))

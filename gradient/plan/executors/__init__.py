"""What runs plans: each executor makes a plan ready for one kind of device."""

from gradient.plan.executors.base import Executor
from gradient.plan.executors.choice import executor_for, has_executor
from gradient.plan.executors.cpu import CpuExecutor

__all__ = [
    "CpuExecutor",
    "Executor",
    "executor_for",
    "has_executor",
]

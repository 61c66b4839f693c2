"""What runs plans: each executor makes a plan ready for one kind of device."""

from gradient.plan.executors.base import Executor
from gradient.plan.executors.choice import executor_for, has_executor
from gradient.plan.executors.cpu import CpuExecutor
from gradient.plan.executors.remote import PlanRunner, RemoteExecutor

__all__ = [
    "CpuExecutor",
    "Executor",
    "PlanRunner",
    "RemoteExecutor",
    "executor_for",
    "has_executor",
]

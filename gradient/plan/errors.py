"""Errors of plans."""

from gradient.errors import GradientError

__all__ = ["PlanError"]


class PlanError(GradientError, RuntimeError):
    """A run cannot be recorded, or a plan does not fit its arguments."""

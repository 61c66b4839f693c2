"""Why something cannot be a plan."""

from __future__ import annotations

from gradient.errors import GradientError


class PlanError(GradientError, RuntimeError):
    """What was run cannot be recorded, or a recorded plan does not fit what it is given."""

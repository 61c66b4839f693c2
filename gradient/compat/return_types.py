"""`return_types`: the types of the named results of `max`, `sort`, `linalg.svd` and others."""

from __future__ import annotations

from gradient.compat import histograms  # noqa: F401 (which declares its types)
from gradient.linalg import older  # noqa: F401 (which imports the others of its package)
from gradient.tensor.reductions import return_types

globals().update(return_types)

__all__ = sorted(return_types)  # noqa: PLE0605

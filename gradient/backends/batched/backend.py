"""The backend of `vmap`, whose arrays are those of all samples with the shape of one sample's.

A function that `vmap` calls sees tensors of one sample. Each op runs on this backend: a method has
a rule, which calls a method of the inner backend once for all samples, or it is composed of methods
that have one. Nodes of the graph see the shapes of one sample too. So gradient rules, derivatives
of any order and further `vmap`s work as they do everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.backends.batched.array import REFUSAL
from gradient.backends.batched.elementwise import ElementwiseRules
from gradient.backends.batched.indexing import IndexingRules
from gradient.backends.batched.layers import LayerRules
from gradient.backends.batched.products import ProductRules
from gradient.backends.batched.reductions import ReductionRules
from gradient.errors import BackendError


class BatchedBackend(LayerRules, ProductRules, IndexingRules, ReductionRules, ElementwiseRules):
    """The samples of one `vmap`, see `Batching`."""

    def to_numpy(self, x: Any) -> np.ndarray:
        value, batched = self.split(x)
        if batched:
            raise BackendError(REFUSAL)
        return self.inner.to_numpy(value)

    def synchronize(self) -> None:
        self.inner.synchronize()

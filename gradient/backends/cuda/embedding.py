"""The gradient of an embedding by a kernel, the same from run to run."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.cuda.launching import KernelLauncher, block_of


class EmbeddingKernels(KernelLauncher, AttentionDefaults[Array]):
    """Overrides the gradient of `composed.attention`'s embedding."""

    zeros: Any
    _order_of_indices: Any

    def embedding_grad(self, g: Array, indices: Array, num_embeddings: int) -> Array:
        if not (self.has_kernel(g) and indices.dtype == np.int64 and indices.size > 0):
            return super().embedding_grad(g, indices, num_embeddings)
        index, columns = self.contiguous(indices).reshape(-1), g.shape[-1]
        out = self.zeros((num_embeddings, columns), g.dtype)
        self.launch(
            "embedding", "embedding_grad", g, (index.size,), min(block_of(columns), 256),
            self.contiguous(g), index, self._order_of_indices(index, num_embeddings), out,
            *map(np.int64, (index.size, columns, num_embeddings)), self.index_fault(),
        )  # fmt: skip
        return out

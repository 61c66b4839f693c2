"""EmbeddingBag: sums, means or maxima of learned vectors."""

from __future__ import annotations

from typing import Self

from gradient import functional as F
from gradient.dtypes import DType
from gradient.errors import ShapeError
from gradient.nn.embedding import EmbeddingTable
from gradient.tensor import Tensor
from gradient.tensor.device import DeviceLike

__all__ = [
    "EmbeddingBag",
]


class EmbeddingBag(EmbeddingTable):
    """The "sum", "mean" or "max" of each bag's rows of W (num_embeddings, embedding_dim).

    Bags are the rows of integers (B, N), or parts of (N,) that begin at `offsets` (B,): the result
    is (B, embedding_dim). See `functional.embedding_bag`.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(
            num_embeddings, embedding_dim, padding_idx, _weight, scale_grad_by_freq or sparse,
            device=device, dtype=dtype,
        )  # fmt: skip
        self.max_norm, self.norm_type, self.mode = max_norm, norm_type, mode
        self.include_last_offset = include_last_offset

    def forward(
        self,
        input: Tensor,
        offsets: Tensor | None = None,
        per_sample_weights: Tensor | None = None,
    ) -> Tensor:
        return F.embedding_bag(
            input, self.weight, offsets, self.max_norm, self.norm_type, mode=self.mode,
            per_sample_weights=per_sample_weights, include_last_offset=self.include_last_offset,
            padding_idx=self.padding_idx,
        )  # fmt: skip

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> Self:
        """An EmbeddingBag with the rows of a matrix, not trained unless `freeze=False`."""
        if embeddings.ndim != 2:
            raise ShapeError(f"from_pretrained: expected a matrix, got {tuple(embeddings.shape)}")
        rows, columns = embeddings.shape
        bag = cls(
            rows, columns, max_norm, norm_type, scale_grad_by_freq, mode, sparse, embeddings,
            include_last_offset, padding_idx,
        )  # fmt: skip
        bag.weight.requires_grad = not freeze
        return bag

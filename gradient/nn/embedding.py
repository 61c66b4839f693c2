"""Embedding and EmbeddingBag: a learned vector for each integer, and sums of several."""

from __future__ import annotations

from typing import Self

from gradient import functional as F
from gradient.autograd import no_grad
from gradient.dtypes import DType
from gradient.errors import ArgumentError, FailedCheck, ShapeError
from gradient.nn import init
from gradient.nn.module import Module
from gradient.nn.parameter import Parameter
from gradient.nn.printing import changed
from gradient.tensor import Tensor
from gradient.tensor.arguments import size_argument
from gradient.tensor.creation import empty
from gradient.tensor.device import DeviceLike

__all__ = ["Embedding", "EmbeddingBag"]


class EmbeddingTable(Module):
    """Base of `Embedding` and `EmbeddingBag`: the weight W (num_embeddings, embedding_dim)."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None,
        weight: Tensor | None,
        sparse: bool,
        *,
        scale_grad_by_freq: bool,
        trained: bool = True,
        device: DeviceLike,
        dtype: DType | None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if sparse:
            raise ArgumentError(f"{name}: sparse gradients are not available")
        size_argument(name, "num_embeddings", num_embeddings)
        size_argument(name, "embedding_dim", embedding_dim)
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise FailedCheck(
                    f"{name}: padding_idx must be within num_embeddings {num_embeddings}, "
                    f"got {padding_idx}"
                )
            padding_idx %= num_embeddings
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = padding_idx
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        shape = (num_embeddings, embedding_dim)
        if weight is not None and tuple(weight.shape) != shape:
            raise ShapeError(f"{name}: expected _weight {shape}, got {tuple(weight.shape)}")
        values = empty(shape, device=device, dtype=dtype) if weight is None else weight
        self.weight = Parameter(values, requires_grad=trained)
        if weight is None:
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw W from the standard normal distribution; the row `padding_idx` is zero."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx].zero_()


class Embedding(EmbeddingTable):
    """`y = W[x]`: integers (...) to (..., embedding_dim), W (num_embeddings, embedding_dim).

    Args:
        padding_idx: This row starts at zero and gets no gradient.
        max_norm: Rows that are looked up are first scaled, in place, to at most this norm.
        norm_type: The p of that norm.
        scale_grad_by_freq: Divide the gradient of a row by its number of occurrences in the input.

    Raises:
        IndexOutOfRange: An index is not in [0, num_embeddings).
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(
            num_embeddings, embedding_dim, padding_idx, _weight, sparse,
            scale_grad_by_freq=scale_grad_by_freq, trained=not _freeze, device=device, dtype=dtype,
        )  # fmt: skip
        self.max_norm, self.norm_type = max_norm, norm_type

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(
            input, self.weight, self.padding_idx, self.max_norm, self.norm_type,
            self.scale_grad_by_freq,
        )  # fmt: skip

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Self:
        """Make an Embedding with the weight `embeddings`, which is not trained if `freeze`."""
        if embeddings.ndim != 2:
            raise ShapeError(f"from_pretrained: expected a matrix, got {tuple(embeddings.shape)}")
        rows, columns = embeddings.shape
        return cls(
            rows, columns, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse,
            embeddings, freeze,
        )  # fmt: skip

    def extra_repr(self) -> str:
        sizes = f"{self.num_embeddings}, {self.embedding_dim}"
        own = {"padding_idx": None, "max_norm": None, "norm_type": 2, "scale_grad_by_freq": False}
        return ", ".join([sizes, *changed(self, **own)])


class EmbeddingBag(EmbeddingTable):
    """The "sum", "mean" or "max" (`mode`) of the embeddings in each bag: (B, embedding_dim).

    The bags are the rows of an input (B, N), or consecutive parts of an input (N,) that begin at
    `offsets` (B,). The weight is (num_embeddings, embedding_dim). See `functional.embedding_bag`.
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
            num_embeddings, embedding_dim, padding_idx, _weight, sparse,
            scale_grad_by_freq=scale_grad_by_freq, device=device, dtype=dtype,
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
            input, self.weight, offsets, self.max_norm, self.norm_type, self.scale_grad_by_freq,
            self.mode, per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset, padding_idx=self.padding_idx,
        )  # fmt: skip

    def extra_repr(self) -> str:
        sizes = f"{self.num_embeddings}, {self.embedding_dim}"
        own = changed(self, max_norm=None, norm_type=2, scale_grad_by_freq=False)
        return ", ".join([sizes, *own, f"mode={self.mode!r}", *changed(self, padding_idx=None)])

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
        """Make an EmbeddingBag with the weight `embeddings`, which is not trained if `freeze`."""
        if embeddings.ndim != 2:
            raise ShapeError(f"from_pretrained: expected a matrix, got {tuple(embeddings.shape)}")
        rows, columns = embeddings.shape
        bag = cls(
            rows, columns, max_norm, norm_type, scale_grad_by_freq, mode, sparse, embeddings,
            include_last_offset, padding_idx,
        )  # fmt: skip
        bag.weight.requires_grad = not freeze
        return bag

"""AdaptiveLogSoftmaxWithLoss: a softmax over many classes of very different frequency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from gradient import functional as F
from gradient.dtypes import DType
from gradient.errors import ArgumentError, IndexOutOfRange, ShapeError, sentence
from gradient.nn.containers import ModuleList, Sequential
from gradient.nn.linear import Linear
from gradient.nn.module import Module
from gradient.tensor import Tensor
from gradient.tensor.device import DeviceLike
from gradient.tensor.joining import cat, where

__all__ = ["AdaptiveLogSoftmaxWithLoss"]


class ASMoutput(NamedTuple):
    """The result: the log-probability of each sample's target (N,), and the mean loss ()."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log-probabilities of many classes, rare ones in clusters (Grave et al. 2017, section 4).

    Classes are ordered by frequency, most frequent first. The head scores the classes below
    `cutoffs[0]` and each cluster. Cluster i holds the classes from one cutoff to the next, and
    projects the input to `in_features / div_value**(i + 1)` features. The input is
    (N, in_features) or (in_features,), the target (N,) or (), int64.
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        name, ends = "AdaptiveLogSoftmaxWithLoss", list(cutoffs)
        rising = all(a < b for a, b in zip([0, *ends], [*ends, n_classes], strict=True))
        if not ends or not rising or not all(isinstance(end, int) for end in ends):
            expected = f"cutoffs that rise from 1 to {n_classes - 1}, the classes less one"
            raise ArgumentError(sentence(name, expected, repr(cutoffs)))
        self.in_features, self.n_classes, self.div_value = in_features, n_classes, div_value
        self.cutoffs = [*ends, n_classes]
        self.shortlist_size, self.n_clusters = ends[0], len(ends)
        self.head_size = self.shortlist_size + self.n_clusters
        self.head_bias = head_bias
        self.head = Linear(in_features, self.head_size, bias=head_bias, device=device, dtype=dtype)
        self.tail: ModuleList[Any] = ModuleList()
        for i in range(self.n_clusters):
            features = int(in_features // div_value ** (i + 1))
            classes = self.cutoffs[i + 1] - self.cutoffs[i]
            self.tail.append(
                Sequential(
                    Linear(in_features, features, bias=False, device=device, dtype=dtype),
                    Linear(features, classes, bias=False, device=device, dtype=dtype),
                )
            )

    def reset_parameters(self) -> None:
        """Initialise all layers, as `Linear` does."""
        self.head.reset_parameters()
        for projection, output in self.tail:
            projection.reset_parameters()
            output.reset_parameters()

    def forward(self, input_: Tensor, target_: Tensor) -> ASMoutput:
        name, input, target = "AdaptiveLogSoftmaxWithLoss", input_, target_
        if (input.ndim, target.ndim) not in ((2, 1), (1, 0)) or (
            input.ndim == 2 and input.shape[0] != target.shape[0]
        ):
            expected = "an input (N, in_features) with a target (N,), or one dimension less"
            raise ShapeError(sentence(name, expected, f"{tuple(input.shape)}, {target.ndim}-d"))
        single = input.ndim == 1
        if single:
            input, target = input.unsqueeze(0), target.unsqueeze(0)
        if target.numel() and not bool(((target >= 0) & (target < self.n_classes)).all()):
            expected = f"targets from 0 to {self.n_classes - 1}"
            raise IndexOutOfRange(sentence(name, expected, f"{target.min()} to {target.max()}"))
        head = F.log_softmax(self.head(input), dim=1)
        first = target < self.shortlist_size
        output = head.gather(1, where(first, target, 0).unsqueeze(1)).squeeze(1)
        for i, (low, high) in enumerate(zip(self.cutoffs, self.cutoffs[1:], strict=False)):
            rows = ((target >= low) & (target < high)).nonzero()[:, 0]
            if not rows.numel():
                continue
            within = F.log_softmax(self.tail[i](input.index_select(0, rows)), dim=1)
            own = (target.index_select(0, rows) - low).unsqueeze(1)
            cluster = head.index_select(0, rows)[:, self.shortlist_size + i]
            output = output.index_copy(0, rows, cluster + within.gather(1, own).squeeze(1))
        loss = -output.mean()
        return ASMoutput(output.squeeze(0) if single else output, loss)

    def log_prob(self, input: Tensor) -> Tensor:
        """Log-probabilities of all classes: (N, in_features) to (N, n_classes)."""
        head = F.log_softmax(self.head(input), dim=1)
        parts = [head[:, : self.shortlist_size]]
        for i, layers in enumerate(self.tail):
            cluster = head[:, self.shortlist_size + i].unsqueeze(1)
            parts.append(cluster + F.log_softmax(layers(input), dim=1))
        return cat(parts, 1)

    def predict(self, input: Tensor) -> Tensor:
        """The most likely class of each row: (N, in_features) to (N,)."""
        return self.log_prob(input).argmax(1)

"""Connectionist temporal classification by kernels: all steps of a row in one call."""

from __future__ import annotations

import numpy as np

from gradient.backends.composed.alignments import AlignmentDefaults
from gradient.backends.numpy import kernels, threads


class AlignmentKernels(AlignmentDefaults[np.ndarray]):
    """Overrides of `composed.alignments`."""

    def ctc(
        self, log_probs: np.ndarray, labels: np.ndarray, steps: np.ndarray, sizes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        if not self._takes(log_probs, labels):
            return super().ctc(log_probs, labels, steps, sizes)
        losses = np.empty(labels.shape[0], log_probs.dtype)
        alpha = np.empty((log_probs.shape[0], *labels.shape), log_probs.dtype)
        threads.parallel_for(
            kernels.load("alignments").ctc, labels.shape[0], 1,
            kernels.contiguous(log_probs).reshape(-1), *log_probs.shape,
            *(kernels.contiguous(a).reshape(-1) for a in (labels, steps, sizes)), losses,
            alpha.reshape(-1),
        )  # fmt: skip
        return losses, alpha

    def ctc_grad(
        self,
        g: np.ndarray,
        log_probs: np.ndarray,
        labels: np.ndarray,
        steps: np.ndarray,
        sizes: np.ndarray,
        alpha: np.ndarray,
        losses: np.ndarray,
    ) -> np.ndarray:
        if not self._takes(log_probs, labels, g, alpha, losses):
            return super().ctc_grad(g, log_probs, labels, steps, sizes, alpha, losses)
        out = np.empty(log_probs.shape, g.dtype)
        threads.parallel_for(
            kernels.load("alignments").ctc_grad, labels.shape[0], 1, kernels.contiguous(g),
            kernels.contiguous(log_probs).reshape(-1), *log_probs.shape,
            *(kernels.contiguous(a).reshape(-1) for a in (labels, steps, sizes, alpha, losses)),
            out.reshape(-1),
        )  # fmt: skip
        return out

    def _takes(self, log_probs: np.ndarray, labels: np.ndarray, *others: np.ndarray) -> bool:
        """Whether kernels take it: the composed definition makes some thirty calls a step."""
        self.check_indices(labels, 2, log_probs.shape[2])
        return (
            log_probs.dtype in kernels.FLOATS
            and all(o.dtype == log_probs.dtype for o in others)
            and labels.shape[0] > 0
            and log_probs.shape[0] > 0
            and (kernels.awake or log_probs.size >= kernels.MIN_SIZE)
            and kernels.available()
        )

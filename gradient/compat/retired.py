"""Layers that PyTorch keeps for old scripts."""

from __future__ import annotations

from gradient.nn.loss import NLLLoss


class NLLLoss2d(NLLLoss):
    """`nn.NLLLoss`, which takes images, too."""

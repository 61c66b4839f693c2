"""The options of methods that have many: one value that definitions, kernels and ops hand on.

(Named tuples, since `import gradient` does without dataclasses.)
"""

from __future__ import annotations

from typing import NamedTuple


class AttentionOptions(NamedTuple):
    """How `Backend.attention` scores.

    scale      by which q k^T is multiplied
    is_causal  whether row i sees columns up to i alone
    window     of these the last so many, from i - window + 1 (Beltagy et al. 2020, 3.1); without
               `is_causal` it says nothing
    softcap    scores become softcap tanh(scores / softcap) before they are masked (Gemma 2, 2024,
               section 2)
    """

    scale: float = 1.0
    is_causal: bool = False
    window: int | None = None
    softcap: float | None = None


class AdamWOptions(NamedTuple):
    """The numbers of `Backend.adamw_step`, by PyTorch's names.

    `step` counts from 1. The weight decay is AdamW's, or an L2 term where it is not `decoupled`.
    """

    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    step: int
    decoupled: bool = True
    maximize: bool = False

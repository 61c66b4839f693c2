"""Options of optimisers: how they are collected, and limits that several optimisers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradient.checks import Limit, number
from gradient.tensor import Tensor

Group = dict[str, Any]
"""A parameter group: its options, and its parameters as "params"."""


def options(arguments: Mapping[str, Any]) -> Group:
    """Return the options among a constructor's `locals()`. Options that PyTorch does not have are
    included only if they are on, so that saved and printed groups are otherwise PyTorch's."""
    found = {k: v for k, v in arguments.items() if k not in ("self", "params", "__class__")}
    if not found.get("master_weights", True):
        del found["master_weights"]
    return found


def _scalar(limit: Limit) -> Limit:
    """A limit that allows what `limit` allows, or a Tensor with one such element."""
    return limit._replace(
        holds=lambda value: limit.holds(
            value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        )
    )


#: Limits of common options.
non_negative = _scalar(number(0))
decay_rate = number(0, below=1)
decay_rates = Limit(
    "two numbers from 0 to less than 1",
    lambda betas: (
        isinstance(betas, Sequence) and len(betas) == 2 and all(map(decay_rate.holds, betas))
    ),
)

"""A row for each optimiser: options with which it learns, and what PyTorch's is compared in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Options = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """What the tests know of an optimiser.

    Attributes:
        name: in `gradient.optim`, and in `torch.optim` if that has it.
        learns: options with which a small regression is learnt in 60 steps.
        same: options with which it goes the same way as PyTorch's, to 1e-12 in float64.
        refused: options for which both raise a ValueError.
    """

    name: str
    learns: list[Options]
    same: list[Options] = field(default_factory=list)
    refused: list[Options] = field(default_factory=list)


TABLE = [
    Row(
        "SGD",
        learns=[dict(lr=0.1), dict(lr=0.1, momentum=0.9, nesterov=True)],
        same=[
            dict(lr=0.1),
            dict(lr=0.01, weight_decay=0.02, maximize=True),
            dict(lr=0.05, momentum=0.9),
            dict(lr=0.05, momentum=0.9, dampening=0.3, weight_decay=0.1),
            dict(lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.1),
            dict(lr=0.002, momentum=0.8, nesterov=True, maximize=True),
        ],
        refused=[
            dict(lr=-1.0),
            dict(lr=0.1, momentum=-0.5),
            dict(lr=0.1, weight_decay=-0.5),
            dict(lr=0.1, nesterov=True),
            dict(lr=0.1, nesterov=True, momentum=0.9, dampening=0.1),
        ],
    ),
    Row(
        "Adam",
        learns=[dict(lr=0.05, weight_decay=0.01), dict(lr=0.05, amsgrad=True)],
        same=[
            dict(lr=0.05),
            dict(lr=0.05, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),
            dict(lr=0.05, amsgrad=True, weight_decay=0.1),
            dict(lr=0.05, maximize=True, weight_decay=0.1),
            dict(lr=0.05, decoupled_weight_decay=True, weight_decay=0.1),
            dict(lr=0.05, betas=(0.0, 0.9)),
        ],
        refused=[
            dict(lr=-1.0),
            dict(eps=-1.0),
            dict(betas=(1.0, 0.9)),
            dict(betas=(0.9, -0.1)),
        ],
    ),
    Row(
        "AdamW",
        learns=[dict(lr=0.05)],
        same=[
            dict(lr=0.05),
            dict(lr=0.05, weight_decay=0.3, betas=(0.8, 0.95)),
            dict(lr=0.05, weight_decay=0.3, amsgrad=True, maximize=True),
            dict(lr=0.05, fused=None, foreach=False, capturable=False),
        ],
        refused=[dict(weight_decay=-1)],
    ),
    Row(
        "RMSprop",
        learns=[dict(lr=0.02, momentum=0.5, centered=True)],
        same=[
            dict(lr=0.02),
            dict(lr=0.02, alpha=0.9, eps=1e-3, weight_decay=0.1),
            dict(lr=0.02, momentum=0.9),
            dict(lr=0.02, centered=True, momentum=0.5, maximize=True),
        ],
        refused=[
            dict(lr=-1.0),
            dict(eps=-1.0),
            dict(momentum=-1.0),
            dict(weight_decay=-1.0),
            dict(alpha=-1.0),
        ],
    ),
    Row(
        "Adagrad",
        learns=[dict(lr=0.3)],
        same=[
            dict(lr=0.1),
            dict(lr=0.1, lr_decay=0.1, weight_decay=0.1, eps=1e-5),
            dict(lr=0.1, initial_accumulator_value=0.5, maximize=True),
        ],
        refused=[dict(lr_decay=-1.0), dict(initial_accumulator_value=-1.0)],
    ),
    Row(
        "Adadelta",
        learns=[dict(lr=10.0)],
        same=[
            dict(),
            dict(lr=0.5, rho=0.7, eps=1e-4, weight_decay=0.1),
            dict(lr=0.1, maximize=True, foreach=False),
        ],
        refused=[dict(lr=-1.0), dict(rho=1.1), dict(eps=-1.0), dict(weight_decay=-1.0)],
    ),
    Row(
        "Rprop",
        learns=[dict(lr=0.02)],
        same=[
            dict(),
            dict(lr=0.1, etas=(0.3, 1.5), step_sizes=(1e-3, 0.2)),
            dict(lr=0.02, maximize=True),
        ],
        refused=[dict(lr=-1.0), dict(etas=(0.0, 1.2)), dict(etas=(0.5, 1.0))],
    ),
    Row(
        "ASGD",
        learns=[dict(lr=0.1)],
        same=[
            dict(),
            dict(lr=0.1, lambd=0.01, alpha=0.5, t0=3, weight_decay=0.1),
            dict(lr=0.01, t0=0, maximize=True),
        ],
        refused=[dict(lr=-1.0), dict(weight_decay=-1.0)],
    ),
    Row(
        "Adamax",
        learns=[dict(lr=0.1)],
        same=[
            dict(),
            dict(lr=0.05, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),
            dict(lr=0.05, maximize=True),
        ],
        refused=[dict(lr=-1.0), dict(eps=-1.0), dict(betas=(0.9, 1.0)), dict(weight_decay=-1.0)],
    ),
    Row(
        "NAdam",
        learns=[dict(lr=0.05, weight_decay=0.01)],
        same=[
            dict(),
            dict(lr=0.05, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1, momentum_decay=0.1),
            dict(lr=0.05, decoupled_weight_decay=True, weight_decay=0.1, maximize=True),
        ],
        refused=[
            dict(lr=-1.0),
            dict(eps=-1.0),
            dict(betas=(0.9, 1.0)),
            dict(weight_decay=-1.0),
            dict(momentum_decay=-1.0),
        ],
    ),
    Row(
        "RAdam",
        learns=[dict(lr=0.1)],
        same=[
            dict(lr=0.01),
            dict(lr=0.05, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),
            dict(lr=0.05, decoupled_weight_decay=True, weight_decay=0.1, maximize=True),
        ],
        refused=[dict(lr=-1.0), dict(eps=-1.0), dict(betas=(1.0, 0.9)), dict(weight_decay=-1.0)],
    ),
    Row(
        "Adafactor",
        learns=[dict(lr=0.3)],
        same=[
            dict(),
            dict(lr=0.1, beta2_decay=-0.5, eps=(1e-3, 0.1), d=2.0, weight_decay=0.1),
            dict(lr=0.05, maximize=True, weight_decay=0.1),
        ],
        refused=[
            dict(lr=-1.0),
            dict(beta2_decay=0.1),
            dict(eps=(-1.0, 1e-3)),
            dict(eps=(None, -1.0)),
            dict(d=0.5),
            dict(weight_decay=-1.0),
        ],
    ),
    Row("Lion", learns=[dict(lr=0.02, weight_decay=0.01)]),
    Row(
        "Muon",
        learns=[dict(lr=0.05)],
        refused=[
            dict(lr=-1.0),
            dict(momentum=-1.0),
            dict(weight_decay=-1.0),
            dict(adjust_lr_fn="other"),
        ],
    ),
]


def cases(column: str) -> list[tuple[str, Options]]:
    """Each (name, options) of a column of the table."""
    return [(row.name, options) for row in TABLE for options in getattr(row, column)]


def label(case: tuple[str, Options]) -> str:
    """The id of a case."""
    name, options = case
    return "-".join([name, *(f"{key}={value}" for key, value in options.items())])

"""Optimisers and learning-rate schedules, with PyTorch's names and arguments.

optimizer = gradient.optim.AdamW(model.parameters(), lr=3e-4)
scheduler = gradient.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1000)
for batch in loader:
    optimizer.zero_grad()
    model(batch).backward()
    optimizer.step()
    scheduler.step()

`Optimizer` explains the arguments that most of them have. Each module's `__all__` says what is
public.
"""

from typing import TYPE_CHECKING

from gradient import absent
from gradient._exports import shown as _shown
from gradient.optim import lr_scheduler as lr_scheduler
from gradient.optim.adafactor import *
from gradient.optim.adagrad import *
from gradient.optim.adam import *
from gradient.optim.adam_variants import *
from gradient.optim.lbfgs import *
from gradient.optim.lion import *
from gradient.optim.muon import *
from gradient.optim.optimizer import Optimizer as Optimizer
from gradient.optim.rmsprop import *
from gradient.optim.sgd import *

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
    __dir__ = _shown(globals(), "lr_scheduler")

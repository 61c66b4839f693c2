"""Optimisers and learning-rate schedules, with PyTorch's names and arguments.

optimizer = gradient.optim.AdamW(model.parameters(), lr=3e-4)
scheduler = gradient.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1000)
for batch in loader:
    optimizer.zero_grad()
    model(batch).backward()
    optimizer.step()
    scheduler.step()
"""

from gradient.optim import lr_scheduler
from gradient.optim.adagrad import Adagrad
from gradient.optim.adam import Adam, AdamW
from gradient.optim.lion import Lion
from gradient.optim.muon import Muon
from gradient.optim.optimizer import Optimizer
from gradient.optim.rmsprop import RMSprop
from gradient.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Lion",
    "Muon",
    "Optimizer",
    "RMSprop",
    "lr_scheduler",
]

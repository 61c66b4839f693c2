"""Learning-rate schedules, with PyTorch's names and meaning.

`factors` has schedules that multiply the initial rate (LinearLR for a warm-up, StepLR, cosines),
`cyclic` those that go up and down, `plateau` the one that follows a metric, and `compose` those
that combine others. Each module's `__all__` lists what is public.
"""

from typing import TYPE_CHECKING

from gradient import absent
from gradient._exports import shown as _shown
from gradient.errors import name_constructors as _name_constructors
from gradient.optim.lr_scheduler.compose import *
from gradient.optim.lr_scheduler.cyclic import *
from gradient.optim.lr_scheduler.factors import *
from gradient.optim.lr_scheduler.plateau import *
from gradient.optim.lr_scheduler.scheduler import *

_name_constructors(tuple(globals().values()))

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
    __dir__ = _shown(globals())

"""Plans: a step recorded once and replayed, without Python between its kernels.

`record` runs a function and returns the plan of its calls. `gradient.plan.plan` describes plans,
for authors of passes.
"""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient._exports import shown as _shown
from gradient.plan.calls import *
from gradient.plan.errors import *
from gradient.plan.plan import *
from gradient.plan.recording import *

if not TYPE_CHECKING:  # checkers follow the stars
    __all__ = _public(globals())
    __dir__ = _shown(globals())

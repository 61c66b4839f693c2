"""What runs plans: each executor makes a plan ready for one kind of device."""

from typing import TYPE_CHECKING

from gradient.exports import public
from gradient.plan.executors.base import *
from gradient.plan.executors.choice import *
from gradient.plan.executors.cpu import *

if not TYPE_CHECKING:  # checkers follow the stars
    __all__ = public(globals())

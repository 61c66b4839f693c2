"""Executors: each prepares and runs plans on one kind of device."""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient.plan.executors.base import *
from gradient.plan.executors.choice import *
from gradient.plan.executors.cpu import *

if not TYPE_CHECKING:  # checkers follow the stars
    __all__ = _public(globals())

"""What runs plans: each executor makes a plan ready for one kind of device."""

from gradient.plan.executors.base import *
from gradient.plan.executors.choice import *
from gradient.plan.executors.cpu import *

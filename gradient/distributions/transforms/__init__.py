"""Transforms of outcomes, by PyTorch's name of their module. Each module's `__all__` says what is
public."""

from gradient.distributions.transforms.base import *
from gradient.distributions.transforms.elementwise import *
from gradient.distributions.transforms.joined import *
from gradient.distributions.transforms.vectors import *

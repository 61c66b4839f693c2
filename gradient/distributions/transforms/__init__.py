"""Transforms of outcomes, under PyTorch's module name. Each module's `__all__` lists its public
names."""

from gradient.distributions.transforms import base, elementwise, joined, vectors
from gradient.distributions.transforms.base import *
from gradient.distributions.transforms.elementwise import *
from gradient.distributions.transforms.joined import *
from gradient.distributions.transforms.vectors import *

__all__ = [*base.__all__, *elementwise.__all__, *joined.__all__, *vectors.__all__]

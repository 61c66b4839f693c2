"""The Tensor and the functions that make, join and print tensors."""

from gradient.tensor.arguments import Size
from gradient.tensor.core import Tensor
from gradient.tensor.device import Device

__all__ = ["Device", "Size", "Tensor"]

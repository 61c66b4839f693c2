"""The CPU backend: NumPy arrays, with numba kernels where numba is installed."""

from gradient.backends.numpy.backend import NumpyBackend

__all__ = ["NumpyBackend"]

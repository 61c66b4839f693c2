"""The CUDA backend: CuPy arrays. Imported only when a "cuda" device is asked for."""

from gradient.backends.cuda.backend import CudaBackend

__all__ = ["CudaBackend"]

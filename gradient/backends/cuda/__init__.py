"""The CUDA backend: CuPy arrays. `backend` is imported only when a "cuda" device is asked for."""

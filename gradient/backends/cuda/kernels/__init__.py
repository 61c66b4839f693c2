"""CUDA C kernels, a file for each family; `FOLDER` is where they lie."""

from pathlib import Path

FOLDER = Path(__file__).parent

FAMILIES = tuple(sorted(path.stem for path in FOLDER.glob("*.cu")))
"""The names of the files, each a module of its own on the GPU."""

"""`ops`: operators by namespace and name: those that `library` registered, and those of `aten`,
which are the functions and methods of this package."""

from __future__ import annotations

import importlib
from typing import Any, NoReturn

from gradient.compat.library import Namespace
from gradient.errors import BackendError

__all__ = ["load_library", "loaded_libraries"]

loaded_libraries: set[str] = set()


class Overload:
    """`ops.aten.add` and `ops.aten.add.Tensor`: a function of this package's, by PyTorch's name."""

    def __init__(self, name: str, overload: str = "") -> None:
        self._name, self._overload = name, overload
        self.__name__ = f"{name}.{overload}" if overload else name

    def __getattr__(self, overload: str) -> Overload:
        if overload.startswith("__") or self._overload:
            raise AttributeError(f"ops.aten.{self.__name__} has no attribute {overload!r}")
        found = self.__dict__[overload] = Overload(self._name, overload)
        return found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        package = importlib.import_module("gradient")
        for owner in (package, package.nn.functional, package.Tensor):
            function = getattr(owner, self._name, None)
            if callable(function):
                return function(*args, **kwargs)
        raise BackendError(f"ops.aten.{self.__name__}: there is no function {self._name} here")

    def __repr__(self) -> str:
        return f"aten.{self.__name__}"

    def overloads(self) -> list[str]:
        """[]: a function decides by its arguments."""
        return []


class _Aten:
    def __getattr__(self, name: str) -> Overload:
        if name.startswith("__"):
            raise AttributeError(f"ops.aten has no attribute {name!r}")
        found = self.__dict__[name] = Overload(name)
        return found


aten = _Aten()


def load_library(path: Any) -> NoReturn:
    """Raises OSError: a compiled library of operators needs PyTorch itself."""
    raise OSError(f"ops.load_library: {path} is built for PyTorch; operators in Python work")


def __getattr__(name: str) -> Namespace:
    if name.startswith("__"):
        raise AttributeError(f"module 'torch.ops' has no attribute {name!r}")
    return Namespace(name)

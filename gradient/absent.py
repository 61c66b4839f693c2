"""Names that PyTorch has and this package's own modules have not.

`gradient.compat` has old and foreign spellings of what is here, and says of the rest what to use
instead. It is loaded when such a name is asked for, and not before: no module imports it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from types import MethodType
from typing import Any, TypeVar

from gradient._exports import load

COMPAT = "gradient.compat"
C = TypeVar("C")

METHODS = (
    "apply_", "conj_physical_", "const_data_ptr", "dense_dim", "dim_order", "fix_", "geqrf",
    "hardshrink", "histc", "histogram", "is_distributed", "is_set_to", "istft", "lu", "lu_solve",
    "map2_", "map_", "narrow_copy", "new_empty_strided", "nonzero_static", "orgqr", "ormqr",
    "prelu", "set_", "sparse_dim", "stft", "storage", "to_dense", "to_sparse", "to_sparse_coo",
    "to_sparse_csr", "triangular_solve", "unsafe_chunk", "unsafe_split",
    "unsafe_split_with_sizes", "untyped_storage",
)  # fmt: skip
"""Methods of Tensor that few programs call."""

NO_METHODS = (
    "coalesce", "col_indices", "crow_indices", "eig", "indices", "int_repr", "lstsq", "q_scale",
    "q_zero_point", "solve", "sparse_mask", "storage_type", "symeig", "to_mkldnn",
    "values",
)  # fmt: skip
"""Names of PyTorch's tensors that ours have not, and for which there is a hint."""


def names(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module, for names that it has not."""

    def __getattr__(name: str) -> Any:
        if name.startswith("__") or is_file(module, name):  # what the import system asks for
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return load(COMPAT).attribute(module, name)

    return __getattr__


def is_file(module: str, name: str) -> bool:
    """Whether a name is that of a module in a package's folder, which `from` imports next."""
    path = getattr(sys.modules[module], "__path__", None)
    return bool(path) and PathFinder.find_spec(f"{module}.{name}", path) is not None


class Method:
    """A name in Tensor that `gradient.compat` knows: a method, found there when it is asked for, or
    what raises AttributeError with a hint, so that `hasattr` of a tensor says no."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, tensor: Any, owner: Any) -> Any:
        if self.name in METHODS:
            methods = load(f"{COMPAT}.methods").RareMethods
            function = vars(methods)[self.name]
            return function if tensor is None else MethodType(function, tensor)
        if tensor is None:
            return self
        hint = load(f"{COMPAT}.hints").TENSOR_HINTS[self.name]
        raise AttributeError(f"'Tensor' object has no attribute {self.name!r}; {hint}")


class Hint:
    """A name that other libraries' classes have: AttributeError with what to use, so that `hasattr`
    says no."""

    __slots__ = ("hint", "name")

    def __init__(self, name: str, hint: str) -> None:
        self.name, self.hint = name, hint

    def __get__(self, instance: Any, owner: type) -> Any:
        raise AttributeError(f"{owner.__name__!r} object has no attribute {self.name!r}{self}")

    def __str__(self) -> str:
        return f": {self.hint}"


def hints(**names: str) -> Callable[[type[C]], type[C]]:
    """Decorate a class with the names that it has not, and what to use in place of each.

    Only constructors (`from_...`) become attributes of the class, which has no other way to answer
    for them; `dir` of an object does not show the others.
    """

    def decorate(cls: type[C]) -> type[C]:
        for name, hint in names.items():
            if name.startswith("from_"):
                setattr(cls, name, Hint(name, hint))
        cls._absent = {name: Hint(name, hint) for name, hint in names.items()}  # type: ignore[attr-defined]
        if not hasattr(cls, "__getattr__"):
            cls.__getattr__ = _no_attribute  # type: ignore[attr-defined]
        return cls

    return decorate


def _no_attribute(self: Any, name: str) -> Any:
    cls = type(self)
    hint = hint_of(cls, name)
    if not hint:  # Python's own error, which may be one within a property
        return object.__getattribute__(self, name)
    raise AttributeError(f"{cls.__name__!r} object has no attribute {name!r}{hint}")


def hint_of(cls: type, name: str) -> str:
    """Return the end of the message of an AttributeError: what to use instead, or nothing."""
    found = (vars(base).get("_absent", {}).get(name) for base in cls.__mro__)
    return next((str(hint) for hint in found if hint is not None), "")


class Finder:
    """Finds modules by PyTorch's names, such as `gradient.nn.modules`, for `import` statements."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        if not name.startswith("gradient."):
            return None
        return importlib.import_module(COMPAT).spec(name)

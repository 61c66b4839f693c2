"""All exception classes that gradient raises on purpose.

Each one is also a subclass of the built-in exception that PyTorch raises (RuntimeError, IndexError,
TypeError, ValueError ...). Some are subclasses of two: for the same mistake PyTorch's Python code
raises ValueError, and its C++ code RuntimeError. A message names the function or argument, the
expected value, the actual value, and the fix if there is one (`sentence`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import CellType, FunctionType

TOO_LARGE = r"array is too big|Maximum allowed|too large to convert to C"
"""A pattern for NumPy's and Python's messages about a size, or bytes, above 2**63 - 1."""


class GradientError(Exception):
    """Base class of all errors that gradient raises on purpose."""

    #: Returns the same error with the name of another function, a caller of the one that failed.
    #: Its arguments are that function's name and a description of its inputs.
    for_caller: Callable[[str, str], GradientError] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the error without `for_caller`, a closure: worker processes send errors."""
        state = {name: value for name, value in vars(self).items() if name != "for_caller"}
        return type(self), self.args, state


class Sentence(str):
    """An error message, and the function or argument that it begins with (`caller`)."""

    caller: str


def sentence(caller: str, expected: str, got: object, fix: str = "") -> Sentence:
    """Compose an error message: "caller: expected ..., got ...; fix"."""
    words = f"{caller}: expected {expected}, got {got}" + (f"; {fix}" if fix else "")
    said = Sentence(words)
    said.caller = caller
    return said


def out_of_bounds(index: int, dim: int, size: int) -> str:
    """Compose PyTorch's message for an index that is out of range."""
    return f"index {index} is out of bounds for dimension {dim} with size {size}"


def copied(function: FunctionType, name: str) -> FunctionType:
    """Copy `function`, and the function that it wraps, under a new name, which Python's own errors
    about arguments then show."""
    closure, inner = function.__closure__ or (), getattr(function, "__wrapped__", None)
    if inner is not None:
        own = copied(inner, name)
        closure = tuple(CellType(own) if c.cell_contents is inner else c for c in closure)
    copy = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        closure,
    )
    if inner is not None:
        copy.__dict__["__wrapped__"] = own
    copy.__qualname__, copy.__kwdefaults__ = name, function.__kwdefaults__
    copy.__module__, copy.__doc__ = function.__module__, function.__doc__
    copy.__annotations__ = function.__annotations__
    return copy


def name_constructors(exported: Iterable[object]) -> None:
    """Make Python's own errors about arguments say `Conv2d.__init__()` if a class inherits its
    constructor from a private one: each class in `exported` gets a copy of it."""
    for cls in exported:
        if isinstance(cls, type) and "__init__" not in vars(cls):
            owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
            if owner.__name__.startswith("_"):
                constructor = copied(vars(owner)["__init__"], f"{cls.__name__}.__init__")
                type.__setattr__(cls, "__init__", constructor)


class ShapeError(GradientError, RuntimeError, ValueError):
    """Shapes do not fit together."""


class DTypeError(GradientError, NotImplementedError):
    """An op was given a dtype that it does not take (NotImplementedError is a RuntimeError)."""


class DeviceError(GradientError, RuntimeError):
    """Tensors on different devices, or a device that this machine does not have."""


class NoNumbers(DeviceError, NotImplementedError):
    """The values of a tensor on the device "meta" are needed, which has none."""


class OutOfMemoryError(GradientError, RuntimeError, MemoryError):
    """A device has not enough free memory for an op's result."""


class AutogradError(GradientError, RuntimeError):
    """A gradient cannot be computed or recorded as requested."""


class NoDerivative(AutogradError, NotImplementedError):
    """An op has no derivative with respect to one of its inputs."""


class BackendError(GradientError, RuntimeError):
    """A backend is missing, or failed."""


class ArgumentError(GradientError, ValueError, RuntimeError):
    """An argument has a value that is not allowed."""


class FailedCheck(ArgumentError, AssertionError):
    """An argument has a value for which PyTorch raises AssertionError."""


class NumberOverflow(ArgumentError, OverflowError):
    """A number is too large for every dtype (OverflowError in PyTorch, too)."""


class NotAvailable(ArgumentError, NotImplementedError):
    """Arguments cannot be used together (NotImplementedError in PyTorch, too)."""


class LinAlgError(GradientError, RuntimeError, ValueError):
    """A matrix has no inverse, or no such decomposition."""


class IndexOutOfRange(GradientError, IndexError, RuntimeError):
    """A dimension or an index is out of range."""


class TypeMismatch(GradientError, TypeError):
    """An argument has a type that is not allowed."""


class NoDType(TypeMismatch, RuntimeError):
    """No tensor can be made of this data."""


class MissingDependency(GradientError, ImportError):
    """An optional package is missing; the message has the pip command to install it."""


class FileFormatError(GradientError, ValueError):
    """A file is truncated, malformed, or of another format than its name says."""


class HookError(GradientError, RuntimeError):
    """A hook returned a value that cannot replace its argument."""


class StateDictError(GradientError, RuntimeError):
    """A state dict does not fit a module; the message lists all misfits."""


class ModelNotFound(GradientError, FileNotFoundError):
    """There is no model or file with this id or path; the message lists the searched places."""


class UnsupportedModel(GradientError, ValueError):
    """A model type is not supported; the message lists the supported ones."""


class GenerationError(GradientError, RuntimeError):
    """No next token can be chosen: the logits are not numbers, or all tokens are forbidden."""


class CacheFull(GradientError, RuntimeError):
    """The pool of a paged KV cache has no free page."""


class DataLoaderError(GradientError, RuntimeError):
    """A worker process of a DataLoader died, or did not answer in time."""


class CheckpointError(GradientError, OSError):
    """A checkpoint could not be written or read; earlier ones are unchanged."""


class TrainingDiverged(GradientError, ArithmeticError):
    """The loss is no longer finite; the last checkpoint was written before this."""

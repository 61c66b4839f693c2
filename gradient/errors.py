"""Every error that gradient raises on purpose.

Each one is also the built-in exception that a PyTorch user would catch (RuntimeError, IndexError,
TypeError, ValueError ...). Some are two: for one kind of mistake PyTorch raises ValueError where
its Python code looks, and RuntimeError where its C++ code does. A message says which function or
argument, what was expected, what came, and the fix where there is one (`sentence`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import CellType, FunctionType

TOO_LARGE = r"array is too big|Maximum allowed|too large to convert to C"
"""A pattern: NumPy's and Python's words for a size, or a number of bytes, beyond 2**63 - 1."""


class GradientError(Exception):
    """Base of all errors that gradient raises on purpose."""

    #: Returns the same error as raised by another function: a caller of the one that failed. Its
    #: arguments are that function's name and its inputs in words.
    for_caller: Callable[[str, str], GradientError] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the error without `for_caller`, a closure: worker processes send errors."""
        state = {name: value for name, value in vars(self).items() if name != "for_caller"}
        return type(self), self.args, state


class Sentence(str):
    """The words of an error, and the function or argument that they begin with."""

    caller: str


def sentence(caller: str, expected: str, got: object, fix: str = "") -> Sentence:
    """The words of an error: "caller: expected ..., got ...; fix"."""
    words = f"{caller}: expected {expected}, got {got}" + (f"; {fix}" if fix else "")
    said = Sentence(words)
    said.caller = caller
    return said


def out_of_bounds(index: int, dim: int, size: int) -> str:
    """That an index is none of a dimension, in PyTorch's words."""
    return f"index {index} is out of bounds for dimension {dim} with size {size}"


def copied(function: FunctionType, name: str) -> FunctionType:
    """A copy of `function`, and of what it decorates, that Python's own errors about arguments
    call `name`."""
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
    """Have Python's own errors about arguments say `Conv2d.__init__()`, where the class that has
    the constructor is a private one: each class among `exported` gets a copy."""
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
    """Something asks for the numbers of tensors on the device "meta", which have none."""


class OutOfMemoryError(GradientError, RuntimeError, MemoryError):
    """A device has no memory left for what an op makes."""


class AutogradError(GradientError, RuntimeError):
    """The graph cannot be differentiated as asked."""


class NoDerivative(AutogradError, NotImplementedError):
    """An op has no derivative with respect to one of its inputs."""


class BackendError(GradientError, RuntimeError):
    """A backend is missing, or failed."""


class ArgumentError(GradientError, ValueError, RuntimeError):
    """An argument has a value that is not allowed."""


class FailedCheck(ArgumentError, AssertionError):
    """An argument has a value that PyTorch finds by an `assert`."""


class NumberOverflow(ArgumentError, OverflowError):
    """A number has more digits than any dtype has for it (OverflowError in PyTorch, too)."""


class NotAvailable(ArgumentError, NotImplementedError):
    """Arguments that are not available together (NotImplementedError in PyTorch, too)."""


class LinAlgError(GradientError, RuntimeError, ValueError):
    """A matrix has no such inverse or decomposition."""


class IndexOutOfRange(GradientError, IndexError, RuntimeError):
    """A dimension or an index lies outside its range."""


class TypeMismatch(GradientError, TypeError):
    """An argument has a type that is not allowed."""


class NoDType(TypeMismatch, RuntimeError):
    """Data of which no tensor can be made."""


class MissingDependency(GradientError, ImportError):
    """An optional package is needed; the message holds the pip command that installs it."""


class FileFormatError(GradientError, ValueError):
    """A file is truncated, malformed, or not of the format that its name says."""


class HookError(GradientError, RuntimeError):
    """A hook returned something that cannot replace what it was given."""


class StateDictError(GradientError, RuntimeError):
    """Weights that do not fit a module: all misfits listed together."""


class ModelNotFound(GradientError, FileNotFoundError):
    """No model, or file, under that id or path; the message says where it was looked for."""


class UnsupportedModel(GradientError, ValueError):
    """A model type that gradient does not know; the message lists those that it does."""


class GenerationError(GradientError, RuntimeError):
    """No next token can be chosen: the logits are not numbers, or all tokens are forbidden."""


class CacheFull(GradientError, RuntimeError):
    """The pool of a paged key-value cache has no page left."""


class DataLoaderError(GradientError, RuntimeError):
    """A worker process of a DataLoader died, or did not answer in time."""


class CheckpointError(GradientError, OSError):
    """A checkpoint could not be written or read; earlier ones are untouched."""


class TrainingDiverged(GradientError, ArithmeticError):
    """The loss is no longer a finite number; the last checkpoint is from before."""

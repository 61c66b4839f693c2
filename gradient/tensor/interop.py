"""Conversion to and from Python, NumPy and other array libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast, overload

import numpy as np

from gradient import backends
from gradient.autograd.inference import alias
from gradient.autograd.node import leaf_node
from gradient.autograd.variable import Variable, wrap
from gradient.backends.packed import arranged_for, is_packed, map_parts, parts_of
from gradient.backends.placement import on_device_of
from gradient.dtypes import uint8
from gradient.errors import (
    AutogradError,
    BackendError,
    DeviceError,
    ShapeError,
    TypeMismatch,
    sentence,
)
from gradient.tensor.arguments import axis_of
from gradient.tensor.arithmetic import Arithmetic
from gradient.tensor.from_data import number_dtype_of
from gradient.tensor.packed import numbers_of, refuse
from gradient.tensor.views import with_bases

if TYPE_CHECKING:
    from gradient.tensor.core import Tensor

__all__ = ["from_dlpack", "from_numpy"]

T = TypeVar("T")


class Interop(Arithmetic):
    """Methods that convert a tensor to Python, NumPy and other libraries."""

    __slots__ = ()

    __array_priority__ = 1000

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> object:
        from gradient.tensor.ufuncs import call_ufunc

        return call_ufunc(ufunc, method, inputs, options)

    def item(self) -> Any:
        """Return the only element as a Python number. Raises ShapeError if there are more."""
        if isinstance(self.array, np.floating):  # NumPy's result of a full reduction
            return self.array.item()
        if is_packed(self.array):
            return numbers_of("item", self).item()
        array = self.backend.to_numpy(self.array)
        if array.size != 1:
            raise ShapeError(
                f"a Tensor with {array.size} elements cannot be converted to Scalar; index it first"
            )
        return float(array.reshape(())) if array.dtype.kind == "V" else array.item()

    def tolist(self) -> Any:
        """Return the elements as nested lists of Python numbers; a 0-d tensor as a number."""
        if is_packed(self.array):
            return numbers_of("tolist", self).tolist()
        array = np.asarray(self.backend.to_numpy(self.array))
        if array.dtype.kind == "V":
            array = array.astype(np.float32)
        return array.tolist()

    def numpy(self, force: bool = False) -> np.ndarray:
        """Return a NumPy array that shares this tensor's memory.

        The tensor must be on the CPU and must not require a gradient, unless `force` is true: then
        it is detached and copied to the CPU if necessary.
        """
        if is_packed(self.array):
            refuse("numpy", self)
        if not force:
            if self.node is not None:
                raise AutogradError(
                    "can't call numpy() on a Tensor that requires grad; use tensor.detach().numpy()"
                )
            if self.backend.device != "cpu":
                raise DeviceError(
                    f"can't convert a {self.backend.device} tensor to numpy; "
                    "use tensor.cpu().numpy()"
                )
        self.array = self.backend.writable(self.array)
        return np.asarray(self.backend.to_numpy(self.array))

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        array = np.asarray(self.numpy())
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **kwargs: Any) -> object:
        if is_packed(self.array):
            refuse("dlpack", self)
        if self.node is not None:
            raise AutogradError("can't export a Tensor that requires grad; use tensor.detach()")
        from gradient.tensor import dlpack

        on_cpu = self.backend.device == "cpu"
        return dlpack.capsule_of(np.asarray(self.array) if on_cpu else self.array, kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        if is_packed(self.array):
            refuse("dlpack", self)
        if self.backend.device == "cpu":
            return np.asarray(self.array).__dlpack_device__()
        return self.array.__dlpack_device__()

    def __bool__(self) -> bool:
        if is_packed(self.array):
            return bool(numbers_of("bool", self))
        array = self.backend.to_numpy(self.array)
        if array.size != 1:
            raise ShapeError(
                f"Boolean value of Tensor with {array.size} elements is ambiguous; use .any() or "
                ".all()"
            )
        return bool(array.reshape(())[()])

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __index__(self) -> int:
        if self.array.dtype.kind not in "biu" or self.numel() != 1:
            raise TypeMismatch(
                "only integer tensors of a single element can be converted to an index"
            )
        return int(self.item())

    def as_subclass(self, cls: type[T]) -> T:
        """Return this tensor, with its memory and its place in the graph, as one of a class that
        derives from Tensor (or of Tensor). The class's `__new__` and `__init__` are not called."""
        from gradient.tensor.overriding import DisableTorchFunctionSubclass

        same: Any = self
        with DisableTorchFunctionSubclass():
            shown = same.detach() if self.node is None else same.view(self.array.shape)
        return _of_class("as_subclass", shown, cls)

    @staticmethod
    def _make_subclass(cls: type[T], data: Tensor, require_grad: bool = False) -> T:
        """Return a tensor of a class that shares the memory of `data`, outside of its graph."""
        from gradient.tensor.overriding import DisableTorchFunctionSubclass

        with DisableTorchFunctionSubclass():
            made: Any = _of_class("_make_subclass", data.detach(), cls)
            return cast("T", made.requires_grad_() if require_grad else made)

    @staticmethod
    def _make_wrapper_subclass(cls: type[Any], *size: Any, **options: Any) -> NoReturn:
        """Raises BackendError: there is no tensor without memory for `__torch_dispatch__`."""
        raise no_dispatch("_make_wrapper_subclass", cls)

    def data_ptr(self) -> int:
        """Return the memory address of the first element (on a GPU: in its memory); 0 if empty."""
        if 0 in self.array.shape:
            return 0
        if hasattr(self.backend, "address"):
            return int(self.backend.address(parts_of(self.array)[0]))
        if is_packed(self.array) and self.array.dtype.elementwise:
            codes: Any = self
            return int(codes.view(uint8).data_ptr())
        return int(self.numpy(force=True).ctypes.data)

    @overload
    def stride(self, dim: None = None) -> tuple[int, ...]: ...
    @overload
    def stride(self, dim: int) -> int: ...
    def stride(self, dim: int | None = None) -> tuple[int, ...] | int:
        """Return the stride of each dimension, or of one, in elements."""
        if is_packed(self.array) and not self.array.dtype.elementwise:
            refuse("stride", self)
        shape = self.array.shape
        if 0 in shape:  # NumPy has strides of 0 for them
            from gradient.backends.memory_order import row_major

            steps = row_major(shape)
        else:
            steps = tuple(s // self.array.dtype.itemsize for s in self.array.strides)
        return steps if dim is None else steps[axis_of(dim, len(steps))]

    def storage_offset(self) -> int:
        """Return the offset of the first element in the memory's owner, in elements."""
        if is_packed(self.array):
            refuse("storage_offset", self)
        *_, owner = (base for base in with_bases(self) if base.backend is self.backend)
        return 0 if owner is self else self.backend.offset_in(self.array, owner.array)


def no_dispatch(caller: str, cls: type[Any]) -> BackendError:
    """The error for a class that is to see the operations below autograd."""
    return BackendError(
        f"{caller}: the __torch_dispatch__ of {cls.__name__} would never be called, as there is no "
        "dispatcher here; give the class a __torch_function__, and other tensors as attributes"
    )


def _of_class(caller: str, tensor: Tensor, cls: type[T]) -> T:
    """Make a new tensor one of a subclass."""
    if not (isinstance(cls, type) and issubclass(cls, Variable)):
        raise TypeMismatch(sentence(caller, "a class that derives from Tensor", repr(cls)))
    if getattr(cls, "__torch_dispatch__", None) is not None:
        raise no_dispatch(caller, cls)
    made: Any = tensor
    made.__class__ = cls
    return cast("T", made)


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """Make a CPU tensor that shares the memory of a NumPy array."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeMismatch(f"from_numpy: expected an np.ndarray, got {type(ndarray).__name__}")
    number_dtype_of("from_numpy", ndarray)
    return wrap(np.asarray(ndarray), backends.get("cpu"))  # a matrix, for one, has other operators


def from_dlpack(ext_tensor: Tensor) -> Tensor:
    """Make a tensor that shares the memory of another library's array (CPU, or CUDA with CuPy)."""
    if isinstance(ext_tensor, Variable):
        return alias(ext_tensor, ext_tensor.array)
    from gradient.tensor import dlpack

    kind, number = ext_tensor.__dlpack_device__()
    if kind == 2:  # kDLCUDA
        backend: Any = backends.get(f"cuda:{number}")
        return wrap(
            on_device_of(backend, lambda be: dlpack.array_of(ext_tensor, be.xp.from_dlpack)),
            backend,
        )
    return wrap(dlpack.array_of(ext_tensor, np.from_dlpack), backends.get("cpu"))


def rebuild(cls: Any, array: Any, device: str, requires_grad: bool, state: Any) -> Tensor:
    """Unpickle or copy a tensor."""
    backend = backends.get(device)
    out = object.__new__(cls)
    out.array = arranged_for(backend, map_parts(backend.asarray, array))
    out.backend, out.node = backend, None
    out._grad = out.view_info = out.views = None
    if state:
        out.__dict__.update(state)
    if requires_grad:
        out.node = leaf_node(out)
    return out

"""Conversion to other dtypes and devices, and copies: methods of Tensor."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np

from gradient import backends, dtypes
from gradient.autograd.modes import mode
from gradient.autograd.variable import Variable, wrap
from gradient.backends.packed import arranged_for, is_packed, map_parts, parts_of
from gradient.backends.placement import carrier
from gradient.backends.registry import made
from gradient.dtypes import BY_NUMPY, DType, PackedDType, dtype_of, get_default_dtype
from gradient.errors import DeviceError, TypeMismatch, sentence
from gradient.ops import elementwise
from gradient.tensor.arguments import shown, tensor_of, warn_of_discarded
from gradient.tensor.arithmetic import Arithmetic
from gradient.tensor.device import Device

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradient.backends import Backend
    from gradient.tensor.arguments import DTypeLike
    from gradient.tensor.core import Tensor
    from gradient.tensor.device import DeviceLike


class Conversion(Arithmetic):
    """`to` and its short forms, `contiguous` and `clone`."""

    __slots__ = ()

    def to(
        self,
        *args: DTypeLike | DeviceLike | Variable | bool | None,
        dtype: DTypeLike | None = None,
        device: DeviceLike = None,
        non_blocking: bool = False,
        copy: bool = False,
        memory_format: object = None,
    ) -> Tensor:
        """Convert to another dtype or device, or to those of another tensor; return self if nothing
        changes.

        A copy from a GPU to the CPU waits until it is done. With `non_blocking` it does not wait:
        the values are valid after `gradient.cuda.synchronize()` or an event. A copy to a GPU never
        waits. With `non_blocking` a copy from pinned memory (`pin_memory`) runs asynchronously: do
        not write to that memory before the copy is done.

        A copy keeps the order of the dimensions in memory; with `memory_format` it has another,
        and a tensor that has another order is copied.
        """
        rest: list[Any] = list(args)
        if type(copy) is not bool:
            raise TypeMismatch(sentence("to", "True or False as copy", shown(copy)))
        if rest and type(rest[0]) is DType:
            dtype = rest.pop(0)
        elif rest and isinstance(rest[0], Variable):
            like = rest.pop(0)
            dtype, device = BY_NUMPY[like.array.dtype], like.backend.device
        elif rest:
            if rest[0] is None or isinstance(rest[0], (str, Device)):
                device = rest.pop(0)
            if rest and (rest[0] is None or isinstance(rest[0], (DType, np.dtype, type))):
                dtype = rest.pop(0)
            elif rest:
                expected = "a dtype, a device or a tensor"
                raise TypeMismatch(sentence("to", expected, shown(rest[0])))
        if rest and (len(rest) > 2 or any(type(flag) is not bool for flag in rest)):
            expected = "non_blocking and copy, each True or False, after dtype and device"
            raise TypeMismatch(sentence("to", expected, ", ".join(map(shown, rest))))
        if rest:
            non_blocking = rest[0]
        if len(rest) == 2:
            copy = rest[1]
        out: Any = self
        if dtype is not None and (wanted := dtype_of(dtype)) is not BY_NUMPY[self.array.dtype]:
            out = self._as(wanted)
        if device is not None:
            target = backends.get(str(device))
            if target is not out.backend and target.device != out.backend.device:
                out = moved(out, target, bool(non_blocking))
        if memory_format is not None:
            from gradient.tensor.layout import converted  # few programs name one

            out = converted("to", out, memory_format, copy or out is not self)
        return out.clone() if copy and out is self else out

    def _as(self: Any, dtype: DType, memory_format: object = None) -> Tensor:
        """Cast to a dtype; return self if it has this one."""
        if memory_format is not None:
            return self.to(dtype, memory_format=memory_format)
        own = self.array.dtype
        if dtype is BY_NUMPY[own]:
            return self
        if isinstance(dtype, PackedDType) or isinstance(own, PackedDType):
            from gradient.tensor.float8 import converted

            return converted(self, dtype)
        if own.kind == "c":
            warn_of_discarded(own, dtype.numpy)
        return elementwise.astype(self, dtype=dtype.numpy)

    @overload
    def type(self, dtype: None = None, non_blocking: bool = False) -> str: ...
    @overload
    def type(self, dtype: DTypeLike, non_blocking: bool = False) -> Tensor: ...
    def type(self, dtype: DTypeLike | None = None, non_blocking: bool = False) -> str | Tensor:
        """Return the dtype's name (under `compat.torch` the old type's, such as
        "torch.FloatTensor"), or this tensor cast to `dtype`. `dtype` may also be one of
        PyTorch's old types, such as `FloatTensor`, or its name, "torch.cuda.FloatTensor", which
        set the device as well. `Tensor` itself stands for the default dtype."""
        if dtype is None:
            if DType.package != "torch":
                return repr(self.dtype)
            from gradient.tensor.old_forms import name_of_type

            return name_of_type(self.dtype, self.backend.device)
        if isinstance(dtype, builtins.type) and issubclass(type(self), dtype):
            dtype = get_default_dtype()
        device = getattr(dtype, "device", None)
        if isinstance(dtype, str) and dtype.endswith("Tensor"):
            from gradient.tensor.old_forms import old_type

            dtype, device = old_type(dtype)
        if device is not None and device == self.backend.device.partition(":")[0]:
            device = None  # such a type does not say on which GPU
        return self.to(dtype=dtype, device=device, non_blocking=non_blocking)

    def type_as(self, other: Tensor) -> Tensor:
        """Cast to the dtype of `other`."""
        return self.to(tensor_of("type_as", other).dtype)

    def cpu(self, memory_format: object = None) -> Tensor:
        """Copy to CPU memory; return self if it is there."""
        return self.to(device="cpu", memory_format=memory_format)

    def cuda(
        self,
        device: DeviceLike = None,
        non_blocking: bool = False,
        memory_format: object = None,
    ) -> Tensor:
        """Copy to a GPU, by default the current one; return self if it is there."""
        if not isinstance(device, (str, Device)):
            device = "cuda" if device is None else f"cuda:{device}"
        return self.to(device=device, non_blocking=non_blocking, memory_format=memory_format)

    def contiguous(self: Any, memory_format: object = None) -> Tensor:
        """Return self if it is contiguous, else a copy in row-major order. For `channels_last` the
        order is that of (N, H, W, C)."""
        if memory_format is not None:
            from gradient.tensor.layout import contiguous_format, in_format

            if memory_format is not contiguous_format:
                return in_format("contiguous", self, memory_format)
        try:
            contiguous = self.array.flags.c_contiguous
        except AttributeError:  # a handle, without strides
            contiguous = True
        return self if contiguous else elementwise.contiguous(self)

    def clone(self: Any, *, memory_format: object = None) -> Tensor:
        """A copy, in the graph: with this tensor's order of dimensions in memory, or that of a
        memory format."""
        if memory_format is not None:
            from gradient.tensor.layout import converted

            made = converted("clone", self, memory_format, True)
            if made is not self:
                return made
        return elementwise.clone(self)

    def share_memory_(self) -> Tensor:
        """Move the elements of a CPU tensor into memory that processes started later can share.

        Existing views of this tensor keep the old memory. See `gradient.multiprocessing`.
        """
        from gradient.tensor.shared_memory import shared_copy

        if self.backend.device != "cpu":
            raise DeviceError(sentence("share_memory_", "a tensor on the CPU", self.backend.device))
        if not self.is_shared():
            self.data = wrap(map_parts(shared_copy, self.array), self.backend)
        return cast("Tensor", self)

    def pin_memory(self, device: DeviceLike = None) -> Tensor:
        """Copy to page-locked CPU memory; return self if it is there.

        `to(device, non_blocking=True)` copies from such memory to a GPU asynchronously.

        Raises:
            DeviceError: the tensor is not on the CPU, or there is no usable GPU.
        """
        if self.backend.device != "cpu":
            raise DeviceError(sentence("pin_memory", "a tensor on the CPU", self.backend.device))
        if self.is_pinned():
            return cast("Tensor", self)
        gpu: Any = backends.get(str(device or "cuda"))
        return _copied(self, self.backend, gpu.pin)

    def is_pinned(self, device: DeviceLike = None) -> builtins.bool:
        """Whether the tensor is in page-locked CPU memory: see `pin_memory`."""
        if self.backend.device != "cpu":
            return False
        gpus: list[Any] = made("cuda")
        return any(gpu.is_pinned(part) for gpu in gpus for part in parts_of(self.array))

    def record_stream(self, s: Any) -> None:
        """Record that the stream `s` uses this tensor, besides the stream on which it was made.
        After the tensor is freed, its memory is not reused until the work queued on `s` is done."""
        if not hasattr(s, "_held"):
            raise TypeMismatch(sentence("record_stream", "a cuda.Stream", repr(s)))
        if not hasattr(self.backend, "record_stream"):
            raise DeviceError(sentence("record_stream", "a tensor on a GPU", self.backend.device))
        for part in parts_of(self.array):
            self.backend.record_stream(part, s._held)

    def is_shared(self) -> builtins.bool:
        """Whether the elements are in memory that processes can share (see `share_memory_`)."""
        from gradient.tensor.shared_memory import is_shared

        return all(map(is_shared, parts_of(self.array)))

    def float(self, *, memory_format: object = None) -> Tensor:
        """Cast to float32."""
        return self._as(dtypes.float32, memory_format)

    def double(self, *, memory_format: object = None) -> Tensor:
        """Cast to float64."""
        return self._as(dtypes.float64, memory_format)

    def half(self, *, memory_format: object = None) -> Tensor:
        """Cast to float16."""
        return self._as(dtypes.float16, memory_format)

    def bfloat16(self, *, memory_format: object = None) -> Tensor:
        """Cast to bfloat16."""
        return self._as(dtypes.bfloat16, memory_format)

    def int(self, *, memory_format: object = None) -> Tensor:
        """Cast to int32."""
        return self._as(dtypes.int32, memory_format)

    def long(self, *, memory_format: object = None) -> Tensor:
        """Cast to int64."""
        return self._as(dtypes.int64, memory_format)

    def short(self, *, memory_format: object = None) -> Tensor:
        """Cast to int16."""
        return self._as(dtypes.int16, memory_format)

    def char(self, *, memory_format: object = None) -> Tensor:
        """Cast to int8."""
        return self._as(dtypes.int8, memory_format)

    def byte(self, *, memory_format: object = None) -> Tensor:
        """Cast to uint8."""
        return self._as(dtypes.uint8, memory_format)

    def bool(self, *, memory_format: object = None) -> Tensor:
        """Cast to bool."""
        return self._as(dtypes.bool_, memory_format)


def moved(tensor: Variable, target: Backend, non_blocking: builtins.bool = False) -> Tensor:
    """Copy a tensor to another backend; the graph records the copy if recording is on."""
    source = tensor.backend
    copy = carrier(source, target)
    if non_blocking and target.device == "cpu":
        copy = getattr(source, "queue_to_numpy", copy)
    elif non_blocking and source.device == "cpu":  # from other devices the values are needed now
        copy = getattr(target, "queue_from_numpy", copy)
    return _copied(tensor, target, copy)


def _copied(tensor: Variable, target: Backend, copy: Callable[[Any], Any]) -> Tensor:
    """Make a tensor of copies of a tensor's arrays; the graph records it if recording is on."""
    try:
        given = tensor.array
        if is_packed(given):
            given = given.as_stored(tensor.backend)
        array = arranged_for(target, map_parts(copy, given))
    except MemoryError as error:
        from gradient.autograd.out_of_memory import out_of_memory

        raise out_of_memory("to", target, error) from error
    out = wrap(array, target)
    if tensor.node is not None and mode.grad:
        from gradient.tensor.transfer import record_move

        record_move(tensor, out)
    return out

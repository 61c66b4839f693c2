"""The Tensor: an array of a backend that knows how it was made."""

from __future__ import annotations

import copy as copying
import weakref
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import numpy as np

from gradient import backends
from gradient.autograd import engine
from gradient.autograd.inference import alias, is_inference, refuse_leaf
from gradient.autograd.modes import inference_used, mode
from gradient.autograd.node import Handle, leaf_node
from gradient.autograd.variable import TensorType, Variable, wrap
from gradient.backends.packed import PackedArray
from gradient.dtypes import BY_NUMPY, DType, dtype_of
from gradient.errors import AutogradError, TypeMismatch, sentence
from gradient.ops import elementwise
from gradient.tensor.arguments import Size, axis_of, new_size, shown, size_of, tensor_of
from gradient.tensor.arithmetic import Arithmetic
from gradient.tensor.device import Device
from gradient.tensor.drawing import Drawing
from gradient.tensor.indexing import Indexing
from gradient.tensor.inplace import InPlace
from gradient.tensor.interop import Interop
from gradient.tensor.new import NewLike
from gradient.tensor.packed import Unpacking, carried, copied, on_host, untrainable
from gradient.tensor.printing import represent
from gradient.tensor.products import Products
from gradient.tensor.reductions import Reductions
from gradient.tensor.shaping import Shaping
from gradient.tensor.views import link_of, owned, retake


class Tensor(
    Arithmetic,
    Reductions,
    Shaping,
    Indexing,
    Products,
    InPlace,
    Drawing,
    NewLike,
    Interop,
    Unpacking,
    Variable,
):
    """An n-dimensional array of one dtype on one device, with PyTorch's methods.

    Make one by `gradient.tensor`, `zeros`, `randn`, `from_numpy` ... `grad` holds the gradient that
    `backward` accumulated, if `requires_grad`. `array` is the backend's own array.
    """

    __slots__ = ()

    def __new__(cls, *data: Any, requires_grad: bool = False) -> Any:
        """`Tensor(data)`, or `Tensor(2, 3)` without values: as PyTorch, of the default float dtype;
        prefer `gradient.tensor` and `empty`."""
        from gradient.tensor.creation import empty, tensor

        (first,) = data if len(data) == 1 else (None,)
        if isinstance(first, (list, tuple, np.ndarray, Variable)) and type(first) is not Size:
            made = tensor(first, dtype=float)
        elif any(type(n) in (bool, float, str) or n is None for n in data):
            expected = "a sequence, an array, a Tensor, or sizes"
            raise TypeMismatch(sentence("Tensor", expected, ", ".join(map(repr, data))))
        else:
            made = empty(size_of(data or (0,)))
        out = object.__new__(cls)
        out.array, out.backend, out.node, out._grad = made.array, made.backend, None, None
        if requires_grad:
            out.node = leaf_node(out)
        return out

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    @staticmethod
    def _wrap(array: Any, backend: Any) -> Tensor:
        """A tensor around a backend's array, without copying."""
        return wrap(array, backend)

    # What it is -----------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        return new_size(Size, self.array.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dimension."""
        if dim is None:
            return new_size(Size, self.array.shape)
        shape = self.array.shape
        try:
            return shape[dim]
        except (IndexError, TypeError):
            return shape[axis_of(dim, len(shape))]

    @property
    def ndim(self) -> int:
        return len(self.array.shape)

    def dim(self) -> int:
        return len(self.array.shape)

    def numel(self) -> int:
        return new_size(Size, self.array.shape).numel()

    nelement = numel

    @property
    def dtype(self) -> DType:
        return BY_NUMPY[self.array.dtype]

    @property
    def device(self) -> Device:
        return Device(self.backend.device)

    @property
    def itemsize(self) -> int:
        return self.array.dtype.itemsize

    element_size = lambda self: self.array.dtype.itemsize  # noqa: E731

    @property
    def nbytes(self) -> int:
        """Bytes of the elements; of a packed tensor, of its blocks."""
        if isinstance(self.array, PackedArray):
            return self.array.nbytes
        return self.numel() * self.array.dtype.itemsize

    @property
    def is_cuda(self) -> bool:
        return self.backend.device.startswith("cuda")

    def is_floating_point(self) -> bool:
        return self.dtype.is_floating_point

    def is_contiguous(self) -> bool:
        flags = getattr(self.array, "flags", None)
        return True if flags is None else bool(flags.c_contiguous)

    def contiguous(self) -> Any:
        """The tensor itself, or a copy in row-major order."""
        return self if self.is_contiguous() else elementwise.contiguous(self)

    # Gradients ------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient is wanted; can be set on leaves."""
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value is not True and value is not False:
            raise AutogradError(sentence("requires_grad", "True or False", repr(value)))
        if value == (self.node is not None):
            return
        if self.node is not None and self.node.op is not None:
            raise AutogradError(
                "you can only change requires_grad flags of leaf variables; use detach() to get a "
                "tensor without a gradient"
            )
        if value and not self.dtype.is_floating_point:
            raise AutogradError(
                f"only Tensors of floating point dtype can require gradients, got {self.dtype}"
            )
        if value and self.dtype.is_packed:
            raise untrainable("requires_grad", self)
        if value:
            refuse_leaf(self)
        self.node = leaf_node(self) if value else None
        retake(self)

    def is_inference(self) -> bool:
        """Whether the tensor was made under inference_mode: outside of it it cannot be written, nor
        saved for a backward pass."""
        return is_inference(self)

    @property
    def is_leaf(self) -> bool:
        return self.node is None or self.node.op is None

    @property
    def grad_fn(self) -> Any:
        """The node of the op that made this tensor, None for leaves."""
        return None if self.is_leaf else self.node

    def backward(
        self,
        gradient: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """Accumulate gradients in the leaves' `grad`; `gradient` may be left out for scalars."""
        grads = None if gradient is None else (gradient,)
        engine.backward((self,), grads, retain_graph, create_graph, inputs)

    def detach(self) -> Any:
        """The same memory, outside the graph."""
        if not self.array.shape:
            self.array = owned(self)
        return alias(self, self.array)

    def detach_(self) -> Any:
        """Take this tensor out of the graph. Not a view: its base would take it in again."""
        if link_of(self) is not None:
            raise AutogradError(
                "detach_(): a view cannot be detached in place from the tensor whose memory it "
                "shows; use detach()"
            )
        self.node = None
        return self

    @property
    def data(self) -> Any:
        """The same memory, outside the graph; can be assigned."""
        return self.detach()

    @data.setter
    def data(self, value: Any) -> None:
        value = tensor_of("data", value)
        if self.node is not None and not value.dtype.is_floating_point:
            expected = "a floating-point tensor, as this one requires a gradient"
            raise AutogradError(sentence("data", expected, value.dtype))
        if self.node is not None and isinstance(value.array, PackedArray):
            raise untrainable("data", value)
        self.array, self.backend = value.array, value.backend
        if inference_used:
            self.inference = is_inference(value)
        if self.node is not None and self.node.op is None:
            self.node.shape, self.node.dtype = value.array.shape, value.array.dtype
            self.node.backend = value.backend

    def register_hook(self, hook: Any) -> Handle:
        """Call `hook(grad)` when this tensor's gradient is known; what it returns replaces it."""
        if self.node is None:
            raise AutogradError("register_hook: this tensor does not require a gradient")
        return self.node.register_hook(hook)

    def register_post_accumulate_grad_hook(self, hook: Any) -> Handle:
        """Call `hook(tensor)` after a gradient was accumulated in this leaf's `grad`."""
        if self.node is None or self.node.op is not None:
            raise AutogradError("register_post_accumulate_grad_hook: only leaf tensors have one")
        if self.node.after is None:
            self.node.after = []
        return Handle(self.node.after, hook)

    def retain_grad(self) -> None:
        """Keep the gradient of this non-leaf tensor in `grad` too."""
        if self.node is None:
            raise AutogradError("retain_grad: this tensor does not require a gradient")
        if self.node.op is None:
            return
        self.node.retained = weakref.ref(self)
        if self.node.hooks is None:
            self.node.hooks = []  # where there are hooks, the engine looks for `retained`, too

    @property
    def retains_grad(self) -> bool:
        return self.node is not None and self.node.retained is not None

    @property
    def _version(self) -> int:
        """Changes whenever the memory is written in place."""
        from gradient.autograd.inplace import version

        return version(self.backend, self.array)

    # Conversion -----------------------------------------------------------------------------------

    def to(
        self,
        *args: Any,
        dtype: Any = None,
        device: Any = None,
        non_blocking: bool = False,
        copy: bool = False,
    ) -> Any:
        """With another dtype, on another device, or like another tensor; itself if it is so."""
        rest = list(args)
        if rest and isinstance(rest[0], Variable):
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
        if len(rest) > 2 or any(type(flag) is not bool for flag in rest):
            expected = "non_blocking and copy, each True or False, after dtype and device"
            raise TypeMismatch(sentence("to", expected, ", ".join(map(shown, rest))))
        if len(rest) == 2:
            copy = rest[1]
        out: Any = self
        if dtype is not None and (wanted := dtype_of(dtype)) is not BY_NUMPY[self.array.dtype]:
            out = elementwise.astype(out, dtype=wanted.numpy)
        if device is not None:
            target = backends.get(str(device))
            if target is not out.backend:
                out = moved(out, target)
        return out.clone() if copy and out is self else out

    def type(self, dtype: Any = None) -> Any:
        """The dtype's name, or this tensor with that dtype."""
        return repr(self.dtype) if dtype is None else self.to(dtype=dtype)

    def type_as(self, other: Any) -> Any:
        return self.to(tensor_of("type_as", other).dtype)

    def cpu(self) -> Any:
        return self.to(device="cpu")

    def cuda(self, device: Any = 0) -> Any:
        return self.to(device=device if isinstance(device, (str, Device)) else f"cuda:{device}")

    def float(self) -> Any:
        return self.to(dtype="float32")

    def double(self) -> Any:
        return self.to(dtype="float64")

    def half(self) -> Any:
        return self.to(dtype="float16")

    def bfloat16(self) -> Any:
        return self.to(dtype="bfloat16")

    def int(self) -> Any:
        return self.to(dtype="int32")

    def long(self) -> Any:
        return self.to(dtype="int64")

    def short(self) -> Any:
        return self.to(dtype="int16")

    def char(self) -> Any:
        return self.to(dtype="int8")

    def byte(self) -> Any:
        return self.to(dtype="uint8")

    def bool(self) -> Any:
        return self.to(dtype="bool")

    def clone(self) -> Any:
        """A copy, in the graph."""
        if type(self.array) is PackedArray:
            return wrap(copied(self.array, self.backend), self.backend)
        return elementwise.clone(self)

    # Python's protocols ---------------------------------------------------------------------------

    def __len__(self) -> int:  # type: ignore[valid-type]
        if not self.array.shape:
            raise TypeMismatch("len() of a 0-d tensor")
        return self.array.shape[0]

    def __iter__(self) -> Iterator[Any]:
        if not self.array.shape:
            raise TypeMismatch("iteration over a 0-d tensor")
        if type(self.array) is PackedArray:
            return (self[i] for i in range(len(self)))  # type: ignore[index]
        return iter(self.unbind(0)) if self.array.shape[0] else iter(())

    def __contains__(self, value: Any) -> Any:
        return bool_of((self == value).any())

    def __hash__(self) -> Any:
        return id(self)

    def __repr__(self) -> str:
        return represent(self)

    def __format__(self, spec: str) -> str:
        """A 0-d tensor as its number, others as printed."""
        if not self.array.shape:
            return format(self.item(), spec)
        if spec:
            raise TypeMismatch(
                f"format: a tensor of shape {tuple(self.array.shape)} takes no format {spec!r}; "
                "format its elements"
            )
        return str(self)

    def __deepcopy__(self, memo: dict[Any, Any]) -> Any:
        if not self.is_leaf:
            raise AutogradError(
                "deepcopy: only tensors created explicitly by the user (graph leaves) can be "
                "copied deeply; use detach().clone()"
            )
        out = object.__new__(type(self))
        memo[id(self)] = out
        out.array, out.backend = copied(self.array, self.backend), self.backend
        out.node, out._grad = None, copying.deepcopy(self.grad, memo)
        if hasattr(self, "__dict__"):
            out.__dict__.update(copying.deepcopy(self.__dict__, memo))
        if self.node is not None:
            out.node = leaf_node(out)
        return out

    def __reduce_ex__(self, protocol: Any) -> Any:
        from gradient.tensor.interop import rebuild

        if not self.is_leaf:
            raise AutogradError("pickle: only leaf tensors can be pickled; detach() it first")
        array = on_host(self.array, self.backend)
        state = self.__dict__ if hasattr(self, "__dict__") else None
        return rebuild, (type(self), array, self.backend.device, self.requires_grad, state)


def moved(tensor: Any, target: Any) -> Any:
    """The tensor on another backend, in the graph where recording."""
    source = tensor.backend
    out = wrap(carried(tensor.array, source, target), target)
    if tensor.node is not None and mode.grad:
        from gradient.tensor.transfer import record_move

        record_move(tensor, out)
    return out


def bool_of(tensor: Any) -> Any:
    return bool(tensor.backend.to_numpy(tensor.array))


def name_methods() -> None:
    """Have Python's own errors about arguments say `Tensor.sum()`, not a mixin's name."""
    for mixin in Tensor.__mro__[:-1]:
        for name, method in vars(mixin).items():
            if isinstance(method, FunctionType) and not name.startswith("__"):
                method.__qualname__ = f"Tensor.{method.__name__}"


name_methods()
TensorType.cls = Tensor
__all__ = ["Tensor"]

"""Parameter, a tensor that is trained, Buffer, one that is not, and their uninitialized forms in
lazy layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeGuard, cast

from gradient import absent
from gradient.autograd.inference import is_inference, refuse_leaf
from gradient.autograd.node import leaf_node
from gradient.dtypes import DType
from gradient.errors import ArgumentError, DTypeError, TypeMismatch, sentence
from gradient.tensor import Tensor
from gradient.tensor.creation import empty
from gradient.tensor.device import DeviceLike
from gradient.tensor.overriding import disabled, is_overriding

__all__ = [
    "Buffer",
    "Parameter",
    "UninitializedBuffer",
    "UninitializedParameter",
    "is_uninitialized",
]


class _Kind(type):
    """The type of Parameter and Buffer. `Parameter(data)` of a class with a `__torch_function__` is
    a tensor of that class, and yet an instance of Parameter, as in PyTorch."""

    mark: str
    """The attribute that such tensors have."""


def _is_instance(cls: Any, instance: object) -> bool:
    """`isinstance(instance, cls)`; it takes several times as long as Python's own, so it is that of
    the classes only when there is such a tensor."""
    if type.__instancecheck__(cls, instance):
        return True
    mark = vars(cls).get("mark")
    return mark is not None and isinstance(instance, Tensor) and mark in vars(instance)


def _marked(cls: _Kind, data: Any, requires_grad: bool | None = None) -> Any:
    """A tensor of the class of `data` that is an instance of Parameter or Buffer."""
    made = data.detach()
    if type(made) is not type(data):
        expected = f"a detach() that returns a {type(data).__name__}, as its argument is"
        raise TypeMismatch(sentence(cls.__name__, expected, type(made).__name__))
    made.requires_grad_(data.requires_grad if requires_grad is None else requires_grad)
    setattr(made, cls.mark, True)
    type.__setattr__(_Kind, "__instancecheck__", _is_instance)
    return made


def _keeps_class(data: Tensor) -> bool:
    return type(data) is not Tensor and is_overriding(type(data))


class Parameter(Tensor, metaclass=_Kind):
    """A tensor that becomes one of a module's parameters when it is set as its attribute.

    It shares the memory of `data` and is a leaf of the graph: `backward` accumulates its gradient
    in `grad`. You can set other attributes on it, for example as marks for an optimiser. Of a class
    with a `__torch_function__`, `data` keeps its class.
    """

    mark = "_is_param"

    __torch_function__: Any = disabled

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Self:
        if data is None:
            data = Tensor()
        if not isinstance(data, Tensor):
            raise TypeMismatch(f"Parameter: expected a Tensor, got {type(data).__name__}")
        if _keeps_class(data) and not issubclass(type(data), Parameter):
            return cast("Self", _marked(Parameter, data, requires_grad))
        if requires_grad and data.dtype.kind in ("int", "bool"):
            raise DTypeError(
                "Parameter: only a floating-point tensor can require a gradient, got "
                f"{data.dtype}; pass requires_grad=False"
            )
        if requires_grad and data.dtype.is_packed:
            raise DTypeError(
                f"Parameter: a packed tensor ({data.dtype.name}) cannot be trained; pass "
                "requires_grad=False"
            )
        if requires_grad:
            refuse_leaf(data)
        parameter = object.__new__(cls)
        parameter.array, parameter.backend = data.array, data.backend
        parameter._grad = parameter.view_info = parameter.views = None
        parameter.node = leaf_node(parameter) if requires_grad else None
        if is_inference(data):
            parameter.inference = True
        return parameter

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class Buffer(Tensor, metaclass=_Kind):
    """A tensor that becomes one of a module's buffers when it is set as its attribute.

    It shares the memory of `data`, moves with the module, and is saved if `persistent`. Of a class
    with a `__torch_function__`, `data` keeps its class.
    """

    mark = "_is_buffer"

    __torch_function__: Any = disabled
    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Self:
        if data is None:
            data = Tensor()
        if not isinstance(data, Tensor):
            raise TypeMismatch(f"Buffer: expected a Tensor, got {type(data).__name__}")
        if _keeps_class(data) and not issubclass(type(data), Buffer):
            marked: Self = _marked(Buffer, data)
            marked.persistent = persistent
            return marked
        buffer = object.__new__(cls)
        buffer.array, buffer.backend = data.array, data.backend
        buffer.node, buffer._grad = data.node, None
        buffer.view_info = buffer.views = None
        buffer.persistent = persistent
        if is_inference(data):
            buffer.inference = True
        return buffer


class _Uninitialized(Tensor):
    """A tensor without a shape, until `materialize` gives it one."""

    __torch_function__: Any = disabled
    cls_to_become: type[Any]

    @property
    def shape(self) -> NoReturn:
        raise ArgumentError(
            "this parameter or buffer of a lazy layer has no shape yet: call the layer once "
            "before you use it"
        )

    def materialize(
        self, shape: tuple[int, ...], device: DeviceLike = None, dtype: DType | None = None
    ) -> None:
        """Become a tensor of this shape in place; its values are not initialised."""
        made = empty(shape, device=device or self.device, dtype=dtype or self.dtype)
        self.__class__ = self.cls_to_become
        self.data = made

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class UninitializedParameter(_Uninitialized, Parameter):
    """A parameter without a shape: `.materialize(shape)` gives it one."""

    cls_to_become = Parameter

    def __new__(
        cls, requires_grad: bool = True, device: DeviceLike = None, dtype: DType | None = None
    ) -> Self:
        return super().__new__(cls, empty(0, device=device, dtype=dtype), requires_grad)


class UninitializedBuffer(_Uninitialized, Buffer):
    """A buffer without a shape: `.materialize(shape)` gives it one."""

    cls_to_become = Buffer

    def __new__(
        cls,
        requires_grad: bool = False,
        device: DeviceLike = None,
        dtype: DType | None = None,
        persistent: bool = True,
    ) -> Self:
        value = empty(0, device=device, dtype=dtype)
        return super().__new__(cls, value, persistent=persistent)


def is_uninitialized(value: Any) -> TypeGuard[_Uninitialized]:
    """Whether `value` is a tensor that has no shape yet."""
    return isinstance(value, _Uninitialized)


if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)

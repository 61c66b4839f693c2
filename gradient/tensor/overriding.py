"""Subclasses of Tensor whose `__torch_function__` decides what functions do with their tensors.

    class Logged(gradient.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            print(func.__name__)
            return super().__torch_function__(func, types, args, kwargs)

Plain tensors pay nothing for this. In a class that derives from Tensor, Tensor is replaced among
the bases by the class `Overriding`, which has all methods of Tensor; each of them dispatches, that
is, it calls `__torch_function__` first. So the methods of plain tensors are not changed,
`super().add(...)` in the class dispatches as well, and Python itself lets `plain + logged` call the
`__radd__` of `Overriding`.

A class with `__torch_function__ = disabled`, such as `nn.Parameter`, keeps its bases. But once
`Overriding` exists, its operators dispatch on their other operand, whose reflected method Python
would call too late. A class that derives from it, and has a `__torch_function__`, gets `Overriding`
as its last base. On operands that are not tensors, an operation dispatches after it has failed.

Functions, such as `cat`, dispatch only if `gradient.compat.torch` is installed, which wraps them.
Otherwise they, and methods of plain tensors (`plain.add(logged)`), compute with the arrays of the
tensors. PyTorch's page "Extending PyTorch" describes the protocol.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType
from typing import Any, Self

from gradient.absent import METHODS, Method
from gradient.autograd import foreign, variable
from gradient.errors import TypeMismatch, sentence

__all__ = ["DisableTorchFunctionSubclass", "disabled", "handle", "is_overriding", "overriding"]


class _State(threading.local):
    disabled = False


state = _State()
"""Whether dispatch to `__torch_function__` is disabled in this thread."""


class DisableTorchFunctionSubclass:
    """A context in which no `__torch_function__` is called: tensors of all classes are plain."""

    def __enter__(self) -> Self:
        self.outer = state.disabled
        state.disabled = True
        return self

    def __exit__(self, *exception: object) -> None:
        state.disabled = self.outer


def disabled(
    func: Callable[..., Any],
    types: Iterable[type],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """The `__torch_function__` of classes that have none: `func(*args, **kwargs)`."""
    with DisableTorchFunctionSubclass():
        return func(*args, **kwargs or {})


def is_overriding(kind: type) -> bool:
    """Whether functions dispatch to the `__torch_function__` of a class. They do not to the default
    one of Tensor itself."""
    found = getattr(kind, "__torch_function__", None)
    return found is not None and found is not disabled and kind is not variable.tensor_class


def overriding(values: Iterable[Any]) -> list[Any]:
    """Return the values to dispatch to, in order: the first one of each class that overrides, a
    subclass before its bases, otherwise from left to right. Lists and tuples are searched."""
    found: list[Any] = []
    for value in values:
        for each in value if isinstance(value, (list, tuple)) else (value,):
            kind = type(each)
            if any(type(other) is kind for other in found) or not is_overriding(kind):
                continue
            before = (i for i, other in enumerate(found) if issubclass(kind, type(other)))
            found.insert(next(before, len(found)), each)
    return found


def handle(func: Callable[..., Any], overloaded: list[Any], args: Any, kwargs: Any) -> Any:
    """Return the result of the first `__torch_function__` that implements `func`.

    Args:
        overloaded: the values to dispatch to, from `overriding`.

    Raises:
        TypeMismatch: all of them return NotImplemented.
    """
    types = tuple(map(type, overloaded))
    for each in overloaded:
        result = each.__torch_function__(func, types, args, kwargs)
        if result is not NotImplemented:
            return result
    name = getattr(func, "__name__", repr(func))
    names = ", ".join(kind.__name__ for kind in types)
    expected = "a class whose __torch_function__ implements it"
    raise TypeMismatch(sentence(name, expected, f"NotImplemented of {names}"))


def convert(result: Any, cls: type) -> Any:
    """Make the tensors in a result, a tensor or a tuple or list of them, ones of a class."""
    Tensor = variable.tensor_class  # noqa: N806

    if isinstance(result, Tensor):
        return result if isinstance(result, cls) else result.as_subclass(cls)
    if isinstance(result, (tuple, list)):
        parts = [convert(part, cls) for part in result]
        make: Any = getattr(type(result), "_make", type(result))
        return make(parts)
    return result


def default(cls: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
    """`Tensor.__torch_function__`: call `func`, and make the tensors in its result ones of this
    class. NotImplemented if there are tensors of classes that this one does not derive from."""
    if not all(issubclass(cls, kind) for kind in types):
        return NotImplemented
    with DisableTorchFunctionSubclass():
        result = func(*args, **kwargs or {})
        return result if func in nowrap_functions() else convert(result, cls)


def prepare(cls: type[Any]) -> None:
    """Replace Tensor by `Overriding` among the bases of a class, or append it. If the class's
    `__torch_function__` is `disabled`, only let its operators dispatch on their other operand."""
    Tensor = variable.tensor_class  # noqa: N806

    if getattr(cls, "__torch_function__", None) is not disabled:
        own = base()
        if own not in cls.__mro__:
            bases = tuple(own if each is Tensor else each for each in cls.__bases__)
            cls.__bases__ = bases if own in bases else (*bases, own)
    elif Tensor in cls.__bases__:
        disabled_classes.append(cls)
        if base.cache_info().currsize:
            _let_operators_dispatch(cls)


disabled_classes: list[type[Any]] = []
"""Subclasses of Tensor whose `__torch_function__` is `disabled`, such as `nn.Parameter`."""


def _let_operators_dispatch(cls: type[Any]) -> None:
    """Let the operators of a class that does not dispatch itself do so on their other operand."""
    for name in OPERATORS:
        own = getattr(cls, name, None)
        if isinstance(own, FunctionType):
            public = "eq" if name == "__eq__" else SPECIAL[name] or name
            setattr(cls, name, _dispatching_on_other(cls, name, own, _method(name, own, public)))


def _dispatching_on_other(cls: type[Any], name: str, own: Any, dispatch: Any) -> Any:
    plain = {cls, variable.tensor_class, float, int}

    def operator(self: Any, other: Any) -> Any:
        if type(self) is cls:
            return own(self, other) if type(other) in plain else dispatch(self, other)
        return (
            getattr(base(), name)(self, other)
            if is_overriding(type(self))
            else dispatch(self, other)
        )

    return functools.wraps(own)(operator)


@functools.cache
def base() -> type[Any]:
    """Return the class `Overriding`, made for the first subclass of Tensor that needs it."""
    Tensor = variable.tensor_class  # noqa: N806

    names: dict[str, Any] = {
        "__slots__": (),
        "__module__": "gradient",
        "__doc__": "A Tensor whose methods call `__torch_function__`: a base of subclasses.",
        "__torch_function__": disabled,  # while the class is made: `prepare` leaves it as it is
        "__hash__": Tensor.__hash__,
    }
    for owner in Tensor.__mro__[:-1]:
        for name, own in vars(owner).items():
            if name not in names and (method := _dispatching(name, own)) is not None:
                names[name] = method
    count = len(disabled_classes)
    made: Any = type("Overriding", (Tensor,), names)
    del disabled_classes[count:], made.__torch_function__
    for cls in disabled_classes:
        _let_operators_dispatch(cls)
    return made


@functools.cache
def nowrap_functions() -> frozenset[Any]:
    """The functions whose results the default `__torch_function__` leaves as they are."""
    Tensor = variable.tensor_class  # noqa: N806

    grad: Any = vars(Tensor.__mro__[-2])["grad"]
    return frozenset({grad.__get__})


def _of_operands(name: str, left: Any, right: Any) -> Any:
    """Dispatch a failed operation on an operand that is not a tensor; see `foreign.by_operand`."""
    Tensor = variable.tensor_class  # noqa: N806

    overloaded = [] if state.disabled else overriding((left, right))
    name, args = OPERATIONS.get(name, name), (left, right)
    if not isinstance(left, Tensor):
        name, args = dict(REFLECTED.values()).get(name, name), (right, left)
    func = getattr(Tensor, name, None)
    return NotImplemented if func is None or not overloaded else handle(func, overloaded, args, {})


foreign.by_protocol = _of_operands

NOT_DISPATCHED = {"as_subclass"}

SPECIAL = {
    "__abs__": "abs", "__add__": "add", "__and__": "", "__array__": "", "__bool__": "",
    "__complex__": "", "__contains__": "", "__deepcopy__": "", "__dir__": "", "__dlpack__": "",
    "__eq__": "", "__float__": "", "__floordiv__": "", "__format__": "", "__ge__": "ge",
    "__getitem__": "", "__gt__": "gt", "__iadd__": "add_", "__iand__": "",
    "__ifloordiv__": "floor_divide_", "__ilshift__": "", "__imatmul__": "matmul",
    "__imod__": "remainder_", "__imul__": "mul_", "__index__": "", "__int__": "",
    "__invert__": "", "__ior__": "", "__ipow__": "pow_", "__irshift__": "", "__isub__": "sub_",
    "__itruediv__": "div_", "__ixor__": "", "__le__": "le", "__len__": "", "__lshift__": "",
    "__lt__": "lt", "__matmul__": "matmul", "__mod__": "remainder", "__mul__": "mul",
    "__ne__": "ne", "__neg__": "neg", "__or__": "", "__pos__": "positive", "__pow__": "pow",
    "__reduce_ex__": "", "__repr__": "", "__reversed__": "", "__rshift__": "", "__setitem__": "",
    "__sub__": "sub", "__truediv__": "div", "__xor__": "",
}  # fmt: skip
"""Python's special methods that dispatch, and the name of the function that is passed to
`__torch_function__`; "" for the method itself."""

OPERATORS = set(SPECIAL) - {
    "__abs__", "__array__", "__bool__", "__complex__", "__contains__", "__deepcopy__", "__dir__",
    "__dlpack__", "__float__", "__format__", "__getitem__", "__index__", "__int__", "__invert__",
    "__len__", "__neg__", "__pos__", "__reduce_ex__", "__repr__",
    "__reversed__", "__setitem__",
}  # fmt: skip
"""The special methods of two operands."""

REFLECTED = {
    "__radd__": ("add", "add"), "__rand__": ("__and__", "bitwise_and"), "__rmul__": ("mul", "mul"),
    "__ror__": ("__or__", "bitwise_or"), "__rxor__": ("__xor__", "bitwise_xor"),
    "__rsub__": ("sub", "__rsub__"), "__rtruediv__": ("div", "__rdiv__"),
    "__rfloordiv__": ("__floordiv__", "__rfloordiv__"), "__rmod__": ("remainder", "__rmod__"),
    "__rpow__": ("pow", "__rpow__"), "__rmatmul__": ("matmul", "__rmatmul__"),
    "__rlshift__": ("__lshift__", "__rlshift__"), "__rrshift__": ("__rshift__", "__rrshift__"),
}  # fmt: skip
"""Reflected methods, and the names of the functions that are passed to `__torch_function__`: if the
left operand is a tensor, and if it is not."""

OPERATIONS = {
    "bitwise_and": "__and__", "bitwise_or": "__or__", "bitwise_xor": "__xor__",
    "floor_divide": "__floordiv__",
}  # fmt: skip
"""PyTorch's names of operations that have other names here."""


def _dispatching(name: str, own: Any) -> Any:
    """Return a method or property of Tensor in the form that dispatches; None if it never does."""
    if name in REFLECTED:
        return _reflected(own, *REFLECTED[name])
    if name in SPECIAL:
        return _method(name, own, SPECIAL[name] or name)
    if name.startswith("_") or name in NOT_DISPATCHED:
        return None
    if isinstance(own, property):
        return _property(own)
    if isinstance(own, Method):
        return _method(name, None, name) if name in METHODS else None
    return _method(name, own, name) if isinstance(own, FunctionType) else None


def _dispatch(func: Any, own: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Dispatch a call of `func`; without a value that overrides it, as in `Logged.sum(plain)`, call
    `own`."""
    overloaded = overriding((*args, *kwargs.values()))
    return handle(func, overloaded, args, kwargs) if overloaded else own(*args, **kwargs)


def _method(name: str, own: Any, public: str) -> Callable[..., Any]:
    Tensor = variable.tensor_class  # noqa: N806

    func = getattr(Tensor, public)  # the function that a program knows, such as Tensor.add
    own = func if own is None else own

    def method(*args: Any, **kwargs: Any) -> Any:
        if state.disabled:
            return own(*args, **kwargs)
        return _dispatch(func, own, args, kwargs)

    def operator(self: Any, other: Any) -> Any:
        if state.disabled:
            return own(self, other)
        try:
            return _dispatch(func, own, (self, other), {})
        except TypeError:
            if isinstance(other, Tensor):
                raise
            return NotImplemented  # the other operand may implement it

    binary = name in OPERATORS
    return functools.wraps(own)(operator if binary else method)


def _reflected(own: Any, of_tensor: str, of_number: str) -> Callable[..., Any]:
    Tensor = variable.tensor_class  # noqa: N806

    func, other_func = getattr(Tensor, of_tensor), getattr(Tensor, of_number)

    def method(self: Any, other: Any) -> Any:
        if state.disabled:
            return own(self, other)
        if isinstance(other, Tensor):
            return _dispatch(func, lambda other, self: own(self, other), (other, self), {})
        return _dispatch(other_func, own, (self, other), {})

    return functools.wraps(own)(method)


def _property(own: property) -> property:
    read, write = own.__get__, own.__set__

    def get(self: Any) -> Any:
        return read(self) if state.disabled else _dispatch(read, read, (self,), {})

    def change(self: Any, value: Any) -> None:
        if state.disabled:
            write(self, value)
        else:
            _dispatch(write, write, (self, value), {})

    return property(get, None if own.fset is None else change, doc=own.__doc__)

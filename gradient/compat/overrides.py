"""`overrides`: who has a `__torch_function__`, and functions that ask it (`tensor.overriding`)."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable
from types import FunctionType, ModuleType
from typing import Any, TypeVar

from gradient.autograd.forwarding import unwrapped
from gradient.dtypes import DType
from gradient.nn.parameter import Parameter
from gradient.source_lines import getframe, location_of
from gradient.tensor import Device, Size, Tensor
from gradient.tensor.overriding import handle, is_overriding, nowrap_functions, overriding, state

__all__ = [
    "TorchFunctionMode",
    "get_default_nowrap_functions",
    "handle_torch_function",
    "has_torch_function",
    "has_torch_function_unary",
    "has_torch_function_variadic",
    "is_tensor_like",
    "is_tensor_method_or_property",
    "resolve_name",
    "wrap_torch_function",
]

F = TypeVar("F", bound=Callable[..., Any])


class TorchFunctionMode(contextlib.nullcontext[None]):
    """A block that changes nothing: plain tensors ask no `__torch_function__`, this one's
    neither."""

    def __init__(self) -> None:
        super().__init__()


def get_default_nowrap_functions() -> set[Any]:
    """The functions whose results `Tensor.__torch_function__` leaves as they are."""
    return set(nowrap_functions())


def has_torch_function(relevant_args: Iterable[Any]) -> bool:
    """Whether one of these has a `__torch_function__` that is to be asked."""
    return not state.disabled and any(is_overriding(type(each)) for each in relevant_args)


def has_torch_function_unary(value: Any) -> bool:
    return has_torch_function((value,))


def has_torch_function_variadic(*values: Any) -> bool:
    return has_torch_function(values)


def handle_torch_function(
    public_api: Callable[..., Any], relevant_args: Iterable[Any], *args: Any, **kwargs: Any
) -> Any:
    """What the `__torch_function__` of these arguments gives for `public_api`; without one,
    `public_api(*args, **kwargs)`."""
    asked = overriding(relevant_args)
    return handle(public_api, asked, args, kwargs) if asked else public_api(*args, **kwargs)


def wrap_torch_function(dispatcher: Callable[..., Iterable[Any]]) -> Callable[[F], F]:
    """Decorator: let a function ask those of its arguments that `dispatcher` returns."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            given = dispatcher(*args, **kwargs)
            if has_torch_function(given):
                return handle_torch_function(call, given, *args, **kwargs)
            return function(*args, **kwargs)

        wrapped: Any = call
        return wrapped

    return decorate


def is_tensor_like(inp: Any) -> bool:
    """Whether a value is a tensor, or has a `__torch_function__`."""
    return isinstance(inp, Tensor) or hasattr(inp, "__torch_function__")


def is_tensor_method_or_property(func: Callable[..., Any]) -> bool:
    """Whether `func`, as `__torch_function__` is given it, is of Tensor and not of a module."""
    name = getattr(func, "__name__", "")
    return name in ("__get__", "__set__") or getattr(Tensor, name, None) is func


def resolve_name(f: Callable[..., Any]) -> str | None:
    """The name of a function, such as "torch.Tensor.add"; None for what has none."""
    if is_tensor_method_or_property(f):
        own = getattr(f, "__self__", None)
        return f"torch.Tensor.{own.fget.__name__ if own else f.__name__}"
    name = getattr(f, "__name__", None)
    return None if name is None else f"{f.__module__}.{name}".replace("gradient", "torch", 1)


# Functions of modules -----------------------------------------------------------------------------

PLAIN = {
    Tensor, Parameter, DType, Device, Size, int, float, bool, str, complex, type(None),
    FunctionType, slice, range,
}  # fmt: skip
"""Classes of most arguments, which have no `__torch_function__`."""

NOT_ASKED = {
    "as_tensor", "asarray", "compile", "from_dlpack", "from_numpy", "is_storage", "is_tensor",
    "load", "save", "tensor", "typename", "vmap",
}  # fmt: skip
"""Functions that make tensors of anything, or take no tensor."""


def _asked(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """Those of the arguments whose `__torch_function__` is to be asked; mostly none."""
    for each in (*args, *kwargs.values()) if kwargs else args:
        kind = type(each)
        if kind in PLAIN:
            continue
        if (kind is not list and kind is not tuple) or not PLAIN.issuperset(map(type, each)):
            break
    else:
        return []
    return [] if state.disabled else overriding((*args, *kwargs.values()))


def asking(function: Any, module: str) -> Any:
    """A function that asks its arguments first, under the name that PyTorch gives it."""
    if hasattr(unwrapped(function), "op"):  # such a function notes where it was called

        def call(*args: Any, **kwargs: Any) -> Any:
            if asked := _asked(args, kwargs):
                return handle(call, asked, args, kwargs)
            result = function(*args, **kwargs)
            if type(result) is Tensor and result.node is not None:
                result.node.location = location_of(getframe(1))
            return result

    else:

        def call(*args: Any, **kwargs: Any) -> Any:
            if asked := _asked(args, kwargs):
                return handle(call, asked, args, kwargs)
            return function(*args, **kwargs)

    functools.update_wrapper(call, function)
    call.__module__ = module  # where pickle finds it
    return call


SHARED = {
    "adaptive_avg_pool1d", "avg_pool1d", "bilinear", "channel_shuffle", "conv1d", "conv2d",
    "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "cosine_similarity",
    "hardshrink", "pairwise_distance", "pdist", "pixel_shuffle", "pixel_unshuffle", "prelu",
}  # fmt: skip
"""Functions of `torch.nn.functional` that are those of `torch`; others are asked by two names."""


def let_ask(module: ModuleType, name: str, of_package: Callable[[str], Any]) -> None:
    """Replace the functions of a module by such that ask, once. `of_package` gives those of `torch`
    that it shares."""
    for key, found in tuple(vars(module).items()):
        if not isinstance(found, FunctionType) or key.startswith("_") or key in NOT_ASKED:
            continue
        if name == "torch.nn.functional" and key in SHARED:
            setattr(module, key, of_package(key))
        elif found.__module__ != name:
            setattr(module, key, asking(found, name))

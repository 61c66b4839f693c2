"""`library` and `ops`: operators of one's own, by name, without a dispatcher.

An operator is a function for each type of device, and may have a formula for its gradient. It is
registered under "namespace::name" and called by `ops.namespace.name(...)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, TypeVar

from gradient.autograd.function import Function
from gradient.autograd.modes import no_grad
from gradient.errors import ArgumentError, BackendError, sentence
from gradient.tensor import Tensor

__all__ = [
    "CustomOpDef",
    "Library",
    "custom_op",
    "define",
    "get_ctx",
    "impl",
    "impl_abstract",
    "infer_schema",
    "register_autocast",
    "register_autograd",
    "register_fake",
    "register_kernel",
    "register_vmap",
    "triton_op",
    "wrap_triton",
]

F = TypeVar("F", bound=Callable[..., Any])
ANY = "any device"
KEYS = {
    "CPU": "cpu", "CUDA": "cuda", "MPS": "metal", "Meta": "meta", "CompositeImplicitAutograd": ANY,
    "CompositeExplicitAutograd": ANY, "": ANY, "default": ANY,
}  # fmt: skip
"""The type of device for each of PyTorch's dispatch keys that has one."""


class CustomOpDef:
    """An operator: what it computes on each type of device, and perhaps its gradient.

    Tensors are arguments by position.
    Its result requires a gradient only if `register_autograd` gave a formula; without one, a
    backward pass through it raises an error, as in PyTorch.
    """

    def __init__(self, name: str) -> None:
        self._qualname = self.__name__ = name
        self._kernels: dict[str, Callable[..., Any]] = {}
        self._signature: inspect.Signature | None = None
        self._backward: Callable[..., Any] | None = None
        self._setup: Callable[..., Any] | None = None
        self._function: type[Function] | None = None

    def __repr__(self) -> str:
        return f"<CustomOpDef({self._qualname})>"

    @property
    def default(self) -> CustomOpDef:
        """The operator itself: it has no other overload."""
        return self

    def register_kernel(self, device_types: str | Sequence[str] | None, fn: F | None = None) -> Any:
        """Compute it by `fn` on these types of devices, such as "cpu"; None: on all. Also a
        decorator."""

        def register(fn: F) -> F:
            types = [device_types] if isinstance(device_types, str) else device_types
            for kind in [ANY] if types is None else types:
                self._kernels[kind] = fn
            self._signature = self._signature or inspect.signature(fn)
            return fn

        return register if fn is None else register(fn)

    def register_fake(self, fn: F) -> F:
        """Compute it by `fn` on the meta device."""
        self._kernels["meta"] = fn
        self._signature = self._signature or inspect.signature(fn)
        return fn

    def register_autograd(
        self, backward: Callable[..., Any], *, setup_context: Callable[..., Any] | None = None
    ) -> None:
        """Differentiate it: `setup_context(ctx, inputs, output)` saves what
        `backward(ctx, *grads)` needs, which returns a gradient (or None) for each input. With
        keyword-only arguments it is `setup_context(ctx, inputs, keyword_only_inputs, output)`."""
        self._backward, self._setup, self._function = backward, setup_context, None

    def register_vmap(self, func: F | None = None) -> NoReturn:
        raise BackendError(
            f"{self._qualname}: register_vmap: expected none: func.vmap computes an operator of "
            "one's own for one sample after the other"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._signature is not None:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            args, kwargs = bound.args, bound.kwargs
        if not any(isinstance(x, Tensor) and x.requires_grad for x in args):
            return self._compute(*args, **kwargs)
        if kwargs:  # arguments that are only passed by name
            return self._differentiable(kwargs).apply(*args)
        if self._function is None:
            self._function = self._differentiable({})
        return self._function.apply(*args)

    @no_grad()
    def _compute(self, *args: Any, **kwargs: Any) -> Any:
        device = next((str(x.device) for x in args if isinstance(x, Tensor)), "cpu")
        kind = device.partition(":")[0]
        kernel = self._kernels.get(kind) or self._kernels.get(ANY)
        if kernel is None:
            known = ", ".join(self._kernels) or "no device: its library was built for PyTorch"
            raise BackendError(f"{self._qualname}: expected a kernel for {kind}, got {known}")
        # Kernels often call `numpy()`.
        given = [x.detach() if isinstance(x, Tensor) and x.requires_grad else x for x in args]
        return kernel(*given, **kwargs)

    def _differentiable(self, kwargs: dict[str, Any]) -> type[Function]:
        operator = self

        class Operator(Function):
            @staticmethod
            def forward(*args: Any) -> Any:
                return operator._compute(*args, **kwargs)

            @staticmethod
            def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
                if operator._setup is not None:
                    operator._setup(ctx, inputs, *([kwargs] if kwargs else []), output)

            @staticmethod
            def backward(ctx: Any, *grads: Any) -> Any:
                if operator._backward is None:
                    raise BackendError(
                        f"{operator._qualname}: expected a gradient: register_autograd gives one"
                    )
                return operator._backward(ctx, *grads)

        Operator.__name__ = Operator.__qualname__ = self._qualname.rpartition("::")[2]
        return Operator


class Namespace:
    """`ops.namespace`: the operators of a library."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> CustomOpDef:
        found = _operators.get(f"{self._name}::{name}")
        if found is None:
            raise AttributeError(
                f"'_OpNamespace' '{self._name}' object has no attribute '{name}': operators are "
                "those that library.custom_op registered; see docs/from_pytorch.md"
            )
        return found


_operators: dict[str, CustomOpDef] = {}


def _operator(caller: str, name: Any) -> CustomOpDef:
    """The operator of this name, made if there is none; one that is given."""
    if isinstance(name, CustomOpDef):
        return name
    if not isinstance(name, str) or name.count("::") != 1:
        raise ArgumentError(sentence(caller, "a name such as 'namespace::name'", repr(name)))
    name = name.partition("(")[0].partition(".")[0]
    return _operators.setdefault(name, CustomOpDef(name))


def custom_op(
    name: str,
    fn: Callable[..., Any] | None = None,
    /,
    *,
    mutates_args: str | Iterable[str] = (),
    device_types: str | Sequence[str] | None = None,
    schema: str | None = None,
    tags: Any = None,
) -> Any:
    """Register a function as the operator `name`, "namespace::name"; also a decorator."""

    def register(fn: Callable[..., Any]) -> CustomOpDef:
        operator = _operators[_operator("custom_op", name)._qualname] = CustomOpDef(name)
        operator.register_kernel(device_types, fn)
        operator.__doc__ = fn.__doc__
        return operator

    return register if fn is None else register(fn)


triton_op = custom_op


def wrap_triton(triton_kernel: Any, /) -> NoReturn:
    raise BackendError("wrap_triton: there is no Triton; kernels are CUDA C (docs/gpu.md)")


def register_kernel(
    op: Any, device_types: str | Sequence[str] | None, func: F | None = None, /, *, lib: Any = None
) -> Any:
    return _operator("register_kernel", op).register_kernel(device_types, func)


def register_fake(
    op: Any, func: F | None = None, /, *, lib: Any = None, allow_override: bool = False
) -> Any:
    operator = _operator("register_fake", op)
    return operator.register_fake if func is None else operator.register_fake(func)


impl_abstract = register_fake


def register_autograd(
    op: Any,
    backward: Callable[..., Any],
    /,
    *,
    setup_context: Callable[..., Any] | None = None,
    lib: Any = None,
) -> None:
    _operator("register_autograd", op).register_autograd(backward, setup_context=setup_context)


def register_autocast(op: Any, device_type: str, cast_inputs: Any, /, *, lib: Any = None) -> None:
    """Nothing to register: autocast leaves operators of one's own as they are."""


def register_vmap(op: Any, func: F | None = None, /, *, lib: Any = None) -> NoReturn:
    _operator("register_vmap", op).register_vmap(func)
    raise AssertionError


def define(qualname: str, schema: str, *, lib: Any = None, tags: Any = ()) -> None:
    """Make an operator without kernels, whose schema is in words: `impl` gives them."""
    _operator("define", qualname)


def impl(
    qualname: str, types: str | Sequence[str], func: F | None = None, *, lib: Any = None
) -> Any:
    """Compute an operator by `func` on these types of devices; "default": on all."""
    kinds = [types] if isinstance(types, str) else types
    wanted = None if "default" in kinds else kinds
    return _operator("impl", qualname).register_kernel(wanted, func)


def infer_schema(
    prototype_function: Callable[..., Any],
    /,
    *,
    mutates_args: Any = (),
    op_name: str | None = None,
) -> str:
    """The signature of a function, in words."""
    return str(inspect.signature(prototype_function))


class Library:
    """Operators of one namespace, and functions for them by PyTorch's dispatch keys."""

    def __init__(self, ns: str, kind: str, dispatch_key: str = "") -> None:
        self.ns, self.kind, self.dispatch_key = ns, kind, dispatch_key

    def _qualified(self, name: Any) -> Any:
        named = isinstance(name, str) and "::" not in name
        return f"{self.ns}::{name}" if named else name

    def define(self, schema: str, alias_analysis: str = "", *, tags: Any = ()) -> str:
        name = schema.partition("(")[0].strip()
        _operator("define", self._qualified(name))
        return name

    def impl(
        self,
        op_name: Any,
        fn: Any,
        dispatch_key: str = "",
        *,
        with_keyset: bool = False,
        allow_override: bool = False,
    ) -> None:
        """Compute an operator by `fn` for a dispatch key. Keys other than those of devices (such as
        "Autocast") change nothing."""
        kind = KEYS.get(dispatch_key or self.dispatch_key)
        if kind is not None:
            _operator("impl", self._qualified(op_name)).register_kernel(kind, fn)


def get_ctx() -> NoReturn:
    raise BackendError("get_ctx: expected no size that depends on values, on the meta device")

"""`library` and `ops`: operators of one's own, by name, without a dispatcher.

An operator is a function for each type of device, and may have a formula for its gradient. It is
registered under "namespace::name" and called by `ops.namespace.name(...)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, TypeVar

from gradient import amp
from gradient.autograd.function import Function
from gradient.autograd.modes import is_grad_enabled, no_grad
from gradient.compat.schemas import infer_schema, mutated, signature
from gradient.dtypes import float64
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
IMPLICIT = "any device, with gradients of what it calls"
AUTOGRAD = "tensors that require a gradient"
KEYS = {
    "CPU": "cpu", "CUDA": "cuda", "MPS": "metal", "Meta": "meta",
    "CompositeImplicitAutograd": IMPLICIT, "": IMPLICIT, "default": IMPLICIT,
    "CompositeExplicitAutograd": ANY, "CompositeExplicitAutogradNonFunctional": ANY,
    "Autograd": AUTOGRAD, "AutogradCPU": AUTOGRAD, "AutogradCUDA": AUTOGRAD,
}  # fmt: skip
"""What each of PyTorch's dispatch keys is for, where it has an effect."""


class CustomOpDef:
    """An operator: what it computes on each type of device, and perhaps its gradient.

    Tensors are arguments by position, alone or in lists. Its result requires a gradient only if
    `register_autograd` gave a formula; without one, a backward pass through it raises an error, as
    in PyTorch.
    """

    def __init__(self, name: str, schema: str | None = None, mutates: bool = False) -> None:
        self._qualname = self.__name__ = name
        self._kernels: dict[str, Callable[..., Any]] = {}
        self._signature = None if schema is None else signature(schema)
        self._mutates = mutates or (schema is not None and mutated(schema))
        self._backward: Callable[..., Any] | None = None
        self._setup: Callable[..., Any] | None = None
        self._autocast: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"<CustomOpDef({self._qualname})>"

    def __getattr__(self, overload: str) -> CustomOpDef:
        """The operator of the same name with other arguments; `default` is the one without."""
        found = None
        if not overload.startswith("_"):
            own = "" if overload == "default" else f".{overload}"
            found = _operators.get(self._qualname.partition(".")[0] + own)
        if found is None and overload == "default":
            return self
        if found is None:
            raise AttributeError(f"{self._qualname} has no overload {overload!r}")
        return found

    def name(self) -> str:
        return self._qualname

    def overloads(self) -> list[str]:
        """The names of the operators of this name, "default" for the one without."""
        stem = self._qualname.partition(".")[0]
        names = [name.partition(".") for name in _operators]
        return [overload or "default" for name, _, overload in names if name == stem]

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
        return self.register_kernel("meta", fn)

    def register_autograd(
        self, backward: Callable[..., Any], *, setup_context: Callable[..., Any] | None = None
    ) -> None:
        """Differentiate it: `setup_context(ctx, inputs, output)` saves what
        `backward(ctx, *grads)` needs, which returns a gradient (or None) for each input, a list of
        them for a list. With keyword-only arguments it is
        `setup_context(ctx, inputs, keyword_only_inputs, output)`."""
        if self._mutates:
            expected = "an operator that changes no argument"
            raise BackendError(sentence("register_autograd", expected, self._qualname))
        self._backward, self._setup = backward, setup_context

    def register_autocast(self, device_type: str, cast_inputs: Any) -> None:
        """Cast floats to this dtype where `autocast` is on for this type of device."""
        self._autocast[device_type] = cast_inputs

    def register_vmap(self, func: F | None = None) -> Any:
        """Nothing to register: `func.vmap` computes an operator of one's own for one sample after
        the other."""
        return (lambda fn: fn) if func is None else func

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._signature is not None:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            args, kwargs = bound.args, bound.kwargs
        args = tuple(list(x) if _has_tensors(x) else x for x in args)
        tensors = [x for x in _leaves((*args, *kwargs.values())) if isinstance(x, Tensor)]
        kind = tensors[0].device.type if tensors else "cpu"
        if self._autocast.get(kind) is not None and amp.is_autocast_enabled(kind):
            return self._cast(self._autocast[kind], kind, args, kwargs)
        differentiable = is_grad_enabled() and any(x.requires_grad for x in tensors)
        if differentiable and AUTOGRAD in self._kernels:
            return self._kernels[AUTOGRAD](*args, **kwargs)
        if IMPLICIT in self._kernels and not {kind, ANY} & self._kernels.keys():
            return self._kernels[IMPLICIT](*args, **kwargs)
        if not differentiable or self._mutates:
            return self._compute(kind, args, kwargs)
        call = Call(self, kind, args, kwargs)
        return call.outputs_of(Operator.apply(call, *_leaves(args)))

    def _cast(self, dtype: Any, kind: str, args: Any, kwargs: Any) -> Any:
        def cast(x: Any) -> Any:
            if isinstance(x, list):
                return [cast(each) for each in x]
            floats = isinstance(x, Tensor) and x.is_floating_point() and x.dtype != float64
            return x.to(dtype) if floats else x

        with amp.autocast(kind, enabled=False):
            return self(*map(cast, args), **{name: cast(x) for name, x in kwargs.items()})

    @no_grad()
    def _compute(self, kind: str, args: Any, kwargs: Any) -> Any:
        kernel = self._kernels.get(kind) or self._kernels.get(ANY)
        if kernel is None:
            known = ", ".join(self._kernels) or "no device: its library was built for PyTorch"
            raise BackendError(f"{self._qualname}: expected a kernel for {kind}, got {known}")
        given = [_detached(x) for x in args]
        return kernel(*given, **{name: _detached(x) for name, x in kwargs.items()})


def _has_tensors(value: Any) -> bool:
    """Whether a value is a list of tensors, of which each has a gradient."""
    listed = isinstance(value, (list, tuple)) and len(value) > 0
    return listed and all(isinstance(x, Tensor) for x in value)


def _leaves(values: Iterable[Any]) -> list[Any]:
    """The values, and those in lists of tensors."""
    return [leaf for x in values for leaf in (x if _has_tensors(x) else (x,))]


def _detached(x: Any) -> Any:
    """The same numbers without a gradient, as kernels often call `numpy()`."""
    if _has_tensors(x):
        return [_detached(each) for each in x]
    return x.detach() if isinstance(x, Tensor) and x.requires_grad else x


class Call:
    """A call of an operator with a gradient: which arguments and results are lists."""

    def __init__(self, operator: CustomOpDef, kind: str, args: Any, kwargs: dict[str, Any]) -> None:
        self.operator, self.kind, self.kwargs = operator, kind, kwargs
        self.inputs = [len(x) if _has_tensors(x) else None for x in args]
        self.outputs: list[int | None] = []
        self.single = True

    def compute(self, leaves: Sequence[Any]) -> tuple[Any, ...]:
        args = _in_lists(leaves, self.inputs)
        result = self.operator._compute(self.kind, args, self.kwargs)
        self.single = not isinstance(result, tuple)
        results = (result,) if self.single else result
        self.outputs = [len(x) if isinstance(x, list) else None for x in results]
        leaves = tuple(leaf for x in results for leaf in (x if isinstance(x, list) else (x,)))
        if not leaves or not all(isinstance(x, Tensor) for x in leaves):
            expected = "tensors (or mutates_args, for an operator that returns none)"
            raise BackendError(sentence(self.operator._qualname, expected, result))
        return leaves

    def outputs_of(self, leaves: Sequence[Any]) -> Any:
        found = _in_lists(leaves, self.outputs)
        return found[0] if self.single else tuple(found)

    def gradients_of(self, grads: Any) -> list[Any]:
        """The gradients that a formula returned, one for each tensor."""
        grads = grads if isinstance(grads, tuple) else (grads,)
        name, found = self.operator._qualname, []
        if len(grads) != len(self.inputs):
            expected = f"{len(self.inputs)} gradients, one for each argument"
            raise BackendError(sentence(f"{name}.backward", expected, len(grads)))
        for grad, size in zip(grads, self.inputs, strict=True):
            each = [grad] if size is None else [None] * size if grad is None else list(grad)
            if size is not None and len(each) != size:
                expected = f"{size} gradients for a list"
                raise BackendError(sentence(f"{name}.backward", expected, len(each)))
            found += each
        return found


def _in_lists(leaves: Sequence[Any], sizes: Sequence[int | None]) -> list[Any]:
    """Values by turns alone (None) and in lists of these sizes."""
    rest = iter(leaves)
    return [next(rest) if n is None else [next(rest) for _ in range(n)] for n in sizes]


class Operator(Function):
    """The call of an operator as an op with a gradient."""

    @staticmethod
    def forward(call: Call, *leaves: Any) -> Any:
        return call.compute(leaves)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        call = ctx.call = inputs[0]
        operator = call.operator
        ctx.needs_input_grad = tuple(_in_lists(ctx.needs_input_grad[1:], call.inputs))
        if operator._setup is None:
            return
        given = {"inputs": tuple(_in_lists(inputs[1:], call.inputs))}
        if any(x.kind is x.KEYWORD_ONLY for x in operator._signature.parameters.values()):
            given["keyword_only_inputs"] = call.kwargs
        operator._setup(ctx=ctx, output=call.outputs_of(output), **given)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        operator = ctx.call.operator
        if operator._backward is None:
            raise BackendError(
                f"{operator._qualname}: expected a gradient: register_autograd gives one"
            )
        found = operator._backward(ctx, *_in_lists(grads, ctx.call.outputs))
        return (None, *ctx.call.gradients_of(found))


class Namespace:
    """`ops.namespace`: the operators of a library."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> CustomOpDef:
        full = f"{self._name}::{name}"
        found = _operators.get(full)
        if found is None:  # one that has only overloads with names
            found = next((op for key, op in _operators.items() if key.startswith(full + ".")), None)
        if found is None:
            raise AttributeError(
                f"'_OpNamespace' '{self._name}' object has no attribute '{name}': operators are "
                "those that library.custom_op registered; see docs/from_pytorch.md"
            )
        return found


_operators: dict[str, CustomOpDef] = {}


def _operator(caller: str, name: Any, schema: str | None = None) -> CustomOpDef:
    """The operator of this name, made if there is none; one that is given."""
    if isinstance(name, CustomOpDef):
        return name
    if not isinstance(name, str) or name.count("::") != 1:
        raise ArgumentError(sentence(caller, "a name such as 'namespace::name'", repr(name)))
    name = name.partition("(")[0].removesuffix(".default")
    operator = _operators.setdefault(name, CustomOpDef(name))
    if schema is not None:
        operator._signature, operator._mutates = signature(schema), mutated(schema)
    return operator


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
        mutates = bool(mutates_args if isinstance(mutates_args, str) else list(mutates_args))
        operator = CustomOpDef(name, schema, mutates)
        _operators[_operator("custom_op", name)._qualname] = operator
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
    _operator("register_autocast", op).register_autocast(device_type, cast_inputs)


def register_vmap(op: Any, func: F | None = None, /, *, lib: Any = None) -> Any:
    return _operator("register_vmap", op).register_vmap(func)


def define(qualname: str, schema: str, *, lib: Any = None, tags: Any = ()) -> None:
    """Make an operator without kernels, whose schema is in words: `impl` gives them."""
    _operator("define", qualname, schema)


def impl(
    qualname: str, types: str | Sequence[str], func: F | None = None, *, lib: Any = None
) -> Any:
    """Compute an operator by `func` on these types of devices, or for these dispatch keys;
    "default": on all."""
    kinds = [types] if isinstance(types, str) else types
    wanted = [KEYS.get(kind, kind) for kind in kinds]
    return _operator("impl", qualname).register_kernel(wanted, func)


class Library:
    """Operators of one namespace, and functions for them by PyTorch's dispatch keys."""

    def __init__(self, ns: str, kind: str, dispatch_key: str = "") -> None:
        self.ns, self.kind, self.dispatch_key = ns, kind, dispatch_key

    def _qualified(self, name: Any) -> Any:
        named = isinstance(name, str) and "::" not in name
        return f"{self.ns}::{name}" if named else name

    def define(self, schema: str, alias_analysis: str = "", *, tags: Any = ()) -> str:
        name = schema.partition("(")[0].strip()
        _operator("define", self._qualified(name), schema)
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

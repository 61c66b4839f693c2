"""Ops that move elements of packed tensors: they run on the arrays that hold the elements.

An array library cannot handle packed arrays, so a call with them fails. Only then is the op's
`moves` checked, which says whether it works on their parts: other calls cost nothing more.
"""

from __future__ import annotations

from typing import Any

from gradient.autograd.explain import explain
from gradient.autograd.variable import Variable
from gradient.backends.packed import PackedArray, is_packed
from gradient.backends.placement import on_device_of
from gradient.errors import DTypeError, sentence


def moved(op: Any, inputs: tuple[Any, ...], options: dict[str, Any], error: Exception) -> Any:
    """Return the result of an op that failed because its inputs are packed. Otherwise raise the
    error that explains `error`."""
    tensors: list[Any] = [each for each in inputs if isinstance(each, Variable)]
    first = next((each.array for each in tensors if is_packed(each.array)), None)
    if op.moves is None or first is None:
        raise explain(op, inputs, error) from error
    backend = tensors[0].backend

    def run(*parts: Any) -> Any:
        return on_device_of(backend, op.function, *parts, **options)

    try:
        if op.moves == "parts":
            return first.map(run)
        if not first.dtype.elementwise:
            raise error
        for each in tensors:
            if each.dtype is not first.dtype:
                expected = f"tensors of {first.dtype} alone"
                raise DTypeError(sentence(op.public_name, expected, each.dtype))
        out = run(*(each.array.parts[0] for each in tensors))
    except Exception as again:
        raise explain(op, inputs, again) from again

    def packed(codes: Any) -> PackedArray:
        codes = backend.writable(codes)
        return PackedArray(first.dtype, tuple(codes.shape), (codes,), first.float_dtype)

    return [packed(each) for each in out] if type(out) is list else packed(out)

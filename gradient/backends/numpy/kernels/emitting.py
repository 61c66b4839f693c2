"""Intrinsics by the LLVM code that stands for a call of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from numba import extending, types


def emitted(result: Any = None, *parameters: Any) -> Callable[[Any], Any]:
    """Decorate `build(builder, *values)`: an intrinsic of these values, for numba's compiler.

    Args:
        result: numba's type of what `build` gives; None of nothing; or a function that gives it for
            the arguments' types.
        parameters: the types that arguments are converted to; `...` is that of the argument. By
            default whole numbers are int64, and all others as they are. Of an array `build` is
            given a pointer to the first element.

    A `build` with a keyword argument `kinds` is given numba's types there, by the arguments' names,
    one with `context` numba's own context of the code.
    """

    def decorate(build: Any) -> Any:
        signature = inspect.signature(build)
        parts = signature.parameters.values()
        named = [p for p in parts if p.kind is not p.KEYWORD_ONLY]
        asked = {p.name for p in parts if p.kind is p.KEYWORD_ONLY}

        def definition(context: Any, *given: Any) -> Any:
            wanted = parameters or [_usual(kind) for kind in given]
            kinds = [g if p is ... else p for g, p in zip(given, wanted, strict=True)]
            kind: Any = types.void if result is None else result
            if not isinstance(kind, types.Type):
                kind = kind(*given)

            names = (each.name for each in named[1:])
            by_name = dict(zip(names, kinds, strict=True))

            def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
                pairs = zip(kinds, values, strict=True)
                pointers = (_pointer_or(context, builder, *each) for each in pairs)
                known = {"kinds": by_name, "context": context}
                made = build(builder, *pointers, **{name: known[name] for name in asked})
                return context.get_dummy_value() if result is None else made

            return kind(*kinds), generate

        definition.__name__, definition.__doc__ = build.__name__, build.__doc__
        described: Any = definition
        described.__signature__ = signature.replace(parameters=named)  # numba drops the first one
        return extending.intrinsic(definition)

    return decorate


def _usual(kind: Any) -> Any:
    if isinstance(kind, types.Boolean | types.BooleanLiteral):
        return types.boolean
    return types.int64 if isinstance(kind, types.Integer) else ...


def _pointer_or(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.Array):
        return context.make_array(kind)(context, builder, value).data
    return value

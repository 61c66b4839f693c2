"""Methods of Tensor as functions, such as `gradient.exp`."""

from __future__ import annotations

import re
from types import CodeType
from typing import Any

from gradient.autograd.autocast import autocasts
from gradient.autograd.forwarding import (
    Function,
    can_be_forwarded,
    forwarded,
    parameters,
    unwrapped,
)
from gradient.errors import copied


def as_function(method: Function, name: str = "") -> Function:
    """Make a function of a method: its first parameter is `input`, and it also takes NumPy's
    argument names. A method with another first parameter or too many is returned unchanged.

    Args:
        name: the function's name in error messages, if it is an alias of the method's.
    """
    if not can_be_forwarded(method) or parameters(method)[0] not in ("self", "input"):
        return method
    own: Any = unwrapped(method)
    policies = getattr(method, "autocast", ())
    if parameters(own)[0] == "input":
        function: Any = copied(own, name or own.__name__)
        function.__dict__.update(own.__dict__)
        return forwarded(autocasts(*policies)(function) if policies else function)
    code: CodeType = own.__code__

    def renamed(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple("input" if name == "self" else name for name in names)

    code = code.replace(
        co_varnames=renamed(code.co_varnames), co_cellvars=renamed(code.co_cellvars)
    )
    function = copied(own, name or own.__name__)
    function.__doc__ = own.__doc__ and re.sub(r"\bself\b", "input", own.__doc__)
    function.__code__ = code
    function.__annotations__ = {"input": "Tensor", **own.__annotations__}
    return forwarded(autocasts(*policies)(function) if policies else function)

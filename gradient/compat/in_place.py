"""In-place methods as functions: `gradient.relu_(x)` is `x.relu_()`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from gradient.compat.tables import IN_PLACE
from gradient.tensor import Tensor
from gradient.tensor.arguments import tensor_of


def _as_function(name: str) -> Callable[..., Tensor]:
    method = getattr(Tensor, name)

    @functools.wraps(method)
    def function(input: Tensor, *args: Any, **named: Any) -> Tensor:
        changed: Tensor = method(tensor_of(name, input), *args, **named)
        return changed

    own = inspect.signature(method)
    first, *others = own.parameters.values()
    described: Any = function
    described.__signature__ = own.replace(parameters=[first.replace(name="input"), *others])
    return function


for _name in IN_PLACE:
    globals()[_name] = _as_function(_name)

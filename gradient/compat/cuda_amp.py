"""`cuda.amp`, the name of `amp` for GPUs before it had others."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from gradient import amp
from gradient.autograd.function import FunctionCtx
from gradient.dtypes import DType, float16
from gradient.tensor import Tensor

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]


F = TypeVar("F", bound=Callable[..., Any])


class autocast(amp.autocast):  # noqa: N801 (PyTorch's name)
    """`amp.autocast("cuda")`"""

    def __init__(
        self, enabled: bool = True, dtype: DType | None = float16, cache_enabled: bool = True
    ) -> None:
        super().__init__("cuda", dtype, enabled, cache_enabled)


class GradScaler(amp.GradScaler):
    """`amp.GradScaler("cuda")`"""

    def __init__(
        self,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        super().__init__(
            "cuda", init_scale, growth_factor, backoff_factor, growth_interval, enabled
        )


def custom_fwd(
    fwd: F | None = None, *, device_type: str = "cuda", cast_inputs: DType | None = None
) -> Any:
    """For the `forward` of a Function, whose `backward` is then to have `custom_bwd`. With
    `cast_inputs`, its floating tensors are cast to that dtype under autocast, which is then off
    within."""
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def forward(*args: Any, **named: Any) -> Any:
        enabled = amp.is_autocast_enabled(device_type)
        if args and isinstance(args[0], FunctionCtx):
            dtype = amp.get_autocast_dtype(device_type)
            vars(args[0])["_autocast"] = enabled and cast_inputs is None, dtype
        if cast_inputs is None or not enabled:
            return fwd(*args, **named)

        def cast(x: Any) -> Any:
            floating = isinstance(x, Tensor) and x.is_floating_point()
            return x.to(cast_inputs) if floating else x

        with amp.autocast(device_type, enabled=False):
            return fwd(*map(cast, args), **{k: cast(v) for k, v in named.items()})

    return forward


def custom_bwd(bwd: F | None = None, *, device_type: str = "cuda") -> Any:
    """For the `backward` of such a Function: it runs under autocast as its `forward` did."""
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def backward(ctx: Any, *grads: Any) -> Any:
        enabled, dtype = getattr(ctx, "_autocast", (False, None))
        with amp.autocast(device_type, dtype, enabled):
            return bwd(ctx, *grads)

    return backward


def is_autocast_available(device_type: str) -> bool:
    """Whether `amp.autocast` knows devices of this type."""
    return device_type in ("cpu", "cuda")

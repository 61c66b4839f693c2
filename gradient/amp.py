"""Mixed precision: `autocast` computes products in 16 bits, `GradScaler` guards the gradients.

scaler = GradScaler()
with autocast("cuda", dtype=gradient.float16):
    loss = loss_function(model(x), y)
scaler.scale(loss).backward()
scaler.step(optimizer)
scaler.update()
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from gradient.autograd import no_grad
from gradient.autograd.modes import mode
from gradient.autograd.variable import wrap
from gradient.checks import check_arguments, number
from gradient.dtypes import DType, bfloat16, float16
from gradient.errors import ArgumentError, AutogradError, TypeMismatch
from gradient.tensor import Tensor
from gradient.tensor.device import Device
from gradient.tensor.foreach import arrays, batches, writing

P = ParamSpec("P")
R = TypeVar("R")


class autocast:  # noqa: N801 (PyTorch's name)
    """Compute matrix products, convolutions and attention in 16 bits, within a block or a function.

    Parameters stay as they are: their values are cast when they are used, and their gradients come
    back in their own dtype. Softmax, norms and losses get 16-bit inputs in float32. Put the forward
    pass and the loss inside, and `backward` outside.

        with autocast("cuda", dtype=gradient.bfloat16):
            loss = loss_function(model(x), y)

    Args:
        device_type: "cuda" or "cpu": tensors elsewhere are not affected.
        dtype: float16 or bfloat16; if None, bfloat16 on the CPU, float16 elsewhere. With another
            one autocast warns and does nothing, as in PyTorch.
        enabled: if False, autocast is off within the block.
        cache_enabled: accepted for PyTorch's sake; a weight is cast at each use.
    """

    def __init__(
        self,
        device_type: str,
        dtype: DType | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        if not isinstance(device_type, str):
            raise TypeMismatch(
                f"autocast: expected a device type such as 'cuda', but got {device_type!r}"
            )
        self.device_type = Device(device_type).type
        self.dtype = dtype or (bfloat16 if self.device_type == "cpu" else float16)
        self.enabled = enabled
        if enabled and self.dtype not in (float16, bfloat16):
            warnings.warn(
                f"autocast: expected dtype float16 or bfloat16, got {self.dtype}: it is off",
                stacklevel=2,
            )
            self.enabled = False
        self._before: list[dict[str, Any] | None] = []

    def __enter__(self) -> autocast:
        self._before.append(mode.autocast)
        others = {k: v for k, v in (mode.autocast or {}).items() if k != self.device_type}
        mode.autocast = {**others, self.device_type: self.dtype} if self.enabled else others or None
        return self

    def __exit__(self, *exception: object) -> None:
        mode.autocast = self._before.pop()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        return run


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether autocast is on for this type of device, in this thread."""
    return mode.autocast is not None and device_type in mode.autocast


_READY, _UNSCALED, _STEPPED = "ready", "unscaled", "stepped"


class _Optimizer(Protocol):
    """What the scaler asks of an optimiser."""

    param_groups: list[dict[str, Any]]

    @property
    def step(self) -> Callable[..., object]: ...


class _Progress:
    """How far one optimiser has come in this iteration."""

    def __init__(self) -> None:
        self.stage = _READY
        self.found_inf = False
        self.has_grads = False


class GradScaler:
    """Scales the loss up, so that small float16 gradients do not vanish, and the gradients down.

    A step whose gradients overflowed is left out, and the scale is lowered; after `growth_interval`
    good steps in a row it is raised (Micikevicius et al. 2018, section 3.2). bfloat16 needs none of
    this.

        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)                  # only to clip or look at gradients
        scaler.step(optimizer)
        scaler.update()

    Args:
        device: accepted for PyTorch's sake; tensors of any device are scaled.
        init_scale: the first scale.
        growth_factor: what the scale is multiplied by after growth_interval good steps; above 1.
        backoff_factor: what the scale is multiplied by after a step that overflowed; below 1.
        growth_interval: good steps in a row before the scale grows.
        enabled: if False, `scale` changes nothing and `step` is the optimiser's.
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        check_arguments(
            "GradScaler",
            growth_factor=(growth_factor, number(above=1)),
            backoff_factor=(backoff_factor, number(below=1)),
        )
        self._enabled = enabled
        self._scale = float(init_scale)
        self._growth_factor = growth_factor
        self._backoff_factor = backoff_factor
        self._growth_interval = growth_interval
        self._growth_tracker = 0
        self._was_used = False
        self._progress: dict[int, _Progress] = {}

    @overload  # a Tensor is an iterable of Tensors, too
    def scale(self, outputs: Tensor) -> Tensor: ...  # type: ignore[overload-overlap]
    @overload
    def scale(self, outputs: Iterable[Tensor]) -> Sequence[Tensor]: ...
    def scale(self, outputs: Any) -> Any:
        """A loss, or each of an iterable (or nested ones) of losses, times the scale."""
        if not self._enabled:
            return outputs
        self._was_used = True
        if isinstance(outputs, Tensor):
            return outputs * self._scale
        if isinstance(outputs, Iterable):
            scaled = [self.scale(output) for output in outputs]
            return tuple(scaled) if isinstance(outputs, tuple) else scaled
        raise TypeMismatch(
            "GradScaler.scale: expected a Tensor or an iterable of Tensors, but got "
            f"{type(outputs).__name__}"
        )

    def unscale_(self, optimizer: _Optimizer) -> None:
        """Divide the gradients of the optimiser's parameters by the scale, in place.

        `step` does it itself; call this before to clip gradients, at most once per iteration.
        """
        if not self._enabled:
            return
        self._check_used("unscale_")
        progress = self._progress.setdefault(id(optimizer), _Progress())
        if progress.stage == _UNSCALED:
            raise AutogradError(
                "GradScaler.unscale_: already called on this optimizer since the last update()"
            )
        if progress.stage == _STEPPED:
            raise AutogradError("GradScaler.unscale_: called after step(); call it before")
        grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
        grads = [grad for grad in grads if grad is not None]
        if any(grad.dtype == float16 for grad in grads):
            raise ArgumentError(
                "GradScaler.unscale_: some gradients are float16, in which unscaling would "
                "lose what scaling kept: "
                "keep the parameters in float32 and compute in float16"
            )
        with no_grad():
            finite = []  # one flag a device before any is read: reading waits for the device
            for backend, _, batch in batches(grads, lambda grad: grad.dtype):
                with writing(batch, "GradScaler.unscale_"):
                    flag = backend.foreach_unscale(arrays(batch), 1.0 / self._scale)
                finite.append(wrap(flag, backend))
        progress.has_grads = bool(grads)
        progress.found_inf = not all(bool(flag) for flag in finite)
        progress.stage = _UNSCALED

    def step(self, optimizer: _Optimizer, *args: Any, **kwargs: Any) -> object:
        """Unscale the gradients unless that is done, and step the optimiser if all are finite.

        Returns:
            what `optimizer.step(*args, **kwargs)` returns; None if it was left out.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise AutogradError("GradScaler.step: closures are not supported")
        self._check_used("step")
        progress = self._progress.setdefault(id(optimizer), _Progress())
        if progress.stage == _STEPPED:
            raise AutogradError("GradScaler.step: already called since the last update()")
        if progress.stage == _READY:
            self.unscale_(optimizer)
        if not progress.has_grads:
            raise AutogradError("GradScaler.step: no parameter of this optimizer has a gradient")
        result = None if progress.found_inf else optimizer.step(*args, **kwargs)
        progress.stage = _STEPPED
        return result

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Raise or lower the scale after an iteration, or set it to `new_scale`."""
        if not self._enabled:
            return
        self._check_used("update")
        if new_scale is not None:
            self._scale = float(new_scale)
        elif not self._progress:
            raise AutogradError("GradScaler.update: called without step() or unscale_() before it")
        elif any(progress.found_inf for progress in self._progress.values()):
            self._scale *= self._backoff_factor
            self._growth_tracker = 0
        else:
            self._growth_tracker += 1
            if self._growth_tracker == self._growth_interval:
                self._scale *= self._growth_factor
                self._growth_tracker = 0
        self._progress = {}

    def _check_used(self, method: str) -> None:
        if not self._was_used:
            raise AutogradError(
                f"GradScaler.{method}: no loss was scaled yet: call "
                "scaler.scale(loss).backward() first"
            )

    def get_scale(self) -> float:
        """The present scale; 1 if not enabled."""
        return self._scale if self._enabled else 1.0

    def get_growth_factor(self) -> float:
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        self._growth_interval = new_interval

    def is_enabled(self) -> bool:
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """The scale, its options and the count of good steps; empty if not enabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self._scale,
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._growth_tracker,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        if not self._enabled:
            return
        if not state_dict:
            raise AutogradError(
                "GradScaler.load_state_dict: the state is empty; was it saved from a disabled "
                "GradScaler?"
            )
        self._scale = state_dict["scale"]
        self._growth_factor = state_dict["growth_factor"]
        self._backoff_factor = state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        self._growth_tracker = state_dict["_growth_tracker"]

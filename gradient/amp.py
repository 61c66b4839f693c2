"""Mixed precision: `autocast` computes products in 16 bits, `GradScaler` scales the loss.

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
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast, overload

from gradient import absent, cuda
from gradient.autograd import no_grad
from gradient.autograd.autocast import set_autocast
from gradient.autograd.modes import mode
from gradient.checks import check_arguments, number
from gradient.dtypes import DType, bfloat16, float16, float32, int32
from gradient.errors import ArgumentError, AutogradError, TypeMismatch
from gradient.tensor import Tensor
from gradient.tensor.creation import full
from gradient.tensor.device import Device
from gradient.tensor.foreach import arrays, batches, writing

__all__ = ["GradScaler", "autocast", "get_autocast_dtype", "is_autocast_enabled"]

P = ParamSpec("P")
R = TypeVar("R")


class autocast:  # noqa: N801 (PyTorch's name)
    """Compute matrix products, convolutions and attention in 16 bits, within a block or a function.

    Parameters keep their dtype: their values are cast at each use, and their gradients have the
    parameters' dtype. Softmax, norms and losses cast 16-bit inputs to float32; on a GPU, so do
    sums, powers, exponentials and logarithms. The lists are PyTorch's. Put the forward pass and the
    loss inside the block, and `backward` outside.

        with autocast("cuda", dtype=gradient.bfloat16):
            loss = loss_function(model(x), y)

    Args:
        device_type: "cuda" or "cpu"; tensors on other devices are not affected.
        dtype: float16 or bfloat16; by default bfloat16 on the CPU, float16 on other devices. With
            another dtype autocast warns and does nothing, as in PyTorch.
        enabled: if False, autocast is off inside the block.
        cache_enabled: PyTorch's, without effect: a weight is cast at each use.
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

    def __enter__(self) -> autocast:
        others = {k: v for k, v in (mode.autocast or {}).items() if k != self.device_type}
        own = {self.device_type: self.dtype} if self.enabled else {}
        # A stack for each thread: one object, such as a decorator, may be used in several.
        mode.outer_autocasts.append(set_autocast({**others, **own} or None))
        return self

    def __exit__(self, *exception: object) -> None:
        set_autocast(mode.outer_autocasts.pop())

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        return run


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether autocast is on for this device type in this thread."""
    return mode.autocast is not None and device_type in mode.autocast


def get_autocast_dtype(device_type: str) -> DType:
    """Return autocast's dtype for this device type: the current one, or the default if it is
    off."""
    inside = (mode.autocast or {}).get(device_type)
    return inside or (bfloat16 if device_type == "cpu" else float16)


_READY, _UNSCALED, _STEPPED = "ready", "unscaled", "stepped"


class _Optimizer(Protocol):
    """The part of an optimiser that the scaler uses."""

    param_groups: list[dict[str, Any]]

    @property
    def step(self) -> Callable[..., object]: ...


class _Progress:
    """The state of one optimiser in this iteration: the last call, and for each device whether a
    gradient there is infinite or NaN (1 or 0, 0-d float32)."""

    def __init__(self) -> None:
        self.stage = _READY
        self.found_inf: list[Tensor] = []


class GradScaler:
    """Scale the loss up, so that small float16 gradients do not underflow, and the gradients down.

    If gradients overflow, the step is skipped and the scale is lowered; after `growth_interval`
    successful steps in a row it is raised (Micikevicius et al. 2018, section 3.2). bfloat16 does
    not need this.

    The scale is a tensor on the loss's device. On a GPU, Adam, AdamW and SGD read on the device
    whether to skip a step (`Optimizer.found_inf`), so nothing waits. For other optimisers the CPU
    reads it, which waits for the backward pass, as in PyTorch.

        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)                  # only to clip or inspect gradients
        scaler.step(optimizer)
        scaler.update()

    Args:
        device: on a machine without a GPU, "cuda", the default, warns and disables the scaler, as
            in PyTorch. Otherwise it has no effect: tensors on any device are scaled.
        init_scale: the initial scale.
        growth_factor: multiplies the scale after growth_interval successful steps; above 1.
        backoff_factor: multiplies the scale after an overflow; below 1.
        growth_interval: successful steps in a row before the scale grows.
        enabled: if False, `scale` changes nothing and `step` only calls the optimiser's.

    Raises:
        ArgumentError: a factor is out of range, and the scaler is enabled.
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
        if enabled and device == "cuda" and not cuda.is_available():
            warnings.warn(
                "GradScaler: enabled, but CUDA is not available: it is disabled; "
                "scale losses of other devices with GradScaler('cpu')",
                stacklevel=2 if type(self) is GradScaler else 3,
            )
            enabled = False
        if enabled:
            check_arguments(
                "GradScaler",
                growth_factor=(growth_factor, number(above=1)),
                backoff_factor=(backoff_factor, number(below=1)),
            )
        self._enabled = enabled
        self._init_scale = float(init_scale)
        self._init_growth_tracker = 0
        self._scale: Tensor | None = None
        self._growth_tracker: Tensor | None = None
        self._growth_factor = growth_factor
        self._backoff_factor = backoff_factor
        self._growth_interval = growth_interval
        self._progress: dict[int, _Progress] = {}

    @overload  # a Tensor is an iterable of Tensors, too
    def scale(self, outputs: Tensor) -> Tensor: ...  # type: ignore[overload-overlap]
    @overload
    def scale(self, outputs: Iterable[Tensor]) -> Sequence[Tensor]: ...
    def scale(self, outputs: Any) -> Any:
        """Multiply a loss, or each loss in (nested) iterables, by the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            scale, _ = self._tensors(outputs)
            return outputs * scale.to(outputs.device)
        if isinstance(outputs, Iterable) and not isinstance(outputs, str):
            scaled = [self.scale(output) for output in outputs]
            return tuple(scaled) if isinstance(outputs, tuple) else scaled
        raise TypeMismatch(
            "GradScaler.scale: expected a Tensor or an iterable of Tensors, but got "
            f"{type(outputs).__name__}"
        )

    def unscale_(self, optimizer: _Optimizer) -> None:
        """Divide the gradients of the optimiser's parameters by the scale, in place.

        `step` does this itself. Call it before `step` to clip gradients, at most once per
        iteration.
        """
        if not self._enabled:
            return
        scale = self._checked_scale("unscale_")
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
            inverse = scale.reciprocal()
            found: dict[str, Tensor] = {}
            for backend, _, batch in batches(grads, lambda grad: grad.dtype):
                device = batch[0].device
                if backend.device not in found:
                    found[backend.device] = full((), 0.0, dtype=float32, device=device)
                flag = found[backend.device]
                with writing(batch, "GradScaler.unscale_"):
                    backend.foreach_unscale(arrays(batch), *arrays([inverse.to(device), flag]))
        progress.found_inf = list(found.values())
        progress.stage = _UNSCALED

    def step(self, optimizer: _Optimizer, *args: Any, **kwargs: Any) -> object:
        """Unscale the gradients, if `unscale_` did not, and step the optimiser if all are finite.

        Returns:
            the result of `optimizer.step(*args, **kwargs)`; None if the step was skipped.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise AutogradError("GradScaler.step: closures are not supported")
        self._checked_scale("step")
        progress = self._progress.setdefault(id(optimizer), _Progress())
        if progress.stage == _STEPPED:
            raise AutogradError("GradScaler.step: already called since the last update()")
        if progress.stage == _READY:
            self.unscale_(optimizer)
        if not progress.found_inf:
            raise AutogradError("GradScaler.step: no parameter of this optimizer has a gradient")
        result = self._step_unless(progress.found_inf, optimizer, args, kwargs)
        progress.stage = _STEPPED
        return result

    def _step_unless(
        self, found_inf: list[Tensor], optimizer: Any, args: Any, kwargs: dict[str, Any]
    ) -> object:
        """Step the optimiser unless one of `found_inf` is not 0. Optimisers that support it read
        this on the device. All flags are computed before one is read, as a read may wait."""
        told = getattr(optimizer, "_step_supports_amp_scaling", False)
        if not (told and any(flag.backend.reads_wait for flag in found_inf)):
            return None if any(map(bool, found_inf)) else optimizer.step(*args, **kwargs)
        optimizer.grad_scale, optimizer.found_inf = None, _largest(found_inf)
        try:
            return cast("object", optimizer.step(*args, **kwargs))
        finally:
            del optimizer.grad_scale, optimizer.found_inf

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Raise or lower the scale at the end of an iteration, or set it to `new_scale`."""
        if not self._enabled:
            return
        scale, tracker = self._checked_scale("update"), self._growth_tracker
        assert tracker is not None
        found = [flag for progress in self._progress.values() for flag in progress.found_inf]
        with no_grad():
            if isinstance(new_scale, Tensor):
                scale.copy_(new_scale.reshape(()))
            elif new_scale is not None:
                scale.fill_(float(new_scale))
            elif not found:
                raise AutogradError(
                    "GradScaler.update: called without step() or unscale_() before it"
                )
            else:
                flag = _largest([flag.to(scale.device) for flag in found])
                with writing([scale, tracker], "GradScaler.update"):
                    held, good_steps, found_inf = arrays([scale, tracker, flag])
                    scale.backend.update_scale(
                        held,
                        good_steps,
                        found_inf,
                        self._growth_factor,
                        self._backoff_factor,
                        self._growth_interval,
                    )
        self._progress.clear()

    def _tensors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scale and the count of successful steps, made on the first loss's device."""
        if self._scale is None or self._growth_tracker is None:
            tracker, device = self._init_growth_tracker, like.device
            self._scale = full((), self._init_scale, dtype=float32, device=device)
            self._growth_tracker = full((), tracker, dtype=int32, device=device)
        return self._scale, self._growth_tracker

    def _checked_scale(self, method: str) -> Tensor:
        if self._scale is None:
            raise AutogradError(
                f"GradScaler.{method}: no loss was scaled yet: call "
                "scaler.scale(loss).backward() first"
            )
        return self._scale

    def get_scale(self) -> float:
        """Return the scale; 1 if the scaler is disabled. On a GPU this waits for the device."""
        if not self._enabled:
            return 1.0
        return self._init_scale if self._scale is None else float(self._scale)

    def get_growth_factor(self) -> float:
        """Return the factor for the scale after `growth_interval` successful steps."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Set the growth factor."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """Return the factor for the scale after an infinite or NaN gradient."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Set the backoff factor."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """Return the number of successful steps after which the scale grows."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Set the growth interval."""
        self._growth_interval = new_interval

    def is_enabled(self) -> bool:
        """Whether the scaler is enabled."""
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """Return the scale, the options and the count of successful steps; {} if disabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self.get_scale(),
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._init_growth_tracker
            if self._growth_tracker is None
            else int(self._growth_tracker),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        if not self._enabled:
            return
        if not state_dict:
            raise AutogradError(
                "GradScaler.load_state_dict: the state is empty; was it saved from a disabled "
                "GradScaler?"
            )
        self._init_scale = float(state_dict["scale"])
        self._init_growth_tracker = int(state_dict["_growth_tracker"])
        self._scale = self._growth_tracker = None  # made again from these values
        self._growth_factor = state_dict["growth_factor"]
        self._backoff_factor = state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]


def _largest(flags: list[Tensor]) -> Tensor:
    """Return 1 if one of the flags is 1, else 0, on the first one's device."""
    return functools.reduce(lambda a, b: a.maximum(b.to(a.device)), flags)


__path__: list[str] = []  # a package, for `import gradient.amp.autocast_mode`

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)

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

    Parameters stay as they are: their values are cast when they are used, and their gradients come
    back in their own dtype. Softmax, norms and losses get 16-bit inputs in float32, and on a GPU so
    do sums, powers, exponentials and logarithms: the lists are PyTorch's. Put the forward pass and
    the loss inside, and `backward` outside.

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

    def __enter__(self) -> autocast:
        others = {k: v for k, v in (mode.autocast or {}).items() if k != self.device_type}
        own = {self.device_type: self.dtype} if self.enabled else {}
        # A stack of the thread's: one object, such as a decorator, serves several.
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
    """Whether autocast is on for this type of device, in this thread."""
    return mode.autocast is not None and device_type in mode.autocast


def get_autocast_dtype(device_type: str) -> DType:
    """The dtype that autocast computes in on this type of device, or would if it were on."""
    inside = (mode.autocast or {}).get(device_type)
    return inside or (bfloat16 if device_type == "cpu" else float16)


_READY, _UNSCALED, _STEPPED = "ready", "unscaled", "stepped"


class _Optimizer(Protocol):
    """What the scaler asks of an optimiser."""

    param_groups: list[dict[str, Any]]

    @property
    def step(self) -> Callable[..., object]: ...


class _Progress:
    """How far one optimiser has come in this iteration, and for each device whether one of its
    gradients there is infinite or NaN: 1 or 0, 0-d float32."""

    def __init__(self) -> None:
        self.stage = _READY
        self.found_inf: list[Tensor] = []


class GradScaler:
    """Scales the loss up, so that small float16 gradients do not vanish, and the gradients down.

    A step whose gradients overflowed is left out, and the scale is lowered; after `growth_interval`
    good steps in a row it is raised (Micikevicius et al. 2018, section 3.2). bfloat16 needs none of
    this.

    The scale is a tensor beside the loss. On a GPU nothing waits for it: Adam, AdamW and SGD are
    told on the device whether to leave a step out (`Optimizer.found_inf`); for other optimisers the
    host reads it, which waits for the backward pass, as in PyTorch.

        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)                  # only to clip or look at gradients
        scaler.step(optimizer)
        scaler.update()

    Args:
        device: tensors of any device are scaled; but "cuda", the default, on a machine without one
            warns and disables the scaler, as in PyTorch: the loss is then what it was. "cpu" never
            does.
        init_scale: the first scale.
        growth_factor: what the scale is multiplied by after growth_interval good steps; above 1.
        backoff_factor: what the scale is multiplied by after a step that overflowed; below 1.
        growth_interval: good steps in a row before the scale grows.
        enabled: if False, `scale` changes nothing and `step` is the optimiser's.

    Raises:
        ArgumentError: a factor is out of its range, unless the scaler is disabled.
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
        """A loss, or each of an iterable (or nested ones) of losses, times the scale."""
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

        `step` does it itself; call this before to clip gradients, at most once per iteration.
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
        """Unscale the gradients unless that is done, and step the optimiser if all are finite.

        Returns:
            what `optimizer.step(*args, **kwargs)` returns; None if it was left out.
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
        """Step, unless one of `found_inf` is not 0: an optimiser that can is told so where they
        lie. Each is made before one is read, for that may wait for the device."""
        told = getattr(optimizer, "_step_supports_amp_scaling", False)
        if not (told and any(flag.backend.reads_wait for flag in found_inf)):
            return None if any(map(bool, found_inf)) else optimizer.step(*args, **kwargs)
        optimizer.grad_scale, optimizer.found_inf = None, _largest(found_inf)
        try:
            return cast("object", optimizer.step(*args, **kwargs))
        finally:
            del optimizer.grad_scale, optimizer.found_inf

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Raise or lower the scale after an iteration, or set it to `new_scale`."""
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
        """The scale and the count of good steps: made on the device of the first loss."""
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
        """The present scale, which waits for the device; 1 if not enabled."""
        if not self._enabled:
            return 1.0
        return self._init_scale if self._scale is None else float(self._scale)

    def get_growth_factor(self) -> float:
        """By what the scale is multiplied after `growth_interval` good steps."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Set what `get_growth_factor` gives."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """By what the scale is multiplied where a gradient is infinite or NaN."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Set what `get_backoff_factor` gives."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """After how many good steps the scale grows."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Set what `get_growth_interval` gives."""
        self._growth_interval = new_interval

    def is_enabled(self) -> bool:
        """Whether losses are scaled at all."""
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """The scale, its options and the count of good steps; empty if not enabled."""
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
        """Take over what `state_dict` returned."""
        if not self._enabled:
            return
        if not state_dict:
            raise AutogradError(
                "GradScaler.load_state_dict: the state is empty; was it saved from a disabled "
                "GradScaler?"
            )
        self._init_scale = float(state_dict["scale"])
        self._init_growth_tracker = int(state_dict["_growth_tracker"])
        self._scale = self._growth_tracker = None  # made anew of these
        self._growth_factor = state_dict["growth_factor"]
        self._backoff_factor = state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]


def _largest(flags: list[Tensor]) -> Tensor:
    """1 where one of them is, else 0: on the first one's device."""
    return functools.reduce(lambda a, b: a.maximum(b.to(a.device)), flags)


__path__: list[str] = []  # a package, to `import gradient.amp.autocast_mode`

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)

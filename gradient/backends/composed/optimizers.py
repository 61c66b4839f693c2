"""Optimiser steps over lists of parameters, and the norm and scaling of gradients before them. Each
is one call for a list, so that a backend can fuse it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradient.backends.composed.elementwise import ElementwiseDefaults
from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.options import AdamWOptions, LionOptions, RMSpropOptions, SGDOptions
from gradient.backends.required import Array, RequiredMethods
from gradient.dtypes import HALF_PRECISION, float32, float64


class OptimizerDefaults(ElementwiseDefaults[Array], ShapeDefaults[Array]):
    """Methods of `Backend` that update parameters in place, or their gradients."""

    def total_norm(self, arrays: list[Array]) -> Array:
        """The Euclidean norm of all arrays as one vector, 0-d; the arrays have the same dtype."""
        squares = [self.sum_of_squares(_in_float32(self, x)) for x in arrays]
        together = self.concatenate([self.reshape(x, (1,)) for x in squares], 0)
        return self.astype(self.sqrt(self.sum(together, None, False)), arrays[0].dtype)

    def foreach_mul(self, arrays: list[Array], factor: Array) -> None:
        """Multiply each array in place by a 0-d factor."""
        for x in arrays:
            self.assign(x, ..., x * self.astype(factor, x.dtype))

    def foreach_unscale(self, arrays: list[Array], factor: Array, found_inf: Array) -> None:
        """Multiply each array in place by a 0-d float32 factor. Set `found_inf`, 0-d float32, to 1
        if a result is infinite or NaN; otherwise leave it."""
        finite = []
        for x in arrays:
            scaled = self.astype(_in_float32(self, x) * factor, x.dtype)
            self.assign(x, ..., scaled)
            finite.append(self.reshape(self.all(self.isfinite(scaled), None, False), (1,)))
        good = self.all(self.concatenate(finite, 0), None, False)
        self.assign(found_inf, ..., self.where(good, found_inf, self.full((), 1, found_inf.dtype)))

    def update_scale(
        self,
        scale: Array,
        growth_tracker: Array,
        found_inf: Array,
        growth_factor: float,
        backoff_factor: float,
        growth_interval: int,
    ) -> None:
        """Lower a loss scale (0-d float32) in place if `found_inf` is not 0; raise it after
        `growth_interval` steps with 0, which `growth_tracker` (0-d int32) counts (Micikevicius et
        al. 2018, section 3.2). A scale that would become infinite is not raised."""
        bad, good = found_inf != 0, growth_tracker + 1
        full, wide = good == growth_interval, self.astype(scale, float64.numpy)
        grown = self.astype(wide * growth_factor, scale.dtype)
        grown = self.where(full & self.isfinite(grown), grown, scale)
        reduced = self.astype(wide * backoff_factor, scale.dtype)
        self.assign(scale, ..., self.where(bad, reduced, grown))
        self.assign(growth_tracker, ..., self.where(bad | full, good * 0, good))

    def adamw_step(
        self,
        params: list[Array],
        grads: list[Array],
        exp_avgs: list[Array],
        exp_avg_sqs: list[Array],
        options: AdamWOptions,
        steps: list[Array] | None = None,
        found_inf: Array | None = None,
        copies: list[Array] | None = None,
    ) -> None:
        """One step of AdamW (Loshchilov and Hutter 2019, algorithm 2), or, if not `decoupled`, of
        Adam with an L2 term (Kingma and Ba 2015, algorithm 1).

        If `found_inf` (0-d float32) is given and not 0, nothing changes; the host need not read it.
        Then `steps` has the number of steps so far of each parameter (0-d float32), incremented in
        place, and `options.step` is ignored.

        With `copies` (in 16 bits, like the gradients) the parameters are float32 master weights,
        and the copies receive their rounded values (Micikevicius et al. 2018, section 3.1).
        """
        if copies is not None:
            grads = self._as_masters(grads, params)
            self.adamw_step(params, grads, exp_avgs, exp_avg_sqs, options, steps, found_inf)
            self._round_to(copies, params)
            return
        lr, beta1, beta2, eps, weight_decay, step, decoupled, maximize = options
        correction1: Any = 1 - beta1**step
        correction2: Any = (1 - beta2**step) ** 0.5
        assign = self._assign_unless(found_inf)
        for i, (out_p, g, out_m, out_v) in enumerate(
            zip(params, grads, exp_avgs, exp_avg_sqs, strict=True)
        ):
            p, g, m, v = (_in_float32(self, x) for x in (out_p, g, out_m, out_v))
            if steps is not None:
                correction1, correction2 = self._corrections(steps[i], options, p.dtype)
                assign(steps[i], ..., steps[i] + 1)
            if maximize:
                g = -g
            if weight_decay and not decoupled:
                g = g + weight_decay * p
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * (g * g)
            update = (lr / correction1) * m / (self.sqrt(v) / correction2 + eps)
            kept = p * (1 - lr * weight_decay) if weight_decay and decoupled else p
            assign(out_m, ..., m)
            assign(out_v, ..., v)
            assign(out_p, ..., kept - update)

    def _corrections(self, count: Array, o: AdamWOptions, dtype: Any) -> tuple[Array, Array]:
        """1 - beta1^t and sqrt(1 - beta2^t), computed in float64: 1 - 0.999^t loses digits."""
        t = self.astype(count, float64.numpy) + 1
        correction1 = 1 - self.full((), o.beta1, float64.numpy) ** t
        correction2 = self.sqrt(1 - self.full((), o.beta2, float64.numpy) ** t)
        return self.astype(correction1, dtype), self.astype(correction2, dtype)

    def _assign_unless(self, found_inf: Array | None) -> Callable[[Array, Any, Array], Any]:
        """`assign`; with `found_inf`, an `assign` that writes only if that is 0."""
        if found_inf is None:
            return self.assign

        def assign(out: Array, key: Any, value: Array) -> Array:
            value = self.where(found_inf != 0, out, self.astype(value, out.dtype))
            return self.assign(out, key, value)

        return assign

    def _as_masters(self, grads: list[Array], masters: list[Array]) -> list[Array]:
        """The gradients in the dtype of the masters."""
        return [self.astype(g, p.dtype) for g, p in zip(grads, masters, strict=True)]

    def _round_to(self, copies: list[Array], masters: list[Array]) -> None:
        for copy, master in zip(copies, masters, strict=True):
            self.assign(copy, ..., self.astype(master, copy.dtype))

    def sgd_step(
        self,
        params: list[Array],
        grads: list[Array],
        momentum_buffers: list[Array] | None,
        options: SGDOptions,
        found_inf: Array | None = None,
        copies: list[Array] | None = None,
    ) -> None:
        """One step of gradient descent with momentum (Sutskever et al. 2013, in PyTorch's form).
        Nothing changes if `found_inf` (0-d float32) is not 0. `copies`: see `adamw_step`."""
        if copies is not None:
            grads = self._as_masters(grads, params)
            self.sgd_step(params, grads, momentum_buffers, options, found_inf)
            self._round_to(copies, params)
            return
        lr, momentum, dampening, weight_decay, nesterov, maximize, first = options
        assign = self._assign_unless(found_inf)
        for i, (out, g) in enumerate(zip(params, grads, strict=True)):
            p, g = _in_float32(self, out), _in_float32(self, g)
            if maximize:
                g = -g
            if weight_decay:
                g = g + weight_decay * p
            if momentum and momentum_buffers is not None:
                buffer = momentum_buffers[i]
                b = g if first else momentum * _in_float32(self, buffer) + (1 - dampening) * g
                assign(buffer, ..., b)
                g = g + momentum * b if nesterov else b
            assign(out, ..., p - lr * g)

    def rmsprop_step(
        self,
        params: list[Array],
        grads: list[Array],
        square_avgs: list[Array],
        momentum_buffers: list[Array] | None,
        grad_avgs: list[Array] | None,
        options: RMSpropOptions,
        steps: list[Array] | None = None,
        found_inf: Array | None = None,
        copies: list[Array] | None = None,
    ) -> None:
        """One step of RMSprop (Hinton 2012, lecture 6e); centred if there are `grad_avgs` (Graves
        2013, section 4.2). `steps`, `found_inf` and `copies`: see `adamw_step`."""
        if copies is not None:
            grads = self._as_masters(grads, params)
            self.rmsprop_step(
                params, grads, square_avgs, momentum_buffers, grad_avgs, options, steps, found_inf
            )
            self._round_to(copies, params)
            return
        lr, alpha, eps, weight_decay, momentum, maximize = options
        assign = self._assign_unless(found_inf)
        for count in steps or ():
            assign(count, ..., count + 1)
        for i, (out, g, square_avg) in enumerate(zip(params, grads, square_avgs, strict=True)):
            p, g, v = (_in_float32(self, x) for x in (out, g, square_avg))
            if maximize:
                g = -g
            if weight_decay:
                g = g + weight_decay * p
            v = alpha * v + (1 - alpha) * (g * g)
            assign(square_avg, ..., v)
            if grad_avgs is not None:
                mean = alpha * _in_float32(self, grad_avgs[i]) + (1 - alpha) * g
                assign(grad_avgs[i], ..., mean)
                v = v - mean * mean
            step = g / (self.sqrt(v) + eps)
            if momentum_buffers is not None:
                step = momentum * _in_float32(self, momentum_buffers[i]) + step
                assign(momentum_buffers[i], ..., step)
            assign(out, ..., p - lr * step)

    def lion_step(
        self,
        params: list[Array],
        grads: list[Array],
        exp_avgs: list[Array],
        options: LionOptions,
        found_inf: Array | None = None,
        copies: list[Array] | None = None,
    ) -> None:
        """One step of Lion (Chen et al. 2023, algorithm 2). Nothing changes if `found_inf` (0-d
        float32) is not 0. `copies`: see `adamw_step`."""
        if copies is not None:
            self.lion_step(params, self._as_masters(grads, params), exp_avgs, options, found_inf)
            self._round_to(copies, params)
            return
        lr, beta1, beta2, kept, maximize = options
        assign = self._assign_unless(found_inf)
        for out, g, exp_avg in zip(params, grads, exp_avgs, strict=True):
            p, g, m = (_in_float32(self, x) for x in (out, g, exp_avg))
            if maximize:
                g = -g
            direction = self.sign(beta1 * m + (1 - beta1) * g)
            assign(exp_avg, ..., beta2 * m + (1 - beta2) * g)
            assign(out, ..., kept * p - lr * direction)


def _in_float32(be: RequiredMethods[Array], x: Array) -> Array:
    """16-bit x in float32, else x itself: results are rounded once, when they are written back."""
    return be.astype(x, float32.numpy) if x.dtype in HALF_PRECISION else x

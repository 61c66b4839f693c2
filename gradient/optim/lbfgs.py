"""L-BFGS, with a line search for the strong Wolfe conditions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, SupportsFloat, TypeVar

from gradient.autograd import enable_grad, no_grad
from gradient.checks import Limits, integer, number, one_of, optional
from gradient.errors import ArgumentError, TypeMismatch, sentence
from gradient.optim.optimizer import Optimizer, Params
from gradient.optim.options import non_negative, options
from gradient.tensor import Tensor
from gradient.tensor.joining import cat

__all__ = ["LBFGS"]


R = TypeVar("R", bound=SupportsFloat)


class Point(NamedTuple):
    """A step along a direction, and the loss there."""

    step: float
    loss: float
    gradient: Tensor
    slope: float  # of the loss along the direction


class LBFGS(Optimizer):
    """L-BFGS (Liu and Nocedal 1989): Newton steps with the curvature estimated from past gradients.

    `optimizer.step(closure)` evaluates the closure several times, so the closure should use all of
    the data. There is only one parameter group, on one device.

    Args:
        params: parameters or named parameters.
        lr: size of a step; with a line search, the first size that it tries.
        max_iter: the maximum number of steps in one call of `step`.
        max_eval: the maximum number of evaluations in one call; default 5 / 4 of max_iter.
        tolerance_grad: stop if no gradient element is larger than this.
        tolerance_change: stop if loss or parameters change by no more than this.
        history_size: the number of past gradient differences, each as large as all parameters.
        line_search_fn: "strong_wolfe" (Nocedal and Wright 2006, algorithms 3.5 and 3.6), or None.
    """

    limits: ClassVar[Limits] = {
        "lr": non_negative,
        "max_iter": integer(0),
        "max_eval": optional(integer()),
        "tolerance_grad": number(),
        "tolerance_change": number(),
        "history_size": integer(1),
        "line_search_fn": optional(one_of("strong_wolfe")),
    }

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        super().__init__(params, options(locals()))
        for group in (self.defaults, *self.param_groups):
            if group["max_eval"] is None:
                group["max_eval"] = group["max_iter"] * 5 // 4
        if len(self.param_groups) != 1:
            raise ArgumentError(
                sentence("LBFGS", "one parameter group", len(self.param_groups), "put all in one")
            )

    # Unlike in other optimisers, the closure is required.
    def step(self, closure: Callable[[], R]) -> R:  # type: ignore[override]
        """Take up to `max_iter` steps.

        Args:
            closure: clears gradients, computes the loss, calls `backward`, returns the loss.

        Returns:
            the result of the first call of the closure.
        """
        if not callable(closure):
            raise TypeMismatch(sentence("LBFGS.step", "a function as closure", repr(closure)))
        with enable_grad():
            result = closure()
        with no_grad():
            self._descend(closure, float(result))
        return result

    def _descend(self, closure: Callable[[], object], loss: float) -> None:
        """Step until convergence, from the point where the closure was just evaluated."""
        group = self.param_groups[0]
        lr, change = float(group["lr"]), group["tolerance_change"]
        state = self.state[group["params"][0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        state["func_evals"] += 1
        evaluations = 1
        grad = self._flat_gradient()
        if _largest(grad) <= group["tolerance_grad"]:
            return
        for iteration in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            self._learn_curvature(state, grad)
            d = state["d"] = _newton_direction(state, grad, group["history_size"])
            state["prev_flat_grad"], state["prev_loss"], before = grad, loss, loss
            slope = grad.dot(d).item()
            step = lr
            if state["n_iter"] == 1:
                size = grad.abs().sum().item()
                step = (1 / size if size > 1 else 1.0) * lr
            state["t"] = step
            if slope > -change:
                return
            used = 0
            if group["line_search_fn"] is not None:
                start = Point(0.0, loss, grad, slope)
                most = group["max_eval"] - evaluations
                found, used = self._line_search(closure, start, step, d, most)
                step, loss, grad, _ = found
                state["t"] = step
                self._move(step, d)
            else:
                self._move(step, d)
                if iteration < group["max_iter"]:
                    loss, grad = self._evaluate(closure)
                    used = 1
            evaluations += used
            state["func_evals"] += used
            if (
                evaluations >= group["max_eval"]
                or _largest(grad) <= group["tolerance_grad"]
                or _largest(d * step) <= change
                or abs(loss - before) < change
            ):
                return

    def _learn_curvature(self, state: dict[str, Any], grad: Tensor) -> None:
        """Store the change of gradient and parameters over the last step; drop the oldest pair."""
        if state["n_iter"] == 1:
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1.0)
            return
        y, s = grad - state["prev_flat_grad"], state["d"] * state["t"]
        ys = y.dot(s).item()
        if not ys > 1e-10:  # a NaN is not
            return
        kept = self.param_groups[0]["history_size"] - 1
        for name, value in (("old_dirs", y), ("old_stps", s), ("ro", 1 / ys)):
            pairs = state[name]
            state[name] = [*pairs[max(0, len(pairs) - kept) :], value]
        state["H_diag"] = ys / y.dot(y).item()

    def _line_search(
        self, closure: Callable[[], object], start: Point, step: float, d: Tensor, most: int
    ) -> tuple[Point, int]:
        """Return a point along `d` that satisfies the strong Wolfe conditions, and the number of
        evaluations."""
        params = self.param_groups[0]["params"]
        origin = [p.clone() for p in params]
        evaluated = 0

        def at(step: float) -> Point:
            nonlocal evaluated
            evaluated += 1
            self._move(step, d)
            loss, grad = self._evaluate(closure)
            for p, value in zip(params, origin, strict=True):
                p.copy_(value)
            return Point(step, loss, grad, grad.dot(d).item())

        def is_too_high(point: Point) -> bool:  # the first condition: enough decrease
            return point.loss > start.loss + 1e-4 * point.step * start.slope

        def is_flat(point: Point) -> bool:  # the second: a slope much smaller than at the start
            return abs(point.slope) <= -0.9 * start.slope

        before, here, ends = start, at(step), None
        while evaluated <= most:
            rises = evaluated > 2 and here.loss >= before.loss
            if is_too_high(here) or rises:
                ends = before, here
            elif is_flat(here):
                return here, evaluated
            elif here.slope >= 0:
                ends = before, here
            if ends is not None:
                break
            least = here.step + 0.01 * (here.step - before.step)
            before, here = here, at(_cubic_minimum(before, here, (least, 10 * here.step)))
        bracket = list(ends or (start, here))

        def lower() -> int:  # a NaN counts as the lower end if it is the second
            return 0 if bracket[0].loss <= bracket[1].loss else 1

        low = lower()
        was_near = False
        reach = _largest(d)
        tolerance = self.param_groups[0]["tolerance_change"]
        while evaluated <= most and not abs(bracket[1].step - bracket[0].step) * reach < tolerance:
            left, right = sorted(point.step for point in bracket)
            step = _cubic_minimum(bracket[0], bracket[1], (left, right))
            # Twice near an end, or on it: a tenth of the bracket away from that end.
            margin = 0.1 * (right - left)
            is_near = min(right - step, step - left) < margin
            if is_near and (was_near or step >= right or step <= left):
                step = right - margin if right - step < step - left else left + margin
                is_near = False
            was_near = is_near
            here = at(step)
            if is_too_high(here) or here.loss >= bracket[low].loss:
                bracket[1 - low] = here
                low = lower()
                continue
            if is_flat(here):
                return here, evaluated
            if here.slope * (bracket[1 - low].step - bracket[low].step) >= 0:
                bracket[1 - low] = bracket[low]
            bracket[low] = here
        return bracket[low], evaluated

    def _evaluate(self, closure: Callable[[], Any]) -> tuple[float, Tensor]:
        with enable_grad():
            loss = float(closure())
        return loss, self._flat_gradient()

    def _flat_gradient(self) -> Tensor:
        """The gradients of all parameters as one vector."""
        return cat(
            [
                p.new_zeros(p.numel()) if p.grad is None else p.grad.reshape(-1)
                for p in self.param_groups[0]["params"]
            ]
        )

    def _move(self, step: float, d: Tensor) -> None:
        """Add `step` times the direction to the parameters."""
        params = self.param_groups[0]["params"]
        for p, part in zip(params, d.split([p.numel() for p in params]), strict=True):
            p.add_(part.reshape(p.shape), alpha=step)


def _newton_direction(state: dict[str, Any], grad: Tensor, history_size: int) -> Tensor:
    """The approximate inverse Hessian times -grad: Nocedal and Wright 2006, algorithm 7.4."""
    pairs = list(zip(state["old_dirs"], state["old_stps"], state["ro"], strict=True))
    d = -grad
    alphas = []
    for y, s, ro in reversed(pairs):
        alphas.append(s.dot(d).item() * ro)
        d.add_(y, alpha=-alphas[-1])
    if pairs:  # not used later, but part of PyTorch's state, as a list of `history_size` entries
        state["al"] = [*reversed(alphas), *[None] * (history_size - len(pairs))]
    d = d * state["H_diag"]
    for (y, s, ro), alpha_i in zip(pairs, reversed(alphas), strict=True):
        d.add_(s, alpha=alpha_i - y.dot(d).item() * ro)
    return d


def _cubic_minimum(a: Point, b: Point, bounds: tuple[float, float]) -> float:
    """The minimum of the cubic through two points with slopes (Nocedal and Wright, eq. 3.59)."""
    if a.step > b.step:
        a, b = b, a
    middle = (bounds[0] + bounds[1]) / 2
    if a.step == b.step:
        return middle
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.step - b.step)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:  # no minimum, or a NaN
        return middle
    d2 = math.sqrt(square)
    above, below = b.slope + d2 - d1, b.slope - a.slope + 2 * d2
    if below == 0:  # a straight line: its lower end
        return bounds[0] if above > 0 else bounds[1]
    least = b.step - (b.step - a.step) * (above / below)
    return min(max(least, bounds[0]), bounds[1])


def _largest(x: Tensor) -> float:
    """The largest absolute value."""
    return x.abs().max().item()

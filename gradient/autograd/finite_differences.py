"""Compare gradients with finite differences along a random direction, in float64.

For f and its inputs x, a direction v and weights w for the results, the derivative of
w . f(x + t v) at t = 0 is measured by a central difference with one step of Richardson's
extrapolation and compared with v . (the gradient of w . f). A check compares one number: this is
fast for inputs of any size, and finds an error in any element with probability one. Inputs are also
tested with memory that is not contiguous. A complex number is treated as two real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradient.autograd.engine import grad
from gradient.autograd.modes import enable_grad, no_grad
from gradient.autograd.variable import Variable, wrap


class Checks(NamedTuple):
    """What is compared, and the tolerances: the arguments of `gradcheck`."""

    eps: float
    atol: float
    rtol: float
    nondet_tol: float
    undefined: bool
    dtypes: bool
    forward: bool
    backward: bool

    def alike(self, a: float, b: float, scale: float = 0.0) -> bool:
        """Whether two numbers are equal within the tolerances; NaN equals nothing."""
        return abs(a - b) <= self.atol + self.rtol * max(abs(a), abs(b), scale)


def results_of(value: Any) -> list[Any]:
    """Return the floating-point tensors of a result."""
    values = [value] if isinstance(value, Variable) else list(value)
    return [v for v in values if isinstance(v, Variable) and v.array.dtype.kind in "fVc"]


def tensor_like(values: np.ndarray, tensor: Any) -> Any:
    backend = tensor.backend
    return wrap(backend.asarray(np.asarray(values, _wide(values))), backend)


def _host(tensor: Any) -> np.ndarray:
    return np.asarray(tensor.backend.to_numpy(tensor.array), _wide(tensor.array))


def _wide(values: Any) -> type:
    return np.complex128 if values.dtype.kind == "c" else np.float64


def normal_like(rng: np.random.Generator, tensor: Any) -> np.ndarray:
    """Draw normal numbers of a tensor's shape, complex ones for a complex tensor."""
    shape = tuple(tensor.array.shape)
    values = rng.standard_normal(shape)
    if tensor.array.dtype.kind == "c":
        return np.asarray(values + 1j * rng.standard_normal(shape))
    return values


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    """Return the dot product; complex numbers count as pairs of real ones."""
    return float((np.conj(a) * b).real.sum())


def _placed(values: np.ndarray, tensor: Any, layout: str) -> Any:
    """Make a leaf with these values on the tensor's backend. If its memory is not to be contiguous,
    it is every second element of a larger array."""
    if layout == "not contiguous" and values.ndim:
        wide = np.zeros((*values.shape[:-1], 2 * values.shape[-1]), values.dtype)
        wide[..., ::2] = values
        backend = tensor.backend
        array = backend.getitem(backend.asarray(wide), (..., slice(None, None, 2)))
        leaf = wrap(array, backend)
    else:
        leaf = tensor_like(values.copy(), tensor)
    leaf.requires_grad = tensor.node is not None
    return leaf


def compare(
    func: Callable[..., Any],
    args: Sequence[Any],
    checked: Sequence[int],
    layout: str,
    rng: np.random.Generator,
    checks: Checks,
) -> str | None:
    """Check the derivative along a random direction. Return None if it is right, else a report."""
    points = {i: _host(args[i]) for i in checked}
    with enable_grad():
        leaves = [_placed(points[i], a, layout) if i in points else a for i, a in enumerate(args)]
        outs = results_of(func(*leaves))
        weights = [normal_like(rng, o) for o in outs]
        live = [(o, w) for o, w in zip(outs, weights, strict=True) if o.node is not None]
        graph = Graph([o for o, _ in live], [leaves[i] for i in checked], [w for _, w in live])
        grads = graph.gradients()
        if checks.backward and (report := graph.inconsistency(grads, checks)):
            return f"gradcheck: {report} ({layout})"

    def value(i: int, direction: np.ndarray, t: float) -> float:
        moved = [
            _placed(points[j] + t * direction if j == i else points[j], a, layout)
            if j in points
            else a
            for j, a in enumerate(args)
        ]
        with no_grad():
            results = results_of(func(*moved))
        return sum(_dot(_host(r), w) for r, w in zip(results, weights, strict=True))

    for i, g in zip(checked, grads, strict=True):
        v = normal_like(rng, args[i])
        norm = float(np.linalg.norm(v))
        v = v / norm if norm else v
        eps = checks.eps
        coarse = (value(i, v, eps) - value(i, v, -eps)) / (2 * eps)
        fine = (value(i, v, eps / 2) - value(i, v, -eps / 2)) / eps
        numeric = (4 * fine - coarse) / 3
        g_host = np.zeros_like(points[i]) if g is None else _host(g)
        analytic = _dot(g_host, v)
        scale = float(np.linalg.norm(g_host)) / max(norm, 1.0)
        if checks.backward and not checks.alike(numeric, analytic, scale):
            with enable_grad():
                return _report(i, layout, numeric, analytic, g_host, points[i], value, eps)
        if checks.forward:
            with enable_grad():
                tangent = graph.tangent(leaves[i], v)
            if not checks.alike(numeric, tangent, scale):
                return (
                    f"gradcheck: the derivative in a direction for input {i} of shape "
                    f"{points[i].shape} is wrong ({layout}): by differences {numeric:.9g}, by "
                    f"the graph {tangent:.9g}"
                )
    return None


class Graph:
    """Results in the graph, the inputs to differentiate with respect to, and the weights w."""

    def __init__(self, outs: list[Any], inputs: list[Any], weights: list[np.ndarray]) -> None:
        self.outs, self.inputs, self.weights = outs, inputs, weights

    def gradients(self) -> Sequence[Any]:
        """Return the gradient of w . f for each input; None stands for zeros."""
        return self._gradients(range(len(self.outs)))

    def _gradients(self, chosen: Sequence[int]) -> Sequence[Any]:
        if not chosen:
            return [None] * len(self.inputs)
        return grad(
            [self.outs[k] for k in chosen],
            self.inputs,
            [tensor_like(self.weights[k], self.outs[k]) for k in chosen],
            retain_graph=True,
            allow_unused=True,
        )

    def inconsistency(self, grads: Sequence[Any], checks: Checks) -> str | None:
        """Report gradients that are wrong without a look at the differences; None if none are."""
        again = self.gradients()
        several = checks.undefined and len(self.outs) > 1
        alone = [self._gradients([k]) for k in range(len(self.outs))] if several else []
        for i, (x, g, second) in enumerate(zip(self.inputs, grads, again, strict=True)):
            if g is None:
                continue
            if checks.dtypes and g.array.dtype != x.array.dtype:
                return f"the gradient for input {i} is {g.array.dtype}, the input {x.array.dtype}"
            found = _host(g)
            off = float(np.abs(found - _host(second)).max(initial=0))
            if off > checks.nondet_tol:
                return f"the gradient for input {i} differs by {off:.3g} in a second pass"
            parts = [_host(each[i]) for each in alone if each[i] is not None]
            if several:
                off = float(np.abs(sum(parts, np.zeros_like(found)) - found).max(initial=0))
                if not checks.alike(off, 0.0, float(np.abs(found).max(initial=0))):
                    return (
                        f"the gradient for input {i} is not the sum of those of each result alone, "
                        f"without a gradient of the others: it differs by {off:.3g}"
                    )
        return None

    def tangent(self, x: Any, direction: np.ndarray) -> float:
        """Return w . (the Jacobian for x, times a direction). The gradient is linear in the
        results' gradients; its derivative with respect to these is the transpose."""
        if not self.outs:
            return 0.0
        cotangents = [
            tensor_like(np.zeros_like(w), o) for o, w in zip(self.outs, self.weights, strict=True)
        ]
        for cotangent in cotangents:
            cotangent.requires_grad = True
        (through,) = grad(self.outs, x, cotangents, create_graph=True, allow_unused=True)
        if through is None or through.node is None:
            return 0.0
        found = grad([through], cotangents, [tensor_like(direction, x)], allow_unused=True)
        pairs = zip(found, self.weights, strict=True)
        return sum(_dot(_host(part), w) for part, w in pairs if part is not None)


def _report(
    i: int,
    layout: str,
    numeric: float,
    analytic: float,
    g: np.ndarray,
    point: np.ndarray,
    value: Callable[[int, np.ndarray, float], float],
    eps: float,
) -> str:
    """Report the input and its worst elements, one by one."""
    flat = list(np.ndindex(point.shape))
    rng = np.random.default_rng(0)
    if len(flat) > 64:
        flat = [flat[k] for k in sorted(rng.choice(len(flat), 64, replace=False))]
    rows = []
    for at in flat:
        for part in (1, 1j) if point.dtype.kind == "c" else (1,):
            unit = np.zeros_like(point)
            unit[at] = part
            by_difference = (value(i, unit, eps) - value(i, unit, -eps)) / (2 * eps)
            analytic = _dot(g, unit)
            where = f"{list(at)}{'.imag' if part == 1j else ''}"
            rows.append((abs(by_difference - analytic), where, by_difference, analytic))
    rows.sort(key=lambda r: -r[0])
    lines = [f"  {at:>16}  {n:>14.6g}  {a:>14.6g}" for _, at, n, a in rows[:5]]
    return "\n".join(
        [
            f"gradcheck: the gradient for input {i} of shape {point.shape} is wrong ({layout})",
            f"  along a random direction: by differences {numeric:.9g}, by backward {analytic:.9g}",
            f"  {'worst elements':>16}  {'by differences':>14}  {'by backward':>14}",
            *lines,
        ]
    )

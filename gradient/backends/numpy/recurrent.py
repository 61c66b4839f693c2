"""Recurrent layers by kernels that compute all steps of some sequences."""

from __future__ import annotations

import numpy as np

from gradient.backends.composed.recurrent import RecurrentDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.numpy.kernels import contiguous


class RecurrentKernels(RecurrentDefaults[np.ndarray]):
    """Overrides of `composed.recurrent`."""

    def lstm(
        self, x: np.ndarray, h: np.ndarray, c: np.ndarray, weight: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        if not kernels.supports(x, h, c, weight):
            return super().lstm(x, h, c, weight)
        steps, n, _ = x.shape
        size = h.shape[-1]
        states, gates = np.empty((2, steps + 1, n, size), x.dtype), np.empty(x.shape, x.dtype)
        panels, width = _panels(weight, transposed=True)
        threads.parallel_for(
            kernels.load("recurrent").lstm, n, _together(n), contiguous(x).reshape(-1), panels,
            width, contiguous(h).reshape(-1), contiguous(c).reshape(-1), n, size, steps,
            states.reshape(-1), gates.reshape(-1),
        )  # fmt: skip
        return states, gates

    def lstm_grad(
        self, grad: np.ndarray, states: np.ndarray, gates: np.ndarray, weight: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        if not kernels.supports(gates, grad, states, weight):
            return super().lstm_grad(grad, states, gates, weight)
        (steps, n, _), size = gates.shape, states.shape[-1]
        grad_x = np.empty(gates.shape, gates.dtype)
        grad_h, grad_c = (np.empty((n, size), gates.dtype) for _ in range(2))
        panels, width = _panels(weight, transposed=False)
        threads.parallel_for(
            kernels.load("recurrent").lstm_grad, n, _together(n), contiguous(grad).reshape(-1),
            contiguous(states).reshape(-1), contiguous(gates).reshape(-1), panels, width, n, size,
            steps, grad_x.reshape(-1), grad_h.reshape(-1), grad_c.reshape(-1),
        )  # fmt: skip
        return grad_x, grad_h, grad_c, self._weight_grad(grad_x, states[0])

    def gru(
        self, x: np.ndarray, h: np.ndarray, weight: np.ndarray, bias: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        if not kernels.supports(x, h, weight, bias):
            return super().gru(x, h, weight, bias)
        (steps, n, _), size = x.shape, h.shape[-1]
        states, gates = _states(steps, h), np.empty((steps, n, 4 * size), x.dtype)
        panels, width = _panels(weight, transposed=True)
        threads.parallel_for(
            kernels.load("recurrent").gru, n, _together(n), contiguous(x).reshape(-1), panels,
            width, contiguous(bias), contiguous(h).reshape(-1), n, size, steps,
            states.reshape(-1), gates.reshape(-1),
        )  # fmt: skip
        return states, gates

    def gru_grad(
        self, grad: np.ndarray, states: np.ndarray, gates: np.ndarray, weight: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        if not kernels.supports(gates, grad, states, weight):
            return super().gru_grad(grad, states, gates, weight)
        (steps, n, _), size = gates.shape, states.shape[-1]
        grad_x, grad_hidden = (np.empty((steps, n, 3 * size), gates.dtype) for _ in range(2))
        grad_h = np.empty((n, size), gates.dtype)
        panels, width = _panels(weight, transposed=False)
        threads.parallel_for(
            kernels.load("recurrent").gru_grad, n, _together(n), contiguous(grad).reshape(-1),
            contiguous(states).reshape(-1), contiguous(gates).reshape(-1), panels, width, n, size,
            steps, grad_x.reshape(-1), grad_hidden.reshape(-1), grad_h.reshape(-1),
        )  # fmt: skip
        grad_weight = self._weight_grad(grad_hidden, states)
        return grad_x, grad_h, grad_weight, self.sum(grad_hidden, (0, 1))

    def rnn(self, x: np.ndarray, h: np.ndarray, weight: np.ndarray, relu: bool) -> np.ndarray:
        if not kernels.supports(x, h, weight):
            return super().rnn(x, h, weight, relu)
        (steps, n, _), size = x.shape, h.shape[-1]
        states = _states(steps, h)
        panels, width = _panels(weight, transposed=True)
        threads.parallel_for(
            kernels.load("recurrent").rnn, n, _together(n), contiguous(x).reshape(-1), panels,
            width, contiguous(h).reshape(-1), n, size, steps, relu, states.reshape(-1),
        )  # fmt: skip
        return states

    def rnn_grad(
        self, grad: np.ndarray, states: np.ndarray, weight: np.ndarray, relu: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not kernels.supports(states, grad, weight):
            return super().rnn_grad(grad, states, weight, relu)
        after, n, size = states.shape
        steps = after - 1
        grad_x, grad_h = np.empty((steps, n, size), states.dtype), np.empty_like(states[0])
        panels, width = _panels(weight, transposed=False)
        threads.parallel_for(
            kernels.load("recurrent").rnn_grad, n, _together(n), contiguous(grad).reshape(-1),
            contiguous(states).reshape(-1), panels, width, n, size, steps, relu,
            grad_x.reshape(-1), grad_h.reshape(-1),
        )  # fmt: skip
        return grad_x, grad_h, self._weight_grad(grad_x, states)


def _states(steps: int, h: np.ndarray) -> np.ndarray:
    return np.empty((steps + 1, *h.shape), h.dtype)


def _together(n: int) -> int:
    """How many of n sequences a thread takes at a time: groups of equal size, even in number, so
    that two threads end together, up to the size of a product's tile."""
    most = kernels.load("recurrent").SEQUENCES
    groups = -(-n // most)
    groups += groups % 2 if n > most // 2 else 0
    return -(-n // groups)


def _panels(weight: np.ndarray, transposed: bool) -> tuple[np.ndarray, int]:
    """A matrix, or its transpose, in panels, and the number of their columns."""
    family = kernels.load("recurrent")
    weight = contiguous(weight)
    depth, columns = weight.shape[::-1] if transposed else weight.shape
    count = -(-columns // family.PANEL)
    panels = np.empty(count * depth * family.PANEL, weight.dtype)
    threads.parallel_for(
        family.pack, count, 4, weight.reshape(-1), transposed, depth, columns, panels
    )
    return panels, count * family.PANEL

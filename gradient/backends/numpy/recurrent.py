"""Recurrent layers by kernels that take some sequences through all steps."""

from __future__ import annotations

import numpy as np

from gradient.backends.composed.recurrent import RecurrentDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.numpy.kernels import contiguous

SEQUENCES = 8
"""Sequences that a thread takes at a time: as many as a tile of a product has rows. Tiles of 12 use
a core a little better, and divide a batch among threads worse."""

SPARE = 3
"""Rows behind those of an operand, which a product reads where their number is no multiple of 4."""


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
        states[0, 0], states[1, 0] = h, c
        panels = _panels(weight.T)
        threads.parallel_for(
            kernels.load("recurrent").lstm, n, SEQUENCES, x.reshape(-1), panels.reshape(-1),
            len(panels) * panels.shape[-1], n, size, steps, states.reshape(-1), gates.reshape(-1),
        )  # fmt: skip
        return states, gates

    def lstm_grad(
        self, grad: np.ndarray, states: np.ndarray, gates: np.ndarray, weight: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        if not kernels.supports(gates, grad, states, weight):
            return super().lstm_grad(grad, states, gates, weight)
        (steps, n, four), size = gates.shape, states.shape[-1]
        rows = np.empty((steps * n + SPARE, four), gates.dtype)[: steps * n]
        grad_h, grad_c = (np.empty((n, size), gates.dtype) for _ in range(2))
        panels = _panels(weight)
        threads.parallel_for(
            kernels.load("recurrent").lstm_grad, n, SEQUENCES, contiguous(grad).reshape(-1),
            contiguous(states).reshape(-1), gates.reshape(-1), panels.reshape(-1),
            len(panels) * panels.shape[-1], n, size, steps, rows.reshape(-1), grad_h.reshape(-1),
            grad_c.reshape(-1),
        )  # fmt: skip
        grad_weight = self._weight_grad(rows.reshape(gates.shape), states[0])
        return rows.reshape(gates.shape), grad_h, grad_c, grad_weight

    def gru(
        self, x: np.ndarray, h: np.ndarray, weight: np.ndarray, bias: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        if not kernels.supports(x, h, weight, bias):
            return super().gru(x, h, weight, bias)
        (steps, n, _), size = x.shape, h.shape[-1]
        states, gates = _states(steps, h), np.empty((steps, n, 4 * size), x.dtype)
        panels = _panels(weight.T)
        threads.parallel_for(
            kernels.load("recurrent").gru, n, SEQUENCES, contiguous(x).reshape(-1),
            panels.reshape(-1), len(panels) * panels.shape[-1], contiguous(bias), n, size, steps,
            states.reshape(-1), gates.reshape(-1),
        )  # fmt: skip
        return states, gates

    def gru_grad(
        self, grad: np.ndarray, states: np.ndarray, gates: np.ndarray, weight: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        if not kernels.supports(gates, grad, states, weight):
            return super().gru_grad(grad, states, gates, weight)
        (steps, n, _), size = gates.shape, states.shape[-1]
        grad_x, grad_h = np.empty((steps, n, 3 * size), gates.dtype), np.empty_like(states[0])
        hidden = np.empty((steps * n + SPARE, 3 * size), gates.dtype)[: steps * n]
        panels = _panels(weight)
        threads.parallel_for(
            kernels.load("recurrent").gru_grad, n, SEQUENCES, contiguous(grad).reshape(-1),
            contiguous(states).reshape(-1), contiguous(gates).reshape(-1), panels.reshape(-1),
            len(panels) * panels.shape[-1], n, size, steps, grad_x.reshape(-1), hidden.reshape(-1),
            grad_h.reshape(-1),
        )  # fmt: skip
        grad_weight = self._weight_grad(hidden.reshape(grad_x.shape), states)
        return grad_x, grad_h, grad_weight, self.sum(hidden, 0)

    def rnn(self, x: np.ndarray, h: np.ndarray, weight: np.ndarray, relu: bool) -> np.ndarray:
        if not kernels.supports(x, h, weight):
            return super().rnn(x, h, weight, relu)
        (steps, n, _), size = x.shape, h.shape[-1]
        states, panels = _states(steps, h), _panels(weight.T)
        threads.parallel_for(
            kernels.load("recurrent").rnn, n, SEQUENCES, contiguous(x).reshape(-1),
            panels.reshape(-1), len(panels) * panels.shape[-1], n, size, steps, relu,
            states.reshape(-1),
        )  # fmt: skip
        return states

    def rnn_grad(
        self, grad: np.ndarray, states: np.ndarray, weight: np.ndarray, relu: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not kernels.supports(states, grad, weight):
            return super().rnn_grad(grad, states, weight, relu)
        after, n, size = states.shape
        steps = after - 1
        rows, grad_h = np.empty((steps * n + SPARE, size), states.dtype), np.empty_like(states[0])
        panels = _panels(weight)
        threads.parallel_for(
            kernels.load("recurrent").rnn_grad, n, SEQUENCES, contiguous(grad).reshape(-1),
            contiguous(states).reshape(-1), panels.reshape(-1), len(panels) * panels.shape[-1], n,
            size, steps, relu, rows.reshape(-1), grad_h.reshape(-1),
        )  # fmt: skip
        grad_x = rows[: steps * n].reshape(steps, n, size)
        return grad_x, grad_h, self._weight_grad(grad_x, states)


def _states(steps: int, h: np.ndarray) -> np.ndarray:
    """States (T + 1, N, H) that begin with h, and spare rows behind them."""
    n, size = h.shape
    states = np.empty(((steps + 1) * n + SPARE, size), h.dtype)[: (steps + 1) * n]
    states = states.reshape(steps + 1, n, size)
    states[0] = h
    return states


def _panels(weight: np.ndarray) -> np.ndarray:
    """A matrix (K, N) as panels (N / PANEL, K, PANEL), filled up with zeros."""
    width = kernels.load("recurrent").PANEL
    depth, columns = weight.shape
    panels = np.zeros((-(-columns // width), depth, width), weight.dtype)
    for panel, j in zip(panels, range(0, columns, width), strict=True):
        panel[:, : columns - j] = weight[:, j : j + width]
    return panels

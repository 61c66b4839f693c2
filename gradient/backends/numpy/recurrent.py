"""Recurrent layers by kernels that take some sequences through all steps."""

from __future__ import annotations

import numpy as np

from gradient.backends.composed.recurrent import RecurrentDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.numpy.kernels import contiguous

SEQUENCES = 12
"""Sequences that a thread takes at a time: as many as a tile of a product has rows."""

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
        held = states[0, :steps].reshape(steps * n, size)
        return rows.reshape(gates.shape), grad_h, grad_c, self.matmul(rows.T, held)


def _panels(weight: np.ndarray) -> np.ndarray:
    """A matrix (K, N) as panels (N / PANEL, K, PANEL), filled up with zeros."""
    width = kernels.load("recurrent").PANEL
    depth, columns = weight.shape
    panels = np.zeros((-(-columns // width), depth, width), weight.dtype)
    for panel, j in zip(panels, range(0, columns, width), strict=True):
        panel[:, : columns - j] = weight[:, j : j + width]
    return panels

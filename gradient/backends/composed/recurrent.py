"""Recurrent layers: all steps of one layer in one direction.

Hochreiter and Schmidhuber 1997, "Long Short-Term Memory", with the forget gate of Gers et al. 2000.

Dimensions:
    T  steps    N  sequences    H  hidden size
"""

from __future__ import annotations

from gradient.backends.composed.elementwise import ElementwiseDefaults
from gradient.backends.composed.precision import in_float32
from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.required import Array


class RecurrentDefaults(ElementwiseDefaults[Array], ShapeDefaults[Array]):
    """Methods of `Backend` for recurrent layers."""

    @in_float32
    def lstm(self, x: Array, h: Array, c: Array, weight: Array) -> tuple[Array, Array]:
        """States (2, T + 1, N, H), h and c before and after each step, and gates (T, N, 4 H).

        x (T, N, 4 H) is the input's share of the gates i, f, g, o before their activations, weight
        (4 H, H) gives that of h (N, H):

            c' = sigmoid(f) c + sigmoid(i) tanh(g),    h' = sigmoid(o) tanh(c')

        The gates are returned with their activations.
        """
        across = self.permute(weight, (1, 0))
        hs, cs, gates = [h], [c], []
        for t in range(x.shape[0]):
            i, f, g, o = self._quarters(self.getitem(x, (t,)) + self.matmul(h, across))
            i, f, g, o = self.sigmoid(i), self.sigmoid(f), self.tanh(g), self.sigmoid(o)
            c = f * c + i * g
            h = o * self.tanh(c)
            hs.append(h)
            cs.append(c)
            gates.append(self.concatenate([i, f, g, o], -1))
        states = self.concatenate([self._stacked(hs), self._stacked(cs)], 0)
        return self.reshape(states, (2, len(hs), *h.shape)), self._stacked(gates)

    @in_float32
    def lstm_grad(
        self, grad: Array, states: Array, gates: Array, weight: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Gradients for x, h, c and weight, of the gradient for the states."""
        steps, n, rows = gates.shape
        grad_h, grad_c = self.getitem(grad, (0, steps)), self.getitem(grad, (1, steps))
        found = []
        for t in reversed(range(steps)):
            i, f, g, o = self._quarters(self.getitem(gates, (t,)))
            before, after = self.getitem(states, (1, t)), self.getitem(states, (1, t + 1))
            high = self.tanh(after)
            grad_c = grad_c + grad_h * o * (1 - high * high)
            parts = [
                grad_c * g * i * (1 - i),
                grad_c * before * f * (1 - f),
                grad_c * i * (1 - g * g),
                grad_h * high * o * (1 - o),
            ]
            found.append(self.concatenate(parts, -1))
            grad_h = self.getitem(grad, (0, t)) + self.matmul(found[-1], weight)
            grad_c = self.getitem(grad, (1, t)) + grad_c * f
        grad_x = self._stacked(found[::-1])
        held = self.reshape(self.getitem(states, (0, slice(0, steps))), (steps * n, rows // 4))
        grad_rows = self.permute(self.reshape(grad_x, (steps * n, rows)), (1, 0))
        return grad_x, grad_h, grad_c, self.matmul(grad_rows, held)

    def _quarters(self, gates: Array) -> list[Array]:
        size = gates.shape[-1] // 4
        starts = range(0, 4 * size, size)
        return [self.getitem(gates, (..., slice(start, start + size))) for start in starts]

    def _stacked(self, arrays: list[Array]) -> Array:
        """Arrays of one shape, along a new first axis."""
        return self.concatenate([self.reshape(x, (1, *x.shape)) for x in arrays], 0)

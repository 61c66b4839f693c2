"""Recurrent layers: all steps of one layer in one direction.

rnn: Elman 1990, "Finding Structure in Time". lstm: Hochreiter and Schmidhuber 1997, "Long
Short-Term Memory", with the forget gate of Gers et al. 2000. gru: Cho et al. 2014, "Learning Phrase
Representations using RNN Encoder-Decoder", with the reset gate behind the product, as PyTorch.

Dimensions:
    T  steps    N  sequences    H  hidden size
"""

from __future__ import annotations

from gradient.backends.composed.activation import ActivationDefaults
from gradient.backends.composed.precision import in_float32
from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.required import Array


class RecurrentDefaults(ActivationDefaults[Array], ShapeDefaults[Array]):
    """Methods of `Backend` for recurrent layers."""

    @in_float32
    def lstm(self, x: Array, h: Array, c: Array, weight: Array) -> tuple[Array, Array]:
        """Return states (2, T + 1, N, H), h and c before and after each step, and gates
        (T, N, 4 H).

        x (T, N, 4 H) has the input's terms of the gates i, f, g, o before their activations; weight
        (4 H, H) computes those of h (N, H):

            c' = sigmoid(f) c + sigmoid(i) tanh(g),    h' = sigmoid(o) tanh(c')

        The gates are returned with their activations.
        """
        across = self.permute(weight, (1, 0))
        hs, cs, gates = [h], [c], []
        for t in range(x.shape[0]):
            i, f, g, o = self._split(self.getitem(x, (t,)) + self.matmul(h, across), 4)
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
        """Gradients for x, h, c and weight, from the gradient for the states."""
        steps = gates.shape[0]
        grad_h, grad_c = self.getitem(grad, (0, steps)), self.getitem(grad, (1, steps))
        found = []
        for t in reversed(range(steps)):
            i, f, g, o = self._split(self.getitem(gates, (t,)), 4)
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
        grad_weight = self._weight_grad(grad_x, self.getitem(states, (0,)))
        return grad_x, grad_h, grad_c, grad_weight

    @in_float32
    def gru(self, x: Array, h: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
        """Return states (T + 1, N, H), h before and after each step, and gates (T, N, 4 H).

        x (T, N, 3 H) has the input's terms of r, z, n; weight (3 H, H) and bias (3 H,) compute
        those of h (N, H), of which q is the last third:

            r = sigmoid(.), z = sigmoid(.), n = tanh(x_n + r q),    h' = (1 - z) n + z h

        The gates are returned with their activations, as r, z, n, q.
        """
        across = self.permute(weight, (1, 0))
        size = h.shape[-1]
        both, last = (..., slice(0, 2 * size)), (..., slice(2 * size, 3 * size))
        hs, gates = [h], []
        for t in range(x.shape[0]):
            from_input, from_hidden = self.getitem(x, (t,)), self.matmul(h, across) + bias
            r, z = self._split(
                self.sigmoid(self.getitem(from_input, both) + self.getitem(from_hidden, both)), 2
            )
            q = self.getitem(from_hidden, last)
            n = self.tanh(self.getitem(from_input, last) + r * q)
            h = (h - n) * z + n
            hs.append(h)
            gates.append(self.concatenate([r, z, n, q], -1))
        return self._stacked(hs), self._stacked(gates)

    @in_float32
    def gru_grad(
        self, grad: Array, states: Array, gates: Array, weight: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Gradients for x, h, weight and bias, from the gradient for the states."""
        steps = gates.shape[0]
        grad_h = self.getitem(grad, (steps,))
        for_input, for_hidden = [], []
        for t in reversed(range(steps)):
            r, z, n, q = self._split(self.getitem(gates, (t,)), 4)
            grad_n = grad_h * (1 - z) * (1 - n * n)
            grad_r = grad_n * q * r * (1 - r)
            grad_z = grad_h * (self.getitem(states, (t,)) - n) * z * (1 - z)
            for_input.append(self.concatenate([grad_r, grad_z, grad_n], -1))
            for_hidden.append(self.concatenate([grad_r, grad_z, grad_n * r], -1))
            through = grad_h * z + self.matmul(for_hidden[-1], weight)
            grad_h = self.getitem(grad, (t,)) + through
        grad_hidden = self._stacked(for_hidden[::-1])
        grad_weight = self._weight_grad(grad_hidden, states)
        return self._stacked(for_input[::-1]), grad_h, grad_weight, self.sum(grad_hidden, (0, 1))

    @in_float32
    def rnn(self, x: Array, h: Array, weight: Array, relu: bool) -> Array:
        """Return states (T + 1, N, H), h before and after each step.

        x (T, N, H) has the input's terms; weight (H, H) computes those of h (N, H):

            h' = tanh(x + W h),    or with relu instead of tanh
        """
        across = self.permute(weight, (1, 0))
        hs = [h]
        for t in range(x.shape[0]):
            total = self.getitem(x, (t,)) + self.matmul(h, across)
            h = self.relu(total) if relu else self.tanh(total)
            hs.append(h)
        return self._stacked(hs)

    @in_float32
    def rnn_grad(
        self, grad: Array, states: Array, weight: Array, relu: bool
    ) -> tuple[Array, Array, Array]:
        """Gradients for x, h and weight, from the gradient for the states."""
        steps = states.shape[0] - 1
        grad_h = self.getitem(grad, (steps,))
        found = []
        for t in reversed(range(steps)):
            after = self.getitem(states, (t + 1,))
            if relu:
                found.append(self.where(after <= 0, self.full((), 0, grad.dtype), grad_h))
            else:
                found.append(grad_h * (1 - after * after))
            grad_h = self.getitem(grad, (t,)) + self.matmul(found[-1], weight)
        grad_x = self._stacked(found[::-1])
        return grad_x, grad_h, self._weight_grad(grad_x, states)

    def _weight_grad(self, grad: Array, states: Array) -> Array:
        """The gradient (rows, H) for the weight of h, from grad (T, N, rows) and states
        (T + 1, N, H)."""
        steps, n, rows = grad.shape
        held = self.reshape(self.getitem(states, (slice(0, steps),)), (steps * n, states.shape[-1]))
        return self.matmul(self.permute(self.reshape(grad, (steps * n, rows)), (1, 0)), held)

    def _split(self, gates: Array, parts: int) -> list[Array]:
        """Split the last axis into equal parts."""
        size = gates.shape[-1] // parts
        starts = range(0, parts * size, size)
        return [self.getitem(gates, (..., slice(start, start + size))) for start in starts]

    def _stacked(self, arrays: list[Array]) -> Array:
        """Stack arrays of one shape along a new first axis."""
        return self.concatenate([self.reshape(x, (1, *x.shape)) for x in arrays], 0)

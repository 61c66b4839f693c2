"""All steps of a recurrent layer in one direction.

For formulas and their sources see `gradient.backends.composed.recurrent`. T is the number of steps,
N the number of sequences, H the hidden size. The rules of `lstm` and `gru` name all inputs, because
they use saved gates (see `gradient.autograd.op`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradient.autograd.op import op

if TYPE_CHECKING:
    from gradient.backends import Array, Backend


@op(lambda g, be, weight, out, relu: be.rnn_grad(g, out, weight, relu),
    promotion="same_float", autocast="lower_precision")  # fmt: skip
def rnn(be: Backend[Array], x: Array, h: Array, weight: Array, /, *, relu: bool = False) -> Array:
    """h before and after each step (T + 1, N, H), for x (T, N, H) and weight (H, H)."""
    return be.rnn(x, h, weight, relu)


@op(lambda g, be, x, h, c, weight, out, gates: be.lstm_grad(g, out, gates, weight),
    promotion="same_float", autocast="lower_precision")  # fmt: skip
def lstm(
    be: Backend[Array], x: Array, h: Array, c: Array, weight: Array, /
) -> tuple[Array, dict[str, Array]]:
    """h and c before and after each step (2, T + 1, N, H); x (T, N, 4 H), weight (4 H, H)."""
    states, gates = be.lstm(x, h, c, weight)
    return states, {"gates": gates}


@op(lambda g, be, x, h, weight, bias, out, gates: be.gru_grad(g, out, gates, weight),
    promotion="same_float", autocast="lower_precision")  # fmt: skip
def gru(
    be: Backend[Array], x: Array, h: Array, weight: Array, bias: Array, /
) -> tuple[Array, dict[str, Array]]:
    """h before and after each step (T + 1, N, H); x (T, N, 3 H), weight (3 H, H), bias (3 H)."""
    states, gates = be.gru(x, h, weight, bias)
    return states, {"gates": gates}


@op(lambda g, be, x, h, c, weight_ih, weight_hh, bias_ih, bias_hh, states, gates:
    lstm_cell_grad(be, g, x, weight_ih, weight_hh, bias_ih, states, gates),
    promotion="same_float", autocast="lower_precision")  # fmt: skip
def lstm_cell(
    be: Backend[Array],
    x: Array,
    h: Array,
    c: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    /,
) -> tuple[list[Array], dict[str, Array]]:
    """The next h and c (N, H) for x (N, input_size), weights (4 H, input_size) and (4 H, H)."""
    bias = None if bias_ih is None or bias_hh is None else bias_ih + bias_hh
    from_input = be.linear(x, weight_ih, bias)
    states, gates = be.lstm(be.reshape(from_input, (1, *from_input.shape)), h, c, weight_hh)
    # Each in memory of its own, as a user may write to it.
    after = [be.copy(be.getitem(states, (i, 1))) for i in (0, 1)]
    return after, {"states": states, "gates": gates}


def lstm_cell_grad(
    be: Backend, g: Any, x: Any, weight_ih: Any, weight_hh: Any, bias: Any, states: Any, gates: Any
) -> Any:
    none = be.zeros_like(g[0])  # of h and c before the step
    grad = be.reshape(be.stack([none, g[0], none, g[1]], 0), (2, 2, *none.shape))
    grad_gates, grad_h, grad_c, grad_weight = be.lstm_grad(grad, states, gates, weight_hh)
    grad_gates = be.reshape(grad_gates, tuple(grad_gates.shape[1:]))
    grad_bias = None if bias is None else be.sum(grad_gates, 0)
    grad_x, grad_ih = input_grads(be, grad_gates, x, weight_ih)
    return grad_x, grad_h, grad_c, grad_ih, grad_weight, grad_bias, grad_bias


@op(lambda g, be, x, h, weight_ih, weight_hh, bias_ih, bias_hh, states, gates:
    gru_cell_grad(be, g, x, weight_ih, weight_hh, bias_ih, states, gates),
    promotion="same_float", autocast="lower_precision")  # fmt: skip
def gru_cell(
    be: Backend[Array],
    x: Array,
    h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    /,
) -> tuple[Array, dict[str, Array]]:
    """The next h (N, H) for x (N, input_size), weights (3 H, input_size) and (3 H, H)."""
    from_input = be.linear(x, weight_ih, bias_ih)
    bias = be.zeros(tuple(weight_hh.shape[:1]), weight_hh.dtype) if bias_hh is None else bias_hh
    states, gates = be.gru(be.reshape(from_input, (1, *from_input.shape)), h, weight_hh, bias)
    return be.copy(be.getitem(states, (1,))), {"states": states, "gates": gates}


def gru_cell_grad(
    be: Backend, g: Any, x: Any, weight_ih: Any, weight_hh: Any, bias: Any, states: Any, gates: Any
) -> Any:
    grad = be.stack([be.zeros_like(g), g], 0)
    grad_gates, grad_h, grad_weight, grad_hh = be.gru_grad(grad, states, gates, weight_hh)
    grad_gates = be.reshape(grad_gates, tuple(grad_gates.shape[1:]))
    grad_x, grad_ih = input_grads(be, grad_gates, x, weight_ih)
    biases = (None, None) if bias is None else (be.sum(grad_gates, 0), grad_hh)
    return grad_x, grad_h, grad_ih, grad_weight, *biases


def input_grads(be: Backend, grad: Any, x: Any, weight: Any) -> tuple[Any, Any]:
    """The gradients of x (N, in) and weight (out, in), from that of their product (N, out)."""
    return be.matmul(grad, weight), be.matmul(be.permute(grad, (1, 0)), x)

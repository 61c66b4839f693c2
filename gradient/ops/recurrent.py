"""All steps of a recurrent layer in one direction.

For formulas and their sources see `gradient.backends.composed.recurrent`. T is the number of steps,
N the number of sequences, H the hidden size. The rules of `lstm` and `gru` name all inputs, because
they use saved gates (see `gradient.autograd.op`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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

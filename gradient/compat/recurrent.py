"""Recurrent layers as functions of their weights: `gradient.lstm`, `lstm_cell` and their like.

A list of weights is, for each layer and direction, (weight_ih, weight_hh), with `has_biases` also
(bias_ih, bias_hh), and of an LSTM that projects its state weight_hr.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradient import nn
from gradient.autograd.forwarding import forwarded
from gradient.errors import ArgumentError, sentence
from gradient.functional import linear
from gradient.nn.packed_sequence import PackedSequence
from gradient.nn.recurrent import _GRU, _LSTM
from gradient.tensor import Tensor


class _Weights:
    """The weights of a layer, which makes none of its own."""

    def _add_weights(self, *arguments: Any) -> None:
        pass

    def reset_parameters(self) -> None:
        pass


class _GivenRNN(_Weights, nn.RNN):
    pass


class _GivenLSTM(_Weights, nn.LSTM):
    pass


class _GivenGRU(_Weights, nn.GRU):
    pass


def _run(kind: Any, input: Any, hx: Any, *rest: Any, **named: Any) -> tuple[Tensor, ...]:
    """(h at all times, final states) of `rest`: PyTorch's arguments of a sequence that is padded,
    or, if `hx` is no state but the weights, of one that is packed."""
    packed = not isinstance(rest[1], bool)
    if packed:  # data, batch_sizes, hx, params, ...
        sizes, hx, rest = hx, rest[0], (*rest[1:], False)
    params, has_biases, num_layers, dropout, train, bidirectional, batch_first = rest
    first = params[0]
    directions = 2 if bidirectional else 1
    per_layer = len(params) // max(num_layers * directions, 1)
    hidden, size = params[1].shape[0] // kind.gates, params[1].shape[1]
    if per_layer * num_layers * directions != len(params):
        expected = f"as many weights for each of {num_layers * directions} layers"
        raise ArgumentError(sentence(kind.__name__[6:].lower(), expected, len(params)))
    projected = {"proj_size": size} if size != hidden else {}
    layer = kind(
        first.shape[1], hidden, num_layers, bias=has_biases, batch_first=batch_first,
        dropout=dropout, bidirectional=bidirectional, **projected, **named,
    ).train(train)  # fmt: skip
    names = ["weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if has_biases else ())]
    names += ["weight_hr"] if projected else []
    suffixes = [f"_l{n}{d}" for n in range(num_layers) for d in layer.directions]
    for name in ("bias_ih", "bias_hh"):
        vars(layer).update({name + suffix: None for suffix in suffixes})
    keys = [name + suffix for suffix in suffixes for name in names]
    vars(layer).update(zip(keys, params, strict=True))
    state = tuple(hx) if kind.states > 1 else hx
    output, final = layer(PackedSequence(input, sizes) if packed else input, state)
    output = output.data if packed else output
    return (output, *final) if kind.states > 1 else (output, final)


def lstm(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """`lstm(input, (h, c), params, has_biases, num_layers, dropout, train, bidirectional,
    batch_first)`, or of a packed sequence `lstm(data, batch_sizes, (h, c), params, has_biases,
    num_layers, dropout, train, bidirectional)`: h at all times, and the final h and c."""
    output, h, c = _run(_GivenLSTM, *args)
    return output, h, c


def gru(*args: Any) -> tuple[Tensor, Tensor]:
    """As `lstm`, with h as the state: h at all times, and the final one."""
    output, h = _run(_GivenGRU, *args)
    return output, h


def rnn_tanh(*args: Any) -> tuple[Tensor, Tensor]:
    """As `gru`."""
    output, h = _run(_GivenRNN, *args, nonlinearity="tanh")
    return output, h


def rnn_relu(*args: Any) -> tuple[Tensor, Tensor]:
    """As `gru`."""
    output, h = _run(_GivenRNN, *args, nonlinearity="relu")
    return output, h


def _shares(
    input: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None, b_hh: Tensor | None
) -> tuple[Tensor, Tensor]:
    return linear(input, w_ih, b_ih), linear(h, w_hh, b_hh)


@forwarded
def lstm_cell(
    input: Tensor,
    hx: Sequence[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The next (h, c) of one step of an LSTM, `hx` being those before."""
    state = (hx[0], hx[1])
    step: Any = _LSTM._step
    h, c = step(None, *_shares(input, state[0], w_ih, w_hh, b_ih, b_hh), state)
    return h, c


def _cell(name: str, of: str, following: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Any:
    """The next h of one step, of the input's and the state's share of the gates, and of h."""

    def cell(
        input: Tensor,
        hx: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Tensor:
        return following(*_shares(input, hx, w_ih, w_hh, b_ih, b_hh), hx)

    cell.__name__ = cell.__qualname__ = name
    cell.__doc__ = f"The next h of one step of {of}."
    return forwarded(cell)


def _gru(x: Tensor, share: Tensor, h: Tensor) -> Tensor:
    step: Any = _GRU._step
    (found,) = step(None, x, share, (h,))
    following: Tensor = found
    return following


gru_cell = _cell("gru_cell", "a GRU", _gru)
rnn_tanh_cell = _cell("rnn_tanh_cell", "an RNN with tanh", lambda x, share, _: (x + share).tanh())
rnn_relu_cell = _cell("rnn_relu_cell", "an RNN with relu", lambda x, share, _: (x + share).relu())

"""Base classes of recurrent layers and cells: their weights, and one step of each.

A step takes the input's part of the gates (computed for all steps in one product), the hidden
state's part, and the state, a tuple that begins with the hidden state h.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar, cast

from gradient import functional as F
from gradient.dtypes import DType
from gradient.errors import ArgumentError, TypeMismatch, sentence
from gradient.nn import init
from gradient.nn.module import Module
from gradient.nn.parameter import Parameter
from gradient.tensor import Tensor
from gradient.tensor.creation import empty
from gradient.tensor.device import DeviceLike

State = tuple[Tensor, ...]
#: A state in the user's form: h, or (h, c) for an LSTM.
Given = TypeVar("Given", Tensor, tuple[Tensor, Tensor])


def _sum(bias_ih: Tensor | None, bias_hh: Tensor | None) -> Tensor | None:
    return None if bias_ih is None or bias_hh is None else bias_ih + bias_hh


class _Recurrent(Module, Generic[Given]):
    """Base of layers and cells: weights for `gates` times the hidden size, and their init."""

    gates: int
    states = 1
    hidden_size: int
    output_size: int  # of h: hidden_size, unless an LSTM projects it

    def _add_weights(
        self, suffix: str, input_size: int, bias: bool, device: DeviceLike, dtype: DType | None
    ) -> None:
        rows = self.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, input_size),
            "weight_hh": (rows, self.output_size),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
        }
        if self.output_size != self.hidden_size:
            shapes["weight_hr"] = (self.output_size, self.hidden_size)
        for name, shape in shapes.items():
            present = bias or not name.startswith("bias")
            value = Parameter(empty(shape, device=device, dtype=dtype)) if present else None
            self.register_parameter(name + suffix, value)

    def _weights(self, suffix: str = "") -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weight_ih, weight_hh, bias_ih, bias_hh = (getattr(self, name + suffix) for name in names)
        return weight_ih, weight_hh, bias_ih, bias_hh

    def reset_parameters(self) -> None:
        """Draw all parameters uniformly from [-b, b], b = `1 / sqrt(hidden_size)`."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _step(self, from_input: Tensor, from_hidden: Tensor, state: State) -> State:
        raise NotImplementedError

    def _as_state(self, hx: Given) -> State:
        """The user's state as a tuple: a tensor, or two for an LSTM."""
        name = type(self).__name__
        if self.states > 1 and not (isinstance(hx, (tuple, list)) and len(hx) == self.states):
            raise TypeMismatch(sentence(name, "a tuple (h, c) as hx", type(hx).__name__))
        state = cast(State, tuple(hx) if self.states > 1 else (hx,))
        for part in state:
            if not isinstance(part, Tensor):
                raise TypeMismatch(sentence(name, "a Tensor as hx", type(part).__name__))
        return state

    def _as_given(self, state: State) -> Given:
        return cast(Given, state if self.states > 1 else state[0])


class _RNN(_Recurrent[Tensor]):
    gates = 1
    _activations: ClassVar[dict[str, Callable[[Tensor], Tensor]]] = {"tanh": F.tanh, "relu": F.relu}

    def _choose(self, nonlinearity: str) -> None:
        if nonlinearity not in self._activations:
            raise ArgumentError(f"RNN: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity

    def _step(self, from_input: Tensor, from_hidden: Tensor, state: State) -> State:
        return (self._activations[self.nonlinearity](from_input + from_hidden),)


class _LSTM(_Recurrent[tuple[Tensor, Tensor]]):
    gates, states = 4, 2

    def _step(self, from_input: Tensor, from_hidden: Tensor, state: State) -> State:
        i, f, g, o = (from_input + from_hidden).chunk(4, -1)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class _GRU(_Recurrent[Tensor]):
    gates = 3

    def _step(self, from_input: Tensor, from_hidden: Tensor, state: State) -> State:
        (xr, xz, xn), (hr, hz, hn) = from_input.chunk(3, -1), from_hidden.chunk(3, -1)
        z = (xz + hz).sigmoid()
        n = (xn + (xr + hr).sigmoid() * hn).tanh()
        return ((1 - z) * n + z * state[0],)

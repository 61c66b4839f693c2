"""RNNCell, LSTMCell and GRUCell: one step of a recurrent layer."""

from __future__ import annotations

from gradient import functional as F
from gradient.dtypes import DType
from gradient.errors import ShapeError, sentence
from gradient.nn.printing import changed
from gradient.nn.recurrent import _GRU, _LSTM, _RNN, Given, _Recurrent
from gradient.tensor import Tensor
from gradient.tensor.arguments import size_argument
from gradient.tensor.creation import zeros
from gradient.tensor.device import DeviceLike

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]


class _Cell(_Recurrent[Given]):
    """One step for an input (N, input_size) or (input_size,)."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        self.input_size = size_argument(type(self).__name__, "input_size", input_size)
        self.hidden_size = size_argument(type(self).__name__, "hidden_size", hidden_size)
        self.bias = bias
        self.output_size = hidden_size
        self._add_weights("", input_size, bias, device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor, hx: Given | None = None) -> Given:
        """Return the next state: h (N, hidden_size), or (h, c) for an LSTM. `hx` is the present
        state, zeros by default."""
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: expected an input (N, {self.input_size}) or "
                f"({self.input_size},), got {tuple(input.shape)}"
            )
        weight_ih, weight_hh, bias_ih, bias_hh = self._weights()
        if hx is None:
            shape = (*input.shape[:-1], self.hidden_size)
            state = (zeros(shape, dtype=input.dtype, device=input.device),) * self.states
        else:
            state = self._as_state(hx)
            wanted = (*input.shape[:-1], self.hidden_size)
            for part in state:
                if tuple(part.shape) != wanted:
                    got = tuple(part.shape)
                    raise ShapeError(sentence(type(self).__name__, f"a state of {wanted}", got))
        from_hidden = F.linear(state[0], weight_hh, bias_hh)
        return self._as_given(self._step(F.linear(input, weight_ih, bias_ih), from_hidden, state))

    def extra_repr(self) -> str:
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *changed(self, bias=True)])


class RNNCell(_RNN, _Cell[Tensor]):
    """One step of `RNN`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: DeviceLike = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self._choose(nonlinearity)

    def extra_repr(self) -> str:
        return ", ".join([super().extra_repr(), *changed(self, nonlinearity="tanh")])


class LSTMCell(_LSTM, _Cell[tuple[Tensor, Tensor]]):
    """One step of `LSTM`."""


class GRUCell(_GRU, _Cell[Tensor]):
    """One step of `GRU`."""

"""RNNCell, LSTMCell and GRUCell: one step of a recurrent layer."""

from __future__ import annotations

from gradient import functional as F
from gradient.autograd.modes import mode
from gradient.dtypes import DType, float32, float64
from gradient.errors import ShapeError, sentence
from gradient.nn.printing import changed
from gradient.nn.recurrent import _GRU, _LSTM, _RNN, Given, State, _Recurrent, _sum
from gradient.ops.recurrent import gru_cell, lstm_cell, rnn
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
        if self._has_kernel(input, weight_hh, *state):
            return self._as_given(self._at_once(input, state))
        from_hidden = F.linear(state[0], weight_hh, bias_hh)
        return self._as_given(self._step(F.linear(input, weight_ih, bias_ih), from_hidden, state))

    def _has_kernel(self, input: Tensor, *others: Tensor) -> bool:
        """Whether this is a step for a batch, in one precision, without autocast."""
        dtype = input.dtype
        alike = dtype in (float32, float64) and all(other.dtype is dtype for other in others)
        return alike and input.ndim == 2 and not mode.autocast

    def _at_once(self, input: Tensor, state: State) -> State:
        """One step by the kernel of a layer. The results have memory of their own, since a user may
        write to them."""
        raise NotImplementedError

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

    def _at_once(self, input: Tensor, state: State) -> State:
        weight_ih, weight_hh, bias_ih, bias_hh = self._weights()
        from_input = F.linear(input, weight_ih, _sum(bias_ih, bias_hh)).unsqueeze(0)
        states = rnn(from_input, state[0], weight_hh, relu=self.nonlinearity == "relu")
        return (states[1].clone(),)

    def extra_repr(self) -> str:
        return ", ".join([super().extra_repr(), *changed(self, nonlinearity="tanh")])


class LSTMCell(_LSTM, _Cell[tuple[Tensor, Tensor]]):
    """One step of `LSTM`."""

    def _at_once(self, input: Tensor, state: State) -> State:
        h, c = state
        weight_ih, weight_hh, bias_ih, bias_hh = self._weights()
        return tuple(lstm_cell(input, h, c, weight_ih, weight_hh, bias_ih, bias_hh))


class GRUCell(_GRU, _Cell[Tensor]):
    """One step of `GRU`."""

    def _at_once(self, input: Tensor, state: State) -> State:
        weight_ih, weight_hh, bias_ih, bias_hh = self._weights()
        return (gru_cell(input, state[0], weight_ih, weight_hh, bias_ih, bias_hh),)

"""RNN, LSTM and GRU over whole sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

from gradient import functional as F
from gradient.autograd.autocast import autocasts
from gradient.dtypes import DType
from gradient.errors import ArgumentError, ShapeError, sentence
from gradient.nn.packed_sequence import PackedSequence, equal_steps
from gradient.nn.printing import changed
from gradient.nn.recurrent import _GRU, _LSTM, _RNN, Given, State, _Recurrent, _sum
from gradient.ops.recurrent import gru, lstm, rnn
from gradient.source_lines import warn_user
from gradient.tensor import Tensor
from gradient.tensor.arguments import int_of, size_argument
from gradient.tensor.creation import zeros
from gradient.tensor.device import DeviceLike
from gradient.tensor.joining import cat, stack

__all__ = ["GRU", "LSTM", "RNN"]


class _Sequence(_Recurrent[Given]):
    """Recurrent layers over (T, N, input_size), or (N, T, input_size) with `batch_first`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        for label, size in (("hidden_size", hidden_size), ("num_layers", num_layers)):
            if int_of(name, label, size) < 1:
                raise ArgumentError(sentence(name, f"{label} of at least 1", size))
        size_argument(name, "input_size", input_size)
        if size_argument(name, "proj_size", proj_size) and (self.states == 1):
            raise ArgumentError(sentence(name, "no proj_size, which an LSTM alone has", proj_size))
        if proj_size >= hidden_size:
            raise ArgumentError(
                sentence(name, f"proj_size below hidden_size {hidden_size}", proj_size)
            )
        if isinstance(dropout, (bool, str)) or not 0 <= dropout <= 1:
            raise ArgumentError(sentence(name, "dropout, a probability from 0 to 1", repr(dropout)))
        if dropout > 0 and num_layers == 1:
            warn_user(
                f"{name}: dropout={dropout} does nothing with num_layers=1: it follows each layer "
                "but the last"
            )
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.output_size = proj_size or hidden_size
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.bidirectional = bidirectional
        self.directions = ("", "_reverse") if bidirectional else ("",)
        for layer in range(num_layers):
            size = input_size if layer == 0 else self.output_size * len(self.directions)
            for direction in self.directions:
                self._add_weights(f"_l{layer}{direction}", size, bias, device, dtype)
        self.reset_parameters()

    @property
    def _all_weights(self) -> list[list[str]]:
        """The names of the weights of each layer and direction, as scripts initialise them."""
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        suffixes = [f"_l{i}{way}" for i in range(self.num_layers) for way in self.directions]
        return [[k + s for k in kinds if getattr(self, k + s, None) is not None] for s in suffixes]

    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self._all_weights for name in names]

    @property
    def _flat_weights(self) -> list[Tensor]:
        return [getattr(self, name) for name in self._flat_weights_names]

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The weights of each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    def flatten_parameters(self) -> None:
        """Do nothing: PyTorch moves the weights into one block of memory for cuDNN."""

    @overload
    def forward(self, input: Tensor, hx: Given | None = None) -> tuple[Tensor, Given]: ...
    @overload
    def forward(
        self, input: PackedSequence, hx: Given | None = None
    ) -> tuple[PackedSequence, Given]: ...
    def forward(
        self, input: Tensor | PackedSequence, hx: Given | None = None
    ) -> tuple[Tensor | PackedSequence, Given]:
        """Return h of the last layer at all steps, (T, N, directions * hidden_size), and the final
        state of each layer and direction.

        `hx` is the initial state, zeros by default. States are
        (num_layers * directions, N, hidden_size). For an input without a batch, (T, input_size), no
        shape has an N. With `proj_size`, h has that size. For a `PackedSequence` h is packed too,
        and the final state of a sequence is that of its own last step.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        if input.ndim not in (2, 3) or input.shape[-1] != self.input_size:
            size = self.input_size
            first = "N, T" if self.batch_first else "T, N"
            expected = f"an input ({first}, {size}), or (T, {size})"
            raise ShapeError(sentence(type(self).__name__, expected, tuple(input.shape)))
        batched = input.ndim == 3
        x = input if batched else input.unsqueeze(1)
        x = x.transpose(0, 1) if batched and self.batch_first else x  # (T, N, input_size)
        if x.shape[0] == 0:
            raise ShapeError(f"{type(self).__name__}: expected at least 1 step, got 0")
        x, final = self._layers(x, self._initial(hx, x, x.shape[1], batched), self._run)
        if not batched:
            return x.squeeze(1), self._as_given(tuple(state.squeeze(1) for state in final))
        return x.transpose(0, 1) if self.batch_first else x, self._as_given(final)

    def _forward_packed(
        self, input: PackedSequence, hx: Given | None
    ) -> tuple[PackedSequence, Given]:
        data, _, order, back = input
        if data.ndim != 2 or data.shape[1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: expected packed data (steps, {self.input_size}), got "
                f"{tuple(data.shape)}"
            )
        sizes = input._host_sizes()
        before = self._initial(hx, data, sizes[0], True)
        if order is not None:
            before = tuple(state.index_select(1, order) for state in before)
        runs = equal_steps(sizes)
        x, final = self._layers(
            data, before, lambda x, suffix, state: self._run_packed(x, runs, suffix, state)
        )
        if back is not None:
            final = tuple(state.index_select(1, back) for state in final)
        return input._with_data(x), self._as_given(final)

    def _layers(
        self,
        x: Tensor,
        before: State,
        run: Callable[[Tensor, str, State], tuple[Tensor, State]],
    ) -> tuple[Tensor, State]:
        """Return h of the last layer, and the final states of all layers and directions."""
        after: list[State] = []
        for layer in range(self.num_layers):
            if layer > 0 and self.dropout > 0.0:
                x = F.dropout(x, self.dropout, self.training)
            outputs = []
            for direction in self.directions:
                start = tuple(state[len(after)] for state in before)
                output, end = run(x, f"_l{layer}{direction}", start)
                outputs.append(output)
                after.append(end)
            x = cat(outputs, -1) if len(outputs) > 1 else outputs[0]
        return x, tuple(stack([state[place] for state in after]) for place in range(self.states))

    def _initial(self, hx: Given | None, x: Tensor, rows: int, batched: bool) -> State:
        layers = self.num_layers * len(self.directions)
        shapes = [(layers, rows, size) for size in (self.output_size, self.hidden_size)][
            : self.states
        ]
        if hx is None:
            return tuple(zeros(shape, dtype=x.dtype, device=x.device) for shape in shapes)
        state = self._as_state(hx)
        state = state if batched else tuple(part.unsqueeze(1) for part in state)
        for part, shape in zip(state, shapes, strict=True):
            if tuple(part.shape) != shape:
                wanted = shape if batched else (shape[0], shape[2])
                raise ShapeError(
                    f"{type(self).__name__}: expected a hidden state {wanted}, got "
                    f"{tuple(part.shape if batched else part.squeeze(1).shape)}"
                )
        return state

    def _run(self, x: Tensor, suffix: str, state: State) -> tuple[Tensor, State]:
        """Run one layer in one direction: return all h in the input's order, and the last state."""
        backwards = suffix.endswith("_reverse")
        output, end = self._all_steps(x.flip(0) if backwards else x, suffix, state)
        return output.flip(0) if backwards else output, end

    def _run_packed(
        self, x: Tensor, runs: list[tuple[int, int]], suffix: str, state: State
    ) -> tuple[Tensor, State]:
        """`_run` over packed data: steps with the same batch size run together. In the forward
        direction a sequence keeps its state when it ends; backwards, it starts there."""
        backwards = suffix.endswith("_reverse")
        parts = x.split([steps * rows for steps, rows in runs])
        places = range(len(runs))[:: -1 if backwards else 1]
        outputs: list[Tensor] = []
        ended: list[State] = []  # the shortest first
        now = tuple(part[: runs[places[0]][1]] for part in state)
        for place in places:
            steps, rows = runs[place]
            had = now[0].shape[0]
            if had < rows:
                now = tuple(cat([n, s[had:rows]]) for n, s in zip(now, state, strict=True))
            elif had > rows:
                ended.append(tuple(part[rows:] for part in now))
                now = tuple(part[:rows] for part in now)
            output, now = self._run(parts[place].reshape(steps, rows, -1), suffix, now)
            outputs.append(output.reshape(steps * rows, -1))
        of_parts = zip(now, *reversed(ended), strict=True)
        end = tuple(cat(list(parts)) for parts in of_parts)
        return cat(outputs[:: -1 if backwards else 1]), end

    def _all_steps(self, x: Tensor, suffix: str, state: State) -> tuple[Tensor, State]:
        """Return h of all steps of x (T, N, input_size), and the last state."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        parts: list[str] = [f"{self.input_size}, {self.hidden_size}"]
        if self.output_size != self.hidden_size:
            parts.append(f"proj_size={self.output_size}")
        parts += changed(self, num_layers=1, bias=True, batch_first=False, dropout=0)
        return ", ".join([*parts, *changed(self, bidirectional=False)])


class RNN(_RNN, _Sequence[Tensor]):
    """`h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh)` (Elman 1990); `nonlinearity="relu"`
    replaces the tanh."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            device=device, dtype=dtype,
        )  # fmt: skip
        self._choose(nonlinearity)

    def _all_steps(self, x: Tensor, suffix: str, state: State) -> tuple[Tensor, State]:
        weight_ih, weight_hh, bias_ih, bias_hh = self._weights(suffix)
        from_input = F.linear(x, weight_ih, _sum(bias_ih, bias_hh))
        states = rnn(from_input, state[0], weight_hh, relu=self.nonlinearity == "relu")
        return states[1:], (states[-1],)


class LSTM(_LSTM, _Sequence[tuple[Tensor, Tensor]]):
    """`c_t = f c_(t-1) + i g`, `h_t = o tanh(c_t)` (Hochreiter and Schmidhuber 1997).

    The gates i, f and o are sigmoids, and g is a tanh, of `W_ih x_t + b_ih + W_hh h_(t-1) + b_hh`.
    The state `hx` is (h, c). With `proj_size`, `h_t = W_hr (o tanh(c_t))` (Sak et al. 2014).
    """

    def _all_steps(self, x: Tensor, suffix: str, state: State) -> tuple[Tensor, State]:
        weight_ih, weight_hh, bias_ih, bias_hh = self._weights(suffix)
        from_input = F.linear(x, weight_ih, _sum(bias_ih, bias_hh))
        if self.output_size != self.hidden_size:
            weight_hr = getattr(self, f"weight_hr{suffix}")
            return self._projected(from_input, weight_hh, weight_hr, state)
        states = lstm(from_input, state[0], state[1], weight_hh)  # (2, T + 1, N, H)
        return states[0, 1:], (states[0, -1], states[1, -1])

    def _forward_packed(
        self, input: PackedSequence, hx: tuple[Tensor, Tensor] | None
    ) -> tuple[PackedSequence, tuple[Tensor, Tensor]]:
        output, (h, c) = super()._forward_packed(input, hx)
        dtype = (input.data if hx is None else hx[0]).dtype
        if output.data.dtype is dtype or h.device.type != "cpu":
            return output, (h, c)
        # Under the CPU's autocast of the states' dtype: in PyTorch so are packed sequences alone.
        return output._with_data(output.data.to(dtype)), (h.to(dtype), c.to(dtype))

    def _projected(
        self, from_input: Tensor, weight_hh: Tensor, weight_hr: Tensor, state: State
    ) -> tuple[Tensor, State]:
        """Do what `lstm` does, step by step, with a projection of h."""
        h, c = state
        outputs = []
        for each in from_input.unbind(0):
            h, c = self._step(each, F.linear(h, weight_hh), (h, c))
            h = F.linear(h, weight_hr)
            outputs.append(h)
        return stack(outputs), (h, c)


@autocasts("widest_on_cpu")
def _gru(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`gru`, whose states are float32 under the CPU's autocast, as in PyTorch."""
    return gru(x, h, weight, bias)


class GRU(_GRU, _Sequence[Tensor]):
    """`h_t = (1 - z) n + z h_(t-1)`, `n = tanh(W_in x_t + b_in + r (W_hn h_(t-1) + b_hn))`.

    (Cho et al. 2014.) The gates r and z are sigmoids of the input and the hidden state.
    """

    def _all_steps(self, x: Tensor, suffix: str, state: State) -> tuple[Tensor, State]:
        weight_ih, weight_hh, bias_ih, bias_hh = self._weights(suffix)
        bias = weight_hh.new_zeros(weight_hh.shape[0]) if bias_hh is None else bias_hh
        states = _gru(F.linear(x, weight_ih, bias_ih), state[0], weight_hh, bias)
        if states.dtype is not state[0].dtype and states.device.type == "cpu":
            states = states.to(state[0].dtype)
        return states[1:], (states[-1],)

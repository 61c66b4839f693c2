"""What the project promises about speed and memory, as far as a machine with other work can tell.

Times are for `python -m bench`, whose contenders take turns: `ops` and `calls` hold ours against
NumPy's and PyTorch's. Here the steps of the interpreter are counted, which are the same each time.
(what `import gradient` may load is in test_project.py.)
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

import gradient
import gradient.functional as F
from bench import random_gpt2
from bench.cases import load_memory
from gradient.backends.numpy import kernels
from gradient.generation import generate, replay
from gradient.models import LlamaConfig, LlamaForCausalLM
from gradient.models.gpt2 import GPT2Config

pytestmark = pytest.mark.cpu_only


def steps(call: Callable[[], Any]) -> int:
    """Instructions of Python's interpreter that a call takes, those of NumPy's C code aside."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    earlier = sys.gettrace()
    for _ in range(3):  # what is done once, at the first call, does not count
        count = 0
        sys.settrace(trace)
        try:
            call()
        finally:
            sys.settrace(earlier)
    return count


STEPS = {
    "add": (lambda x, y: x + y, 160),
    "mul": (lambda x, y: x * y, 192),
    "exp": (lambda x, y: x.exp(), 134),
    "sum": (lambda x, y: x.sum(), 210),  # looks whether a kernel adds up
    "matmul": (lambda x, y: x @ y, 283),
    "linear": (lambda x, y: gradient.nn.functional.linear(x, y), 445),
    "cat": (lambda x, y: gradient.cat([x, y]), 370),
    "chunk": (lambda x, y: x.chunk(2), 447),
    "reshape": (lambda x, y: x.reshape(2, 8), 220),
    "transpose": (lambda x, y: x.transpose(0, 1), 178),
    "slice": (lambda x, y: x[:, 1:3], 268),
    "select": (lambda x, y: x.select(1, 2), 221),
    "write": (lambda x, y: x.detach().__setitem__(1, 0), 298),
    "fill": (lambda x, y: x.detach().fill_(2), 300),
    "add in place": (lambda x, y: x.detach().__iadd__(1), 228),
}
"""Ops on small tensors, and their instructions with a graph in Python 3.11."""

STEPS_TO_KERNELS = {
    "softmax": (lambda x, index: F.softmax(x, -1), 359),
    "layer_norm": (lambda x, index: F.layer_norm(x, (64,)), 614),
    "cross_entropy": (lambda x, index: F.cross_entropy(x, index), 442),
    "relu": (lambda x, index: F.relu(x), 190),
    "sum": (lambda x, index: x.sum(-1), 311),
    "nll_loss": (lambda x, index: F.nll_loss(x, index), 623),
    "gather": (lambda x, index: x.gather(1, index.expand(64, 64)), 777),
    "index_select": (lambda x, index: x.index_select(0, index), 327),
    "embedding": (lambda x, index: F.embedding(index, x), 288),
}
"""Of ops on (64, 64) that kernels compute, or NumPy's quicker functions, likewise."""


@pytest.mark.usefixtures("without_inference_mode")
@pytest.mark.parametrize("name", STEPS)
def test_an_op_takes_few_steps(name):
    """About a microsecond beyond NumPy's own time: what is to be added needs a reason."""
    op, budget = STEPS[name]
    x, y = (gradient.ones(4, 4, requires_grad=True) for _ in "xy")
    # Other versions of Python cut the same source in other instructions.
    assert steps(lambda: op(x, y)) <= budget * (1.1 if sys.version_info[:2] == (3, 11) else 1.5)


@pytest.mark.usefixtures("without_inference_mode")
@pytest.mark.parametrize("dtype", [gradient.int64, gradient.uint8, gradient.bool])
def test_an_int_is_written_about_as_soon_as_a_float(dtype):
    floats, ints = gradient.zeros(4), gradient.zeros(4, dtype=dtype)
    of_floats = steps(lambda: floats.__setitem__(1, 1))
    assert steps(lambda: ints.__setitem__(1, 1)) <= of_floats + 40  # it has to fit


@pytest.mark.usefixtures("without_inference_mode")
@pytest.mark.parametrize("name", STEPS_TO_KERNELS)
def test_a_kernel_is_soon_reached(name):
    if not kernels.available():
        pytest.skip("there are no kernels")
    op, budget = STEPS_TO_KERNELS[name]
    x, index = gradient.ones(64, 64, requires_grad=True), gradient.arange(64)
    assert steps(lambda: op(x, index)) <= budget * (1.1 if sys.version_info[:2] == (3, 11) else 1.5)


def test_a_replayed_token_takes_few_steps(monkeypatch):
    """Of a text whose tokens are chosen several at once; a GPU waits for some of them."""
    if not kernels.available():
        pytest.skip("there are no kernels")
    monkeypatch.setattr(replay, "AT_ONCE", 1e9)  # so that the clock has no part in it
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4)).eval()

    def text(tokens):
        return generate(model, [3, 4, 5], max_new_tokens=tokens, ignore_eos=True)

    text(60)
    assert text(17).timings.replayed_steps == 16
    each = (steps(lambda: text(33)) - steps(lambda: text(17))) / 16
    assert each <= 1048 * (1.05 if sys.version_info[:2] == (3, 11) else 1.5)


def test_loading_takes_no_more_memory_than_the_file(tmp_path):
    """Peak memory of a load, and of a load and a forward pass, as multiples of the file."""
    config = GPT2Config(vocab_size=4096, n_positions=64, n_embd=512, n_layer=4, n_head=8)
    file_bytes = random_gpt2.write(config, tmp_path)
    load_memory.load_in_fresh_process(load_memory.BY_GRADIENT, tmp_path)  # compiles kernels
    grown = load_memory.load_in_fresh_process(load_memory.BY_GRADIENT, tmp_path)
    assert grown["load"] <= load_memory.TARGET * file_bytes
    # The forward's own arrays and lazily imported modules are not the file's doing.
    assert grown["forward"] <= load_memory.TARGET * file_bytes + (8 << 20)

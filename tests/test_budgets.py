"""What the project promises about speed and memory, held by the code that `python -m bench` runs.

A machine's other work can only add to a time, so each figure is the best of many short rounds, and
a budget is missed only if several attempts miss it. (The budget of `import gradient` is in
test_project.py.)
"""

from __future__ import annotations

import pytest

import gradient
from bench import random_gpt2
from bench.cases import load_memory, op_overhead, small_backward
from bench.measure import interleave
from gradient.models.gpt2 import GPT2Config

pytestmark = pytest.mark.cpu_only

ATTEMPTS = 4


def least(figure, budget):
    """The least of up to ATTEMPTS figures; no further attempt once the budget is met."""
    found = []
    for _ in range(ATTEMPTS):
        found.append(figure())
        if found[-1] <= budget:
            break
    return min(found)


def microseconds_beyond_numpy(name):
    """What an op on small tensors, with a graph, costs beyond NumPy's own time."""
    runs = op_overhead.contenders(name, requires_grad=True, peers=False)
    samples = interleave(runs, rounds=20, sample_seconds=0.001)
    return 1e6 * (samples["gradient"].best - samples["numpy"].best)


@pytest.mark.parametrize("name", ["add", "mul", "exp"])
def test_an_op_costs_little_beyond_numpy(name):
    figure = least(lambda: microseconds_beyond_numpy(name), op_overhead.TARGET)
    assert figure <= op_overhead.TARGET


@pytest.mark.parametrize("name", ["sum", "matmul", "reshape"])
def test_an_op_that_reads_arguments_or_gives_a_view_costs_little_more(name):
    """These miss the target of the plain ops (`python -m bench ops` shows by how much); they must
    not drift further from it."""
    budget = 2 * op_overhead.TARGET
    assert least(lambda: microseconds_beyond_numpy(name), budget) <= budget


@pytest.mark.parity
@pytest.mark.parametrize("what", small_backward.EXPRESSIONS)
def test_forward_and_backward_beat_torch_eager(what):
    """The time of a small expression, one thread each, as a share of PyTorch eager's."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        build = small_backward.EXPRESSIONS[what]
        runs = {"gradient": build(gradient), "torch": build(torch)}

        def share_of_torch():
            samples = interleave(runs, rounds=15, sample_seconds=0.002)
            return samples["gradient"].best / samples["torch"].best

        assert least(share_of_torch, small_backward.TARGET) <= small_backward.TARGET
    finally:
        torch.set_num_threads(threads)


def test_loading_takes_no_more_memory_than_the_file(tmp_path):
    """Peak memory of a load, and of a load and a forward pass, as multiples of the file."""
    config = GPT2Config(vocab_size=4096, n_positions=64, n_embd=512, n_layer=4, n_head=8)
    file_bytes = random_gpt2.write(config, tmp_path)
    grown = load_memory.load_in_fresh_process(load_memory.BY_GRADIENT, tmp_path)
    assert grown["load"] <= load_memory.TARGET * file_bytes
    # The forward's own arrays and lazily imported modules are not the file's doing.
    assert grown["forward"] <= load_memory.TARGET * file_bytes + (8 << 20)

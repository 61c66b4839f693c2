"""Fused chains: what is fused and what ends a chain, and results within rounding of eager's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import Tensor
from gradient.backends.numpy import fused, kernels
from gradient.plan import Plan, record
from gradient.plan.executors import CpuExecutor
from gradient.plan.passes import simplified, with_fused_chains

pytest.importorskip("numba")
pytestmark = pytest.mark.cpu_only

ROWS = fused.Rows(1, 8, (8, 8), (True, True))

Function = Callable[..., Tensor | Sequence[Tensor]]


def tensors_of(result: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)


def fused_plan(function: Function, *inputs: Tensor) -> Plan:
    recording = record(function, *inputs, inputs=inputs)
    refs = {id(t): ref for t, ref in recording.survivors}
    outputs = tuple(refs[id(t)] for t in tensors_of(recording.result))
    return with_fused_chains(simplified(replace(recording.plan.expanded(), outputs=outputs)))


def check(function: Function, *inputs: Tensor, least: float = 0.0) -> Plan:
    """The plan, after a replay on other values that gives eager's results within rounding."""
    plan = fused_plan(function, *inputs)
    others = [(t * 1.5 + 0.25 if t.dtype.is_floating_point else t).clone() for t in inputs]
    found = CpuExecutor(plan, poison=True).run([t.numpy() for t in others], {})
    for got, expected in zip(found, tensors_of(function(*others)), strict=True):
        want = expected.numpy()
        assert got.dtype == want.dtype and got.shape == want.shape
        if got.dtype == bool:
            assert (got == want).all()
            continue
        tolerance = 1e-6 if got.dtype == np.float32 else 1e-14
        scale = max(np.abs(want[np.isfinite(want)]).max(initial=0.0), least)
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * scale)
    return plan


def ops(plan: Plan) -> list[str]:
    return [call.op for call in plan.calls]


def steps(plan: Plan) -> list[list[str]]:
    """The ops of each fused call."""
    chains = [call.options["expression"] for call in plan.calls if call.op == "fused"]
    return [[step.op for step in chain.steps] for chain in chains]


X = gradient.linspace(-3, 3, 60).reshape(4, 15)
ROW, COLUMN = gradient.arange(15.0) - 5, gradient.arange(4.0).reshape(4, 1) + 1


@pytest.mark.parametrize("dtype", [gradient.float32, gradient.float64])
def test_a_chain_of_everything(dtype: gradient.DType) -> None:
    def function(x: Tensor, row: Tensor, column: Tensor) -> list[Tensor]:
        a = (x * row - column) / (x.abs().sqrt() + 0.5)
        b = gradient.where((a > row) & ~(x <= 0.1) | (x == row), a.tanh(), -(x * 0.25).exp())
        c = gradient.maximum(b, row).clamp(max=2.5) ** 2
        return [c, a >= b, (c < 1).to(dtype) + a.isfinite().to(dtype)]

    plan = check(function, *(t.to(dtype) for t in (X, ROW, COLUMN)))
    assert ops(plan) == ["fused"], plan


def test_infinities_nan_and_signed_zeros_are_eagers() -> None:
    special = gradient.tensor([math.inf, -math.inf, math.nan, 0.0, -0.0, 1.0, -1.0, 2.0] * 2)
    others = special.flip(0).clone()

    def function(x: Tensor, y: Tensor) -> list[Tensor]:
        return [
            gradient.maximum(x, y) * 1,
            gradient.minimum(x, y) * 1,
            gradient.where(x > y, math.inf, x) * 1,
            gradient.where(x != x, -math.inf, y) * 1,
        ]

    plan = fused_plan(function, special, others)
    assert ops(plan) == ["fused"]
    found = CpuExecutor(plan, poison=True).run([special.numpy(), others.numpy()], {})
    for got, expected in zip(found, function(special, others), strict=True):
        np.testing.assert_array_equal(got, expected.numpy())


@pytest.mark.parametrize(
    "function",
    [lambda x: x[:, 0] > 0.5, lambda x: x[:, 0].double(), lambda x: ~(x > 0)[:, 0]],
    ids=["comparison", "astype", "logical"],
)
def test_what_lies_apart_is_no_step_of_a_chain(function: Function) -> None:
    """A lone column, whose elements are not one after the other, is left to NumPy."""
    x = gradient.randn(3, 8)
    recording = record(function, x, inputs=[x])
    refs = {id(t): ref for t, ref in recording.survivors}
    plan = replace(recording.plan.expanded(), outputs=(refs[id(recording.result)],))
    (found,) = CpuExecutor(with_fused_chains(simplified(plan), 1)).run([x.numpy()], {})
    expected = function(x)
    assert isinstance(expected, Tensor)
    np.testing.assert_array_equal(found, expected.numpy())


def test_views_strides_and_broadcasting() -> None:
    x = gradient.randn(6, 40)

    def gates(x: Tensor) -> Tensor:
        return x[:, :10].sigmoid() * x[:, 10:20].tanh() + x[:, 30:] * x[:1, 20:30]

    assert ops(check(gates, x)).count("fused") == 1

    def transposed(x: Tensor) -> Tensor:
        return (x.t() * 2 + 1).t() * x  # one memory order

    check(transposed, x)

    def three_axes(x: Tensor) -> Tensor:
        y = x.reshape(2, 3, 40)
        return y * y[:, :1] + y[:1]

    assert ops(check(three_axes, x)).count("fused") == 1

    def five_axes(x: Tensor) -> Tensor:
        y = x.reshape(2, 3, 2, 2, 10)
        return y * y[:, :1, :, :1] + y[:1]  # not walked together

    assert "fused" not in ops(check(five_axes, x))


def test_one_element() -> None:
    assert ops(check(lambda x: (x * 2).exp() + 1, gradient.ones(1, 1))) == ["fused"]


def test_activations_by_kernels_join_chains() -> None:
    def function(x: Tensor) -> list[Tensor]:
        leaf = x.detach().requires_grad_()
        y = F.gelu(leaf * 2) + F.relu(F.silu(leaf) * 3)
        return [y.detach(), *gradient.autograd.grad(y, leaf, x + 1)]

    plan = check(function, gradient.linspace(-6, 6, 40000).reshape(200, 200))
    assert ops(plan) == ["fused"]
    used = set(steps(plan)[0])
    assert {"gelu", "gelu_grad", "silu", "silu_grad", "relu", "relu_grad"} <= used

    def approximate(x: Tensor) -> Tensor:
        return F.gelu(x * 2, approximate="tanh") + 1

    assert "gelu" in ops(check(approximate, gradient.randn(200, 200)))


def reduced_between(x: Tensor) -> Tensor:
    e = (x * 2).exp()
    return e / e.sum(-1, keepdim=True) + 1


def written_between(x: Tensor) -> Tensor:
    y = x + 1
    a = y * 2 + x
    y[0] = 7.0
    return a + y * 3


def viewed_between(x: Tensor) -> Tensor:
    y = x * 2 + 1
    return y + y.reshape(-1).reshape(4, 15).flip(0) * 2


def test_what_ends_a_chain() -> None:
    assert ops(check(reduced_between, X)) == ["fused", "sum", "fused"]
    plan = check(written_between, X)
    assert ops(plan).index("assign") in range(1, len(plan.calls) - 1)
    check(viewed_between, X)


def test_chains_of_several_shapes_grow_side_by_side() -> None:
    def function(x: Tensor, row: Tensor) -> Tensor:
        a = x + 1
        b = row * 2
        c = a * 3
        d = b + 1
        return c * d

    plan = check(function, X, ROW)
    assert steps(plan) == [["mul", "add"], ["add", "mul", "mul"]]


def test_a_result_is_kept_where_it_is_used_again() -> None:
    plan = check(lambda x: [(x * 2).exp() + 1, (x * 2).exp()], X)
    (call,) = plan.calls
    assert len(call.outputs) == 2
    (call,) = check(lambda x: (x * 2).exp() + 1, X).calls
    assert len(call.outputs) == 1


def test_a_chain_with_many_results_is_cut() -> None:
    """A kernel has room for some arguments; as in a loop over time whose states all are kept."""

    def states(x: Tensor) -> list[Tensor]:
        kept = [x]
        for _ in range(40):
            kept.append(kept[-1] + x)
        return kept[1:]

    plan = check(states, gradient.randn(4, 64))
    chains = steps(plan)
    assert len(chains) > 1 and sum(map(len, chains)) == 40


def test_equal_chains_share_a_kernel() -> None:
    def layers(x: Tensor) -> Tensor:
        for _ in range(3):
            x = (x.tanh() * 2 + 1).cumsum(0)
        return x

    first, second, third = [call for call in check(layers, X).calls if call.op == "fused"]
    texts = {fused.source(call.options["expression"], ROWS) for call in (second, third)}
    assert len(texts) == 1 and first.options == second.options


def test_a_kernel_is_written_once_and_found_again(tmp_path, monkeypatch) -> None:
    generated = kernels.load("generated")
    monkeypatch.setattr(generated, "folder", lambda: tmp_path / "made")
    text = fused.source(check(lambda x: x * 2 + 1, X).calls[0].options["expression"], ROWS)
    made = generated.kernel_of.__wrapped__(text)
    (path,) = (tmp_path / "made").glob("fused_*.py")
    written = path.stat()
    generated.kernel_of.__wrapped__(text)
    assert path.stat().st_mtime_ns == written.st_mtime_ns and path.read_text() == text
    monkeypatch.setattr(generated, "folder", lambda: None)  # nothing can be kept, as was said
    monkeypatch.setattr(kernels.load("compilation"), "_warned", True)
    for kernel in (made, generated.kernel_of.__wrapped__(text)):
        x, y = np.ones(4, np.float32), np.zeros(4, np.float32)
        kernel(0, 1, 4, x, 4, y, 4)
        assert y.tolist() == [3] * 4


def test_without_kernels_the_pieces_run(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = fused_plan(lambda x: x * 2 + 1, X)
    monkeypatch.setattr(kernels, "available", lambda: False)
    (found,) = CpuExecutor(plan).run([X.numpy()], {})
    assert found.tolist() == (X * 2 + 1).tolist()


def test_large_chains_are_cut_alike_for_any_number_of_threads() -> None:
    x = gradient.randn(512, 700)
    plan = fused_plan(lambda x: (x * 2).tanh() + x, x)
    before = gradient.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            gradient.set_num_threads(threads)
            (found,) = CpuExecutor(plan, poison=True).run([x.numpy()], {})
            results.append(found.tobytes())
    finally:
        gradient.set_num_threads(before)
    assert len(set(results)) == 1


def test_a_training_step() -> None:
    gradient.manual_seed(0)
    cell = gradient.nn.LSTM(12, 16, 2)
    parameters = list(cell.parameters())

    def step(x: Tensor) -> list[Tensor]:
        out, _ = cell(x)
        loss = F.silu(out).square().mean()
        return [loss.detach(), *gradient.autograd.grad(loss, parameters)]

    plan = check(step, gradient.randn(5, 3, 12), least=1e-2)
    assert ops(plan).count("fused") > 10

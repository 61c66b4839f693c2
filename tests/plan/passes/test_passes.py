"""Each pass on tiny plans: what goes, what must stay, and that replays give the same bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import Tensor
from gradient.plan import Plan, passes, record
from gradient.plan.executors import CpuExecutor

pytestmark = pytest.mark.cpu_only

Pass = Callable[[Plan], Plan]


def tiny(function: Callable[..., Tensor], *inputs: Tensor, keep: bool = True) -> Plan:
    """The plan of a function, whose result is its output."""
    recording = record(function, *inputs, inputs=inputs)
    refs = {id(t): ref for t, ref in recording.survivors}
    outputs = (refs[id(recording.result)],) if keep else ()
    return replace(recording.plan.expanded(), outputs=outputs)


def ops(plan: Plan) -> list[str]:
    return [call.op for call in plan.calls]


def check(
    function: Callable[..., Tensor], apply: Pass, before: list[str], after: list[str]
) -> Plan:
    """The ops of a function of x (2, 3) before and after a pass; replays equal eager's result."""
    x = gradient.arange(6.0).reshape(2, 3).clone()
    plan = tiny(function, x)
    assert ops(plan) == before
    passed = apply(plan)
    assert ops(passed) == after
    for values in (x, x * 2 - 5):
        (found,) = CpuExecutor(passed, poison=True).run([values.numpy()], {})
        assert found.tobytes() == function(values.clone()).numpy().tobytes()
    return passed


def dead_end(x: Tensor) -> Tensor:
    (x * 3).exp()
    return x + 1


def written_and_unused(x: Tensor) -> Tensor:
    y = x * 3
    y.add_(1)
    return x + 1


def written_and_used(x: Tensor) -> Tensor:
    y = x * 3
    z = y.t()
    y.add_(1)
    return z + 1


def test_dead_calls() -> None:
    check(dead_end, passes.without_dead_calls, ["mul", "exp", "add"], ["add"])
    check(written_and_unused, passes.without_dead_calls, ["mul", "add", "assign", "add"], ["add"])
    every = ["mul", "permute", "add", "assign", "add"]
    check(written_and_used, passes.without_dead_calls, every, every)


def test_writes_to_memory_from_before_are_never_dead() -> None:
    state = gradient.zeros(2, 3)
    plan = tiny(lambda x: state.add_(x), gradient.ones(2, 3), keep=False)
    assert ops(passes.without_dead_calls(plan)) == ["add", "assign"]


def test_checks_are_never_dead() -> None:
    table = gradient.ones(3, 2)
    index = gradient.tensor([1])
    plan = tiny(lambda index: table.index_select(1, index), index, keep=False)
    assert "check_indices" in ops(passes.without_dead_calls(plan))


def twice(x: Tensor) -> Tensor:
    return (x * 2).exp() + (x * 2).exp()


def twice_by_views(x: Tensor) -> Tensor:
    return (x * 2).t() + (x * 2).t()


def other_numbers(x: Tensor) -> Tensor:
    return (x + 0.0) * (x + -0.0)


def written_between(x: Tensor) -> Tensor:
    y = x + 1
    before = y * 2
    y.add_(1)
    return before + y * 2


def one_written(x: Tensor) -> Tensor:
    y, z = x * 2, x * 2
    y.add_(1)
    return y + z


def test_repeats() -> None:
    every = ["mul", "exp", "mul", "exp", "add"]
    check(twice, passes.without_repeats, every, ["mul", "exp", "add"])
    every = ["mul", "permute", "mul", "permute", "add"]
    check(twice_by_views, passes.without_repeats, every, ["mul", "permute", "add"])
    every = ["add", "add", "mul"]
    check(other_numbers, passes.without_repeats, every, every)
    every = ["add", "mul", "add", "assign", "mul", "add"]
    check(written_between, passes.without_repeats, every, every)
    every = ["mul", "mul", "add", "assign", "add"]
    check(one_written, passes.without_repeats, every, every)


def masked(x: Tensor) -> Tensor:
    mask = gradient.arange(3) + 1 > 1
    return gradient.where(mask, x, 0.0)


def counter(x: Tensor) -> Tensor:
    y = gradient.zeros(3)
    y.add_(1)
    return x + y


def test_constants() -> None:
    x = gradient.ones(2, 3)
    passed = passes.with_folded_constants(tiny(masked, x))
    assert ops(passed) == ["where"]
    condition = passed.buffers[passed.calls[0].inputs[0]]
    assert condition.kind == "constant" and condition.array.tolist() == [False, True, True]
    (found,) = CpuExecutor(passed, poison=True).run([x.numpy()], {})
    assert found.tolist() == [[0, 1, 1]] * 2
    every = ["zeros", "add", "assign", "add"]
    check(counter, passes.with_folded_constants, every, every)


def test_large_constants_are_made_anew() -> None:
    plan = tiny(lambda x: x + gradient.arange(float(1 << 15)), gradient.ones(1 << 15))
    assert ops(passes.with_folded_constants(plan)) == ops(plan)


def copied(x: Tensor) -> Tensor:
    return (x * 2).clone() + 1


def copied_and_written(x: Tensor) -> Tensor:
    y = (x * 2).clone()
    y.add_(1)
    return y + 1


def copied_then_written(x: Tensor) -> Tensor:
    y = x * 2
    z = y.clone()
    y.add_(1)
    return y + z


def copied_part(x: Tensor) -> Tensor:
    return (x * 2)[0].clone() + 1


def copied_in_another_order(x: Tensor) -> Tensor:
    return (x * 2).t().contiguous() + 1


def test_copies() -> None:
    check(copied, passes.without_copies, ["mul", "clone", "add"], ["mul", "add"])
    check(
        copied_and_written, passes.without_copies,
        ["mul", "clone", "add", "assign", "add"], ["mul", "add", "assign", "add"],
    )  # fmt: skip
    every = ["mul", "clone", "add", "assign", "add"]
    check(copied_then_written, passes.without_copies, every, every)
    every = ["mul", "permute", "copy", "add"]
    check(copied_in_another_order, passes.without_copies, every, every)


def copied_before_its_original_is_written(x: Tensor) -> Tensor:
    y = x * 2
    z = y.clone() * 3
    y.add_(1)
    return y + z


def whole(x: Tensor) -> Tensor:
    return (x * 2)[:, -3:][0:2] + 1


def parts(x: Tensor) -> Tensor:
    y = x * 2
    return y[:1] + y[1:] + y.flip(0)


def test_copies_that_are_read_no_more_when_their_original_is_written() -> None:
    check(
        copied_before_its_original_is_written, passes.without_copies,
        ["mul", "clone", "mul", "add", "assign", "add"], ["mul", "mul", "add", "assign", "add"],
    )  # fmt: skip


def test_slices_of_all_elements() -> None:
    check(whole, passes.without_copies, ["mul", "getitem", "getitem", "add"], ["mul", "add"])
    x = gradient.ones(2, 3)
    plan = tiny(lambda x: x[:], x)
    assert ops(passes.without_copies(plan)) == ["getitem"]  # as a result it is a tensor of its own
    plan = tiny(parts, x)
    assert ops(passes.without_copies(plan)) == ops(plan)


def test_sums_with_an_integer_zero() -> None:
    lengths = gradient.tensor([3])

    def counted(x: Tensor) -> Tensor:
        places = lengths.unsqueeze(1) + gradient.arange(1)
        y = x * places.float()
        lengths.add_(1)
        return y

    def counted_too_early(x: Tensor) -> Tensor:
        places = lengths.unsqueeze(1) + gradient.arange(1)
        lengths.add_(1)
        return x * places.float()

    def of_floats(x: Tensor) -> Tensor:
        return (x + 0) * 2  # -0.0 + 0 is 0

    def reduced(function: Callable[[Tensor], Tensor]) -> list[str]:
        plan = passes.with_folded_constants(tiny(function, gradient.ones(2, 3)))
        return ops(passes.without_copies(plan))

    assert reduced(counted) == ["reshape", "astype", "mul", "add", "assign"]
    assert reduced(counted_too_early) == ["reshape", "add", "add", "assign", "astype", "mul"]
    assert reduced(of_floats) == ["add", "mul"]


def test_a_copy_of_a_parameter_that_comes_out_stays() -> None:
    parameter = gradient.ones(2, 3)
    plan = tiny(lambda: parameter.clone())
    assert ops(passes.without_copies(plan)) == ["clone"]


def test_all_passes_on_a_training_step() -> None:
    gradient.manual_seed(0)
    layer = gradient.nn.Linear(3, 4)
    x = gradient.randn(5, 3)

    def step(x: Tensor) -> Tensor:
        loss = F.gelu(layer(x)).square().mean()
        (grad,) = gradient.autograd.grad(loss, layer.weight)
        return grad

    plan = tiny(step, x)
    passed = passes.simplified(plan)
    assert len(passed.calls) < len(plan.calls)
    (found,) = CpuExecutor(passed, poison=True).run([x.numpy()], {})
    assert found.tobytes() == np.ascontiguousarray(step(x).numpy()).tobytes()

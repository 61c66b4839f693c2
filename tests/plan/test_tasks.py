"""Kernels as tasks of a plan: which calls become one, runs of them in one call, the same bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient.backends import small_calls
from gradient.backends.numpy import elementwise, kernels, threads, workspace
from gradient.ops import recurrent
from gradient.plan import record
from gradient.plan.executors import CpuExecutor, tasks
from gradient.plan.executors.program import Scratch, Step, with_scratch
from gradient.plan.executors.tasks import lower
from gradient.plan.passes import simplified, with_fused_chains

pytestmark = pytest.mark.cpu_only

SHAPE = (40, 512)  # enough elements for kernels


def grads(function: Any) -> Any:
    def run(x: gradient.Tensor) -> list[gradient.Tensor]:
        leaf = x.detach().requires_grad_()
        out = function(leaf)
        (grad,) = gradient.autograd.grad(out, [leaf], out.detach())
        return [out.detach(), grad]

    return run


def attention(x: gradient.Tensor) -> gradient.Tensor:
    q = x.reshape(1, 40, 8, 64).transpose(1, 2)
    return F.scaled_dot_product_attention(q, q * 0.5, q * 2, is_causal=True)


def lstm(x: gradient.Tensor) -> gradient.Tensor:
    state, weight = gradient.zeros(4, 128), gradient.ones(512, 128) * 0.01
    return recurrent.lstm(x.reshape(10, 4, 512), state, state, weight)


CASES: dict[str, tuple[Any, int]] = {
    "softmax": (lambda x: F.softmax(x, -1), 2),
    "log_softmax": (lambda x: F.log_softmax(x, -1), 2),
    "gelu": (F.gelu, 2),
    "silu": (F.silu, 2),
    "layer_norm": (lambda x: F.layer_norm(x, (512,), gradient.ones(512), gradient.ones(512)), 1),
    "rms_norm": (lambda x: F.rms_norm(x, (512,), gradient.ones(512)), 1),
    "attention": (attention, 0),
    "sigmoid": (gradient.sigmoid, 2),
    "sum": (lambda x: x.sum(), 1),
    "sum of rows": (lambda x: x.sum(-1), 1),
    "norm": (lambda x: x.norm(), 1),
    "mse_loss": (lambda x: F.mse_loss(x, x.detach() * 2), 1),
    "cumsum": (lambda x: x.cumsum(-1), 0),
    "pad": (lambda x: F.pad(x, (1, 2)), 1),
    "group_norm": (lambda x: F.group_norm(x.reshape(5, 8, 512), 2, gradient.ones(8)), 1),
    "lstm": (lstm, 2),
    "chain": (lambda x: F.softmax(F.gelu(F.silu(x)), -1), 6),
}
"""A function, and how many tasks its forward and backward pass have at least."""


@pytest.mark.parametrize("name", CASES)
def test_kernels_become_tasks_with_the_same_bits(name: str) -> None:
    function, least = CASES[name]
    run = grads(function)
    x, other = gradient.randn(*SHAPE), gradient.randn(*SHAPE)
    recording = record(run, x, inputs=[x])
    refs = {id(t): ref for t, ref in recording.survivors}
    plan = replace(recording.plan, outputs=tuple(refs[id(t)] for t in recording.result))
    executor = CpuExecutor(plan, poison=True)
    lists = [args[0] for step, args in executor.program if step is threads.run_tasks]
    assert sum(map(len, lists)) >= least
    for t in (other, x):
        for got, want in zip(executor.run([t.array], {}), run(t), strict=True):
            assert np.asarray(want.array).tobytes() == got.tobytes()


def test_consecutive_tasks_are_one_call() -> None:
    x = gradient.randn(*SHAPE)
    recording = record(lambda x: F.softmax(F.gelu(F.silu(x)), -1), x, inputs=[x])
    ((_, ref),) = recording.survivors
    executor = CpuExecutor(replace(recording.plan, outputs=(ref,)))
    ((function, (tasks,)),) = executor.program
    assert function is threads.run_tasks and len(tasks) == 3


LARGE_CALLS: dict[str, Any] = {
    "add": lambda x: x * 2.0 + x.flip(0),
    "broadcast": lambda x: (x + x[0]) / x[:, :1],
    "sub": lambda x: x.T.contiguous() - x.reshape(512, 256),
    "heads": lambda x: x.reshape(256, 8, 64).transpose(0, 1).reshape(8, -1),
    "concatenate": lambda x: gradient.cat([x, x[:128], x], 0),
    "columns": lambda x: gradient.cat([x, x.flip(0)[:, :128]], 1),
    "clone": lambda x: x[:, ::2].clone() + x[:, 1::2].clone(),
    "sum over turned axes": lambda x: x.reshape(256, 16, 32).transpose(0, 1).sum((0, 1)),
    "sum along columns": lambda x: (x + 0).T.sum(1),
}
"""What NumPy does on one thread, of more elements than `LARGE`."""


@pytest.mark.parametrize("name", LARGE_CALLS)
def test_large_arithmetic_and_copies_have_the_same_bits(name: str) -> None:
    function = LARGE_CALLS[name]
    x, other = gradient.randn(256, 512), gradient.randn(256, 512)
    recording = record(function, x, inputs=[x])
    ((_, ref),) = recording.survivors
    executor = CpuExecutor(replace(recording.plan, outputs=(ref,)), poison=True)
    if kernels.available() and name in ("add", "heads", "concatenate", "columns"):
        assert "by the kernel" in str(executor) and "by numpy.concatenate" not in str(executor)
    for t in (other, x):
        (got,) = executor.run([t.array], {})
        want = np.asarray(function(t).array)
        assert want.shape == got.shape and want.tobytes() == got.tobytes()


# Small calls that are repeated -------------------------------------------------------------------


def linear(x: gradient.Tensor) -> gradient.Tensor:
    return F.linear(x, WEIGHT, BIAS)


def packed(x: gradient.Tensor) -> gradient.Tensor:
    return F.linear(x, PACKED)


def lookup(x: gradient.Tensor) -> gradient.Tensor:
    return F.embedding(INDEX, x)


def put(x: gradient.Tensor) -> gradient.Tensor:
    TABLE[ROWS, :, PLACES] = x.reshape(4, 1, 3, 4)
    return TABLE * 1.0


def put_pages(x: gradient.Tensor) -> gradient.Tensor:
    TABLE[ROWS, PLACES] = x.reshape(4, 1, 2, 4)
    return TABLE * 1.0


WEIGHT, BIAS = gradient.randn(24, 48), gradient.randn(24)
PACKED = gradient.quantization.quantize(gradient.randn(512, 96), "q4_0")
INDEX = gradient.tensor([[1], [3], [0], [3]])
TABLE = gradient.zeros(4, 3, 2, 4)
ROWS, PLACES = gradient.tensor([[0], [1], [3], [2]]), gradient.tensor([[1], [0], [-1], [0]])

SMALL: dict[str, tuple[Any, tuple[int, ...], int]] = {
    "linear": (linear, (1, 48), 2),
    "packed": (packed, (1, 96), 2),
    "silu": (F.silu, (1, 48), 1),
    "gelu": (F.gelu, (1, 48), 1),
    "rms_norm": (lambda x: F.rms_norm(x, (48,), WEIGHT[0]), (1, 48), 1),
    "layer_norm": (lambda x: F.layer_norm(x, (48,), WEIGHT[0], WEIGHT[1]), (1, 48), 1),
    "embedding": (lookup, (4, 8), 1),
    "put": (put, (4, 12), 2),
    "put_pages": (put_pages, (4, 8), 2),
}
"""A function, the shape of its argument, and of how many tasks alone its program consists."""


@pytest.mark.parametrize("name", SMALL)
def test_repeated_small_calls_are_tasks_alone(name: str) -> None:
    function, shape, count = SMALL[name]
    x, other = gradient.randn(*shape), gradient.randn(*shape)
    with gradient.no_grad(), small_calls.repeated():
        recording = record(function, x, inputs=[x])
        refs = {id(t): ref for t, ref in recording.survivors}
        plan = replace(recording.plan, outputs=(refs[id(recording.result)],))
        executor = CpuExecutor(with_fused_chains(simplified(plan.expanded()), 1, exact=True))
        lists = [args[0] for step, args in executor.program if step is threads.run_tasks]
        others = [s for s, _ in executor.program if s is not threads.run_tasks]
        assert sum(map(len, lists)) == count and len(others) == (name == "embedding")
        for given in (other, x):
            (found,) = executor.run([given.array], {})
            assert found.tobytes() == function(given).array.tobytes()


@pytest.mark.parametrize("name", ["linear", "rms_norm"])
def test_tasks_read_weights_that_were_changed_in_place(name: str) -> None:
    function, shape, _ = SMALL[name]
    x = gradient.randn(*shape)
    with gradient.no_grad(), small_calls.repeated():
        recording = record(function, x, inputs=[x])
        refs = {id(t): ref for t, ref in recording.survivors}
        executor = CpuExecutor(replace(recording.plan, outputs=(refs[id(recording.result)],)))
        WEIGHT.mul_(0.5)
        BIAS.add_(1)
        assert executor.run([x.array], {})[0].tobytes() == function(x).array.tobytes()


def test_an_index_beyond_the_table_is_refused_in_a_replay() -> None:
    x = gradient.randn(2, 8)
    index = gradient.tensor([[1]])
    with gradient.no_grad(), small_calls.repeated():
        recording = record(lambda i: F.embedding(i, x), index, inputs=[index])
        refs = {id(t): ref for t, ref in recording.survivors}
        executor = CpuExecutor(replace(recording.plan, outputs=(refs[id(recording.result)],)))
        with pytest.raises(IndexError, match=r"embedding at .*: index 2 is out of bounds"):
            executor.run([np.array([[2]])], {})


# Arrays that are handed from kernel to kernel -----------------------------------------------------

WIDE = 1 << 15
"""Floats whose bytes are enough for their memory to be shared."""


def chosen(condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`a` where `condition` is, else `b`, by a kernel."""
    out = np.empty_like(a)
    threads.parallel_for(*elementwise.where_launch(condition, a, b, out))
    return out


def tried(method: Any) -> tuple[list[Step] | None, list[np.ndarray], np.ndarray]:
    """The tasks of `method(condition, a, b)`, its operands and the place of its result."""
    operands = [np.zeros(WIDE, bool), np.empty(WIDE, np.float32), np.ones(WIDE, np.float32)]
    place, given = np.empty(WIDE, np.float32), operands[2]
    steps = lower(lambda: method(*operands), operands, lambda x: x is not given, place, method)
    return steps, operands, place


def as_tasks(method: Any) -> tuple[list[Step], list[np.ndarray], np.ndarray]:
    steps, operands, place = tried(method)
    assert steps is not None
    return steps, operands, place


@pytest.mark.parametrize("reduce", ["prod", "amax", "amin"])
def test_what_is_reduced_along_an_index_is_tried_with_no_other_index(reduce: str) -> None:
    """Memory of a plan that holds no index yet."""
    generator = np.random.default_rng(0)
    x = gradient.tensor(generator.standard_normal((64, 70)).astype(np.float32))

    def reduced(x: gradient.Tensor, index: gradient.Tensor) -> gradient.Tensor:
        return x.index_reduce(0, index[:, 0], x * 2, reduce)

    step = gradient.compile(reduced)
    for _ in range(4):
        index = gradient.tensor(generator.integers(0, 64, (64, 70)))
        assert step(x, index).numpy().tobytes() == reduced(x, index).numpy().tobytes()
    index[0, 0] = 64
    with pytest.raises(IndexError, match="index 64 is out of bounds"):
        step(x, index)


def test_memory_between_kernels_is_that_of_all_calls() -> None:
    def twice(condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return chosen(condition, chosen(condition, b, a), b)

    for _ in range(2):  # tried, and known
        steps, operands, place = as_tasks(twice)
        scratch = [x for _, given in steps for x in given if isinstance(x, Scratch)]
        assert len(scratch) == 2 and {x.end for x in scratch} == {4 * WIDE}
        found, memory = with_scratch([*steps, *steps])
        assert memory.nbytes == 4 * WIDE
        memory.fill(0xFF)
        for x in operands:
            x[:] = np.random.default_rng(0).integers(0, 2, WIDE)
        tasks = threads.Tasks()
        for _, given in found:
            tasks.append(*given)
        threads.run_tasks(tasks)
        assert place.tobytes() == twice(*operands).tobytes()


def test_what_a_method_holds_is_scratch_memory_that_begins_at_lines() -> None:
    """In a plan too: NumPy's own arrays begin amid a line of the cache."""

    def between(condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        held = workspace.empty((WIDE,), np.float32)
        threads.parallel_for(*elementwise.where_launch(condition, b, a, held))
        return chosen(condition, held, b)

    steps, operands, place = as_tasks(between)
    scratch = [x for _, given in steps for x in given if isinstance(x, Scratch)]
    assert len(scratch) == 2 and {x.end for x in scratch} == {4 * WIDE + workspace.ALIGNMENT}
    assert all(x.offset % workspace.ALIGNMENT == 0 for x in scratch)
    assert all(x.offset + 4 * WIDE <= x.end for x in scratch)
    found, _ = with_scratch(steps)
    for x in operands:
        x[:] = np.random.default_rng(0).integers(0, 2, WIDE)
    tasks = threads.Tasks()
    for _, given in found:
        tasks.append(*given)
    threads.run_tasks(tasks)
    assert place.tobytes() == between(*operands).tobytes()


def test_a_view_of_other_type_goes_where_its_memory_does() -> None:
    def bytes_between(condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        between = chosen(condition, b, a)
        copied = np.empty_like(between)
        as_ints = between.view(np.int64), copied.view(np.int64)
        n = as_ints[0].size
        threads.parallel_for(kernels.load("small_arrays").copy, n, n, *as_ints)
        return chosen(condition, copied, b)

    steps, operands, place = as_tasks(bytes_between)
    found, memory = with_scratch(steps)
    assert memory.nbytes == 8 * WIDE
    for x in operands:
        x[:] = np.random.default_rng(0).integers(0, 2, WIDE)
    tasks = threads.Tasks()
    for _, given in found:
        tasks.append(*given)
    threads.run_tasks(tasks)
    assert place.tobytes() == bytes_between(*operands).tobytes()


def test_numbers_that_python_writes_are_kept() -> None:
    numbers = np.arange(WIDE, dtype=np.float32)

    def mixed(condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return chosen(condition, chosen(condition, b, a), numbers.copy())

    steps, _, _ = as_tasks(mixed)
    assert not any(isinstance(x, Scratch) for _, given in steps for x in given)
    assert any(x.tobytes() == numbers.tobytes() for _, given in steps for x in given[3:])


def test_an_array_that_the_method_keeps_is_not_overwritten() -> None:
    kept = np.full(WIDE, 3, np.float32)

    def method(condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return chosen(condition, chosen(condition, b, a), kept)

    as_tasks(method)
    assert (kept == 3).all()


def test_a_result_may_be_given_memory_in_which_operands_lay() -> None:
    def method(condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        out = a.copy()  # as `empty` may find them there
        threads.parallel_for(*elementwise.where_launch(condition, a, b, out))
        return out

    as_tasks(method)


def test_what_is_computed_from_a_copy_is_no_task() -> None:
    def method(condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        out = a.copy()
        threads.parallel_for(
            *elementwise.where_launch(condition, chosen(condition, b, a), out, out)
        )
        return out

    steps, _, _ = tried(method)
    assert steps is None


@pytest.mark.parametrize("fuse", [False, True])
def test_small_calls_are_kernels_where_a_plan_is_to_be_fused(fuse: bool) -> None:
    logits, target = gradient.randn(4, 10, requires_grad=True), gradient.tensor([1, 0, 9, -100])

    def step(x: gradient.Tensor) -> Any:
        logits.grad = None
        loss = F.cross_entropy(logits * x, target)
        loss.backward()
        return loss.detach()

    x = gradient.tensor(2.0)
    expected, grad = step(x), logits.grad
    fast = gradient.compile(step, fullgraph=True, fuse=fuse)
    for _ in range(3):
        fast(x)
    started: list[str] = []
    with threads.listening(lambda kernel, *_: started.append(kernel.__name__)):
        found = fast(x)
    assert ("cross_entropy" in started) is fuse and ("cross_entropy_grad" in started) is fuse
    assert logits.grad is not None and grad is not None
    np.testing.assert_allclose(found.numpy(), expected.numpy(), 0 if not fuse else 1e-6)
    np.testing.assert_allclose(logits.grad.numpy(), grad.numpy(), 0 if not fuse else 1e-6, 1e-8)


COPIED: dict[str, tuple[Any, str]] = {
    "a gradient in another layout": (
        lambda x: attention(x).transpose(2, 3).contiguous().transpose(2, 3),
        "numpy.copyto, the kernel attention_grad",
    ),
    "rows with gaps": (
        lambda x: F.linear(x.reshape(8, 40, 64).transpose(0, 1), WIDER),
        "the kernel copy_strided, the kernel product",
    ),
    "planes with gaps": (
        lambda x: F.conv2d(x.reshape(1, 16, 16, 80).transpose(1, 3), KERNEL),
        "the kernel transpose, the kernel pad",
    ),
}
"""A function of which an operand is copied for a kernel, and what computes that."""
WIDER, KERNEL = gradient.randn(256, 64) * 0.1, gradient.randn(8, 80, 3, 3) * 0.1


@pytest.mark.parametrize("name", COPIED)
def test_operands_are_copied_before_kernels_that_want_them_otherwise(name: str) -> None:
    if not kernels.available():
        pytest.skip("no kernels")
    function, by = COPIED[name]
    run, x, other = grads(function), gradient.randn(40, 512), gradient.randn(40, 512)
    run(x)
    recording = record(run, x, inputs=[x])
    refs = {id(t): ref for t, ref in recording.survivors}
    outputs = tuple(refs[id(t)] for t in recording.result)
    executor = CpuExecutor(replace(recording.plan, outputs=outputs), poison=True)
    assert by in str(executor)
    for given in (other, x):
        for found, expected in zip(executor.run([given.array], {}), run(given), strict=True):
            assert found.tobytes() == expected.numpy().tobytes()


@pytest.mark.parametrize("name", ["fmod", "atan2", "hypot"])
def test_a_result_whose_axes_are_turned_is_not_its_place(name: str) -> None:
    """Of a copy of the first operand, laid out as the second, the kernel's result is turned."""
    x = gradient.rand(300, 300) + 0.1

    def step(x: gradient.Tensor) -> gradient.Tensor:
        result: gradient.Tensor = getattr(gradient, name)(x, x.T.exp())
        return result

    compiled = gradient.compile(step)
    for _ in range(5):
        assert gradient.equal(compiled(x), step(x))


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("step", [1, 2])
def test_large_inputs_in_the_opposite_order_are_read_where_they_lie(
    axes: tuple[int, ...], step: int
) -> None:
    """The first element is the last in memory: tasks begin at the first byte."""
    compiled = gradient.compile(lambda x: gradient.fmod(x, 1.5))
    for seed in range(6):
        made = np.random.default_rng(seed).standard_normal((300, 240 * step)).astype(np.float32)
        x = gradient.from_numpy(np.flip(made[:, ::step], axes))
        assert compiled(x).numpy().tobytes() == np.fmod(x.numpy(), np.float32(1.5)).tobytes()


def test_trials_are_forgotten_at_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "REMEMBERED", 3)
    monkeypatch.setattr(tasks, "_tried", {})
    for rows in range(32, 40):
        compiled, x = gradient.compile(lambda x: F.softmax(x, -1)), gradient.randn(rows, 512)
        for _ in range(3):
            assert compiled(x).tolist() == F.softmax(x, -1).tolist()
        assert 1 <= len(tasks._tried) <= 3

"""Training steps as one list of tasks: optimisers, norms and losses among them, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import nn, optim
from gradient.backends.numpy import threads
from gradient.plan.executors.concurrency import Accesses, with_concurrency
from gradient.plan.executors.program import concurrent_task, early, joined, task

pytestmark = pytest.mark.cpu_only

ROWS, CLASSES = 80, 10


@pytest.fixture(autouse=True)
def with_kernels() -> None:
    pytest.importorskip("numba")


@pytest.fixture
def pool() -> Iterator[Callable[[int], None]]:
    before = threads.get_num_threads()
    yield threads.set_num_threads
    threads.set_num_threads(before)


class Training:
    """A perceptron large enough for kernels, and its step, compiled or not."""

    def __init__(self, make: Any, max_norm: float = 0.5, **options: Any) -> None:
        gradient.manual_seed(3)
        self.model = nn.Sequential(
            *(nn.Linear(40, 96), nn.ReLU(), nn.Dropout(0.2)),
            *(nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, CLASSES)),
        )
        self.optimizer = make(self.model.parameters())

        def step(x: gradient.Tensor, y: gradient.Tensor) -> gradient.Tensor:
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), max_norm)
            self.optimizer.step()
            return loss.detach()

        self.step: Any = gradient.compile(step, fullgraph=True, **options) if options else step

    def run(self, steps: int) -> list[float]:
        gradient.manual_seed(7)
        draws = np.random.default_rng(0)
        losses = []
        for _ in range(steps):
            self.optimizer.param_groups[0]["lr"] *= 0.9
            x = gradient.tensor(draws.standard_normal((ROWS, 40), dtype=np.float32))
            y = gradient.tensor(draws.integers(0, CLASSES, ROWS))
            losses.append(self.step(x, y).item())
        return losses

    @property
    def state(self) -> list[bytes]:
        parameters = list(self.model.parameters())
        grads = [p.grad for p in parameters if p.grad is not None]
        return [t.detach().numpy().tobytes() for t in (*parameters, *grads)]

    @property
    def program(self) -> list[Any]:
        (signature,) = self.step.signatures.values()
        return list(signature.variants[-1].executor.program)


ADAMW: Any = lambda p: optim.AdamW(p, lr=0.01)  # noqa: E731

OPTIMIZERS: dict[str, Any] = {
    "adamw": ADAMW,
    "adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.1, maximize=True),
    "sgd": lambda p: optim.SGD(p, lr=0.1, weight_decay=0.01),
    "sgd_momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01),
    "rmsprop_momentum": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.9),
    "lion": lambda p: optim.Lion(p, lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimisers_tasks_have_the_bits_of_its_step(name: str) -> None:
    plain, planned = Training(OPTIMIZERS[name]), Training(OPTIMIZERS[name], fuse=False)
    assert planned.run(9) == plain.run(9)
    assert planned.state == plain.state
    kernel = "adamw" if name == "adam" else name
    assert f"by the kernel {kernel} " in planned.step.explain(calls=True)


@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_a_fused_step_is_one_list_of_tasks(max_norm: float) -> None:
    plain, fused = Training(ADAMW, max_norm), Training(ADAMW, max_norm, fuse=True)
    np.testing.assert_allclose(fused.run(12), plain.run(12), rtol=1e-5)
    for got, expected in zip(fused.state, plain.state, strict=True):
        np.testing.assert_allclose(
            *(np.frombuffer(x, np.float32) for x in (got, expected)), rtol=1e-3, atol=1e-5
        )
    functions = [function for function, _ in fused.program]
    assert functions.count(threads.run_tasks) == 1
    assert set(functions) == {early, threads.run_tasks}, fused.step.explain(calls=True)


def test_a_fused_step_does_not_depend_on_the_number_of_threads(pool: Any) -> None:
    found = []
    for number in (1, 2, 3):
        pool(number)
        training = Training(ADAMW, fuse=True)
        found.append((training.run(8), training.state))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("fuse", [False, True])
def test_a_target_that_is_no_class_is_found_before_anything_changes(fuse: bool) -> None:
    training = Training(ADAMW, fuse=fuse)
    training.run(5)
    before = [p.detach().numpy().copy() for p in training.model.parameters()]
    x, y = gradient.randn(ROWS, 40), gradient.zeros(ROWS, dtype=gradient.int64)
    for wrong in (CLASSES, -1):
        y[3] = wrong
        with pytest.raises(IndexError):
            training.step(x, y)
    for p, was in zip(training.model.parameters(), before, strict=True):
        assert p.detach().numpy().tobytes() == was.tobytes()
    y[3] = -100  # ignored
    assert np.isfinite(training.step(x, y).item())


def test_targets_that_a_call_makes_are_checked_where_they_are_made() -> None:
    logits = gradient.randn(8, CLASSES)
    loss = gradient.compile(lambda y: F.cross_entropy(logits, y + 1), fullgraph=True, fuse=True)
    y = gradient.arange(8)
    for _ in range(4):
        found = loss(y)
    assert abs(found.item() - F.cross_entropy(logits, y + 1).item()) < 1e-5
    with pytest.raises(IndexError):
        loss(y + 2)


def test_a_mean_of_no_targets_is_nan() -> None:
    logits = gradient.randn(8, CLASSES)
    loss = gradient.compile(lambda y: F.cross_entropy(logits, y), fullgraph=True, fuse=True)
    for _ in range(4):
        assert np.isfinite(loss(gradient.arange(8)).item())
    assert np.isnan(loss(gradient.full((8,), -100)).item())


@pytest.mark.parametrize("rows", [1, 6, 80])
@pytest.mark.parametrize("dtype", [gradient.float32, gradient.float64])
def test_the_mean_of_a_loss_is_a_task(rows: int, dtype: gradient.dtype) -> None:
    logits = gradient.randn(rows, CLASSES, dtype=dtype)
    loss = gradient.compile(lambda y: F.cross_entropy(logits, y), fullgraph=True, fuse=True)
    for ignored in (0, 0, 0, 0, rows - 1, rows):
        y = gradient.randint(0, CLASSES, (rows,))
        y[:ignored] = -100
        found, expected = loss(y).item(), F.cross_entropy(logits, y).item()
        assert found == pytest.approx(expected, rel=1e-6, nan_ok=True)
    assert "by the kernel" in loss.explain(calls=True).split("mean_of_counted")[1]
    assert "the method mean_of_counted" not in loss.explain(calls=True)


# Side by side -------------------------------------------------------------------------------------

A, B, C, D = (np.zeros(100_000, np.float32) for _ in range(4))
SMALL = np.zeros(8, np.float32)
NONE = Accesses([], [])


def order(*calls: tuple[list[np.ndarray], list[np.ndarray], int]) -> list[bool]:
    """Whether each task waits: of calls that read and write these arrays, in so many chunks."""
    steps = [(task, (None, n, 1, *read, *written)) for read, written, n in calls]
    made = with_concurrency(steps, [Accesses(read, written) for read, written, _ in calls])
    assert [given for _, given in made] == [given for _, given in steps]
    return [function is task for function, _ in made]


def test_tasks_wait_for_what_they_read_and_for_who_reads_what_they_write() -> None:
    assert order(([A], [B], 2), ([A], [C], 2)) == [True, False]
    assert order(([A], [B], 2), ([B], [C], 2)) == [True, True]  # it reads what the other writes
    assert order(([A], [B], 2), ([C], [A], 2)) == [True, True]  # it writes what the other reads
    assert order(([A], [B], 2), ([C], [B], 2)) == [True, True]  # both write it
    assert order(([A], [B[:50]], 2), ([A], [B[50:]], 2)) == [True, False]
    assert order(([A], [B], 2), ([A], [C], 2), ([C], [D], 2)) == [True, False, True]
    assert order(([A], [B], 2), ([C], [D], 2), ([B], [A[:9]], 2)) == [True, False, True]
    assert order(([A], [B], 2), ([A[::-1]], [C[::2]], 2)) == [True, False]
    assert order(([A], [B], 2), ([A], [B[:0]], 2)) == [True, False]


def test_what_no_call_names_is_taken_to_be_written() -> None:
    steps = [(task, (None, 2, 1, A, B)), (task, (None, 2, 1, A, C))]
    for touched, waits in ((Accesses([A], []), False), (NONE, True)):
        made = with_concurrency(steps, [touched, touched])
        assert [function is task for function, _ in made] == [True, waits]


def test_what_follows_on_the_same_thread_is_one_with_it() -> None:
    """A task of one chunk after another is run by the same thread: who runs beside it runs beside
    both."""
    assert order(([A], [B], 1), ([B], [C], 1), ([A], [D], 2)) == [True, True, False]
    assert order(([A], [B], 1), ([B], [C], 1), ([B], [A], 2)) == [True, True, True]
    assert order(([A], [B], 1), ([], [SMALL], 1)) == [True, True]  # few need no other thread
    assert order(([A], [B], 2), ([], [SMALL], 1)) == [True, False]


def test_python_between_tasks_is_waited_for() -> None:
    steps = [(task, (None, 2, 1, A)), (np.copyto, (B, C)), (task, (None, 2, 1, D))]
    made = with_concurrency(steps, [Accesses([A], []), NONE, Accesses([D], [])])
    assert [function for function, _ in made] == [task, np.copyto, task]


def test_what_is_early_does_not_stand_between_tasks() -> None:
    renew = early, (A.fill, 1.0)
    steps = [(task, (None, 1, 1, A)), renew, (task, (None, 1, 1, SMALL)), (task, (None, 2, 1, A))]
    touched = [Accesses([], [A]), NONE, Accesses([], [SMALL]), Accesses([], [A])]
    made = with_concurrency(steps, touched)
    assert [function for function, _ in made] == [task, early, task, task]


def test_what_is_early_comes_first_and_parts_no_tasks() -> None:
    from gradient.backends.numpy import kernels

    fill, made = kernels.load("small_arrays").fill, np.zeros(4)
    first, last = np.ones(1), np.full(1, 2.0)
    steps = [
        (task, (fill, 2, 2, first, made[:2])),
        (early, (first.fill, 5.0)),
        (concurrent_task, (fill, 2, 2, last, made[2:])),
    ]
    program = joined(steps)
    assert [function for function, _ in program] == [early, threads.run_tasks]
    for function, given in program:
        function(*given)
    assert made.tolist() == [5, 5, 2, 2]


# Inputs where they lie ----------------------------------------------------------------------------


def product_of(x: gradient.Tensor, w: gradient.Tensor) -> gradient.Tensor:
    return x @ w


def given_in_place(function: Any) -> int:
    (signature,) = function.signatures.values()
    return len(signature.variants[-1].executor._given)


def test_large_inputs_are_read_where_they_lie() -> None:
    w, v = gradient.randn(400, 96), gradient.randn(128, 96)

    def function(x: gradient.Tensor) -> list[gradient.Tensor]:
        return [product_of(x, w), product_of(x.T, v), product_of(x[32:], w), x.clone()]

    f = gradient.compile(function, fullgraph=True)
    inputs = [gradient.randn(128, 400) for _ in range(6)]
    inputs.append(inputs[0])
    for x in inputs:
        for got, expected in zip(f(x), function(x), strict=True):
            assert got.numpy().tobytes() == expected.numpy().tobytes()
    assert given_in_place(f) == 1
    inputs[-1].zero_()  # the same memory with other numbers
    assert not any(y.any() for y in f(inputs[-1]))


def test_an_input_that_is_not_aligned_is_copied() -> None:
    w = gradient.randn(400, 96)
    f = gradient.compile(lambda x: product_of(x, w), fullgraph=True)
    x = gradient.randn(128, 400)
    for _ in range(4):
        f(x)
    assert given_in_place(f) == 1
    memory = np.zeros(x.numpy().nbytes + 1, np.uint8)
    moved = np.ndarray((128, 400), np.float32, memory, 1)
    moved[...] = x.numpy()
    other = gradient.tensor(0.0)
    other.array = moved
    for given in (other, x, other):
        assert f(given).numpy().tobytes() == product_of(x, w).numpy().tobytes()


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: (product_of(x, w), gradient.sort(x)[0]),
        lambda x, w: (product_of(x, w.requires_grad_()),),  # whose backward pass comes later
    ],
)
def test_inputs_that_python_reads_are_copied(function: Any) -> None:
    x, w = gradient.randn(128, 400), gradient.randn(400, 96)
    f = gradient.compile(lambda x: function(x, w), fullgraph=True)
    for _ in range(4):
        found = f(x)
    for got, expected in zip(found, function(x, w), strict=True):
        assert got.detach().numpy().tobytes() == expected.detach().numpy().tobytes()
    assert given_in_place(f) == 0

"""The thread pool and its lists of tasks: each chunk once, in order, whatever else goes on."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradient.backends.numpy import kernels, pool, threads
from gradient.backends.numpy.cpu_count import cpu_quota, usable_cpus
from gradient.backends.numpy.threads import Tasks

pytest.importorskip("numba")
pytestmark = pytest.mark.cpu_only

counting = kernels.load("compilation").ordered_kernel


@counting
def count(start, stop, counts):
    """Add one to each element."""
    for i in range(start, stop):
        counts[i] += 1


@counting
def follow(start, stop, step, before, after):
    """Each row of `after` becomes `step` if ALL of `before` is step - 1, else -1."""
    for i in range(start, stop):
        right = True
        for j in range(before.size):
            right &= before[j] == step - 1
        after[i] = step if right else -1


@counting
def scale(start, stop, x, factor, y):
    for i in range(start, stop):
        y[i] = x[i] * factor


@counting
def fail(start, stop, at):
    if start <= at < stop:
        raise ValueError


driver = kernels.load("driver")


@counting
def bar(control):
    """Bar sleeping workers as an owner does; the processor that this ran on."""
    before = driver.processor()
    driver._bar_sleepers(control)
    return before if driver.processor() == before else -1


@pytest.fixture(params=[1, 2, 3, 8])
def any_number_of_threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = threads.get_num_threads()
    threads.set_num_threads(request.param)
    yield
    threads.set_num_threads(before)


every_number = pytest.mark.usefixtures("any_number_of_threads")


@every_number
@pytest.mark.parametrize(("n", "chunk"), [(0, 1), (1, 1), (5, 2), (1000, 1), (1000, 7), (9, 100)])
def test_parallel_for_takes_every_row_once(n: int, chunk: int) -> None:
    counts = np.zeros(n, np.int64)
    for _ in range(20):
        threads.parallel_for(count, n, chunk, counts)
    assert (counts == 20).all()


@every_number
@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize(("n", "chunk"), [(1, 1), (7, 1), (64, 5)])
def test_every_task_of_a_list_runs_once(n: int, chunk: int, wait: bool) -> None:
    tasks = Tasks()
    counts = np.zeros((3000, n), np.int64)
    for i in range(3000):
        assert tasks.append(count, n, chunk, counts[i], wait=wait) == i
    for _ in range(3):
        threads.run_tasks(tasks)
    assert len(tasks) == 3000
    assert (counts == 3).all()


def chain(steps: int, sizes: tuple[int, ...]) -> tuple[Tasks, list[np.ndarray]]:
    """A list in which each task needs all of what the one before wrote."""
    tasks = Tasks()
    values = [np.zeros(sizes[i % len(sizes)], np.int64) for i in range(steps + 1)]
    for i in range(steps):
        tasks.append(follow, values[i + 1].size, 1, i + 1, values[i], values[i + 1])
    return tasks, values


@every_number
@pytest.mark.parametrize("sizes", [(1,), (2,), (5,), (1, 1, 4), (3, 1, 1, 2, 1)])
def test_a_task_waits_for_the_one_before(sizes: tuple[int, ...]) -> None:
    tasks, values = chain(2000, sizes)
    for _ in range(3):
        for value in values[1:]:
            value[:] = 0
        threads.run_tasks(tasks)
        for i, value in enumerate(values):
            assert (value == i).all()


@every_number
def test_a_task_that_waits_does_so_for_all_that_do_not() -> None:
    tasks, first = Tasks(), np.zeros((2, 40), np.int64)
    last = np.zeros(40, np.int64)
    tasks.append(count, 20, 1, first[0, :20])
    tasks.append(count, 1, 1, first[0, 20:21], wait=False)
    tasks.append(count, 19, 1, first[0, 21:], wait=False)
    tasks.append(follow, 40, 1, 2, first[0], first[1])
    tasks.append(follow, 40, 3, 3, first[1], last)
    for _ in range(200):
        first[:] = last[:] = 0
        threads.run_tasks(tasks)
        assert (last == 3).all()


def test_an_empty_list_and_empty_tasks() -> None:
    tasks = Tasks()
    threads.run_tasks(tasks)
    counts = np.zeros(3, np.int64)
    tasks.append(count, 0, 1, counts)
    threads.run_tasks(tasks)
    tasks.append(count, 3, 1, counts)
    threads.run_tasks(tasks)
    assert (counts == 1).all()


# Arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [np.float32(1.5), 2, 2.5, True, np.float64(3), np.int32(7)])
def test_numbers_of_all_kinds_reach_the_kernel(number: float) -> None:
    x, y = np.arange(10.0), np.zeros(10)
    threads.parallel_for(scale, 10, 3, x, number, y)
    np.testing.assert_array_equal(y, x * number)


def test_arrays_of_all_layouts_reach_the_kernel() -> None:
    x = np.arange(120.0).reshape(10, 4, 3)
    x.setflags(write=False)
    for view in (x[:, 1, 2], x[::-1, 3, 0], np.asfortranarray(x[:, 0, 0]), x[3:, 1, 1]):
        y = np.zeros(30)[::3][: len(view)]
        threads.parallel_for(scale, len(view), 2, view, 2.0, y)
        np.testing.assert_array_equal(y, view * 2)


def test_a_task_is_given_other_arguments() -> None:
    tasks, x, y, z = Tasks(), np.arange(6.0), np.zeros(6), np.zeros(6)
    task = tasks.append(scale, 6, 2, x, 2.0, y)
    threads.run_tasks(tasks)
    tasks.update(task, x, 3.0, z)
    threads.run_tasks(tasks)
    np.testing.assert_array_equal([y, z], [2 * x, 3 * x])
    with pytest.raises(TypeError, match="scale: update: arguments of other types"):
        tasks.update(task, x, 3, z)


def test_a_list_keeps_its_arrays() -> None:
    tasks, y = Tasks(), np.zeros(100_000)
    tasks.append(scale, 100_000, 1000, np.full(100_000, 3.0), 2.0, y)
    others = [np.full(100_000, 7.0) for _ in range(8)]  # where the first one was, if it is not kept
    threads.run_tasks(tasks)
    assert (y == 6).all() and len(others) == 8


@every_number
def test_an_exception_in_a_kernel_is_raised() -> None:
    with pytest.raises(RuntimeError, match="fail: the kernel raised an exception"):
        threads.parallel_for(fail, 100, 1, 50)
    tasks, counts = Tasks(), np.zeros(10, np.int64)
    task = tasks.append(fail, 10, 1, 7)
    tasks.append(count, 10, 1, counts)
    with pytest.raises(RuntimeError, match="a kernel of the list raised an exception"):
        threads.run_tasks(tasks)
    tasks.update(task, 99)
    threads.run_tasks(tasks)
    threads.parallel_for(fail, 100, 1, 500)


# How many threads ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, np.inf),
        ({"proc/self/cgroup": "0::/a/b\n"}, np.inf),
        ({"proc/self/cgroup": "0::/a/b\n", "cgroup/a/b/cpu.max": "max 100000\n"}, np.inf),
        ({"proc/self/cgroup": "0::/a/b\n", "cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "cgroup/a/b/cpu.max": "300000 100000\n",
                "cgroup/a/cpu.max": "200000 100000\n",
            },
            2.0,
        ),
        # A container sees its own group as the top, by whatever path it is called outside.
        ({"proc/self/cgroup": "0::/\n", "cgroup/cpu.max": "50000 100000"}, 0.5),
        ({"proc/self/cgroup": "0::/../a\n", "cgroup/cpu.max": "50000 100000"}, 0.5),
        (
            {
                "proc/self/cgroup": "3:memory:/x\n2:cpu,cpuacct:/docker/1\n",
                "cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
                "cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        (
            {
                "proc/self/cgroup": "2:cpu:/\n",
                "cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            np.inf,
        ),
    ],
)
def test_a_quota_of_control_groups_is_found(
    files: dict[str, str], expected: float, tmp_path: Path
) -> None:
    for name, text in files.items():
        path = tmp_path / name.replace("cgroup/", "sys/fs/cgroup/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert cpu_quota(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [(0.5, 1), (1.0, 1), (1.5, 2), (np.inf, None)])
def test_a_quota_is_rounded_up(
    quota: float, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    monkeypatch.setattr("gradient.backends.numpy.cpu_count.cpu_quota", lambda: quota)
    assert usable_cpus() == min(expected or 1000, usable or 1)


@pytest.mark.parametrize(("asked", "expected"), [("3", 3), ("0", None), ("many", None)])
def test_the_environment_says_how_many(asked: str, expected: int | None) -> None:
    program = "import gradient; print(gradient.get_num_threads())"
    environment = os.environ | {"OMP_NUM_THREADS": asked}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    assert int(done.stdout) == (expected or usable_cpus())


# Other threads, forks, exits, Ctrl-C --------------------------------------------------------------


@every_number
def test_several_threads_call_at_once() -> None:
    """One has the pool, the others run their lists alone."""
    wrong: list[object] = []

    def work() -> None:
        tasks, values = chain(200, (3, 1, 2))
        counts = np.zeros(50, np.int64)
        for i in range(30):
            for value in values[1:]:
                value[:] = 0
            threads.run_tasks(tasks)
            threads.parallel_for(count, 50, 1, counts)
            if not all((value == i).all() for i, value in enumerate(values)):
                wrong.append(values)
            if not (counts == i + 1).all():
                wrong.append(counts)

    callers = [threading.Thread(target=work) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_the_number_of_threads_changes_while_lists_run() -> None:
    before, done = threads.get_num_threads(), threading.Event()
    wrong: list[object] = []

    def work() -> None:
        counts = np.zeros(50, np.int64)
        while not done.is_set():
            counts[:] = 0
            threads.parallel_for(count, 50, 1, counts)
            if not (counts == 1).all():
                wrong.append(counts)

    caller = threading.Thread(target=work)
    caller.start()
    for n in [1, 3, 2, 8] * 5:
        threads.set_num_threads(n)
        work_once = np.zeros(50, np.int64)
        threads.parallel_for(count, 50, 1, work_once)
        assert (work_once == 1).all()
    done.set()
    caller.join()
    threads.set_num_threads(before)
    assert not wrong


def test_kernels_may_be_called_from_the_work_of_others() -> None:
    counts = np.zeros((6, 100), np.int64)
    threads.run(6, lambda i: threads.parallel_for(count, 100, 1, counts[i]))
    assert (counts == 1).all()


def test_python_work_keeps_the_workers_for_itself() -> None:
    """So that no more threads work than were asked for; afterwards lists have them again."""
    before = threads.get_num_threads()
    threads.set_num_threads(2)
    counts = np.zeros(10, np.int64)
    threads.parallel_for(count, 10, 1, counts)
    running: Any = pool.current
    gate = running.driver.GATE + running.control

    def lists() -> int:
        return int(ctypes.c_int64.from_address(gate).value) // running.driver.LIST

    begun = lists()
    threads.run(2, lambda i: threads.parallel_for(count, 10, 1, counts))
    assert lists() == begun
    with pytest.raises(ZeroDivisionError):
        threads.run(2, lambda i: 1 // 0)
    threads.parallel_for(count, 10, 1, counts)
    assert lists() == begun + 1
    threads.set_num_threads(before)


def test_a_stopped_pool_leaves_no_worker() -> None:
    threads.parallel_for(count, 10, 1, np.zeros(10, np.int64))
    running = pool.current
    assert running is not None
    pool.stop()
    assert not any(worker.is_alive() for worker in running._workers)


# A list of `TASKS` tasks, each of many chunks that take some ten microseconds.
PROGRAM = """
import os, signal, sys, threading, time
import numpy as np
import gradient
from gradient.backends.numpy import kernels, pool, threads

threads.set_num_threads(3)
softmax = kernels.load("norms").softmax
x = np.random.default_rng(0).standard_normal((40, 3000)).astype(np.float32)

def make(tasks):
    outs = [np.zeros_like(x) for _ in range(4)]
    made = threads.Tasks()
    for i in range(tasks):
        made.append(softmax, 40, 1, x, outs[i % 4])
    return made, outs

threads.run_tasks(make(4)[0])
"""


def python(program: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM + program],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    done.stderr = done.stderr.replace(COMPILING, "")
    return done


COMPILING = "compiling kernels, cached for later runs\n"
"""What is said where no kernels of these sources are on disk yet."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_has_a_pool_of_its_own() -> None:
    """Also where the fork came while another thread's list ran."""
    done = python("""
ended = threading.Event()
def others():
    tasks, _ = make(50)
    while not ended.is_set():
        threads.run_tasks(tasks)
other = threading.Thread(target=others)
other.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        assert pool.current is None
        tasks, outs = make(8)
        threads.run_tasks(tasks)
        assert len(pool.current._workers) == 2
        os._exit(int(not all((out == outs[0]).all() for out in outs)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
ended.set()
other.join()
""")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "end",
    [
        "pass",  # workers still spin
        "time.sleep(0.3)",  # they sleep
        "sys.exit(0)",
        "threading.Thread(target=threads.run_tasks, args=(make(300)[0],), daemon=True).start()",
    ],
)
def test_the_process_ends(end: str) -> None:
    done = python(f"{end}\n")
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_starts_workers_after_the_end_has_stopped_them() -> None:
    done = python("""
import atexit

def late():
    tasks, outs = make(4)
    threads.run_tasks(tasks)
    assert (outs[0] == outs[3]).all()
    print(len(pool.current._workers))

atexit.unregister(pool._stop_at_exit)
atexit.register(late)
atexit.register(pool._stop_at_exit)  # so that it is the first to be called
""")
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
def test_ctrl_c_arrives_when_the_list_is_done() -> None:
    done = python("""
signal.signal(signal.SIGINT, signal.default_int_handler)
tasks, outs = make(300)
for delay in (0.001, 0.02, 0.05):
    try:
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
        while True:
            threads.run_tasks(tasks)
    except KeyboardInterrupt:
        print("interrupted")
    for out in outs:
        out[:] = 0
    threads.run_tasks(tasks)
    assert all((out == outs[0]).all() and out.sum() > 1 for out in outs)
""")
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["interrupted"] * 3, "")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinity")
def test_a_worker_wakes_up_on_another_processor_than_its_caller() -> None:
    """It may not run on the caller's while it sleeps, and anywhere again once it is awake."""
    everywhere = os.sched_getaffinity(0)
    before = threads.get_num_threads()
    threads.set_num_threads(3)
    try:
        counts = np.zeros(100, np.int64)
        threads.parallel_for(count, 100, 1, counts)
        workers = pool.current
        assert workers is not None
        ids = [worker.native_id or 0 for worker in workers._workers]
        for _ in range(20):
            eventually(lambda: workers.asleep() == [driver.DOZING] * 2)
            assert [os.sched_getaffinity(i) for i in ids] == [everywhere] * 2
            here = bar(workers.control)
            if here >= 0 and len(everywhere) > 1:
                assert [os.sched_getaffinity(i) for i in ids] == [everywhere - {here}] * 2
            threads.parallel_for(count, 100, 1, counts)
            eventually(lambda: [os.sched_getaffinity(i) for i in ids] == [everywhere] * 2)
        assert (counts == 21).all()
    finally:
        threads.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinity")
def test_a_worker_that_shares_its_callers_processor_leaves_it() -> None:
    """It notices that lists were run while it let others run, sleeps, and is woken elsewhere."""
    everywhere = os.sched_getaffinity(0)
    if len(everywhere) < 2:
        pytest.skip("one processor")
    before = threads.get_num_threads()
    threads.set_num_threads(2)
    x, y = np.ones((2, 1 << 18))
    try:
        threads.parallel_for(scale, x.size, 1 << 14, x, 2.0, y)
        workers = pool.current
        assert workers is not None
        worker = workers._workers[0].native_id or 0
        for _ in range(5):
            one = {min(everywhere)}
            os.sched_setaffinity(0, one)
            os.sched_setaffinity(worker, one)
            lists = 0
            while os.sched_getaffinity(worker) == one:
                threads.parallel_for(scale, x.size, 1 << 14, x, 2.0, y)
                lists += 1
                assert lists < 20_000
            os.sched_setaffinity(0, everywhere)
        assert (y == 2).all()
    finally:
        os.sched_setaffinity(0, everywhere)
        threads.set_num_threads(before)


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("system", [None, "a system without futex"])
def test_workers_without_work_take_no_processor_time(system: str | None, tmp_path: Path) -> None:
    """They sleep, and wake up for the next list."""
    program = f"""
import time
import numpy as np
from gradient.backends.numpy import kernels, pool, threads

atomics, system = kernels.load("atomics"), {system!r}
atomics.SYSTEM = system or atomics.SYSTEM
threads.set_num_threads(3)
x = np.ones((40, 3000), np.float32)
y = np.zeros_like(x)
tasks = threads.Tasks()
for _ in range(20):
    tasks.append(kernels.load("norms").softmax, 40, 1, x, y)
for _ in range(3):
    y[:] = 0
    threads.run_tasks(tasks)
    assert np.allclose(y, 1 / 3000)
    time.sleep(0.2)  # until the workers have gone to sleep
    before = time.process_time()
    time.sleep(0.5)
    print(time.process_time() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(float(seconds) < 0.25 for seconds in done.stdout.split())


@pytest.mark.slow
def test_two_hundred_runs_under_load() -> None:
    """Other processes take the processors away at any point."""
    load = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(os.cpu_count() or 1)
    ]
    before = threads.get_num_threads()
    try:
        tasks, values = chain(100, (4, 1, 3, 2, 1))
        for run in range(200):
            threads.set_num_threads(1 + run % 3)
            for value in values[1:]:
                value[:] = 0
            counts = np.zeros(500, np.int64)
            threads.run_tasks(tasks)
            threads.parallel_for(count, 500, 3, counts)
            assert all((value == i).all() for i, value in enumerate(values)), run
            assert (counts == 1).all(), run
    finally:
        threads.set_num_threads(before)
        for process in load:
            process.send_signal(signal.SIGTERM)
            process.wait()

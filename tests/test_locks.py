"""Locks and forks: a child finds every lock free, whatever the parent's threads were doing."""

from __future__ import annotations

import gc
import importlib
import pkgutil
import queue
import subprocess
import sys
import threading
from typing import Any

import pytest

import gradient
from gradient import locks

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(sys.platform == "win32", reason="no fork"),
]

WAITING = (
    type(threading.Lock()),
    type(threading.RLock()),
    threading.Condition,
    threading.Semaphore,
    threading.Event,
    threading.Barrier,
    queue.Queue,
    queue.SimpleQueue,
)
"""What a thread may wait for, and in a forked child for ever."""


def modules() -> list[Any]:
    """Every module of the package but those that need a library that is not installed."""
    found = [gradient]
    for each in pkgutil.walk_packages(gradient.__path__, "gradient."):
        if each.name.endswith("__main__"):
            continue
        try:
            found.append(importlib.import_module(each.name))
        except ImportError as error:
            assert not (error.name or "").startswith("gradient"), error
    return found


def held_by(module: Any) -> list[tuple[str, Any]]:
    """The values of a module's names, of its classes' attributes, and of its objects' own."""
    found = []
    for name, value in vars(module).items():
        place = f"{module.__name__}.{name}"
        found.append((place, value))
        if str(getattr(value, "__module__", "")).startswith("gradient"):
            inner = getattr(value, "__dict__", {})
            found += [(f"{place}.{attribute}", each) for attribute, each in inner.items()]
    return found


def test_every_lock_is_renewed_in_a_forked_child():
    waits = {
        place: value
        for module in modules()
        for place, value in held_by(module)
        if isinstance(value, WAITING)
    }
    renewed = [id(lock) for lock in locks._locks]
    assert {
        "gradient.tensor.generator.draw_lock",
        "gradient.autograd.engine.grad_lock",
    } <= waits.keys()
    assert [place for place, lock in waits.items() if id(lock) not in renewed] == []


def test_no_lock_outlives_its_owner():
    gradient.compile(abs)  # which brings locks of modules
    gc.collect()
    before = len(locks._locks)
    for _ in range(5):
        gradient.compile(abs)
    gc.collect()
    assert len(locks._locks) == before


def forked(code: str) -> None:
    """Run code in a process that forks; a child that hangs is ended, and fails the test."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", CHILD + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


CHILD = """
import os, signal, threading
import gradient

def child(work):
    if os.fork() == 0:
        signal.alarm(60)  # a lock that is not free would wait for ever
        os._exit(not work())
    assert os.wait()[1] == 0
"""


@pytest.mark.parametrize(
    ("lock", "work"),
    [
        ("gradient.tensor.generator.draw_lock", "gradient.randn(4).shape == (4,)"),
        (
            "gradient.autograd.engine.grad_lock",
            "gradient.ones(2, requires_grad=True).sum().backward() is None",
        ),
    ],
)
def test_a_child_finds_a_lock_free_that_another_thread_held(lock, work):
    forked(
        f"from {lock.rpartition('.')[0]} import {lock.rpartition('.')[2]} as lock\n"
        "held, done = threading.Event(), threading.Event()\n"
        "def hold():\n"
        "    with lock:\n"
        "        held.set()\n"
        "        done.wait()\n"
        "thread = threading.Thread(target=hold)\n"
        "thread.start()\n"
        "held.wait()\n"
        f"child(lambda: {work})\n"
        "assert lock.locked()\n"  # the parent's is still held
        "done.set()\n"
        "thread.join()\n"
    )


@pytest.mark.parametrize("name", ["linalg.inv", "nn.Linear", "compile"])
def test_a_fork_waits_for_an_import_of_another_thread(name):
    """In a child, importlib's lock of the module would stay locked, and the module half run."""
    forked(
        "import sys, time\n"
        "begun = threading.Event()\n"
        "class Slow:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name.startswith('gradient.') and not begun.is_set():\n"
        "            begun.set()\n"
        "            time.sleep(0.3)\n"
        "sys.meta_path.insert(0, Slow())\n"
        f"thread = threading.Thread(target=lambda: gradient.{name})\n"
        "thread.start()\n"
        "assert begun.wait(60)\n"
        f"child(lambda: gradient.{name} is not None)\n"
        "thread.join()\n"
    )


def test_a_fork_that_waits_leaves_the_import_lock_to_the_one_that_holds_it(monkeypatch):
    """Where a second thread forks during the fork of a first, which then still lets go of it."""
    monkeypatch.setattr(locks, "FORK_TIMEOUT", 0.05)

    def fork() -> None:
        locks._lock_before_fork()
        locks._unlock_after_fork()

    def one_thread_after_the_other(work: Any) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    def is_free() -> bool:
        got: bool = locks.import_lock.acquire(timeout=0.05)
        if got:
            locks.import_lock.release()
        return got

    free: list[bool] = []
    locks._lock_before_fork()
    one_thread_after_the_other(fork)
    locks._unlock_after_fork()
    one_thread_after_the_other(lambda: free.append(is_free()))
    assert free == [True]


def test_a_child_has_the_threads_of_blas_that_another_thread_held_back():
    forked(
        "from gradient.backends.numpy import blas\n"
        "held, done = threading.Event(), threading.Event()\n"
        "def hold():\n"
        "    with blas.one_blas_thread():\n"
        "        held.set()\n"
        "        done.wait()\n"
        "if blas.openblas():\n"
        "    get, set_ = blas.openblas()\n"
        "    set_(2)\n"
        "    before = get()\n"
        "    thread = threading.Thread(target=hold)\n"
        "    thread.start()\n"
        "    held.wait()\n"
        "    child(lambda: get() == before)\n"
        "    assert get() == 1\n"
        "    done.set()\n"
        "    thread.join()\n"
        "    assert get() == before\n"
    )

"""Compiling kernels: Ctrl-C ends the wait and harms nothing; what is on disk is kept in order."""

from __future__ import annotations

import dis
import io
import itertools
import pkgutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from gradient.backends.numpy import claims, compiler, kernels
from gradient.generation.generate import TextStream
from gradient.generation.result import Generation

pytestmark = pytest.mark.cpu_only


def ctrl_c() -> None:
    """A signal to the process; the main thread gets it while it waits."""
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="no pthread_kill")


@needs_signals
def test_ctrl_c_ends_the_wait_and_the_work_goes_on() -> None:
    go, done = threading.Event(), threading.Event()

    def work() -> None:
        ctrl_c()
        go.wait()
        done.set()

    with pytest.raises(KeyboardInterrupt):
        compiler.run(work)
    assert not done.is_set()
    go.set()
    assert compiler.run(done.is_set)  # which waits for its turn


@needs_signals
def test_a_second_ctrl_c_ends_the_wait_for_the_rest() -> None:
    go = threading.Event()

    def work() -> None:
        ctrl_c()
        go.wait()

    with pytest.raises(KeyboardInterrupt):
        compiler.run(work)
    again = threading.Thread(target=ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        again.start()
        compiler.run(print)
    again.join()
    go.set()
    assert compiler.run(lambda: 5) == 5


def test_an_error_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        compiler.run(lambda: 1 // 0)
    assert not compiler.work_lock.locked()


def test_another_thread_does_its_own_work() -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(compiler.run(threading.current_thread)))
    thread.start()
    thread.join()
    assert found == [thread] and compiler.run(threading.current_thread).daemon


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_fork_waits_until_a_kernel_is_compiled() -> None:
    """A child would wait for ever for a kernel that its parent was compiling."""
    program = """
import os, threading
import gradient
from gradient.backends.numpy import compiler

begun, go = threading.Event(), threading.Event()
def work():
    begun.set()
    go.wait()
thread = threading.Thread(target=compiler.run, args=(work,))
thread.start()
begun.wait()
threading.Timer(0.1, go.set).start()
child = os.fork()
assert go.is_set()
if child == 0:
    os._exit(compiler.run(lambda: 7))
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
assert compiler.run(lambda: 5) == 5
thread.join()
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_fork_waits_for_numba_without_the_lock_of_logging() -> None:
    """numba imports `logging` and asks for its loggers, whose lock a fork takes."""
    program = """
import os, threading, time
from gradient.backends.numpy import compiler

begun = threading.Event()
def work():
    import logging
    begun.set()
    time.sleep(0.3)
    logging.getLogger("numba")
thread = threading.Thread(target=compiler.run, args=(work,), daemon=True)
thread.start()
begun.wait()
threading.Timer(20, os._exit, (3,)).start()
if os.fork() == 0:
    os._exit(0)
os._exit(0)
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    assert subprocess.run(command, timeout=300).returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_ctrl_c_while_a_fork_waits_is_not_lost() -> None:
    """os.fork swallows what is raised in what it calls: it comes after it, to parent and child."""
    program = """
import os, signal, threading, time
import gradient
from gradient.backends.numpy import compiler

signal.signal(signal.SIGINT, signal.default_int_handler)
begun, go = threading.Event(), threading.Event()
def work():
    begun.set()
    go.wait()
threading.Thread(target=compiler.run, args=(work,), daemon=True).start()
begun.wait()
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
parent, interrupted = os.getpid(), False
try:
    os.fork()
    time.sleep(60)
except KeyboardInterrupt:
    interrupted = True
if os.getpid() != parent:
    os._exit(7 if interrupted else 1)
assert interrupted
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
go.set()
assert compiler.run(lambda: 5) == 5
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "KeyboardInterrupt" not in done.stderr


# What is said of it -------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    "kept, line",
    [
        (True, "compiling kernels, cached for later runs\n"),
        (False, "compiling kernels, again in each run\n"),
    ],
)
def test_a_log_has_one_line_however_long_it_takes(kept, line, clock, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    progress = compiler.Progress()
    for _ in range(3):
        progress.begin("softmax", kept)
        clock[0] += 0.4
        progress.show()
        progress.end()
        progress.hide()
    assert log.getvalue() == line


def test_nothing_is_said_of_what_takes_less_than_a_second(clock, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    progress = compiler.Progress()
    clock[0] += 100
    progress.show()  # a kernel is loaded, or numba imported
    progress.begin("softmax")
    clock[0] += 0.9
    progress.show()
    assert log.getvalue() == ""


def test_nothing_is_said_amid_a_text(clock, monkeypatch) -> None:
    monkeypatch.setattr(compiler, "progress", progress := compiler.Progress())
    said = []

    def pieces() -> Generator[tuple[int, str], None, None]:
        for number, piece in enumerate(["", "Once", " upon"]):
            monkeypatch.setattr(sys, "stderr", log := io.StringIO())
            progress._said = False
            progress.begin("softmax")
            clock[0] += 2
            progress.show()
            said.append(log.getvalue() != "")
            progress.end()
            yield number, piece

    stream: Iterator[str] = TextStream(Generation(), pieces())
    assert "".join(stream) == "Once upon"
    assert said == [True, True, False]


def test_a_terminal_shows_a_line_that_goes_again(clock, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    progress = compiler.Progress()
    progress.begin("softmax")
    progress.end()
    progress.begin("attention")
    clock[0] += 7
    progress.show()
    assert terminal.getvalue() == "\r\x1b[Kcompiling kernels: 2, attention (7 s)"
    progress.hide()
    assert terminal.getvalue().endswith("\r\x1b[K")


# The cache ----------------------------------------------------------------------------------------


@pytest.fixture
def double(tmp_path, monkeypatch):
    """A new kernel each time, as in a new process, with its cache in a folder of the test."""
    numba = pytest.importorskip("numba")
    compilation = kernels.load("compilation")
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", str(tmp_path))

    def compiled(expected: str) -> int:
        def twice(x):
            return 2 * x

        kernel = compilation.kernel(twice)
        assert kernel(21) == 42
        found = "loaded" if sum(kernel.stats.cache_hits.values()) else "compiled"
        assert found == expected
        return kernel

    return compiled


def test_a_damaged_cache_is_compiled_anew(double, tmp_path) -> None:
    double("compiled")
    double("loaded")
    for pattern in ("*.nbc", "*.nbi"):
        for path in tmp_path.rglob(pattern):
            path.write_bytes(path.read_bytes()[:-9])
        double("compiled")
        double("loaded")


def test_a_kernel_of_other_sources_is_not_loaded(double, tmp_path, monkeypatch) -> None:
    """As is left by a process that was killed between writing the index and the kernel."""
    double("compiled")
    [old] = tmp_path.rglob("*.nbc")
    kernel = old.read_bytes()
    compilation = kernels.load("compilation")
    monkeypatch.setattr(compilation, "_stamp", lambda: "other sources")
    double("compiled")
    double("loaded")
    old.write_bytes(kernel)
    double("compiled")


def test_code_for_those_who_would_call_a_kernel_is_not_kept(double) -> None:
    """Numba keeps it beside the machine code: up to some MiB a kernel."""
    for how in ("compiled", "loaded"):
        kernel = double(how)
        assert [each.library._shared_module for each in kernel.overloads.values()] == [None]
        assert kernel(21) == 42 and kernel(10.5) == 21


def test_no_kernel_calls_another() -> None:
    """They call subroutines, of which that code is kept."""
    dispatcher = pytest.importorskip("numba.core.dispatcher").Dispatcher
    cache = kernels.load("compilation")._KernelCache
    calling, found = [], 0
    for module in pkgutil.iter_modules(kernels.__path__):
        for function in vars(kernels.load(module.name)).values():
            if isinstance(function, dispatcher):
                code = function.py_func.__code__
                read = [x for x in dis.get_instructions(code) if x.opname == "LOAD_GLOBAL"]
                names = {each.argval for each in read}
                used = [function.py_func.__globals__.get(name) for name in names]
                used = [x for x in used if isinstance(x, dispatcher)]
                found += len(used)
                calling += [(code.co_name, x) for x in used if isinstance(x._cache, cache)]
    assert found > 100 and not calling


def test_a_full_disk_is_said_and_does_no_harm(double, tmp_path, monkeypatch) -> None:
    compilation = kernels.load("compilation")
    monkeypatch.setattr(compilation, "_warned", False)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compilation.caching.IndexDataCacheFile, "_save_data", full)
    with pytest.warns(UserWarning, match="compiled anew by each process.*No space left") as told:
        double("compiled")
        double("compiled")
    assert len(told) == 1


@pytest.mark.parametrize("step", ["_load_index", "_save_data", "_save_index"])
def test_a_kernel_that_another_process_saves_at_the_time_is_not_mistaken(
    step, tmp_path, monkeypatch
) -> None:
    """The other one saves before or after a step of the first, by an index that it read then or
    before all, on a system without locks."""
    pytest.importorskip("numba")
    monkeypatch.setattr(claims, "fcntl", None)
    files = kernels.load("compilation")._KernelFiles
    for number, (when, early) in enumerate(itertools.product(("before", "after"), (False, True))):
        pair = [files(str(tmp_path), f"kernel-{number}.py3", "stamp") for _ in range(2)]
        first, second = pair
        original, waiting = getattr(first, step), [True]
        read = second._load_index
        if early:
            second._load_index = dict

        def interrupted(*given, original=original, second=second, when=when, waiting=waiting):
            found = original(*given) if when == "after" else None
            if waiting:
                waiting.clear()
                second.save(("int64",), "for int64")
            return found if when == "after" else original(*given)

        setattr(first, step, interrupted)
        first.save(("float32",), "for float32")
        assert not waiting
        second._load_index = read
        for reader in pair:
            assert reader.load(("int64",)) in ("for int64", None)
            assert reader.load(("float32",)) in ("for float32", None)
        second.save(("int64",), "for int64")
        first.save(("float32",), "for float32")
        assert first.load(("int64",)) == "for int64"
        assert second.load(("float32",)) == "for float32"


def test_kernels_of_older_sources_are_removed(tmp_path) -> None:
    pytest.importorskip("numba")
    files = kernels.load("compilation")._KernelFiles
    for stamp in ("old", "new"):
        for types in (("float32",), ("float64",)):
            files(str(tmp_path), "kernel-1.py3", stamp).save((stamp, *types), types)
            files(str(tmp_path), "kernel-10.py3", "other").save(types, types)
    names = [path.name for path in tmp_path.glob("kernel-1.py3.*.nbc")]
    assert len(names) == 2 and len(list(tmp_path.glob("kernel-10.py3.*.nbc"))) == 2

"""Kernels that other processes compile: which, by whom, and who waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba")

from gradient import nn
from gradient.backends.numpy import ahead, claims, expected_kernels
from gradient.backends.numpy.cpu_count import usable_cpus
from gradient.backends.numpy.kernels import cpu
from gradient.cli import first_use

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(claims.fcntl is None, reason="a system without flock"),
]

TEXT = str(Path(nn.__file__).parent / "module.py")
COMMANDS = {
    "generation in bfloat16": ["generate", "Once upon a time"],
    "generation in float32": ["generate", "Once upon a time", "--dtype", "float32"],
    "training in float32": ["train", TEXT, "--out", "run", "--steps", "3", "--eval-batches", "1"],
}


def python(
    program: str, *arguments: object, cwd: Path | None = None, **environment: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | environment, cwd=cwd,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(
    cpu.PATH != "avx2" or usable_cpus() != 2, reason="lists are those of two processors with AVX2"
)
@pytest.mark.parametrize("work", expected_kernels.LISTS)
def test_lists_have_what_commands_need(work: str, tmp_path: Path) -> None:
    program = """
        import sys
        from support import list_kernels
        needed = list_kernels.watch()
        from gradient.cli import main
        try:
            main()
        finally:
            print(*needed, sep="\\n", file=sys.stderr)
    """
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    with python(program, *COMMANDS[work], cwd=tmp_path, PYTHONPATH=paths) as process:
        _, told = process.communicate(timeout=600)
    assert process.returncode == 0, told
    listed, needed = set(expected_kernels.lines(work)), set(told.splitlines())
    assert sorted(listed - needed) == [], "list them again: tests/support/list_kernels.py"
    small = {line for line in needed if line.startswith(("casts.", "compiling kernels"))}
    assert sorted(needed - listed - small) == [], "list them again: tests/support/list_kernels.py"


SINES = """
import sys, gradient
from gradient.backends.numpy.kernels import compilation
saved, save = [], compilation._KernelCache.save_overload

def note(cache, kinds, data):
    saved.append(cache._py_func.__name__)
    save(cache, kinds, data)

compilation._KernelCache.save_overload = note
x = gradient.ones(1 << 16)
sys.stdin.readline()
x.sin(), x.cos(), x.exp()
print(*saved)
"""


@pytest.mark.slow
def test_two_processes_compile_each_kernel_once(tmp_path: Path) -> None:
    both = [python(SINES, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    for process in both:
        process.stdin.write("\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    outputs = [process.communicate(timeout=600) for process in both]
    saved = [name for out, _ in outputs for name in out.split()]
    assert {"sin", "cos", "exp_of"} <= set(saved) and len(saved) == len(set(saved)), outputs
    assert not list(tmp_path.rglob("*.lock"))


def test_a_claim_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "kernel.nbc")
    program = """
        import sys
        from gradient.backends.numpy import claims
        print(claims.claim(sys.argv[1]), flush=True)
        sys.stdin.readline()
        claims.release()
        sys.stdin.readline()
    """
    with python(program, path) as other:
        assert other.stdout.readline() == "False\n"  # type: ignore[union-attr]
        with claims.without_waiting(), pytest.raises(claims.ClaimedElsewhere):
            claims.claim(path)
        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 3:
                other.stdin.write("\n")  # type: ignore[union-attr]
                other.stdin.flush()  # type: ignore[union-attr]

        monkeypatch.setattr(claims.time, "sleep", sleep)
        assert claims.claim(path) and len(slept) >= 3
        claims.release()
        assert not claims.claim(path)
        claims.release()
        other.communicate("\n")
    assert not list(tmp_path.iterdir())


def test_a_killed_process_gives_its_claim_back(tmp_path: Path) -> None:
    path = str(tmp_path / "kernel.nbc")
    program = """
        import sys
        from gradient.backends.numpy import claims
        print(claims.claim(sys.argv[1]), flush=True)
        sys.stdin.readline()
    """
    with python(program, path) as other:
        assert other.stdout.readline() == "False\n"  # type: ignore[union-attr]
        other.kill()
        other.wait()
    with claims.without_waiting():
        assert not claims.claim(path)
    claims.release()


def test_no_claim_is_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "kernel.nbc")
    assert not claims.claim(path)  # flock tells apart the files that are opened, not processes
    monkeypatch.setattr(claims, "_longest", 0.05)
    assert claims.claim(path) and claims._longest == 0  # the next one is not waited for
    claims.release()


def test_a_lock_whose_file_was_removed_is_none(tmp_path: Path, monkeypatch: Any) -> None:
    """The one that had it gave it back, and another took a new file, just before we locked."""
    path = str(tmp_path / "index")
    lock, calls = claims.fcntl.flock, []

    def lock_late(file: int, kind: int) -> None:
        calls.append(kind)
        if len(calls) == 1:
            os.unlink(f"{path}.lock")
            assert not claims.claim(path)
            monkeypatch.setattr(claims.time, "sleep", lambda _: claims.release())
        lock(file, kind)

    monkeypatch.setattr(claims.fcntl, "flock", lock_late)
    assert claims.claim(path) and len(claims._held) == 1
    assert (tmp_path / "index.lock").exists()
    claims.release()
    assert not list(tmp_path.iterdir())


def test_a_forked_process_keeps_no_lock(tmp_path: Path) -> None:
    """One that Ctrl-C let fork while a kernel was compiled has the file open, too."""
    path = tmp_path / "kernel.nbc"
    assert not claims.claim(str(path))
    forked = os.dup(claims._held[-1].file)
    with open(f"{path}.lock") as waiting:
        claims.release()
        claims.fcntl.flock(waiting, claims.fcntl.LOCK_EX | claims.fcntl.LOCK_NB)
    os.close(forked)


def test_processes_agree_on_the_name_of_a_kernel() -> None:
    """Whatever types numba has made before: it gives them numbers in their order."""
    program = """
        import sys
        from numba import types
        made = [types.Array(types.int8, axes, "A") for axes in range(int(sys.argv[1]))]
        from gradient.backends.numpy import kernels
        kernel = kernels.load("norms").rms_norm
        kinds = (types.int64, types.float32[:, ::1], types.Array(types.uint16, 4, "A"))
        key = kernel._cache._index_key(kinds, kernel.targetctx.codegen())
        print(kernel._cache._cache_file.path_of(key))
    """
    names = set()
    for count in (0, 7):
        with python(program, count) as process:
            names.add(process.communicate(timeout=300)[0])
        assert process.returncode == 0
    assert len(names) == 1


def test_where_there_are_no_locks_nothing_is_claimed(tmp_path: Path, monkeypatch: Any) -> None:
    for claimed in (tmp_path / "absent" / "kernel.nbc", tmp_path / "kernel.nbc"):
        for _ in range(2):
            assert not claims.claim(str(claimed))
            monkeypatch.setattr(claims, "fcntl", None)


# Helpers ------------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []
    monkeypatch.setattr(ahead.subprocess, "Popen", lambda command, **_: commands.append(command))
    monkeypatch.setattr(ahead, "_helpers", [])
    return commands


@pytest.mark.parametrize(("cpus", "helpers"), [(1, 0), (2, 1), (4, 3), (64, ahead.MAX_HELPERS)])
def test_one_processor_is_left_to_the_command(
    cpus: int, helpers: int, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "usable_cpus", lambda: cpus)
    ahead.expect("generation in float32")
    ahead.begin()
    ahead.begin()  # the next kernel that is not in the cache
    assert len(started) == helpers


@pytest.mark.parametrize(("name", "value"), [("executable", ""), ("frozen", True)])
def test_without_an_interpreter_nobody_starts(
    name: str, value: Any, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "usable_cpus", lambda: 2)
    monkeypatch.setattr(ahead.sys, name, value, raising=False)
    ahead.expect("generation in float32")
    ahead.begin()
    assert not started


def test_ctrl_c_does_not_end_a_helper(monkeypatch: pytest.MonkeyPatch) -> None:
    """From its very start."""
    monkeypatch.setattr(ahead, "usable_cpus", lambda: 2)
    monkeypatch.setattr(ahead, "_helpers", [])
    ahead.expect("generation in float32")
    ahead.begin()
    (helper,) = ahead._helpers
    helper.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        helper.wait(1)
    helper.kill()
    helper.communicate()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_what_is_not_listed_starts_nobody(started: list[list[str]]) -> None:
    ahead.begin()
    ahead.expect("generation in float64")
    ahead.begin()
    assert not started


@pytest.mark.parametrize(("free", "helps"), [(None, True), (8 << 30, True), (1 << 30, False)])
def test_helpers_need_memory(
    free: int | None, helps: bool, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "usable_cpus", lambda: 2)
    monkeypatch.setattr(first_use.free_memory, "available", lambda: free)
    first_use.expect("generation in float32")
    ahead.begin()
    assert bool(started) == helps


@pytest.mark.slow
def test_helpers_compile_and_end_with_their_command(tmp_path: Path) -> None:
    """They end after the kernel that they are at, though there are more."""
    program = """
        import sys
        from gradient.backends.numpy import ahead
        ahead.usable_cpus = lambda: 2
        ahead.expect("generation in float32")
        ahead.begin()
        print(ahead._helpers[0].pid, flush=True)
        sys.stdin.readline()
    """
    with python(program, NUMBA_CACHE_DIR=str(tmp_path)) as command:
        helper = int(command.stdout.readline())  # type: ignore[union-attr]
        until(lambda: any(tmp_path.rglob("cached_attention.attend*.nbc")))
        command.kill()
    until(lambda: not runs(helper))
    assert len(list(tmp_path.rglob("*.nbc"))) < len(expected_kernels.lines("generation in float32"))


def runs(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().split(") ")[1][0] != "Z"
    except (OSError, IndexError):
        return False


def until(condition: Any) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)

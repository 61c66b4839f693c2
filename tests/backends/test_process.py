"""Devices in another process: what is queued and what waits, views and writes, and every way in
which a plugin can fail."""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import backends
from gradient.backends import process
from gradient.backends.process import connection as connection_module
from gradient.backends.process import numpy_plugin
from gradient.backends.process.backend import ProcessBackend
from gradient.backends.process.client import BATCH
from gradient.backends.process.connection import KEEPING, Connection
from gradient.backends.process.protocol import (
    NAMES,
    SLOT,
    WINDOW,
    PluginMemoryError,
    PluginUnsupported,
)
from gradient.errors import DeviceError
from gradient.tensor import Tensor
from support.array_backends import PROOFS

pytestmark = pytest.mark.cpu_only
assert "process" in PROOFS  # the example plugin's device

PLUGIN = Path(numpy_plugin.__file__)
PATIENT = 3600.0
"""A time-out that no test outlasts: an error comes from somewhere else, or the test hangs."""


@pytest.fixture
def no_process_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test does to plugins: in the end each has ended, and was waited for."""
    popen, plugins = subprocess.Popen, []

    def noted(*given: Any, **options: Any) -> subprocess.Popen[Any]:
        plugins.append(popen(*given, **options))
        return plugins[-1]

    monkeypatch.setattr(connection_module.subprocess, "Popen", noted)
    yield
    assert all(plugin.returncode is not None for plugin in plugins)


@pytest.fixture
def start(tmp_path: Path, no_process_is_left: None) -> Iterator[Callable[..., ProcessBackend]]:
    """start(code): a backend over the example plugin, in which `code` overrides methods."""
    started = []

    def make(code: str = "", timeout: float = PATIENT) -> ProcessBackend:
        body = textwrap.indent(textwrap.dedent(code).strip() or "pass", "    ")
        script = tmp_path / f"plugin{len(started)}.py"
        script.write_text(
            f"import os, sys, time\nsys.path.insert(0, {str(PLUGIN.parent)!r})\n"
            f"from numpy_plugin import *\nclass Changed(Plugin):\n{body}\nmain(Changed)\n"
        )
        backend = process.open_backend("changed", [sys.executable, str(script)], timeout)
        started.append(backend)
        return backend

    yield make
    for backend in started:
        backend.close()


def tensor(backend: ProcessBackend, values: Any) -> Tensor:
    return Tensor._wrap(backend.asarray(np.asarray(values, np.float32)), backend)


def read(t: Tensor) -> np.ndarray:
    return t.backend.to_numpy(t.array)


IN_EXP = """
def compute(self, name, *rest):
    if name == "exp":
        {}
    return super().compute(name, *rest)
"""


# Faults ------------------------------------------------------------------------------------------


def test_killed_while_idle(start: Callable[..., ProcessBackend]) -> None:
    backend = start()
    x = tensor(backend, [1, 2])
    assert read(x).tolist() == [1, 2]
    child = backend.client.connection.process
    child.send_signal(signal.SIGKILL)
    child.wait()
    with pytest.raises(process.PluginError, match="was killed by signal 9.*tensors are lost"):
        read(x + 1)
    with pytest.raises(process.PluginError, match="was killed by signal 9"):
        backend.synchronize()
    backend.restart()
    assert read(tensor(backend, [3]) + 1).tolist() == [4]
    with pytest.raises(process.PluginError, match="or of one that was restarted"):
        tensor(backend, [3]) + x


def test_killed_in_the_middle_of_an_op(start: Callable[..., ProcessBackend]) -> None:
    backend = start(IN_EXP.format("os.kill(os.getpid(), 9)"))
    with pytest.raises(process.PluginError, match="was killed by signal 9"):
        read(tensor(backend, [1, 2]).exp())


def test_a_plugin_that_hangs_is_ended(start: Callable[..., ProcessBackend]) -> None:
    backend = start(IN_EXP.format("time.sleep(1e6)"))
    x = tensor(backend, [1, 2])
    assert read(x).tolist() == [1, 2]
    assert backend.timeout == PATIENT
    backend.timeout = 0.2
    with pytest.raises(process.PluginError, match=r"answered nothing for 0\.2 s and was ended"):
        read(x.exp())
    assert backend.client.connection.process.poll() == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="elsewhere Python looks at intervals")
@pytest.mark.parametrize("fault", ["os.kill(os.getpid(), 9)", "os._exit(3)", 'os.write(1, b"?")'])
def test_a_fault_is_told_without_looking_at_intervals(
    fault: str, start: Callable[..., ProcessBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the client waits for is the socket and the end of the process, which wake it."""
    backend = start(IN_EXP.format(fault))
    x = tensor(backend, [1, 2]).exp()
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it looks at intervals"))
    with pytest.raises(process.PluginError):
        read(x)
    assert backend.client.connection.process.returncode is not None  # no zombie


@pytest.mark.parametrize(
    "what",
    ['b"Segmentation fault"', 'b"\\xc1\\xc1"', 'msgpack.packb({"ok": 1})', "msgpack.packb([])",
     'msgpack.packb(["what"])'],
)  # fmt: skip
def test_garbage(what: str, start: Callable[..., ProcessBackend]) -> None:
    backend = start(IN_EXP.format(f"os.write(1, {what})"))
    with pytest.raises(process.PluginError, match="has sent what is no message"):
        read(tensor(backend, [1, 2]).exp())
    assert backend.client.connection.process.poll() is not None


def test_what_a_plugin_says_when_it_dies_at_its_start_is_shown(no_process_is_left: None) -> None:
    command = [sys.executable, "-c", "raise SystemExit('there is no GPU here')"]
    with pytest.raises(process.PluginError) as caught:
        process.open_backend("dies", command)
    assert "ended with exit status 1" in str(caught.value)
    assert str(caught.value).endswith("It said:\nthere is no GPU here")


def test_a_command_that_is_none() -> None:
    with pytest.raises(DeviceError, match="cannot start /no/such/plugin: .*No such file"):
        process.open_backend("none", ["/no/such/plugin"])


def test_another_version(start: Callable[..., ProcessBackend]) -> None:
    with pytest.raises(process.PluginError, match="speaks version 2 of the protocol, and this is"):
        start('def answer(self, *m): super().answer("ok", {"version": 2})')


def test_required_ops_that_are_absent_are_named(start: Callable[..., ProcessBackend]) -> None:
    with pytest.raises(PluginUnsupported, match="lacks required ops: exp, take_along$"):
        start("ops = {k: v for k, v in OPS.items() if k not in ('exp', 'take_along')}")


def test_a_dtype_that_is_absent(start: Callable[..., ProcessBackend]) -> None:
    backend = start("dtypes = {'float32': DTYPES['float32'], 'int64': DTYPES['int64']}")
    with pytest.raises(PluginUnsupported, match="'changed' has no float64; it has float32, int64"):
        backend.asarray(np.zeros(2))


def test_an_op_that_raises_leaves_the_others_usable(start: Callable[..., ProcessBackend]) -> None:
    backend = start(IN_EXP.format("raise RuntimeError('no exponentials today')"))
    x = tensor(backend, [1, 2])
    bad = x.exp()  # the line that is to blame
    line = sys._getframe().f_lineno - 1
    after, good = bad + 1, x + 1
    with pytest.raises(process.PluginError) as caught:
        read(good)
    message = "exp: RuntimeError: no exponentials today (message 2, at "
    assert str(caught.value) == f"{message}{__file__}:{line})"
    assert read(good).tolist() == [2, 3]
    for failed in (bad, after):
        with pytest.raises(process.PluginError, match="no exponentials today"):
            read(failed)
    assert read(good * 2).tolist() == [4, 6]


def test_an_op_that_fails_in_place_leaves_what_there_was(
    start: Callable[..., ProcessBackend],
) -> None:
    backend = start(IN_EXP.replace("exp", "assign").format("raise RuntimeError('not today')"))
    x = tensor(backend, [1, 2])
    x[0] = 5
    with pytest.raises(process.PluginError, match="assign: RuntimeError: not today"):
        backend.synchronize()
    assert read(x).tolist() == [1, 2]


def test_out_of_memory(start: Callable[..., ProcessBackend]) -> None:
    backend = start()
    x = tensor(backend, np.ones(1000))
    backend.limit_memory(10_000)
    y = x + 1
    z = x.unsqueeze(0) + x.unsqueeze(1)
    with pytest.raises(PluginMemoryError, match=r"add: MemoryError: 4000000 bytes .*limit of 1000"):
        read(z)
    assert read(y).sum() == 2000
    backend.limit_memory(None)
    assert read(x.unsqueeze(0) + x.unsqueeze(1)).sum() == 2e6


def script(code: str, **options: Any) -> subprocess.Popen[str]:
    head = """
        import os, sys, time
        import gradient
        from gradient.backends import process
        process.register("process", process.NUMPY_PLUGIN)
        x = gradient.tensor([1.0, 2.0], device="process")
        backend = x.backend
        pid = backend.client.connection.process.pid
    """
    text = textwrap.dedent(head) + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, **options
    )


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for another's child, on Linux")
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in an op"])
def test_nothing_is_left_when_the_parent_is_killed(busy: bool) -> None:
    # In an op: a product of integers, which would take minutes.
    work = "y = gradient.ones(1 << 12, 1 << 12, dtype=gradient.int64, device='process'); y @ y"
    parent = script(f"""
        gradient.zeros(1000, 1000, device="process").sum().item()
        {work if busy else ""}
        backend.client.flush()
        for number in ("self", pid):
            with open(f"/proc/{{number}}/maps") as maps:
                assert "/dev/shm" not in maps.read()
        print(pid, flush=True)
        time.sleep(1e6)
    """)
    with parent:
        plugin = os.pidfd_open(int(parent.stdout.readline()))  # type: ignore[union-attr]
        parent.kill()
    ended, _, _ = select.select([plugin], [], [], 60)
    os.close(plugin)
    assert ended


def test_the_plugin_ends_with_its_client() -> None:
    with script("print(pid)") as child:
        (pid,) = child.stdout.read().split()  # type: ignore[union-attr]
    assert child.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_process_is_refused_and_does_no_harm() -> None:
    child = script("""
        if os.fork() == 0:
            try:
                (x + 1).tolist()
            except process.PluginError as error:
                os._exit(7 if "forked from one" in str(error) else 1)
            os._exit(1)
        _, status = os.wait()
        print(os.waitstatus_to_exitcode(status), (x + 1).tolist())
    """)
    with child:
        assert child.stdout.read() == "7 [2.0, 3.0]\n"  # type: ignore[union-attr]


def test_a_closed_plugin_is_refused(start: Callable[..., ProcessBackend]) -> None:
    backend = start()
    x = tensor(backend, [1])
    backend.close()
    with pytest.raises(process.PluginError, match="the plugin was closed"):
        read(x)


# The queue ---------------------------------------------------------------------------------------


def test_only_reads_wait(
    start: Callable[..., ProcessBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = start()
    x = tensor(backend, [[1, 2], [3, 4]])
    monkeypatch.setattr(Connection, "receive", lambda self: pytest.fail("it waits"))
    y = (x @ x.t()).exp().sum(0)
    y[0] = 1
    y += 2
    big = tensor(backend, np.ones(SLOT // 4))
    monkeypatch.undo()
    assert read(y)[0] == 3
    assert read(big).all()


def test_the_queue_is_bounded(start: Callable[..., ProcessBackend]) -> None:
    backend = start()
    client, x = backend.client, tensor(backend, [0])
    most = 0
    for _ in range(3 * WINDOW):
        x = x + 1
        most = max(most, client.unconfirmed)
    assert read(x).tolist() == [3 * WINDOW]
    assert WINDOW < most <= 2 * WINDOW + BATCH
    assert client.unconfirmed < 10


def test_arrays_are_freed(start: Callable[..., ProcessBackend]) -> None:
    backend = start()
    x = tensor(backend, np.ones(100_000))
    for _ in range(20):
        x = (x * 2).view(-1, 2).t().contiguous().view(-1)
    gc.collect()
    backend.synchronize()
    found = backend.statistics()
    assert found["arrays"] <= 3
    assert found["bytes"] <= 800_000
    del x
    backend.synchronize()
    assert backend.statistics()["arrays"] == 0


def test_threads_share_a_plugin(start: Callable[..., ProcessBackend]) -> None:
    backend = start()
    found: dict[int, list[float]] = {}

    def work(number: int) -> None:
        x = tensor(backend, [number, 1])
        for i in range(300):
            x = x + tensor(backend, np.full(2, 1))
            if i % 50 == 0:
                big = np.random.default_rng(number).random(20_000).astype(np.float32)
                assert (read(tensor(backend, big)) == big).all()
        found[number] = read(x).tolist()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: [i + 300.0, 301.0] for i in range(4)}


@pytest.mark.parametrize("dtype", [d for d in NAMES if d.kind != "c"], ids=str)
@pytest.mark.parametrize("size", [0, 1, 3000, 3 * SLOT + 8])
def test_arrays_come_back(dtype: np.dtype, size: int) -> None:
    backend: Any = backends.get("process")
    x = (np.arange(size // dtype.itemsize) % 251).astype(dtype)
    found = backend.to_numpy(backend.asarray(x))
    assert found.dtype == dtype and found.tobytes() == x.tobytes()
    assert found.flags.writeable


def test_complex_arrays_are_refused() -> None:
    with pytest.raises(PluginUnsupported, match="device 'process' has no complex64; it has bfloat"):
        backends.get("process").asarray(np.ones(3, np.complex64))


@pytest.mark.parametrize("own", [None, "glibc.malloc.check=0"])
def test_a_plugin_keeps_freed_memory_unless_told_otherwise(
    own: str | None, start: Callable[..., ProcessBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if own is not None:
        monkeypatch.setenv("GLIBC_TUNABLES", own)
    found = start('name = os.environ["GLIBC_TUNABLES"]').client.about["name"]
    assert found == (own or KEEPING)
    assert os.environ.get("GLIBC_TUNABLES") == own


def test_an_example_for_other_languages_is_short_and_alone() -> None:
    text = PLUGIN.read_text()
    assert len(text.splitlines()) <= 300
    assert "import gradient" not in text and "from gradient" not in text
    protocol = (Path(__file__).parents[2] / "docs" / "plugin-protocol.md").read_text()
    absent = [name for name in numpy_plugin.OPS if f"`{name}`" not in protocol]
    assert not absent


def test_importing_gradient_loads_no_part_of_it() -> None:
    code = "import sys, gradient; print([m for m in sys.modules if 'process' in m or 'mlx' in m])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# Ctrl-C -----------------------------------------------------------------------------------------


class Interrupt:
    """A trace function that raises KeyboardInterrupt before the n-th instruction of the client."""

    def __init__(self, n: int):
        self.left = n

    def __call__(self, frame: Any, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.endswith(("client.py", "connection.py")):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
        return self


def test_an_interrupted_call_leaves_every_message_whole_and_once(
    start: Callable[..., ProcessBackend],
) -> None:
    """Wherever Ctrl-C comes: nothing is sent twice, and every answer is that of its request."""
    backend = start()
    x = tensor(backend, [1, 2])
    big = np.arange(SLOT // 2, dtype=np.float32)  # two parts of the shared memory
    count, n, tracer = 0, 0, sys.gettrace()
    interrupted = True
    while interrupted:
        n += 1 + n // 8
        counter = tensor(backend, np.zeros(4000, np.float32))
        assert read(counter).sum() == 0
        try:
            sys.settrace(Interrupt(n))
            counter += 1
            backend.synchronize()
            there = backend.asarray(big)
            backend.to_numpy(there)
            interrupted = False
        except KeyboardInterrupt:
            count += 1
        finally:
            sys.settrace(tracer)
        assert read(counter).sum() in (0, 4000)
        assert read(x + n).tolist() == [1 + n, 2 + n]
        assert (backend.to_numpy(backend.asarray(big + n)) == big + n).all()
    assert count > 20
    gc.collect()
    backend.synchronize()
    assert backend.statistics()["arrays"] <= 8


# Views and writes --------------------------------------------------------------------------------

WRITES: dict[str, Callable[[Any], Any]] = {
    "a slice of a transposed view": lambda x: x.t()[1:3].mul_(2),
    "a view of a view": lambda x: x.view(3, 2, 2).permute(2, 0, 1)[1, :, 0].zero_(),
    "a reversed slice": lambda x: x.flip(0)[0].add_(1),
    "a new axis": lambda x: x.unsqueeze(1)[:, 0, 1].fill_(7),
    "rows by an index": lambda x: x.index_add_(0, gradient.tensor([0, 0], device=x.device), x[:2]),
    "a mask": lambda x: x.__setitem__(x > 5, -1),
    "a reshape of what is not contiguous": lambda x: x.t().reshape(-1).add_(100),
    "the same bytes": lambda x: x.view(gradient.int32)[0].zero_(),
    "all of it": lambda x: x.copy_(x.flip(1)),
    "an expanded one of the same shape": lambda x: x.expand(3, 4)[0].add_(3),
    "an expanded one of one more": lambda x: x.expand(1, 3, 4)[0, 1].add_(3),
    "a part of an expanded one": lambda x: x.t()[1:].expand(2, 3, 3)[1, :, 2].copy_(x[0, :3]),
    "a number in an expanded one": lambda x: x[:, 1:].expand(2, 3, 3).fill_(5),
    "a row of a column that repeats": lambda x: x[:, 2:3].expand(3, 4)[1].zero_(),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_views_and_writes_are_those_of_memory(write: Callable[[Any], Any]) -> None:
    """The owner, a view taken before, and one taken after show what memory would."""
    found = []
    for place in ("cpu", "process"):
        x = gradient.arange(12, dtype=gradient.float32, device=place).view(3, 4)
        before = x[1:, ::2]
        write(x)
        found.append([t.cpu().tolist() for t in (x, before, x.t())])
    assert found[0] == found[1]


@pytest.mark.parametrize("place", ["cpu", "process"])
@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.expand(2, 3, 4).add_(1),
        lambda x: x.expand(2, 3, 4)[:, 1].mul_(2),
        lambda x: x[:, :1].expand(3, 4)[1].mul_(2),
        lambda x: x.expand(2, 3, 4).copy_(gradient.zeros(2, 3, 4, device=x.device)),
    ],
)
def test_what_shows_an_element_twice_cannot_be_written(
    write: Callable[[Any], Any], place: str
) -> None:
    x = gradient.arange(12, dtype=gradient.float32, device=place).view(3, 4)
    before, numbers = x[1:], x.tolist()
    with pytest.raises(RuntimeError, match="expanded tensor"):
        write(x)
    assert x.tolist() == numbers and before.tolist() == numbers[1:]
    x.add_(1)  # nothing is left undone
    assert x[0].tolist() == [1, 2, 3, 4] and before.tolist() == x.tolist()[1:]


def test_a_handle_is_no_array_of_numpys() -> None:
    x = gradient.ones(2, device="process").array
    for use in (bool, np.asarray, lambda h: np.ones(2) + h):
        with pytest.raises(TypeError):
            use(x)
    assert (x.ndim, x.strides, x.flags.c_contiguous) == (1, (4,), True)


def test_what_is_a_copy_where_it_should_be_a_view_cannot_be_written(
    start: Callable[..., ProcessBackend],
) -> None:
    backend = start()
    x = backend.asarray(np.arange(12.0).reshape(3, 4))
    windows = backend.sliding_window(x, 1, 2, 2)
    for copied in (backend.diagonal(x, 0), windows, backend.permute(windows, (1, 0, 2))):
        with pytest.raises(ValueError, match="read-only"):
            backend.assign(copied, ..., 1.0)
    assert backend.to_numpy(backend.diagonal(x, 1)).tolist() == [1.0, 6.0, 11.0]


def test_threads_share_a_view(start: Callable[..., ProcessBackend]) -> None:
    backend, results = start(), []
    x = backend.asarray(np.ones((8, 8), np.float32))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(30):
            view, ready = backend.permute(x, (1, 0)), threading.Barrier(3)

            def work(view: Any = view, ready: Any = ready) -> None:
                ready.wait()
                results.append(float(backend.to_numpy(backend.sum(view * view))))

            threads = [threading.Thread(target=work) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert results == [64.0] * 90


def test_the_end_is_seen_beyond_a_thousand_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        process = subprocess.Popen([sys.executable, "-c", ""])
        connection_module._wait(process)
        assert process.returncode == 0
    finally:
        for each in held:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

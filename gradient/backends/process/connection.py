"""The plugin's process: start it, exchange bytes with it, and report how it ended."""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import shlex
import socket
import subprocess
import tempfile
import weakref
from collections import deque
from collections.abc import Sequence
from typing import IO, Any, NoReturn

import numpy as np

from gradient.backends.process.protocol import MEMORY_VARIABLE, MESSAGE_LIMIT, REGION, PluginError
from gradient.errors import DeviceError, MissingDependency

SHOWN = 4000
"""How many of the last bytes of a plugin's standard error are shown in an error."""
GRACE = 2.0
"""Seconds to wait for a plugin to exit before it is killed."""

TUNABLES = "GLIBC_TUNABLES"
KEEPING = f"glibc.malloc.mmap_threshold={1 << 30}:glibc.malloc.trim_threshold={256 << 20}"
"""Lets a plugin's malloc (glibc's) keep up to 256 MiB of freed memory instead of returning it: a
copy to new memory takes twice as long as one to memory that is already mapped."""

_open: weakref.WeakSet[Connection] = weakref.WeakSet()


class Parcel:
    """Bytes to send, and how many have been sent, even if sending is interrupted."""

    __slots__ = ("counts", "data", "gone")

    def __init__(self, data: bytes):
        self.data, self.gone = data, False
        self.counts: list[int] = []


class Connection:
    """A running plugin. Its standard input and output are one socket; its standard error is shown
    if it fails.

    `region` is memory shared by both processes. It has no name in a file system, so nothing is left
    behind when they end.
    """

    def __init__(self, command: Sequence[str], timeout: float):
        self.command = list(command)
        self._received: deque[bytes] = deque()
        self.messages: deque[Any] = deque()
        """Received messages that are not handled yet."""
        self.lost: str | None = None
        """Why the connection cannot be used any more."""
        self._unpacker = msgpack().Unpacker(
            use_list=True, max_buffer_size=MESSAGE_LIMIT, strict_map_key=False
        )
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the connection)
        memory = _anonymous_file(REGION)
        mine, its = socket.socketpair()
        try:
            self.region = np.frombuffer(mmap.mmap(memory, REGION), np.uint8)
            self.process = subprocess.Popen(
                self.command, stdin=its.fileno(), stdout=its.fileno(), stderr=self._errors,
                pass_fds=[memory],
                env={TUNABLES: KEEPING} | os.environ | {MEMORY_VARIABLE: f"{memory}:{REGION}"},
                start_new_session=True,  # Ctrl-C must only reach the user's program
            )  # fmt: skip
        except OSError as error:
            mine.close()
            self._errors.close()
            raise DeviceError(f"cannot start {shlex.join(self.command)}: {error}") from None
        finally:
            its.close()
            os.close(memory)
        self.socket = mine
        mine.settimeout(timeout)
        self.close = weakref.finalize(self, _end, self.process, self.socket, self._errors)
        _open.add(self)

    @property
    def timeout(self) -> float:
        """The longest time to wait for the plugin, in seconds."""
        return self.socket.gettimeout() or 0.0

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self.socket.settimeout(seconds)

    def send(self, parcel: Parcel) -> None:
        """Send messages, or the rest of them."""
        if self.lost is not None:
            raise PluginError(self.lost)
        try:
            while (gone := sum(parcel.counts)) < len(parcel.data):
                rest = memoryview(parcel.data)[gone:]
                # In one call, so that Ctrl-C cannot come between sending bytes and counting them.
                parcel.counts.extend(map(self.socket.send, (rest,)))
        except TimeoutError:
            self._hangs()
        except OSError:
            self._ended()
        parcel.gone = True
        parcel.data = b""

    def receive(self) -> list[Any]:
        """Receive the next message; it stays the first of `messages`."""
        if self.lost is not None:
            raise PluginError(self.lost)
        received = self._received
        while not self.messages:
            try:
                if not received:
                    received.extend(map(self.socket.recv, (1 << 18,)))
            except TimeoutError:
                self._hangs()
            except OSError:
                self._ended()
            if not received[-1]:
                self._ended()
            with contextlib.suppress(IndexError):  # no more messages
                deque(map(self._unpacker.feed, iter(received.popleft, None)), 0)
            try:
                self.messages.extend(self._unpacker)
            except Exception as error:  # msgpack raises many kinds for bytes that are no message
                self.fail(f"the plugin has sent what is no message ({error})")
        message: list[Any] = self.messages[0]
        if not isinstance(message, list) or not message or message[0] not in ("ok", "error"):
            self.fail(f"the plugin has sent what is no message ({str(message)[:60]})")
        return message

    # How it ends ---------------------------------------------------------------------------------

    def fail(self, why: str) -> NoReturn:
        """Kill the process, and raise an error for this and all later messages."""
        self.process.kill()
        said = self._said()
        self.close()
        self._lose(why, said)

    def _ended(self) -> NoReturn:
        """The process has closed its socket: raise an error that says how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            _wait(self.process)  # a process closes its socket last
        status = self.process.poll()
        if status is None:
            how = "closed its connection"
        elif status < 0:
            how = f"was killed by signal {-status}"
        else:
            how = f"ended with exit status {status}"
        said = self._said()
        self.close()
        self._lose(f"the plugin {how}", said)

    def _hangs(self) -> NoReturn:
        self.fail(
            f"the plugin has answered nothing for {self.timeout:g} s and was ended; a longer "
            "time-out is set by `gradient.backends.get(device).timeout = seconds`"
        )

    def _lose(self, why: str, said: str) -> NoReturn:
        self.lost = (
            f"{why} ({shlex.join(self.command)}, process {self.process.pid}); its tensors are "
            "lost, and `gradient.backends.get(device).restart()` starts another" + said
        )
        raise PluginError(self.lost)

    def _said(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - SHOWN))
        text = self._errors.read().decode(errors="replace").strip()
        return f"\nIt said:\n{text}" if text else ""


def _end(process: subprocess.Popen[bytes], connection: socket.socket, errors: IO[bytes]) -> None:
    """Close a plugin's connection, so that it ends; kill it if it does not."""
    connection.close()
    try:
        _wait(process)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    errors.close()


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait until a process has ended, for at most GRACE. Where possible the system reports the end
    at once; `Popen.wait` polls."""
    if process.poll() is not None:
        return
    try:
        handle = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # another system, an old kernel, or no descriptor left
        process.wait(GRACE)
        return
    try:
        ended = select.poll()  # `select` takes no descriptor above 1,023
        ended.register(handle, select.POLLIN)
        ended.poll(1000 * GRACE)
    finally:
        os.close(handle)
    process.wait(0)


def _anonymous_file(size: int) -> int:
    """The descriptor of a file without a name."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("gradient", os.MFD_CLOEXEC)
    else:
        fd, name = tempfile.mkstemp()
        os.unlink(name)
    os.ftruncate(fd, size)
    return fd


def msgpack() -> Any:
    try:
        import msgpack
    except ImportError:
        raise MissingDependency(
            "devices in another process need msgpack; pip install 'gradient-dl[plugin]'"
        ) from None
    return msgpack


def _forget_in_child() -> None:
    """Close the plugins' sockets in a forked child: while it held them, plugins would not notice
    that the parent has ended."""
    for connection in _open:
        connection.socket.close()
        connection.close.detach()
        connection.lost = (
            "this process was forked from one whose tensors are in a plugin, which serves that one "
            'alone; start it by multiprocessing.get_context("spawn"), or move tensors to the CPU'
        )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)

"""The client's side of the protocol: messages are queued, only reads wait.

Every message that computes has a number and the line of the user's program that it is of, so that
an error which the plugin tells later names both.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from collections.abc import Sequence
from types import FrameType
from typing import Any

import numpy as np

from gradient.backends.process.connection import Connection, msgpack
from gradient.backends.process.protocol import (
    ERRORS,
    INLINE,
    NAMES,
    REGION,
    SLOT,
    SLOTS,
    VERSION,
    WINDOW,
    PluginError,
)
from gradient.source_lines import (
    Location,
    getframe,
    inside,
    location_of,
    source_line,
    user_frame,
)

BATCH = 64
"""Messages that are sent together."""

Out = tuple[int, str, tuple[int, ...]]
"""An array that a message makes: its id, its dtype's name, its shape."""


class _Reply:
    """What a request is answered with. `kind` says what the client does with it."""

    __slots__ = ("error", "kind", "message", "value")

    def __init__(self, kind: str, message: int):
        self.kind, self.message = kind, message
        self.value: Any = None
        self.error: PluginError | None = None


class Client:
    """A plugin and the messages that it is sent. Any thread may use it."""

    def __init__(self, command: Sequence[str], device: str, timeout: float):
        self.connection = Connection(command, timeout)
        self.lock = threading.RLock()
        packer = msgpack().Packer(autoreset=False)
        self._packer, self._pack = packer, packer.pack
        self._queued = 0
        self.new_id = itertools.count(1).__next__
        self.freed: deque[int] = deque()
        """Ids that nobody refers to any more. (A garbage collection appends to it, at any time, so
        it needs no lock.)"""
        self.forgotten: deque[int] = deque()
        """Graphs that nobody has any more."""
        self.computed = 0
        """Messages that compute, so far."""
        self.sent = 0
        """Messages so far: the number of the next one."""
        self._lines: deque[Location] = deque()
        self._first_line = 0  # the message whose line is the first of `_lines`
        self._replies: deque[_Reply] = deque()
        self._busy = 0  # slots of the region that the plugin has not read yet
        self._next_slot = 0
        self._asked = 0
        self._deferred: PluginError | None = None  # told when nobody waited: the next who waits
        about = self.request("hello", VERSION, device, REGION)
        if not isinstance(about, dict) or about.get("version") != VERSION:
            version = about.get("version") if isinstance(about, dict) else about
            self.connection.fail(
                f"the plugin speaks version {version!r} of the protocol, and this is {VERSION}"
            )
        self.about: dict[str, Any] = about
        self.ops = frozenset(about["ops"])
        self.dtypes = frozenset(about["dtypes"])

    # What computes -------------------------------------------------------------------------------

    def op(
        self, name: str, outs: Sequence[Out], inputs: Sequence[Any], options: dict[str, Any] | None
    ) -> None:
        """Queue an op. An input is an id, [a number], or None for one that is not given."""
        frame: FrameType | None = getframe(2)
        while frame is not None and inside[frame.f_code.co_filename]:
            frame = frame.f_back
        with self.lock:
            self._pack(("op", name, outs, inputs, options))
            self._lines.append(_NOWHERE if frame is None else (frame.f_code, frame.f_lasti))
            self.sent += 1
            self.computed += 1
            self._queued += 1
            if self._queued >= BATCH:
                self.flush()

    def post(self, *message: Any) -> None:
        """Queue a message that is not answered."""
        with self.lock:
            self._pack(message)
            self._lines.append(location_of(user_frame(2)))
            self.sent += 1
            self.computed += 1
            self._queued += 1
            if self._queued >= BATCH:
                self.flush()

    def flush(self) -> None:
        """Send what is queued."""
        with self.lock:
            if self.freed:
                freed = []
                while self.freed:
                    freed.append(self.freed.popleft())
                self._pack(("free", freed))
                self._lines.append(_NOWHERE)
                self.sent += 1
            while self.forgotten:
                self._pack(("forget", self.forgotten.popleft()))
                self._lines.append(_NOWHERE)
                self.sent += 1
            data = self._packer.bytes()
            self._packer.reset()
            self._queued = 0
            if data:
                self.connection.send(data)
            if self.sent - self._asked >= WINDOW:
                self._keep_up()

    def _keep_up(self) -> None:
        """Ask how far the plugin is, and wait if it is two windows behind."""
        before = [reply for reply in self._replies if reply.kind == "progress"]
        self._asked = self.sent
        self._ask("progress", "sync", None)
        self.connection.send(self._take())
        if before:
            self._wait(before[-1])

    def _take(self) -> bytes:
        data: bytes = self._packer.bytes()
        self._packer.reset()
        self._queued = 0
        return data

    # What is answered ----------------------------------------------------------------------------

    def request(self, *message: Any) -> Any:
        """Send a message and wait for its answer.

        Raises:
            PluginError: something that the plugin was asked before, or this, has failed.
        """
        with self.lock:
            reply = self._ask("value", *message)
            self.flush()
            value = self._wait(reply)
            if self._deferred is not None:
                error, self._deferred = self._deferred, None
                raise error
            return value

    def _ask(self, kind: str, *message: Any) -> _Reply:
        reply = _Reply(kind, self.sent)
        self._pack(message)
        self._lines.append(location_of(user_frame(3)))
        self.sent += 1
        self._replies.append(reply)
        return reply

    def _wait(self, wanted: _Reply) -> Any:
        """Take replies, which come in the order of their requests, up to the one wanted."""
        while wanted in self._replies:
            self._one_reply()
        if wanted.error is not None:
            raise wanted.error
        return wanted.value

    def _one_reply(self) -> None:
        kind, *rest = self.connection.receive()
        if not self._replies:
            self.connection.fail("the plugin has answered what it was not asked")
        reply = self._replies.popleft()
        if kind == "error":
            reply.error = self._error(*rest)
            if reply.kind != "value":
                self._deferred = self._deferred or reply.error
        else:
            reply.value = rest[0] if rest else None
        if reply.kind == "slot":
            self._busy -= 1
        while self._first_line < reply.message and self._lines:  # older errors were told by now
            self._lines.popleft()
            self._first_line += 1

    def _error(self, kind: Any = None, text: Any = "", number: Any = None, op: Any = "", *_: Any
               ) -> PluginError:  # fmt: skip
        where = ""
        if isinstance(number, int):
            at = number - self._first_line
            if 0 <= at < len(self._lines) and self._lines[at] is not _NOWHERE:
                where = f", at {source_line(self._lines[at])}"
            where = f" (message {number}{where})"
        return ERRORS.get(kind, PluginError)(f"{op}: {text}{where}")

    # Arrays --------------------------------------------------------------------------------------

    def put(self, array: np.ndarray) -> int:
        """Copy an array to the device: its id there."""
        name, shape = NAMES[array.dtype], array.shape
        with self.lock:
            number = self.new_id()
            if array.nbytes <= INLINE:
                self.post("put", number, name, shape, array.tobytes())
                return number
            self.post("new", number, name, shape)
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            for start in range(0, data.size, SLOT):
                part = data[start : start + SLOT]
                at = self._free_slot()
                self.connection.region[at : at + part.size] = part
                self._busy += 1
                self._ask("slot", "write", number, start, at, part.size)
                self.flush()
        return number

    def _free_slot(self) -> int:
        """Where the next part of the shared memory begins that the plugin has read."""
        while self._busy >= SLOTS:
            self._one_reply()
        at = self._next_slot * SLOT
        self._next_slot = (self._next_slot + 1) % SLOTS
        return at

    def get(self, number: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Copy an array from the device, when what it depends on is computed."""
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes <= INLINE:
            data = self.request("get", number)
            if not isinstance(data, bytes) or len(data) != nbytes:
                self.connection.fail(f"the plugin has not sent the {nbytes} bytes of an array")
            return np.frombuffer(bytearray(data), dtype).reshape(shape)
        out = np.empty(nbytes, np.uint8)
        with self.lock:
            while self._busy:  # what is being read must not be written
                self._one_reply()
            self.request("sync", [number])
            asked: deque[tuple[_Reply, int, int, int]] = deque()
            for start in range(0, nbytes, SLOT):
                if len(asked) == SLOTS:
                    self._take_part(out, *asked.popleft())
                count, at = min(SLOT, nbytes - start), self._free_slot()
                reply = self._ask("value", "read", number, start, at, count)
                self.flush()
                asked.append((reply, start, at, count))
            while asked:
                self._take_part(out, *asked.popleft())
        return out.view(dtype).reshape(shape)

    def _take_part(self, out: np.ndarray, reply: _Reply, start: int, at: int, count: int) -> None:
        self._wait(reply)
        out[start : start + count] = self.connection.region[at : at + count]

    def synchronize(self) -> None:
        """Wait until all that is queued is computed."""
        self.request("sync", None)

    def close(self) -> None:
        """End the plugin."""
        self.connection.close()
        self.connection.lost = self.connection.lost or "the plugin was closed"


def _nowhere() -> None:
    """What has no line."""


_NOWHERE: Location = (_nowhere.__code__, 0)

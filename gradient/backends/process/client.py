"""The client's side of the protocol: messages are queued, and only reads wait.

Every op's message has a number and the line of the user's program, so that a later error of the
plugin can show them.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from collections.abc import Sequence
from types import CodeType, FrameType
from typing import Any, NamedTuple

import numpy as np

from gradient.backends.process.connection import Connection, Parcel, msgpack
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
from gradient.source_lines import Location, getframe, inside, location_of, source_line, user_frame

BATCH = 64
"""Messages that are sent together."""

Out = tuple[int, str, tuple[int, ...]]
"""An array that a message makes: its id, its dtype's name, its shape."""


Queued = tuple[bytes, CodeType, int]
"""A message, and its line in the user's program: a code object, and an offset in it."""


class _Reply:
    """The answer to a request. `kind` says what the client does with it."""

    __slots__ = ("answer", "at", "error", "kind", "value")

    def __init__(self, kind: str, at: int | None = None):
        self.kind, self.at = kind, at  # `at`: its slot in the shared memory
        self.answer: list[Any] | None = None  # None until it arrives
        self.value: Any = None
        self.error: PluginError | None = None


class _Sent(NamedTuple):
    """Messages sent together, kept until the plugin has confirmed them."""

    first: int  # the number of the first
    lines: list[Location]
    taken: list[Queued]  # from the queue; they may still be in it
    parcel: Parcel
    reply: _Reply | None  # of the last message, if it expects one


class Client:
    """A plugin and the messages to it. Any thread may use it.

    Ctrl-C may interrupt its methods at any point. So values that belong together are changed by a
    single append or assignment: each message is sent once and gets its own answer.
    """

    def __init__(self, command: Sequence[str], device: str, timeout: float):
        self.connection = Connection(command, timeout)
        self.lock = threading.RLock()
        self._pack = msgpack().Packer().pack
        self.new_id = itertools.count(1).__next__
        self.queue: deque[Queued] = deque()
        """Messages that are not sent yet. (Appending needs no lock.)"""
        self.freed: deque[int] = deque()
        """Ids without references. (Garbage collection may append at any time, so this takes no
        lock.)"""
        self.forgotten: deque[int] = deque()
        """Graphs without references."""
        self._sent: deque[_Sent] = deque([_Sent(0, [], [], Parcel(b""), None)])
        self._asked = 0
        self._deferred: PluginError | None = None  # arrived when no call waited: for the next one
        about = self.request("hello", VERSION, device, REGION)
        if not isinstance(about, dict) or about.get("version") != VERSION:
            version = about.get("version") if isinstance(about, dict) else about
            self.connection.fail(
                f"the plugin speaks version {version!r} of the protocol, and this is {VERSION}"
            )
        self.about: dict[str, Any] = about
        self.ops: frozenset[str] = frozenset(about["ops"])
        self.dtypes: frozenset[str] = frozenset(about["dtypes"])

    @property
    def sent(self) -> int:
        """The number of messages sent so far."""
        last = self._sent[-1]
        return last.first + len(last.lines)

    @property
    def unconfirmed(self) -> int:
        """The number of messages not yet confirmed by the plugin."""
        return self.sent - self._sent[0].first

    # Messages of ops -----------------------------------------------------------------------------

    def op(
        self, name: str, outs: Sequence[Out], inputs: Sequence[Any], options: dict[str, Any] | None
    ) -> None:
        """Queue an op. An input is an id, [a number], or None if it is absent."""
        with self.lock:
            data = self._pack(("op", name, outs, inputs, options))
        self.post(data, getframe(2))

    def post(self, data: bytes, frame: FrameType | None) -> None:
        """Queue a message without an answer; `frame` gives the user's line."""
        while frame is not None and inside[frame.f_code.co_filename]:
            frame = frame.f_back
        if frame is None:
            self.queue.append((data, *_NOWHERE))
        else:
            self.queue.append((data, frame.f_code, frame.f_lasti))
        if len(self.queue) >= BATCH:
            self.flush()

    def message(self, *message: Any) -> None:
        """Queue a message without an answer."""
        with self.lock:
            data = self._pack(message)
        self.post(data, getframe(2))

    def flush(self) -> None:
        """Send the queued messages."""
        with self.lock:
            self._hand_over()
            if self.sent - self._asked >= WINDOW:
                self._keep_up()

    def _hand_over(self) -> None:
        """Number the queued messages, and send them."""
        last, queue = self._sent[-1], self.queue
        while queue and any(queue[0] is item for item in last.taken):
            queue.popleft()  # an interrupted call has left it there
        freed, forgotten = list(self.freed), list(self.forgotten)
        taken = list(queue)  # after the ids to free: uses of an id are queued before it is freed
        messages = [("free", freed)] if freed else []
        data = [*(item[0] for item in taken), *map(self._pack, messages)]
        data += [self._pack(("forget", graph)) for graph in forgotten]
        if data:
            lines = [item[1:] for item in taken] + [_NOWHERE] * (len(data) - len(taken))
            self._sent.append(_Sent(self.sent, lines, taken, Parcel(b"".join(data)), None))
        for names, count in (
            (queue, len(taken)), (self.freed, len(freed)), (self.forgotten, len(forgotten)),
        ):  # fmt: skip
            for _ in range(count):
                names.popleft()
        self._sent[-1].taken.clear()
        self._send()

    def _send(self) -> None:
        """Send the numbered messages."""
        left: list[Parcel] = []
        for sent in reversed(self._sent):
            if sent.parcel.gone:
                break
            left.append(sent.parcel)
        for parcel in reversed(left):
            self.connection.send(parcel)

    def _keep_up(self) -> None:
        """Ask for the plugin's progress, and wait if it is two windows behind."""
        before = [reply for reply in self._unanswered() if reply.kind == "progress"]
        self._asked = self.sent
        self._ask(_Reply("progress"), "sync", None)
        while before and before[-1].answer is None:
            self._one_reply()

    # Requests with an answer ---------------------------------------------------------------------

    def request(self, *message: Any) -> Any:
        """Send a message and wait for its answer.

        Raises:
            PluginError: this or an earlier message has failed.
        """
        with self.lock:
            value = self._wait(self._ask(_Reply("value"), *message))
            if self._deferred is not None:
                error, self._deferred = self._deferred, None
                raise error
            return value

    def _ask(self, reply: _Reply, *message: Any) -> _Reply:
        """Send the queued messages, then this one, whose answer goes to `reply`."""
        self._hand_over()
        lines = [location_of(user_frame(3))]
        self._sent.append(_Sent(self.sent, lines, [], Parcel(self._pack(message)), reply))
        self._send()
        return reply

    def _unanswered(self) -> list[_Reply]:
        found = [sent.reply for sent in self._sent if sent.reply is not None]
        return [reply for reply in found if reply.answer is None]

    def _wait(self, wanted: _Reply) -> Any:
        """Receive replies, in the order of their requests, up to the wanted one."""
        while wanted.answer is None:
            self._one_reply()
        if wanted.error is not None:
            raise wanted.error
        return wanted.value

    def _one_reply(self) -> None:
        sent, messages = self._sent, self.connection.messages
        asked = [each for each in sent if each.reply is not None]
        if messages and any(each.reply.answer is messages[0] for each in asked if each.reply):
            messages.popleft()  # an interrupted call has left it there
        message = self.connection.receive()
        waiting = next((each for each in asked if each.reply and each.reply.answer is None), None)
        if waiting is None or waiting.reply is None:
            self.connection.fail("the plugin has answered what it was not asked")
        kind, *rest = message
        reply = waiting.reply
        if kind == "error":
            reply.error = self._error(*rest)
            if reply.kind != "value":
                self._deferred = self._deferred or reply.error
        else:
            reply.value = rest[0] if rest else None
        reply.answer = message
        messages.popleft()
        while sent[0] is not waiting:  # their errors have arrived by now
            sent.popleft()

    def _error(self, kind: Any = None, text: Any = "", number: Any = None, op: Any = "", *_: Any
               ) -> PluginError:  # fmt: skip
        where = ""
        if isinstance(number, int):
            lines = (each.lines[number - each.first] for each in self._sent
                     if 0 <= number - each.first < len(each.lines))  # fmt: skip
            line = next(lines, _NOWHERE)
            where = f", at {source_line(line)}" if line is not _NOWHERE else ""
            where = f" (message {number}{where})"
        return ERRORS.get(kind, PluginError)(f"{op}: {text}{where}")

    # Arrays --------------------------------------------------------------------------------------

    def put(self, array: np.ndarray) -> int:
        """Copy an array to the device; return its id there."""
        name, shape = NAMES[array.dtype], array.shape
        with self.lock:
            number = self.new_id()
            if array.nbytes <= INLINE:
                self.message("put", number, name, shape, array.tobytes())
                return number
            self.message("new", number, name, shape)
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            try:
                for start in range(0, data.size, SLOT):
                    part = data[start : start + SLOT]
                    at = self._free_slot()
                    self.connection.region[at : at + part.size] = part
                    self._ask(_Reply("write", at), "write", number, start, at, part.size)
            except BaseException:
                self.freed.append(number)
                raise
        return number

    def _free_slot(self) -> int:
        """The offset of a slot in the shared memory that no pending message uses."""
        while True:
            used = {reply.at for reply in self._unanswered()}
            for at in range(0, REGION, SLOT):
                if at not in used:
                    return at
            self._one_reply()

    def get(self, number: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Copy an array from the device, after waiting for its computation."""
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes <= INLINE:
            data = self.request("get", number)
            if not isinstance(data, bytes) or len(data) != nbytes:
                self.connection.fail(f"the plugin has not sent the {nbytes} bytes of an array")
            return np.frombuffer(bytearray(data), dtype).reshape(shape)
        out = np.empty(nbytes, np.uint8)
        with self.lock:
            self.request("sync", [number])
            asked: deque[tuple[_Reply, int, int, int]] = deque()
            for start in range(0, nbytes, SLOT):
                if len(asked) == SLOTS:
                    self._take_part(out, *asked.popleft())
                count, at = min(SLOT, nbytes - start), self._free_slot()
                reply = self._ask(_Reply("value", at), "read", number, start, at, count)
                asked.append((reply, start, at, count))
            while asked:
                self._take_part(out, *asked.popleft())
        return out.view(dtype).reshape(shape)

    def _take_part(self, out: np.ndarray, reply: _Reply, start: int, at: int, count: int) -> None:
        self._wait(reply)
        out[start : start + count] = self.connection.region[at : at + count]

    def synchronize(self) -> None:
        """Wait until all queued work is done."""
        self.request("sync", None)

    def close(self) -> None:
        """Stop the plugin."""
        self.connection.close()
        self.connection.lost = self.connection.lost or "the plugin was closed"


def _nowhere() -> None:
    """A function whose frame stands for work without a user's line."""


_NOWHERE: Location = (_nowhere.__code__, 0)

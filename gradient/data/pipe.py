"""Messages between a program and its worker processes.

Tensors and arrays are sent as raw bytes beside the pickled structure, without a copy in it.
(Pickle is used only between a program and its own children, never for files.)
"""

from __future__ import annotations

import io
import pickle
import struct
from typing import Any

import numpy as np

from gradient.io.arrays import tensor_of, to_numpy
from gradient.tensor import Tensor

#: A pickle, and the memory buffers that it refers to.
Packed = tuple[bytes, list[memoryview]]


def pack(message: Any) -> Packed:
    """Prepare a message for sending, once or to several processes."""
    buffers: list[pickle.PickleBuffer] = []
    stream = io.BytesIO()
    _Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(message)
    return stream.getvalue(), [buffer.raw() for buffer in buffers]


def send(connection: Any, packed: Packed) -> None:
    """Write a packed message to a `multiprocessing` connection."""
    pickled, buffers = packed
    sizes = [buffer.nbytes for buffer in buffers]
    connection.send_bytes(struct.pack(f"<{1 + len(sizes)}Q", len(sizes), *sizes))
    connection.send_bytes(pickled)
    for buffer in buffers:
        if buffer.nbytes:
            connection.send_bytes(buffer)


def receive(connection: Any) -> Any:
    """Wait for the next message.

    Raises:
        EOFError: the other side has closed the connection, or died.
    """
    _, *sizes = (number for (number,) in struct.iter_unpack("<Q", connection.recv_bytes()))
    pickled = connection.recv_bytes()
    buffers = []
    for size in sizes:
        memory = np.empty(size, np.uint8)  # writable, and aligned for any dtype
        if size:
            connection.recv_bytes_into(memory)
        buffers.append(memory)
    return pickle.loads(pickled, buffers=buffers)


class _Pickler(pickle.Pickler):
    """Pickles tensors as NumPy arrays."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Tensor):
            return _restore_tensor, (to_numpy(obj.detach().cpu()), obj.requires_grad)
        return NotImplemented


def _restore_tensor(array: np.ndarray, requires_grad: bool) -> Tensor:
    tensor = tensor_of(array)
    if requires_grad:
        tensor.requires_grad = True
    return tensor

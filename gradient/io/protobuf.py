"""Reading Protocol Buffers messages without a schema compiler, by their numbered fields.

A message is a sequence of fields. Each begins with a varint, `number << 3 | wire type`; the
wire type determines the length of the value (https://protobuf.dev/programming-guides/encoding/). A
reader needs only the numbers of the fields that it uses. Values are views of the message, and every
length is validated against it, so a damaged file costs no memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from gradient.errors import FileFormatError

Value = int | memoryview

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT = 10  # bytes, of seven bits each: enough for 64 bits


def fields(message: bytes | memoryview) -> Iterator[tuple[int, Value]]:
    """The fields of a message in their order, as (number, value); repeated ones come repeatedly.

    A value is an int if its wire type is varint, otherwise its raw bytes: a nested message or
    string (`fields` or `text_of` reads it on), or the 4 or 8 bytes of a fixed-size number
    (`float_of`).

    Raises:
        FileFormatError: the message ends within a field, or has an unused wire type.
    """
    view = memoryview(message)
    at = 0
    while at < len(view):
        key, at = _varint(view, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            value, at = _varint(view, at)
            yield number, value
            continue
        if wire_type == _BYTES:
            size, at = _varint(view, at)
        elif wire_type in _FIXED_SIZES:
            size = _FIXED_SIZES[wire_type]
        else:
            raise FileFormatError(f"protobuf: field {number} has the unknown wire type {wire_type}")
        if size > len(view) - at:
            raise FileFormatError(
                f"protobuf: field {number} needs {size:,} bytes and {len(view) - at:,} are left"
            )
        yield number, view[at : at + size]
        at += size


def text_of(value: Value) -> str:
    """Return a string field's text. Raises FileFormatError if it is no string or not UTF-8."""
    try:
        return bytes(_raw(value)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"protobuf: a text is not UTF-8 ({error})") from None


def float_of(value: Value) -> float:
    """Return a float field's number. Raises FileFormatError if it is not a fixed 32-bit value."""
    raw = _raw(value)
    if len(raw) != 4:
        raise FileFormatError(f"protobuf: a float has 4 bytes, got {len(raw)}")
    return struct.unpack("<f", raw)[0]


def int_of(value: Value) -> int:
    """An int32, enum or bool field's number (negative ones are sent in two's complement)."""
    if not isinstance(value, int):
        raise FileFormatError(f"protobuf: expected a number, got {len(value)} bytes")
    return value - (1 << 64) if value >> 63 else value


def message_of(value: Value) -> memoryview:
    """A nested message's bytes, for `fields`."""
    return _raw(value)


def _raw(value: Value) -> memoryview:
    if isinstance(value, int):
        raise FileFormatError(f"protobuf: expected bytes, got the number {value}")
    return value


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at `at` (seven bits per byte, low ones first), and its end."""
    number = 0
    for shift, byte in enumerate(view[at : at + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return number & (1 << 64) - 1, at + shift + 1
    raise FileFormatError(
        "protobuf: the message ends within a number, or it is longer than 64 bits"
    )

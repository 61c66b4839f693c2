"""SentencePiece `.model` files made by hand: a small writer of Protocol Buffers messages."""

from __future__ import annotations

import struct

from gradient.text.pieces import PieceType


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def text_field(number: int, value: str | bytes) -> bytes:
    raw = value.encode("utf-8") if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def int_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def float_field(number: int, value: float) -> bytes:
    return varint(number << 3 | 5) + struct.pack("<f", value)


def piece(text: str, score: float = 0.0, kind: int = PieceType.NORMAL) -> bytes:
    body = text_field(1, text) + float_field(2, score) + int_field(3, kind)
    return text_field(1, body)


SPECIALS = [
    ("<unk>", 0.0, PieceType.UNKNOWN),
    ("<s>", 0.0, PieceType.CONTROL),
    ("</s>", 0.0, PieceType.CONTROL),
]
BYTES = [(f"<0x{byte:02X}>", 0.0, PieceType.BYTE) for byte in range(256)]


def model_bytes(
    pieces: list[tuple[str, float, int]],
    *,
    model_type: int = 2,
    byte_fallback: bool = False,
    dummy_prefix: bool = True,
    remove_extra: bool = False,
    charsmap: bytes = b"",
    **trainer: int,
) -> bytes:
    """A `.model` file of these pieces (text, score, type); `trainer` by field number, as n24=1."""
    settings = int_field(3, model_type) + int_field(35, byte_fallback)
    for name, value in trainer.items():
        settings += int_field(int(name[1:]), value)
    normalizer = int_field(3, dummy_prefix) + int_field(4, remove_extra)
    if charsmap:
        normalizer += text_field(2, charsmap)
    body = b"".join(piece(*each) for each in pieces)
    return body + text_field(2, settings) + text_field(3, normalizer)

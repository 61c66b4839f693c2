"""What NVRTC made of a source for an architecture, kept for later runs of the tests.

It depends on the text, the headers, the options and the compiler alone. For bfloat16 and sm_90a
alone all families take two minutes of a processor, and a change is of few of them.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.metadata
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

from gradient.backends.cuda import compilation


def compiled(source: str, name: str, architecture: str) -> tuple[bytes, str]:
    """As `compilation.compile_verbosely`: the machine code, and the assembler's report."""

    def compile_now() -> bytes:
        code, log = compilation.compile_verbosely(source, name, architecture)
        report = log.encode()
        return struct.pack("<Q", len(report)) + report + code

    key = name, compilation._key(source, architecture), _packages()
    both = kept(key, compile_now)
    end = 8 + struct.unpack_from("<Q", both)[0]
    return both[end:], both[8:end].decode()


def kept(key: object, make: Callable[[], bytes]) -> bytes:
    """What was made for a key, in this run or an earlier one."""
    folder = Path(tempfile.gettempdir()) / f"gradient-nvrtc-results-{os.getuid()}"
    path = folder / hashlib.sha256(repr(key).encode()).hexdigest()[:20]
    if path.exists():
        return gzip.decompress(path.read_bytes())
    made = make()
    folder.mkdir(exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_bytes(gzip.compress(made, 1))
    partial.replace(path)  # whole or not at all, for another process may look
    return made


@functools.cache
def _packages() -> list[str]:
    """The compiler and its headers, as they are installed."""
    found = importlib.metadata.distributions()
    named = {f"{each.name} {each.version}" for each in found if each.name.startswith("nvidia-cuda")}
    return sorted(named)

"""What kernels that begin early wait for, by their machine code: numbers that come from memory are
waited for where they are used, and one use may wait for others, too.

A load sets one of six counters, a "scoreboard", and what uses its numbers waits until that counter
is 0. Loads whose numbers are used behind a branch get the same one, so that to use one is to wait
for all of them. Found by looking at control codes (Jia et al. 2018, "Dissecting the NVIDIA Volta
GPU architecture via microbenchmarking", section 2.1).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

import pytest

pytest.importorskip("cupy_backends.cuda.libs.nvrtc", exc_type=ImportError)

from gradient.backends.cuda import compilation
from support import nvrtc_results

pytestmark = pytest.mark.cpu_only
KERNELS = ("packed_row_products", "row_products")
LOAD, COPY, MULTIPLY, BARRIER, WAIT = 0x981, 0xFAE, 0x237, 0xB1D, 0x82E
"""Numbers of the instructions LDG, LDGSTS (a copy to shared memory, which no load has to wait for),
IMMA, BAR and ACQBULK, of an H100."""


def code_of(cubin: bytes) -> Iterator[tuple[str, list[tuple[int, int, bool]]]]:
    """The kernels of an ELF file: their names, and of each instruction its number, the scoreboard
    that it sets (7: none), and whether it would, as a load, be one of 16 bytes."""
    (at,), (size, count, of_names) = struct.unpack_from("<Q", cubin, 40), struct.unpack_from(
        "<3H", cubin, 58
    )  # fmt: skip
    sections = [struct.unpack_from("<I4xQQQQ", cubin, at + i * size) for i in range(count)]
    names = sections[of_names][3]
    for name, _, _, start, length in sections:
        text = cubin[names + name : cubin.index(b"\0", names + name)].decode()
        if text.startswith(".text."):
            words = struct.iter_unpack("<QQ", cubin[start : start + length])
            yield (
                text[6:],
                [(low & 0xFFF, high >> 46 & 7, high >> 9 & 7 == 6) for low, high in words],
            )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("family", KERNELS)
def test_what_comes_before_the_products_waits_for_no_weights(family: str, dtype: str) -> None:
    code = nvrtc_results.compiled(*compilation.source_of(family, dtype), "sm_90a")[0]
    checked = 0
    for name, instructions in code_of(code):
        if "product_4_" in name:  # of several rows
            continue
        numbers = [number for number, *_ in instructions]
        wait = numbers.index(WAIT)
        if MULTIPLY in numbers:
            first = numbers.index(MULTIPLY)
        else:  # behind the barrier after which all of x is there
            first = max(i for i, number in enumerate(numbers) if number == BARRIER)
        assert wait < first, name
        weights = [board for number, board, _ in instructions[:wait] if number == LOAD]
        after = [  # x, of 16 bytes at a time; not what is added to a result
            board
            for number, board, of_16_bytes in instructions[wait:first]
            if number == LOAD and of_16_bytes
        ]
        assert after and not set(weights) & set(after), name
        assert weights or COPY in numbers[:wait], name
        checked += 1
    assert checked


@pytest.mark.parametrize("family", KERNELS)
def test_nothing_that_was_loaded_is_used_before_the_wait(family: str) -> None:
    """As to put a zero in its place would be. (Moves are none: they are to where it is used.)"""
    from cupy_backends.cuda.libs import nvrtc

    source, name = compilation.source_of(family, "bfloat16")
    program = nvrtc.createProgram(source, name, (), ())
    options = (f"-I{compilation.FOLDER}", *compilation._include_options())
    nvrtc.compileProgram(program, (*compilation.OPTIONS, "--gpu-architecture=sm_90", *options))
    kernels = re.findall(
        r"\.entry (\w+)\((.*?)griddepcontrol\.wait", nvrtc.getPTX(program).decode(), re.DOTALL
    )
    assert kernels
    for kernel, text in kernels:
        loaded: set[str] = set()
        for line in text.splitlines():
            found = re.match(r"\s+(?:@!?%p\d+\s+)?(\w[\w.]+)\s+({.*?}|[^,]+)(.*);", line)
            if found is None:
                continue
            what, to, rest = (
                found[1],
                *(set(re.findall(r"%\w+", part)) for part in found.groups()[1:]),
            )
            if what.startswith("ld.global"):
                loaded |= to
            elif rest & loaded:
                assert what.startswith("mov"), (kernel, line)
                loaded |= to

"""Which instructions of this processor kernels use.

A path is a set of instructions that kernels are written for:

    amx          those of avx512bf16, and registers that are tiles of a matrix (`amx.py`)
    avx512bf16   those of avx512vnni, and one for two products of bfloat16 numbers in each lane
    avx512vnni   64-byte registers, and one instruction for four products of bytes in each lane
    avxvnni      the same on 32-byte registers
    avx2         32-byte registers; products of bytes by way of 16 bits
    neon         16-byte registers of an ARM processor with its dot product
    generic      whatever LLVM makes of general operations, on any processor

The best is taken, but avx512bf16 on AMD's processors alone: Intel's take two cycles for the
products of 32 pairs of bfloat16 numbers, and one for those of 32 float32 numbers.

The environment variable GRADIENT_CPU forces one, for tests: all kernels are then compiled for a
processor that has no more. The cache on disk keeps them apart, as numba puts the processor and its
features into the key of each kernel.
"""

from __future__ import annotations

import ctypes
import os
import platform

import llvmlite.binding
import numba

from gradient.errors import ArgumentError

ARM = platform.machine().lower() in ("arm64", "aarch64")

NEEDED = {
    "amx": (
        *("amx-tile", "amx-int8", "amx-bf16", "avx512bf16"),
        *("avx512f", "avx512bw", "avx512vl", "avx512vnni"),
    ),
    "avx512bf16": ("avx512f", "avx512bw", "avx512vl", "avx512vnni", "avx512bf16"),
    "avx512vnni": ("avx512f", "avx512bw", "avx512vl", "avx512vnni"),
    "avxvnni": ("avx2", "fma", "f16c", "avxvnni"),
    "avx2": ("avx2", "fma", "f16c"),
    "neon": ("neon", "dotprod"),
    "generic": (),
}
"""The features that each path uses, the best path first."""

PROCESSORS = {
    "amx": "sapphirerapids",
    "avx512bf16": "cooperlake",
    "avx512vnni": "icelake-server",
    "avxvnni": "alderlake",
    "avx2": "haswell",
}
"""For which kernels are compiled where a path is forced; "generic" is LLVM's baseline."""


def _host_features() -> dict[str, bool]:
    try:
        return dict(llvmlite.binding.get_host_cpu_features())
    except RuntimeError:  # LLVM does not know this processor
        return {}


AMD = llvmlite.binding.get_host_cpu_name().startswith("znver")
"""Whether the processor is one of AMD's: the order in which memory is read may depend on that, and
whether products of pairs of bfloat16 numbers pay."""

SYS_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA = 158, 0x1023, 18
"""Of Linux on x86-64 (Documentation/arch/x86/xstate.rst)."""


def _may_use_tiles() -> bool:
    """Ask the system for leave to use AMX's tiles, which all threads of the process then have."""
    if platform.system() != "Linux":
        return False
    arguments = map(ctypes.c_long, (SYS_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA))
    return ctypes.CDLL(None).syscall(*arguments) == 0


def _path() -> tuple[str, dict[str, bool]]:
    """The path, and the features that code may use."""
    host = _host_features()
    runs = [path for path, needed in NEEDED.items() if all(host.get(name) for name in needed)]
    if runs[0] == "amx" and not _may_use_tiles():
        del runs[0]
    best = runs[0]
    if best == "avx512bf16" and not AMD:
        best = runs[1]
    forced = os.environ.get("GRADIENT_CPU", "")
    if not forced:
        return best, host
    if forced not in runs:
        raise ArgumentError(
            f"GRADIENT_CPU: expected one of {', '.join(runs)} on this processor, got {forced!r}"
        )
    if not forced == best == runs[0]:  # kernels of other paths are never among those of the best
        numba.config.CPU_NAME = PROCESSORS.get(forced, "generic" if ARM else "x86-64")
        numba.config.CPU_FEATURES = ""
        host = {name: True for name in NEEDED[forced]}
    return forced, host


PATH, FEATURES = _path()

CONVERTS_FLOAT16 = ARM or bool(FEATURES.get("f16c") or FEATURES.get("avx512f"))
"""Whether there is an instruction from float16 to float32."""

MULTIPLIES_BFLOAT16 = PATH == "avx512bf16"
"""Whether pairs of bfloat16 numbers are multiplied by an instruction of the vector registers."""

BYTES = 64 if FEATURES.get("avx512f") else 32 if FEATURES.get("avx2") else 16
"""The width of the vector registers."""

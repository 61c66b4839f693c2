"""Atomic operations on addresses, and what the thread pool asks of the system, as functions that
numba's compiler puts in place: `driver` is written in them."""

from __future__ import annotations

import platform
import sys
from typing import Any

from llvmlite import ir
from numba import types

from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.llvm_types import I32, I64

FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98}.get(platform.machine())
"""Number of the system call, where there is one."""
FUTEX_WAIT, FUTEX_WAKE = 128, 129  # of this process alone
SET_AFFINITY = {"x86_64": 203, "aarch64": 122, "riscv64": 122}.get(platform.machine())
MASK_SIZE = 128
"""Bytes of a mask of processors."""
SYSTEM = "linux" if sys.platform == "linux" and FUTEX else sys.platform


def _pointer(builder: Any, address: Any, kind: Any = I64) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


@emitted(types.int64)
def load(builder, address):
    """Load the number at an address, with acquire ordering."""
    return builder.load_atomic(_pointer(builder, address), "seq_cst", 8)


@emitted()
def store(builder, address, value):
    """Store a number at an address, with release ordering."""
    builder.store_atomic(value, _pointer(builder, address), "seq_cst", 8)


@emitted(types.int64)
def add(builder, address, value):
    """Add to the number at an address; return the old number."""
    return builder.atomic_rmw("add", _pointer(builder, address), value, "seq_cst")


@emitted(types.boolean)
def swap(builder, address, old, new):
    """Replace the number at an address if it is `old`; return whether it was (compare-and-swap)."""
    found = builder.cmpxchg(_pointer(builder, address), old, new, "seq_cst", "seq_cst")
    return builder.extract_value(found, 1)


@emitted(types.int64)
def read(builder, address):
    """Load the number at an address that no other thread changes meanwhile."""
    return builder.load(_pointer(builder, address))


@emitted()
def write(builder, address, value):
    """Store a number at an address that no other thread reads meanwhile."""
    builder.store(value, _pointer(builder, address))


@emitted()
def call(builder, entry, start, stop, block):
    """Call the entry point at an address."""
    kind = ir.FunctionType(ir.VoidType(), [I64, I64, I64])
    builder.call(_pointer(builder, entry, kind), [start, stop, block])


@emitted()
def pause(builder):
    """Tell the processor that this is a waiting loop."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        _call(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
    elif machine in ("aarch64", "arm64"):
        _call(builder, "llvm.aarch64.hint", ir.VoidType(), [I32(1)])


@emitted()
def let_others_run(builder):
    name = "SwitchToThread" if SYSTEM == "win32" else "sched_yield"
    _call(builder, name, I32, [])


@emitted()
def sleep(builder, address, value):
    """Sleep while the 32 bits at an address are `value`; without futexes, for half a ms."""
    if SYSTEM == "linux":
        _futex(builder, FUTEX_WAIT, address, value)
    elif SYSTEM == "win32":
        _call(builder, "Sleep", ir.VoidType(), [I32(1)])
    else:
        _call(builder, "usleep", I32, [I32(500)])


@emitted()
def wake_up(builder, address, count):
    """Wake up to `count` threads that sleep on an address."""
    if SYSTEM == "linux":
        _futex(builder, FUTEX_WAKE, address, count)


@emitted(types.int64)
def processor(builder):
    """The number of the processor that this thread runs on, or -1."""
    if SYSTEM == "linux":
        return builder.sext(_call(builder, "sched_getcpu", I32, []), I64)
    return I64(-1)


@emitted()
def set_affinity(builder, thread, mask):
    """Let a thread run only on the processors of a mask (MASK_SIZE bytes)."""
    if SYSTEM == "linux":
        arguments = [I64(SET_AFFINITY), thread, I64(MASK_SIZE), mask]
        _call(builder, "syscall", I64, arguments, var_arg=True)


def _futex(builder: Any, operation: int, address: Any, value: Any) -> None:
    arguments = [I64(FUTEX), address, I64(operation), value, I64(0), I64(0), I64(0)]
    _call(builder, "syscall", I64, arguments, var_arg=True)


def _call(builder: Any, name: str, result: Any, arguments: list[Any], var_arg: bool = False) -> Any:
    kinds = [a.type for a in arguments]
    if var_arg:
        kinds = kinds[:1]
    function = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(result, kinds, var_arg=var_arg), name
    )
    return builder.call(function, arguments)

"""C entry points of kernels: any kernel as a function of two numbers and an address.

A kernel `kernel(start, stop, *arguments)` is called through `void entry(int64 start, int64 stop,
int64 *block)`, where the block holds

    0   the address of the kernel's machine code for arguments of these types (`pack` leaves the
        count of numbers in the block here)
    1   the address of a number that becomes 1 if the kernel raises an exception
    2.. the arguments, flattened as numba passes them, 8 bytes for each number. An array is: two
        zeros (who owns its memory: here nobody), its size, item size, address, shape and strides.

The entry point hands all this to the kernel. It depends on the types of the arguments alone, and
is compiled with `pack`, which writes arguments into a block: some 0.1 s for types that are new,
3 ms from the cache on disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numba
from llvmlite import ir
from numba import types

from gradient.backends.numpy import compiler
from gradient.backends.numpy.kernels.compilation import ordered_kernel
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.llvm_types import I8, I32, I64

HEADER = 2
"""Numbers of a block before the arguments."""

MAX_SLOTS = 256
"""Numbers of a block: an array of two dimensions takes nine."""

ADDRESS: ir.PointerType = I8.as_pointer()
ENTRY: ir.FunctionType = ir.FunctionType(ir.VoidType(), [I64, I64, I64.as_pointer()])


@ordered_kernel
def pack(block, *arguments):
    """Write the arguments into the block at this address; the address of their entry point."""
    return _pack(block, arguments)


def native(kernel: Any, arguments: tuple[Any, ...]) -> int:
    """The address of the kernel's machine code for such arguments."""
    kinds = tuple(numba.typeof(x) for x in (0, 0, *arguments))
    if kinds not in kernel.overloads:
        compiler.run(kernel.compile, kinds)
    compiled = kernel.overloads[kinds]
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


@emitted(types.int64, types.int64, ...)
def _pack(builder, address, together, *, kinds, context):
    flat: list[Any] = []
    for i, kind in enumerate(kinds["together"]):
        value = builder.extract_value(together, i)
        if isinstance(kind, types.Array):
            value = _unowned(context, builder, kind, value)
        flat += _flatten(context.get_arg_packer((kind,)).as_arguments(builder, [value]))
    if len(flat) > MAX_SLOTS - HEADER:
        raise NotImplementedError(f"a kernel with {len(flat)} numbers of arguments")
    slots = builder.inttoptr(address, I64.as_pointer())
    builder.store(I64(HEADER + len(flat)), slots)
    for i, value in enumerate(flat, HEADER):
        builder.store(value, _slot(builder, slots, i, value.type))
    entry = _entry_point(builder.module, [value.type for value in flat])
    return builder.ptrtoint(entry, I64)


def _unowned(context: Any, builder: Any, kind: types.Array, value: Any) -> Any:
    """The array without numba's reference to its memory, which ends with the call of `pack`."""
    array = context.make_array(kind)(context, builder, value)
    array.meminfo = ir.Constant(array.meminfo.type, None)
    array.parent = ir.Constant(array.parent.type, None)
    return array._getvalue()


def _flatten(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flatten(value)
        else:
            yield value


def _slot(builder: Any, slots: Any, i: int, kind: Any) -> Any:
    return builder.bitcast(builder.gep(slots, [I64(i)]), kind.as_pointer())


def _entry_point(module: Any, kinds: list[Any]) -> Any:
    """Add to the module the function that calls a kernel with arguments of these LLVM types.

    What it calls has numba's own calling convention: a status is returned (0: no exception), a
    result, which kernels do not have, and an exception go where the first two arguments point.
    """
    entry = ir.Function(module, ENTRY, module.get_unique_name("entry_point"))
    entry.linkage = "internal"
    builder = ir.IRBuilder(entry.append_basic_block())
    start, stop, slots = entry.args

    def load(i: int, kind: Any) -> Any:
        return builder.load(_slot(builder, slots, i, kind))

    place = ADDRESS.as_pointer()
    code = load(0, ir.FunctionType(I32, [place, place, I64, I64, *kinds]).as_pointer())
    arguments = [load(i, kind) for i, kind in enumerate(kinds, HEADER)]
    nowhere = [builder.alloca(ADDRESS), builder.alloca(ADDRESS)]
    status = builder.call(code, [*nowhere, start, stop, *arguments])
    with builder.if_then(builder.icmp_signed("!=", status, I32(0)), likely=False):
        builder.store(I64(1), load(1, I64.as_pointer()))
    builder.ret_void()
    return entry

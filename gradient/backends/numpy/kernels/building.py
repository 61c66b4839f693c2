"""Shared parts of the code that generates innermost loops: addresses, vectors, rows, sums.

`instructions` has operations that LLVM does not offer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from gradient.backends.numpy.kernels import instructions
from gradient.backends.numpy.kernels.llvm_types import I32, I64


def rows_of(builder: Any, array: Any, at: Any, row: Any, n: int, last: Any = None) -> list[Any]:
    """The addresses of n rows of a flat array, `row` apart from `at` on; rows after number `last`
    are replaced by that one."""
    found = []
    for number in map(I64, range(n)):
        if last is not None:
            number = builder.select(builder.icmp_signed("<", number, last), number, last)
        start = builder.add(at, builder.mul(row, number))
        found.append(builder.gep(array, [start]))
    return found


def read(builder: Any, pointer: Any, kind: Any, align: int = 4) -> Any:
    """Load the vector of type `kind` at an address."""
    value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    value.align = align
    return value


def write(builder: Any, vector: Any, pointer: Any, align: int = 4) -> None:
    """Store a vector at an address."""
    builder.store(vector, builder.bitcast(pointer, vector.type.as_pointer())).align = align


def splat(builder: Any, number: Any, kind: Any) -> Any:
    """The vector of type `kind` whose elements are all `number`."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), number, I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, kind.count), None))


def begin_sums(
    builder: Any, add: Any, sums: Iterable[Any], places: Iterable[Any], align: int = 4
) -> None:
    """Initialise vectors of sums, variables of a loop: from memory if `add` says so, else to
    zeros."""
    with builder.if_else(add) as (then, otherwise):
        with then:
            for total, at in zip(sums, places, strict=True):
                builder.store(read(builder, at, total.type.pointee, align), total)
        with otherwise:
            for total in sums:
                builder.store(ir.Constant(total.type.pointee, None), total)


def add_products(builder: Any, at: Any, vectors: Sequence[Any], sums: Iterable[Any]) -> None:
    """Add the products of the number at this address and of vectors to their sums, which are
    variables of a loop."""
    factor = splat(builder, builder.load(at), vectors[0].type)
    for vector, total in zip(vectors, sums, strict=True):
        builder.store(instructions.fma(builder, vector, factor, builder.load(total)), total)


def hold_loads(builder: Any) -> None:
    """Keep what is loaded later behind this: LLVM would bring forward so many loads that sums lose
    their registers."""
    builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)


class Rows:
    """The addresses of a tile's rows, `apart` numbers apart, as a loop moves along them.

    A row's number is 2**n plus that of a pointer, or 0: the processor adds an offset times 1, 2, 4
    or 8 to an address for free; a separate instruction would take the place of an FMA.
    """

    def __init__(self, builder: Any, first: Any, apart: Any, rows: int):
        self._builder, self._apart = builder, apart
        pointers = min(rows, 1 << max(0, rows.bit_length() - 2))
        starts = [builder.gep(first, [builder.mul(apart, I64(i))]) for i in range(pointers)]
        self._starts = [cgutils.alloca_once_value(builder, each) for each in starts]
        self._here: list[Any] = []

    def look(self) -> None:
        """Read where the rows are in this round of the loop."""
        here = [self._builder.load(each) for each in self._starts]
        # LLVM would make addresses from one another, as long as it knows how they go on.
        kind = ir.FunctionType(here[0].type, [here[0].type])
        self._here = [self._builder.asm(kind, "", "=r,0", [each], True) for each in here]

    def row(self, i: int) -> Any:
        """The address of row i in this iteration."""
        power = 1 << (i.bit_length() - 1) if i else 0
        apart = self._builder.mul(self._apart, I64(power))
        return self._builder.gep(self._here[i - power], [apart])

    def move(self, step: Any) -> None:
        """Advance by `step` numbers, for the next iteration."""
        for start, each in zip(self._starts, self._here, strict=True):
            self._builder.store(self._builder.gep(each, [step]), start)

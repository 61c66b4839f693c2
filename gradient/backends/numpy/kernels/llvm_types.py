"""LLVM's types of numbers, as the code that kernels are made of names them."""

from __future__ import annotations

from llvmlite import ir

I8: ir.IntType = ir.IntType(8)
I16: ir.IntType = ir.IntType(16)
I32: ir.IntType = ir.IntType(32)
I64: ir.IntType = ir.IntType(64)
F16: ir.HalfType = ir.HalfType()
F32: ir.FloatType = ir.FloatType()


def vector_of(number: ir.Type, count: int) -> ir.VectorType:
    """So many numbers in a register."""
    return ir.VectorType(number, count)

"""`_dynamo.eval_frame`: the class by which programs know a compiled module."""

from __future__ import annotations

from gradient.plan.compiled_module import CompiledModule as OptimizedModule

__all__ = ["OptimizedModule"]

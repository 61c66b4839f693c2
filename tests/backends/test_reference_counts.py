"""Kernels that are compiled without numba's counts of references keep to what that asks of them."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("numba")

from gradient.backends.numpy import kernels  # noqa: E402

pytestmark = pytest.mark.cpu_only


def compiled_functions() -> list[Any]:
    """Each kernel and each function that kernels call."""
    names = [each.name for each in pkgutil.iter_modules(kernels.__path__)]
    modules = [importlib.import_module(f"{kernels.__name__}.{name}") for name in names]
    return [
        each
        for module in modules
        for each in vars(module).values()
        if hasattr(each, "targetoptions") and each.py_func.__module__ == module.__name__
    ]


def counts(function: Any) -> bool:
    """Whether it is compiled with counts; of what is not ours they are numba's default."""
    return bool(function.targetoptions.get("_nrt", True))


def parts(value: ast.expr) -> Iterator[ast.expr]:
    if isinstance(value, ast.Tuple):
        for each in value.elts:
            yield from parts(each)
    elif isinstance(value, ast.IfExp):
        yield from (*parts(value.body), *parts(value.orelse))
    else:
        yield value


def test_what_calls_a_function_that_makes_arrays_counts_them() -> None:
    functions = compiled_functions()
    assert {counts(each) for each in functions} == {True, False}
    for caller in functions:
        code = caller.py_func.__code__
        for name in code.co_names:
            called = caller.py_func.__globals__.get(name)
            if hasattr(called, "targetoptions") and counts(called):
                assert counts(caller), f"{code.co_name} calls {name}, which has to stand above it"


def test_none_without_counts_gives_back_what_it_was_given() -> None:
    """One that counts would take the result for its own, and let go of it."""
    for function in compiled_functions():
        if not counts(function):
            tree = ast.parse(textwrap.dedent(inspect.getsource(function.py_func)))
            assert not arrays_given_back(tree), function.py_func.__name__


def arrays_given_back(tree: ast.Module) -> list[str]:
    """What a function returns of arguments that it uses as arrays, and of their slices."""
    given = {each.arg for each in ast.walk(tree) if isinstance(each, ast.arg)}
    arrays = {
        each.value.id
        for each in ast.walk(tree)
        if isinstance(each, ast.Subscript | ast.Attribute) and isinstance(each.value, ast.Name)
    }
    returned = [
        part
        for each in ast.walk(tree)
        if isinstance(each, ast.Return) and each.value is not None
        for part in parts(each.value)
    ]
    return [
        ast.unparse(part)
        for part in returned
        if (isinstance(part, ast.Name) and part.id in given & arrays)
        or (isinstance(part, ast.Subscript) and isinstance(part.slice, ast.Slice))
    ]


@pytest.mark.parametrize("result", ["a", "(1, a)", "a if n else 0", "a[1:n]"])
def test_arrays_given_back_are_found(result: str) -> None:
    assert arrays_given_back(ast.parse(f"def f(a, n):\n  a[0] = n\n  return {result}"))
    assert not arrays_given_back(ast.parse("def f(a, n):\n  a[0] = n\n  return n, a[0]"))

"""Arguments drawn from PyTorch's declarations of its functions (`aten` schemas).

A function of gradient's is looked up by its name, so that a new one is drawn without being listed.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from typing import Any

import torch

from fuzzing import numbers
from fuzzing.draw import Draw, Skip
from fuzzing.program import Array, Dtype, Statement

TYPES = {
    "Tensor", "Optional[Tensor]", "int", "Optional[int]", "number", "Optional[number]", "float",
    "Optional[float]", "bool", "Optional[bool]", "List[int]", "Optional[List[int]]", "str",
    "Optional[str]", "List[Tensor]",
}  # fmt: skip


@functools.cache
def declarations() -> dict[str, list[Any]]:
    """PyTorch's schemas by name, without `out`, named axes and complex numbers."""
    found: dict[str, list[Any]] = defaultdict(list)
    for schema in torch._C._jit_get_all_schemas():
        space, _, name = schema.name.partition("::")
        if f"{name}.{schema.overload_name}" in SCRIPTED:
            continue
        if space != "aten" or any(a.is_out for a in schema.arguments):
            continue
        text = str(schema)
        if "Dimname" in text or "complex" in text or "Tensor" not in text:
            continue
        required = [a for a in schema.arguments if not a.has_default_value()]
        if all(str(a.type) in TYPES for a in required):
            found[name].append(schema)
    return found


SCRIPTED = {
    "eq.Tensor_list", "ne.Tensor_list", "sort.Tensor", "split.", "copy_.int", "copy_.float",
    "copy_.Tensor", "as_tensor.bool", "as_tensor.float", "as_tensor.int", "view.dtype",
    "repeat_interleave.Tensor", "tensor_split.tensor_indices_or_sections", "random_.from",
}  # fmt: skip
"""Overloads of TorchScript alone; and those that gradient does not have: views of another dtype."""


def dtype_argument(name: str) -> bool:
    return name in ("dtype", "out_dtype")


NEVER = {"layout", "device", "pin_memory", "memory_format", "generator", "non_blocking",
         "out_dtype", "path",
         "cudnn_enabled", "cudnn_enable", "sparse_grad", "implicit", "sparse"}  # fmt: skip
"""Options that mean nothing on one CPU, or that gradient leaves out."""

STRINGS = {
    "rounding_mode": ("floor", "trunc", "nearest"),
    "reduce": ("add", "multiply"),
    "indexing": ("ij", "xy"),
    "interpolation": ("linear", "lower", "higher", "midpoint", "nearest"),
    "approximate": ("none", "tanh"),
    "side": ("left", "right"),
    "mode": ("constant", "reflect", "replicate", "circular"),
    "padding": ("same", "valid"),
}


class Call:
    """The arguments of one call, as they are drawn: later ones fit the earlier."""

    def __init__(self, draw: Draw, name: str):
        self.draw, self.rng, self.name = draw, draw.rng, name
        self.first: Any = None  # PyTorch's value of the first tensor

    def tensor(self, name: str) -> Any:
        draw, rng = self.draw, self.rng
        if self.first is None:
            kind = "any"
            if name in ("mask", "condition"):
                kind = "bool"
            writable = self.name.endswith("_")
            ref = draw.tensor(kind=kind, writable=writable)
            self.first = draw.value(ref)
            return ref
        shape = tuple(self.first.shape)
        if name in ("mask", "condition"):
            return draw.of_shape(draw.broadcastable(shape), "bool")
        if name in ("index", "indices"):
            return self.index(shape)
        if name in ("mat2", "vec2", "vec", "batch2", "mat1", "batch1"):
            return self.factor(name, shape)
        if name == "repeats":
            return draw.constant((rng.choice((1, shape[0] if shape else 1)),), "int64", "positive")
        if name in ("src", "source"):
            return draw.of_shape(shape, draw.dtype_like(self.first))
        if name == "q":
            return draw.constant(rng.choice(((), (2,))), "float64", "positive")
        return draw.like(self.first)

    def index(self, shape: tuple[int, ...]) -> Any:
        rng = self.rng
        if self.name.rstrip("_") in ("index_select", "index_add", "index_copy", "index_fill"):
            chosen: tuple[int, ...] = (rng.randint(0, 3),)
        elif rng.random() < 0.7:
            chosen = shape
        else:
            chosen = tuple(rng.randint(min(n, 1), max(n, 1)) for n in shape)
        high = min([n for n in shape if n] or [1])
        return self.draw.indices(chosen, -1 if rng.random() < 0.05 else 0, high)

    def factor(self, name: str, shape: tuple[int, ...]) -> Any:
        """The second factor of a product: its rows are the first one's columns."""
        rng, draw = self.rng, self.draw
        dtype = draw.dtype_like(self.first)
        if name in ("vec", "vec2"):
            return draw.of_shape(shape[-1:], dtype)
        n = rng.randint(1, 3)
        if name in ("mat1", "batch1"):  # addmm(self, mat1, mat2): shape of self is (n, m)
            self.first = None if len(shape) < 2 else self.first
            if len(shape) < 2:
                raise Skip
            k = rng.randint(1, 3)
            self.inner = k
            return draw.of_shape((*shape[:-1], k), dtype)
        if hasattr(self, "inner"):
            return draw.of_shape((*shape[:-2], self.inner, shape[-1]), dtype)
        return draw.of_shape((*shape[:-2], *shape[-1:], n), dtype)

    def dims(self) -> list[int]:
        ndim = len(self.first.shape) if self.first is not None else 2
        return list(range(-ndim, ndim)) or [0, -1]

    def dim(self) -> int:
        return self.rng.choice(self.dims())

    def integer(self, name: str) -> int:
        rng = self.rng
        if name in ("dim", "dim0", "dim1", "dim2", "axis0", "axis1", "start_dim", "end_dim",
                    "source", "destination", "dimension"):  # fmt: skip
            if rng.random() < 0.03:
                return rng.choice((5, -6))
            return self.dim()
        if name in ("diagonal", "offset"):
            return rng.randint(-2, 2)
        if name in ("k", "chunks", "sections", "split_size", "repeats", "length", "size", "step",
                    "num_samples", "n", "row", "col", "m", "steps"):  # fmt: skip
            return rng.choice((1, 1, 2, 2, 3, 0, 4, -1) if rng.random() < 0.2 else (1, 1, 2, 2, 3))
        return rng.choice((0, 0, 1, 1, 2, -1, 3))

    def integers(self, name: str) -> Any:
        rng = self.rng
        shape = tuple(self.first.shape) if self.first is not None else (2, 3)
        ndim = len(shape)
        if name in ("dim", "dims", "source", "destination"):
            if self.name in ("permute",):
                order = rng.sample(range(ndim), ndim)
                return tuple(order)
            axes = rng.sample(
                range(ndim), rng.randint(0 if rng.random() < 0.1 else min(1, ndim), ndim)
            )
            axes = [a - ndim if rng.random() < 0.4 else a for a in axes]
            return axes[0] if axes and rng.random() < 0.4 else tuple(axes)
        if name in ("size", "shape", "sizes"):
            return self.draw.size(self.name, shape)
        if name in ("repeats",):
            return tuple(
                rng.randint(1 if rng.random() < 0.9 else 0, 2)
                for _ in range(max(1, ndim) + rng.randint(0, 1))
            )
        if name == "shifts":
            return rng.choice((rng.randint(-4, 6), tuple(rng.randint(-3, 3) for _ in shape)))
        if name in ("split_sizes", "split_size"):
            n = shape[0] if shape else 0
            cut = rng.randint(0, n)
            return [cut, n - cut]
        if name == "indices":
            return sorted(rng.randint(0, 4) for _ in range(rng.randint(1, 2)))
        return tuple(rng.randint(0, 2) for _ in range(rng.randint(1, 2)))

    def argument(self, name: str, kind: str) -> Any:
        draw, rng = self.draw, self.rng
        if dtype_argument(name):
            return draw.dtype()
        if kind.startswith("Optional["):
            kind = kind[len("Optional[") : -1]
        if kind == "Tensor":
            return self.tensor(name)
        if kind in ("number", "float"):
            if name == "p":
                return rng.choice((0, 1, 2, 2.0, 3, float("inf"), -float("inf"), 0.5, -1))
            if name in ("eps",):
                return rng.choice((1e-5, 1e-3, 0.1, 0.0))
            if name == "q":
                return rng.choice((0.0, 0.5, 0.3, 1.0))
            if name in ("correction",):
                return rng.choice((0, 1, 1, 2))
            return numbers.scalar(rng)
        if kind == "bool":
            return rng.random() < 0.5
        if kind == "int":
            return self.integer(name)
        if kind == "List[int]":
            return self.integers(name)
        if kind == "List[Tensor]":
            return draw.tensors(self.name)
        if kind == "str":
            return rng.choice(STRINGS.get(name, ("none",)))
        raise Skip


PUBLIC = {"self": "input"}


def statement(draw: Draw, name: str, form: str) -> Statement:
    """A call of `torch.<name>` or of the method, with one of its declarations' arguments."""
    rng = draw.rng
    known = declarations()[name]
    schema = rng.choice(known)
    call = Call(draw, name)
    args: list[Any] = []
    options: dict[str, Any] = {}
    by_name = False
    for i, a in enumerate(schema.arguments):
        if a.name in NEVER:
            if not a.kwarg_only:
                by_name = True
            continue
        if a.has_default_value() and rng.random() < 0.65:
            by_name = True
            continue
        value = call.argument(a.name, str(a.type))
        if i == 0 and form == "method":
            args.append(value)
        elif by_name or a.kwarg_only or a.name == "alpha" or (i and rng.random() < 0.2):
            by_name = True
            options[PUBLIC.get(a.name, a.name)] = value
        else:
            args.append(value)
    function = f".{name}" if form == "method" else name
    return Statement(function, tuple(args), options, random=name in RANDOM)


RANDOM = {
    "bernoulli", "bernoulli_", "normal", "normal_", "rand", "rand_like", "randn", "randn_like",
    "randint", "randint_like", "randperm", "random_", "uniform_", "exponential_", "multinomial",
    "empty", "empty_like", "new_empty", "dropout", "dropout1d", "dropout2d", "dropout3d",
    "alpha_dropout", "gumbel_softmax", "cauchy_", "geometric_", "log_normal_",
}  # fmt: skip
"""Functions whose values are random or undefined."""

__all__ = ["Array", "Dtype", "declarations", "statement"]

"""What a drawn call may ask for: earlier results that fit, or new tensors."""

from __future__ import annotations

import math
import random
from typing import Any

from fuzzing import numbers
from fuzzing.interpreter import World, overwrites
from fuzzing.program import Array, Dtype, Ref, Statement


class Skip(Exception):
    """The call cannot be drawn here; another one is."""


class Broken(Exception):
    """PyTorch lets some earlier result be read no longer; the program ends before this."""


class Draw:
    """The state of one program while it is drawn; `world` has PyTorch's values so far."""

    def __init__(self, rng: random.Random, world: World):
        self.rng, self.world = rng, world
        self.statements: list[Statement] = []
        self.pool: list[Ref] = []
        """Results that are tensors whose values are defined."""
        self.grads = rng.random() < 0.85
        self.style = rng.choice((None, None, "plain", "ties"))
        self.main = rng.choices(("float64", "float32", "float16", "bfloat16", "int64", "mixed"),
                                (12, 3, 1, 1, 2, 4))[0]  # fmt: skip

    # Values

    def value(self, ref: Any) -> Any:
        return self.world.resolve(ref)

    def push(self, statement: Statement) -> Ref:
        """Append a statement, run it under PyTorch; its result."""
        value = self.world.execute(statement)
        if overwrites(statement):
            self.check_readable()
        self.world.values.append(value)
        self.statements.append(statement)
        ref = Ref(len(self.statements) - 1)
        if not statement.random:
            self.remember(ref, value)
        return ref

    def check_readable(self) -> None:
        """A write into one of several views (of split, chunk, unbind) takes the others away."""
        try:
            for value in self.world.values:
                for tensor in self.world.tensors(value):
                    _ = tensor.is_leaf
        except RuntimeError as error:
            raise Broken from error

    def remember(self, ref: Ref, value: Any) -> None:
        if self.world.is_tensor(value):
            if value.numel() <= 4000 and "complex" not in str(value.dtype):
                self.pool.append(ref)
        elif isinstance(value, (tuple, list)):
            for i, item in enumerate(value[:4]):
                if self.world.is_tensor(item) and ref.item is None:
                    self.pool.append(Ref(ref.index, i))

    def number_style(self) -> str:
        if self.style is not None:
            return self.style
        return self.rng.choices(list(numbers.STYLES), list(numbers.STYLES.values()))[0]

    def main_dtype(self) -> str:
        if self.main == "mixed":
            return self.rng.choice((*numbers.FLOATS, *numbers.INTS, "bool", "float64", "float64"))
        return self.main

    def new(self, shape: tuple[int, ...], dtype: str | None = None) -> Ref:
        dtype = dtype or self.main_dtype()
        grad = self.grads and self.rng.random() < 0.75
        made = numbers.array(self.rng, shape, dtype, self.number_style(), grad)
        return self.push(Statement("array", (made,)))

    def constant(self, shape: tuple[int, ...], dtype: str, style: str) -> Array:
        return numbers.array(self.rng, shape, dtype, style)

    def indices(self, shape: tuple[int, ...], low: int, high: int) -> Array:
        drawn = [self.rng.randint(low, max(high - 1, low)) for _ in range(math.prod(shape))]
        return Array(numbers.nested(drawn, shape), shape, "int64")

    # Tensors that fit

    def tensor(self, kind: str = "any", writable: bool = False) -> Ref:
        """An earlier result of a kind ("any", "bool", "floating"), or a new tensor."""
        rng = self.rng

        def fits(ref: Ref) -> bool:
            t = self.value(ref)
            name = str(t.dtype)
            return (
                (kind == "any" or (kind == "bool") == (name == "torch.bool"))
                and (kind != "floating" or t.is_floating_point())
                and not (writable and t.is_leaf and t.requires_grad and rng.random() < 0.95)
            )

        chosen = [r for r in self.pool if fits(r)]
        if chosen and rng.random() < 0.93:
            # The latest results rather than the first: programs are chains more than stars.
            return chosen[min(int(rng.expovariate(0.35)), len(chosen) - 1) * -1 - 1]
        if writable and self.pool and rng.random() < 0.7:
            return self.push(Statement(".clone", (rng.choice(self.pool),)))
        dtype = {"bool": "bool", "floating": "float64"}.get(kind)
        return self.new(numbers.shape(rng), dtype)

    def dtype_like(self, value: Any) -> str:
        if self.rng.random() < 0.06:
            return self.rng.choice((*numbers.FLOATS, *numbers.INTS, "bool"))
        return str(value.dtype).removeprefix("torch.")

    def dtype(self) -> Dtype:
        return Dtype(
            self.rng.choice((*numbers.FLOATS, *numbers.INTS, "bool", "float64", "float32"))
        )

    def broadcastable(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        rng = self.rng
        if rng.random() < 0.6:
            return shape
        out = [1 if rng.random() < 0.35 else n for n in shape]
        return tuple(out[rng.randint(0, len(out)) :]) if rng.random() < 0.4 else tuple(out)

    def of_shape(self, shape: tuple[int, ...], dtype: str) -> Any:
        rng = self.rng
        if rng.random() < 0.05:
            shape = numbers.shape(rng)
        found = [
            r for r in self.pool
            if tuple(self.value(r).shape) == shape and str(self.value(r).dtype) == f"torch.{dtype}"
        ]  # fmt: skip
        if found and rng.random() < 0.6:
            return rng.choice(found)
        if dtype not in numbers.FLOATS:
            return self.constant(shape, dtype, self.number_style())
        return self.new(shape, dtype)

    def like(self, value: Any) -> Any:
        """A second operand: of a shape that broadcasts with `value`'s, often of its dtype."""
        rng = self.rng
        shape = tuple(value.shape)
        if rng.random() < 0.5:
            found = [r for r in self.pool if _fit(tuple(self.value(r).shape), shape)]
            if found:
                return rng.choice(found)
        dtype = self.dtype_like(value) if rng.random() < 0.85 else self.main_dtype()
        return self.of_shape(self.broadcastable(shape), dtype)

    def tensors(self, name: str) -> list[Any]:
        first = self.tensor()
        value = self.value(first)
        out = [first]
        for _ in range(self.rng.randint(0, 2)):
            if name in ("stack",) or self.rng.random() < 0.6:
                out.append(self.of_shape(tuple(value.shape), self.dtype_like(value)))
            elif name == "meshgrid":
                out.append(self.of_shape((self.rng.randint(1, 3),), self.dtype_like(value)))
            else:
                out.append(self.like(value))
        return out

    def size(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A new size for a tensor of `shape`, as the function `name` takes it."""
        rng = self.rng
        count = math.prod(shape)
        if name in ("view", "reshape", "unflatten"):
            if rng.random() < 0.35:
                return (-1,)
            if rng.random() < 0.3:
                return tuple(reversed(shape))
            if shape and rng.random() < 0.5:
                return (*shape[:-2], -1)
            return (count, 1) if rng.random() < 0.5 else (1, *shape)
        if name in ("expand", "broadcast_to"):
            out = [
                rng.randint(1, 3) if n == 1 else (-1 if rng.random() < 0.2 else n) for n in shape
            ]
            return tuple([rng.randint(1, 2)] * (rng.random() < 0.4) + out)
        return numbers.shape(rng, 3)


def _fit(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(reversed(a), reversed(b), strict=False))

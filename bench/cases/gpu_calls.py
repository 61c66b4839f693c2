"""The calls that `bench gpu` measures, each for a library; their inputs are made beforehand."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import gradient
import gradient.functional as F
from gradient import backends, optim
from gradient.backends.cuda.cublas import Operand, Sizes
from gradient.backends.options import AttentionOptions, SlotMap
from gradient.ops import fused


def functional(library: Any) -> Any:
    return F if library is gradient else library.nn.functional


def made(library: Any, place: str, dtype: str, *shape: int, grad: bool = False) -> Any:
    x = library.randn(*shape, device=place).to(getattr(library, dtype))
    return x.requires_grad_() if grad else x


def of_one(
    function: Callable[[Any, Any], object], rows: int, columns: int, dtype: str
) -> Callable[[Any, str], Callable[[], object]]:
    def prepare(library: Any, place: str) -> Callable[[], object]:
        x = made(library, place, dtype, rows, columns)
        return lambda: function(library, x)

    return prepare


def function_of(name: str) -> Callable[[Any, Any], object]:
    if name == "exp":
        return lambda library, x: library.exp(x)
    return lambda library, x: getattr(functional(library), name)(x)


def norm(
    name: str, rows: int, dtype: str, grad: bool = False
) -> Callable[[Any, str], Callable[[], object]]:
    def prepare(library: Any, place: str) -> Callable[[], object]:
        x = made(library, place, dtype, rows, 4096, grad=grad)
        weight = made(library, place, dtype, 4096, grad=grad)
        function, g = getattr(functional(library), name), made(library, place, dtype, rows, 4096)
        if not grad:
            return lambda: function(x, (4096,), weight)

        def both() -> None:
            x.grad = weight.grad = None
            function(x, (4096,), weight).backward(g)

        return both

    return prepare


def cross_entropy(rows: int, dtype: str) -> Callable[[Any, str], Callable[[], object]]:
    def prepare(library: Any, place: str) -> Callable[[], object]:
        logits = made(library, place, dtype, rows, 50304, grad=True)
        target = library.randint(0, 50304, (rows,)).to(place)

        def both() -> None:
            logits.grad = None
            functional(library).cross_entropy(logits, target).backward()

        return both

    return prepare


def product(m: int, k: int, n: int, dtype: str) -> Callable[[Any, str], Callable[[], object]]:
    def prepare(library: Any, place: str) -> Callable[[], object]:
        a, b = made(library, place, dtype, m, k), made(library, place, dtype, k, n)
        return lambda: a @ b

    return prepare


def product_of_cublas(m: int, k: int, n: int, dtype: str) -> Callable[[str], Callable[[], object]]:
    """`cublasGemmEx` alone, into a new array, as ours and PyTorch's are: memory that was just
    written is in the cache. cuBLAS is column-major, so the factors are exchanged."""

    def prepare(place: str) -> Callable[[], object]:
        be: Any = backends.get(place)
        a, b = (made(gradient, place, dtype, *shape).array for shape in ((m, k), (k, n)))
        left, right = (Operand(be.runtime.address(x), False, x.shape[1]) for x in (a, b))
        sizes, blas = Sizes(n, m, k), be.runtime.blas

        def call() -> object:
            out = be.empty((m, n), a.dtype)
            result = Operand(be.runtime.address(out), False, n)
            blas.multiply(a.dtype, sizes, right, left, result)
            return a, b, out  # keeps the memory alive

        return call

    return prepare


class Heads(NamedTuple):
    """Sizes of a model's causal attention."""

    batch: int
    length: int
    heads: int
    key_heads: int
    width: int


GPT2, LLAMA = Heads(16, 1024, 12, 12, 64), Heads(4, 2048, 32, 8, 128)


def attention(
    of: Heads, batch: int, length: int, dtype: str, grad: bool
) -> Callable[[Any, str], Callable[[], object]]:
    def prepare(library: Any, place: str) -> Callable[[], object]:
        shapes = [(batch, heads, length, of.width) for heads in (of.heads, *[of.key_heads] * 2)]
        q, k, v = (made(library, place, dtype, *shape, grad=grad) for shape in shapes)
        g, groups = made(library, place, dtype, *shapes[0]), of.heads != of.key_heads
        attend = functional(library).scaled_dot_product_attention
        if not grad:
            return lambda: attend(q, k, v, is_causal=True, enable_gqa=groups)

        def both() -> None:
            q.grad = k.grad = v.grad = None
            attend(q, k, v, is_causal=True, enable_gqa=groups).backward(g)

        return both

    return prepare


def decode(keys: int, dtype: str) -> Callable[[Any, str], Callable[[], object]]:
    """32 heads of one query, in groups of 4 with shared keys."""

    def prepare(library: Any, place: str) -> Callable[[], object]:
        q = made(library, place, dtype, 1, 32, 1, 128)
        k, v = (made(library, place, dtype, 1, 8, keys, 128) for _ in range(2))
        attend = functional(library).scaled_dot_product_attention
        return lambda: attend(q, k, v, enable_gqa=True)

    return prepare


def max_pool(images: int, dtype: str) -> Callable[[Any, str], Callable[[], object]]:
    def prepare(library: Any, place: str) -> Callable[[], object]:
        x = made(library, place, dtype, images, 64, 112, 112, grad=True)
        g = made(library, place, dtype, images, 64, 56, 56)

        def both() -> None:
            x.grad = None
            functional(library).max_pool2d(x, 3, stride=2, padding=1).backward(g)

        return both

    return prepare


def experts(size: int, rows: int, dtype: str) -> Callable[[Any, str], Callable[[], object]]:
    """Rows spread evenly over 8 matrices, sorted; few rows have no gradients. PyTorch gets the
    number of rows of each on the host."""

    def prepare(library: Any, place: str) -> Callable[[], object]:
        train = rows > 8
        x = made(library, place, dtype, rows, size, grad=train)
        weights = [made(library, place, dtype, size, size, grad=train) for _ in range(8)]
        sizes = [rows // 8 + (e < rows % 8) for e in range(8)]
        counts, g = library.tensor(sizes).to(place), made(library, place, dtype, rows, size)

        def forward() -> Any:
            if library is gradient:
                return F.grouped_linear(x, weights, counts)
            parts = zip(x.split(sizes), weights, strict=True)
            return library.cat([part @ weight.T for part, weight in parts])

        def both() -> None:
            x.grad = None
            for weight in weights:
                weight.grad = None
            forward().backward(g)

        return both if train else forward

    return prepare


@functools.cache
def packed_weight(name: str, size: int) -> gradient.Tensor:
    return gradient.quantization.quantize(gradient.randn(size, size), name)


def packed_product(name: str, size: int, rows: int) -> Callable[[Any, str], Callable[[], object]]:
    def prepare(library: Any, place: str) -> Callable[[], object]:
        x = made(library, place, "bfloat16", rows, size)
        weight = packed_weight(name, size).to(place)
        return lambda: functional(library).linear(x, weight)

    return prepare


def decode_pages(slots: int, stored: str) -> Callable[[Any, str], Callable[[], object]]:
    """A step of 8 rows, 32 heads in groups of 4, over pages of 16 slots. PyTorch has no pages, and
    attends to arrays of bfloat16."""
    rows, heads, width, page = 8, 8, 128, 16

    def prepare(library: Any, place: str) -> Callable[[], object]:
        q = made(library, place, "bfloat16", rows, 32, 1, width)
        if library is not gradient:
            shape = (rows, heads, slots, width)
            k, v = (made(library, place, "bfloat16", *shape) for _ in range(2))
            return lambda: functional(library).scaled_dot_product_attention(
                q, k, v, enable_gqa=True
            )
        lead = (rows * slots // page, page, heads)

        def parts() -> tuple[Any, ...]:
            if stored == "bfloat16":
                return (made(library, place, stored, *lead, width).array,)
            codes = library.randint(0, 100, (*lead, width if stored == "int8" else width // 2))
            scales = [made(library, place, "float16", *lead, width // 32).array for _ in range(2)]
            kind, count = (library.int8, 1) if stored == "int8" else (library.uint8, 2)
            return codes.to(place).to(kind).array, *scales[:count]

        positions = library.full((rows, 1), slots - 1, dtype=library.int64).to(place).array
        table = library.arange(lead[0]).reshape(rows, slots // page).to(place).array
        where = SlotMap(positions, slots, page, {}, table=table)
        keys, values, how = parts(), parts(), AttentionOptions(width**-0.5, True)
        return lambda: fused.cached_attention(q, keys=keys, values=values, slots=where, options=how)

    return prepare


def adamw(shapes: list[Any]) -> Callable[[Any, str], Callable[[], object]]:
    def prepare(library: Any, place: str) -> Callable[[], object]:
        params = [made(library, place, "float32", *shape, grad=True) for shape in shapes]
        for p in params:
            p.grad = library.zeros_like(p)
        if library is gradient:
            return optim.AdamW(params, lr=1e-3).step
        return library.optim.AdamW(params, lr=1e-3, fused=True).step

    return prepare

"""Random numbers: the default generator's seed and state, and new random tensors."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient import absent
from gradient.autograd.out_argument import creation_op, creation_op_like, takes_out
from gradient.autograd.variable import Variable
from gradient.dtypes import BY_NUMPY, dtype_of, get_default_dtype, int64
from gradient.errors import ArgumentError, DTypeError, TypeMismatch, sentence
from gradient.tensor.arguments import (
    int_of,
    number_of,
    shape_argument,
    shown,
    size_argument,
    size_of,
    tensor_of,
)
from gradient.tensor.creation import backend_of, finished, turned_back
from gradient.tensor.creation_like import order_like
from gradient.tensor.generator import (
    Generator,
    default_generator,
    draw,
    draw_integers,
    drawing_backend,
    generator_of,
)
from gradient.tensor.joining import broadcast_shapes
from gradient.tensor.random_sampling import check_range

if TYPE_CHECKING:
    from gradient.tensor.arguments import DTypeLike
    from gradient.tensor.core import Tensor
    from gradient.tensor.device import DeviceLike

__all__ = [
    "Generator",
    "bernoulli",
    "default_generator",
    "fork_rng",
    "get_rng_state",
    "initial_seed",
    "manual_seed",
    "multinomial",
    "normal",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "randperm",
    "seed",
    "set_rng_state",
]


def manual_seed(seed: int) -> Generator:
    """Seed the default generator, for all devices, with an int from -2**63 to 2**64 - 1; return the
    generator."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed the default generator with a number that the operating system chooses; return it."""
    return default_generator.seed()


def initial_seed() -> int:
    """Return the default generator's seed: `manual_seed` with it repeats the numbers."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """Return the default generator's state, as a uint8 tensor (16,)."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Restore a state of the default generator that `get_rng_state` returned."""
    default_generator.set_state(new_state)


@contextlib.contextmanager
def fork_rng(
    devices: Iterable[Any] | None = None, enabled: bool = True, device_type: str = "cuda"
) -> Iterator[None]:
    """Restore the default generator's state at the end of the block: `with fork_rng(): ...`.

    `devices` and `device_type` are PyTorch's, without effect: one generator serves all devices.
    """
    if not enabled:
        yield
        return
    place = default_generator.place()
    try:
        yield
    finally:
        default_generator.go_to(place)


def _drawn(
    caller: str,
    kind: str,
    shape: tuple[int, ...],
    generator: Generator | None,
    dtype: DTypeLike | None,
    device: DeviceLike,
    requires_grad: bool,
) -> Tensor:
    backend = drawing_backend(backend_of(device))
    wanted = get_default_dtype() if dtype is None else dtype_of(dtype)
    if wanted.kind == "float":
        array = draw(generator, backend, kind, shape, wanted.numpy)
        return finished(array, backend, requires_grad)
    if wanted.is_complex:  # draw both parts; each part of a normal number has variance 1/2
        real = np.dtype(np.float32 if wanted.numpy.itemsize == 8 else np.float64)
        parts = draw(generator, backend, kind, (2, *shape), real)
        scale = math.sqrt(0.5) if kind == "normal" else 1.0
        real_part, imag_part = (backend.getitem(parts, (i,)) * scale for i in range(2))
        array = backend.complex(real_part, imag_part)
        return finished(array, backend, requires_grad)
    raise DTypeError(sentence(caller, "a floating-point dtype", wanted))


@creation_op
def rand(
    *sizes: int | Sequence[int],
    size: Sequence[int] | None = None,
    generator: Generator | None = None,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Draw a tensor from the uniform distribution on [0, 1)."""
    shape = size_of(sizes, size)
    return _drawn("rand", "uniform", shape, generator, dtype, device, requires_grad)


@creation_op
def randn(
    *sizes: int | Sequence[int],
    size: Sequence[int] | None = None,
    generator: Generator | None = None,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Draw a tensor from the standard normal distribution."""
    shape = size_of(sizes, size)
    return _drawn("randn", "normal", shape, generator, dtype, device, requires_grad)


@creation_op_like
def rand_like(
    input: Tensor,
    *,
    generator: Generator | None = None,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    memory_format: object = None,
) -> Tensor:
    """Draw from the uniform distribution on [0, 1), with the shape, dtype, device and
    order in memory of `input`."""
    shape, dtype, device = _like("rand_like", input, dtype, device)
    drawn = _drawn("rand_like", "uniform", shape, generator, dtype, device, False)
    return _ordered_like("rand_like", input, drawn, memory_format, requires_grad)


@creation_op_like
def randn_like(
    input: Tensor,
    *,
    generator: Generator | None = None,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    memory_format: object = None,
) -> Tensor:
    """Draw from the standard normal distribution, with the shape, dtype, device and
    order in memory of `input`."""
    shape, dtype, device = _like("randn_like", input, dtype, device)
    drawn = _drawn("randn_like", "normal", shape, generator, dtype, device, False)
    return _ordered_like("randn_like", input, drawn, memory_format, requires_grad)


def _like(caller: str, input: Any, dtype: DTypeLike | None, device: DeviceLike) -> Any:
    """The shape, dtype and device of a tensor, or those that are given."""
    dtype = tensor_of(caller, input).dtype if dtype is None else dtype
    return input.shape, dtype, input.device if device is None else device


def _ordered_like(
    caller: str, input: Any, drawn: Any, memory_format: object, requires_grad: bool
) -> Tensor:
    """What was drawn, with its dimensions in memory as those of `input`, or as the format says. The
    numbers at each place are those of a row-major tensor."""
    array, backend = drawn.array, drawn.backend
    order = order_like(caller, input.array, input.backend.strided, memory_format)
    if order is not None:
        array = backend.copy(backend.permute(array, tuple(order)))
    return finished(turned_back(array, backend, order), backend, requires_grad)


@creation_op
def randint(
    low: int | None = None,
    high: int | Sequence[int] | None = None,
    size: Sequence[int] | None = None,
    *,
    generator: Generator | None = None,
    dtype: DTypeLike = int64,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Draw integers from [low, high): `randint(high, size)` or `randint(low, high, size)`."""
    if size is None:
        given: Any = (0, low, high)
        low, high, size = given
    elif high is None or low is None:  # randint(high, size=size), randint(high=high, size=size)
        low, high = 0, low if high is None else high
    return _integers("randint", low, high, size, generator, dtype, device, requires_grad)


@creation_op_like
def randint_like(
    input: Tensor,
    low: int = 0,
    high: int | None = None,
    *,
    generator: Generator | None = None,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    memory_format: object = None,
) -> Tensor:
    """Draw integers from [low, high), or from [0, high) given one number, with the shape, dtype,
    device and order in memory of `input`."""
    low, high = (0, low) if high is None else (low, high)
    if isinstance(high, Variable):
        high = int(number_of("randint_like", "high", high))
    shape, dtype, device = _like("randint_like", input, dtype, device)
    drawn = _integers("randint_like", low, high, shape, generator, dtype, device, False)
    return _ordered_like("randint_like", input, drawn, memory_format, requires_grad)


def _integers(
    caller: str,
    low: Any,
    high: Any,
    size: Any,
    generator: Generator | None,
    dtype: DTypeLike,
    device: DeviceLike,
    requires_grad: bool,
) -> Tensor:
    shape = shape_argument(caller, "size", size)
    low, high = int_of(caller, "low", low), int_of(caller, "high", high)
    if high <= low:
        raise ArgumentError(sentence(caller, "low < high", f"{low} and {high}"))
    backend = drawing_backend(backend_of(device))
    wanted = dtype_of(dtype)
    check_range(caller, low, high, wanted)
    array = draw_integers(generator, backend, shape, low, high, wanted.numpy)
    return finished(array, backend, requires_grad)


@creation_op
def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    dtype: DTypeLike = int64,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return the numbers 0 ... n - 1 in random order: (n,)."""
    backend = drawing_backend(backend_of(device))
    n = size_argument("randperm", "n", n)
    keys = generator_of(generator).draw(backend.integers, n, 2**63)
    array = backend.astype(backend.argsort(keys, 0), dtype_of(dtype).numpy)
    return finished(array, backend, requires_grad)


@takes_out
def normal(
    mean: float | Tensor = 0.0,
    std: float | Tensor = 1.0,
    size: Sequence[int] | None = None,
    *,
    generator: Generator | None = None,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Draw from normal distributions with the given means and standard deviations: numbers, with a
    `size`, or tensors, which broadcast."""
    given = [v for v in (mean, std) if isinstance(v, Variable)]
    if size is not None:
        shape = shape_argument("normal", "size", size)
    elif given:
        shape = broadcast_shapes(*(v.array.shape for v in given))
        device = given[0].backend.device if device is None else device
    else:
        raise TypeMismatch(sentence("normal", "a size, or a tensor as mean or std", "numbers"))
    for name, value in (("mean", mean), ("std", std)):
        if not isinstance(value, Variable):
            number_of("normal", name, value)
    refusal = sentence("normal", "std >= 0", shown(std))
    fits: Any = std >= 0  # False for NaN
    if isinstance(std, Variable):
        std.backend.check_true(fits.array, refusal)
    elif not fits:
        raise ArgumentError(refusal)
    if given and dtype is None:
        dtype = BY_NUMPY[given[0].array.dtype]
    out = randn(shape, generator=generator, dtype=dtype, device=device) * std + mean
    out = out if dtype is None else out.to(dtype=dtype)
    return out.requires_grad_() if requires_grad else out


@takes_out
def bernoulli(
    input: Tensor, p: float | None = None, *, generator: Generator | None = None
) -> Tensor:
    """Draw ones with the probabilities in `input`, else zeros; or, in its shape, with probability
    p."""
    return tensor_of("bernoulli", input).bernoulli(p, generator=generator)


@takes_out
def multinomial(
    input: Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Draw indices with probabilities proportional to the last dimension: (..., num_samples),
    int64. See `Tensor.multinomial`."""
    return tensor_of("multinomial", input).multinomial(
        num_samples, replacement, generator=generator
    )


if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)

"""Fill a tensor with random numbers: methods of Tensor, which import generators at first use."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gradient.autograd.variable import Variable, wrap
from gradient.dtypes import DType, dtype_of, finfo, float32, iinfo, int64
from gradient.errors import ArgumentError, DTypeError, ShapeError, TypeMismatch, sentence
from gradient.tensor.arguments import all_samples, flag_of, int_of, limits, number_of, outside
from gradient.tensor.arithmetic import Arithmetic
from gradient.tensor.overwrite import check, overwrite_at

if TYPE_CHECKING:
    from gradient.backends.operators import ArrayOperators
    from gradient.tensor.core import Tensor
    from gradient.tensor.generator import Generator


class RandomSampling(Arithmetic):
    """uniform_, normal_ and similar methods; not differentiable."""

    __slots__ = ()

    def _fill(
        self, name: str, kind: str, generator: Generator | None, scale: Callable[[Any], Any]
    ) -> Self:
        from gradient.tensor.generator import draw

        check(self, name)
        dtype = self.array.dtype
        if dtype.kind in "biu":
            if name not in ("bernoulli_", "geometric_"):
                raise DTypeError(f"{name}: expected a floating-point tensor, got {self.dtype}")
            dtype = float32.numpy
        drawn = draw(generator, self.backend, kind, self.array.shape, dtype)
        overwrite_at(self, (), scale(drawn), name)
        return self

    def uniform_(
        self, from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None
    ) -> Self:
        """Fill self with numbers from the uniform distribution on [from, to)."""
        low, high = number_of("uniform_", "from", from_), number_of("uniform_", "to", to)
        if not low <= high:
            raise ArgumentError(f"uniform_: expected from <= to, got {low} and {high}")
        return self._fill("uniform_", "uniform", generator, lambda u: u * (high - low) + low)

    def normal_(
        self, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
    ) -> Self:
        """Fill self with numbers from the normal distribution."""
        mean, std = number_of("normal_", "mean", mean), number_of("normal_", "std", std)
        if not std >= 0:
            raise ArgumentError(f"normal_: expected std >= 0, got {std}")
        return self._fill("normal_", "normal", generator, lambda z: z * std + mean)

    def bernoulli_(self, p: float | Tensor = 0.5, *, generator: Generator | None = None) -> Self:
        """Fill self with ones, with probability p (a number, or a tensor that broadcasts to self),
        and zeros."""
        if isinstance(p, Variable):
            check(self, "bernoulli_")
            drawn = p.expand(self.array.shape).bernoulli(generator=generator)
            overwrite_at(self, (), drawn.detach(), "bernoulli_")
            return self
        if not 0 <= (p := number_of("bernoulli_", "p", p)) <= 1:
            raise ArgumentError(f"bernoulli_: expected p from 0 to 1, got {p}")
        return self._fill("bernoulli_", "uniform", generator, lambda u: u < p)

    def exponential_(self, lambd: float = 1.0, *, generator: Generator | None = None) -> Self:
        """Fill self with numbers from the exponential distribution with rate `lambd`."""
        if not (lambd := number_of("exponential_", "lambd", lambd)) > 0:
            raise ArgumentError(f"exponential_: expected lambd > 0, got {lambd}")
        log = self.backend.log
        return self._fill("exponential_", "uniform", generator, lambda u: -log(1 - u) / lambd)

    def log_normal_(
        self, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None
    ) -> Self:
        """Fill self with numbers whose logarithms have the normal distribution."""
        mean, std = number_of("log_normal_", "mean", mean), number_of("log_normal_", "std", std)
        if not std > 0:
            raise ArgumentError(f"log_normal_: expected std > 0, got {std}")
        exp = self.backend.exp
        return self._fill("log_normal_", "normal", generator, lambda z: exp(z * std + mean))

    def cauchy_(
        self, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None
    ) -> Self:
        """Fill self with numbers from the Cauchy distribution; `sigma` is the half-width."""
        median = number_of("cauchy_", "median", median)
        if not (sigma := number_of("cauchy_", "sigma", sigma)) > 0:
            raise ArgumentError(f"cauchy_: expected sigma > 0, got {sigma}")
        tan = self.backend.tan

        def numbers(u: Tensor) -> Tensor:
            return median + sigma * tan(math.pi * (u - 0.5))

        return self._fill("cauchy_", "uniform", generator, numbers)

    def geometric_(self, p: float, *, generator: Generator | None = None) -> Self:
        """Fill self with the numbers of trials, each with probability p, up to the first
        success."""
        if not 0 < (p := number_of("geometric_", "p", p)) < 1:
            raise ArgumentError(f"geometric_: expected p between 0 and 1, got {p}")
        be, scale = self.backend, math.log1p(-p)

        def trials(u: ArrayOperators) -> ArrayOperators:
            return be.maximum(be.ceil(be.log(1 - u) / scale), be.ones((), u.dtype))

        return self._fill("geometric_", "uniform", generator, trials)

    def random_(
        self, from_: int | None = None, to: int | None = None, *, generator: Generator | None = None
    ) -> Self:
        """Fill self with integers from [from, to); with one argument, from [0, to). Without
        arguments, from 0 to the dtype's maximum (for floats: as far as each integer is exact)."""
        from gradient.tensor.generator import draw_integers

        check(self, "random_")
        dtype = self.array.dtype
        if to is None:
            from_, to = 0, _all_of(dtype) if from_ is None else from_
        elif from_ is None:
            from_ = 0
        from_, to = int_of("random_", "from", from_), int_of("random_", "to", to)
        if from_ >= to:
            raise ArgumentError(f"random_: expected from < to, got {from_} and {to}")
        check_range("random_", from_, to, self.dtype)
        drawn = draw_integers(generator, self.backend, self.array.shape, from_, to, dtype)
        overwrite_at(self, (), drawn, "random_")
        return self

    def multinomial(
        self, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
    ) -> Tensor:
        """Draw indices with probabilities proportional to the last dimension: (..., num_samples),
        int64.

        With replacement, this inverts the cumulative sum. Without, it takes the smallest of
        exponential random numbers with these rates (Efraimidis and Spirakis 2006). Invalid weights
        raise ArgumentError, except on a GPU, where the check would have to wait.
        """
        from gradient.tensor.generator import draw, drawing_backend

        backend, weights = drawing_backend(self.backend), self.array
        num_samples = int_of("multinomial", "num_samples", num_samples)
        replacement = flag_of("multinomial", "replacement", replacement)
        if not self.dtype.is_floating_point:
            raise DTypeError(sentence("multinomial", "floating-point weights", self.dtype))
        if num_samples <= 0:
            raise ArgumentError(f"multinomial: expected num_samples > 0, got {num_samples}")
        if len(weights.shape) not in (1, 2):
            raise ShapeError(f"multinomial: expected 1 or 2 dimensions, got {tuple(weights.shape)}")
        wide = np.dtype(np.float64)
        if backend.has_values and not backend.reads_wait:
            known = all_samples(self.detach())
            host = known.backend.to_numpy(known.array).astype(wide)
            _check_weights(host, num_samples, replacement)
        weights = backend.astype(weights, wide)
        if replacement or num_samples == 1:
            u = draw(generator, backend, "uniform", (*weights.shape[:-1], num_samples), wide)
            total = backend.cumsum(weights, len(weights.shape) - 1)
            last = backend.getitem(total, (..., slice(-1, None)))
            index = backend.searchsorted(total / last, u, True)
            # By rounding, u may not be below the last edge: take the last index with a weight.
            top = backend.sum(backend.astype(total < last, int64.numpy), len(total.shape) - 1, True)
            return wrap(backend.minimum(index, top), backend)
        if num_samples > weights.shape[-1]:
            raise _too_few(num_samples, weights.shape[-1])
        u = draw(generator, backend, "uniform", weights.shape, wide)
        able, one = weights > 0, backend.ones((), wide)
        # The clocks' negatives, of which the largest are sought: for these there are kernels.
        clocks = backend.log(1 - u) / backend.where(able, weights, one)
        clocks = backend.where(able, clocks, backend.full((), -math.inf, wide))
        return wrap(backend.topk(clocks, num_samples, len(weights.shape) - 1, True), backend)

    def bernoulli(self, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
        """Draw ones with the probabilities in self, else zeros; or, in self's shape, with
        probability p."""
        from gradient.tensor.generator import draw, drawing_backend

        if p is not None:
            p = number_of("bernoulli", "p", p)
            return self.new_empty(self.array.shape).bernoulli_(p, generator=generator)
        backend, chances = drawing_backend(self.backend), self.array
        if not self.dtype.is_floating_point:
            raise DTypeError(sentence("bernoulli", "floating-point probabilities", self.dtype))
        expected = "probabilities from 0 to 1"
        try:
            backend.check_true((chances >= 0) & (chances <= 1), f"bernoulli: expected {expected}")
        except ArgumentError:
            known = all_samples(self.detach())
            got = outside(known.backend.to_numpy(known.array), 0, 1)
            raise ArgumentError(sentence("bernoulli", expected, got)) from None
        u = draw(generator, backend, "uniform", chances.shape, chances.dtype)
        return wrap(backend.astype(u < chances, chances.dtype), backend)


def _check_weights(weights: np.ndarray, num_samples: int, replacement: bool) -> None:
    """Raise if `multinomial` cannot draw with these weights."""
    largest = np.finfo(weights.dtype).max
    if not np.all((weights >= 0) & (weights <= largest)):
        expected, got = "weights that are finite and at least 0", outside(weights, 0, largest)
        raise ArgumentError(sentence("multinomial", expected, got))
    if np.any(weights.sum(-1) <= 0):
        raise ArgumentError(sentence("multinomial", "a weight above 0 in each row", "zeros alone"))
    few = np.any((weights > 0).sum(-1) < num_samples)
    if few and not replacement and num_samples > 1:
        raise _too_few(num_samples, weights.shape[-1])


def _too_few(num_samples: int, weights: int) -> ArgumentError:
    return ArgumentError(
        f"multinomial: cannot draw {num_samples} of {weights} without replacement: too few weights "
        "are positive"
    )


def check_range(caller: str, low: int, high: int, dtype: DType) -> None:
    """Raise if a dtype cannot represent the integers from [low, high)."""
    if dtype.is_complex:
        raise TypeMismatch(sentence(caller, "an integer or floating-point dtype", dtype))
    least, most = (0.0, 1.0) if dtype.kind == "bool" else limits(dtype)
    if not least <= low <= high - 1 <= most:
        raise ArgumentError(sentence(caller, f"numbers that {dtype} holds", f"[{low}, {high})"))


def _all_of(dtype: np.dtype) -> int:
    """Return the number of integers, counted from 0, that a dtype represents exactly."""
    if dtype.kind == "b":
        return 2
    return (
        int(iinfo(dtype_of(dtype)).max) + 1
        if dtype.kind in "iu"
        else int(2 / finfo(dtype_of(dtype)).eps)
    )

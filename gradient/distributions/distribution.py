"""Distribution: the base of all probability distributions."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, ClassVar, Self

from gradient.autograd import no_grad
from gradient.distributions.constraints import Constraint, is_dependent
from gradient.errors import ArgumentError, ShapeError, TypeMismatch, sentence
from gradient.tensor import Size, Tensor
from gradient.tensor.from_data import tensor
from gradient.tensor.joining import broadcast_tensors

__all__ = ["Distribution"]


def same_as(path: str) -> Any:
    """A property with the value of another, or of a part's: `loc = same_as("base_dist.loc")`."""
    value_of = attrgetter(path)
    return property(lambda self: value_of(self))  # the help is the base class's


class Distribution:
    """A batch of probability distributions, with PyTorch's names.

    Results have the shape `sample_shape + batch_shape + event_shape`: independent draws, the
    distributions of the batch, and the parts of one outcome.

    Args:
        batch_shape: the shape of the parameters, one distribution for each element.
        event_shape: the shape of one outcome.
        validate_args: check parameters and values; None: as `set_default_validate_args` says.

    Raises:
        ArgumentError: a parameter is outside of its constraint, or a value outside of the support.
    """

    has_rsample: bool = False
    """Whether `rsample` gives draws that differentiate by the parameters."""

    has_enumerate_support: ClassVar[bool] = False

    arg_constraints: ClassVar[Mapping[str, Constraint]] = {}
    """What each parameter may be."""

    support: Any
    """What outcomes may be: a `Constraint`."""

    _validate_args: bool = True

    def __init__(
        self,
        batch_shape: Sequence[int] = (),
        event_shape: Sequence[int] = (),
        validate_args: bool | None = None,
    ) -> None:
        self._batch_shape, self._event_shape = Size(batch_shape), Size(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            self._check_parameters()

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Set whether distributions check their arguments by default; initially they do."""
        if value not in (True, False):
            raise ArgumentError(sentence("set_default_validate_args", "True or False", value))
        Distribution._validate_args = value

    def _check_parameters(self) -> None:
        for name, constraint in self.arg_constraints.items():
            value = vars(self).get(name)
            if isinstance(value, Tensor) and not is_dependent(constraint):
                expected = f"{name} to be {constraint}"
                require(constraint.check(value), type(self).__name__, expected, value)

    @property
    def batch_shape(self) -> Size:
        """The shape of the parameters without the dimensions of one distribution."""
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        """The shape of one outcome."""
        return self._event_shape

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        """Return the distribution with parameters expanded to a batch shape."""
        new, own = Size(batch_shape), len(self._batch_shape)
        made = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                vars(made)[name] = value.expand((*new, *value.shape[own:]))
            elif isinstance(value, Distribution):
                inner = value.batch_shape[own:]
                vars(made)[name] = value.expand((*new, *inner))
        made._batch_shape = new
        return made

    # ---- drawing ----------------------------------------------------------------------------

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws, without a gradient."""
        with no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws with gradients for the parameters, if the distribution supports it."""
        raise NotImplementedError(
            f"{type(self).__name__} has no rsample: its draws do not differentiate by its "
            "parameters; use sample() and the gradient of log_prob"
        )

    def sample_n(self, n: int) -> Tensor:
        """`sample((n,))`"""
        return self.sample((n,))

    def _extended_shape(self, sample_shape: Sequence[int] = ()) -> tuple[int, ...]:
        return (*sample_shape, *self._batch_shape, *self._event_shape)

    # ---- densities --------------------------------------------------------------------------

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density or probability at `value`, without the event dimensions."""
        raise NotImplementedError(f"{type(self).__name__} has no log_prob")

    def cdf(self, value: Tensor) -> Tensor:
        """The probability of an outcome of at most `value`."""
        raise NotImplementedError(f"{type(self).__name__} has no cdf")

    def icdf(self, value: Tensor) -> Tensor:
        """The outcome whose `cdf` is `value`."""
        raise NotImplementedError(f"{type(self).__name__} has no icdf")

    def entropy(self) -> Tensor:
        """`-E[log p(x)]` in nats, of shape `batch_shape`."""
        raise NotImplementedError(f"{type(self).__name__} has no entropy")

    def perplexity(self) -> Tensor:
        """`exp(entropy)`"""
        return self.entropy().exp()

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All outcomes, along a new first dimension; `expand` repeats them over the batch."""
        raise NotImplementedError(f"{type(self).__name__} has no outcomes to list")

    # ---- moments ----------------------------------------------------------------------------

    @property
    def mean(self) -> Tensor:
        """The expected outcome."""
        raise NotImplementedError(f"{type(self).__name__} has no mean")

    @property
    def mode(self) -> Tensor:
        """The most probable outcome."""
        raise NotImplementedError(f"{type(self).__name__} has no mode")

    @property
    def variance(self) -> Tensor:
        """The variance of each part of an outcome."""
        raise NotImplementedError(f"{type(self).__name__} has no variance")

    @property
    def stddev(self) -> Tensor:
        """The standard deviation: the square root of the variance."""
        return self.variance.sqrt()

    # ---- checks -----------------------------------------------------------------------------

    def _validate_sample(self, value: Tensor) -> None:
        """Raise if `value` is outside the support; do nothing without `validate_args`."""
        if not self._validate_args:
            return
        name = type(self).__name__
        if not isinstance(value, Tensor):
            raise _NotATensor(sentence(name, "a Tensor as value", type(value).__name__))
        events, given = tuple(self._event_shape), tuple(value.shape)
        if events != given[len(given) - len(events) :]:
            raise ShapeError(
                sentence(name, f"a value that ends in the event shape {events}", given)
            )
        wanted = (*self._batch_shape, *events)
        for mine, theirs in zip(reversed(wanted), reversed(given), strict=False):
            if mine not in (1, theirs) and theirs != 1:
                expected = f"a value that broadcasts with batch_shape + event_shape {wanted}"
                raise ShapeError(sentence(name, expected, given))
        try:
            support: Constraint = self.support
        except NotImplementedError:
            return
        require(support.check(value), name, f"a value that is {support}", value)

    def __repr__(self) -> str:
        shown = [name for name in self.arg_constraints if name in vars(self)]
        parts = []
        for name in shown:
            value = vars(self)[name]
            if isinstance(value, Tensor):
                parts.append(f"{name}: {value if value.numel() == 1 else value.size()}")
            else:
                parts.append(f"{name}: {value}")
        return f"{type(self).__name__}({', '.join(parts)})"


class _NotATensor(TypeMismatch, ArgumentError):
    """PyTorch raises ValueError here."""


def require(holds: Tensor, name: str, expected: str, *values: Tensor) -> None:
    """Raise ArgumentError unless all of `holds` is true, with the values that break it; in a
    replayed plan too, without them."""
    everywhere = holds.all()
    try:
        everywhere.backend.check_true(everywhere.array, f"{name}: expected {expected}")
    except ArgumentError:
        got = " and ".join(str(value.detach()) for value in values)
        raise ArgumentError(sentence(name, expected, got)) from None


def broadcast_all(name: str, *values: Any) -> tuple[Tensor, ...]:
    """Return parameters, each a Tensor or a number, as tensors of one shape."""
    given = [value for value in values if isinstance(value, Tensor)]
    for value in values:
        if not isinstance(value, Tensor) and (
            isinstance(value, bool) or not hasattr(value, "__float__")
        ):
            raise _NotATensor(sentence(name, "Tensors or numbers", type(value).__name__))
    if given:
        options: dict[str, Any] = {"dtype": given[0].dtype, "device": given[0].device}
        made = [v if isinstance(v, Tensor) else tensor(float(v), **options) for v in values]
    else:
        made = [tensor(float(v)) for v in values]
    return tuple(broadcast_tensors(*made))


def sum_rightmost(value: Tensor, dims: int) -> Tensor:
    """The sum over the last `dims` dimensions."""
    return value if dims == 0 else value.sum(tuple(range(-dims, 0)))


def listed(values: Tensor, distribution: Distribution, expand: bool) -> Tensor:
    """All outcomes, in a first dimension before those of the batch."""
    batch = distribution.batch_shape
    values = values.reshape((-1, *(1,) * len(batch)))
    return values.expand((-1, *batch)) if expand else values

"""Constraints of a distribution's parameters and outcomes, with PyTorch's names.

`constraint.check(value)` is True for each element, or for each event of `event_dim` dimensions,
that satisfies it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradient import absent
from gradient.dtypes import finfo
from gradient.tensor import Tensor

__all__ = [
    "Constraint",
    "MixtureSameFamilyConstraint",
    "boolean",
    "cat",
    "corr_cholesky",
    "dependent",
    "dependent_property",
    "greater_than",
    "greater_than_eq",
    "half_open_interval",
    "independent",
    "integer_interval",
    "interval",
    "is_dependent",
    "less_than",
    "lower_cholesky",
    "lower_triangular",
    "multinomial",
    "nonnegative",
    "nonnegative_integer",
    "one_hot",
    "positive",
    "positive_definite",
    "positive_integer",
    "positive_semidefinite",
    "real",
    "real_vector",
    "simplex",
    "square",
    "stack",
    "symmetric",
    "unit_interval",
]


class Constraint:
    """A region of values.

    Attributes:
        is_discrete: whether the region consists of separate points.
        event_dim: the number of last dimensions that are checked together.
    """

    is_discrete = False
    event_dim = 0

    def check(self, value: Tensor) -> Tensor:
        raise NotImplementedError

    def __repr__(self) -> str:
        return type(self).__name__.strip("_").lower()


class _Dependent(Constraint):
    """A constraint that depends on other parameters, and cannot be checked alone."""

    def __init__(self, is_discrete: bool = False, event_dim: int = 0) -> None:
        self.is_discrete, self.event_dim = is_discrete, event_dim

    def check(self, value: Tensor) -> Tensor:
        raise NotImplementedError("a constraint that depends on parameters has no check")


class _Real(Constraint):
    def check(self, value: Tensor) -> Tensor:
        return value == value  # no NaN


class _Boolean(Constraint):
    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        return (value == 0) | (value == 1)


class _OneHot(Constraint):
    is_discrete, event_dim = True, 1

    def check(self, value: Tensor) -> Tensor:
        return ((value == 0) | (value == 1)).all(-1) & (value.sum(-1) == 1)


class _Bounded(Constraint):
    """Between two bounds, numbers or tensors; None: no bound."""

    def __init__(
        self,
        lower_bound: Any = None,
        upper_bound: Any = None,
        *,
        open: str = "",
        whole: bool = False,
    ) -> None:
        self.lower_bound, self.upper_bound = lower_bound, upper_bound
        self.open, self.is_discrete = open, whole

    def check(self, value: Tensor) -> Tensor:
        holds = value == value
        low, high = self.lower_bound, self.upper_bound
        if low is not None:
            holds = holds & ((value > low) if "(" in self.open else (value >= low))
        if high is not None:
            holds = holds & ((value < high) if ")" in self.open else (value <= high))
        return holds & (value % 1 == 0) if self.is_discrete else holds

    def __repr__(self) -> str:
        def shown(bound: Any) -> str:
            return f"a tensor {tuple(bound.shape)}" if isinstance(bound, Tensor) else f"{bound:g}"

        parts = []
        if self.lower_bound is not None:
            more = "greater than" if "(" in self.open else "at least"
            parts.append(f"{more} {shown(self.lower_bound)}")
        if self.upper_bound is not None:
            less = "less than" if ")" in self.open else "at most"
            parts.append(f"{less} {shown(self.upper_bound)}")
        return ("whole, " if self.is_discrete else "") + " and ".join(parts)


class greater_than(_Bounded):
    def __init__(self, lower_bound: Any) -> None:
        super().__init__(lower_bound, open="(")


class greater_than_eq(_Bounded):
    def __init__(self, lower_bound: Any) -> None:
        super().__init__(lower_bound)


class less_than(_Bounded):
    def __init__(self, upper_bound: Any) -> None:
        super().__init__(None, upper_bound, open=")")


class interval(_Bounded):
    def __init__(self, lower_bound: Any, upper_bound: Any) -> None:
        super().__init__(lower_bound, upper_bound)


class half_open_interval(_Bounded):
    def __init__(self, lower_bound: Any, upper_bound: Any) -> None:
        super().__init__(lower_bound, upper_bound, open=")")


class integer_interval(_Bounded):
    def __init__(self, lower_bound: Any, upper_bound: Any = None) -> None:
        super().__init__(lower_bound, upper_bound, whole=True)


class _Simplex(Constraint):
    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return (value >= 0).all(-1) & ((value.sum(-1) - 1).abs() < 1e-6)

    def __repr__(self) -> str:
        return "not negative, and of sum 1 over the last dimension"


class _Multinomial(Constraint):
    is_discrete, event_dim = True, 1

    def __init__(self, upper_bound: int) -> None:
        self.upper_bound = upper_bound

    def check(self, value: Tensor) -> Tensor:
        return (value >= 0).all(-1) & (value.sum(-1) <= self.upper_bound)


class _Square(Constraint):
    event_dim = 2

    def check(self, value: Tensor) -> Tensor:
        fits = value.shape[-1] == value.shape[-2]
        return value.new_full(value.shape[:-2], fits).bool()


class _LowerTriangular(_Square):
    def check(self, value: Tensor) -> Tensor:
        return (value.tril() == value).flatten(-2).all(-1)

    def __repr__(self) -> str:
        return "lower triangular"


class _LowerCholesky(_LowerTriangular):
    def check(self, value: Tensor) -> Tensor:
        return super().check(value) & (value.diagonal(dim1=-2, dim2=-1) > 0).all(-1)

    def __repr__(self) -> str:
        return "lower triangular with a positive diagonal"


class _CorrCholesky(_LowerCholesky):
    def check(self, value: Tensor) -> Tensor:
        tolerance = finfo(value.dtype).eps * value.shape[-1] * 10
        of_length_1 = ((value**2).sum(-1).sqrt() - 1).abs() < tolerance
        return super().check(value) & of_length_1.all(-1)

    def __repr__(self) -> str:
        return "lower triangular with a positive diagonal and rows of length 1"


class _Symmetric(_Square):
    def check(self, value: Tensor) -> Tensor:
        same = (value - value.mT).abs() <= 1e-6 + 1e-6 * value.abs()
        return super().check(value) & same.flatten(-2).all(-1)


class _PositiveDefinite(_Symmetric):
    def check(self, value: Tensor) -> Tensor:
        from gradient.linalg.decompositions import cholesky_ex

        return super().check(value) & (cholesky_ex(value.detach()).info == 0)

    def __repr__(self) -> str:
        return "symmetric and positive definite"


class _PositiveSemidefinite(_Symmetric):
    def check(self, value: Tensor) -> Tensor:
        from gradient.linalg.decompositions import eigvalsh

        return super().check(value) & (eigvalsh(value.detach()) >= 0).all(-1)

    def __repr__(self) -> str:
        return "symmetric and positive semidefinite"


class _Independent(Constraint):
    """True for an event if `base_constraint` is true for all of its parts."""

    def __init__(self, base_constraint: Constraint, reinterpreted_batch_ndims: int) -> None:
        self.base_constraint = base_constraint
        self.reinterpreted_batch_ndims = reinterpreted_batch_ndims
        self.is_discrete = base_constraint.is_discrete
        self.event_dim = base_constraint.event_dim + reinterpreted_batch_ndims

    def check(self, value: Tensor) -> Tensor:
        holds = self.base_constraint.check(value)
        for _ in range(self.reinterpreted_batch_ndims):
            holds = holds.all(-1)
        return holds

    def __repr__(self) -> str:
        return f"in each part {self.base_constraint}"


class MixtureSameFamilyConstraint(Constraint):
    """True for an outcome of a mixture if `base_constraint` is true for it in every component."""

    def __init__(self, base_constraint: Constraint) -> None:
        self.base_constraint = base_constraint
        self.is_discrete = base_constraint.is_discrete
        self.event_dim = base_constraint.event_dim

    def check(self, value: Tensor) -> Tensor:
        event = value.shape[value.ndim - self.event_dim :]
        each = value.reshape(*value.shape[: value.ndim - self.event_dim], 1, *event)
        return self.base_constraint.check(each).all(-1)

    def __repr__(self) -> str:
        return f"in each component {self.base_constraint}"


class _Cat(Constraint):
    """Constraints of pieces of `lengths` along a dimension."""

    def __init__(self, cseq: Any, dim: int = 0, lengths: Any = None) -> None:
        self.cseq, self.dim = list(cseq), dim
        self.lengths = [1] * len(self.cseq) if lengths is None else list(lengths)
        self.is_discrete = any(c.is_discrete for c in self.cseq)
        self.event_dim = max(c.event_dim for c in self.cseq)

    def check(self, value: Tensor) -> Tensor:
        from gradient.tensor.joining import cat

        pieces = value.split(self.lengths, self.dim)
        checks = [c.check(piece) for c, piece in zip(self.cseq, pieces, strict=True)]
        return cat(checks, self.dim)


class _Stack(Constraint):
    """Constraints of the slices along a dimension."""

    def __init__(self, cseq: Any, dim: int = 0) -> None:
        self.cseq, self.dim = list(cseq), dim
        self.is_discrete = any(c.is_discrete for c in self.cseq)
        dims = max(c.event_dim for c in self.cseq)
        self.event_dim = dims + (dim + dims < 0)

    def check(self, value: Tensor) -> Tensor:
        from gradient.tensor.joining import stack

        slices = value.unbind(self.dim)
        return stack([c.check(each) for c, each in zip(self.cseq, slices, strict=True)], self.dim)


class dependent_property(property, _Dependent):
    """Turns a property into a constraint that depends on parameters: `@dependent_property`, or
    `@dependent_property(is_discrete=False, event_dim=1)`."""

    def __init__(self, fn: Any = None, *, is_discrete: bool = False, event_dim: int = 0) -> None:
        property.__init__(self, fn)
        self.is_discrete, self.event_dim = is_discrete, event_dim

    def __call__(self, fn: Any) -> dependent_property:
        return dependent_property(fn, is_discrete=self.is_discrete, event_dim=self.event_dim)


def is_dependent(constraint: Any) -> bool:
    """Whether a constraint depends on parameters, and cannot be checked alone."""
    return isinstance(constraint, _Dependent)


dependent = _Dependent()
boolean = _Boolean()
one_hot = _OneHot()
real = _Real()
nonnegative = greater_than_eq(0)
positive = greater_than(0)
unit_interval = interval(0, 1)
nonnegative_integer = integer_interval(0)
positive_integer = integer_interval(1)
simplex = _Simplex()
square = _Square()
lower_triangular = _LowerTriangular()
lower_cholesky = _LowerCholesky()
corr_cholesky = _CorrCholesky()
symmetric = _Symmetric()
positive_semidefinite = _PositiveSemidefinite()
positive_definite = _PositiveDefinite()
independent = _Independent
cat = _Cat
stack = _Stack
multinomial = _Multinomial
real_vector = _Independent(real, 1)


if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)

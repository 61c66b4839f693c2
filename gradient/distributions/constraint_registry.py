"""Maps constraints to transforms of unconstrained real numbers, for optimisers and samplers
without constraints.

>>> scale = transform_to(constraints.positive)(unconstrained)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradient.distributions import constraints
from gradient.distributions.constraints import Constraint
from gradient.distributions.transforms.base import (
    ComposeTransform,
    IndependentTransform,
    Transform,
    identity_transform,
)
from gradient.distributions.transforms.elementwise import (
    AffineTransform,
    ExpTransform,
    SigmoidTransform,
)
from gradient.distributions.transforms.joined import CatTransform, StackTransform
from gradient.distributions.transforms.vectors import (
    CorrCholeskyTransform,
    LowerCholeskyTransform,
    PositiveDefiniteTransform,
    SoftmaxTransform,
    StickBreakingTransform,
)
from gradient.errors import TypeMismatch, sentence
from gradient.tensor import Tensor

__all__ = ["ConstraintRegistry", "biject_to", "transform_to"]

Factory = Callable[[Any], Transform]


class ConstraintRegistry:
    """The transforms to constraints, by the constraint's class."""

    def __init__(self) -> None:
        self._factories: dict[type, Factory] = {}

    def register(self, constraint: Any, factory: Factory | None = None) -> Any:
        """Register `factory(constraint)`, which makes the transform, for a class of constraints (or
        that of an instance); without `factory`, return a decorator."""
        if factory is None:
            return lambda function: self.register(constraint, function)
        kind = type(constraint) if isinstance(constraint, Constraint) else constraint
        if not isinstance(kind, type) or not issubclass(kind, Constraint):
            got = repr(constraint)
            raise TypeMismatch(sentence("register", "a Constraint, or a class of them", got))
        self._factories[kind] = factory
        return factory

    def __call__(self, constraint: Constraint) -> Transform:
        """Return the transform to a constraint.

        Raises:
            NotImplementedError: none is registered for such a constraint.
        """
        factory = self._factories.get(type(constraint))
        if factory is None:
            raise NotImplementedError(
                f"no transform to values that are {constraint!r} is registered: register one"
            )
        return factory(constraint)


biject_to = ConstraintRegistry()
"""Bijections, whose `log_abs_det_jacobian` is known: for densities (HMC, variational inference)."""

transform_to = ConstraintRegistry()
"""Any transforms, some of them simpler: for optimisers."""


def _both(*places: Any) -> Callable[[Factory], Factory]:
    def register(factory: Factory) -> Factory:
        for constraint in places:
            biject_to.register(constraint, factory)
            transform_to.register(constraint, factory)
        return factory

    return register


_both(constraints.real)(lambda constraint: identity_transform)
_both(constraints.corr_cholesky)(lambda constraint: CorrCholeskyTransform())
biject_to.register(constraints.simplex, lambda constraint: StickBreakingTransform())
transform_to.register(constraints.simplex, lambda constraint: SoftmaxTransform())
transform_to.register(constraints.lower_cholesky, lambda constraint: LowerCholeskyTransform())
for _definite in (constraints.positive_definite, constraints.positive_semidefinite):
    transform_to.register(_definite, lambda constraint: PositiveDefiniteTransform())


@_both(constraints.greater_than, constraints.greater_than_eq)
def _above(constraint: Any) -> Transform:
    return ComposeTransform([ExpTransform(), AffineTransform(constraint.lower_bound, 1)])


@_both(constraints.less_than)
def _below(constraint: Any) -> Transform:
    return ComposeTransform([ExpTransform(), AffineTransform(constraint.upper_bound, -1)])


@_both(constraints.interval, constraints.half_open_interval)
def _between(constraint: Any) -> Transform:
    low, high = constraint.lower_bound, constraint.upper_bound
    are_numbers = not isinstance(low, Tensor) and not isinstance(high, Tensor)
    if are_numbers and low == 0 and high == 1:
        return SigmoidTransform()
    return ComposeTransform([SigmoidTransform(), AffineTransform(low, high - low)])


for _registry in (biject_to, transform_to):

    @_registry.register(constraints.independent)
    def _independent(constraint: Any, to: ConstraintRegistry = _registry) -> Transform:
        base = to(constraint.base_constraint)
        return IndependentTransform(base, constraint.reinterpreted_batch_ndims)

    @_registry.register(constraints.cat)
    def _cat(constraint: Any, to: ConstraintRegistry = _registry) -> Transform:
        return CatTransform([to(c) for c in constraint.cseq], constraint.dim, constraint.lengths)

    @_registry.register(constraints.stack)
    def _stack(constraint: Any, to: ConstraintRegistry = _registry) -> Transform:
        return StackTransform([to(c) for c in constraint.cseq], constraint.dim)

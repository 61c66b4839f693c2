"""Statistics: reductions that skip NaN, moments, modes, covariances: methods of Tensor, composed of
other methods."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradient.autograd.autocast import autocasts
from gradient.autograd.modes import no_grad
from gradient.autograd.variable import Variable
from gradient.errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError, sentence
from gradient.tensor.arguments import all_samples, axis_of, int_of, number_of, tensor_of
from gradient.tensor.base import TensorBase
from gradient.tensor.joining import where
from gradient.tensor.reductions import ValuesAndIndices, returned
from gradient.tensor.sorting import INTERPOLATIONS
from gradient.tensor.views import without_base

if TYPE_CHECKING:
    from gradient.tensor.arguments import DTypeLike
    from gradient.tensor.core import Tensor
    from gradient.tensor.reductions import Dim


class Statistics(TensorBase):
    """nansum and similar methods, std_mean, mode, cov, renorm, dist."""

    __slots__ = ()

    def nansum(
        self: Any, dim: Dim = None, keepdim: bool = False, *, dtype: DTypeLike | None = None
    ) -> Tensor:
        """The sum of the elements that are not NaN over `dim`; see `sum`."""
        return _without_nan(self).sum(dim, keepdim, dtype=dtype)

    def nanmean(
        self: Any, dim: Dim = None, keepdim: bool = False, *, dtype: DTypeLike | None = None
    ) -> Tensor:
        """The mean of the elements that are not NaN over `dim`, NaN if there are none; see `mean`.
        Raises DTypeError for integers, bools and complex numbers."""
        if not self.is_floating_point():
            raise DTypeError(sentence("nanmean", "a floating-point dtype", self.dtype))
        x = self if dtype is None else self.to(dtype=dtype)
        if not x.is_floating_point():
            raise DTypeError(sentence("nanmean", "a floating-point dtype", x.dtype))
        return _without_nan(x).sum(dim, keepdim) / (~x.isnan()).sum(dim, keepdim)

    def nanmedian(
        self: Any, dim: int | None = None, keepdim: bool = False
    ) -> Tensor | ValuesAndIndices:
        """The lower median of the elements that are not NaN; along `dim`, (values, indices). NaN if
        all elements are NaN."""
        if not self.is_floating_point():
            if dim is None:
                return self.median()
            return returned["nanmedian"](*self.median(dim, keepdim))
        if dim is None:
            if not self.numel():
                return self.sum() * math.nan
            backend = self.backend
            if not (backend.reads_values and backend.has_values):
                # In `vmap` samples have different numbers of NaN.
                return self.reshape(-1).nanmedian(0).values
            numbers = self[~self.detach().isnan()]
            return numbers.median() if numbers.numel() else self.median()
        axis = axis_of(dim, self.ndim)
        if not self.ndim:
            return returned["nanmedian"](self.clone(), self.long() * 0)
        values, indices = _median(self, axis)
        if not keepdim:
            values, indices = (without_base(t.squeeze(axis)) for t in (values, indices))
        return returned["nanmedian"](values, indices)

    @autocasts("float32_on_cpu")
    def nanquantile(
        self: Any,
        q: float | Tensor,
        dim: int | None = None,
        keepdim: bool = False,
        *,
        interpolation: str = "linear",
    ) -> Tensor:
        """Like `quantile`, for the elements that are not NaN."""
        filled = self.detach().nan_to_num(0.0) if self.is_floating_point() else self
        checked = filled.quantile(
            q, dim, keepdim, interpolation=interpolation
        )  # raises for misfits
        x = self.reshape(-1) if dim is None or not self.ndim else self.movedim(dim, -1)
        points = (q if isinstance(q, Variable) else self.new_tensor(q)).reshape(-1)
        last = (~x.isnan()).sum(-1, keepdim=True).to(x.dtype) - 1
        at = INTERPOLATIONS[interpolation](points.detach() * last.clamp(min=0))
        low, high = at.floor(), at.ceil()
        ordered = x.sort(-1).values
        below, above = (ordered.gather(-1, i.long()) for i in (low, high))
        if points.requires_grad:
            at = INTERPOLATIONS[interpolation](points * last.clamp(min=0))
        between = interpolation in ("linear", "midpoint")
        found = below.lerp(above, at - low) if between else below
        return without_base(found.movedim(-1, 0).reshape(checked.shape))

    def std_mean(
        self: Any,
        dim: Dim = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return (std, mean); see `std` for the arguments."""
        spread = self.std(dim, unbiased, keepdim, correction=correction)
        return spread, _mean_beside(self, dim, keepdim)

    def var_mean(
        self: Any,
        dim: Dim = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return (var, mean); see `var` for the arguments."""
        spread = self.var(dim, unbiased, keepdim, correction=correction)
        return spread, _mean_beside(self, dim, keepdim)

    def mode(self: Any, dim: int = -1, keepdim: bool = False) -> ValuesAndIndices:
        """(values, indices) of the most frequent element along `dim`: the smallest at ties, with
        its last index (as in PyTorch for up to 16 elements without NaN). Indices are int64;
        `keepdim` keeps the dimension with size 1. Raises DTypeError for complex numbers."""
        axis = axis_of(dim, self.ndim)
        if not self.ndim:
            return returned["mode"](self.clone(), self.detach().long() * 0)
        n = self.shape[axis]
        if not n:
            raise IndexOutOfRange(sentence("mode", f"elements along dim {dim}", "none"))
        with no_grad():
            order = self.detach().argsort(axis, stable=True)
            ordered = self.detach().gather(axis, order)
            place = (order * 0 + 1).cumsum(axis) - 1
            starts = place * 0
            if n > 1:
                same = ordered.narrow(axis, 1, n - 1) == ordered.narrow(axis, 0, n - 1)
                rest = starts.narrow(axis, 1, n - 1).masked_fill(~same, 1)
                starts = starts.slice_scatter(rest, axis, 1) * place
            run = place - starts.cummax(axis).values
            last = run.argmax(axis, keepdim=True)
            indices = order.gather(axis, last)
        values = self.gather(axis, indices)
        if not keepdim:
            values, indices = (without_base(t.squeeze(axis)) for t in (values, indices))
        return returned["mode"](values, indices)

    @autocasts("float32_on_gpu")
    def dist(self: Any, other: Tensor, p: float = 2) -> Tensor:
        """The p-norm of self - other, a 0-d tensor; the inputs broadcast. See `norm` for p."""
        return (self - tensor_of("dist", other)).norm(p)

    @autocasts("float32_on_gpu")
    def renorm(self: Any, p: float, dim: int, maxnorm: float) -> Tensor:
        """Scale the slices of `dim` whose p-norm is above `maxnorm` down to this norm."""
        if self.ndim < 2:
            raise ShapeError(sentence("renorm", "at least 2 dimensions", self.ndim))
        if not number_of("renorm", "p", p) > 0 or not number_of("renorm", "maxnorm", maxnorm) >= 0:
            expected = "p above 0 and maxnorm of at least 0"
            raise ArgumentError(sentence("renorm", expected, f"{p} and {maxnorm}"))
        axis = axis_of(dim, self.ndim)
        others = tuple(i for i in range(self.ndim) if i != axis)
        norms = self.detach().norm(p, others, True)
        beyond = norms > maxnorm
        size = norms
        if self.requires_grad:  # gradients of norms of other slices may be NaN
            size = self.masked_fill(~beyond, 0.0).norm(p, others, True)
        return self * where(beyond, maxnorm / (size + 1e-7), 1.0)

    def cov(
        self: Any,
        *,
        correction: int = 1,
        fweights: Tensor | None = None,
        aweights: Tensor | None = None,
    ) -> Tensor:
        """The covariance matrix of variables (rows) over observations (columns). Each observation
        is repeated `fweights` times and weighted by `aweights`."""
        if self.ndim > 2:
            raise ShapeError(sentence("cov", "at most 2 dimensions", self.ndim))
        x = self if self.ndim == 2 else self.reshape(1, -1)
        x = x.float() if x.array.dtype.kind in "biu" else x
        n = x.shape[1]
        for name, each, kind in (
            ("fweights", fweights, "integral"),
            ("aweights", aweights, "floating-point"),
        ):
            if each is None:
                continue
            if each.is_floating_point() is (kind == "integral"):
                raise DTypeError(sentence("cov", f"{name} of a {kind} dtype", each.dtype))
            if each.ndim > 1 or each.numel() != n:
                expected = f"{name} of one dimension, one for each of {n} observations"
                raise ShapeError(sentence("cov", expected, tuple(each.shape)))
            if each.numel() and bool((all_samples(each.detach()) < 0).any()):
                raise ArgumentError(sentence("cov", f"{name} of at least 0", "a negative one"))
        present: list[Any] = [w for w in (fweights, aweights) if w is not None]
        weights = math.prod(present[1:], start=present[0]) if present else None
        int_of("cov", "correction", correction)
        total: Any = n if weights is None else weights.sum()
        mean = (x if weights is None else x * weights).sum(1, keepdim=True) / total
        freedom = total - correction
        if weights is not None and aweights is not None and correction:
            freedom = total - correction * (weights * aweights).sum() / total
        centred = x - mean
        product = centred @ (centred if weights is None else centred * weights).mH
        if isinstance(freedom, int):
            out = product / max(freedom, 0)
        else:
            out = product / freedom.clamp(min=0)
        return without_base(out.squeeze())

    def corrcoef(self: Any) -> Tensor:
        """The matrix of correlation coefficients of variables (rows) over observations."""
        if self.ndim > 2:
            raise ShapeError(sentence("corrcoef", "at most 2 dimensions", self.ndim))
        matrix: Any = self.cov()
        if not matrix.ndim:
            return matrix / matrix
        spread = matrix.diag().sqrt()
        return (matrix / spread.unsqueeze(-1) / spread.unsqueeze(0)).clamp(-1, 1)


def _mean_beside(x: Any, dim: Any, keepdim: bool) -> Tensor:
    """The mean for `std_mean` and `var_mean`; in their older form, `dim` may be `unbiased`."""
    return x.mean(None if isinstance(dim, bool) else dim, keepdim)


def _without_nan(x: Any) -> Tensor:
    return x.masked_fill(x.isnan(), 0) if x.is_floating_point() else x


def _median(x: Any, axis: int) -> tuple[Tensor, Tensor]:
    """Values and indices of the lower medians along an axis, which is kept with size 1."""
    with no_grad():
        order = x.detach().argsort(axis, stable=True)
        count = (~x.detach().isnan()).sum(axis, keepdim=True)
        indices = order.gather(axis, (count - 1).clamp(min=0) // 2)
    return x.gather(axis, indices), indices

"""Max pooling, average pooling, resizing, and images between their pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradient.autograd.op import op

if TYPE_CHECKING:
    from gradient.backends import Array, Backend
    from gradient.backends.options import PoolingOptions, WindowRanges


# The rule takes x, not only its shape: a second derivative runs the forward function again on x.
@op(lambda g, be, x, indices, options: be.max_pool_grad(g, indices, x.shape, options))
def max_pool(
    be: Backend[Array], x: Array, /, *, options: PoolingOptions
) -> tuple[Array, dict[str, Array]]:
    """The maximum of each window of x (..., *S)."""
    y, indices = be.max_pool(x, options)
    return y, {"indices": indices}


@op()
def max_pool_indices(be: Backend[Array], x: Array, /, *, options: PoolingOptions) -> Array:
    """int64: where the largest number of each window is in the flattened S."""
    return be.max_pool(x, options)[1]


@op(lambda g, be, x, indices, out_sizes:
    be.adaptive_max_pool_grad(g, indices, x.shape, out_sizes))  # fmt: skip
def adaptive_max_pool(
    be: Backend[Array], x: Array, /, *, out_sizes: tuple[int, ...]
) -> tuple[Array, dict[str, Array]]:
    """The maximum of each of `out_sizes` windows, which divide x (..., *S) evenly."""
    y, indices = be.adaptive_max_pool(x, out_sizes)
    return y, {"indices": indices}


@op()
def adaptive_max_pool_indices(
    be: Backend[Array], x: Array, /, *, out_sizes: tuple[int, ...]
) -> Array:
    """int64: where the largest number of each window is in the flattened S."""
    return be.adaptive_max_pool(x, out_sizes)[1]


@op(lambda g, be, x_shape, windows: be.avg_pool_grad(g, x_shape, windows))
def avg_pool(be: Backend[Array], x: Array, /, *, windows: WindowRanges) -> Array:
    """The mean of each window of x (..., *S)."""
    return be.avg_pool(x, windows)


@op(
    lambda g, be, x_shape, fraction, low, high, axis: be.resize_grad(
        g, fraction, low, high, x_shape[axis], axis
    ),
    lambda g, be, x, low, high, axis: be.resize_fraction_grad(g, x, low, high, axis),
    promotion="same_dtype",
)
def resize(
    be: Backend[Array], x: Array, fraction: Array, /, *, low: Array, high: Array, axis: int
) -> Array:
    """(1 - fraction) x[low] + fraction x[high] along `axis`."""
    return be.resize(x, fraction, low, high, axis)


@op(
    lambda g, be, x_shape, weights, places, axis: be.weighted_taps_grad(
        g, weights, places, x_shape[axis], axis
    ),
    lambda g, be, x, places, axis: be.weighted_taps_weights_grad(g, x, places, axis),
    promotion="same_dtype",
)
def weighted_taps(
    be: Backend[Array],
    x: Array,
    weights: Array,
    /,
    *,
    places: tuple[Array, ...],
    axis: int,
) -> Array:
    """The sum over t of weights[t] x[places[t]] along `axis`, for weights (T, n)."""
    return be.weighted_taps(x, weights, places, axis)


@op(
    lambda g, be, x_shape, places: be.bilinear_sample_grad(g, places, x_shape),
    lambda g, be, x, places: be.bilinear_sample_places_grad(g, x, places),
    promotion="same_dtype", public_name="grid_sample",
)  # fmt: skip
def bilinear_sample(be: Backend[Array], x: Array, places: Array, /) -> Array:
    """x (N, C, H, W) at places (N, P, 2), column and row in pixels: (N, C, P)."""
    return be.bilinear_sample(x, places)

"""Images between their pixels, bilinearly (Jaderberg et al. 2015, equation 5).

Dimensions:
    N  images    C  channels    H, W  height, width    P  places
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, NamedTuple

from gradient.backends.composed.precision import in_float32
from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.required import Array, Shape
from gradient.dtypes import int64


class _Corner(NamedTuple, Generic[Array]):
    """One of the four pixels about each place; all arrays are (N, 1, P)."""

    at: Array
    """Where it is in the flattened image, int64; 0 outside."""
    inside: Array
    row: Array
    """Its weight by how near its row is, and `column` by its column."""
    column: Array
    lower: int
    """1 for the lower row, whose weight grows with the place, else -1; so `right` for columns."""
    right: int


class GridSamplingDefaults(ShapeDefaults[Array]):
    """Methods of `Backend` that sample images at places."""

    @in_float32
    def bilinear_sample(self, x: Array, places: Array) -> Array:
        """x (N, C, H, W) at places (N, P, 2), column and row in pixels: (N, C, P). Each value is a
        mean of four pixels, weighted by how near they are; outside the image these are 0."""
        flat = self.reshape(x, (*x.shape[:2], x.shape[2] * x.shape[3]))
        total = self.zeros((*x.shape[:2], places.shape[1]), x.dtype)
        for corner in self._corners(places, tuple(x.shape)):
            total = total + self._at(flat, corner) * corner.row * corner.column
        return total

    @in_float32
    def bilinear_sample_grad(self, g: Array, places: Array, shape: Shape) -> Array:
        """The gradient of `bilinear_sample` for x, which has `shape`."""
        shape = tuple(shape)
        out = self.zeros((*shape[:2], shape[2] * shape[3]), g.dtype)
        nothing = self.full((), 0, g.dtype)
        for corner in self._corners(places, shape):
            part = self.where(corner.inside, g * (corner.row * corner.column), nothing)
            out = self.put_along(out, self.broadcast_to(corner.at, part.shape), part, 2, True)
        return self.reshape(out, shape)

    @in_float32
    def bilinear_sample_places_grad(self, g: Array, x: Array, places: Array) -> Array:
        """The gradient of `bilinear_sample` for the places: (N, P, 2)."""
        flat = self.reshape(x, (*x.shape[:2], x.shape[2] * x.shape[3]))
        by_column = by_row = self.zeros((x.shape[0], places.shape[1]), g.dtype)
        for corner in self._corners(places, tuple(x.shape)):
            share = self.sum(g * self._at(flat, corner), 1)
            by_column = by_column + share * self.squeeze(corner.row, 1) * corner.right
            by_row = by_row + share * self.squeeze(corner.column, 1) * corner.lower
        return self.stack([by_column, by_row], 2)

    def _at(self, flat: Array, corner: _Corner[Array]) -> Array:
        """The pixels (N, C, P) at a corner; 0 outside."""
        at = self.broadcast_to(corner.at, (*flat.shape[:2], corner.at.shape[2]))
        nothing = self.full((), 0, flat.dtype)
        return self.where(corner.inside, self.take_along(flat, at, 2), nothing)

    def _corners(self, places: Array, shape: Shape) -> Iterator[_Corner[Array]]:
        """The four pixels about each place, row by row."""
        height, width = shape[2:]
        column, row = (
            self.reshape(self.getitem(places, (..., i)), (places.shape[0], 1, places.shape[1]))
            for i in (0, 1)
        )
        left, top = self.floor(self.detach(column)), self.floor(self.detach(row))
        rows = (top, (top + 1) - row, -1), (top + 1, row - top, 1)
        columns = (left, (left + 1) - column, -1), (left + 1, column - left, 1)
        for y, by_row, lower in rows:
            for x, by_column, right in columns:
                inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
                nothing = self.full((), 0, places.dtype)
                y_inside, x_inside = (
                    self.astype(self.where(inside, place, nothing), int64.numpy) for place in (y, x)
                )
                at = y_inside * width + x_inside
                yield _Corner(at, inside, by_row, by_column, lower, right)

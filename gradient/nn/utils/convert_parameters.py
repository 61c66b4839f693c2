"""All parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

from gradient.errors import ShapeError, TypeMismatch
from gradient.tensor import Tensor
from gradient.tensor.joining import cat, tensors_of

__all__ = ["parameters_to_vector", "vector_to_parameters"]


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of all parameters, one parameter after another."""
    return cat(
        [parameter.reshape(-1) for parameter in tensors_of("parameters_to_vector", parameters)]
    )


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Give the parameters, in order, the elements of `vec` as their data."""
    if not isinstance(vec, Tensor):
        raise TypeMismatch(f"vector_to_parameters: expected a tensor, got {type(vec).__name__}")
    parameters = list(parameters)
    total = sum(parameter.numel() for parameter in parameters)
    if vec.numel() != total:
        raise ShapeError(
            f"vector_to_parameters: the parameters have {total} elements, the vector has "
            f"{vec.numel()}"
        )
    start = 0
    for parameter in parameters:
        end = start + parameter.numel()
        parameter.data = vec[start:end].reshape(parameter.shape).data
        start = end

"""Gradients of embeddings that are divided by how often rows were looked up."""

from __future__ import annotations

from typing import Any

import pytest

import gradient
import gradient.functional as F
from gradient import nn, tensor
from gradient.errors import ArgumentError

INDICES = [[0, 1, 1], [2, 1, 3]]


def gradient_of(function: Any, size: tuple[int, int] = (5, 2), dtype: Any = None) -> Any:
    weight = gradient.zeros(size, dtype=dtype, requires_grad=True)
    out = function(weight)
    scale = gradient.arange(float(out.numel())).reshape(out.shape).to(out)
    (out * scale).sum().backward()
    assert weight.grad is not None and weight.grad.dtype is weight.dtype
    return weight.grad.tolist()


@pytest.mark.parametrize("dtype", [gradient.float32, gradient.float64, gradient.bfloat16])
def test_an_embeddings_gradient_is_scaled_by_frequency(device: str, dtype: Any) -> None:
    index = tensor(INDICES, device=device)

    def look_up(weight: Any) -> Any:
        table = weight.to(device)
        return F.embedding(index, table, padding_idx=3, scale_grad_by_freq=True)

    # Row 1 has (2, 3), (4, 5) and (8, 9); row 3 is padding, row 4 is not looked up.
    expected = tensor([[0, 1], [14 / 3, 17 / 3], [6, 7], [0, 0], [0, 0]], dtype=dtype)
    tolerance = 2**-8 if dtype is gradient.bfloat16 else 1e-6
    got = tensor(gradient_of(look_up, dtype=dtype), dtype=dtype)
    gradient.testing.assert_close(got, expected, rtol=tolerance, atol=0)


@pytest.mark.parametrize("indices", [[], [4], [2] * 70_000], ids=["none", "one", "70000"])
def test_of_any_number_of_indices(indices: list[int]) -> None:
    """More than float16 can count to; each has a gradient of 1."""
    weight = gradient.zeros(5, 2, dtype=gradient.float16, requires_grad=True)
    out = F.embedding(tensor(indices, dtype=gradient.int64), weight, scale_grad_by_freq=True)
    out.backward(gradient.full(out.shape, 1.0 / max(1, len(indices)), dtype=gradient.float16))
    assert weight.grad is not None
    rows = weight.grad.sum(1).tolist()
    assert all(row == 0 for i, row in enumerate(rows) if i not in indices)
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize(("dtype", "most"), [(gradient.float16, 6e4), (gradient.float32, 3e38)])
def test_gradients_are_divided_before_they_are_added(dtype: Any, most: float, device: str) -> None:
    weight = gradient.zeros(3, 2, dtype=dtype, device=device).requires_grad_()
    out = F.embedding(tensor([1, 1], device=device), weight, scale_grad_by_freq=True)
    out.backward(gradient.full((2, 2), most, dtype=dtype, device=device))
    assert weight.grad is not None
    assert weight.grad[1].tolist() == gradient.full((2,), most, dtype=dtype).tolist()


def test_the_scaled_gradient_is_linear_in_that_of_the_result() -> None:
    weight = gradient.ones(4, 2, requires_grad=True)
    grad = gradient.ones(2, 3, 2, requires_grad=True)
    out = F.embedding(tensor(INDICES), weight, scale_grad_by_freq=True)
    (first,) = gradient.autograd.grad(out, weight, grad, create_graph=True)
    first.sum().backward()
    assert grad.grad is not None
    third = [1 / 3, 1 / 3]
    gradient.testing.assert_close(
        grad.grad, tensor([[[1, 1], third, third], [[1, 1], third, [1, 1]]])
    )


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_bags_count_in_all_of_the_input(mode: str) -> None:
    def bags(weight: Any, scaled: bool) -> Any:
        return F.embedding_bag(tensor(INDICES), weight, mode=mode, scale_grad_by_freq=scaled)

    plain = gradient_of(lambda weight: bags(weight, False))
    counts = [1, 3, 1, 1, 1]
    expected = [[x / n for x in row] for row, n in zip(plain, counts, strict=True)]
    gradient.testing.assert_close(
        tensor(gradient_of(lambda weight: bags(weight, True))), tensor(expected)
    )


def test_layers_take_it_and_show_it() -> None:
    table = gradient.zeros(5, 2)
    layer = nn.Embedding.from_pretrained(table, freeze=False, scale_grad_by_freq=True)
    assert layer.extra_repr() == "5, 2, scale_grad_by_freq=True"
    layer(tensor([1, 1])).sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad[1].tolist() == [1, 1]
    bag = nn.EmbeddingBag(5, 2, mode="sum", scale_grad_by_freq=True)
    bag(tensor([[1, 1]])).sum().backward()
    assert bag.weight.grad is not None and bag.weight.grad[1].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("call", "kinds", "message"),
    [
        (
            lambda index, weight: F.embedding_bag(
                index, weight, per_sample_weights=gradient.ones(2, 3), mode="mean"
            ),
            (NotImplementedError, ArgumentError),
            "embedding_bag: expected mode 'sum' with per_sample_weights, got 'mean'",
        ),
        (
            lambda index, weight: F.embedding_bag(
                index, weight, mode="max", scale_grad_by_freq=True
            ),
            (ValueError,),
            "embedding_bag: expected mode 'sum' or 'mean' with scale_grad_by_freq, got 'max'",
        ),
        (
            lambda index, weight: F.embedding_bag(index.flatten(), weight, tensor([]).long()),
            (ArgumentError,),
            "embedding_bag: expected the offset of at least one bag for an input of 6, got none",
        ),
        (
            lambda index, weight: F.embedding_bag(
                index.flatten(), weight, tensor([0]), include_last_offset=True
            ),
            (ArgumentError,),
            "embedding_bag: expected the offset of at least one bag for an input of 6, got none",
        ),
        (
            lambda index, weight: F.embedding(index, weight, sparse=True),
            (ArgumentError,),
            "embedding: sparse gradients are not available",
        ),
    ],
)
def test_what_is_not_available_is_refused(call: Any, kinds: Any, message: str) -> None:
    for kind in kinds:
        with pytest.raises(kind) as raised:
            call(tensor(INDICES), gradient.zeros(5, 2))
        assert str(raised.value) == message

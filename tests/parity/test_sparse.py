"""Sparse matrices as graph scripts make and use them: PyTorch's values, gradients and errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

from support.both_packages import assert_alike  # noqa: E402


def matrix(t: Any, values: Any = (1.0, -2.0, 0.5, 4.0)) -> Any:
    """(3, 4), with the place (2, 1) twice."""
    places = t.tensor([[2, 0, 2, 1], [1, 3, 1, 0]])
    return t.sparse_coo_tensor(places, t.tensor(values), (3, 4))


def dense(t: Any, *shape: int) -> Any:
    return t.linspace(-1.0, 2.0, shape[0] * shape[-1]).reshape(shape)


def other(t: Any) -> Any:
    """With two places of `matrix`."""
    return t.sparse_coo_tensor([[0, 1, 2], [0, 3, 1]], t.tensor([7.0, 2.0, 3.0]), (3, 4))


def joined(x: Any) -> Any:
    return tuple(x.shape), x._indices(), x._values(), x.is_coalesced(), x.to_dense()


def word(layout: Any) -> str:
    return str(layout).partition(".")[2]


def buffer(t: Any) -> Any:
    """A sparse buffer of a module, which is moved, cast, saved and loaded."""
    module, loaded = t.nn.Linear(2, 2), t.nn.Linear(2, 2)
    module.register_buffer("a", matrix(t).coalesce())
    loaded.register_buffer("a", t.sparse_coo_tensor((3, 4)).coalesce())
    loaded.load_state_dict(module.state_dict())
    return (
        [name for name, _ in module.named_buffers()], list(module.state_dict()),
        module.to("cpu").double().a.to_dense(), loaded.a.to_dense(),
    )  # fmt: skip


CASES: dict[str, Callable[[Any], Any]] = {
    "to_dense": lambda t: matrix(t).to_dense(),
    "coalesce": lambda t: (matrix(t).coalesce().indices(), matrix(t).coalesce().values()),
    "parts": lambda t: (matrix(t)._indices(), matrix(t)._values(), matrix(t)._nnz()),
    "facts": lambda t: (
        tuple(matrix(t).shape), tuple(matrix(t).size()), matrix(t).size(1), matrix(t).dim(),
        matrix(t).numel(), matrix(t).is_sparse, matrix(t).is_coalesced(), matrix(t).sparse_dim(),
        matrix(t).dense_dim(),
    ),
    "cat": lambda t: joined(t.cat([matrix(t), other(t)])),
    "cat along columns": lambda t: joined(t.cat((matrix(t), other(t).double()), dim=-1)),
    "cat of one": lambda t: joined(t.concat([matrix(t)], 1)),
    "cat of none": lambda t: joined(t.cat([matrix(t), t.sparse_coo_tensor((2, 4))])),
    "cat with another": lambda t: t.cat([matrix(t), dense(t, 3, 4)]),
    "cat after another": lambda t: t.cat([dense(t, 3, 4), matrix(t)]),
    "cat of rows": lambda t: t.cat([matrix(t), matrix(t).to_sparse_csr()]),
    "cat of other shapes": lambda t: t.cat([matrix(t), matrix(t).t()]),
    "cat of integers": lambda t: joined(t.cat([matrix(t).long(), other(t).long()])),
    "cat along what is not there": lambda t: t.cat([matrix(t), matrix(t)], 2),
    "stack": lambda t: joined(t.stack([matrix(t), other(t)])),
    "stack last": lambda t: joined(t.stack([matrix(t), other(t)], -1)),
    "hstack": lambda t: joined(t.hstack([matrix(t), other(t)])),
    "vstack": lambda t: joined(t.vstack([matrix(t)[0], other(t)[1]])),
    "product": lambda t: matrix(t) @ dense(t, 4, 2),
    "mm": lambda t: t.mm(matrix(t), dense(t, 4, 2)),
    "matmul": lambda t: t.matmul(matrix(t), dense(t, 4, 2)),
    "spmm": lambda t: t.spmm(matrix(t), dense(t, 4, 2)),
    "sparse.mm": lambda t: t.sparse.mm(matrix(t), dense(t, 4, 2)),
    "mm of no rows": lambda t: t.mm(
        t.sparse_coo_tensor(t.zeros(2, 0).long(), t.zeros(0), (0, 4)), dense(t, 4, 2)
    ),
    "vector": lambda t: matrix(t) @ t.tensor([1.0, 2.0, 3.0, 4.0]),
    "from the left": lambda t: dense(t, 2, 3) @ matrix(t),
    "two sparse": lambda t: (matrix(t) @ matrix(t).t()).to_dense(),
    "addmm": lambda t: t.sparse.addmm(dense(t, 3, 2), matrix(t), dense(t, 4, 2), alpha=2, beta=3),
    "dense + sparse": lambda t: dense(t, 3, 4) + matrix(t),
    "add": lambda t: t.add(dense(t, 3, 4), matrix(t)),
    "sparse + sparse": lambda t: (matrix(t) + matrix(t)).to_dense(),
    "sparse - sparse": lambda t: (matrix(t) - matrix(t).coalesce()).to_dense(),
    "times a number": lambda t: (matrix(t) * 2).to_dense(),
    "a number times": lambda t: (2 * matrix(t)).to_dense(),
    "times a 0-d tensor": lambda t: (matrix(t) * t.tensor(3.0)).to_dense(),
    "0-d tensor times": lambda t: (t.tensor(3.0) * matrix(t)).to_dense(),
    "divided": lambda t: (matrix(t) / 4).to_dense(),
    "negative": lambda t: (-matrix(t)).to_dense(),
    "times dense": lambda t: (matrix(t).coalesce() * dense(t, 3, 4)).to_dense(),
    "transpose": lambda t: (matrix(t).t().to_dense(), matrix(t).transpose(0, 1).to_dense()),
    "sum": lambda t: (t.sparse.sum(matrix(t)), t.sparse.sum(matrix(t), 1).to_dense()),
    "sum of all": lambda t: t.sum(matrix(t)),
    "to_sparse": lambda t: (
        dense(t, 3, 4).relu().to_sparse().indices(), dense(t, 3, 4).relu().to_sparse().values(),
        dense(t, 3, 4).relu().to_sparse().is_coalesced(),
    ),
    "diagonal": lambda t: t.diag(t.tensor([1.0, 0.0, 2.0])).to_sparse() @ dense(t, 3, 2),
    "dtype": lambda t: (
        t.sparse_coo_tensor([[0, 1]], [1.0, 2.0], (3,), dtype=t.int64).to_dense(),
        matrix(t).double().to_dense(), matrix(t).to(t.float64).to_dense(),
    ),
    "size of its own": lambda t: t.sparse_coo_tensor([[0, 4], [1, 0]], [1, 2]).to_dense(),
    "one value": lambda t: t.eye(2) + t.sparse_coo_tensor([[0, 1], [1, 1]], t.ones(2), (2, 2)),
    "no elements": lambda t: t.sparse_coo_tensor((2, 3)).to_dense(),
    "old constructor": lambda t: t.sparse.FloatTensor(
        t.tensor([[0, 1], [1, 0]]), t.tensor([3.0, 4.0]), t.Size([2, 2])
    ).to_dense(),
    "3-d": lambda t: t.sparse_coo_tensor([[0, 1], [1, 0], [2, 1]], [1.0, 2.0]).to_dense(),
    "length": lambda t: len(matrix(t)),
    "equal to None": lambda t: (matrix(t) == None, matrix(t) != None),  # noqa: E711
    "bfloat16": lambda t: (
        t.ones(1, 200).to_sparse().to(t.bfloat16) @ t.ones(200, 2, dtype=t.bfloat16)
    ),
    "mv": lambda t: (matrix(t).mv(t.ones(4)), t.mv(matrix(t), t.ones(4))),
    "sparse * sparse": lambda t: (
        (matrix(t) * matrix(t)).to_dense(), (matrix(t) * other(t)).to_dense(),
        t.mul(other(t), matrix(t)).to_dense(),
        (matrix(t) * t.sparse_coo_tensor((3, 4))).to_dense(),
    ),
    "each element": lambda t: (
        *(getattr(matrix(t), each)().to_dense() for each in ("abs", "sqrt", "neg", "sign", "sin")),
        t.relu(-matrix(t)).to_dense(), t.abs(matrix(t)).to_dense(),
    ),
    "powers": lambda t: ((matrix(t) ** 2).to_dense(), matrix(t).pow(3).to_dense()),
    "norm": lambda t: matrix(t).norm(),
    "softmax": lambda t: tuple(t.sparse.softmax(matrix(t), i).to_dense() for i in (0, 1, -1)),
    "log_softmax": lambda t: t.sparse.log_softmax(matrix(t), 1).to_dense(),
    "index_select": lambda t: (
        matrix(t).index_select(0, t.tensor([2, 0, 2])).to_dense(),
        matrix(t).index_select(1, t.tensor([1])).to_dense(),
    ),
    "one index": lambda t: (matrix(t)[1].to_dense(), matrix(t)[-1].to_dense()),
    "layout": lambda t: [
        word(x.layout) for x in (matrix(t), matrix(t).to_sparse_csr(), t.ones(1))
    ] + [matrix(t).to_sparse_csr().is_sparse, matrix(t).to_sparse_csr().is_sparse_csr],
    "rows": lambda t: (
        matrix(t).to_sparse_csr().crow_indices(), matrix(t).to_sparse_csr().col_indices(),
        matrix(t).to_sparse_csr().values(), t.eye(3).to_sparse_csr().crow_indices(),
        t.sparse_csr_tensor([0, 1, 3], [2, 0, 2], [3.0, 4.0, 5.0]).to_dense(),
        t.sparse_csr_tensor([0, 0], t.zeros(0).long(), t.zeros(0), (1, 2)).to_dense(),
        matrix(t).to_sparse_csr().to_sparse().to_dense(),
    ),
    "products of rows": lambda t: (
        matrix(t).to_sparse_csr() @ dense(t, 4, 2), matrix(t).to_sparse_csr() @ t.ones(4),
        t.sparse.mm(matrix(t).to_sparse_csr(), dense(t, 4, 2)),
        (matrix(t).to_sparse_csr() * 2).to_dense(),
    ),
    "a buffer": lambda t: buffer(t),
    "copies": lambda t: (matrix(t).copy_(other(t)).to_dense(), matrix(t).zero_().to_dense()),
    # Errors
    "an index of no row": lambda t: matrix(t)[3],
    "too few columns": lambda t: t.sparse_csr_tensor(
        [0, 1, 3], [2, 0], [3.0, 4.0, 5.0], (2, 3), check_invariants=True
    ),
    "a column beyond": lambda t: t.sparse_csr_tensor(
        [0, 1], [3], [3.0], (1, 3), check_invariants=True
    ),
    "sparse products of other shapes": lambda t: matrix(t) * matrix(t).t(),
    "equal": lambda t: matrix(t) == matrix(t),
    "not equal": lambda t: matrix(t) != 1,
    "truth": lambda t: bool(matrix(t)),
    "a product with another dtype": lambda t: matrix(t) @ dense(t, 4, 2).double(),
    "a product with integers": lambda t: dense(t, 2, 3).long() @ matrix(t),
    "indices of one not coalesced": lambda t: matrix(t).indices(),
    "values of one not coalesced": lambda t: matrix(t).values(),
    "shapes of a product": lambda t: matrix(t) @ dense(t, 3, 2),
    "shapes of a sum": lambda t: matrix(t) + matrix(t).t(),
    "an index beyond the size": lambda t: t.sparse_coo_tensor(
        [[0, 3]], [1.0, 2.0], (3,), check_invariants=True
    ),
    "a negative index": lambda t: t.sparse_coo_tensor(
        [[0, -1]], [1.0, 2.0], (3,), check_invariants=True
    ),
    "too few values": lambda t: t.sparse_coo_tensor([[0, 1]], [1.0], (3,)),
    "a size of other dimensions": lambda t: t.sparse_coo_tensor([[0, 1]], [1.0, 2.0], (3, 3)),
    "a product with a word": lambda t: matrix(t) @ "word",
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_sparse_matrices_are_pytorchs(case: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_alike(CASES[case])


def test_autocast_has_products_in_16_bits() -> None:
    def products(t: Any) -> Any:
        weight = dense(t, 4, 2).requires_grad_()
        with t.autocast("cpu", t.bfloat16):
            first = matrix(t) @ weight
            out = (
                first,
                matrix(t).coalesce() @ (weight @ dense(t, 2, 2)),
                dense(t, 2, 3) @ matrix(t),
            )
        first.float().sum().backward()
        return *out, weight.grad

    assert_alike(products)


def test_gradients_of_what_is_joined() -> None:
    import gradient

    values = gradient.tensor([1.0, 2.0], requires_grad=True)
    part = gradient.sparse_coo_tensor([[0, 2], [1, 3]], values, (3, 4))
    whole = gradient.cat([part, part * 3]).to_dense()
    (whole * gradient.arange(24.0).reshape(6, 4)).sum().backward()
    assert values.grad is not None and values.grad.tolist() == [1 + 3 * 13, 11 + 3 * 23]


def test_gradients_of_a_product() -> None:
    def gradients(t: Any) -> Any:
        values = t.tensor([1.0, -2.0, 0.5, 4.0], requires_grad=True)
        weight = dense(t, 4, 2).requires_grad_()
        places = t.tensor([[2, 0, 2, 1], [1, 3, 1, 0]])
        product = t.sparse.mm(t.sparse_coo_tensor(places, values, (3, 4)), weight)
        (product * dense(t, 3, 2)).sum().backward()
        return weight.grad, values.grad

    assert_alike(gradients)


class Foreign:
    """What operators of a tensor ask, where they do not know the class."""

    def __radd__(self, other: Any) -> str:
        return f"+ {tuple(other.shape)}"

    def __rmatmul__(self, other: Any) -> str:
        return f"@ {tuple(other.shape)}"

    def __gt__(self, other: Any) -> str:
        return f"< {tuple(other.shape)}"


@pytest.mark.parametrize(
    "case",
    [
        lambda t: t.ones(2) + Foreign(),
        lambda t: t.ones(2, 3) @ Foreign(),
        lambda t: t.ones(2) < Foreign(),
        lambda t: t.ones(2) * Foreign(),
        lambda t: t.ones(2) - Foreign(),
        lambda t: t.ones(2) @ Foreign,
        lambda t: t.ones(2) + "word",
        lambda t: t.ones(2) + {},
    ],
)
def test_other_classes_have_their_say(case: Callable[[Any], Any]) -> None:
    assert_alike(case)

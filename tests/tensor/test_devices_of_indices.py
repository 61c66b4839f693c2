"""An index on another device than what it is an index of: refused by name, wherever it would go."""

import pytest

import gradient
import gradient.functional as F
import support.array_backends  # noqa: F401 (registers the devices)

AT = gradient.tensor([0, 1])
PLACES = gradient.tensor([[0, 1], [1, 0]])
MASK = gradient.tensor([[True, False], [False, True], [True, True]])

CALLS = {
    "index_select": (lambda x, i: x.index_select(0, i), AT),
    "index_select of columns": (lambda x, i: x.index_select(1, i), AT),
    "index_add": (lambda x, i: x.index_add(0, i, x[:2]), AT),
    "index_copy": (lambda x, i: x.index_copy(0, i, x[:2]), AT),
    "index_fill": (lambda x, i: x.index_fill(0, i, 1.0), AT),
    "index_reduce": (lambda x, i: x.index_reduce(0, i, x[:2], "amax"), AT),
    "gather": (lambda x, i: x.gather(0, i), PLACES),
    "gather of nothing": (lambda x, i: x.gather(0, i[:0]), PLACES),
    "scatter": (lambda x, i: x.scatter(0, i, x[:2]), PLACES),
    "scatter of a number": (lambda x, i: x.scatter(0, i, 1.0), PLACES),
    "scatter_add": (lambda x, i: x.scatter_add(0, i, x[:2]), PLACES),
    "scatter_add of nothing": (lambda x, i: x.scatter_add(0, i[:0], x[:0]), PLACES),
    "scatter_reduce": (lambda x, i: x.scatter_reduce(0, i, x[:2], "sum"), PLACES),
    "take": (lambda x, i: x.take(i), PLACES),
    "masked_select": (lambda x, mask: x.masked_select(mask), MASK),
    "masked_scatter": (lambda x, mask: x.masked_scatter(mask, x), MASK),
    "embedding": (lambda x, i: F.embedding(i, x), AT),
    "nll_loss": (lambda x, target: F.nll_loss(x[:2], target), AT),
}


@pytest.mark.parametrize("of", ["index", "input"])
@pytest.mark.parametrize("device", ["handle", "bare", "meta"])
@pytest.mark.parametrize("name", CALLS)
def test_the_index_is_on_the_device_of_the_input(name, device, of):
    call, index = CALLS[name]
    x, at = gradient.ones(3, 2), index
    x, at = (x.to(device), at) if of == "input" else (x, at.to(device))
    with pytest.raises(RuntimeError, match=rf"^{name.split()[0]}: \w+ is on \w+, .* on \w+; move"):
        call(x, at)


def test_embedding_says_what_is_where():
    with pytest.raises(RuntimeError, match="embedding: input is on cpu, weight on handle; move"):
        F.embedding(AT, gradient.ones(3, 2, device="handle"))

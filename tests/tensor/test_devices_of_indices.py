"""Indices and sources that do not fit, most of all on another device: refused by the name of the
function that was called."""

import contextlib

import pytest

import gradient
import gradient.functional as F
import support.array_backends  # noqa: F401 (registers the devices)
from gradient.errors import GradientError

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
    "scatter by factors": (lambda x, i: x.scatter(0, i, x[:2], reduce="multiply"), PLACES),
    "scatter_reduce": (lambda x, i: x.scatter_reduce(0, i, x[:2], "sum"), PLACES),
    "scatter_reduce of nothing": (lambda x, i: x.scatter_reduce(0, i[:0], x, "amax"), PLACES),
    "take_along_dim": (lambda x, i: x.take_along_dim(i, 0), PLACES),
    "take_along_dim of all": (lambda x, i: x.take_along_dim(i), PLACES),
    "put": (lambda x, i: x.put(i, x[:2]), PLACES),
    "put in place": (lambda x, i: x.put_(i, x[:2], accumulate=True), PLACES),
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


KEYS = {
    "read": lambda x, i: x[i],
    "read of columns": lambda x, i: x[:, i],
    "read with one at hand": lambda x, i: x[AT.to(x.device), i],
    "index_put": lambda x, i: x.index_put((i,), x[:2]),
    "write": lambda x, i: x.__setitem__(i, 1.0),
}


@pytest.mark.parametrize("device", ["handle", "bare", "meta"])
@pytest.mark.parametrize("name", KEYS)
def test_what_a_key_holds_is_there_or_on_the_cpu(name, device):
    x = gradient.ones(3, 2)
    for key in (AT, MASK[:, 0]) if "columns" not in name and "hand" not in name else (AT,):
        with pytest.raises(RuntimeError, match=rf"^index: .*\(cpu\), got one on {device}; move"):
            KEYS[name](x, key.to(device))
    KEYS[name](x.to(device), AT)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("device", ["handle", "bare", "meta"])
def test_numbers_alone_are_written_at_an_index_from_elsewhere(device, accumulate):
    x, values = gradient.ones(3, 2), gradient.zeros(2, 2)
    for into, what in ((x.to(device), values), (x, values.to(device))):
        at = AT.to(into.device)
        with pytest.raises(RuntimeError, match=r"^setitem: value is on \w+, the input on"):
            into[at] = what
        with pytest.raises(RuntimeError, match=r"^index_put: values is on \w+, the input on"):
            into.index_put_((at,), what, accumulate)
    number = gradient.tensor(3.0, requires_grad=True)
    into = x.to(device)
    out = into.index_put((AT,), number, accumulate)
    into[AT] = number
    if device != "meta":
        assert into.tolist() == [[3.0, 3.0], [3.0, 3.0], [1.0, 1.0]]
        out.sum().backward()
        assert number.grad is not None and number.grad.item() == 4.0


SOURCES = {
    "scatter": lambda x, source: x.scatter(0, PLACES, source, reduce="multiply"),
    "scatter_reduce": lambda x, source: x.scatter_reduce(0, PLACES, source, "amin"),
    "index_reduce": lambda x, source: x.index_reduce(0, AT, source, "prod"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_on_another_device_is_refused_by_the_function_called(name):
    x = gradient.ones(3, 2)
    with pytest.raises(RuntimeError, match=rf"^{name}: (src|source) is on handle, the input on"):
        SOURCES[name](x, x[:2].to("handle"))


FUNCTIONS = {
    "scatter": lambda x, i: x.scatter(0, i, x, reduce="multiply"),
    "scatter_reduce": lambda x, i: x.scatter_reduce(0, i, x, "prod"),
    "put": lambda x, i: x.put(i, i.new_zeros(i.shape, dtype=x.dtype)),
    "take_along_dim": lambda x, i: x.take_along_dim(i, 0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "index", [[0], [[[0]]], [[9, 0]], [[0] * 9], 9, [[0.0]], [[-9, 1]], [[0]] * 9, [0, 9]], ids=str
)
def test_errors_name_the_function_called(name, index):
    x = gradient.ones(3, 2)
    with contextlib.suppress(GradientError):
        FUNCTIONS[name](x, gradient.tensor(index))  # what fits one of them
        return
    with pytest.raises((RuntimeError, IndexError), match=rf"^{name}: "):
        FUNCTIONS[name](x, gradient.tensor(index))

"""The device "meta": shapes and dtypes without numbers."""

from __future__ import annotations

import pytest

import gradient
import gradient.nn.functional as F
from gradient import nn
from gradient.errors import DTypeError, ShapeError
from gradient.testing.op_table import TABLE
from gradient.testing.row import Row


def model() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)
    )


def test_a_model_on_meta_has_shapes_and_gradients_and_no_numbers():
    with gradient.device("meta"):
        net = model()
        x, target = gradient.empty(2, 3, 8, 8), gradient.zeros(2, dtype=gradient.int64)
    assert all(p.is_meta and p.device == "meta" for p in net.parameters())
    assert sum(p.numel() for p in net.parameters()) == 3130
    loss = F.cross_entropy(net(x), target)
    assert loss.is_meta and loss.shape == ()
    loss.backward()
    assert net[4].weight.grad.shape == (10, 288)
    gradient.optim.AdamW(net.parameters()).step()


def test_numbers_come_by_to_empty_and_by_assignment():
    with gradient.device("meta"):
        one, two = model(), model()
    assert one.to_empty(device="cpu")[0].weight.shape == (8, 3, 3, 3)
    real = model()
    two.load_state_dict(real.state_dict(), assign=True)
    x = gradient.randn(2, 3, 8, 8)
    assert gradient.equal(two.eval()(x), real.eval()(x))
    assert isinstance(two[0].weight, nn.Parameter) and two[0].weight.requires_grad


LARGE = 1 << 20


@pytest.mark.parametrize(
    "call",
    [
        lambda: gradient.empty(LARGE, LARGE, device="meta") + 1,
        lambda: gradient.ones(4, LARGE, device="meta").t() @ gradient.ones(4, LARGE, device="meta"),
        lambda: gradient.empty(LARGE, LARGE, device="meta").normal_().softmax(-1)[3:, None],
        lambda: nn.init.trunc_normal_(gradient.empty(LARGE, LARGE, device="meta")),
        lambda: nn.Linear(LARGE, LARGE, device="meta", dtype=gradient.bfloat16).weight,
        lambda: nn.LSTM(LARGE, LARGE, 2, device="meta").weight_hh_l1,
    ],
)
def test_it_takes_no_memory(call):
    assert call().is_meta


@pytest.mark.parametrize(
    "call",
    [
        lambda x: gradient.bernoulli(x),
        lambda x: gradient.normal(x, x),
        lambda x: F.gaussian_nll_loss(x, x, x, reduction="none"),
        lambda x: gradient.distributions.Normal(x, x).log_prob(x),
    ],
    ids=["bernoulli", "normal", "gaussian_nll_loss", "distribution"],
)
def test_what_checks_values_has_a_shape(call):
    found = call(gradient.ones(2, 3, device="meta"))
    assert found.is_meta and found.shape == (2, 3)


BY_VALUES = ("getitem[mask]", "compress")
"""Rows whose results have a shape that depends on values."""


@pytest.mark.parametrize(
    "row", [row for row in TABLE if row.name not in BY_VALUES], ids=lambda row: row.name
)
def test_every_op_has_the_shape_and_dtype_that_it_has_elsewhere(row: Row):
    inputs = [gradient.tensor(x) for x in row.samples()]
    given = [x.to("meta") for x in inputs]
    if row.differentiable and inputs[0].dtype.is_floating_point:
        given = [x.requires_grad_() for x in given]
    expected, found = row.run(*inputs), row.run(*given)
    assert found.is_meta
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if found.requires_grad:
        ones = gradient.ones_like(found)
        for x, g in zip(
            given, gradient.autograd.grad(found, given, ones, allow_unused=True), strict=True
        ):
            assert g is None or (g.is_meta and (g.shape, g.dtype) == (x.shape, x.dtype))


MATRIX = gradient.eye(3)
X = gradient.rand(2, 3)


@pytest.mark.parametrize(
    "expression",
    """
G.poisson(x)|G.binomial(x, x)|G.multinomial(x, 2)|x.multinomial(9, True)|D.Gamma(x, x).rsample()
D.Poisson(x).sample()|D.VonMises(x, x).sample()|D.NegativeBinomial(x, x / 2).sample()
D.Categorical(x).sample((4,))|D.Dirichlet(x).rsample()|D.LKJCholesky(3, x.sum()).sample()
G.linalg.inv(m)|G.linalg.solve(m, m[:, :2])|G.linalg.svd(x)[2]|G.linalg.qr(x)[1]|G.linalg.eig(m)[0]
G.linalg.lu_factor(m)[1]|G.lu_solve(m, *G.linalg.lu_factor(m))|G.linalg.slogdet(m)[0]|G.logdet(m)
G.linalg.pinv(x)|G.linalg.matrix_norm(x, 2)|G.linalg.cond(m)|G.linalg.matrix_exp(m)|G.linalg.det(m)
x.masked_fill(x > 0, m[0, 0])|x.masked_scatter(x > 0, x)|x.nanmedian()|G.isin(x, m)|x.frexp()[1]
G.histc(x)|G.igamma(x, x)|x.long().gcd(x.long())|x.long() << 1|(x * 1j).logaddexp(x)|(x * 1j).acos()
F.multilabel_margin_loss(x, x.long())
""".replace("\n", "|")
    .strip("|")
    .split("|"),
)
def test_what_the_host_computes_has_a_shape(expression: str):
    names = {"G": gradient, "F": F, "D": gradient.distributions}
    expected = eval(expression, names, {"x": X, "m": MATRIX})
    found = eval(expression, names, {"x": X.to("meta"), "m": MATRIX.to("meta")})
    assert found.is_meta
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)


def test_a_number_is_an_error():
    x = gradient.ones(1, device="meta")
    for ask in (x.item, x.tolist, lambda: x.to("cpu"), lambda: bool(x), x.nonzero,
                lambda: gradient.equal(x, x), model().to("meta").cpu):  # fmt: skip
        with pytest.raises(NotImplementedError, match="no data"):
            ask()
    with pytest.raises(RuntimeError, match="one device"):
        x + gradient.ones(1)
    assert x.data_ptr() == 0 and not gradient.ones(1).is_meta


def test_how_it_prints():
    assert repr(gradient.empty(3, device="meta")) == "tensor(..., device='meta', size=(3,))"
    empty = gradient.empty(0, 2, device="meta", dtype=gradient.int64)
    assert repr(empty) == "tensor(..., device='meta', size=(0, 2), dtype=gradient.int64)"
    assert repr(gradient.device("meta")) == "device(type='meta')"


OPERATIONS = {
    "cumprod": lambda x: x.cumprod(0),
    "neg": lambda x: -x,
    "bitwise_not": lambda x: ~x,
    "fmod": lambda x: x.fmod(2),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 0),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "float32", "bfloat16"])
def test_dtypes_and_refusals_are_those_of_the_cpu(name: str, dtype: str):
    x = gradient.ones(2, 3, dtype=getattr(gradient, dtype))
    try:
        expected = OPERATIONS[name](x)
    except DTypeError as error:
        with pytest.raises(DTypeError) as found:
            OPERATIONS[name](x.to("meta"))
        assert str(found.value) == str(error)
    else:
        found = OPERATIONS[name](x.to("meta"))
        assert found.is_meta and (found.shape, found.dtype) == (expected.shape, expected.dtype)


def test_a_number_of_repetitions_for_each_element_needs_the_size_of_the_result():
    x, times = gradient.ones(3, 2, device="meta"), gradient.tensor([1, 0, 2])
    assert x.repeat_interleave(times, 0).shape == (3, 2)
    with pytest.raises(RuntimeError, match="repeat_interleave: expected output_size"):
        x.repeat_interleave(times.to("meta"), 0)
    found = x.requires_grad_().repeat_interleave(times.to("meta"), 0, output_size=5)
    assert found.is_meta and found.shape == (5, 2)
    found.sum().backward()
    assert x.grad.shape == (3, 2)
    with pytest.raises(ShapeError, match="expected 1 or 2 ints as repeats"):
        x.repeat_interleave(times.to("meta"), 1, output_size=5)


def test_they_are_saved_without_data(tmp_path):
    state = {"w": gradient.empty(LARGE, LARGE, dtype=gradient.bfloat16, device="meta"), "b": X}
    gradient.save(state, tmp_path / "state")
    found = gradient.load(tmp_path / "state")
    assert found["w"].is_meta and gradient.equal(found["b"], X)
    assert (found["w"].shape, found["w"].dtype) == ((LARGE, LARGE), gradient.bfloat16)

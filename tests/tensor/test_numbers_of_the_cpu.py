"""0-d tensors of the CPU beside tensors of another device: numbers, as in PyTorch."""

import operator

import pytest

import gradient
import support.array_backends  # noqa: F401 (registers the device "handle")

OPS = {
    "mul": lambda x, n: x * n,
    "on the left": lambda x, n: n / x,
    "pow": lambda x, n: x**n,
    "gt": lambda x, n: x > n,
    "maximum": lambda x, n: gradient.maximum(x, n),
    "in place": lambda x, n: x.clone().mul_(n),
    "operator in place": lambda x, n: x.clone().__iadd__(n),
    "where": lambda x, n: gradient.where(x > 2, x, n),
    "clamp": lambda x, n: x.clamp(min=n),
    "lerp": lambda x, n: gradient.lerp(x, x * 2, n),
    "masked_fill": lambda x, n: x.masked_fill(x > 2, n),
    "addcmul": lambda x, n: gradient.addcmul(x, x, n),
}


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("number", [2.0, 2, True], ids=["float", "int", "bool"])
def test_is_as_on_the_cpu(name, number):
    function, x = OPS[name], gradient.tensor([[1.0, 2.0], [3.0, 4.0]])
    try:
        expected = function(x, gradient.tensor(number))
    except gradient.errors.GradientError as error:
        with pytest.raises(type(error)):
            function(x.to("handle"), gradient.tensor(number))
        return
    got = function(x.to("handle"), gradient.tensor(number))
    assert got.device.type == "handle" and got.dtype is expected.dtype
    assert got.tolist() == expected.tolist()


def test_gradients_go_back_to_the_cpu():
    x = gradient.tensor([1.0, 2.0], device="handle", requires_grad=True)
    n = gradient.tensor(3.0, requires_grad=True)
    (x * n).sum().backward()
    assert n.grad is not None and n.grad.device.type == "cpu" and n.grad.item() == 3.0
    assert x.grad is not None and x.grad.tolist() == [3.0, 3.0]


def test_of_meta_they_leave_no_data():
    out = gradient.ones(2, device="meta") * gradient.tensor(2.0)
    assert out.is_meta and out.shape == (2,)


@pytest.mark.parametrize("other", [gradient.ones(1), gradient.ones(2, 2)], ids=["1-d", "2-d"])
def test_others_are_on_one_device(other):
    with pytest.raises(RuntimeError, match="one device, got cpu and handle"):
        gradient.ones(2, device="handle") + other
    with pytest.raises(RuntimeError, match="one device, got cpu and handle"):
        gradient.lerp(gradient.ones(2, device="handle"), other, gradient.tensor(0.5))


def test_a_number_of_another_device_is_not_moved():
    with pytest.raises(RuntimeError, match="one device"):
        gradient.ones(2) + gradient.tensor(1.0, device="handle")


@pytest.mark.parametrize(
    "branches",
    [(gradient.tensor(1.0), gradient.tensor(2.0)), (gradient.tensor(1.0), 2), (1.0, 2)],
    ids=["tensors", "one", "numbers"],
)
@pytest.mark.parametrize("device", ["handle", "meta"])
def test_a_condition_of_another_device_decides_where_numbers_go(branches, device):
    condition = gradient.tensor([True, False])
    got = gradient.where(condition.to(device), *branches)
    assert got.device.type == device and got.shape == (2,)
    if device != "meta":
        assert got.tolist() == gradient.where(condition, *branches).tolist()


def test_a_condition_may_be_the_number():
    x = gradient.tensor([1.0, 2.0], device="handle")
    got = gradient.where(gradient.tensor(False), x, 3.0)
    assert got.device.type == "handle" and got.tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("condition", "branches"),
    [("handle", (gradient.ones(2), 2)), ("cpu", (gradient.ones(2, device="handle"), 2))],
)
def test_a_condition_is_on_the_device_of_vectors(condition, branches):
    with pytest.raises(RuntimeError, match="where: expected all tensors on one device"):
        gradient.where(gradient.tensor([True, False], device=condition), *branches)


WHERES = {
    "function": gradient.where,
    "method": lambda condition, x, y: x.where(condition, y),
    "masked_fill": lambda condition, x, y: x.masked_fill(condition, y),
}


@pytest.mark.parametrize("device", ["handle", "bare", "meta"])
@pytest.mark.parametrize("form", WHERES)
def test_where_looks_at_the_devices_of_all_three(form, device):
    where, number = WHERES[form], gradient.tensor(3.0, requires_grad=True)
    condition, x = gradient.tensor([True, False]), gradient.tensor([1.0, 2.0])
    for at in ((device, "cpu"), ("cpu", device)):
        with pytest.raises(RuntimeError, match=f"{form if 'fill' in form else 'where'}: .*device"):
            where(condition.to(at[0]), x.to(at[1]), number)
    got = where(condition.to(device), x.to(device), number)
    assert got.device.type == device and got.shape == (2,)
    if device != "meta":
        assert got.tolist() == where(condition, x, number).tolist()


@pytest.mark.parametrize("form", ["function", "method"])
def test_where_of_numbers_goes_to_the_device_of_the_condition_or_raises(form):
    where, number = WHERES[form], gradient.tensor(1.0)
    got = where(gradient.tensor([True, False], device="handle"), number, gradient.tensor(2.0))
    assert got.device.type == "handle" and got.tolist() == [1.0, 2.0]
    with pytest.raises(RuntimeError, match="where: expected all tensors on one device, got cpu"):
        where(gradient.tensor([True, False]), number, gradient.ones(2, device="handle"))


def test_masked_fill_stays_on_its_device():
    with pytest.raises(RuntimeError, match="masked_fill: expected all tensors on one device"):
        gradient.tensor(1.0).masked_fill(gradient.tensor([True], device="handle"), 2.0)


@pytest.mark.parametrize("name", ["mul", "truediv", "pow", "gt", "maximum"])
def test_a_scalar_of_numpys_on_the_left_is_moved_too(name):
    """What a sum of all gives is a scalar, beside which some array libraries compute: the result
    is then theirs, not the CPU's."""
    number, x = gradient.ones(3).sum(), gradient.tensor([1.0, 2.0])
    function = getattr(gradient, name, None) or getattr(operator, name)
    got = function(number, x.to("handle"))
    assert got.device.type == "handle" and got.tolist() == function(number, x).tolist()
